//! Groups of remote hosts as the instances have them: hosts that are configured by name stay apart, and so do those of
//! instances with other tags.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use go_metro_rtt::{Grouping, PairKey};
use ipnet::IpNet;

use super::watcher::Watcher;
use crate::groups::{Apart, Groups};
use crate::targets::hosts::Hosts;

/// An instance, by what decides of tags: its interface, and its tags.
type Member = (String, Arc<[String]>);
/// Instances, by their numbers.
type Members = BTreeSet<u32>;

/// The groups, and which instances watch the hosts of each class of them.
#[derive(Clone, Default)]
pub(super) struct Grouped {
    groups: Groups,
    /// Every instance that there ever was: a class means the same as long as the process runs, as a group's number
    /// does.
    members: Vec<Member>,
    /// The instances of each class; 0 stands for all.
    classes: Vec<Members>,
    /// What the grouping in force was made of.
    made_of: (BTreeSet<std::net::IpAddr>, BTreeMap<IpNet, u16>, u16),
    grouping: Option<Grouping>,
}

impl Grouped {
    /// Goes over to other groups.
    pub(super) fn set(&mut self, groups: Groups, hosts: &Hosts, watchers: &[Watcher]) {
        self.groups = groups;
        self.grouping = None;
        self.refresh(hosts, watchers);
    }

    /// Takes over what has a number already.
    pub(super) fn adopt(&mut self, old: &Self) {
        self.members.clone_from(&old.members);
        self.classes.clone_from(&old.classes);
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(super) fn grouping(&self) -> Option<&Grouping> {
        self.grouping.as_ref()
    }

    /// Follows the addresses of hosts and what instances watch; whether that changed anything.
    pub(super) fn refresh(&mut self, hosts: &Hosts, watchers: &[Watcher]) -> bool {
        if !self.groups.is_any() {
            return std::mem::take(&mut self.grouping).is_some();
        }
        let named = hosts.iter().flat_map(|(name, _)| hosts.addresses(name)).collect();
        let (classes, others) = self.classes_of(watchers);
        let made_of = (named, classes, others);
        if self.grouping.is_some() && made_of == self.made_of {
            return false;
        }
        let (named, classes, class_of_others) = &made_of;
        let classes = classes.iter().map(|(net, class)| (*net, *class)).collect();
        let apart = Apart { hosts: named.clone(), classes, class_of_others: *class_of_others };
        self.grouping = self.groups.grouping(apart);
        self.made_of = made_of;
        true
    }

    /// Whether the instance watches hosts of a pair's class.
    pub(super) fn is_of_class(&self, pair: &PairKey, watcher: &Watcher) -> bool {
        let Some(members) = usize::from(pair.place.class).checked_sub(1).and_then(|class| self.classes.get(class))
        else {
            return pair.place.class == 0;
        };
        let number = self.members.iter().position(|member| is_member(member, watcher));
        number.and_then(|number| u32::try_from(number).ok()).is_some_and(|number| members.contains(&number))
    }

    /// The class of the addresses in each prefix, and of all others. There is but one where all instances have the same
    /// tags.
    fn classes_of(&mut self, watchers: &[Watcher]) -> (BTreeMap<IpNet, u16>, u16) {
        if watchers.windows(2).all(|two| two[0].tags == two[1].tags) {
            return (BTreeMap::new(), 0);
        }
        let mut members: BTreeMap<IpNet, Members> = BTreeMap::new();
        for watcher in watchers {
            let number = self.number_of(watcher);
            watcher.nets().for_each(|net| _ = members.entry(net).or_default().insert(number));
        }
        // What watches a prefix watches those within it.
        let mut nets: Vec<IpNet> = members.keys().copied().collect();
        nets.sort_by_key(IpNet::prefix_len);
        let mut whole: prefix_trie::joint::JointPrefixMap<IpNet, Members> = prefix_trie::joint::JointPrefixMap::new();
        let mut classes = BTreeMap::new();
        for net in nets {
            let mut all = members.remove(&net).unwrap_or_default();
            all.extend(whole.get_lpm(&net).into_iter().flat_map(|(_, around)| around).copied());
            classes.insert(net, self.class_of(&all));
            whole.insert(net, all);
        }
        (classes, self.class_of(&Members::new()))
    }

    fn number_of(&mut self, watcher: &Watcher) -> u32 {
        let number = self.members.iter().position(|member| is_member(member, watcher)).unwrap_or_else(|| {
            self.members.push((watcher.interface().to_owned(), watcher.tags.clone()));
            self.members.len() - 1
        });
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// The number of a class; that of all instances once there are too many.
    fn class_of(&mut self, members: &Members) -> u16 {
        let class = self.classes.iter().position(|known| known == members).unwrap_or_else(|| {
            self.classes.push(members.clone());
            self.classes.len() - 1
        });
        u16::try_from(class + 1).unwrap_or(0)
    }
}

fn is_member((interface, tags): &Member, watcher: &Watcher) -> bool {
    interface == watcher.interface() && *tags == watcher.tags
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use go_metro_rtt::{Addr, Endpoint, FlowKey, Label, Place, Side};

    use super::super::Directory;
    use super::*;
    use crate::config::Config;
    use crate::output::naming::Names as _;

    fn config(instances: &str) -> Config {
        let init = "init_config: {tags: [env:test], group_by: {names: {dc: [10.0.0.0/8]}, ipv4_prefix: 24}}";
        Config::parse(&format!("{init}\ninstances:\n{instances}"), Path::new("c"), &|_| None).unwrap()
    }

    fn directory(config: &Config, before: &Groups) -> Directory {
        let mut directory = Directory::new(config);
        directory.set_groups(Groups::open(&config.group_by, before).unwrap());
        directory
    }

    /// The pair of an address: where its flow would be put.
    fn pair(directory: &Directory, remote: &str) -> PairKey {
        let remote = Addr::from(remote.parse::<IpAddr>().unwrap());
        let (group, class) = (directory.grouping().unwrap().group_of)(remote);
        let end = |addr| Endpoint { addr, port: 1 };
        let flow = FlowKey { local: end(Addr::v4([10, 0, 0, 1])), remote: end(remote), ifindex: 1, side: Side::Remote };
        PairKey::of(&flow, Place { group, class, port: 0 }, Label::NONE)
    }

    /// What an address is reported as.
    fn named(directory: &Directory, remote: &str, interface: &str) -> String {
        let (name, tags) = directory.group(&pair(directory, remote), interface).unwrap();
        format!("{name} {}", tags.join(" "))
    }

    #[test]
    fn hosts_of_one_group_have_the_tags_of_the_instance_that_watches_them() {
        let config = config(
            "  - {interface: eth0, ips: [10.1.0.0/16, 192.0.2.7], tags: [role:db]}\n  - {interface: 'eth*', ips: \
             [10.0.0.0/8, 192.0.2.0/24], tags: [role:any]}",
        );
        let directory = directory(&config, &Groups::default());
        let of = |remote: &str, interface: &str| named(&directory, remote, interface);
        // The same as of a host: the most precise instance that watches both.
        assert_eq!(of("10.1.2.3", "eth0"), "dc env:test role:db");
        assert_eq!(of("10.1.2.3", "eth1"), "dc env:test role:any");
        assert_eq!(of("10.9.9.9", "eth0"), "dc env:test role:any");
        // A prefix holds a target of the one, and others of the other alone.
        assert_eq!(of("192.0.2.7", "eth0"), "192.0.2.0/24 env:test role:db");
        assert_eq!(of("192.0.2.8", "eth0"), "192.0.2.0/24 env:test role:any");
        // No target any more.
        assert_eq!(of("10.1.2.3", "lo"), "dc env:test");
        assert_eq!(of("198.51.100.1", "eth0"), "198.51.100.0/24 env:test");
        for (remote, interface) in [("10.1.2.3", "eth0"), ("10.1.2.3", "eth1"), ("192.0.2.8", "eth0")] {
            let alone = directory.tags(interface, remote.parse().unwrap());
            assert_eq!(directory.group(&pair(&directory, remote), interface).unwrap().1, alone, "{remote}");
        }
    }

    #[test]
    fn instances_with_the_same_tags_are_one_class() {
        let config = config("  - {interface: eth0, ips: [10.1.0.0/16]}\n  - {interface: eth0, ips: [10.2.0.0/16]}");
        let directory = directory(&config, &Groups::default());
        assert_eq!(pair(&directory, "10.1.2.3"), pair(&directory, "10.2.2.3"));
        assert_eq!(named(&directory, "10.1.2.3", "eth0"), "dc env:test");
    }

    #[test]
    fn a_host_that_is_configured_by_name_is_in_no_group_as_soon_as_its_address_is_known() {
        let config = config("  - {interface: eth0, ips: [10.0.0.0/8], hosts: [db.example]}");
        let mut directory = directory(&config, &Groups::default());
        assert!(!directory.refresh_groups(), "nothing is new");
        assert_eq!(named(&directory, "10.1.2.3", "eth0"), "dc env:test");
        directory.learn_host("db.example", Ok(BTreeSet::from(["10.1.2.3".parse().unwrap()])));
        assert!(directory.refresh_groups());
        assert_eq!(directory.group(&pair(&directory, "10.1.2.3"), "eth0"), None);
        assert_eq!(named(&directory, "10.1.2.4", "eth0"), "dc env:test");
    }

    #[test]
    fn pairs_of_before_a_reload_keep_their_names_and_tags() {
        let old = config(
            "  - {interface: eth0, ips: [10.1.0.0/16], tags: [a:1]}\n  - {interface: eth0, ips: [10.2.0.0/16], tags: \
             [b:2]}",
        );
        let before = directory(&old, &Groups::default());
        let (a, b) = (pair(&before, "10.1.0.1"), pair(&before, "10.2.0.1"));
        let mut new = config(
            "  - {interface: eth0, ips: [10.2.0.0/16], tags: [b:2]}\n  - {interface: eth0, ips: [10.3.0.0/16], tags: \
             [c:3]}",
        );
        new.group_by.names.0.clear();
        let mut after = Directory::new(&new);
        after.adopt(&before);
        after.set_groups(Groups::open(&new.group_by, before.groups()).unwrap());
        let of = |pair: &PairKey| {
            let (name, tags) = after.group(pair, "eth0").unwrap();
            format!("{name} {}", tags.join(" "))
        };
        // The instance of the first is no more.
        assert_eq!([of(&a), of(&b)], ["dc env:test", "dc env:test b:2"]);
        assert_eq!(named(&after, "10.3.0.1", "eth0"), "10.3.0.0/24 env:test c:3");
    }
}
