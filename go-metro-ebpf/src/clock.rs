//! When a segment passes the hook, or leaves the queue behind it.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use go_metro_common::segment::{Direction, TcpFlags};

use crate::maps::{HAS_TSTAMP_TYPE, HOLD_UP};
use crate::parse::packet::Packet;
use crate::segment::Segment;

/// A departure time further ahead than this is not one: `fq` itself drops what is more than its horizon ahead, 10 s by
/// default (net/sched/sch_fq.c), and TCP never paces a segment so far.
const DEPARTURE_MAX_NS: u64 = 2_000_000_000;

/// `BPF_SKB_TSTAMP_DELIVERY_MONO` of include/uapi/linux/bpf.h.
const DELIVERY_MONOTONIC: u8 = 1;

/// `CLOCK_MONOTONIC`.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// A segment's time.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    pub ns: u64,
    /// It is the stack's, of the departure, and not the clock's at the hook.
    pub is_departure: bool,
}

/// When the segment passes the hook, or leaves the queue behind it if TCP has put that off (`fq`, pacing).
///
/// TCP writes the time of departure into every segment, on the clock that [`now`] reads. What one of this host's own
/// sockets sends comes to the hook without a queue in between, some 700 ns later (`docs/performance.md`), and reading
/// the clock costs as much as half of all the rest. What was forwarded has waited somewhere, and kept the time at which
/// another stack sent it. So may a SYN have, which often is the first for its next hop: the stack holds it back until
/// that is resolved (`__neigh_event_send` of net/core/neighbour.c).
#[inline(always)]
pub(crate) fn time(packet: Packet, segment: &Segment) -> Stamp {
    let departure = packet.tstamp();
    let typed = HAS_TSTAMP_TYPE.load() != 0;
    let monotonic = typed && packet.tstamp_type() == DELIVERY_MONOTONIC;
    let egress = matches!(segment.flow.direction, Direction::Egress);
    if egress && monotonic && packet.has_socket() && !segment.has(TcpFlags::SYN) {
        return Stamp { ns: departure, is_departure: true };
    }
    let now = now();
    if !egress {
        return Stamp { ns: now, is_departure: false };
    }
    // Older kernels do not say which clock it is of; the distance from now does, as wall-clock time is decades ahead of
    // monotonic time.
    let plausible = departure > now && departure - now < DEPARTURE_MAX_NS;
    let is_departure = (!typed || monotonic) && plausible;
    Stamp { ns: if is_departure { departure } else { now }, is_departure }
}

/// Holds what is sent up, as the host of a virtual machine may, where a test wants it; else the verifier drops it.
#[inline(always)]
pub(crate) fn hold_up(segment: &Segment) {
    let turns = HOLD_UP.load();
    if turns != 0 && matches!(segment.flow.direction, Direction::Egress) {
        for _ in 0..turns {
            now();
        }
    }
}
