//! What the path does to frames.

use std::net::IpAddr;
use std::time::Duration;

/// A direction of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From host a to host b.
    AToB,
    /// From host b to host a.
    BToA,
}

impl Way {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::AToB, Self::BToA];

    pub(super) fn index(self) -> usize {
        match self {
            Self::AToB => 0,
            Self::BToA => 1,
        }
    }
}

/// What happens to frames of one [`Way`]. The default is nothing.
///
/// Delay applies to all; loss, duplication and reordering to TCP and UDP alone, so that address resolution always works. They
/// are drawn from `seed`, one draw a frame: the same frames in the same order meet the same fate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Impairment {
    /// How much later a frame arrives than it left.
    pub delay: Duration,
    /// Other delays, by the address of the host b side.
    pub delay_of: Vec<(IpAddr, Duration)>,
    /// Up to so much is added, uniformly; frames keep their order.
    pub jitter: Duration,
    /// Probability that a frame is lost.
    pub loss: f64,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Probability that a frame is held back by [`REORDER_HOLD`], so that later ones overtake it.
    pub reorder: f64,
    /// Where the draws start.
    pub seed: u64,
}

/// How long a reordered frame is held back: long enough that the frames of the same flight overtake it.
pub const REORDER_HOLD: Duration = Duration::from_millis(3);

impl Impairment {
    /// Only a delay.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }
}
