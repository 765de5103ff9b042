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
/// Delay applies to all; loss, duplication and reordering to TCP and UDP alone, so that address resolution always
/// works. They are drawn from `seed`, one draw a frame: the same frames in the same order meet the same fate.
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
    /// Other probabilities of that, by the address of the host b side.
    pub loss_of: Vec<(IpAddr, f64)>,
    /// Probability that a frame is lost after one that was, if that is higher: losses come in bursts of
    /// 1 / (1 - burst).
    pub burst: f64,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Probability that a frame is held back by [`REORDER_HOLD`], so that later ones overtake it.
    pub reorder: f64,
    /// Probability that a frame whose sender understands that (ECT) arrives marked (CE, RFC 3168 section 5).
    pub mark: f64,
    /// What the narrowest link of the way carries, and what waits before it.
    pub queue: Option<Queue>,
    /// Where the draws start.
    pub seed: u64,
    /// What happens to certain segments, whatever the draws say.
    pub orders: Vec<Order>,
}

/// A link of limited rate with a buffer before it: first in, first out, and what finds no room is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Bits a second.
    pub rate: u64,
    /// Bytes that may wait.
    pub room: usize,
}

impl Queue {
    /// One that takes `time` to drain when it is full.
    #[must_use]
    pub fn of(rate: u64, time: Duration) -> Self {
        Self { rate, room: (rate as f64 / 8.0 * time.as_secs_f64()) as usize }
    }

    /// How long it takes to put `length` bytes on the link.
    pub(super) fn time(self, length: usize) -> Duration {
        Duration::from_secs_f64(length as f64 * 8.0 / self.rate as f64)
    }
}

/// What kind of TCP segment a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// SYN without ACK.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// RST.
    Reset,
    /// FIN, with or without payload.
    Fin,
    /// Payload.
    Data,
    /// None of these.
    Ack,
}

/// What an [`Order`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The segment is lost.
    Lose,
    /// It arrives twice.
    Duplicate,
    /// It arrives so much later, and others overtake it.
    Hold(Duration),
}

/// An order for one segment: the `nth` (from 1) of its kind since the impairment was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its kind.
    pub what: What,
    /// Which of these.
    pub nth: u32,
    /// What happens to it.
    pub then: Then,
}

impl Order {
    /// Loses the `nth` segment of a kind.
    #[must_use]
    pub fn lose(what: What, nth: u32) -> Self {
        Self { what, nth, then: Then::Lose }
    }

    /// Lets the `nth` segment of a kind arrive twice.
    #[must_use]
    pub fn duplicate(what: What, nth: u32) -> Self {
        Self { what, nth, then: Then::Duplicate }
    }

    /// Holds the `nth` segment of a kind back by `time`.
    #[must_use]
    pub fn hold(what: What, nth: u32, time: Duration) -> Self {
        Self { what, nth, then: Then::Hold(time) }
    }
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
