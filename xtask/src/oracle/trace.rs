//! A capture as the judges' court sees it: the frames, and what they alone prove.
//!
//! Obvious on purpose, and without a line in common with the engine: for each question it looks at all frames between a segment and its
//! acknowledgement.

use std::collections::HashMap;
use std::net::SocketAddr;

/// Sender and receiver.
pub(super) type Flow = (SocketAddr, SocketAddr);

/// An acknowledgement of something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advance {
    /// Whose segments it acknowledges, and who acknowledges.
    pub flow: (SocketAddr, SocketAddr),
    /// Raw acknowledgement number.
    pub ack: u32,
    /// When it was captured, since the epoch.
    pub time_ns: u64,
}

/// One TCP segment of the capture.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) flow: Flow,
    pub(super) time_ns: u64,
    pub(super) seq: u32,
    /// Payload, SYN and FIN.
    pub(super) len: u32,
    pub(super) ack: Option<u32>,
    pub(super) reset: bool,
    pub(super) syn: bool,
    pub(super) tsval: Option<u32>,
    pub(super) tsecr: Option<u32>,
    /// It is a SYN that permits SACK.
    pub(super) sack_permitted: bool,
    /// A SACK block lies above the acknowledgement number.
    pub(super) hole: bool,
    /// How many duplicate acknowledgements this is one of.
    pub(super) duplicate: u32,
    /// tshark calls it a retransmission, out of order or a keep-alive.
    pub(super) flagged: bool,
    /// What tshark says that it acknowledges, and after how long.
    pub(super) pair: Option<(u64, u64)>,
}

impl Frame {
    /// Whether it carried the byte before `ack`.
    fn carries_last_of(&self, ack: u32) -> bool {
        before(self.seq, ack) && !before(self.seq.wrapping_add(self.len), ack)
    }

    fn ends_at(&self, ack: u32) -> bool {
        self.len > 0 && self.seq.wrapping_add(self.len) == ack
    }
}

/// Serial-number order (RFC 1982) modulo 2^32.
fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// What one side sent.
#[derive(Default)]
struct Sent {
    /// Places of its frames, ascending.
    places: Vec<usize>,
    /// Those that are SYNs.
    syns: Vec<usize>,
    /// One of these permits SACK.
    permits_sack: bool,
    /// One of its acknowledgements carries a block.
    has_blocks: bool,
}

/// All frames, and which of them each side of each connection sent.
pub(super) struct Trace {
    /// In the order of capture; numbers may have gaps.
    frames: Vec<Frame>,
    by_flow: HashMap<Flow, Sent>,
}

/// Why one of our samples is no truth.
pub(super) type Disproof = &'static str;

impl Trace {
    pub(super) fn new(frames: Vec<Frame>) -> Self {
        let mut by_flow: HashMap<Flow, Sent> = HashMap::new();
        for (place, frame) in frames.iter().enumerate() {
            let sent = by_flow.entry(frame.flow).or_default();
            sent.places.push(place);
            sent.syns.extend(frame.syn.then_some(place));
            sent.permits_sack |= frame.sack_permitted;
            sent.has_blocks |= frame.hole;
        }
        Self { frames, by_flow }
    }

    /// The frame of a number that tshark gave.
    pub(super) fn frame(&self, number: u64) -> &Frame {
        &self.frames[self.frames.partition_point(|frame| frame.number < number)]
    }

    /// Frames that carry a pair of tshark's.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Frame, u64, u64)> {
        self.frames.iter().filter_map(|ack| ack.pair.map(|(acked, rtt)| (ack, acked, rtt)))
    }

    /// The acknowledgements that the receiver of `flow` sent at a time given in microseconds, each number once.
    pub(super) fn acks_at(&self, flow: Flow, time_us: u64) -> Vec<&Frame> {
        let reverse = self.of(turned(flow));
        let first = reverse.partition_point(|k| self.frames[*k].time_ns / 1000 < time_us);
        let previous = first.checked_sub(1).and_then(|k| self.frames[reverse[k]].ack);
        let at = reverse[first..].iter().map(|k| &self.frames[*k]).take_while(|frame| frame.time_ns / 1000 == time_us);
        let mut acks: Vec<&Frame> = at.filter(|frame| frame.ack.is_some() && frame.ack != previous).collect();
        acks.dedup_by_key(|frame| frame.ack);
        acks
    }

    /// The last frame before `ack` that ends where it acknowledges.
    pub(super) fn acked_by(&self, ack: &Frame) -> Option<&Frame> {
        let number = ack.ack?;
        self.sent_before(ack).rev().find(|frame| frame.ends_at(number))
    }

    /// Whether `ack` is a measurement of `acked`, and of nothing else: it is the first to acknowledge it, nothing below it was retransmitted in
    /// between, nothing behind which it might have waited was missing, and no reset acknowledges.
    pub(super) fn is_trusted(&self, acked: &Frame, ack: &Frame) -> bool {
        let Some(number) = ack.ack else { return false };
        let sent = self.between(acked.flow, acked.number, ack.number);
        let doubtful = |frame: &Frame| frame.flagged && before(frame.seq, number);
        let mut answers = self.between(turned(acked.flow), acked.number, ack.number);
        let earlier = answers.any(|frame| !frame.reset && frame.ack.is_some_and(|earlier| !before(earlier, number)));
        !ack.reset && !earlier && !sent.clone().any(doubtful) && !self.hole_between(acked, ack)
    }

    /// Whether the receiver told, while `acked` was outstanding, that it misses something: RFC 2018, or RFC 5681's three duplicates
    /// where SACK is not in use.
    fn hole_between(&self, acked: &Frame, ack: &Frame) -> bool {
        let reverse = turned(acked.flow);
        let sides = (self.by_flow.get(&reverse), self.by_flow.get(&acked.flow));
        let uses_sack = match sides {
            (Some(receiver), Some(sender)) => receiver.has_blocks || (receiver.permits_sack && sender.permits_sack),
            _ => false,
        };
        let told = |frame: &Frame| frame.hole || (frame.duplicate >= 3 && !uses_sack);
        self.between(reverse, acked.number, ack.number).any(told)
    }

    /// Why `rtt_ns` is not the time from a transmission to the acknowledgement `ack` that it caused; None if it is.
    pub(super) fn disprove(&self, flow: Flow, number: u32, time_ns: u64, rtt_ns: u64) -> Option<Disproof> {
        let reverse = self.of(turned(flow));
        let first = reverse.partition_point(|k| self.frames[*k].time_ns + 1000 <= time_ns);
        let mut at =
            reverse[first..].iter().map(|k| &self.frames[*k]).take_while(|frame| frame.time_ns < time_ns + 1000);
        let Some(ack) = at.find(|frame| frame.ack == Some(number)) else {
            return Some("no such acknowledgement");
        };
        let left_at = time_ns.saturating_sub(rtt_ns);
        let carriers: Vec<&Frame> = self.sent_before(ack).filter(|frame| frame.carries_last_of(number)).collect();
        let Some(sent) = carriers.iter().rev().find(|frame| frame.time_ns.abs_diff(left_at) < 1000) else {
            return Some("no transmission of that byte then");
        };
        if self.is_trusted(sent, ack) && carriers.len() == 1 {
            return None;
        }
        if self.hole_between(sent, ack) {
            return Some("behind a hole");
        }
        let named = carriers.iter().filter(|frame| frame.tsval.is_some() && frame.tsval == ack.tsecr).count();
        // Something else that was sent again may have caused the acknowledgement, and have the same TSval.
        let rival = |frame: &Frame| frame.flagged && before(frame.seq, number) && frame.tsval == ack.tsecr;
        let mut since = self.between(flow, sent.number, ack.number).filter(|frame| frame.number != sent.number);
        if named == 1 && sent.tsval == ack.tsecr && !since.any(rival) {
            return None;
        }
        Some("retransmitted, and no timestamp tells")
    }

    /// Every acknowledgement of something new: above all that was acknowledged before, in a direction of which something was seen to be sent.
    pub(super) fn advances(&self) -> Vec<Advance> {
        /// First not acknowledged, and after the last sent.
        struct Window {
            una: u32,
            nxt: u32,
        }
        let mut windows: HashMap<Flow, Window> = HashMap::new();
        let mut isns: HashMap<Flow, u32> = HashMap::new();
        let mut advances = Vec::new();
        for frame in &self.frames {
            if frame.syn && isns.insert(frame.flow, frame.seq).is_some_and(|isn| isn != frame.seq) {
                // Another connection on the same ports; a SYN-ACK answers what began it already.
                windows.remove(&frame.flow);
                if frame.ack.is_none() {
                    windows.remove(&turned(frame.flow));
                }
            }
            let end = frame.seq.wrapping_add(frame.len);
            if frame.len > 0 && !frame.reset {
                let window = windows.entry(frame.flow).or_insert(Window { una: frame.seq, nxt: end });
                window.nxt = if before(window.nxt, end) { end } else { window.nxt };
            }
            let Some(window) = windows.get_mut(&turned(frame.flow)) else { continue };
            if frame.reset {
                window.una = window.nxt;
                continue;
            }
            if let Some(ack) = frame.ack.filter(|ack| before(window.una, *ack)) {
                advances.push(Advance { flow: turned(frame.flow), ack, time_ns: frame.time_ns });
                window.una = if before(window.nxt, ack) { window.una } else { ack };
            }
        }
        advances
    }

    fn of(&self, flow: Flow) -> &[usize] {
        self.by_flow.get(&flow).map_or(&[], |sent| &sent.places)
    }

    /// What the other side sent before `ack` was captured, within the connection that it acknowledges.
    fn sent_before(&self, ack: &Frame) -> impl DoubleEndedIterator<Item = &Frame> + Clone {
        let flow = turned(ack.flow);
        // A connection begins with the first SYN of its initial sequence number: nothing older counts.
        let syns = self.by_flow.get(&flow).map_or(&[][..], |sent| &sent.syns);
        let syns = syns.iter().rev().map(|k| &self.frames[*k]).skip_while(|frame| frame.number > ack.number);
        let isn = syns.clone().next().map(|frame| frame.seq);
        let first = syns.take_while(|frame| Some(frame.seq) == isn).last().map_or(0, |frame| frame.number);
        self.between(flow, first, ack.number)
    }

    /// Frames of `flow` from `first` on and before `last`.
    fn between(&self, flow: Flow, first: u64, last: u64) -> impl DoubleEndedIterator<Item = &Frame> + Clone {
        let places = self.of(flow);
        let place = |number: u64| places.partition_point(|k| self.frames[*k].number < number);
        let (from, to) = (place(first), place(last));
        places[from..to.max(from)].iter().map(|k| &self.frames[*k])
    }
}

/// The other direction.
pub(super) fn turned((sender, receiver): Flow) -> Flow {
    (receiver, sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64, outbound: bool, time_ms: u64) -> Frame {
        let (a, b): (SocketAddr, SocketAddr) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        Frame {
            number,
            flow: if outbound { (a, b) } else { (b, a) },
            time_ns: time_ms * 1_000_000,
            seq: 1000,
            len: 0,
            ack: None,
            reset: false,
            syn: false,
            tsval: None,
            tsecr: None,
            sack_permitted: false,
            hole: false,
            duplicate: 0,
            flagged: false,
            pair: None,
        }
    }

    fn sent(number: u64, time_ms: u64, seq: u32, len: u32) -> Frame {
        Frame { seq, len, ..frame(number, true, time_ms) }
    }

    fn ack(number: u64, time_ms: u64, ack: u32) -> Frame {
        Frame { ack: Some(ack), ..frame(number, false, time_ms) }
    }

    fn verdict(trace: &Trace, ack: u64, rtt_ms: u64) -> Option<Disproof> {
        let ack = trace.frame(ack);
        trace.disprove(turned(ack.flow), ack.ack.unwrap(), ack.time_ns, rtt_ms * 1_000_000)
    }

    #[test]
    fn the_time_since_the_only_transmission_is_proved() {
        let trace = Trace::new(vec![sent(1, 0, 1000, 100), sent(2, 10, 1100, 100), ack(3, 50, 1200)]);
        assert_eq!(verdict(&trace, 3, 40), None);
        assert_eq!(verdict(&trace, 3, 50), Some("no transmission of that byte then"));
        assert!(trace.is_trusted(trace.frame(2), trace.frame(3)));
        assert_eq!(trace.acked_by(trace.frame(3)).unwrap().number, 2);
    }

    #[test]
    fn a_retransmission_is_proved_by_its_timestamp_alone() {
        let stamped = |tsecr| {
            let first = Frame { tsval: Some(7), ..sent(1, 0, 1000, 100) };
            let again = Frame { tsval: Some(8), flagged: true, ..sent(2, 30, 1000, 100) };
            Trace::new(vec![first, again, Frame { tsecr: Some(tsecr), ..ack(3, 50, 1100) }])
        };
        assert_eq!(verdict(&stamped(7), 3, 50), None);
        assert_eq!(verdict(&stamped(8), 3, 20), None);
        assert_eq!(verdict(&stamped(8), 3, 50), Some("retransmitted, and no timestamp tells"));
        assert_eq!(verdict(&stamped(9), 3, 20), Some("retransmitted, and no timestamp tells"));
    }

    #[test]
    fn what_waited_behind_a_hole_is_neither_trusted_nor_proved() {
        let told = Frame { hole: true, ..ack(3, 50, 1000) };
        let trace = Trace::new(vec![sent(1, 0, 1000, 100), sent(2, 1, 1100, 100), told, ack(4, 60, 1200)]);
        assert!(!trace.is_trusted(trace.frame(2), trace.frame(4)));
        assert_eq!(verdict(&trace, 4, 59), Some("behind a hole"));
    }

    #[test]
    fn another_connection_on_the_same_ports_is_another() {
        let old = sent(1, 0, 1000, 100);
        let syn = Frame { syn: true, ..sent(2, 10, 5000, 1) };
        let trace = Trace::new(vec![old, syn, ack(3, 20, 1100)]);
        assert_eq!(verdict(&trace, 3, 20), Some("no transmission of that byte then"));
    }
}
