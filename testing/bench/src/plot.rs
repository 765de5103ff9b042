//! A plot as an SVG file: a few curves over a logarithmic scale, readable on light and dark ground.

use testing_support::svg::{self, Element, element, line, picture};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
/// Room for labels: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (56.0, 190.0, 50.0, 46.0);
/// From the scale's name down to its highest tick's middle.
const NAME_ABOVE: f64 = 14.0;
/// Told apart by those who see no red or green, too (Okabe and Ito).
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];
const GREY: &str = "#808080";

/// Curves over one scale from 1 to a power of ten; values from 0 up.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: String,
    /// Name, and points of x, y and the quartiles below and above.
    pub(super) curves: Vec<(String, Vec<Point>)>,
}

/// A measured point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: super::Spread,
}

impl Plot {
    /// The file's text.
    pub(super) fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|(_, points)| points);
        let decades = points().map(|point| point.x.log10()).fold(1.0, f64::max).ceil();
        let step = step_for(points().map(|point| point.y.high).fold(1.0, f64::max));
        let steps = (points().map(|point| point.y.high).fold(1.0, f64::max) / step).ceil();
        let (left, right, top, bottom) = MARGIN;
        let x = |value: f64| left + value.log10() / decades * (WIDTH - left - right);
        let y = |value: f64| HEIGHT - bottom - value / (steps * step) * (HEIGHT - top - bottom);
        let mut svg = picture(WIDTH, HEIGHT).set("font-family", "sans-serif").set("font-size", 12).set("fill", GREY);
        svg.push(text(left, 18.0, "start", &self.title));
        for number in 0..=steps as u32 {
            let value = f64::from(number) * step;
            svg.push(rule(left, y(value), WIDTH - right, y(value)));
            svg.push(text(left - 8.0, y(value) + 4.0, "end", &format!("{value}")));
        }
        for decade in 0..=decades as i32 {
            let value = 10_f64.powi(decade);
            svg.push(rule(x(value), y(0.0), x(value), y(0.0) + 5.0));
            svg.push(text(x(value), y(0.0) + 19.0, "middle", &short(value)));
        }
        svg.push(text((left + WIDTH - right) / 2.0, HEIGHT - 8.0, "middle", &self.x));
        svg.push(text(8.0, top - NAME_ABOVE, "start", &self.y));
        for ((name, points), colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            let curve = svg::points(points.iter().map(|point| (x(point.x), y(point.y.median))));
            let curve = element("polyline").set("points", curve).set("fill", "none");
            svg.push(curve.set("stroke", colour).set("stroke-width", 2));
            for point in points {
                let (at, low, high) = (x(point.x), y(point.y.low), y(point.y.high));
                svg.push(line(format_args!("M{at:.1} {low:.1}V{high:.1}")).set("stroke", colour));
                let (cx, cy) = (format!("{at:.1}"), format!("{:.1}", y(point.y.median)));
                svg.push(element("circle").set("cx", cx).set("cy", cy).set("r", 2.5).set("fill", colour));
            }
            if let Some(last) = points.last() {
                let label = element("text").set("fill", colour);
                svg.push(placed(label, x(last.x) + 10.0, y(last.y.median) + 4.0, "start").text(name));
            }
        }
        format!("{svg}\n")
    }
}

/// Distance of the grid's lines: 1, 2 or 5 times a power of ten, at most eight of them.
fn step_for(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 8.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| highest / step <= 8.0).unwrap_or(power)
}

fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => value.to_string(),
    }
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> Element {
    placed(element("text"), x, y, anchor).text(text)
}

fn placed(text: Element, x: f64, y: f64, anchor: &str) -> Element {
    text.set("x", format_args!("{x:.1}")).set("y", format_args!("{y:.1}")).set("text-anchor", anchor)
}

fn rule(x1: f64, y1: f64, x2: f64, y2: f64) -> Element {
    line(format_args!("M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}")).set("stroke", GREY).set("stroke-opacity", 0.35)
}

#[cfg(test)]
mod tests {
    use super::super::Spread;
    use super::*;

    #[test]
    fn a_curve_rises_to_the_right_where_its_values_grow() {
        let point = |x: f64, y: f64| Point { x, y: Spread { low: y, median: y, high: y } };
        let curves = vec![("a < b".to_owned(), vec![point(1.0, 10.0), point(1000.0, 40.0)])];
        let svg = Plot { title: "t".to_owned(), x: "flows".to_owned(), y: "ns".to_owned(), curves }.svg();
        let points = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let numbers: Vec<f64> = points.split([' ', ',']).filter_map(|number| number.parse().ok()).collect();
        assert!(numbers.len() == 4 && numbers[0] < numbers[2] && numbers[1] > numbers[3], "{points}");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn the_grid_has_round_steps() {
        assert_eq!([7.0, 9.0, 33.0, 80.0, 160.0].map(step_for), [1.0, 2.0, 5.0, 10.0, 20.0]);
    }
}
