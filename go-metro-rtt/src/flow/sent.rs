//! What the local end sends (rules 1, 2, 5, 8, 9 and 11).

use bitflags::bitflags;
use go_metro_common::segment::{Bits, TcpFlags};

use super::{Flow, FlowFlags, FlowLimits, Known, Recovery, Ticks};
use crate::outstanding::{Queue, Room, Share, Transmission};
use crate::segment::Continuity;
use crate::seq::LARGEST_WINDOW;
use crate::{Nanos, Segment, SeqNum};

bitflags! {
    /// What was known when something was sent again.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Again: u8 {
        /// It starts with the first byte that is not acknowledged.
        const HEAD = 1 << 0;
        /// It ends with the last byte that was sent.
        const TAIL = 1 << 1;
        /// The receiver had shown a hole.
        const SHOWN = 1 << 2;
        /// SACK is in use, as far as that is known.
        const SACK = 1 << 3;
        /// All of it had been acknowledged.
        const ACKNOWLEDGED = 1 << 4;
        /// It carries what was not sent before, too.
        const BRINGS_MORE = 1 << 5;
    }
}

/// What the outbound side of a flow did, for the engine's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// It was a retransmission.
    pub(crate) again: Option<Again>,
    /// It was a probe of the other end, or of its window.
    pub(crate) probe: bool,
    /// Others were dropped from the record to make room.
    pub(crate) thinned: bool,
    /// It could not be recorded: the pool is exhausted.
    pub(crate) pool_full: bool,
}

/// What a flow makes of most segments.
impl Flow {
    /// Whether this segment, the first that is seen of a flow, begins it and is all there is to know of it.
    #[inline]
    pub(crate) fn is_opened_alone(segment: &Segment, limits: FlowLimits) -> bool {
        segment.has(TcpFlags::SYN) && !segment.has(TcpFlags::RST) && segment.is_whole() && !limits.peers_complete
    }

    /// The flow that begins so: what [`Flow::weigh_sent`] makes of one of which nothing was seen yet, without looking
    /// at what it cannot hold. In a flood of SYNs most flows are this and nothing more.
    #[inline]
    pub(crate) fn opened_alone(segment: &Segment, gaps: u8, pool: &mut Share<'_>) -> Self {
        let (start, end, answered) = (segment.start(), segment.end(), segment.ack());
        let offers = segment.header.bits.any(Bits::SACK_PERMITTED);
        let mut flags = FlowFlags::SYNCHRONISED;
        flags.insert_if(FlowFlags::SACK_OFFERED, offers);
        flags.insert_if(FlowFlags::BEGAN, answered.is_none());
        flags.insert_if(FlowFlags::SACK_IN_USE, offers && answered.is_some());
        flags.insert_if(FlowFlags::FIN_SENT, segment.has(TcpFlags::FIN));
        Self {
            snd_una: start,
            snd_nxt: end,
            outstanding: Queue::of_first(pool, transmission(segment), gaps),
            local_isn: start,
            remote_isn: answered.map(|ack| ack.minus(1)).unwrap_or_default(),
            known: if answered.is_some() { Known::LOCAL_ISN | Known::REMOTE_ISN } else { Known::LOCAL_ISN },
            flags,
            ..Self::NEW
        }
    }

    /// An outbound segment that occupies sequence space or resets.
    #[inline]
    pub(crate) fn sent(&mut self, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Sent {
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
            && segment.is_whole()
            && self.is_synchronised()
            && !self.flags.intersects(FlowFlags::SECOND_ISN | FlowFlags::JOINS)
            && !self.known.contains(Known::ACKED_AHEAD)
            && !self.probes_window(segment)
    }

    #[inline]
    fn continue_with(&mut self, segment: &Segment, pool: &mut Share<'_>) -> Sent {
        if self.known.contains(Known::PEER_NXT) {
            self.heard_peer(segment, pool);
        }
        self.snd_nxt = segment.end();
        let is_kept = self.outstanding.push(pool, transmission(segment));
        Sent { pool_full: !is_kept, ..Sent::default() }
    }
}

/// What it makes of all others.
impl Flow {
    /// As [`Flow::sent`], whatever the flow's past.
    #[inline(never)]
    pub(crate) fn weigh_sent(&mut self, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Sent {
        let mut sent = Sent::default();
        if segment.has(TcpFlags::RST) {
            // Rule 7: the peer still acknowledges what was sent before the reset.
            let answers_older = self.awaits_answer() && ![self.snd_una, self.snd_nxt].contains(&segment.start());
            self.flags.insert_if(FlowFlags::RESET, !answers_older);
            return sent;
        }
        // Our SYN's number again: another attempt, or the answer to a SYN that crossed ours.
        let is_first = segment.has(TcpFlags::SYN) && (self.is_reset() || self.is_crossing(segment));
        if segment.is_empty() || segment.has(TcpFlags::SYN) && !self.is_new_syn(segment, pool) {
            return sent;
        }
        let is_known_new = self.is_synchronised() && segment.continuity() == Continuity::Resumes;
        if !segment.is_whole() {
            self.gap(pool);
        }
        if segment.continuity() == Continuity::FlagsOnly {
            self.flags.insert_if(FlowFlags::FIN_SENT, segment.has(TcpFlags::FIN));
            return sent;
        }
        let (start, end) = (segment.start(), segment.end());
        if self.is_synchronised() && start.distance(self.snd_nxt) > LARGEST_WINDOW {
            self.restart(pool);
        }
        if !segment.has(TcpFlags::SYN) {
            self.choose_isn(start, pool);
        }
        if self.flags.contains(FlowFlags::JOINS) {
            self.flags.remove(FlowFlags::JOINS);
            if limits.settles_after.is_some() && !is_known_new && !segment.has(TcpFlags::SYN) {
                self.join(segment.time());
            }
        }
        let begins = !self.is_synchronised();
        // Three duplicates of the acknowledgement before it: a fast retransmission (RFC 5681 section 3.2).
        let is_missed = begins && self.duplicates_show_hole() && self.acked_ahead() == Some(start);
        if begins {
            self.synchronise(segment);
        }
        self.flags.insert_if(FlowFlags::FIN_SENT, segment.has(TcpFlags::FIN));
        if begins && limits.peers_complete {
            self.follow_acked_peer(segment, pool);
        } else if self.known.contains(Known::PEER_NXT) {
            self.heard_peer(segment, pool);
        }
        if self.is_keep_alive(start, end) {
            // Or a SYN-ACK or FIN again, whose acknowledgement came meanwhile: neither probes anything.
            let is_syn_again = segment.has(TcpFlags::SYN) && !self.flags.contains(FlowFlags::BEGAN);
            let is_again = is_syn_again || segment.has(TcpFlags::FIN);
            sent.probe = !segment.has(TcpFlags::SYN | TcpFlags::FIN);
            sent.again = is_again.then(|| self.evidence(start, end) | Again::HEAD);
            return sent;
        }
        if is_missed {
            // Rule 5: of what was sent before the first that is seen.
            sent.again = Some(Again::HEAD | Again::SHOWN);
            self.snd_nxt = end;
            self.enter_hole(end, pool);
            return sent;
        }
        // Rule 12.
        let acked_early = self.is_acked_early(start, pool);
        let transmission = Transmission {
            // Rule 11, and rule 8: if anything before the first is outstanding, it passed unseen.
            after_gap: start.after(self.snd_nxt) || begins && !segment.has(TcpFlags::SYN),
            acked_early,
            ..transmission(segment)
        };
        // Rule 2: what starts below was sent before.
        let again = start.before(self.snd_nxt);
        let evidence = self.evidence(start, end);
        // The stack gives several that it sends at once one time, and if it changes processors between two of them,
        // they may come in another order. Where it repairs a loss, several that were sent before have one time, too.
        let is_overtaken = again && self.outstanding.overtakes(pool, (start, end), segment.time());
        // Rule 9.
        let room = self.outstanding.make_room(pool, again, limits.outstanding);
        if room == Room::Useless {
            self.record_is_useless(pool);
        }
        let is_kept = if again {
            sent.probe = self.probes_window(segment);
            let follows_probe = self.follows_probe(start);
            if !sent.probe {
                self.known.remove(Known::PROBED);
            }
            let is_first = is_first || is_overtaken || sent.probe || follows_probe;
            sent.again = (!is_first).then_some(evidence);
            self.retransmit(&transmission, pool)
        } else {
            // Rule 1.
            sent.probe = !begins && self.probes_window(segment);
            if sent.probe {
                self.known.insert(Known::PROBED);
            }
            self.snd_nxt = end;
            self.outstanding.push(pool, transmission)
        };
        sent.thinned = room == Room::Thinned;
        sent.pool_full = !is_kept;
        debug_assert!(self.outstanding.len() <= limits.outstanding.max(1));
        sent
    }

    /// Rule 8: a flow begins with this segment. Whatever was sent before, acknowledgements below it say nothing of it
    /// but that they are below.
    fn synchronise(&mut self, segment: &Segment) {
        let start = segment.start();
        self.flags.set_duplicates(0);
        let is_known = segment.has(TcpFlags::SYN) || segment.continuity() == Continuity::Resumes;
        let acked = self.acked_ahead().filter(|acked| !is_known && !start.before(*acked));
        let acked = acked.filter(|acked| acked.distance(start) <= LARGEST_WINDOW);
        self.snd_una = acked.unwrap_or(start);
        self.snd_nxt = start;
        self.flags.insert(FlowFlags::SYNCHRONISED);
        self.flags.set(FlowFlags::UNA_ASSUMED, acked.is_none() && !is_known);
    }

    /// What is known of why this is sent again, if it is.
    fn evidence(&self, start: SeqNum, end: SeqNum) -> Again {
        let shows_hole = self.hole.certain().is_some() && !self.hole.is_record_full() || self.duplicates_show_hole();
        let mut evidence = Again::empty();
        evidence.set(Again::HEAD, start == self.snd_una);
        evidence.set(Again::TAIL, end == self.snd_nxt);
        evidence.set(Again::SHOWN, shows_hole);
        evidence.set(Again::SACK, self.uses_sack());
        // After a reset nothing is waited for.
        let is_unknown = self.flags.contains(FlowFlags::UNA_ASSUMED) || self.is_reset();
        evidence.set(Again::ACKNOWLEDGED, !end.after(self.snd_una) && !is_unknown);
        evidence.set(Again::BRINGS_MORE, end.after(self.snd_nxt));
        evidence
    }

    /// Rule 2: from now on neither this nor what was sent before it is timed without a proof. Whether it is on record,
    /// if it has to be.
    fn retransmit(&mut self, transmission: &Transmission, pool: &mut Share<'_>) -> bool {
        let Transmission { start, end, tsval, .. } = *transmission;
        self.outstanding.note_retransmission();
        self.set_recovery(Some(Recovery { point: self.snd_nxt, tsval }));
        self.snd_nxt = self.snd_nxt.max(end);
        if !end.after(self.snd_una) && !self.flags.contains(FlowFlags::UNA_ASSUMED) {
            return true;
        }
        if self.hole.certain_and_off_record().is_some_and(|hole| start.before(hole)) {
            // Rule 5: not even TSecr decides.
            self.hole.extend(end);
            return true;
        }
        self.outstanding.push_again(pool, *transmission)
    }

    /// Rule 1: a keep-alive repeats the last byte when all is acknowledged (RFC 9293 section 3.8.4).
    fn is_keep_alive(&self, start: SeqNum, end: SeqNum) -> bool {
        self.snd_una == self.snd_nxt && start == self.snd_nxt.minus(1) && end == self.snd_nxt
    }

    /// Rule 1: the first byte that is not acknowledged, sent while there is no room for it, probes the window (RFC 9293
    /// section 3.8.6.1).
    #[inline]
    fn probes_window(&self, segment: &Segment) -> bool {
        let is_byte = segment.len() == 1 && segment.start() == self.snd_una;
        let is_known = !self.flags.contains(FlowFlags::UNA_ASSUMED) && self.local_isn() != Some(self.snd_una);
        is_byte && is_known && self.window == 0 && !segment.has(TcpFlags::SYN | TcpFlags::FIN)
    }

    /// What a window was probed with is sent as data, with what follows it if anything does, now that there is room.
    fn follows_probe(&self, start: SeqNum) -> bool {
        let is_only = self.snd_nxt == self.snd_una.plus(1) && self.known.contains(Known::PROBED);
        is_only && start == self.snd_una
    }

    /// Rule 8: the first segment is seen of what was sent before, at this time. Then our initial sequence number is of
    /// no use any more, and its place is that of the time.
    fn join(&mut self, at: Nanos) {
        self.known.remove(Known::LOCAL_ISN);
        self.flags.insert(FlowFlags::UNSETTLED);
        self.local_isn = SeqNum(Ticks::of(at).0);
    }

    /// Rule 8: whether this may be a retransmission of what was sent before the flow was joined; later ones are not,
    /// once one is not.
    pub(super) fn may_repeat_unseen(&mut self, transmission: &Transmission, limits: FlowLimits) -> bool {
        let is_unsettled = self.flags.contains(FlowFlags::UNSETTLED);
        let Some(Ticks(span)) = limits.settles_after.filter(|_| is_unsettled) else { return false };
        let since = Ticks::of(transmission.sent_at).0.wrapping_sub(self.local_isn.0);
        let is_unsettled = since as i32 <= span as i32;
        self.flags.set(FlowFlags::UNSETTLED, is_unsettled);
        is_unsettled
    }
}

/// The transmission of this segment, where nothing was missed before it.
#[inline]
fn transmission(segment: &Segment) -> Transmission {
    Transmission {
        sent_at: segment.time(),
        start: segment.start(),
        end: segment.end(),
        tsval: segment.tsval(),
        syn: segment.has(TcpFlags::SYN),
        after_gap: false,
        acked_early: false,
    }
}
