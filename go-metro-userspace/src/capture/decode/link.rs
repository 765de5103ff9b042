//! The link layer: where the IP header begins. Numbers are libpcap's link types (tcpdump.org/linktypes.html).

use bytes::Buf;
use go_metro_common::counters::Unparsable;
use go_metro_common::headers::ethertype::{self, is_vlan};
use go_metro_rtt::Direction;

use super::{Origin, Packet, Skip, Tunnels, wireless};
use crate::capture::Unread;

/// VLAN tags that are looked behind: two in the packet, as in the kernel, and one that libpcap puts back.
const TAGS_MAX: usize = 3;

// Ethertypes: include/uapi/linux/if_ether.h.
const ETH_P_PPP_SES: u16 = 0x8864;
/// An Ethernet frame inside something else (GRE, GENEVE).
const ETH_P_TEB: u16 = 0x6558;

// Of capture files only; numbers are IEEE's.
/// IEEE 802.1AE.
const ETH_P_MACSEC: u16 = 0x88e5;
/// Service tag of provider backbone bridges (IEEE 802.1ah).
const ETH_P_I_TAG: u16 = 0x88e7;
/// RFC 8300.
const ETH_P_NSH: u16 = 0x894f;
/// IEC 62439-3.
const ETH_P_HSR: u16 = 0x892f;
/// IEEE 802.1BR, and Cisco's before it.
const ETH_P_E_TAG: u16 = 0x893f;
const ETH_P_VN_TAG: u16 = 0x8926;
const ETH_P_TRILL: u16 = 0x22f3;
const ETH_P_FABRIC_PATH: u16 = 0x8903;
const ETH_P_CISCO_METADATA: u16 = 0x8909;
const ETH_P_BATMAN: u16 = 0x4305;

/// In place of an ethertype: the length of an IEEE 802.3 frame. In a cooked header LLC is [`ETH_P_802_2`].
const LONGEST_802_3: u16 = 1500;
const ETH_P_802_2: u16 = 4;
/// LLC for SNAP, before an organisation and an ethertype (RFC 1042).
const SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];
/// Organisations whose numbers are ethertypes (RFC 1042; IEEE 802.1H).
const ETHERTYPES: [[u8; 3]; 2] = [[0, 0, 0], [0, 0, 0xf8]];

/// Headers of the link layer, one within another, that are looked behind.
const NESTED_MAX: usize = 8;

/// MPLS labels that are looked behind.
const LABELS_MAX: usize = 8;

// PPP protocol numbers (RFC 1332, RFC 5072, and IANA's list).
const PPP_IP: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;
/// RFC 3032 section 4.3.
const PPP_MPLS: u16 = 0x0281;
/// Compressed TCP/IP headers, several links, encrypted and compressed packets (RFC 1144, RFC 1990, RFC 1968, RFC 1962).
const PPP_NOT_READ: [u16; 8] = [0x002d, 0x002f, 0x003d, 0x0053, 0x0055, 0x00fb, 0x00fd, 0x0061];

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
    /// LLC (IEEE 802.2), as the MSDUs of an aggregate begin with it; has no number.
    Llc,
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
    /// Identifiers of the VLANs so far, 12 bits each, the last lowest; priority tags are none.
    pub(super) vlans: u64,
    nested: usize,
}

impl<'a> Rest<'a> {
    pub(super) fn new(bytes: &'a [u8], origin: Origin) -> Self {
        Self { bytes, origin, vlans: 0, nested: 0 }
    }

    /// Goes one header deeper, to a bound.
    fn deeper(&mut self) -> Result<(), Skip> {
        self.nested += 1;
        if self.nested > NESTED_MAX { Err(Skip::Unparsable(Unparsable::TooDeep)) } else { Ok(()) }
    }

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
    /// As of [`Rest`].
    pub(super) vlans: u64,
}

/// Finds the IP header.
pub(super) fn network(packet: Packet<'_>) -> Result<Network<'_>, Skip> {
    let mut rest = Rest::new(packet.bytes, packet.origin);
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
            of_cooked(ethertype, packet.wire_len.saturating_sub(16), &mut rest)?
        }
        LinkType::Sll2 => {
            let ethertype = rest.half()?;
            rest.skip(2)?;
            ifindex = Some(rest.word()?);
            rest.skip(2)?;
            direction = Some(of_packet_type(u16::from(rest.byte()?)));
            rest.skip(9)?;
            of_cooked(ethertype, packet.wire_len.saturating_sub(20), &mut rest)?
        }
        LinkType::Ppp => of_ppp_frame(&mut rest)?,
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
        LinkType::Llc => of_llc(&mut rest)?,
        LinkType::Other(_) => return Err(Skip::Unread(Unread::LinkType)),
    };
    let before = (packet.bytes.len() - rest.bytes.len()) as u32;
    let wire_len = packet.wire_len.saturating_sub(before);
    Ok(Network { version, bytes: rest.bytes, wire_len, direction, ifindex, vlans: rest.vlans })
}

/// Behind a cooked header, whose protocol and what follows disagree where a packet carries VLAN tags, differently by
/// direction and kernel (net/packet/af_packet.c). Linux 6.10 and later names the protocol behind all tags, although a
/// received packet still has the inner ones, and so has a sent one that was tagged twice (`vlan_get_protocol_dgram`);
/// before that, a sent packet may have the tag's own protocol and begin with its IP header. `wire_len` is that of what
/// follows the cooked header.
#[inline]
fn of_cooked(ethertype: u16, wire_len: u32, rest: &mut Rest<'_>) -> Result<Version, Skip> {
    let [first, _, high, low, ..] = *rest.bytes else { return of_ethertype(ethertype, rest) };
    let inner = u16::from_be_bytes([high, low]);
    let begins_with_ip = matches!(first >> 4, 4 | 6);
    match ethertype {
        ethertype::IPV4 | ethertype::IPV6
            if (inner == ethertype || is_vlan(inner)) && !(begins_with_ip && is_ip(rest.bytes, inner, wire_len)) =>
        {
            rest.skip(4)?;
            of_ethertype(inner, rest)
        }
        tag if is_vlan(tag) && begins_with_ip && !is_behind_a_tag(inner) => by_first_bits(rest.bytes),
        ETH_P_802_2 => of_llc(rest),
        _ => of_ethertype(ethertype, rest),
    }
}

/// Whether what looks like an IP header is one, and not the rest of a VLAN tag with a priority, before `inner`.
#[cold]
fn is_ip(bytes: &[u8], inner: u16, wire_len: u32) -> bool {
    let half = |at: usize| bytes.get(at..at + 2).map_or(0, |half| u32::from(half[0]) << 8 | u32::from(half[1]));
    let version = |at: usize| bytes.get(at).map_or(0, |byte| byte >> 4);
    let len = if version(0) == 4 { half(2) } else { 40 + half(4) };
    len == wire_len || !is_vlan(inner) && version(4) != version_of(inner)
}

/// The first four bits behind an ethertype.
const fn version_of(ethertype: u16) -> u8 {
    if ethertype == ethertype::IPV4 { 4 } else { 6 }
}

/// Whether a number is one that stands behind a VLAN tag, among those that are read.
fn is_behind_a_tag(ethertype: u16) -> bool {
    is_vlan(ethertype)
        || matches!(
            ethertype,
            ethertype::IPV4 | ethertype::IPV6 | ETH_P_PPP_SES | ethertype::MPLS | ethertype::MPLS_UPSTREAM
        )
}

/// An Ethernet header, its addresses first.
#[inline]
pub(super) fn of_ethernet(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    rest.skip(12)?;
    match rest.half()? {
        ..=LONGEST_802_3 => of_llc(rest),
        ethertype => of_ethertype(ethertype, rest),
    }
}

/// LLC: of a file, with SNAP and an ethertype; the classifier does not look behind it.
#[cold]
pub(super) fn of_llc(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    if rest.origin == Origin::Live {
        return Err(Skip::NotTcp);
    }
    let (snap, _) = rest.bytes.split_first_chunk::<6>().ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    if snap[..3] != SNAP || !ETHERTYPES.iter().any(|organisation| snap[3..] == *organisation) {
        return Err(Skip::NotTcp);
    }
    rest.skip(snap.len())?;
    let ethertype = rest.half()?;
    of_ethertype(ethertype, rest)
}

/// Goes behind VLAN tags, PPPoE and MPLS.
#[inline]
pub(super) fn of_ethertype(mut ethertype: u16, rest: &mut Rest<'_>) -> Result<Version, Skip> {
    for _ in 0..TAGS_MAX {
        if !is_vlan(ethertype) {
            break;
        }
        let vlan = u64::from(rest.half()? & 0xfff);
        // A tag with number 0 only has a priority (IEEE 802.1Q): the frame is in no VLAN because of it.
        if vlan != 0 {
            rest.vlans = rest.vlans << 12 | vlan;
        }
        ethertype = rest.half()?;
    }
    match ethertype {
        ethertype::IPV4 => Ok(Version::V4),
        ethertype::IPV6 => Ok(Version::V6),
        ETH_P_PPP_SES => {
            // Version, type, code, session and length (RFC 2516 section 4).
            rest.skip(6)?;
            of_ppp(rest)
        }
        ethertype::MPLS | ethertype::MPLS_UPSTREAM => of_mpls(rest, 0),
        tag if is_vlan(tag) => Err(Skip::Unparsable(Unparsable::TooDeep)),
        _ => of_other_ethertype(ethertype, rest),
    }
}

/// Headers that capture files alone are read behind.
#[cold]
fn of_other_ethertype(ethertype: u16, rest: &mut Rest<'_>) -> Result<Version, Skip> {
    let Origin::File(tunnels) = rest.origin else { return Err(Skip::NotTcp) };
    let unread = |reason| Err(Skip::Unread(reason));
    match ethertype {
        ETH_P_I_TAG | ETH_P_NSH if tunnels == Tunnels::Closed => return Err(Skip::Encapsulated),
        ETH_P_I_TAG => {
            rest.deeper()?;
            // Priority and service identifier; then the customer's frame.
            rest.skip(4)?;
            return of_ethernet(rest);
        }
        ETH_P_NSH => return of_nsh(rest),
        ETH_P_HSR | ETH_P_VN_TAG => rest.skip(4)?,
        ETH_P_E_TAG => rest.skip(6)?,
        ETH_P_MACSEC => {
            const HAS_CHANNEL: u8 = 0x20;
            const ENCRYPTED_OR_CHANGED: u8 = 0x0c;
            let control = rest.byte()?;
            if control & ENCRYPTED_OR_CHANGED != 0 {
                return unread(Unread::MacSec);
            }
            // Short length, packet number, channel.
            rest.skip(if control & HAS_CHANNEL == 0 { 5 } else { 13 })?;
        }
        ETH_P_TRILL | ETH_P_FABRIC_PATH => return unread(Unread::Trill),
        ETH_P_CISCO_METADATA => return unread(Unread::CiscoMetaData),
        ETH_P_BATMAN => return unread(Unread::Batman),
        _ => return Err(Skip::NotTcp),
    }
    rest.deeper()?;
    let ethertype = rest.half()?;
    of_ethertype(ethertype, rest)
}

/// A service function chain's header (RFC 8300 section 2), and what it says comes next.
pub(super) fn of_nsh(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    rest.deeper()?;
    // In 4-byte units, of which the first is read here.
    let len = usize::from(rest.half()? & 0x3f) * 4;
    rest.skip(1)?;
    let next = rest.byte()?;
    rest.skip(len.checked_sub(4).ok_or(Skip::NotTcp)?)?;
    of_next_protocol(next, rest)
}

/// What comes next by the numbers that NSH and VXLAN-GPE share (RFC 8300 section 11.2.5; draft-ietf-nvo3-vxlan-gpe
/// section 3.2).
pub(super) fn of_next_protocol(next: u8, rest: &mut Rest<'_>) -> Result<Version, Skip> {
    match next {
        1 => Ok(Version::V4),
        2 => Ok(Version::V6),
        3 => of_ethernet(rest),
        4 => of_nsh(rest),
        5 => of_mpls(rest, 0),
        _ => Err(Skip::Unread(Unread::Payload)),
    }
}

/// Behind an MPLS label stack (RFC 3032 section 2.1), of which `before` labels were read. What follows is recognised by
/// its first bits (RFC 4928 section 3): IP, or with 0 the control word of a pseudowire, before an Ethernet frame (RFC
/// 4448 section 4.6). Without a control word the frame's addresses come first, and are believed if what follows them is
/// an ethertype.
///
/// Labels are no part of a flow's identity: each direction has its own.
#[cold]
pub(super) fn of_mpls(rest: &mut Rest<'_>, before: usize) -> Result<Version, Skip> {
    if rest.origin != Origin::File(Tunnels::Opened) {
        return Err(Skip::Encapsulated);
    }
    rest.deeper()?;
    for labels in before..LABELS_MAX {
        let label = rest.word()?;
        if label & 0x100 == 0 {
            continue;
        }
        let is_frame = |at: usize| {
            let ethertype = rest.bytes.get(at + 12..at + 14);
            ethertype.is_some_and(|bytes| is_behind_a_tag(u16::from_be_bytes([bytes[0], bytes[1]])))
        };
        return match rest.bytes.first().map(|first| first >> 4) {
            Some(4) => Ok(Version::V4),
            Some(6) => Ok(Version::V6),
            // An address may begin so, too.
            Some(0) if is_frame(4) || !is_frame(0) => {
                rest.skip(4 + 12)?;
                match rest.half()? {
                    ethertype::MPLS | ethertype::MPLS_UPSTREAM => of_mpls(rest, labels + 1),
                    ethertype => of_ethertype(ethertype, rest),
                }
            }
            Some(_) if is_frame(0) => of_ethernet(rest),
            Some(_) => Err(Skip::Unread(Unread::Payload)),
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

/// The payload among the attributes of a netfilter log (linux/netfilter/nfnetlink_log.h): each has its length and type,
/// in the byte order of the machine that captured, and is padded to 32 bits.
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

/// A PPP frame, perhaps with the address and control fields of HDLC (RFC 1662 section 3.1).
pub(super) fn of_ppp_frame(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    if rest.bytes.starts_with(&[0xff, 0x03]) {
        rest.skip(2)?;
    }
    of_ppp(rest)
}

/// PPP's protocol field: one byte if it is odd, else two (RFC 1661 section 2).
fn of_ppp(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    let first = u16::from(rest.byte()?);
    let protocol = if first & 1 == 1 { first } else { first << 8 | u16::from(rest.byte()?) };
    match protocol {
        PPP_MPLS => of_mpls(rest, 0),
        PPP_IP => Ok(Version::V4),
        PPP_IPV6 => Ok(Version::V6),
        protocol if PPP_NOT_READ.contains(&protocol) && rest.origin != Origin::Live => Err(Skip::Unread(Unread::Ppp)),
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
