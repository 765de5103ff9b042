//! What the times of a capture say of the clock that stamped its frames.

use std::time::Duration;

use crate::rtt::Nanos;

/// The clock of a capture, as far as its frames tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// None before the first frame.
    before: Option<Nanos>,
    /// The latest time.
    last: Nanos,
    /// The least step forward from one frame to the next: with enough frames a tick of the clock.
    tick_ns: Option<u64>,
}

impl Clock {
    /// Notes a frame's time.
    #[inline]
    pub(super) fn note(&mut self, time: Nanos) {
        let step = self.before.replace(time).and_then(|before| time.0.checked_sub(before.0)).filter(|step| *step > 0);
        if let Some(step) = step {
            self.tick_ns = Some(self.tick_ns.map_or(step, |tick| tick.min(step)));
        }
        self.last = self.last.max(time);
    }

    /// The latest time.
    pub(super) fn last(&self) -> Nanos {
        self.last
    }

    /// The least step forward from one frame to the next; None where all have one time.
    pub(super) fn tick(&self) -> Option<Duration> {
        self.tick_ns.map(Duration::from_nanos)
    }
}
