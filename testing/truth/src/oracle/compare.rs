//! The verdict on one capture.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::Result;

use super::trace::{Acknowledged, Advance, Disproof, Flow, Frame, Trace, turned};
use super::{copies, tcptrace, tshark};
use testing_lab::agent::Sample;

/// Share of the trustworthy pairs that must be found.
pub const MIN_RECALL: f64 = 0.999;

/// tshark prints nanoseconds; captures mostly have microseconds.
const TOLERANCE_NS: u64 = 1_000;

/// What names a sample: flow, acknowledgement number, time of the acknowledgement.
type Key = (Flow, u32, u64);

/// What a capture, or several, came to.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Our samples.
    pub samples: usize,
    /// Pairs of tshark, trusted or not.
    pub tshark: usize,
    /// Samples of tcptrace; None if it cannot read the capture.
    pub tcptrace: Option<usize>,
    /// Pairs of either that the frames themselves speak against.
    pub doubtful: usize,
    /// Pairs of either that are to be trusted.
    pub trusted: usize,
    /// Of those, how many we have.
    pub found: usize,
    /// Our samples that differ from a trusted pair, or that nothing in the capture proves.
    pub wrong: usize,
    /// Our samples that the frames contradict.
    pub refuted: usize,
    /// Furthest that one of ours is from a trusted pair, in nanoseconds.
    pub largest_error_ns: u64,
    /// The trusted pairs that we do not have, as acknowledgements.
    pub missed: Vec<Advance>,
    /// A line for each that was missed or is wrong.
    pub details: Vec<String>,
    /// What a judge could not see.
    pub notes: Vec<String>,
}

impl Judged {
    /// Share of the trusted pairs that were found; 1 where there are none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        if self.trusted == 0 { 1.0 } else { self.found as f64 / self.trusted as f64 }
    }

    /// Adds another capture.
    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.tshark += other.tshark;
        self.tcptrace = Some(self.tcptrace.unwrap_or(0) + other.tcptrace.unwrap_or(0));
        self.doubtful += other.doubtful;
        self.trusted += other.trusted;
        self.found += other.found;
        self.wrong += other.wrong;
        self.refuted += other.refuted;
        self.largest_error_ns = self.largest_error_ns.max(other.largest_error_ns);
    }

    /// A line of the table under [`super::HEADER`].
    #[must_use]
    pub fn row(&self, name: &str) -> String {
        let tcptrace = self.tcptrace.map_or_else(|| "-".to_owned(), |count| count.to_string());
        format!(
            "{name:<30} {:>9} {:>8} {tcptrace:>8} {:>8} | {:>8} {:>8} {:>7.2}% {:>8} {:>8} {:>11} ns",
            self.samples,
            self.tshark,
            self.doubtful,
            self.trusted,
            self.found,
            // Cut off, not rounded: 100 % means all.
            (self.recall() * 10_000.0).floor() / 100.0,
            self.wrong,
            self.refuted,
            self.largest_error_ns,
        )
    }
}

/// A capture as both judges see it, ready to judge any samples that are said to be of it.
pub struct Court {
    trace: Trace,
    /// tcptrace's samples; None if it cannot read the capture.
    points: Option<Vec<tcptrace::Point>>,
    notes: Vec<String>,
}

impl Court {
    /// Has both judges read `file`.
    ///
    /// # Errors
    ///
    /// tshark cannot read it.
    pub fn of(file: &Path) -> Result<Self> {
        let readable = crate::corpus::readable(file)?;
        let file = readable.as_ref().map_or(file, |readable| readable.path());
        let single = copies::without(file)?;
        let mut notes = Vec::new();
        if single.is_some() {
            notes.push("both judges see it without the copies that editcap finds".to_owned());
        }
        let file = single.as_ref().map_or(file, |single| single.path());
        let (trace, points) = (Trace::new(tshark::frames(file)?), tcptrace::points(file)?);
        let timed: HashSet<Flow> = trace.pairs().map(|(ack, ..)| turned(ack.flow)).collect();
        match &points {
            None => notes.push("tcptrace cannot read this link type, or what is behind it".to_owned()),
            Some(points) => {
                let seen: HashSet<Flow> = points.iter().map(|point| point.flow).collect();
                let both = timed.intersection(&seen).count();
                if both < timed.len() {
                    notes.push(format!(
                        "tcptrace has samples of {both} of {} directions that tshark times",
                        timed.len()
                    ));
                }
            }
        }
        if timed.is_empty() {
            notes.push("neither judge finds an acknowledgement of what was sent".to_owned());
        }
        Ok(Self { trace, points, notes })
    }

    /// Compares samples, one by one, with both judges.
    #[must_use]
    pub fn judge(&self, samples: &[Sample]) -> Judged {
        let trace = &self.trace;
        let mut judged = Judged { samples: samples.len(), notes: self.notes.clone(), ..Judged::default() };
        let mut by_key: HashMap<Key, u64> = HashMap::new();
        for sample in samples {
            let flow = (sample.local, sample.remote);
            let twice = by_key.insert((flow, sample.ack, sample.time_ns), sample.rtt_ns);
            let twice = twice.map(|_| Disproof::Unproved("twice"));
            match twice.or_else(|| trace.disprove(flow, sample.ack, sample.time_ns, sample.rtt_ns)) {
                None => {}
                Some(Disproof::Unproved(why)) => {
                    judged.wrong += 1;
                    judged.details.push(format!("unproved ({why}): {sample:?}"));
                }
                Some(Disproof::Refuted(why)) => {
                    judged.refuted += 1;
                    judged.details.push(format!("refuted ({why}): {sample:?}"));
                }
            }
        }
        // A pair that both judges name counts once.
        let mut seen: HashMap<u64, ()> = HashMap::new();
        for (ack, acked, rtt_ns) in trace.pairs() {
            judged.tshark += 1;
            seen.insert(ack.number, ());
            judged.weigh(trace, ack, trace.frame(acked), rtt_ns, &by_key, "tshark");
        }
        if let Some(points) = &self.points {
            judged.tcptrace = Some(points.len());
            for point in points {
                judged.weigh_point(trace, point, &by_key, &mut seen);
            }
        }
        judged
    }

    /// All that tshark calls a round-trip time, trusted or not, as if it were ours.
    #[must_use]
    pub fn pairs_of_tshark(&self) -> Vec<Sample> {
        let sample = |(ack, _, rtt_ns): (&Frame, u64, u64)| Sample {
            time_ns: ack.time_ns,
            local: ack.flow.1,
            remote: ack.flow.0,
            ack: ack.ack.unwrap_or_default(),
            rtt_ns,
            kind: "data".to_owned(),
            class: "exact".to_owned(),
            delayed: false,
            side: None,
        };
        self.trace.pairs().map(sample).collect()
    }

    /// What is acknowledged, by the frames alone.
    #[must_use]
    pub fn acknowledged(&self) -> Acknowledged {
        self.trace.acknowledged()
    }
}

impl Judged {
    /// A pair of tshark's, or one that tcptrace alone has.
    fn weigh(&mut self, trace: &Trace, ack: &Frame, acked: &Frame, rtt_ns: u64, ours: &HashMap<Key, u64>, judge: &str) {
        if !trace.is_trusted(acked, ack) {
            self.doubtful += 1;
            return;
        }
        self.trusted += 1;
        let frame = ack.number;
        let (flow, number, time_ns) = (turned(ack.flow), ack.ack.unwrap_or_default(), ack.time_ns);
        match ours.get(&(flow, number, time_ns)) {
            None => {
                self.missed.push(Advance { flow, ack: number, time_ns });
                self.details.push(format!("missed: frame {frame}, {judge} {rtt_ns} ns"));
            }
            Some(found) => {
                let error = found.abs_diff(rtt_ns);
                self.largest_error_ns = self.largest_error_ns.max(error);
                if error <= TOLERANCE_NS {
                    self.found += 1;
                } else {
                    self.wrong += 1;
                    self.details.push(format!("wrong: frame {frame}, {found} ns, {judge} {rtt_ns} ns"));
                }
            }
        }
    }

    /// A sample of tcptrace's: confirms one of tshark's, or is a pair of its own.
    fn weigh_point(
        &mut self,
        trace: &Trace,
        point: &tcptrace::Point,
        ours: &HashMap<Key, u64>,
        seen: &mut HashMap<u64, ()>,
    ) {
        let fits = |ack: &Frame| {
            let acked = trace.acked_by(ack)?;
            let rtt_ns = ack.time_ns.checked_sub(acked.time_ns)?;
            (rtt_ns / 1_000_000).abs_diff(point.rtt_ms).le(&1).then_some((acked.number, rtt_ns))
        };
        let found = trace.acks_at(point.flow, point.acked_at_us).into_iter().find_map(|ack| Some((ack, fits(ack)?)));
        let Some((ack, (acked, rtt_ns))) = found else {
            self.doubtful += 1;
            return;
        };
        if seen.insert(ack.number, ()).is_none() {
            self.weigh(trace, ack, trace.frame(acked), rtt_ns, ours, "tcptrace");
        }
    }
}
