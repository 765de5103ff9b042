//! Counts of RTTs in buckets of a fixed relative width: the sketch that quantiles come from, and, as it is, a base-2
//! exponential histogram of OpenTelemetry and a native histogram of Prometheus.
//!
//! A DDSketch (Masson, Rim, Lee: VLDB 2019) whose γ is 2^(2^-[`SCALE`](Exponential::SCALE)), of times in seconds:
//! bucket i holds what is above γ^i and at most γ^(i+1), as OpenTelemetry's data model and Prometheus's schema of the
//! same number have it, so that neither needs another rounding.

use serde::{Deserialize, Serialize};

use crate::Rtt;

/// Buckets are added so many at once, so that a series that spreads seldom moves the others.
const STEP: i32 = 32;

/// Counts by bucket; two of them add up without loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exponential {
    /// Index of the bucket of `counts[0]`, a multiple of [`STEP`].
    first: i32,
    counts: Vec<u64>,
    count: u64,
}

impl Exponential {
    /// Bounds are 2^(2^-7) = 1.00543 apart: a value from the same bucket is at most 0.55 % off, its middle 0.28 %. RTTs
    /// of 1 ns to 584 years are 8,193 buckets; those of 100 µs to 2 s 1,829.
    pub const SCALE: i32 = 7;
    /// Buckets of a doubling.
    const PER_DOUBLING: f64 = (1 << Self::SCALE) as f64;

    /// The bucket of an RTT.
    fn index(rtt: Rtt) -> i32 {
        // A sample is never 0. Rounding may put a value that is a bound into the bucket beside it.
        let doublings = (rtt.0.max(1) as f64).log2() - NANOSECONDS_LOG2;
        (doublings * Self::PER_DOUBLING).ceil() as i32 - 1
    }

    /// The upper bound of a bucket, inclusive, in seconds.
    pub fn upper_bound(index: i32) -> f64 {
        (f64::from(index + 1) / Self::PER_DOUBLING).exp2()
    }

    /// Counts one.
    #[inline]
    pub fn add(&mut self, rtt: Rtt) {
        let place = self.place(Self::index(rtt));
        self.counts[place] += 1;
        self.count += 1;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        let (first, theirs) = other.buckets();
        if let Some(last) = theirs.len().checked_sub(1) {
            self.place(first + last as i32);
            let place = self.place(first);
            self.counts[place..].iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
        self.count += other.count;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The index of the lowest bucket that has any, and the counts from it to the highest that has any.
    pub fn buckets(&self) -> (i32, &[u64]) {
        let is_used = |count: &u64| *count > 0;
        let Some(low) = self.counts.iter().position(is_used) else { return (0, &[]) };
        let high = self.counts.iter().rposition(is_used).unwrap_or(low);
        (self.first + low as i32, &self.counts[low..=high])
    }

    /// The middle of the bucket that has the value of a rank, 1 to [`count`](Self::count), in milliseconds.
    pub(crate) fn at_rank(&self, rank: u64) -> Option<f64> {
        let mut below = 0;
        let place = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        let middle = (f64::from(self.first + place as i32) + 0.5) / Self::PER_DOUBLING;
        Some(middle.exp2() * 1e3)
    }

    /// Where a bucket is in `counts`, which are extended to it if need be.
    #[inline]
    fn place(&mut self, index: i32) -> usize {
        if self.counts.is_empty() || index < self.first {
            let first = index.div_euclid(STEP) * STEP;
            let more = if self.counts.is_empty() { 0 } else { self.first.abs_diff(first) as usize };
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = first;
        }
        let place = index.abs_diff(self.first) as usize;
        if place >= self.counts.len() {
            self.counts.resize((place / STEP as usize + 1) * STEP as usize, 0);
        }
        place
    }
}

/// Binary logarithm of the nanoseconds of a second.
const NANOSECONDS_LOG2: f64 = 29.897_352_853_986_263;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Exponential {
        let mut all = Exponential::default();
        values.iter().for_each(|ns| all.add(Rtt(*ns)));
        all
    }

    #[test]
    fn a_second_and_its_doublings_are_upper_bounds() {
        for (ns, index) in [
            (1_000_000_000, -1),
            (1_000_000_001, 0),
            (2_000_000_000, 127),
            (2_000_000_001, 128),
            (500_000_000, -129),
            (500_000_001, -128),
        ] {
            assert_eq!(of(&[ns]).buckets(), (index, &[1][..]), "{ns} ns");
        }
        assert_eq!(Exponential::upper_bound(-1), 1.0);
        assert_eq!(Exponential::upper_bound(127), 2.0);
        assert_eq!(NANOSECONDS_LOG2, 1e9_f64.log2());
    }

    #[test]
    fn the_whole_range_of_times_has_the_buckets_that_are_documented() {
        let buckets = |low, high| {
            let all = of(&[low, high]);
            let (_, counts) = all.buckets();
            assert_eq!((all.count(), counts.iter().sum::<u64>()), (2, 2));
            counts.len()
        };
        assert_eq!(buckets(1, u64::MAX), 8193);
        assert_eq!(buckets(100_000, 2_000_000_000), 1829);
        assert_eq!(Exponential::default().buckets(), (0, &[][..]));
    }

    proptest! {
        #[test]
        fn a_value_is_within_its_bucket_and_its_middle_within_the_documented_error(ns in 1_u64..600_000_000_000) {
            let one = of(&[ns]);
            let (index, _) = one.buckets();
            let seconds = ns as f64 / 1e9;
            let rounding = 1.0 + 1e-12;
            prop_assert!(seconds <= Exponential::upper_bound(index) * rounding);
            prop_assert!(seconds * rounding > Exponential::upper_bound(index - 1));
            prop_assert!((Exponential::upper_bound(index) / Exponential::upper_bound(index - 1) - 1.0) < 0.0055);
            let middle = one.at_rank(1).unwrap() / 1e3;
            prop_assert!((middle / seconds - 1.0).abs() < 0.0028, "{middle} for {seconds}");
        }

        #[test]
        fn merged_counts_are_those_of_all_values_in_whatever_order(
            values in prop::collection::vec(1_u64..100_000_000_000, 0..200),
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(values.len() + 1);
            let mut merged = of(&values[cut..]);
            merged.merge(&of(&values[..cut]));
            let whole = of(&values);
            prop_assert_eq!(merged.count(), whole.count());
            prop_assert_eq!(merged.buckets(), whole.buckets());
            let mut sorted = values;
            sorted.sort_unstable();
            for (rank, ns) in (1..).zip(sorted) {
                let found = whole.at_rank(rank).unwrap();
                prop_assert!((found / (ns as f64 / 1e6) - 1.0).abs() < 0.0028);
            }
        }
    }
}
