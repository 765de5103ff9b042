//! The record: built in place in the ring buffer.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use go_metro_common::counters::PerCpu;
use go_metro_common::segment::{Bits, SegmentHeader, SegmentV4, SegmentV6, TcpFlags};

use crate::classify::Direction;
use crate::ip::{Addresses, octets};
use crate::maps::{HAS_TSTAMP_TYPE, WAKE_MASK};
use crate::options::Options;
use crate::packet::Packet;
use crate::ring::Ring;
use crate::tcp::Tcp;

/// A departure time further ahead than this is not one: `fq` itself drops what is more than its horizon ahead, 10 s by default
/// (net/sched/sch_fq.c), and TCP never paces a segment so far.
const DEPARTURE_MAX_NS: u64 = 2_000_000_000;

/// `BPF_SKB_TSTAMP_DELIVERY_MONO` of include/uapi/linux/bpf.h.
const DELIVERY_MONOTONIC: u8 = 1;

/// What a record is made of.
pub(crate) struct Segment {
    /// Local and remote address.
    pub ends: Addresses,
    pub ifindex: u32,
    pub tcp: Tcp,
    pub options: Options,
    /// Where its record goes.
    pub ring: Ring,
}

/// Puts a segment's record into the ring, with `more` of its bits, and counts what became of it; whether it is in there.
#[inline(always)]
pub(crate) fn emit(packet: Packet, cpu: &mut PerCpu, direction: Direction, segment: &Segment, more: u8) -> bool {
    let Segment { ends, ifindex, tcp, options, ring } = segment;
    let (local_port, remote_port) = tcp.ports(direction);
    let side = if direction == Direction::Egress { Bits::EGRESS } else { 0 };
    let header = |family| SegmentHeader {
        time_ns: time(packet, direction, tcp.flags),
        seq: tcp.seq,
        ack: tcp.ack,
        tsval: options.tsval,
        tsecr: options.tsecr,
        payload_len: tcp.payload_len,
        ifindex: *ifindex,
        local_port,
        remote_port,
        window: tcp.window,
        flags: tcp.flags,
        bits: Bits(options.bits | side | family | more),
    };
    let ring = *ring;
    match *ends {
        Addresses::V4(local, remote) => {
            let Some(mut entry) = ring.reserve::<SegmentV4>() else {
                cpu.counters.ring_full += 1;
                return false;
            };
            let (local, remote) = (local.to_ne_bytes(), remote.to_ne_bytes());
            entry.write(SegmentV4 { header: header(0), local, remote });
            entry.submit(count_emitted(cpu, ring));
        }
        Addresses::V6(local, remote) => {
            let Some(mut entry) = ring.reserve::<SegmentV6>() else {
                cpu.counters.ring_full += 1;
                return false;
            };
            let (local, remote) = (octets(local), octets(remote));
            entry.write(SegmentV6 { header: header(Bits::IPV6), local, remote });
            entry.submit(count_emitted(cpu, ring));
        }
    }
    true
}

/// Counts a record; the flags to submit it with.
#[inline(always)]
fn count_emitted(cpu: &mut PerCpu, ring: Ring) -> u64 {
    cpu.counters.emitted += 1;
    let in_ring = ring.count(cpu).unwrap_or(cpu.counters.emitted as u32);
    let wake = in_ring & WAKE_MASK.load() == 0;
    u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

/// When the segment passes the hook, or leaves the queue behind it if TCP has put that off (`fq`, pacing).
///
/// TCP writes the time of departure into every segment, on the clock that [`bpf_ktime_get_ns`] reads. What one of this host's own
/// sockets sends comes to the hook without a queue in between, some 700 ns later (`docs/performance.md`), and reading the clock costs as
/// much as half of all the rest. What was forwarded has waited somewhere, and kept the time at which another stack sent
/// it. So may a SYN have, which often is the first for its next hop: the stack holds it back until that is resolved
/// (`__neigh_event_send` of net/core/neighbour.c).
#[inline(always)]
pub(crate) fn time(packet: Packet, direction: Direction, flags: TcpFlags) -> u64 {
    let departure = packet.tstamp();
    let typed = HAS_TSTAMP_TYPE.load() != 0;
    let monotonic = typed && packet.tstamp_type() == DELIVERY_MONOTONIC;
    if direction == Direction::Egress && monotonic && packet.has_socket() && !flags.any(TcpFlags::SYN) {
        return departure;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if direction == Direction::Ingress {
        return now;
    }
    // Older kernels do not say which clock it is of; the distance from now tells well enough, as wall-clock
    // time is decades ahead of monotonic time.
    let plausible = departure > now && departure - now < DEPARTURE_MAX_NS;
    if (!typed || monotonic) && plausible { departure } else { now }
}
