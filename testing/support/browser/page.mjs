// Uses the page as people do, in a real browser, and prints what it found as JSON. What it is given is in the
// environment: ASKED, a document with the fields of `asked` below. It is run where the daemon's port can be reached.

import { createRequire } from "node:module";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** `tools`, `browser`, `profile` and `pictures` are paths; `url` is the page's; `remote` a pair's other end; `use` and
 * `names` say what is tried; `zone` is the browser's time zone; `daemon` has parts of a status document. */
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
  step("elements in names", await page.locator("tbody th button :not(span)").count());
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
  // A click beside the name leaves the keyboard at the row.
  const focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  const [clicked, next] = [rows(page).nth(0), rows(page).nth(1)];
  const named = await Promise.all([clicked, next].map((row) => row.locator("th button").getAttribute("aria-label")));
  await clicked.locator('td[data-key="p50"]').click();
  const at = await focused();
  await page.keyboard.press("ArrowDown");
  step("arrow", { named, focused: [at, await focused()] });
  await clicked.locator('td[data-key="p50"]').click();
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
  await tabs(page);

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

/** As many tabs as a browser has connections to one host, and one more: each is seen in its turn. That they are hidden
 * from the start, as in the background, and come to the front is pretended, since no tab without a screen is hidden. */
async function tabs(page) {
  const all = [];
  for (let tab = 0; tab < 7; tab += 1) {
    const other = await page.context().newPage();
    watch(other);
    await other.addInitScript(() => {
      let hidden = true;
      Object.defineProperty(document, "hidden", { get: () => hidden });
      globalThis.turn = (to) => {
        hidden = to;
        document.dispatchEvent(new Event("visibilitychange"));
      };
    });
    await other.goto(asked.url);
    all.push(other);
  }
  const seen = [];
  // The first comes twice: it has been hidden then.
  for (const other of [...all, all[0]]) {
    await other.evaluate(() => globalThis.turn(false));
    await waitForRows(other, asked.rows);
    // Only a second that comes has these.
    await other.waitForFunction(() => /\d/.test(document.querySelector("#now-samples").textContent));
    seen.push(await rows(other).count());
    await other.evaluate(() => globalThis.turn(true));
  }
  for (const other of all) await other.close();
  step("tabs", seen);
}

/** What there is before any traffic, and while the daemon does not answer. Who waits for the pictures goes on then. */
async function nothing(page) {
  await page.goto(asked.url);
  const notice = page.locator("#none");
  await notice.filter({ hasText: "Waiting for TCP traffic" }).waitFor();
  step("empty", await notice.textContent());
  await page.waitForFunction(() => /\d/.test(document.querySelector("#now-packets").textContent));
  await check(page, "empty");
  await picture(page, "empty");
  await notice.filter({ hasText: "does not answer" }).waitFor();
  const [state, packets] = [page.locator("#state"), page.locator("#now-packets")];
  const daemon = page.locator("#daemon-what");
  step("gone", {
    state: await state.textContent(), packets: await packets.textContent(), daemon: await daemon.textContent(),
  });
  await check(page, "gone");
  await picture(page, "gone");
}

/** The line about pairs without round trips, and where it leads; with a keyboard. */
async function others(page) {
  const button = page.getByRole("button", { name: "no round trips" });
  await button.filter({ hasText: asked.refused }).waitFor();
  const said = await button.textContent();
  await page.getByLabel("Filter pairs").fill(asked.refusing);
  const notice = await page.locator("#none").textContent();
  await page.getByLabel("Filter pairs").press("Escape");
  await button.focus();
  await page.keyboard.press("Enter");
  const first = rows(page).first();
  step("others", {
    said, notice, columns: await page.getByLabel("Columns").inputValue(),
    focused: await page.evaluate(() => document.activeElement.getAttribute("aria-label")),
    announced: await page.locator("#said").textContent(), isLeft: await button.isVisible(),
    first: await first.locator("th button").textContent(),
    failed: await first.locator('td[data-key="failed"]').textContent(),
  });
  await first.locator("th button").click();
  await page.locator("#course path.reset").first().waitFor();
  const nothingIn = (drawing) => page.locator(`${drawing} .nothing`).textContent();
  step("refusing", { course: await nothingIn("#course"), distribution: await nothingIn("#distribution") });
  await page.goBack();
  await page.goBack();
  await button.waitFor();
  step("back", await page.getByLabel("Columns").inputValue());
}

/** What a page shows that a link leads to. */
async function opened(page, fragment) {
  const other = await page.context().newPage();
  watch(other);
  await other.goto(new URL(`/${fragment}`, asked.url).href);
  await other.locator("#course path.median").first().waitFor();
  const [shown, title] = [await other.locator("#pair-title").textContent(), await other.title()];
  const chosen = await other.locator("tr.chosen th button").getAttribute("aria-label");
  await other.close();
  return { shown, title, chosen };
}

/** Of each pair, where its link leads, and the link that an older page gave. */
async function links(page) {
  const { pairs } = await page.evaluate(async () => (await fetch("/api/v1/pairs?seconds=300")).json());
  for (const { src, dst, iface } of pairs.filter(({ data, side }) => data && side === "remote")) {
    const button = page.locator(`tbody tr:not(:has(.tag:not(:empty))) button[aria-label=${JSON.stringify(dst)}]`);
    await button.click();
    await page.locator("#course path.median").first().waitFor();
    const old = new URLSearchParams({ pair: [src, dst, iface, "remote"].join("~") });
    step("link", {
      dst, title: await button.getAttribute("title"), now: await opened(page, new URL(page.url()).hash),
      old: await opened(page, `#span=300&${old}`),
    });
    await page.getByRole("button", { name: "Close" }).click();
  }
  await page.goto(new URL("/#pair=no~such", asked.url).href);
  await waitForRows(page, asked.rows);
  step("no pair", { title: await page.title(), isShown: await page.locator("#pair").isVisible() });
  // One that there is not, beside choices that there are not.
  const gone = await page.context().newPage();
  watch(gone);
  const wrong = "span=9&sort=foo&group=zzz&columns=x&scale=x&y=z";
  await gone.goto(new URL(`/#pair=10.78.0.1~gone.example~eth0~remote&${wrong}`, asked.url).href);
  const between = gone.locator("#pair-between").filter({ hasText: "no such pair" });
  await between.waitFor();
  const keys = await gone.evaluate(() => [...new URLSearchParams(location.hash.slice(1)).keys()]);
  step("gone pair", { said: await between.textContent(), keys, title: await gone.locator("#pair-title").textContent() });
  await gone.close();
}

/** What of the table cannot be seen: columns beyond its place, and names whose ends are outside of their cells. */
const cut = (page) => page.evaluate(() => {
  const place = document.querySelector("#table-place");
  const wide = place.scrollWidth - place.clientWidth;
  const all = wide > 0 ? [`the table by ${wide}`] : [];
  let shortened = 0;
  for (const name of document.querySelectorAll("tbody .ends")) {
    const cell = name.closest("th, td").getBoundingClientRect();
    if (cell.width === 0) continue;
    const [front, end] = name.children;
    const { left, right, width } = end.getBoundingClientRect();
    if (width === 0 || left < cell.left || right > cell.right) all.push(name.textContent);
    if (front.scrollWidth > front.clientWidth) shortened += 1;
  }
  return { all, shortened };
});

/** By how many pixels the bar that stays at the top covers the chosen pair, once one has gone there, and the pair what
 * is below it, wherever one has scrolled to. */
const covered = (page) => page.evaluate(async () => {
  // What follows from the bar's height is there in the frame after the next.
  for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
  const [bar, pair, daemon] = ["#bar", "#pair", "#daemon"].map((its) => document.querySelector(its));
  const over = (one, other) => Math.max(0, one.getBoundingClientRect().bottom - other.getBoundingClientRect().top);
  pair.scrollIntoView();
  const by = over(bar, pair);
  let daemonBy = 0;
  for (let y = 0; y <= document.documentElement.scrollHeight; y += 100) {
    scrollTo(0, y);
    daemonBy = Math.max(daemonBy, over(pair, daemon));
  }
  return { by, daemonBy };
});

/** The table at each width, of either view, with a pair chosen and without. */
async function widths(page) {
  for (const columns of ["times", "connections"]) {
    await page.getByLabel("Columns").selectOption(columns);
    await page.getByLabel("Group by").selectOption(columns === "times" ? "" : "network");
    await heading(page, columns === "times" ? "p50" : "failed").locator("button").click();
    for (const isOpen of [true, false]) {
      if (isOpen) await rows(page).first().locator("th button").click();
      else await page.getByRole("button", { name: "Close" }).click();
      for (const width of asked.tried) {
        await page.setViewportSize({ width, height: 950 });
        step("width", { columns, isOpen, width, ...await cut(page) });
        if (!isOpen || columns !== "times") continue;
        // So low that there is something to scroll.
        await page.setViewportSize({ width, height: 500 });
        step("covered", { width, ...await covered(page) });
      }
    }
  }
  await page.setViewportSize({ width: 1440, height: 950 });
  await page.getByLabel("Columns").selectOption("times");
  await page.getByLabel("Group by").selectOption("");
}

/** Names of any length and with any characters, and what the page says of times and numbers. */
async function names(page) {
  await nothing(page);
  await waitForRows(page, asked.rows);
  step("rows", await page.locator("tbody tr.row th button").allTextContents());
  step("elements in names", await page.locator("tbody th button :not(span)").count());
  await others(page);
  await links(page);
  await page.goto(asked.url);
  await waitForRows(page, asked.rows);
  await widths(page);
  // On a small screen the pair is below the table.
  await page.setViewportSize({ width: 360, height: 640 });
  const button = rows(page).first().locator("th button");
  await button.click();
  await page.locator("#course path.median").first().waitFor();
  const top = await page.locator("#pair").evaluate((pair) => pair.getBoundingClientRect().top);
  step("small", { top, focused: await page.evaluate(() => document.activeElement.id) });
  const slider = page.getByRole("slider", { name: "Second" });
  const said = await slider.getAttribute("aria-valuetext");
  const described = await slider.getAttribute("aria-describedby");
  await page.route("**/api/v1/pairs?*", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), left_out: 1234 } });
  });
  const counted = page.locator("#pairs-count").filter({ hasText: "left out" });
  await counted.waitFor();
  step("left out", await counted.textContent());
  await page.route("**/api/v1/status", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), ...asked.daemon } });
  });
  const responses = page.locator("#facts h3").filter({ hasText: /^Responses$/ });
  await responses.waitFor();
  step("daemon", await page.evaluate(() => {
    const cards = [...document.querySelectorAll("#facts > div")];
    const lines = (card) => [...card.querySelectorAll("li, .facts > div")].map((line) => line.textContent);
    return Object.fromEntries(cards.map((card) => [card.firstElementChild.textContent, lines(card)]));
  }));
  await page.unrouteAll({ behavior: "wait" });
  step("zone", { said, zone: await page.locator(`#${described}`).textContent() });
  step("functions", await page.evaluate(async (odd) => {
    const [{ counted, listed }, { named, parts, read, written }, { network }] =
      await Promise.all(["/format.js", "/state.js", "/table.js"].map((path) => import(path)));
    const kept = odd.filter((dst) => {
      const row = { src: dst, dst, iface: dst, side: "local" };
      const state = { ...read(""), pair: named(row), filter: dst };
      const again = read(written(state));
      return again.filter === dst && JSON.stringify(parts(again.pair)) === JSON.stringify(row);
    });
    const prefixes = ["192.0.2.0/24:443", "[2001:db8::/32]:443", "192.0.2.7:443", "2001:db8:1:2::1", "a.b.example"];
    return {
      kept, counted: [0, 1, 2].map((value) => counted(value, "sample")), networks: prefixes.map(network),
      listed: [["eth0"], ["a", "b", "c", "d", "e"]].map((all) => listed(all)),
    };
  }, asked.odd));
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
  colorScheme: "light", reducedMotion: "reduce", timeout: LIMIT, timezoneId: asked.zone,
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
  } else if (asked.names) {
    await names(page);
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
