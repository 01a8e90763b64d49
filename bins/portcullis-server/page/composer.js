// The command line: its verdict while one types, and its submission.
import { NoAnswer, Problem, backoff, executionLink, newId, pause, read } from "./api.js";
import { announce, el, find } from "./dom.js";
import * as session from "./session.js";
import { denied, marked, permitted, places, refusedRequest, unseenNotice } from "./verdict.js";

// A verdict is asked for when nobody has typed for this long, and told to who listens after a longer rest.
const REST_MS = 120;
const SPEAK_MS = 900;
// How often a submission without an answer is sent again by itself.
const ATTEMPTS = 5;

const form = find("composer");
const line = find("line");
const mirror = find("mirror");
const verdict = find("verdict");
const run = find("run");

let asking = null;
let resting = null;
let speaking = null;
// The submission that is under way, or whose answer was lost.
let sent = null;
let sending = null;
let blockedUntil = 0;
const earlier = [];
let recalled = 0;
// The line whose verdict is shown.
let told = null;

export function startComposer() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  line.addEventListener("input", () => typed());
  line.addEventListener("keydown", pressed);
  line.addEventListener("scroll", () => (mirror.scrollTop = line.scrollTop), { passive: true });
  for (const name of ["timeout", "directory", "environment"]) find(name).addEventListener("input", () => typed());
  session.changed((why) => {
    if (why === "begun") typed();
    if (why === "left") {
      for (const field of form.querySelectorAll("input, textarea")) field.value = "";
      sent = null;
      earlier.length = 0;
      typed();
    }
    if (why !== "begun") sending?.abort();
  });
  new ResizeObserver(() => grow()).observe(form);
  typed();
}

// Puts a line in, and the caret behind it.
export function write(text) {
  line.value = text;
  focusLine();
  line.setSelectionRange(text.length, text.length);
  typed();
}

export function focusLine() {
  line.focus();
}

function pressed(event) {
  // An Enter that ends the writing of a character is not ours.
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    form.requestSubmit();
    return;
  }
  if ((event.key === "ArrowUp" || event.key === "ArrowDown") && !line.value.includes("\n") && earlier.length > 0) {
    const next = recalled + (event.key === "ArrowUp" ? 1 : -1);
    if (next < 0 || next > earlier.length) return;
    event.preventDefault();
    recalled = next;
    line.value = next === 0 ? "" : earlier[next - 1];
    typed(true);
  }
}

// The line has changed: what was said of the former one no longer holds.
function typed(recalling = false) {
  if (!recalling) recalled = 0;
  if (sent && sent.command !== line.value) sent = null;
  grow();
  draw([]);
  asking?.abort();
  clearTimeout(resting);
  clearTimeout(speaking);
  if (line.value.trim() === "") {
    show("idle", [el("p", { class: "reason" }, "Nothing is run before the rules allow it.")]);
    return;
  }
  verdict.classList.add("stale");
  told = null;
  if (session.current() !== null) resting = setTimeout(judge, REST_MS);
}

// The mirror lies beneath the text, has its shape, and draws carets under what is refused.
function draw(pairs) {
  mirror.replaceChildren(...marked(line.value, pairs), "\n");
  mirror.scrollTop = line.scrollTop;
}

function grow() {
  line.style.setProperty("height", "auto");
  line.style.setProperty("height", `${line.scrollHeight}px`);
}

function show(kind, nodes) {
  verdict.className = `verdict ${kind}`;
  verdict.replaceChildren(...[...nodes, unseenNotice(line.value)].flat(Infinity).filter(Boolean));
}

function speak(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => announce(text), SPEAK_MS);
}

async function judge(attempt = 0) {
  asking = new AbortController();
  const { signal } = asking;
  const text = line.value;
  try {
    const judgement = await read("POST", "/api/commands/validate", { body: { command: text, ...options() }, signal });
    told = text;
    if (judgement.valid) {
      show("good", permitted(judgement));
      speak("Allowed.");
    } else {
      draw(places(text, judgement.denial));
      show("bad", denied(text, judgement.denial));
      speak(`Refused: ${judgement.denial.message}`);
    }
  } catch (error) {
    if (signal.aborted || session.current() === null) return;
    if (error instanceof Problem) show("warn", refusedRequest(error));
    else show("warn", [el("p", { class: "badge warn" }, "No verdict"), el("p", { class: "reason" }, "The service does not answer. It is asked again.")]);
    if (error instanceof NoAnswer || error.passes) {
      const wait = Math.max(backoff(attempt), error.retryAfterMs ?? 0);
      await pause(wait, signal).then(() => judge(attempt + 1), () => {});
    }
  }
}

// What is asked for beside the line.
function options() {
  const asked = {};
  if (find("timeout").value !== "") asked.timeout = Number(find("timeout").value);
  if (find("directory").value !== "") asked.workingDirectory = find("directory").value;
  const pairs = find("environment").value.split("\n").filter((pair) => pair.trim() !== "");
  if (pairs.length > 0) asked.env = Object.fromEntries(pairs.map((pair) => [pair.split("=")[0].trim(), pair.slice(pair.indexOf("=") + 1)]));
  return asked;
}

// Sends the line. An answer that is lost is asked for again under the same id: the same id is the same execution, so nothing runs twice.
async function submit() {
  const command = line.value;
  if (sending || command.trim() === "" || Date.now() < blockedUntil) return;
  const stdin = find("stdin").value;
  const wanted = { command, ...options(), ...(stdin === "" ? {} : { stdin }) };
  const same = sent && JSON.stringify({ ...sent, executionId: undefined }) === JSON.stringify(wanted);
  sent = same ? sent : { ...wanted, executionId: newId() };
  sending = new AbortController();
  const { signal } = sending;
  run.setAttribute("aria-busy", "true");
  asking?.abort();
  clearTimeout(resting);
  try {
    const { executionId } = await persist(sent, signal);
    sent = null;
    if (earlier[0] !== command) earlier.unshift(command);
    earlier.length = Math.min(earlier.length, 100);
    location.hash = executionLink(executionId);
    if (told !== line.value) judge();
  } catch (error) {
    if (signal.aborted || session.current() === null) return;
    refused(command, error);
  } finally {
    sending = null;
    run.removeAttribute("aria-busy");
  }
}

async function persist(body, signal) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await read("POST", "/api/commands", { body, signal });
    } catch (error) {
      if (!(error instanceof NoAnswer) || attempt + 1 >= ATTEMPTS) throw error;
      show("warn", [el("p", { class: "badge warn" }, "No answer"), el("p", { class: "reason" }, `The service is asked again under the same id (${attempt + 2} of ${ATTEMPTS}).`)]);
      await pause(backoff(attempt), signal);
    }
  }
}

function refused(command, error) {
  clearTimeout(speaking);
  if (error instanceof NoAnswer) {
    const again = el("button", { type: "button", class: "small", onclick: () => submit() }, "Ask again");
    show("warn", [
      el("p", { class: "badge warn" }, "No answer"),
      el("p", { class: "reason" }, "It is not known whether the service has taken the line. Asked again under the same id, it is not run twice."), again,
    ]);
    announce("No answer. It is not known whether the service has taken the line.");
    return;
  }
  if (!(error instanceof Problem)) throw error;
  if (error.denial && line.value === command) {
    draw(places(command, error.denial));
    show("bad", denied(command, error.denial));
    announce(`Refused: ${error.denial.message}`);
  } else {
    if (error.code === "execution/id-taken") sent = null;
    show("warn", refusedRequest(error, error.retryAfterMs && countdown(error.retryAfterMs)));
    announce(`${error.title}. ${error.message}`);
  }
}

// Says when the service wants to be asked again, and lets nobody ask before.
function countdown(ms) {
  blockedUntil = Date.now() + ms;
  const text = el("p", { class: "countdown" });
  const tick = () => {
    const left = Math.ceil((blockedUntil - Date.now()) / 1000);
    run.disabled = left > 0;
    text.textContent = left > 0 ? `You can try again in ${left} s.` : "You can try again now.";
    if (left > 0) setTimeout(tick, 250);
  };
  tick();
  return text;
}
