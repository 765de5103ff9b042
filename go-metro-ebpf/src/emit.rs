//! The record: built in place in the ring buffer.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use go_metro_common::counters::PerCpu;
use go_metro_common::segment::{Bits, Direction, SegmentHeader, SegmentV4, SegmentV6};

use crate::clock::time;
use crate::maps::WAKE_MASK;
use crate::parse::packet::Packet;
use crate::ring::Ring;
use crate::segment::{Ends, Flow, Segment};

/// Puts a segment's record into the ring, with `more` of its bits, and counts what became of it; whether it is in
/// there.
#[inline(always)]
pub(crate) fn emit(packet: Packet, cpu: &mut PerCpu, segment: &Segment, more: u8) -> bool {
    let Segment { flow, tcp, options, ring, .. } = segment;
    let Flow { ends, local_port, remote_port, ifindex, direction } = *flow;
    let way = match direction {
        Direction::Egress => Bits::EGRESS,
        Direction::Ingress => 0,
    };
    let header = |family| SegmentHeader {
        time_ns: time(packet, segment),
        seq: tcp.seq,
        ack: tcp.ack,
        tsval: options.tsval,
        tsecr: options.tsecr,
        payload_len: tcp.payload_len,
        ifindex,
        local_port,
        remote_port,
        window: tcp.window,
        flags: tcp.flags,
        bits: Bits(options.bits | way | family | more),
    };
    match ends {
        Ends::V4 { local, remote } => {
            let Some(mut entry) = ring.reserve::<SegmentV4>() else {
                cpu.counters.lost += 1;
                return false;
            };
            let (local, remote) = (local.to_ne_bytes(), remote.to_ne_bytes());
            entry.write(SegmentV4 { header: header(0), local, remote });
            entry.submit(count_emitted(cpu, *ring));
        }
        Ends::V6 { local, remote } => {
            let Some(mut entry) = ring.reserve::<SegmentV6>() else {
                cpu.counters.lost += 1;
                return false;
            };
            let (local, remote) = (local.octets(), remote.octets());
            entry.write(SegmentV6 { header: header(Bits::IPV6), local, remote });
            entry.submit(count_emitted(cpu, *ring));
        }
    }
    true
}

/// Counts a record; the flags to submit it with.
#[inline(always)]
fn count_emitted(cpu: &mut PerCpu, ring: Ring) -> u64 {
    cpu.counters.records += 1;
    let in_ring = ring.count(cpu).unwrap_or(cpu.counters.records as u32);
    let wake = in_ring & WAKE_MASK.load() == 0;
    u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}
