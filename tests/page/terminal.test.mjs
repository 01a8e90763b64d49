// The parts that read output, each by itself, in the browser that they are for.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { open } from "./browser.mjs";
import { Service } from "./service.mjs";

let service;
before(async () => {
  service = await Service.start();
});
after(() => service.stop());

// Writes pieces to a screen and returns its rows: text, stream, number, look of each run.
const written = (page, pieces) => page.evaluate(async (pieces) => {
  const { Screen, runs } = await import("/page/screen.js");
  const screen = new Screen();
  for (const [stream, text] of pieces) screen.write(stream, text);
  screen.finish();
  const changed = (look) => Object.fromEntries(Object.entries(look).filter(([, value]) => value !== null && value !== false));
  return Array.from({ length: screen.rows }, (_, at) => {
    const row = screen.row(at);
    return { text: screen.plain(at), stderr: row.stderr, line: row.line, begins: row.begins, runs: [...runs(row.coded)].map(({ text, look }) => [text, changed(screen.look(look))]) };
  });
}, pieces);

const out = (...texts) => texts.map((text) => ["stdout", text]);

test("lines, carriage returns and backspaces become what a terminal shows", async (t) => {
  const page = await open(t, service);
  for (const [pieces, wanted] of [
    [out("a\nb\n"), ["a", "b"]],
    [out("a\r\nb"), ["a", "b"]],
    [out("a\r", "\nb"), ["a", "b"]],
    [out("10%\r20%\r100%\n"), ["100%"]],
    [out("10%", "\r", "9%\n"), ["9%%"]],
    [out("loading\r\u001b[Kdone\n"), ["done"]],
    [out("abc\b\bX\n"), ["aXc"]],
    [out("abc\u001b[2D\u001b[1CX\u001b[1GY\n"), ["YbX"]],
    [out("\n\n"), ["", ""]],
    [out("a\u001b[", "31", "mb\u001b", "[0mc"), ["abc"]],
    [out("x".repeat(2500)), ["x".repeat(1000), "x".repeat(1000), "x".repeat(500)]],
    [out(`${"x".repeat(999)}😀y`), ["x".repeat(999), "😀y"]],
  ]) {
    assert.deepEqual((await written(page, pieces)).map(({ text }) => text), wanted, JSON.stringify(pieces).slice(0, 80));
  }
});

test("streams that interrupt each other keep their rows, and numbers count lines", async (t) => {
  const page = await open(t, service);
  const rows = await written(page, [["stdout", "one\ntw"], ["stderr", "oops\n"], ["stdout", "o\nthree\n"]]);
  assert.deepEqual(rows.map(({ text, stderr, line, begins }) => [text, stderr, line, begins]), [
    ["one", false, 1, true], ["tw", false, 2, true], ["oops", true, 2, false], ["o", false, 3, true], ["three", false, 4, true],
  ]);
});

test("colours of all three kinds, weights and their ends are read", async (t) => {
  const page = await open(t, service);
  const [row] = await written(page, out("a\u001b[1;31mb\u001b[22;39;4mc\u001b[0;38;5;208md\u001b[48;2;1;2;3me\u001b[7mf\u001b[27;49mg\u001b[94;103mh\u001b[;3;9mi\u001b[38:5:9mj\u001b[0mk"));
  assert.deepEqual(row.runs, [
    ["a", {}], ["b", { bold: true, colour: 1 }], ["c", { underline: true }], ["d", { colour: "#ff8700" }], ["e", { colour: "#ff8700", ground: "#010203" }],
    ["f", { colour: "#ff8700", ground: "#010203", inverse: true }], ["g", { colour: "#ff8700" }], ["h", { colour: 12, ground: 11 }],
    ["i", { italic: true, strike: true }], ["j", { colour: 9, italic: true, strike: true }], ["k", {}],
  ]);
});

test("events are the same however the stream is cut", async (t) => {
  const page = await open(t, service);
  const found = await page.evaluate(async () => {
    const { EventReader } = await import("/page/events.js");
    const text = "retry: 2000\n\n:\n\nid: 0\nevent: status\ndata: {}\n\nid: 1\r\nevent: output\r\ndata: {\"a\":1}\r\n\r\nid: 2\nevent: end\ndata:x\ndata: y\n\nid: 3\nevent: cut\nda";
    const read = (size) => {
      const reader = new EventReader();
      const events = [];
      for (let at = 0; at < text.length; at += size) events.push(...reader.push(text.slice(at, at + size)));
      return JSON.stringify(events);
    };
    return [1, 2, 3, 7, 1000].map(read);
  });
  const wanted = JSON.stringify([{ event: "status", data: "{}", id: "0" }, { event: "output", data: "{\"a\":1}", id: "1" }, { event: "end", data: "x\ny", id: "2" }]);
  assert.deepEqual(found, found.map(() => wanted));
});

test("offsets in bytes are found in text of any script", async (t) => {
  const page = await open(t, service);
  const found = await page.evaluate(async () => {
    const { fromBytes } = await import("/page/text.js");
    return [fromBytes("abc", [0, 3, 9]), fromBytes("äb", [0, 2, 3]), fromBytes("漢😀x", [3, 7, 8]), fromBytes("漢", [1, 3]), fromBytes("ab", [2, 0, 1])];
  });
  assert.deepEqual(found, [[0, 3, 3], [0, 1, 2], [1, 3, 4], [0, 1], [2, 0, 1]]);
});

test("quantities are written for people", async (t) => {
  const page = await open(t, service);
  const found = await page.evaluate(async () => {
    const { bytes, duration } = await import("/page/words.js");
    return [...[0, 1023, 1024, 1536, 8 << 20, 512 << 20].map(bytes), ...[0, 999, 1000, 1250, 59_949, 59_999, 60_000, 125_000, 3_600_000, 90_061_000].map(duration)];
  });
  assert.deepEqual(found, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "8 MiB", "512 MiB", "0 ms", "999 ms", "1 s", "1.3 s", "59.9 s", "1 min", "1 min", "2 min 5 s", "1 h", "1 d 1 h"]);
});
