//! The ring that a record goes into: the only one, or that of its flow's shard.
//!
//! How many there are is a constant to the verifier; with one it follows nothing of the choice, and nothing of it is
//! left in the program.

use core::ptr;

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use aya_ebpf::maps::RingBuf;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use go_metro_common::counters::PerCpu;
use go_metro_common::hash::{FlowHash, WORKERS_MAX};

use crate::maps::{RECORDS, RINGS, WORKERS};

/// One of the rings.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    /// Its place among several. A number even where there is one: what is left undefined the compiler may put anything
    /// into.
    shard: u32,
}

/// Whether there is more than one.
#[inline(always)]
fn are_several() -> bool {
    WORKERS.load() > 1
}

impl Ring {
    /// That of a flow.
    #[inline(always)]
    pub(crate) fn of(flow: FlowHash) -> Self {
        Self { shard: if are_several() { flow.shard(WORKERS.load()) } else { 0 } }
    }

    /// Its place among several; 0 where there is one.
    #[inline(always)]
    pub(crate) fn shard(self) -> u32 {
        self.shard
    }

    /// The map.
    #[inline(always)]
    fn map(self) -> Option<&'static RingBuf> {
        if !are_several() {
            return Some(&RECORDS);
        }
        let ring = ptr::from_ref(RINGS.get(self.shard)?).cast::<RingBuf>();
        // SAFETY: what a look-up in an array of maps gives is handed to the kernel's helpers as it is and never read;
        // the type only says that it is a ring.
        Some(unsafe { &*ring })
    }

    /// Room for a record; none if the ring is full.
    #[inline(always)]
    pub(crate) fn reserve<T: 'static>(self) -> Option<RingBufEntry<T>> {
        self.map()?.reserve::<T>(0)
    }

    /// Bytes in it that wait to be read.
    #[inline(always)]
    pub(crate) fn fill(self) -> u64 {
        self.map().map_or(0, |ring| ring.query(u64::from(BPF_RB_AVAIL_DATA)))
    }

    /// Counts a record of this CPU; how many went into this ring if there are several.
    #[inline(always)]
    pub(crate) fn count(self, cpu: &mut PerCpu) -> Option<u32> {
        if !are_several() {
            return None;
        }
        // The remainder is the number itself, as a mask. A comparison the compiler may make with another copy of the
        // number, and then Linux 5.10's verifier takes this one for unbounded.
        let count = cpu.by_ring.get_mut(self.shard as usize % WORKERS_MAX as usize)?;
        *count = count.wrapping_add(1);
        Some(*count)
    }
}
