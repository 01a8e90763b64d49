// Signing in with a token, which is tried before it is kept.
import { NoAnswer, ask } from "./api.js";
import { announce, el, find } from "./dom.js";
import * as session from "./session.js";
import { quoted } from "./verdict.js";

const form = find("signin");
const field = find("token");
const said = find("signin-said");

export function startSignIn() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    signIn();
  });
}

export function showSignIn(why) {
  field.value = "";
  say(why === "refused" ? "The token is no longer accepted. What you have typed is kept." : null);
  field.focus();
}

function say(text, extra = null) {
  said.replaceChildren(...(text === null ? [] : [el("p", {}, quoted(text), extra)]));
  field.setAttribute("aria-invalid", String(text !== null));
  if (text !== null) announce(text);
}

async function signIn() {
  const token = field.value.trim();
  // The service takes no other (RFC 6750 §2.1), and a header could not hold it.
  if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(token)) {
    say(token === "" ? "Paste your token." : "A token has letters, digits and `-._~+/=` alone. Perhaps something was copied with it.");
    field.focus();
    return;
  }
  const button = find("signin-send");
  button.setAttribute("aria-busy", "true");
  try {
    await ask("GET", "/api/commands/allowed", { token });
    field.value = "";
    say(null);
    session.begin(token);
  } catch (error) {
    if (error instanceof NoAnswer) say("The service does not answer.");
    else if (error.status === 401) say("The service does not know this token.");
    else if (error.status === 403) say(error.message);
    else say(error.message, error.retryAfterMs && ` Try again in ${Math.ceil(error.retryAfterMs / 1000)} s.`);
    field.focus();
  } finally {
    button.removeAttribute("aria-busy");
  }
}
