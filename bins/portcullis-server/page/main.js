// Puts the parts together: who is signed in sees the place that the address names.
import { forgetAllowed, leaveAllowed, showAllowed, startAllowed } from "./allowed.js";
import { focusLine, startComposer, write } from "./composer.js";
import { find, go } from "./dom.js";
import { leaveExecution, showExecution } from "./execution.js";
import { startHealth } from "./health.js";
import { forgetHistory, leaveHistory, showHistory, showRecent, startHistory } from "./history.js";
import { startKeys } from "./keys.js";
import { startPreferences } from "./preferences.js";
import * as session from "./session.js";
import { showSignIn, startSignIn } from "./signin.js";

const PLACES = ["work", "history", "allowed"];

function use(text) {
  go("#/", () => write(text));
}

// Reads the address: `#/`, `#/executions`, `#/executions/ID`, `#/allowed`.
function place() {
  const [, first = "", second = ""] = location.hash.split("/");
  if (first === "allowed") return { name: "allowed", title: "What I may run" };
  if (first !== "executions") return { name: "work", title: "Run" };
  if (second === "") return { name: "history", title: "History" };
  let id = second;
  try {
    id = decodeURIComponent(second);
  } catch {
    // Then it is no id, and is told so.
  }
  return { name: "work", title: "Execution", id };
}

function show() {
  const signedIn = session.current() !== null;
  const { name, title, id } = place();
  find("sign-in-place").hidden = signedIn;
  for (const other of PLACES) find(other).hidden = !signedIn || other !== name;
  find("places").hidden = find("leave").hidden = !signedIn;
  document.title = `${signedIn ? title : "Sign in"} · Portcullis`;
  for (const link of find("places").querySelectorAll("a")) {
    if (signedIn && link.dataset.place === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // A stream that waits for somebody to sign in goes on where it was: it is left only for another place.
  if (!signedIn) return leaveHistory();
  if (name !== "history") leaveHistory();
  if (name !== "allowed") leaveAllowed();
  if (name === "history") showHistory();
  if (name === "allowed") showAllowed(use);
  if (name === "work") {
    find("recent").hidden = id !== undefined;
    if (id === undefined) {
      leaveExecution();
      showRecent();
    } else showExecution(id, write);
  } else leaveExecution();
}

session.changed((why) => {
  if (why === "left") {
    leaveExecution();
    forgetHistory();
    forgetAllowed();
    location.hash = "#/";
  }
  show();
  if (why === "begun") focusLine();
  else showSignIn(why);
});

window.addEventListener("hashchange", show);
find("leave").addEventListener("click", () => session.leave());
find("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names a place, not an element
  find("main").focus();
});

startPreferences();
startSignIn();
startComposer();
startHistory();
startAllowed(use);
startKeys();
startHealth();
show();
if (session.current() === null) showSignIn("first");
else if (!find("work").hidden) focusLine();
