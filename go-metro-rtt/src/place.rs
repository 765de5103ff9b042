//! What a flow's remote host is reported as: itself, or a group of hosts.

use std::hash::{Hash, Hasher};

use crate::Addr;

/// What stands for a remote host in a [`PairKey`](crate::PairKey).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(u32);

/// The same, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// The host itself.
    Host,
    /// All hosts whose addresses begin with the same bits, of the address as [`Addr`] keeps it: an IPv4 prefix has 96
    /// more.
    Prefix(u8),
    /// The group of this number; what it means, the [`Grouping`](crate::Grouping) knows.
    Numbered(u32),
}

/// Bits of an address.
const BITS: u8 = 128;

impl Group {
    /// No group: the host itself.
    pub const HOST: Self = Self(0);
    /// Most numbers of groups.
    pub const MOST: u32 = u32::MAX - BITS as u32 - 1;

    /// The hosts that have the first `bits` of their address in common, at least 1; of an IPv4 address those of its
    /// prefix and 96 more.
    #[must_use]
    pub fn prefix(bits: u8) -> Self {
        Self(bits.clamp(1, BITS).into())
    }

    /// A group of this number, below [`Self::MOST`]; the host itself if it is not.
    #[must_use]
    pub fn numbered(number: u32) -> Self {
        if number < Self::MOST { Self(number + u32::from(BITS) + 1) } else { Self::HOST }
    }

    /// What it is.
    #[must_use]
    pub fn kind(self) -> GroupKind {
        match self.0 {
            0 => GroupKind::Host,
            bits if bits <= u32::from(BITS) => GroupKind::Prefix(bits as u8),
            number => GroupKind::Numbered(number - u32::from(BITS) - 1),
        }
    }

    /// The address that stands for all hosts of the group of this one: its own, its network's, or `::`.
    #[inline]
    pub(crate) fn address(self, remote: Addr) -> Addr {
        match self.kind() {
            GroupKind::Host => remote,
            GroupKind::Prefix(bits) => {
                let mask = u128::MAX << (BITS - bits);
                Addr::v6((remote.bits() & mask).to_be_bytes())
            }
            GroupKind::Numbered(_) => Addr::v6([0; 16]),
        }
    }
}

/// Where a flow's samples and counts go, beside its ends, interface and side.
#[derive(Clone, Copy, Debug, Default, Eq, PartialOrd, Ord)]
pub struct Place {
    /// What its remote host is reported as.
    pub group: Group,
    /// Flows of one group are kept apart if this differs; 0 for a host.
    pub class: u16,
    /// The port of the end that did not begin the connection, where ports are told apart; else 0.
    pub port: u16,
}

// As one number: it is compared for each sample.
impl PartialEq for Place {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.word() == other.word()
    }
}

impl Place {
    /// Its port, where ports are told apart.
    #[must_use]
    pub fn service(self) -> Option<u16> {
        Some(self.port).filter(|port| *port != 0)
    }

    /// In one word.
    #[inline]
    pub(crate) fn word(self) -> u64 {
        u64::from(self.group.0) << 32 | u64::from(self.class) << 16 | u64::from(self.port)
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.word());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_what_it_was_made_as() {
        assert_eq!(Group::default().kind(), GroupKind::Host);
        for bits in [1, 24, 96, 120, 128] {
            assert_eq!(Group::prefix(bits).kind(), GroupKind::Prefix(bits));
        }
        for number in [0, 1, 127, 128, 129, 4_000_000_000, Group::MOST - 1] {
            assert_eq!(Group::numbered(number).kind(), GroupKind::Numbered(number));
        }
        assert_eq!(Group::numbered(Group::MOST), Group::HOST);
    }

    #[test]
    fn one_address_stands_for_all_hosts_of_a_group_and_for_no_other_host() {
        let [a, b, c] = [[10, 1, 2, 3], [10, 1, 2, 77], [10, 1, 3, 3]].map(Addr::v4);
        let network = Group::prefix(96 + 24);
        assert_eq!(network.address(a), Addr::v4([10, 1, 2, 0]));
        assert_eq!(network.address(a), network.address(b));
        assert_ne!(network.address(a), network.address(c));
        assert_eq!(Group::HOST.address(a), a);
        assert_eq!(Group::numbered(7).address(a), Group::numbered(7).address(c));
    }
}
