//! Points in time and the spans between them, in nanoseconds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds on the source's clock (monotonic for eBPF, since the epoch for captures).
///
/// The engine compares and subtracts such points; it never asks a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The time from `earlier` to this point, or `None` where that is not positive.
    #[inline]
    pub fn since(self, earlier: Self) -> Option<Rtt> {
        self.0.checked_sub(earlier.0).filter(|ns| *ns > 0).map(Rtt)
    }

    /// This point moved later by `span`, no later than the end of time.
    #[inline]
    pub fn plus(self, span: Duration) -> Self {
        self.plus_ns(nanoseconds(span))
    }

    /// As [`Nanos::plus`], by this many nanoseconds.
    #[inline]
    pub(super) fn plus_ns(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// A span in nanoseconds, as long as one can be.
#[inline]
pub(super) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A round-trip time in nanoseconds; positive wherever the engine made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rtt(pub u64);

impl Rtt {
    /// In milliseconds, the unit of the metrics.
    #[inline]
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl From<Rtt> for Duration {
    fn from(rtt: Rtt) -> Self {
        Self::from_nanos(rtt.0)
    }
}
