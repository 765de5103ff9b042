//! What is known of a flow in single bits, so that its state fits one cache line.

use bitflags::bitflags;

bitflags! {
    /// Which of a flow's numbers are known.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Known: u8 {
        /// The recovery point.
        const RECOVERY = 1 << 0;
        /// The TSval of the last retransmission: it carried timestamps.
        const RECOVERY_TSVAL = 1 << 1;
        /// Something was acknowledged that was not seen to be sent yet, up to here.
        const ACKED_AHEAD = 1 << 2;
        /// Our initial sequence number.
        const LOCAL_ISN = 1 << 3;
        /// The peer's initial sequence number.
        const REMOTE_ISN = 1 << 4;
        /// Up to where the peer has sent.
        const PEER_NXT = 1 << 5;
        /// `snd_una` is a byte that was sent only to probe a window that is closed.
        const PROBED = 1 << 7;
        /// That the end that is timed has opened the connection, and how long the handshake took.
        const ASKS = 1 << 6;
    }
}

bitflags! {
    /// What else there is to say about a flow. The two lowest bits are a number: duplicate acknowledgements in a row,
    /// up to three.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct FlowFlags: u16 {
        /// Duplicate acknowledgements in a row.
        const DUPLICATES = 0b11;
        /// `snd_una` and `snd_nxt` are known.
        const SYNCHRONISED = 1 << 2;
        /// Our SYN permitted SACK.
        const SACK_OFFERED = 1 << 3;
        /// SACK was agreed on, or a block was seen.
        const SACK_IN_USE = 1 << 4;
        /// The local end has closed.
        const FIN_SENT = 1 << 5;
        /// The peer has closed.
        const FIN_RECEIVED = 1 << 6;
        /// Either end has reset the connection.
        const RESET = 1 << 7;
        /// Per-flow sampling has left segments out.
        const SAMPLED = 1 << 8;
        /// Nobody has said so far that all before the first segment that was seen is acknowledged (rule 8).
        const UNA_ASSUMED = 1 << 9;
        /// There was a second SYN-ACK with another initial sequence number; the first is the one that is known.
        const SECOND_ISN = 1 << 10;
        /// Right before its last segment the peer has sent something that was not seen (rule 15).
        const PEER_MISSED = 1 << 11;
        /// The next segment that is sent is the first that is seen, or the first since segments may have passed unseen.
        const JOINS = 1 << 12;
        /// What is sent may repeat what was sent before the flow was joined (rule 8).
        const UNSETTLED = 1 << 13;
        /// A record that was given up may have shown that what was acknowledged ahead was not true: from then on it
        /// forbids, and proves nothing (rule 12).
        const AHEAD_DOUBTED = 1 << 14;
        /// Our SYN answered none: a SYN-ACK with its number is no repetition, but both ends have opened at once.
        const BEGAN = 1 << 15;
    }
}

impl FlowFlags {
    /// Inserts these where `on`; unlike `set`, clears none.
    #[inline]
    pub(super) fn insert_if(&mut self, flags: Self, on: bool) {
        if on {
            self.insert(flags);
        }
    }

    /// Duplicate acknowledgements in a row, up to three.
    #[inline]
    pub(super) fn duplicates(self) -> u8 {
        (self & Self::DUPLICATES).bits() as u8
    }

    /// Remembers how many duplicate acknowledgements came in a row; more than three count as three.
    #[inline]
    pub(super) fn set_duplicates(&mut self, count: u8) {
        self.remove(Self::DUPLICATES);
        self.insert(Self::from_bits_retain(u16::from(count).min(Self::DUPLICATES.bits())));
    }
}
