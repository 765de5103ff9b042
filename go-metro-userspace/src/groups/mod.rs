//! Groups of remote hosts: which one an address is in, and what it is called.
//!
//! The engine asks for a flow's group once, when the flow begins ([`Groups::grouping`]): a named prefix, else the
//! autonomous system ([`as_database`]), else the beginning of the address. What is asked neither allocates nor waits.
//! A report asks what a group is called ([`Groups::name`]). A number of a group means the same as long as the process
//! runs: pairs of an interval may be older than the configuration that names them.

mod as_database;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use go_metro_rtt::{Addr, Group, GroupKind, Grouping, PairKey};
use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use crate::config::{GroupBy, MAPPED_BITS, PortBy};
use as_database::AsDatabase;
pub use as_database::AsDatabaseError;

/// Which groups there are. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    wanted: GroupBy,
    named: Arc<JointPrefixMap<IpNet, u32>>,
    /// Every name that there ever was, by its number.
    names: Arc<[String]>,
    systems: AsDatabase,
}

/// What separates flows whose hosts are in the same group.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// Hosts that have a name of their own, and are in no group.
    pub hosts: BTreeSet<IpAddr>,
    /// The class of the addresses in each prefix, of which the longest counts.
    pub classes: JointPrefixMap<IpNet, u16>,
    /// The class of all others.
    pub class_of_others: u16,
}

/// What stands for the hosts of a group in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName {
    /// Instead of a host's name.
    pub name: String,
    /// Tags that the group brings along.
    pub tags: Vec<String>,
}

/// A named prefix has an even number, a system an odd one: either may have as many as there come.
fn number_of_name(index: u32) -> u32 {
    index.saturating_mul(2)
}

fn number_of_system(index: u32) -> u32 {
    index.saturating_mul(2).saturating_add(1)
}

impl Groups {
    /// Those that are wanted, after `before`. Reads the database of autonomous systems, which takes a moment.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or is not one of autonomous systems.
    pub fn open(wanted: &GroupBy, before: &Self) -> Result<Self, AsDatabaseError> {
        let systems = match &wanted.as_database {
            Some(path) => AsDatabase::open(path, &before.systems)?,
            None => before.systems.closed(),
        };
        let mut names = before.names.to_vec();
        let mut named = JointPrefixMap::new();
        for (name, nets) in &wanted.names.0 {
            let index = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.clone());
                names.len() - 1
            });
            for net in nets {
                named.insert(*net, number_of_name(u32::try_from(index).unwrap_or(u32::MAX)));
            }
        }
        Ok(Self { wanted: wanted.clone(), named: Arc::new(named), names: names.into(), systems })
    }

    /// Whether anything is grouped or told apart.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.wanted.is_any()
    }

    /// The engine's grouping, if there is any.
    #[must_use]
    pub fn grouping(&self, apart: Apart) -> Option<Grouping> {
        let groups = self.clone();
        self.wanted.is_any().then(|| Grouping {
            by_port: self.wanted.port == PortBy::Service,
            group_of: Arc::new(move |remote| groups.group_of(remote, &apart)),
        })
    }

    fn group_of(&self, remote: Addr, apart: &Apart) -> (Group, u16) {
        let address = remote.ip();
        if apart.hosts.contains(&address) {
            return (Group::HOST, 0);
        }
        let host = IpNet::from(address);
        let class = apart.classes.get_lpm(&host).map_or(apart.class_of_others, |(_, class)| *class);
        let prefix = || {
            let (bits, mapped) = match address {
                IpAddr::V4(_) => (self.wanted.ipv4_prefix?, MAPPED_BITS),
                IpAddr::V6(_) => (self.wanted.ipv6_prefix?, 0),
            };
            Some(Group::prefix(bits + mapped))
        };
        let named = self.named.get_lpm(&host).map(|(_, number)| Group::numbered(*number));
        let system = || self.systems.index_of(address).map(|index| Group::numbered(number_of_system(index)));
        (named.or_else(system).or_else(prefix).unwrap_or(Group::HOST), class)
    }

    /// What the group of a pair is called; none of a pair of hosts.
    #[must_use]
    pub fn name(&self, pair: &PairKey) -> Option<GroupName> {
        let plain = |name| GroupName { name, tags: Vec::new() };
        Some(match pair.place.group.kind() {
            GroupKind::Host => return None,
            GroupKind::Prefix(bits) => {
                let address = pair.remote.ip();
                let bits = if address.is_ipv4() { bits.saturating_sub(MAPPED_BITS) } else { bits };
                plain(format!("{address}/{bits}"))
            }
            GroupKind::Numbered(number) if number % 2 == 0 => plain(self.names.get(number as usize / 2)?.clone()),
            GroupKind::Numbered(number) => self.systems.system(number / 2)?.named(),
        })
    }

    /// What there is, for the status: each group or kind of group in words.
    #[must_use]
    pub fn described(&self) -> Vec<String> {
        let GroupBy { names, ipv4_prefix, ipv6_prefix, port, .. } = &self.wanted;
        let named = names.0.iter().map(|(name, nets)| {
            let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
            format!("{name}: {}", nets.join(", "))
        });
        let bits = [("IPv4", ipv4_prefix), ("IPv6", ipv6_prefix)];
        let prefixes = bits.into_iter().filter_map(|(family, bits)| Some(format!("{family} /{}", (*bits)?)));
        let port = (*port == PortBy::Service).then(|| "port of the service".to_owned());
        named.chain(self.systems.described()).chain(prefixes).chain(port).collect()
    }
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{Endpoint, FlowKey, Label, Place, Side};

    use super::as_database::tests::database;
    use super::*;
    use crate::config::NamedPrefixes;

    fn wanted(names: &[(&str, &[&str])]) -> GroupBy {
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        let names = names.iter().map(|(name, its)| ((*name).to_owned(), nets(its))).collect();
        GroupBy { names: NamedPrefixes(names), ..GroupBy::default() }
    }

    /// What an address is reported as, and its class.
    fn called(groups: &Groups, apart: &Apart, address: &str) -> (String, u16) {
        let remote = Addr::from(address.parse::<IpAddr>().unwrap());
        let (group, class) = (groups.grouping(apart.clone()).unwrap().group_of)(remote);
        let end = |addr| Endpoint { addr, port: 1 };
        let flow = FlowKey { local: end(Addr::v4([10, 0, 0, 1])), remote: end(remote), ifindex: 1, side: Side::Remote };
        let pair = PairKey::of(&flow, Place { group, class, port: 0 }, Label::NONE);
        (groups.name(&pair).map_or_else(|| pair.remote.to_string(), |name| name.name), class)
    }

    #[test]
    fn the_longest_named_prefix_comes_first_then_the_system_then_the_prefix_then_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("as.mmdb");
        std::fs::write(&path, database(&[("198.51.100.0/24", 64_500, "Example"), ("2001:db8::/32", 64_501, "")]))
            .unwrap();
        let names: &[(&str, &[&str])] =
            &[("office", &["10.1.0.0/16", "10.2.0.0/16"]), ("vpn", &["10.2.3.0/24", "198.51.100.128/25"])];
        let wanted = GroupBy { ipv4_prefix: Some(24), as_database: Some(path), ..wanted(names) };
        let groups = Groups::open(&wanted, &Groups::default()).unwrap();
        for (address, name) in [
            ("10.1.9.9", "office"),
            ("10.2.0.1", "office"),
            ("10.2.3.4", "vpn"),
            ("198.51.100.1", "AS64500"),
            ("198.51.100.200", "vpn"),
            ("2001:db8::7", "AS64501"),
            ("192.0.2.77", "192.0.2.0/24"),
            // No bits are asked of IPv6.
            ("2001:db9::7", "2001:db9::7"),
        ] {
            assert_eq!(called(&groups, &Apart::default(), address), (name.to_owned(), 0), "{address}");
        }
        assert_eq!(
            groups.described(),
            [
                "office: 10.1.0.0/16, 10.2.0.0/16",
                "vpn: 10.2.3.0/24, 198.51.100.128/25",
                &format!("autonomous systems: 2 of {}", dir.path().join("as.mmdb").display()),
                "IPv4 /24"
            ]
        );
    }

    #[test]
    fn an_ipv6_prefix_of_everything_holds_no_ipv4_and_bits_count_in_their_family() {
        let groups = Groups::open(
            &GroupBy { ipv4_prefix: Some(8), ipv6_prefix: Some(48), ..wanted(&[("six", &["::/0"])]) },
            &Groups::default(),
        )
        .unwrap();
        let of = |address: &str| called(&groups, &Apart::default(), address).0;
        assert_eq!([of("10.9.8.7"), of("2001:db8:1:2::3")], ["10.0.0.0/8", "six"]);
        let groups =
            Groups::open(&GroupBy { ipv6_prefix: Some(48), ..GroupBy::default() }, &Groups::default()).unwrap();
        let of = |address: &str| called(&groups, &Apart::default(), address).0;
        assert_eq!([of("10.9.8.7"), of("2001:db8:1:2::3")], ["10.9.8.7", "2001:db8:1::/48"]);
    }

    #[test]
    fn hosts_with_a_name_of_their_own_stay_apart_and_so_do_the_classes_of_the_rest() {
        let groups = Groups::open(&wanted(&[("dc", &["10.0.0.0/8"])]), &Groups::default()).unwrap();
        let classes =
            [("10.1.0.0/16", 1), ("10.1.2.0/24", 2)].map(|(net, class)| (net.parse::<IpNet>().unwrap(), class));
        let hosts = BTreeSet::from(["10.1.2.9".parse().unwrap()]);
        let apart = Apart { hosts, classes: classes.into_iter().collect(), class_of_others: 7 };
        let of = |address: &str| called(&groups, &apart, address);
        assert_eq!(of("10.1.2.9"), ("10.1.2.9".to_owned(), 0));
        assert_eq!([of("10.1.9.9"), of("10.1.2.3"), of("10.9.9.9")].map(|(_, class)| class), [1, 2, 7]);
    }

    #[test]
    fn a_number_means_the_same_after_a_reload() {
        let first =
            Groups::open(&wanted(&[("a", &["10.0.0.0/8"]), ("b", &["11.0.0.0/8"])]), &Groups::default()).unwrap();
        let remote = Addr::v4([11, 0, 0, 1]);
        let (group, _) = first.group_of(remote, &Apart::default());
        let place = Place { group, ..Place::default() };
        let local = Addr::v4([10, 0, 0, 1]);
        let pair =
            PairKey { local, remote: Addr::v6([0; 16]), ifindex: 1, side: Side::Remote, place, label: Label::NONE };
        let second = Groups::open(&wanted(&[("c", &["10.0.0.0/8"])]), &first).unwrap();
        let third = Groups::open(&GroupBy::default(), &second).unwrap();
        for groups in [&first, &second, &third] {
            assert_eq!(groups.name(&pair).unwrap().name, "b");
        }
        assert!(third.grouping(Apart::default()).is_none(), "nothing is grouped, and nothing asked");
        assert_ne!(second.group_of(remote, &Apart::default()).0, group);
    }
}
