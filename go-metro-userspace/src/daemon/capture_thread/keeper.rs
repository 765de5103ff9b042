//! What a meter keeps of its records, and which of its samples are outliers.

use go_metro_rtt::{Outcome, PairKey, Rtt, Sample, Segment};
use hashbrown::HashMap;

use crate::daemon::bases::{Lowest, MINUTE};
use crate::daemon::settings::RecordLimits;
use crate::record::{Focus, Mark, Ring, Snapshot};

/// Pairs with an outlier in one second that are told of; more wait for their next.
const MOST_OUTLIERS: usize = 64;
/// Pairs whose lowest round trip is known, however many are reported: each takes some 240 bytes.
const MOST_PAIRS: usize = 1 << 16;

/// A meter's ring, and what it looks for.
pub(super) struct Keeper {
    ring: Ring,
    bytes: usize,
    limits: RecordLimits,
    bases: HashMap<PairKey, Lowest, foldhash::fast::RandomState>,
    most_pairs: usize,
    /// Of each pair the longest since they were taken.
    outliers: Vec<Focus>,
}

impl Keeper {
    /// One with so much memory.
    fn new(bytes: usize, limits: RecordLimits) -> Self {
        let (ring, bases) = (Ring::new(bytes), HashMap::default());
        let mut keeper = Self { ring, bytes, limits, bases, most_pairs: 0, outliers: Vec::new() };
        keeper.set_limits(limits);
        keeper
    }

    /// What is to be kept from now on: by these limits, and while somebody records by hand. The last of what was kept
    /// is kept on, as far as there is room.
    pub(super) fn set(keeper: &mut Option<Self>, limits: RecordLimits, by_hand: Option<usize>) {
        match (limits.memory.or(by_hand), &mut *keeper) {
            (None, _) => *keeper = None,
            (Some(bytes), Some(keeper)) => {
                if keeper.bytes != bytes {
                    keeper.ring.resize(bytes);
                    keeper.bytes = bytes;
                }
                if keeper.limits != limits {
                    keeper.set_limits(limits);
                }
            }
            (Some(bytes), None) => *keeper = Some(Self::new(bytes, limits)),
        }
    }

    /// Nothing is allocated later.
    fn set_limits(&mut self, limits: RecordLimits) {
        self.limits = limits;
        let (pairs, outliers) = match limits {
            RecordLimits { times_base: Some(_), .. } => (limits.max_pairs.min(MOST_PAIRS), MOST_OUTLIERS),
            RecordLimits { threshold: Some(_), .. } => (0, MOST_OUTLIERS),
            _ => (0, 0),
        };
        if self.most_pairs != pairs {
            // Half full at most, it makes room for others where it is.
            let bases = HashMap::with_capacity_and_hasher(pairs * 2, foldhash::fast::RandomState::default());
            let before = std::mem::replace(&mut self.bases, bases);
            self.bases.extend(before.into_iter().take(pairs));
            self.most_pairs = pairs;
        }
        // Those that were found and not told of yet are so still.
        let mut found = std::mem::replace(&mut self.outliers, Vec::with_capacity(outliers));
        found.truncate(outliers);
        self.outliers.append(&mut found);
    }

    /// Keeps a record, and looks at what came of it.
    #[inline]
    pub(super) fn note(&mut self, segment: &Segment, outcome: &Outcome) {
        self.ring.push(segment, outcome);
        if let Outcome::Sample(sample) = outcome {
            self.look_at(sample);
        }
    }

    /// Keeps that something happened.
    pub(super) fn mark(&mut self, mark: Mark) {
        self.ring.mark(mark);
    }

    /// What is kept now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.ring.snapshot()
    }

    /// The outliers since the last time.
    pub(super) fn take_outliers(&mut self) -> Vec<Focus> {
        self.outliers.drain(..).collect()
    }

    /// Forgets pairs that were silent for as long as their lowest counts.
    pub(super) fn expire(&mut self, now_ns: u64) {
        if self.bases.len() * 2 > self.most_pairs {
            let minute = minute(now_ns);
            self.bases.retain(|_, lowest| !lowest.is_over(minute));
        }
    }

    #[inline]
    fn look_at(&mut self, sample: &Sample) {
        let RecordLimits { threshold, times_base, at_least, .. } = self.limits;
        let base = match times_base {
            Some(_) => self.base(sample),
            None => None,
        };
        let is_far = |base: Rtt, times: u32| sample.rtt.0 >= base.0.saturating_mul(times.into());
        let is_outlier = threshold.is_some_and(|threshold| sample.rtt >= threshold)
            || sample.rtt >= at_least && base.zip(times_base).is_some_and(|(base, times)| is_far(base, times));
        if is_outlier {
            self.add_outlier(sample, base);
        }
    }

    /// The lowest of the sample's pair; none of one that there is no room for.
    fn base(&mut self, sample: &Sample) -> Option<Rtt> {
        let minute = minute(sample.acked_at.0);
        let pair = PairKey::from(&sample.flow);
        if let Some(lowest) = self.bases.get_mut(&pair) {
            return lowest.add(minute, sample.rtt);
        }
        if self.bases.len() >= self.most_pairs {
            return None;
        }
        self.bases.entry(pair).or_insert_with(|| Lowest::new(minute)).add(minute, sample.rtt)
    }

    #[cold]
    fn add_outlier(&mut self, sample: &Sample, base: Option<Rtt>) {
        let Sample { flow, acked_at, ack, rtt, .. } = *sample;
        let focus = Focus { flow, acked_at, ack, rtt, base };
        let pair = PairKey::from(&flow);
        let room = self.outliers.len() < self.outliers.capacity();
        match self.outliers.iter_mut().find(|other| PairKey::from(&other.flow) == pair) {
            Some(other) if other.rtt < rtt => *other = focus,
            None if room => self.outliers.push(focus),
            _ => {}
        }
    }
}

fn minute(ns: u64) -> u64 {
    ns / MINUTE.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{Addr, Class, Endpoint, FlowKey, Kind, Label, Nanos, Place, SeqNum, Side};

    use super::*;

    fn sample(host: u16, at_s: u64, rtt_ms: u64) -> Sample {
        let [high, low] = host.to_be_bytes();
        let end = |addr, port| Endpoint { addr, port };
        let (local, remote) = (end(Addr::v4([10, 0, 0, 1]), 5), end(Addr::v4([10, 1, high, low]), 6));
        Sample {
            flow: FlowKey { local, remote, ifindex: 1, side: Side::Remote },
            acked_at: Nanos(at_s * 1_000_000_000),
            ack: SeqNum(1),
            rtt: Rtt(rtt_ms * 1_000_000),
            kind: Kind::Data,
            class: Class::Exact,
            delayed: false,
            label: Label::NONE,
            place: Place::default(),
        }
    }

    fn keeper(threshold_ms: Option<u64>, times_base: Option<u32>) -> Keeper {
        let limits = RecordLimits {
            memory: Some(1 << 20),
            threshold: threshold_ms.map(|ms| Rtt(ms * 1_000_000)),
            times_base,
            at_least: Rtt(20_000_000),
            max_pairs: 100,
        };
        let mut keeper = None;
        Keeper::set(&mut keeper, limits, None);
        keeper.unwrap()
    }

    fn taken(keeper: &mut Keeper) -> Vec<(u64, Option<u64>)> {
        let ms = |rtt: Rtt| rtt.0 / 1_000_000;
        keeper.take_outliers().iter().map(|focus| (ms(focus.rtt), focus.base.map(ms))).collect()
    }

    #[test]
    fn an_outlier_is_above_the_threshold_or_far_above_the_lowest_of_its_pair() {
        let mut above = keeper(Some(100), None);
        [99, 100, 300, 200].iter().for_each(|rtt| above.look_at(&sample(2, 1, *rtt)));
        above.look_at(&sample(3, 1, 150));
        assert_eq!(taken(&mut above), [(300, None), (150, None)]);
        assert_eq!(taken(&mut above), []);

        let mut far = keeper(None, Some(4));
        // Four times the lowest, but not long enough.
        [4, 16, 19].iter().for_each(|rtt| far.look_at(&sample(2, 1, *rtt)));
        assert_eq!(taken(&mut far), []);
        far.look_at(&sample(2, 2, 20));
        assert_eq!(taken(&mut far), [(20, Some(4))]);
        // What was low ten minutes ago does not count any more.
        far.look_at(&sample(2, 700, 20));
        assert_eq!(taken(&mut far), []);
        [20, 60, 80].iter().for_each(|rtt| far.look_at(&sample(2, 701, *rtt)));
        assert_eq!(taken(&mut far), [(80, Some(20))]);
    }

    #[test]
    fn however_many_pairs_there_are_memory_stays_as_it_is() {
        let mut keeper = keeper(None, Some(2));
        let room = (keeper.bases.capacity(), keeper.outliers.capacity());
        for host in 0..5000 {
            keeper.look_at(&sample(host, 1, 30));
            keeper.look_at(&sample(host, 1, 90));
        }
        assert_eq!((keeper.bases.capacity(), keeper.outliers.capacity()), room);
        assert_eq!(taken(&mut keeper).len(), MOST_OUTLIERS);
        keeper.expire(700 * 1_000_000_000);
        assert!(keeper.bases.is_empty());
    }

    #[test]
    fn outliers_that_were_not_told_of_and_lowest_round_trips_outlive_other_limits() {
        let mut keeper = Some(keeper(None, Some(4)));
        let found = keeper.as_mut().unwrap();
        [4, 16, 40].iter().for_each(|rtt| found.look_at(&sample(2, 1, *rtt)));
        let limits = RecordLimits { memory: Some(2 << 20), times_base: Some(20), ..found.limits };
        Keeper::set(&mut keeper, limits, None);
        let found = keeper.as_mut().unwrap();
        assert_eq!(taken(found), [(40, Some(4))]);
        [79, 80].iter().for_each(|rtt| found.look_at(&sample(2, 2, *rtt)));
        assert_eq!(taken(found), [(80, Some(4))]);
        Keeper::set(&mut keeper, RecordLimits { times_base: None, ..limits }, None);
        assert!(keeper.unwrap().bases.is_empty());
    }

    #[test]
    fn what_was_kept_is_kept_on_until_nothing_is() {
        let limits = |memory| RecordLimits { memory, ..RecordLimits::default() };
        let mut keeper = None;
        let kept = |keeper: &Option<Keeper>| keeper.as_ref().map(|keeper| keeper.snapshot().each().count());
        Keeper::set(&mut keeper, limits(None), None);
        assert_eq!(kept(&keeper), None);
        Keeper::set(&mut keeper, limits(None), Some(1 << 20));
        keeper.as_mut().unwrap().mark(Mark::Gap);
        Keeper::set(&mut keeper, limits(Some(1 << 20)), Some(1 << 20));
        assert_eq!(kept(&keeper), Some(1));
        Keeper::set(&mut keeper, limits(Some(2 << 20)), None);
        assert_eq!(kept(&keeper), Some(1));
        Keeper::set(&mut keeper, limits(None), None);
        assert_eq!(kept(&keeper), None);
    }
}
