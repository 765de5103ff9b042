//! The interfaces that are or were captured on, by index, and what the kernel says of interfaces by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::capture::interfaces;
use crate::netlink::links;

use super::super::containers::Machines;

/// How often the kernel is asked for its interfaces because one came or went.
const REFRESH_EVERY: Duration = Duration::from_millis(500);

/// Reports that still name an interface after it went away.
const REPORTS_WHEN_GONE: u8 = 2;

/// An interface that is or was captured on.
#[derive(Clone)]
struct Interface {
    name: String,
    /// Of the container or pod that it leads to.
    tags: Vec<String>,
    /// Reports since it went away.
    gone: Option<u8>,
}

/// What the kernel says of interfaces, by name.
#[derive(Default)]
pub(super) struct Links {
    /// Those of the default routes.
    default: BTreeSet<String>,
    /// The alternative names of those that have some.
    alt_names: BTreeMap<String, Vec<String>>,
    refreshed_at: Option<Instant>,
}

impl Links {
    /// Whether a default route leads through it.
    pub(super) fn is_default(&self, name: &str) -> bool {
        self.default.contains(name)
    }

    /// Its alternative names.
    pub(super) fn alt_names_of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.alt_names.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Refreshes which names interfaces have and, if that is wanted, which are on default routes. What is known stays
    /// while the kernel does not answer.
    pub(super) fn refresh(&mut self, wants_default: bool) {
        if wants_default {
            self.default = interfaces::of_default_routes();
        }
        if let Ok(links) = links::links() {
            // One that has gone is still to be reported under its names.
            let named = links.into_iter().filter(|link| !link.alt_names.is_empty());
            self.alt_names.extend(named.map(|link| (link.name, link.alt_names)));
        }
    }

    /// As [`Self::refresh`], but not once for each of many interfaces: the kernel answers under a lock that the thread
    /// that attaches to them holds for most of the time. The next report refreshes in any case.
    pub(super) fn refresh_soon(&mut self, wants_default: bool) {
        if self.refreshed_at.is_none_or(|at| at.elapsed() >= REFRESH_EVERY) {
            self.refresh(wants_default);
            self.refreshed_at = Some(Instant::now());
        }
    }
}

/// The interfaces that are or were captured on.
#[derive(Clone, Default)]
pub(super) struct Interfaces(HashMap<u32, Interface>);

impl Interfaces {
    /// An interface got this index.
    pub(super) fn attached(&mut self, ifindex: u32, name: String, links: &mut Links) {
        // Another interface may have had the name.
        links.alt_names.remove(&name);
        let old = self.0.insert(ifindex, Interface { name, tags: Vec::new(), gone: None });
        if let (Some(old), Some(new)) = (old, self.0.get_mut(&ifindex)) {
            new.tags = old.tags;
        }
    }

    /// An interface went away; what was measured on it is still to be reported.
    pub(super) fn lost(&mut self, ifindex: u32) {
        if let Some(interface) = self.0.get_mut(&ifindex) {
            interface.gone = Some(0);
        }
    }

    /// What is at the other ends of interfaces.
    pub(super) fn learn_machines(&mut self, machines: Machines) {
        for (ifindex, tags) in machines {
            if let Some(interface) = self.0.get_mut(&ifindex) {
                interface.tags = tags;
            }
        }
    }

    /// A report went out: interfaces that were gone before it have had their last.
    pub(super) fn reported(&mut self) {
        self.0.retain(|_, interface| {
            interface.gone = interface.gone.map(|reports| reports + 1);
            interface.gone.is_none_or(|reports| reports < REPORTS_WHEN_GONE)
        });
    }

    /// The name of an interface.
    pub(super) fn name(&self, ifindex: u32) -> String {
        if let Some(interface) = self.0.get(&ifindex) {
            return interface.name.clone();
        }
        // The device `any` sees interfaces that nobody configured.
        let name = nix::net::if_::if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok());
        name.unwrap_or_else(|| interfaces::ANY.to_owned())
    }

    /// The tags of the container or pod that an interface leads to.
    pub(super) fn tags(&self, name: &str) -> &[String] {
        // A name may come back before the last that had it was reported.
        let named = self.0.values().filter(|its| its.name == name);
        named.min_by_key(|its| its.gone.is_some()).map_or(&[], |its| &its.tags)
    }
}
