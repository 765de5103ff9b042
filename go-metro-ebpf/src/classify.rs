//! From a packet to a record, step by step, cheapest refusal first.

use go_metro_common::counters::PerCpu;
use go_metro_common::segment::Direction;

use crate::cpu;
use crate::diagnose::diagnose;
use crate::emit::emit;
use crate::keep;
use crate::parse::link::Link;
use crate::parse::packet::{Context, Packet};
use crate::parse::{self, Skip, options};
use crate::segment::{Flow, Segment, is_wanted};

/// Handles one packet.
#[inline(always)]
pub(crate) fn classify(context: Context, direction: Direction, link: Link) {
    let Some(cpu) = cpu::this() else { return };
    cpu.counters.seen += 1;
    match segment(Packet::new(context), cpu, direction, link) {
        Ok(()) | Err(Skip::NotOurs) => {}
        Err(Skip::Fragment) => cpu.counters.fragments += 1,
        Err(Skip::Encapsulated) => cpu.counters.encapsulated += 1,
        Err(Skip::Unparsable(cause)) => {
            cpu::count(cpu, cause);
            diagnose(context, cause as u32);
        }
    }
}

#[inline(always)]
fn segment(packet: Packet, cpu: &mut PerCpu, direction: Direction, link: Link) -> Result<(), Skip> {
    let headers = parse::headers(packet, cpu, link)?;
    if !is_wanted(direction, headers.tcp.flags, headers.tcp.payload_len) {
        return Err(Skip::NotOurs);
    }
    let flow = Flow::of(&headers, direction, packet.ifindex());
    if !flow.is_target(cpu) {
        return Err(Skip::NotOurs);
    }
    cpu.counters.matched += 1;

    let options = options::read(packet, cpu, &headers.tcp);
    let segment = Segment::new(flow, headers.tcp, options);
    let decision = keep::decide(packet, cpu, &segment);
    if decision.emit {
        let emitted = emit(packet, cpu, &segment, decision.bits);
        decision.settle(&segment, emitted);
    }
    Ok(())
}
