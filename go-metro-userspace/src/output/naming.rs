//! From addresses to names: an interval's summaries become the pairs that tags name.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use go_metro_rtt::{Endpoint, FlowKey, Group, Grouping, Interval, Label, PairKey, PairSummary, Place, Rtt, Side};

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
    /// What stands for the remote hosts of a pair that is a group's, if it is, with all of its tags: those of the
    /// instance that watches them on `interface`, and the group's own.
    fn group(&self, _pair: &PairKey, _interface: &str) -> Option<(String, Arc<[String]>)> {
        None
    }
    /// Whether pairs tell to which end their round trips went.
    fn tells_side(&self) -> bool;
}

/// What a pair is called: source, destination, interface, side, port and tags.
type Name = (String, String, String, Option<Side>, Option<u16>, Arc<[String]>);

/// What the kernel says of this host's sockets, by the pair whose round trips they make, on whatever interface: its
/// index is 0.
pub type KernelTimes = HashMap<PairKey, KernelRtt>;

/// The lowest round trip of each pair in the last ten minutes, where that is asked for.
pub type Bases = HashMap<PairKey, Rtt>;

/// The owner of the sockets of a pair's connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// As tags: its unit, or its container and pod.
    pub tags: Vec<String>,
    /// For people.
    pub shown: String,
}

impl Owner {
    /// An owner that could not be found.
    pub fn unknown() -> Self {
        Self { tags: vec!["unit:unknown".to_owned()], shown: "unknown".to_owned() }
    }
}

/// The owner of the connections with each label.
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

/// The pair without its interface and owner.
pub fn anywhere(pair: &PairKey) -> PairKey {
    PairKey { ifindex: 0, label: Label::NONE, ..*pair }
}

/// The pairs whose round trips a socket of this host with these ends makes. It is the end that sends what is timed: the
/// local end of a pair, or the remote one of a pair for the local side. The kernel does not say which of the two ports
/// is the service's, so there may be a pair for each.
pub fn pairs_of_socket(
    own: Endpoint,
    other: Endpoint,
    grouping: Option<&Grouping>,
) -> impl Iterator<Item = PairKey> + use<> {
    let of_side = |side| {
        let (local, remote) = if side == Side::Remote { (own, other) } else { (other, own) };
        let flow = FlowKey { local, remote, ifindex: 0, side };
        let (group, class) = grouping.map_or((Group::HOST, 0), |grouping| (grouping.group_of)(remote.addr));
        let class = if group == Group::HOST { 0 } else { class };
        let ports = if grouping.is_some_and(|grouping| grouping.by_port) { [own.port, other.port] } else { [0; 2] };
        let alike = usize::from(ports[0] == ports[1]);
        ports.into_iter().skip(alike).map(move |port| PairKey::of(&flow, Place { group, class, port }, Label::NONE))
    };
    [of_side(Side::Remote), of_side(Side::Local)].into_iter().flatten()
}

/// The remote host of a pair, if it is not a group.
pub fn host_of(pair: &PairKey) -> Option<IpAddr> {
    (pair.place.group == Group::HOST).then(|| pair.remote.ip())
}

/// The name of a pair's remote end on one line, with the port of the service where pairs are split by port.
pub fn remote_of(pair: &PairKey, names: &impl Names) -> String {
    let interface = names.interface(pair.ifindex);
    let group = || names.group(pair, &interface).map_or_else(|| pair.remote.to_string(), |(name, _)| name);
    let dst = host_of(pair).map_or_else(group, |remote| names.remote(remote));
    with_service(dst.into(), pair.place.service()).into_owned()
}

/// A remote end with the port of its service behind it, where pairs are split by port.
pub fn with_service(dst: Cow<'_, str>, service: Option<u16>) -> Cow<'_, str> {
    match service {
        None => dst,
        Some(port) if dst.contains(':') => format!("[{dst}]:{port}").into(),
        Some(port) => format!("{dst}:{port}").into(),
    }
}

/// Tags, and that of a service's port.
fn with_port(tags: &[String], port: u16) -> Arc<[String]> {
    tags.iter().cloned().chain([format!("port:{port}")]).collect()
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
        let iface = names.interface(key.ifindex);
        let host = host_of(key);
        let (dst, tags) = match host {
            Some(remote) => (names.remote(remote), names.tags(&iface, remote)),
            None => names.group(key, &iface).unwrap_or_else(|| (key.remote.to_string(), names.global_tags())),
        };
        let port = key.place.service();
        let tags = port.map_or_else(|| tags.clone(), |port| with_port(&tags, port));
        let owner = owners.get(&key.label);
        let tags = owner.map_or(tags.clone(), |owner| tags.iter().chain(&owner.tags).cloned().collect());
        let side = names.tells_side().then_some(key.side);
        let name = (key.local.to_string(), dst, iface, side, port, tags);
        let pair = merged.entry(name).or_default();
        pair.owner = owner.cloned();
        pair.summary.merge(summary);
        if let Some(remote) = host.filter(|remote| !pair.remotes.contains(remote)) {
            pair.remotes.push(remote);
        }
        pair.kernel = match (pair.kernel, kernel.get(&anywhere(key))) {
            (Some(mut mine), Some(theirs)) => {
                mine.merge(theirs);
                Some(mine)
            }
            (mine, theirs) => mine.or(theirs.copied()),
        };
        pair.base = pair.base.into_iter().chain(bases.get(key).copied()).min();
    }
    if let Some(other) = &interval.other {
        let name = (OTHER.to_owned(), OTHER.to_owned(), OTHER.to_owned(), None, None, names.global_tags());
        merged.entry(name).or_default().summary.merge(other);
    }
    let named = merged.into_iter().map(|(name, Merged { summary, kernel, remotes, base, owner })| {
        let (src, dst, iface, side, port, tags) = name;
        let process = owner.map_or_else(String::new, |owner| owner.shown.clone());
        NamedPair { src, dst, remotes, iface, side, process, port, tags, summary, kernel, base }
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::Addr;

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
        fn group(&self, pair: &PairKey, interface: &str) -> Option<(String, Arc<[String]>)> {
            (pair.place.class != 9).then(|| (format!("group on {interface}"), Arc::from(["as:1".to_owned()])))
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
            place: Place::default(),
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
    fn a_group_is_one_pair_and_each_port_another() {
        let grouped = |class: u16, port: u16| {
            let place = Place { group: Group::numbered(3), class, port };
            PairKey { remote: Addr::v6([0; 16]), place, ..key("192.0.2.1") }
        };
        let ported = PairKey { place: Place { port: 22, ..Place::default() }, ..key("192.0.2.1") };
        let pairs = vec![
            (grouped(0, 0), summary(&[10], &[])),
            // Another class, the same instance's tags.
            (grouped(1, 0), summary(&[20], &[])),
            (grouped(0, 443), summary(&[30], &[])),
            (ported, summary(&[40], &[])),
            // Nobody knows of it any more.
            (grouped(9, 0), summary(&[50], &[])),
        ];
        let pairs = name_pairs(&Interval { pairs, ..Interval::default() }, &Example, &Beside::default());
        let shown: Vec<_> = pairs
            .iter()
            .map(|p| (p.dst.as_str(), p.port, p.tags.join(","), p.remotes.len(), p.summary.count()))
            .collect();
        assert_eq!(
            shown,
            [
                ("::", None, "global".to_owned(), 0, 1),
                ("db.example", Some(22), "role:a,port:22".to_owned(), 1, 1),
                ("group on eth0", None, "as:1".to_owned(), 0, 2),
                ("group on eth0", Some(443), "as:1,port:443".to_owned(), 0, 1),
            ]
        );
    }

    #[test]
    fn a_socket_makes_the_round_trips_of_its_group_and_port() {
        let own = Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40_000 };
        let other = Endpoint { addr: Addr::v4([10, 9, 0, 7]), port: 443 };
        let group_of = |remote: Addr| {
            let is_far = remote == Addr::v4([10, 9, 0, 7]);
            (if is_far { Group::prefix(96 + 24) } else { Group::HOST }, 5)
        };
        let grouping = |by_port| Grouping { group_of: Arc::new(group_of), by_port };
        let network = |port| {
            let place = Place { group: Group::prefix(96 + 24), class: 5, port };
            PairKey {
                local: own.addr,
                remote: Addr::v4([10, 9, 0, 0]),
                ifindex: 0,
                side: Side::Remote,
                place,
                label: Label::NONE,
            }
        };
        let back = |port| {
            let place = Place { port, ..Place::default() };
            PairKey { local: other.addr, remote: own.addr, ifindex: 0, side: Side::Local, place, label: Label::NONE }
        };
        let pairs = |by_port| pairs_of_socket(own, other, Some(&grouping(by_port))).collect::<Vec<_>>();
        assert_eq!(pairs(false), [network(0), back(0)]);
        assert_eq!(pairs(true), [network(40_000), network(443), back(40_000), back(443)]);
        let same = Endpoint { port: 443, ..own };
        assert_eq!(pairs_of_socket(same, other, Some(&grouping(true))).count(), 2, "each counts once");
        assert_eq!(anywhere(&PairKey { ifindex: 3, ..network(443) }), network(443));
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
        let end = |addr, port| Endpoint { addr, port };
        let sockets = [
            (end(near.local, 40_000), end(near.remote, 443), KernelRtt::of(ms(11), None)),
            (end(far.local, 40_001), end(far.remote, 443), KernelRtt::of(ms(21), Some(ms(19)))),
        ];
        let pairs = sockets
            .iter()
            .flat_map(|(own, other, its)| pairs_of_socket(*own, *other, None).map(move |pair| (pair, *its)));
        let kernel: KernelTimes = pairs.collect();
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
