//! How well the connections of a pair of hosts do: what was sent again and why, how they opened and how they ended.

use go_metro_common::reasons;
use serde::{Deserialize, Serialize};

use crate::Side;

reasons! {
    /// Why a segment was sent again, as far as what passes by shows it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Cause {
        /// A SYN or SYN-ACK that was not answered (RFC 6298 section 5.7).
        Syn = "syn",
        /// The retransmission timer ran out (RFC 6298 section 5.4), or it had and this was outstanding then.
        Timeout = "timeout",
        /// The receiver had said that it misses something: SACK blocks (RFC 6675, RFC 8985) or three duplicate
        /// acknowledgements (RFC 5681 section 3.2).
        Fast = "fast",
        /// The last segment, sent again early to hear whether it arrived (RFC 8985 section 7).
        TailProbe = "tail_probe",
        /// Nothing that was seen explains it.
        Unknown = "unknown",
    }
}

reasons! {
    /// What became of an attempt to connect.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Connect {
        /// The handshake was completed.
        Established = "established",
        /// A SYN was answered with RST (RFC 9293 section 3.10.7.3).
        Refused = "refused",
        /// It was not answered in time.
        Timeout = "timeout",
        /// It was reset by its beginner, or between SYN-ACK and ACK.
        Reset = "reset",
    }
}

reasons! {
    /// Which part the local end has in a handshake.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Role {
        /// It sent the SYN.
        Client = "client",
        /// It sent the SYN-ACK.
        Server = "server",
    }
}

reasons! {
    /// An end of a connection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum By {
        /// This side of the interface.
        Local = "local",
        /// Beyond it.
        Remote = "remote",
    }
}

impl Role {
    /// The local end's part, where this is that of the end that this side times.
    pub(crate) fn seen_from(self, side: Side) -> Self {
        match (side, self) {
            (Side::Local, Self::Client) => Self::Server,
            (Side::Local, Self::Server) => Self::Client,
            (Side::Remote, role) => role,
        }
    }
}

impl By {
    /// Which end that is, where [`By::Local`] is the one that this side times.
    pub(crate) fn seen_from(self, side: Side) -> Self {
        match (side, self) {
            (Side::Local, Self::Local) => Self::Remote,
            (Side::Local, Self::Remote) => Self::Local,
            (Side::Remote, by) => by,
        }
    }
}

/// Counts of one pair of hosts in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHealth {
    /// Segments with payload or FIN that the timed end sent, retransmissions among them but no probes. A super-segment
    /// counts as what it becomes on the wire, where the source knows that
    /// ([`Payload::segments`](crate::Payload::segments)).
    pub segments: u64,
    /// Payload bytes in those.
    pub bytes: u64,
    /// Segments that were sent again, by [`Cause`].
    pub retransmits: [u64; Cause::COUNT],
    /// Of those, how many had not been necessary: the receiver had them already (RFC 2883, RFC 3522).
    pub spurious: u64,
    /// Attempts to connect, by [`Role`] and [`Connect`].
    pub connects: [[u64; Connect::COUNT]; Role::COUNT],
    /// Connections that were reset after they had been established, by who did it ([`By`]).
    pub resets: [u64; By::COUNT],
    /// Connections that both ends have closed.
    pub closes: u64,
    /// How long the end that acknowledges had announced a window of zero while something waited to be sent, in
    /// nanoseconds: of each connection by itself, all together.
    pub zero_window_ns: u64,
    /// Acknowledgements that echo congestion: ECE, but not of a SYN (RFC 3168 section 6.1.3).
    pub echoes: u64,
    /// Something of the interval is missing: all of these may be too low.
    pub incomplete: bool,
}

impl PeerHealth {
    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            segments,
            bytes,
            retransmits,
            spurious,
            connects,
            resets,
            closes,
            zero_window_ns,
            echoes,
            incomplete,
        } = self;
        *segments += other.segments;
        *bytes += other.bytes;
        *spurious += other.spurious;
        *closes += other.closes;
        *zero_window_ns += other.zero_window_ns;
        *echoes += other.echoes;
        *incomplete |= other.incomplete;
        let mine = retransmits.iter_mut().chain(connects.iter_mut().flatten()).chain(resets);
        let theirs = other.retransmits.iter().chain(other.connects.iter().flatten()).chain(&other.resets);
        mine.zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// Segments that were sent again, for any reason.
    pub fn retransmits_total(&self) -> u64 {
        self.retransmits.iter().sum()
    }

    /// How long windows were zero while something waited, in whole milliseconds.
    pub fn zero_window_ms(&self) -> u64 {
        (self.zero_window_ns + 500_000) / 1_000_000
    }

    /// Which share of the segments was sent again, SYNs aside; none where there are none.
    pub fn resent(&self) -> Option<f64> {
        let again = self.retransmits_total() - self.retransmits[Cause::Syn as usize];
        (self.segments > 0).then(|| again as f64 / self.segments as f64)
    }

    /// Attempts to connect that came to this, in either role.
    pub fn connects_total(&self, result: Connect) -> u64 {
        self.connects.iter().map(|role| role[result as usize]).sum()
    }

    /// Connections that were refused, did not come about in time, or were reset, then or later.
    pub fn failed(&self) -> u64 {
        let opening = [Connect::Refused, Connect::Timeout, Connect::Reset].map(|result| self.connects_total(result));
        opening.iter().chain(&self.resets).sum()
    }

    pub(crate) fn count_connect(&mut self, role: Role, result: Connect) {
        self.connects[role as usize][result as usize] += 1;
    }
}
