// Follows an execution over everything that cuts a connection. `EventSource` cannot send a token, so the stream is read by hand.
import { NoAnswer, Problem, ask, backoff, executionPath, pause } from "./api.js";
import * as session from "./session.js";

// The service says something every 10 s; a connection that is silent for longer than this is dead.
const SILENCE_MS = 25_000;
// How long to work before the browser may draw.
const SLICE_MS = 8;

// Takes a stream of events apart (HTML Living Standard §9.2.6; lines end as the service writes them, in LF or CRLF). Each byte is looked at once,
// however it was cut.
export class EventReader {
  #rest = "";
  #event = "";
  #data = [];
  #id = null;

  *push(text) {
    let from = this.#rest.length;
    const buffer = this.#rest + text;
    let begin = 0;
    for (;;) {
      const end = buffer.indexOf("\n", from);
      if (end < 0) break;
      const line = buffer.slice(begin, buffer[end - 1] === "\r" ? end - 1 : end);
      begin = end + 1;
      from = begin;
      const event = this.#line(line);
      if (event) yield event;
    }
    this.#rest = buffer.slice(begin);
  }

  #line(line) {
    if (line === "") {
      const event = { event: this.#event, data: this.#data.join("\n"), id: this.#id };
      const whole = this.#data.length > 0;
      [this.#event, this.#data] = ["", []];
      return whole ? event : null;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.#event = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id") this.#id = value;
    return null;
  }
}

// Calls `listener` with each event of an execution, once, in order, until its end; returns then. `listener.event(name, data)` takes
// one; `listener.state(word, problem)` hears `connecting`, `live`, `waiting` (cut off, trying again); `listener.restart()` that all is told
// again from the beginning, since the service does not know what was told before.
//
// It throws where trying again is of no use: no such execution, not allowed, or the signal.
export async function follow(id, listener, signal) {
  let position = 0;
  for (let attempt = 0; ; attempt += 1) {
    await session.open(signal);
    listener.state("connecting");
    let wait = backoff(attempt);
    let cause = null;
    try {
      for await (const { event, data, id: at } of connection(id, position, signal, () => listener.state("live"))) {
        attempt = 0;
        wait = backoff(0);
        const number = Number(at);
        const value = JSON.parse(data);
        if (event === "output" && number <= position) continue; // told before
        if (event === "output" || event === "end") {
          if (number !== position + 1) throw new NoAnswer(`Output ${position + 1} is missing.`);
        }
        position = number;
        listener.event(event, value);
        if (event === "end") return;
      }
    } catch (error) {
      signal.throwIfAborted();
      cause = error;
      if (error instanceof Problem) {
        if (error.status === 400 && position > 0) {
          position = 0;
          listener.restart();
        } else if (error.status !== 401 && !error.passes) throw error;
        wait = Math.max(wait, error.retryAfterMs ?? 0);
      }
    }
    if (session.current() === null) continue;
    listener.state("waiting", cause);
    await pause(wait, signal);
  }
}

// The events of one connection; ends when it does, and with an error when it was cut or fell silent.
async function* connection(id, position, signal, connected) {
  const silent = new AbortController();
  let timer = setTimeout(() => silent.abort(), SILENCE_MS);
  const either = AbortSignal.any([signal, silent.signal]);
  try {
    const headers = { Accept: "text/event-stream" };
    if (position > 0) headers["Last-Event-ID"] = String(position);
    const response = await ask("GET", executionPath(id, "/events"), { headers, signal: either });
    connected();
    if (response.status === 204) return;
    const body = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const reader = new EventReader();
    let began = performance.now();
    for (;;) {
      const { value, done } = await body.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE_MS);
      for (const event of reader.push(value)) {
        yield event;
        if (performance.now() - began > SLICE_MS) {
          await new Promise((resolve) => setTimeout(resolve));
          began = performance.now();
        }
      }
    }
  } finally {
    clearTimeout(timer);
    silent.abort(); // whoever stops listening ends the connection
  }
}

// Joins the bytes of a stream's pieces: some are text, others, which a border cut in the middle of a character or which are no text, base64.
export class PieceDecoder {
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #open = false;

  text({ data, encoding }) {
    if (encoding === "base64") {
      this.#open = true;
      return this.#decoder.decode(Uint8Array.from(atob(data), (character) => character.charCodeAt(0)), { stream: true });
    }
    return this.end() + data;
  }

  // What is left when nothing more comes.
  end() {
    if (!this.#open) return "";
    this.#open = false;
    return this.#decoder.decode();
  }
}
