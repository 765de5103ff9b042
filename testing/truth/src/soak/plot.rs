//! Memory and flows over time, with a mark for each fault, as a picture.

use std::fmt::Write as _;
use std::time::Duration;

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
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (at, fault) in happened {
        let colour = COLOURS[Fault::ALL.iter().position(|other| other == fault).unwrap_or_default()];
        let (x, bottom) = (x(*at), TOP + 2.0 * PANEL + GAP);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"{colour}\" stroke-width=\"1\" opacity=\"0.35\"/>"
        );
    }
    let mib = |point: &Point| point.memory as f64 / f64::from(1 << 20);
    panel(&mut svg, TOP, "resident memory, MiB", points, &x, mib);
    panel(&mut svg, TOP + PANEL + GAP, "flows", points, &x, |point| point.flows as f64);
    for minute in 0..=(end / 60.0) as u64 {
        let (at, y) = (x(Duration::from_secs(minute * 60)), TOP + 2.0 * PANEL + GAP + 16.0);
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{y}\" text-anchor=\"middle\">{minute}</text>");
    }
    for (k, fault) in Fault::ALL.iter().enumerate() {
        let y = TOP + 2.0 * (PANEL + GAP) + 20.0 * k as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            y - 9.0,
            COLOURS[k],
            LEFT + 16.0,
            fault.name()
        );
    }
    svg + "</svg>\n"
}

/// A curve over its axis, from zero to a little above its highest.
fn panel(
    svg: &mut String,
    top: f64,
    title: &str,
    points: &[Point],
    x: &impl Fn(Duration) -> f64,
    value: impl Fn(&Point) -> f64,
) {
    let most = points.iter().map(&value).fold(1.0, f64::max) * 1.1;
    let y = |value: f64| top + PANEL * (1.0 - value / most);
    let (right, bottom) = (WIDTH - 20.0, top + PANEL);
    let _ = writeln!(svg, "<path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>");
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\">{title}</text>", top - 8.0);
    for share in [0.0, 0.5, 1.0] {
        let value = most / 1.1 * share;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            LEFT - 6.0,
            y(value) + 4.0
        );
    }
    let line: Vec<String> = points.iter().map(|point| format!("{:.1},{:.1}", x(point.at), y(value(point)))).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#2c3e50\" stroke-width=\"1.5\"/>",
        line.join(" ")
    );
}
