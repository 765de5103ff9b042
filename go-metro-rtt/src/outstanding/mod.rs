//! Outstanding segments: what was sent and not yet acknowledged (rules 1 to 4, 9, and 11 to 13 of RULES.md).
//!
//! Each flow has a [`Queue`] of its transmissions in the order of sending. All queues take their nodes from one
//! [`Pool`], which is reserved once, so that the packet path never allocates and memory stays bounded however the flows
//! behave. An acknowledgement asks the queue what it covers; [`evidence`] decides which transmission it times, if any.

mod evidence;
mod pool;
mod queue;

pub(crate) use evidence::is_newer;
pub(crate) use pool::{BYTES_PER_NODE, Pool, Share, common_for};
pub(crate) use queue::{Queue, Room};

use crate::{Nanos, Rejection, SeqNum};

/// One transmission of one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transmission {
    /// Departure.
    pub(crate) sent_at: Nanos,
    /// First sequence number.
    pub(crate) start: SeqNum,
    /// Sequence number after the last.
    pub(crate) end: SeqNum,
    /// TSval, if it carried timestamps.
    pub(crate) tsval: Option<u32>,
    /// Whether it carried SYN.
    pub(crate) syn: bool,
    /// Whether the sequence space right before it was never seen to be sent (a gap).
    pub(crate) after_gap: bool,
    /// Whether some of it had been acknowledged before it was seen.
    pub(crate) acked_early: bool,
}

/// An acknowledgement that advances `snd_una`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advance {
    /// First sequence number not acknowledged until now.
    pub(crate) una: SeqNum,
    /// The same, counting also what was acknowledged before it was seen to be sent (rule 12).
    pub(crate) una_claimed: SeqNum,
    /// The acknowledgement number.
    pub(crate) ack: SeqNum,
    /// TSecr, if it carries timestamps.
    pub(crate) tsecr: Option<u32>,
}

impl Advance {
    /// TSecr, if it is the echo of something: Linux takes 0 for none (`tcp_rcv_synsent_state_process` of
    /// net/ipv4/tcp_input.c).
    fn echo(&self) -> Option<u32> {
        self.tsecr.filter(|tsecr| *tsecr != 0)
    }
}

/// What an acknowledgement finds on record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Match {
    /// No transmission contains the byte before the acknowledgement number.
    None,
    /// The same, but transmissions were dropped from the record (rule 9).
    Dropped,
    /// The newest transmission that contains it; sent once, and nothing was retransmitted since.
    Clean(Transmission),
    /// Retransmitted, or something was since; but TSecr names this transmission alone.
    ByTimestamp(Transmission),
    /// Retransmitted, or something was since, and TSecr decides nothing.
    Ambiguous,
    /// Something that was not seen caused the acknowledgement, or may have.
    Unseen,
    /// The transmission was acknowledged before it was seen; this is a repetition.
    AckedEarly,
}

/// What an acknowledgement times, as far as the record tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    pub(crate) transmission: Transmission,
    pub(crate) proof: Proof,
}

/// Why an acknowledgement is of one transmission and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// There was no other.
    Alone,
    /// TSecr names it.
    Timestamp,
}

impl Match {
    /// What is timed where nothing else speaks against it.
    #[inline]
    pub(crate) fn timed(self) -> Result<Timed, Rejection> {
        match self {
            Self::Clean(transmission) => Ok(Timed { transmission, proof: Proof::Alone }),
            Self::ByTimestamp(transmission) => Ok(Timed { transmission, proof: Proof::Timestamp }),
            Self::AckedEarly | Self::Unseen => Err(Rejection::Unseen),
            Self::None | Self::Dropped => Err(Rejection::NoSegment),
            Self::Ambiguous => Err(Rejection::Retransmitted),
        }
    }
}
