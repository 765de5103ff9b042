//! Memory and flows over time, with a mark for each fault, as a picture.

use std::time::Duration;

use testing_support::svg::{self, Element, element, line, picture};

use super::faults::Fault;
use super::watch::Point;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const PANEL: f64 = 150.0;
const TOP: f64 = 40.0;
const GAP: f64 = 40.0;
/// One for each of [`Fault::ALL`].
const COLOURS: [&str; Fault::ALL.len()] = [
    "#c0392b", "#e67e22", "#8e44ad", "#27ae60", "#16a085", "#7f8c8d", "#2980b9", "#2c3e50", "#d35400", "#f1c40f",
    "#e84393", "#00b894",
];

/// The picture.
pub(super) fn svg(points: &[Point], happened: &[(Duration, Fault)]) -> String {
    let end = points.last().map_or(1.0, |point| point.at.as_secs_f64().max(1.0));
    let x = |at: Duration| LEFT + (WIDTH - LEFT - 20.0) * at.as_secs_f64() / end;
    let height = TOP + 2.0 * (PANEL + GAP) + 20.0 * COLOURS.len() as f64;
    let mut svg = picture(WIDTH, height).set("font-family", "sans-serif").set("font-size", 12);
    svg.push(element("rect").set("width", WIDTH).set("height", height).set("fill", "white"));
    for (at, fault) in happened {
        let colour = COLOURS[Fault::ALL.iter().position(|other| other == fault).unwrap_or_default()];
        let (x, bottom) = (x(*at), TOP + 2.0 * PANEL + GAP);
        let mark = line(format_args!("M{x:.1} {TOP}V{bottom}"));
        svg.push(mark.set("stroke", colour).set("stroke-width", 1).set("opacity", 0.35));
    }
    let mib = |point: &Point| point.memory as f64 / f64::from(1 << 20);
    panel(&mut svg, TOP, "resident memory, MiB", points, &x, mib);
    panel(&mut svg, TOP + PANEL + GAP, "flows", points, &x, |point| point.flows as f64);
    for minute in 0..=(end / 60.0) as u64 {
        let (at, y) = (x(Duration::from_secs(minute * 60)), TOP + 2.0 * PANEL + GAP + 16.0);
        let label = element("text").set("x", format_args!("{at:.1}")).set("y", y);
        svg.push(label.set("text-anchor", "middle").text(minute));
    }
    for (k, fault) in Fault::ALL.iter().enumerate() {
        let y = TOP + 2.0 * (PANEL + GAP) + 20.0 * k as f64;
        let colour = element("rect").set("x", LEFT).set("y", y - 9.0).set("width", 10).set("height", 10);
        let name = element("text").set("x", LEFT + 16.0).set("y", y).text(fault.name());
        svg.push(format_args!("{}{name}", colour.set("fill", COLOURS[k])));
    }
    format!("{svg}\n")
}

/// A curve over its axis, from zero to a little above its highest.
fn panel(
    svg: &mut Element,
    top: f64,
    title: &str,
    points: &[Point],
    x: &impl Fn(Duration) -> f64,
    value: impl Fn(&Point) -> f64,
) {
    let most = points.iter().map(&value).fold(1.0, f64::max) * 1.1;
    let y = |value: f64| top + PANEL * (1.0 - value / most);
    let (right, bottom) = (WIDTH - 20.0, top + PANEL);
    let axes = line(format_args!("M{LEFT} {top}V{bottom}H{right}"));
    svg.push(axes.set("fill", "none").set("stroke", "black"));
    svg.push(element("text").set("x", LEFT).set("y", top - 8.0).text(title));
    for share in [0.0, 0.5, 1.0] {
        let value = most / 1.1 * share;
        let label = element("text").set("x", LEFT - 6.0).set("y", format_args!("{:.1}", y(value) + 4.0));
        svg.push(label.set("text-anchor", "end").text(format_args!("{value:.0}")));
    }
    let curve = svg::points(points.iter().map(|point| (x(point.at), y(value(point)))));
    let curve = element("polyline").set("points", curve).set("fill", "none");
    svg.push(curve.set("stroke", "#2c3e50").set("stroke-width", 1.5));
}
