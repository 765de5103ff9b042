//! `cargo xtask oracle --health FILE...`: what was sent again, as `go-metro read --health` counts it, against tshark's
//! and tcptrace's counts.
//!
//! Both judges mean something else by a retransmission than go-metro does (docs/health.md). So that a difference can be
//! told from a mistake, each frame is looked at by rules that share no line with the engine: what go-metro should
//! count, what tshark says of it, and whether its bytes were captured before, which is what tcptrace counts. Where two
//! differ by a frame, a [`Why`] says why; what none explains is a mistake of one of them, and fails.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::tcptrace::{self, Totals};
use super::trace::{Flow, Frame, Said, before};
use super::{at_once, captures, copies, name_of, tshark};
use testing_support::workspace::capture;

/// A copy of a frame follows within this time, as [`copies`] has it.
const COPY_NS: u64 = 1_000_000;

/// Why two counts differ by a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It begins below what was sent, and tshark takes it for one that was overtaken on its way: it came soon after a
    /// higher one, and no acknowledgement asked for it twice.
    OutOfOrder,
    /// The network or the capture made two of one frame.
    Copy,
    /// Several that were sent at once have one time, and were captured in another order.
    SameTime,
    /// tshark takes for needless what is acknowledged already; but its acknowledgement was captured before it.
    AcknowledgedEarly,
    /// Both ends opened at once: the SYN-ACK has the SYN's number (RFC 9293 section 3.5).
    CrossingSyn,
    /// A keep-alive repeats the last byte (RFC 9293 section 3.8.4), or a byte is sent to see whether a window is open.
    Probe,
    /// None of its bytes was captured before: what it repeats was lost before the place of the capture, or before its
    /// begin.
    NotCapturedBefore,
    /// tcptrace misreads the direction: it has other packets or bytes than there are.
    Misread,
}

impl Why {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::OutOfOrder => "out of order to tshark",
            Self::Copy => "copies",
            Self::SameTime => "sent at one time",
            Self::AcknowledgedEarly => "acknowledged before captured",
            Self::CrossingSyn => "SYNs that cross",
            Self::Probe => "keep-alives and probes",
            Self::NotCapturedBefore => "not captured before",
            Self::Misread => "directions tcptrace misreads",
        }
    }
}

/// Why one of the judges counts frames that the other does not.
pub type Reasons = BTreeMap<Why, u64>;

/// How the counts of a capture compare: segments, and of the judges, which know none, frames.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Segments sent again: go-metro's, tshark's, tcptrace's.
    pub ours: u64,
    /// As tshark counts them.
    pub tshark: u64,
    /// As tcptrace does, of the directions that it reads; none where it cannot read the capture.
    pub tcptrace: Option<u64>,
    /// Frames that only one of us and tshark counts.
    pub to_tshark: Reasons,
    /// The same of tcptrace, but directions for [`Why::Misread`].
    pub to_tcptrace: Reasons,
    /// Differences that nothing explains.
    pub unexplained: Vec<String>,
}

impl Counted {
    /// Adds another capture's.
    pub fn add(&mut self, other: &Self) {
        self.ours += other.ours;
        self.tshark += other.tshark;
        self.tcptrace = self.tcptrace.into_iter().chain(other.tcptrace).reduce(|a, b| a + b);
        for (mine, theirs) in [(&mut self.to_tshark, &other.to_tshark), (&mut self.to_tcptrace, &other.to_tcptrace)] {
            theirs.iter().for_each(|(why, count)| *mine.entry(*why).or_default() += count);
        }
        self.unexplained.extend(other.unexplained.iter().cloned());
    }

    /// A line of the table.
    #[must_use]
    pub fn row(&self, name: &str) -> String {
        let tcptrace = self.tcptrace.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let told = |reasons: &Reasons| {
            reasons.iter().map(|(why, count)| format!("{count} {}", why.words())).collect::<Vec<_>>().join(", ")
        };
        let (ours, tshark, unexplained) = (self.ours, self.tshark, self.unexplained.len());
        let (to_tshark, to_tcptrace) = (told(&self.to_tshark), told(&self.to_tcptrace));
        format!("{name:<28} {ours:>5} {tshark:>7} {tcptrace:>8} {unexplained:>11}  {to_tshark:<44}  {to_tcptrace}")
    }
}

/// The table's head, over [`Counted::row`].
pub const HEADER: &str = "\
capture                       ours  tshark tcptrace unexplained  against tshark                                \
against tcptrace";

/// Compares each file and prints a table with a total.
///
/// # Errors
///
/// A file cannot be read, or a difference is not explained.
pub fn main(binary: &Path, given: &[PathBuf]) -> Result<()> {
    println!("{HEADER}");
    let mut total = Counted::default();
    for (file, counted) in all(binary, captures(given)?) {
        let counted = counted.with_context(|| format!("{}", file.display()))?;
        println!("{}", counted.row(&name_of(&file)));
        counted.unexplained.iter().for_each(|line| println!("    {line}"));
        total.add(&counted);
    }
    println!("{}", total.row("total"));
    if !total.unexplained.is_empty() {
        bail!("{} differences are not explained", total.unexplained.len());
    }
    Ok(())
}

/// [`compare`] of all of `files`, several at once, in the same order.
pub fn all(binary: &Path, files: Vec<PathBuf>) -> impl Iterator<Item = (PathBuf, Result<Counted>)> {
    let binary = binary.to_owned();
    at_once(files, move |file| compare(file, &ours(&binary, file)?))
}

/// Sender and receiver, without their ports: what a row of `read` is of.
pub type Hosts = (IpAddr, IpAddr);

/// How many segments each host sent again to each other, as `read --health` says it.
///
/// # Errors
///
/// It fails, or prints what is none of its lines.
pub fn ours(binary: &Path, file: &Path) -> Result<HashMap<Hosts, u64>> {
    #[derive(serde::Deserialize)]
    struct Line {
        src: String,
        dst: String,
        peer: Option<Peer>,
    }
    #[derive(serde::Deserialize)]
    struct Peer {
        retransmits: BTreeMap<String, u64>,
    }
    let text = capture(Command::new(binary).arg("read").arg(file).args(["--health", "--json"]))?;
    let mut all = HashMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let Line { src, dst, peer } = serde_json::from_str(line).with_context(|| format!("not a pair: {line}"))?;
        let count = peer.map_or(0, |peer| peer.retransmits.values().sum());
        // What strangers sent has no pair; nor should anything that is compared here be theirs.
        let [src, dst] = [src, dst].map(|end| end.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        *all.entry((src, dst)).or_default() += count;
    }
    Ok(all)
}

/// Compares the counts of a capture; `ours` are go-metro's.
///
/// # Errors
///
/// A judge cannot be asked.
pub fn compare(file: &Path, ours: &HashMap<Hosts, u64>) -> Result<Counted> {
    let readable = crate::corpus::readable(file)?;
    let file = readable.as_ref().map_or(file, |readable| readable.path());
    let single = copies::without(file)?;
    let file = single.as_ref().map_or(file, |single| single.path());
    let (frames, totals) = (tshark::frames(file)?, tcptrace::totals(file)?);
    Ok(judge(&frames, totals.as_ref(), ours))
}

/// What the frames say of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    /// It begins below what was sent.
    begins_below: bool,
    /// Why it is not to be counted although it does.
    not: Option<Why>,
    /// Some of its bytes, or its SYN or FIN, were captured before.
    was_captured: bool,
    /// All of it is acknowledged by what was captured before it.
    is_acknowledged: bool,
}

impl Verdict {
    fn counts(self) -> bool {
        self.begins_below && self.not.is_none()
    }
}

/// What one end of a connection has sent.
#[derive(Default)]
struct Sent {
    isn: Option<u32>,
    /// Behind the highest number; none before anything was sent.
    next: Option<u32>,
    /// When the newest of it was captured.
    newest_ns: u64,
    /// How far the other end has acknowledged.
    acknowledged: Option<u32>,
    /// What was captured, from the first number on: from and up to.
    captured: Vec<(i64, i64)>,
    first: u32,
    frames: Vec<usize>,
}

/// What each frame that occupies sequence space is, by its place.
fn verdicts(frames: &[Frame]) -> BTreeMap<usize, Verdict> {
    let doubled = doubled(frames);
    let mut sent: HashMap<Flow, Sent> = HashMap::new();
    let mut verdicts = BTreeMap::new();
    for (place, frame) in frames.iter().enumerate().filter(|(_, frame)| !frame.reset) {
        let (from, to) = frame.flow;
        if let Some(ack) = frame.ack {
            let other = sent.entry((to, from)).or_default();
            if other.acknowledged.is_none_or(|known| before(known, ack)) {
                other.acknowledged = Some(ack);
            }
        }
        if frame.len == 0 {
            continue;
        }
        let flow = sent.entry(frame.flow).or_default();
        // Another connection on the same ports.
        if frame.syn && flow.isn != Some(frame.seq) {
            let acknowledged = flow.acknowledged.filter(|ack| *ack == frame.seq.wrapping_add(1));
            *flow = Sent { isn: Some(frame.seq), acknowledged, ..Sent::default() };
        }
        let end = frame.seq.wrapping_add(frame.len);
        let next = *flow.next.get_or_insert(frame.seq);
        if flow.frames.is_empty() {
            flow.first = frame.seq;
        }
        let begins_below = before(frame.seq, next);
        let start = i64::from(frame.seq.wrapping_sub(flow.first) as i32);
        let range = (start, start + i64::from(frame.len));
        let was_captured = flow.captured.iter().any(|(from, to)| *from < range.1 && range.0 < *to);
        let is_acknowledged = flow.acknowledged.is_some_and(|ack| !before(ack, end));
        let is_doubled = doubled.contains(&frame.flow);
        let is_first = !was_captured || is_repeated_at_once(frames, frame, flow);
        let not = begins_below.then(|| why_not(frames, frame, flow, next, (is_doubled, is_first))).flatten();
        verdicts.insert(place, Verdict { begins_below, not, was_captured, is_acknowledged });
        flow.captured.push(range);
        flow.frames.push(place);
        flow.newest_ns = flow.newest_ns.max(frame.time_ns);
        if before(next, end) {
            flow.next = Some(end);
        }
    }
    verdicts
}

/// How many segments on the wire each frame is, as docs/health.md says it: by the smaller MSS that the ends of its
/// connection have announced (RFC 9293 section 3.7.1), less the options that it carries (RFC 6691).
fn segments(frames: &[Frame]) -> Vec<u64> {
    let mut announced: HashMap<Flow, u32> = HashMap::new();
    let of = |frame: &Frame| {
        let (from, to) = frame.flow;
        let (headers, without) = if from.is_ipv6() { (60, 1_220) } else { (40, 536) };
        if frame.syn {
            announced.insert(frame.flow, frame.mss.unwrap_or(without));
            return 1;
        }
        let known = [(from, to), (to, from)].into_iter().filter_map(|flow| announced.get(&flow).copied()).min();
        let is_local = from.ip() == to.ip() || from.ip().is_loopback();
        // Where no SYN was captured: a packet that no link carries is cut for Ethernet.
        let is_cut = !is_local && headers + frame.options + frame.payload > 9_216;
        let mss = known.or(is_cut.then(|| 1_500 - headers)).unwrap_or(u32::MAX);
        u64::from(frame.payload.div_ceil(mss.saturating_sub(frame.options).max(1)).max(1))
    };
    frames.iter().map(of).collect()
}

/// Whether the second is the first once more.
fn is_copy(first: &Frame, second: &Frame) -> bool {
    let same = |frame: &Frame| (frame.seq, frame.len, frame.ack, frame.tsval, frame.tsecr, frame.ip_id);
    same(first) == same(second) && second.time_ns.saturating_sub(first.time_ns) <= COPY_NS
}

/// Whether the same bytes were captured at the same time before, for the first time.
fn is_repeated_at_once(frames: &[Frame], frame: &Frame, flow: &Sent) -> bool {
    let same = flow.frames.iter().map(|place| &frames[*place]).find(|other| other.seq == frame.seq);
    same.is_some_and(|other| other.len == frame.len && other.time_ns >= frame.time_ns)
}

/// The directions in which frames are there twice: a third of them at least are copies.
fn doubled(frames: &[Frame]) -> HashSet<Flow> {
    let mut by_flow: HashMap<Flow, (Vec<&Frame>, usize)> = HashMap::new();
    for frame in frames.iter().filter(|frame| frame.len > 0) {
        let (sent, copies) = by_flow.entry(frame.flow).or_default();
        *copies += usize::from(sent.iter().rev().take(64).any(|other| is_copy(other, frame)));
        sent.push(frame);
    }
    by_flow.into_iter().filter(|(_, (sent, copies))| copies * 3 > sent.len()).map(|(flow, _)| flow).collect()
}

/// Why a frame that begins below what was sent is not sent again, if it is not. `is_doubled`: there are copies in its
/// direction; `is_first`: none of it was captured before, or not before this time.
fn why_not(
    frames: &[Frame],
    frame: &Frame,
    flow: &Sent,
    next: u32,
    (is_doubled, is_first): (bool, bool),
) -> Option<Why> {
    let is_repeated = flow.frames.iter().rev().take(64).any(|place| is_copy(&frames[*place], frame));
    let end = frame.seq.wrapping_add(frame.len);
    let is_last_byte = frame.len == 1 && end == next && flow.acknowledged == Some(next);
    match () {
        // Without an identification a single one may be what was sent again at once.
        () if is_repeated && (is_doubled || frame.ip_id.is_some_and(|id| id != 0)) => Some(Why::Copy),
        () if frame.syn && frame.ack.is_some() && frames[flow.frames[0]].ack.is_none() => Some(Why::CrossingSyn),
        () if !frame.syn && is_last_byte => Some(Why::Probe),
        () if frame.time_ns <= flow.newest_ns && is_first => Some(Why::SameTime),
        () => None,
    }
}

/// The verdict on all of them.
fn judge(frames: &[Frame], totals: Option<&HashMap<Flow, Totals>>, ours: &HashMap<Hosts, u64>) -> Counted {
    let mut counted = Counted { ours: ours.values().sum(), ..Counted::default() };
    let (verdicts, segments) = (verdicts(frames), segments(frames));
    let mut expected: HashMap<Hosts, u64> = HashMap::new();
    for (place, verdict) in &verdicts {
        let frame = &frames[*place];
        let hosts = (frame.flow.0.ip(), frame.flow.1.ip());
        *expected.entry(hosts).or_default() += if verdict.counts() { segments[*place] } else { 0 };
        let is_theirs = frame.said == Some(Said::Again);
        counted.tshark += u64::from(is_theirs);
        if is_theirs == verdict.counts() {
            continue;
        }
        let why = match (verdict.counts(), frame.said) {
            (true, Some(Said::OutOfOrder)) => Some(Why::OutOfOrder),
            (true, Some(Said::Probe)) => Some(Why::Probe),
            (true, _) => None,
            (false, _) if verdict.begins_below => verdict.not,
            (false, _) => verdict.is_acknowledged.then_some(Why::AcknowledgedEarly),
        };
        match why {
            Some(why) => *counted.to_tshark.entry(why).or_default() += 1,
            None => counted.unexplained.push(format!("tshark: {:?} of {frame:?}: {verdict:?}", frame.said)),
        }
    }
    for hosts in expected.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        let [ours, expected] = [ours, &expected].map(|counts| counts.get(hosts).copied().unwrap_or(0));
        if ours != expected {
            let (from, to) = hosts;
            counted.unexplained.push(format!("{from} to {to}: ours {ours}, and {expected} by the frames"));
        }
    }
    if let Some(totals) = totals {
        counted.tcptrace = Some(0);
        against_tcptrace(frames, &verdicts, totals, &mut counted);
    }
    counted
}

fn against_tcptrace(
    frames: &[Frame],
    verdicts: &BTreeMap<usize, Verdict>,
    totals: &HashMap<Flow, Totals>,
    counted: &mut Counted,
) {
    let mut by_flow: HashMap<Flow, Vec<(&Frame, Option<&Verdict>)>> = HashMap::new();
    for (place, frame) in frames.iter().enumerate() {
        by_flow.entry(frame.flow).or_default().push((frame, verdicts.get(&place)));
    }
    for (flow, sent) in by_flow {
        let bytes = sent.iter().map(|(frame, _)| u64::from(frame.payload)).sum::<u64>();
        let all = Totals { packets: sent.len() as u64, bytes, again: 0 };
        let theirs = totals.get(&flow).filter(|theirs| (theirs.packets, theirs.bytes) == (all.packets, all.bytes));
        let Some(theirs) = theirs else {
            *counted.to_tcptrace.entry(Why::Misread).or_default() += 1;
            continue;
        };
        counted.tcptrace = counted.tcptrace.map(|count| count + theirs.again);
        let known = sent.iter().filter_map(|(frame, verdict)| Some((frame, (*verdict)?)));
        let mut expected = 0;
        for (frame, verdict) in known {
            expected += u64::from(verdict.was_captured);
            let why = match (verdict.counts(), verdict.was_captured) {
                (true, false) => Some(Why::NotCapturedBefore),
                (false, true) => verdict.not,
                _ => continue,
            };
            match why {
                Some(why) => *counted.to_tcptrace.entry(why).or_default() += 1,
                None => counted.unexplained.push(format!("tcptrace: {frame:?}: {verdict:?}")),
            }
        }
        if theirs.again != expected {
            let (from, to) = flow;
            let again = theirs.again;
            counted.unexplained.push(format!("tcptrace: {from} to {to}: {again}, and {expected} by the frames"));
        }
    }
}
