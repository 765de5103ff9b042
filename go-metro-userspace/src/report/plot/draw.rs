//! Panels of a plot as SVG, and the page around them.

use std::fmt::Write as _;

use super::scale::{RttScale, even_ticks};
use super::{Panel, Points};
use crate::report::columns;
use crate::rtt::{Figure, Stats};

const WIDTH: f64 = 1000.0;
const PANEL: f64 = 210.0;
const HEAD: f64 = 46.0;
/// The part of a panel that has axes: left edge, right edge, above, below.
const COURSE: (f64, f64, f64, f64) = (66.0, 760.0, 30.0, 30.0);
/// The distribution beside it.
const SHAPE: (f64, f64) = (776.0, 900.0);
/// Strips of time, each at least a dot wide.
const STRIPS: usize = 460;
/// Bars of a distribution.
const BARS: usize = 48;
/// Outliers marked one by one.
const MOST_OUTLIERS: usize = 200;

const STYLE: &str = "\
.back{fill:#fff}text{font:12px system-ui,sans-serif;fill:#1f2933}\
.title{font-size:17px;font-weight:600}.name{font-size:13px;font-weight:600}.faint{fill:#66727f;font-size:11px}\
.frame{fill:#f7f9fb;stroke:#d5dce3}.grid{stroke:#e1e7ed}.dot{fill:#1971c2;fill-opacity:.55}.bar{fill:#1971c2;fill-opacity:.75}\
.outlier{fill:#e03131}.p{stroke:#2f9e44;stroke-dasharray:5 3}.p95{stroke:#f08c00}.p99{stroke:#e03131}\
@media(prefers-color-scheme:dark){text{fill:#d8dee9}.faint{fill:#94a1b0}.frame{fill:#20262e;stroke:#3a434e}.grid{stroke:#2e3640}\
.dot,.bar{fill:#4dabf7}.back{fill:#161a20}}";

/// All panels in one drawing.
pub(super) fn svg(title: &str, panels: &[(Panel<'_>, &Points)], left_out: usize) -> String {
    let height = HEAD + PANEL * panels.len().max(1) as f64 + 24.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"round-trip times\">\n\
         <style>{STYLE}</style>\n<rect class=\"back\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"20\" y=\"28\">{}</text>\n",
        escaped(title)
    );
    if panels.is_empty() {
        let _ = writeln!(out, "<text x=\"20\" y=\"60\">no samples</text>");
    }
    // One axis of time for all, so that what happened at once is seen at once.
    let times = || panels.iter().flat_map(|(_, points)| points.points.iter().map(|(at, _)| *at));
    let (start, end) = (times().min().unwrap_or(0), times().max().unwrap_or(1));
    for (number, (panel, points)) in panels.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate(0 {})\">", HEAD + PANEL * number as f64);
        draw_panel(&mut out, panel, points, start, end.max(start + 1));
        out.push_str("</g>\n");
    }
    let foot =
        if left_out > 0 { format!("{left_out} pairs with fewer samples are not drawn. ") } else { String::new() };
    let _ = writeln!(
        out,
        "<text class=\"faint\" x=\"20\" y=\"{}\">{foot}Seconds since the first sample; red: above p99 and twice the median.</text>\n</svg>",
        height - 8.0
    );
    out
}

fn draw_panel(out: &mut String, panel: &Panel<'_>, points: &Points, start: u64, end: u64) {
    let stats = panel.stats;
    let (left, right, above, below) = COURSE;
    let (top, bottom) = (above, PANEL - below);
    let scale = RttScale::new(stats.min().as_millis_f64(), stats.max().as_millis_f64());
    let y = |ms: f64| bottom - scale.share(ms) * (bottom - top);
    let x = |at: u64| left + (at - start) as f64 / (end - start) as f64 * (right - left);
    let seconds = |at: u64| (at - start) as f64 / 1e9;
    let _ = writeln!(
        out,
        "<text class=\"name\" x=\"20\" y=\"20\">{} → {}</text>\n<text class=\"faint\" x=\"{right}\" y=\"20\" text-anchor=\"end\">\
         {} samples, min {}, avg {}, max {}, jitter {} ms</text>",
        escaped(panel.src),
        escaped(panel.dst),
        stats.count(),
        short(stats.min().as_millis_f64()),
        short(stats.mean_ms()),
        short(stats.max().as_millis_f64()),
        short(stats.jitter_ms()),
    );
    for (from, to) in [(left, right), SHAPE] {
        let _ = writeln!(
            out,
            "<rect class=\"frame\" x=\"{from}\" y=\"{top}\" width=\"{}\" height=\"{}\"/>",
            to - from,
            bottom - top
        );
    }
    for tick in scale.ticks() {
        let place = y(tick);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{left} {place:.1}H{right}\"/><text class=\"faint\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            place + 4.0,
            short(tick)
        );
    }
    let _ = writeln!(out, "<text class=\"faint\" x=\"20\" y=\"{:.1}\">ms</text>", f64::midpoint(top, bottom));
    for tick in even_ticks(0.0, seconds(end), 8) {
        let place = left + tick / seconds(end).max(1e-9) * (right - left);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{place:.1} {top}V{bottom}\"/><text class=\"faint\" x=\"{place:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            short_seconds(tick)
        );
    }
    let limit = outlier_limit(stats);
    let mut marked = 0;
    for (at, ms) in thinned(points, start, end) {
        if ms > limit && marked < MOST_OUTLIERS {
            marked += 1;
            let _ = writeln!(
                out,
                "<circle class=\"outlier\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"><title>{} ms at +{:.3} s</title></circle>",
                x(at),
                y(ms),
                short(ms),
                seconds(at)
            );
        } else {
            let _ = writeln!(out, "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.5\"/>", x(at), y(ms));
        }
    }
    draw_shape(out, points, scale, (top, bottom));
    let mut last = f64::MAX;
    for (name, figure) in ["p50", "p95", "p99"].into_iter().zip(stats.quantiles([0.5, 0.95, 0.99])) {
        let place = y(figure.ms);
        // Labels that would cover each other are moved up.
        let label = (place + 4.0).min(last - 12.0);
        last = label;
        let _ = writeln!(
            out,
            "<path class=\"p {name}\" d=\"M{left} {place:.1}H{right}M{} {place:.1}H{}\"/><text class=\"faint\" x=\"{}\" y=\"{label:.1}\">{name} {}</text>",
            SHAPE.0,
            SHAPE.1,
            SHAPE.1 + 6.0,
            shown(figure)
        );
    }
}

/// How many samples lie at each height.
fn draw_shape(out: &mut String, points: &Points, scale: RttScale, (top, bottom): (f64, f64)) {
    let mut counts = [0_usize; BARS];
    for (_, rtt) in &points.points {
        counts[((scale.share(rtt.as_millis_f64()) * BARS as f64) as usize).min(BARS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let tall = (bottom - top) / BARS as f64;
    for (number, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let wide = (*count as f64 / most as f64 * (SHAPE.1 - SHAPE.0 - 4.0)).max(1.0);
        let (from, to) = (scale.value(number as f64 / BARS as f64), scale.value((number + 1) as f64 / BARS as f64));
        let share = *count as f64 / points.points.len() as f64 * 100.0;
        let _ = writeln!(
            out,
            "<rect class=\"bar\" x=\"{}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"><title>{} to {} ms: {share:.1} %</title></rect>",
            SHAPE.0,
            bottom - (number + 1) as f64 * tall,
            tall * 0.85,
            short(from),
            short(to)
        );
    }
}

/// Above it a sample is an outlier.
fn outlier_limit(stats: &Stats) -> f64 {
    let [middle, most] = stats.quantiles([0.5, 0.99]);
    (2.0 * middle.ms).max(most.ms)
}

/// Of each strip of time the first sample, the smallest and the largest.
fn thinned(points: &Points, start: u64, end: u64) -> Vec<(u64, f64)> {
    let all = points.points.iter().map(|(at, rtt)| (*at, rtt.as_millis_f64()));
    if points.points.len() <= 3 * STRIPS {
        return all.collect();
    }
    let mut strips: Vec<Option<[(u64, f64); 3]>> = vec![None; STRIPS];
    for point in all {
        let strip = (u128::from(point.0 - start) * STRIPS as u128 / u128::from(end - start + 1)) as usize;
        let [_, least, most] = strips[strip.min(STRIPS - 1)].get_or_insert([point; 3]);
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

/// The page: the numbers as a table, and the drawing.
pub(super) fn html(title: &str, panels: &[(Panel<'_>, &Points)], left_out: usize) -> String {
    let mut rows = String::new();
    for (panel, _) in panels {
        let stats = panel.stats;
        let _ = write!(
            rows,
            "<tr><td>{}<td>{}<td>{}<td>{}",
            escaped(panel.src),
            escaped(panel.dst),
            escaped(panel.iface),
            stats.count()
        );
        let [_, figures @ ..] = columns(stats, stats.mean_ms());
        let [avg, min, p50, p95, p99, max, jitter] = figures;
        for figure in [min, avg, p50, p95, p99, max, jitter] {
            let _ = write!(rows, "<td>{}", shown(figure));
        }
        rows.push('\n');
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>\
         body{{font:14px system-ui,sans-serif;margin:2em auto;max-width:1080px;padding:0 1em;color-scheme:light dark}}\
         table{{border-collapse:collapse}}td,th{{padding:.25em .8em;text-align:right;border-bottom:1px solid #8884}}\
         td:nth-child(-n+3),th:nth-child(-n+3){{text-align:left}}svg{{width:100%;height:auto}}</style></head>\n<body>\n\
         <table><tr><th>src<th>dst<th>iface<th>samples<th>min<th>avg<th>p50<th>p95<th>p99<th>max<th>jitter ms\n{rows}</table>\n{1}</body></html>\n",
        escaped(title),
        svg(title, panels, left_out)
    )
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// A figure with the digits that it deserves.
fn shown(figure: Figure) -> String {
    if figure.is_exact { short(figure.ms) } else { format!("{:.*}", figure.decimals(3), figure.ms) }
}

/// A number with the decimals that matter.
fn short(ms: f64) -> String {
    match ms {
        ms if ms >= 1000.0 => format!("{ms:.0}"),
        ms if ms >= 100.0 => format!("{ms:.1}"),
        ms if ms >= 10.0 => format!("{ms:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        ms => format!("{ms:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

fn short_seconds(seconds: f64) -> String {
    format!("{seconds:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
