// Shortcuts. Single keys act outside fields alone, and can be turned off (WCAG 2.1.4).
import { focusLine } from "./composer.js";
import { find, go } from "./dom.js";
import { shownOutput } from "./execution.js";
import { nextTheme, singleKeys } from "./preferences.js";
import * as session from "./session.js";

const to = (hash) => () => {
  location.hash = hash;
};

const KEYS = {
  "/": () => {
    if (find("work").hidden) go("#/", focusLine);
    else focusLine();
  },
  h: to("#/executions"),
  a: to("#/allowed"),
  o: () => shownOutput()?.focusOutput(),
  f: () => shownOutput()?.toggleFollow(),
  s: () => shownOutput()?.focusSearch(),
  n: () => shownOutput()?.step(1),
  N: () => shownOutput()?.step(-1),
  t: nextTheme,
  "?": () => find("help").showModal(),
};

export function startKeys() {
  find("help-open").addEventListener("click", KEYS["?"]);
  find("help-close").addEventListener("click", () => find("help").close());
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || find("help").open) return;
    const field = event.target.closest?.("input, textarea, select");
    if (event.key === "Escape" && field) field.blur();
    if (field || !singleKeys() || session.current() === null) return;
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
