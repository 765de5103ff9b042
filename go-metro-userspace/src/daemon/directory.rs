//! What each instance watches now, and what the pairs it measures are called.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::containers::Machines;
use crate::capture::{CaptureError, WatchList, interfaces};
use crate::config::{Backend, Config, Instance, Selector, SidesWanted};
use crate::netlink::links;
use crate::output::naming::Names;
use crate::status::document::{HostStatus, TargetStatus};
use crate::targets::hosts::Hosts;
use crate::targets::resolver::{Addresses, Name};
use crate::targets::reverse::ReverseNames;
use crate::targets::{TargetSet, local_addresses};

/// Longest wait for name servers before capture starts, or goes over to another configuration. Who answers later is
/// heard later.
const FIRST_ANSWERS: Duration = Duration::from_millis(300);

/// Every target of every instance is an address of this host.
#[derive(Debug, thiserror::Error)]
#[error(
    "all targets are addresses of this host, and the way to them is not worth measuring: name remote addresses, \
     prefixes or \
     hosts; `ips: [\"0.0.0.0/0\", \"::/0\"]` means everything"
)]
pub struct OnlyLocalTargets;

/// One instance: what it watches, and its sampling window.
struct Watcher {
    interface: String,
    /// What that means; the configuration holds nothing that means nothing.
    selector: Option<Selector>,
    ips: Vec<IpNet>,
    hosts: Vec<String>,
    tags: Arc<[String]>,
    targets: TargetSet,
    window: Option<Window>,
    /// Whether it is the host's end of another machine's link, whose peers this host's own addresses are; none to find
    /// out.
    host_end: Option<bool>,
}

/// An interface that is or was captured on.
#[derive(Clone)]
struct Interface {
    name: String,
    /// Of the container or pod that it leads to.
    tags: Vec<String>,
    /// Reports since it went away.
    gone: Option<u8>,
}

/// A sampling window: on for a while, off for a while.
struct Window {
    on: Duration,
    off: Duration,
    is_on: bool,
    turns_at: Instant,
}

/// How often the kernel is asked for its interfaces because one came or went.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is known of interfaces, by name.
#[derive(Default)]
struct Links {
    /// Those of the default routes.
    default: BTreeSet<String>,
    /// The alternative names of those that have some.
    alt_names: BTreeMap<String, Vec<String>>,
}

/// All instances and all names.
pub(super) struct Directory {
    watchers: Vec<Watcher>,
    hosts: Hosts,
    interfaces: HashMap<u32, Interface>,
    links: Links,
    looked_at: Option<Instant>,
    reverse: Option<RefCell<ReverseNames>>,
    global_tags: Arc<[String]>,
    tells_side: bool,
    /// Whether the classifier's tries bound what can be watched; libpcap has none.
    has_tries: bool,
    /// Addresses of names that are not watched, as the tries have no room for them.
    left_out: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl Directory {
    pub(super) fn new(config: &Config) -> Self {
        let global_tags: Arc<[String]> = Arc::from(config.tags.as_slice());
        let hosts = config.instances.iter().flat_map(|instance| instance.hosts.iter().cloned());
        let mut directory = Self {
            watchers: live(config).map(|instance| Watcher::new(instance, &config.tags)).collect(),
            hosts: Hosts::new(hosts).kept_for(config.idle_ttl),
            interfaces: HashMap::new(),
            links: Links::default(),
            looked_at: None,
            reverse: config.reverse_dns.then(RefCell::default),
            global_tags,
            tells_side: config.sides != SidesWanted::Remote,
            has_tries: config.backend != Backend::Pcap,
            left_out: BTreeMap::new(),
        };
        directory.apply_hosts();
        directory
    }

    /// Takes over what an earlier directory knows.
    pub(super) fn adopt(&mut self, old: &Self) {
        self.hosts.adopt(&old.hosts);
        self.interfaces.clone_from(&old.interfaces);
        self.look_at_links();
        self.left_out.clone_from(&old.left_out);
        self.apply_hosts();
    }

    /// Looks up the configured host names, and waits a moment for the answers: most name servers give them at once.
    pub(super) async fn refresh_hosts(&mut self) {
        self.hosts.refresh(FIRST_ANSWERS).await;
        let names: Vec<String> = self.hosts.iter().map(|(name, _)| name.to_owned()).collect();
        self.leave_out_surplus(&names);
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
            let others = self.left_out.keys().filter(|other| *other != name).cloned();
            let names: Vec<String> = std::iter::once(name.to_owned()).chain(others).collect();
            self.leave_out_surplus(&names);
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

    /// Whether there is anything to watch that is far away. On loopback local targets are what one asks for; names
    /// without an address yet are waited for.
    pub(super) fn check(&self) -> Result<(), OnlyLocalTargets> {
        let silent = self.hosts.iter().filter(|(_, host)| host.addresses.is_empty()).map(|(name, _)| name);
        let silent: Vec<&str> = silent.collect();
        if !silent.is_empty() {
            tracing::warn!("no address yet of {}; watching them once the name server answers", silent.join(", "));
            return Ok(());
        }
        let local = local_addresses();
        let links = links::links().unwrap_or_default();
        let is_host_end =
            |watcher: &Watcher| links.iter().any(|link| link.is_host_end() && watcher.means(&link.name, &self.links));
        let near = |watcher: &Watcher| {
            watcher.interface != "lo"
                && watcher.targets.is_only(&local)
                && !watcher.host_end.unwrap_or_else(|| is_host_end(watcher))
        };
        if self.watchers.iter().all(near) { Err(OnlyLocalTargets) } else { Ok(()) }
    }

    /// What each interface is to watch now. An interface whose instances are all in the off part of their window is
    /// there, with nothing to watch.
    pub(super) fn watch_list(&self) -> WatchList {
        let mut nets: BTreeMap<String, BTreeSet<IpNet>> = BTreeMap::new();
        for watcher in &self.watchers {
            let of_interface = nets.entry(watcher.interface.clone()).or_default();
            if watcher.window.as_ref().is_none_or(|window| window.is_on) {
                of_interface.extend(watcher.targets.nets());
            }
        }
        nets.into_iter().map(|(interface, nets)| (interface, nets.into_iter().collect())).collect()
    }

    /// What an instance watches now, whether it is live or reads a file.
    pub(super) fn nets_of(&self, instance: &Instance) -> Vec<IpNet> {
        let addresses = instance.hosts.iter().flat_map(|name| self.hosts.addresses(name));
        TargetSet::new(instance.ips.iter().copied(), addresses).nets().collect()
    }

    /// When the next sampling window turns.
    pub(super) fn next_window(&self) -> Option<Instant> {
        self.watchers.iter().filter_map(|watcher| Some(watcher.window.as_ref()?.turns_at)).min()
    }

    /// Turns the windows whose time has come.
    pub(super) fn turn_windows(&mut self) {
        let now = Instant::now();
        for window in self.watchers.iter_mut().filter_map(|watcher| watcher.window.as_mut()) {
            if window.turns_at <= now {
                window.is_on = !window.is_on;
                window.turns_at = now + if window.is_on { window.on } else { window.off };
            }
        }
    }

    /// An interface got this index.
    pub(super) fn interface_is(&mut self, ifindex: u32, name: String) {
        // Another interface may have had the name.
        self.links.alt_names.remove(&name);
        let old = self.interfaces.insert(ifindex, Interface { name, tags: Vec::new(), gone: None });
        if let (Some(old), Some(new)) = (old, self.interfaces.get_mut(&ifindex)) {
            new.tags = old.tags;
        }
        self.look_at_links_soon();
    }

    /// An interface went away; what was measured on it is still to be reported.
    pub(super) fn interface_is_gone(&mut self, ifindex: u32) {
        if let Some(interface) = self.interfaces.get_mut(&ifindex) {
            interface.gone = Some(0);
        }
        self.look_at_links_soon();
    }

    /// What is to be watched and is not among these, by name: interfaces that were named, and the default route's. Of a
    /// pattern there may be none.
    pub(super) fn absent(&self, attached: &[&str]) -> BTreeSet<String> {
        let must_be = |watcher: &&Watcher| matches!(watcher.selector, Some(Selector::Name(_) | Selector::Default));
        let is_absent = |watcher: &&Watcher| {
            !attached.iter().any(|name| watcher.interface == *name || watcher.means(name, &self.links))
        };
        self.watchers.iter().filter(must_be).filter(is_absent).map(|watcher| watcher.interface.clone()).collect()
    }

    /// What is at the other ends of interfaces.
    pub(super) fn learn_machines(&mut self, machines: Machines) {
        for (ifindex, tags) in machines {
            if let Some(interface) = self.interfaces.get_mut(&ifindex) {
                interface.tags = tags;
            }
        }
    }

    /// A report is to be made. An interface that is watched anyway may have got another name that an instance means.
    pub(super) fn before_report(&mut self) {
        if self.watchers.iter().any(|watcher| watcher.rank() != Rank::All) {
            self.look_at_links();
        }
    }

    /// A report went out: interfaces that were gone before it have had their last.
    pub(super) fn reported(&mut self) {
        self.interfaces.retain(|_, interface| {
            interface.gone = interface.gone.map(|reports| reports + 1);
            interface.gone.is_none_or(|reports| reports < 2)
        });
    }

    /// Whether the interface of this name is asked for by one of its names, or as the default route's, rather than by a
    /// pattern. Only then is it missed when it goes.
    pub(super) fn is_named(&self, interface: &str) -> bool {
        let watchers = self.watchers.iter().filter(|watcher| watcher.rank() <= Rank::Default);
        watchers.into_iter().any(|watcher| watcher.means(interface, &self.links))
    }

    /// As [`Self::look_at_links`], but not once for each of a crowd of interfaces: the kernel answers under a lock that
    /// the thread that attaches to them holds for most of the time. The next report looks in any case.
    fn look_at_links_soon(&mut self) {
        if self.looked_at.is_none_or(|looked_at| looked_at.elapsed() >= LOOK_EVERY) {
            self.look_at_links();
            self.looked_at = Some(Instant::now());
        }
    }

    /// Refreshes which names interfaces have and which are on default routes. What is known stays while the kernel
    /// does not tell.
    fn look_at_links(&mut self) {
        if self.watchers.iter().any(|watcher| watcher.selector == Some(Selector::Default)) {
            self.links.default = interfaces::of_default_routes();
        }
        if let Ok(links) = links::links() {
            // One that has gone is still to be reported under its names.
            let named = links.into_iter().filter(|link| !link.alt_names.is_empty());
            self.links.alt_names.extend(named.map(|link| (link.name, link.alt_names)));
        }
    }

    /// What each instance watches, for the status.
    pub(super) fn status(&self) -> Vec<TargetStatus> {
        let host = |name: &String| {
            let known =
                self.hosts.iter().find(|(known, _)| known == name).map(|(_, host)| host.clone()).unwrap_or_default();
            HostStatus {
                name: name.clone(),
                addresses: known.addresses.iter().map(ToString::to_string).collect(),
                age_s: known.answered_at.map(|at| at.elapsed().as_secs_f64()),
                error: known.error,
            }
        };
        let each = self.watchers.iter().map(|watcher| TargetStatus {
            interface: watcher.interface.clone(),
            watching: watcher.window.as_ref().is_none_or(|window| window.is_on),
            prefixes: watcher.ips.iter().map(ToString::to_string).collect(),
            hosts: watcher.hosts.iter().map(host).collect(),
            tags: watcher.tags.to_vec(),
        });
        each.collect()
    }

    /// A report will name these addresses.
    pub(super) fn want_names(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let Some(reverse) = &mut self.reverse else { return };
        for address in addresses.filter(|address| self.hosts.name_of(*address).is_none()) {
            let _ = reverse.get_mut().name(address);
        }
    }

    /// Addresses whose names were wanted and not known.
    pub(super) fn take_missing_names(&mut self) -> Vec<IpAddr> {
        self.reverse.as_ref().map(|reverse| reverse.borrow_mut().take_missing()).unwrap_or_default()
    }

    /// Remembers the name of an address; none if it was not asked for after all.
    pub(super) fn learn_name(&mut self, address: IpAddr, answer: Option<Name>) {
        if let Some(reverse) = &self.reverse {
            match answer {
                Some(name) => reverse.borrow_mut().learn(address, &name),
                None => reverse.borrow_mut().forget(address),
            }
        }
    }

    fn apply_hosts(&mut self) {
        for watcher in &mut self.watchers {
            let (hosts, left_out) = (&self.hosts, &self.left_out);
            let is_watched = |name: &str, address: &IpAddr| left_out.get(name).is_none_or(|set| !set.contains(address));
            let addresses = watcher
                .hosts
                .iter()
                .flat_map(|name| hosts.addresses(name).filter(move |address| is_watched(name, address)));
            watcher.targets = TargetSet::new(watcher.ips.iter().copied(), addresses);
        }
    }

    /// Applies what is known of names. Where the classifier's tries do not hold all of it, as many addresses of `names`
    /// are left out as must be, one name after another, so that the first has room first; what else is watched stays.
    /// Of a name's addresses those that were learned last are left out.
    fn leave_out_surplus(&mut self, names: &[String]) {
        let before = self.left_out.clone();
        self.left_out.retain(|name, _| !names.contains(name));
        self.apply_hosts();
        if self.fits() {
            return;
        }
        let all_of = |name: &String| (name.clone(), self.hosts.addresses(name).collect());
        let all: Vec<(String, BTreeSet<IpAddr>)> = names.iter().map(all_of).collect();
        self.left_out.extend(all);
        self.apply_hosts();
        if !self.fits() {
            // Without them it is too much as well, which the source says.
            self.left_out.retain(|name, _| !names.contains(name));
            self.apply_hosts();
            return;
        }
        for name in names {
            for is_v4 in [true, false] {
                self.take_in(name, is_v4);
            }
            let left_out = self.left_out.get(name).map_or(0, BTreeSet::len);
            if left_out == 0 {
                self.left_out.remove(name);
            } else if self.left_out.get(name).map(BTreeSet::len) != before.get(name).map(BTreeSet::len) {
                tracing::warn!(
                    "no room in the classifier for {left_out} of {} addresses of {name}; they are not watched. \
                     Configure \
                     prefixes instead of names or addresses, or fewer of them",
                    self.hosts.addresses(name).count()
                );
            }
        }
    }

    /// That there is no room for some of a name's addresses, for each such name.
    pub(super) fn surplus(&self) -> impl Iterator<Item = String> {
        self.left_out.iter().map(|(name, left_out)| {
            format!(
                "no room in the classifier for {} of {} addresses of {name}; they are not watched",
                left_out.len(),
                self.hosts.addresses(name).count()
            )
        })
    }

    /// Watches as many addresses of one name and family, all of which are left out, as there is room for.
    fn take_in(&mut self, name: &str, is_v4: bool) {
        let of_family = self.hosts.by_age(name).into_iter().filter(|address| address.is_ipv4() == is_v4);
        let addresses: Vec<IpAddr> = of_family.collect();
        let (mut fitting, mut most) = (0, addresses.len());
        // Most often all of them fit.
        let mut tried = most;
        loop {
            if let Some(left_out) = self.left_out.get_mut(name) {
                left_out.retain(|address| address.is_ipv4() != is_v4);
                left_out.extend(&addresses[tried..]);
            }
            self.apply_hosts();
            if tried == fitting && fitting == most {
                return;
            }
            if self.fits() {
                fitting = tried;
            } else {
                most = tried - 1;
            }
            tried = (fitting + most).div_ceil(2);
        }
    }

    /// Whether the classifier can hold what is to be watched. Where the kernel does not tell its interfaces, nothing
    /// speaks against it.
    fn fits(&self) -> bool {
        let fit = if self.has_tries { interfaces::fit(&self.watch_list()) } else { Ok(()) };
        !matches!(fit, Err(CaptureError::TooManyTargets { .. }))
    }
}

/// The instances that watch an interface.
pub(super) fn live(config: &Config) -> impl Iterator<Item = &Instance> {
    config.instances.iter().filter(|instance| instance.pcap.is_none())
}

/// How closely an instance says which interface it means, closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Name,
    Default,
    Pattern,
    All,
}

impl Watcher {
    /// Whether it watches the interface of this name.
    fn means(&self, name: &str, links: &Links) -> bool {
        let alt_names = links.alt_names.get(name).into_iter().flatten().map(String::as_str);
        let names = std::iter::once(name).chain(alt_names);
        let chooses = |selector: &Selector| selector.chooses(names, name == "lo", links.default.contains(name));
        self.interface == "any" || self.selector.as_ref().is_some_and(chooses)
    }

    fn rank(&self) -> Rank {
        match &self.selector {
            Some(Selector::Name(name)) if name != interfaces::ANY => Rank::Name,
            Some(Selector::Default) => Rank::Default,
            Some(Selector::Like(_)) => Rank::Pattern,
            Some(Selector::All | Selector::Name(_)) | None => Rank::All,
        }
    }

    fn new(instance: &Instance, global_tags: &[String]) -> Self {
        let tags: Vec<String> = global_tags.iter().chain(&instance.tags).cloned().collect();
        Self {
            interface: instance.interface.clone(),
            selector: Selector::parse(&instance.interface).ok(),
            ips: instance.ips.clone(),
            hosts: instance.hosts.clone(),
            tags: Arc::from(tags),
            targets: TargetSet::default(),
            host_end: instance.host_end,
            window: instance.sampling.map(|sampling| Window {
                on: sampling.on,
                off: sampling.off,
                is_on: true,
                turns_at: Instant::now() + sampling.on,
            }),
        }
    }
}

impl Names for Directory {
    fn interface(&self, ifindex: u32) -> String {
        if let Some(interface) = self.interfaces.get(&ifindex) {
            return interface.name.clone();
        }
        // The device `any` sees interfaces that nobody configured.
        let name = nix::net::if_::if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok());
        name.unwrap_or_else(|| "any".to_owned())
    }

    fn remote(&self, address: IpAddr) -> String {
        if let Some(name) = self.hosts.name_of(address) {
            return name.to_owned();
        }
        let known = self.reverse.as_ref().and_then(|reverse| reverse.borrow_mut().name(address));
        known.map_or_else(|| address.to_string(), |name| name.to_string())
    }

    fn tags(&self, interface: &str, address: IpAddr) -> Arc<[String]> {
        let wants = |watcher: &&Watcher| watcher.means(interface, &self.links) && watcher.targets.matches(address);
        // Of several with the same rank it is the first in the file.
        let watcher = self.watchers.iter().filter(wants).min_by_key(|watcher| watcher.rank());
        // None: a target that went out of use since it was measured.
        let tags = watcher.map_or(&self.global_tags, |watcher| &watcher.tags);
        // A name may come back before the last that had it was reported.
        let named = self.interfaces.values().filter(|its| its.name == interface);
        match named.min_by_key(|its| its.gone.is_some()).filter(|its| !its.tags.is_empty()) {
            Some(machine) => tags.iter().chain(&machine.tags).cloned().collect(),
            None => tags.clone(),
        }
    }

    fn global_tags(&self) -> Arc<[String]> {
        self.global_tags.clone()
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
        assert!(directory.fits());
        assert_eq!(directory.left_out.keys().collect::<Vec<_>>(), ["b.example"]);

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
