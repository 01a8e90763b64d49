// Holds output as rows. A row is a line of the output, or a part of one: long lines are cut, and a line that the other stream interrupts goes on
// in a new row. What is written once is looked at once; a row's text is kept as one string in which ESC and one more unit switch the look.
import { PLAIN, rendition, sequence } from "./escapes.js";

// The most units in a row.
export const COLUMNS = 1000;
// The most looks there are; what wants more is plain.
const LOOKS = 50_000;

const SPECIAL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
const [STDERR, UNFINISHED] = [1, 2];

// A list of numbers that grows.
class Numbers {
  #values;
  length = 0;

  constructor(kind) {
    this.#values = new kind(1024);
  }

  push(value) {
    if (this.length === this.#values.length) {
      const larger = new this.#values.constructor(this.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.length] = value;
    this.length += 1;
  }

  at(index) {
    return this.#values[index];
  }
}

export class Screen {
  #texts = [];
  #flags = new Numbers(Uint8Array);
  #lines = new Numbers(Uint32Array);
  #line = 1;
  // The row that is being written, or null.
  #open = null;
  #looks = [PLAIN];
  #known = new Map([[JSON.stringify(PLAIN), 0]]);
  // The look that follows a look and a sequence: most output has a handful of them, again and again.
  #steps = new Map();
  #streams = { stdout: { held: "", look: 0 }, stderr: { held: "", look: 0 } };

  // Rows that no longer change.
  get closed() {
    return this.#texts.length;
  }

  get rows() {
    return this.#texts.length + (this.#open ? 1 : 0);
  }

  // Lines, as `wc -l` would count them, one that has no end included.
  get lines() {
    return this.#open || this.#wasCut() ? this.#line : this.#line - 1;
  }

  #wasCut() {
    const last = this.#flags.length - 1;
    return last >= 0 && (this.#flags.at(last) & UNFINISHED) !== 0;
  }

  look(index) {
    return this.#looks[index];
  }

  // A row: its coded text, its stream, the number of its line, and whether it begins that line.
  row(index) {
    if (index >= this.#texts.length) {
      const { stream, begins } = this.#open;
      return { coded: this.#coded(this.#open), stderr: stream === "stderr", line: this.#line, begins, open: true };
    }
    const begins = index === 0 || (this.#flags.at(index - 1) & UNFINISHED) === 0;
    return {
      coded: this.#texts[index], stderr: (this.#flags.at(index) & STDERR) !== 0, line: this.#lines.at(index), begins, open: false,
    };
  }

  // A row's characters alone.
  plain(index) {
    const coded = index < this.#texts.length ? this.#texts[index] : this.#coded(this.#open);
    return uncoded(coded);
  }

  // Everything as text, without looks.
  *text() {
    for (let index = 0; index < this.rows; index += 1) {
      yield this.plain(index);
      if (index < this.closed && (this.#flags.at(index) & UNFINISHED) === 0) yield "\n";
    }
  }

  write(stream, piece) {
    const source = this.#streams[stream];
    const text = source.held + piece;
    source.held = "";
    if (this.#open && this.#open.stream !== stream) this.#close(UNFINISHED);
    let at = 0;
    let newline = text.indexOf("\n");
    while (at < text.length) {
      SPECIAL.lastIndex = at;
      const special = SPECIAL.exec(text)?.index ?? text.length;
      while (at < special) {
        if (newline >= 0 && newline < at) newline = text.indexOf("\n", at);
        if (newline < 0 || newline >= special) {
          this.#append(stream, source, text.slice(at, special));
          break;
        }
        if (newline > at) this.#append(stream, source, text.slice(at, newline));
        this.#open ??= this.#begun(stream);
        this.#close(0);
        at = newline + 1;
      }
      if (special === text.length) return;
      at = this.#control(stream, source, text, special);
      if (at === null) {
        source.held = text.slice(special);
        return;
      }
    }
  }

  // Nothing more comes: what was held back in the hope of more is given up.
  finish() {
    this.#streams.stdout.held = this.#streams.stderr.held = "";
    if (this.#open) this.#close(UNFINISHED);
  }

  #begun(stream) {
    return { stream, begins: !this.#wasCut(), text: "", units: 0, look: 0, cells: null, cursor: 0 };
  }

  #append(stream, source, text) {
    let rest = text;
    while (rest !== "") {
      this.#open ??= this.#begun(stream);
      const open = this.#open;
      if (open.cells) {
        rest = this.#overwrite(open, source, rest);
      } else {
        let take = Math.min(rest.length, COLUMNS - open.units);
        // No pair of surrogates is cut.
        if (take < rest.length && take > 1 && (rest.charCodeAt(take - 1) & 0xfc00) === 0xd800) take -= 1;
        if (open.look !== source.look) open.text += code(source.look);
        open.look = source.look;
        open.text += rest.slice(0, take);
        open.units += take;
        rest = rest.slice(take);
      }
      if (rest !== "") this.#close(UNFINISHED);
    }
  }

  // Writes over what is there already, as after a carriage return; returns what has no room any more.
  #overwrite(open, source, text) {
    for (const character of text) {
      if (open.cursor >= COLUMNS) break;
      while (open.cells.length < open.cursor) open.cells.push([" ", 0]);
      open.cells[open.cursor] = [character, source.look];
      open.cursor += 1;
      text = text.slice(character.length);
    }
    return text;
  }

  #cells() {
    const open = this.#open;
    if (!open.cells) {
      open.cells = [];
      for (const { text, look } of runs(open.text)) for (const character of text) open.cells.push([character, look]);
      open.cursor = open.cells.length;
      open.text = "";
    }
    return open.cells;
  }

  // Returns where a control character, or what it begins, is over; null when more of it must come first.
  #control(stream, source, text, at) {
    const character = text[at];
    if (character === "\r") {
      if (at + 1 === text.length) return null;
      if (text[at + 1] !== "\n" && this.#open) {
        this.#cells();
        this.#open.cursor = 0;
      }
      return at + 1;
    }
    if (character === "\b") {
      if (this.#open) {
        this.#cells();
        this.#open.cursor = Math.max(0, this.#open.cursor - 1);
      }
      return at + 1;
    }
    const value = text.charCodeAt(at);
    if (value !== 0x1b && value < 0x80) {
      // A bell, and switches of character sets, show nothing; the others have pictures (U+2400 …).
      const picture = value === 0x7f ? 0x2421 : 0x2400 + value;
      if (value !== 0x07 && value !== 0x0e && value !== 0x0f) this.#append(stream, source, String.fromCharCode(picture));
      return at + 1;
    }
    const found = sequence(text, at);
    // No sequence that is of use is longer than this; what pretends to be one is not waited for.
    if (found === null) return text.length - at > 4096 ? at + 1 : null;
    if (found.final === "m" && /^[0-9;:]*$/.test(found.parameters)) source.look = this.#step(source.look, found.parameters);
    else if (this.#open && "CDGK".includes(found.final ?? "-")) this.#move(found);
    return found.end;
  }

  #move({ final, parameters }) {
    const cells = this.#cells();
    const open = this.#open;
    const count = Math.min(COLUMNS, Number.parseInt(parameters, 10) || 0);
    if (final === "C") open.cursor = Math.min(COLUMNS, open.cursor + Math.max(1, count));
    else if (final === "D") open.cursor = Math.max(0, open.cursor - Math.max(1, count));
    else if (final === "G") open.cursor = Math.max(0, count - 1);
    else if (count === 0) cells.length = Math.min(cells.length, open.cursor);
    else if (count === 1) cells.fill([" ", 0], 0, open.cursor);
    else cells.length = 0;
  }

  #step(look, parameters) {
    const key = `${look} ${parameters}`;
    let next = this.#steps.get(key);
    if (next === undefined) {
      next = this.#index(rendition(this.#looks[look], parameters));
      if (this.#steps.size < LOOKS) this.#steps.set(key, next);
    }
    return next;
  }

  #index(look) {
    const key = JSON.stringify(look);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#looks.length >= LOOKS) return 0;
    this.#looks.push(look);
    this.#known.set(key, this.#looks.length - 1);
    return this.#looks.length - 1;
  }

  #coded(open) {
    if (!open.cells) return open.text;
    let coded = "";
    let before = 0;
    for (const [character, look] of open.cells) {
      if (look !== before) coded += code(look);
      before = look;
      coded += character;
    }
    return coded;
  }

  #close(flag) {
    const open = this.#open;
    this.#open = null;
    this.#texts.push(this.#coded(open));
    this.#flags.push((open.stream === "stderr" ? STDERR : 0) | flag);
    this.#lines.push(this.#line);
    if (flag === 0) this.#line += 1;
  }
}

// No text of a row holds ESC itself.
const code = (look) => `\u001b${String.fromCharCode(look)}`;

const uncoded = (coded) => (coded.includes("\u001b") ? coded.replace(/\u001b[^]/g, "") : coded);

// Takes a coded text apart: texts of one look each.
export function* runs(coded) {
  let [look, from] = [0, 0];
  for (;;) {
    const mark = coded.indexOf("\u001b", from);
    const end = mark < 0 ? coded.length : mark;
    if (end > from) yield { text: coded.slice(from, end), look };
    if (mark < 0) return;
    look = coded.charCodeAt(mark + 1);
    from = mark + 2;
  }
}
