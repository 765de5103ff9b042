//! Jumps of the clocks that packets are stamped with.
//!
//! The classifier stamps with `CLOCK_MONOTONIC`, which nobody can set but which stands still while the host is
//! suspended; libpcap with `CLOCK_REALTIME`, which is set at any moment, and which a suspension moves as well. Over
//! either jump the difference of two stamps is no round-trip time. So a source looks at the clocks before it reads, and
//! what was stamped before a jump is not compared with what is stamped after it.
//!
//! The clocks are slewed together (kernel/time/timekeeping.c), so what one is ahead of another changes only by jumps.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use go_metro_rtt::Nanos;

/// How far two readings may differ without a jump in between, beside what reading them took.
const TOLERANCE_NS: i64 = 100_000;

/// How far other clocks are ahead of `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offsets {
    wall: i64,
    boot: i64,
    /// How long the reading took: what it may be wrong by.
    spread: i64,
}

/// How far this process's monotonic clock is ahead of the kernel's own, in nanoseconds: not at all, but in a time
/// namespace (time_namespaces(7)). The classifier stamps with the kernel's.
fn namespace_offset_ns() -> i64 {
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let line = offsets.lines().find_map(|line| line.strip_prefix("monotonic"));
    let mut numbers = line.unwrap_or_default().split_whitespace().map_while(|number| number.parse::<i64>().ok());
    let (seconds, nanoseconds) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    seconds * 1_000_000_000 + nanoseconds
}

/// What happened to the clocks between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// The host was suspended for this long.
    Suspended(Duration),
    /// The wall clock was set forward (or, negative, back) by this many nanoseconds.
    Set(i64),
}

/// The clocks, as they were at the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    known: Offsets,
    namespace_ns: i64,
}

impl Offsets {
    fn now() -> Self {
        let clock = |id| clock_gettime(id).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec());
        let read = || {
            let before = clock(ClockId::CLOCK_MONOTONIC);
            let (wall, boot) = (clock(ClockId::CLOCK_REALTIME), clock(ClockId::CLOCK_BOOTTIME));
            let after = clock(ClockId::CLOCK_MONOTONIC);
            // Read in between, so that the time the reads take cancels out.
            let middle = before + (after - before) / 2;
            Self { wall: wall - middle, boot: boot - middle, spread: after - before }
        };
        // A thread may be put aside between two reads; the quickest of three is the best.
        let quicker = |a: Self, b: Self| if b.spread < a.spread { b } else { a };
        quicker(quicker(read(), read()), read())
    }

    fn jump_until(self, later: Self) -> Option<Jump> {
        let allowed = TOLERANCE_NS + self.spread + later.spread;
        let suspended = later.boot - self.boot;
        if suspended > allowed {
            return Some(Jump::Suspended(Duration::from_nanos(suspended.unsigned_abs())));
        }
        let set = later.wall - self.wall;
        (set.abs() > allowed).then_some(Jump::Set(set))
    }
}

impl Clocks {
    pub(super) fn new() -> Self {
        Self { known: Offsets::now(), namespace_ns: namespace_offset_ns() }
    }

    /// What happened since the last look, if anything did.
    pub(super) fn look(&mut self) -> Option<Jump> {
        let now = Offsets::now();
        let jump = self.known.jump_until(now)?;
        self.known = now;
        Some(jump)
    }

    /// What to add to a time of the kernel's own monotonic clock to get nanoseconds since the epoch.
    pub(super) fn epoch_offset_ns(&self) -> i64 {
        self.known.wall + self.namespace_ns
    }

    /// Now, on the kernel's own monotonic clock.
    pub(super) fn now(&self) -> Nanos {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec());
        Nanos((now - self.namespace_ns).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const START: Offsets = Offsets { wall: 1_700_000_000_000 * MS, boot: 4_000 * MS, spread: 100 };

    fn after(wall: i64, boot: i64, spread: i64) -> Option<Jump> {
        START.jump_until(Offsets { wall: START.wall + wall, boot: START.boot + boot, spread })
    }

    #[test]
    fn the_real_clocks_do_not_jump_by_themselves() {
        let mut clocks = Clocks::new();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(clocks.look(), None);
        }
    }

    #[test]
    fn a_wall_clock_that_was_set_is_a_jump_either_way() {
        assert_eq!(after(3_600_000 * MS, 0, 100), Some(Jump::Set(3_600_000 * MS)));
        assert_eq!(after(-1000 * MS, 0, 100), Some(Jump::Set(-1000 * MS)));
        assert_eq!(after(MS, 0, 100), Some(Jump::Set(MS)));
    }

    #[test]
    fn a_reading_that_took_long_is_no_jump() {
        assert_eq!(after(5 * MS, 0, 6 * MS), None);
    }

    #[test]
    fn a_suspension_moves_the_wall_clock_too_and_is_told_from_setting_it() {
        let hour = 3_600_000 * MS;
        assert_eq!(after(hour, hour, 100), Some(Jump::Suspended(Duration::from_secs(3600))));
    }

    #[test]
    fn a_jump_is_told_once() {
        let mut clocks = Clocks::new();
        clocks.known.wall -= 3_600_000 * MS;
        assert!(matches!(clocks.look(), Some(Jump::Set(ns)) if ns >= 3_599_000 * MS));
        assert_eq!(clocks.look(), None);
    }
}
