// What strangers can put into the page: output, command lines, ids, file names. It is shown as what it is.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { ended, open, ran, rows } from "./browser.mjs";
import { Service } from "./service.mjs";

let service;
before(async () => {
  service = await Service.start();
});
after(() => service.stop());

const MARKUP = [
  "<script>window.attacked=1</script>", "<img src=x onerror=window.attacked=1>", "<svg/onload=window.attacked=1>", "\"><iframe srcdoc='<script>parent.attacked=1</script>'>",
  "javascript:window.attacked=1", "</textarea><script>window.attacked=1</script>", "{{constructor.constructor('window.attacked=1')()}}", "&lt;b&gt;&#x3c;",
];

// Nothing of it became an element, and none of it ran.
async function unharmed(page) {
  assert.equal(await page.evaluate(() => window.attacked), undefined);
  const strange = await page.$$eval("main *", (all) => all.filter((element) => ["SCRIPT", "IFRAME", "OBJECT", "EMBED", "STYLE", "IMG"].includes(element.tagName) || [...element.attributes].some(({ name }) => name.startsWith("on"))).map((element) => element.outerHTML));
  assert.deepEqual(strange, []);
}

test("what an execution writes is never markup", async (t) => {
  const page = await open(t, service);
  const { executionId } = await service.run("cat", { stdin: `${MARKUP.join("\n")}\n` });
  await page.evaluate((id) => (location.hash = `#/executions/${id}`), executionId);
  await ended(page);
  await page.waitForFunction((count) => document.querySelectorAll("#execution .row").length === count, MARKUP.length);
  assert.deepEqual(await rows(page), MARKUP);
  // A search draws marks into it.
  await page.fill("#execution input[type=search]", "attacked");
  await page.waitForSelector("#execution mark");
  assert.deepEqual(await rows(page), MARKUP);
  await unharmed(page);
});

test("command lines are never markup, in the field, the title and the history", async (t) => {
  const page = await open(t, service);
  for (const text of MARKUP) {
    const line = `echo '${text.replaceAll("'", "")}'`;
    await ran(page, line);
    assert.equal(await page.textContent("#execution-title"), line);
  }
  await page.evaluate(() => (location.hash = "#/executions"));
  await page.waitForFunction((count) => document.querySelectorAll("#records .entry").length >= count, MARKUP.length);
  await unharmed(page);
  await page.evaluate(() => (location.hash = "#/"));
  for (const text of MARKUP) {
    await page.fill("#line", `rm ${text}`);
    await page.waitForSelector(".verdict.bad:not(.stale)");
  }
  await unharmed(page);
});

test("ids and names of files are never markup, nor addresses", async (t) => {
  const page = await open(t, service);
  for (const id of MARKUP) {
    await page.evaluate((id) => (location.hash = `#/executions/${encodeURIComponent(id)}`), id);
    await page.waitForFunction(() => document.querySelector("#execution h2")?.textContent.startsWith("There is no"));
    await page.evaluate(() => (location.hash = "#/allowed"));
    await page.waitForSelector("#programs tbody tr");
  }
  await page.evaluate(() => (location.hash = "#/"));
  await ran(page, "touch '<img src=x onerror=attacked=1>' 'a b' 'ä' && ls");
  assert.ok((await rows(page)).includes("<img src=x onerror=attacked=1>"));
  await service.run("echo named", { executionId: "a:b..c" });
  await page.evaluate(() => (location.hash = "#/executions/a%3Ab..c"));
  await page.waitForFunction(() => document.querySelector("#execution-title")?.textContent === "echo named");
  const download = page.waitForEvent("download");
  await page.selectOption("#execution select", "both");
  assert.equal((await download).suggestedFilename(), "a_b..c.output.txt");
  assert.equal(await readFile(await (await download).path(), "utf8"), "named\n");
  await unharmed(page);
});

test("characters that turn the direction or cannot be seen are spelled out", async (t) => {
  const page = await open(t, service);
  const { executionId } = await service.run("cat", { stdin: "safe \u202egnp.exe\u202c \u2066x\u2069 a\u200bb\n\u0001\u0000\u0007bell\u007f\n\u{e0041}tag\n" });
  await page.evaluate((id) => (location.hash = `#/executions/${id}`), executionId);
  await ended(page);
  await page.waitForSelector("#execution .unseen");
  assert.deepEqual(await rows(page), ["safe U+202Egnp.exeU+202C U+2066xU+2069 aU+200Bb", "␁␀bell␡", "U+E0041tag"]);
});

test("escape sequences do nothing but colour text, and none swallows what follows", async (t) => {
  const page = await open(t, service);
  const output = "\u001b]0;title\u0007a\u001b]8;;javascript:attacked=1\u001b\\link\u001b]8;;\u001b\\\n\u001b]52;c;ZXZpbA==\nnext\n\u001b[2J\u001b[1;1H\u001b[?1049hcleared?\u001b(0\u001bc\u001bP1$qm\u001b\\\n\u001b[31mred\u001b[m plain \u001b[999999999999999999mnumber\u001b[38;5;300mwrong\u001b[\n";
  const { executionId } = await service.run("cat", { stdin: output });
  await page.evaluate((id) => (location.hash = `#/executions/${id}`), executionId);
  await ended(page);
  await page.waitForFunction(() => document.querySelectorAll("#execution .row").length >= 5);
  assert.deepEqual(await rows(page), ["alink", "", "next", "cleared?", "red plain numberwrong"]);
  assert.equal(await page.title(), "Execution · Portcullis");
  assert.equal(await page.$("#execution .output a"), null);
  await unharmed(page);
});

test("a script that tried to make markup would be refused by the browser", async (t) => {
  // That is the policy, not our care.
  const page = await open(t, service);
  const refused = await page.evaluate(() => {
    try {
      document.createElement("div").innerHTML = "<b>x</b>";
      return "made";
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(refused, "TypeError");
  page.mayViolate();
});
