//! One flow: the matching rules of RULES.md.
//!
//! A flow times what its local end sends. Every outbound segment goes through [`Flow::sent`], every inbound one
//! through [`Flow::received`]; both are a page, and follow the rules' numbers.

use go_metro_common::segment::{Bits, TcpFlags};

use super::ack_delay::AckDelay;
use super::early::Early;
use super::marks::Marks;
use super::outstanding::{Advance, Match, Proof, Pushed, Queue, Share, Timed, Transmission};
use super::sample::{Quiet, Rejection};
use super::{Class, Kind, Nanos, Outcome, Rtt, Sample, Segment, SeqNum};

/// Duplicate acknowledgements that tell of a hole where SACK is not in use (RFC 5681 section 3.2).
const DUPLICATE_ACKS: u8 = 3;

/// What a SYN-ACK waits for its acknowledgement before it is sent again, at least (RFC 6298 sections 2 and 5.7).
const INITIAL_TIMEOUT: Rtt = Rtt(1_000_000_000);

/// Sequence numbers further apart than the largest window (2^30, RFC 7323 section 2.3) are not of one stream: what comes
/// is the first segment of something else.
pub(super) const LARGEST_WINDOW: u32 = 1 << 30;

/// Bounds that the rules need.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowLimits {
    /// Transmissions on record per flow (rule 9).
    pub(super) outstanding: u16,
    /// Longest believable RTT (rule 10).
    pub(super) longest: Rtt,
    /// As [`super::EngineConfig::peers_complete`].
    pub(super) peers_complete: bool,
    /// As [`super::EngineConfig::settles_after`], if it is not zero.
    pub(super) settles_after: Option<Ticks>,
}

/// A point in time or a span in units of 2^20 ns, about a millisecond, modulo 2^32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks(u32);

impl Ticks {
    /// No less than this many nanoseconds.
    pub(super) fn at_least(ns: u64) -> Self {
        Self(u32::try_from(ns.div_ceil(1 << 20)).unwrap_or(u32::MAX) & (u32::MAX >> 1))
    }

    fn of(time: Nanos) -> Self {
        Self((time.0 >> 20) as u32)
    }
}

/// How far a flow has got towards its end (rule 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Segments are expected.
    Open,
    /// Reset, or FIN in both directions: only stragglers.
    Closing,
}

/// What the outbound side of a flow did, for the engine's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// It was a retransmission.
    pub(super) retransmission: bool,
    /// Others were dropped from the record to make room.
    pub(super) thinned: bool,
    /// It could not be recorded: the pool is exhausted.
    pub(super) pool_full: bool,
}

/// The last retransmission (rule 2).
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// `snd_nxt` when it was sent: the recovery point.
    point: SeqNum,
    /// Its TSval.
    tsval: Option<u32>,
}

impl Recovery {
    /// Whether an acknowledgement that covers both the retransmission and a later `transmission` was caused by the latter.
    ///
    /// What was sent after a retransmission may arrive before it, and then waits for it. TSecr tells, unless both
    /// were sent within one tick.
    fn is_told_from(self, transmission: &Transmission, ack: &Segment) -> bool {
        transmission.tsval.is_some() && ack.tsecr() == transmission.tsval && transmission.tsval != self.tsval
    }
}

/// The state of one flow, in one cache line. `snd_una` and `snd_nxt` are named as in RFC 9293 section 3.3.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// First sequence number not acknowledged.
    snd_una: SeqNum,
    /// Sequence number after the highest sent.
    snd_nxt: SeqNum,
    outstanding: Queue,
    /// What its round trips have shown of the receiver.
    ack_delay: AckDelay,
    /// What [`Flow::recovery`] tells, if it does.
    recovery: (SeqNum, u32),
    /// What [`Flow::hole_until`] tells, if it does.
    hole: SeqNum,
    /// What [`Flow::acked_ahead`] tells, if it does.
    ahead: SeqNum,
    /// What [`Flow::local_isn`] and [`Flow::remote_isn`] tell, if they do.
    isns: (SeqNum, SeqNum),
    /// Sequence number after the highest that the peer was seen to send, or that was acknowledged to it, if
    /// [`Marks::PEER_FOLLOWED`].
    peer_nxt: SeqNum,
    /// Window of the last inbound segment, to tell a duplicate ACK from a window update.
    window: u16,
    marks: Marks,
}

const _: () = assert!(size_of::<Flow>() <= 64);

/// What is known, if it is.
impl Flow {
    fn known(&self, mark: Marks, number: SeqNum) -> Option<SeqNum> {
        self.marks.has(mark).then_some(number)
    }

    /// Set by the last retransmission, until all that was sent before it is acknowledged.
    fn recovery(&self) -> Option<Recovery> {
        let (point, tsval) = self.recovery;
        let tsval = self.marks.has(Marks::RECOVERY_TSVAL).then_some(tsval);
        self.marks.has(Marks::RECOVERY).then_some(Recovery { point, tsval })
    }

    fn set_recovery(&mut self, recovery: Option<Recovery>) {
        self.marks.set(Marks::RECOVERY, recovery.is_some());
        if let Some(Recovery { point, tsval }) = recovery {
            self.recovery = (point, tsval.unwrap_or_default());
            self.marks.set(Marks::RECOVERY_TSVAL, tsval.is_some());
        }
    }

    /// What was sent up to here was outstanding when a hole showed, or may have (rule 5).
    fn hole_until(&self) -> Option<SeqNum> {
        self.known(Marks::HOLE, self.hole)
    }

    fn set_hole_until(&mut self, hole: Option<SeqNum>) {
        self.marks.set(Marks::HOLE, hole.is_some());
        self.hole = hole.unwrap_or_default();
    }

    /// All below was acknowledged before it was seen to be sent, by what the peer said.
    fn acked_ahead(&self) -> Option<SeqNum> {
        self.known(Marks::ACKED_AHEAD, self.ahead)
    }

    fn set_acked_ahead(&mut self, ahead: Option<SeqNum>) {
        self.marks.set(Marks::ACKED_AHEAD, ahead.is_some());
        self.ahead = ahead.unwrap_or_default();
    }

    /// As [`Flow::hole_until`], where nothing below can be timed.
    fn told_until(&self) -> Option<SeqNum> {
        let only_suspected = self.marks.has(Marks::HOLE_SUSPECTED) && !self.marks.has(Marks::HOLE_FORGOTTEN);
        self.hole_until().filter(|_| !only_suspected)
    }

    /// Whether there may be a hole, so that only what nothing was outstanding before can be timed.
    fn suspects_hole(&self) -> bool {
        self.marks.has(Marks::HOLE) && self.marks.has(Marks::HOLE_SUSPECTED)
    }

    /// Our initial sequence number, if the SYN was seen.
    fn local_isn(&self) -> Option<SeqNum> {
        self.known(Marks::LOCAL_ISN, self.isns.0)
    }

    fn set_local_isn(&mut self, isn: SeqNum) {
        self.marks.set(Marks::LOCAL_ISN, true);
        self.marks.set(Marks::UNSETTLED, false);
        self.isns.0 = isn;
    }

    /// The first segment is seen of what was sent before, at this time. Then our initial sequence number is of no use
    /// any more, and its place is that of the time.
    fn join(&mut self, at: Nanos) {
        self.marks.set(Marks::LOCAL_ISN, false);
        self.marks.set(Marks::UNSETTLED, true);
        self.isns.0 = SeqNum(Ticks::of(at).0);
    }

    /// Whether this may be a retransmission of what was sent before the flow was joined; later ones are not, once one
    /// is not.
    fn may_repeat_unseen(&mut self, transmission: &Transmission, limits: FlowLimits) -> bool {
        let Some(Ticks(span)) = limits.settles_after.filter(|_| self.marks.has(Marks::UNSETTLED)) else { return false };
        let since = Ticks::of(transmission.sent_at).0.wrapping_sub(self.isns.0.0);
        let is_unsettled = since as i32 <= span as i32;
        self.marks.set(Marks::UNSETTLED, is_unsettled);
        is_unsettled
    }

    /// The peer's, if known.
    fn remote_isn(&self) -> Option<SeqNum> {
        self.known(Marks::REMOTE_ISN, self.isns.1)
    }

    fn set_remote_isn(&mut self, isn: Option<SeqNum>) {
        self.marks.set(Marks::REMOTE_ISN, isn.is_some());
        self.isns.1 = isn.unwrap_or_default();
    }

    /// The source tells of single round trips, and of none at the moment.
    fn left_out(&self) -> bool {
        self.marks.has(Marks::LEFT_OUT) && !self.is_synchronised()
    }

    fn is_synchronised(&self) -> bool {
        self.marks.has(Marks::SYNCHRONISED)
    }
}

impl Flow {
    /// A flow of which nothing was seen yet.
    pub(super) const NEW: Self = Self {
        snd_una: SeqNum(0),
        snd_nxt: SeqNum(0),
        outstanding: Queue::EMPTY,
        ack_delay: AckDelay::NEW,
        recovery: (SeqNum(0), 0),
        hole: SeqNum(0),
        ahead: SeqNum(0),
        isns: (SeqNum(0), SeqNum(0)),
        peer_nxt: SeqNum(0),
        window: 0,
        marks: Marks::JOINS,
    };

    /// A flow of which nothing was seen yet, after this many gaps in the records.
    pub(super) fn after_gaps(gaps: u8) -> Self {
        Self { outstanding: Queue::after_gaps(gaps), ..Self::NEW }
    }

    /// Whether this segment, the first that is seen of a flow, begins it and is all there is to know of it.
    #[inline]
    pub(super) fn is_opened_alone(segment: &Segment, limits: FlowLimits) -> bool {
        segment.has(TcpFlags::SYN)
            && !segment.has(TcpFlags::RST)
            && !segment.header.bits.any(Bits::RESYNC | Bits::UNTIMED)
            && !limits.peers_complete
    }

    /// The flow that begins so: what [`Flow::sent`] makes of one of which nothing was seen yet, without looking at what
    /// it cannot hold. In a flood of SYNs most flows are this and nothing more.
    #[inline]
    pub(super) fn opened_alone(segment: &Segment, gaps: u8, pool: &mut Share<'_>) -> Self {
        let (start, end, answered) = (segment.start(), segment.end(), segment.ack());
        let offers = segment.header.bits.any(Bits::SACK_PERMITTED);
        let mut marks = Marks::SYNCHRONISED.and(Marks::LOCAL_ISN);
        marks.add(Marks::SACK_OFFERED, offers);
        marks.add(Marks::SACK_IN_USE, offers && answered.is_some());
        marks.add(Marks::REMOTE_ISN, answered.is_some());
        marks.add(Marks::FIN_SENT, segment.has(TcpFlags::FIN));
        let transmission = Transmission {
            sent_at: segment.time(),
            start,
            end,
            tsval: segment.tsval(),
            syn: true,
            after_gap: false,
            acked_early: false,
        };
        Self {
            snd_una: start,
            snd_nxt: end,
            outstanding: Queue::of_first(pool, transmission, gaps),
            isns: (start, answered.map(|ack| ack.minus(1)).unwrap_or_default()),
            marks,
            ..Self::NEW
        }
    }

    /// Notes how many gaps there were in the records so far.
    #[inline]
    pub(super) fn note_gaps(&mut self, gaps: u8, pool: &mut Share<'_>) {
        if self.outstanding.gaps() != gaps {
            self.enter_gap(gaps, pool);
        }
    }

    /// Records were lost: a gap, which makes `gaps` so far. What is outstanding may have been acknowledged or sent
    /// again in it, so it is not timed, and what is sent next is behind it. All else stays known, so that a
    /// retransmission is recognised.
    #[cold]
    pub(super) fn enter_gap(&mut self, gaps: u8, pool: &mut Share<'_>) {
        self.outstanding.lose(gaps, pool);
        self.marks.set(Marks::JOINS, true);
    }

    /// Any word of it, to be read ahead of use.
    #[inline]
    pub(super) fn warm(&self) -> u64 {
        u64::from(self.snd_una.0)
    }

    /// Whether the flow is over but for stragglers.
    pub(super) fn life(&self) -> Life {
        let closed = self.marks.has(Marks::FIN_SENT) && self.marks.has(Marks::FIN_RECEIVED);
        if self.marks.has(Marks::RESET) || closed { Life::Closing } else { Life::Open }
    }

    /// Forgets everything: a new connection on the same tuple, or one that cannot be followed any further.
    pub(super) fn restart(&mut self, pool: &mut Share<'_>) {
        self.outstanding.clear(pool);
        // Empty now; the gaps before are known still.
        *self = Self { outstanding: self.outstanding, ..Self::NEW };
    }

    /// Forgets what is outstanding, because segments may have passed unseen.
    pub(super) fn interrupt(&mut self, pool: &mut Share<'_>) {
        self.lose_track(pool);
        self.marks.set(Marks::JOINS, true);
    }

    /// Forgets what is outstanding, because what is sent next does not follow on it.
    fn lose_track(&mut self, pool: &mut Share<'_>) {
        self.outstanding.clear(pool);
        self.marks.set(Marks::SYNCHRONISED, false);
        self.marks.set(Marks::PEER_FOLLOWED, false);
        self.marks.set(Marks::PEER_MISSED, false);
        self.set_recovery(None);
        self.set_hole_until(None);
    }

    /// An outbound segment that occupies sequence space or resets.
    #[inline]
    pub(super) fn sent(&mut self, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Sent {
        if self.is_continued_by(segment) && self.outstanding.has_room(limits.outstanding) {
            self.continue_with(segment, pool)
        } else {
            self.weigh_sent(segment, pool, limits)
        }
    }

    /// Whether this is the next data in order, of a flow whose past has no say in it: all there is to do is to record
    /// it (rule 1).
    #[inline]
    fn is_continued_by(&self, segment: &Segment) -> bool {
        let is_data = !segment.has(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) && !segment.is_empty();
        is_data
            && segment.start() == self.snd_nxt
            && !segment.header.bits.any(Bits::RESYNC | Bits::UNTIMED)
            && self.is_synchronised()
            && !self.marks.any(Marks::SECOND_ISN.and(Marks::ACKED_AHEAD).and(Marks::JOINS))
    }

    #[inline]
    fn continue_with(&mut self, segment: &Segment, pool: &mut Share<'_>) -> Sent {
        if self.marks.has(Marks::PEER_FOLLOWED) {
            self.heard_peer(segment, pool);
        }
        self.snd_nxt = segment.end();
        let transmission = Transmission {
            sent_at: segment.time(),
            start: segment.start(),
            end: segment.end(),
            tsval: segment.tsval(),
            syn: false,
            after_gap: false,
            acked_early: false,
        };
        let is_kept = self.outstanding.push_next(pool, transmission);
        Sent { pool_full: !is_kept, ..Sent::default() }
    }

    /// As [`Flow::sent`], whatever the flow's past.
    #[inline(never)]
    pub(super) fn weigh_sent(&mut self, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Sent {
        let mut sent = Sent::default();
        if segment.has(TcpFlags::RST) {
            // Rule 7: the peer still acknowledges what was sent before the reset.
            self.marks.set(Marks::RESET, true);
            return sent;
        }
        if segment.is_empty() {
            return sent;
        }
        if segment.has(TcpFlags::SYN) {
            // What was sent since the first is not known any more.
            let again = self.left_out() && self.local_isn() == Some(segment.start());
            let opens = self.opens(segment, pool);
            if again || !opens {
                return sent;
            }
        }
        // The classifier sees what it cannot hand over, and has compared this with it.
        let is_known_new = self.is_synchronised() && segment.header.bits.any(Bits::RESYNC);
        if segment.header.bits.any(Bits::RESYNC | Bits::UNTIMED) {
            // As rule 8: the source left out what went before. It knows that this is new.
            self.lose_track(pool);
            self.marks.set(Marks::LEFT_OUT, true);
        }
        if segment.header.bits.any(Bits::UNTIMED) {
            self.marks.set(Marks::FIN_SENT, self.marks.has(Marks::FIN_SENT) || segment.has(TcpFlags::FIN));
            return sent;
        }
        let (start, end) = (segment.start(), segment.end());
        if self.is_synchronised() && start.distance(self.snd_nxt) > LARGEST_WINDOW {
            self.restart(pool);
        }
        if self.marks.has(Marks::SECOND_ISN) && !segment.has(TcpFlags::SYN) {
            // The first segment after the handshake says with which of the numbers the connection goes on.
            self.marks.set(Marks::SECOND_ISN, false);
            if start != self.snd_nxt {
                self.marks.set(Marks::LOCAL_ISN, false);
                self.lose_track(pool);
            }
        }
        if self.marks.has(Marks::JOINS) {
            self.marks.set(Marks::JOINS, false);
            if limits.settles_after.is_some() && !is_known_new && !segment.has(TcpFlags::SYN) {
                self.join(segment.time());
            }
        }
        let begins = !self.is_synchronised();
        let is_missed = begins && self.marks.duplicates() >= DUPLICATE_ACKS && self.acked_ahead() == Some(start);
        if begins {
            self.marks.set_duplicates(0);
            // Rule 8: whatever was sent before, acknowledgements below this segment tell nothing of it, but that they are below.
            let is_known = segment.has(TcpFlags::SYN) || segment.header.bits.any(Bits::RESYNC);
            let acked = self.acked_ahead().filter(|acked| !is_known && !start.before(*acked));
            let acked = acked.filter(|acked| acked.distance(start) <= LARGEST_WINDOW);
            self.snd_una = acked.unwrap_or(start);
            self.snd_nxt = start;
            self.marks.set(Marks::SYNCHRONISED, true);
            self.marks.set(Marks::UNA_ASSUMED, acked.is_none() && !is_known);
        }
        if segment.has(TcpFlags::FIN) {
            self.marks.set(Marks::FIN_SENT, true);
        }

        if begins && limits.peers_complete {
            self.follow_acked_peer(segment, pool);
        } else if self.marks.has(Marks::PEER_FOLLOWED) {
            self.heard_peer(segment, pool);
        }
        if self.is_probe(start, end) {
            return sent;
        }
        if is_missed {
            // A fast retransmission (RFC 5681 section 3.2): rule 5, of what was sent before the first that is seen.
            sent.retransmission = true;
            self.snd_nxt = end;
            self.hole(end, pool);
            return sent;
        }
        // Rule 12.
        let acked_early = self.is_acked_early(start, pool);
        let again = start.before(self.snd_nxt);
        let transmission = Transmission {
            sent_at: segment.time(),
            start,
            end,
            tsval: segment.tsval(),
            syn: segment.has(TcpFlags::SYN),
            // If anything before the first is outstanding, it passed unseen.
            after_gap: start.after(self.snd_nxt) || begins && !segment.has(TcpFlags::SYN),
            acked_early,
        };
        if self.outstanding.would_mislead(again, limits.outstanding) {
            self.forget(pool);
        }
        let pushed = if !again {
            // Rule 1.
            self.snd_nxt = end;
            self.outstanding.push(pool, transmission, limits.outstanding)
        } else {
            // Rule 2.
            sent.retransmission = true;
            self.outstanding.doubt();
            self.set_recovery(Some(Recovery { point: self.snd_nxt, tsval: segment.tsval() }));
            self.snd_nxt = self.snd_nxt.max(end);
            if !end.after(self.snd_una) && !self.marks.has(Marks::UNA_ASSUMED) {
                return sent;
            }
            let hole = self.told_until().filter(|_| !self.marks.has(Marks::HOLE_KEPT));
            if let Some(hole) = hole.filter(|hole| start.before(*hole)) {
                // Rule 5: not even TSecr decides. What it carries beyond the hole goes the same way.
                self.set_hole_until(Some(hole.max(end)));
                self.marks.set(Marks::HOLE_BEYOND, self.marks.has(Marks::HOLE_BEYOND) && end.before(hole));
                return sent;
            }
            self.outstanding.push_again(pool, transmission, limits.outstanding)
        };
        sent.thinned = pushed == Pushed::Thinned;
        sent.pool_full = pushed == Pushed::PoolFull;
        debug_assert!(self.outstanding.len() <= limits.outstanding.max(1));
        sent
    }

    /// An inbound segment.
    ///
    /// One that carries payload, and follows another with the same acknowledgement number and window, changes nothing here: the
    /// classifier leaves such in the kernel. `tests/repeats.rs` holds the two together.
    #[inline]
    pub(super) fn received(&mut self, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Outcome {
        let is_plain = !segment.has(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST)
            && !segment.header.bits.any(Bits::UNTIMED | Bits::SACK_ABOVE | Bits::DSACK | Bits::RESYNC);
        let Some(ack) = segment.ack().filter(|_| is_plain) else { return self.weigh_received(segment, pool, limits) };
        if limits.peers_complete {
            self.follow_peer(segment);
        }
        let una = self.snd_una;
        if self.marks.are_usual() && ack.after(una) && !ack.after(self.snd_nxt) {
            let advance = Advance { una, told: una, ack, tsecr: segment.tsecr() };
            if let Some(found) = self.outstanding.acknowledge_in_order(pool, &advance) {
                self.snd_una = ack;
                self.window = segment.header.window;
                return self.time(&found, Proof::Alone, una, segment, limits);
            }
        }
        self.weigh_ack(ack, segment, pool, limits)
    }

    /// As [`Flow::received`], whatever the segment.
    #[inline(never)]
    fn weigh_received(&mut self, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Outcome {
        if segment.has(TcpFlags::RST) {
            // Rule 7. A reset's acknowledgement number acknowledges nothing that was received.
            self.outstanding.clear(pool);
            self.snd_una = self.snd_nxt;
            self.marks.set(Marks::RESET, true);
            return Outcome::Quiet(Quiet::Reset);
        }
        if segment.has(TcpFlags::SYN | TcpFlags::FIN) {
            if segment.has(TcpFlags::SYN) {
                self.is_opened(segment, pool);
            }
            self.marks.add(Marks::FIN_RECEIVED, segment.has(TcpFlags::FIN));
        }
        if limits.peers_complete {
            self.follow_peer(segment);
        }
        match segment.timed_ack() {
            Some(ack) => self.weigh_ack(ack, segment, pool, limits),
            None => Outcome::Quiet(Quiet::NoAck),
        }
    }

    /// What an inbound segment acknowledges, whatever the flow's past.
    #[inline(never)]
    fn weigh_ack(&mut self, ack: SeqNum, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Outcome {
        if !self.is_synchronised() {
            self.was_acked(segment.sent_before(ack));
            return Outcome::Quiet(Quiet::NothingSent);
        }
        if ack.after(self.snd_nxt) {
            if ack.distance(self.snd_nxt) <= LARGEST_WINDOW {
                self.was_acked(segment.sent_before(ack));
            }
            return Outcome::Rejected(Rejection::NeverSent);
        }
        if ack.before(self.snd_una) {
            let is_near = ack.distance(self.snd_una) <= LARGEST_WINDOW;
            if !self.marks.has(Marks::UNA_ASSUMED) || !is_near {
                if is_near && segment.header.bits.any(Bits::SACK_ABOVE) && self.snd_una != self.snd_nxt {
                    // Rule 5: the block may be of what is outstanding.
                    self.marks.set(Marks::SACK_IN_USE, true);
                    self.hole_above(pool);
                }
                return Outcome::Quiet(Quiet::Old);
            }
            // What was sent before the first that was seen is not acknowledged yet.
            self.snd_una = ack;
        }
        if self.marks.has(Marks::UNA_ASSUMED) {
            self.marks.set(Marks::UNA_ASSUMED, false);
        }
        let hole_above = segment.header.bits.any(Bits::SACK_ABOVE);
        if segment.header.bits.any(Bits::SACK_ABOVE | Bits::DSACK) {
            self.marks.set(Marks::SACK_IN_USE, true);
        }

        let outcome = if ack == self.snd_una {
            self.count_duplicate(segment, pool);
            Outcome::Quiet(Quiet::Duplicate)
        } else {
            if self.marks.duplicates() > 0 {
                self.marks.set_duplicates(0);
            }
            self.advance(ack, segment, pool, limits)
        };
        self.window = segment.header.window;
        if segment.header.bits.any(Bits::RESYNC) {
            self.marks.set(Marks::LEFT_OUT, false);
        }
        // Rule 5.
        if hole_above {
            self.hole_above(pool);
        } else if self.marks.duplicates() >= DUPLICATE_ACKS && self.snd_una != self.snd_nxt {
            self.hole(self.snd_nxt, pool);
        }
        outcome
    }

    /// Rules 3, 4, 6 and 10: an acknowledgement that advances `snd_una` within what was sent.
    fn advance(&mut self, ack: SeqNum, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Outcome {
        let una = std::mem::replace(&mut self.snd_una, ack);
        let matched = if self.marks.any(Marks::IN_DOUBT) || segment.header.bits.any(Bits::SACK_ABOVE | Bits::DSACK) {
            self.match_in_doubt(una, ack, segment, pool)
        } else {
            self.outstanding.acknowledge(pool, Advance { una, told: una, ack, tsecr: segment.tsecr() }).timed()
        };
        match matched {
            // Rule 8: which of its transmissions is acknowledged only the echo tells.
            Ok(Timed { transmission, .. })
                if self.may_repeat_unseen(&transmission, limits)
                    && !(transmission.tsval.is_some() && transmission.tsval == segment.tsecr()) =>
            {
                Outcome::Rejected(Rejection::Unseen)
            }
            Ok(Timed { transmission, proof }) => self.time(&transmission, proof, una, segment, limits),
            Err(rejection) => Outcome::Rejected(rejection),
        }
    }

    /// Rules 6 and 10: the sample that an acknowledgement is of what it `found`.
    #[inline]
    fn time(
        &mut self,
        found: &Transmission,
        proof: Proof,
        una: SeqNum,
        segment: &Segment,
        limits: FlowLimits,
    ) -> Outcome {
        let Some(rtt) = segment.time().since(found.sent_at) else {
            return Outcome::Rejected(Rejection::NotPositive);
        };
        if rtt > limits.longest {
            return Outcome::Rejected(Rejection::TooLong);
        }
        // Rule 6: by then the peer may have sent its SYN-ACK again.
        if found.syn && rtt >= INITIAL_TIMEOUT {
            return Outcome::Rejected(Rejection::Retransmitted);
        }
        let delayed = self.ack_delay.observe(rtt, self.is_alone(found, una, segment));
        Outcome::Sample(Sample {
            flow: segment.flow,
            acked_at: segment.time(),
            ack: self.snd_una,
            rtt,
            kind: if found.syn { Kind::Connect } else { Kind::Data },
            class: match found.end == self.snd_una {
                _ if proof == Proof::Timestamp => Class::Timestamp,
                true => Class::Exact,
                false => Class::Partial,
            },
            delayed,
        })
    }

    /// What an acknowledgement times by all that is known, and what else it settles.
    fn match_in_doubt(
        &mut self,
        una: SeqNum,
        ack: SeqNum,
        segment: &Segment,
        pool: &mut Share<'_>,
    ) -> Result<Timed, Rejection> {
        let (told, is_suspect) = (self.told_until(), self.suspects_hole());
        let is_closed = self.marks.has(Marks::HOLE_CLOSED) && !self.marks.has(Marks::RECORD_FULL);
        let hole_above = segment.header.bits.any(Bits::SACK_ABOVE);
        let in_hole = told.is_some_and(|hole| !ack.after(hole));
        // More than this was acknowledged before, by what was not seen to be sent: this was overtaken.
        let is_overtaken = self.acked_ahead().is_some_and(|ahead| ack.before(ahead));
        let told_before = self.acked_ahead().filter(|ahead| ahead.before(ack)).map_or(una, |ahead| ahead.max(una));
        let advance = Advance { una, told: told_before, ack, tsecr: segment.tsecr() };
        let found = self.outstanding.acknowledge(pool, advance);
        let ahead_doubted = self.acked_ahead().is_some() && self.marks.has(Marks::AHEAD_DOUBTED);
        let forgotten = matches!(found, Match::Forgotten) || in_hole && self.marks.has(Marks::RECORD_FULL);
        let leaves_recovery =
            self.recovery().filter(|recovery| una.before(recovery.point) && ack.after(recovery.point));
        self.settle(ack);
        self.marks.add(Marks::HOLE_CLOSED, self.marks.has(Marks::SACK_IN_USE) && !hole_above);
        if self.marks.has(Marks::HOLE_BEYOND) && !hole_above && self.hole_until() == Some(ack.plus(1)) {
            // What it holds above the hole is what was seen: all of that is acknowledged, and it holds nothing more.
            self.set_hole_until(None);
        }
        if self.marks.has(Marks::HOLE.and(Marks::HOLE_KEPT)) && !hole_above {
            // Rule 5: the receiver holds nothing above: what is outstanding still has not arrived, and waits for
            // nothing.
            self.set_hole_until(None);
            self.outstanding.absolve(pool);
        }
        if matches!(found, Match::AckedEarly) && !self.marks.has(Marks::AHEAD_DOUBTED) {
            // The peer says only now that it has this. If it says no more than that, what it said before was not true.
            self.set_acked_ahead(None);
        }
        // What is not on record any more may have been acknowledged early as well.
        self.marks.add(Marks::AHEAD_DOUBTED, forgotten && self.acked_ahead().is_some());
        match found {
            // Or else a segment behind the hole made a receiver speak that had kept the acknowledgement back.
            _ if in_hole || hole_above => Err(Rejection::Hole),
            Match::AckedEarly | Match::Unseen => Err(Rejection::Unseen),
            _ if is_overtaken => Err(Rejection::Unseen),
            // Rule 14: a segment that had arrived before caused it (RFC 2883 section 4).
            _ if segment.header.bits.any(Bits::DSACK) => Err(Rejection::Unseen),
            // Rule 15: what was missed may have been the first to say the same.
            _ if self.marks.has(Marks::PEER_MISSED) => Err(Rejection::Unseen),
            // TSecr may be the echo of something in the hole.
            Match::ByTimestamp(_) if told.is_some() => Err(Rejection::Hole),
            // The receiver has said that it holds nothing above what it acknowledged.
            // Rule 5: what was sent first cannot have waited for anything.
            Match::Clean(found) if is_suspect && !is_closed && found.start != una => Err(Rejection::Hole),
            // What was sent after the hole showed may have come before what filled it; unless TSecr is its echo.
            Match::Clean(found) if told.is_some() && !(found.tsval.is_some() && found.tsval == segment.tsecr()) => {
                Err(Rejection::Hole)
            }
            // From where on its echo would have to be is not known.
            Match::Clean(found) if ahead_doubted && found.tsval != segment.tsecr() => Err(Rejection::Unseen),
            Match::Clean(found) if leaves_recovery.is_some_and(|recovery| !recovery.is_told_from(&found, segment)) => {
                Err(Rejection::Recovery)
            }
            found => found.timed(),
        }
    }

    /// All below `ack` is acknowledged: what was known of it alone is not needed any more.
    fn settle(&mut self, ack: SeqNum) {
        self.set_hole_until(self.hole_until().filter(|hole| ack.before(*hole)));
        self.set_recovery(self.recovery().filter(|recovery| ack.before(recovery.point)));
        self.set_acked_ahead(self.acked_ahead().filter(|ahead| ack.before(*ahead)));
    }

    /// What is below was sent, by what the peer said, and was not seen to be sent yet: it will not be timed when it is, by another
    /// acknowledgement that says the same.
    fn was_acked(&mut self, ack: SeqNum) {
        let ahead = self.acked_ahead().filter(|ahead| ahead.distance(ack) <= LARGEST_WINDOW);
        self.set_acked_ahead(Some(ahead.map_or(ack, |ahead| ahead.max(ack))));
    }

    /// Whether what is sent from `start` on was acknowledged before.
    fn is_acked_early(&mut self, start: SeqNum, pool: &mut Share<'_>) -> bool {
        let Some(ahead) = self.acked_ahead() else { return false };
        if ahead.distance(start) > LARGEST_WINDOW {
            self.set_acked_ahead(None);
            return false;
        }
        if self.marks.has(Marks::AHEAD_DOUBTED) && self.snd_nxt.before(ahead) && self.snd_nxt.before(start) {
            // Either what is between was acknowledged, or it is a gap.
            self.forget(pool);
        }
        if start.before(ahead) {
            return true;
        }
        if self.snd_nxt.before(ahead) && !self.marks.has(Marks::AHEAD_DOUBTED) {
            // Both ends say that all below was sent; it passed unseen.
            let una = self.snd_una;
            self.outstanding.acknowledge(pool, Advance { una, told: una, ack: ahead, tsecr: None });
            (self.snd_una, self.snd_nxt) = (ahead, ahead);
            self.marks.set(Marks::UNA_ASSUMED, false);
            self.settle(ahead);
        }
        false
    }

    /// Rule 5: segments behind a hole were received long before the acknowledgement that will cover them.
    #[inline]
    fn hole(&mut self, until: SeqNum, pool: &mut Share<'_>) {
        // Where it is only assumed that all before the first segment is acknowledged, there may be a gap right before
        // that.
        let una = if self.marks.has(Marks::UNA_ASSUMED) { self.snd_una.minus(1) } else { self.snd_una };
        self.outstanding.void(pool, una);
        self.set_hole_until(Some(until));
        self.marks.set(Marks::OF_HOLE, false);
    }

    /// The receiver holds something above a hole, which need not have been seen to be sent yet.
    /// What is outstanding stays on record: the receiver will say when it holds nothing above any more, and what is
    /// acknowledged only after that has not waited.
    fn hole_above(&mut self, pool: &mut Share<'_>) {
        let until = self.snd_nxt.plus(1);
        if self.told_until().is_some() && !self.marks.has(Marks::HOLE_KEPT) {
            self.hole(until, pool);
        } else {
            self.set_hole_until(Some(until));
            self.marks.set(Marks::OF_HOLE, false);
            self.marks.set(Marks::HOLE_KEPT, true);
        }
        self.marks.set(Marks::HOLE_BEYOND, true);
    }

    /// The record is too full to be of use: as with a hole, but what is suspected of one stays so.
    fn forget(&mut self, pool: &mut Share<'_>) {
        let suspects_hole = self.suspects_hole();
        self.hole(self.snd_nxt, pool);
        self.marks.set(Marks::HOLE_SUSPECTED, suspects_hole);
        self.marks.set(Marks::HOLE_FORGOTTEN, suspects_hole);
        self.marks.set(Marks::RECORD_FULL, true);
    }

    /// Rule 7, outbound: a SYN or SYN-ACK with another initial sequence number is another connection. Whether the segment counts.
    fn opens(&mut self, segment: &Segment, pool: &mut Share<'_>) -> bool {
        let known_remote = self.remote_isn();
        if (self.is_synchronised() || self.left_out()) && self.local_isn() != Some(segment.start()) {
            let answers_the_same = segment.ack().is_some_and(|ack| known_remote == Some(ack.minus(1)));
            if answers_the_same && self.is_synchronised() {
                // A second answer to the same SYN, as SYN cookies and anycast make it. The peer takes one of them: the first that arrives,
                // which mostly is the one that was sent first. So that is followed until what is sent next says otherwise.
                let nothing_more_sent = self.local_isn().map(|isn| isn.plus(1)) == Some(self.snd_nxt);
                self.marks.add(Marks::SECOND_ISN, nothing_more_sent);
                return false;
            }
            self.restart(pool);
            self.set_remote_isn(known_remote);
        }
        self.set_local_isn(segment.start());
        // What was acknowledged before is of another connection, but for its own number.
        self.set_acked_ahead(self.acked_ahead().filter(|ahead| *ahead == segment.start().plus(1)));
        let offers = segment.header.bits.any(Bits::SACK_PERMITTED);
        self.marks.add(Marks::SACK_OFFERED, offers);
        if let Some(ack) = segment.ack() {
            // A SYN-ACK permits SACK only in answer to a SYN that did (RFC 2018 section 2).
            self.marks.add(Marks::SACK_IN_USE, offers);
            self.set_remote_isn(Some(ack.minus(1)));
        }
        true
    }

    /// Rule 7, inbound.
    fn is_opened(&mut self, segment: &Segment, pool: &mut Share<'_>) {
        let start = segment.start();
        let permits = segment.header.bits.any(Bits::SACK_PERMITTED);
        if segment.ack().is_some() {
            self.marks.add(Marks::SACK_IN_USE, permits && self.marks.has(Marks::SACK_OFFERED));
        } else if self.remote_isn() != Some(start) && !self.opening_simultaneously() {
            self.restart(pool);
        }
        self.set_remote_isn(Some(start));
    }

    /// Our SYN is out and nothing of the peer's was seen: its SYN crosses ours (RFC 9293 section 3.5).
    fn opening_simultaneously(&self) -> bool {
        self.remote_isn().is_none() && self.local_isn() == Some(self.snd_una) && self.snd_nxt == self.snd_una.plus(1)
    }

    /// Rule 1: a keep-alive repeats the last byte when all is acknowledged (RFC 9293 section 3.8.4).
    fn is_probe(&self, start: SeqNum, end: SeqNum) -> bool {
        self.snd_una == self.snd_nxt && start == self.snd_nxt.minus(1) && end == self.snd_nxt
    }

    /// Whether an acknowledgement without payload is of the one segment that was outstanding: a receiver may keep that back, but not the one of two
    /// (RFC 9293 section 3.8.6.3).
    fn is_alone(&self, found: &Transmission, una: SeqNum, ack: &Segment) -> bool {
        // Where records are left out, what seems alone need not have been.
        let all_told = !self.marks.has(Marks::LEFT_OUT);
        let alone = all_told && found.start == una && self.outstanding.is_empty() && self.snd_una == self.snd_nxt;
        alone && ack.is_empty() && !found.syn
    }

    /// Follows the peer's own sequence numbers: where they jump, something that it sent before was not seen, nor where
    /// the source says so.
    #[inline]
    fn follow_peer(&mut self, segment: &Segment) {
        if segment.start() == self.peer_nxt && self.marks.has(Marks::PEER_FOLLOWED) && !segment.has(TcpFlags::SYN) {
            self.peer_nxt = segment.end();
            self.marks.set(Marks::PEER_MISSED, segment.header.bits.any(Segment::MISSED_BEFORE));
        } else {
            self.find_peer(segment);
        }
    }

    /// As [`Flow::follow_peer`], where the segment is not the next one.
    #[inline(never)]
    fn find_peer(&mut self, segment: &Segment) {
        let (start, end) = (segment.start(), segment.end());
        let known = self.known(Marks::PEER_FOLLOWED, self.peer_nxt);
        // A SYN begins its numbers, and so does what is further away than any window.
        let known = known.filter(|nxt| !segment.has(TcpFlags::SYN) && start.distance(*nxt) <= LARGEST_WINDOW);
        self.peer_nxt = known.map_or(end, |nxt| nxt.max(end));
        self.marks.set(Marks::PEER_FOLLOWED, true);
        let missed = segment.header.bits.any(Segment::MISSED_BEFORE);
        self.marks.set(Marks::PEER_MISSED, missed || known.is_some_and(|nxt| start.after(nxt)));
    }

    /// What this end acknowledges had arrived before it sent this: it says nothing of this, nor of what comes after,
    /// seen or not. Of what is outstanding it may have been the first to say that it arrived.
    #[inline]
    fn heard_peer(&mut self, segment: &Segment, pool: &mut Share<'_>) {
        let is_unseen = |ack: &SeqNum| ack.after(self.peer_nxt) && ack.distance(self.peer_nxt) <= LARGEST_WINDOW;
        if let Some(ack) = segment.ack().filter(is_unseen) {
            self.peer_nxt = ack;
            self.outstanding.suspect(pool);
        }
    }

    /// The same where the peer may not have been followed so far: then it has sent what is acknowledged to it, and
    /// no more.
    fn follow_acked_peer(&mut self, segment: &Segment, pool: &mut Share<'_>) {
        if self.marks.has(Marks::PEER_FOLLOWED) {
            self.heard_peer(segment, pool);
        } else if let Some(ack) = segment.ack() {
            self.follow_peer_from(ack);
        }
    }

    /// Up to here the peer was seen to send.
    fn follow_peer_from(&mut self, nxt: SeqNum) {
        self.peer_nxt = nxt;
        self.marks.set(Marks::PEER_FOLLOWED, true);
    }

    /// What the peer had sent before the flow began.
    pub(super) fn follow_early(&mut self, early: Early) {
        early.ack.into_iter().for_each(|ack| self.was_acked(ack));
        early.peer_nxt.into_iter().for_each(|nxt| self.follow_peer_from(nxt));
        self.marks.set_duplicates(early.duplicates);
    }

    /// Rule 5, without SACK: no payload, same window, same number, data outstanding. One may tell of a hole, or mean nothing; three are sure.
    fn count_duplicate(&mut self, segment: &Segment, pool: &mut Share<'_>) {
        if !self.marks.has(Marks::SACK_IN_USE)
            && self.snd_una != self.snd_nxt
            && segment.is_empty()
            && segment.header.window == self.window
        {
            self.marks.set_duplicates(self.marks.duplicates() + 1);
            let is_told = self.told_until().is_some();
            let record_full = is_told && self.marks.has(Marks::RECORD_FULL);
            if is_told {
                self.hole(self.snd_nxt, pool);
            }
            self.marks.set(Marks::RECORD_FULL, record_full);
            self.set_hole_until(Some(self.snd_nxt));
            self.marks.set(Marks::HOLE_BEYOND, false);
            self.marks.set(Marks::HOLE_SUSPECTED, true);
            self.marks.set(Marks::HOLE_FORGOTTEN, is_told);
            self.marks.set(Marks::HOLE_CLOSED, false);
        }
    }

    /// Gives back what the flow holds of the pool that others may have, as it ends.
    #[inline]
    pub(super) fn release(&mut self, pool: &mut Share<'_>) {
        if self.outstanding.holds_common() {
            self.outstanding.clear(pool);
        }
    }
}

#[cfg(test)]
mod tests {
    use go_metro_common::segment::SegmentHeader;

    use super::super::outstanding::Pool;
    use super::super::{Addr, Endpoint, FlowKey, Side};
    use super::*;

    const LIMITS: FlowLimits =
        FlowLimits { outstanding: 4, longest: Rtt(u64::MAX), peers_complete: false, settles_after: None };

    #[test]
    fn a_flow_that_a_syn_opens_is_what_the_rules_make_of_it() {
        let end = Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 80 };
        let flow = FlowKey { local: end, remote: end, ifindex: 1, side: Side::Remote };
        let mut opened = 0;
        for (flags, bits) in (0..=u8::MAX).flat_map(|flags| (0..=u8::MAX).map(move |bits| (flags, bits))) {
            let (flags, bits) = (TcpFlags(flags), Bits(bits));
            let header = SegmentHeader {
                time_ns: 7,
                seq: 5,
                ack: 3,
                payload_len: 2,
                tsval: 9,
                flags,
                bits,
                ..Default::default()
            };
            let segment = Segment { flow, header };
            if !Flow::is_opened_alone(&segment, LIMITS) {
                continue;
            }
            opened += 1;
            let mut pools = [Pool::new(1, 8), Pool::new(1, 8)];
            pools.iter_mut().for_each(|pool| pool.make_room_for(0));
            let [short, long] = &mut pools;
            let (mut short, mut long) = (short.share(0), long.share(0));
            let (at_once, mut weighed) = (Flow::opened_alone(&segment, 3, &mut short), Flow::after_gaps(3));
            assert_eq!(weighed.weigh_sent(&segment, &mut long, LIMITS), Sent::default());
            assert_eq!(format!("{at_once:?}"), format!("{weighed:?}"), "{flags:?} {bits:?}");
            let advance = Advance { una: SeqNum(5), told: SeqNum(5), ack: segment.end(), tsecr: None };
            let [found, expected] = [(at_once, &mut short), (weighed, &mut long)]
                .map(|(mut flow, pool)| format!("{:?}", flow.outstanding.acknowledge(pool, advance)));
            assert_eq!(found, expected);
        }
        assert!(opened > 1000, "{opened}");
    }
}
