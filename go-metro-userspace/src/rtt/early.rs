//! Acknowledgements of flows that have not begun: what was acknowledged before it was seen is not timed by a repetition (rule 4).
//!
//! A capture may have an acknowledgement before the segment that it acknowledges. Where that is the first segment of its flow, there is no flow
//! yet to remember it, and what others send must not make one. So it is remembered here: a place for each of some thousand hashes, where the
//! latest flow of a hash replaces those before.

use super::SeqNum;
use super::flow::LARGEST_WINDOW;

/// Places: 32 KiB.
const PLACES: usize = 1 << 12;

/// The last acknowledgement number of each of some flows.
pub(super) struct EarlyAcks(Box<[u64]>);

impl EarlyAcks {
    /// None remembered.
    pub(super) fn new() -> Self {
        Self(vec![0; PLACES].into_boxed_slice())
    }

    /// Remembers what was acknowledged of the flow with this hash, the most of it; `None`: that nothing was.
    #[inline]
    pub(super) fn set(&mut self, hash: u32, ack: Option<SeqNum>) {
        let known = self.take(hash);
        let most = ack
            .map(|ack| known.filter(|known| known.distance(ack) <= LARGEST_WINDOW).map_or(ack, |known| known.max(ack)));
        self.0[Self::place(hash)] = most.map_or(0, |ack| u64::from(hash) << 32 | u64::from(ack.0));
    }

    /// What was acknowledged of the flow with this hash, if that is remembered; then it no longer is.
    #[inline]
    pub(super) fn take(&mut self, hash: u32) -> Option<SeqNum> {
        let place = &mut self.0[Self::place(hash)];
        let is_its = *place != 0 && *place >> 32 == u64::from(hash);
        is_its.then(|| SeqNum(std::mem::take(place) as u32))
    }

    fn place(hash: u32) -> usize {
        hash as usize % PLACES
    }
}
