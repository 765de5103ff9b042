//! Counts of RTTs in fixed buckets: what can be added up over time and over hosts without loss.

use serde::{Deserialize, Serialize};

use super::Rtt;

/// How many buckets have an upper bound.
const BOUNDED: usize = 19;

/// Counts by fixed bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Not yet summed up; the last is of all above the last bound.
    counts: [u64; BOUNDED + 1],
}

impl Histogram {
    /// The upper bounds, inclusive, in nanoseconds: from a rack (100 µs) to a broken path (5 s), closest where paths between cities and
    /// continents are.
    pub const BOUNDS_NS: [u64; BOUNDED] = [
        100_000,
        200_000,
        500_000,
        1_000_000,
        2_000_000,
        5_000_000,
        10_000_000,
        20_000_000,
        30_000_000,
        50_000_000,
        75_000_000,
        100_000_000,
        150_000_000,
        200_000_000,
        300_000_000,
        500_000_000,
        1_000_000_000,
        2_000_000_000,
        5_000_000_000,
    ];

    /// Counts one.
    #[inline]
    pub fn add(&mut self, rtt: Rtt) {
        self.counts[Self::BOUNDS_NS.partition_point(|bound| *bound < rtt.0)] += 1;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// Each bucket's upper bound, none at last, and how many are in it and in none below.
    pub fn counts(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = Self::BOUNDS_NS.iter().map(|bound| Some(*bound)).chain([None]);
        bounds.zip(self.counts)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BOUNDED + 1] }
    }
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
        let counts: Vec<u64> = twice.counts().map(|(_, count)| count).collect();
        assert_eq!((counts[0], counts[1], counts[2], counts[18], counts[19]), (4, 2, 0, 2, 2));
        assert_eq!(twice.counts().last(), Some((None, 2)));
        assert!(Histogram::BOUNDS_NS.is_sorted());
    }
}
