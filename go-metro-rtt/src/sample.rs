//! What becomes of a segment: a sample, or the reason why there is none.

use go_metro_common::reasons;

use crate::health::Cause;
use crate::place::Place;
use crate::{FlowKey, Label, Nanos, Rtt, SeqNum};

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An outbound segment, noted.
    Sent,
    /// The same of one that was sent before, and why it is sent again; told apart where [`PeerHealth`] is counted.
    ///
    /// [`PeerHealth`]: crate::PeerHealth
    Resent(Resent),
    /// An acknowledgement that measured an RTT.
    Sample(Sample),
    /// An acknowledgement of something new that measured nothing.
    Rejected(Rejection),
    /// A segment from which nothing was to be expected.
    Quiet(Quiet),
    /// A segment, of which another outcome came already, has begun a response ([`Engine::time_responses`]).
    ///
    /// [`Engine::time_responses`]: crate::Engine::time_responses
    Response(Response),
}

reasons! {
    /// Why an acknowledgement of something new is no sample.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Rejection {
        /// Beyond all that was seen to be sent.
        NeverSent = "never_sent",
        /// No transmission on record contains the acknowledged byte: thinned out, or it passed unseen.
        NoSegment = "no_segment",
        /// Retransmitted, and timestamps do not tell which transmission is acknowledged (Karn's algorithm).
        Retransmitted = "retransmitted",
        /// Behind a hole: the acknowledgement waited for another segment.
        Hole = "hole",
        /// Sent after a retransmission and acknowledged together with it: it may have waited for it.
        Recovery = "recovery",
        /// Something that passed unseen caused the acknowledgement, or may have: there is a gap below it, its TSecr is
        /// of no transmission that was seen, or its number was acknowledged before.
        Unseen = "unseen",
        /// The acknowledgement is no later than the segment.
        NotPositive = "not_positive",
        /// Longer than `idle_ttl`.
        TooLong = "too_long",
    }
}

reasons! {
    /// Why nothing was to be expected of an inbound segment.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Quiet {
        /// No segment of its flow was seen to be sent.
        NothingSent = "nothing_sent",
        /// It acknowledges nothing.
        NoAck = "no_ack",
        /// It acknowledges what was acknowledged before.
        Old = "old",
        /// It repeats the last acknowledgement number.
        Duplicate = "duplicate",
        /// A reset.
        Reset = "reset",
    }
}

/// What is known of a segment that was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resent {
    /// Why.
    pub cause: Cause,
    /// As [`Sample::label`].
    pub label: Label,
    /// As [`Sample::place`].
    pub place: Place,
}

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
    /// Whether the receiver kept the acknowledgement back (RFC 9293 section 3.8.6.3), as far as the flow's round trips
    /// show that: then this is not the path's time alone.
    pub delayed: bool,
    /// What the flow's results are told apart by ([`Engine::label_flows`](crate::Engine::label_flows)).
    pub label: Label,
    /// The group that its pair is of, where flows are grouped.
    pub place: Place,
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

/// How long the other end took for one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The flow whose other end has responded; the one that is timed has asked.
    pub flow: FlowKey,
    /// When its first byte came.
    pub at: Nanos,
    /// From the request's last byte to the response's first, less the flow's shortest round trip; 1 ns where that is
    /// more.
    pub took: Rtt,
    /// What the flow's results are told apart by.
    pub label: Label,
    /// The group that its pair is of, where flows are grouped.
    pub place: Place,
}
