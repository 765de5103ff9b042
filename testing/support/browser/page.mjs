// Uses the page as people do, in a real browser, and prints what it found as JSON. What it is given is in the
// environment: ASKED, a document with the fields of `asked` below. It is run where the daemon's port can be reached.

import { createRequire } from "node:module";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** `tools`, `browser`, `profile` and `pictures` are paths; `url` is the page's; `remote` a pair's other end. */
const asked = JSON.parse(process.env.ASKED);
const require = createRequire(join(asked.tools, "package.json"));
const { chromium } = require("playwright-core");
const axe = require("axe-core");

const LIMIT = 60_000;
const OPTIONS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

const found = { steps: [], trouble: [], requests: [], violations: [], overflow: [], pictures: [] };
const step = (name, what) => found.steps.push({ name, what });

/** Follows what a page asks for, and what goes wrong in it. */
function watch(page) {
  page.on("request", (request) => found.requests.push(request.url()));
  page.on("console", (line) => line.type() === "error" && found.trouble.push(`console: ${line.text()}`));
  page.on("pageerror", (error) => found.trouble.push(`error: ${error.message}`));
  page.setDefaultTimeout(LIMIT);
}

/** What axe-core has against the page as it is now. */
async function check(page, state) {
  // Through the debugger: the page's own policy lets no script in.
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, help, nodes } of violations) {
    found.violations.push({ state, id, help, nodes: nodes.map((node) => node.html) });
  }
  step("axe-core", { state, passed: passes.length });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) found.overflow.push({ state, wide });
}

async function picture(page, name) {
  const path = join(asked.pictures, `${name}.png`);
  await page.screenshot({ path, fullPage: name.includes("whole") });
  found.pictures.push(path);
}

const rows = (page) => page.locator("tbody tr.row");
const cells = (page, key) => page.locator(`tbody tr.row td[data-key="${key}"]`).allTextContents();
const heading = (page, key) => page.locator(`thead th[data-key="${key}"]`);

/** Sorts by a column; which way, and what it shows. */
async function sort(page, key) {
  await heading(page, key).locator("button").click();
  return { way: await heading(page, key).getAttribute("aria-sort"), cells: await cells(page, key) };
}

async function waitForRows(page, least) {
  await page.waitForFunction((least) => document.querySelectorAll("tbody tr.row").length >= least, least);
}

/** Chooses, sorts, filters and groups; with mouse and keyboard. */
async function use(page) {
  await page.goto(asked.url);
  await waitForRows(page, asked.rows);
  step("rows", await page.locator("tbody tr.row th button").allTextContents());
  step("elements in names", await page.locator("tbody th button *").count());
  await check(page, "nothing chosen");
  step("p50 once", await sort(page, "p50"));
  step("p50 twice", await sort(page, "p50"));

  await page.getByLabel("Filter pairs").fill(asked.remote);
  await page.waitForFunction(() => document.querySelectorAll("tbody tr.row").length === 1);
  step("filtered", await page.locator("#pairs-count").textContent());
  await page.getByLabel("Filter pairs").press("Escape");
  await waitForRows(page, asked.rows);

  await page.getByLabel("Group by").selectOption("network");
  await page.locator("tbody tr.group").first().waitFor();
  step("groups", await page.locator("tbody tr.group th").allTextContents());
  await page.getByLabel("Group by").selectOption("");

  await page.getByRole("button", { name: asked.remote, exact: true }).focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  step("focus", await page.evaluate(() => document.activeElement.tagName));
  await page.getByRole("button", { name: asked.remote, exact: true }).press("Enter");
  await page.locator("#course path.median").first().waitFor();
  await page.locator("#distribution rect").first().waitFor();
  const address = page.url();
  step("address", address);
  step("title", await page.locator("#pair-title").textContent());

  // A link leads back to it.
  const other = await page.context().newPage();
  watch(other);
  await other.goto(address);
  await other.locator("#course path.median").first().waitFor();
  step("linked", {
    title: await other.locator("#pair-title").textContent(),
    sorted: await heading(other, "p50").getAttribute("aria-sort"),
  });
  await other.close();

  const slider = page.getByRole("slider", { name: "Second" });
  await slider.focus();
  await page.keyboard.press("Home");
  const first = await slider.getAttribute("aria-valuetext");
  await page.keyboard.press("End");
  const said = await page.locator("#moment").textContent();
  step("seconds", { first, last: await slider.getAttribute("aria-valuetext"), said });
  const marks = (selector) => page.locator(`#course ${selector}`).count();
  step("marks", { resent: await marks("line.resent"), reset: await marks("path.reset") });
  await page.getByLabel("Log", { exact: true }).check({ force: true });
  step("log scale", await page.evaluate(() => new URLSearchParams(location.hash.slice(1)).get("scale")));
  await page.getByLabel("Columns").selectOption("connections");
  step("connections", {
    resent: (await cells(page, "resent")), failed: await cells(page, "failed"),
    facts: await page.locator("#peer").textContent(),
  });
  await page.getByLabel("15 min").check({ force: true });
  await page.locator("#course path.median").first().waitFor();
  await check(page, "connections");

  // As pictures are to have it.
  await page.getByLabel("5 min", { exact: true }).check({ force: true });
  await page.getByLabel("Linear", { exact: true }).check({ force: true });
  await page.getByLabel("Columns").selectOption("times");
}

/** The numbers of the daemon's health on the page, once they stay as they are. */
async function health(page) {
  const read = () => page.evaluate(() => Object.fromEntries(
    [...document.querySelectorAll("#facts dd[data-field]")].map((dd) => [dd.dataset.field, dd.textContent]),
  ));
  let [before, now] = [null, await read()];
  const until = Date.now() + LIMIT;
  while (JSON.stringify(before) !== JSON.stringify(now) && Date.now() < until) {
    await page.waitForTimeout(6000);
    [before, now] = [now, await read()];
  }
  return now;
}

const context = await chromium.launchPersistentContext(asked.profile, {
  executablePath: asked.browser, headless: true, args: OPTIONS, viewport: { width: 1440, height: 950 },
  colorScheme: "light", reducedMotion: "reduce", timeout: LIMIT,
});
try {
  mkdirSync(asked.pictures, { recursive: true });
  const page = await context.newPage();
  watch(page);
  if (asked.use) {
    await use(page);
    await page.getByRole("button", { name: "Pause" }).click();
    step("paused", await page.getByRole("button", { name: "Resume" }).getAttribute("aria-pressed"));
    await page.getByRole("button", { name: "Resume" }).click();
  } else {
    await page.goto(asked.url);
    await waitForRows(page, asked.rows);
    await page.getByRole("button", { name: asked.remote, exact: true }).click();
    await page.locator("#course path.median").first().waitFor();
    await page.waitForTimeout(asked.exposure ?? 0);
  }
  await page.mouse.move(0, 0);
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of asked.widths) {
      await page.setViewportSize({ width, height: asked.height ?? 950 });
      await page.waitForTimeout(1500);
      await check(page, `${scheme}, ${width}`);
      await page.evaluate(() => scrollTo(0, 0));
      await picture(page, `${scheme}-${width}`);
      if (asked.whole) await picture(page, `${scheme}-${width}-whole`);
    }
  }
  if (asked.webp) {
    // For the documentation: smaller than the same as PNG.
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: asked.size[0], height: asked.size[1] });
    await page.waitForTimeout(3000);
    const session = await context.newCDPSession(page);
    const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 82 });
    writeFileSync(asked.webp, Buffer.from(data, "base64"));
  }
  if (asked.use) {
    await page.setViewportSize({ width: 1440, height: 950 });
    found.health = await health(page);
    found.status = await page.evaluate(async () => (await fetch("/api/v1/status")).json());
  }
} catch (error) {
  found.trouble.push(`${error.stack}`);
} finally {
  await context.close();
}
process.stdout.write(`${JSON.stringify(found)}\n`);
