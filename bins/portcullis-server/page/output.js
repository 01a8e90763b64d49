// The output with what one does with it: keep to its end, search, copy, download.
import { ask, executionPath } from "./api.js";
import { copy } from "./clipboard.js";
import { announce, el } from "./dom.js";
import { Search } from "./search.js";
import { Viewer } from "./viewer.js";
import { bytes, plural } from "./words.js";

// More than this is not put into the clipboard; the download has all.
const COPY_LIMIT = 8 << 20;

export function outputPanel(screen, id) {
  return new Panel(screen, id);
}

class Panel {
  #screen;
  #id;
  #search;
  #viewer;
  #at = -1;

  constructor(screen, id) {
    this.#screen = screen;
    this.#id = id;
    this.#search = new Search(screen, () => this.#found());
    this.#viewer = new Viewer(screen, this.#search, "Output", (on) => this.#following(on));
    this.follow = el("button", { type: "button", class: "small quiet", "aria-pressed": "true", onclick: () => this.toggleFollow() }, "Follow");
    this.field = el("input", {
      type: "search", class: "small", placeholder: "Search output", "aria-label": "Search output", spellcheck: "false", autocomplete: "off",
      oninput: () => this.#look(), onkeydown: (event) => this.#key(event),
    });
    this.count = el("output", { class: "count", "aria-live": "polite" });
    this.previous = el("button", { type: "button", class: "small quiet icon", "aria-label": "Previous match", disabled: true, onclick: () => this.step(-1) }, "↑");
    this.next = el("button", { type: "button", class: "small quiet icon", "aria-label": "Next match", disabled: true, onclick: () => this.step(1) }, "↓");
    this.size = el("span", { class: "size" });
    const copying = el("button", { type: "button", class: "small quiet", onclick: () => this.#copy(copying) }, "Copy");
    const loading = el("select", { class: "small quiet", "aria-label": "Download", onchange: () => this.#download(loading) },
      el("option", { value: "" }, "Download…"), el("option", { value: "both" }, "both streams"),
      el("option", { value: "stdout" }, "standard output"), el("option", { value: "stderr" }, "standard error"));
    this.empty = el("p", { class: "empty" }, "No output yet.");
    this.cut = el("p", { class: "cut", hidden: true });
    this.element = el(
      "div", { class: "panel" },
      el("div", { class: "toolbar", role: "toolbar", "aria-label": "Output" },
        el("div", { class: "find" }, this.field, this.count, this.previous, this.next), this.size, this.follow, copying, loading),
      this.empty, this.#viewer.element, this.cut,
    );
    this.#viewer.element.hidden = true;
  }

  close() {
    this.#search.stop();
    this.#viewer.close();
  }

  // Output has come.
  more() {
    if (this.#viewer.element.hidden && this.#screen.rows > 0) {
      this.#viewer.element.hidden = false;
      this.empty.hidden = true;
    }
    this.#viewer.draw();
    this.#search.more();
    this.size.textContent = plural(this.#screen.lines, "line");
  }

  // No more comes.
  end(record) {
    this.more();
    this.#viewer.draw(true);
    if (this.#screen.rows === 0) {
      this.empty.textContent = "It wrote nothing.";
      this.size.textContent = "";
    } else this.size.textContent = `${plural(this.#screen.lines, "line")}, ${bytes(record.outputBytes)}`;
    this.cut.hidden = !record.truncated;
    this.cut.textContent = `The output was cut at its limit of ${bytes(record.limits.outputBytes)}.`;
  }

  toggleFollow() {
    this.#viewer.follow(!this.#viewer.following);
  }

  stay() {
    this.#viewer.follow(false);
  }

  focusSearch() {
    this.field.focus();
    this.field.select();
  }

  focusOutput() {
    this.#viewer.element.focus();
  }

  // Goes to the next match, or the one before.
  step(by) {
    if (this.#search.count === 0) return;
    this.#at = this.#at < 0 ? (by > 0 ? 0 : this.#search.count - 1) : (this.#at + by + this.#search.count) % this.#search.count;
    this.#viewer.show(this.#search.hit(this.#at));
    this.#found();
  }

  #look() {
    this.#at = -1;
    this.#search.start(this.field.value);
    this.#viewer.mark(null);
    this.#found();
  }

  #key(event) {
    if (event.key === "Enter") {
      event.preventDefault();
      this.step(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape" && this.field.value !== "") {
      event.preventDefault();
      this.field.value = "";
      this.#look();
    }
  }

  #found() {
    const search = this.#search;
    const some = search.count > 0;
    this.previous.disabled = this.next.disabled = !some;
    if (!search.pattern) this.count.textContent = "";
    else {
      const all = `${search.count.toLocaleString()}${search.complete ? "" : "+"}`;
      this.count.textContent = some ? (this.#at < 0 ? `${all} found` : `${(this.#at + 1).toLocaleString()} of ${all}`) : search.busy ? "…" : "none";
    }
    this.#viewer.draw();
  }

  #following(on) {
    this.follow.setAttribute("aria-pressed", String(on));
  }

  async #copy(button) {
    const parts = [];
    let size = 0;
    for (const part of this.#screen.text()) {
      size += part.length;
      if (size > COPY_LIMIT) break;
      parts.push(part);
    }
    const copied = size <= COPY_LIMIT && (await copy(parts.join("")));
    button.textContent = copied ? "Copied" : "Could not copy";
    announce(copied ? "Output copied." : "The output could not be copied.");
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  // The stored bytes, as they are. The request bears the token, so it cannot be a plain link.
  async #download(select) {
    const stream = select.value;
    select.value = "";
    try {
      const response = await ask("GET", executionPath(this.#id, stream === "both" ? "/output" : `/output?stream=${stream}`));
      const address = URL.createObjectURL(await response.blob());
      const name = `${this.#id.replace(/[^A-Za-z0-9._-]/g, "_")}.${stream === "both" ? "output" : stream}.txt`;
      el("a", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
      announce("Downloaded.");
    } catch (error) {
      announce(`Not downloaded: ${error.message}`);
      this.cut.hidden = false;
      this.cut.textContent = `Not downloaded: ${error.message}`;
    }
  }
}
