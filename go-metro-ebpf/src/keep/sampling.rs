//! Per-flow sampling: of each flow one round trip in a while, and nothing else.
//!
//! A few segments in a row are picked and emitted, and the first acknowledgement of one of them. What the matching
//! rules need to be sure of a sample is kept here instead: while something was sent twice, or the peer misses
//! something, nothing is picked, and what was picked before is given up, by never emitting its acknowledgement. So a
//! sample is one that the engine would have found among all records, or there is none (`tests/repeats.rs`). SYN, FIN
//! and RST are always emitted, so that the engine knows when a flow begins and ends.
//!
//! Where sampling is configured (`per_flow`), it is always on. Otherwise it starts when the ring runs full, with flows
//! of which nothing is known but the highest sequence number sent, which [`LAST_ACK`] holds. When the ring is empty
//! again, each flow returns: with the next pick everything is emitted, until an acknowledgement closes that too, and
//! then the engine knows all that it would have known.

use core::ptr::NonNull;

use go_metro_common::counters::PerCpu;
use go_metro_common::flow::FlowId;
use go_metro_common::hash::FlowHash;
use go_metro_common::last_ack::{LAST_ACKS, LastAck};
use go_metro_common::pick::{FIRST_SEGMENTS, Pick, SEGMENTS_MAX};
use go_metro_common::segment::{Bits, TcpFlags};

use super::pressure::Pressure;
use crate::clock::time;
use crate::maps::{LAST_ACK, PER_FLOW, PICKS, WATERMARK};
use crate::parse::packet::Packet;
use crate::segment::Segment;

/// Of [`PER_FLOW`] and [`WATERMARK`]: everything is emitted.
pub(crate) const OFF: u64 = u64::MAX;

/// A time that does not come.
const FAR: u64 = u64::MAX / 2;

/// Of [`Pick::window`]: nothing was received yet.
const UNKNOWN: u32 = u32::MAX;

/// Sequence numbers further apart are not of one stream (RFC 7323 section 2.3).
const LARGEST_WINDOW: u32 = 1 << 30;

/// What becomes of a segment.
pub(super) enum Choice {
    /// What would become of it without sampling.
    Whole,
    /// It is emitted, with these of a record's bits.
    Sampled { bits: u8, chosen: Chosen },
    /// It is left in the kernel.
    LeaveOut,
}

/// What is to be updated once a sampled segment's record is in the ring, or is lost.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    /// The flow, where something depends on the record.
    pick: Option<NonNull<Pick>>,
    /// With this record the flow returns.
    returns: bool,
}

impl Chosen {
    /// Nothing is to be updated.
    pub(super) const NONE: Self = Self { pick: None, returns: false };

    /// The record is in the ring, or is lost; then what was picked is given up, and the flow does not return yet.
    #[inline(always)]
    pub(super) fn settle(self, segment: &Segment, emitted: bool) {
        let Some(mut pick) = self.pick else { return };
        // SAFETY: the map's own memory, which stays for as long as the program runs.
        let pick = unsafe { pick.as_mut() };
        if !emitted {
            pick.pending = 0;
        } else if self.returns {
            pick.returned = 1;
            if let Some(place) = place(segment.hash) {
                *place = LastAck { print: 0, at: 0, flow: segment.hash.rest(), snd_nxt: pick.snd_nxt };
            }
        }
    }
}

/// Whether flows are ever sampled.
#[inline(always)]
pub(crate) fn is_possible() -> bool {
    PER_FLOW.load() != OFF || WATERMARK.load() != OFF
}

/// The flow's place in [`LAST_ACK`], which others may share.
#[inline(always)]
fn place(hash: FlowHash) -> Option<&'static mut LastAck> {
    let place = LAST_ACK.get_ptr_mut(hash.place(LAST_ACKS))?;
    // SAFETY: the map's own memory. Other CPUs may write to it meanwhile; each word is read and written whole, and any
    // values do.
    Some(unsafe { &mut *place })
}

/// Whether `one` comes after `other` in a stream.
#[inline(always)]
fn is_after(one: u32, other: u32) -> bool {
    other.wrapping_sub(one) >> 31 != 0
}

/// Notes how far a flow of which everything is emitted has sent.
#[inline(always)]
pub(crate) fn note_sent(segment: &Segment) {
    if WATERMARK.load() == OFF || !segment.is_timed() {
        return;
    }
    let hash = segment.hash;
    let Some(place) = place(hash) else { return };
    let end = segment.end();
    let ahead = end.wrapping_sub(place.snd_nxt);
    if place.flow != hash.rest() || segment.has(TcpFlags::SYN) || ahead.wrapping_neg() >= LARGEST_WINDOW {
        place.flow = hash.rest();
        place.snd_nxt = end;
    }
}

/// What becomes of a segment.
#[inline(always)]
pub(crate) fn choose(packet: Packet, cpu: &mut PerCpu, segment: &Segment, pressure: Pressure) -> Choice {
    let steady = PER_FLOW.load() != OFF;
    let sampling = steady || pressure.every_ns != 0;
    if !sampling && !pressure.lately {
        return Choice::Whole;
    }
    cpu.flow = segment.flow.id();
    let flow = &cpu.flow;
    // SAFETY: the map's own memory. Another CPU may write to it meanwhile: each word is read and written whole, and
    // what the two directions write of the same is about the same.
    let known = PICKS.get_ptr_mut(flow).filter(|pick| unsafe { (**pick).returned } == 0);
    let flags = segment.tcp.flags;
    let opens = flags.any(TcpFlags::SYN) && !flags.any(TcpFlags::ACK) && !segment.is_timed();
    if flags.any(TcpFlags::RST) || opens {
        if let Some(pick) = known {
            // SAFETY: as above.
            let pick = unsafe { &mut *pick };
            // Nothing of this connection is picked any more; our own SYN begins the next.
            pick.pending = 0;
            pick.at = FAR;
        }
        return Choice::Whole;
    }
    if known.is_none() && !sampling {
        return Choice::Whole;
    }
    if segment.is_timed() {
        let configured = if steady { PER_FLOW.load() } else { 0 };
        let every = if configured > pressure.every_ns { configured } else { pressure.every_ns };
        sent(packet, flow, known, segment, Pace { steady, sampling, every })
    } else {
        received(known, segment, sampling)
    }
}

/// How flows are sampled.
#[derive(Clone, Copy)]
struct Pace {
    /// Always.
    steady: bool,
    /// Now; else flows return.
    sampling: bool,
    /// Nanoseconds between two picks.
    every: u64,
}

/// What opens or closes a connection is emitted even if it cannot be timed.
#[inline(always)]
fn untimed(flags: TcpFlags) -> Choice {
    if flags.any(TcpFlags::SYN | TcpFlags::FIN) {
        Choice::Sampled { bits: Bits::UNTIMED, chosen: Chosen::NONE }
    } else {
        Choice::LeaveOut
    }
}

#[inline(always)]
fn sent(packet: Packet, flow: &FlowId, known: Option<*mut Pick>, segment: &Segment, pace: Pace) -> Choice {
    let tcp = &segment.tcp;
    let (start, end) = (tcp.seq, segment.end());
    if segment.has(TcpFlags::SYN) {
        // The engine sees every SYN, and handles a repeated one itself.
        let mut covered = None;
        if let Some(pointer) = known {
            // SAFETY: as in `choose`.
            let pick = unsafe { &mut *pointer };
            if pick.opened != 0 && pick.isn == start {
                if is_after(end, pick.snd_nxt) {
                    pick.snd_nxt = end;
                }
                clean_from_now(pick);
                return Choice::Whole;
            }
            // Since the peer's SYN it may have acknowledged so much, of this connection too, which the engine does not
            // know.
            let most = if is_after(pick.clean_from, pick.snd_nxt) { pick.clean_from } else { pick.snd_nxt };
            covered =
                Some(most).filter(|most| pick.at == FAR && most.wrapping_sub(start).wrapping_sub(1) < LARGEST_WINDOW);
        }
        let (whole, pending) = match covered {
            Some(_) => (0, 0),
            None if pace.steady => (0, SEGMENTS_MAX),
            None => (FIRST_SEGMENTS, 0),
        };
        let begun = Pick {
            snd_nxt: end,
            snd_una: start,
            clean_from: covered.filter(|covered| is_after(*covered, end)).unwrap_or(if covered.is_some() {
                end
            } else {
                start
            }),
            start,
            end,
            pending,
            whole,
            isn: start,
            opened: 1,
            ..Pick::default()
        };
        let _ = PICKS.insert(flow, begun, 0);
        return Choice::Whole;
    }
    let Some(pointer) = known else {
        // In mid-stream: it may have been sent before, and more than it.
        let mut snd_nxt = end;
        if let Some(place) = place(segment.hash)
            && place.flow == segment.hash.rest()
            && is_after(place.snd_nxt, end)
            && place.snd_nxt.wrapping_sub(end) < LARGEST_WINDOW
        {
            snd_nxt = place.snd_nxt;
        }
        let begun = Pick { snd_nxt, snd_una: start, clean_from: snd_nxt, window: UNKNOWN, ..Pick::default() };
        return if PICKS.insert(flow, begun, 0).is_ok() || pace.steady { untimed(tcp.flags) } else { Choice::Whole };
    };
    // SAFETY: as in `choose`.
    let pick = unsafe { &mut *pointer };
    let otherwise = if pick.whole != 0 {
        pick.whole -= 1;
        Choice::Whole
    } else {
        untimed(tcp.flags)
    };
    if start != pick.snd_nxt {
        // Sent before, or segments passed unseen.
        let ahead = start.wrapping_sub(pick.snd_nxt);
        let again = ahead >> 31 != 0 && ahead.wrapping_neg() < LARGEST_WINDOW;
        let overlaps = again && end.wrapping_sub(pick.snd_nxt) >> 31 != 0;
        if !overlaps {
            pick.snd_nxt = end;
        }
        if !again {
            pick.snd_una = start;
            pick.window = UNKNOWN;
        }
        clean_from_now(pick);
        return otherwise;
    }
    pick.snd_nxt = end;
    if matches!(otherwise, Choice::Whole) {
        return otherwise;
    }
    if pick.pending != 0 {
        if (pick.pending < SEGMENTS_MAX || !pace.sampling) && pick.end == start {
            pick.end = end;
            pick.pending += 1;
            return Choice::Sampled { bits: 0, chosen: Chosen { pick: NonNull::new(pointer), returns: false } };
        }
        if segment.has(TcpFlags::FIN) {
            // The engine forgets what is outstanding.
            pick.pending = 0;
        }
        return otherwise;
    }
    if is_after(pick.clean_from, pick.snd_una) {
        return otherwise;
    }
    let time = time(packet, segment).ns;
    if time < pick.at.wrapping_add(pace.every) {
        return otherwise;
    }
    pick.at = time;
    pick.start = start;
    pick.end = end;
    pick.pending = 1;
    Choice::Sampled { bits: Bits::RESYNC, chosen: Chosen { pick: NonNull::new(pointer), returns: false } }
}

/// All that was sent so far must be acknowledged before anything is picked.
#[inline(always)]
fn clean_from_now(pick: &mut Pick) {
    if is_after(pick.snd_nxt, pick.clean_from) {
        pick.clean_from = pick.snd_nxt;
    }
    pick.pending = 0;
    // The engine may not know any more what was sent so far: an acknowledgement of it takes back nothing that was said
    // ahead.
    pick.start = pick.snd_nxt;
}

#[inline(always)]
fn received(known: Option<*mut Pick>, segment: &Segment, sampling: bool) -> Choice {
    let tcp = &segment.tcp;
    let Some(pointer) = known else {
        // Nothing of it was left out so far, and what is acknowledged before it is seen must be known.
        return Choice::Whole;
    };
    // SAFETY: as in `choose`.
    let pick = unsafe { &mut *pointer };
    let otherwise = if pick.whole != 0 { Choice::Whole } else { untimed(tcp.flags) };
    if !segment.has(TcpFlags::ACK) {
        return otherwise;
    }
    let ack = tcp.ack;
    let window = u32::from(tcp.window);
    let advance = ack.wrapping_sub(pick.snd_una);
    if is_after(ack, pick.snd_nxt) {
        // Of what was not seen to be sent yet: nothing of it is timed when it is.
        if ack.wrapping_sub(pick.snd_nxt) < LARGEST_WINDOW {
            pick.clean_from = ack;
            pick.pending = 0;
            // Nothing is picked now: where what is sent from here on begins.
            pick.start = pick.snd_nxt;
        }
        return otherwise;
    }
    if advance >> 31 != 0 {
        // Of what was acknowledged before; a block may be of what was sent since.
        if segment.options.bits & Bits::SACK_ABOVE != 0 {
            clean_from_now(pick);
        }
        return otherwise;
    }
    if is_after(pick.clean_from, pick.snd_nxt) && is_after(ack, pick.start) {
        // The peer says only now that it has something that was sent since: what it said before was not true.
        pick.clean_from = pick.snd_nxt;
    }
    // The first acknowledgement may be the second of its number.
    let duplicate = pick.window == UNKNOWN || advance == 0 && tcp.payload_len == 0 && pick.window == window;
    pick.window = window;
    if duplicate || segment.options.bits & (Bits::SACK_ABOVE | Bits::DSACK) != 0 {
        // The peer may miss something.
        pick.snd_una = ack;
        clean_from_now(pick);
        return otherwise;
    }
    pick.snd_una = ack;
    if pick.pending == 0 || advance == 0 || !is_after(ack, pick.start) {
        return otherwise;
    }
    pick.pending = 0;
    if is_after(ack, pick.end) {
        // It was caused by a segment that the engine knows nothing of.
        return otherwise;
    }
    if !sampling && pick.end == pick.snd_nxt {
        // All that was sent since the pick was emitted.
        return Choice::Sampled { bits: Bits::RESYNC, chosen: Chosen { pick: NonNull::new(pointer), returns: true } };
    }
    Choice::Sampled { bits: 0, chosen: Chosen::NONE }
}
