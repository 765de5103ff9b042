//! Quantiles of a series of RTTs: one definition for every output.
//!
//! The quantile `q` of n samples is the sample of the nearest rank, `ceil(q * n)` (at least 1), counted from the
//! smallest: always one that was measured, never a value between two. Rank 1 is the minimum and rank n the maximum.
//!
//! Up to [`SummaryLimits::kept_samples`](super::SummaryLimits) samples, all of them are held and quantiles are exact.
//! Beyond that they come from a sketch, [`Exponential`], are within [`QUANTILE_ERROR`] of that sample and have three
//! significant digits. Merging sketches adds their buckets, so that several engines give what one would have given.

use serde::{Deserialize, Serialize};

use crate::{Exponential, Histogram, Rtt};

/// Largest relative error of a quantile that is not exact: the sketch's own (0.28 %), and that of rounding to three
/// digits (at most 0.5 %).
pub const QUANTILE_ERROR: f64 = 0.01;

/// A statistic of a series, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Figure {
    /// The value.
    pub ms: f64,
    /// Whether it is exact; else it is within [`QUANTILE_ERROR`] and has three significant digits.
    pub is_exact: bool,
}

impl Figure {
    /// An exact value.
    pub fn exact(ms: f64) -> Self {
        Self { ms, is_exact: true }
    }

    /// An estimate, rounded to the digits that mean something.
    fn estimate(ms: f64) -> Self {
        Self { ms: format!("{ms:.2e}").parse().unwrap_or(ms), is_exact: false }
    }

    /// How many decimals to write, of at most so many.
    pub fn decimals(self, most: usize) -> usize {
        if self.is_exact {
            return most;
        }
        let before_the_point = self.ms.log10().floor() as i32 + 1;
        usize::try_from(3 - before_the_point).unwrap_or(0).min(most)
    }
}

/// The values of a series, as far as quantiles need them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Distribution {
    kept: Reservoir,
    /// Once there are more values than are kept.
    beyond: Option<Box<Beyond>>,
}

/// All values of a series, in buckets.
#[derive(Clone, Serialize, Deserialize)]
struct Beyond {
    sketch: Exponential,
    // A viewer draws no fixed buckets.
    #[serde(skip)]
    histogram: Histogram,
}

impl std::fmt::Debug for Beyond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Beyond").field("count", &self.sketch.count()).finish_non_exhaustive()
    }
}

impl Beyond {
    fn of(values: &[Rtt]) -> Self {
        let mut beyond = Self { sketch: Exponential::default(), histogram: Histogram::default() };
        values.iter().for_each(|rtt| beyond.add(*rtt));
        beyond
    }

    fn add(&mut self, rtt: Rtt) {
        self.sketch.add(rtt);
        self.histogram.add(rtt);
    }

    fn merge(&mut self, other: &Self) {
        self.sketch.merge(&other.sketch);
        self.histogram.merge(&other.histogram);
    }
}

impl Distribution {
    /// An empty one. Beyond `bound` values it goes on to keep an even choice of as many if it `keeps_choice`.
    pub(super) fn new(bound: usize, keeps_choice: bool) -> Self {
        Self { kept: Reservoir::new(bound, keeps_choice), beyond: None }
    }

    /// Reads where the next value goes, so that it is in the cache.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        self.kept.values.last().map_or(0, |rtt| rtt.0)
    }

    pub(super) fn add(&mut self, rtt: Rtt) {
        if self.beyond.is_none() && self.kept.is_full() {
            self.beyond = Some(Box::new(Beyond::of(&self.kept.values)));
        }
        if let Some(beyond) = &mut self.beyond {
            beyond.add(rtt);
        }
        self.kept.add(rtt);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let fits = self.kept.values.len() + other.kept.values.len() <= self.kept.bound;
        if self.beyond.is_some() || other.beyond.is_some() || !fits {
            let beyond = self.beyond.get_or_insert_with(|| Box::new(Beyond::of(&self.kept.values)));
            match &other.beyond {
                Some(theirs) => beyond.merge(theirs),
                None => other.kept.values.iter().for_each(|rtt| beyond.add(*rtt)),
            }
        }
        self.kept.merge(&other.kept);
    }

    /// The values of these quantiles (0 to 1), in milliseconds and not rounded; and whether they are exact.
    pub(super) fn quantiles<const N: usize>(&self, quantiles: [f64; N], min: Rtt, max: Rtt) -> ([f64; N], bool) {
        let count = self.kept.seen;
        // 0.95 and 0.99 are no binary fractions: what their product with the count lies above a whole number is
        // rounding.
        let rank = |q: f64| ((q.clamp(0.0, 1.0) * count as f64 * (1.0 - 1e-12)).ceil() as u64).clamp(1, count.max(1));
        let Some(beyond) = &self.beyond else {
            let mut sorted = self.kept.values.clone();
            sorted.sort_unstable();
            let at = |q| sorted.get(rank(q) as usize - 1).map_or(max.as_millis_f64(), |rtt| rtt.as_millis_f64());
            return (quantiles.map(at), true);
        };
        let (least, most) = (min.as_millis_f64(), max.as_millis_f64());
        let at = |q| match rank(q) {
            1 => least,
            last if last == count => most,
            rank => beyond.sketch.at_rank(rank).unwrap_or(most).clamp(least, most),
        };
        (quantiles.map(at), false)
    }

    /// How many values are at most as large as each of these bounds, in milliseconds: the largest rank whose quantile
    /// is.
    pub(super) fn at_most(&self, bounds: &[f64], min: Rtt, max: Rtt) -> Vec<u64> {
        let Some(beyond) = &self.beyond else {
            let mut sorted = self.kept.values.clone();
            sorted.sort_unstable();
            let upto = |bound: &f64| sorted.partition_point(|rtt| rtt.as_millis_f64() <= *bound) as u64;
            return bounds.iter().map(upto).collect();
        };
        let (least, most, count) = (min.as_millis_f64(), max.as_millis_f64(), self.kept.seen);
        let upto = |bound: f64| {
            if bound >= most {
                return count;
            }
            let (mut low, mut high) = (u64::from(bound >= least), count - 1);
            // All ranks up to `low` are within the bound, none above `high` is.
            while low < high {
                let middle = low + (high - low).div_ceil(2);
                if beyond.sketch.at_rank(middle).unwrap_or(most).clamp(least, most) <= bound {
                    low = middle;
                } else {
                    high = middle - 1;
                }
            }
            low
        };
        bounds.iter().map(|bound| upto(*bound)).collect()
    }

    /// Quantiles as they are shown.
    pub(super) fn figures<const N: usize>(&self, quantiles: [f64; N], min: Rtt, max: Rtt) -> [Figure; N] {
        let (values, is_exact) = self.quantiles(quantiles, min, max);
        let (least, most) = (min.as_millis_f64(), max.as_millis_f64());
        values.map(|ms| {
            if is_exact {
                return Figure::exact(ms);
            }
            let figure = Figure::estimate(ms);
            // Rounding leads out of the series only towards a value that is known exactly.
            if figure.ms <= least {
                Figure::exact(least)
            } else if figure.ms >= most {
                Figure::exact(most)
            } else {
                figure
            }
        })
    }

    /// How many values there were in each of the fixed buckets.
    pub(super) fn histogram(&self) -> Histogram {
        match &self.beyond {
            Some(beyond) => beyond.histogram,
            None => {
                let mut histogram = Histogram::default();
                self.kept.values.iter().for_each(|rtt| histogram.add(*rtt));
                histogram
            }
        }
    }

    /// How many values there were in each bucket of the sketch, whether or not quantiles come from that.
    pub(super) fn exponential(&self) -> Exponential {
        match &self.beyond {
            Some(beyond) => beyond.sketch.clone(),
            None => {
                let mut sketch = Exponential::default();
                self.kept.values.iter().for_each(|rtt| sketch.add(*rtt));
                sketch
            }
        }
    }

    /// The values kept: all of them, or an even choice; or none, where no choice is kept and there were too many.
    pub(super) fn kept(&self) -> &[Rtt] {
        &self.kept.values
    }

    /// Kept values as a share of all, in (0, 1].
    pub(super) fn kept_rate(&self) -> f64 {
        if self.kept.seen == 0 { 1.0 } else { self.kept.values.len() as f64 / self.kept.seen as f64 }
    }
}

/// All values up to a bound; beyond it a uniform choice of them (Vitter's algorithm R), or nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reservoir {
    values: Vec<Rtt>,
    bound: usize,
    keeps_choice: bool,
    seen: u64,
    random: u64,
}

impl Reservoir {
    fn new(bound: usize, keeps_choice: bool) -> Self {
        Self { values: Vec::new(), bound, keeps_choice, seen: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Whether it holds all values and has room for no other.
    fn is_full(&self) -> bool {
        self.values.len() as u64 == self.seen && self.values.len() >= self.bound
    }

    fn add(&mut self, rtt: Rtt) {
        self.seen += 1;
        if self.seen <= self.bound as u64 {
            self.values.push(rtt);
        } else if !self.keeps_choice {
            self.values = Vec::new();
        } else {
            // A share of the range as large as the random number's, which takes no division (Lemire 2019, section 3).
            let place = (u128::from(self.next_random()) * u128::from(self.seen)) >> 64;
            if let Some(kept) = self.values.get_mut(place as usize) {
                *kept = rtt;
            }
        }
    }

    /// Chooses from both in proportion to how many each stands for.
    fn merge(&mut self, other: &Self) {
        let all = self.seen + other.seen;
        if all <= self.bound as u64 {
            self.values.extend_from_slice(&other.values);
        } else if !self.keeps_choice {
            self.values = Vec::new();
        } else if self.values.len() + other.values.len() <= self.bound {
            self.values.extend_from_slice(&other.values);
        } else {
            let mine = std::mem::take(&mut self.values);
            let take_mine = (self.bound as u128 * u128::from(self.seen) / u128::from(all.max(1))) as usize;
            let take_mine = take_mine.max(self.bound.saturating_sub(other.values.len())).min(mine.len());
            let take_theirs = (self.bound - take_mine).min(other.values.len());
            self.values.extend(evenly(&mine, take_mine));
            self.values.extend(evenly(&other.values, take_theirs));
        }
        self.seen = all;
    }

    /// xorshift64 (Marsaglia 2003): good enough to choose samples, and needs no source of randomness.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// `count` values of `values`, spread evenly over it.
fn evenly(values: &[Rtt], count: usize) -> impl Iterator<Item = Rtt> + '_ {
    (0..count).map(move |k| values[k * values.len() / count])
}
