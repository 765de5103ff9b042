//! Rule 12: what was acknowledged before it was seen to be sent.

use super::{Flow, FlowFlags};
use crate::SeqNum;
use crate::outstanding::{Advance, Share};
use crate::seq::LARGEST_WINDOW;

impl Flow {
    /// What is below was sent, according to the peer, and was not seen to be sent yet: when it is, another
    /// acknowledgement that says the same will not time it.
    pub(super) fn was_acked(&mut self, ack: SeqNum) {
        let ahead = self.acked_ahead().filter(|ahead| ahead.distance(ack) <= LARGEST_WINDOW);
        self.set_acked_ahead(Some(ahead.map_or(ack, |ahead| ahead.max(ack))));
    }

    /// Whether what is sent from `start` on was acknowledged before.
    pub(super) fn is_acked_early(&mut self, start: SeqNum, pool: &mut Share<'_>) -> bool {
        let Some(ahead) = self.acked_ahead() else { return false };
        if ahead.distance(start) > LARGEST_WINDOW {
            self.set_acked_ahead(None);
            return false;
        }
        let is_doubted = self.flags.contains(FlowFlags::AHEAD_DOUBTED);
        if is_doubted && self.snd_nxt.before(ahead) && self.snd_nxt.before(start) {
            // Either what is between was acknowledged, or it is a gap.
            self.record_is_useless(pool);
        }
        if start.before(ahead) {
            return true;
        }
        if self.snd_nxt.before(ahead) && !is_doubted {
            // Both ends say that all below was sent; it passed unseen.
            let una = self.snd_una;
            self.outstanding.acknowledge(pool, Advance { una, una_claimed: una, ack: ahead, tsecr: None });
            (self.snd_una, self.snd_nxt) = (ahead, ahead);
            self.flags.remove(FlowFlags::UNA_ASSUMED);
            self.settle(ahead);
        }
        false
    }

    /// The peer has acknowledged within what was sent: `early`, what it had acknowledged before that was sent;
    /// `dropped`, what is not on record any more.
    pub(super) fn settle_ahead(&mut self, early: bool, dropped: bool) {
        if early && !self.flags.contains(FlowFlags::AHEAD_DOUBTED) {
            // The peer says only now that it has this. If it says no more than that, what it said before was not true.
            self.set_acked_ahead(None);
        }
        // What is not on record any more may have been acknowledged early as well.
        self.flags.insert_if(FlowFlags::AHEAD_DOUBTED, dropped && self.acked_ahead().is_some());
    }
}
