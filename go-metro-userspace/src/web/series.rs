//! What a pair of hosts had in a second, and in some seconds together.

use go_metro_rtt::{Connect, Nanos, PairSummary, PeerHealth, Stats};

use super::buckets::Buckets;

/// What one pair had in one second, to be drawn. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Point {
    /// The number of the pair.
    pub(super) pair: u32,
    /// Samples: of data, or of handshakes where there were no others.
    pub(super) count: u32,
    /// Whether they are of handshakes.
    pub(super) is_connect: bool,
    pub(super) min: f32,
    pub(super) mean: f32,
    pub(super) p50: f32,
    pub(super) p95: f32,
    pub(super) max: f32,
    /// Segments with payload or FIN that were sent.
    pub(super) segments: u32,
    /// Segments that were sent again.
    pub(super) resent: u32,
    /// Connections that were opened.
    pub(super) opened: u16,
    /// Attempts to connect that failed.
    pub(super) failed: u16,
    /// Connections that were reset after they had been established.
    pub(super) resets: u16,
}

fn small(count: u64) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn medium(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Point {
    /// Of a second's summary.
    pub(super) fn of(pair: u32, summary: &PairSummary) -> Self {
        let mut point = Self { pair, ..Self::default() };
        if let Some(stats) = summary.data.as_ref().or(summary.connect.as_ref()) {
            let [p50, p95] = stats.quantiles([0.5, 0.95]).map(|figure| figure.ms as f32);
            point = Self {
                count: medium(stats.count()),
                is_connect: summary.data.is_none(),
                min: stats.min().as_millis_f64() as f32,
                mean: stats.mean_ms() as f32,
                p50,
                p95,
                max: stats.max().as_millis_f64() as f32,
                ..point
            };
        }
        if let Some(health) = summary.health.as_deref() {
            let failed = [Connect::Refused, Connect::Timeout, Connect::Reset];
            point.segments = medium(health.segments);
            point.resent = medium(health.retransmits_total());
            point.opened = small(health.connects_total(Connect::Established));
            point.failed = small(failed.iter().map(|result| health.connects_total(*result)).sum());
            point.resets = small(health.resets.iter().sum());
        }
        point
    }

    /// Takes in what the same pair had in that second under another name. Quantiles of both together are not known any
    /// more: they are those of the part with more samples.
    pub(super) fn join(&mut self, other: &Self) {
        let (pair, mine) = (self.pair, *self);
        if other.count > 0 && (mine.count == 0 || mine.is_connect && !other.is_connect) {
            *self = *other;
        } else if other.count > 0 && mine.is_connect == other.is_connect {
            if other.count > mine.count {
                (self.p50, self.p95) = (other.p50, other.p95);
            }
            self.count += other.count;
            self.min = mine.min.min(other.min);
            self.max = mine.max.max(other.max);
            let sum = mine.mean * mine.count as f32 + other.mean * other.count as f32;
            self.mean = sum / self.count as f32;
        }
        self.pair = pair;
        self.segments = mine.segments.saturating_add(other.segments);
        self.resent = mine.resent.saturating_add(other.resent);
        self.opened = mine.opened.saturating_add(other.opened);
        self.failed = mine.failed.saturating_add(other.failed);
        self.resets = mine.resets.saturating_add(other.resets);
    }
}

/// Samples of one kind over some seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    pub(super) count: u64,
    last_ns: u64,
    /// When that came, in the time of records.
    last_at: Nanos,
    min_ns: u64,
    max_ns: u64,
    sum_ms: f64,
    /// Differences of successive samples of one connection in a second: how many, and their sum.
    differences: u64,
    differences_ms: f64,
    pub(super) buckets: Buckets,
}

/// What a series comes to, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) last: f64,
    pub(super) mean: f64,
    pub(super) jitter: Option<f64>,
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Series {
    /// Adds the samples of one of a pair's connections in a second.
    fn add(&mut self, stats: &Stats) {
        self.span(stats.min().0, stats.max().0);
        self.count += stats.count();
        if stats.last_at() >= self.last_at {
            (self.last_ns, self.last_at) = (stats.last().0, stats.last_at());
        }
        self.sum_ms += stats.sum_seconds() * 1e3;
        if let Some(jitter) = stats.jitter_ms() {
            self.differences += stats.count() - 1;
            self.differences_ms += jitter * (stats.count() - 1) as f64;
        }
        self.buckets.add(stats);
    }

    /// Adds those of later seconds.
    pub(super) fn merge(&mut self, later: &Self) {
        self.span(later.min_ns, later.max_ns);
        self.count += later.count;
        (self.last_ns, self.last_at) = (later.last_ns, later.last_at);
        self.sum_ms += later.sum_ms;
        self.differences += later.differences;
        self.differences_ms += later.differences_ms;
        self.buckets.merge(&later.buckets);
    }

    fn span(&mut self, min_ns: u64, max_ns: u64) {
        self.min_ns = if self.count == 0 { min_ns } else { self.min_ns.min(min_ns) };
        self.max_ns = self.max_ns.max(max_ns);
    }

    /// The `q` quantile, in milliseconds: of the nearest rank, as in every output, within 1.1 %.
    fn quantile(&self, q: f64) -> f64 {
        let (least, most) = (ms(self.min_ns), ms(self.max_ns));
        match self.rank(q) {
            1 => least,
            last if last == self.count => most,
            rank => {
                // Three digits mean something.
                let told = self.buckets.at_rank(rank);
                format!("{told:.2e}").parse().unwrap_or(told).clamp(least, most)
            }
        }
    }

    /// The nearest rank of a quantile.
    fn rank(&self, q: f64) -> u64 {
        ((q * self.count as f64 * (1.0 - 1e-12)).ceil() as u64).clamp(1, self.count.max(1))
    }

    /// What the median has above the base, both in milliseconds. The median's own error of a hundredth would be more
    /// than there is of it where a queue is short.
    pub(super) fn queueing(&self, base: f64) -> f64 {
        let median = self.buckets.mean_at_rank(self.rank(0.5)).clamp(ms(self.min_ns), ms(self.max_ns));
        micros((median - base).max(0.0))
    }

    /// What it comes to; there is a sample.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            last: ms(self.last_ns),
            mean: micros(self.sum_ms / self.count.max(1) as f64),
            jitter: (self.differences > 0).then(|| micros(self.differences_ms / self.differences as f64)),
            min: ms(self.min_ns),
            p50: self.quantile(0.5),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: ms(self.max_ns),
        }
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Without the digits below a nanosecond that sums of binary fractions leave.
fn micros(ms: f64) -> f64 {
    (ms * 1e6).round() / 1e6
}

/// What a pair had over some seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) data: Option<Series>,
    pub(super) connect: Option<Box<Series>>,
    pub(super) health: Option<Box<PeerHealth>>,
}

impl Part {
    /// Adds a second.
    pub(super) fn add(&mut self, summary: &PairSummary) {
        if let Some(stats) = &summary.data {
            self.data.get_or_insert_default().add(stats);
        }
        if let Some(stats) = &summary.connect {
            self.connect.get_or_insert_default().add(stats);
        }
        if let Some(health) = &summary.health {
            self.health.get_or_insert_default().merge(health);
        }
    }

    /// Adds later seconds.
    pub(super) fn merge(&mut self, later: &Self) {
        if let Some(series) = &later.data {
            self.data.get_or_insert_default().merge(series);
        }
        if let Some(series) = &later.connect {
            self.connect.get_or_insert_default().merge(series);
        }
        if let Some(health) = &later.health {
            self.health.get_or_insert_default().merge(health);
        }
    }

    /// The lowest round trip of either kind, in milliseconds.
    pub(super) fn lowest(&self) -> Option<f64> {
        let each = [self.data.as_ref(), self.connect.as_deref()];
        each.into_iter().flatten().map(|series| series.min_ns).min().map(ms)
    }

    /// Samples of either kind.
    pub(super) fn count(&self) -> u64 {
        [self.data.as_ref(), self.connect.as_deref()].into_iter().flatten().map(|series| series.count).sum()
    }

    /// How much it was of: samples, and connections that failed, of which there may be no samples.
    pub(super) fn activity(&self) -> u64 {
        self.count() + self.health.as_ref().map_or(0, |health| health.failed())
    }

    /// Gives back room that is not used.
    pub(super) fn shrink(&mut self) {
        self.data.iter_mut().chain(self.connect.as_deref_mut()).for_each(|series| series.buckets.shrink());
    }

    /// Bytes of memory beside itself.
    pub(super) fn bytes(&self) -> usize {
        let buckets = |series: &Series| series.buckets.bytes();
        let connect = self.connect.as_deref().map_or(0, |series| size_of::<Series>() + buckets(series));
        let health = self.health.as_ref().map_or(0, |_| size_of::<PeerHealth>());
        self.data.as_ref().map_or(0, buckets) + connect + health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::examples::{counted, summary};

    #[test]
    fn seconds_together_come_to_what_their_samples_do() {
        let mut whole = Part::default();
        for us in [&[20_000_u64, 24_000][..], &[30_000], &[22_000, 21_000, 80_000]] {
            whole.add(&summary(us, &[19_000]));
        }
        let mut twice = Part::default();
        twice.merge(&whole);
        let figures = twice.data.as_ref().unwrap().figures();
        assert_eq!((figures.last, figures.min, figures.max), (80.0, 20.0, 80.0));
        assert!((figures.mean - 197.0 / 6.0).abs() < 1e-5, "{figures:?}");
        // 4, 1 and 59: those within a second.
        assert!((figures.jitter.unwrap() - 64.0 / 3.0).abs() < 1e-5, "{figures:?}");
        assert!((figures.p50 / 22.0 - 1.0).abs() < 0.011 && figures.p99 >= 80.0, "{figures:?}");
        assert_eq!((twice.count(), twice.lowest()), (9, Some(19.0)));
    }

    #[test]
    fn queueing_is_more_exact_than_the_median_where_round_trips_are_close() {
        let mut part = Part::default();
        part.add(&summary(&[100_000], &[]));
        for _ in 0..60 {
            part.add(&summary(&[100_300, 100_302, 100_304], &[]));
        }
        let data = part.data.as_ref().unwrap();
        let queueing = data.queueing(part.lowest().unwrap());
        assert!((queueing - 0.302).abs() < 0.005, "{queueing}, p50 {}", data.figures().p50);
        // Not below what there is at least.
        assert_eq!(data.queueing(200.0), 0.0);
    }

    #[test]
    fn a_point_is_of_data_and_of_handshakes_only_where_there_is_no_data() {
        let both = Point::of(3, &summary(&[20_000, 22_000, 21_000], &[5_000]));
        assert_eq!((both.pair, both.count, both.is_connect), (3, 3, false));
        assert_eq!((both.min, both.p50, both.max), (20.0, 21.0, 22.0));
        let connects = Point::of(3, &summary(&[], &[5_000]));
        assert_eq!((connects.count, connects.is_connect, connects.p50), (1, true, 5.0));
        let health = Point::of(1, &counted("db", &[]).summary);
        assert_eq!((health.count, health.resent, health.opened, health.failed, health.resets), (0, 7, 4, 2, 1));
    }

    #[test]
    fn what_a_pair_had_under_two_names_is_joined() {
        let mut one = Point::of(1, &counted("db", &[20_000, 30_000]).summary);
        one.join(&Point::of(2, &summary(&[10_000, 11_000, 12_000], &[])));
        assert_eq!((one.pair, one.count, one.min, one.max, one.p50), (1, 5, 10.0, 30.0, 11.0));
        assert_eq!((one.mean, one.resent), (16.6, 7));
        let mut connect = Point::of(1, &summary(&[], &[5_000]));
        connect.join(&Point::of(2, &summary(&[10_000], &[])));
        assert_eq!((connect.pair, connect.count, connect.is_connect), (1, 1, false));
    }
}
