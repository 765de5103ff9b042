//! Round trips counted in buckets, each 1.1 % wide: what quantiles and a histogram of any span of the history are made
//! from.

use go_metro_rtt::{Rtt, Stats};

/// Buckets for each doubling. A quantile is the middle of its bucket, at most 0.6 % off.
const PER_DOUBLING: f64 = 64.0;
/// The upper bound of the first bucket, in nanoseconds.
const FIRST_NS: f64 = 1_000.0;

/// Counts by bucket, in the order of the buckets; empty ones are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Buckets(Vec<Bucket>);

/// A bucket that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    number: u16,
    /// Where the mean of its samples lies, from 0 at its lower bound to [`UPPER`] at its upper one. It takes no memory:
    /// the count is aligned.
    mean: u16,
    count: u32,
}

/// The place of a bucket's upper bound.
const UPPER: u16 = u16::MAX;
/// The place where samples are taken to be of which only the number is known.
const MIDDLE: u16 = UPPER / 2;

/// The bucket of a round trip: the first whose upper bound is not below it.
fn bucket(rtt: Rtt) -> u16 {
    let place = (rtt.0 as f64 / FIRST_NS).log2() * PER_DOUBLING;
    // 2^64 ns are in bucket 3,459.
    place.ceil().max(0.0) as u16
}

/// The upper bound of a bucket, in milliseconds.
fn upper_ms(bucket: u16) -> f64 {
    FIRST_NS / 1e6 * (f64::from(bucket) / PER_DOUBLING).exp2()
}

/// What lies between a bucket's bounds, in milliseconds.
fn range_ms(bucket: u16) -> (f64, f64) {
    (if bucket == 0 { 0.0 } else { upper_ms(bucket - 1) }, upper_ms(bucket))
}

impl Bucket {
    /// Of one sample.
    fn of(rtt: Rtt) -> Self {
        let number = bucket(rtt);
        let (lower, upper) = range_ms(number);
        let place = (rtt.as_millis_f64() - lower) / (upper - lower) * f64::from(UPPER);
        // A conversion saturates: a sample at a bound may be rounded to beyond it.
        Self { number, mean: place.round() as u16, count: 1 }
    }

    /// Adds the samples of the same bucket.
    fn add(&mut self, other: Self) {
        let whole = u64::from(self.count) + u64::from(other.count);
        let sum = |its: &Self| u64::from(its.mean) * u64::from(its.count);
        let mean = (sum(self) + sum(&other) + whole / 2) / whole.max(1);
        self.mean = u16::try_from(mean).unwrap_or(UPPER);
        self.count = self.count.saturating_add(other.count);
    }
}

impl Buckets {
    /// Adds the samples of a series.
    pub(super) fn add(&mut self, stats: &Stats) {
        let kept = stats.kept();
        if kept.len() as u64 == stats.count() {
            kept.iter().for_each(|rtt| self.count(Bucket::of(*rtt)));
            return;
        }
        // There are too many to be kept one by one: the sketch says how many are up to each bound.
        let (first, last) = (bucket(stats.min()), bucket(stats.max()));
        let bounds: Vec<f64> = (first..=last).map(upper_ms).collect();
        let mut below = 0;
        for (number, upto) in (first..=last).zip(stats.at_most(&bounds)) {
            // The largest sample is in the last bucket, however its bound was rounded.
            let upto = if number == last { stats.count() } else { upto };
            let count = u32::try_from(upto.saturating_sub(below)).unwrap_or(u32::MAX);
            self.count(Bucket { number, mean: MIDDLE, count });
            below = upto.max(below);
        }
    }

    fn count(&mut self, bucket: Bucket) {
        if bucket.count == 0 {
            return;
        }
        match self.0.binary_search_by_key(&bucket.number, |its| its.number) {
            Ok(at) => self.0[at].add(bucket),
            Err(at) => self.0.insert(at, bucket),
        }
    }

    /// Adds what another counted.
    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|bucket| self.count(*bucket));
    }

    /// The middle of the bucket that has this rank, 1 to the number of samples, in milliseconds; 0 of none.
    pub(super) fn at_rank(&self, rank: u64) -> f64 {
        self.with_rank(rank).map_or(0.0, |bucket| {
            let (lower, upper) = range_ms(bucket.number);
            if bucket.number == 0 { upper / 2.0 } else { (lower * upper).sqrt() }
        })
    }

    /// The mean of the samples in the bucket that has this rank, in milliseconds; 0 of none. The sample is as close to
    /// it as those of the bucket are to each other.
    pub(super) fn mean_at_rank(&self, rank: u64) -> f64 {
        self.with_rank(rank).map_or(0.0, |bucket| {
            let (lower, upper) = range_ms(bucket.number);
            lower + (upper - lower) * f64::from(bucket.mean) / f64::from(UPPER)
        })
    }

    fn with_rank(&self, rank: u64) -> Option<&Bucket> {
        let mut upto = 0;
        let found = self.0.iter().find(|bucket| {
            upto += u64::from(bucket.count);
            upto >= rank
        });
        found.or(self.0.last())
    }

    /// Each bucket's bounds in milliseconds, and how many are in it.
    pub(super) fn each(&self) -> impl Iterator<Item = (f64, f64, u32)> + '_ {
        self.0.iter().map(|bucket| {
            let (lower, upper) = range_ms(bucket.number);
            (lower, upper, bucket.count)
        })
    }

    /// Gives back room that is not used.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Bytes of memory beside itself.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Bucket>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::examples::summary_ns;

    fn counted(ns: &[u64]) -> Buckets {
        let mut buckets = Buckets::default();
        buckets.add(&summary_ns(ns).data.unwrap());
        buckets
    }

    #[test]
    fn a_sample_is_between_the_bounds_of_its_bucket_and_they_are_close() {
        for ns in [1, 999, 1_000, 1_001, 25_142_371, 300_000_000_000, u64::MAX] {
            let (lower, upper, count) = counted(&[ns]).each().next().unwrap();
            let ms = ns as f64 / 1e6;
            let rounding = ms * 1e-12;
            assert!(lower - rounding < ms && ms <= upper + rounding && count == 1, "{lower} < {ms} <= {upper}");
            assert!(ns <= 1_000 || upper / lower < 1.011, "{lower} to {upper}");
        }
    }

    #[test]
    fn quantiles_are_within_about_a_hundredth_of_those_of_the_samples() {
        // So many that they are no longer kept one by one, and few.
        for count in [20_000_u64, 900] {
            let mut ns: Vec<u64> =
                (0..count).map(|k| 3_000_000 + (k * 7919 % count) * (2_000_000_000 / count)).collect();
            let buckets = counted(&ns);
            assert_eq!(buckets.each().map(|(.., count)| u64::from(count)).sum::<u64>(), count);
            ns.sort_unstable();
            for rank in [1, count / 2, count * 95 / 100, count] {
                let (told, exact) = (buckets.at_rank(rank), ns[rank as usize - 1] as f64 / 1e6);
                assert!((told / exact - 1.0).abs() < 0.011, "rank {rank} of {count}: {told} for {exact}");
            }
        }
    }

    #[test]
    fn the_mean_of_a_bucket_is_that_of_its_samples_and_takes_no_memory() {
        let mut buckets = Buckets::default();
        for second in 0..600 {
            let ns = [100_300_000, 100_301_000, 100_302_000 + second % 2 * 1_000];
            buckets.merge(&counted(&ns));
        }
        let mean = buckets.mean_at_rank(900);
        assert!((mean - 100.301_2).abs() < 0.001, "{mean} of 1,800 samples");
        let alone = counted(&[25_142_371]).mean_at_rank(1);
        assert!((alone / 25.142_371 - 1.0).abs() < 1e-6, "{alone}");
        assert_eq!(size_of::<Bucket>(), size_of::<(u16, u32)>());
    }

    #[test]
    fn what_is_merged_is_what_was_counted_together() {
        let (one, other) = ([20_000_000, 21_000_000, 90_000_000], [20_100_000, 400, 90_000_000]);
        let mut merged = counted(&one);
        merged.merge(&counted(&other));
        assert_eq!(merged, counted(&[one, other].concat()));
    }
}
