//! Which addresses of host names find no room in the classifier's tries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::watcher::{Watcher, watch_list};
use crate::capture::{CaptureError, interfaces};
use crate::targets::hosts::Hosts;

/// The room for targets, and what is left out for want of it.
pub(super) struct Room {
    /// Whether the classifier's tries bound what can be watched; libpcap has none.
    has_tries: bool,
    /// Addresses that are not watched, by host name.
    pub(super) left_out: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl Room {
    pub(super) fn new(has_tries: bool) -> Self {
        Self { has_tries, left_out: BTreeMap::new() }
    }

    /// Has each instance watch what is known of its host names, but for what is left out.
    pub(super) fn apply(&self, hosts: &Hosts, watchers: &mut [Watcher]) {
        watchers.iter_mut().for_each(|watcher| watcher.resolve(hosts, &self.left_out));
    }

    /// Applies what is known of names. Where the tries do not hold all of it, as many addresses of `names` are left out
    /// as must be, one name after another, so that the first has room first; what else is watched stays. Of a name's
    /// addresses those that were learned last are left out.
    pub(super) fn fit(&mut self, hosts: &Hosts, watchers: &mut [Watcher], names: &[String]) {
        let before = self.left_out.clone();
        self.left_out.retain(|name, _| !names.contains(name));
        self.apply(hosts, watchers);
        if self.holds(watchers) {
            return;
        }
        let all_of = |name: &String| (name.clone(), hosts.addresses(name).collect());
        let all: Vec<(String, BTreeSet<IpAddr>)> = names.iter().map(all_of).collect();
        self.left_out.extend(all);
        self.apply(hosts, watchers);
        if !self.holds(watchers) {
            // Without them it is too much as well, which the source says.
            self.left_out.retain(|name, _| !names.contains(name));
            self.apply(hosts, watchers);
            return;
        }
        for name in names {
            for is_v4 in [true, false] {
                self.take_in(hosts, watchers, name, is_v4);
            }
            let left_out = self.left_out.get(name).map_or(0, BTreeSet::len);
            if left_out == 0 {
                self.left_out.remove(name);
            } else if self.left_out.get(name).map(BTreeSet::len) != before.get(name).map(BTreeSet::len) {
                tracing::warn!(
                    "no room in the classifier for {left_out} of {} addresses of {name}; they are not watched. \
                     Configure prefixes instead of names or addresses, or fewer of them",
                    hosts.addresses(name).count()
                );
            }
        }
    }

    /// That there is no room for some of a name's addresses, for each such name.
    pub(super) fn problems(&self, hosts: &Hosts) -> impl Iterator<Item = String> {
        self.left_out.iter().map(|(name, left_out)| {
            format!(
                "no room in the classifier for {} of {} addresses of {name}; they are not watched",
                left_out.len(),
                hosts.addresses(name).count()
            )
        })
    }

    /// Watches as many addresses of one name and family, all of which are left out, as there is room for.
    fn take_in(&mut self, hosts: &Hosts, watchers: &mut [Watcher], name: &str, is_v4: bool) {
        let of_family = hosts.by_age(name).into_iter().filter(|address| address.is_ipv4() == is_v4);
        let addresses: Vec<IpAddr> = of_family.collect();
        let (mut fitting, mut most) = (0, addresses.len());
        // Most often all of them fit.
        let mut tried = most;
        loop {
            if let Some(left_out) = self.left_out.get_mut(name) {
                left_out.retain(|address| address.is_ipv4() != is_v4);
                left_out.extend(&addresses[tried..]);
            }
            self.apply(hosts, watchers);
            if tried == fitting && fitting == most {
                return;
            }
            if self.holds(watchers) {
                fitting = tried;
            } else {
                most = tried - 1;
            }
            tried = (fitting + most).div_ceil(2);
        }
    }

    /// Whether the classifier can hold what is to be watched. Where the kernel does not list its interfaces, it is
    /// taken to.
    pub(super) fn holds(&self, watchers: &[Watcher]) -> bool {
        let fit = if self.has_tries { interfaces::fit(&watch_list(watchers)) } else { Ok(()) };
        !matches!(fit, Err(CaptureError::TooManyTargets { .. }))
    }
}
