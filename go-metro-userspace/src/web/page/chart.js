// Drawings of one pair: its round trips over time with bands of quantiles, and their distribution.

import { attribute, clock, compact, count, counted, h, logTicks, mark, ms, s, ticks, text } from "./format.js";

const HEIGHT = { course: 262, distribution: 180 };
const ROOM = { left: 52, right: 10, top: 26, bottom: 40 };
/** Most bars of a distribution. */
const BARS = 64;
/** How many times the low end of a distribution's axis the high end is at least. */
const NARROWEST = 1.1;

/** A drawing that is as wide as its place, and is drawn again when that changes. */
class Drawing {
  constructor(place, height) {
    this.place = place;
    this.height = height;
    this.width = place.clientWidth || 640;
    this.svg = s("svg", { role: "img", height });
    place.replaceChildren(this.svg);
    new ResizeObserver(() => {
      const width = place.clientWidth;
      if (width > 0 && width !== this.width) {
        this.width = width;
        this.draw();
      }
    }).observe(place);
  }

  get inner() {
    const { left, right, top, bottom } = ROOM;
    return { left, top, right: this.width - right, bottom: this.height - bottom };
  }

  begin(label) {
    attribute(this.svg, "viewBox", `0 0 ${this.width} ${this.height}`);
    attribute(this.svg, "aria-label", label);
    return [];
  }

  /** Says in the middle that there is nothing to draw. */
  nothing(words) {
    const [x, y] = [this.width / 2, this.height / 2];
    return s("text", { class: "nothing", x: fixed(x), y: fixed(y), "text-anchor": "middle" }, words);
  }
}

/** A scale from values to places, with the marks of its axis. */
function scale([low, high], [from, to], isLog, about) {
  if (isLog) {
    const [a, b] = [Math.log(low), Math.log(high)];
    const at = (value) => from + ((Math.log(Math.max(value, low)) - a) / (b - a)) * (to - from);
    let marks = logTicks(low, high);
    if (marks.length > about * 2) marks = marks.filter((value) => /^1/.test(value.toExponential()));
    if (marks.length < 2) marks = ticks(low, high, about);
    return { at, marks };
  }
  return { at: (value) => from + ((value - low) / (high - low)) * (to - from), marks: ticks(low, high, about) };
}

const fixed = (number) => number.toFixed(1);

/** Round trips over time. */
export class Course extends Drawing {
  constructor(place, say) {
    super(place, HEIGHT.course);
    this.say = say;
    this.cross = s("line", { class: "cross", visibility: "hidden" });
    // With a keyboard one moves through the seconds as on a slider, which says what each had.
    const names = { "aria-label": "Second", "aria-describedby": "zone" };
    this.slider = h("div", { class: "hidden", role: "slider", tabindex: 0, ...names });
    place.prepend(this.slider);
    this.slider.addEventListener("keydown", (event) => this.pressed(event));
    this.slider.addEventListener("blur", () => this.leave());
    place.addEventListener("pointermove", (event) => this.point(event.clientX - place.getBoundingClientRect().left));
    place.addEventListener("pointerleave", () => this.leave());
  }

  show(points, options) {
    this.points = points;
    this.options = options;
    this.draw();
  }

  draw() {
    if (!this.points) return;
    const { points, options, inner } = this;
    const timed = points.filter((point) => point.p50 !== null);
    const parts = this.begin(this.summary(timed));
    const [left, right] = [options.from, options.until];
    this.x = (at) => inner.left + ((at - left) / (right - left)) * (inner.right - inner.left);
    const shown = timed.filter((point) => point.at >= left);
    this.seen = points.filter((point) => point.at >= left && point.at <= right);
    const values = shown.flatMap((point) => [point.min, point.max]).concat(options.base ?? []);
    const isLog = options.scale === "log" && values.length > 0;
    const most = Math.max(0, ...values) || 1;
    const least = isLog ? Math.min(...values) / 1.15 : 0;
    const range = isLog ? [Math.max(least, 1e-4), most * 1.15] : [0, most * 1.06];
    const y = scale(range, [inner.bottom, inner.top], isLog, 4);
    for (const value of values.length > 0 ? y.marks : []) {
      const at = fixed(y.at(value));
      parts.push(s("line", { class: "grid", x1: inner.left, x2: inner.right, y1: at, y2: at }));
      parts.push(s("text", { x: inner.left - 7, y: Number(at) + 4, "text-anchor": "end" }, mark(value)));
    }
    if (values.length > 0) parts.push(s("text", { x: 2, y: 10 }, "ms"));
    if (shown.length === 0 && options.isKnown) parts.push(this.nothing("No round trips in this span"));
    this.times(parts, left, right);
    for (const run of runs(shown, Math.max(3500, (right - left) / 80))) {
      const line = (of) => run.map((point) => `${fixed(this.x(point.at))} ${fixed(y.at(of(point)))}`);
      const area = (low, high) => `M${line(high).join("L")}L${line(low).reverse().join("L")}Z`;
      if (run.length === 1) {
        const [point] = run;
        const x = fixed(this.x(point.at));
        parts.push(s("line", { class: "lone", x1: x, x2: x, y1: fixed(y.at(point.min)), y2: fixed(y.at(point.max)) }));
      } else {
        parts.push(s("path", { class: "far", d: area((point) => point.p95, (point) => point.max) }));
        parts.push(s("path", { class: "near", d: area((point) => point.p50, (point) => point.p95) }));
      }
      parts.push(s("path", { class: "median", d: `M${line((point) => point.p50).join("L")}h.01` }));
    }
    if (options.base) {
      const at = fixed(y.at(options.base));
      parts.push(s("line", { class: "base", x1: inner.left, x2: inner.right, y1: at, y2: at }));
    }
    this.marks(parts);
    attribute(this.cross, "y1", inner.top);
    attribute(this.cross, "y2", inner.bottom + 14);
    this.svg.replaceChildren(...parts, this.cross);
    attribute(this.slider, "aria-valuemin", 0);
    attribute(this.slider, "aria-valuemax", Math.max(0, this.seen.length - 1));
    this.move(this.chosen === undefined ? undefined : this.seen.findIndex((point) => point.at === this.chosen));
  }

  /** The axis of time. */
  times(parts, left, right) {
    const { inner } = this;
    const about = Math.max(2, Math.floor((inner.right - inner.left) / 90));
    const step = [5, 10, 15, 30, 60, 120, 300, 600].find((seconds) => (right - left) / 1000 / seconds <= about) ?? 900;
    for (let at = Math.ceil(left / 1000 / step) * step * 1000; at <= right; at += step * 1000) {
      const x = fixed(this.x(at));
      parts.push(s("line", { class: "grid", x1: x, x2: x, y1: inner.bottom, y2: inner.bottom + 4 }));
      const place = Math.min(Math.max(Number(x), inner.left + 14), inner.right - 14);
      parts.push(s("text", { x: place, y: this.height - 6, "text-anchor": "middle" }, clock(at, step < 60)));
    }
  }

  /** What was retransmitted is a stroke below, the longer the more; a reset is a cross above, a failure a wedge. */
  marks(parts) {
    const { inner } = this;
    for (const point of this.seen) {
      const x = fixed(this.x(point.at));
      if (point.retransmits > 0) {
        const length = Math.min(14, 4 + 3 * Math.log2(point.retransmits));
        const below = inner.bottom + 18;
        parts.push(s("line", { class: "resent", x1: x, x2: x, y1: below, y2: fixed(below - length) }));
      }
      if (point.resets > 0) parts.push(s("path", { class: "reset", d: `M${x} 18m-4-4l8 8m0-8l-8 8` }));
      if (point.failed > 0) parts.push(s("path", { class: "reset", d: `M${x} 2m-4 0h8l-4 7z` }));
    }
  }

  summary(timed) {
    if (timed.length === 0) return "Round trips over time: none in this span";
    const medians = timed.map((point) => point.p50);
    const most = Math.max(...timed.map((point) => point.max));
    return `Round trips over time: medians from ${ms(Math.min(...medians))} to ${ms(Math.max(...medians))} ms, ` +
      `largest ${ms(most)} ms, of ${counted(timed.length, "second")} with samples`;
  }

  point(x) {
    if (!this.seen?.length) return;
    const distance = (point) => Math.abs(this.x(point.at) - x);
    let nearest = 0;
    this.seen.forEach((point, at) => {
      if (distance(point) < distance(this.seen[nearest])) nearest = at;
    });
    this.move(nearest);
  }

  pressed(event) {
    const last = (this.seen?.length ?? 0) - 1;
    const at = this.seen?.findIndex((point) => point.at === this.chosen) ?? -1;
    const from = at < 0 ? last : at;
    const to = {
      ArrowLeft: from - 1, ArrowRight: from + 1, ArrowDown: from - 1, ArrowUp: from + 1, PageDown: from - 10,
      PageUp: from + 10, Home: 0, End: last,
    }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.move(Math.max(0, Math.min(to, last)));
  }

  move(at) {
    const point = this.seen?.[at];
    if (!point) return this.leave();
    this.chosen = point.at;
    const x = fixed(this.x(point.at));
    attribute(this.cross, "x1", x);
    attribute(this.cross, "x2", x);
    attribute(this.cross, "visibility", "visible");
    const said = spelled(point);
    attribute(this.slider, "aria-valuenow", at);
    attribute(this.slider, "aria-valuetext", said);
    this.say(said);
  }

  leave() {
    this.chosen = undefined;
    attribute(this.cross, "visibility", "hidden");
    const last = this.seen?.at(-1);
    attribute(this.slider, "aria-valuenow", Math.max(0, (this.seen?.length ?? 0) - 1));
    attribute(this.slider, "aria-valuetext", last ? spelled(last) : "nothing");
    this.say("");
  }
}

/** What a second had, in words. */
function spelled(point) {
  const parts = [clock(point.at)];
  if (point.p50 === null) parts.push("no samples");
  else {
    parts.push(counted(point.count, point.connect ? "handshake" : "sample"), `min ${ms(point.min)}`);
    parts.push(`p50 ${ms(point.p50)}`, `p95 ${ms(point.p95)}`, `max ${ms(point.max)} ms`);
  }
  if (point.retransmits > 0) parts.push(`${count(point.retransmits)} retransmitted`);
  if (point.failed > 0) parts.push(`${count(point.failed)} failed to connect`);
  if (point.resets > 0) parts.push(`${count(point.resets)} reset`);
  return parts.join(" · ");
}

/** Points that follow each other without a longer gap. */
function runs(points, gap) {
  const all = [];
  let before = -Infinity;
  for (const point of points) {
    if (point.at - before > gap) all.push([]);
    all.at(-1).push(point);
    before = point.at;
  }
  return all;
}

/** The distribution of the span's samples. */
export class Distribution extends Drawing {
  constructor(place) {
    super(place, HEIGHT.distribution);
  }

  /** Shows all on a logarithmic scale; on a linear one what is far above p99 is counted and not drawn. */
  show(buckets, marks, { isLog, isKnown }) {
    this.buckets = buckets;
    this.quantiles = marks;
    this.isLog = isLog;
    this.isKnown = isKnown;
    this.draw();
  }

  draw() {
    if (!this.buckets) return;
    const { inner } = this;
    const total = (buckets) => buckets.reduce((sum, [, , number]) => sum + number, 0);
    const all = total(this.buckets);
    const most = this.isLog ? Infinity : far(this.buckets, this.quantiles);
    const bars = merged(this.buckets.filter(([, to]) => to <= most));
    const above = all - total(bars);
    const marks = this.quantiles.map(([name, value]) => `${name} ${ms(value)}`).join(", ");
    const what = all > 0 ? `Distribution of ${counted(all, "sample")}: ${marks} ms` : "Distribution: no samples";
    const parts = this.begin(what);
    if (all === 0 && this.isKnown) parts.push(this.nothing("No samples in this span"));
    if (all > 0) {
      const [low, high] = padded(bars[0][0], bars.at(-1)[1]);
      const x = scale([low, high], [inner.left, inner.right], this.isLog && low > 0 && high / low > 2, 6);
      const tallest = Math.max(...bars.map(([, , number]) => number));
      const y = scale([0, tallest], [inner.bottom + 16, inner.top], false, 3);
      for (const value of y.marks.filter(Number.isInteger)) {
        const at = fixed(y.at(value));
        parts.push(s("line", { class: "grid", x1: inner.left, x2: inner.right, y1: at, y2: at }));
        parts.push(s("text", { x: inner.left - 7, y: Number(at) + 4, "text-anchor": "end" }, compact(value)));
      }
      let right = -Infinity;
      for (const value of x.marks.filter((value) => value >= low && value <= high)) {
        const [place, label] = [x.at(value), mark(value)];
        const half = 4 * label.length;
        // One that would touch the one before is left out, and one that would stand out.
        if (place - half < right || place + half > this.width) continue;
        parts.push(s("text", { x: fixed(place), y: this.height - 6, "text-anchor": "middle" }, label));
        right = place + half + 6;
      }
      for (const [from, to, number] of bars) {
        const [a, b, top] = [x.at(Math.max(from, low)), x.at(to), y.at(number)];
        const width = Math.max(1, b - a - 0.8);
        const height = Math.max(number > 0 ? 1 : 0, inner.bottom + 16 - top);
        const [left, up, wide, high] = [a, inner.bottom + 16 - height, width, height].map(fixed);
        parts.push(s("rect", { class: "bar-of", x: left, y: up, width: wide, height: high }));
      }
      let free = -Infinity;
      for (const [name, value] of this.quantiles) {
        const at = x.at(Math.min(Math.max(value, low), high));
        parts.push(s("line", { class: "mark", x1: fixed(at), x2: fixed(at), y1: 14, y2: inner.bottom + 16 }));
        // A name that would stand in another one is left out.
        if (at - free < 26) continue;
        parts.push(s("text", { x: fixed(Math.min(at, inner.right - 12)), y: 10, "text-anchor": "middle" }, name));
        free = at;
      }
      if (above > 0) {
        const said = `${compact(above)} above ${ms(high)} →`;
        parts.push(s("text", { x: inner.right, y: inner.bottom + 6, "text-anchor": "end" }, said));
      }
    }
    this.svg.replaceChildren(...parts);
  }
}

/** Up to where a linear scale goes, so that a few far ones do not press the others together. */
function far(buckets, quantiles) {
  const [low, p99] = [buckets[0]?.[0] ?? 0, quantiles.at(-1)?.[1] ?? Infinity];
  return Math.max(low + (p99 - low) * 1.6, low * 1.02, buckets[0]?.[1] ?? 0);
}

/** A range that is not so narrow that a single bucket fills it. */
function padded(low, high) {
  if (low <= 0 || high / low >= NARROWEST) return [low, high];
  const more = Math.sqrt((NARROWEST * low) / high);
  return [low / more, high * more];
}

/** Buckets side by side made one until there are few enough, the gaps between them filled. */
function merged(buckets) {
  if (buckets.length === 0) return [];
  const ratio = (buckets.at(-1)[1] / Math.max(buckets[0][0], buckets[0][1] / 2)) ** (1 / BARS);
  const bars = [];
  for (const [from, to, number] of buckets) {
    const last = bars.at(-1);
    if (last && to <= Math.max(last[0], last[1] / 2) * ratio * 1.0001) {
      last[1] = to;
      last[2] += number;
    } else bars.push([from, to, number]);
  }
  return bars;
}

/** What the colours and shapes of the course mean. */
export function legend(list, hasBase) {
  const key = (...drawing) => s("svg", { viewBox: "0 0 18 12", "aria-hidden": "true" }, ...drawing);
  const entries = [
    [key(s("path", { class: "median", d: "M1 6h16" })), "p50"],
    [key(s("rect", { class: "near", width: 18, height: 12 })), "p50 to p95"],
    [key(s("rect", { class: "far", width: 18, height: 12 })), "p95 to max"],
    hasBase ? [key(s("line", { class: "base", x1: 0, x2: 18, y1: 6, y2: 6 })), "base, lowest of ten minutes"] : null,
    [key(s("line", { class: "resent", x1: 9, x2: 9, y1: 1, y2: 11 })), "retransmitted"],
    [key(s("path", { class: "reset", d: "M5 2l8 8m0-8l-8 8" })), "reset"],
    [key(s("path", { class: "reset", d: "M5 3h8l-4 7z" })), "failed to connect"],
  ];
  const items = entries.filter(Boolean).map(([drawing, name]) => h("li", {}, drawing, name));
  if (list.children.length !== items.length) list.replaceChildren(...items);
}

/** Sets what stands below a drawing. */
export const caption = (element) => (words) => text(element, words);
