//! A capture as the judges' court sees it: the frames, and what they alone prove.
//!
//! Obvious on purpose, and without a line in common with the engine: for each question it looks at all frames between a
//! segment and its acknowledgement.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::history::{self, Known};

/// Sender and receiver.
pub(super) type Flow = (SocketAddr, SocketAddr);

/// An acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advance {
    /// Whose segments it acknowledges, and who acknowledges.
    pub flow: (SocketAddr, SocketAddr),
    /// Raw acknowledgement number.
    pub ack: u32,
    /// When it was captured, since the epoch.
    pub time_ns: u64,
}

/// What the frames alone say is acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    /// Of something new, above all that was acknowledged before: each must come out as a sample or as a rejection.
    pub new: Vec<Advance>,
    /// Of what had been acknowledged before it was seen to be sent, once it was: each may come out as a rejection once
    /// more.
    pub again: Vec<Advance>,
    /// By resets, which prove nothing: each must come out as that.
    pub by_resets: Vec<Advance>,
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
    /// Payload alone.
    pub(super) payload: u32,
    pub(super) ack: Option<u32>,
    pub(super) reset: bool,
    pub(super) syn: bool,
    pub(super) tsval: Option<u32>,
    pub(super) tsecr: Option<u32>,
    /// Bytes of TCP options.
    pub(super) options: u32,
    /// The MSS that it announces, if it is a SYN that does.
    pub(super) mss: Option<u32>,
    /// It is a SYN that permits SACK.
    pub(super) sack_permitted: bool,
    /// A SACK block lies above the acknowledgement number.
    pub(super) hole: bool,
    /// Its first SACK block is of something that arrived twice.
    pub(super) dsack: bool,
    /// Identification, over IPv4.
    pub(super) ip_id: Option<u16>,
    /// How many duplicate acknowledgements this is one of.
    pub(super) duplicate: u32,
    /// tshark calls it a retransmission, out of order or a keep-alive.
    pub(super) flagged: bool,
    /// Which of these, where it is one.
    pub(super) said: Option<Said>,
    /// What tshark says that it acknowledges, and after how long.
    pub(super) pair: Option<(u64, u64)>,
}

/// What tshark takes a segment for that is not simply the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A retransmission: fast, spurious or otherwise.
    Again,
    /// Overtaken on its way.
    OutOfOrder,
    /// A keep-alive, or a probe of a closed window.
    Probe,
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
pub(super) fn before(a: u32, b: u32) -> bool {
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
    /// What was known of each frame's connection when it was captured, by its place.
    known: Vec<Known>,
    by_flow: HashMap<Flow, Sent>,
}

/// Why one of our samples is no truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disproof {
    /// The frames contradict it: something other than the timed segment caused the acknowledgement.
    Refuted(&'static str),
    /// The frames do not show it.
    Unproved(&'static str),
}

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
        let known = history::of(&frames);
        Self { frames, known, by_flow }
    }

    fn known_at(&self, frame: &Frame) -> Known {
        self.known[self.frames.partition_point(|other| other.number < frame.number)]
    }

    /// The number of the last frame.
    pub(super) fn last_number(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.number)
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

    /// Whether `ack` is a measurement of `acked`, and of nothing else: it is the first to acknowledge it, nothing below
    /// it was retransmitted in between, nothing behind which it might have waited was missing, no reset acknowledges,
    /// and nothing refutes it.
    pub(super) fn is_trusted(&self, acked: &Frame, ack: &Frame) -> bool {
        let Some(number) = ack.ack else { return false };
        if self.refute(acked, ack).is_some() || self.known_at(ack).gap || self.may_be_a_retransmission(acked, ack) {
            return false;
        }
        let settled = self.settled(acked, ack).and_then(|frame| frame.ack);
        let sent = self.between(acked.flow, acked.number, ack.number);
        let is_settled = |frame: &Frame| settled.is_some_and(|una| !before(una, frame.seq.wrapping_add(frame.len)));
        let doubtful = |frame: &Frame| frame.flagged && before(frame.seq, number) && !is_settled(frame);
        let mut answers = self.between(turned(acked.flow), acked.number, ack.number);
        let earlier = answers.any(|frame| !frame.reset && frame.ack.is_some_and(|earlier| !before(earlier, number)));
        !ack.reset && !earlier && !sent.clone().any(doubtful) && !self.hole_between(acked, ack)
    }

    /// What in the capture contradicts that `acked` caused `ack`; None if nothing does.
    pub(super) fn refute(&self, acked: &Frame, ack: &Frame) -> Option<&'static str> {
        let number = ack.ack?;
        let known = self.known_at(ack);
        if ack.time_ns <= acked.time_ns {
            return Some("the acknowledgement is no later than the segment");
        }
        if known.acked.is_some_and(|acked| !before(acked, number)) {
            return Some("that number was acknowledged before");
        }
        let heard = self.known_at(acked).acked.into_iter().chain(acked.ack);
        if known.missed && heard.into_iter().all(|heard| before(heard, ack.seq)) {
            return Some("a segment right before the acknowledgement was never seen sent");
        }
        if known.left_out {
            return Some("a packet right before the acknowledgement is missing, by its identification");
        }
        if ack.hole {
            return Some("the acknowledgement itself carries a SACK block above");
        }
        if ack.dsack {
            return Some("a segment that had arrived before caused the acknowledgement, as its D-SACK says");
        }
        let echo = acked.tsval.zip(ack.tsecr);
        if echo.is_some_and(|(tsval, tsecr)| before(tsval, tsecr)) {
            return Some("TSecr is newer than the segment's TSval");
        }
        // Its own echo says that the segment was the first that had not been acknowledged (RFC 7323 section 4.3).
        if known.gap && echo.is_none_or(|(tsval, tsecr)| tsval != tsecr) {
            return Some("bytes below it were never seen sent");
        }
        None
    }

    /// Whether `acked` is the first that was seen of its direction, so that an earlier transmission may have passed
    /// unseen. A SYN is new, and so is what `ack` echoes.
    fn may_be_a_retransmission(&self, acked: &Frame, ack: &Frame) -> bool {
        !acked.syn && !self.known_at(acked).begun && (acked.tsval.is_none() || acked.tsval != ack.tsecr)
    }

    /// Whether the receiver told, while `acked` was outstanding, that it misses something: RFC 2018, or RFC 5681's
    /// three duplicates where SACK is not in use.
    ///
    /// What it told before it said that it holds nothing above what it acknowledges is settled.
    fn hole_between(&self, acked: &Frame, ack: &Frame) -> bool {
        let uses_sack = self.uses_sack(acked.flow);
        let told = |frame: &Frame| frame.hole || (frame.duplicate >= 3 && !uses_sack);
        let from = self.settled(acked, ack).map_or(acked.number, |settled| settled.number);
        self.between(turned(acked.flow), from, ack.number).any(told)
    }

    /// Whether the receiver of `flow` tells by SACK blocks what it holds above a hole.
    fn uses_sack(&self, flow: Flow) -> bool {
        match (self.by_flow.get(&turned(flow)), self.by_flow.get(&flow)) {
            (Some(receiver), Some(sender)) => receiver.has_blocks || (receiver.permits_sack && sender.permits_sack),
            _ => false,
        }
    }

    /// The last acknowledgement between the two that advances to less than `ack` does, of a receiver that uses SACK,
    /// without a block above: then it held nothing above that, of `acked` neither (RFC 2018 section 4).
    fn settled(&self, acked: &Frame, ack: &Frame) -> Option<&Frame> {
        let number = ack.ack?;
        if !self.uses_sack(acked.flow) {
            return None;
        }
        let mut answers = self.between(turned(acked.flow), acked.number, ack.number).rev();
        answers.find(|frame| {
            let is_new = |una: u32| self.known_at(frame).acked.is_none_or(|acked| before(acked, una));
            !frame.hole && !frame.reset && frame.ack.is_some_and(|una| before(una, number) && is_new(una))
        })
    }

    /// Why `rtt_ns` is not the time from a transmission to the acknowledgement `ack` that it caused; None if it is.
    pub(super) fn disprove(&self, flow: Flow, number: u32, time_ns: u64, rtt_ns: u64) -> Option<Disproof> {
        let reverse = self.of(turned(flow));
        let first = reverse.partition_point(|k| self.frames[*k].time_ns + 1000 <= time_ns);
        let mut at =
            reverse[first..].iter().map(|k| &self.frames[*k]).take_while(|frame| frame.time_ns < time_ns + 1000);
        let Some(ack) = at.find(|frame| frame.ack == Some(number)) else {
            return Some(Disproof::Unproved("no such acknowledgement"));
        };
        let left_at = time_ns.saturating_sub(rtt_ns);
        let carriers: Vec<&Frame> = self.sent_before(ack).filter(|frame| frame.carries_last_of(number)).collect();
        let Some(sent) = carriers.iter().rev().find(|frame| frame.time_ns.abs_diff(left_at) < 1000) else {
            return Some(Disproof::Unproved("no transmission of that byte then"));
        };
        if let Some(why) = self.refute(sent, ack) {
            return Some(Disproof::Refuted(why));
        }
        if self.is_trusted(sent, ack) && carriers.len() == 1 {
            return None;
        }
        if self.hole_between(sent, ack) {
            return Some(Disproof::Unproved("behind a hole"));
        }
        let named = carriers.iter().filter(|frame| frame.tsval.is_some() && frame.tsval == ack.tsecr).count();
        // Something else that was sent again may have caused the acknowledgement, and have the same TSval.
        let rival = |frame: &Frame| frame.flagged && before(frame.seq, number) && frame.tsval == ack.tsecr;
        let mut since = self.between(flow, sent.number, ack.number).filter(|frame| frame.number != sent.number);
        if named == 1 && sent.tsval == ack.tsecr && !since.any(rival) {
            return None;
        }
        if carriers.len() == 1 && sent.tsval.is_none() && self.may_be_a_retransmission(sent, ack) {
            // Nothing in the capture tells, either way.
            return None;
        }
        Some(Disproof::Unproved("retransmitted, and no timestamp tells"))
    }

    /// What is acknowledged in a direction of which something was seen to be sent.
    pub(super) fn acknowledged(&self) -> Acknowledged {
        /// First not acknowledged, after the last sent, and what was acknowledged before it was seen to be sent.
        struct Window {
            una: u32,
            nxt: u32,
            early: Option<u32>,
        }
        let mut windows: HashMap<Flow, Window> = HashMap::new();
        let mut isns: HashMap<Flow, u32> = HashMap::new();
        let mut found = Acknowledged::default();
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
                let window = windows.entry(frame.flow).or_insert(Window { una: frame.seq, nxt: end, early: None });
                window.nxt = if before(window.nxt, end) { end } else { window.nxt };
            }
            let Some(window) = windows.get_mut(&turned(frame.flow)) else { continue };
            let advance = |ack| Advance { flow: turned(frame.flow), ack, time_ns: frame.time_ns };
            if frame.reset {
                window.una = window.nxt;
                found.by_resets.extend(frame.ack.map(advance));
                continue;
            }
            if let Some(ack) = frame.ack.filter(|ack| before(window.una, *ack)) {
                let is_early = before(window.nxt, ack);
                // What was acknowledged early is nothing new once it is seen.
                let is_new = is_early || window.early.is_none_or(|early| before(early, ack));
                let list = if is_new { &mut found.new } else { &mut found.again };
                list.push(advance(ack));
                if is_early {
                    window.early = Some(window.early.filter(|early| before(ack, *early)).unwrap_or(ack));
                } else {
                    window.una = ack;
                }
            }
        }
        found
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
            payload: 0,
            ack: None,
            reset: false,
            syn: false,
            tsval: None,
            tsecr: None,
            options: 0,
            mss: None,
            sack_permitted: false,
            hole: false,
            dsack: false,
            ip_id: None,
            duplicate: 0,
            flagged: false,
            said: None,
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
        assert_eq!(verdict(&trace, 3, 50), Some(Disproof::Unproved("no transmission of that byte then")));
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
        assert_eq!(verdict(&stamped(8), 3, 50), Some(Disproof::Refuted("TSecr is newer than the segment's TSval")));
        assert_eq!(verdict(&stamped(7), 3, 20), Some(Disproof::Unproved("retransmitted, and no timestamp tells")));
        assert_eq!(verdict(&stamped(9), 3, 20), Some(Disproof::Refuted("TSecr is newer than the segment's TSval")));
    }

    #[test]
    fn what_waited_behind_a_hole_is_neither_trusted_nor_proved() {
        let told = Frame { hole: true, ..ack(3, 50, 1000) };
        let trace = Trace::new(vec![sent(1, 0, 1000, 100), sent(2, 1, 1100, 100), told, ack(4, 60, 1200)]);
        assert!(!trace.is_trusted(trace.frame(2), trace.frame(4)));
        assert_eq!(verdict(&trace, 4, 59), Some(Disproof::Unproved("behind a hole")));
    }

    #[test]
    fn a_hole_is_settled_where_the_receiver_holds_nothing_above_any_more() {
        let told = Frame { hole: true, ..ack(4, 50, 1000) };
        let again = Frame { flagged: true, ..sent(5, 51, 1000, 100) };
        let begun = [sent(1, 0, 1000, 100), sent(2, 1, 1100, 100), sent(3, 2, 1200, 100), told, again];
        let with = |frames: &[Frame]| judged([&begun, frames].concat());
        assert_eq!(with(&[ack(6, 101, 1200), ack(7, 102, 1300)]), SOUND);
        // Not where it still holds something, nor by what it had said before.
        let unproved = (false, Some(Disproof::Unproved("behind a hole")));
        assert_eq!(with(&[Frame { hole: true, ..ack(6, 101, 1200) }, ack(7, 102, 1300)]), unproved);
        assert_eq!(with(&[ack(6, 101, 1000), ack(7, 102, 1300)]), unproved);
    }

    #[test]
    fn another_connection_on_the_same_ports_is_another() {
        let old = sent(1, 0, 1000, 100);
        let syn = Frame { syn: true, ..sent(2, 10, 5000, 1) };
        let trace = Trace::new(vec![old, syn, ack(3, 20, 1100)]);
        assert_eq!(verdict(&trace, 3, 20), Some(Disproof::Unproved("no transmission of that byte then")));
    }

    /// Frames with a sound round trip of 40 ms at their end, as the capture was and as `change` makes it: whether the
    /// pair is trusted, and the verdict.
    fn judged(frames: Vec<Frame>) -> (bool, Option<Disproof>) {
        let trace = Trace::new(frames);
        let last = trace.frames.last().unwrap();
        let acked = trace.acked_by(last).unwrap();
        (trace.is_trusted(acked, last), verdict(&trace, last.number, (last.time_ns - acked.time_ns) / 1_000_000))
    }

    fn refuted(why: &'static str) -> (bool, Option<Disproof>) {
        (false, Some(Disproof::Refuted(why)))
    }

    const SOUND: (bool, Option<Disproof>) = (true, None);

    #[test]
    fn a_gap_below_the_timed_segment_refutes_unless_its_own_timestamp_is_echoed() {
        let begun = [sent(1, 0, 1000, 100), ack(2, 20, 1100)];
        let with = |frames: &[Frame]| judged([&begun, frames].concat());
        assert_eq!(with(&[sent(3, 30, 1100, 100), sent(4, 31, 1200, 100), ack(5, 70, 1300)]), SOUND);
        let gap = refuted("bytes below it were never seen sent");
        assert_eq!(with(&[sent(4, 31, 1200, 100), ack(5, 70, 1300)]), gap);
        // Seen late, it is a retransmission to tshark and no gap to us; acknowledged before, it had arrived.
        assert_eq!(with(&[sent(3, 30, 1200, 100), sent(4, 31, 1100, 100), ack(5, 70, 1300)]), SOUND);
        assert_eq!(with(&[ack(3, 30, 1200), sent(4, 31, 1200, 100), ack(5, 70, 1300)]), SOUND);
        let stamped = |tsecr| {
            let sent = Frame { tsval: Some(7), ..sent(4, 31, 1200, 100) };
            with(&[sent, Frame { tsecr: Some(tsecr), ..ack(5, 70, 1300) }])
        };
        assert_eq!(stamped(7), (false, None));
        assert_eq!(stamped(6), gap);
    }

    #[test]
    fn an_acknowledgement_with_a_block_above_itself_refutes() {
        let frames = |hole| vec![sent(0, 0, 1000, 0), sent(1, 0, 1000, 100), Frame { hole, ..ack(2, 40, 1100) }];
        assert_eq!(judged(frames(false)), SOUND);
        assert_eq!(judged(frames(true)), refuted("the acknowledgement itself carries a SACK block above"));
    }

    #[test]
    fn a_dsack_refutes() {
        let frames = |dsack| vec![sent(0, 0, 1000, 0), sent(1, 0, 1000, 100), Frame { dsack, ..ack(2, 40, 1100) }];
        assert_eq!(judged(frames(false)), SOUND);
        let why = "a segment that had arrived before caused the acknowledgement, as its D-SACK says";
        assert_eq!(judged(frames(true)), refuted(why));
    }

    #[test]
    fn an_echo_newer_than_the_segment_refutes() {
        let frames = |tsval, tsecr| {
            vec![
                Frame { tsval: Some(tsval), ..sent(1, 0, 1000, 100) },
                Frame { tsecr: Some(tsecr), ..ack(2, 40, 1100) },
            ]
        };
        assert_eq!(judged(frames(7, 7)), SOUND);
        assert_eq!(judged(frames(7, 8)), refuted("TSecr is newer than the segment's TSval"));
        assert_eq!(judged(frames(u32::MAX, 0)), refuted("TSecr is newer than the segment's TSval"));
    }

    #[test]
    fn a_number_that_was_acknowledged_before_refutes() {
        let early = |number| vec![sent(0, 0, 1100, 0), ack(1, 0, number), sent(2, 10, 1100, 100), ack(3, 50, 1200)];
        assert_eq!(judged(early(1100)), SOUND);
        assert_eq!(judged(early(1200)), refuted("that number was acknowledged before"));
        // By another connection on the same ports it was not.
        let syn = Frame { syn: true, ..sent(2, 5, 1099, 1) };
        let answered = Frame { syn: true, ..ack(3, 6, 1100) };
        assert_eq!(judged(vec![ack(1, 0, 1200), syn, answered, sent(4, 10, 1100, 100), ack(5, 50, 1200)]), SOUND);
    }

    #[test]
    fn a_jump_in_the_numbers_of_the_end_that_acknowledges_refutes() {
        let answers = |seq| {
            let answer = |number, time_ms, seq, of| Frame { seq, len: 10, ..ack(number, time_ms, of) };
            judged(vec![
                sent(1, 0, 1000, 100),
                answer(2, 20, 500, 1100),
                sent(3, 30, 1100, 100),
                answer(4, 70, seq, 1200),
            ])
        };
        assert_eq!(answers(510), SOUND);
        assert_eq!(answers(520), refuted("a segment right before the acknowledgement was never seen sent"));
        // Sent again or late.
        assert_eq!(answers(500), SOUND);
        // What had arrived before the segment was sent.
        let heard = Frame { ack: Some(520), ..sent(3, 30, 1100, 100) };
        let last = Frame { seq: 520, ..ack(4, 70, 1200) };
        assert_eq!(
            judged(vec![sent(1, 0, 1000, 100), Frame { seq: 500, len: 10, ..ack(2, 20, 1100) }, heard, last]),
            SOUND
        );
    }

    #[test]
    fn a_gap_in_the_identifications_of_the_end_that_acknowledges_refutes() {
        let answers = |last: u16, len| {
            let round = |k: u32| {
                let (number, at) = (u64::from(k) * 2 + 1, u64::from(k) * 50);
                let answer = Frame { ip_id: Some(100 + k as u16), ..ack(number + 1, at + 20, 1100 + k * 100) };
                [sent(number, at, 1000 + k * 100, 100), answer]
            };
            let mut frames: Vec<Frame> = (0..12).flat_map(round).collect();
            let end = frames.len() - 1;
            (frames[end].ip_id, frames[end].len) = (Some(last), len);
            judged(frames)
        };
        assert_eq!(answers(111, 10), SOUND);
        let why = "a packet right before the acknowledgement is missing, by its identification";
        assert_eq!(answers(112, 10), refuted(why));
        // An acknowledgement alone was sent because something arrived.
        assert_eq!(answers(112, 0), SOUND);
    }

    #[test]
    fn no_time_and_less_than_none_refute() {
        let frames = |at| vec![sent(1, 50, 1000, 100), ack(2, at, 1100)];
        let trace = Trace::new(frames(50));
        let none = Some("the acknowledgement is no later than the segment");
        assert_eq!(trace.refute(trace.frame(1), trace.frame(2)), none);
        let trace = Trace::new(frames(49));
        assert_eq!(trace.refute(trace.frame(1), trace.frame(2)), none);
        assert!(!trace.is_trusted(trace.frame(1), trace.frame(2)));
    }

    #[test]
    fn the_first_that_is_seen_of_a_direction_is_not_trusted_unless_something_shows_that_it_is_new() {
        let cut = |tsval, tsecr| vec![Frame { tsval, ..sent(2, 0, 1000, 100) }, Frame { tsecr, ..ack(3, 40, 1100) }];
        assert_eq!(judged(cut(None, None)), (false, None));
        assert_eq!(judged(cut(Some(7), Some(7))), SOUND);
        assert!(!judged(cut(Some(7), Some(6))).0);
        let stood = [&[sent(1, 0, 1000, 0)][..], &cut(None, None)].concat();
        assert_eq!(judged(stood), SOUND);
    }

    #[test]
    fn sequence_numbers_may_wrap_within_a_gap() {
        let start = u32::MAX - 149;
        let frames = |second: Option<Frame>| {
            let begun = [sent(1, 0, start.wrapping_sub(100), 100), ack(2, 20, start)];
            let rest = [sent(4, 31, 50, 100), ack(5, 71, 150)];
            begun.into_iter().chain(second).chain(rest).collect()
        };
        assert_eq!(judged(frames(Some(sent(3, 30, start, 200)))), SOUND);
        assert_eq!(judged(frames(None)), refuted("bytes below it were never seen sent"));
    }
}
