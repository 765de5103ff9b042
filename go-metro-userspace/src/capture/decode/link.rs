//! The link layer: where the IP header begins. Numbers are libpcap's link types (tcpdump.org/linktypes.html).

use bytes::Buf;
use go_metro_common::counters::Unparsable;

use super::{Packet, Skip};
use crate::rtt::Direction;

/// VLAN tags that are looked behind: two in the packet, as in the kernel, and one that libpcap puts back.
const TAGS_MAX: usize = 3;

// Ethertypes: include/uapi/linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
const ETH_P_QINQ1: u16 = 0x9100;
const ETH_P_PPP_SES: u16 = 0x8864;

// PPP protocol numbers (RFC 1332, RFC 5072).
const PPP_IP: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// Packet type of what this host sent: include/uapi/linux/if_packet.h.
const PACKET_OUTGOING: u16 = 4;

/// What a captured packet begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet.
    Ethernet,
    /// BSD loopback: the family in the capturing host's byte order.
    Null,
    /// OpenBSD loopback: the family in network order.
    Loop,
    /// IPv4 or IPv6, by its first four bits.
    Raw,
    /// Linux cooked capture, version 1.
    Sll,
    /// Linux cooked capture, version 2.
    Sll2,
    /// PPP, perhaps in HDLC-like framing (RFC 1662).
    Ppp,
    /// One that is not read: nothing is found in it.
    Other,
}

impl LinkType {
    /// From libpcap's number; `None` for those that are not read.
    pub const fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Ethernet,
            0 => Self::Null,
            108 => Self::Loop,
            12 | 14 | 101 | 228 | 229 => Self::Raw,
            113 => Self::Sll,
            276 => Self::Sll2,
            9 => Self::Ppp,
            _ => return None,
        })
    }
}

/// IP version, as the link layer has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// An IP packet in its frame.
pub(super) struct Network<'a> {
    pub(super) version: Version,
    /// From the IP header on, as far as it was captured.
    pub(super) bytes: &'a [u8],
    /// From the IP header on, on the wire; with Ethernet's padding.
    pub(super) wire_len: u32,
    pub(super) direction: Option<Direction>,
    pub(super) ifindex: Option<u32>,
}

/// Finds the IP header.
pub(super) fn network(packet: Packet<'_>) -> Result<Network<'_>, Skip> {
    let mut rest = packet.bytes;
    let (mut direction, mut ifindex) = (None, None);
    let version = match packet.link_type {
        LinkType::Ethernet => {
            skip(&mut rest, 12)?;
            let ethertype = rest.try_get_u16()?;
            of_ethertype(ethertype, &mut rest)?
        }
        LinkType::Raw => by_first_bits(rest)?,
        LinkType::Null => {
            let family = rest.try_get_u32_le()?;
            // A family is a small number: in the other byte order it is a large one.
            of_family(if family > 0xffff { family.swap_bytes() } else { family })?
        }
        LinkType::Loop => of_family(rest.try_get_u32()?)?,
        LinkType::Sll => {
            direction = Some(of_packet_type(rest.try_get_u16()?));
            skip(&mut rest, 12)?;
            let ethertype = rest.try_get_u16()?;
            of_ethertype(ethertype, &mut rest)?
        }
        LinkType::Sll2 => {
            let ethertype = rest.try_get_u16()?;
            skip(&mut rest, 2)?;
            ifindex = Some(rest.try_get_u32()?);
            skip(&mut rest, 2)?;
            direction = Some(of_packet_type(u16::from(rest.try_get_u8()?)));
            skip(&mut rest, 9)?;
            of_ethertype(ethertype, &mut rest)?
        }
        LinkType::Ppp => {
            // Address and control fields, unless they were compressed away (RFC 1662 section 3.1).
            if rest.starts_with(&[0xff, 0x03]) {
                skip(&mut rest, 2)?;
            }
            of_ppp(&mut rest)?
        }
        LinkType::Other => return Err(Skip::NotTcp),
    };
    let before = (packet.bytes.len() - rest.len()) as u32;
    let wire_len = packet.wire_len.saturating_sub(before);
    Ok(Network { version, bytes: rest, wire_len, direction, ifindex })
}

/// Goes behind VLAN tags and PPPoE.
fn of_ethertype(mut ethertype: u16, rest: &mut &[u8]) -> Result<Version, Skip> {
    for _ in 0..TAGS_MAX {
        if !is_tag(ethertype) {
            break;
        }
        skip(rest, 2)?;
        ethertype = rest.try_get_u16()?;
    }
    match ethertype {
        ETH_P_IP => Ok(Version::V4),
        ETH_P_IPV6 => Ok(Version::V6),
        ETH_P_PPP_SES => {
            // Version, type, code, session and length (RFC 2516 section 4).
            skip(rest, 6)?;
            of_ppp(rest)
        }
        tag if is_tag(tag) => Err(Skip::Unparsable(Unparsable::TooDeep)),
        _ => Err(Skip::NotTcp),
    }
}

fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ETH_P_8021Q | ETH_P_8021AD | ETH_P_QINQ1)
}

/// PPP's protocol field: one byte if it is odd, else two (RFC 1661 section 2).
fn of_ppp(rest: &mut &[u8]) -> Result<Version, Skip> {
    let first = u16::from(rest.try_get_u8()?);
    let protocol = if first & 1 == 1 { first } else { first << 8 | u16::from(rest.try_get_u8()?) };
    match protocol {
        PPP_IP => Ok(Version::V4),
        PPP_IPV6 => Ok(Version::V6),
        _ => Err(Skip::NotTcp),
    }
}

/// Address families of the systems that write such captures: 2 everywhere; IPv6 is 10, 24, 28 or 30.
fn of_family(family: u32) -> Result<Version, Skip> {
    match family {
        2 => Ok(Version::V4),
        10 | 24 | 28 | 30 => Ok(Version::V6),
        _ => Err(Skip::NotTcp),
    }
}

fn by_first_bits(bytes: &[u8]) -> Result<Version, Skip> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => Ok(Version::V4),
        Some(6) => Ok(Version::V6),
        Some(_) => Err(Skip::Unparsable(Unparsable::IpHeader)),
        None => Err(Skip::Unparsable(Unparsable::Truncated)),
    }
}

fn of_packet_type(packet_type: u16) -> Direction {
    if packet_type == PACKET_OUTGOING { Direction::Egress } else { Direction::Ingress }
}

fn skip(rest: &mut &[u8], count: usize) -> Result<(), Skip> {
    *rest = rest.get(count..).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    Ok(())
}
