// The executions of who is signed in, newest first, with filters and pages.
import { Problem, ask, executionLink, executionPath, pause, read } from "./api.js";
import { announce, el, find } from "./dom.js";
import { bar, overview, whole } from "./timeline.js";
import { revealedLine } from "./text.js";
import { quoted } from "./verdict.js";
import { STATUSES, duration, ended, fullMoment, moment, outcome, plural, ranFor, statusTitle } from "./words.js";

const PAGE = 50;
// How often a list that shows something unfinished is read again.
const REFRESH_MS = 2500;

// A list that reads itself. `filters` returns parameters of the query; `limit` how many records a page has.
class Records {
  #place;
  #filters;
  #limit;
  #more;
  #asking = null;
  #records = [];
  #next = null;
  #words;

  constructor({ place, filters = () => ({}), limit, more, words }) {
    this.#place = place;
    this.#filters = filters;
    this.#limit = limit;
    this.#more = more;
    this.#words = words;
  }

  stop() {
    this.#asking?.abort();
    this.#asking = null;
  }

  // Reads from the beginning, and again while something shown has not ended.
  async start() {
    this.stop();
    const asking = (this.#asking = new AbortController());
    const { signal } = asking;
    for (let first = true; !signal.aborted; first = false) {
      let wait = REFRESH_MS;
      try {
        const page = await this.#page(null, signal);
        if (first || this.#records.length <= this.#limit) [this.#records, this.#next] = [page.executions, page.next];
        else this.#merge(page.executions);
        this.#draw();
        if (first) this.#words?.(this.#records.length);
        if (this.#records.every(({ status }) => ended(status))) return;
      } catch (error) {
        if (signal.aborted) return;
        const passes = !(error instanceof Problem) || error.passes;
        this.#place.replaceChildren(el("p", { class: "empty warn" }, quoted(error.message), passes && " It is asked again."));
        if (!passes) return;
        wait = Math.max(wait, error.retryAfterMs ?? 0);
      }
      await pause(wait, signal).catch(() => {});
      while (document.hidden && !signal.aborted) await pause(1000, signal).catch(() => {});
    }
  }

  // Adds the page behind what is shown.
  async more(button) {
    const signal = this.#asking?.signal;
    button.setAttribute("aria-busy", "true");
    try {
      const page = await this.#page(this.#next, signal);
      const from = this.#records.length;
      this.#records.push(...page.executions);
      this.#next = page.next;
      this.#draw();
      announce(`${page.executions.length} more.`);
      this.#place.querySelectorAll("a.entry")[from]?.focus();
    } catch (error) {
      if (!signal?.aborted) announce(error.message);
      button.removeAttribute("aria-busy");
    }
  }

  #merge(fresh) {
    const known = new Set(fresh.map(({ executionId }) => executionId));
    this.#records = [...fresh, ...this.#records.filter(({ executionId }) => !known.has(executionId))];
  }

  #page(cursor, signal) {
    const query = new URLSearchParams({ ...this.#filters(), limit: String(this.#limit) });
    if (cursor) query.set("cursor", cursor);
    return read("GET", `/api/commands?${query}`, { signal });
  }

  #draw() {
    const records = this.#records;
    const focused = this.#place.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    if (records.length === 0) {
      const filtered = Object.keys(this.#filters()).length > 0;
      this.#place.replaceChildren(el("p", { class: "empty" }, filtered ? "Nothing matches these filters." : ["Nothing has run yet. See ", el("a", { href: "#/allowed" }, "what you may run"), "."]));
      return;
    }
    const longest = Math.max(1, ...records.map((record) => whole(record)));
    const unfinished = records.some(({ status }) => !ended(status));
    const list = el("ol", { class: unfinished ? "entries unfinished" : "entries" }, records.map((record) => this.#entry(record, longest)));
    const more = this.#more && this.#next && el("button", { type: "button", class: "more", onclick: (event) => this.more(event.target) }, "Show older");
    const width = Math.max(200, this.#place.clientWidth - 2);
    this.#place.replaceChildren(...[this.#more && records.length > 1 && overview(records, width), list, more].filter(Boolean));
    if (focused) this.#place.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  }

  #entry(record, longest) {
    const ran = ranFor(record);
    const over = ended(record.status);
    return el(
      "li", {},
      el(
        "a", { class: "entry", href: executionLink(record.executionId), "data-id": record.executionId },
        el("span", { class: `status ${record.status}` }, statusTitle(record.status)),
        el("code", { class: "command" }, revealedLine(record.command.slice(0, 400))),
        el("time", { datetime: record.acceptedAt, title: fullMoment(record.acceptedAt) }, moment(record.acceptedAt)),
        el("span", { class: "how" }, over && record.status !== "completed" && outcome(record)),
        el("span", { class: "took" }, bar(record, longest), el("span", { class: "duration" }, ran === null ? "–" : duration(ran))),
      ),
      !over && el("button", { type: "button", class: "small danger", "data-id": `cancel ${record.executionId}`, "aria-label": `Cancel ${record.command.slice(0, 80)}`, onclick: (event) => this.#cancel(record, event.target) }, "Cancel"),
    );
  }

  async #cancel(record, button) {
    button.setAttribute("aria-busy", "true");
    try {
      await ask("POST", executionPath(record.executionId, "/cancel"));
      announce("Cancelled.");
    } catch (error) {
      announce(error.message);
    }
    this.start();
  }
}

const form = find("filters");

function filters() {
  const wanted = {};
  for (const name of ["status", "program"]) if (form.elements[name].value !== "") wanted[name] = form.elements[name].value;
  for (const name of ["acceptedFrom", "acceptedBefore"]) {
    const value = form.elements[name].value;
    if (value !== "" && !Number.isNaN(Date.parse(value))) wanted[name] = new Date(value).toISOString();
  }
  return wanted;
}

const full = new Records({
  place: find("records"), filters, limit: PAGE, more: true,
  words: (count) => announce(count === 0 ? "Nothing found." : `${plural(count, "execution")}.`),
});
const recent = new Records({ place: find("recent-records"), limit: 6 });

let typing = null;

export function startHistory() {
  form.elements.status.append(...STATUSES.map((status) => el("option", { value: status }, statusTitle(status))));
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => full.start(), 200);
  });
  form.addEventListener("reset", () => setTimeout(() => full.start()));
  form.addEventListener("submit", (event) => event.preventDefault());
}

export const showHistory = () => full.start();

export const showRecent = () => recent.start();

export function leaveHistory() {
  clearTimeout(typing);
  full.stop();
  recent.stop();
}

// What one user saw is not left for the next.
export function forgetHistory() {
  leaveHistory();
  form.reset();
  find("records").replaceChildren();
  find("recent-records").replaceChildren();
}
