// What somebody likes of the page: its colours, and whether single keys are shortcuts. Nothing secret, so it is kept beyond the tab.
import { announce, find } from "./dom.js";

const THEMES = ["system", "light", "dark"];

function kept(name) {
  try {
    return localStorage.getItem(`portcullis.${name}`);
  } catch {
    return null;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(`portcullis.${name}`, value);
  } catch {
    // Then it holds for as long as the page is open.
  }
}

let theme = THEMES.includes(kept("theme")) ? kept("theme") : "system";
let keys = kept("keys") !== "off";

function show() {
  document.documentElement.dataset.theme = theme;
  const button = find("theme");
  button.querySelector(".label").textContent = `Colours: ${theme}`;
  button.title = `Colours: ${theme}`;
}

export function nextTheme() {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  keep("theme", theme);
  show();
  announce(`Colours: ${theme}.`);
}

export const singleKeys = () => keys;

export function startPreferences() {
  show();
  find("theme").addEventListener("click", nextTheme);
  const box = find("single-keys");
  box.checked = keys;
  box.addEventListener("change", () => {
    keys = box.checked;
    keep("keys", keys ? "on" : "off");
  });
}
