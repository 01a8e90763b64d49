// What ran, and what may run.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { open } from "./browser.mjs";
import { Service } from "./service.mjs";

let service;
before(async () => {
  service = await Service.start();
  for (let at = 0; at < 58; at += 1) await service.run(`echo ${at}`);
  await service.run("cat missing");
  await service.run("sleep 30", { timeout: 0.3 });
});
after(() => service.stop());

const commands = (page) => page.$$eval("#records .entry .command", (all) => all.map((one) => one.textContent));

test("the history has pages, filters and a drawing of durations", async (t) => {
  const page = await open(t, service);
  await page.click("nav >> text=History");
  await page.waitForFunction(() => document.querySelectorAll("#records .entry").length === 50);
  assert.deepEqual((await commands(page)).slice(0, 3), ["sleep 30", "cat missing", "echo 57"]);
  assert.equal(await page.$$eval("#records .overview rect", (rects) => rects.length), 50);
  const widths = await page.$$eval("#records .ran", (bars) => bars.map((bar) => bar.getBoundingClientRect().width));
  assert.ok(widths[0] > 5 * widths[2] && widths[2] >= 3, String(widths.slice(0, 3)));
  await page.click("text=Show older");
  await page.waitForFunction(() => document.querySelectorAll("#records .entry").length === 60);
  assert.equal((await commands(page)).at(-1), "echo 0");
  assert.equal(await page.$("#records .more"), null);
  // The first of those that came has the focus.
  assert.equal(await page.evaluate(() => document.activeElement.querySelector(".command").textContent), "echo 9");

  await page.selectOption("#filters [name=status]", "failed");
  await page.waitForFunction(() => document.querySelectorAll("#records .entry").length === 1);
  assert.deepEqual(await commands(page), ["cat missing"]);
  await page.selectOption("#filters [name=status]", "");
  await page.fill("#filters [name=program]", "sleep");
  await page.waitForFunction(() => [...document.querySelectorAll("#records .command")].map((one) => one.textContent).join() === "sleep 30");
  await page.fill("#filters [name=acceptedFrom]", "2100-01-01T00:00");
  await page.waitForFunction(() => document.querySelector("#records").textContent.includes("Nothing matches"));
  await page.click("#filters [type=reset]");
  await page.waitForFunction(() => document.querySelectorAll("#records .entry").length === 50);
  await page.fill("#filters [name=acceptedBefore]", "2001-01-01T00:00");
  await page.waitForFunction(() => document.querySelector("#records").textContent.includes("Nothing matches"));
  await page.click("#filters [type=reset]");
  await page.click("#records .entry >> nth=1");
  await page.waitForSelector("#execution .status.failed");
  assert.equal(await page.textContent("#execution-title"), "cat missing");
});

test("what has not ended is shown as it goes on, and is cancelled from the list", async (t) => {
  const page = await open(t, service);
  await service.api("POST", "/api/commands", { command: "sleep 35" });
  await page.evaluate(() => (location.hash = "#/executions"));
  await page.waitForSelector("#records .status.running");
  await page.click("#records button.danger");
  await page.waitForFunction(() => document.querySelector("#records .entry .status").classList.contains("cancelled"));
  await service.api("POST", "/api/commands", { command: "sleep 1" });
  await page.evaluate(() => (location.hash = "#/"));
  await page.waitForSelector("#recent-records .entry");
  await page.waitForFunction(() => document.querySelector("#recent-records .entry .status").classList.contains("completed"));
});

test("what I may run is listed with rules and limits, and a name goes into the line", async (t) => {
  const page = await open(t, service);
  await page.click("nav >> text=Allowed");
  await page.waitForSelector("#programs tbody tr");
  const told = await page.$$eval("#programs tbody tr", (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  assert.equal(told.length, 14);
  const sleep = told.find(([program]) => program.startsWith("sleep"));
  assert.deepEqual(sleep.slice(1), ["waiting", "40 s", "1 min", "512 MiB", "8 MiB"]);
  assert.match(told.find(([program]) => program.startsWith("git"))[0], /log status/);
  await page.fill("#allowed-filter", "talk");
  await page.waitForFunction(() => document.querySelectorAll("#programs tbody tr").length === 3);
  await page.click("#programs .program >> nth=0");
  await page.waitForSelector("#line:focus");
  assert.equal(await page.inputValue("#line"), "echo ");
});
