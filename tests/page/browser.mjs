// Chromium, and what holds of every page that a test opens: nothing against the policy, nothing asked elsewhere, no error.
import assert from "node:assert/strict";
import { after } from "node:test";
import { chromium } from "playwright-core";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
let launched = null;

after(async () => (await launched)?.close());

// Opens a page. When it is closed, what it did against the rules fails the test.
export async function open(t, service, { path = "/", token = service.token, url = service.url, viewport = { width: 1280, height: 860 }, ...options } = {}) {
  launched ??= chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  const context = await (await launched).newContext({ viewport, ...options });
  const faults = [];
  const page = await context.newPage();
  const origin = new URL(url).origin;
  await page.exposeFunction("reportViolation", (text) => faults.push(`against the policy: ${text}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      window.reportViolation(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
    });
    window.longTasks = [];
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask", buffered: true });
  });
  page.on("request", (request) => {
    const asked = new URL(request.url());
    if (asked.origin !== origin && asked.protocol !== "blob:") faults.push(`asked elsewhere: ${request.url()}`);
    if (token && request.url().includes(token)) faults.push("the token is in an address");
  });
  page.on("pageerror", (error) => faults.push(`error: ${error.stack ?? error}`));
  page.on("console", (message) => {
    // A cut connection and an answer that says no are told there too, and are what some tests are about.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) faults.push(`console: ${message.text()}`);
  });
  page.on("dialog", (dialog) => {
    faults.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  // For a test that tries what is forbidden.
  let mayViolate = false;
  page.mayViolate = () => (mayViolate = true);
  t.after(async () => {
    await context.close();
    assert.deepEqual(faults.filter((fault) => !mayViolate || !/against the policy|This document requires/.test(fault)), []);
  });
  await page.goto(url + path);
  if (token) {
    await page.fill("#token", token);
    await page.press("#token", "Enter");
    await page.waitForSelector("#places:not([hidden])");
  }
  return page;
}

// Types a line and waits for its verdict.
export async function judged(page, line) {
  await page.fill("#line", line);
  await page.waitForSelector(".verdict:not(.stale):not(.idle)");
}

// Runs a line and waits until it has ended.
export async function ran(page, line) {
  await page.fill("#line", line);
  await page.press("#line", "Enter");
  await page.waitForFunction((line) => document.querySelector("#execution-title")?.textContent === line, line);
  await ended(page);
}

export const ended = (page) => page.waitForSelector("#execution .status:not(.scheduled):not(.running)");

// The output that can be seen, row by row.
export const rows = (page) => page.$$eval("#execution .row .line", (lines) => lines.map((line) => line.textContent));
