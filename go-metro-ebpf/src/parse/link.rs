//! The link layer: where the network header begins and which protocol it is of.

use go_metro_common::counters::Unparsable;
use go_metro_common::headers::ethertype;

use super::Skip;
use super::packet::Packet;

/// What comes first in a packet on the device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    Ip,
}

/// IP version, as the link layer has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// A network header.
#[derive(Clone, Copy)]
pub(crate) struct Network {
    pub version: Version,
    pub offset: u32,
}

/// Where the ethertype is in an Ethernet header.
pub(super) const ETHERTYPE: u32 = 12;
/// Bytes of an Ethernet header without tags.
pub(super) const ETHERNET_LEN: u32 = 14;
/// Bytes of a VLAN tag.
const TAG: u32 = 4;

/// Finds the network header.
#[inline(always)]
pub(crate) fn network(packet: Packet, link: Link) -> Result<Network, Skip> {
    match link {
        Link::Ip => version(packet.protocol(), 0),
        Link::Ethernet => {
            let mut at = ETHERTYPE;
            let mut kind = read(packet, at)?;
            for _ in 0..packet.tags_max() {
                if !ethertype::is_vlan(kind) {
                    break;
                }
                at += TAG;
                kind = read(packet, at)?;
            }
            if ethertype::is_vlan(kind) {
                return Err(Skip::Unparsable(Unparsable::TooDeep));
            }
            version(kind, at + 2)
        }
    }
}

#[inline(always)]
fn read(packet: Packet, at: u32) -> Result<u16, Skip> {
    packet.read::<u16>(at).map(u16::from_be).ok_or(Skip::Unparsable(Unparsable::Truncated))
}

#[inline(always)]
fn version(kind: u16, offset: u32) -> Result<Network, Skip> {
    match kind {
        ethertype::IPV4 => Ok(Network { version: Version::V4, offset }),
        ethertype::IPV6 => Ok(Network { version: Version::V6, offset }),
        ethertype::MPLS | ethertype::MPLS_UPSTREAM => Err(Skip::Encapsulated),
        _ => Err(Skip::NotOurs),
    }
}
