//! One interval of several engines, each with flows of its own.

use hashbrown::HashMap;

use crate::{Interval, PairKey, PairSummary};

impl Interval {
    /// What one engine would have said of all the flows: counts, sums, extremes and quantiles are the same. The samples
    /// of one pair that came from different engines have lost their order: `last` is the last of one of them, the
    /// differences of successive samples are those within each, and a smoothed average is the mean of theirs. Pairs
    /// beyond `max_pairs` are folded into `other`.
    pub fn merged(intervals: impl IntoIterator<Item = Self>, max_pairs: usize) -> Self {
        let mut pairs: HashMap<PairKey, PairSummary, foldhash::fast::RandomState> = HashMap::default();
        let (mut other, mut folded_samples) = (PairSummary::default(), 0);
        for interval in intervals {
            folded_samples += interval.folded_samples;
            interval.other.iter().for_each(|theirs| other.merge(theirs));
            for (key, theirs) in interval.pairs {
                let full = pairs.len() >= max_pairs;
                match pairs.get_mut(&key) {
                    Some(mine) => mine.merge(&theirs),
                    None if full => {
                        folded_samples += theirs.count();
                        other.merge(&theirs);
                    }
                    None => {
                        pairs.insert(key, theirs);
                    }
                }
            }
        }
        Self {
            pairs: pairs.into_iter().collect(),
            other: Some(other).filter(|other| !other.is_empty()),
            folded_samples,
        }
    }
}
