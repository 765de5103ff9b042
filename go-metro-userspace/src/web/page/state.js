// What the user made of the view, kept in the address's fragment, so that a link leads back to it.

/** Spans to choose from, in seconds; as far as the history goes. */
export const SPANS = [60, 300, 900];

const DEFAULTS = { pair: "", span: 60, sort: "-samples", filter: "", group: "", columns: "times", scale: "linear" };
/** Longest text of a choice, in UTF-16 units; a name may have some hundred characters. */
const LONGEST = 4000;
const CHOICES = {
  pair: canonical,
  span: (value) => (SPANS.includes(Number(value)) ? Number(value) : DEFAULTS.span),
  group: (value) => (["network", "iface", "src"].includes(value) ? value : ""),
  columns: (value) => (value === "connections" ? value : "times"),
  scale: (value) => (value === "log" ? value : "linear"),
  sort: (value, isColumn) => (isColumn(value.replace(/^-/, "")) ? value : DEFAULTS.sort),
};

/** The state that a fragment describes; what it does not name, or is not known, is as usual. `isColumn` says whether
 * the table can be sorted by this key. */
export function read(fragment, isColumn) {
  const asked = new URLSearchParams(fragment.replace(/^#/, ""));
  const state = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) {
    const value = asked.get(key)?.slice(0, LONGEST);
    if (value !== undefined) state[key] = CHOICES[key] ? CHOICES[key](value, isColumn) : value;
  }
  return state;
}

/** The fragment of a state; what is as usual is left out. */
export function written(state) {
  const said = new URLSearchParams();
  for (const [key, usual] of Object.entries(DEFAULTS)) {
    if (state[key] !== usual) said.set(key, state[key]);
  }
  const fragment = said.toString();
  return fragment ? `#${fragment}` : "";
}

const escaped = (part) => part.replace(/[%~]/g, (its) => (its === "~" ? "%7E" : "%25"));
const unescaped = (part) => part.replace(/%7E|%25/g, (its) => (its === "%7E" ? "~" : "%"));

/** What a pair goes by in a link: its ids differ from one start of the daemon to the next. */
export const named = ({ src, dst, iface, side }) => [src, dst, iface, side].map(escaped).join("~");

/** The parts of what a pair goes by. Older links have the `~` of a group's name as it is. */
export function parts(name) {
  const all = name.split("~").map(unescaped);
  return { src: all[0], dst: all.slice(1, -2).join("~"), iface: all.at(-2), side: all.at(-1) };
}

/** The same as links have it now; nothing of what is no pair. */
function canonical(name) {
  const its = parts(name);
  return its.dst && ["remote", "local"].includes(its.side) ? named(its) : "";
}
