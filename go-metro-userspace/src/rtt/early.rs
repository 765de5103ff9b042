//! Segments of peers whose flows have not begun: what was acknowledged before it was seen is not timed by a repetition
//! (rule 4), nor by what comes behind something that was missed.
//!
//! A capture may have an acknowledgement before the segment that it acknowledges. Where that is the first segment of
//! its flow, there is no flow yet to remember it, and what others send must not make one. So it is remembered here: a
//! place for each of some thousand hashes, where the latest flow of a hash replaces those before.

use super::SeqNum;
use super::flow::LARGEST_WINDOW;

/// Places: 64 KiB.
const PLACES: usize = 1 << 12;

/// What the peer of a flow that has not begun has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Early {
    /// The most that it has acknowledged, if anything.
    pub(super) ack: Option<SeqNum>,
    /// Sequence number after its highest, if that is followed.
    pub(super) peer_nxt: Option<SeqNum>,
}

/// Of a place: something is remembered, and what.
const USED: u32 = 1 << 0;
const HAS_ACK: u32 = 1 << 1;
const HAS_PEER_NXT: u32 = 1 << 2;

/// A flow's hash, marks, acknowledgement number and the peer's next number.
type Place = [u32; 4];

/// What the peers of some flows have sent.
pub(super) struct EarlySegments(Box<[Place]>);

impl EarlySegments {
    /// None remembered.
    pub(super) fn new() -> Self {
        Self(vec![Place::default(); PLACES].into_boxed_slice())
    }

    /// Remembers what the peer of the flow with this hash has sent. Acknowledgements count by the most of them; that
    /// there is none makes those before forgotten.
    #[inline]
    pub(super) fn add(&mut self, hash: u32, new: Early) {
        let known = self.take(hash);
        let ack = new.ack.map(|ack| furthest(known.ack, ack));
        let peer_nxt = new.peer_nxt.map(|nxt| furthest(known.peer_nxt, nxt));
        let marks = USED | ack.map_or(0, |_| HAS_ACK) | peer_nxt.map_or(0, |_| HAS_PEER_NXT);
        self.0[Self::place(hash)] = [hash, marks, ack.unwrap_or_default().0, peer_nxt.unwrap_or_default().0];
    }

    /// What is remembered of the flow with this hash; then it no longer is.
    #[inline]
    pub(super) fn take(&mut self, hash: u32) -> Early {
        let place = &mut self.0[Self::place(hash)];
        let [of, marks, ack, peer_nxt] = *place;
        if marks & USED == 0 || of != hash {
            return Early::default();
        }
        *place = Place::default();
        let known = |mark: u32, number: u32| (marks & mark != 0).then_some(SeqNum(number));
        Early { ack: known(HAS_ACK, ack), peer_nxt: known(HAS_PEER_NXT, peer_nxt) }
    }

    fn place(hash: u32) -> usize {
        hash as usize % PLACES
    }
}

/// The higher of two, if they are of one stream.
fn furthest(known: Option<SeqNum>, new: SeqNum) -> SeqNum {
    known.filter(|known| known.distance(new) <= LARGEST_WINDOW).map_or(new, |known| known.max(new))
}
