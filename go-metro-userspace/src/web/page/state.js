// What the user made of the view, kept in the address's fragment, so that a link leads back to it.

/** Spans to choose from, in seconds; as far as the history goes. */
export const SPANS = [60, 300, 900];

const DEFAULTS = { pair: "", span: 60, sort: "-samples", filter: "", group: "", columns: "times", scale: "linear" };
const CHOICES = {
  span: (value) => (SPANS.includes(Number(value)) ? Number(value) : DEFAULTS.span),
  group: (value) => (["network", "iface", "src"].includes(value) ? value : ""),
  columns: (value) => (value === "connections" ? value : "times"),
  scale: (value) => (value === "log" ? value : "linear"),
  sort: (value) => (/^-?[a-z0-9]+$/.test(value) ? value : DEFAULTS.sort),
};

/** The state that a fragment describes; what it does not name, or does not know, is as usual. */
export function read(fragment) {
  const asked = new URLSearchParams(fragment.replace(/^#/, ""));
  const state = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) {
    if (asked.has(key)) state[key] = CHOICES[key] ? CHOICES[key](asked.get(key)) : asked.get(key).slice(0, 1000);
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

/** What a pair goes by in a link: its ids differ from one start of the daemon to the next. */
export const named = (row) => [row.src, row.dst, row.iface, row.side].join("~");
