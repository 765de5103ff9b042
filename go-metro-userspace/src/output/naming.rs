//! From addresses to names: an interval's summaries become the pairs that tags name.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use go_metro_rtt::{Addr, Interval, Label, PairKey, PairSummary, Rtt, Side};

use super::NamedPair;
use crate::metrics::pair::KernelRtt;

/// The name of all pairs beyond the configured number.
pub const OTHER: &str = "other";

/// What names a pair's ends and says which instances want it.
pub trait Names {
    /// The interface's name.
    fn interface(&self, ifindex: u32) -> String;
    /// The remote host's name, or its address.
    fn remote(&self, address: IpAddr) -> String;
    /// Tags of the instance that watches `address` on `interface`: of one, however many do, so that a sample counts
    /// once.
    fn tags(&self, interface: &str, address: IpAddr) -> Arc<[String]>;
    /// Tags of what belongs to no single instance.
    fn global_tags(&self) -> Arc<[String]>;
    /// Whether pairs tell to which end their round trips went.
    fn tells_side(&self) -> bool;
}

/// What a pair is called: source, destination, interface, side and tags.
type Name = (String, String, String, Option<Side>, Arc<[String]>);

/// What the kernel says of this host's sockets, by local and remote address.
pub type KernelTimes = HashMap<(Addr, Addr), KernelRtt>;

/// The lowest round trip of each pair in the last ten minutes, where that is asked for.
pub type Bases = HashMap<PairKey, Rtt>;

/// Whose the sockets of a pair's connections are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// As tags: its unit, or its container and pod.
    pub tags: Vec<String>,
    /// For people.
    pub shown: String,
}

impl Owner {
    /// Nobody could tell.
    pub fn unknown() -> Self {
        Self { tags: vec!["unit:unknown".to_owned()], shown: "unknown".to_owned() }
    }
}

/// Whose connections have which label.
pub type Owners = HashMap<Label, Arc<Owner>>;

/// What is known of an interval's pairs beside what was measured in it.
#[derive(Debug, Default)]
pub struct Beside {
    /// What the kernel says.
    pub kernel: KernelTimes,
    /// The bases.
    pub bases: Bases,
    /// Whose its connections are, where that is asked for.
    pub owners: Owners,
}

/// The ends, as the kernel has them, of sockets of this host that make a pair's round trips: own address and the other.
pub fn sockets_of(pair: &PairKey) -> (Addr, Addr) {
    match pair.side {
        Side::Remote => (pair.local, pair.remote),
        // To the local end: it is the remote end that sends what is timed.
        Side::Local => (pair.remote, pair.local),
    }
}

/// What comes together under one name.
#[derive(Default)]
struct Merged {
    summary: PairSummary,
    kernel: Option<KernelRtt>,
    remotes: Vec<IpAddr>,
    base: Option<Rtt>,
    owner: Option<Arc<Owner>>,
}

/// Names an interval's pairs and merges those that get the same names.
pub fn name_pairs(interval: &Interval, names: &impl Names, beside: &Beside) -> Vec<NamedPair> {
    let Beside { kernel, bases, owners } = beside;
    let mut merged: BTreeMap<Name, Merged> = BTreeMap::new();
    for (key, summary) in &interval.pairs {
        let remote = key.remote.ip();
        let iface = names.interface(key.ifindex);
        let owner = owners.get(&key.label);
        let tags = names.tags(&iface, remote);
        let tags = owner.map_or(tags.clone(), |owner| tags.iter().chain(&owner.tags).cloned().collect());
        let side = names.tells_side().then_some(key.side);
        let name = (key.local.to_string(), names.remote(remote), iface, side, tags);
        let pair = merged.entry(name).or_default();
        pair.owner = owner.cloned();
        pair.summary.merge(summary);
        if !pair.remotes.contains(&remote) {
            pair.remotes.push(remote);
        }
        pair.kernel = match (pair.kernel, kernel.get(&sockets_of(key))) {
            (Some(mut mine), Some(theirs)) => {
                mine.merge(theirs);
                Some(mine)
            }
            (mine, theirs) => mine.or(theirs.copied()),
        };
        pair.base = pair.base.into_iter().chain(bases.get(key).copied()).min();
    }
    if let Some(other) = &interval.other {
        let name = (OTHER.to_owned(), OTHER.to_owned(), OTHER.to_owned(), None, names.global_tags());
        merged.entry(name).or_default().summary.merge(other);
    }
    let named = merged.into_iter().map(|(name, Merged { summary, kernel, remotes, base, owner })| {
        let (src, dst, iface, side, tags) = name;
        let process = owner.map_or_else(String::new, |owner| owner.shown.clone());
        NamedPair { src, dst, remotes, iface, side, process, tags, summary, kernel, base }
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples::summary;
    use super::*;

    struct Example;

    impl Names for Example {
        fn interface(&self, ifindex: u32) -> String {
            format!("eth{ifindex}")
        }
        fn remote(&self, address: IpAddr) -> String {
            if address.to_string().starts_with("192.0.2.") { "db.example".to_owned() } else { address.to_string() }
        }
        fn tags(&self, _interface: &str, address: IpAddr) -> Arc<[String]> {
            Arc::from([if address.is_ipv6() { "role:b" } else { "role:a" }.to_owned()])
        }
        fn global_tags(&self) -> Arc<[String]> {
            Arc::from(["global".to_owned()])
        }
        fn tells_side(&self) -> bool {
            false
        }
    }

    fn key(remote: &str) -> PairKey {
        let remote: IpAddr = remote.parse().unwrap();
        PairKey {
            local: Addr::v4([10, 0, 0, 1]),
            remote: remote.into(),
            ifindex: 0,
            side: Side::Remote,
            label: Label::NONE,
        }
    }

    #[test]
    fn addresses_of_one_name_merge_under_their_instances_tags() {
        let interval = Interval {
            pairs: vec![
                (key("192.0.2.1"), summary(&[10], &[])),
                (key("192.0.2.2"), summary(&[20, 30], &[])),
                (key("2001:db8::1"), summary(&[40], &[])),
            ],
            other: Some(summary(&[50], &[])),
            folded_samples: 1,
        };
        let pairs = name_pairs(&interval, &Example, &Beside::default());
        let shown: Vec<_> = pairs
            .iter()
            .map(|p| (p.src.as_str(), p.dst.as_str(), p.tags[0].as_str(), p.summary.data.as_ref().unwrap().count()))
            .collect();
        assert_eq!(
            shown,
            [
                ("10.0.0.1", "2001:db8::1", "role:b", 1),
                ("10.0.0.1", "db.example", "role:a", 3),
                ("other", "other", "global", 1),
            ]
        );
    }

    #[test]
    fn whose_connections_they_are_makes_a_row_of_its_own_and_is_a_tag_behind_the_instances() {
        let label = |number| Label::new(number).unwrap();
        let key = |number| PairKey { label: label(number), ..key("192.0.2.1") };
        let owner = |name: &str| Arc::new(Owner { tags: vec![format!("unit:{name}")], shown: name.to_owned() });
        let interval = Interval {
            pairs: vec![
                (key(1), summary(&[10], &[])),
                (key(2), summary(&[20], &[])),
                // Of another address of the same name.
                (PairKey { label: label(2), ..self::key("192.0.2.2") }, summary(&[30], &[])),
                (self::key("192.0.2.1"), summary(&[40], &[])),
            ],
            ..Interval::default()
        };
        let owners = Owners::from([(label(1), owner("a.service")), (label(2), owner("b.service"))]);
        let pairs = name_pairs(&interval, &Example, &Beside { owners, ..Beside::default() });
        let shown: Vec<_> = pairs.iter().map(|p| (p.tags.join(" "), &*p.process, p.summary.count())).collect();
        let expected =
            [("role:a", "", 1), ("role:a unit:a.service", "a.service", 1), ("role:a unit:b.service", "b.service", 2)];
        assert_eq!(shown, expected.map(|(tags, process, count)| (tags.to_owned(), process, count)));
    }

    #[test]
    fn the_kernels_word_goes_to_the_pair_whose_round_trips_its_sockets_make() {
        let (near, far) = (key("192.0.2.1"), key("192.0.2.2"));
        let local = PairKey { side: Side::Local, local: near.remote, remote: near.local, ..near };
        let interval = Interval {
            pairs: vec![(near, summary(&[10], &[])), (far, summary(&[20], &[])), (local, summary(&[30], &[]))],
            other: None,
            folded_samples: 0,
        };
        let ms = |ms: u64| Rtt(ms * 1_000_000);
        let kernel = KernelTimes::from([
            ((near.local, near.remote), KernelRtt::of(ms(11), None)),
            ((far.local, far.remote), KernelRtt::of(ms(21), Some(ms(19)))),
        ]);
        let bases = Bases::from([(near, ms(12)), (far, ms(9))]);
        let pairs = name_pairs(&interval, &Example, &Beside { kernel, bases, ..Beside::default() });
        // Both addresses of one name: the mean of both sockets and the least of either.
        let both = pairs.iter().find(|pair| pair.dst == "db.example").unwrap().kernel.unwrap();
        assert_eq!((both.sockets(), both.srtt_ms(), both.min_ms()), (2, 16.0, Some(19.0)));
        let bases: Vec<_> = pairs.iter().map(|pair| (&*pair.dst, pair.base)).collect();
        assert_eq!(bases, [("db.example", Some(ms(9))), ("10.0.0.1", None)], "the lowest of both");
        let turned = pairs.iter().find(|pair| pair.dst == "10.0.0.1").unwrap().kernel.unwrap();
        assert_eq!((turned.sockets(), turned.srtt_ms(), turned.min_ms()), (1, 11.0, None));
    }
}
