//! What was measured, added up by pair: for outputs that show totals since the start, as histograms and counters.
//!
//! A pair that is silent for [`EXPIRE_AFTER`] is forgotten, and beyond a bound all others are one, so that nothing
//! grows without bound. What is of the last interval is absent when that had no sample.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use go_metro_rtt::{Exponential, Histogram, PeerHealth, Stats};

use super::{NamedPair, Report};
use crate::metrics::pair::{self, PairMetric, Value};

/// A pair without a sample for this long is forgotten: longer than any reader's memory of a series, so that none sees
/// it come and go.
pub const EXPIRE_AFTER: Duration = Duration::from_secs(600);

/// Labels of a series, in their order.
pub type Labels = Vec<(String, String)>;

/// How an output labels pairs.
#[derive(Clone, Copy, Debug)]
pub struct Labelling {
    /// The labels of a pair.
    pub of: fn(&NamedPair) -> Labels,
    /// Those of all pairs that have no series of their own.
    pub of_others: fn() -> Labels,
}

/// All pairs.
#[derive(Debug)]
pub struct Totals {
    labelling: Labelling,
    max_series: usize,
    series: HashMap<Arc<Labels>, Arc<Series>>,
    expired: u64,
}

/// One pair.
#[derive(Clone, Debug)]
pub struct Series {
    /// When what is added up here began.
    pub since: SystemTime,
    /// Its samples.
    pub rtt: Growing,
    /// Its handshakes.
    pub connect: Growing,
    /// How long the other end took for its responses, where that is timed: a pair needs a kilobyte for it.
    pub response: Option<Box<Growing>>,
    /// How its connections did, where that is counted, and since when.
    pub health: Option<(SystemTime, PeerHealth)>,
    /// What there was in the last interval.
    pub last: Option<LastInterval>,
    heard_at: Instant,
}

/// A histogram since its series began.
#[derive(Clone, Debug, Default)]
pub struct Growing {
    /// Samples.
    pub count: u64,
    /// All of them together.
    pub sum_seconds: f64,
    /// By fixed bounds.
    pub buckets: Histogram,
    /// By bounds of a fixed relative distance.
    pub exponential: Exponential,
}

/// Gauges of the last interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastInterval {
    /// Of each metric of a pair that has one value, in seconds.
    pub gauges: [Option<f64>; pair::ALL.len()],
    /// Of data, in seconds: the [`QUANTILES`].
    pub quantiles: Option<[f64; QUANTILES.len()]>,
}

/// The quantiles of the last interval, and what they are called.
pub const QUANTILES: [(f64, &str); 3] = [(0.5, "0.5"), (0.95, "0.95"), (0.99, "0.99")];

impl Growing {
    fn add(&mut self, stats: Option<&Stats>) {
        let Some(stats) = stats else { return };
        self.count += stats.count();
        self.sum_seconds += stats.sum_seconds();
        self.buckets.merge(&stats.histogram());
        self.exponential.merge(&stats.exponential());
    }
}

impl Totals {
    /// Nothing yet, and room for so many pairs.
    pub fn new(labelling: Labelling, max_series: usize) -> Self {
        Self { labelling, max_series, series: HashMap::new(), expired: 0 }
    }

    /// Keeps at most so many pairs apart from now on. Pairs that are there stay.
    pub fn keep_apart(&mut self, max_series: usize) {
        self.max_series = max_series;
    }

    /// Forgets the health of connections, as it is not counted any more: what stands still would say that all is well.
    pub fn forget_health(&mut self) {
        for series in self.series.values_mut().filter(|series| series.health.is_some()) {
            Arc::make_mut(series).health = None;
        }
    }

    /// How many pairs there are.
    pub fn count(&self) -> u64 {
        self.series.len() as u64
    }

    /// How many pairs were forgotten because they were silent.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Each pair, by its labels. Reports that come later change copies.
    pub fn sorted(&self) -> Vec<(Arc<Labels>, Arc<Series>)> {
        let mut series: Vec<_> = self.series.iter().map(|(labels, series)| (labels.clone(), series.clone())).collect();
        series.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        series
    }

    /// Adds a report.
    pub fn add(&mut self, report: &Report, now: Instant) {
        let began = report.at.checked_sub(report.interval).unwrap_or(report.at);
        if self.series.values().any(|series| series.since >= report.at) {
            // The clock was set back behind the beginning of a series: a total whose end is before its start says
            // nothing, so they all begin again.
            self.series.clear();
        }
        let before = self.series.len();
        self.series.retain(|_, series| now.duration_since(series.heard_at) < EXPIRE_AFTER);
        self.expired += (before - self.series.len()) as u64;
        for series in self.series.values_mut().filter(|series| series.last.is_some()) {
            Arc::make_mut(series).last = None;
        }
        for pair in &report.pairs {
            let mut labels = (self.labelling.of)(pair);
            if !self.series.contains_key(&labels) && self.series.len() >= self.max_series {
                labels = (self.labelling.of_others)();
            }
            let new = || Series {
                since: began,
                rtt: Growing::default(),
                connect: Growing::default(),
                response: None,
                health: None,
                last: None,
                heard_at: now,
            };
            let series = Arc::make_mut(self.series.entry(Arc::new(labels)).or_insert_with(|| Arc::new(new())));
            series.heard_at = now;
            series.rtt.add(pair.summary.data.as_ref());
            series.connect.add(pair.summary.connect.as_ref());
            if let Some(response) = &pair.summary.response {
                series.response.get_or_insert_default().add(Some(response));
            }
            if let Some(health) = &pair.summary.health {
                series.health.get_or_insert_with(|| (began, PeerHealth::default())).1.merge(health);
            }
            series.last = Some(LastInterval::of(pair));
        }
    }
}

impl Series {
    /// All times since the series began, for a metric with many values; none for a single value, or one never timed.
    pub fn each(&self, value: Value) -> Option<&Growing> {
        match value {
            Value::EachSample => Some(&self.rtt),
            Value::EachHandshake => Some(&self.connect),
            Value::EachResponse => self.response.as_deref(),
            Value::Data(_) | Value::Kernel(_) | Value::Quantiles | Value::Base(_) | Value::Host(_) => None,
        }
    }
}

impl LastInterval {
    fn of(pair: &NamedPair) -> Self {
        let data = pair.summary.data.as_ref();
        let seconds = |metric: &PairMetric| Some(metric.value.one(data, pair.kernel.as_ref(), pair.base)? / 1e3);
        let mut gauges = [None; pair::ALL.len()];
        gauges.iter_mut().zip(pair::ALL).for_each(|(gauge, metric)| *gauge = seconds(metric));
        let quantiles = data.map(|stats| stats.quantiles(QUANTILES.map(|(q, _)| q)).map(|figure| figure.ms / 1e3));
        Self { gauges, quantiles }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::examples::{counted, pair, report};

    const BY_NAME: Labelling = Labelling {
        of: |pair| vec![("dst".to_owned(), pair.dst.clone())],
        of_others: || vec![("dst".to_owned(), "other".to_owned())],
    };

    fn later(pairs: Vec<NamedPair>, by: Duration) -> Report {
        let mut report = report(pairs);
        report.at += by;
        report
    }

    fn one(totals: &Totals) -> Arc<Series> {
        let all = totals.sorted();
        assert_eq!(all.len(), 1);
        all[0].1.clone()
    }

    #[test]
    fn a_series_that_comes_back_after_it_was_forgotten_has_another_start() {
        let (now, mut totals) = (Instant::now(), Totals::new(BY_NAME, 10));
        let first = report(vec![counted("db", &[20_000])]);
        totals.add(&first, now);
        let began = first.at - first.interval;
        assert_eq!((one(&totals).since, one(&totals).health.as_ref().unwrap().0), (began, began));
        let minute = Duration::from_secs(60);
        totals.add(&later(vec![pair("db", &[20_000], &[])], minute), now + minute);
        assert_eq!((one(&totals).since, one(&totals).rtt.count), (began, 2));
        // What is not counted any more and then again is a counter of its own.
        totals.forget_health();
        totals.add(&later(vec![counted("db", &[20_000])], 2 * minute), now + 2 * minute);
        assert_eq!((one(&totals).since, one(&totals).health.as_ref().unwrap().0), (began, began + 2 * minute));
        let long = 3 * EXPIRE_AFTER;
        totals.add(&later(vec![pair("db", &[30_000], &[])], long), now + long);
        assert_eq!((one(&totals).since, one(&totals).rtt.count, totals.expired()), (began + long, 1, 1));
    }

    #[test]
    fn a_clock_that_is_set_back_behind_a_start_begins_all_series_again() {
        let (now, mut totals) = (Instant::now(), Totals::new(BY_NAME, 10));
        totals.add(&later(vec![pair("db", &[20_000], &[])], Duration::from_secs(3600)), now);
        let early = report(vec![pair("db", &[20_000], &[])]);
        totals.add(&early, now);
        assert_eq!((one(&totals).since, one(&totals).rtt.count), (early.at - early.interval, 1));
    }

    #[test]
    fn both_kinds_of_buckets_have_every_sample() {
        let (now, mut totals) = (Instant::now(), Totals::new(BY_NAME, 1));
        for dst in ["a", "b", "c"] {
            totals.add(&report(vec![pair(dst, &[20_000, 300], &[150])]), now);
        }
        let all = totals.sorted();
        let others = &all.iter().find(|(labels, _)| labels[0].1 == "other").unwrap().1;
        assert_eq!((all.len(), others.rtt.count, others.connect.count), (2, 4, 2));
        for growing in [&others.rtt, &others.connect] {
            let fixed: u64 = growing.buckets.counts(go_metro_rtt::Buckets::Fine).map(|(_, count)| count).sum();
            let (_, counts) = growing.exponential.buckets();
            assert_eq!((fixed, counts.iter().sum::<u64>()), (growing.count, growing.count));
        }
    }
}
