//! Which interfaces are seen from the other end, over time.
//!
//! An end of a pair without an address is taken for this host's end of another machine's link. One that has just lost
//! its address, because it was moved, renamed or is being configured, looks the same for a moment, and what it then
//! measured would be the wrong end's. So an interface that had an address is reversed only once it has been without
//! for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::interfaces::Wanted;

/// How long an address may be missing: longer than the time between two steps of moving or configuring an interface.
const GRACE: Duration = Duration::from_secs(2);
/// How long an interface that is away is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What is known of interfaces, by name, that were not reversed when last seen.
#[derive(Default)]
pub(super) struct Turns(HashMap<String, Straight>);

struct Straight {
    seen: Instant,
    /// Since when it looks like another machine's link.
    differs: Option<Instant>,
}

impl Turns {
    /// Takes back what may be a moment's appearance; `now` is when `wanted` was looked at.
    pub(super) fn settle(&mut self, wanted: &mut [Wanted], now: Instant) {
        self.0.retain(|_, straight| now.duration_since(straight.seen) < REMEMBERED);
        for interface in wanted {
            if !interface.host_end {
                self.0.insert(interface.name.clone(), Straight { seen: now, differs: None });
            } else if let Some(straight) = self.0.get_mut(&interface.name) {
                straight.seen = now;
                if now.duration_since(*straight.differs.get_or_insert(now)) < GRACE {
                    interface.host_end = false;
                } else {
                    self.0.remove(&interface.name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, host_end: bool) -> Wanted {
        Wanted {
            name: name.to_owned(),
            alt_names: Vec::new(),
            has_text_name: true,
            is_up: true,
            ifindex: 7,
            is_named: true,
            host_end,
            is_loopback: false,
            mtu: 0,
            nets: Vec::new(),
        }
    }

    /// How `name` is taken at each of these seconds, at which it looks like a host's end or does not; `None`: it is
    /// away.
    fn taken(looks: &[(u64, Option<bool>)]) -> Vec<bool> {
        let (start, mut turns) = (Instant::now(), Turns::default());
        let mut taken = Vec::new();
        for (second, look) in looks {
            let mut wanted: Vec<Wanted> = look.iter().map(|host_end| interface("eth0", *host_end)).collect();
            turns.settle(&mut wanted, start + Duration::from_secs(*second));
            taken.extend(wanted.first().map(|wanted| wanted.host_end));
        }
        taken
    }

    #[test]
    fn an_interface_that_loses_its_address_is_turned_round_only_after_a_while() {
        assert_eq!(taken(&[(0, Some(false)), (1, Some(true)), (2, Some(false))]), [false; 3]);
        assert_eq!(
            taken(&[(0, Some(false)), (1, Some(true)), (2, Some(true)), (3, Some(true))]),
            [false, false, false, true]
        );
        assert_eq!(taken(&[(0, Some(false)), (5, None), (9, Some(true)), (10, Some(false))]), [false; 3]);
    }

    #[test]
    fn one_that_never_had_an_address_is_turned_round_at_once_and_back_when_it_gets_one() {
        assert_eq!(taken(&[(0, Some(true)), (1, Some(true)), (2, Some(false))]), [true, true, false]);
        assert_eq!(taken(&[(0, Some(false)), (61, Some(true))]), [false, true], "what is long away is forgotten");
    }
}
