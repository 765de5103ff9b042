//! The mapped rings: one a processor, written by the classifier with plain stores and read where user space has mapped
//! them.
//!
//! All rings lie in one array of [`Slot`]s. A processor's part begins at `base` and has `mask + 1` slots, a power of
//! two; position `p` of its ring is the slot `base + (p & mask)` ([`crate::counters::PerCpu`]). Positions count slots
//! since the classifier was loaded and never wrap.
//!
//! Slots from `tail` to `head` are the reader's, all others the producer's. The producer writes a slot, and only then
//! `head`; the reader reads `head`, then the slots, then writes `tail`. On x86 stores become visible in their order
//! (total store order), so that no more is needed; elsewhere the kernel's ring buffer is used.

use crate::segment::SegmentHeader;

/// What a processor's ring may not be smaller than, in slots: 32 KiB.
pub const SLOTS_MIN: u32 = 512;

/// A record, or the second half of one: a cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// All but the addresses.
    pub header: SegmentHeader,
    /// Bits of [`Mark`].
    pub mark: u64,
    /// IPv4: local and remote address. IPv6: the remote one; the local one is in the next slot, at its start.
    pub addresses: [u8; 16],
}

const _: () = assert!(size_of::<Slot>() == 64);

/// What [`Slot::mark`] says.
pub struct Mark;

impl Mark {
    /// The time is the stack's own, of its departure: it may be ahead of when the segment passed the hook, and that of
    /// a segment that passed later.
    pub const DEPARTURE: u64 = 1 << 0;
    /// Records of this processor were lost between the one before and this one.
    pub const AFTER_LOSS: u64 = 1 << 1;
}

/// Slots that a record takes.
#[inline(always)]
#[must_use]
pub const fn slots_of(is_v6: bool) -> u64 {
    1 + is_v6 as u64
}
