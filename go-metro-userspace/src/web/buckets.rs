//! Round trips counted in buckets, each 1.1 % wide: what quantiles and a histogram of any span of the history are made
//! from.

use go_metro_rtt::{Rtt, Stats};

/// Buckets for each doubling. A quantile is the middle of its bucket, at most 0.6 % off.
const PER_DOUBLING: f64 = 64.0;
/// The upper bound of the first bucket, in nanoseconds.
const FIRST_NS: f64 = 1_000.0;

/// Counts by bucket, in the order of the buckets; empty ones are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Buckets(Vec<(u16, u32)>);

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

impl Buckets {
    /// Adds the samples of a series.
    pub(super) fn add(&mut self, stats: &Stats) {
        let kept = stats.kept();
        if kept.len() as u64 == stats.count() {
            kept.iter().for_each(|rtt| self.count(bucket(*rtt), 1));
            return;
        }
        // There are too many to be kept one by one: the sketch says how many are up to each bound.
        let (first, last) = (bucket(stats.min()), bucket(stats.max()));
        let bounds: Vec<f64> = (first..=last).map(upper_ms).collect();
        let mut below = 0;
        for (bucket, upto) in (first..=last).zip(stats.at_most(&bounds)) {
            // The largest sample is in the last bucket, however its bound was rounded.
            let upto = if bucket == last { stats.count() } else { upto };
            self.count(bucket, u32::try_from(upto.saturating_sub(below)).unwrap_or(u32::MAX));
            below = upto.max(below);
        }
    }

    fn count(&mut self, bucket: u16, count: u32) {
        if count == 0 {
            return;
        }
        match self.0.binary_search_by_key(&bucket, |(its, _)| *its) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(count),
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    /// Adds what another counted.
    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(bucket, count)| self.count(*bucket, *count));
    }

    /// The middle of the bucket that has this rank, 1 to the number of samples, in milliseconds; 0 of none.
    pub(super) fn at_rank(&self, rank: u64) -> f64 {
        let mut upto = 0;
        let found = self.0.iter().find(|(_, count)| {
            upto += u64::from(*count);
            upto >= rank
        });
        found.or(self.0.last()).map_or(0.0, |(bucket, _)| {
            let (lower, upper) = range_ms(*bucket);
            if *bucket == 0 { upper / 2.0 } else { (lower * upper).sqrt() }
        })
    }

    /// Each bucket's bounds in milliseconds, and how many are in it.
    pub(super) fn each(&self) -> impl Iterator<Item = (f64, f64, u32)> + '_ {
        self.0.iter().map(|(bucket, count)| {
            let (lower, upper) = range_ms(*bucket);
            (lower, upper, *count)
        })
    }

    /// Gives back room that is not used.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Bytes of memory beside itself.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u16, u32)>()
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
    fn what_is_merged_is_what_was_counted_together() {
        let (one, other) = ([20_000_000, 21_000_000, 90_000_000], [20_100_000, 400, 90_000_000]);
        let mut merged = counted(&one);
        merged.merge(&counted(&other));
        assert_eq!(merged, counted(&[one, other].concat()));
    }
}
