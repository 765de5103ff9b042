//! The link layer: where the network header begins and which protocol it is of.

use go_metro_common::counters::Unparsable;

use crate::classify::Skip;
use crate::packet::Packet;

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

// Ethertypes: include/uapi/linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
const ETH_P_MPLS_UC: u16 = 0x8847;
const ETH_P_MPLS_MC: u16 = 0x8848;
/// QinQ as some switches had it before 802.1ad.
const ETH_P_QINQ1: u16 = 0x9100;

/// Where the ethertype is in an Ethernet header.
const ETHERTYPE: u32 = 12;
/// Bytes of a VLAN tag.
const TAG: u32 = 4;
/// Finds the network header.
#[inline(always)]
pub(crate) fn network(packet: Packet, link: Link) -> Result<Network, Skip> {
    match link {
        Link::Ip => version(packet.protocol(), 0),
        Link::Ethernet => {
            let mut at = ETHERTYPE;
            let mut ethertype = ethertype(packet, at)?;
            for _ in 0..packet.tags_max() {
                if !is_tag(ethertype) {
                    break;
                }
                at += TAG;
                ethertype = self::ethertype(packet, at)?;
            }
            if is_tag(ethertype) {
                return Err(Skip::Unparsable(Unparsable::TooDeep));
            }
            version(ethertype, at + 2)
        }
    }
}

#[inline(always)]
fn ethertype(packet: Packet, at: u32) -> Result<u16, Skip> {
    packet.read::<u16>(at).map(u16::from_be).ok_or(Skip::Unparsable(Unparsable::Truncated))
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ETH_P_8021Q | ETH_P_8021AD | ETH_P_QINQ1)
}

#[inline(always)]
fn version(ethertype: u16, offset: u32) -> Result<Network, Skip> {
    match ethertype {
        ETH_P_IP => Ok(Network { version: Version::V4, offset }),
        ETH_P_IPV6 => Ok(Network { version: Version::V6, offset }),
        ETH_P_MPLS_UC | ETH_P_MPLS_MC => Err(Skip::Encapsulated),
        _ => Err(Skip::NotOurs),
    }
}
