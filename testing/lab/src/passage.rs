//! What the path did with each frame, as it knows itself: the truth that a measurement is held against.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::impairment::Way;

/// Bytes kept of a frame: Ethernet, IPv6 and TCP headers of the greatest length.
const HEAD: usize = 14 + 40 + 60;

/// One frame's way over the path. A frame that was duplicated has two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Which way it went.
    pub way: Way,
    /// When its sender's device handed it over, in nanoseconds since the epoch.
    pub left_ns: u64,
    /// When it was put out at the other end; none if it was lost.
    pub arrived_ns: Option<u64>,
    /// The frame's beginning, with all its headers.
    pub head: Vec<u8>,
}

/// Every passage since somebody asked for them.
#[derive(Debug)]
pub(super) struct Log {
    passages: Mutex<Option<Vec<Passage>>>,
    /// One moment on both clocks.
    moment: (Instant, Duration),
}

impl Default for Log {
    fn default() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { passages: Mutex::default(), moment: (Instant::now(), since_epoch) }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Passage>>> {
        self.passages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self) {
        *self.lock() = Some(Vec::new());
    }

    pub(super) fn take(&self) -> Vec<Passage> {
        self.lock().take().unwrap_or_default()
    }

    /// Notes a frame, if anybody wants to know.
    pub(super) fn note(&self, way: usize, left: Instant, arrived: Option<Instant>, frame: &[u8]) {
        if let Some(passages) = self.lock().as_mut() {
            passages.push(Passage {
                way: Way::BOTH[way],
                left_ns: self.since_epoch_ns(left),
                arrived_ns: arrived.map(|arrived| self.since_epoch_ns(arrived)),
                head: frame[..frame.len().min(HEAD)].to_vec(),
            });
        }
    }

    fn since_epoch_ns(&self, then: Instant) -> u64 {
        let (instant, since_epoch) = self.moment;
        let after = since_epoch + then.saturating_duration_since(instant);
        let at = after.saturating_sub(instant.saturating_duration_since(then));
        u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
    }
}
