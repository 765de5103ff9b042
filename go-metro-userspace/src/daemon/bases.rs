//! The lowest round-trip time of each pair of hosts in the last ten minutes: what its path takes without a queue, as
//! far as it had a moment without one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use go_metro_rtt::{Interval, PairKey, PairSummary, Rtt, Stats};

use crate::output::naming::Bases;

/// Minutes that are looked back on, the current one among them.
const MINUTES: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// The lowest of each minute; of those before the newest only while they are among the last [`MINUTES`].
#[derive(Clone, Copy, Debug)]
struct Lowest {
    /// By the minute's number modulo [`MINUTES`].
    minutes: [Option<Rtt>; MINUTES],
    newest: u64,
}

impl Lowest {
    fn new(minute: u64) -> Self {
        Self { minutes: [None; MINUTES], newest: minute }
    }

    fn add(&mut self, minute: u64, rtt: Rtt) -> Option<Rtt> {
        // What was longer ago than all of them leaves none.
        for old in (self.newest..minute).take(MINUTES) {
            self.minutes[(old + 1) as usize % MINUTES] = None;
        }
        self.newest = self.newest.max(minute);
        let slot = &mut self.minutes[minute as usize % MINUTES];
        *slot = Some(slot.map_or(rtt, |lowest| lowest.min(rtt)));
        self.minutes.iter().flatten().min().copied()
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
            self.pairs.retain(|_, lowest| lowest.newest + MINUTES as u64 > minute);
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
fn lowest(summary: &PairSummary) -> Option<Rtt> {
    [&summary.data, &summary.connect].into_iter().flatten().map(Stats::min).min()
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{Addr, Place, Side};

    use super::*;
    use crate::output::examples::summary_ns;

    fn key(host: u8) -> PairKey {
        let [local, remote] = [1, host].map(|last| Addr::v4([10, 0, 0, last]));
        PairKey { local, remote, ifindex: 1, side: Side::Remote, place: Place::default() }
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
