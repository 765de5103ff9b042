//! docs/how-it-measures.svg: frames of two captures on a scale of time, and what go-metro makes of each
//! acknowledgement.
//!
//! Times are those at the local interface, where the captures were made. When the far end had a frame is not known
//! there; the drawing slants all lines alike.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use testing_support::svg::{Element, element, line, picture};
use testing_support::workspace::{capture, root};

/// The end that the captures were made at.
const LOCAL: &str = "10.77.0.1";
/// Capture, its frames that are drawn, and a heading.
const PARTS: [(&str, std::ops::RangeInclusive<u64>, &str); 2] = [
    ("clean", 1..=11, "A connection begins; requests and answers"),
    ("tail-loss-probe", 46..=57, "The last two segments of a flight are lost"),
];
/// Size of a part, and where its two ends are.
const PART_WIDTH: f64 = 610.0;
const LOCAL_X: f64 = 220.0;
const REMOTE_X: f64 = 480.0;
const TOP: f64 = 86.0;
/// How far a frame's line falls from end to end.
const SLANT: f64 = 16.0;
/// Rows are as far apart as their frames are in time, within these bounds.
const ROW: (f64, f64) = (23.0, 48.0);
const PER_MS: f64 = 2.2;

const INK: &str = "#808080";
const SENT: &str = "#0072b2";
const SAMPLE: &str = "#009e73";
const NONE: &str = "#d55e00";

/// A frame as tshark has it.
struct Frame {
    time_ns: u64,
    is_out: bool,
    label: String,
}

/// A line of `read --explain=all`.
#[derive(Deserialize)]
struct Verdict {
    time_ns: u64,
    rtt_ns: Option<u64>,
    rejected: Option<String>,
}

/// The file's text.
pub(super) fn drawing(binary: &Path) -> Result<String> {
    let mut parts = Vec::new();
    let mut height: f64 = 0.0;
    for (number, (name, frames, heading)) in PARTS.iter().enumerate() {
        let file = root().join(format!("corpus/{name}.pcap.gz"));
        let place = format!("translate({:.0} 0)", number as f64 * PART_WIDTH);
        let place = element("g").set("transform", place);
        let (part, bottom) = part(place, &frames_of(&file, frames)?, &verdicts(binary, &file)?, heading)?;
        parts.push(part);
        height = height.max(bottom);
    }
    let width = PARTS.len() as f64 * PART_WIDTH;
    let drawing = picture(width, format_args!("{:.0}", height + 30.0)).set("role", "img");
    let drawing = drawing.set("aria-label", "Frames of two captures and the samples they give");
    let mut drawing = drawing.set("font-family", "sans-serif").set("font-size", 12).set("fill", INK);
    parts.iter().for_each(|part| drawing.push(part));
    Ok(format!("{drawing}\n"))
}

fn frames_of(file: &Path, numbers: &std::ops::RangeInclusive<u64>) -> Result<Vec<Frame>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-T", "fields", "-E", "separator=|"]);
    let filter = format!("tcp && frame.number >= {} && frame.number <= {}", numbers.start(), numbers.end());
    command.args(["-Y", &filter]);
    for field in [
        "frame.time_epoch",
        "ip.src",
        "tcp.flags.syn",
        "tcp.flags.ack",
        "tcp.seq",
        "tcp.ack",
        "tcp.len",
        "tcp.options.sack_le",
    ] {
        command.args(["-e", field]);
    }
    // Numbers relative to the connection's first need all of its frames: the filter is for what is printed.
    capture(&mut command)?.lines().map(|line| frame(line).with_context(|| format!("tshark printed {line:?}"))).collect()
}

fn frame(line: &str) -> Result<Frame> {
    let fields: Vec<&str> = line.split('|').collect();
    let [time, source, syn, ack_flag, seq, ack, length, sack] = fields[..] else {
        anyhow::bail!("{} fields", fields.len())
    };
    let (seconds, fraction) = time.split_once('.').context("no time")?;
    let time_ns = seconds.parse::<u64>()? * 1_000_000_000 + format!("{fraction:0<9}")[..9].parse::<u64>()?;
    let (seq, length): (u64, u64) = (seq.parse()?, length.parse()?);
    let is_set = |flag: &str| flag == "1" || flag == "True";
    let label = match (is_set(syn), length) {
        (true, _) if is_set(ack_flag) => format!("SYN, ack {ack}"),
        (true, _) => "SYN".to_owned(),
        (false, 0) if !sack.is_empty() => format!("ack {ack}, SACK {sack}…"),
        (false, 0) => format!("ack {ack}"),
        (false, _) => format!("bytes {seq}–{}, ack {ack}", seq + length - 1),
    };
    Ok(Frame { time_ns, is_out: source == LOCAL, label })
}

fn verdicts(binary: &Path, file: &Path) -> Result<Vec<Verdict>> {
    let mut command = Command::new(binary);
    let text = capture(command.arg("read").arg(file).args(["--local", LOCAL, "--explain=all"]))?;
    text.lines().filter(|line| line.starts_with('{')).map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// One part, inside `svg`, and where it ends.
fn part(mut svg: Element, frames: &[Frame], verdicts: &[Verdict], heading: &str) -> Result<(Element, f64)> {
    let first = frames.first().context("no frames")?.time_ns;
    let mut rows: Vec<f64> = Vec::new();
    let mut y = TOP;
    for (number, frame) in frames.iter().enumerate() {
        if number > 0 {
            let gap = (frame.time_ns - frames[number - 1].time_ns) as f64 / 1e6 * PER_MS;
            y += gap.clamp(ROW.0, ROW.1);
        }
        rows.push(y);
    }
    let bottom = y + SLANT + 14.0;
    let title = element("text").set("x", 16).set("y", 24).set("font-size", 14).set("font-weight", "bold");
    svg.push(title.text(heading));
    for (x, name) in [(LOCAL_X, "local end"), (REMOTE_X, "remote end")] {
        svg.push(element("text").set("x", x).set("y", 52).set("text-anchor", "middle").text(name));
        let axis = line(format_args!("M{x} 60V{bottom:.1}"));
        svg.push(axis.set("stroke", INK).set("stroke-width", 1.5));
    }
    let mut brackets = 0;
    for (frame, y) in frames.iter().zip(&rows) {
        let (from, to, down) = if frame.is_out { (LOCAL_X, REMOTE_X, SLANT) } else { (REMOTE_X, LOCAL_X, 0.0) };
        let (start, end) = (if frame.is_out { *y } else { y - SLANT }, y + down);
        let verdict = verdicts.iter().find(|verdict| !frame.is_out && verdict.time_ns == frame.time_ns);
        let colour = match verdict {
            Some(Verdict { rejected: Some(_), .. }) => NONE,
            Some(Verdict { rtt_ns: Some(_), .. }) => SAMPLE,
            _ if frame.is_out => SENT,
            _ => INK,
        };
        svg.push(arrow(from, start, to, end, colour));
        let (x, y_label) = (f64::midpoint(LOCAL_X, REMOTE_X), f64::midpoint(start, end) - 4.0);
        let angle = ((end - start) / (to - from)).atan().to_degrees();
        let place = format!("translate({x:.1} {y_label:.1}) rotate({angle:.1})");
        let label = element("text").set("transform", place).set("text-anchor", "middle").set("font-size", 10.5);
        svg.push(label.set("fill", colour).text(&frame.label));
        let time = at(LOCAL_X - 8.0, y + 4.0).set("text-anchor", "end").set("font-size", 10.5);
        svg.push(time.text(format_args!("{:.1} ms", (frame.time_ns - first) as f64 / 1e6)));
        if let Some(Verdict { rejected: Some(reason), .. }) = verdict {
            let why = at(REMOTE_X + 12.0, y - SLANT + 4.0).set("fill", NONE);
            svg.push(why.text(format_args!("no sample: {reason}")));
        }
        let Some(Verdict { rtt_ns: Some(rtt), .. }) = verdict else { continue };
        // The segment that it times left so long ago.
        let sent = frames.iter().position(|sent| sent.is_out && sent.time_ns + rtt == frame.time_ns);
        let sent = rows[sent.with_context(|| format!("no segment left {rtt} ns before {}", frame.label))?];
        let x = [150.0, 80.0][brackets % 2];
        brackets += 1;
        let edge = LOCAL_X - 56.0;
        let bracket = line(format_args!("M{edge} {sent:.1}H{x}V{y:.1}H{edge}")).set("fill", "none");
        svg.push(bracket.set("stroke", SAMPLE).set("stroke-width", 1.5));
        let sample = at(x - 4.0, f64::midpoint(sent, *y) + 4.0).set("text-anchor", "end").set("fill", SAMPLE);
        svg.push(sample.set("font-weight", "bold").text(format_args!("{:.2} ms", *rtt as f64 / 1e6)));
    }
    Ok((svg, bottom))
}

/// A text at a place.
fn at(x: f64, y: f64) -> Element {
    element("text").set("x", format_args!("{x:.1}")).set("y", format_args!("{y:.1}"))
}

fn arrow(x1: f64, y1: f64, x2: f64, y2: f64, colour: &str) -> String {
    let shaft = line(format_args!("M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}")).set("stroke", colour).set("stroke-width", 1.5);
    let back = if x2 > x1 { -8.0 } else { 8.0 };
    let head = line(format_args!("M{x2:.1} {y2:.1}l{back} -5v9z")).set("fill", colour);
    format!("{shaft}{head}")
}
