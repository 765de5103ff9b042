// The table of pairs: which rows, in what order, under which headings. Rows are kept from second to second, so that
// what is focused or selected stays so.

import { $, NONE, attribute, count, counted, h, ms, perCent, s, text } from "./format.js";
import { named } from "./state.js";

/** Rows that are drawn before one asks for more. */
const ROWS = 200;
/** Names of up to so many characters are never shortened: that of an IPv4 address. */
const WHOLE = 15;
/** Of a longer one so many stay at its end, before the port. */
const END = 6;
/** From which number on a cell is notable, and from which it is bad. */
const RESENT = [0.001, 0.01];

/** The samples that a row is of: those of data, or of handshakes where there are no others. */
export const times = (row) => row.data ?? row.connect;

/** Of segments with payload, the share that was retransmitted; a SYN has none. */
export function resent(row) {
  if (!row.peer?.segments) return null;
  const again = Object.entries(row.peer.retransmits).filter(([cause]) => cause !== "syn");
  return again.reduce((sum, [, number]) => sum + number, 0) / row.peer.segments;
}

const sum = (counts) => Object.values(counts).reduce((all, number) => all + number, 0);

/** Connections that were refused, did not come about, or were reset, then or later. */
export function failed(row) {
  if (!row.peer) return null;
  const { refused, timeout, reset } = row.peer.connects;
  return refused + timeout + reset + sum(row.peer.resets);
}

const figure = (key, title, priority) => ({ key, title, priority, of: (row) => times(row)?.[`${key}_ms`], show: ms });
const NAMES = [
  { key: "dst", title: "Remote", kind: "name", of: (row) => row.dst },
  { key: "src", title: "Local", kind: "text", priority: "p3", of: (row) => row.src },
  { key: "iface", title: "Interface", kind: "text", priority: "p3", of: (row) => row.iface },
  { key: "samples", title: "Samples", priority: "p1", of: (row) => times(row)?.count ?? 0, show: count },
];
const COLUMNS = {
  times: [
    ...NAMES,
    { key: "course", title: "Last minute", kind: "course", priority: "p2" },
    figure("last", "Last", "p0"),
    figure("avg", "Mean", "p4"),
    figure("min", "Min", "p3"),
    figure("p50", "p50"),
    figure("p95", "p95"),
    figure("p99", "p99", "p2"),
    figure("max", "Max", "p1"),
    figure("jitter", "Jitter", "p4"),
  ],
  connections: [
    ...NAMES,
    { key: "base", title: "Base", priority: "p2", of: (row) => row.base_ms, show: ms },
    { key: "queueing", title: "Queueing", priority: "p1", of: (row) => row.queueing_ms, show: ms },
    { key: "segments", title: "Segments", priority: "p3", of: (row) => row.peer?.segments, show: count },
    { key: "resent", title: "Retrans", of: resent, show: perCent, loud: RESENT },
    {
      key: "timeouts", title: "RTO", priority: "p2", of: (row) => row.peer?.retransmits.timeout, show: count,
      loud: [1, Infinity],
    },
    { key: "opened", title: "Opened", priority: "p2", of: (row) => row.peer?.connects.established, show: count },
    { key: "failed", title: "Failed", of: failed, show: count, loud: [Infinity, 1] },
  ],
};

/** Whether this is a column of either view that the table can be sorted by. */
export const isColumn = (key) => Object.values(COLUMNS).flat().some((its) => its.key === key && its.of);

/** The network that a remote end is in: of an address the 24 or 48 bits in front, of a name its last two labels. A
 * group of a prefix is one. */
export function network(dst) {
  const bare = dst.replace(/^\[(.*)\](:\d+)?$/, "$1");
  const prefix = bare.match(/^[\da-f.:]+\/\d+(?=:\d+$|$)/i);
  if (prefix) return prefix[0];
  const v4 = bare.match(/^(\d+\.\d+\.\d+)\.\d+(:\d+)?$/);
  if (v4) return `${v4[1]}.0/24`;
  if (/^[\da-f.:]+$/i.test(bare) && bare.split(":").length > 2) {
    const [front] = bare.split("::");
    const parts = front.split(":").concat(["0", "0", "0"]).slice(0, 3).map((part) => part || "0");
    return `${parts.join(":")}::/48`;
  }
  return bare.replace(/:\d+$/, "").split(".").slice(-2).join(".");
}

/** What is said of pairs that a list of round trips leaves out, such as a service that refuses all connections. */
function without(rows) {
  const failures = rows.reduce((all, row) => all + (failed(row) ?? 0), 0);
  const what = counted(rows.length, "pair has", "pairs have");
  const said = failures > 0 ? `, ${counted(failures, "failure", "failures")}` : "";
  return `${what} connections but no round trips${said}: show Connections`;
}

const GROUPS = { network: (row) => network(row.dst), iface: (row) => row.iface, src: (row) => row.src };

/** A name in two parts, of which the first may be shortened. */
function halves(name) {
  const characters = [...name];
  if (characters.length <= WHOLE) return ["", name];
  const port = /\]?:\d+$/.exec(name)?.[0].length ?? 0;
  const at = Math.max(0, characters.length - port - END);
  return [characters.slice(0, at), characters.slice(at)].map((half) => half.join(""));
}

/** Where a name stands; it is shortened in its middle if there is no room for all of it. */
const ends = () => h("span", { class: "ends" }, h("span"), h("span"));

/** Has a name stand there. */
function put(element, name) {
  halves(name).forEach((half, at) => text(element.children[at], half));
}

/** The table of pairs; `choose` is called with a row, `sort` with a column's key. */
export class Table {
  constructor(choose, sort) {
    this.table = $("table");
    this.choose = choose;
    this.sort = sort;
    this.lines = new Map();
    this.courses = new Map();
    this.most = ROWS;
    this.table.addEventListener("click", (event) => this.clicked(event));
    this.table.addEventListener("keydown", (event) => this.pressed(event));
    $("more-button").addEventListener("click", () => {
      this.most *= 4;
      this.redraw(true);
    });
  }

  clicked(event) {
    const heading = event.target.closest("thead button");
    if (heading) return this.sort(heading.dataset.key);
    const line = this.lines.get(Number(event.target.closest("tr.row")?.dataset.id));
    if (!line) return;
    // A click beside the name focuses the table's place, from which arrows lead nowhere.
    line.button.focus({ preventScroll: true });
    this.choose(line.row);
  }

  /** Arrows go from row to row. */
  pressed(event) {
    const buttons = [...this.table.querySelectorAll("tbody th button")];
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    buttons[Math.max(0, Math.min(to, buttons.length - 1))].focus();
  }

  /** Notes what a second had, for the courses. */
  note(points) {
    for (const point of points) {
      if (point.count > 0) this.course(point.id)[59] = point.p50_ms;
    }
  }

  /** A second passes. */
  step() {
    for (const course of this.courses.values()) {
      course.shift();
      course.push(null);
    }
  }

  course(id) {
    if (!this.courses.has(id)) this.courses.set(id, Array(60).fill(null));
    return this.courses.get(id);
  }

  /** Shows these pairs; `empty` says why there may be none. Their order is left alone while somebody points at them,
   * unless it was asked for. */
  show({ pairs: rows, left_out: leftOut }, state, empty, asked) {
    for (const row of rows) {
      if (row.course_ms) this.courses.set(row.id, row.course_ms);
    }
    const known = new Set(rows.map((row) => row.id));
    for (const id of this.courses.keys()) if (!known.has(id)) this.courses.delete(id);
    this.shown = { rows, leftOut, state, empty };
    this.redraw(asked);
  }

  redraw(asked = false) {
    const { rows, leftOut, state, empty } = this.shown;
    const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const passes = (row) => {
      const all = `${row.src} ${row.dst} ${row.iface} ${row.side}`.toLowerCase();
      return words.every((word) => all.includes(word));
    };
    // Of some nothing but how their connections do is known.
    const has = (row) => state.columns === "connections" || times(row) !== null;
    const passing = rows.filter((row) => has(row) && passes(row));
    this.headings(state);
    const sorted = this.sorted(passing, state);
    const holds = !asked && [...this.table.tBodies].some((body) => body.matches(":hover, :focus-within"));
    const ordered = holds ? this.held(sorted) : sorted;
    this.order = ordered.map((row) => row.id);
    this.bodies(ordered.slice(0, this.most), state);
    const left = ordered.length - this.most;
    $("more").hidden = left <= 0;
    text($("more-button"), `Show more: ${count(Math.max(0, left))} left`);
    const others = rows.filter((row) => !has(row) && passes(row));
    $("others").hidden = others.length === 0;
    text($("others-button"), without(others));
    const all = rows.filter(has).length;
    const number = passing.length === all ? count(all) : `${count(passing.length)} of ${count(all)}`;
    text($("pairs-count"), leftOut > 0 ? `${number}; ${counted(leftOut, "less active pair")} left out` : number);
    const filtered = others.length > 0 ? "No pair with round trips passes the filter." : "No pair passes the filter.";
    const why = rows.length === 0 ? empty : words.length > 0 ? filtered : "No round trips in this span.";
    $("none").hidden = passing.length > 0;
    text($("none"), why);
    this.table.hidden = passing.length === 0;
  }

  headings({ columns, sort }) {
    if (this.columns !== columns) {
      this.columns = columns;
      this.lines.forEach((line) => line.tr.remove());
      this.lines.clear();
      $("columns-row").replaceChildren(...COLUMNS[columns].map((column) => this.heading(column)));
    }
    for (const heading of $("columns-row").children) {
      const { key } = heading.dataset;
      const way = sort === key ? "ascending" : sort === `-${key}` ? "descending" : null;
      attribute(heading, "aria-sort", way);
    }
  }

  heading({ key, title, kind, priority }) {
    const classes = [kind === "name" || kind === "text" ? "text" : "", priority ?? ""].join(" ").trim();
    const inside = kind === "course" ? h("div", { class: "plain" }, title)
      : h("button", { type: "button", "data-key": key }, title);
    return h("th", { scope: "col", class: classes || null, "data-key": key }, inside);
  }

  sorted(rows, { columns, sort }) {
    const key = sort.replace(/^-/, "");
    const column = COLUMNS[columns].find((its) => its.key === key && its.of) ?? NAMES[3];
    const down = sort.startsWith("-") ? -1 : 1;
    const compare = (a, b) => {
      const [one, other] = [column.of(a) ?? null, column.of(b) ?? null];
      if (one === other || (one === null && other === null)) return 0;
      // What is not there is last, whichever way.
      if (one === null || other === null) return one === null ? 1 : -1;
      return (typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other) * down;
    };
    const byName = (a, b) => a.dst.localeCompare(b.dst, "en", { numeric: true }) || a.id - b.id;
    return [...rows].sort((a, b) => compare(a, b) || byName(a, b));
  }

  /** The same rows in the order that they have on the page; new ones come last. */
  held(rows) {
    const place = new Map((this.order ?? []).map((id, at) => [id, at]));
    const last = place.size;
    return [...rows].sort((a, b) => (place.get(a.id) ?? last) - (place.get(b.id) ?? last));
  }

  bodies(rows, state) {
    const by = GROUPS[state.group];
    const groups = new Map();
    for (const row of rows) {
      const name = by ? by(row) : "";
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(row);
    }
    const focused = document.activeElement;
    const bodies = [...this.table.tBodies];
    [...groups].forEach(([name, members], at) => {
      const body = bodies[at] ?? this.table.appendChild(h("tbody"));
      const lines = members.map((row) => this.line(row, state.pair));
      if (by) lines.unshift(this.group(name, members));
      lines.forEach((line, place) => {
        if (body.children[place] !== line) body.insertBefore(line, body.children[place] ?? null);
      });
      while (body.children.length > lines.length) body.lastElementChild.remove();
    });
    bodies.slice(groups.size).forEach((body) => body.remove());
    const shown = new Set(rows.map((row) => row.id));
    for (const id of this.lines.keys()) if (!shown.has(id)) this.lines.delete(id);
    // Moving an element takes the focus from it.
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  group(name, members) {
    const samples = members.reduce((all, row) => all + (times(row)?.count ?? 0), 0);
    const what = `${name} · ${counted(members.length, "pair")} · ${counted(samples, "sample")}`;
    return h("tr", { class: "group" }, h("th", { scope: "rowgroup", colspan: COLUMNS[this.columns].length }, what));
  }

  line(row, chosen) {
    let line = this.lines.get(row.id);
    if (!line) {
      line = this.newLine(row);
      this.lines.set(row.id, line);
    }
    line.row = row;
    const isChosen = named(row) === chosen;
    line.tr.classList.toggle("chosen", isChosen);
    attribute(line.button, "aria-pressed", isChosen);
    put(line.name, row.dst);
    attribute(line.button, "aria-label", row.dst);
    attribute(line.button, "title", `${row.src} to ${row.dst} on ${row.iface}`);
    const tags = [row.side === "local" ? "to the local end" : "", row.data || !row.connect ? "" : "handshakes"];
    text(line.tag, tags.filter(Boolean).join(", "));
    COLUMNS[this.columns].forEach((column, at) => this.cell(line.tr.children[at], column, row));
    return line.tr;
  }

  newLine(row) {
    const name = ends();
    const button = h("button", { type: "button" }, name);
    const tag = h("span", { class: "tag" });
    const cells = COLUMNS[this.columns].map(({ kind, priority, key }) => {
      const classes = [kind === "name" || kind === "text" ? "text" : "", priority ?? ""].join(" ").trim() || null;
      if (kind === "name") return h("th", { scope: "row", class: classes }, button, tag);
      if (kind !== "course") return h("td", { class: classes, "data-key": key }, kind === "text" ? ends() : null);
      const drawing = s("svg", { class: "spark", viewBox: "0 0 96 22", "aria-hidden": "true" }, s("path"));
      return h("td", { class: classes, "data-key": key }, drawing);
    });
    return { tr: h("tr", { class: "row", "data-id": row.id }, ...cells), button, name, tag };
  }

  cell(cell, { kind, of, show, loud }, row) {
    if (kind === "name") return;
    if (kind === "course") {
      attribute(cell.firstChild.firstChild, "d", path(this.courses.get(row.id) ?? []));
      return;
    }
    const value = of(row) ?? null;
    if (kind === "text") {
      put(cell.firstChild, value);
      attribute(cell, "title", value);
      return;
    }
    text(cell, value === null ? NONE : show(value));
    if (loud) {
      cell.classList.toggle("bad", value !== null && value >= loud[1]);
      cell.classList.toggle("notable", value !== null && value >= loud[0] && value < loud[1]);
    }
  }
}

/** The course of the last minute as a line, broken where there is nothing. */
function path(course) {
  const known = course.filter((value) => value !== null);
  if (known.length === 0) return "";
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const y = (value) => (high > low ? 19 - ((value - low) / (high - low)) * 16 : 11).toFixed(1);
  let pen = "M";
  let line = "";
  let silent = 0;
  course.forEach((value, at) => {
    if (value === null) {
      silent += 1;
      if (silent > 3) pen = "M";
      return;
    }
    silent = 0;
    const x = (1 + (at * 94) / 59).toFixed(1);
    // A point of its own is a dot.
    line += pen === "M" ? `M${x} ${y(value)}h.01` : `L${x} ${y(value)}`;
    pen = "L";
  });
  return line;
}
