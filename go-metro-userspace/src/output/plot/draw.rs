//! Panels of a plot as SVG, and the page around them.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use go_metro_rtt::{Cause, Figure, Stats};

use super::scale::{RttScale, even_ticks};
use super::svg::{self, Element, element, picture};
use super::{LeftOut, Panel, Points};
use crate::output::number::{self, short};
use crate::output::{columns, fit};
use crate::terminal::printable;

/// Where the parts of a panel are, in pixels.
struct Geometry {
    width: f64,
    /// The part that has axes: left and right edge.
    course: (f64, f64),
    /// The distribution beside it, where there is room.
    shape: Option<(f64, f64)>,
    /// Where the names of quantiles begin.
    labels: f64,
    /// Strips of time, each at least a dot wide.
    strips: usize,
    /// About how many times are written at the axis.
    times: usize,
}

/// On a screen as wide as a desk's.
const WIDE: Geometry = Geometry {
    width: 1000.0,
    course: (60.0, 760.0),
    shape: Some((776.0, 900.0)),
    labels: 906.0,
    strips: 460,
    times: 8,
};
/// On a telephone.
const NARROW: Geometry =
    Geometry { width: 380.0, course: (58.0, 300.0), shape: None, labels: 305.0, strips: 150, times: 3 };

/// Upper and lower edge of the axes, and the height of a panel.
const ABOVE: f64 = 18.0;
const BELOW: f64 = 168.0;
const PANEL: f64 = 192.0;
/// From one line of text to the next.
const LINE: f64 = 16.0;
/// Characters of a line in a drawing of its own: 13 pixels high, at most 9 wide.
const CHARACTERS: usize = 106;
/// Least distance of two labels above each other.
const APART: f64 = 12.0;
/// Bars of a distribution.
const BARS: usize = 48;
/// How high a mark is.
const MARK: f64 = 9.0;
/// Outliers marked one by one.
const MOST_OUTLIERS: usize = 200;

const STYLE: &str = "\
.back{fill:#fff}svg text{font:12px system-ui,sans-serif;fill:#1f2933}\
svg .title{font-size:17px;font-weight:600}svg .name{font-size:13px;font-weight:600}svg \
.faint{fill:#5b6670;font-size:11px}\
.frame{fill:#f7f9fb;stroke:#d5dce3}.grid{stroke:#e1e7ed}.dot{fill:#1971c2;fill-opacity:.55}\
.bar{fill:#1971c2;fill-opacity:.75}\
.again{stroke-width:2}.timeout{stroke:#e03131}.syn{stroke:#9c36b5}.fast{stroke:#e8590c}.tail_probe{stroke:#f2b800}\
.unknown{stroke:#868e96}\
.outlier{fill:#e03131}.p{stroke:#2f9e44;stroke-dasharray:5 3}.p95{stroke:#e8590c}.p99{stroke:#c2255c}\
@media(prefers-color-scheme:dark){svg text{fill:#d8dee9}svg .faint{fill:#a3afbd}.frame{fill:#20262e;stroke:#3a434e}\
.grid{stroke:#2e3640}\
.dot,.bar{fill:#4dabf7}.back{fill:#161a20}.outlier{fill:#ff8787}.p{stroke:#69db7c}.p95{stroke:#ffa94d}\
.p99{stroke:#f783ac}}";

/// From when to when: one axis of time for all, so that what happened at once is seen at once.
#[derive(Clone, Copy)]
struct Times {
    start: u64,
    end: u64,
}

impl Times {
    fn of(panels: &[(Panel<'_>, &Points)]) -> Self {
        let samples = || panels.iter().flat_map(|(_, points)| points.points.iter().map(|(at, _)| *at));
        let again = || panels.iter().flat_map(|(_, points)| points.again.marks.iter().map(|(at, ..)| *at));
        let times = || samples().chain(again());
        let (start, end) = (times().min().unwrap_or(0), times().max().unwrap_or(1));
        // A single moment is at the left of an axis of a millisecond.
        Self { start, end: if end > start { end } else { start.saturating_add(1_000_000) } }
    }

    /// From the first to the last, in seconds.
    fn span(self) -> f64 {
        (self.end - self.start) as f64 / 1e9
    }

    /// The unit of the axis, and how many of it are a second.
    fn unit(self) -> (&'static str, f64) {
        match self.span() {
            span if span >= 1.0 => ("s", 1.0),
            span if span >= 1e-3 => ("ms", 1e3),
            span if span >= 1e-6 => ("µs", 1e6),
            _ => ("ns", 1e9),
        }
    }
}

/// All panels in one drawing.
pub(super) fn svg(title: &str, panels: &[(Panel<'_>, &Points)], left_out: LeftOut) -> String {
    let all_times = Times::of(panels);
    let mut y = 28.0;
    // The height is known once all is placed.
    let mut body = Vec::new();
    let lines = |body: &mut Vec<Element>, class: &str, text: &str, y: &mut f64| {
        for line in wrapped(text, CHARACTERS) {
            body.push(element("text").set("class", class).set("x", 20).set("y", *y).text(printable(&line)));
            *y += if class == "title" { 22.0 } else { LINE };
        }
    };
    lines(&mut body, "title", title, &mut y);
    if panels.is_empty() {
        lines(&mut body, "name", nothing(left_out), &mut y);
    }
    for (panel, points) in panels {
        y += 10.0;
        lines(&mut body, "name", &named(panel), &mut y);
        let statistics = statistics(panel.stats) + &drawn(points, all_times, &WIDE);
        lines(&mut body, "faint", &statistics, &mut y);
        let mut place = element("g").set("transform", format_args!("translate(0 {})", y - LINE + 4.0));
        draw_panel(&mut place, panel.stats, points, all_times, &WIDE);
        body.push(place);
        y += height(points) - LINE + 8.0;
    }
    y += 12.0;
    lines(&mut body, "faint", &foot(panels.len(), left_out), &mut y);
    let mut drawing = picture(WIDE.width, y).set("role", "img").set("aria-label", "round-trip times");
    drawing.push(element("style").inside(format_args!(":root{{min-width:760px}}{STYLE}")));
    drawing.push(element("rect").set("class", "back").set("width", "100%").set("height", "100%"));
    body.iter().for_each(|element| drawing.push(element));
    format!("{drawing}\n")
}

/// How high a panel is.
fn height(points: &Points) -> f64 {
    if points.again.seen > 0 { PANEL + LINE } else { PANEL }
}

fn named(panel: &Panel<'_>) -> String {
    format!("{} → {}", panel.src, panel.dst)
}

fn statistics(stats: &Stats) -> String {
    let mut told = format!("{} samples", stats.count());
    let (min, max) = (stats.min().as_millis_f64(), stats.max().as_millis_f64());
    let figures =
        [("min", Some(min)), ("avg", Some(stats.mean_ms())), ("max", Some(max)), ("jitter", stats.jitter_ms())];
    for (name, ms) in figures.into_iter().filter_map(|(name, ms)| Some((name, ms?))) {
        let _ = write!(told, ", {name} {}", short(ms));
    }
    told + " ms"
}

/// How many of the samples are dots, if not all are.
fn drawn(points: &Points, all: Times, geometry: &Geometry) -> String {
    let dots = thinned(points, all.start, all.end, geometry.strips).len();
    if dots as u64 == points.seen {
        return String::new();
    }
    let kept = if points.step > 1 { format!(" (out of one in {})", points.step) } else { String::new() };
    format!("; {dots} of the samples drawn: of each moment the first, the smallest and the largest{kept}")
}

/// Why there is no panel.
fn nothing(left_out: LeftOut) -> &'static str {
    if left_out.pairs > 0 || left_out.other > 0 { "no pair is drawn" } else { "no samples" }
}

/// What the drawing is of, and how to have another.
fn foot(drawn: usize, left_out: LeftOut) -> String {
    let mut told = String::new();
    if left_out.pairs > 0 {
        let all = drawn + left_out.pairs;
        let which = if drawn > 0 { ", those with most samples" } else { "" };
        let _ = write!(told, "{drawn} of {all} pairs{which}: --plot-pairs N draws more, --target ADDR chooses. ");
    }
    if left_out.other > 0 {
        let _ = write!(told, "{} samples of further pairs, beyond --max-pairs, are not drawn. ", left_out.other);
    }
    told + "Times since the first sample; red dots are p99 or more and above twice the median."
}

/// A text in lines of at most so many characters, cut at blanks where there are some.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        for part in word.chars().collect::<Vec<_>>().chunks(most) {
            let part: String = part.iter().collect();
            let line = lines.last_mut().map(|line| (line.chars().count(), line));
            match line {
                Some((0, line)) => line.push_str(&part),
                Some((length, line)) if length + 1 + part.chars().count() <= most => {
                    line.push(' ');
                    line.push_str(&part);
                }
                _ => lines.push(part),
            }
        }
    }
    lines
}

/// Heights for labels that want these, each at least [`APART`] from the next, between two edges. The order of the
/// labels stays.
fn spread(wanted: &mut [f64], (top, bottom): (f64, f64)) {
    // From the bottom upwards; then, where that led above the top, down again.
    let mut limit = bottom;
    for place in wanted.iter_mut() {
        *place = place.min(limit);
        limit = *place - APART;
    }
    let mut limit = top;
    for place in wanted.iter_mut().rev() {
        *place = place.max(limit);
        limit = *place + APART;
    }
}

fn draw_panel(out: &mut Element, stats: &Stats, points: &Points, all: Times, geometry: &Geometry) {
    let (left, right) = geometry.course;
    let (top, bottom, start, end) = (ABOVE, BELOW, all.start, all.end);
    let scale = RttScale::new(stats.min().as_millis_f64(), stats.max().as_millis_f64());
    let y = |ms: f64| bottom - scale.share(ms) * (bottom - top);
    let x = |at: u64| left + (at - start) as f64 / (end - start) as f64 * (right - left);
    let (unit, per_second) = all.unit();
    let since = |at: u64| (at - start) as f64 / 1e9 * per_second;
    for (from, to) in [Some(geometry.course), geometry.shape].into_iter().flatten() {
        let frame = element("rect").set("class", "frame").set("x", from).set("y", top);
        out.push(frame.set("width", to - from).set("height", bottom - top));
    }
    out.push(faint(left - 6.0, top - 6.0).set("text-anchor", "end").text("ms"));
    let mut last = f64::MAX;
    let ticks = scale.ticks();
    for (tick, text) in ticks.iter().zip(number::marks(&ticks)) {
        let place = y(*tick);
        out.push(classed("path", "grid").set("d", format_args!("M{left} {place:.1}H{right}")));
        if last - place >= APART && place + 4.0 - APART >= top - 6.0 {
            last = place;
            let mark = faint(left - 6.0, format_args!("{:.1}", place + 4.0));
            out.push(mark.set("text-anchor", "end").text(text));
        }
    }
    let mut free = f64::MIN;
    let ticks = even_ticks(0.0, since(end), geometry.times);
    for (tick, text) in ticks.iter().zip(number::marks(&ticks)) {
        let place = left + tick / since(end) * (right - left);
        out.push(classed("path", "grid").set("d", format_args!("M{place:.1} {top}V{bottom}")));
        let text = format!("{text} {unit}");
        // Six pixels a character are enough for figures of this size.
        let half = text.chars().count() as f64 * 3.0;
        if place - half >= free {
            free = place + half + 6.0;
            let mark = faint(format_args!("{place:.1}"), bottom + 14.0);
            out.push(mark.set("text-anchor", "middle").text(text));
        }
    }
    let [p50, p99] = stats.quantiles([0.5, 0.99]).map(|figure| figure.ms);
    let mut marked = 0;
    for (at, ms) in thinned(points, start, end, geometry.strips) {
        // Of fewer than 100 samples p99 is the largest itself.
        if ms >= p99 && ms > 2.0 * p50 && marked < MOST_OUTLIERS {
            marked += 1;
            let title = format!("{} ms at +{:.3} {unit}", short(ms), since(at));
            out.push(dot("outlier", x(at), y(ms)).set("r", 2.6).inside(element("title").text(title)));
        } else {
            out.push(dot("dot", x(at), y(ms)).set("r", 1.5));
        }
    }
    for (at, told) in marked_again(points, start, end, geometry.strips) {
        let causes: Vec<String> = told.iter().map(|(cause, count)| format!("{count} {}", words(*cause))).collect();
        let title = format!("retransmitted: {} at +{:.3} {unit}", causes.join(", "), since(at));
        let worst = told.first().map_or(Cause::Unknown, |(cause, _)| *cause);
        let mark = classed("path", format_args!("again {}", worst.name()));
        let mark = mark.set("d", format_args!("M{:.1} {}V{}", x(at), top - MARK - 2.0, top - 2.0));
        out.push(mark.inside(element("title").text(title)));
    }
    draw_legend(out, points, left, bottom + 14.0 + LINE);
    if let Some(shape) = geometry.shape {
        draw_shape(out, points, scale, shape);
    }
    let figures = stats.quantiles([0.5, 0.95, 0.99]);
    let mut labels = figures.map(|figure| y(figure.ms) + 4.0);
    spread(&mut labels, (top + 8.0, bottom + 2.0));
    for ((name, figure), label) in ["p50", "p95", "p99"].into_iter().zip(figures).zip(labels) {
        let place = y(figure.ms);
        let beside = geometry.shape.map_or_else(String::new, |(from, to)| format!("M{from} {place:.1}H{to}"));
        let quantile = classed("path", format_args!("p {name}"));
        let quantile = quantile.set("d", format_args!("M{left} {place:.1}H{right}{beside}"));
        let label = faint(geometry.labels, format_args!("{label:.1}"));
        out.push(format_args!("{quantile}{}", label.text(format_args!("{name} {}", shown(figure)))));
    }
}

/// An element in a class of the style.
fn classed(name: &'static str, class: impl Display) -> Element {
    element(name).set("class", class)
}

/// A place for small text.
fn faint(x: impl Display, y: impl Display) -> Element {
    classed("text", "faint").set("x", x).set("y", y)
}

fn dot(class: &str, x: f64, y: f64) -> Element {
    classed("circle", class).set("cx", format_args!("{x:.1}")).set("cy", format_args!("{y:.1}"))
}

/// Causes, those first that cost a connection most.
const WORST: [Cause; Cause::COUNT] = [Cause::Timeout, Cause::Syn, Cause::Unknown, Cause::Fast, Cause::TailProbe];

/// A cause as people read it.
fn words(cause: Cause) -> String {
    cause.name().replace('_', " ")
}

/// Of each strip of time in which something was retransmitted: the first moment, and how many segments for which cause,
/// the worst first.
fn marked_again(points: &Points, start: u64, end: u64, many: usize) -> Vec<(u64, Vec<(Cause, u64)>)> {
    let mut strips: BTreeMap<u128, (u64, [u64; Cause::COUNT])> = BTreeMap::new();
    for (at, cause, segments) in &points.again.marks {
        let strip = u128::from(at - start) * many as u128 / u128::from(end - start + 1);
        let (first, counts) = strips.entry(strip).or_insert((*at, [0; Cause::COUNT]));
        *first = (*first).min(*at);
        counts[*cause as usize] += u64::from(*segments);
    }
    let told = |counts: [u64; Cause::COUNT]| {
        let each = WORST.map(|cause| (cause, counts[cause as usize]));
        each.into_iter().filter(|(_, count)| *count > 0).collect()
    };
    strips.into_values().map(|(at, counts)| (at, told(counts))).collect()
}

/// What the marks are of: how many segments were retransmitted for which cause, each in the colour of its marks.
fn draw_legend(out: &mut Element, points: &Points, left: f64, y: f64) {
    if points.again.seen == 0 {
        return;
    }
    let mut x = left;
    // Six pixels a character, as at the axis.
    let mut place = |text: &str| {
        let at = x;
        x += text.chars().count() as f64 * 6.0 + 10.0;
        at
    };
    let title = "retransmitted:";
    out.push(faint(place(title), y).text(title));
    for cause in Cause::ALL.into_iter().filter(|cause| points.again.segments[*cause as usize] > 0) {
        let text = format!("{} {}", points.again.segments[cause as usize], words(cause));
        let at = place(&text) + 2.0;
        out.push(
            classed("path", format_args!("again {}", cause.name())).set("d", format_args!("M{at} {}V{y}", y - MARK)),
        );
        out.push(faint(at + 4.0, y).text(text));
        place("");
    }
}

/// How many samples lie at each height.
fn draw_shape(out: &mut Element, points: &Points, scale: RttScale, (left, right): (f64, f64)) {
    let mut counts = [0_usize; BARS];
    for (_, rtt) in &points.points {
        counts[((scale.share(rtt.as_millis_f64()) * BARS as f64) as usize).min(BARS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let tall = (BELOW - ABOVE) / BARS as f64;
    for (place, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let wide = (*count as f64 / most as f64 * (right - left - 4.0)).max(1.0);
        let (from, to) = (scale.value(place as f64 / BARS as f64), scale.value((place + 1) as f64 / BARS as f64));
        let [from, to] = number::range(from, to);
        let share = *count as f64 / points.points.len() as f64 * 100.0;
        let (y, height) = (BELOW - (place + 1) as f64 * tall, tall * 0.85);
        let bar = classed("rect", "bar").set("x", left).set("y", format_args!("{y:.1}"));
        let bar = bar.set("width", format_args!("{wide:.1}")).set("height", format_args!("{height:.1}"));
        out.push(bar.inside(element("title").text(format_args!("{from} to {to} ms: {share:.1} %"))));
    }
}

/// Of each strip of time the first sample, the smallest and the largest.
fn thinned(points: &Points, start: u64, end: u64, many: usize) -> Vec<(u64, f64)> {
    let all = points.points.iter().map(|(at, rtt)| (*at, rtt.as_millis_f64()));
    if points.points.len() <= 3 * many {
        return all.collect();
    }
    let mut strips: Vec<Option<[(u64, f64); 3]>> = vec![None; many];
    for point in all {
        let strip = (u128::from(point.0 - start) * many as u128 / u128::from(end - start + 1)) as usize;
        let [_, least, most] = strips[strip.min(many - 1)].get_or_insert([point; 3]);
        if point.1 < least.1 {
            *least = point;
        }
        if point.1 > most.1 {
            *most = point;
        }
    }
    let mut kept: Vec<(u64, f64)> = strips.into_iter().flatten().flatten().collect();
    kept.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    kept.dedup();
    kept
}

const PAGE: &str = "\
:root{color-scheme:light dark;background:#fff;color:#1f2933}\
body{font:14px/1.45 system-ui,sans-serif;margin:1.2em auto;max-width:1200px;padding:0 12px}\
h1{font-size:20px;overflow-wrap:anywhere}h2{font-size:15px;margin:1.6em 0 .2em;overflow-wrap:anywhere}\
p{margin:.2em 0;overflow-wrap:anywhere}.note{color:#5b6670}\
.scroll{overflow-x:auto;margin:1em 0}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
td,th{padding:.25em .7em;text-align:right;border-bottom:1px solid #8884;white-space:nowrap}\
td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}\
.name{display:flex;max-width:13em}.name :first-child{overflow:hidden;text-overflow:ellipsis}.name \
:last-child{flex:none}\
svg{display:block;width:100%;height:auto}.narrow{display:none}@media(max-width:640px){.wide{display:none}\
.narrow{display:block}span.narrow{display:inline}}\
@media(prefers-color-scheme:dark){:root{background:#161a20;color:#d8dee9}.note{color:#a3afbd}}";

/// The page: the numbers as a table, and a drawing of each pair for wide and for narrow screens.
pub(super) fn html(title: &str, panels: &[(Panel<'_>, &Points)], left_out: LeftOut) -> String {
    let all_times = Times::of(panels);
    let (mut rows, mut sections) = (String::new(), String::new());
    for (panel, points) in panels {
        let stats = panel.stats;
        rows.push_str("<tr>");
        for name in [panel.src, panel.dst, panel.iface] {
            rows.push_str(&name_cell(name));
        }
        let _ = write!(rows, "<td>{}", stats.count());
        let [_, avg, min, p50, p95, p99, max, jitter] = columns(stats, stats.mean_ms());
        for figure in [min, avg, p50, p95, p99, max, jitter] {
            let _ = write!(rows, "<td>{}", figure.map_or_else(|| "-".to_owned(), aligned));
        }
        rows.push('\n');
        let _ = write!(
            sections,
            "<section><h2>{}</h2>\n<p class=\"note\">{}<span class=\"wide\">{}</span><span \
             class=\"narrow\">{}</span></p>\n",
            escaped(&named(panel)),
            statistics(stats),
            drawn(points, all_times, &WIDE),
            drawn(points, all_times, &NARROW),
        );
        for (class, geometry) in [("wide", &WIDE), ("narrow", &NARROW)] {
            let drawing = picture(geometry.width, height(points)).set("class", class).set("role", "img");
            let mut drawing = drawing.set("aria-label", printable(&named(panel)));
            draw_panel(&mut drawing, stats, points, all_times, geometry);
            let _ = writeln!(sections, "{drawing}");
        }
        sections.push_str("</section>\n");
    }
    if panels.is_empty() {
        let _ = writeln!(sections, "<p>{}</p>", nothing(left_out));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\n\
         <meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><style>{PAGE}\n{STYLE}</style></head>\n<body>\n\
         <h1>{0}</h1>\n<p class=\"note\">{1}</p>\n<div class=\"scroll\"><table>\
         <tr><th>src<th>dst<th>iface<th>samples<th>min<th>avg<th>p50<th>p95<th>p99<th>max<th>jitter \
         ms\n{rows}</table></div>\n\
         {sections}</body></html>\n",
        escaped(title),
        foot(panels.len(), left_out),
    )
}

/// A figure with three decimals, or blanks as wide as those that it has not, so that decimal points are below each
/// other.
fn aligned(figure: Figure) -> String {
    const DECIMALS: usize = 3;
    let decimals = figure.decimals(DECIMALS);
    // A figure space is as wide as a digit, a punctuation space as a point (Unicode, general punctuation).
    let point = if decimals == 0 { "\u{2008}" } else { "" };
    format!("{}{point}{}", escaped(&number::fixed(figure, DECIMALS)), "\u{2007}".repeat(DECIMALS - decimals))
}

/// A cell with a name. One that is longer than the numbers leave room for is shortened by the browser in its middle:
/// the end stays, the whole is the cell's title and what is copied.
fn name_cell(name: &str) -> String {
    /// Characters of a name that has room, and of the end of one that has not.
    const ROOM: usize = 26;
    const END: usize = 13;
    if fit::width(name) <= ROOM {
        return format!("<td>{}", escaped(name));
    }
    let (at, _) = name.char_indices().rev().nth(END - 1).unwrap_or_default();
    let (start, end) = name.split_at(at);
    let [name, start, end] = [name, start, end].map(escaped);
    format!("<td title=\"{name}\"><span class=\"name\"><span>{start}</span><span>{end}</span></span>")
}

/// As it may stand in the page: XML has no control characters (section 2.2), and a browser obeys those that reverse
/// text.
fn escaped(text: &str) -> String {
    svg::escaped(&printable(text))
}

/// A figure with the digits that it deserves.
fn shown(figure: Figure) -> String {
    if figure.is_exact { short(figure.ms) } else { number::precise(figure, 6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_distance_their_order_and_the_frame() {
        for wanted in [[100.0, 100.0, 100.0], [160.0, 20.0, 19.0], [26.0, 26.0, 26.0], [170.0, 169.0, 168.0]] {
            let mut places = wanted;
            spread(&mut places, (26.0, 170.0));
            let [p50, p95, p99] = places;
            assert!(p50 - p95 >= APART && p95 - p99 >= APART && p99 >= 26.0 && p50 <= 170.0, "{wanted:?}: {places:?}");
        }
    }

    #[test]
    fn a_long_text_is_wrapped_at_blanks_or_else_anywhere() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
    }
}
