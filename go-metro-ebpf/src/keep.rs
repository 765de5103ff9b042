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
use repeats::Memory;
use sampling::{Choice, Chosen};

/// Whether a segment's record is emitted, and what is to be updated once it is known whether it found room.
///
/// Every field is always set. Of an enum, the compiler may read what a variant leaves undefined before it looks which
/// one it has, and Linux 5.10's verifier refuses that.
pub(crate) struct Decision {
    /// Whether it is emitted.
    pub emit: bool,
    /// What its record says beside the segment itself: bits of `go_metro_common::segment::Bits`.
    pub bits: u8,
    chosen: Chosen,
    memory: Memory,
}

impl Decision {
    const LEAVE_OUT: Self = Self { emit: false, bits: 0, chosen: Chosen::NONE, memory: Memory::NONE };

    /// The record is in the ring, or is lost.
    #[inline(always)]
    pub(crate) fn settle(self, segment: &Segment, emitted: bool) {
        self.memory.settle(emitted);
        self.chosen.settle(segment, emitted);
    }
}

/// Whether a full ring asks for flows to be sampled, or some were lately: then the full program handles every packet.
#[inline(always)]
pub(crate) fn is_sampling() -> bool {
    pressure::is_known()
}

/// Looks at the ring now and then, while no flow is sampled.
#[inline(always)]
pub(crate) fn watch(cpu: &mut PerCpu) {
    pressure::watch(cpu);
}

/// Decides about a segment, and counts one that is left out.
#[inline(always)]
pub(crate) fn decide(packet: Packet, cpu: &mut PerCpu, segment: &Segment) -> Decision {
    if sampling::is_possible() {
        let pressure = pressure::now(cpu);
        match sampling::choose(packet, cpu, segment, pressure) {
            Choice::Whole => {}
            Choice::Sampled { bits, chosen } => {
                return Decision { emit: true, bits, chosen, memory: Memory::NONE };
            }
            Choice::LeaveOut => {
                cpu.counters.thinned += 1;
                return Decision::LEAVE_OUT;
            }
        }
    }
    decide_whole(cpu, segment)
}

/// As [`decide`], of a flow that is not sampled.
#[inline(always)]
pub(crate) fn decide_whole(cpu: &mut PerCpu, segment: &Segment) -> Decision {
    sampling::note_sent(segment);
    if let Some(memory) = repeats::look(segment) {
        Decision { emit: true, bits: 0, chosen: Chosen::NONE, memory }
    } else {
        cpu.counters.repeats += 1;
        Decision::LEAVE_OUT
    }
}
