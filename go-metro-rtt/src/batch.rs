//! Segments on their way to the engine, a few at a time.
//!
//! What is known of a flow is rarely in the processor's caches when its next segment comes; waiting for it is most of
//! what a record costs where there are many flows. Several waits at once take no longer than one.

use crate::hashed::Hashed;
use crate::{Engine, Outcome, Segment};

/// Segments in a batch: enough for a processor's outstanding cache misses, few enough that all they need stays in its
/// fastest cache.
const SIZE: usize = 32;

/// Up to 32 segments.
pub struct Batch {
    hashed: [Hashed; SIZE],
    len: usize,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self { hashed: std::array::from_fn(|_| Hashed::nothing()), len: 0 }
    }

    /// Adds a segment if it is of the ports that the engine chooses; if the batch is full then, the engine takes it, as
    /// by [`Batch::flush`].
    #[inline]
    pub fn push(&mut self, segment: &Segment, engine: &mut Engine, sink: &mut impl FnMut(&Segment, Outcome)) {
        if !engine.chooses(segment) {
            return;
        }
        self.hashed[self.len].segment = *segment;
        self.len += 1;
        if self.len == SIZE {
            self.flush(engine, sink);
        }
    }

    /// Hands what was added to the engine, in that order, and each outcome to `sink`.
    pub fn flush(&mut self, engine: &mut Engine, sink: &mut impl FnMut(&Segment, Outcome)) {
        engine.record_all(&mut self.hashed[..self.len], sink);
        self.len = 0;
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}
