//! What is known of a flow in single bits, and which of its numbers are known at all: one word for the whole of it, so that a
//! flow's state fits one cache line.

/// A set of marks. The two lowest bits are a number: duplicate acknowledgements in a row, up to three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks(u32);

const DUPLICATES: u32 = 0b11;

impl Marks {
    /// `snd_una` and `snd_nxt` are known.
    pub(super) const SYNCHRONISED: Self = Self(1 << 2);
    /// Our SYN permitted SACK.
    pub(super) const SACK_OFFERED: Self = Self(1 << 3);
    /// SACK was agreed on, or a block was seen.
    pub(super) const SACK_IN_USE: Self = Self(1 << 4);
    /// The local end has closed.
    pub(super) const FIN_SENT: Self = Self(1 << 5);
    /// The peer has closed.
    pub(super) const FIN_RECEIVED: Self = Self(1 << 6);
    /// Either end has reset the connection.
    pub(super) const RESET: Self = Self(1 << 7);
    /// There is a recovery point.
    pub(super) const RECOVERY: Self = Self(1 << 8);
    /// The last retransmission carried timestamps.
    pub(super) const RECOVERY_TSVAL: Self = Self(1 << 9);
    /// There is a hole.
    pub(super) const HOLE: Self = Self(1 << 10);
    /// Our initial sequence number is known.
    pub(super) const LOCAL_ISN: Self = Self(1 << 11);
    /// The peer's is known.
    pub(super) const REMOTE_ISN: Self = Self(1 << 12);
    /// Of the hole: there may be one. Otherwise there is.
    pub(super) const HOLE_SUSPECTED: Self = Self(1 << 13);
    /// Of a suspected hole: what was outstanding is no longer on record.
    pub(super) const HOLE_FORGOTTEN: Self = Self(1 << 14);

    /// Records of the flow were left out.
    pub(super) const LEFT_OUT: Self = Self(1 << 15);
    /// Of a hole: the receiver has said since that it holds nothing above what it acknowledges.
    pub(super) const HOLE_CLOSED: Self = Self(1 << 16);
    /// Of a hole: it is none, but what was outstanding was too much to be kept on record.
    pub(super) const RECORD_FULL: Self = Self(1 << 19);
    /// Something was acknowledged that was not seen to be sent yet.
    pub(super) const ACKED_AHEAD: Self = Self(1 << 17);
    /// Nobody said so far that all before the first segment that was seen is acknowledged.
    pub(super) const UNA_ASSUMED: Self = Self(1 << 20);
    /// The last number of the hole stands for what was not seen to be sent yet, and what the receiver may hold.
    pub(super) const HOLE_BEYOND: Self = Self(1 << 21);
    /// Of a hole that a SACK block has shown: what was outstanding is still on record.
    pub(super) const HOLE_KEPT: Self = Self(1 << 27);
    /// There was a second SYN-ACK with another initial sequence number, which is the one that is remembered.
    pub(super) const SECOND_ISN: Self = Self(1 << 18);
    /// Up to where the peer has sent is known.
    pub(super) const PEER_FOLLOWED: Self = Self(1 << 23);
    /// Right before its last segment the peer has sent something that was not seen.
    pub(super) const PEER_MISSED: Self = Self(1 << 24);
    /// The next segment that is sent is the first that is seen, or the first since segments may have passed unseen.
    pub(super) const JOINS: Self = Self(1 << 25);
    /// What is sent may repeat what was sent before the flow was joined.
    pub(super) const UNSETTLED: Self = Self(1 << 26);
    /// A record that was given up may have shown that what was acknowledged ahead was not true: from then on it
    /// forbids, and proves nothing.
    pub(super) const AHEAD_DOUBTED: Self = Self(1 << 22);

    /// What is said of a hole.
    pub(super) const OF_HOLE: Self = Self::HOLE_BEYOND
        .and(Self::HOLE_SUSPECTED)
        .and(Self::HOLE_FORGOTTEN)
        .and(Self::HOLE_CLOSED)
        .and(Self::HOLE_KEPT)
        .and(Self::RECORD_FULL);
    /// What may speak against timing an acknowledgement that advances: without any of these only what is on record
    /// decides.
    pub(super) const IN_DOUBT: Self = Self::HOLE.and(Self::RECOVERY).and(Self::ACKED_AHEAD).and(Self::PEER_MISSED);

    /// Whether the flow is followed, and nothing speaks against timing what is on record.
    #[inline]
    pub(super) const fn are_usual(self) -> bool {
        const SPEAKS_AGAINST: u32 = Marks::IN_DOUBT.0 | Marks::UNA_ASSUMED.0 | Marks::UNSETTLED.0 | DUPLICATES;
        self.0 & (Self::SYNCHRONISED.0 | SPEAKS_AGAINST) == Self::SYNCHRONISED.0
    }

    /// Whether all of `marks` are set.
    #[inline]
    pub(super) const fn has(self, marks: Self) -> bool {
        self.0 & marks.0 == marks.0
    }

    /// Whether any of `marks` is set.
    #[inline]
    pub(super) const fn any(self, marks: Self) -> bool {
        self.0 & marks.0 != 0
    }

    /// All of both.
    #[inline]
    pub(super) const fn and(self, marks: Self) -> Self {
        Self(self.0 | marks.0)
    }

    /// Sets `marks` if `on`, clears them otherwise.
    #[inline]
    pub(super) fn set(&mut self, marks: Self, on: bool) {
        self.0 = if on { self.0 | marks.0 } else { self.0 & !marks.0 };
    }

    /// Sets `marks` if `on`, leaves them alone otherwise.
    #[inline]
    pub(super) fn add(&mut self, marks: Self, on: bool) {
        self.set(marks, on || self.has(marks));
    }

    /// Duplicate acknowledgements in a row, up to three.
    #[inline]
    pub(super) const fn duplicates(self) -> u8 {
        (self.0 & DUPLICATES) as u8
    }

    /// Remembers how many duplicate acknowledgements came in a row; more than three count as three.
    #[inline]
    pub(super) fn set_duplicates(&mut self, count: u8) {
        self.0 = (self.0 & !DUPLICATES) | u32::from(count).min(DUPLICATES);
    }
}
