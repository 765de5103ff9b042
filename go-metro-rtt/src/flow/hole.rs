//! Rule 5: sequence space that the receiver is missing, and what was sent behind it.

use super::{DUPLICATE_ACKS, Flow, FlowFlags};
use crate::outstanding::Share;
use crate::{Segment, SeqNum};

/// What is known of a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// There is none.
    None,
    /// One or two duplicate acknowledgements: there may be one. What was outstanding is on record.
    Suspected,
    /// As [`State::Suspected`]; the receiver has said since that it holds nothing above what it acknowledges.
    SuspectedClosed,
    /// A SACK block has shown one. What was outstanding is on record, until a second block finds this still so.
    Reported,
    /// There is one, and what was outstanding is not on record any more.
    Certain,
    /// As [`State::Certain`]; the last number stands for what was not seen to be sent yet, and the receiver may hold.
    CertainBeyond,
    /// There is none, but what was outstanding was too much to be kept on record (rule 9).
    RecordFull,
    /// As [`State::Certain`], and another one is suspected since.
    Both,
    /// As [`State::Both`]; the receiver has said since that it holds nothing above what it acknowledges.
    BothClosed,
    /// As [`State::RecordFull`], and one is suspected.
    BothRecordFull,
}

/// A hole, and up to where what was sent may have waited for it. Packed, so that a flow's state fits one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub(super) struct Hole {
    /// What was sent up to here was outstanding when it showed, or may have been.
    until: SeqNum,
    state: State,
}

impl Hole {
    /// There is none.
    pub(super) const NONE: Self = Self { until: SeqNum(0), state: State::None };

    /// Whether none is known or suspected.
    #[inline]
    pub(super) fn is_none(self) -> bool {
        self.state == State::None
    }

    /// Whether there may be one, so that only what nothing was outstanding before can be timed.
    pub(super) fn is_suspected(self) -> bool {
        use State::{Both, BothClosed, BothRecordFull, Suspected, SuspectedClosed};
        matches!(self.state, Suspected | SuspectedClosed | Both | BothClosed | BothRecordFull)
    }

    /// Whether the receiver has said since it was suspected that it holds nothing above what it acknowledges.
    pub(super) fn is_closed(self) -> bool {
        matches!(self.state, State::SuspectedClosed | State::BothClosed)
    }

    /// Up to where nothing that was sent can be timed, if there is one for certain.
    pub(super) fn certain(self) -> Option<SeqNum> {
        let is_certain = !matches!(self.state, State::None | State::Suspected | State::SuspectedClosed);
        is_certain.then_some(self.until)
    }

    /// As [`Hole::certain`], if what was outstanding is not on record any more.
    pub(super) fn certain_and_off_record(self) -> Option<SeqNum> {
        self.certain().filter(|_| self.state != State::Reported)
    }

    /// Whether it only stands for a record that was too full.
    pub(super) fn is_record_full(self) -> bool {
        matches!(self.state, State::RecordFull | State::BothRecordFull)
    }

    /// All below `ack` is acknowledged.
    pub(super) fn settle(&mut self, ack: SeqNum) {
        if !ack.before(self.until) {
            *self = Self::NONE;
        }
    }

    /// What was sent again starts in it and goes up to `end`: what it carries beyond goes the same way.
    pub(super) fn extend(&mut self, end: SeqNum) {
        if self.state == State::CertainBeyond && !end.before(self.until) {
            self.state = State::Certain;
        }
        self.until = { self.until }.max(end);
    }

    /// The receiver acknowledges up to `ack` and reports nothing that it holds above, on a connection that uses SACK.
    /// Whether that shows that nothing outstanding has arrived, and so that nothing of it has waited.
    fn close(&mut self, ack: SeqNum) -> bool {
        let may_be_beyond = matches!(self.state, State::Reported | State::CertainBeyond);
        match self.state {
            // What it holds above the hole is what was seen: all of that is acknowledged, and it holds nothing more.
            _ if may_be_beyond && { self.until } == ack.plus(1) => *self = Self::NONE,
            State::Reported => {
                *self = Self::NONE;
                return true;
            }
            State::Suspected => self.state = State::SuspectedClosed,
            State::Both => self.state = State::BothClosed,
            _ => {}
        }
        false
    }
}

impl Flow {
    /// Segments behind a hole were received long before the acknowledgement that will cover them: none of what is
    /// outstanding proves anything.
    #[inline]
    pub(super) fn enter_hole(&mut self, until: SeqNum, pool: &mut Share<'_>) {
        self.give_up_record(pool);
        self.hole = Hole { until, state: State::Certain };
    }

    /// The receiver holds something above a hole (RFC 2018 section 3), which need not have been seen to be sent yet.
    /// What is outstanding stays on record: the receiver will say when it holds nothing above any more, and what is
    /// acknowledged only after that has not waited.
    pub(super) fn hole_reported(&mut self, pool: &mut Share<'_>) {
        let state = if self.hole.certain_and_off_record().is_some() {
            self.give_up_record(pool);
            State::CertainBeyond
        } else {
            State::Reported
        };
        self.hole = Hole { until: self.snd_nxt.plus(1), state };
    }

    /// Rule 9: the record is too full to be of use: as with a hole, but what is suspected of one stays so.
    pub(super) fn record_is_useless(&mut self, pool: &mut Share<'_>) {
        let (until, state) = match self.hole.certain() {
            // What the receiver holds beyond what was seen, it holds still.
            Some(beyond) if beyond.after(self.snd_nxt) => (beyond, State::CertainBeyond),
            _ if self.hole.is_suspected() => (self.snd_nxt, State::BothRecordFull),
            _ => (self.snd_nxt, State::RecordFull),
        };
        self.give_up_record(pool);
        self.hole = Hole { until, state };
    }

    /// Without SACK: no payload, same window, same number, data outstanding (RFC 5681 section 2). One may be the sign
    /// of a hole, or mean nothing; three are certain.
    pub(super) fn count_duplicate(&mut self, segment: &Segment, pool: &mut Share<'_>) {
        let is_duplicate = segment.is_empty() && segment.header.window == self.window && self.snd_una != self.snd_nxt;
        if self.flags.contains(FlowFlags::SACK_IN_USE) || !is_duplicate {
            return;
        }
        self.flags.set_duplicates(self.flags.duplicates() + 1);
        let state = match self.hole.certain() {
            None => State::Suspected,
            Some(_) if self.hole.is_record_full() => State::BothRecordFull,
            Some(_) => State::Both,
        };
        if state != State::Suspected {
            self.give_up_record(pool);
        }
        self.hole = Hole { until: self.snd_nxt, state };
    }

    /// Whether so many duplicates came in a row that there is a hole.
    #[inline]
    pub(super) fn duplicates_show_hole(&self) -> bool {
        self.flags.duplicates() >= DUPLICATE_ACKS
    }

    /// An acknowledgement up to `ack` that advances; `reports`: a SACK block lies above it.
    pub(super) fn hole_advances(&mut self, ack: SeqNum, reports: bool, pool: &mut Share<'_>) {
        let says_nothing_above = self.flags.contains(FlowFlags::SACK_IN_USE) && !reports;
        if says_nothing_above && self.hole.close(ack) {
            self.outstanding.clear_retransmissions(pool);
        }
    }

    fn give_up_record(&mut self, pool: &mut Share<'_>) {
        // Where it is only assumed that all before the first segment is acknowledged, there may be a gap right before
        // that.
        let is_assumed = self.flags.contains(FlowFlags::UNA_ASSUMED);
        let una = if is_assumed { self.snd_una.minus(1) } else { self.snd_una };
        self.outstanding.give_up(pool, una);
    }
}
