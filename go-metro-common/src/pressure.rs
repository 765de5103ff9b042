//! How full the ring is, as the classifier sees it, and what it does about that.

/// The steps: nanoseconds between two samples of a flow.
pub const STEPS: [u64; 3] = [10_000_000, 100_000_000, 1_000_000_000];

/// The watermark that is never reached.
pub const NEVER: u64 = u64::MAX;

/// A CPU looks at the ring when its count of matched segments, masked with this, is 0.
pub const LOOK_MASK: u64 = 15;

/// Nanoseconds at a step, before the ring, still above the watermark, leads to the next.
pub const STEP_NS: u64 = 100_000_000;

/// Nanoseconds for which the ring stays below half of the watermark before a step is taken back.
pub const CALM_NS: u64 = 1_000_000_000;

/// Nanoseconds after which no flow is taken to be still thinned: each has returned, or was silent for longer than one
/// is remembered.
pub const REMEMBER_NS: u64 = 600_000_000_000;

/// What all CPUs share. Each word is read and written whole; which of two that write at once is last makes no
/// difference but in time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Nanoseconds between two samples of a flow; 0 if every sample is taken.
    pub every_ns: u64,
    /// When the last step was taken (`CLOCK_MONOTONIC`).
    pub stepped_ns: u64,
    /// When the ring was last too full for a step to be taken back; 0 if that is so long ago that no flow is known to
    /// be thinned.
    pub busy_ns: u64,
}

// SAFETY: `repr(C)` of `u64`s only: no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Pressure {}
