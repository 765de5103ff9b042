//! Sets of prefixes, as quick to ask as a filter on every packet must be.

use ipnet::IpNet;

use go_metro_rtt::Addr;

use crate::config::MAPPED_BITS;

/// A few prefixes; none at all stands for every address.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes(Vec<Prefix>);

#[derive(Clone, Copy, Debug)]
struct Prefix {
    mask: u128,
    bits: u128,
    is_v4: bool,
}

impl Prefixes {
    /// These, or every address if there is none.
    pub(super) fn or_all(nets: &[IpNet]) -> Self {
        Self(nets.iter().map(Prefix::of).collect())
    }

    /// Whether one of them contains the address.
    #[inline]
    pub(super) fn contain(&self, addr: Addr) -> bool {
        self.0.is_empty() || self.0.iter().any(|prefix| prefix.contains(addr))
    }
}

impl Prefix {
    fn of(net: &IpNet) -> Self {
        let len = net.prefix_len() + if net.addr().is_ipv4() { MAPPED_BITS } else { 0 };
        let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        Self { mask, bits: Addr::from(net.addr()).bits() & mask, is_v4: net.addr().is_ipv4() }
    }

    #[inline]
    fn contains(&self, addr: Addr) -> bool {
        // No IPv6 prefix contains an IPv4 address, however that is written here.
        addr.bits() & self.mask == self.bits && addr.is_v4() == self.is_v4
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn ip() -> impl Strategy<Value = IpAddr> {
        // Few, so that many are in the same network.
        let v4 = (0u32..8, any::<u8>()).prop_map(|(high, low)| IpAddr::V4((high << 29 | u32::from(low & 3)).into()));
        let v6 = (0u128..8, any::<u8>()).prop_map(|(high, low)| IpAddr::V6((high << 125 | u128::from(low & 3)).into()));
        prop_oneof![v4, v6]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn they_contain_what_each_of_them_contains(
            nets in prop::collection::vec((ip(), 0u8..=128), 0..4), asked in ip()
        ) {
            let net = |(ip, len): &(IpAddr, u8)| IpNet::new(*ip, len % if ip.is_ipv4() { 33 } else { 129 }).unwrap();
            let nets: Vec<IpNet> = nets.iter().map(net).collect();
            let expected = nets.is_empty() || nets.iter().any(|net| net.contains(&asked));
            prop_assert_eq!(Prefixes::or_all(&nets).contain(Addr::from(asked)), expected);
        }
    }
}
