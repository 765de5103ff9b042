//! Which of several rings and engines a flow belongs to, where one is not enough (`docs/design-many-cores.md`): the same in the kernel and
//! in user space.

use crate::flow::FlowId;
use crate::hash::mix;

/// Most rings, and threads that drain them.
pub const WORKERS_MAX: u32 = 64;

impl FlowId {
    /// The shard, below `shards`, which is at least 1. Who does not know the seed cannot tell which flows share one.
    ///
    /// Only operations that BPF has as well.
    #[inline(always)]
    pub const fn shard(&self, seed: u64, shards: u32) -> u32 {
        let ports = (self.local_port as u64) << 48 | (self.remote_port as u64) << 32 | self.ifindex as u64;
        let mixed = mix(mix(seed, self.local[0]), self.local[1]);
        let mixed = mix(mix(mix(mixed, self.remote[0]), self.remote[1]), ports);
        (((mixed >> 32) * shards as u64) >> 32) as u32
    }
}
