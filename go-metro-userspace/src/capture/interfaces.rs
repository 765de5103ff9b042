//! Which interfaces are to be watched, as things stand: what is configured, compared with what the kernel has.

use std::collections::{BTreeMap, BTreeSet};

use go_metro_common::target::TARGETS_MAX;
use ipnet::IpNet;
use nix::errno::Errno;

use super::{CaptureError, WatchList};
use crate::config::Selector;
use crate::netlink::links::{self, Link};
use crate::netlink::routes;

/// The device that is all devices, for libpcap.
pub const ANY: &str = "any";

/// An interface that exists and is to be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name; the first, whichever of its names it was asked for by.
    pub(super) name: String,
    /// Its alternative names.
    pub(super) alt_names: Vec<String>,
    /// Whether its name is text.
    pub(super) has_text_name: bool,
    /// Whether it is set up.
    pub(super) is_up: bool,
    /// Its index.
    pub(super) ifindex: u32,
    /// Whether it was asked for by its name, not by a pattern or the like.
    pub(super) is_named: bool,
    /// Whether what comes in on it was sent by the local end.
    pub(super) host_end: bool,
    /// Whether both ends of what passes it are here.
    pub(super) is_loopback: bool,
    /// The longest packet that it carries, in bytes; 0 if that is not known.
    pub(super) mtu: u32,
    /// What to watch on it.
    pub(super) nets: Vec<IpNet>,
}

/// The interfaces that `watch` means and that exist now, by name. What `host_ends` does not say of an interface, its
/// kind tells.
///
/// # Errors
///
/// The kernel cannot be asked, for want of a file descriptor or memory: then nothing is known, not that any is gone.
pub(super) fn look(watch: &WatchList, host_ends: &BTreeMap<String, bool>) -> Result<Vec<Wanted>, CaptureError> {
    let selectors = selectors(watch.keys());
    let unknown = |source| CaptureError::System { call: "listing the interfaces", source };
    let links = match links::links() {
        Err(error) if selectors.iter().any(|(_, selector)| !selector.is_name()) => return Err(unknown(error)),
        listed => listed.unwrap_or_default(),
    };
    let default = default_interfaces(&selectors);
    let mut wanted = Vec::new();
    for link in &links {
        let chosen: Vec<&(&String, Selector)> = choosing(&selectors, link, &default).collect();
        if chosen.is_empty() {
            continue;
        }
        let nets: BTreeSet<IpNet> = chosen.iter().filter_map(|(text, _)| watch.get(*text)).flatten().copied().collect();
        wanted.push(Wanted {
            name: link.name.clone(),
            alt_names: link.alt_names.clone(),
            has_text_name: link.has_text_name,
            is_up: link.is_up,
            ifindex: link.ifindex,
            is_named: chosen.iter().any(|(_, selector)| selector.is_name()),
            host_end: is_host_end(link, host_ends, &default),
            is_loopback: link.is_loopback,
            mtu: link.mtu,
            nets: nets.into_iter().collect(),
        });
    }
    // libpcap's device of all, or a kernel that does not list its interfaces.
    for (name, nets) in watch {
        if wanted.iter().any(|wanted| wanted.is_called(name)) {
            continue;
        }
        let is_name = selectors.iter().any(|(text, selector)| *text == name && selector.is_name());
        let ifindex = if name == ANY { Ok(0) } else { nix::net::if_::if_nametoindex(&**name) };
        let ifindex = match ifindex {
            Ok(ifindex) if is_name => ifindex,
            // glibc says ENOENT where it could not open a socket to ask by.
            Err(error) if is_name && error != Errno::ENODEV => return Err(unknown(error.into())),
            _ => continue,
        };
        // Another name of one that is watched already.
        if let Some(same) = wanted.iter_mut().find(|wanted| wanted.ifindex == ifindex) {
            same.is_named = true;
            same.nets.extend(nets.iter().filter(|net| !same.nets.contains(net)).copied().collect::<Vec<_>>());
            same.alt_names.push(name.clone());
            continue;
        }
        wanted.push(Wanted {
            name: name.clone(),
            alt_names: Vec::new(),
            has_text_name: true,
            is_up: true,
            ifindex,
            is_named: true,
            host_end: host_ends.get(name).copied().unwrap_or_default(),
            is_loopback: name == "lo",
            mtu: 0,
            nets: nets.clone(),
        });
    }
    Ok(wanted)
}

impl Wanted {
    /// All its names.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.alt_names).map(String::as_str)
    }

    /// Whether anything can be attached to it by its name.
    ///
    /// # Errors
    ///
    /// Its name is not text.
    pub(super) fn has_usable_name(&self) -> Result<(), CaptureError> {
        let Self { name, ifindex, .. } = self;
        let error = || CaptureError::NameIsNoText { name: name.clone(), ifindex: *ifindex };
        self.has_text_name.then_some(()).ok_or_else(error)
    }

    fn is_called(&self, name: &str) -> bool {
        self.names().any(|its| its == name)
    }
}

/// Whether the classifier's tries hold all that is to be watched, on the interfaces that there are now.
///
/// # Errors
///
/// They do not; or the interfaces are not known.
pub fn fit(watch: &WatchList) -> Result<(), CaptureError> {
    fits(&look(watch, &BTreeMap::new())?)
}

/// As [`fit`], of interfaces that were looked at.
pub(super) fn fits(wanted: &[Wanted]) -> Result<(), CaptureError> {
    let count = |is_v4: bool| {
        wanted.iter().flat_map(|wanted| &wanted.nets).filter(|net| matches!(net, IpNet::V4(_)) == is_v4).count()
    };
    let most = count(true).max(count(false));
    if most > TARGETS_MAX as usize {
        return Err(CaptureError::TooManyTargets { wanted: most, limit: TARGETS_MAX });
    }
    Ok(())
}

/// The indices of the interfaces that any of these means now; none if the kernel cannot be asked.
pub fn indices_of(texts: &[&str]) -> Option<BTreeSet<u32>> {
    let watch: WatchList = texts.iter().map(|text| ((*text).to_owned(), Vec::new())).collect();
    Some(look(&watch, &BTreeMap::new()).ok()?.into_iter().map(|wanted| wanted.ifindex).collect())
}

/// What `watch` means that there is nothing of yet.
pub(super) fn missing<'a>(watch: &'a WatchList, wanted: &[Wanted]) -> Vec<&'a str> {
    let selectors = selectors(watch.keys());
    let default = default_interfaces(&selectors);
    let is_there = |text: &str, selector: &Selector| {
        wanted.iter().any(|now| {
            now.name == text || selector.chooses(now.names(), now.is_loopback, default.contains(&now.ifindex))
        })
    };
    selectors.iter().filter(|(text, selector)| !is_there(text, selector)).map(|(text, _)| text.as_str()).collect()
}

/// Says what is waited for.
///
/// # Errors
///
/// Nothing that is watched is there, and all of it was named, so that a name is likely to be wrong.
pub(super) fn must_be_there(watch: &WatchList, missing: &[&str]) -> Result<(), CaptureError> {
    let selectors = selectors(watch.keys());
    let is_pattern =
        |text: &str| selectors.iter().any(|(its, selector)| *its == text && matches!(selector, Selector::Like(_)));
    if selectors.iter().all(|(_, selector)| selector.is_name()) && missing.len() == watch.len() {
        return Err(CaptureError::NoInterface { names: missing.join(", ") });
    }
    for interface in missing {
        if is_pattern(interface) {
            tracing::info!(interface, "no interface matches this pattern yet; waiting for one");
        } else {
            tracing::warn!(interface, "no such interface yet; waiting for it");
        }
    }
    Ok(())
}

/// The indices of all interfaces that are a host's end of another machine's link.
pub(super) fn host_ends(configured: &BTreeMap<String, bool>) -> BTreeSet<u32> {
    let default = default_interfaces(&selectors(configured.keys()));
    all().iter().filter(|link| is_host_end(link, configured, &default)).map(|link| link.ifindex).collect()
}

/// The MTUs of all interfaces, by index.
pub(super) fn mtus() -> impl Iterator<Item = (u32, u32)> {
    all().into_iter().map(|link| (link.ifindex, link.mtu))
}

/// The names of the interfaces that an instance's `interface` means now.
pub fn matching(interface: &str) -> Vec<String> {
    let watch = WatchList::from([(interface.to_owned(), Vec::new())]);
    look(&watch, &BTreeMap::new()).unwrap_or_default().into_iter().map(|wanted| wanted.name).collect()
}

/// Names of the interfaces of the default routes.
pub fn of_default_routes() -> BTreeSet<String> {
    matching("default").into_iter().collect()
}

/// Those that parse; the configuration holds no others.
fn selectors<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<(&'a String, Selector)> {
    texts.filter_map(|text| Some((text, Selector::parse(text).ok()?))).collect()
}

fn choosing<'a, 'b>(
    selectors: &'a [(&'b String, Selector)],
    link: &'a Link,
    default: &'a BTreeSet<u32>,
) -> impl Iterator<Item = &'a (&'b String, Selector)> {
    let is_default = default.contains(&link.ifindex);
    selectors.iter().filter(move |(_, selector)| selector.chooses(link.names(), link.is_loopback, is_default))
}

fn default_interfaces(selectors: &[(&String, Selector)]) -> BTreeSet<u32> {
    if !selectors.iter().any(|(_, selector)| *selector == Selector::Default) {
        return BTreeSet::new();
    }
    routes::default_interfaces().unwrap_or_else(|error| {
        tracing::debug!(%error, "the kernel does not list its routes");
        BTreeSet::new()
    })
}

fn all() -> Vec<Link> {
    links::links().unwrap_or_else(|error| {
        tracing::debug!(%error, "the kernel does not list its interfaces; looking them up by name");
        Vec::new()
    })
}

/// As configured for its name, else for a pattern that means it, else by its kind.
fn is_host_end(link: &Link, configured: &BTreeMap<String, bool>, default: &BTreeSet<u32>) -> bool {
    let by_pattern = || {
        let selectors = selectors(configured.keys());
        let mut said = choosing(&selectors, link, default).filter_map(|(text, _)| configured.get(*text).copied());
        said.next()
    };
    let by_name = link.names().find_map(|name| configured.get(name)).copied();
    by_name.or_else(by_pattern).unwrap_or_else(|| link.is_host_end())
}
