// Shows a screen. Only the rows that can be seen, and a few around them, are in the document, however much output there is.
import { el, spoken } from "./dom.js";
import { runs } from "./screen.js";
import { hides, revealed } from "./text.js";

// Rows beyond the edges that are there already.
const MARGIN = 12;
// Browsers draw nothing that is higher than some tens of millions of pixels; beyond this the scroll bar stands for more than it moves.
const HEIGHT_LIMIT = 8_000_000;
// The most pieces of different looks in the document; rows beyond are plain.
const PIECES = 3000;

export class Viewer {
  #screen;
  #search;
  #following = true;
  #followingChanged;
  #height = 20;
  #drawn = new Map();
  #waiting = false;
  #anew = false;
  #current = null;
  #gone = new AbortController();

  constructor(screen, search, label, followingChanged) {
    this.#screen = screen;
    this.#search = search;
    this.#followingChanged = followingChanged;
    this.rows = el("div", { class: "rows" });
    this.sheet = el("div", { class: "sheet" }, this.rows);
    // A log by nature, and silent: who listens hears how it ends, not each of a million lines.
    this.element = el("div", { class: "output", role: "log", "aria-live": "off", "aria-label": label, tabindex: "0" }, this.sheet);
    const { signal } = this.#gone;
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true, signal });
    this.element.addEventListener("keydown", (event) => this.#key(event), { signal });
    this.#resized = new ResizeObserver(() => this.draw(true));
    this.#resized.observe(this.element);
  }

  #resized;

  get following() {
    return this.#following;
  }

  close() {
    this.#gone.abort();
    this.#resized.disconnect();
  }

  // Keeps to the end of the output, or stays.
  follow(on) {
    if (this.#following !== on) {
      this.#following = on;
      this.#followingChanged(on);
    }
    // At once: an event of an earlier movement may be on its way, and asks where the view is.
    if (on) this.element.scrollTop = this.element.scrollHeight;
    this.draw();
  }

  // Draws at the browser's next occasion, once however often it was asked. `anew` draws also what has not changed.
  draw(anew = false) {
    this.#anew ||= anew;
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      if (this.element.isConnected) this.#draw();
    });
  }

  // Shows a hit in the middle.
  show(hit) {
    this.#current = hit;
    this.follow(false);
    const visible = this.element.clientHeight / this.#height;
    this.#moveTo(Math.max(0, hit.row - Math.floor(visible / 2)));
    this.draw(true);
    requestAnimationFrame(() => this.rows.querySelector("mark.current")?.scrollIntoView({ block: "nearest", inline: "nearest" }));
  }

  mark(hit) {
    this.#current = hit;
    this.draw(true);
  }

  #forget() {
    this.#drawn.clear();
    this.rows.replaceChildren();
  }

  #span() {
    return this.#screen.rows * this.#height;
  }

  // How many rows' pixels one pixel of the scroll bar stands for.
  #scale() {
    const room = this.element.clientHeight;
    const span = this.#span();
    return span <= HEIGHT_LIMIT ? 1 : (span - room) / (HEIGHT_LIMIT - room);
  }

  #moveTo(row) {
    this.element.scrollTop = (row * this.#height) / this.#scale();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    const atEnd = scrollHeight - scrollTop - clientHeight < this.#height;
    if (this.#following !== atEnd) {
      this.#following = atEnd;
      this.#followingChanged(atEnd);
    }
    this.draw();
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Home") {
      this.follow(false);
      this.element.scrollTo(0, 0);
    } else if (event.key === "End") this.follow(true);
    else return;
    event.preventDefault();
  }

  #draw() {
    const { element, sheet, rows } = this;
    const probe = rows.firstElementChild?.getBoundingClientRect().height;
    if (probe) this.#height = probe;
    if (this.#anew) this.#forget();
    this.#anew = false;
    const total = Math.min(this.#span(), HEIGHT_LIMIT);
    sheet.style.setProperty("height", `${total}px`);
    element.style.setProperty("--digits", String(Math.max(3, String(this.#screen.lines).length)));
    if (this.#following) element.scrollTop = element.scrollHeight;
    const { scrollTop, clientHeight } = element;
    const top = scrollTop * this.#scale();
    const first = Math.max(0, Math.floor(top / this.#height) - MARGIN);
    const last = Math.min(this.#screen.rows, Math.ceil((top + clientHeight) / this.#height) + MARGIN);
    this.#fill(first, last);
    rows.style.setProperty("top", `${scrollTop - (top - first * this.#height)}px`);
  }

  // Puts exactly these rows into the document; those that are there already stay, and with them what is selected.
  #fill(first, last) {
    for (const [index, { node, open }] of this.#drawn) {
      if (index >= first && index < last && !open) continue;
      node.remove();
      this.#drawn.delete(index);
    }
    let pieces = PIECES;
    let before = null;
    for (let index = first; index < last; index += 1) {
      let drawn = this.#drawn.get(index);
      if (!drawn) {
        const row = this.#screen.row(index);
        drawn = { ...this.#row(index, row, pieces), open: row.open };
        this.#drawn.set(index, drawn);
        if (before) before.after(drawn.node);
        else this.rows.prepend(drawn.node);
      }
      pieces -= drawn.pieces;
      before = drawn.node;
    }
  }

  #row(index, { coded, stderr, line, begins }, room) {
    const pieces = this.#pieces(index, coded, room);
    const node = el(
      "div",
      { class: stderr ? "row stderr" : "row" },
      el("span", { class: "gutter", "aria-hidden": "true", "data-line": begins ? line : "⋯", "data-stream": stderr ? "err" : "" }),
      stderr && spoken("standard error: "),
      el("span", { class: "line" }, pieces),
    );
    return { node, pieces: pieces.length };
  }

  #pieces(index, coded, room) {
    const hits = this.#hits(index);
    let parts = [...runs(coded)];
    if (parts.length > room) parts = [{ text: this.#screen.plain(index), look: 0 }];
    const pieces = [];
    let at = 0;
    for (const { text, look } of parts) {
      for (const [from, to, kind] of cut(text.length, at, hits)) pieces.push(this.#piece(text.slice(from, to), look, kind));
      at += text.length;
    }
    return pieces;
  }

  // Where the search's hits are in a row: [from, to, class].
  #hits(index) {
    const { pattern } = this.#search;
    if (!pattern) return [];
    return Array.from(this.#screen.plain(index).matchAll(pattern), (hit) => {
      const current = this.#current?.row === index && this.#current.index === hit.index;
      return [hit.index, hit.index + hit[0].length, current ? "current" : "hit"];
    });
  }

  #piece(text, look, kind) {
    if (look === 0 && kind === null && !hides(text)) return text;
    const element = el(kind === null ? "span" : "mark", { class: kind }, revealed(text));
    dress(element, this.#screen.look(look));
    return element;
  }
}

// Cuts a text of this length, which stands at `at` in its row, at the borders of hits.
function cut(length, at, hits) {
  const parts = [];
  let from = 0;
  for (const [begin, end, kind] of hits) {
    const [low, high] = [Math.max(begin - at, from), Math.min(end - at, length)];
    if (low >= high) continue;
    if (low > from) parts.push([from, low, null]);
    parts.push([low, high, kind]);
    from = high;
  }
  if (from < length) parts.push([from, length, null]);
  return parts;
}

// Gives an element its look. Colours of the palette are the page's, and legible on its ground; others are made so by the style sheet.
function dress(element, look) {
  let [colour, ground] = [look.colour, look.ground];
  const { classList, style } = element;
  if (look.inverse) {
    [colour, ground] = [ground, colour];
    classList.add("inverse");
  }
  if (typeof colour === "number") classList.add(`fg${colour}`);
  else if (colour !== null) {
    classList.add("fg");
    style.setProperty("--fg", colour);
  }
  if (typeof ground === "number") classList.add(`bg${ground}`);
  else if (ground !== null) {
    classList.add("bg");
    style.setProperty("--bg", ground);
  }
  for (const name of ["bold", "dim", "italic", "underline", "strike"]) if (look[name]) classList.add(name);
}
