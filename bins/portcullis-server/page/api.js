// Asks the service. Every answer but a success becomes one of two errors.
import * as session from "./session.js";

// An answer that says no: problem details (RFC 9457), or a proxy's answer, of which only the status is known.
export class Problem extends Error {
  constructor(response, body) {
    super(body?.error ?? body?.detail ?? `The service answered ${response.status}.`);
    this.status = response.status;
    this.code = body?.code ?? null;
    this.title = body?.title ?? `Answer ${response.status}`;
    this.denial = body?.denial ?? null;
    this.errors = body?.errors ?? [];
    this.execution = body?.execution ?? null;
    const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
    this.retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : null;
  }

  // Whether the same may be asked again later.
  get passes() {
    return this.status === 429 || this.status >= 500;
  }
}

// No answer came: it is not known whether the service received the request.
export class NoAnswer extends Error {}

// Sends a request as who is signed in, and returns the response when it is a success.
export async function ask(method, path, { body, headers = {}, signal, token = session.current() } = {}) {
  const sent = { ...headers };
  if (token !== null) sent.Authorization = `Bearer ${token}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers: sent, signal, body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new NoAnswer("The service does not answer.", { cause: error });
  }
  if (response.ok) return response;
  const problem = new Problem(response, await response.json().catch(() => null));
  if (response.status === 401) session.refused(token);
  throw problem;
}

// The same for an answer in JSON.
export async function read(method, path, options) {
  const response = await ask(method, path, options);
  try {
    return await response.json();
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new NoAnswer("The answer broke off.", { cause: error });
  }
}

// What an id may be (docs/api.md). Anything else in an address is no execution, and is not asked for.
export const isId = (text) => /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/.test(text);

export const executionPath = (id, rest = "") => `/api/commands/${encodeURIComponent(id)}${rest}`;

export const executionLink = (id) => `#/executions/${encodeURIComponent(id)}`;

// Makes an execution's id here, so that a request whose answer was lost can be sent again: the same id is the same execution. (`randomUUID`
// is kept from pages that came without TLS from another machine.)
export function newId() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  random[6] = (random[6] & 0x0f) | 0x40;
  random[8] = (random[8] & 0x3f) | 0x80;
  const hex = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// Waits; ends early, without an error, when the browser finds its network again or the page is looked at again.
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const finish = () => {
      clearTimeout(timer);
      done.abort();
      resolve();
    };
    const timer = setTimeout(finish, ms);
    window.addEventListener("online", finish, { signal: done.signal });
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      done.abort();
      reject(signal.reason);
    }, { signal: done.signal });
  });
}

// How long to wait before the nth attempt: doubled each time, at most 15 s, drawn at random so that many pages do not come at once.
export const backoff = (attempt) => Math.min(15_000, 500 * 2 ** Math.min(attempt, 6)) * (0.5 + Math.random() / 2);
