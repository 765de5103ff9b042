//! Counts of RTTs in fixed buckets: what can be added up over time and over hosts without loss.

use crate::Rtt;

/// Bounds of a decade, in units of a hundredth: each at most 10 % above the one before it, and 1, 2 and 5 among them.
const DECADE: [u64; 26] = [
    100, 109, 118, 129, 141, 154, 168, 183, 200, 219, 240, 263, 289, 316, 347, 380, 416, 456, 500, 545, 595, 648, 707,
    771, 841, 917,
];
/// The first bound, 100 µs, in nanoseconds: a rack.
const FIRST_NS: u64 = 100_000;
/// The last bound, 5 s: a broken path.
const LAST_NS: u64 = 5_000_000_000;
/// From here on bounds are 1, 2 and 5 of a decade only.
const FINE_UP_TO_NS: u64 = 2_000_000_000;
/// How many buckets have an upper bound.
const BOUNDED: usize = 114;

/// How close the bounds of buckets are. The coarse ones are among the fine ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buckets {
    /// 114: each at most 10 % above the one before it, from 100 µs to 2 s; then 5 s.
    #[default]
    Fine,
    /// 15: 1, 2 and 5 of each decade from 100 µs to 5 s.
    Coarse,
}

impl Buckets {
    /// The upper bounds, inclusive, in nanoseconds.
    pub fn bounds_ns(self) -> impl Iterator<Item = u64> {
        Histogram::BOUNDS_NS.into_iter().filter(move |bound| self == Self::Fine || is_round(*bound))
    }
}

/// Whether a bound is 1, 2 or 5 of a decade.
fn is_round(ns: u64) -> bool {
    let mut digit = ns;
    while digit.is_multiple_of(10) {
        digit /= 10;
    }
    matches!(digit, 1 | 2 | 5)
}

/// Counts by fixed bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Not yet summed up; the last is of all above the last bound.
    counts: [u64; BOUNDED + 1],
}

impl Histogram {
    /// The upper bounds, inclusive, in nanoseconds, from a rack to a broken path.
    ///
    /// A reader that interpolates within a bucket, as Prometheus does, is at most its width off: 10 % from 100 µs to 2
    /// s.
    pub const BOUNDS_NS: [u64; BOUNDED] = bounds();

    /// Counts one.
    #[inline]
    pub fn add(&mut self, rtt: Rtt) {
        let from = BELOW_DOUBLING[rtt.0.checked_ilog2().unwrap_or(0) as usize];
        let near = &PADDED_NS[from..from + PER_DOUBLING];
        // All of them are compared, which is quicker than to choose where to go on.
        self.counts[from + near.iter().filter(|bound| **bound < rtt.0).count()] += 1;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// Each bucket's upper bound, none at last, and how many are in it and in none below.
    pub fn counts(&self, buckets: Buckets) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = Self::BOUNDS_NS.iter().map(|bound| Some(*bound)).chain([None]);
        let mut below = 0;
        bounds.zip(self.counts).filter_map(move |(bound, count)| {
            below += count;
            let is_shown = bound.is_none_or(|ns| buckets == Buckets::Fine || is_round(ns));
            is_shown.then(|| (bound, std::mem::take(&mut below)))
        })
    }
}

/// Bounds from a number to below its double, at most.
const PER_DOUBLING: usize = 8;

/// The bounds, and behind them others that nothing reaches.
const PADDED_NS: [u64; BOUNDED + PER_DOUBLING] = {
    let (mut padded, mut number) = ([u64::MAX; BOUNDED + PER_DOUBLING], 0);
    while number < BOUNDED {
        padded[number] = Histogram::BOUNDS_NS[number];
        number += 1;
    }
    padded
};

/// How many bounds are below each power of two.
const BELOW_DOUBLING: [usize; 64] = {
    let (mut below, mut power) = ([0; 64], 0);
    while power < 64 {
        let mut bound = 0;
        while bound < BOUNDED && Histogram::BOUNDS_NS[bound] < 1 << power {
            bound += 1;
        }
        below[power] = bound;
        assert!(power == 0 || bound - below[power - 1] <= PER_DOUBLING, "no doubling has more");
        power += 1;
    }
    below
};

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BOUNDED + 1] }
    }
}

/// The fine bounds.
const fn bounds() -> [u64; BOUNDED] {
    let mut all = [LAST_NS; BOUNDED];
    let mut number = 0;
    let mut decade_ns = FIRST_NS;
    while number < BOUNDED - 1 {
        all[number] = decade_ns / 100 * DECADE[number % DECADE.len()];
        number += 1;
        if number.is_multiple_of(DECADE.len()) {
            decade_ns *= 10;
        }
    }
    assert!(all[BOUNDED - 2] == FINE_UP_TO_NS, "the number of bounds ends at two seconds");
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_above_all_bounds_to_the_last() {
        let mut histogram = Histogram::default();
        for ns in [1, 100_000, 100_001, 5_000_000_000, 5_000_000_001] {
            histogram.add(Rtt(ns));
        }
        let mut twice = histogram;
        twice.merge(&histogram);
        for buckets in [Buckets::Fine, Buckets::Coarse] {
            let counts: Vec<u64> = twice.counts(buckets).map(|(_, count)| count).collect();
            let last = counts.len() - 1;
            assert_eq!((counts[0], counts[1], counts[2], counts[last - 1], counts[last]), (4, 2, 0, 2, 2));
            assert_eq!(counts.iter().sum::<u64>(), 10);
            assert_eq!(twice.counts(buckets).last(), Some((None, 2)));
            assert_eq!(buckets.bounds_ns().count(), last);
        }
    }

    #[test]
    fn each_time_is_in_the_bucket_of_the_first_bound_that_is_not_below_it() {
        let powers = (0..64).map(|power| 1 << power);
        for ns in Histogram::BOUNDS_NS.into_iter().chain(powers).flat_map(|ns| [ns - 1, ns, ns + 1]).chain([u64::MAX]) {
            let mut histogram = Histogram::default();
            histogram.add(Rtt(ns));
            let expected = Histogram::BOUNDS_NS.partition_point(|bound| *bound < ns);
            assert_eq!(histogram.counts.iter().position(|count| *count > 0), Some(expected), "{ns} ns");
        }
    }

    #[test]
    fn fine_bounds_are_at_most_ten_per_cent_apart_from_100_us_to_2_s_and_coarse_ones_are_round() {
        let bounds = Histogram::BOUNDS_NS;
        for pair in bounds.windows(2).filter(|pair| pair[1] <= FINE_UP_TO_NS) {
            let apart = pair[1] as f64 / pair[0] as f64 - 1.0;
            assert!(apart > 0.0 && apart <= 0.1, "{pair:?}: {apart}");
        }
        assert_eq!((bounds[0], bounds[BOUNDED - 1]), (FIRST_NS, LAST_NS));
        let coarse: Vec<u64> = Buckets::Coarse.bounds_ns().map(|ns| ns / FIRST_NS).collect();
        assert_eq!(coarse, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000]);
    }
}
