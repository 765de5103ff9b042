//! Which segments of targets leave the kernel.
//!
//! Three things decide: how full the ring is ([`pressure`]), which round trips of a flow are wanted ([`sampling`]), and
//! whether an acknowledgement says anything new ([`repeats`]). None of them is known outside.

mod pressure;
mod repeats;
mod sampling;

use go_metro_common::counters::PerCpu;

use crate::parse::packet::Packet;
use crate::segment::Segment;

/// What becomes of a segment.
pub(crate) enum Decision {
    /// Its record is emitted.
    Keep(Kept),
    /// Its flow is sampled, and it is not of the sample.
    LeaveOut,
    /// It would only repeat the flow's last acknowledgement.
    Repeat,
}

/// A segment that is emitted, and what is to be put right once it is known whether its record is in the ring.
pub(crate) enum Kept {
    /// Of a flow of which everything is emitted.
    Whole(repeats::Memory),
    /// Of a sampled flow.
    Sampled(sampling::Chosen),
}

impl Kept {
    /// What its record says beside the segment itself: bits of `go_metro_common::segment::Bits`.
    #[inline(always)]
    pub(crate) fn bits(&self) -> u8 {
        match self {
            Self::Whole(_) => 0,
            Self::Sampled(chosen) => chosen.bits,
        }
    }

    /// The record is in the ring, or is lost.
    #[inline(always)]
    pub(crate) fn settle(self, emitted: bool) {
        match self {
            Self::Whole(memory) => memory.settle(emitted),
            Self::Sampled(chosen) => chosen.settle(emitted),
        }
    }
}

/// Decides about a segment.
#[inline(always)]
pub(crate) fn decide(packet: Packet, cpu: &mut PerCpu, segment: &Segment) -> Decision {
    if sampling::is_possible() {
        let pressure = pressure::now(cpu, segment.ring);
        match sampling::choose(packet, cpu, segment, pressure) {
            sampling::Choice::Whole => {}
            sampling::Choice::Sampled(chosen) => return Decision::Keep(Kept::Sampled(chosen)),
            sampling::Choice::LeaveOut => return Decision::LeaveOut,
        }
    }
    sampling::note_sent(segment);
    match repeats::look(segment) {
        Some(memory) => Decision::Keep(Kept::Whole(memory)),
        None => Decision::Repeat,
    }
}
