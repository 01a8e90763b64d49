// Finds a text in the rows of a screen, a slice of time after another, so that the page goes on answering meanwhile.

const SLICE_MS = 8;
// More than this are not counted.
export const HITS = 100_000;

export class Search {
  #screen;
  #changed;
  #pattern = null;
  #next = 0;
  #timer = null;
  // Each hit as its row and where in it it begins.
  #hits = [];

  constructor(screen, changed) {
    this.#screen = screen;
    this.#changed = changed;
  }

  get pattern() {
    return this.#pattern;
  }

  get count() {
    return this.#hits.length;
  }

  get complete() {
    return this.#hits.length < HITS;
  }

  get busy() {
    return this.#timer !== null;
  }

  hit(index) {
    return this.#hits[index];
  }

  // The first hit at or behind a row.
  from(row) {
    let [low, high] = [0, this.#hits.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#hits[middle].row < row) low = middle + 1;
      else high = middle;
    }
    return low === this.#hits.length ? 0 : low;
  }

  // Looks for this text from the beginning; capitals count when it has some.
  start(text) {
    this.stop();
    this.#hits = [];
    this.#next = 0;
    this.#pattern = text === "" ? null : new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), text === text.toLowerCase() ? "giu" : "gu");
    this.more();
  }

  // Rows have been added.
  more() {
    if (this.#pattern && this.#timer === null && this.complete && this.#next < this.#screen.closed) {
      this.#timer = setTimeout(() => this.#slice());
    }
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #slice() {
    const until = performance.now() + SLICE_MS;
    this.#timer = null;
    while (this.#next < this.#screen.closed && this.complete) {
      for (const { index } of this.#screen.plain(this.#next).matchAll(this.#pattern)) this.#hits.push({ row: this.#next, index });
      this.#next += 1;
      if (this.#next % 64 === 0 && performance.now() > until) break;
    }
    this.more();
    this.#changed();
  }
}
