//! Thinning: of each flow one round trip in a while, and nothing else.
//!
//! A few segments in a row are picked and emitted, and the first acknowledgement of one of them. What the matching rules need to be sure
//! of a sample is kept here instead of being told: while something was sent twice, or the peer misses something, nothing is picked, and what
//! was picked before is given up, by never emitting its acknowledgement. So a sample is one that the engine would have found among
//! all records, or there is none (`tests/repeats.rs`). SYN, FIN and RST are emitted always, for the engine to know when a flow begins
//! and ends.

use go_metro_common::pick::{Pick, SEGMENTS_MAX};
use go_metro_common::segment::{Bits, Sides, TcpFlags};

use crate::classify::Direction;
use crate::emit::Segment;
use crate::flow::FlowHash;
use crate::maps::{PER_FLOW, PICKS, SIDES};

/// Of [`PER_FLOW`]: everything is emitted.
pub(crate) const OFF: u64 = u64::MAX;

/// Sequence numbers further apart are not of one stream (RFC 7323 section 2.3).
const LARGEST_WINDOW: u32 = 1 << 30;

/// A segment that is emitted.
pub(crate) struct Chosen {
    /// For its record.
    pub bits: u8,
    /// The flow, where a pick depends on the record.
    pick: Option<*mut Pick>,
}

impl Chosen {
    const PLAIN: Self = Self { bits: 0, pick: None };

    /// The record is in the ring, or is lost; then what was picked is given up.
    #[inline(always)]
    pub(crate) fn settle(self, emitted: bool) {
        if let Some(pick) = self.pick
            && !emitted
        {
            // SAFETY: the map's own memory, which stays for as long as the program runs.
            unsafe { (*pick).pending = 0 };
        }
    }
}

/// Whether a segment is emitted; `time` is when it passes.
#[inline(always)]
pub(crate) fn choose(direction: Direction, segment: &Segment, time: u64) -> Option<Chosen> {
    let tcp = &segment.tcp;
    let hash = FlowHash::new(&segment.ends, tcp, direction == Direction::Egress, segment.ifindex);
    let timed = (direction == Direction::Egress) == (SIDES.load() == Sides::REMOTE.0);
    if tcp.flags.any(TcpFlags::RST) {
        return Some(Chosen::PLAIN);
    }
    // SAFETY: the map's own memory. Another CPU may write to it meanwhile: each word is read and written whole, and what the two
    // directions write of the same is about the same.
    let known = PICKS.get_ptr_mut(&hash.word());
    if timed { sent(hash, known, segment, time) } else { received(known, segment) }
}

/// What opens or closes a connection is told of even if it cannot be timed.
#[inline(always)]
fn untimed(flags: TcpFlags) -> Option<Chosen> {
    flags.any(TcpFlags::SYN | TcpFlags::FIN).then_some(Chosen { bits: Bits::UNTIMED, pick: None })
}

#[inline(always)]
fn sent(hash: FlowHash, known: Option<*mut Pick>, segment: &Segment, time: u64) -> Option<Chosen> {
    let tcp = &segment.tcp;
    let (start, end) = (tcp.seq, tcp.seq.wrapping_add(tcp.payload_len).wrapping_add(tcp.flags.sequence_space()));
    if tcp.flags.any(TcpFlags::SYN) {
        // The engine sees each SYN, and knows what to think of two.
        let first = Pick {
            snd_nxt: end,
            snd_una: start,
            clean_from: start,
            start,
            end,
            pending: SEGMENTS_MAX,
            ..Pick::default()
        };
        let _ = PICKS.insert(&hash.word(), &first, 0);
        return Some(Chosen::PLAIN);
    }
    let Some(pointer) = known else {
        // In mid-stream: it may have been sent before.
        let first = Pick { snd_nxt: end, snd_una: start, clean_from: end, ..Pick::default() };
        let _ = PICKS.insert(&hash.word(), &first, 0);
        return untimed(tcp.flags);
    };
    // SAFETY: as in `choose`.
    let pick = unsafe { &mut *pointer };
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
        }
        pick.clean_from = pick.snd_nxt;
        pick.pending = 0;
        return untimed(tcp.flags);
    }
    pick.snd_nxt = end;
    if pick.pending != 0 {
        if pick.pending < SEGMENTS_MAX && pick.end == start {
            pick.end = end;
            pick.pending += 1;
            return Some(Chosen { bits: 0, pick: Some(pointer) });
        }
        if tcp.flags.any(TcpFlags::FIN) {
            // The engine forgets what is outstanding.
            pick.pending = 0;
        }
        return untimed(tcp.flags);
    }
    let clean = pick.snd_una.wrapping_sub(pick.clean_from) >> 31 == 0;
    if !clean || time < pick.at.wrapping_add(PER_FLOW.load()) {
        return untimed(tcp.flags);
    }
    pick.at = time;
    pick.start = start;
    pick.end = end;
    pick.pending = 1;
    Some(Chosen { bits: Bits::RESYNC, pick: Some(pointer) })
}

#[inline(always)]
fn received(known: Option<*mut Pick>, segment: &Segment) -> Option<Chosen> {
    let tcp = &segment.tcp;
    let otherwise = untimed(tcp.flags);
    let Some(pick) = known else { return otherwise };
    if !tcp.flags.any(TcpFlags::ACK) {
        return otherwise;
    }
    // SAFETY: as in `choose`.
    let pick = unsafe { &mut *pick };
    let ack = tcp.ack;
    let window = u32::from(tcp.window);
    let advance = ack.wrapping_sub(pick.snd_una);
    if pick.snd_nxt.wrapping_sub(ack) >> 31 != 0 || advance >> 31 != 0 {
        // Of what was not sent, or of what was acknowledged before.
        return otherwise;
    }
    let duplicate = advance == 0 && tcp.payload_len == 0 && pick.window == window;
    pick.window = window;
    if duplicate || segment.options.bits & (Bits::SACK_ABOVE | Bits::DSACK) != 0 {
        // The peer may miss something.
        pick.snd_una = ack;
        pick.clean_from = pick.snd_nxt;
        pick.pending = 0;
        return otherwise;
    }
    pick.snd_una = ack;
    if pick.pending == 0 || advance == 0 || ack.wrapping_sub(pick.start).wrapping_sub(1) >> 31 != 0 {
        return otherwise;
    }
    pick.pending = 0;
    // Beyond what was picked, it was caused by a segment that the engine knows nothing of.
    if pick.end.wrapping_sub(ack) >> 31 != 0 { otherwise } else { Some(Chosen::PLAIN) }
}
