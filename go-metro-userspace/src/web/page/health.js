// How the daemon is: the document of `go-metro status --json`, for people.

import { $, bytes, count, counted, h, ms, rate, span, text } from "./format.js";

/** A number, or the sum of those by cause. */
const total = (value) => (typeof value === "object" ? Object.values(value).reduce((all, one) => all + one, 0) : value);

/** Whether any number of a group is not 0. */
const any = (values) => Object.values(values).some((value) => total(value) > 0);

const words = (name) => name.replaceAll("_", " ");

/** A fact, with the place in the document that it is from. */
const fact = (name, value, field) => h("div", {}, h("dt", {}, name), h("dd", { "data-field": field }, value));

function counts(group, values) {
  return Object.entries(values).flatMap(([name, value]) => {
    const field = `${group}.${name}`;
    const causes = typeof value === "object" ? Object.entries(value).filter(([, one]) => one > 0) : [];
    const each = causes.map(([cause, one]) => fact(`– ${words(cause)}`, count(one), `${field}.${cause}`));
    return [fact(words(name), count(total(value)), field), ...each];
  });
}

const card = (title, ...facts) => h("div", {}, h("h3", {}, title), h("dl", { class: "facts" }, ...facts));

const list = (title, lines) =>
  h("div", {}, h("h3", {}, title), h("ul", { class: "log" }, ...lines.map((line) => h("li", {}, line))));

/** A pair of hosts: `10.0.0.1 (web.service) to db:5432 (remote) on eth0`. */
function pair({ src, process, dst, iface, side }) {
  const note = (what) => (what ? ` (${what})` : "");
  return `${src}${note(process)} to ${dst}${note(side)} on ${iface}`;
}

/** What was counted of a pair's connections, as far as there was any: `7 retransmits (5 fast, 2 syn)`. */
function trouble({ counts: all }) {
  const causes = (value) => Object.entries(value).filter(([, one]) => one > 0).sort(([, a], [, b]) => b - a);
  const parts = Object.entries(all).filter(([, value]) => total(value) > 0).map(([name, value]) => {
    const each = typeof value === "object" ? causes(value).map(([cause, one]) => `${count(one)} ${words(cause)}`) : [];
    const what = name.endsWith("_ms") ? `ms ${name.slice(0, -3)}` : name;
    return `${count(total(value))} ${words(what)}${each.length > 0 ? ` (${each.join(", ")})` : ""}`;
  });
  return parts.join(", ");
}

/** How connections did, where that is counted, and how long responses took, where they are timed. */
function peers({ connections, responses }) {
  const cards = [];
  if (connections) cards.push(card("Connections", ...counts("connections.total", connections.total)));
  if (connections?.peers.length > 0) {
    cards.push(list("Peers", connections.peers.map((its) => `${pair(its)}: ${trouble(its)}`)));
  }
  if (responses?.length > 0) {
    const took = ({ p50_ms: p50, p95_ms: p95 }) => `median ${ms(p50)} ms, p95 ${ms(p95)} ms`;
    cards.push(list("Responses", responses.map((its) => `${pair(its)}: ${count(its.count)}, ${took(its)}`)));
  }
  return cards;
}

function interfaces(status) {
  return status.interfaces.map((its) => {
    const there = [its.hook, its.qdisc && `qdisc ${its.qdisc}`, its.host_end && "host end"].filter(Boolean);
    return fact(its.name, its.attached ? there.join(", ") : "absent; waited for", `interfaces.${its.name}`);
  });
}

function sandbox({ off, unknown, no_new_privs: locked, seccomp, landlock, capabilities }) {
  if (off) return `off (${off})`;
  const kept = unknown ? ["unknown"] : [locked ? "no_new_privs" : "", seccomp ? "seccomp" : ""];
  const rights = counted(capabilities.length, "capability", "capabilities");
  return [...kept, landlock === "off" ? "" : "Landlock", rights].filter(Boolean).join(", ");
}

/** Shows a status document. */
export function show(status) {
  const { program, backend, kernel, rates, last_report: report } = status;
  text($("daemon-what"), `go-metro ${program.version}, up ${span(program.uptime_s)}, ${bytes(program.memory_bytes)}`);
  $("problems").hidden = status.problems.length === 0;
  $("problems").replaceChildren(...status.problems.map((problem) => h("li", {}, problem)));
  const capture = [
    fact("state", status.state, "state"),
    fact("backend", `${backend.name} (wanted: ${backend.wanted})`, "backend.name"),
    backend.fallback ? fact("because", backend.fallback, "backend.fallback") : null,
    fact("kernel", kernel.release, "kernel.release"),
    fact("sandbox", sandbox(status.privileges)),
    ...interfaces(status),
  ];
  const passing = [
    fact("packets/s", rate(rates.packets_per_s)),
    fact("records/s", rate(rates.records_per_s)),
    fact("samples/s", rate(rates.samples_per_s)),
    fact("last report", report ? `${counted(report.pairs, "pair")}, ${span(report.age_s)} ago` : "none yet"),
    ...status.outputs.map((output) => fact(`${output.kind} ${output.destination}`, counted(output.errors, "error"))),
  ];
  const cards = [
    card("Capture", ...capture),
    card("Passing", ...passing),
    card("Samples", ...counts("samples", status.samples)),
    card("Dropped", ...counts("drops", status.drops)),
    card("Packets", ...counts("packets", status.packets)),
    card("Flows", ...counts("flows", status.flows)),
    card("Happened", ...counts("happened", status.happened)),
    any(status.processes) ? card("Processes", ...counts("processes", status.processes)) : null,
    any(status.recorder) ? card("Recorder", ...counts("recorder", status.recorder)) : null,
    ...peers(status),
  ].filter(Boolean);
  if (status.errors.length > 0) {
    const said = [...status.errors].reverse().map((line) => {
      const age = line.age_s === null ? "" : `${span(line.age_s)} ago: `;
      return `${line.level}, ${age}${line.text}`;
    });
    cards.push(list("Last warnings", said));
  }
  $("facts").replaceChildren(...cards);
}
