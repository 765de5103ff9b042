//! What each flow measures, noted only while somebody watches.

use hashbrown::HashMap;

use go_metro_rtt::{FlowKey, PairSummary, Place, Sample, SummaryLimits};

/// Flows told one by one in one interval; a screen shows a few dozen, and its user filters among the rest.
const MOST_FLOWS: usize = 4096;
/// A viewer shows quantiles and needs no choice of samples.
const LIMITS: SummaryLimits = SummaryLimits {
    max_pairs: MOST_FLOWS,
    kept_samples: 1024,
    keeps_choice: false,
    without_delayed: false,
    average: go_metro_rtt::Average::Mean,
};

/// The flows of the current interval.
#[derive(Default)]
pub(super) struct FlowTap {
    flows: HashMap<FlowKey, (Place, PairSummary), foldhash::fast::RandomState>,
    left_out: u64,
}

/// One interval's flows.
#[derive(Default)]
pub(super) struct Tapped {
    /// Each with its group.
    pub(super) flows: Vec<(FlowKey, (Place, PairSummary))>,
    /// Samples of flows beyond the bound.
    pub(super) left_out: u64,
}

impl Tapped {
    /// Adds the flows of another engine, within the same bound.
    pub(super) fn add(&mut self, other: Self) {
        let room = MOST_FLOWS.saturating_sub(self.flows.len());
        let mut others = other.flows.into_iter();
        self.flows.extend(others.by_ref().take(room));
        self.left_out += other.left_out + others.map(|(_, (_, summary))| summary.count()).sum::<u64>();
    }
}

impl FlowTap {
    pub(super) fn add(&mut self, sample: &Sample) {
        let full = self.flows.len() >= MOST_FLOWS;
        let (place, summary) = match self.flows.get_mut(&sample.flow) {
            Some(flow) => flow,
            None if full => {
                self.left_out += 1;
                return;
            }
            None => self.flows.entry(sample.flow).or_default(),
        };
        *place = sample.place;
        summary.add(sample, &LIMITS);
    }

    pub(super) fn take(&mut self) -> Tapped {
        Tapped { flows: self.flows.drain().collect(), left_out: std::mem::take(&mut self.left_out) }
    }
}
