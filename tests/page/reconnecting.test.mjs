// A page left open: nothing is missed and nothing told twice, whatever is cut.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ended, open, rows } from "./browser.mjs";
import { proxy } from "./proxy.mjs";
import { Service, until } from "./service.mjs";

let service;
before(async () => {
  service = await Service.start();
});
after(() => service.stop());

const steps = (count, pause) => Array.from({ length: count }, (_, at) => `echo step${at}; sleep ${pause}`).join("; ");

async function begin(page, line) {
  await page.fill("#line", line);
  await page.press("#line", "Enter");
  await page.waitForSelector("#execution .row");
}

test("a connection that is cut again and again leaves no gap and no repetition", async (t) => {
  const between = await proxy(t, service);
  const page = await open(t, service, { url: between.url });
  const resumed = [];
  page.on("request", (request) => request.url().endsWith("/events") && resumed.push(request.headers()["last-event-id"] ?? "0"));
  await begin(page, steps(12, 0.25));
  for (let seen = 2; seen <= 8; seen += 3) {
    await page.waitForFunction((seen) => document.querySelectorAll("#execution .row").length >= seen, seen);
    between.cut();
    await page.waitForSelector("#execution .note:not([hidden])");
    await page.waitForSelector("#execution[data-connection=live], .execution[data-connection=live]");
  }
  await ended(page);
  assert.deepEqual(await rows(page), Array.from({ length: 12 }, (_, at) => `step${at}`));
  assert.ok(resumed.length >= 4 && resumed.slice(1).every((at) => Number(at) > 0), `resumed behind ${resumed}`);
  assert.ok(await page.isHidden("#execution .note"));
});

test("a service that is killed and started again is found again, and what was told stays", async (t) => {
  const own = await Service.start();
  t.after(() => own.stop());
  const page = await open(t, own);
  await begin(page, `echo one; ${steps(100, 0.2)}`);
  await page.waitForFunction(() => document.querySelectorAll("#execution .row").length >= 3);
  await own.kill();
  await page.waitForSelector("#execution .note:not([hidden])");
  assert.match(await page.textContent("#execution .note"), /Connecting again/);
  await own.start();
  await page.waitForSelector("#execution .status.lost");
  const id = (await page.evaluate(() => location.hash)).split("/")[2];
  const stored = (await own.api("GET", `/api/commands/${id}`)).output.split("\n");
  assert.deepEqual(await rows(page), stored, "what is shown is what is stored");
  assert.match(await page.textContent("#execution .state"), /not known/);
  // The page works on: the same tab runs the next line.
  await page.fill("#line", "echo after");
  await page.press("#line", "Enter");
  await page.waitForFunction(() => document.querySelector("#execution .line")?.textContent === "after");
});

test("a submission whose answer is lost is asked for again under its id, and runs once", async (t) => {
  const between = await proxy(t, service);
  const page = await open(t, service, { url: between.url });
  const before = (await service.api("GET", "/api/commands?program=printf")).executions.length;
  between.lose("POST /api/commands HTTP", 2);
  await begin(page, "printf once");
  await ended(page);
  assert.deepEqual(await rows(page), ["once"]);
  assert.equal((await service.api("GET", "/api/commands?program=printf")).executions.length, before + 1);
});

test("while nobody answers the page says so, and a verdict comes when somebody does", async (t) => {
  const between = await proxy(t, service);
  const page = await open(t, service, { url: between.url });
  between.refuse(true);
  await page.fill("#line", "echo x");
  await page.waitForSelector(".verdict.warn:not(.stale)");
  assert.match(await page.textContent("#verdict"), /does not answer/);
  between.refuse(false);
  await page.waitForSelector(".verdict.good:not(.stale)");
});

test("characters that a border cuts are whole again", async (t) => {
  const page = await open(t, service);
  // 64 KiB of three bytes each: the border of a piece is never that of a character.
  const id = (await service.run("cat", { stdin: "漢字仮名".repeat(20_000) })).executionId;
  await page.evaluate((id) => (location.hash = `#/executions/${id}`), id);
  await ended(page);
  await until("all rows are there", async () => (await page.textContent("#execution .size")).includes("KiB"));
  const shown = await page.evaluate(async (id) => {
    const { follow, PieceDecoder } = await import("/page/events.js");
    const decoder = new PieceDecoder();
    let text = "";
    await follow(id, { event: (name, value) => name === "output" && (text += decoder.text(value)), state() {}, restart() {} }, new AbortController().signal);
    return text + decoder.end();
  }, id);
  assert.equal(shown, "漢字仮名".repeat(20_000));
  assert.ok((await rows(page)).every((row) => /^[漢字仮名]+$/.test(row)));
});
