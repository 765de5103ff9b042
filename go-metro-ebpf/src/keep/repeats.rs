//! Acknowledgements that repeat what was emitted before, and need not leave the kernel.
//!
//! The receiver of a download receives segment after segment with the same acknowledgement number. The engine does
//! nothing with such a one if the last record that it got of the flow was an acknowledgement with the same number and
//! window: it is no duplicate in the sense of RFC 5681, for it carries payload, and nothing was sent since that it
//! could be the first to acknowledge. What carries SYN, FIN, RST or SACK blocks is always emitted, and so is what
//! echoes congestion, which is counted. `tests/repeats.rs` holds the engine against this.
//!
//! Where responses are timed, the first with payload after an acknowledgement alone is none of these: it may be where a
//! response begins.

use aya_ebpf::helpers::bpf_jiffies64;
use go_metro_common::last_ack::{LAST_ACKS, LastAck};
use go_metro_common::segment::{Bits, Sides, TcpFlags};

use crate::maps::{LAST_ACK, REFRESH, RESPONSES, SIDES};
use crate::segment::Segment;

/// A flow's memory, to be updated once it is known what became of the record.
///
/// The order is such that a CPU that handles the other direction meanwhile leaves a memory that is behind, never one
/// that is ahead: an acknowledgement is remembered before its record is in the ring, and forgotten after another record
/// is.
pub(crate) struct Memory {
    place: Option<&'static mut LastAck>,
    /// Whether the acknowledgement is remembered already, and holds if the record is in the ring.
    holds: bool,
}

impl Memory {
    /// Nothing is to be updated.
    pub(super) const NONE: Self = Self { place: None, holds: false };

    /// The record is in the ring, or is lost.
    #[inline(always)]
    pub(crate) fn settle(self, emitted: bool) {
        if let Some(place) = self.place
            && !(self.holds && emitted)
            && place.print != 0
        {
            place.print = 0;
        }
    }
}

/// The memory of a segment's flow; `None` if the segment repeats what is there.
#[inline(always)]
pub(crate) fn look(segment: &Segment) -> Option<Memory> {
    let tcp = &segment.tcp;
    // Where both sides are measured, all that carries payload is timed.
    if REFRESH.load() == 0 || SIDES.load() == Sides::BOTH.0 {
        return Some(Memory::NONE);
    }
    let Some(place) = LAST_ACK.get_ptr_mut(segment.hash.place(LAST_ACKS)) else { return Some(Memory::NONE) };
    // SAFETY: the map's own memory. Other CPUs may write to it meanwhile; both words are read and written whole, and
    // any values do.
    let place = unsafe { &mut *place };
    if segment.is_timed() || !segment.has(TcpFlags::ACK) || segment.has(TcpFlags::SYN | TcpFlags::RST | TcpFlags::ECE) {
        // What comes next may be the first to acknowledge this, or belongs to another flow.
        return Some(Memory { place: Some(place), holds: false });
    }
    // Beside 48 bits of both.
    let carries = if RESPONSES.load() != 0 && tcp.payload_len != 0 { 1 << 48 } else { 0 };
    let print = segment.hash.with(u64::from(tcp.ack) << 16 | u64::from(tcp.window) | carries).word();
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_jiffies64() };
    let may_repeat = tcp.payload_len != 0 && !segment.has(TcpFlags::FIN);
    let says_more = segment.options.bits & (Bits::SACK_ABOVE | Bits::DSACK) != 0;
    if may_repeat && !says_more && place.print == print && now.wrapping_sub(place.at) < REFRESH.load() {
        return None;
    }
    place.print = print;
    place.at = now;
    Some(Memory { place: Some(place), holds: true })
}
