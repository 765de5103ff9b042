//! The link layer: where the IP header begins. Numbers are libpcap's link types (tcpdump.org/linktypes.html).

use bytes::Buf;
use go_metro_common::counters::Unparsable;

use super::{Origin, Packet, Skip, Tunnels, wireless};
use crate::capture::Unread;
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
const ETH_P_MPLS_UC: u16 = 0x8847;
const ETH_P_MPLS_MC: u16 = 0x8848;
/// An Ethernet frame inside something else (GRE, GENEVE).
const ETH_P_TEB: u16 = 0x6558;

/// In place of an ethertype: the length of an IEEE 802.3 frame.
const LONGEST_802_3: u16 = 1500;
/// LLC and SNAP, before an ethertype (RFC 1042).
const SNAP: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];

/// MPLS labels that are looked behind.
const LABELS_MAX: usize = 8;

// PPP protocol numbers (RFC 1332, RFC 5072).
const PPP_IP: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;
/// RFC 3032 section 4.3.
const PPP_MPLS: u16 = 0x0281;

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
    /// Cisco HDLC.
    CiscoHdlc,
    /// IEEE 802.11.
    Wireless,
    /// The same behind a radiotap header.
    Radiotap,
    /// What a PPI header names, behind that header.
    Ppi,
    /// Linux's netfilter log.
    Nflog,
    /// One that is not read, by its number.
    Other(u32),
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
            9 | 50 => Self::Ppp,
            104 => Self::CiscoHdlc,
            105 => Self::Wireless,
            127 => Self::Radiotap,
            192 => Self::Ppi,
            239 => Self::Nflog,
            _ => return None,
        })
    }

    /// From libpcap's number.
    pub fn of(number: u32) -> Self {
        i32::try_from(number).ok().and_then(Self::from_number).unwrap_or(Self::Other(number))
    }
}

/// IP version, as the link layer has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// What is read, and from whom.
#[derive(Clone, Copy)]
pub(super) struct Rest<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) origin: Origin,
}

impl Rest<'_> {
    pub(super) fn skip(&mut self, count: usize) -> Result<(), Skip> {
        skip(&mut self.bytes, count)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Skip> {
        Ok(self.bytes.try_get_u8()?)
    }

    pub(super) fn half(&mut self) -> Result<u16, Skip> {
        Ok(self.bytes.try_get_u16()?)
    }

    pub(super) fn word(&mut self) -> Result<u32, Skip> {
        Ok(self.bytes.try_get_u32()?)
    }
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
    let mut rest = Rest { bytes: packet.bytes, origin: packet.origin };
    let (mut direction, mut ifindex) = (None, None);
    let version = match packet.link_type {
        LinkType::Ethernet => of_ethernet(&mut rest)?,
        LinkType::Raw => by_first_bits(rest.bytes)?,
        LinkType::Null => {
            let family = rest.bytes.try_get_u32_le()?;
            // A family is a small number: in the other byte order it is a large one.
            of_family(if family > 0xffff { family.swap_bytes() } else { family })?
        }
        LinkType::Loop => of_family(rest.word()?)?,
        LinkType::Sll => {
            direction = Some(of_packet_type(rest.half()?));
            rest.skip(12)?;
            let ethertype = rest.half()?;
            of_cooked(ethertype, &mut rest)?
        }
        LinkType::Sll2 => {
            let ethertype = rest.half()?;
            rest.skip(2)?;
            ifindex = Some(rest.word()?);
            rest.skip(2)?;
            direction = Some(of_packet_type(u16::from(rest.byte()?)));
            rest.skip(9)?;
            of_cooked(ethertype, &mut rest)?
        }
        LinkType::Ppp => {
            // Address and control fields, unless they were compressed away (RFC 1662 section 3.1).
            if rest.bytes.starts_with(&[0xff, 0x03]) {
                rest.skip(2)?;
            }
            of_ppp(&mut rest)?
        }
        LinkType::CiscoHdlc => {
            // Address and control.
            rest.skip(2)?;
            let ethertype = rest.half()?;
            of_ethertype(ethertype, &mut rest)?
        }
        LinkType::Wireless => wireless::of_frame(&mut rest, 0)?,
        LinkType::Radiotap => wireless::of_radiotap(&mut rest)?,
        LinkType::Ppi => wireless::of_ppi(&mut rest)?,
        LinkType::Nflog => of_nflog(&mut rest)?,
        LinkType::Other(_) => return Err(Skip::Unread(Unread::LinkType)),
    };
    let before = (packet.bytes.len() - rest.bytes.len()) as u32;
    let wire_len = packet.wire_len.saturating_sub(before);
    Ok(Network { version, bytes: rest.bytes, wire_len, direction, ifindex })
}

/// Behind a cooked header, whose protocol and what follows disagree where a packet carries VLAN tags, differently by direction and kernel
/// (net/packet/af_packet.c). Linux 6.10 and later names the protocol behind all tags, although a received packet still has the inner
/// ones (`vlan_get_protocol_dgram`); before that, a sent packet has the tag's own protocol and begins with its IP header.
#[inline]
fn of_cooked(ethertype: u16, rest: &mut Rest<'_>) -> Result<Version, Skip> {
    let [first, _, high, low, ..] = *rest.bytes else { return of_ethertype(ethertype, rest) };
    let inner = u16::from_be_bytes([high, low]);
    let begins_with_ip = matches!(first >> 4, 4 | 6);
    match ethertype {
        ETH_P_IP | ETH_P_IPV6 if !begins_with_ip && (inner == ethertype || is_tag(inner)) => {
            rest.skip(4)?;
            of_ethertype(inner, rest)
        }
        tag if is_tag(tag) && begins_with_ip && !is_behind_a_tag(inner) => by_first_bits(rest.bytes),
        _ => of_ethertype(ethertype, rest),
    }
}

/// Whether a number is one that stands behind a VLAN tag, among those that are read.
fn is_behind_a_tag(ethertype: u16) -> bool {
    is_tag(ethertype) || matches!(ethertype, ETH_P_IP | ETH_P_IPV6 | ETH_P_PPP_SES | ETH_P_MPLS_UC | ETH_P_MPLS_MC)
}

/// An Ethernet header, its addresses first.
#[inline]
pub(super) fn of_ethernet(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    rest.skip(12)?;
    let mut ethertype = rest.half()?;
    if ethertype <= LONGEST_802_3 && rest.bytes.starts_with(&SNAP) && matches!(rest.origin, Origin::File(_)) {
        rest.skip(SNAP.len())?;
        ethertype = rest.half()?;
    }
    of_ethertype(ethertype, rest)
}

/// Goes behind VLAN tags, PPPoE and MPLS.
#[inline]
pub(super) fn of_ethertype(mut ethertype: u16, rest: &mut Rest<'_>) -> Result<Version, Skip> {
    for _ in 0..TAGS_MAX {
        if !is_tag(ethertype) {
            break;
        }
        rest.skip(2)?;
        ethertype = rest.half()?;
    }
    match ethertype {
        ETH_P_IP => Ok(Version::V4),
        ETH_P_IPV6 => Ok(Version::V6),
        ETH_P_PPP_SES => {
            // Version, type, code, session and length (RFC 2516 section 4).
            rest.skip(6)?;
            of_ppp(rest)
        }
        ETH_P_MPLS_UC | ETH_P_MPLS_MC => of_mpls(rest, 0),
        tag if is_tag(tag) => Err(Skip::Unparsable(Unparsable::TooDeep)),
        _ => Err(Skip::NotTcp),
    }
}

/// Behind an MPLS label stack (RFC 3032 section 2.1), of which `before` labels were read. What comes then is told by its first bits (RFC
/// 4928 section 3): IP, or with 0 the control word of a pseudowire, before an Ethernet frame (RFC 4448 section 4.6).
///
/// Labels are no part of a flow's identity: each direction has its own.
#[cold]
fn of_mpls(rest: &mut Rest<'_>, before: usize) -> Result<Version, Skip> {
    if rest.origin != Origin::File(Tunnels::Opened) {
        return Err(Skip::Encapsulated);
    }
    for labels in before..LABELS_MAX {
        let label = rest.word()?;
        if label & 0x100 == 0 {
            continue;
        }
        return match rest.bytes.first().map(|first| first >> 4) {
            Some(4) => Ok(Version::V4),
            Some(6) => Ok(Version::V6),
            Some(0) => {
                rest.skip(4 + 12)?;
                match rest.half()? {
                    ETH_P_MPLS_UC | ETH_P_MPLS_MC => of_mpls(rest, labels + 1),
                    ethertype => of_ethertype(ethertype, rest),
                }
            }
            Some(_) => Err(Skip::NotTcp),
            None => Err(Skip::Unparsable(Unparsable::Truncated)),
        };
    }
    Err(Skip::Unparsable(Unparsable::TooDeep))
}

/// What a GRE or GENEVE header, which have the same numbers, says comes next.
pub(super) fn of_inner_ethertype(ethertype: u16, rest: &mut Rest<'_>) -> Result<Version, Skip> {
    match ethertype {
        ETH_P_TEB => of_ethernet(rest),
        ethertype => of_ethertype(ethertype, rest),
    }
}

/// The payload among the attributes of a netfilter log (linux/netfilter/nfnetlink_log.h): each has its length and type, in the byte order of
/// the machine that captured, and is padded to 32 bits.
fn of_nflog(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    const PAYLOAD: u16 = 9;
    // Family, version, resource.
    rest.skip(4)?;
    let Some(first) = rest.bytes.get(..2) else { return Err(Skip::Unparsable(Unparsable::Truncated)) };
    // The first attribute is short.
    let big_endian = first[0] == 0 && first[1] != 0;
    loop {
        let half = |rest: &mut Rest<'_>| -> Result<u16, Skip> {
            Ok(if big_endian { rest.bytes.try_get_u16()? } else { rest.bytes.try_get_u16_le()? })
        };
        let (len, kind) = (usize::from(half(rest)?), half(rest)? & 0x7fff);
        if kind == PAYLOAD {
            return by_first_bits(rest.bytes);
        }
        let data = len.checked_sub(4).ok_or(Skip::NotTcp)?;
        rest.skip(data.next_multiple_of(4))?;
    }
}

fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ETH_P_8021Q | ETH_P_8021AD | ETH_P_QINQ1)
}

/// PPP's protocol field: one byte if it is odd, else two (RFC 1661 section 2).
fn of_ppp(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    let first = u16::from(rest.byte()?);
    let protocol = if first & 1 == 1 { first } else { first << 8 | u16::from(rest.byte()?) };
    match protocol {
        PPP_MPLS => of_mpls(rest, 0),
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

pub(super) fn by_first_bits(bytes: &[u8]) -> Result<Version, Skip> {
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
