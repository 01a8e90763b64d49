// Whether the service takes work, as it says itself to anybody.
import { el, find } from "./dom.js";

const EVERY_MS = 20_000;

export function startHealth() {
  look();
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) look();
  });
}

let timer = null;

async function look() {
  clearTimeout(timer);
  try {
    const response = await fetch("/readyz", { cache: "no-store", credentials: "omit" });
    const { ready, problems, confinement } = await response.json();
    if (ready) say("good", "Ready", confinement && `confinement ${confinement.level}`);
    else say("warn", "Takes no work", problems.map((problem) => (typeof problem === "string" ? problem : problem.message ?? "")).join("; "));
  } catch {
    say("bad", "No answer", "");
  }
  if (!document.hidden) timer = setTimeout(look, EVERY_MS);
}

function say(kind, word, more) {
  const place = find("health");
  place.className = `health ${kind}`;
  place.title = more ?? "";
  place.replaceChildren(el("span", { class: "dot", "aria-hidden": "true" }), el("span", {}, word), more && el("span", { class: "more-health" }, ` · ${more}`));
}
