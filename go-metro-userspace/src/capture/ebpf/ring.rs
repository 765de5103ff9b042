//! The rings between the classifier and user space: one for each processor, mapped and read as one ([`Merge`]); or the
//! kernel's ring buffer.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use go_metro_common::segment::{SegmentV4, SegmentV6, Sides};
use go_metro_rtt::{Nanos, Segment};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::gaps::Gaps;
use super::merge::{Drained, Merge};
use super::tally::Tally;
use crate::capture::clock::Clocks;
use crate::capture::error::CaptureError;
use crate::capture::{Continuity, Jump};

/// Records read in one go before the caller gets to look at its clock.
const DRAIN_MAX: usize = 1 << 16;

/// Shortest wait between two looks into mapped rings. One that fills wakes the reader before.
const PAUSE: Duration = Duration::from_millis(5);

/// One ring, or what is read as one.
pub(super) struct Ring {
    /// The records; of mapped rings nothing but wake-ups.
    records: RingBuf<MapData>,
    mapped: Option<Box<Merge>>,
    sides: Sides,
    gaps: Gaps,
    /// How long to wait before the next look into mapped rings, unless woken.
    pause: Duration,
    /// Whether the last read left something.
    pub(super) has_more: bool,
    /// Records handed on, one for each side.
    pub(super) read: u64,
    /// Of those, the second of one segment.
    pub(super) second_sides: u64,
}

impl Ring {
    /// A ring of so many bytes.
    pub(super) fn new(records: RingBuf<MapData>, bytes: u32, sides: Sides) -> Self {
        let gaps = Gaps::new(bytes.into());
        Self { records, mapped: None, sides, gaps, pause: PAUSE, has_more: false, read: 0, second_sides: 0 }
    }

    /// Mapped rings; `records` wakes their reader.
    pub(super) fn mapped(records: RingBuf<MapData>, rings: Merge, sides: Sides) -> Self {
        Self { mapped: Some(Box::new(rings)), ..Self::new(records, 0, sides) }
    }

    /// To be asked before each [`Self::drain`]: what is known of the records that it hands on. It hands on no more than
    /// that holds for, and less than the ring may have.
    pub(super) fn continuity(&mut self, tally: &Tally) -> Continuity {
        if let Some(mapped) = &mut self.mapped {
            return mapped.continuity();
        }
        if self.gaps.wants_look() {
            self.look(tally);
        }
        self.gaps.begin_read()
    }

    /// Whether records may be missing near those that come next, as of now.
    pub(super) fn is_gap_near(&mut self, tally: &Tally) -> bool {
        if let Some(mapped) = &mut self.mapped {
            return mapped.is_gap_near();
        }
        self.look(tally);
        self.gaps.is_near()
    }

    fn look(&mut self, tally: &Tally) {
        if let Some(lost) = tally.lost() {
            self.gaps.look(lost);
        }
    }

    /// Records that came later than one that was handed on before, and passed the hook earlier.
    pub(super) fn late(&self) -> u64 {
        self.mapped.as_ref().map_or(0, |mapped| mapped.late_records)
    }

    /// Hands all records that are in the ring to `sink`, oldest first; how many there were.
    pub(super) fn drain_all(&mut self, sink: &mut impl FnMut(&Segment)) -> usize {
        let mut records = self.drain(None, sink);
        while self.mapped.is_some() && self.has_more {
            records += self.drain(None, sink);
        }
        records
    }

    /// Hands records that are in the ring to `sink`, oldest first; how many there were. Of mapped rings only those that
    /// are old enough at `now`, if that is given, which is read before.
    pub(super) fn drain(&mut self, now: Option<Nanos>, sink: &mut impl FnMut(&Segment)) -> usize {
        let sides = self.sides;
        let mut handed = 0;
        let mut hand = |segment: &Segment| {
            segment.for_each_side(sides, &mut |segment| {
                handed += 1;
                sink(segment);
            });
        };
        if let Some(mapped) = &mut self.mapped {
            let Drained { records, has_more, holds_back } = mapped.drain(now.map(|now| now.0), DRAIN_MAX, &mut hand);
            self.pause = if records > 0 || holds_back { PAUSE } else { self.pause.saturating_mul(2) };
            self.has_more = has_more;
            self.read += handed;
            self.second_sides += handed.saturating_sub(records as u64);
            return records;
        }
        let mut records = 0;
        let mut is_empty = false;
        while records < DRAIN_MAX && !self.gaps.must_stop() {
            let Some(item) = self.records.next() else {
                is_empty = true;
                break;
            };
            self.gaps.note(item.len());
            if item.len() == size_of::<SegmentV4>() {
                // SAFETY: the item is as long as the record, whose fields may have any value.
                let record: SegmentV4 = unsafe { item.as_ptr().cast::<SegmentV4>().read_unaligned() };
                hand(&Segment::from(&record));
            } else if item.len() == size_of::<SegmentV6>() {
                // SAFETY: as above.
                let record: SegmentV6 = unsafe { item.as_ptr().cast::<SegmentV6>().read_unaligned() };
                hand(&Segment::from(&record));
            }
            records += 1;
        }
        self.gaps.end_read(is_empty);
        self.has_more = !is_empty;
        self.read += handed;
        self.second_sides += handed.saturating_sub(records as u64);
        records
    }
}

/// Waits until the kernel wakes this thread for records, `also` becomes readable, a signal arrives, or `timeout`
/// passes.
///
/// # Errors
///
/// poll(2) itself fails.
pub(super) fn wait(ring: &mut Ring, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<(), CaptureError> {
    let pause = if ring.has_more { Duration::ZERO } else { ring.pause };
    let timeout = if ring.mapped.is_some() { timeout.min(pause) } else { timeout };
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    let readable = |file| PollFd::new(file, PollFlags::POLLIN);
    let woken = match also {
        None => nix::poll::poll(&mut [readable(ring.records.as_fd())], timeout),
        Some(also) => nix::poll::poll(&mut [readable(ring.records.as_fd()), readable(also)], timeout),
    };
    if ring.mapped.is_some() {
        // Nothing comes out; but then it wakes again.
        while ring.records.next().is_some() {}
    }
    match woken {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(CaptureError::System { call: "poll(2) on the ring buffer", source: error.into() }),
    }
}

/// What becomes of records when clocks jump, and the time as records have it.
pub(super) struct Stamps {
    clocks: Clocks,
    jump: Option<Jump>,
    /// Records that waited in a ring when the host was suspended.
    pub(super) thrown_away: u64,
    /// Whether what came just now waits for what may have come before it.
    holds_back: bool,
}

impl Stamps {
    pub(super) fn new() -> Self {
        Self { clocks: Clocks::new(), jump: None, thrown_away: 0, holds_back: true }
    }

    /// Looks at the clocks, and hands what is in the ring to `sink`, unless it must not be compared with what comes.
    pub(super) fn drain(&mut self, ring: &mut Ring, sink: &mut impl FnMut(&Segment)) {
        // Before the end of the ring is looked at.
        let now = Some(self.now()).filter(|_| self.holds_back);
        if let Some(jump) = self.clocks.look() {
            self.jump = Some(jump);
            // Stamps are of a clock that nobody can set, but that stood still meanwhile.
            if matches!(jump, Jump::Suspended(_)) {
                ring.drain_all(&mut |_| self.thrown_away += 1);
                return;
            }
        }
        ring.drain(now, sink);
    }

    pub(super) fn clocks(&mut self) -> &mut Clocks {
        &mut self.clocks
    }

    /// Hands on at once what comes from now on.
    pub(super) fn hold_nothing_back(&mut self) {
        self.holds_back = false;
    }

    /// What happened to the clocks since the last call.
    pub(super) fn take_jump(&mut self) -> Option<Jump> {
        self.jump.take()
    }

    /// What to add to a record's time (`CLOCK_MONOTONIC`) for nanoseconds since the epoch, as of the last look.
    pub(super) fn epoch_offset_ns(&self) -> i64 {
        self.clocks.epoch_offset_ns()
    }

    /// Now, on the clock of the records.
    pub(super) fn now(&self) -> Nanos {
        self.clocks.now()
    }
}
