//! `go-metro read`: a capture file through the engine, to a table or to samples.

mod progress;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use go_metro_common::counters::Unparsable;
use go_metro_common::segment::Sides;
use go_metro_rtt::{
    Engine, EngineConfig, HealthLimits, Interval, Kind, Outcome, PairKey, PairSummary, Ports, Quiet, Rejection,
    Segment, Side, Stats, Summaries, SummaryLimits,
};

use crate::capture::CaptureError;
use crate::capture::file::{FileFilter, FileSource};
use crate::capture::recorded::{self, Called, Wanted};
use crate::groups::{Apart, Groups};
use crate::output::naming::{Beside, Names};
use crate::output::plot::{Panel, Plot};
use crate::output::sample::{NoSample, SampleWriter};
use crate::output::table::Columns;
use crate::output::{csv, json, naming, table};
use crate::terminal;

/// Flows at once; a capture may hold more than a host has.
const MAX_FLOWS: u32 = 1 << 20;
/// An attempt to connect that was not answered for so long has failed; as the daemon has it by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pairs told apart unless said otherwise: each takes some 8 KiB.
pub const MAX_PAIRS: usize = 1 << 14;

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
    /// Whether to print why acknowledgements gave no sample.
    pub explain: Option<Explain>,
    /// What was sent again, connections that failed, and how long responses took, too.
    pub health: bool,
    /// Which remote hosts to put together.
    pub groups: Groups,
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
    /// One JSON object per line
    Json,
    /// Comma-separated values with a header
    Csv,
}

/// How much detail to print about acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Explain {
    /// How many for each reason
    Counts,
    /// Every acknowledgement of new data, sample or not, and those of resets, as one JSON object per line
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
    let mut summaries =
        Summaries::new(SummaryLimits { max_pairs: options.max_pairs, keeps_choice: false, ..SummaryLimits::default() });
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
        Outcome::Response(response) => summaries.add_response(&response),
        Outcome::Resent(again) => {
            if let Some(plot) = &mut plot {
                let segments = segment.header.payload.segments();
                let pair = PairKey::of(&segment.flow, again.place, again.label);
                plot.add_resent(pair, segment.time().0, again.cause, segments);
            }
        }
        outcome if every_ack => {
            if let Some(writer) = writer.as_mut().filter(|_| written.is_ok())
                && let Some(reason) = NoSample::of(segment, &outcome)
            {
                written = writer.write_no_sample(segment, reason);
            }
        }
        _ => {}
    };
    let config = EngineConfig { max_flows: MAX_FLOWS, ..EngineConfig::DEFAULT };
    let grouping = options.groups.grouping(Apart::default());
    let grouping = grouping.as_ref();
    let wanted = Wanted { filter: &options.filter, ports: options.ports, grouping, called: Called::OPTIONS };
    let side = if options.filter.sides == Sides::LOCAL { Side::Local } else { Side::Remote };
    let health = HealthLimits { max_pairs: options.max_pairs, connect_timeout: CONNECT_TIMEOUT, side };
    // The cause of a retransmission is known only where health is counted.
    let health = (options.health || options.plot.is_some()).then_some(health);
    let mut engine = recorded::measure(source, wanted, options.threads, (config, health, options.health), &mut sink);
    written.and_then(|()| writer.as_mut().map_or(Ok(()), SampleWriter::flush))?;
    drop(writer);
    if source.is_unreadable() {
        return Ok(());
    }
    let unanswered =
        options.health.then(|| recorded::take_health(&mut engine, CONNECT_TIMEOUT, &mut summaries)).flatten();
    for told in recorded::remarks(source, wanted, engine.counters()).into_iter().chain(unanswered) {
        let told = format!("go-metro: {}: {told}", options.file.display());
        terminal::complain(&(terminal::printable(&told) + "\n"));
    }
    let coarse = recorded::coarse_clock(source, engine.counters());
    if let Some(coarse) = coarse.as_ref().filter(|_| lines || options.format != Format::Table) {
        terminal::complain(&format!("go-metro: {coarse}\n"));
    }
    let recorded = if options.filter.sides_as_recorded { source.recorded_sides() } else { Sides(0) };
    let tells_side = (options.filter.sides.0 | recorded.0) != Sides::REMOTE.0;
    let interval = summaries.take();
    let names = Addresses { tells_side, source, groups: &options.groups };
    if let (Some(plot), Some(path)) = (&plot, &options.plot) {
        draw(plot, &interval, &names, &options.file, path)?;
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
        let pairs = naming::name_pairs(&interval, &names, &Beside::default());
        match options.format {
            Format::Table => {
                let columns = Columns {
                    side: tells_side,
                    health: options.health,
                    response: options.health,
                    ..Columns::default()
                };
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

/// Draws into a file: a page if its name ends so, else a drawing.
fn draw(plot: &Plot, interval: &Interval, names: &Addresses<'_>, capture: &Path, path: &Path) -> io::Result<()> {
    let named: HashMap<PairKey, [String; 3]> = interval
        .pairs
        .iter()
        .map(|(key, _)| {
            let dst = naming::remote_of(key, names);
            (*key, [key.local.to_string(), dst, names.interface(key.ifindex)])
        })
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
    line(2, "not TCP, not wanted, or no RTT", seen.passed_over)?;
    line(2, "fragments", seen.packets.fragments)?;
    line(2, "duplicate frames", seen.copies)?;
    if seen.mixed > 0 {
        line(2, "of two places or clocks", seen.mixed)?;
    }
    line(2, "in tunnels that are not read", seen.packets.encapsulated)?;
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
    line(2, "received, nothing to time", counters.quiet_total())?;
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
    groups: &'a Groups,
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

    fn group(&self, pair: &PairKey, _interface: &str) -> Option<(String, std::sync::Arc<[String]>)> {
        self.groups.name(pair).map(|group| (group.name, group.tags.into()))
    }

    fn tells_side(&self) -> bool {
        self.tells_side
    }
}
