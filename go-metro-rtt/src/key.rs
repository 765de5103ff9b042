//! A flow's key as the table keeps it: 40 bytes, compared and hashed as words.

use std::hash::BuildHasher;

use crate::{Addr, Endpoint, FlowKey, Side};

/// Where the interface's word has the side: interface indices are far below 2^31.
const SIDE_BIT: u32 = 1 << 31;

/// The same as a [`FlowKey`], in five words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key([u64; 5]);

const _: () = assert!(size_of::<Key>() == 40);

impl From<&FlowKey> for Key {
    #[inline]
    fn from(flow: &FlowKey) -> Self {
        let [local_high, local_low] = flow.local.addr.words();
        let [remote_high, remote_low] = flow.remote.addr.words();
        let interface = flow.ifindex ^ (flow.side as u32 * SIDE_BIT);
        let ports = u32::from(flow.local.port) << 16 | u32::from(flow.remote.port);
        Self([local_high, local_low, remote_high, remote_low, u64::from(ports) << 32 | u64::from(interface)])
    }
}

// What is derived for an array calls memcmp(3).
impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differ, (mine, theirs)| differ | (mine ^ theirs)) == 0
    }
}

impl Eq for Key {}

impl Key {
    /// The key of no flow: no interface has the index in it.
    pub(super) const NONE: Self = Self([u64::MAX; 5]);

    /// Interface index.
    pub(super) fn ifindex(&self) -> u32 {
        self.0[4] as u32 & !SIDE_BIT
    }

    /// Which end it measures.
    pub(super) fn side(&self) -> Side {
        if self.0[4] as u32 & SIDE_BIT == 0 { Side::Remote } else { Side::Local }
    }

    /// The flow that it is of.
    pub(super) fn flow(&self) -> FlowKey {
        let [local_high, local_low, remote_high, remote_low, rest] = self.0;
        let (local_port, remote_port) = ((rest >> 48) as u16, (rest >> 32) as u16);
        FlowKey {
            local: Endpoint { addr: Addr::of_words([local_high, local_low]), port: local_port },
            remote: Endpoint { addr: Addr::of_words([remote_high, remote_low]), port: remote_port },
            ifindex: self.ifindex(),
            side: self.side(),
        }
    }

    /// Its hash, as the index takes it.
    #[inline]
    pub(super) fn hash(&self, hasher: &foldhash::fast::RandomState) -> u32 {
        let [a, b, c, d, e] = self.0;
        let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        (hasher.hash_one((wide(a, b), wide(c, d), e)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_of_which_flow_it_is() {
        for side in [Side::Remote, Side::Local] {
            let local = Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40_000 };
            let remote = Endpoint { addr: Addr::v6([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]), port: 80 };
            let flow = FlowKey { local, remote, ifindex: 7, side };
            assert_eq!(Key::from(&flow).flow(), flow);
        }
    }
}
