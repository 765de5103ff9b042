//! Which interfaces are to be watched, as things stand: what is configured, compared with what the kernel has.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::WatchList;
use crate::netlink::links::{self, Link};

/// An interface that exists and is to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name.
    pub(super) name: String,
    /// Its index.
    pub(super) ifindex: u32,
    /// Whether what comes in on it was sent by the local end.
    pub(super) host_end: bool,
    /// Whether both ends of what passes it are here.
    pub(super) is_loopback: bool,
    /// Whether it has an address of its own that tells its segments' direction.
    pub(super) has_address: bool,
    /// What to watch on it.
    pub(super) nets: Vec<IpNet>,
}

/// The device that is all devices, for libpcap.
pub(super) const ANY: &str = "any";

/// The interfaces of `watch` that exist now. What `host_ends` does not say of an interface, its kind tells.
pub(super) fn look(watch: &WatchList, host_ends: &BTreeMap<String, bool>) -> Vec<Wanted> {
    let links = all();
    let wanted = watch.iter().filter_map(|(name, nets)| {
        let link = links.iter().find(|link| link.name == *name);
        let ifindex = match link {
            Some(link) => link.ifindex,
            None if name == ANY => 0,
            None => nix::net::if_::if_nametoindex(&**name).ok()?,
        };
        Some(Wanted {
            name: name.clone(),
            ifindex,
            host_end: link.map_or_else(|| host_ends.get(name) == Some(&true), |link| is_host_end(link, host_ends)),
            is_loopback: link.map_or(name == "lo", |link| link.is_loopback),
            has_address: link.is_none_or(|link| link.has_address),
            nets: nets.clone(),
        })
    });
    wanted.collect()
}

/// The indices of all interfaces that are a host's end of another machine's link.
pub(super) fn host_ends(configured: &BTreeMap<String, bool>) -> BTreeSet<u32> {
    all().iter().filter(|link| is_host_end(link, configured)).map(|link| link.ifindex).collect()
}

fn all() -> Vec<Link> {
    links::links().unwrap_or_else(|error| {
        tracing::debug!(%error, "the kernel does not list its interfaces; they are asked for by name");
        Vec::new()
    })
}

fn is_host_end(link: &Link, configured: &BTreeMap<String, bool>) -> bool {
    configured.get(&link.name).copied().unwrap_or_else(|| link.is_host_end())
}
