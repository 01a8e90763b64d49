// One execution: its line, how it is, its output as it comes, and what it used.
import { NoAnswer, Problem, ask, executionPath, isId } from "./api.js";
import { copy } from "./clipboard.js";
import { announce, el, find } from "./dom.js";
import { PieceDecoder, follow } from "./events.js";
import { facts, usage } from "./facts.js";
import { outputPanel } from "./output.js";
import { Screen } from "./screen.js";
import { quoted } from "./verdict.js";
import { revealedLine } from "./text.js";
import { duration, ended, outcome, ranFor, statusTitle } from "./words.js";

let shown = null;

// Shows an execution in place of the one that is shown.
export function showExecution(id, again) {
  if (shown?.id === id) return;
  leaveExecution();
  shown = new View(id, again);
  find("execution").replaceChildren(shown.element);
  shown.start();
}

export function leaveExecution() {
  shown?.close();
  shown = null;
  find("execution").replaceChildren();
}

// What the shortcuts of the page reach.
export const shownOutput = () => shown?.panel ?? null;

class View {
  #gone = new AbortController();
  #record = null;
  #ticking = null;
  #again;
  #decoders = null;

  constructor(id, again) {
    this.id = id;
    this.#again = again;
    this.title = el("h2", { class: "command", id: "execution-title" }, el("span", { class: "soft" }, "Execution"));
    this.state = el("p", { class: "state" });
    this.note = el("div", { class: "note", hidden: true });
    this.actions = el("div", { class: "actions" });
    this.details = el("div", { class: "details" });
    this.panel = null;
    this.body = el("div", { class: "result" });
    this.element = el("section", { class: "card execution", "aria-labelledby": "execution-title" }, el("header", {}, this.state, this.title, this.actions), this.note, this.body);
  }

  start() {
    this.#restart();
    if (!isId(this.id)) {
      this.#lost("There is no such execution.", "An id has letters, digits, `.`, `_`, `:` and `-`, 128 at the most.");
      return;
    }
    const listener = {
      event: (name, value) => this.#event(name, value),
      state: (word, problem) => this.#connection(word, problem),
      restart: () => this.#restart(),
    };
    follow(this.id, listener, this.#gone.signal).catch((error) => {
      if (this.#gone.signal.aborted) return;
      if (error.code === "execution/expired") this.#lost("This execution is not kept any more.", error.message);
      else if (error instanceof Problem && error.status === 404) this.#lost("There is no such execution.", "It never was, its time in the records is over, or it belongs to another user.");
      else this.#lost(error.title ?? "The execution cannot be shown.", error.message);
    });
  }

  close() {
    this.#gone.abort(new DOMException("not shown any more", "AbortError"));
    clearInterval(this.#ticking);
    this.panel?.close();
  }

  #restart() {
    this.panel?.close();
    this.#decoders = { stdout: new PieceDecoder(), stderr: new PieceDecoder() };
    this.screen = new Screen();
    this.panel = outputPanel(this.screen, this.id);
    this.body.replaceChildren(this.panel.element, this.details);
  }

  #lost(title, why) {
    clearInterval(this.#ticking);
    this.state.replaceChildren();
    this.actions.replaceChildren();
    this.title.textContent = title;
    this.body.replaceChildren(el("p", { class: "empty" }, quoted(why), " ", el("a", { href: "#/executions" }, "See the history")));
    announce(title);
  }

  #event(name, value) {
    if (name === "output") {
      this.screen.write(value.stream, this.#decoders[value.stream].text(value));
      this.panel.more();
      return;
    }
    const before = this.#record?.status;
    // What has ended long ago is read from its beginning.
    if (before === undefined && ended(value.status)) this.panel.stay();
    this.#record = value;
    if (name === "end") {
      for (const [stream, decoder] of Object.entries(this.#decoders)) {
        const rest = decoder.end();
        if (rest !== "") this.screen.write(stream, rest);
      }
      this.screen.finish();
      this.panel.end(value);
    }
    // An end is told when its output is there.
    if (name === "end" || (before !== value.status && !ended(value.status))) this.#say(value);
    this.#draw();
    clearInterval(this.#ticking);
    if (!ended(value.status)) this.#ticking = setInterval(() => this.#tick(), 500);
  }

  #say(record) {
    const how = ended(record.status) ? `, ${outcome(record)}, ${this.screen.lines} lines of output` : "";
    announce(`${statusTitle(record.status)}${how}.`);
    document.dispatchEvent(new CustomEvent("execution-changed", { detail: record }));
  }

  #connection(word, problem) {
    const waiting = word === "waiting";
    if (waiting) {
      const why = problem instanceof Problem ? problem.message : "The connection was cut.";
      this.note.replaceChildren(el("p", {}, el("strong", {}, "Connecting again. "), why, " What has been shown stays; what was missed is told."));
      if (this.note.hidden) announce("The connection was cut. Connecting again.");
    } else if (word === "live" && !this.note.hidden) announce("Connected again.");
    if (waiting || word === "live") this.note.hidden = !waiting;
    this.element.dataset.connection = word;
  }

  #draw() {
    const record = this.#record;
    this.title.replaceChildren(...revealedLine(record.command));
    this.#tick();
    const over = ended(record.status);
    const link = el("button", { type: "button", class: "small quiet", onclick: () => this.#copyLink(link) }, "Copy link");
    const buttons = over
      ? [el("button", { type: "button", class: "small", onclick: () => this.#again(record.command) }, "Edit and run again"), link]
      : [el("button", { type: "button", class: "small danger", id: "cancel", onclick: (event) => this.#cancel(event.target) }, "Cancel"), link];
    // A button that has the focus does not vanish under it.
    const focused = this.actions.contains(document.activeElement);
    this.actions.replaceChildren(...buttons);
    if (focused) buttons[0].focus();
  }

  async #copyLink(button) {
    button.textContent = (await copy(location.href)) ? "Link copied" : "Could not copy";
    setTimeout(() => (button.textContent = "Copy link"), 2000);
  }

  // What changes by itself while it runs.
  #tick() {
    const record = this.#record;
    const over = ended(record.status);
    const ran = ranFor(record);
    this.state.replaceChildren(
      el("span", { class: `status ${record.status}` }, statusTitle(record.status)),
      el("span", { class: "how" }, [over && outcome(record), ran !== null && duration(over ? ran : Math.floor(ran / 500) * 500)].filter(Boolean).join(" · ")),
    );
    this.details.replaceChildren(
      ...[record.message && el("p", { class: "message" }, quoted(record.message)), usage(record), facts(record)].filter(Boolean),
    );
  }

  async #cancel(button) {
    button.setAttribute("aria-busy", "true");
    button.textContent = "Cancelling…";
    try {
      await ask("POST", executionPath(this.id, "/cancel"), { signal: this.#gone.signal });
    } catch (error) {
      if (this.#gone.signal.aborted || (error instanceof Problem && error.status === 409)) return; // the events tell how it ended
      button.removeAttribute("aria-busy");
      button.textContent = "Cancel";
      this.note.hidden = false;
      this.note.replaceChildren(el("p", {}, el("strong", {}, "Not cancelled. "), error instanceof NoAnswer ? "The service does not answer." : error.message));
      announce("Not cancelled.");
    }
  }
}
