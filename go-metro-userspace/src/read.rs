//! `go-metro read`: a capture file through the engine, to a table or to samples.

mod progress;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use go_metro_common::counters::Unparsable;
use go_metro_common::segment::Sides;
use go_metro_rtt::{
    Batch, Engine, EngineConfig, EngineCounters, Interval, Kind, Nanos, Outcome, PairKey, PairSummary, Ports, Quiet,
    Rejection, Segment, Side, Stats, Summaries, SummaryLimits,
};
use ipnet::IpNet;

use crate::capture::CaptureError;
use crate::capture::file::{FileFilter, FileSource, Told};
use crate::output::naming::{KernelTimes, Names};
use crate::output::plot::{Panel, Plot};
use crate::output::sample::SampleWriter;
use crate::output::table::Columns;
use crate::output::{csv, json, naming, table};
use crate::terminal;

/// Flows at once; a capture may hold more than a host has.
const MAX_FLOWS: u32 = 1 << 20;
/// Pairs told apart unless said otherwise: each takes some 8 KiB.
pub const MAX_PAIRS: usize = 1 << 14;
/// How often, in the capture's time, flows are expired.
const EXPIRE_EVERY_NS: u64 = 1_000_000_000;

/// What to read, and what to show of it.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The capture; `-` is standard input.
    pub file: PathBuf,
    /// Which flows.
    pub filter: FileFilter,
    /// Every sample, instead of the pairs.
    pub samples: bool,
    /// In which form.
    pub format: Format,
    /// Only connections with these ports.
    pub ports: Ports,
    /// A file to draw into, `.svg` or `.html`.
    pub plot: Option<PathBuf>,
    /// How many pairs to draw.
    pub plot_pairs: usize,
    /// Why acknowledgements were no samples.
    pub explain: Option<Explain>,
    /// Most pairs to tell apart.
    pub max_pairs: usize,
    /// Most threads to read with; the result is the same with any number.
    pub threads: usize,
    /// Columns of the terminal that a table is shown on; none if it goes elsewhere.
    pub width: Option<usize>,
}

impl ReadOptions {
    /// Whether each sample is printed, instead of the pairs.
    pub fn writes_lines(&self) -> bool {
        self.samples || self.explain == Some(Explain::All)
    }
}

/// In which form results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people; samples as JSON lines
    #[default]
    Table,
    /// A JSON object a line
    Json,
    /// Comma-separated values with a header
    Csv,
}

/// How closely to tell what became of the acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Explain {
    /// How many for each reason.
    Counts,
    /// Every acknowledgement of something new, sample or not, as a line of JSON.
    All,
}

/// Why a capture could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The capture.
    #[error("{0}")]
    Capture(#[from] CaptureError),
    /// Nothing of it could be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The capture.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The output.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Reads a capture and writes what was asked for.
///
/// # Errors
///
/// What cannot be opened or written, or that nothing could be read of the capture; a reader that goes away is no error.
pub fn run(options: &ReadOptions, out: &mut impl Write) -> Result<(), ReadError> {
    let mut source = FileSource::open_through(&options.file, |file| progress::shown(file, options.writes_lines()))?;
    match show(options, &mut source, out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        done => done?,
    }
    if source.is_unreadable() {
        let reason = source.unread().or_else(|| source.broken().map(str::to_owned)).unwrap_or_default();
        return Err(ReadError::Unreadable { path: options.file.clone(), reason });
    }
    Ok(())
}

fn show(options: &ReadOptions, source: &mut FileSource, out: &mut impl Write) -> io::Result<()> {
    let mut engine =
        Engine::new(EngineConfig { max_flows: MAX_FLOWS, peers_complete: true, ..EngineConfig::default() });
    let mut summaries =
        Summaries::new(SummaryLimits { max_pairs: options.max_pairs, keeps_choice: false, ..SummaryLimits::default() });
    let mut expire_at = Nanos(0);
    let mut written = Ok(());
    let every_ack = options.explain == Some(Explain::All);
    let lines = options.writes_lines();
    let mut plot = options.plot.as_ref().map(|_| Plot::new(options.plot_pairs));
    let mut writer = match lines {
        true if options.format == Format::Csv => Some(SampleWriter::csv(&mut *out)?),
        true => Some(SampleWriter::Json(&mut *out)),
        false => None,
    };
    let mut sink = |segment: &Segment, outcome| match outcome {
        Outcome::Sample(sample) => {
            if let Some(plot) = plot.as_mut().filter(|_| sample.kind == Kind::Data) {
                plot.add(&sample);
            }
            if !lines || options.plot.is_some() {
                summaries.add(&sample);
            }
            if let Some(writer) = writer.as_mut().filter(|_| written.is_ok()) {
                written = writer.write(&sample, 0);
            }
        }
        Outcome::Rejected(reason) if every_ack => {
            if let Some(writer) = writer.as_mut().filter(|_| written.is_ok()) {
                written = writer.reject(segment, reason);
            }
        }
        _ => {}
    };
    let mut batch = Batch::of(options.ports);
    source.for_each_told_on(options.threads, &options.filter, &mut |told| {
        let Told::Segment(segment) = told else {
            batch.flush(&mut engine, &mut sink);
            engine.note_gap();
            return;
        };
        if segment.time() >= expire_at {
            batch.flush(&mut engine, &mut sink);
            engine.expire(segment.time());
            expire_at = Nanos(segment.time().0.saturating_add(EXPIRE_EVERY_NS));
        }
        batch.push(segment, &mut engine, &mut sink);
    });
    batch.flush(&mut engine, &mut sink);
    written.and_then(|()| writer.as_mut().map_or(Ok(()), SampleWriter::flush))?;
    drop(writer);
    if source.is_unreadable() {
        return Ok(());
    }
    for told in remarks(options, source, engine.counters()) {
        let told = format!("go-metro: {}: {told}", options.file.display());
        terminal::complain(&(terminal::printable(&told) + "\n"));
    }
    let coarse = coarse_clock(source, engine.counters());
    if let Some(coarse) = coarse.as_ref().filter(|_| lines || options.format != Format::Table) {
        terminal::complain(&format!("go-metro: {coarse}\n"));
    }
    let tells_side = options.filter.sides != Sides::REMOTE;
    let interval = summaries.take();
    if let (Some(plot), Some(path)) = (&plot, &options.plot) {
        draw(plot, &interval, source, &options.file, path)?;
    }
    if interval.folded_samples > 0 {
        let Interval { folded_samples, .. } = interval;
        let told = format!(
            "go-metro: more than {} pairs: {folded_samples} samples of the others are counted as `{}`; raise \
             --max-pairs",
            options.max_pairs,
            naming::OTHER
        );
        terminal::complain(&(told + "\n"));
    }
    let counters = engine.counters();
    if !lines {
        let pairs = naming::name_pairs(&interval, &Addresses { tells_side, source }, &KernelTimes::new());
        match options.format {
            Format::Table => {
                let columns = Columns { side: tells_side, kernel: false };
                let text = match options.width {
                    Some(width) => table::render_within(width, &pairs, columns),
                    None => table::render(&pairs, columns),
                };
                out.write_all(text.as_bytes())?;
                let packets = source.counters().packets.seen;
                let (flows, samples, rejected) =
                    (counters.flows_begun, counters.samples_total(), counters.rejected_total());
                writeln!(out, "\n{packets} packets, {flows} flows, {samples} samples, {rejected} rejected")?;
                if let Some(coarse) = &coarse {
                    writeln!(out, "{coarse}")?;
                }
            }
            Format::Json => json::write_pairs(out, &pairs)?,
            Format::Csv => csv::write_pairs(&mut *out, &pairs)?,
        }
    }
    if options.explain == Some(Explain::Counts) {
        explain(source, &engine, out)?;
    }
    Ok(())
}

/// What was not measured of the capture, and why, a line each.
fn remarks(options: &ReadOptions, source: &FileSource, engine: &EngineCounters) -> Vec<String> {
    let broken = source.broken().map(|broken| format!("{broken}; everything before that was used"));
    let absent = absent(&options.filter, source).or_else(|| other_ports(engine));
    let one_way = source.one_way(options.filter.sides, engine);
    let resent = resent(engine);
    broken
        .into_iter()
        .chain(source.unread())
        .chain(source.without_tcp())
        .chain(absent)
        .chain(one_way)
        .chain(source.warnings())
        .chain(resent)
        .collect()
}

/// That most of what was acknowledged was seen to be sent more than once, which no path does.
fn resent(engine: &EngineCounters) -> Option<String> {
    /// Fewer may be chance.
    const LEAST: u64 = 10;
    let resent = engine.rejected[Rejection::Retransmitted as usize];
    let all = engine.samples_total() + engine.rejected_total();
    (resent >= LEAST && resent * 2 > all).then(|| {
        format!(
            "{resent} of {all} round trips cannot be measured because their segments are in the capture twice: a path \
             loses less, but captures of two places that were merged look so; measure each capture by itself"
        )
    })
}

/// That no segment is of the ports that were named.
fn other_ports(engine: &EngineCounters) -> Option<String> {
    (engine.other_ports > 0 && engine.flows_begun == 0)
        .then(|| "no TCP segment is of the ports that --port names; leave it out to see what there is".to_owned())
}

/// That no segment is of the hosts that were named, and whose are.
fn absent(filter: &FileFilter, source: &FileSource) -> Option<String> {
    /// Most hosts to name.
    const NAMED: usize = 8;
    let listed = |list: &mut dyn Iterator<Item = String>| list.collect::<Vec<_>>().join(", ");
    let net = |net: &IpNet| {
        if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
    };
    for (nets, option) in [(&filter.local, "--local"), (&filter.targets, "--target")] {
        let others = if nets.is_empty() { Vec::new() } else { source.instead_of(nets) };
        if !others.is_empty() {
            let wanted = listed(&mut nets.iter().map(net));
            let named = listed(&mut others.iter().take(NAMED).map(ToString::to_string));
            let more = others.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Some(format!(
                "no TCP segment is from or to {wanted} ({option}); there are segments of {named}{more}"
            ));
        }
    }
    (!filter.local.is_empty() && !filter.targets.is_empty() && source.has_only_others()).then(|| {
        let [local, targets] = [&filter.local, &filter.targets].map(|nets| listed(&mut nets.iter().map(net)));
        format!("no connection is between {local} (--local) and {targets} (--target)")
    })
}

/// How many round trips the capture's clock is too coarse for, if it is for any.
fn coarse_clock(source: &FileSource, counters: &EngineCounters) -> Option<String> {
    let left_out = counters.rejected[Rejection::NotPositive as usize];
    let all = left_out + counters.samples_total();
    (left_out > 0).then(|| {
        let Some(tick) = source.tick() else {
            return format!("all frames have one time: {left_out} of {all} round trips cannot be measured");
        };
        let tick = format!("{tick:?}");
        let (number, unit) = tick.split_at(tick.find(|c: char| c.is_alphabetic()).unwrap_or(tick.len()));
        let set = if source.clock_was_set_back() { ", or begin before the clock was set back" } else { "" };
        format!("clock of {number} {unit}: {left_out} of {all} round trips are shorter than a tick{set}")
    })
}

/// Draws into a file: a page if its name ends so, else a drawing.
fn draw(plot: &Plot, interval: &Interval, source: &FileSource, capture: &Path, path: &Path) -> io::Result<()> {
    let named: HashMap<PairKey, [String; 3]> = interval
        .pairs
        .iter()
        .map(|(key, _)| (*key, [key.local.to_string(), key.remote.to_string(), source.place(key.ifindex).to_owned()]))
        .collect();
    let summaries: HashMap<PairKey, &PairSummary> =
        interval.pairs.iter().map(|(key, summary)| (*key, summary)).collect();
    let panel = |key: &PairKey| {
        let [src, dst, iface] = named.get(key)?;
        let (src, dst) = if key.side == Side::Local { (dst, src) } else { (src, dst) };
        Some(Panel { src, dst, iface, stats: summaries.get(key)?.data.as_ref()? })
    };
    let title = format!("Round-trip times in {}", capture.file_name().unwrap_or(capture.as_os_str()).to_string_lossy());
    let is_page = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html"));
    let other = interval.other.as_ref().and_then(|other| other.data.as_ref()).map_or(0, Stats::count);
    let text = if is_page { plot.html(&title, other, &panel) } else { plot.svg(&title, other, &panel) };
    std::fs::write(path, text).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The account, from packets to samples. Each sum is that of the lines indented below it.
fn explain(source: &FileSource, engine: &Engine, out: &mut impl Write) -> io::Result<()> {
    let (seen, counters) = (source.counters(), engine.counters());
    let mut line = |indent: usize, what: &str, count: u64| {
        writeln!(out, "{:indent$}{what:<width$} {count:>12}", "", width = 34 - indent)
    };
    line(0, "\npackets", seen.packets.seen)?;
    line(2, "no TCP, not wanted, tells no RTT", seen.passed_over)?;
    line(2, "fragments", seen.packets.fragments)?;
    line(2, "copies of a frame", seen.copies)?;
    if seen.mixed > 0 {
        line(2, "of two places or clocks", seen.mixed)?;
    }
    line(2, "of a tunnel, not looked into", seen.packets.encapsulated)?;
    line(2, "unread: link type, interface, time", seen.unread.iter().sum())?;
    for cause in Unparsable::REFUSED {
        line(2, &format!("unparsable: {}", cause.name()), seen.packets.unparsable[cause as usize])?;
    }
    line(2, "segments", seen.packets.matched)?;
    line(0, "segments, as each end saw them", seen.packets.records)?;
    if counters.other_ports > 0 {
        line(2, "of other ports", counters.other_ports)?;
    }
    line(2, "sent", counters.sent)?;
    line(2, "received, nothing to be expected", counters.quiet_total())?;
    for reason in Quiet::ALL {
        line(4, reason.name(), counters.quiet[reason as usize])?;
    }
    line(2, "received, acknowledging new data", counters.samples_total() + counters.rejected_total())?;
    for (class, count) in ["exact", "partial", "timestamp"].iter().zip(counters.classes) {
        line(4, &format!("sample: {class}"), count)?;
    }
    for reason in Rejection::ALL {
        line(4, &format!("rejected: {}", reason.name()), counters.rejected[reason as usize])?;
    }
    line(0, "of the sent: retransmissions", counters.retransmissions)?;
    line(0, "of the samples: delayed ACK", counters.delayed)?;
    line(0, "of the segments: malformed option", seen.packets.unparsable[Unparsable::TcpOption as usize])
}

/// A capture's hosts go by their addresses: whose names they had then, nobody can ask any more.
struct Addresses<'a> {
    tells_side: bool,
    source: &'a FileSource,
}

impl Names for Addresses<'_> {
    fn interface(&self, ifindex: u32) -> String {
        self.source.place(ifindex).to_owned()
    }

    fn remote(&self, address: std::net::IpAddr) -> String {
        address.to_string()
    }

    fn tags(&self, _interface: &str, _address: std::net::IpAddr) -> std::sync::Arc<[String]> {
        std::sync::Arc::from([])
    }

    fn global_tags(&self) -> std::sync::Arc<[String]> {
        std::sync::Arc::from([])
    }

    fn tells_side(&self) -> bool {
        self.tells_side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_host_that_is_not_in_the_capture_is_answered_with_those_that_are() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/delayed-acks.pcap.gz"));
        let said = |local: &[&str]| {
            let local = local.iter().map(|net| net.parse().unwrap()).collect();
            let filter = FileFilter { local, ..FileFilter::default() };
            let mut source = FileSource::open(path).unwrap();
            source.for_each(&filter, &mut |_| ());
            absent(&filter, &source)
        };
        assert_eq!(
            said(&["10.0.0.9/32", "fd00::/8"]).unwrap(),
            "no TCP segment is from or to 10.0.0.9, fd00::/8 (--local); there are segments of 10.77.0.1, 10.77.0.2"
        );
        assert_eq!((said(&["10.77.0.1/32"]), said(&[])), (None, None));
    }

    #[test]
    fn a_target_or_port_that_is_not_in_the_capture_is_said() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/delayed-acks.pcap.gz"));
        let said = |local: &[&str], targets: &[&str], ports: Ports| {
            let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
            let filter = FileFilter { local: nets(local), targets: nets(targets), ..FileFilter::default() };
            let mut source = FileSource::open(path).unwrap();
            let mut engine = Engine::new(EngineConfig::default());
            let mut batch = Batch::of(ports);
            source.for_each(&filter, &mut |segment| batch.push(segment, &mut engine, &mut |_: &Segment, _| ()));
            batch.flush(&mut engine, &mut |_: &Segment, _| ());
            absent(&filter, &source).or_else(|| other_ports(engine.counters()))
        };
        assert_eq!(
            said(&[], &["10.0.0.9/32"], Ports::ALL).unwrap(),
            "no TCP segment is from or to 10.0.0.9 (--target); there are segments of 10.77.0.1, 10.77.0.2"
        );
        assert_eq!(
            said(&["10.77.0.1/32"], &["10.77.0.1/32"], Ports::ALL).unwrap(),
            "no connection is between 10.77.0.1 (--local) and 10.77.0.1 (--target)"
        );
        assert_eq!(said(&["10.77.0.1/32"], &["10.77.0.2/32"], Ports::ALL), None);
        assert!(said(&[], &[], Ports::new(&[(1, 1)]).unwrap()).unwrap().contains("--port"));
    }
}
