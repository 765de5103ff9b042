//! The record: built in place in the ring.

use core::ptr::write_volatile;

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use go_metro_common::counters::PerCpu;
use go_metro_common::segment::{Bits, Direction, Payload, SegmentHeader, SegmentV4, SegmentV6, Sides};
use go_metro_common::slot::Mark;

use crate::clock::{Stamp, hold_up, time};
use crate::maps::{RECORDS, SIDES, WAKE_MASK};
use crate::parse::packet::Packet;
use crate::segment::{Ends, Flow, Segment};
use crate::slots;

/// Puts a segment's record into the ring, with `more` of its bits, and counts what became of it; whether it is in
/// there.
#[inline(always)]
pub(crate) fn emit(packet: Packet, cpu: &mut PerCpu, segment: &Segment, more: u8) -> bool {
    if slots::are_used() { to_slots(packet, cpu, segment, more) } else { to_ring(packet, cpu, segment, more) }
}

/// A segment's payload. How many segments it is on the wire is in a cache line of its own, which the stack has just
/// written where it sends: only of what is timed it is looked up.
#[inline(always)]
fn payload(packet: Packet, segment: &Segment) -> Payload {
    let len = segment.tcp.payload_len;
    let is_timed = segment.is_timed() || SIDES.load() == Sides::BOTH.0;
    Payload::in_segments(len, if is_timed { packet.segments() } else { 0 })
}

/// All of the record but the addresses, with these of its bits beside its own.
#[inline(always)]
fn header(packet: Packet, segment: &Segment, time_ns: u64, more: u8) -> SegmentHeader {
    let Segment { flow, tcp, options, .. } = segment;
    let Flow { local_port, remote_port, ifindex, .. } = *flow;
    let way = match flow.direction {
        Direction::Egress => Bits::EGRESS,
        Direction::Ingress => 0,
    };
    SegmentHeader {
        time_ns,
        seq: tcp.seq,
        ack: tcp.ack,
        tsval: options.tsval,
        tsecr: options.tsecr,
        payload: payload(packet, segment),
        ifindex,
        local_port,
        remote_port,
        window: tcp.window,
        flags: tcp.flags,
        bits: Bits(options.bits | way | more),
    }
}

/// Into this CPU's mapped ring.
#[inline(always)]
fn to_slots(packet: Packet, cpu: &mut PerCpu, segment: &Segment, more: u8) -> bool {
    let is_v6 = matches!(segment.flow.ends, Ends::V6 { .. });
    let Some(writing) = slots::reserve(cpu, is_v6) else { return false };
    let Stamp { ns, is_departure } = time(packet, segment);
    hold_up(segment);
    let family = if is_v6 { Bits::IPV6 } else { 0 };
    let mark = if is_departure { Mark::DEPARTURE } else { 0 };
    let first = writing.header(cpu, &header(packet, segment, ns, family | more), mark);
    let written = match segment.flow.ends {
        Ends::V4 { local, remote } => first.map(|to| {
            let to = to.cast::<u32>();
            // SAFETY: the slot is the producer's.
            unsafe {
                write_volatile(to, local);
                write_volatile(to.wrapping_add(1), remote);
            }
        }),
        Ends::V6 { local, remote } => {
            if let (Some(first), Some(second)) = (first, writing.second(cpu)) {
                // SAFETY: both slots are the producer's.
                unsafe {
                    slots::store(first, [remote.0, remote.1]);
                    slots::store(second, [local.0, local.1]);
                }
                Some(())
            } else {
                None
            }
        }
    };
    if written.is_none() {
        writing.give_up(cpu);
        return false;
    }
    writing.publish(cpu);
    cpu.counters.records += 1;
    true
}

/// Into the kernel's ring buffer.
#[inline(always)]
fn to_ring(packet: Packet, cpu: &mut PerCpu, segment: &Segment, more: u8) -> bool {
    match segment.flow.ends {
        Ends::V4 { local, remote } => {
            let Some(mut entry) = RECORDS.reserve::<SegmentV4>(0) else {
                cpu.counters.lost += 1;
                return false;
            };
            let (local, remote) = (local.to_ne_bytes(), remote.to_ne_bytes());
            entry.write(SegmentV4 { header: header(packet, segment, time(packet, segment).ns, more), local, remote });
            entry.submit(count_emitted(cpu));
        }
        Ends::V6 { local, remote } => {
            let Some(mut entry) = RECORDS.reserve::<SegmentV6>(0) else {
                cpu.counters.lost += 1;
                return false;
            };
            let (local, remote) = (local.octets(), remote.octets());
            let header = header(packet, segment, time(packet, segment).ns, Bits::IPV6 | more);
            entry.write(SegmentV6 { header, local, remote });
            entry.submit(count_emitted(cpu));
        }
    }
    true
}

/// Counts a record; the flags to submit it with.
#[inline(always)]
fn count_emitted(cpu: &mut PerCpu) -> u64 {
    cpu.counters.records += 1;
    let wake = cpu.counters.records as u32 & WAKE_MASK.load() == 0;
    u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}
