//! Which transmission an acknowledgement times, by what is on record (rules 2, 3, 4, 11, 12 and 13).

use super::pool::{Node, NodeFlags};
use super::{Advance, Match};
use crate::SeqNum;

/// What the transmissions that an acknowledgement covers say, oldest to newest.
#[derive(Default)]
pub(super) struct Evidence {
    /// The newest that contains the acknowledged byte.
    newest: Option<Node>,
    /// Whether something that it covers was sent again after the newest.
    repeated_since: bool,
    /// How many TSecr may be the echo of, whether or not they contain the byte: a receiver that keeps acknowledgements
    /// back echoes the first segment that it has not acknowledged (RFC 7323 section 4.3).
    times_named: u32,
    /// The oldest TSval of the transmissions that contain the first byte not acknowledged so far.
    first_tsval: Option<u32>,
    /// Whether there is a gap between what was acknowledged so far and the end of what is now.
    gap: bool,
}

impl Evidence {
    /// Takes a transmission into account; they come in the order of sending.
    #[inline]
    pub(super) fn weigh(&mut self, node: &Node, advance: &Advance) {
        let Advance { una, una_claimed, ack, tsecr } = *advance;
        if !node.start.before(ack) || !node.end.after(una) {
            return;
        }
        self.times_named += u32::from(tsecr.is_some() && node.tsval() == tsecr);
        self.gap |= node.is(NodeFlags::AFTER_GAP) && una.before(node.start);
        if node.contains(una_claimed)
            && let Some(tsval) = node.tsval()
            && self.first_tsval.is_none_or(|first| is_newer(first, tsval))
        {
            self.first_tsval = Some(tsval);
        }
        // Rule 3 (RFC 5681 section 4.2).
        if node.contains_last_of(ack) {
            self.newest = Some(*node);
            self.repeated_since = false;
        } else if let Some(newest) = &self.newest {
            self.repeated_since |= node.end.after(una) && node.end.after(newest.start);
        }
    }

    /// What the acknowledgement finds, after so many retransmissions; `dropped`: of some transmissions the record
    /// knows nothing.
    pub(super) fn judge(self, advance: Advance, retransmissions: u32, dropped: bool) -> Match {
        let Some(newest) = self.newest else { return if dropped { Match::Dropped } else { Match::None } };
        // Rule 12.
        if newest.is(NodeFlags::ACKED_EARLY) {
            return Match::AckedEarly;
        }
        // Rule 15.
        if newest.is(NodeFlags::MAYBE_ACKED) {
            return Match::Unseen;
        }
        let is_named = advance.tsecr.is_some() && newest.tsval() == advance.tsecr;
        // Rule 2 (RFC 6298 section 3).
        let is_ambiguous = newest.is(NodeFlags::AGAIN) || newest.retransmissions != retransmissions;
        if is_ambiguous {
            // Rule 4: exactly one transmission, it contains the byte, and nothing of it was sent again later: a
            // receiver that held the head of a super-segment back echoes that head even if what it acknowledges is the
            // later transmission of its tail (RFC 7323 section 4.3). Of those that were dropped nothing is known.
            let is_sure = is_named && self.times_named == 1 && !self.repeated_since && !dropped;
            // What is echoed was sent before the first of them that was seen, in the same tick as this.
            let is_too_old = self.first_tsval.zip(advance.echo()).is_some_and(|(first, echo)| is_newer(first, echo));
            return match is_sure {
                true if is_too_old => Match::Unseen,
                true => Match::ByTimestamp(newest.transmission()),
                false => Match::Ambiguous,
            };
        }
        if let (Some(echo), Some(tsval)) = (advance.echo(), newest.tsval()) {
            // Rule 13 (RFC 7323 section 4.3): what is echoed was sent after all that is acknowledged here, or before: a
            // transmission that was not seen. If the first was dropped it may have been as late as the newest.
            let first = if dropped { Some(tsval) } else { self.first_tsval };
            if is_newer(echo, tsval) || first.is_some_and(|first| is_newer(first, echo)) {
                return Match::Unseen;
            }
        }
        // Rule 11: the acknowledgement may have waited for what fills the gap. The receiver does not take the timestamp
        // of what arrives above a hole, so that its echo proves that there was none (RFC 7323 section 4.3).
        if self.gap && !is_named {
            return Match::Unseen;
        }
        Match::Clean(newest.transmission())
    }
}

/// Whether one timestamp is newer than another: serial numbers, as sequence numbers are (RFC 7323 section 5.2).
pub(crate) fn is_newer(one: u32, other: u32) -> bool {
    SeqNum(one).after(SeqNum(other))
}
