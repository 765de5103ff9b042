//! Rule 15: the peer's own sequence numbers, to notice what it sent and was not captured.

use go_metro_common::segment::TcpFlags;

use super::{Flow, FlowFlags};
use crate::early::Early;
use crate::outstanding::Share;
use crate::seq::LARGEST_WINDOW;
use crate::{Segment, SeqNum};

impl Flow {
    /// Follows the peer's own sequence numbers: where they jump, something that it sent before was not seen, nor where
    /// the source says so.
    #[inline]
    pub(super) fn follow_peer(&mut self, segment: &Segment) {
        if self.peer_nxt() == Some(segment.start()) && !segment.has(TcpFlags::SYN) {
            self.peer_nxt = segment.end();
            self.flags.set(FlowFlags::PEER_MISSED, segment.header.bits.any(Segment::MISSED_BEFORE));
        } else {
            self.find_peer(segment);
        }
    }

    /// As [`Flow::follow_peer`], where the segment is not the next one.
    #[inline(never)]
    fn find_peer(&mut self, segment: &Segment) {
        let (start, end) = (segment.start(), segment.end());
        // A SYN begins its numbers, and so does what is further away than any window.
        let known = self.peer_nxt().filter(|nxt| !segment.has(TcpFlags::SYN) && start.distance(*nxt) <= LARGEST_WINDOW);
        self.set_peer_nxt(known.map_or(end, |nxt| nxt.max(end)));
        let missed = segment.header.bits.any(Segment::MISSED_BEFORE);
        self.flags.set(FlowFlags::PEER_MISSED, missed || known.is_some_and(|nxt| start.after(nxt)));
    }

    /// What this end acknowledges had arrived before it sent this: it says nothing of this, nor of what comes after,
    /// seen or not. Of what is outstanding it may have been the first to say that it arrived.
    #[inline]
    pub(super) fn heard_peer(&mut self, segment: &Segment, pool: &mut Share<'_>) {
        let is_unseen = |ack: &SeqNum| ack.after(self.peer_nxt) && ack.distance(self.peer_nxt) <= LARGEST_WINDOW;
        if let Some(ack) = segment.ack().filter(is_unseen) {
            self.peer_nxt = ack;
            self.outstanding.mark_maybe_acked(pool);
        }
    }

    /// The same where the peer may not have been followed so far: then it has sent what is acknowledged to it, and
    /// no more.
    pub(super) fn follow_acked_peer(&mut self, segment: &Segment, pool: &mut Share<'_>) {
        if self.peer_nxt().is_some() {
            self.heard_peer(segment, pool);
        } else if let Some(ack) = segment.ack() {
            self.set_peer_nxt(ack);
        }
    }

    /// What the peer had sent before the flow began.
    pub(crate) fn follow_early(&mut self, early: Early) {
        early.ack.into_iter().for_each(|ack| self.was_acked(ack));
        early.peer_nxt.into_iter().for_each(|nxt| self.set_peer_nxt(nxt));
        self.flags.set_duplicates(early.duplicates);
    }
}
