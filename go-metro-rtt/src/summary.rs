//! Interval summaries: what the samples of one host pair come to between two reports.
//!
//! Parallel flows of one pair of hosts merge here, so that they cannot overwrite each other's gauges. A pair without a
//! sample since the last [`Summaries::take`] does not exist: stale values are never repeated.
//!
//! Where there are many pairs, what is known of one is rarely in the processor's caches when its next sample comes. So
//! samples are added a few at a time, like [`Batch`](crate::Batch) hands segments to the engine.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::hint::black_box;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::distribution::{Distribution, Figure};
use crate::health::PeerHealth;
use crate::place::Place;
use crate::{Addr, Exponential, FlowKey, Histogram, Kind, Label, Nanos, Response, Rtt, Sample, Side};

/// What names a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairKey {
    /// Local address.
    pub local: Addr,
    /// Remote address; of a group the one that stands for it: its network's, or `::`.
    pub remote: Addr,
    /// Interface index.
    pub ifindex: u32,
    /// To which end the round trips went.
    pub side: Side,
    /// The group that stands for the remote host, and what else keeps flows of the two apart.
    pub place: Place,
    /// What its flows have been told apart by from others of the same hosts.
    pub label: Label,
}

impl PairKey {
    /// The pair of a flow that has this place and this label.
    #[inline]
    pub fn of(flow: &FlowKey, place: Place, label: Label) -> Self {
        let remote = place.group.address(flow.remote.addr);
        Self { local: flow.local.addr, remote, ifindex: flow.ifindex, side: flow.side, place, label }
    }
}

impl Hash for PairKey {
    /// Two addresses and two words, as many as the hasher takes without another multiplication.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.local.bits());
        state.write_u128(self.remote.bits());
        // Indices are far below 2^31.
        let interface = u64::from(self.ifindex) ^ (self.side as u64) << 31 ^ u64::from(self.label.number()) << 32;
        state.write_u64(interface);
        state.write_u64(self.place.word());
    }
}

impl From<&FlowKey> for PairKey {
    fn from(flow: &FlowKey) -> Self {
        Self::of(flow, Place::default(), Label::NONE)
    }
}

/// What stands for the middle of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Average {
    /// The arithmetic mean.
    #[default]
    Mean,
    /// The smoothed RTT of RFC 6298 section 2, which leans to the newest samples: SRTT <- 7/8 SRTT + 1/8 R.
    Smoothed,
}

/// RFC 6298 section 2.3: alpha is 1/8.
const SMOOTHING: f64 = 1.0 / 8.0;

/// Statistics of a series of RTTs.
#[derive(Clone, Serialize, Deserialize)]
pub struct Stats {
    count: u64,
    last: Rtt,
    /// When that came, in the time of records, so that of series that were measured side by side the newest is known.
    #[serde(default)]
    last_at_ns: u64,
    min: Rtt,
    max: Rtt,
    sum_ns: u128,
    average: Average,
    smoothed_ns: f64,
    differences_ns: u128,
    /// Differences summed: one fewer than samples in a single series, fewer still once series were merged.
    differences: u64,
    distribution: Distribution,
}

impl Stats {
    fn first(rtt: Rtt, at: Nanos, limits: &SummaryLimits) -> Self {
        let mut stats = Self {
            count: 0,
            last: rtt,
            last_at_ns: at.0,
            min: rtt,
            max: rtt,
            sum_ns: 0,
            average: limits.average,
            smoothed_ns: rtt.0 as f64,
            differences_ns: 0,
            differences: 0,
            distribution: Distribution::new(limits.kept_samples, limits.keeps_choice),
        };
        stats.add(rtt, at);
        stats
    }

    /// Reads what the next sample changes, so that it is in the cache.
    #[inline]
    fn touch(&self) -> u64 {
        self.count ^ self.distribution.touch()
    }

    fn add(&mut self, rtt: Rtt, at: Nanos) {
        if self.count > 0 {
            self.differences_ns += u128::from(rtt.0.abs_diff(self.last.0));
            self.differences += 1;
        }
        self.count += 1;
        self.sum_ns += u128::from(rtt.0);
        self.smoothed_ns += (rtt.0 as f64 - self.smoothed_ns) * SMOOTHING;
        (self.last, self.last_at_ns) = (rtt, at.0);
        self.min = self.min.min(rtt);
        self.max = self.max.max(rtt);
        self.distribution.add(rtt);
    }

    /// Merges another series into this one: a later one of the same length of time, or one that was measured side by
    /// side with it.
    pub fn merge(&mut self, other: &Self) {
        let share = other.count as f64 / (self.count + other.count) as f64;
        self.smoothed_ns += (other.smoothed_ns - self.smoothed_ns) * share;
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.differences_ns += other.differences_ns;
        self.differences += other.differences;
        if other.last_at_ns >= self.last_at_ns {
            (self.last, self.last_at_ns) = (other.last, other.last_at_ns);
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.distribution.merge(&other.distribution);
    }

    /// Number of samples; never 0.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The newest sample.
    pub fn last(&self) -> Rtt {
        self.last
    }

    /// When the newest sample came, in the time of records.
    pub fn last_at(&self) -> Nanos {
        Nanos(self.last_at_ns)
    }

    /// The smallest sample.
    pub fn min(&self) -> Rtt {
        self.min
    }

    /// The largest sample.
    pub fn max(&self) -> Rtt {
        self.max
    }

    /// Arithmetic mean, in milliseconds.
    pub fn mean_ms(&self) -> f64 {
        self.sum_ns as f64 / self.count as f64 / 1e6
    }

    /// Mean or smoothed RTT, as the limits asked for, in milliseconds.
    pub fn average_ms(&self) -> f64 {
        match self.average {
            Average::Mean => self.mean_ms(),
            Average::Smoothed => self.smoothed_ns / 1e6,
        }
    }

    /// Mean absolute difference of successive samples, in milliseconds; of merged series, of those that succeeded each
    /// other within one. None where no sample succeeded another of its series.
    pub fn jitter_ms(&self) -> Option<f64> {
        (self.differences > 0).then(|| self.differences_ns as f64 / self.differences as f64 / 1e6)
    }

    /// The `q` quantile (0 to 1): exactly, the sample of the nearest rank, while all samples are kept; beyond that
    /// within [`QUANTILE_ERROR`](super::QUANTILE_ERROR). Never outside `min` and `max`.
    pub fn quantile(&self, q: f64) -> Figure {
        let [figure] = self.quantiles([q]);
        figure
    }

    /// Several quantiles, for the work of one.
    pub fn quantiles<const N: usize>(&self, q: [f64; N]) -> [Figure; N] {
        self.distribution.figures(q, self.min, self.max)
    }

    /// A quantile in milliseconds that is not rounded, for a drawing.
    pub fn unrounded(&self, q: f64) -> f64 {
        self.distribution.quantiles([q], self.min, self.max).0[0]
    }

    /// How many samples took at most as long as each of these bounds, in milliseconds: exact where quantiles are, else
    /// within their error.
    pub fn at_most(&self, bounds: &[f64]) -> Vec<u64> {
        self.distribution.at_most(bounds, self.min, self.max)
    }

    /// All samples together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// How many samples were in each of the fixed buckets.
    pub fn histogram(&self) -> Histogram {
        self.distribution.histogram()
    }

    /// How many samples were in each bucket of the sketch: exactly, however many there were.
    pub fn exponential(&self) -> Exponential {
        self.distribution.exponential()
    }

    /// The samples kept: all of them; or, when there were too many, an even choice if the limits ask for one.
    pub fn kept(&self) -> &[Rtt] {
        self.distribution.kept()
    }

    /// Kept samples as a share of all, in (0, 1]: the sample rate of a distribution metric.
    pub fn kept_rate(&self) -> f64 {
        self.distribution.kept_rate()
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats")
            .field("count", &self.count)
            .field("last", &self.last)
            .field("min", &self.min)
            .field("max", &self.max)
            .field("mean_ms", &self.mean_ms())
            .finish_non_exhaustive()
    }
}

/// What one pair of hosts measured in one interval. Something is there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PairSummary {
    /// Samples of data and FIN segments.
    pub data: Option<Stats>,
    /// Samples of the handshake.
    pub connect: Option<Stats>,
    /// How long the other end took for its responses, where that is timed.
    #[serde(default)]
    pub response: Option<Stats>,
    /// How well its connections did, where that is counted and there was any traffic.
    pub health: Option<Box<PeerHealth>>,
}

impl PairSummary {
    /// Adds a sample.
    pub fn add(&mut self, sample: &Sample, limits: &SummaryLimits) {
        self.add_time(sample.kind.into(), sample.rtt, sample.acked_at, limits);
    }

    /// Adds a response.
    pub fn add_response(&mut self, response: &Response, limits: &SummaryLimits) {
        self.add_time(Series::Response, response.took, response.at, limits);
    }

    /// Adds a time that was known at this moment to a series, which may begin with it.
    fn add_time(&mut self, series: Series, time: Rtt, at: Nanos, limits: &SummaryLimits) {
        let series = match series {
            Series::Data => &mut self.data,
            Series::Connect => &mut self.connect,
            Series::Response => &mut self.response,
        };
        match series {
            Some(stats) => stats.add(time, at),
            None => *series = Some(Stats::first(time, at, limits)),
        }
    }

    /// Reads what the next time of a series changes, so that it is in the cache.
    #[inline]
    fn touch(&self, series: Series) -> u64 {
        let series = match series {
            Series::Data => &self.data,
            Series::Connect => &self.connect,
            Series::Response => &self.response,
        };
        series.as_ref().map_or(0, Stats::touch)
    }

    /// Number of samples of either kind.
    pub fn count(&self) -> u64 {
        [&self.data, &self.connect].into_iter().flatten().map(Stats::count).sum()
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.data.is_none() && self.connect.is_none() && self.response.is_none() && self.health.is_none()
    }

    /// Merges another pair's summary of the same interval into this one.
    pub fn merge(&mut self, other: &Self) {
        let series =
            [(&mut self.data, &other.data), (&mut self.connect, &other.connect), (&mut self.response, &other.response)];
        for (mine, theirs) in series {
            match (mine.as_mut(), theirs) {
                (Some(mine), Some(theirs)) => mine.merge(theirs),
                (None, Some(theirs)) => *mine = Some(theirs.clone()),
                (_, None) => {}
            }
        }
        other.health.iter().for_each(|health| self.add_health(health));
    }

    fn add_health(&mut self, health: &PeerHealth) {
        self.health.get_or_insert_default().merge(health);
    }
}

/// Which times of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Series {
    Data,
    Connect,
    Response,
}

impl From<Kind> for Series {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Data => Self::Data,
            Kind::Connect => Self::Connect,
        }
    }
}

/// Bounds of [`Summaries`].
#[derive(Clone, Copy, Debug)]
pub struct SummaryLimits {
    /// Host pairs kept apart in one interval; the rest are folded into one, [`Interval::other`].
    pub max_pairs: usize,
    /// Samples kept per pair, kind and interval. Up to so many, quantiles are exact.
    pub kept_samples: usize,
    /// Beyond that, keep an even choice of as many for distribution metrics, not the sketch alone.
    pub keeps_choice: bool,
    /// Leave samples out whose acknowledgement the receiver kept back.
    pub without_delayed: bool,
    /// What [`Stats::average_ms`] is.
    pub average: Average,
}

impl SummaryLimits {
    /// What suits a busy host.
    pub const DEFAULT: Self = Self {
        max_pairs: 2000,
        kept_samples: 1024,
        keeps_choice: true,
        without_delayed: false,
        average: Average::Mean,
    };
}

impl Default for SummaryLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One interval's summaries, ready to be reported.
#[derive(Debug, Default)]
pub struct Interval {
    /// The host pairs, in no particular order.
    pub pairs: Vec<(PairKey, PairSummary)>,
    /// What was folded because there were more pairs than `max_pairs`, all remotes together.
    pub other: Option<PairSummary>,
    /// How many samples went into `other`.
    pub folded_samples: u64,
}

/// The summaries of the current interval.
#[derive(Debug)]
pub struct Summaries {
    limits: SummaryLimits,
    pairs: HashMap<PairKey, PairSummary, foldhash::fast::RandomState>,
    /// Of flows whose labels are being found out; no more than the engine lets wait.
    pending: HashMap<FlowKey, (PairKey, PairSummary), foldhash::fast::RandomState>,
    other: PairSummary,
    folded_samples: u64,
    /// What is yet to be added: up to [`TOGETHER`].
    waiting: Vec<Waiting>,
}

/// So many times are added together: enough for a processor's outstanding cache misses.
const TOGETHER: usize = 32;

/// A time that is yet to be added.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    flow: FlowKey,
    pair: PairKey,
    series: Series,
    time: Rtt,
    /// When it was known.
    at: Nanos,
}

impl Summaries {
    /// An empty interval.
    pub fn new(limits: SummaryLimits) -> Self {
        let (pairs, pending) = (HashMap::default(), HashMap::default());
        let waiting = Vec::with_capacity(TOGETHER);
        Self { limits, pairs, pending, other: PairSummary::default(), folded_samples: 0, waiting }
    }

    /// Applies other bounds to what is added from now on.
    pub fn set_limits(&mut self, limits: SummaryLimits) {
        self.settle();
        self.limits = limits;
    }

    /// Adds a sample to its pair, or to `other` when there are too many pairs.
    pub fn add(&mut self, sample: &Sample) {
        if sample.delayed && self.limits.without_delayed {
            return;
        }
        let pair = PairKey::of(&sample.flow, sample.place, sample.label);
        self.push(Waiting {
            flow: sample.flow,
            pair,
            series: sample.kind.into(),
            time: sample.rtt,
            at: sample.acked_at,
        });
    }

    /// Adds a response to its pair, or to `other` when there are too many pairs.
    pub fn add_response(&mut self, response: &Response) {
        let pair = PairKey::of(&response.flow, response.place, response.label);
        self.push(Waiting {
            flow: response.flow,
            pair,
            series: Series::Response,
            time: response.took,
            at: response.at,
        });
    }

    #[inline]
    fn push(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
        if self.waiting.len() >= TOGETHER {
            self.settle();
        }
    }

    /// Adds all that waits, in its order.
    #[inline(never)]
    fn settle(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        let touch = |Waiting { pair, series, .. }: &Waiting| self.pairs.get(pair).map_or(0, |pair| pair.touch(*series));
        // Only the reading counts, not what was read.
        black_box(waiting.iter().map(touch).fold(0, |warm, word| warm ^ word));
        let limits = self.limits;
        for Waiting { flow, pair, series, time, at } in waiting.drain(..) {
            let (summary, is_folded) = self.summary(&flow, pair);
            summary.add_time(series, time, at, &limits);
            self.folded_samples += u64::from(is_folded && series != Series::Response);
        }
        self.waiting = waiting;
    }

    /// Where what a flow of this pair has measured belongs, and whether that is `other`.
    #[inline]
    fn summary(&mut self, flow: &FlowKey, pair: PairKey) -> (&mut PairSummary, bool) {
        if pair.label == Label::PENDING {
            return (&mut self.pending.entry(*flow).or_insert_with(|| (pair, PairSummary::default())).1, false);
        }
        // Looked up once, unless there are as many as there may be.
        let is_full = self.pairs.len() >= self.limits.max_pairs;
        if is_full && !self.pairs.contains_key(&pair) {
            return (&mut self.other, true);
        }
        (self.pairs.entry(pair).or_default(), false)
    }

    /// Adds what was counted of a pair's connections; without a pair, or when there are too many, to `other`.
    pub fn add_health(&mut self, pair: Option<PairKey>, health: &PeerHealth) {
        self.settle();
        let full = self.pairs.len() >= self.limits.max_pairs;
        let summary = match pair {
            Some(pair) if !full || self.pairs.contains_key(&pair) => self.pairs.entry(pair).or_default(),
            _ => &mut self.other,
        };
        summary.add_health(health);
    }

    /// The label of a flow was found out: its samples join those of the label.
    pub fn label(&mut self, flow: &FlowKey, label: Label) {
        self.settle();
        if let Some((pair, summary)) = self.pending.remove(flow) {
            self.join(PairKey { label, ..pair }, summary);
        }
    }

    /// Gives the flows whose labels are still being found out this one.
    pub fn label_pending(&mut self, label: Label) {
        self.settle();
        for (pair, summary) in std::mem::take(&mut self.pending).into_values() {
            self.join(PairKey { label, ..pair }, summary);
        }
    }

    fn join(&mut self, key: PairKey, summary: PairSummary) {
        let full = self.pairs.len() >= self.limits.max_pairs;
        match self.pairs.get_mut(&key) {
            Some(pair) => pair.merge(&summary),
            None if full => {
                self.folded_samples += summary.count();
                self.other.merge(&summary);
            }
            None => drop(self.pairs.insert(key, summary)),
        }
    }

    /// Hands out the interval and starts the next, empty but for the flows whose labels are being found out.
    pub fn take(&mut self) -> Interval {
        self.settle();
        let other = std::mem::take(&mut self.other);
        Interval {
            pairs: self.pairs.drain().collect(),
            other: Some(other).filter(|other| !other.is_empty()),
            folded_samples: std::mem::take(&mut self.folded_samples),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Addr, Class, Endpoint, FlowKey, SeqNum};

    fn sample(remote: u8, port: u16, ms: u64) -> Sample {
        Sample {
            flow: FlowKey {
                local: Endpoint { addr: Addr::v4([10, 0, 0, 1]), port },
                remote: Endpoint { addr: Addr::v4([10, 0, 0, remote]), port: 80 },
                ifindex: 2,
                side: Side::Remote,
            },
            acked_at: Nanos(0),
            ack: SeqNum(0),
            rtt: Rtt(ms * 1_000_000),
            kind: Kind::Data,
            class: Class::Exact,
            delayed: false,
            label: Label::NONE,
            place: Place::default(),
        }
    }

    #[test]
    fn parallel_flows_of_a_pair_merge() {
        let mut summaries = Summaries::new(SummaryLimits::default());
        for (port, ms) in [(1, 10), (2, 20), (1, 40)] {
            summaries.add(&sample(2, port, ms));
        }
        let interval = summaries.take();
        assert_eq!(interval.pairs.len(), 1);
        let stats = interval.pairs[0].1.data.as_ref().unwrap();
        assert_eq!((stats.count(), stats.last().0), (3, 40_000_000));
        assert_eq!((stats.min().0, stats.max().0), (10_000_000, 40_000_000));
        assert!((stats.mean_ms() - 70.0 / 3.0).abs() < 1e-9);
        assert!((stats.jitter_ms().unwrap() - 15.0).abs() < 1e-9);
        assert_eq!(stats.quantiles([0.0, 0.5, 0.99]), [10.0, 20.0, 40.0].map(Figure::exact));
        assert_eq!(stats.kept().len(), 3);
        assert!(summaries.take().pairs.is_empty(), "a silent pair reports nothing");
        summaries.add(&sample(2, 1, 10));
        let mut once = summaries.take().pairs.remove(0).1;
        assert_eq!(once.data.as_ref().unwrap().jitter_ms(), None, "nothing differs from a single sample");
        once.merge(&once.clone());
        assert_eq!(once.data.unwrap().jitter_ms(), None, "nor were these two taken one after the other");
    }

    #[test]
    fn of_series_that_were_measured_side_by_side_the_newest_sample_is_the_last() {
        let limits = SummaryLimits::default();
        let of = |times: [(u64, u64); 2]| {
            let mut summary = PairSummary::default();
            for (at, ms) in times {
                summary.add(&Sample { acked_at: Nanos(at), ..sample(2, 1, ms) }, &limits);
            }
            summary
        };
        let (one, other) = (of([(1, 10), (4, 40)]), of([(2, 20), (3, 30)]));
        for (mut first, second) in [(one.clone(), &other), (other.clone(), &one)] {
            first.merge(second);
            assert_eq!(first.data.unwrap().last(), Rtt(40_000_000));
        }
    }

    #[test]
    fn the_smoothed_average_is_that_of_rfc_6298() {
        let limits = SummaryLimits { average: Average::Smoothed, ..SummaryLimits::default() };
        let mut summaries = Summaries::new(limits);
        for ms in [80, 80, 160, 80] {
            summaries.add(&sample(2, 1, ms));
        }
        let interval = summaries.take();
        let stats = interval.pairs[0].1.data.as_ref().unwrap();
        // 80, 80, 90, 88.75
        assert!((stats.average_ms() - 88.75).abs() < 1e-9, "{}", stats.average_ms());
        assert!((stats.mean_ms() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn pairs_beyond_the_bound_fold_into_other_and_are_counted() {
        let mut summaries = Summaries::new(SummaryLimits { max_pairs: 2, kept_samples: 8, ..SummaryLimits::default() });
        for remote in 1..=5 {
            summaries.add(&sample(remote, 1, 10));
        }
        let interval = summaries.take();
        assert_eq!((interval.pairs.len(), interval.folded_samples), (2, 3));
        assert_eq!(interval.other.unwrap().data.unwrap().count(), 3);
    }

    #[test]
    fn other_bounds_hold_for_what_is_added_from_then_on() {
        let mut summaries = Summaries::new(SummaryLimits::default());
        let delayed = Sample { delayed: true, ..sample(1, 1, 10) };
        summaries.add(&delayed);
        summaries.set_limits(SummaryLimits { max_pairs: 1, without_delayed: true, ..SummaryLimits::default() });
        summaries.add(&delayed);
        summaries.add(&sample(2, 1, 10));
        let interval = summaries.take();
        assert_eq!(interval.pairs[0].1.data.as_ref().unwrap().count(), 1);
        assert_eq!((interval.pairs.len(), interval.folded_samples), (1, 1));
    }

    #[test]
    fn kept_samples_are_bounded_and_even() {
        let mut summaries =
            Summaries::new(SummaryLimits { max_pairs: 2, kept_samples: 100, ..SummaryLimits::default() });
        for ms in 1..=10_000 {
            summaries.add(&sample(1, 1, ms));
        }
        let interval = summaries.take();
        let stats = interval.pairs[0].1.data.as_ref().unwrap();
        assert_eq!(stats.kept().len(), 100);
        assert!((stats.kept_rate() - 0.01).abs() < 1e-12);
        let mean = stats.kept().iter().map(|rtt| rtt.as_millis_f64()).sum::<f64>() / 100.0;
        assert!((3500.0..6500.0).contains(&mean), "a choice of 100 among 1..=10000 has mean {mean}");
    }

    #[test]
    fn merging_keeps_the_bound_and_the_totals() {
        let limits = SummaryLimits { max_pairs: 2, kept_samples: 100, ..SummaryLimits::default() };
        let (mut a, mut b) = (Summaries::new(limits), Summaries::new(limits));
        for ms in 1..=300 {
            a.add(&sample(1, 1, ms));
        }
        for ms in 1..=100 {
            b.add(&sample(1, 2, ms));
        }
        let (_, mut merged) = a.take().pairs.remove(0);
        merged.merge(&b.take().pairs[0].1);
        let stats = merged.data.unwrap();
        assert_eq!((stats.count(), stats.kept().len()), (400, 100));
        assert!((stats.kept_rate() - 0.25).abs() < 1e-12);
    }
}
