// How the daemon is: the document of `go-metro status --json`, for people.

import { $, bytes, count, counted, h, rate, span, text } from "./format.js";

/** A number, or the sum of those by cause. */
const total = (value) => (typeof value === "object" ? Object.values(value).reduce((all, one) => all + one, 0) : value);

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
  ];
  if (status.errors.length > 0) {
    const said = [...status.errors].reverse().map((line) => {
      const age = line.age_s === null ? "" : `${span(line.age_s)} ago: `;
      return h("li", {}, `${line.level}, ${age}${line.text}`);
    });
    cards.push(h("div", {}, h("h3", {}, "Last warnings"), h("ul", { class: "log" }, ...said)));
  }
  $("facts").replaceChildren(...cards);
}
