//! Which of several rings and engines a flow belongs to, where one is not enough (`docs/design-many-cores.md`): the same in the kernel and
//! in user space.

use crate::hash::mix;

/// Most rings, and threads that drain them.
pub const WORKERS_MAX: u32 = 64;

/// What a flow is known by, as shards are chosen: local and remote are told apart before, so both directions have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardKey {
    /// Local address: its first and its last eight bytes, each as they lie in memory. IPv4 is mapped ([`mapped`]).
    pub local: [u64; 2],
    /// Remote address, likewise.
    pub remote: [u64; 2],
    /// TCP port of the local end.
    pub local_port: u16,
    /// TCP port of the remote end.
    pub remote_port: u16,
    /// Interface index.
    pub ifindex: u32,
}

/// An IPv4 address, as it lies in memory, as one of IPv6: `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
#[inline(always)]
pub const fn mapped(address: u32) -> [u64; 2] {
    let last = if cfg!(target_endian = "little") {
        0xffff_0000 | (address as u64) << 32
    } else {
        0xffff_0000_0000 | address as u64
    };
    [0, last]
}

impl ShardKey {
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
