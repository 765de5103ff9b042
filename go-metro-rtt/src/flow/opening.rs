//! Rule 7: how connections open, and another one on the same ports (RFC 9293 section 3.5).

use go_metro_common::segment::Bits;

use super::{Flow, FlowFlags, Known};
use crate::outstanding::Share;
use crate::{Segment, SeqNum};

impl Flow {
    /// A SYN or SYN-ACK of this end. Whether it is one to time.
    pub(super) fn is_new_syn(&mut self, segment: &Segment, pool: &mut Share<'_>) -> bool {
        // What was sent since the first is not known any more.
        let is_repeated = self.is_in_sampling_gap() && self.local_isn() == Some(segment.start());
        self.open(segment, pool) && !is_repeated
    }

    /// A SYN or SYN-ACK with another initial sequence number is another connection. Whether the segment counts.
    fn open(&mut self, segment: &Segment, pool: &mut Share<'_>) -> bool {
        let remote_isn = self.remote_isn();
        let has_isn = self.is_synchronised() || self.is_in_sampling_gap();
        if has_isn && self.local_isn() != Some(segment.start()) {
            let answers_the_same =
                segment.ack().is_some_and(|ack| remote_isn == Some(ack.minus(1))) && !self.is_reset();
            if answers_the_same && self.is_synchronised() {
                // A second answer to the same SYN, as SYN cookies and anycast make it. The peer takes one of them: the
                // first that arrives, which mostly is the one that was sent first. So that is followed until what is
                // sent next says otherwise.
                let nothing_more_sent = self.local_isn().map(|isn| isn.plus(1)) == Some(self.snd_nxt);
                self.flags.insert_if(FlowFlags::SECOND_ISN, nothing_more_sent);
                return false;
            }
            self.restart(pool);
            self.set_remote_isn(remote_isn);
        }
        self.set_local_isn(segment.start());
        if segment.ack().is_none() {
            self.flags.remove(FlowFlags::RESET);
        }
        // What was acknowledged before is of another connection, but for its own number.
        self.set_acked_ahead(self.acked_ahead().filter(|ahead| *ahead == segment.start().plus(1)));
        let offers = segment.header.bits.any(Bits::SACK_PERMITTED);
        self.flags.insert_if(FlowFlags::SACK_OFFERED, offers);
        self.flags.insert_if(FlowFlags::BEGAN, segment.ack().is_none());
        if let Some(ack) = segment.ack() {
            // A SYN-ACK permits SACK only in answer to a SYN that did (RFC 2018 section 2).
            self.flags.insert_if(FlowFlags::SACK_IN_USE, offers);
            self.set_remote_isn(Some(ack.minus(1)));
        }
        true
    }

    /// After two SYN-ACKs the first segment after the handshake, which starts here, shows with which of the numbers the
    /// connection goes on.
    pub(super) fn choose_isn(&mut self, start: SeqNum, pool: &mut Share<'_>) {
        if !self.flags.contains(FlowFlags::SECOND_ISN) {
            return;
        }
        self.flags.remove(FlowFlags::SECOND_ISN);
        if start != self.snd_nxt {
            self.known.remove(Known::LOCAL_ISN);
            self.lose_track(pool);
        }
    }

    /// A SYN or SYN-ACK of the peer.
    pub(super) fn peer_opens(&mut self, segment: &Segment, pool: &mut Share<'_>) {
        let start = segment.start();
        let permits = segment.header.bits.any(Bits::SACK_PERMITTED);
        if segment.ack().is_some() {
            self.flags.insert_if(FlowFlags::SACK_IN_USE, permits && self.flags.contains(FlowFlags::SACK_OFFERED));
        } else if (self.remote_isn() != Some(start) || self.is_reset()) && !self.opens_simultaneously() {
            self.restart(pool);
        }
        self.set_remote_isn(Some(start));
    }

    /// Our SYN is out and not answered (SYN-SENT of RFC 9293 section 3.3.2).
    pub(super) fn awaits_answer(&self) -> bool {
        let began = self.is_synchronised() && self.flags.contains(FlowFlags::BEGAN);
        began && self.local_isn() == Some(self.snd_una) && self.snd_nxt != self.snd_una
    }

    /// A SYN-ACK with the number of our SYN: both ends have opened at once (RFC 9293 section 3.5).
    pub(crate) fn is_crossing(&self, segment: &Segment) -> bool {
        let has_number = self.flags.contains(FlowFlags::BEGAN) && self.local_isn() == Some(segment.start());
        has_number && segment.ack().is_some()
    }

    /// Whether a SYN or SYN-ACK is of the connection that is followed.
    pub(crate) fn is_opened_by(&self, segment: &Segment) -> bool {
        self.local_isn() == Some(segment.start())
    }

    /// Our SYN is out and nothing of the peer's was seen: its SYN crosses ours (RFC 9293 section 3.5).
    fn opens_simultaneously(&self) -> bool {
        self.remote_isn().is_none() && self.local_isn() == Some(self.snd_una) && self.snd_nxt == self.snd_una.plus(1)
    }
}
