// Carets stand under what is refused, in any script, and what is said there is the service's own word.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { judged, open } from "./browser.mjs";
import { Service } from "./service.mjs";

let service;
before(async () => {
  service = await Service.start();
});
after(() => service.stop());

// What stands above the carets, and whether they are as wide as it and at its place: measured against a text of the same font without marks.
function carets(page) {
  return page.evaluate(() => {
    const mirror = document.querySelector("#mirror");
    const line = document.querySelector("#line");
    const plain = mirror.cloneNode(false);
    plain.textContent = `${line.value}\n`;
    mirror.parentElement.append(plain);
    const marks = [...mirror.querySelectorAll("mark")].map((mark) => {
      let from = 0;
      for (let node = mark.previousSibling; node; node = node.previousSibling) from += node.textContent.length;
      const range = document.createRange();
      range.setStart(plain.firstChild, from);
      range.setEnd(plain.firstChild, from + mark.textContent.length);
      const [wanted, found] = [range.getClientRects()[0], mark.getClientRects()[0]];
      return { text: mark.textContent, off: Math.max(Math.abs(wanted.left - found.left), Math.abs(wanted.right - found.right)), image: getComputedStyle(mark).backgroundImage };
    });
    plain.remove();
    const same = ["font", "letterSpacing", "tabSize", "whiteSpace", "paddingLeft", "width", "lineHeight", "overflowWrap"].filter((name) => getComputedStyle(mirror)[name] !== getComputedStyle(line)[name]);
    return { marks, same, box: [mirror.getBoundingClientRect().left - line.getBoundingClientRect().left, mirror.getBoundingClientRect().top - line.getBoundingClientRect().top] };
  });
}

test("carets stand under the refused part and nothing else, whatever is before it", async (t) => {
  const page = await open(t, service);
  for (const [line, wanted] of [
    ["cat /etc/passwd", ["/etc/passwd"]],
    ["rm x", ["rm"]],
    ["echo ä; rm x", ["rm"]],
    ["echo 漢字 | rm x", ["rm"]],
    ["echo 👩é🇨🇭 && cat /etc/漢字", ["/etc/漢字"]],
    ["echo a\tb\t; rm x", ["rm"]],
    ["echo a\nrm x\necho b", ["rm"]],
    ["ls && rm -rf / ; sudo ls", ["rm", "sudo"]],
    [`echo ${"x".repeat(300)} && cat /etc/passwd`, ["/etc/passwd"]],
  ]) {
    await judged(page, line);
    const { marks, same, box } = await carets(page);
    assert.deepEqual(marks.map(({ text }) => text), wanted, line);
    assert.deepEqual(same, [], "the mirror has the shape of the field");
    assert.deepEqual(box, [0, 0]);
    for (const { text, off, image } of marks) {
      assert.ok(off < 0.51, `${line}: the carets of ${text} are ${off} px off`);
      assert.match(image, /gradient/);
    }
  }
});

test("where something is missing the caret stands at its place", async (t) => {
  const page = await open(t, service);
  await judged(page, "echo 漢 |");
  const { marks } = await carets(page);
  assert.equal(marks.length, 1);
  assert.ok(await page.$eval("#mirror mark", (mark) => mark.getBoundingClientRect().width > 4));
});

test("what cannot be seen in a line is marked and spelled out", async (t) => {
  const page = await open(t, service);
  await judged(page, "echo a\u200db\u202ec");
  assert.ok((await page.$$eval("#mirror mark", (marks) => marks.map((mark) => mark.getBoundingClientRect().width))).every((width) => width > 4));
  const told = await page.textContent("#verdict .unseen-notice");
  assert.match(told, /2 kinds of characters that cannot be seen/);
  assert.match(told, /aU\+200DbU\+202Ec/);
});

test("the reason, the rule, the suggestion and every further denial are told", async (t) => {
  const page = await open(t, service);
  await judged(page, "ls -R && rm x");
  const told = await page.textContent("#verdict");
  for (const part of ["Refused", "no recursion", "name the directory", "it lists more than one means", "rm is not allowed", "allowed are cat, echo"]) assert.ok(told.includes(part), `${part} in ${told}`);
  await judged(page, "echo $(ls)");
  assert.match(await page.textContent("#verdict"), /syntax\//);
});

test("a refused line that is sent is refused there, too, and nothing runs", async (t) => {
  const page = await open(t, service);
  const before = (await service.api("GET", "/api/commands")).executions.length;
  await page.fill("#line", "rm x");
  await page.press("#line", "Enter");
  await page.waitForSelector(".verdict.bad:not(.stale)");
  assert.deepEqual((await carets(page)).marks.map(({ text }) => text), ["rm"]);
  assert.equal(await page.evaluate(() => location.hash), "");
  assert.equal((await service.api("GET", "/api/commands")).executions.length, before);
});

test("a verdict that comes late is not told of another line", async (t) => {
  const page = await open(t, service);
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/api/commands/validate", async (route) => {
    if (route.request().postDataJSON().command === "rm x") await held;
    await route.continue().catch(() => {});
  });
  const asked = page.waitForRequest((request) => request.url().endsWith("/validate") && request.postDataJSON().command === "rm x");
  await page.fill("#line", "rm x");
  const request = await asked;
  await judged(page, "echo x");
  release();
  await page.waitForSelector(".verdict.good:not(.stale)");
  assert.equal(await page.$("#mirror mark"), null);
  assert.ok(request.failure(), "the former question was given up");
});
