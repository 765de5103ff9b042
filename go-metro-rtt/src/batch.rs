//! Segments on their way to the engine, a few at a time.
//!
//! What is known of a flow is rarely in the processor's caches when its next segment comes; waiting for it is most of
//! what a record costs where there are many flows. Several waits at once take no longer than one.

use crate::hashed::Hashed;
use crate::{Engine, Outcome, Ports, Segment};

/// Segments in a batch: enough for a processor's outstanding cache misses, few enough that all they need stays in its
/// fastest cache.
const SIZE: usize = 32;

/// Up to 32 segments, of the chosen ports.
pub struct Batch {
    ports: Ports,
    hashed: [Hashed; SIZE],
    len: usize,
}

impl Batch {
    /// An empty one, for segments of all ports.
    pub fn new() -> Self {
        Self::of(Ports::ALL)
    }

    /// An empty one, for segments with one of these ports at either end. Others go no further and are
    /// [`EngineCounters::other_ports`](crate::EngineCounters::other_ports); what goes to [`Engine::record`] is not
    /// chosen from.
    pub fn of(ports: Ports) -> Self {
        Self { ports, hashed: std::array::from_fn(|_| Hashed::nothing()), len: 0 }
    }

    /// Chooses other ports from now on, while it is empty. If they differ, the engine drops all flows, as of none all
    /// segments may have come, and keeps its counters.
    pub fn set_ports(&mut self, ports: Ports, engine: &mut Engine) {
        debug_assert_eq!(self.len, 0, "what was chosen before is flushed first");
        if ports != self.ports {
            self.ports = ports;
            engine.drop_flows();
        }
    }

    /// Adds a segment if it is of the chosen ports; if the batch is full then, the engine takes it, as by
    /// [`Batch::flush`].
    #[inline]
    pub fn push(&mut self, segment: &Segment, engine: &mut Engine, sink: &mut impl FnMut(&Segment, Outcome)) {
        if !self.ports.choose(&segment.flow) {
            engine.note_other_ports();
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
