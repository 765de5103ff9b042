//! For how long the other end had closed its window while something waited to be sent (RFC 9293 section 3.8.6.1).
//!
//! A window is closed from the segment that announces zero until one that announces more. Whether the end that is timed
//! has anything to send nobody says, but it shows:
//!
//! - Something is outstanding, or was when the other end announced zero once more.
//! - The other end repeats its announcement with nothing else to say: "when a segment arrives that finds a zero window,
//!   the receiver must still send an acknowledgment" (section 3.8.6.1), so it was probed. The first probe comes within
//!   a retransmission timeout ([`PROBED`]) of the announcement if something waited then; one that comes later, as a
//!   keep-alive does, says nothing of the time before it.
//! - Something is sent as soon as the window opens ([`AT_ONCE`]), after less time than a probe would have taken.
//!
//! What waits cannot go anywhere while the window is closed, so that all of the time until it opens counts once
//! something is known to wait. A report in the middle takes what has passed, as long as the last sign is not too long
//! ago ([`ZeroWindow::believed`]); the rest counts with the next sign. A reset is the last: what waited did so until
//! then. What ends without any counts up to the last sign.
//!
//! Only flows whose window is closed have a place here.

use std::time::Duration;

use hashbrown::HashMap;

use crate::Nanos;
use crate::time::nanoseconds;

/// Longest wait for the first probe: three times the retransmission timeout of a connection that has measured nothing
/// yet (RFC 6298 section 2.1), with which probes begin (RFC 9293 section 3.8.6.1).
const PROBED: Duration = Duration::from_secs(3);

/// Longest wait for any probe: `TCP_RTO_MAX` (include/net/tcp.h), and a round trip.
const PROBED_AGAIN: Duration = Duration::from_secs(130);

/// What waited is sent within this time once it may be: a tick of the slowest clock of a kernel.
const AT_ONCE: Duration = Duration::from_millis(10);

/// A flow whose window is closed, or has just opened.
#[derive(Clone, Copy, Debug)]
struct Closed {
    /// Since when.
    since: Nanos,
    /// The last sign that something waits; until there is one, the last announcement.
    last: Nanos,
    /// Up to when it is counted.
    counted: Nanos,
    /// Whether something waits for certain.
    waits: bool,
    /// When it opened, if that is so: what is sent next shows whether something had waited.
    opened: Option<Nanos>,
}

impl Closed {
    fn new(at: Nanos, waits: bool) -> Self {
        Self { since: at, last: at, counted: at, waits, opened: None }
    }

    /// Counts the time up to a point; how much that is more, in nanoseconds.
    fn count_to(&mut self, at: Nanos) -> u64 {
        let more = at.0.saturating_sub(self.counted.0);
        self.counted = self.counted.max(at);
        more
    }

    /// Up to when the window is believed to be closed without another sign: probes come at twice the interval each time
    /// (RFC 9293 section 3.8.6.1), so that the next is due in as much time again as has passed.
    fn believed(&self) -> Nanos {
        let lasted = self.last.0.saturating_sub(self.since.0);
        self.last.plus_ns(lasted.saturating_add(nanoseconds(PROBED)).min(nanoseconds(PROBED_AGAIN)))
    }
}

/// What an inbound segment says of the window.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Announced {
    /// It is zero. `outstanding`: something is outstanding. `shows`: something was, or the segment says nothing else.
    Zero { outstanding: bool, shows: bool },
    /// It is not zero.
    Open,
}

/// The flows whose windows are closed, by their numbers.
#[derive(Default)]
pub(crate) struct ZeroWindows(HashMap<u32, Closed, foldhash::fast::RandomState>);

impl ZeroWindows {
    /// A flow's window at a point in time; how much is to be counted, and whether what the flow sends next will show
    /// whether something had waited ([`ZeroWindows::sent`]).
    pub(crate) fn announced(&mut self, index: u32, at: Nanos, announced: Announced) -> (u64, bool) {
        let closed = self.0.get_mut(&index).filter(|closed| closed.opened.is_none());
        match (closed, announced) {
            (None, Announced::Zero { outstanding, .. }) => {
                self.0.insert(index, Closed::new(at, outstanding));
                (0, false)
            }
            (None, Announced::Open) => (0, false),
            (Some(closed), Announced::Zero { shows, .. }) => {
                if closed.waits || shows && at <= closed.last.plus(PROBED) {
                    closed.waits = true;
                    closed.last = closed.last.max(at);
                    return (closed.count_to(at), false);
                }
                if shows {
                    *closed = Closed::new(at, false);
                }
                (0, false)
            }
            (Some(closed), Announced::Open) if closed.waits => {
                let more = closed.count_to(at);
                self.0.remove(&index);
                (more, false)
            }
            (Some(closed), Announced::Open) => {
                closed.opened = Some(at);
                (0, true)
            }
        }
    }

    /// A flow sends something, whose window may just have opened; how much is to be counted.
    pub(crate) fn sent(&mut self, index: u32, at: Nanos) -> u64 {
        let Some(opened) = self.0.get(&index).and_then(|closed| closed.opened) else { return 0 };
        let closed = self.0.remove(&index);
        let is_at_once = |closed: &Closed| at <= opened.plus(AT_ONCE) && opened <= closed.last.plus(PROBED);
        closed.filter(is_at_once).map_or(0, |closed| opened.0.saturating_sub(closed.since.0))
    }

    /// A flow ends; how much is to be counted: up to when its connection was ended, if that was seen, else up to the
    /// last sign.
    pub(crate) fn end(&mut self, index: u32, ended: Option<Nanos>) -> u64 {
        let closed = if self.0.is_empty() { None } else { self.0.remove(&index) };
        let waited = closed.filter(|closed| closed.waits);
        waited.map_or(0, |mut closed| closed.count_to(ended.unwrap_or(closed.last)))
    }

    /// Forgets a flow, or all, because what happened meanwhile is not known.
    pub(crate) fn forget(&mut self, which: impl Fn(u32) -> bool) {
        self.0.retain(|index, _| !which(*index));
    }

    /// What has passed up to now of those that are closed, by flow.
    pub(crate) fn so_far(&mut self, now: Nanos) -> Vec<(u32, u64)> {
        let waiting = self.0.iter_mut().filter(|(_, closed)| closed.waits && closed.opened.is_none());
        let counted = waiting.map(|(index, closed)| (*index, closed.count_to(closed.believed().min(now))));
        counted.filter(|(_, more)| *more > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Announced = Announced::Zero { outstanding: false, shows: true };

    fn ms(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    /// What is counted of these announcements and sendings, in milliseconds.
    fn counted(steps: &[(u64, Option<Announced>)]) -> u64 {
        let mut windows = ZeroWindows::default();
        let count = |(at, announced): &(u64, Option<Announced>)| match announced {
            Some(announced) => windows.announced(7, ms(*at), *announced).0,
            None => windows.sent(7, ms(*at)),
        };
        let total: u64 = steps.iter().map(count).sum();
        (total + windows.end(7, None)) / 1_000_000
    }

    #[test]
    fn what_is_probed_waited_since_the_window_closed() {
        let probed = [(0, Some(ZERO)), (200, Some(ZERO)), (600, Some(ZERO)), (700, Some(Announced::Open))];
        assert_eq!(counted(&probed), 700);
        // It ends without a word: up to the last.
        assert_eq!(counted(&probed[..3]), 600);
        assert_eq!(counted(&probed[..1]), 0);
    }

    #[test]
    fn what_was_outstanding_then_waits_at_once() {
        let outstanding = Announced::Zero { outstanding: true, shows: true };
        assert_eq!(counted(&[(0, Some(outstanding)), (50, Some(Announced::Open))]), 50);
    }

    #[test]
    fn what_is_sent_as_the_window_opens_had_waited() {
        let opens = [(0, Some(ZERO)), (50, Some(Announced::Open))];
        assert_eq!(counted(&opens), 0);
        assert_eq!(counted(&[opens[0], opens[1], (51, None)]), 50);
        assert_eq!(counted(&[opens[0], opens[1], (61, None)]), 0);
        // Nothing had waited for so long without a probe.
        assert_eq!(counted(&[(0, Some(ZERO)), (5000, Some(Announced::Open)), (5001, None)]), 0);
    }

    #[test]
    fn what_keep_alives_find_is_not_taken_for_waiting() {
        let every_minute: Vec<_> = (0..5).map(|minute| (minute * 60_000, Some(ZERO))).collect();
        assert_eq!(counted(&every_minute), 0);
        // From when on something waits, what it is probed with shows.
        let later = [(0, Some(ZERO)), (60_000, Some(ZERO)), (60_400, Some(ZERO)), (61_000, Some(Announced::Open))];
        assert_eq!(counted(&later), 1000);
    }

    #[test]
    fn data_of_the_other_end_shows_nothing() {
        let data = Announced::Zero { outstanding: false, shows: false };
        assert_eq!(counted(&[(0, Some(ZERO)), (100, Some(data)), (200, Some(data)), (300, Some(Announced::Open))]), 0);
    }

    #[test]
    fn reports_in_the_middle_share_the_time_and_believe_in_it_for_as_long_again() {
        let mut windows = ZeroWindows::default();
        assert_eq!(windows.announced(7, ms(0), ZERO), (0, false));
        assert_eq!(windows.so_far(ms(100)), [], "nothing is known to wait");
        assert_eq!(windows.announced(7, ms(200), ZERO), (ms(200).0, false));
        assert_eq!(windows.so_far(ms(1000)), [(7, ms(800).0)]);
        assert_eq!(windows.so_far(ms(1000)), []);
        // Up to 200 ms and 200 ms and three seconds.
        assert_eq!(windows.so_far(ms(60_000)), [(7, ms(2400).0)]);
        assert_eq!(windows.announced(7, ms(61_000), Announced::Open), (ms(57_600).0, false));
        assert_eq!(windows.so_far(ms(90_000)), []);
    }

    #[test]
    fn what_happened_before_an_interruption_is_forgotten() {
        let mut windows = ZeroWindows::default();
        for flow in [1, 2] {
            windows.announced(flow, ms(0), ZERO);
        }
        windows.forget(|flow| flow == 1);
        assert_eq!([1, 2].map(|flow| windows.announced(flow, ms(100), ZERO).0), [0, ms(100).0]);
    }
}
