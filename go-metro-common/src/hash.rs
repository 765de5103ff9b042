//! The hash by which flows are told apart in the kernel, and shared out to several engines in user space.

/// 2^64 divided by the golden ratio: multiplying by it spreads what differs in low bits over the high ones (Knuth, The
/// Art of Computer Programming, volume 3, section 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Another odd number without structure, so that two multiplications are not one.
const SPREAD_AGAIN: u64 = 0xd6e8_feb8_6659_fd93;

/// A state with another word. It can be undone, so different words make different states.
///
/// Two multiplications, and the high half brought down after each: a multiplication alone carries a difference upwards
/// only, so that one in the top bit stays there, whatever the seed, and a second word can be chosen that takes it back.
///
/// Only operations that BPF has as well.
#[inline(always)]
#[must_use]
pub const fn mix(state: u64, word: u64) -> u64 {
    let once = (state ^ word).wrapping_mul(SPREAD);
    let twice = (once ^ once >> 32).wrapping_mul(SPREAD_AGAIN);
    twice ^ twice >> 29
}

/// The hash of a flow ([`crate::flow::FlowId::hash`]). Its parts choose the flow's shard and its place in a table, and
/// tell it from others in that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHash(u64);

impl FlowHash {
    /// Of nothing yet.
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// With another word. Different words make different hashes: each step can be undone.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, word: u64) -> Self {
        Self(mix(self.0, word))
    }

    /// The shard, below `shards`, which is at least 1. Which flows share one cannot be known without the seed.
    #[inline(always)]
    #[must_use]
    pub const fn shard(self, shards: u32) -> u32 {
        (((self.0 >> 32) * shards as u64) >> 32) as u32
    }

    /// The place in a table of `places`, a power of two.
    #[inline(always)]
    #[must_use]
    pub const fn place(self, places: u32) -> u32 {
        self.0 as u32 & (places - 1)
    }

    /// The part that does not choose the place.
    #[inline(always)]
    #[must_use]
    pub const fn rest(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// All of it.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words that look like addresses and ports, and seeds.
    fn word(number: u64) -> u64 {
        mix(0x0005_eed0, number)
    }

    fn hash(seed: u64, words: [u64; 2]) -> u64 {
        mix(mix(seed, words[0]), words[1])
    }

    #[test]
    fn flows_that_differ_in_chosen_bits_do_not_collide_whatever_the_seed() {
        // Each bit of the first word, and what takes it back in the second under one seed: does it under others, and
        // for other flows?
        for bit in 0..64 {
            let change = 1_u64 << bit;
            for chosen_under in 0..4 {
                let base = word(1000 + chosen_under);
                let back = mix(word(chosen_under), base) ^ mix(word(chosen_under), base ^ change);
                let collides = |number: &u64| {
                    let (seed, first, second) = (word(3 * number), word(3 * number + 1), word(3 * number + 2));
                    hash(seed, [first, second]) == hash(seed, [first ^ change, second ^ back])
                };
                let collisions = (10_000..20_000).filter(collides).count();
                assert!(collisions < 10, "bit {bit}: {collisions} of 10000 pairs collide");
            }
        }
    }

    #[test]
    fn a_bit_anywhere_changes_about_half_of_all_bits_low_ones_too() {
        for bit in 0..64 {
            let changed = |number: u64| mix(word(number), word(!number)) ^ mix(word(number), word(!number) ^ 1 << bit);
            let ones: u32 = (0..1000).map(|number| changed(number).count_ones()).sum();
            assert!((24_000..40_000).contains(&ones), "bit {bit}: {ones} of 64000 change");
            // Of the place in an array of 65,536.
            let low: u32 = (0..1000).map(|number| (changed(number) & 0xffff).count_ones()).sum();
            assert!((5_000..11_000).contains(&low), "bit {bit}: {low} of 16000 low ones change");
        }
    }
}
