//! Targets: from configured addresses, prefixes and host names to what each interface is to watch, and from
//! addresses back to the names that tags use.
//!
//! Names are looked up by [`resolver`]'s threads, which nothing waits for: [`hosts`] keeps the last good answer of each
//! configured name, [`reverse`] a bounded cache of names of addresses. A [`TargetSet`] is what one instance watches
//! now.

pub mod hosts;
pub mod resolver;
pub mod reverse;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// What one instance watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetSet {
    nets: BTreeSet<IpNet>,
    /// The prefix lengths that occur, longest first, for IPv4 and IPv6.
    lengths: [Vec<u8>; 2],
}

impl TargetSet {
    /// These prefixes, and these addresses.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut nets: BTreeSet<IpNet> = prefixes.into_iter().map(|net| net.trunc()).collect();
        nets.extend(addresses.into_iter().map(|address| IpNet::from(address.to_canonical())));
        let lengths = [true, false].map(|v4| {
            let family = nets.iter().filter(|net| net.addr().is_ipv4() == v4);
            let lengths: BTreeSet<u8> = family.map(IpNet::prefix_len).collect();
            lengths.into_iter().rev().collect()
        });
        Self { nets, lengths }
    }

    /// Whether `address` is one of them.
    ///
    /// One look-up for each prefix length that occurs, however many targets there are.
    pub fn matches(&self, address: IpAddr) -> bool {
        let lengths = &self.lengths[usize::from(address.is_ipv6())];
        lengths.iter().any(|len| IpNet::new(address, *len).is_ok_and(|net| self.nets.contains(&net.trunc())))
    }

    /// The prefixes; an address is one of full length.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.nets.iter().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// Whether all of them are addresses of this host: nothing that `local` holds is far away.
    pub fn is_only(&self, local: &BTreeSet<IpAddr>) -> bool {
        self.nets.iter().all(|net| {
            let single = net.prefix_len() == net.max_prefix_len();
            single && (local.contains(&net.addr()) || net.addr().is_loopback())
        })
    }
}

/// The addresses of this host's interfaces.
pub fn local_addresses() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return BTreeSet::new() };
    interfaces.filter_map(|interface| socket_ip(interface.address.as_ref()?)).collect()
}

/// The addresses of one interface.
pub fn addresses_of_interface(name: &str) -> BTreeSet<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return BTreeSet::new() };
    let named = interfaces.filter(|interface| interface.interface_name == name);
    named.filter_map(|interface| socket_ip(interface.address.as_ref()?)).collect()
}

/// The IP address in a socket address.
pub(crate) fn socket_ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nets: &[&str]) -> TargetSet {
        TargetSet::new(nets.iter().map(|net| net.parse().unwrap()), [])
    }

    #[test]
    fn addresses_match_by_their_longest_prefix() {
        let targets = set(&["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
        for inside in ["10.255.0.1", "192.0.2.7", "2001:db8:1::1"] {
            assert!(targets.matches(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.8", "2001:db9::1"] {
            assert!(!targets.matches(outside.parse().unwrap()), "{outside}");
        }
        assert!(set(&["0.0.0.0/0", "::/0"]).matches("198.51.100.1".parse().unwrap()));
    }

    #[test]
    fn only_local_targets_are_told_from_remote_ones() {
        let local = BTreeSet::from(["10.0.0.1".parse().unwrap()]);
        assert!(set(&["10.0.0.1/32", "127.0.0.1/32"]).is_only(&local));
        assert!(!set(&["10.0.0.1/32", "10.0.0.2/32"]).is_only(&local));
        assert!(!set(&["10.0.0.0/8"]).is_only(&local));
    }

    #[test]
    fn loopback_is_a_local_address() {
        assert!(local_addresses().contains(&"127.0.0.1".parse().unwrap()));
    }
}
