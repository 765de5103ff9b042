// The page: follows the daemon's seconds, asks for what they come to, and hands it to what draws it.

import { Course, Distribution, caption, legend } from "./chart.js";
import { $, NONE, attribute, count, covered, duration, h, listed, ms, perCent, rate, text, zone } from "./format.js";
import { show as showStatus } from "./health.js";
import { SPANS, named, parts, read, written } from "./state.js";
import { Table, failed, isColumn, resent, times } from "./table.js";

/** Milliseconds between two looks at the daemon's health. */
const STATUS_EVERY = 5000;
/** How much of a history that has only begun is shown, in seconds. */
const SHORTEST = 60;
/** Without a second for so long, what is shown is old. */
const SILENT = 6000;
/** How many pixels of a part of the page have to be seen. */
const IN_SIGHT = 120;
/** Milliseconds between two searches of the history for a pair that has nothing in the span. */
const SEEK_EVERY = 5000;
/** What there is before an answer. */
const UNASKED = { second: 0, at_ns: 0, covers_s: 0, left_out: 0, pairs: [] };

let state = read("", isColumn);
let pairs = UNASKED;
let chosen = null;
let before = null;
let paused = false;
let stream = null;
let came = 0;
let health = "waiting";
let asking = false;
let following = false;
let lost = false;
let turn = 0;
/** The last search of the history: for which pair, and how much of the history does not have it, in words. */
let sought = { name: "", at: 0, without: null };

const table = new Table(choose, sortBy);
const course = new Course($("course"), caption($("moment")));
const distribution = new Distribution($("distribution"));

/** The row that the state names, if it has anything in the span. */
const row = () => pairs.pairs.find((its) => named(its) === state.pair) ?? null;

async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" }, credentials: "omit" });
  if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status });
  return answer.json();
}

/** Keeps the state in the address: as a step of its own where one may want to go back. */
function keep(changes, isStep = false) {
  state = { ...state, ...changes };
  const url = location.pathname + location.search + written(state);
  if (isStep) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}

/** Takes the state from the address, and out of the address what is not known. */
function restore() {
  state = read(location.hash, isColumn);
  keep({});
}

function choose(its) {
  const name = named(its);
  keep({ pair: name === state.pair ? "" : name }, true);
  chosen = null;
  draw(false);
  follow();
  // Nobody would notice what appears below a long table.
  if (state.pair && $("pair").getBoundingClientRect().top > innerHeight - IN_SIGHT) go("pair");
}

/** Goes to a part of the page. */
function go(section) {
  $(section).scrollIntoView();
  $(section).focus({ preventScroll: true });
}

function sortBy(key) {
  const isName = ["dst", "src", "iface"].includes(key);
  const [first, second] = isName ? [key, `-${key}`] : [`-${key}`, key];
  keep({ sort: state.sort === first ? second : first });
  draw(true);
}

/** Asks for all pairs; each second only if that is not being done, and nobody has paused meanwhile. */
async function load({ course: withCourse = false, anyway = false } = {}) {
  if (asking && !anyway) return;
  asking = true;
  turn += 1;
  const mine = turn;
  try {
    const told = await ask(`/api/v1/pairs?seconds=${state.span}${withCourse ? "&course=1" : ""}`);
    if (mine === turn && (!paused || anyway)) {
      pairs = told;
      recognise();
      draw(false);
    }
  } catch {
    // The stream says when the daemon is gone, and comes again with it.
  } finally {
    if (mine === turn) asking = false;
  }
}

/** The chosen pair may go by a name now that it had not, or have come only now. */
function recognise() {
  const same = chosen && pairs.pairs.find((its) => its.id === chosen.id);
  if (same && named(same) !== state.pair) keep({ pair: named(same) });
  const its = row();
  if (its && chosen?.id !== its.id) follow();
  if (!its && state.pair) seek();
}

/** Looks for a pair that has nothing in the span: one that was quiet is not one that there is not. */
async function seek() {
  const name = state.pair;
  if (sought.name === name && Date.now() - sought.at < SEEK_EVERY) return;
  sought = { name, at: Date.now(), without: sought.name === name ? sought.without : null };
  try {
    const longest = SPANS.at(-1);
    const told = await ask(`/api/v1/pairs?seconds=${longest}`);
    if (sought.name !== name) return;
    // One that is left out of the list may be there.
    const isThere = told.left_out > 0 || told.pairs.some((its) => named(its) === name);
    sought.without = isThere ? null : covered(longest, told.covers_s);
    drawPair();
  } catch {
    // The stream says when the daemon is gone.
  }
}

/** Why the chosen pair has nothing to show. */
function quiet(over) {
  const isMissing = sought.name === state.pair && sought.without !== null;
  return isMissing ? `no such pair in the last ${sought.without}` : `nothing in the last ${over}`;
}

/** Asks for the course of the chosen pair. */
async function follow() {
  const its = row();
  if (!its || following) return;
  following = true;
  try {
    const { span } = state;
    const told = await ask(`/api/v1/history?pair=${its.id}&seconds=${span}`);
    if (named(told.sums) !== state.pair || span !== state.span) return;
    const { seconds } = told;
    const points = seconds.at_ms.map((at, k) => ({
      at, count: seconds.count[k], connect: seconds.connect[k], min: seconds.min_ms[k], p50: seconds.p50_ms[k],
      p95: seconds.p95_ms[k], max: seconds.max_ms[k], retransmits: seconds.retransmits[k],
      failed: seconds.failed[k], resets: seconds.resets[k],
    }));
    const [from, until] = [told.from_ns / 1e6, told.at_ns / 1e6];
    chosen = { id: its.id, points, from, until, buckets: told.distribution, at: Date.now() };
    drawPair();
  } catch (error) {
    if (error.status === 404) chosen = null;
  } finally {
    following = false;
  }
}

/** A second of the daemon's. */
function second(event) {
  came = Date.now();
  const told = JSON.parse(event.data);
  now(told);
  if (health === "gone") look();
  if (paused) return;
  table.step();
  table.note(told.pairs);
  if (chosen) {
    const point = told.pairs.find((its) => its.id === chosen.id);
    chosen.until = told.at_ns / 1e6;
    if (point) {
      chosen.points.push({
        at: chosen.until, count: point.count, connect: point.connect ?? false, min: point.min_ms, p50: point.p50_ms,
        p95: point.p95_ms, max: point.max_ms, retransmits: point.retransmits, failed: point.failed,
        resets: point.resets,
      });
    }
    const first = chosen.until - 1000 * state.span;
    while (chosen.points[0]?.at < first) chosen.points.shift();
    // The distribution is of a whole span, and takes a question of its own.
    if (Date.now() - chosen.at > 5000) follow();
  }
  load();
}

/** What is so now, paused or not. */
function now({ backend, interfaces, counters, interval_s: interval }) {
  // The daemon's health names all of them.
  text($("now-where"), `${backend} on ${listed(interfaces) || "no interface"}`);
  text($("now-flows"), count(counters.flows));
  text($("now-lost"), count(counters.lost));
  $("now-lost").className = counters.lost > (before?.lost ?? counters.lost) ? "bad" : "";
  if (before && interval > 0) {
    const each = (name) => rate(Math.max(0, counters[name] - before[name]) / interval);
    text($("now-packets"), each("packets"));
    text($("now-samples"), each("samples"));
  }
  before = counters;
}

/** Looks at the daemon's health. */
async function look() {
  try {
    const status = await ask("/api/v1/status");
    set(status.state);
    if (!paused) showStatus(status);
  } catch {
    // Said by the stream, or by its silence.
  }
}

const STATES = {
  ok: ["ok", "The daemon answers."],
  degraded: ["degraded", "The daemon is degraded."],
  gone: ["no answer", "The daemon does not answer. Trying again."],
  waiting: ["connecting", ""],
};

function set(to) {
  if (health === to) return;
  const wasGone = health === "gone";
  health = to;
  $("state").dataset.state = to;
  text($("state"), STATES[to][0]);
  if (wasGone || to === "gone" || to === "degraded") text($("said"), STATES[to][1]);
  if (wasGone || to === "gone") draw(false);
}

/** Follows the daemon while the tab is visible: browsers open few connections to one host, for all of their tabs. A tab
 * may be hidden from the start, as one that is opened in the background. */
function attend() {
  if (document.hidden) {
    stream?.close();
    // A rate is that of one second, and not of those that the tab was hidden.
    before = null;
    return;
  }
  came = Date.now();
  connect();
}

/** Opens the stream, in place of the one before. */
function connect() {
  stream?.close();
  stream = new EventSource("/api/v1/events");
  stream.addEventListener("second", second);
  stream.addEventListener("open", opened);
  stream.addEventListener("error", () => {
    lose();
    // A refusal ends a stream for good.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => document.hidden || connect(), 3000);
  });
}

/** Seconds will come from now on; those before are asked for. */
function opened() {
  came = Date.now();
  if (paused) return;
  refresh();
}

/** Asks for all that is shown. What was lost meanwhile may be another daemon's by now, with other numbers. */
function refresh() {
  if (lost) {
    chosen = null;
    before = null;
    lost = false;
  }
  load({ course: true, anyway: true }).then(follow).then(look);
}

function lose() {
  lost = true;
  for (const id of ["now-packets", "now-samples", "now-flows", "now-lost"]) text($(id), NONE);
  text($("daemon-what"), "no answer; below is what it said last");
  set("gone");
}

/** Why no pair is there to list. */
function empty() {
  if (health === "gone") return STATES.gone[1];
  if (pairs === UNASKED) return "Asking the daemon.";
  return `Nothing in the last ${covered(state.span, pairs.covers_s)}. Waiting for TCP traffic of the targets.`;
}

function draw(asked) {
  table.show(pairs, state, empty(), asked);
  drawPair();
}

function tiles(its) {
  const samples = times(its);
  const all = [
    ["p50", ms(samples?.p50_ms), "ms"], ["p95", ms(samples?.p95_ms), "ms"], ["p99", ms(samples?.p99_ms), "ms"],
    ["Max", ms(samples?.max_ms), "ms"], ["Jitter", ms(samples?.jitter_ms), "ms"],
    ["Base", ms(its.base_ms), "ms"], ["Queueing", ms(its.queueing_ms), "ms"],
    [its.data ? "Samples" : "Handshakes", count(samples?.count ?? 0), ""],
    ["Retransmits", perCent(resent(its)), ""], ["Failed", count(failed(its)), ""],
  ];
  const tile = ([, value, unit]) => h("dd", {}, value, unit ? h("small", {}, ` ${unit}`) : null);
  return all.map((its) => h("div", {}, h("dt", {}, its[0]), tile(its)));
}

function connections({ peer }) {
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, count(value)));
  const each = (what, counts) => Object.entries(counts).filter(([, number]) => number > 0)
    .map(([cause, number]) => fact(`${what}, ${cause.replaceAll("_", " ")}`, number));
  return [
    fact("segments", peer.segments), fact("bytes", peer.bytes), ...each("retransmits", peer.retransmits),
    ...each("retransmits", { "spurious, of all": peer.spurious_retransmits }), ...each("connects", peer.connects),
    ...each("resets", { "by the local end": peer.resets.local, "by the remote end": peer.resets.remote }),
    fact("closed", peer.closes),
  ];
}

function drawPair() {
  const isChosen = state.pair !== "";
  $("pair").hidden = !isChosen;
  $("view").classList.toggle("with-pair", isChosen);
  const { src, dst, iface, side } = parts(state.pair);
  document.title = isChosen ? `${dst} – go-metro` : "go-metro";
  if (!isChosen) return;
  const its = row();
  text($("pair-title"), dst);
  const way = side === "local" ? "to the local end" : "and back";
  const over = covered(state.span, pairs.covers_s);
  text($("pair-between"), its ? `from ${src} ${way}, on ${iface}, over ${over}` : quiet(over));
  const blank = { data: null, connect: null, base_ms: null, queueing_ms: null, peer: null };
  $("tiles").replaceChildren(...tiles(its ?? blank));
  const base = its?.base_ms ?? null;
  legend($("legend"), base !== null);
  const until = chosen?.until ?? (pairs.at_ns / 1e6 || Date.now());
  text($("zone"), ` · time of day in ${zone(until)}`);
  const from = Math.max(until - 1000 * state.span, Math.min(chosen?.from ?? 0, until - 1000 * SHORTEST));
  const isKnown = chosen !== null || (its === null && pairs !== UNASKED);
  course.show(chosen?.points ?? [], { from, until, base, scale: state.scale, isKnown });
  const samples = its && times(its);
  const quantiles = samples ? [["p50", samples.p50_ms], ["p95", samples.p95_ms], ["p99", samples.p99_ms]] : [];
  const buckets = its && chosen?.buckets;
  const shown = buckets ? (buckets.data.length > 0 ? buckets.data : buckets.connect) : [];
  distribution.show(shown, quantiles, { isLog: state.scale === "log", isKnown });
  $("peer-title").hidden = !its?.peer;
  $("peer").replaceChildren(...(its?.peer ? connections(its) : []));
}

/** Choices that exclude each other, side by side. */
function segments(fieldset, name, choices, value, changed) {
  const each = choices.map(([its, label]) => {
    const input = h("input", { type: "radio", name, value: its });
    input.checked = String(its) === String(value);
    input.addEventListener("change", () => changed(its));
    return h("label", {}, input, h("span", {}, label));
  });
  fieldset.replaceChildren(fieldset.firstElementChild, ...each);
}

/** Sets what the state says into what one chooses it with. */
function controls() {
  const spans = SPANS.map((seconds) => [seconds, duration(seconds)]);
  segments($("spans"), "span", spans, state.span, (span) => {
    keep({ span });
    chosen = null;
    again();
  });
  segments($("scales"), "scale", [["linear", "Linear"], ["log", "Log"]], state.scale, (scale) => {
    keep({ scale });
    drawPair();
  });
  for (const key of ["filter", "group", "columns"]) $(key).value = state[key];
}

/** Shows what the state says, asking for it even while paused: somebody wants to see another part of it. */
async function again() {
  await load({ anyway: true });
  await follow();
  draw(true);
}

function pause() {
  paused = !paused;
  attribute($("pause"), "aria-pressed", paused);
  text($("pause"), paused ? "Resume" : "Pause");
  text($("said"), paused ? "Paused." : "Resumed.");
  if (!paused) refresh();
}

$("pause").addEventListener("click", pause);
$("close").addEventListener("click", () => {
  const button = document.querySelector("tr.chosen button");
  keep({ pair: "" }, true);
  chosen = null;
  draw(false);
  button?.focus();
});
$("filter").addEventListener("input", (event) => {
  keep({ filter: event.target.value });
  draw(true);
});
$("filter").addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.filter) {
    event.preventDefault();
    event.target.value = "";
    keep({ filter: "" });
    draw(true);
  }
});
for (const key of ["group", "columns"]) {
  $(key).addEventListener("change", (event) => {
    keep({ [key]: event.target.value });
    draw(true);
  });
}
$("others-button").addEventListener("click", () => {
  // Sorted by samples, those without any come first.
  keep({ columns: "connections", sort: "samples" }, true);
  $("columns").value = state.columns;
  draw(true);
  text($("said"), "Connections are shown; pairs without round trips come first.");
  $("table-place").focus();
});
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("pairs").focus();
});
$("state").addEventListener("click", () => go("daemon"));
window.addEventListener("popstate", () => {
  restore();
  chosen = null;
  controls();
  again();
});
document.addEventListener("visibilitychange", attend);
setInterval(() => {
  if (document.hidden) return;
  if (Date.now() - came > SILENT) {
    // A connection may be dead without an end, as through a tunnel.
    lose();
    connect();
  } else look();
}, STATUS_EVERY);

new ResizeObserver(() => {
  document.documentElement.style.setProperty("--bar", `${$("bar").offsetHeight}px`);
}).observe($("bar"));
restore();
controls();
draw(true);
attend();
