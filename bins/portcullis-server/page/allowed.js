// What who is signed in may run, and within which limits.
import { Problem, read } from "./api.js";
import { el, find } from "./dom.js";
import { revealed } from "./text.js";
import { quoted } from "./verdict.js";
import { bytes, duration } from "./words.js";

let asking = null;
let programs = [];
const field = find("allowed-filter");

export function startAllowed(use) {
  field.addEventListener("input", () => draw(use));
}

export async function showAllowed(use) {
  leaveAllowed();
  asking = new AbortController();
  const { signal } = asking;
  try {
    programs = (await read("GET", "/api/commands/allowed", { signal })).programs;
    draw(use);
  } catch (error) {
    if (signal.aborted) return;
    find("programs").replaceChildren(
      el("p", { class: "empty warn" }, quoted(error.message), " ",
        (!(error instanceof Problem) || error.passes) && el("button", { type: "button", class: "small", onclick: () => showAllowed(use) }, "Ask again")),
    );
  }
}

export function leaveAllowed() {
  asking?.abort();
}

export function forgetAllowed() {
  leaveAllowed();
  programs = [];
  find("programs").replaceChildren();
}

function draw(use) {
  const wanted = field.value.trim().toLowerCase();
  const found = programs.filter(({ program, rule }) => program.toLowerCase().includes(wanted) || rule.toLowerCase().includes(wanted));
  if (found.length === 0) {
    find("programs").replaceChildren(el("p", { class: "empty" }, programs.length === 0 ? "The rules allow you nothing." : "No program or rule has this in its name."));
    return;
  }
  find("programs").replaceChildren(
    el(
      "table", {},
      el("thead", {}, el("tr", {}, ["Program", "Rule", "Time", "CPU time", "Memory", "Output"].map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, found.map((one) => row(one, use))),
    ),
  );
}

function row({ program, rule, subcommands, limits }, use) {
  const cell = (title, text) => el("td", { class: "number", "data-title": title }, text);
  return el(
    "tr", {},
    el("th", { scope: "row" },
      el("button", { type: "button", class: "program", onclick: () => use(`${program} `) }, el("code", {}, revealed(program)), el("span", { class: "spoken" }, ": write it into the command line")),
      subcommands.length > 0 && el("span", { class: "subcommands" }, subcommands.flatMap((one, at) => [at > 0 && " ", el("code", {}, revealed(one))]))),
    el("td", { class: "rule", "data-title": "Rule" }, el("code", {}, revealed(rule))),
    limits
      ? [cell("Time", duration(limits.wallTimeMs)), cell("CPU time", duration(limits.cpuTimeMs)), cell("Memory", bytes(limits.memoryBytes)), cell("Output", bytes(limits.outputBytes))]
      : el("td", { colspan: "4" }, "not told"),
  );
}
