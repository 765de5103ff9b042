//! The lowest round-trip time of each pair of hosts in the last ten minutes: what its path takes without a queue, as
//! far as it had a moment without one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use go_metro_rtt::{Interval, PairKey, PairSummary, Rtt, Stats};

use crate::output::naming::Bases;

/// Minutes that are looked back on, the current one among them.
const MINUTES: usize = 10;
/// What the lowest are kept for.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// The lowest of each minute; of those before the newest only while they are among the last [`MINUTES`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lowest {
    /// By the minute's number modulo [`MINUTES`].
    minutes: [Option<Rtt>; MINUTES],
    newest: u64,
}

impl Lowest {
    /// None, from this minute on.
    pub(crate) fn new(minute: u64) -> Self {
        Self { minutes: [None; MINUTES], newest: minute }
    }

    /// Adds a round trip of this minute; the lowest of all that are looked back on.
    pub(crate) fn add(&mut self, minute: u64, rtt: Rtt) -> Option<Rtt> {
        self.forget_before(minute);
        let slot = &mut self.minutes[minute as usize % MINUTES];
        *slot = Some(slot.map_or(rtt, |lowest| lowest.min(rtt)));
        self.lowest()
    }

    /// Adds another's.
    #[cfg(any(feature = "top", test))]
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.forget_before(other.newest);
        other.forget_before(self.newest);
        for (mine, theirs) in self.minutes.iter_mut().zip(other.minutes) {
            *mine = [*mine, theirs].into_iter().flatten().min();
        }
    }

    /// The lowest of all.
    pub(crate) fn lowest(&self) -> Option<Rtt> {
        self.minutes.iter().flatten().min().copied()
    }

    /// Whether none is among the last ten minutes any more.
    pub(crate) fn is_over(&self, minute: u64) -> bool {
        self.newest + MINUTES as u64 <= minute
    }

    /// What was longer ago than all of the minutes up to this one leaves none.
    fn forget_before(&mut self, minute: u64) {
        for old in (self.newest..minute).take(MINUTES) {
            self.minutes[(old + 1) as usize % MINUTES] = None;
        }
        self.newest = self.newest.max(minute);
    }
}

/// The lowest round trips of all pairs: at most as many as there may be in an interval.
pub(super) struct Lowests {
    since: Instant,
    pairs: HashMap<PairKey, Lowest>,
}

impl Lowests {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), pairs: HashMap::new() }
    }

    /// Adds an interval that ended at `now`; the base of each of its pairs. A pair for which there is no room has none.
    pub(super) fn note(&mut self, interval: &Interval, max_pairs: usize, now: Instant) -> Bases {
        let minute = now.saturating_duration_since(self.since).as_secs() / MINUTE.as_secs();
        if self.pairs.len() + interval.pairs.len() > max_pairs {
            self.pairs.retain(|_, lowest| !lowest.is_over(minute));
        }
        let mut bases = Bases::new();
        for (key, summary) in &interval.pairs {
            let Some(rtt) = lowest(summary) else { continue };
            let full = self.pairs.len() >= max_pairs;
            if !full || self.pairs.contains_key(key) {
                let known = self.pairs.entry(*key).or_insert_with(|| Lowest::new(minute));
                bases.extend(known.add(minute, rtt).map(|base| (*key, base)));
            }
        }
        bases
    }

    /// Forgets all: nobody asks any more.
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
    }
}

/// The lowest of a pair's samples, those of handshakes among them.
pub(crate) fn lowest(summary: &PairSummary) -> Option<Rtt> {
    [&summary.data, &summary.connect].into_iter().flatten().map(Stats::min).min()
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{Addr, Label, Place, Side};

    use super::*;
    use crate::output::examples::summary_ns;

    fn key(host: u8) -> PairKey {
        let [local, remote] = [1, host].map(|last| Addr::v4([10, 0, 0, last]));
        PairKey { local, remote, ifindex: 1, side: Side::Remote, place: Place::default(), label: Label::NONE }
    }

    fn interval(hosts: &[(u8, u64)]) -> Interval {
        let pairs = hosts.iter().map(|(host, ns)| (key(*host), summary_ns(&[*ns, ns + 7]))).collect();
        Interval { pairs, ..Interval::default() }
    }

    #[test]
    fn a_base_is_the_lowest_of_the_last_ten_minutes() {
        let mut lowests = Lowests::new();
        let start = lowests.since;
        let mut base = |minute: u64, ns: u64| {
            let bases = lowests.note(&interval(&[(2, ns)]), 10, start + MINUTE * minute as u32);
            bases[&key(2)].0
        };
        assert_eq!([base(0, 50), base(0, 60), base(1, 70), base(9, 80)], [50, 50, 50, 50]);
        // The first minute is not among the last ten any more; then the second.
        assert_eq!([base(10, 90), base(11, 95)], [70, 80]);
        assert_eq!([base(12, 40), base(40, 99)], [40, 99]);
    }

    #[test]
    fn what_two_have_of_the_last_ten_minutes_is_in_both_together() {
        let [mut older, mut newer] = [0, 5].map(Lowest::new);
        older.add(0, Rtt(10));
        older.add(2, Rtt(40));
        newer.add(11, Rtt(70));
        let mut both = newer;
        both.merge(older);
        // The first minute is longer ago than ten before the last.
        assert_eq!(both.lowest(), Some(Rtt(40)));
        older.merge(newer);
        assert_eq!(older.lowest(), Some(Rtt(40)));
    }

    #[test]
    fn there_are_no_more_of_them_than_pairs() {
        let mut lowests = Lowests::new();
        let start = lowests.since;
        let bases = lowests.note(&interval(&[(2, 50), (3, 60), (4, 70)]), 2, start);
        assert_eq!(bases.len(), 2);
        // Those that are silent make room.
        let bases = lowests.note(&interval(&[(4, 70)]), 2, start + MINUTE * 11);
        assert_eq!((bases.len(), lowests.pairs.len()), (1, 1));
        lowests.clear();
        assert!(lowests.pairs.is_empty());
    }
}
