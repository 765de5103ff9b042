//! A tree of losers (Knuth, The Art of Computer Programming, volume 3, section 5.4.1): the earliest of many rings, with
//! one comparison a level where a heap needs two, and none that the processor has to foresee.

/// Nothing comes of this ring.
const NEVER: u64 = u64::MAX;

/// When the next record of each ring passed the hook, and which is the earliest; of several, that of the lowest number.
pub(super) struct Losers {
    /// The earliest, then those that lost in each match: node `k` has the later of the winners of `2k` and `2k + 1`.
    nodes: Vec<u128>,
    /// The rings' own, where the matches begin.
    leaves: Vec<u128>,
}

/// A ring with its time: earlier ones are less.
fn entry(ns: u64, ring: usize) -> u128 {
    u128::from(ns) << 64 | ring as u128
}

impl Losers {
    /// Of so many rings, with nothing in them.
    pub(super) fn new(rings: usize) -> Self {
        let places = rings.max(1).next_power_of_two();
        let leaves = (0..places).map(|ring| entry(NEVER, ring)).collect();
        Self { nodes: vec![entry(NEVER, 0); places], leaves }
    }

    /// Takes the time of each ring, in their order; none where there is no record.
    pub(super) fn begin(&mut self, times: impl Iterator<Item = Option<u64>>) {
        for (ring, (leaf, ns)) in self.leaves.iter_mut().zip(times).enumerate() {
            *leaf = entry(ns.unwrap_or(NEVER), ring);
        }
        // The winners of each round take the first half of the places of the round before.
        let mut players = self.leaves.len();
        while players > 1 {
            let matches = players / 2;
            for k in 0..matches {
                let (one, other) = (self.leaves[2 * k], self.leaves[2 * k + 1]);
                self.nodes[matches + k] = one.max(other);
                self.leaves[k] = one.min(other);
            }
            players = matches;
        }
        self.nodes[0] = self.leaves[0];
    }

    /// The ring whose record is the earliest, and its time.
    #[inline]
    pub(super) fn earliest(&self) -> Option<(u64, usize)> {
        let ns = (self.nodes[0] >> 64) as u64;
        (ns != NEVER).then_some((ns, self.nodes[0] as u64 as usize))
    }

    /// The record of the ring that is the earliest was taken; its next has this time, if there is one.
    #[inline]
    pub(super) fn replace_earliest(&mut self, ns: Option<u64>) {
        let ring = self.nodes[0] as u64 as usize;
        let mut winner = entry(ns.unwrap_or(NEVER), ring);
        let mut node = (self.nodes.len() + ring) / 2;
        while node > 0 {
            let loser = &mut self.nodes[node];
            (*loser, winner) = ((*loser).max(winner), (*loser).min(winner));
            node /= 2;
        }
        self.nodes[0] = winner;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_earliest_is_that_of_a_heap(
            times in proptest::collection::vec(proptest::option::of(0..20_u64), 1..70),
            next in proptest::collection::vec(proptest::option::of(0..5_u64), 0..200),
        ) {
            let mut losers = Losers::new(times.len());
            // What was there before is forgotten.
            losers.begin((0..times.len()).map(|_| Some(0)));
            losers.begin(times.iter().copied());
            let all = times.iter().enumerate();
            let mut heap: BinaryHeap<_> = all.filter_map(|(ring, ns)| Some(Reverse(((*ns)?, ring)))).collect();
            for step in next {
                let earliest = heap.pop().map(|Reverse(earliest)| earliest);
                prop_assert_eq!(losers.earliest(), earliest);
                let Some((ns, ring)) = earliest else { break };
                let next = step.map(|step| ns + step);
                losers.replace_earliest(next);
                heap.extend(next.map(|ns| Reverse((ns, ring))));
            }
        }
    }
}
