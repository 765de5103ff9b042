//! Frames in the order of their times.
//!
//! A file need not have it: dumpcap on several interfaces, a tap for each direction, a card with several queues and
//! mergers write frames that are some milliseconds late. The engine takes what comes in the order of time, and would
//! time a segment to a later acknowledgement than the one that came first.

use std::collections::VecDeque;
use std::time::Duration;

use go_metro_rtt::Nanos;

/// Frames that are held back: half of them is how far behind a frame may be.
const HELD: usize = 4096;

/// A frame that is earlier by more than this does not belong in between: the clock was set back, or another capture was
/// appended.
const LONGEST: Duration = Duration::from_secs(60);

/// Frames that are held back until those that belong before them have come.
pub(super) struct Order<T> {
    held: VecDeque<(Nanos, T)>,
    is_sorted: bool,
    /// The latest time since the clock was last set back.
    latest: Nanos,
    /// The time of the last frame that was handed on since then.
    handed_on: Nanos,
    late: u64,
    too_late: u64,
}

impl<T> Order<T> {
    pub(super) fn new() -> Self {
        let none = Nanos(0);
        Self {
            held: VecDeque::with_capacity(HELD),
            is_sorted: true,
            latest: none,
            handed_on: none,
            late: 0,
            too_late: 0,
        }
    }

    /// Takes a frame, and hands on those whose turn it is.
    #[inline]
    pub(super) fn take(&mut self, time: Nanos, frame: T, hand_on: &mut impl FnMut(Nanos, &mut T)) {
        if time < self.latest {
            self.take_late(time, hand_on);
        }
        self.latest = self.latest.max(time);
        self.held.push_back((time, frame));
        if self.held.len() == HELD {
            self.hand_on(HELD / 2, hand_on);
        }
    }

    #[cold]
    fn take_late(&mut self, time: Nanos, hand_on: &mut impl FnMut(Nanos, &mut T)) {
        if Duration::from_nanos(self.latest.0 - time.0) > LONGEST {
            self.finish(hand_on);
            (self.latest, self.handed_on) = (time, Nanos(0));
            return;
        }
        self.late += 1;
        self.too_late += u64::from(time < self.handed_on);
        self.is_sorted = false;
    }

    /// What is held back.
    pub(super) fn held(&self) -> impl Iterator<Item = (Nanos, &T)> {
        self.held.iter().map(|(time, frame)| (*time, frame))
    }

    /// Hands on what is left.
    pub(super) fn finish(&mut self, hand_on: &mut impl FnMut(Nanos, &mut T)) {
        self.hand_on(self.held.len(), hand_on);
    }

    fn hand_on(&mut self, count: usize, hand_on: &mut impl FnMut(Nanos, &mut T)) {
        if !std::mem::replace(&mut self.is_sorted, true) {
            // Stable: frames of one time stay as they are.
            self.held.make_contiguous().sort_by_key(|(time, _)| *time);
        }
        // By reference: what is held of a frame is large enough for each move to be a call of memcpy(3).
        for (time, frame) in self.held.iter_mut().take(count) {
            self.handed_on = self.handed_on.max(*time);
            hand_on(*time, frame);
        }
        self.held.drain(..count);
    }

    /// Frames that were so late that others with later times had been handed on, for people; None if there were none.
    pub(super) fn line(&self) -> Option<String> {
        (self.too_late > 0).then(|| {
            format!(
                "{} of {} frames that are out of time order are more than {} frames late; round trips may be missing \
                 or wrong. Sort the file with reordercap",
                self.too_late,
                self.late,
                HELD / 2
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(times: &[u64]) -> (Vec<u64>, Option<String>) {
        let mut order = Order::new();
        let mut out = Vec::new();
        let mut hand_on = |time: Nanos, frame: &mut u64| {
            assert_eq!(time.0, *frame);
            out.push(*frame);
        };
        for time in times {
            order.take(Nanos(*time), *time, &mut hand_on);
        }
        order.finish(&mut hand_on);
        (out, order.line())
    }

    #[test]
    fn late_frames_are_put_where_they_belong() {
        let mut times: Vec<u64> = (1..20_000).collect();
        for pair in times.chunks_mut(1000) {
            pair.reverse();
        }
        let (out, line) = sorted(&times);
        assert!(out.is_sorted() && out.len() == times.len());
        assert_eq!(line, None);
    }

    #[test]
    fn a_frame_that_is_too_late_is_told_of_and_not_lost() {
        let mut times: Vec<u64> = (1..20_000).collect();
        times.push(5);
        let (out, line) = sorted(&times);
        assert_eq!(out.len(), times.len());
        assert!(line.unwrap().starts_with("1 of 1 frames"));
    }

    #[test]
    fn after_the_clock_was_set_back_order_begins_again() {
        let hour = 3_600_000_000_000;
        let times = [hour, hour + 5, hour + 3, 1, 2, 4, 3];
        assert_eq!(sorted(&times), (vec![hour, hour + 3, hour + 5, 1, 2, 3, 4], None));
    }
}
