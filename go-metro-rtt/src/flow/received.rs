//! What the peer sends, and what it acknowledges (rules 2 to 8, 10 and 11 to 15).

use go_metro_common::segment::{Bits, TcpFlags};

use super::{Flow, FlowFlags, FlowLimits};
use crate::outstanding::{Advance, Match, Proof, Share, Timed, Transmission};
use crate::place::Place;
use crate::segment::Continuity;
use crate::seq::LARGEST_WINDOW;
use crate::{Class, Kind, Label, Outcome, Quiet, Rejection, Rtt, Sample, Segment, SeqNum};

/// What a SYN-ACK waits for its acknowledgement before it is sent again, at least (RFC 6298 sections 2 and 5.7).
const INITIAL_TIMEOUT: Rtt = Rtt(1_000_000_000);

impl Flow {
    /// An inbound segment.
    ///
    /// Where it only acknowledges what was sent once and in order, and neither it nor what is known of the flow says
    /// anything else of how well that does, there is nothing to weigh. Otherwise `weighs` sees the flow as it was.
    ///
    /// One that carries payload, and follows another with the same acknowledgement number and window, changes nothing
    /// here: the classifier leaves such in the kernel. go-metro-userspace's `tests/repeats.rs` holds the two together.
    #[inline]
    pub(crate) fn received(
        &mut self,
        segment: &Segment,
        pool: &mut Share<'_>,
        limits: FlowLimits,
        weighs: impl FnOnce(&Self),
    ) -> Outcome {
        let (una, ack) = (self.snd_una, SeqNum(segment.header.ack));
        let is_next = |peer_nxt| peer_nxt == Some(segment.start());
        if segment.has(TcpFlags::ACK)
            && segment.is_plain()
            && segment.is_whole()
            && self.is_usual()
            && self.window != 0
            && ack.after(una)
            && !ack.after(self.snd_nxt)
            && (!limits.peers_complete || is_next(self.peer_nxt()))
        {
            let advance = Advance { una, una_claimed: una, ack, tsecr: segment.tsecr() };
            if let Some(found) = self.outstanding.acknowledge_in_order(pool, &advance) {
                if limits.peers_complete {
                    self.peer_nxt = segment.end();
                }
                self.snd_una = ack;
                self.window = segment.header.window;
                return self.time(&found, Proof::Alone, una, segment, limits);
            }
        }
        weighs(self);
        self.weigh_received(segment, pool, limits)
    }

    /// As [`Flow::received`], whatever the segment and the flow's past.
    #[inline(never)]
    fn weigh_received(&mut self, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Outcome {
        if segment.has(TcpFlags::RST) {
            // Rule 7 (RFC 9293 section 3.10.7.3): no answer to our SYN, so it is dropped.
            let is_answer = |ack: SeqNum| ack.after(self.snd_una) && !ack.after(self.snd_nxt);
            if self.awaits_answer() && !segment.ack().is_some_and(is_answer) {
                return Outcome::Quiet(Quiet::Reset);
            }
            // Rule 7 (RFC 9293 section 3.10.7): its acknowledgement number acknowledges nothing that was received.
            self.outstanding.clear(pool);
            self.snd_una = self.snd_nxt;
            self.flags.insert(FlowFlags::RESET);
            return Outcome::Quiet(Quiet::Reset);
        }
        if segment.has(TcpFlags::SYN) {
            self.peer_opens(segment, pool);
        }
        self.flags.insert_if(FlowFlags::FIN_RECEIVED, segment.has(TcpFlags::FIN));
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
        let bits = segment.header.bits;
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
            if !self.flags.contains(FlowFlags::UNA_ASSUMED) || !is_near {
                if is_near && bits.any(Bits::SACK_ABOVE) && self.snd_una != self.snd_nxt {
                    // Rule 5: the block may be of what is outstanding.
                    self.flags.insert(FlowFlags::SACK_IN_USE);
                    self.hole_reported(pool);
                }
                return Outcome::Quiet(Quiet::Old);
            }
            // Rule 8: what was sent before the first that was seen is not acknowledged yet.
            self.snd_una = ack;
        }
        self.flags.remove(FlowFlags::UNA_ASSUMED);
        self.flags.insert_if(FlowFlags::SACK_IN_USE, bits.any(Bits::SACK_ABOVE | Bits::DSACK));

        let outcome = if ack == self.snd_una {
            self.count_duplicate(segment, pool);
            Outcome::Quiet(Quiet::Duplicate)
        } else {
            self.flags.set_duplicates(0);
            self.advance(ack, segment, pool, limits)
        };
        self.window = segment.header.window;
        if segment.continuity() == Continuity::Resumes {
            self.flags.remove(FlowFlags::SAMPLED);
        }
        // Rule 5.
        if bits.any(Bits::SACK_ABOVE) {
            self.hole_reported(pool);
        } else if self.duplicates_show_hole() && self.snd_una != self.snd_nxt {
            self.enter_hole(self.snd_nxt, pool);
        }
        outcome
    }

    /// An acknowledgement that advances `snd_una` within what was sent.
    fn advance(&mut self, ack: SeqNum, segment: &Segment, pool: &mut Share<'_>, limits: FlowLimits) -> Outcome {
        let una = std::mem::replace(&mut self.snd_una, ack);
        let matched = if self.is_in_doubt() || segment.header.bits.any(Bits::SACK_ABOVE | Bits::DSACK) {
            self.match_in_doubt(una, ack, segment, pool)
        } else {
            self.outstanding.acknowledge(pool, Advance { una, una_claimed: una, ack, tsecr: segment.tsecr() }).timed()
        };
        match matched {
            // Rule 8: only the echo shows which of its transmissions is acknowledged.
            Ok(Timed { transmission, .. })
                if self.may_repeat_unseen(&transmission, limits) && !segment.echoes(&transmission) =>
            {
                Outcome::Rejected(Rejection::Unseen)
            }
            Ok(Timed { transmission, proof }) => self.time(&transmission, proof, una, segment, limits),
            Err(rejection) => Outcome::Rejected(rejection),
        }
    }

    /// What an acknowledgement times by all that is known, and what else it settles.
    fn match_in_doubt(
        &mut self,
        una: SeqNum,
        ack: SeqNum,
        segment: &Segment,
        pool: &mut Share<'_>,
    ) -> Result<Timed, Rejection> {
        let hole = self.hole;
        let reports_hole = segment.header.bits.any(Bits::SACK_ABOVE);
        let is_in_hole = hole.certain().is_some_and(|hole| !ack.after(hole));
        // More than this was acknowledged before, by what was not seen to be sent: this was overtaken.
        let is_overtaken = self.acked_ahead().is_some_and(|ahead| ack.before(ahead));
        let una_claimed = self.acked_ahead().filter(|ahead| ahead.before(ack)).map_or(una, |ahead| ahead.max(una));
        let advance = Advance { una, una_claimed, ack, tsecr: segment.tsecr() };
        let found = self.outstanding.acknowledge(pool, advance);
        let is_ahead_doubted = self.acked_ahead().is_some() && self.flags.contains(FlowFlags::AHEAD_DOUBTED);
        let was_dropped = matches!(found, Match::Dropped) || is_in_hole && hole.is_record_full();
        let leaves_recovery =
            self.recovery().filter(|recovery| una.before(recovery.point) && ack.after(recovery.point));
        self.settle(ack);
        self.hole_advances(ack, reports_hole, pool);
        self.settle_ahead(matches!(found, Match::AckedEarly), was_dropped);
        match found {
            // Rule 5: what arrived behind a hole made the receiver speak, or it had kept the acknowledgement back.
            _ if is_in_hole || reports_hole => Err(Rejection::Hole),
            // Rules 12, 13 and 11.
            Match::AckedEarly | Match::Unseen => Err(Rejection::Unseen),
            _ if is_overtaken => Err(Rejection::Unseen),
            // Rule 14 (RFC 2883 section 4): a segment that had arrived before caused it.
            _ if segment.header.bits.any(Bits::DSACK) => Err(Rejection::Unseen),
            // Rule 15: what was missed may have been the first to say the same.
            _ if self.flags.contains(FlowFlags::PEER_MISSED) => Err(Rejection::Unseen),
            // Rule 5: TSecr may be the echo of something in the hole.
            Match::ByTimestamp(_) if hole.certain().is_some() => Err(Rejection::Hole),
            // Rule 5: only what was sent first cannot have waited for anything, unless the receiver has said since that
            // it holds nothing above what it acknowledged.
            Match::Clean(found) if hole.is_suspected() && !hole.is_closed() && found.start != una => {
                Err(Rejection::Hole)
            }
            // Rule 5: what was sent after the hole showed may have come before what filled it; unless TSecr is its
            // echo.
            Match::Clean(found) if hole.certain().is_some() && !segment.echoes(&found) => Err(Rejection::Hole),
            // Rule 12: from where on its echo would have to be is not known.
            Match::Clean(found) if is_ahead_doubted && found.tsval != segment.tsecr() => Err(Rejection::Unseen),
            // Rule 2 (RFC 6675 section 2).
            Match::Clean(found)
                if leaves_recovery.is_some_and(|recovery| !recovery.is_ruled_out_by(&found, segment)) =>
            {
                Err(Rejection::Recovery)
            }
            found => found.timed(),
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
        // Rule 10.
        let Some(rtt) = segment.time().since(found.sent_at) else {
            return Outcome::Rejected(Rejection::NotPositive);
        };
        if rtt > limits.longest {
            return Outcome::Rejected(Rejection::TooLong);
        }
        // Rule 6 (RFC 6298 section 5.7): by then the peer may have sent its SYN-ACK again.
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
            // The engine knows where it belongs.
            label: Label::NONE,
            place: Place::default(),
        })
    }

    /// Whether an acknowledgement without payload is of the one segment that was outstanding: a receiver may keep that
    /// back, but not the one of two (RFC 9293 section 3.8.6.3).
    fn is_alone(&self, found: &Transmission, una: SeqNum, ack: &Segment) -> bool {
        // Where segments were left out, what seems alone need not have been.
        let is_whole = !self.flags.contains(FlowFlags::SAMPLED);
        let alone = is_whole && found.start == una && self.outstanding.is_empty() && self.snd_una == self.snd_nxt;
        alone && ack.is_empty() && !found.syn
    }
}

impl Segment {
    /// Whether its TSecr is the echo of this transmission's TSval.
    fn echoes(&self, transmission: &Transmission) -> bool {
        transmission.tsval.is_some() && transmission.tsval == self.tsecr()
    }
}
