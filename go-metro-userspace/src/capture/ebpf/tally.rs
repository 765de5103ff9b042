//! What the classifier counts, for all threads that read its rings.

use std::sync::Arc;

use aya::maps::{MapData, PerCpuArray};
use go_metro_common::counters::{Counters, PerCpu};
use go_metro_common::names;

use crate::capture::error::CaptureError;

/// The kernel's counters.
#[derive(Clone)]
pub(super) struct Tally(Arc<PerCpuArray<MapData, PerCpu>>);

impl Tally {
    pub(super) fn new(counters: PerCpuArray<MapData, PerCpu>) -> Self {
        Self(Arc::new(counters))
    }

    /// All CPUs together, since the classifier was loaded.
    ///
    /// # Errors
    ///
    /// The kernel does not let the map be read.
    pub(super) fn sum(&self) -> Result<Counters, CaptureError> {
        let cpus = self.0.get(&0, 0);
        let cpus = cpus.map_err(|error| CaptureError::Map { map: names::COUNTERS, reason: error.to_string() })?;
        let mut all = Counters::default();
        cpus.iter().for_each(|cpu| all.add(&cpu.counters));
        Ok(all)
    }

    /// Records that found no room in any ring; `None` if the kernel does not let the map be read.
    pub(super) fn lost(&self) -> Option<u64> {
        self.sum().ok().map(|counters| counters.lost)
    }
}
