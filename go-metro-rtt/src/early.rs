//! Segments of peers whose flows have not begun: what was acknowledged before it was seen is not timed by a repetition
//! (rule 12), nor by what comes behind something that was missed (rule 15), and three duplicates announce a
//! retransmission (rule 5).
//!
//! A capture may have an acknowledgement before the segment that it acknowledges. Where that is the first segment of
//! its flow, there is no flow yet to remember it, and what others send must not make one. So it is remembered here: a
//! place for each of some thousand hashes, where the latest flow of a hash replaces those before.

use crate::seq::LARGEST_WINDOW;
use crate::{Segment, SeqNum};

/// Places: 64 KiB.
const PLACES: usize = 1 << 12;

/// What the peer of a flow that has not begun has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Early {
    /// The most that it has acknowledged, if anything.
    pub(super) ack: Option<SeqNum>,
    /// How many duplicates of that acknowledgement came in a row (RFC 5681 section 2), up to three.
    pub(super) duplicates: u8,
    /// Sequence number after its highest, if that is followed.
    pub(super) peer_nxt: Option<SeqNum>,
}

/// Of a place: what is remembered.
const HAS_ACK: u32 = 1 << 1;
const HAS_PEER_NXT: u32 = 1 << 2;
/// Where the duplicates are, and the last window.
const DUPLICATES_SHIFT: u32 = 8;
const WINDOW_SHIFT: u32 = 16;

impl Early {
    /// Nothing is known of it.
    pub(super) const NOTHING: Self = Self { ack: None, duplicates: 0, peer_nxt: None };
}

/// A flow's hash, marks, acknowledgement number and the peer's next number.
type Place = [u32; 4];

/// What the peers of some flows have sent.
pub(super) struct EarlySegments {
    places: Box<[Place]>,
    /// A bit for each place that is used. They stay in the processor's fastest cache, which places do not: nearly all
    /// that is asked for is not there.
    used: [u64; PLACES / 64],
}

impl EarlySegments {
    /// None remembered.
    pub(super) fn new() -> Self {
        Self { places: vec![Place::default(); PLACES].into_boxed_slice(), used: [0; PLACES / 64] }
    }

    /// Remembers that the peer of the flow with this hash has sent `segment`, which acknowledges `ack`, if anything;
    /// `peer_nxt` is after its last number, if that is followed. Acknowledgements count by the most of them.
    #[inline]
    pub(super) fn add(&mut self, hash: u32, segment: &Segment, ack: Option<SeqNum>, peer_nxt: Option<SeqNum>) {
        let window = u32::from(segment.header.window);
        let (place, word, bit) = Self::place(hash);
        let is_same_window = self.places[place][1] >> WINDOW_SHIFT == window;
        let known = self.take(hash);
        // One with payload says nothing of the kind: the classifier leaves such in the kernel.
        let is_repeated = ack.is_some() && ack == known.ack && is_same_window;
        let duplicates = if is_repeated { (known.duplicates + u8::from(segment.is_empty())).min(3) } else { 0 };
        let ack = ack.map(|ack| furthest(known.ack, ack)).or(known.ack);
        let peer_nxt = peer_nxt.map(|nxt| furthest(known.peer_nxt, nxt));
        let has = ack.map_or(0, |_| HAS_ACK) | peer_nxt.map_or(0, |_| HAS_PEER_NXT);
        let marks = has | u32::from(duplicates) << DUPLICATES_SHIFT | window << WINDOW_SHIFT;
        self.places[place] = [hash, marks, ack.unwrap_or_default().0, peer_nxt.unwrap_or_default().0];
        self.used[word] |= bit;
    }

    /// What is remembered of the flow with this hash; then it no longer is.
    #[inline]
    pub(super) fn take(&mut self, hash: u32) -> Early {
        let early = self.of(hash);
        if early != Early::NOTHING {
            let (place, word, bit) = Self::place(hash);
            self.used[word] &= !bit;
            self.places[place] = Place::default();
        }
        early
    }

    /// What is remembered of the flow with this hash.
    #[inline]
    pub(super) fn of(&self, hash: u32) -> Early {
        let (place, word, bit) = Self::place(hash);
        if self.used[word] & bit == 0 || self.places[place][0] != hash {
            return Early::NOTHING;
        }
        let [_, marks, ack, peer_nxt] = self.places[place];
        let known = |mark: u32, number: u32| (marks & mark != 0).then_some(SeqNum(number));
        let duplicates = (marks >> DUPLICATES_SHIFT) as u8;
        Early { ack: known(HAS_ACK, ack), duplicates, peer_nxt: known(HAS_PEER_NXT, peer_nxt) }
    }

    /// Where it is, and where its bit is.
    #[inline]
    fn place(hash: u32) -> (usize, usize, u64) {
        let place = hash as usize % PLACES;
        (place, place / 64, 1 << (place % 64))
    }
}

/// The higher of two, if they are of one stream.
fn furthest(known: Option<SeqNum>, new: SeqNum) -> SeqNum {
    known.filter(|known| known.distance(new) <= LARGEST_WINDOW).map_or(new, |known| known.max(new))
}
