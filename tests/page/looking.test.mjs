// The page for everybody: by keyboard, on a phone, in dark and light, enlarged, with a screen reader.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { ended, judged, open, ran } from "./browser.mjs";
import { Service } from "./service.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let service;
before(async () => {
  service = await Service.start();
  await service.run("seq 1 300");
  await service.run("cat missing");
});
after(() => service.stop());

const COLOURS = "printf '\\033[30m0\\033[31m1\\033[32m2\\033[33m3\\033[34m4\\033[35m5\\033[36m6\\033[37m7\\033[90m8\\033[91m9\\033[92ma\\033[93mb\\033[94mc\\033[95md\\033[96me\\033[97mf\\n\\033[0;41mred\\033[42mgreen\\033[43myellow\\033[44mblue\\033[47mwhite\\033[103mbright\\033[0m\\n\\033[38;5;226mpale\\033[38;5;17mdeep\\033[38;2;250;250;250mlight\\033[38;2;5;5;5mblack\\033[0;7minverse\\033[0;2mdim\\n'; cat missing";

// Takes the page to each of its places, in each of its states.
const STATES = {
  "the run page": (page) => page.waitForSelector("#recent-records .entry"),
  "a refusal": (page) => judged(page, "ls -R && rm -rf /etc/passwd ; echo $(x)"),
  "a permission": (page) => judged(page, "cat a | grep b"),
  "an execution": async (page) => {
    await ran(page, COLOURS);
    await page.fill("#execution input[type=search]", "e");
    await page.waitForSelector("#execution mark");
    await page.click("summary");
  },
  "what runs": async (page) => {
    await page.fill("#line", "sleep 20");
    await page.press("#line", "Enter");
    await page.waitForSelector("#execution .status.running");
  },
  "the history": async (page) => {
    await page.evaluate(() => (location.hash = "#/executions"));
    await page.waitForSelector("#records .entry");
  },
  "what is allowed": async (page) => {
    await page.evaluate(() => (location.hash = "#/allowed"));
    await page.waitForSelector("#programs tbody tr");
  },
  "nothing there": async (page) => {
    await page.evaluate(() => (location.hash = "#/executions/none"));
    await page.waitForSelector("#execution .empty");
  },
  "the shortcuts": async (page) => {
    await page.click("#help-open");
    await page.waitForSelector("#help[open]");
  },
};

async function signIn(page) {
  await page.fill("#token", service.token);
  await page.press("#token", "Enter");
  await page.waitForSelector("#line:focus");
}

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing in any state in ${colorScheme}`, async (t) => {
    const page = await open(t, service, { colorScheme, reducedMotion: "reduce", token: null });
    const audit = async (state) => {
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
      assert.deepEqual(violations.map(({ id, help, nodes }) => `${state}: ${id}: ${help}: ${nodes.slice(0, 4).map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n")}`), []);
    };
    await audit("signing in");
    await signIn(page);
    for (const [state, reach] of Object.entries(STATES)) {
      await reach(page);
      await audit(state);
    }
  });
}

for (const [name, options] of [["a phone of 360 pixels", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }], ["a desktop enlarged twice", { viewport: { width: 640, height: 400 }, deviceScaleFactor: 2 }], ["320 pixels", { viewport: { width: 320, height: 500 } }]]) {
  test(`nothing has to be scrolled sideways on ${name}`, async (t) => {
    const page = await open(t, service, options);
    for (const [state, reach] of Object.entries(STATES)) {
      await reach(page);
      const [wide, over] = await page.evaluate(() => {
        const width = document.documentElement.clientWidth;
        const clipped = (element) => element.closest(".output, .spoken, dialog, .entry code, .skip, .mirror");
        const beyond = [...document.querySelectorAll("body *")].filter((element) => !clipped(element) && element.getClientRects().length > 0 && element.getBoundingClientRect().right > width + 1);
        return [document.documentElement.scrollWidth - width, beyond.map((element) => `${element.tagName}.${element.className} #${element.id}`)];
      });
      assert.deepEqual([wide, over], [0, []], state);
      // What is touched is not too small for a finger (WCAG 2.2, 2.5.8).
      const small = await page.$$eval("button, select, input, summary", (all) => all.filter((one) => one.getClientRects().length > 0 && !one.closest(".check, .spoken")).map((one) => [one.textContent.slice(0, 20) || one.id, one.getBoundingClientRect()]).filter(([, box]) => box.height < 20 || box.width < 20).map(([text]) => text));
      assert.deepEqual(small, [], state);
    }
  });
}

test("colours follow the system or the choice, which a reload keeps", async (t) => {
  const page = await open(t, service, { colorScheme: "dark" });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await ground(), "rgb(16, 18, 20)");
  await page.emulateMedia({ colorScheme: "light" });
  assert.equal(await ground(), "rgb(245, 245, 242)");
  await page.click("#theme"); // light
  await page.click("#theme"); // dark
  assert.equal(await ground(), "rgb(16, 18, 20)");
  await page.reload();
  assert.equal(await ground(), "rgb(16, 18, 20)");
});

test("everything is reached by keyboard alone, and the focus is always seen", async (t) => {
  const page = await open(t, service, { token: null });
  await page.waitForSelector("#token:focus");
  await page.keyboard.type(service.token);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#line:focus");
  await page.keyboard.type("seq 1 500");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("cat missing");
  await page.keyboard.press("Enter");
  await ended(page);
  // Where the focus goes, it is seen.
  const seen = [];
  await page.keyboard.press("Escape");
  for (let at = 0; at < 40; at += 1) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const element = document.activeElement;
      if (element === document.body) return null;
      const style = getComputedStyle(element);
      const drawn = (style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) >= 2) || style.boxShadow !== "none";
      return { what: element.id || element.className || element.textContent.slice(0, 20), drawn };
    });
    if (focused === null) continue; // past the end, and around
    assert.ok(focused.drawn, `the focus on ${focused.what} is not seen`);
    seen.push(focused.what);
  }
  for (const wanted of ["skip", "theme", "help-open", "leave", "line", "run", "output"]) assert.ok(seen.includes(wanted), `${wanted} in ${seen}`);
  // Shortcuts, outside fields alone.
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("s");
  await page.keyboard.type("77");
  await page.waitForFunction(() => document.querySelector("#execution .count").textContent.includes("found"));
  await page.keyboard.press("Enter");
  await page.waitForSelector("#execution mark.current");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.keyboard.press("o");
  await page.waitForSelector(".output:focus");
  await page.keyboard.press("End");
  await page.waitForFunction(() => [...document.querySelectorAll("#execution .gutter")].at(-1)?.dataset.line === "501");
  await page.keyboard.press("h");
  await page.waitForSelector("#records .entry");
  await page.keyboard.press("a");
  await page.waitForSelector("#programs tbody tr");
  await page.keyboard.press("?");
  await page.waitForSelector("#help[open]");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector("#help").open);
  await page.keyboard.press("/");
  await page.waitForSelector("#line:focus");
  await page.keyboard.type("h?a");
  assert.match(await page.inputValue("#line"), /h\?a$/);
  // The skip link leads past the head.
  await page.evaluate(() => document.activeElement.blur());
  await page.focus("#skip");
  await page.keyboard.press("Enter");
  await page.waitForSelector("main:focus");
});

test("who listens hears verdicts and ends, and not each line of output", async (t) => {
  const page = await open(t, service);
  await page.evaluate(() => {
    window.heard = [];
    new MutationObserver(() => window.heard.push(document.querySelector("#announcer").textContent)).observe(document.querySelector("#announcer"), { childList: true });
  });
  await page.fill("#line", "rm x");
  await page.waitForFunction(() => window.heard.some((text) => text.startsWith("Refused: `rm` is not allowed")));
  await ran(page, "seq 1 1000");
  await page.waitForFunction(() => window.heard.some((text) => text.startsWith("Completed, exit code 0, 1000 lines")));
  assert.ok((await page.evaluate(() => window.heard.length)) < 8);
  assert.deepEqual(await page.$eval(".output", (output) => [output.getAttribute("role"), output.getAttribute("aria-live"), output.getAttribute("aria-label")]), ["log", "off", "Output"]);
});

test("who wants no motion gets none", async (t) => {
  const page = await open(t, service, { reducedMotion: "reduce" });
  await page.fill("#line", "sleep 20");
  await page.press("#line", "Enter");
  await page.waitForSelector("#execution .status.running");
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
});
