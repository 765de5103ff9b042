//! What is watched now, and what the pairs that are measured are called.
//!
//! Six things, of which each is in a file: the instances ([`watcher`]), the addresses of their host names
//! ([`crate::targets::hosts`]), what of those the classifier has no room for ([`room`]), the interfaces
//! ([`interfaces`]), the names of other peers ([`peer_names`]), and groups of them ([`grouped`]). Here they are put
//! together.

mod grouped;
mod interfaces;
mod peer_names;
mod room;
mod watcher;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use go_metro_rtt::{Grouping, PairKey};
use ipnet::IpNet;

use super::containers::Machines;
use crate::capture::WatchList;
use crate::config::{Backend, Config, Instance, SidesWanted};
use crate::groups::Groups;
use crate::netlink::links;
use crate::output::naming::Names;
use crate::status::document::TargetStatus;
use crate::targets::hosts::Hosts;
use crate::targets::resolver::{Addresses, Name, Turn};
use crate::targets::{TargetSet, local_addresses};
use grouped::Grouped;
use interfaces::{Interfaces, Links};
use peer_names::PeerNames;
use room::Room;
use watcher::{Rank, Watcher};

/// Longest wait for name servers before capture starts, or a configuration is applied. Later answers are used later.
const FIRST_ANSWERS: Duration = Duration::from_millis(300);

/// Every target of every instance is an address of this host.
#[derive(Debug, thiserror::Error)]
#[error(
    "all targets are addresses of this host, which are not measured: name remote addresses, prefixes or hosts; \
     `ips: [\"0.0.0.0/0\", \"::/0\"]` means everything"
)]
pub(crate) struct OnlyLocalTargets;

/// All instances and all names.
pub(super) struct Directory {
    watchers: Vec<Watcher>,
    hosts: Hosts,
    room: Room,
    interfaces: Interfaces,
    links: Links,
    peers: PeerNames,
    grouped: Grouped,
    global_tags: Arc<[String]>,
    tells_side: bool,
}

impl Directory {
    pub(super) fn new(config: &Config) -> Self {
        let hosts = config.instances.iter().flat_map(|instance| instance.hosts.iter().cloned());
        let mut directory = Self {
            watchers: live(config).map(|instance| Watcher::new(instance, &config.tags)).collect(),
            hosts: Hosts::new(hosts).kept_for(config.idle_ttl),
            room: Room::new(config.backend != Backend::Pcap),
            interfaces: Interfaces::default(),
            links: Links::default(),
            peers: PeerNames::new(config.reverse_dns),
            grouped: Grouped::default(),
            global_tags: Arc::from(config.tags.as_slice()),
            tells_side: config.sides != SidesWanted::Remote,
        };
        directory.room.apply(&directory.hosts, &mut directory.watchers);
        directory
    }

    /// Takes over what an earlier directory knows.
    pub(super) fn adopt(&mut self, old: &Self) {
        self.hosts.adopt(&old.hosts);
        self.interfaces.clone_from(&old.interfaces);
        self.links.refresh(self.wants_default());
        self.room.left_out.clone_from(&old.room.left_out);
        self.room.apply(&self.hosts, &mut self.watchers);
        self.grouped.adopt(&old.grouped);
        self.peers.adopt(&old.peers);
    }

    /// Puts remote hosts together in these groups.
    pub(super) fn set_groups(&mut self, groups: Groups) {
        self.grouped.set(groups, &self.hosts, &self.watchers);
    }

    /// The groups in force.
    pub(super) fn groups(&self) -> &Groups {
        self.grouped.groups()
    }

    /// What the engine is to do about groups, if anything.
    pub(super) fn grouping(&self) -> Option<Grouping> {
        self.grouped.grouping().cloned()
    }

    /// Has groups follow what is watched now; whether that changes them.
    pub(super) fn refresh_groups(&mut self) -> bool {
        self.grouped.refresh(&self.hosts, &self.watchers)
    }

    /// The name of a pair's group, if it is of one.
    pub(super) fn group_name(&self, pair: &PairKey) -> Option<String> {
        self.groups().name(pair).map(|group| group.name)
    }

    /// Looks up the configured host names, and waits a moment for the answers: most name servers give them at once.
    pub(super) async fn refresh_hosts(&mut self) {
        self.hosts.refresh(FIRST_ANSWERS).await;
        let names: Vec<String> = self.hosts.iter().map(|(name, _)| name.to_owned()).collect();
        self.room.fit(&self.hosts, &mut self.watchers, &names);
    }

    /// What is known of the configured host names.
    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Takes the answer to a configured name; whether what is watched changed.
    pub(super) fn learn_host(&mut self, name: &str, answer: Addresses) -> bool {
        let changed = self.hosts.learn(name, answer);
        if changed {
            // There may be room now for what others have too many.
            let others = self.room.left_out.keys().filter(|other| *other != name).cloned();
            let names: Vec<String> = std::iter::once(name.to_owned()).chain(others).collect();
            self.room.fit(&self.hosts, &mut self.watchers, &names);
        }
        changed
    }

    /// Logs names that cannot be looked up.
    pub(super) fn complain_of_hosts(&mut self) {
        self.hosts.complain();
    }

    /// Notes which addresses are in use, by a report's pairs: as long as they are, they stay targets.
    pub(super) fn in_use(&mut self, remote: impl Iterator<Item = IpAddr>) {
        self.hosts.in_use(remote);
    }

    /// Whether there is anything to watch that is not on this host. Names without an address yet are waited for.
    pub(super) fn check(&self) -> Result<(), OnlyLocalTargets> {
        let silent = self.hosts.iter().filter(|(_, host)| host.addresses.is_empty()).map(|(name, _)| name);
        let silent: Vec<&str> = silent.collect();
        if !silent.is_empty() {
            tracing::warn!("no address yet for {}; watching them once the name server answers", silent.join(", "));
            return Ok(());
        }
        let local = local_addresses();
        let links = links::links().unwrap_or_default();
        let is_only_local = |watcher: &Watcher| watcher.is_only_local(&local, &links, &self.links);
        if self.watchers.iter().all(is_only_local) { Err(OnlyLocalTargets) } else { Ok(()) }
    }

    /// What each interface is to watch now.
    pub(super) fn watch_list(&self) -> WatchList {
        watcher::watch_list(&self.watchers)
    }

    /// What an instance watches now, whether it is live or reads a file.
    pub(super) fn nets_of(&self, instance: &Instance) -> Vec<IpNet> {
        let addresses = instance.hosts.iter().flat_map(|name| self.hosts.addresses(name));
        TargetSet::new(instance.ips.iter().copied(), addresses).nets().collect()
    }

    /// When the next sampling window opens or closes.
    pub(super) fn next_window(&self) -> Option<Instant> {
        self.watchers.iter().filter_map(Watcher::next_change).min()
    }

    /// Opens and closes the windows whose time has come.
    pub(super) fn update_windows(&mut self) {
        let now = Instant::now();
        self.watchers.iter_mut().for_each(|watcher| watcher.update_window(now));
    }

    /// An interface got this index.
    pub(super) fn interface_attached(&mut self, ifindex: u32, name: String) {
        self.interfaces.attached(ifindex, name, &mut self.links);
        self.links.refresh_soon(self.wants_default());
    }

    /// An interface went away; what was measured on it is still to be reported.
    pub(super) fn interface_lost(&mut self, ifindex: u32) {
        self.interfaces.lost(ifindex);
        self.links.refresh_soon(self.wants_default());
    }

    /// What is to be watched and is not among these, by name: interfaces that were named, and the default route's.
    pub(super) fn absent(&self, attached: &[&str]) -> BTreeSet<String> {
        let is_absent = |watcher: &&Watcher| {
            !attached.iter().any(|name| watcher.interface() == *name || watcher.watches(name, &self.links))
        };
        let needed = self.watchers.iter().filter(|watcher| watcher.needs_an_interface());
        needed.filter(is_absent).map(|watcher| watcher.interface().to_owned()).collect()
    }

    /// What is at the other ends of interfaces.
    pub(super) fn learn_machines(&mut self, machines: Machines) {
        self.interfaces.learn_machines(machines);
    }

    /// A report is to be made. An interface that is watched anyway may have got another name that an instance means.
    pub(super) fn before_report(&mut self) {
        if self.watchers.iter().any(|watcher| watcher.rank() != Rank::All) {
            self.links.refresh(self.wants_default());
        }
    }

    /// A report went out.
    pub(super) fn reported(&mut self) {
        self.interfaces.reported();
    }

    /// Whether the interface of this name is asked for by one of its names, or as the default route's, rather than by a
    /// pattern. Only then is it missed when it goes.
    pub(super) fn is_named(&self, interface: &str) -> bool {
        let mut watchers = self.watchers.iter().filter(|watcher| watcher.rank() <= Rank::Default);
        watchers.any(|watcher| watcher.watches(interface, &self.links))
    }

    /// What each instance watches, for the status.
    pub(super) fn status(&self) -> Vec<TargetStatus> {
        self.watchers.iter().map(|watcher| watcher.status(&self.hosts)).collect()
    }

    /// What is not watched for want of room, for the status.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.room.problems(&self.hosts)
    }

    /// A report will name these addresses.
    pub(super) fn want_names(&self, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses.filter(|address| self.hosts.name_of(*address).is_none()) {
            let _ = self.peers.name(address);
        }
    }

    /// Addresses whose names were wanted and not known.
    pub(super) fn take_missing_names(&self) -> Vec<(IpAddr, Turn)> {
        self.peers.take_missing()
    }

    /// Remembers the name of an address; `None` if it was not asked for after all.
    pub(super) fn learn_name(&self, address: IpAddr, answer: Option<Name>) {
        self.peers.learn(address, answer);
    }

    /// The tags of the instance that watches the interface and passes `is_meant`, and of what is at the interface.
    fn tags_of(&self, interface: &str, is_meant: impl Fn(&Watcher) -> bool) -> Arc<[String]> {
        let wants = |watcher: &&Watcher| watcher.watches(interface, &self.links) && is_meant(watcher);
        // Of several with the same rank it is the first in the file.
        let watcher = self.watchers.iter().filter(wants).min_by_key(|watcher| watcher.rank());
        // None: a target that went out of use since it was measured.
        let tags = watcher.map_or(&self.global_tags, |watcher| &watcher.tags);
        match self.interfaces.tags(interface) {
            [] => tags.clone(),
            machine => tags.iter().chain(machine).cloned().collect(),
        }
    }

    fn wants_default(&self) -> bool {
        self.watchers.iter().any(|watcher| watcher.rank() == Rank::Default)
    }
}

/// The instances that watch an interface.
pub(super) fn live(config: &Config) -> impl Iterator<Item = &Instance> {
    config.instances.iter().filter(|instance| instance.pcap.is_none())
}

impl Names for Directory {
    fn interface(&self, ifindex: u32) -> String {
        self.interfaces.name(ifindex)
    }

    fn remote(&self, address: IpAddr) -> String {
        if let Some(name) = self.hosts.name_of(address) {
            return name.to_owned();
        }
        self.peers.name(address).unwrap_or_else(|| address.to_string())
    }

    fn tags(&self, interface: &str, address: IpAddr) -> Arc<[String]> {
        self.tags_of(interface, |watcher| watcher.is_target(address))
    }

    fn global_tags(&self) -> Arc<[String]> {
        self.global_tags.clone()
    }

    fn group(&self, pair: &PairKey, interface: &str) -> Option<(String, Arc<[String]>)> {
        let group = self.groups().name(pair)?;
        let tags = self.tags_of(interface, |watcher| self.grouped.is_of_class(pair, watcher));
        let tags = if group.tags.is_empty() { tags } else { tags.iter().chain(&group.tags).cloned().collect() };
        Some((group.name, tags))
    }

    fn tells_side(&self) -> bool {
        self.tells_side
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use go_metro_common::target::TARGETS_MAX;

    use super::*;
    use crate::config::Backend;

    /// So many addresses of one family.
    fn addresses(first: [u8; 4], count: u32) -> BTreeSet<IpAddr> {
        (0..count).map(|k| Ipv4Addr::from(u32::from(Ipv4Addr::from(first)) + k).into()).collect()
    }

    /// A directory whose prefixes leave room for so many more IPv4 addresses on loopback.
    fn with_room_for(room: u32, backend: Backend) -> Directory {
        let nets = addresses([10, 0, 0, 0], TARGETS_MAX - room).into_iter().map(|address| address.to_string());
        let targets: Vec<String> = nets.chain(["a.example".to_owned(), "b.example".to_owned()]).collect();
        let config = Config::from_cli(&["lo".to_owned()], &targets, &|_| None).unwrap();
        Directory::new(&Config { backend, ..config })
    }

    fn watched(directory: &Directory, of: &BTreeSet<IpAddr>) -> usize {
        directory.watch_list()["lo"].iter().filter(|net| of.contains(&net.addr())).count()
    }

    #[test]
    fn of_a_name_with_more_addresses_than_the_tries_have_room_for_the_surplus_alone_is_left_out() {
        let (a, mut b) = (addresses([192, 0, 2, 0], 6), addresses([198, 51, 100, 0], 9));
        b.insert("2001:db8::1".parse().unwrap());
        let mut directory = with_room_for(10, Backend::Ebpf);
        directory.learn_host("a.example", Ok(a.clone()));
        directory.learn_host("b.example", Ok(b.clone()));
        assert_eq!((watched(&directory, &a), watched(&directory, &b)), (6, 4 + 1), "the other family has room");
        assert!(directory.room.holds(&directory.watchers));
        assert_eq!(directory.room.left_out.keys().collect::<Vec<_>>(), ["b.example"]);

        // The same answer changes nothing. Fewer addresses elsewhere make room, as soon as they are no longer kept.
        assert!(!directory.learn_host("b.example", Ok(b.clone())));
        let mut other = with_room_for(10, Backend::Ebpf);
        other.learn_host("b.example", Ok(b.clone()));
        assert_eq!(watched(&other, &b), 10);
        other.learn_host("a.example", Ok(a.clone()));
        assert_eq!((watched(&other, &a), watched(&other, &b)), (1, 10), "what was there first stays");
    }

    #[test]
    fn libpcap_watches_every_address_and_prefixes_alone_that_do_not_fit_are_left_to_the_source() {
        let a = addresses([192, 0, 2, 0], 6);
        let mut directory = with_room_for(1, Backend::Pcap);
        directory.learn_host("a.example", Ok(a.clone()));
        assert_eq!(watched(&directory, &a), 6);
    }
}
