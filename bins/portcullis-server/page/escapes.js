// Reads the escape sequences of terminals (ECMA-48): colours and weights are kept, a few movements within a line, and everything else is passed over.

// Finds what a control character at `at` begins. Returns `end`, where it is over, and perhaps `final`, `parameters` of a control sequence; or null when
// the text ends before it does. A string (a title, a link) that does not end within its line is over with it: nothing can swallow the lines that follow.
export function sequence(text, at) {
  const first = text.charCodeAt(at);
  let kind = first;
  let next = at + 1;
  if (first === 0x1b) {
    if (next >= text.length) return null;
    kind = text.charCodeAt(next) + 0x40; // ESC [ is CSI, and so on
    next += 1;
  }
  if (kind === 0x9b) return control(text, next);
  if (kind === 0x90 || kind === 0x98 || kind === 0x9d || kind === 0x9e || kind === 0x9f) return string(text, next);
  if (first !== 0x1b) return { end: next };
  // ESC, intermediate bytes, one final byte.
  let end = next - 1;
  while (between(text.charCodeAt(end), 0x20, 0x2f)) end += 1;
  if (end >= text.length) return null;
  return { end: between(text.charCodeAt(end), 0x30, 0x7e) ? end + 1 : end };
}

const between = (value, low, high) => value >= low && value <= high;

function control(text, from) {
  let at = from;
  while (between(text.charCodeAt(at), 0x30, 0x3f)) at += 1;
  const parameters = text.slice(from, at);
  const plain = at;
  while (between(text.charCodeAt(at), 0x20, 0x2f)) at += 1;
  if (at >= text.length) return null;
  if (!between(text.charCodeAt(at), 0x40, 0x7e)) return { end: at }; // not one: what follows is text
  return { end: at + 1, final: plain === at ? text[at] : "", parameters };
}

function string(text, from) {
  for (let at = from; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 0x07 || code === 0x9c) return { end: at + 1 };
    if (code === 0x0a) return { end: at };
    if (code === 0x1b) {
      if (at + 1 >= text.length) return null;
      return { end: text[at + 1] === "\\" ? at + 2 : at };
    }
  }
  return null;
}

// How text looks: colours are null (the page's own), 0 to 15 (a palette's) or "#rrggbb".
export const PLAIN = Object.freeze({
  colour: null, ground: null, bold: false, dim: false, italic: false, underline: false, strike: false, inverse: false,
});

// Select Graphic Rendition (ECMA-48 §8.3.117): returns the look after it.
export function rendition(look, parameters) {
  const next = { ...look };
  const codes = parameters.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) Object.assign(next, PLAIN);
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes, at + 1);
      if (colour !== undefined) next[code === 38 ? "colour" : "ground"] = colour;
      at += used;
    } else simple(next, code);
  }
  return next;
}

function simple(look, code) {
  if (code === 1) look.bold = true;
  else if (code === 2) look.dim = true;
  else if (code === 3) look.italic = true;
  else if (code === 4 || code === 21) look.underline = true;
  else if (code === 7) look.inverse = true;
  else if (code === 9) look.strike = true;
  else if (code === 22) look.bold = look.dim = false;
  else if (code === 23) look.italic = false;
  else if (code === 24) look.underline = false;
  else if (code === 27) look.inverse = false;
  else if (code === 29) look.strike = false;
  else if (between(code, 30, 37)) look.colour = code - 30;
  else if (code === 39) look.colour = null;
  else if (between(code, 40, 47)) look.ground = code - 40;
  else if (code === 49) look.ground = null;
  else if (between(code, 90, 97)) look.colour = code - 82;
  else if (between(code, 100, 107)) look.ground = code - 92;
}

// Reads `5;N` or `2;R;G;B`; returns the colour and how many codes it took.
function extended(codes, at) {
  const byte = (value) => Number.isInteger(value) && between(value, 0, 255);
  if (codes[at] === 5 && byte(codes[at + 1])) return [indexed(codes[at + 1]), 2];
  const rgb = codes.slice(at + 1, at + 4);
  if (codes[at] === 2 && rgb.length === 3 && rgb.every(byte)) return [hex(rgb), 4];
  return [undefined, codes.length];
}

// The 256 colours of xterm: 16 of the palette, a cube of 6 × 6 × 6, 24 greys.
function indexed(index) {
  if (index < 16) return index;
  if (index >= 232) return hex(Array(3).fill(8 + 10 * (index - 232)));
  const level = (value) => (value === 0 ? 0 : 55 + 40 * value);
  const cube = index - 16;
  return hex([level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)]);
}

const hex = (rgb) => `#${rgb.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
