// Makes elements. Text stays text: nothing in this page turns a string into markup, and the browser is told to refuse it (Trusted Types).

const SVG = "http://www.w3.org/2000/svg";

// Makes an element with attributes and children. A function under `onNAME` listens for that event; `true` sets an attribute
// without a value; `null`, `undefined` and `false` leave one out, also among the children.
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

// The same for drawings.
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Finds an element that the document is known to have.
export const find = (id) => document.getElementById(id);

// Goes to another place of the page, and does something when it is shown.
export function go(hash, then) {
  if (location.hash === hash) return then();
  window.addEventListener("hashchange", then, { once: true });
  location.hash = hash;
}

// Tells those who listen to the page. One region for all: several that speak at once are not heard.
export function announce(text) {
  find("announcer").textContent = text;
}

// Text for those who listen alone.
export const spoken = (text) => el("span", { class: "spoken" }, text);
