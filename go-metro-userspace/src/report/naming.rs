//! From addresses to names: an interval's summaries become the pairs that tags name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::NamedPair;
use crate::rtt::{Interval, PairSummary, Side};

/// The name of all pairs beyond the configured number.
pub const OTHER: &str = "other";

/// What names a pair's ends and says which instances want it.
pub trait Names {
    /// The interface's name.
    fn interface(&self, ifindex: u32) -> String;
    /// The remote host's name, or its address.
    fn remote(&self, address: IpAddr) -> String;
    /// Tags of each instance that watches `address` on `interface`.
    fn tags(&self, interface: &str, address: IpAddr) -> Vec<Arc<[String]>>;
    /// Tags of what belongs to no single instance.
    fn global_tags(&self) -> Arc<[String]>;
    /// Whether pairs tell to which end their round trips went.
    fn tells_side(&self) -> bool;
}

/// What a pair is called: source, destination, interface, side and tags.
type Name = (String, String, String, Option<Side>, Arc<[String]>);

/// Names an interval's pairs and merges those that get the same names.
pub fn name_pairs(interval: &Interval, names: &impl Names) -> Vec<NamedPair> {
    let mut merged: BTreeMap<Name, PairSummary> = BTreeMap::new();
    for (key, summary) in &interval.pairs {
        let remote = key.remote.ip();
        let iface = names.interface(key.ifindex);
        for tags in names.tags(&iface, remote) {
            let side = names.tells_side().then_some(key.side);
            let name = (key.local.to_string(), names.remote(remote), iface.clone(), side, tags);
            merged.entry(name).or_default().merge(summary);
        }
    }
    if let Some(other) = &interval.other {
        let name = (OTHER.to_owned(), OTHER.to_owned(), OTHER.to_owned(), None, names.global_tags());
        merged.entry(name).or_default().merge(other);
    }
    let named = merged.into_iter();
    named.map(|((src, dst, iface, side, tags), summary)| NamedPair { src, dst, iface, side, tags, summary }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples::summary;
    use super::*;
    use crate::rtt::{Addr, PairKey};

    struct Example;

    impl Names for Example {
        fn interface(&self, ifindex: u32) -> String {
            format!("eth{ifindex}")
        }
        fn remote(&self, address: IpAddr) -> String {
            if address.to_string().starts_with("192.0.2.") { "db.example".to_owned() } else { address.to_string() }
        }
        fn tags(&self, _interface: &str, address: IpAddr) -> Vec<Arc<[String]>> {
            let both = [Arc::from(["role:a".to_owned()]), Arc::from(["role:b".to_owned()])];
            if address.is_ipv6() { both.to_vec() } else { both[..1].to_vec() }
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
        PairKey { local: Addr::v4([10, 0, 0, 1]), remote: remote.into(), ifindex: 0, side: Side::Remote }
    }

    #[test]
    fn addresses_of_one_name_merge_and_each_instance_gets_its_pair() {
        let interval = Interval {
            pairs: vec![
                (key("192.0.2.1"), summary(&[10], &[])),
                (key("192.0.2.2"), summary(&[20, 30], &[])),
                (key("2001:db8::1"), summary(&[40], &[])),
            ],
            other: Some(summary(&[50], &[])),
            folded_samples: 1,
        };
        let pairs = name_pairs(&interval, &Example);
        let shown: Vec<_> = pairs
            .iter()
            .map(|p| (p.src.as_str(), p.dst.as_str(), p.tags[0].as_str(), p.summary.data.as_ref().unwrap().count()))
            .collect();
        assert_eq!(
            shown,
            [
                ("10.0.0.1", "2001:db8::1", "role:a", 1),
                ("10.0.0.1", "2001:db8::1", "role:b", 1),
                ("10.0.0.1", "db.example", "role:a", 3),
                ("other", "other", "global", 1),
            ]
        );
    }
}
