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
    const PER_DOUBLING: f64 = BUCKETS as f64;

    /// The bucket of an RTT.
    #[inline]
    fn index(rtt: Rtt) -> i32 {
        // A sample is never 0.
        let ns = rtt.0.max(1);
        let exponent = ns.ilog2();
        let significand = ns << (63 - exponent);
        // The bit that is always set is no part of the cell's number.
        let cell = (significand >> (63 - CELLS.ilog2())) as usize % CELLS;
        let below = usize::from(BELOW_CELL[cell]);
        let below = below + usize::from(BOUNDS[below] < significand);
        (exponent as i32 - SECOND.ilog2() as i32) * BUCKETS as i32 + below as i32 - AT_SECOND as i32 - 1
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

/// Nanoseconds of a second, whose bucket has it as its upper bound.
const SECOND: u64 = 1_000_000_000;
/// Buckets of a doubling.
const BUCKETS: usize = 1 << Exponential::SCALE;
/// 2^(2^-7), in units of 2^-63.
const WIDTH: u64 = 0x80b1_ed4f_d999_ab6c;
/// So many equal parts of a doubling, each with at most one bound within.
const CELLS: usize = 2 * BUCKETS;
/// The upper bounds of buckets within a doubling of nanoseconds, as significands: numbers from 2^63 to below 2^64. The
/// last is above all.
const BOUNDS: [u64; BUCKETS + 1] = bounds();
/// Which of them is a second; with another number they would not be in order.
const AT_SECOND: usize = 114;
/// How many bounds are below each cell.
const BELOW_CELL: [u8; CELLS] = {
    let (mut below, mut cell, mut bound) = ([0; CELLS], 0, 0);
    while cell < CELLS {
        while BOUNDS[bound] < (CELLS + cell) as u64 * (1 << (63 - CELLS.ilog2())) {
            bound += 1;
        }
        below[cell] = bound as u8;
        cell += 1;
    }
    below
};

/// From a second, which is exact, upwards: each multiplication is at most 2^-63 off, so that the bounds are right for
/// all times that have fewer than 56 bits.
const fn bounds() -> [u64; BUCKETS + 1] {
    let mut all = [u64::MAX; BUCKETS + 1];
    let (mut number, mut bound) = (0, SECOND << SECOND.leading_zeros());
    while number < BUCKETS {
        all[(AT_SECOND + number) % BUCKETS] = bound;
        let next = bound as u128 * WIDTH as u128;
        // Above a doubling it is the bound of the same place in the one before.
        bound = if next >> 127 == 0 { (next >> 63) as u64 } else { (next >> 64) as u64 };
        number += 1;
    }
    while number > 0 {
        assert!(all[number - 1] < all[number]);
        number -= 1;
    }
    all
}

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
        fn a_bucket_is_that_of_the_logarithm(bits in 0_u32..56, noise in any::<u64>()) {
            let ns = (1 << bits) | (noise % (1 << bits));
            let exact = (ns as f64 / 1e9).log2() * Exponential::PER_DOUBLING;
            let index = f64::from(Exponential::index(Rtt(ns)));
            // What is next to a bound may round to either side.
            prop_assert!(index < exact + 1e-9 && exact <= index + 1.0 + 1e-9, "{ns} ns: {index}, {exact}");
        }

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
