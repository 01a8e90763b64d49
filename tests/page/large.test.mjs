// Much output: the page goes on answering, and the document stays small.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ended, open } from "./browser.mjs";
import { Service } from "./service.mjs";

let service;
before(async () => {
  service = await Service.start();
});
after(() => service.stop());

// Elements in the document at once, whatever is shown.
const NODES = 12_000;
// A task that is longer than this is felt as a page that hangs; the machine of a test may be busy with others.
const LONGEST_MS = 2000;

const nodes = (page) => page.evaluate(() => document.querySelectorAll("*").length);

async function shown(page, id) {
  const began = performance.now();
  await page.evaluate((id) => {
    window.longTasks.length = 0;
    location.hash = `#/executions/${id}`;
  }, id);
  await ended(page);
  await page.waitForFunction(() => /MiB$/.test(document.querySelector("#execution .size").textContent));
  return performance.now() - began;
}

async function report(t, page, what, ms) {
  const tasks = await page.evaluate(() => window.longTasks);
  const longest = Math.round(Math.max(0, ...tasks));
  t.diagnostic(`${what}: ${Math.round(ms)} ms in all, ${tasks.length} tasks over 50 ms, the longest ${longest} ms, ${await nodes(page)} elements`);
  assert.ok(longest < LONGEST_MS, `a task of ${longest} ms`);
  assert.ok((await nodes(page)) < NODES);
}

const last = (page) => page.$$eval("#execution .row .line", (lines) => lines.at(-1).textContent);
const first = (page) => page.$$eval("#execution .row .line", (lines) => lines[0].textContent);

test("5 MB of output in 745,000 lines come, are moved through and searched without freezing", async (t) => {
  const page = await open(t, service);
  const { executionId, outputBytes } = await service.run("seq 1 745000");
  assert.ok(outputBytes > 5_000_000, String(outputBytes));
  await report(t, page, `${outputBytes} bytes`, await shown(page, executionId));
  await page.focus("#execution .output");
  assert.equal(await first(page), "1");
  await page.keyboard.press("End");
  await page.waitForFunction(() => [...document.querySelectorAll("#execution .row .line")].at(-1)?.textContent === "745000");
  await page.keyboard.press("Home");
  await page.waitForFunction(() => document.querySelector("#execution .row .line")?.textContent === "1");
  const began = performance.now();
  await page.fill("#execution input[type=search]", "77777");
  await page.waitForFunction(() => /^\d+ found$/.test(document.querySelector("#execution .count").textContent));
  // 77777, 177777 … 677777, and 777770 and beyond are not there.
  await page.press("#execution input[type=search]", "Enter");
  await page.waitForSelector("#execution mark.current");
  await page.waitForFunction(() => document.querySelector("#execution .count").textContent === "1 of 7");
  assert.equal(await page.$eval("#execution mark.current", (mark) => mark.closest(".row").querySelector(".gutter").dataset.line), "77777");
  await page.press("#execution input[type=search]", "Shift+Enter");
  await page.waitForFunction(() => document.querySelector("#execution .count").textContent === "7 of 7");
  assert.equal(await page.$eval("#execution mark.current", (mark) => mark.closest(".row").textContent.trim()), "677777");
  await report(t, page, "search", performance.now() - began);
});

test("5 MB in one line, and in lines of nothing but colours and carriage returns, are shown", async (t) => {
  const page = await open(t, service);
  // A submission carries 256 KiB, so the file is read many times over.
  const many = (text) => service.run(`cat > f && cat ${"f ".repeat(60)}`, { stdin: text });
  const one = await many("x".repeat(90_000));
  assert.ok(one.outputBytes > 5_000_000);
  await report(t, page, "one line", await shown(page, one.executionId));
  assert.equal(await page.textContent("#execution .gutter >> nth=0"), "");
  const colours = await many("\u001b[31mx\u001b[42my\u001b[0m".repeat(6000));
  await report(t, page, "a colour for each character", await shown(page, colours.executionId));
  const returns = await many("12%\r".repeat(22_000));
  await report(t, page, "carriage returns", await shown(page, returns.executionId));
  assert.equal(await last(page), "12%");
  const empty = await many("\n".repeat(90_000));
  await report(t, page, "5,400,000 empty lines", await shown(page, empty.executionId));
  await page.focus("#execution .output");
  await page.keyboard.press("End");
  await page.waitForFunction(() => document.querySelectorAll("#execution .gutter")[0].dataset.line > 5_000_000);
});

test("output is followed while it comes, and stays where one has scrolled to", async (t) => {
  const page = await open(t, service);
  await page.fill("#line", "seq 1 3000; sleep 1; seq 3001 6000; sleep 1; seq 6001 9000");
  await page.press("#line", "Enter");
  await page.waitForFunction(() => [...document.querySelectorAll("#execution .row .line")].at(-1)?.textContent === "3000");
  await page.waitForFunction(() => [...document.querySelectorAll("#execution .row .line")].at(-1)?.textContent === "6000");
  await page.$eval("#execution .output", (output) => (output.scrollTop -= 4000));
  await page.waitForSelector("#execution button[aria-pressed=false]");
  const before = await first(page);
  await ended(page);
  assert.equal(await first(page), before);
  await page.click("#execution button[aria-pressed=false]");
  await page.waitForFunction(() => [...document.querySelectorAll("#execution .row .line")].at(-1)?.textContent === "9000");
});
