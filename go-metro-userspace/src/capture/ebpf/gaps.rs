//! Where among a ring's records some may be missing.
//!
//! The kernel counts the records that found no room, and not where they would have been. A record is lost only while
//! the ring is full, so what it would have followed is at least a ring's size ahead of what was read when the count was
//! last looked at (kernel/bpf/ringbuf.c, `__bpf_ringbuf_reserve`). While less than that is read between two looks, a
//! loss is known before the first record after it is read.

use std::ops::Range;

use go_metro_common::segment::SegmentV6;

use crate::capture::Continuity;

/// Bytes before each record (`BPF_RINGBUF_HDR_SZ`).
const HEADER: u64 = 8;

/// Positions are bytes since the ring was made, as the kernel counts them.
pub(super) struct Gaps {
    size: u64,
    read: u64,
    /// What was read at the last look at the count of lost records.
    looked_at: u64,
    lost: u64,
    /// Records are missing before, among or after those that begin here.
    doubt: Option<Range<u64>>,
    is_doubtful: bool,
    is_gap: bool,
    /// Where to stop reading, as the next record is on the other side of something.
    stop: u64,
}

impl Gaps {
    /// Of a ring of so many bytes that nothing was read from.
    pub(super) fn new(size: u64) -> Self {
        let stop = u64::MAX;
        Self { size, read: 0, looked_at: 0, lost: 0, doubt: None, is_doubtful: false, is_gap: false, stop }
    }

    /// Whether the count of lost records is to be looked at before the next read.
    pub(super) fn wants_look(&self) -> bool {
        self.read - self.looked_at >= self.size / 4
    }

    /// Takes note of how many records were lost so far.
    pub(super) fn look(&mut self, lost: u64) {
        if lost != self.lost {
            self.lost = lost;
            let from = (self.looked_at + self.size).saturating_sub(occupied(size_of::<SegmentV6>()));
            let from = self.doubt.take().map_or(from, |before| before.start.min(from));
            self.doubt = Some(from..self.read + self.size);
        }
        self.looked_at = self.read;
    }

    /// What is known of the records of the next read, which ends where that changes.
    pub(super) fn begin_read(&mut self) -> Continuity {
        let was_doubtful = self.is_doubtful;
        self.doubt = self.doubt.take().filter(|doubt| self.read < doubt.end);
        self.is_doubtful = self.doubt.as_ref().is_some_and(|doubt| doubt.contains(&self.read));
        let change = self.doubt.as_ref().map(|doubt| if self.is_doubtful { doubt.end } else { doubt.start });
        // No more than that, so that this and what was read since the last look is less than the ring's size.
        self.stop = change.unwrap_or(u64::MAX).min(self.read + self.size / 4);
        let is_gap = std::mem::take(&mut self.is_gap) || was_doubtful != self.is_doubtful;
        Continuity { is_gap, is_doubtful: self.is_doubtful, late: None }
    }

    /// Whether the read ends here although there may be more.
    pub(super) fn must_stop(&self) -> bool {
        self.read >= self.stop
    }

    /// Takes note of a record that was read, of so many bytes.
    pub(super) fn note(&mut self, bytes: usize) {
        self.read += occupied(bytes);
    }

    /// The read ended; whether at the end of all that there was.
    pub(super) fn end_read(&mut self, is_empty: bool) {
        self.stop = u64::MAX;
        if is_empty && self.doubt.take().is_some() {
            self.is_gap = true;
        }
    }

    /// Whether records may be missing near those that come next.
    pub(super) fn is_near(&self) -> bool {
        self.is_gap || self.doubt.is_some()
    }
}

/// What a record of so many bytes takes of the ring.
fn occupied(bytes: usize) -> u64 {
    (HEADER + bytes as u64).next_multiple_of(8)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 4096;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// So many records come.
        Come(u16, bool),
        /// The reader looks and reads, and after so many records it is stalled while so many come.
        Read { stalled_after: u16, come: u16, is_v6: bool },
    }

    /// A ring and its reader: each record has the number of those that were lost before it.
    struct Model {
        waiting: VecDeque<(usize, u64)>,
        produced: u64,
        lost: u64,
        gaps: Gaps,
        /// Of the records since the last gap, the first one's.
        since_gap: Option<u64>,
        certain: u64,
    }

    impl Model {
        fn new() -> Self {
            let (waiting, gaps) = (VecDeque::new(), Gaps::new(SIZE));
            Self { waiting, produced: 0, lost: 0, gaps, since_gap: None, certain: 0 }
        }

        fn come(&mut self, count: u16, is_v6: bool) {
            let bytes = if is_v6 { 72 } else { 48 };
            for _ in 0..count {
                if self.produced + occupied(bytes) - self.gaps.read >= SIZE {
                    self.lost += 1;
                } else {
                    self.produced += occupied(bytes);
                    self.waiting.push_back((bytes, self.lost));
                }
            }
        }

        fn read(&mut self, stalled_after: u16, come: u16, is_v6: bool) -> Result<(), TestCaseError> {
            if self.gaps.wants_look() {
                self.gaps.look(self.lost);
            }
            let Continuity { is_gap, is_doubtful, .. } = self.gaps.begin_read();
            if is_gap {
                self.since_gap = None;
            }
            let mut count = 0;
            let is_empty = loop {
                if self.gaps.must_stop() {
                    break false;
                }
                if count == stalled_after {
                    self.come(come, is_v6);
                }
                count += 1;
                let Some((bytes, lost_before)) = self.waiting.pop_front() else { break true };
                self.gaps.note(bytes);
                if !is_doubtful {
                    let first = *self.since_gap.get_or_insert(lost_before);
                    prop_assert_eq!(first, lost_before, "timed across a loss");
                    self.certain += 1;
                }
            };
            self.gaps.end_read(is_empty);
            Ok(())
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..150_u16, any::<bool>()).prop_map(|(count, is_v6)| Step::Come(count, is_v6)),
            (0..100_u16, 0..150_u16, any::<bool>()).prop_map(|(stalled_after, come, is_v6)| Step::Read {
                stalled_after,
                come,
                is_v6
            }),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn no_two_records_between_two_gaps_have_a_loss_between_them(steps in steps()) {
            let mut model = Model::new();
            for step in steps {
                match step {
                    Step::Come(count, is_v6) => model.come(count, is_v6),
                    Step::Read { stalled_after, come, is_v6 } => model.read(stalled_after, come, is_v6)?,
                }
            }
        }
    }

    #[test]
    fn what_waited_in_a_ring_that_ran_full_is_certain() {
        let mut model = Model::new();
        model.come(1000, false);
        assert!(model.lost > 0);
        while !model.waiting.is_empty() {
            model.read(u16::MAX, 0, false).unwrap();
        }
        // All but what may have come after another that was lost.
        assert!(model.certain >= 71, "{} of {}", model.certain, SIZE / occupied(48));
        model.come(10, false);
        for _ in 0..2 {
            model.read(u16::MAX, 0, false).unwrap();
        }
        assert!(!model.gaps.is_near());
    }

    #[test]
    fn the_count_is_looked_at_once_in_a_quarter_of_the_ring() {
        let mut gaps = Gaps::new(SIZE);
        let looks = (0..10_000).filter(|_| {
            let wants = gaps.wants_look();
            if wants {
                gaps.look(0);
            }
            assert_eq!(gaps.begin_read(), Continuity::default());
            gaps.note(48);
            gaps.end_read(true);
            wants
        });
        assert_eq!(looks.count() as u64, 9_999 / (SIZE / 4).div_ceil(occupied(48)));
    }
}
