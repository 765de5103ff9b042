//! One instance that watches an interface: which one, which addresses of peers, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::interfaces::Links;
use crate::capture::{WatchList, interfaces};
use crate::config::{Instance, Selector};
use crate::netlink::links::Link;
use crate::status::document::{HostStatus, TargetStatus};
use crate::targets::TargetSet;
use crate::targets::hosts::Hosts;

/// An instance: what it watches, and its sampling window.
pub(super) struct Watcher {
    interface: String,
    /// What that means; a valid configuration has none without a meaning.
    selector: Option<Selector>,
    ips: Vec<IpNet>,
    hosts: Vec<String>,
    pub(super) tags: Arc<[String]>,
    targets: TargetSet,
    window: Option<Window>,
    /// Whether it is the host's end of another machine's link, whose peers this host's own addresses are; `None` to
    /// find out.
    host_end: Option<bool>,
}

/// A sampling window: on for a while, off for a while.
struct Window {
    on: Duration,
    off: Duration,
    is_on: bool,
    ends_at: Instant,
}

/// How precisely an instance names its interface, most precise first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Name,
    Default,
    Pattern,
    All,
}

impl Watcher {
    pub(super) fn new(instance: &Instance, global_tags: &[String]) -> Self {
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
                ends_at: Instant::now() + sampling.on,
            }),
        }
    }

    pub(super) fn rank(&self) -> Rank {
        match &self.selector {
            Some(Selector::Name(name)) if name != interfaces::ANY => Rank::Name,
            Some(Selector::Default) => Rank::Default,
            Some(Selector::Like(_)) => Rank::Pattern,
            Some(Selector::All | Selector::Name(_)) | None => Rank::All,
        }
    }

    /// The interface, as the configuration has it.
    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    /// Whether it watches the interface of this name.
    pub(super) fn watches(&self, name: &str, links: &Links) -> bool {
        let names = std::iter::once(name).chain(links.alt_names_of(name));
        let chooses = |selector: &Selector| selector.chooses(names, name == "lo", links.is_default(name));
        self.interface == interfaces::ANY || self.selector.as_ref().is_some_and(chooses)
    }

    /// Whether an interface must be there for it: one that is named, or the default route's. A pattern may match none.
    pub(super) fn needs_an_interface(&self) -> bool {
        matches!(self.selector, Some(Selector::Name(_) | Selector::Default))
    }

    /// Whether it watches this address.
    pub(super) fn is_target(&self, address: IpAddr) -> bool {
        self.targets.matches(address)
    }

    /// The prefixes that it watches while its window is open.
    pub(super) fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.targets.nets()
    }

    /// Whether all that it watches are addresses of this host, and the way to them is not worth measuring. On loopback
    /// local targets are what one asks for.
    pub(super) fn is_only_local(&self, local: &BTreeSet<IpAddr>, links: &[Link], known: &Links) -> bool {
        let is_host_end = || links.iter().any(|link| link.is_host_end() && self.watches(&link.name, known));
        self.interface != "lo" && self.targets.is_only(local) && !self.host_end.unwrap_or_else(is_host_end)
    }

    /// Takes over the addresses of its host names, but for those that are left out.
    pub(super) fn resolve(&mut self, hosts: &Hosts, left_out: &BTreeMap<String, BTreeSet<IpAddr>>) {
        let is_watched = |name: &str, address: &IpAddr| left_out.get(name).is_none_or(|set| !set.contains(address));
        let addresses =
            self.hosts.iter().flat_map(|name| hosts.addresses(name).filter(move |address| is_watched(name, address)));
        self.targets = TargetSet::new(self.ips.iter().copied(), addresses);
    }

    fn is_on(&self) -> bool {
        self.window.as_ref().is_none_or(|window| window.is_on)
    }

    /// When its sampling window opens or closes next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.window.as_ref().map(|window| window.ends_at)
    }

    /// Opens or closes its sampling window if it is time.
    pub(super) fn update_window(&mut self, now: Instant) {
        if let Some(window) = self.window.as_mut().filter(|window| window.ends_at <= now) {
            window.is_on = !window.is_on;
            window.ends_at = now + if window.is_on { window.on } else { window.off };
        }
    }

    /// What it watches, for the status.
    pub(super) fn status(&self, hosts: &Hosts) -> TargetStatus {
        let host = |name: &String| {
            let known = hosts.iter().find(|(known, _)| known == name).map(|(_, host)| host.clone()).unwrap_or_default();
            HostStatus {
                name: name.clone(),
                addresses: known.addresses.iter().map(ToString::to_string).collect(),
                age_s: known.answered_at.map(|at| at.elapsed().as_secs_f64()),
                error: known.error,
            }
        };
        TargetStatus {
            interface: self.interface.clone(),
            watching: self.is_on(),
            prefixes: self.ips.iter().map(ToString::to_string).collect(),
            hosts: self.hosts.iter().map(host).collect(),
            tags: self.tags.to_vec(),
        }
    }
}

/// What each interface is to watch now. An interface whose instances all have their window closed is there, with
/// nothing to watch.
pub(super) fn watch_list(watchers: &[Watcher]) -> WatchList {
    let mut nets: BTreeMap<String, BTreeSet<IpNet>> = BTreeMap::new();
    for watcher in watchers {
        let of_interface = nets.entry(watcher.interface.clone()).or_default();
        if watcher.is_on() {
            of_interface.extend(watcher.targets.nets());
        }
    }
    nets.into_iter().map(|(interface, nets)| (interface, nets.into_iter().collect())).collect()
}
