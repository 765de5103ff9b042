//! What the classifier counts.

use aya::maps::{Array, MapData};
use go_metro_common::counters::{Counters, PerCpu};
use go_metro_common::names;

use crate::capture::error::CaptureError;

/// The kernel's counters.
pub(super) struct Tally(Array<MapData, PerCpu>);

impl Tally {
    pub(super) fn new(counters: Array<MapData, PerCpu>) -> Self {
        Self(counters)
    }

    /// All CPUs together, since the classifier was loaded.
    ///
    /// # Errors
    ///
    /// The kernel does not let the map be read.
    pub(super) fn sum(&self) -> Result<Counters, CaptureError> {
        let mut all = Counters::default();
        let summed = self.0.iter().try_for_each(|cpu| cpu.map(|cpu| all.add(&cpu.counters)));
        summed.map_err(|error| CaptureError::Map { map: names::CPUS, reason: error.to_string() })?;
        Ok(all)
    }

    /// Records that found no room in any ring; `None` if the kernel does not let the map be read.
    pub(super) fn lost(&self) -> Option<u64> {
        self.sum().ok().map(|counters| counters.lost)
    }
}
