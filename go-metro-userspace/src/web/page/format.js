// Elements and numbers. Text from the network goes into text nodes and attributes alone, never into markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element of HTML with these attributes and children. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An element of SVG with these attributes and children. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** Sets an element's text, if it is another one. */
export function text(element, value) {
  const string = String(value);
  if (element.textContent !== string) element.textContent = string;
}

/** Sets an attribute, if it is another one; null removes it. */
export function attribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** What stands for a number that is not there. */
export const NONE = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** Milliseconds with the decimals that there is room for. */
export function ms(value) {
  if (value === null || value === undefined) return NONE;
  if (value > 0 && value < 0.0005) return "<0.001";
  return value.toFixed(value < 9.9995 ? 3 : value < 99.995 ? 2 : value < 9999.95 ? 1 : 0);
}

/** A count, with separators. */
export const count = (value) => (value === null || value === undefined ? NONE : whole.format(value));

/** A count of things, in words. */
export const counted = (value, one, several = `${one}s`) => `${count(value)} ${value === 1 ? one : several}`;

/** The first of these names, and how many more there are. */
export function listed(names, most = 3) {
  const more = names.length - most;
  return names.slice(0, most).join(", ") + (more > 0 ? ` and ${count(more)} more` : "");
}

/** A count in little room. */
export const compact = (value) => (value < 10000 ? whole.format(value) : short.format(value));

/** A number a second. */
export const rate = (value) => (value < 10 ? value.toFixed(1) : compact(value));

/** A share in per cent. */
export function perCent(share) {
  if (share === null || share === undefined) return NONE;
  const hundredths = share * 100;
  return hundredths <= 0 ? "0 %" : hundredths < 0.005 ? "<0.01 %" : `${hundredths.toFixed(2)} %`;
}

/** Bytes in MiB. */
export const bytes = (value) => `${(value / 1048576).toFixed(1)} MiB`;

/** A span of time in the unit that suits it. */
export function span(seconds) {
  const at = Math.max(0, seconds);
  if (at < 60) return `${at.toFixed(1)} s`;
  if (at < 3600) return `${Math.floor(at / 60)} min ${String(Math.floor(at % 60)).padStart(2, "0")} s`;
  if (at < 86400) return `${Math.floor(at / 3600)} h ${String(Math.floor((at / 60) % 60)).padStart(2, "0")} min`;
  return `${Math.floor(at / 86400)} d ${String(Math.floor((at / 3600) % 24)).padStart(2, "0")} h`;
}

/** A length of time in words: 60 is a minute. */
export const duration = (seconds) => (seconds % 60 ? `${seconds} s` : `${seconds / 60} min`);

/** How long a span is, in words: as it was asked for, or as far as the history goes. */
export function covered(asked, covers) {
  // What is kept together is about ten seconds long, and may end a moment too early.
  if (!(covers > 0 && covers < asked - 1)) return duration(asked);
  return covers < 59.5 ? duration(Math.round(covers)) : span(covers);
}

/** A moment as a clock shows it, in the browser's time zone. */
export function clock(at, withSeconds = true) {
  const date = new Date(at);
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0"));
  return (withSeconds ? parts : parts.slice(0, 2)).join(":");
}

/** The time zone of `clock` at a moment, such as "UTC+05:30, Asia/Kolkata". */
export function zone(at) {
  const east = -new Date(at).getTimezoneOffset();
  const [hours, minutes] = [Math.floor(Math.abs(east) / 60), Math.abs(east) % 60];
  const padded = [hours, minutes].map((part) => String(part).padStart(2, "0")).join(":");
  const offset = east === 0 ? "UTC" : `UTC${east < 0 ? "−" : "+"}${padded}`;
  const { timeZone: name } = Intl.DateTimeFormat().resolvedOptions();
  return !name || name.endsWith("UTC") ? offset : `${offset}, ${name}`;
}

/** Round numbers from `low` to `high`, about so many. */
export function ticks(low, high, about) {
  const rough = (high - low) / Math.max(1, about);
  if (!(rough > 0)) return [low];
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = decade * [1, 2, 5, 10].find((factor) => decade * factor >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, k) => (first + k) * step);
}

/** 1, 2 and 5 of each decade from `low` to `high`. */
export function logTicks(low, high) {
  const marks = [];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); decade += 1) {
    for (const digit of [1, 2, 5]) {
      const mark = digit * 10 ** decade;
      if (mark >= low * 0.999 && mark <= high * 1.001) marks.push(mark);
    }
  }
  return marks;
}

/** The mark of an axis, with no more digits than it takes. */
export const mark = (value) => String(Number(value.toPrecision(4)));
