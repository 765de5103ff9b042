//! What a flow has beside its entry of the table while health is counted or responses are timed: half a cache line,
//! which a record reads and writes once for both.

use crate::exchange::Exchange;
use crate::flow_health::FlowHealth;

/// What a flow has beside its entry.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub(crate) struct Extension {
    pub(crate) health: FlowHealth,
    pub(crate) exchange: Exchange,
}

/// Bytes of a flow here.
pub(crate) const BYTES_PER_FLOW: usize = size_of::<Extension>();

const _: () = assert!(BYTES_PER_FLOW == 32);

/// Those of all flows, by the flows' numbers.
#[derive(Default)]
pub(crate) struct Extensions(Vec<Extension>);

impl Extensions {
    /// Room for so many flows.
    pub(crate) fn new(max_flows: usize) -> Self {
        Self(Vec::with_capacity(max_flows))
    }

    /// Reads a flow's, so that it is in the cache.
    #[inline]
    pub(crate) fn touch(&self, index: u32) -> u64 {
        self.0.get(index as usize).map_or(0, |extension| extension.health.touch())
    }

    /// A flow begins under this number.
    pub(crate) fn begin(&mut self, index: u32) {
        let index = index as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, Extension::default());
        }
        let Extension { health, exchange } = &mut self.0[index];
        health.begin();
        *exchange = Exchange::default();
    }

    /// Counting begins: nothing is known of the health of the flows that are there.
    pub(crate) fn forget_health(&mut self) {
        self.0.iter_mut().for_each(|extension| extension.health = FlowHealth::default());
    }

    /// Timing begins: nothing is known of the requests of the flows that are there.
    pub(crate) fn forget_exchanges(&mut self) {
        self.0.iter_mut().for_each(|extension| extension.exchange = Exchange::default());
    }

    /// Records of a flow may be missing: what it is sent next is no response.
    #[cold]
    pub(crate) fn interrupt(&mut self, index: u32) {
        if let Some(extension) = self.get(index) {
            extension.exchange.interrupt();
        }
    }

    /// A flow's, which has begun; none while none have any.
    #[inline]
    pub(crate) fn get(&mut self, index: u32) -> Option<&mut Extension> {
        self.0.get_mut(index as usize)
    }

    /// A flow's, which has begun, while they have.
    #[inline]
    pub(crate) fn of(&mut self, index: u32) -> &mut Extension {
        &mut self.0[index as usize]
    }
}
