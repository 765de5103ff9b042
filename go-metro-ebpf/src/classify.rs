//! From a packet to a record, step by step, cheapest refusal first.

use core::ptr;

use go_metro_common::counters::{PerCpu, Unparsable};
use go_metro_common::segment::{Sides, is_relevant};

use crate::diagnose::diagnose;
use crate::emit::{Segment, emit};
use crate::flow::FlowHash;
use crate::ip::Addresses;
use crate::link::{self, Link};
use crate::maps::{COUNTERS, SIDES};
use crate::packet::{Context, Packet};
use crate::ring::Ring;
use crate::thin::{self, Fate};
use crate::{ip, options, pressure, repeats, tcp};

/// TCP begins no later than behind a link header, an IPv6 header and 8 extension headers of 2048 bytes: the mask changes
/// nothing, but tells the verifier.
const OFFSET_MASK: u32 = 0x7fff;

/// Which hook the program is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// Why a packet yields no record.
#[derive(Clone, Copy)]
pub(crate) enum Skip {
    /// It is none of ours: another protocol, not a target, or it tells nothing about round-trip time.
    NotOurs,
    /// A fragment of a TCP segment, other than the first.
    Fragment,
    /// It is a tunnel's, which is not looked into.
    Encapsulated,
    /// It is malformed.
    Unparsable(Unparsable),
}

/// Handles one packet.
#[inline(always)]
pub(crate) fn classify(context: Context, direction: Direction, link: Link) {
    if let Some(cpu) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a per-CPU value that only this program uses, with bottom halves off: there is no other reference.
        let cpu = unsafe { &mut *cpu };
        cpu.counters.seen += 1;
        match segment(Packet::new(context), cpu, direction, link) {
            Ok(()) | Err(Skip::NotOurs) => {}
            Err(Skip::Fragment) => cpu.counters.fragments += 1,
            Err(Skip::Encapsulated) => cpu.counters.encapsulated += 1,
            Err(Skip::Unparsable(cause)) => {
                count(cpu, cause);
                diagnose(context, cause as u32);
            }
        }
    }
}

/// Counts an unparsable packet.
#[inline(always)]
pub(crate) fn count(cpu: &mut PerCpu, cause: Unparsable) {
    // `get_mut`: an index would bring a panic, which the verifier has no use for.
    if let Some(counter) = cpu.counters.unparsable.get_mut(cause as usize) {
        *counter += 1;
    }
}

/// The same number, of which neither the compiler nor the verifier knows anything any more.
///
/// The compiler then keeps a check that it would have found needless, and the verifier does not follow the rest of the
/// program once for each way that led here.
#[inline(always)]
pub(crate) fn forget(cpu: &mut PerCpu, number: u32) -> u32 {
    let memory = &raw mut cpu.position;
    // SAFETY: a field of this CPU's own value.
    unsafe {
        ptr::write_volatile(memory, number);
        ptr::read_volatile(memory)
    }
}

#[inline(always)]
fn segment(packet: Packet, cpu: &mut PerCpu, direction: Direction, link: Link) -> Result<(), Skip> {
    let network = link::network(packet, link)?;
    let ip = ip::parse(packet, cpu, network)?;
    let tcp = tcp::parse(packet, forget(cpu, ip.payload) & OFFSET_MASK, ip.end)?;
    if !is_relevant(Sides(SIDES.load()), direction == Direction::Egress, tcp.flags, tcp.payload_len) {
        return Err(Skip::NotOurs);
    }

    let ends = Addresses::oriented(ip.addresses, direction);
    let ifindex = packet.ifindex();
    if !ends.is_target(ifindex) {
        return Err(Skip::NotOurs);
    }
    cpu.counters.matched += 1;

    let options = options::read(packet, cpu, &tcp);
    let ring = Ring::of(&ends, tcp.ports(direction), ifindex);
    let segment = Segment { ends, ifindex, tcp, options, ring };
    let hash = FlowHash::new(&segment.ends, segment.tcp.ports(direction), ifindex);
    let fate = if thin::may_thin() {
        let now = pressure::now(cpu, ring);
        thin::choose(packet, cpu, direction, hash, &segment, now)
    } else {
        Fate::Plain
    };
    match fate {
        Fate::LeftOut => cpu.counters.thinned += 1,
        Fate::Chosen(chosen) => chosen.settle(emit(packet, cpu, direction, &segment, chosen.bits)),
        Fate::Plain => {
            thin::note(direction, hash, &segment);
            match repeats::look(direction, hash, &segment) {
                Some(memory) => memory.settle(emit(packet, cpu, direction, &segment, 0)),
                None => cpu.counters.repeats += 1,
            }
        }
    }
    Ok(())
}
