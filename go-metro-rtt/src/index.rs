//! Where each flow's entry is: a hash table of the entries' numbers, of fixed size.
//!
//! Open addressing with linear probing, so that a look-up reads one cache line, and which one the hash alone says: a
//! batch of look-ups can be got under way together ([`Index::touch`]). A slot holds 32 bits of hash beside the number;
//! what is probed but not meant is almost never followed to its entry.

/// Slots for each entry that there may be: two thirds full at most, where a hit takes two probes and a miss five
/// (Knuth, The Art of Computer Programming, section 6.4, algorithm L).
const SLOTS_PER_ENTRY: (usize, usize) = (3, 2);

/// Bytes of the index for each entry that there may be.
pub(super) const BYTES_PER_ENTRY: usize = size_of::<u64>() * SLOTS_PER_ENTRY.0 / SLOTS_PER_ENTRY.1;

/// Numbers of entries by hash. A hash is 32 bits of a keyed hash function, so that nobody can choose where flows go.
pub(super) struct Index {
    /// Hash in the upper half, number plus one in the lower; 0 is an empty slot.
    slots: Box<[u64]>,
    len: usize,
}

impl Index {
    /// Room for `bound` entries; the memory is zero pages until it is used.
    pub(super) fn new(bound: usize) -> Self {
        let slots = bound.max(8).saturating_mul(SLOTS_PER_ENTRY.0) / SLOTS_PER_ENTRY.1;
        Self { slots: vec![0; slots].into_boxed_slice(), len: 0 }
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Reads the slot where a look-up of `hash` begins, so that it is in the cache by then.
    #[inline]
    pub(super) fn touch(&self, hash: u32) -> u64 {
        self.slots[self.home(hash)]
    }

    /// The number with this hash for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if hash_of(slot) == hash && is_it(number_of(slot)) {
                return Some(number_of(slot));
            }
            at = self.after(at);
        }
    }

    /// Adds a number that is not there. There must be room.
    pub(super) fn insert(&mut self, hash: u32, number: u32) {
        debug_assert!(self.len * SLOTS_PER_ENTRY.0 < self.slots.len() * SLOTS_PER_ENTRY.1);
        let mut at = self.home(hash);
        while self.slots[at] != 0 {
            at = self.after(at);
        }
        self.slots[at] = u64::from(hash) << 32 | (u64::from(number) + 1);
        self.len += 1;
    }

    /// Removes a number, if it is there. Those behind it that it had kept from their place move up, so that no marks of
    /// removed ones make look-ups longer.
    pub(super) fn remove(&mut self, hash: u32, number: u32) {
        let mut gap = self.home(hash);
        while self.slots[gap] != 0 && number_of(self.slots[gap]) != number {
            gap = self.after(gap);
        }
        if self.slots[gap] == 0 {
            debug_assert!(false, "what is removed is there");
            return;
        }
        self.len -= 1;
        let mut at = self.after(gap);
        while self.slots[at] != 0 {
            let home = self.home(hash_of(self.slots[at]));
            // Whether a look-up from `home` to `at` comes by the gap.
            if self.distance(home, at) >= self.distance(gap, at) {
                self.slots[gap] = self.slots[at];
                gap = at;
            }
            at = self.after(at);
        }
        self.slots[gap] = 0;
    }

    /// Slot where a look-up begins: the hash scaled to the number of slots.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    /// Steps from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }
}

#[inline]
fn hash_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

#[inline]
fn number_of(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// Few hashes, many of them at the very end, so that runs are long and go round.
        #[test]
        fn it_finds_what_a_map_finds_however_hashes_collide(
            steps in prop::collection::vec(
                (
                    prop_oneof![0u32..3, (u32::MAX - 3)..=u32::MAX, any::<u32>()],
                    0u32..24,
                    prop::bool::weighted(0.6),
                ),
                1..200,
            ),
        ) {
            let mut index = Index::new(24);
            let mut map: HashMap<u32, u32> = HashMap::new();
            for (hash, number, insert) in steps {
                match map.get(&number).copied() {
                    None if insert => {
                        index.insert(hash, number);
                        map.insert(number, hash);
                    }
                    Some(hash) if !insert => {
                        index.remove(hash, number);
                        map.remove(&number);
                    }
                    _ => {}
                }
                prop_assert_eq!(index.len(), map.len());
                for (number, hash) in &map {
                    prop_assert_eq!(index.find(*hash, |n| n == *number), Some(*number));
                }
                prop_assert_eq!(index.find(hash, |_| true).is_some(), map.values().any(|h| *h == hash));
            }
        }
    }
}
