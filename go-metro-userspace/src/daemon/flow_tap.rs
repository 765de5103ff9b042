//! What each flow measures, and how the connections of each pair of hosts do, noted only while somebody watches.

use hashbrown::HashMap;

use go_metro_rtt::{FlowKey, PairKey, PairSummary, PeerHealth, Place, Response, Sample, SummaryLimits};

/// Flows told one by one in one interval, and pairs; a screen shows a few dozen, and its user filters among the rest.
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
    pairs: HashMap<PairKey, PeerHealth, foldhash::fast::RandomState>,
    other: PeerHealth,
}

/// One interval's flows.
#[derive(Default)]
pub(super) struct Tapped {
    /// Each with its group.
    pub(super) flows: Vec<(FlowKey, (Place, PairSummary))>,
    /// Samples of flows beyond the bound.
    pub(super) left_out: u64,
    /// What was counted of pairs' connections.
    pub(super) pairs: HashMap<PairKey, PeerHealth, foldhash::fast::RandomState>,
    /// The same of those beyond the bound, and of strangers.
    pub(super) other: PeerHealth,
}

impl Tapped {
    /// Adds the flows of another engine, within the same bound.
    pub(super) fn add(&mut self, other: Self) {
        let room = MOST_FLOWS.saturating_sub(self.flows.len());
        let mut others = other.flows.into_iter();
        self.flows.extend(others.by_ref().take(room));
        self.left_out += other.left_out + others.map(|(_, (_, summary))| summary.count()).sum::<u64>();
        for (pair, health) in &other.pairs {
            room_for(*pair, &mut self.pairs, &mut self.other).merge(health);
        }
        self.other.merge(&other.other);
    }
}

impl FlowTap {
    pub(super) fn add(&mut self, sample: &Sample) {
        match self.summary(&sample.flow, sample.place) {
            Some(summary) => summary.add(sample, &LIMITS),
            None => self.left_out += 1,
        }
    }

    pub(super) fn add_response(&mut self, response: &Response) {
        if let Some(summary) = self.summary(&response.flow, response.place) {
            summary.add_response(response, &LIMITS);
        }
    }

    /// What a flow has measured, if there is room for it.
    fn summary(&mut self, flow: &FlowKey, now: Place) -> Option<&mut PairSummary> {
        if self.flows.len() >= MOST_FLOWS && !self.flows.contains_key(flow) {
            return None;
        }
        let (place, summary) = self.flows.entry(*flow).or_default();
        *place = now;
        Some(summary)
    }

    /// Adds what was counted of a pair's connections; without a pair, of those that have none of their own.
    pub(super) fn add_health(&mut self, pair: Option<PairKey>, health: &PeerHealth) {
        let Self { pairs, other, .. } = self;
        let counts = match pair {
            Some(pair) => room_for(pair, pairs, other),
            None => other,
        };
        counts.merge(health);
    }

    pub(super) fn take(&mut self) -> Tapped {
        Tapped {
            flows: self.flows.drain().collect(),
            left_out: std::mem::take(&mut self.left_out),
            pairs: std::mem::take(&mut self.pairs),
            other: std::mem::take(&mut self.other),
        }
    }
}

/// Where a pair is counted, as long as there is room for it.
fn room_for<'a>(
    pair: PairKey,
    pairs: &'a mut HashMap<PairKey, PeerHealth, foldhash::fast::RandomState>,
    other: &'a mut PeerHealth,
) -> &'a mut PeerHealth {
    if pairs.len() >= MOST_FLOWS && !pairs.contains_key(&pair) { other } else { pairs.entry(pair).or_default() }
}
