// What must be known of text before it is shown: where its bytes are, and what in it cannot be seen.
import { el } from "./dom.js";

// Converts offsets in UTF-8, which is how the service counts, to offsets in this text, which JavaScript counts in UTF-16 units.
// An offset inside a character is taken for that character's beginning.
export function fromBytes(text, offsets) {
  const order = offsets.map((offset, at) => ({ offset, at })).sort((a, b) => a.offset - b.offset);
  const found = new Array(offsets.length).fill(text.length);
  let [bytes, unit, next] = [0, 0, 0];
  for (const character of text) {
    const size = utf8Length(character.codePointAt(0));
    while (next < order.length && order[next].offset < bytes + size) found[order[next++].at] = unit;
    if (next === order.length) break;
    bytes += size;
    unit += character.length;
  }
  return found;
}

function utf8Length(point) {
  if (point < 0x80) return 1;
  if (point < 0x800) return 2;
  return point < 0x10000 ? 3 : 4; // half a surrogate pair is sent as U+FFFD, which has three
}

// Characters that change how others are shown, or take no room: directions, which can make a line read as another one (CVE-2021-42574),
// blanks of no width, and tags. Joiners (U+200C, U+200D) stay: scripts and emoji need them.
const UNSEEN = "\\u00ad\\u061c\\u115f\\u1160\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\u{e0000}-\\u{e007f}";
const CONTROLS = "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f";
const HIDDEN = new RegExp(`[${UNSEEN}${CONTROLS}]`, "u");
const HIDDEN_EACH = new RegExp(HIDDEN.source, "gu");
// In a command line, where the service refuses them, joiners are named, too.
const OF_LINES = new RegExp(`[${UNSEEN}${CONTROLS}\\u200c\\u200d]`, "gu");

export const hides = (text) => HIDDEN.test(text);

export function hiddenIn(line) {
  return [...new Set(Array.from(line.matchAll(OF_LINES), ([character]) => name(character)))];
}

const name = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

// Returns nodes that show a text with everything in it that cannot be seen spelled out.
export const revealed = (text) => (hides(text) ? spelled(text, HIDDEN_EACH) : [text]);

export const revealedLine = (line) => spelled(line, OF_LINES);

function spelled(text, pattern) {
  const nodes = [];
  let from = 0;
  for (const { 0: character, index } of text.matchAll(pattern)) {
    nodes.push(text.slice(from, index), el("span", { class: "unseen" }, name(character)));
    from = index + character.length;
  }
  nodes.push(text.slice(from));
  return nodes;
}
