//! From a packet to a record, step by step, cheapest refusal first.

use go_metro_common::counters::PerCpu;
use go_metro_common::segment::Direction;

use crate::cpu;
use crate::diagnose::diagnose;
use crate::emit::emit;
use crate::keep::{self, Decision};
use crate::parse::link::Link;
use crate::parse::packet::{Context, Packet};
use crate::parse::quick::{self, Quick};
use crate::parse::{self, Headers, Skip, options};
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

/// Handles one packet if it is a usual one, and no flow is sampled; else it does nothing, and says so.
#[inline(always)]
pub(crate) fn classify_usual(context: Context, direction: Direction, link: Link) -> bool {
    let packet = Packet::new(context);
    let (Some(cpu), Some(found)) = (cpu::this(), quick::look(packet, link)) else { return false };
    cpu.counters.seen += 1;
    let Quick { is_segment, headers, options } = found;
    if is_segment && let Some(flow) = flow(packet, cpu, direction, &headers) {
        let segment = Segment::new(flow, headers.tcp, options);
        keep::watch(cpu);
        let decision = keep::decide_whole(cpu, &segment);
        settle(packet, cpu, &segment, decision);
    }
    true
}

#[inline(always)]
fn segment(packet: Packet, cpu: &mut PerCpu, direction: Direction, link: Link) -> Result<(), Skip> {
    let headers = parse::headers(packet, cpu, link)?;
    let flow = flow(packet, cpu, direction, &headers).ok_or(Skip::NotOurs)?;
    let options = options::read(packet, cpu, &headers.tcp);
    let segment = Segment::new(flow, headers.tcp, options);
    let decision = keep::decide(packet, cpu, &segment);
    settle(packet, cpu, &segment, decision);
    Ok(())
}

/// A segment's flow, if it is a target's and says something; counts it.
#[inline(always)]
fn flow(packet: Packet, cpu: &mut PerCpu, direction: Direction, headers: &Headers) -> Option<Flow> {
    if !is_wanted(direction, headers.tcp.flags, headers.tcp.payload_len) {
        return None;
    }
    let flow = Flow::of(headers, direction, packet.ifindex());
    if !flow.is_target(cpu) {
        return None;
    }
    cpu.counters.matched += 1;
    Some(flow)
}

#[inline(always)]
fn settle(packet: Packet, cpu: &mut PerCpu, segment: &Segment, decision: Decision) {
    if decision.emit {
        let emitted = emit(packet, cpu, segment, decision.bits);
        decision.settle(segment, emitted);
    }
}
