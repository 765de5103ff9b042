//! What becomes of a segment: a sample, or the reason why there is none.

use super::{FlowKey, Nanos, Rtt, SeqNum};

/// One RTT measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The flow whose segment was acknowledged; `local` is its sender.
    pub flow: FlowKey,
    /// When the acknowledgement arrived.
    pub acked_at: Nanos,
    /// The acknowledgement number.
    pub ack: SeqNum,
    /// From the segment's departure to the acknowledgement's arrival.
    pub rtt: Rtt,
    /// What was acknowledged.
    pub kind: Kind,
    /// How sure the match is, and why.
    pub class: Class,
}

/// What kind of segment a sample timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Data or FIN.
    Data,
    /// SYN or SYN-ACK: the handshake.
    Connect,
}

impl Kind {
    /// As JSON output and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Connect => "connect",
        }
    }
}

/// How the acknowledgement was matched with its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The ACK ends the segment.
    Exact,
    /// The ACK ends inside the segment: a part of a super-segment.
    Partial,
    /// Retransmitted, but TSecr tells which transmission was acknowledged (RFC 7323 section 4).
    Timestamp,
}

impl Class {
    /// As JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Partial => "partial",
            Self::Timestamp => "timestamp",
        }
    }
}
