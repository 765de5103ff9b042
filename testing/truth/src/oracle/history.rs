//! What a capture had shown of a connection up to each frame: what was acknowledged, and whether bytes are missing
//! below that were never seen sent.
//!
//! tshark has marks for the latter (`lost_segment`, `ack_lost_segment`), but sets the second also where an
//! acknowledgement had already told that what was not captured had arrived: of the samples of one of our captures that
//! lacks frames, eleven would be refuted that are right.

use std::collections::HashMap;

use super::trace::{Flow, Frame, before, turned};

/// What was known when a frame was captured, of the connection that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The highest number that its sender had acknowledged before.
    pub(super) acked: Option<u32>,
    /// Of what it acknowledges, bytes that had not been acknowledged before were never seen sent.
    pub(super) gap: bool,
    /// Its direction had been seen before, with data or at this very sequence number.
    pub(super) begun: bool,
    /// Its sender had sent something right before it that was not seen, since the other side was first seen to send.
    pub(super) missed: bool,
    /// Its sender, which counts its packets, had sent another right before it, and did not send this one because
    /// something arrived.
    pub(super) left_out: bool,
}

/// The identifications of one direction's packets.
#[derive(Clone, Copy, Debug)]
struct Counted {
    last: u16,
    /// How many segments that one may have been, if it was a super-segment.
    segments: u16,
    /// Where it ended.
    end: u32,
    /// How often in a row the next one came.
    run: u32,
}

impl Counted {
    /// Whether something is left out before this frame, of the connection's packets.
    fn next(before_it: &mut Option<Self>, frame: &Frame) -> bool {
        let Some(id) = frame.ip_id.filter(|_| !frame.reset) else { return false };
        let end = frame.seq.wrapping_add(frame.len);
        // A super-segment's are no shorter than 536 bytes.
        let segments = if frame.payload > 1460 { (frame.payload / 536 + 1).min(65535) as u16 } else { 1 };
        let begun = Self { last: id, segments, end, run: 0 };
        let Some(last) = before_it.filter(|_| !frame.syn) else {
            *before_it = Some(begun);
            return false;
        };
        match id.wrapping_sub(last.last) {
            step if step >= 1 && step <= last.segments => {
                *before_it = Some(Self { run: last.run + 1, ..begun });
                false
            }
            // Sent before, and overtaken.
            step if step == 0 || step >= u16::MAX - 1023 || id == 0 => false,
            _ => {
                *before_it = Some(begun);
                last.run >= 4 && (frame.len > 0 || before(last.end, frame.seq))
            }
        }
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Direction {
    /// Initial sequence number, if the SYN was seen.
    isn: Option<u32>,
    /// After the highest byte seen sent.
    nxt: Option<u32>,
    /// The highest number that the other side acknowledged.
    una: Option<u32>,
    /// Below `nxt`, never seen sent: start and end.
    missing: Vec<(u32, u32)>,
    /// Where a segment without payload stood that was seen before any with.
    stands_at: Option<u32>,
    /// After the highest number that it was seen at, with payload or without, since the other side was first seen to
    /// send.
    at: Option<u32>,
    counted: Option<Counted>,
}

impl Direction {
    fn sent(&mut self, start: u32, end: u32) {
        // What was acknowledged had been sent; where only acknowledgements were seen so far, what comes next should
        // begin there.
        let (seen, acked) = (self.nxt.or(self.una).unwrap_or(start), self.una.unwrap_or(start));
        let nxt = if before(seen, acked) { acked } else { seen };
        if before(nxt, start) {
            self.missing.push((nxt, start));
        }
        let without = |(from, to): (u32, u32)| {
            let below = (from, if before(start, to) { start } else { to });
            let above = (if before(from, end) { end } else { from }, to);
            [below, above].into_iter().filter(|(from, to)| before(*from, *to))
        };
        self.missing = std::mem::take(&mut self.missing).into_iter().flat_map(without).collect();
        self.nxt = Some(if before(nxt, end) { end } else { nxt });
    }

    fn acknowledged(&mut self, number: u32) {
        let una = self.una.filter(|una| !before(*una, number)).unwrap_or(number);
        self.missing.retain(|(_, end)| before(una, *end));
        self.una = Some(una);
    }

    /// Whether it has come further than was seen.
    fn moves_to(&mut self, start: u32, end: u32, is_syn: bool) -> bool {
        let at = self.at.filter(|_| !is_syn);
        self.at = Some(at.filter(|at| !before(*at, end)).unwrap_or(end));
        at.is_some_and(|at| before(at, start))
    }

    fn misses_below(&self, number: u32) -> bool {
        self.missing.iter().any(|(start, _)| before(*start, number))
    }
}

/// Of each frame, by its place.
pub(super) fn of(frames: &[Frame]) -> Vec<Known> {
    let mut directions: HashMap<Flow, Direction> = HashMap::new();
    let mut known = Vec::with_capacity(frames.len());
    for frame in frames {
        let reverse = turned(frame.flow);
        let is_other = directions.get(&frame.flow).is_none_or(|direction| direction.isn != Some(frame.seq));
        if frame.syn && frame.ack.is_none() && is_other {
            // Another connection on the same ports.
            directions.remove(&frame.flow);
            directions.remove(&reverse);
        }
        let own = directions.entry(frame.flow).or_default();
        let begun = own.nxt.is_some() || own.stands_at == Some(frame.seq);
        // A second SYN-ACK with another number leaves what is known of the first alone.
        let is_stray = frame.syn && own.isn.is_some_and(|isn| isn != frame.seq);
        if frame.syn && !is_stray {
            own.isn = Some(frame.seq);
        }
        let (end, is_data) = (frame.seq.wrapping_add(frame.len), frame.len > 0 && !frame.reset && !is_stray);
        if is_data {
            own.sent(frame.seq, end);
        } else if own.nxt.is_none() {
            own.stands_at = Some(frame.seq);
        }
        let other_sends = directions.get(&reverse).is_some_and(|other| other.nxt.is_some());
        let own = directions.entry(frame.flow).or_default();
        let left_out = Counted::next(&mut own.counted, frame);
        let missed = other_sends && !frame.reset && own.moves_to(frame.seq, end, frame.syn);
        let other = directions.entry(reverse).or_default();
        let number = frame.ack.filter(|_| !frame.reset);
        let gap = number.is_some_and(|number| other.misses_below(number));
        known.push(Known { acked: other.una, gap, begun, missed, left_out });
        if let Some(number) = number {
            other.acknowledged(number);
        }
    }
    known
}
