//! What the times of a capture say of the clock that stamped its frames.

use std::collections::HashMap;
use std::time::Duration;

use go_metro_common::segment::Bits;
use go_metro_rtt::{Endpoint, Nanos};

use crate::capture::decode::Decoded;

/// A step back by more was none of the frames' order: the clock was set, or another capture was appended.
const BACK: Duration = Duration::from_secs(60);
/// A shorter step forward is not looked into.
const FORWARD: Duration = Duration::from_secs(2);
/// Leaps that are looked into.
const LEAPS_MAX: u32 = 256;
/// Segments after a leap that are looked into.
const WATCHED: u32 = 1024;

/// The clock of a capture, as far as its frames tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    /// None before the first frame.
    before: Option<Nanos>,
    /// The latest time.
    last: Nanos,
    /// The least step forward from one frame to the next: with enough frames a tick of the clock.
    tick_ns: Option<u64>,
    set_back: u64,
    /// The longest step forward that timestamps (RFC 7323) refute.
    set_forward: Duration,
    /// The frame before came so much earlier than this one.
    step: Duration,
    leaps: u32,
    /// How many segments more are held against what was before the last leap, and how long that was.
    watched: (u32, Duration),
    /// When the first frame after the last leap was captured.
    leapt_at: Nanos,
    /// The same of steps forward that timestamps refute, before which not all was handed on yet.
    steps: Vec<Nanos>,
    /// The last timestamp of each sender to each receiver before that, and when it was captured.
    timestamps: HashMap<[Endpoint; 2], (u32, Nanos)>,
}

impl Clock {
    /// Notes a frame's time.
    #[inline]
    pub(super) fn note(&mut self, time: Nanos) {
        let before = self.before.replace(time);
        self.step = Duration::from_nanos(before.map_or(0, |before| time.0.saturating_sub(before.0)));
        self.set_back +=
            u64::from(before.is_some_and(|before| before.0.saturating_sub(time.0) > BACK.as_nanos() as u64));
        let step = before.and_then(|before| time.0.checked_sub(before.0)).filter(|step| *step > 0);
        if let Some(step) = step {
            self.tick_ns = Some(self.tick_ns.map_or(step, |tick| tick.min(step)));
        }
        self.last = self.last.max(time);
    }

    /// Whether the last frame came so much later than the one before that the clock may have been set.
    #[inline]
    pub(super) fn leapt(&self) -> bool {
        self.step >= FORWARD && self.leaps < LEAPS_MAX
    }

    /// Remembers the timestamps of what came before the last frame, which leapt to this time.
    #[cold]
    pub(super) fn remember<'a>(&mut self, time: Nanos, before: impl Iterator<Item = (Nanos, &'a Decoded)>) {
        (self.leaps, self.watched, self.leapt_at) = (self.leaps + 1, (WATCHED, self.step), time);
        self.timestamps.clear();
        for (time, decoded) in before.filter(|(_, decoded)| decoded.header.bits.any(Bits::TIMESTAMPS)) {
            self.timestamps.insert([decoded.source, decoded.destination], (decoded.header.tsval, time));
        }
    }

    /// Holds a segment's timestamp against the one before the leap: no sender's clock ticks more slowly than once a
    /// second (RFC 7323 section 5.4).
    #[inline]
    pub(super) fn check(&mut self, decoded: &Decoded, time: Nanos) {
        if self.watched.0 == 0 {
            return;
        }
        self.watched.0 -= 1;
        let Some((tsval, since)) = self.timestamps.remove(&[decoded.source, decoded.destination]) else { return };
        let ticks = decoded.header.tsval.wrapping_sub(tsval);
        let passed = time.0.saturating_sub(since.0);
        if decoded.header.bits.any(Bits::TIMESTAMPS) && tsval != 0 && u64::from(ticks) < passed / 1_000_000_000 {
            self.set_forward = self.set_forward.max(self.watched.1);
            if self.steps.last() != Some(&self.leapt_at) {
                self.steps.push(self.leapt_at);
            }
        }
    }

    /// Whether the clock was set forward between what was handed on so far and what is captured at this time.
    #[inline]
    pub(super) fn take_step(&mut self, time: Nanos) -> bool {
        if self.steps.first().is_none_or(|step| time < *step) {
            return false;
        }
        self.steps.retain(|step| time < *step);
        true
    }

    /// Whether it was set back, or another capture was appended.
    pub(super) fn was_set_back(&self) -> bool {
        self.set_back > 0
    }

    /// How it was set, for people.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let forward = (!self.set_forward.is_zero()).then(|| {
            let seconds = self.set_forward.as_secs();
            format!("the capture's clock was set forward by about {seconds} s; round trips across it are not measured")
        });
        let back = self.was_set_back().then(|| {
            format!(
                "the capture's clock was set back, or another capture was appended ({} times); round trips across that \
                 are not measured",
                self.set_back
            )
        });
        forward.into_iter().chain(back)
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
