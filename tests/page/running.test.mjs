// Signing in, running, cancelling, and what a refused token costs.
import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ended, judged, open, ran, rows } from "./browser.mjs";
import { Service } from "./service.mjs";

let service;
before(async () => {
  service = await Service.start({ PORTCULLIS_CELLS: "2" });
});
after(() => service.stop());

test("a token is tried before it is kept, and a wrong one is told", async (t) => {
  const page = await open(t, service, { token: null });
  for (const [token, said] of [["", "Paste your token."], ["a b", "letters, digits"], ["nobody", "does not know this token"]]) {
    await page.fill("#token", token);
    await page.press("#token", "Enter");
    await page.waitForFunction((said) => document.querySelector("#signin-said").textContent.includes(said), said);
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  }
  assert.ok(await page.isHidden("#work"));
  await page.fill("#token", ` ${service.token}\n`);
  await page.press("#token", "Enter");
  await page.waitForSelector("#line:focus");
  assert.equal(await page.inputValue("#token"), "");
  // It is in this tab's storage alone: no other place has it.
  const places = await page.evaluate(() => [JSON.stringify({ ...sessionStorage }), JSON.stringify({ ...localStorage }), document.cookie, location.href]);
  assert.deepEqual(places.map((text) => text.includes(service.token)), [true, false, false, false]);
  await page.reload();
  await page.waitForSelector("#line:focus");
});

test("a line is judged while it is typed, run, and its output is shown with both streams told apart", async (t) => {
  const page = await open(t, service);
  await judged(page, "echo out; cat missing; echo again");
  assert.match(await page.textContent("#verdict"), /Allowed.*echo, cat by rules talking, looking/);
  await page.press("#line", "Control+Enter");
  await ended(page);
  await page.waitForFunction(() => document.querySelectorAll("#execution .row").length === 3);
  // Two pipes have no order between them.
  const told = await page.$$eval(".row", (rows) => rows.map((row) => [row.querySelector(".line").textContent, row.classList.contains("stderr"), row.querySelector(".gutter").dataset.stream]));
  assert.deepEqual(told.sort(), [["again", false, ""], ["cat: missing: No such file or directory", true, "err"], ["out", false, ""]]);
  assert.match(await page.textContent("#execution .state"), /Completed.*exit code 0/);
  const facts = await page.textContent("#execution .details");
  for (const part of ["CPU time", "of 1 min", "Memory at most", "of 512 MiB", "Confinement", "Landlock", "echo, cat", "talking, looking", "local"]) assert.ok(facts.includes(part), `${part} in ${facts}`);
  // Its address opens it again, for who is signed in.
  const address = await page.evaluate(() => location.hash);
  assert.match(address, /^#\/executions\/[0-9a-f-]{36}$/);
  await page.reload();
  await ended(page);
  await page.waitForFunction(() => document.querySelectorAll("#execution .row").length === 3);
});

test("output comes while the line runs, and cancelling ends it", async (t) => {
  const page = await open(t, service);
  await page.fill("#line", "echo first; sleep 30; echo never");
  await page.press("#line", "Enter");
  await page.waitForSelector("#execution .status.running");
  await page.waitForSelector("#execution .row");
  assert.deepEqual(await rows(page), ["first"]);
  await page.click("#cancel");
  await page.waitForSelector("#execution .status.cancelled");
  assert.match(await page.textContent("#execution .state"), /cancelled by its user/);
  assert.deepEqual(await rows(page), ["first"]);
  const id = decodeURIComponent((await page.evaluate(() => location.hash)).split("/")[2]);
  assert.equal((await service.api("GET", `/api/commands/${id}`)).status, "cancelled");
});

test("input, variables, a directory and a time limit go with the line", async (t) => {
  const page = await open(t, service);
  await page.click("summary");
  await page.fill("#stdin", "one\ntwo\n");
  await page.fill("#environment", "LANG=C=x\n");
  await page.fill("#timeout", "0.4");
  await ran(page, "cat; sleep 20");
  assert.deepEqual(await rows(page), ["one", "two"]);
  assert.match(await page.textContent("#execution .state"), /Out of time.*its time was over/);
  await page.fill("#timeout", "0");
  await page.waitForSelector(".verdict.warn:not(.stale)");
  assert.match(await page.textContent("#verdict"), /\/timeout/);
  await page.fill("#timeout", "");
  await page.fill("#environment", "HOME=/x");
  await page.waitForSelector(".verdict.bad:not(.stale)");
  assert.match(await page.textContent("#verdict"), /HOME/);
});

test("an answer that asks to come back later is told with its time, and nobody asks before", async (t) => {
  const own = await Service.start({ PORTCULLIS_CELLS: "1", PORTCULLIS_QUEUE_LIMIT: "1", PORTCULLIS_QUEUE_LIMIT_PER_USER: "1" });
  t.after(() => own.stop());
  const page = await open(t, own);
  const busy = [];
  for (let at = 0; at < 4; at += 1) busy.push(await own.api("POST", "/api/commands", { command: "sleep 20" }));
  assert.ok(busy.some(({ status }) => status === 429), JSON.stringify(busy));
  await page.fill("#line", "echo x");
  await page.press("#line", "Enter");
  await page.waitForSelector("#verdict .countdown");
  assert.match(await page.textContent("#verdict"), /You can try again in \d+ s\./);
  assert.ok(await page.isDisabled("#run"));
  for (const { executionId } of busy.filter((one) => one.executionId)) await own.api("POST", `/api/commands/${executionId}/cancel`);
  await page.waitForSelector("#run:not([disabled])");
  await ran(page, "echo x");
  assert.deepEqual(await rows(page), ["x"]);
});

test("a token that is refused in the middle costs neither the line nor the stream", async (t) => {
  const own = await Service.start();
  t.after(() => own.stop());
  const page = await open(t, own);
  await page.fill("#line", "echo 1; sleep 1; echo 2");
  await page.press("#line", "Enter");
  await page.waitForSelector("#execution .row");
  await page.fill("#line", "echo half written");
  const data = join(own.directory, "data");
  await own.kill();
  await rm(join(data, "token"));
  await own.start();
  const former = own.token;
  own.token = (await readFile(join(data, "token"), "utf8")).trim();
  assert.notEqual(own.token, former);
  await page.waitForSelector("#token:focus");
  assert.match(await page.textContent("#signin-said"), /no longer accepted/);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.fill("#token", own.token);
  await page.press("#token", "Enter");
  await page.waitForSelector("#execution .status.lost");
  assert.equal(await page.inputValue("#line"), "echo half written");
  assert.equal((await rows(page))[0], "1");
  await page.waitForSelector(".verdict.good:not(.stale)");
});

test("who signs out leaves nothing behind", async (t) => {
  const page = await open(t, service);
  await ran(page, "echo private-output");
  await page.click("#leave");
  await page.waitForSelector("#token:focus");
  const left = await page.evaluate(() => [document.body.textContent, JSON.stringify({ ...sessionStorage }), document.querySelector("#line").value].join());
  assert.ok(!left.includes("private-output"), left);
  assert.ok(!left.includes(service.token));
  assert.equal(await page.evaluate(() => location.hash), "#/");
});

test("what is not there is told", async (t) => {
  const page = await open(t, service);
  for (const id of ["none", "..%2Fallowed", "%3Cb%3E", "%"]) {
    await page.evaluate((id) => (location.hash = `#/executions/${id}`), id);
    await page.waitForFunction(() => document.querySelector("#execution h2")?.textContent === "There is no such execution.");
    await page.evaluate(() => (location.hash = "#/"));
    await page.waitForFunction(() => !document.querySelector("#execution h2"));
  }
});
