//! TCP inside tunnels, one perhaps within another: what capture files hold of overlay networks, mirror sessions and
//! mobile cores.
//!
//! Live interfaces are not looked into: where the inner interface is on the host, it is measured there.

use go_metro_common::counters::Unparsable;
use go_metro_common::headers::protocol::{AUTHENTICATION, GRE, IPV4, IPV6, TCP, UDP};
use go_metro_common::headers::tunnel_port::{self, GENEVE, GTP_U, OLD_VXLAN, VXLAN, VXLAN_GPE};
use go_metro_rtt::Addr;

use super::ip::{self, Ip};
use super::link::{self, Rest, Version};
use super::{Origin, Skip};
use crate::capture::Unread;

// Protocol numbers that the classifier does not know: IANA.
const ESP: u8 = 50;
const ETHER_IP: u8 = 97;
const IP_COMP: u8 = 108;
const L2TP_V3: u8 = 115;
const MPLS: u8 = 137;

// UDP ports that the classifier does not know: IANA.
/// RFC 8086, also over DTLS.
const GRE_IN_UDP: u16 = 4754;
const GRE_IN_DTLS: u16 = 4755;
/// RFC 7510, also over DTLS.
const MPLS_IN_UDP: u16 = 6635;
const MPLS_IN_DTLS: u16 = 6636;
/// RFC 9300 section 5.
const LISP: u16 = 4341;
/// RFC 2661 section 8.1.
const L2TP: u16 = 1701;
/// RFC 4380 section 4.
const TEREDO: u16 = 3544;
const AYIYA: u16 = 5072;
const TZSP: u16 = 37008;
/// RFC 3948.
const ESP_IN_UDP: u16 = 4500;
/// RFC 5415, its data channel.
const CAPWAP: u16 = 5247;

/// PPTP in GRE (RFC 2637 section 4.1).
const PPTP: u16 = 0x880b;
// ERSPAN in GRE (draft-foschiano-erspan), types I and II, and III.
const ERSPAN: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;

/// Tunnels and Authentication Headers that are looked into, one within another.
const DEPTH_MAX: usize = 8;

/// What a packet may carry that is not TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// Nothing of interest.
    Nothing,
    /// A tunnel, as the classifier knows them too.
    Tunnel,
    /// A tunnel that is known in capture files only.
    TunnelOfFiles,
    /// What is not looked into.
    Unread(Unread),
}

/// What a packet with this protocol and payload carries.
pub(super) fn carried(protocol: u8, payload: &[u8]) -> Carried {
    match protocol {
        IPV4 | IPV6 | GRE | AUTHENTICATION => Carried::Tunnel,
        UDP => match ports(payload) {
            Some(ports) => carried_by_udp(ports, payload.get(8..).unwrap_or_default()),
            None => Carried::Nothing,
        },
        ETHER_IP | MPLS => Carried::TunnelOfFiles,
        ESP => Carried::Unread(Unread::Esp),
        IP_COMP => Carried::Unread(Unread::IpComp),
        L2TP_V3 => Carried::Unread(Unread::L2tpV3),
        _ => Carried::Nothing,
    }
}

/// A datagram's ports, its source first.
fn ports(datagram: &[u8]) -> Option<[u16; 2]> {
    let (ports, _) = datagram.split_first_chunk::<4>()?;
    Some([u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])])
}

/// Most tunnels are known by the port that they go to, as any may be the one that they come from; those between a
/// client and a server by either.
fn carried_by_udp([from, to]: [u16; 2], data: &[u8]) -> Carried {
    match (to, server([from, to])) {
        (to, _) if tunnel_port::ALL.contains(&to) => Carried::Tunnel,
        (GRE_IN_UDP | MPLS_IN_UDP | LISP | TZSP, _) | (_, Some(L2TP | TEREDO | AYIYA)) => Carried::TunnelOfFiles,
        (GRE_IN_DTLS | MPLS_IN_DTLS, _) => Carried::Unread(Unread::Dtls),
        // Four zeros for a key exchange, one byte to keep the way open.
        (_, Some(ESP_IN_UDP)) if data.len() > 8 && data[..4] != [0; 4] => Carried::Unread(Unread::Esp),
        (_, Some(CAPWAP)) => Carried::Unread(Unread::Capwap),
        _ => Carried::Nothing,
    }
}

/// The port by which a server of tunnels is known, of one of these.
fn server(ports: [u16; 2]) -> Option<u16> {
    ports.into_iter().rev().find(|port| matches!(*port, L2TP | TEREDO | AYIYA | ESP_IN_UDP | CAPWAP))
}

/// The protocol of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// IP in IP (RFC 2003), IPv6 in IPv4 (RFC 4213) and the like (RFC 2473).
    IpInIp,
    /// GRE (RFC 2784), with its key (RFC 2890).
    Gre,
    /// A mirror session over GRE, with its number.
    Erspan,
    /// VXLAN (RFC 7348), with its network identifier.
    Vxlan,
    /// GENEVE (RFC 8926), with its network identifier.
    Geneve,
    /// GTP-U (3GPP TS 29.281).
    GtpU,
    /// An Ethernet frame in IP (RFC 3378).
    EtherIp,
    /// MPLS in IP (RFC 4023) or UDP (RFC 7510).
    Mpls,
    /// LISP (RFC 9300).
    Lisp,
    /// L2TP, version 2 (RFC 2661).
    L2tp,
    /// PPTP (RFC 2637).
    Pptp,
    /// Teredo (RFC 4380).
    Teredo,
    /// AYIYA (draft-massar-v6ops-ayiya).
    Ayiya,
    /// TZSP, what a remote sniffer captured.
    Tzsp,
}

impl TunnelKind {
    /// Its name in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IpInIp => "ipip",
            Self::Gre => "gre",
            Self::Erspan => "erspan",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::GtpU => "gtp",
            Self::EtherIp => "etherip",
            Self::Mpls => "mpls",
            Self::Lisp => "lisp",
            Self::L2tp => "l2tp",
            Self::Pptp => "pptp",
            Self::Teredo => "teredo",
            Self::Ayiya => "ayiya",
            Self::Tzsp => "tzsp",
        }
    }
}

/// A tunnel; both of its directions are the same tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// What it is made with.
    pub kind: TunnelKind,
    /// Its number, where both directions have one and the same: of GTP-U each has another.
    pub id: Option<u32>,
    /// Its ends, the lower address first.
    pub ends: [Addr; 2],
    /// A digest of the tunnels around it; 0 if there is none.
    pub around: u64,
    /// Its kind and those of the tunnels around it, four bits each, the innermost lowest.
    pub kinds: u32,
}

// Four bits for each.
const _: () = assert!(DEPTH_MAX * 4 <= u32::BITS as usize);

impl Tunnel {
    fn new(kind: TunnelKind, id: Option<u32>, ip: &Ip<'_>, around: Option<&Self>) -> Self {
        let ends = if ip.source <= ip.destination { [ip.source, ip.destination] } else { [ip.destination, ip.source] };
        let kinds = around.map_or(0, |around| around.kinds) << 4 | (kind as u32 + 1);
        const { assert!(TunnelKind::Tzsp as u32 + 1 < 16) };
        Self { kind, id, ends, around: around.map_or(0, Self::digest), kinds }
    }

    /// A number for the tunnel, which almost never belongs to another one too; never 0.
    pub fn digest(&self) -> u64 {
        use std::hash::BuildHasher as _;
        foldhash::quality::FixedState::default().hash_one(self) | 1
    }
}

/// What is inside a tunnel's packet.
struct Inner<'a> {
    version: Version,
    bytes: &'a [u8],
    tunnel: Option<(TunnelKind, Option<u32>)>,
}

/// The IP packet with TCP inside this one, which is a tunnel's, and the innermost of the tunnels that it is in.
#[cold]
pub(super) fn inside<'a>(outer: &Ip<'a>, origin: Origin) -> Result<(Ip<'a>, Option<Tunnel>), Skip> {
    let (mut ip, mut tunnel) = (*outer, None);
    for _ in 0..DEPTH_MAX {
        if ip.protocol == AUTHENTICATION {
            ip = behind_authentication(&ip)?;
        } else {
            let inner = open(&ip, origin)?;
            if let Some((kind, id)) = inner.tunnel {
                tunnel = Some(Tunnel::new(kind, id, &ip, tunnel.as_ref()));
            }
            let before = (ip.payload.len() - inner.bytes.len()) as u32;
            ip = ip::parse(inner.version, inner.bytes, ip.payload_len.saturating_sub(before), origin)?;
        }
        // What is no tunnel's was refused with the header.
        if ip.protocol == TCP {
            return Ok((ip, tunnel));
        }
    }
    Err(Skip::Unparsable(Unparsable::TooDeep))
}

/// The same packet without its Authentication Header (RFC 4302 section 2), which is no tunnel: the addresses stay.
fn behind_authentication<'a>(ip: &Ip<'a>) -> Result<Ip<'a>, Skip> {
    let (&[next, len], _) = ip.payload.split_first_chunk().ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    // In 4-byte units, minus 2.
    let len = (usize::from(len) + 2) * 4;
    let payload = ip.payload.get(len..).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    Ok(Ip { protocol: next, payload, payload_len: ip.payload_len.saturating_sub(len as u32), ..*ip })
}

fn open<'a>(ip: &Ip<'a>, origin: Origin) -> Result<Inner<'a>, Skip> {
    let mut rest = Rest::new(ip.payload, origin);
    let (version, tunnel) = match ip.protocol {
        IPV4 => (Version::V4, (TunnelKind::IpInIp, None)),
        IPV6 => (Version::V6, (TunnelKind::IpInIp, None)),
        GRE => gre(&mut rest)?,
        ETHER_IP => ether_ip(&mut rest)?,
        MPLS => mpls(&mut rest)?,
        UDP => {
            let ports = ports(ip.payload).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
            rest.skip(8)?;
            match ports[1] {
                GENEVE => geneve(&mut rest)?,
                GTP_U => gtp_u(&mut rest)?,
                VXLAN_GPE => vxlan(&mut rest, true)?,
                VXLAN | OLD_VXLAN => vxlan(&mut rest, false)?,
                GRE_IN_UDP => gre(&mut rest)?,
                MPLS_IN_UDP => mpls(&mut rest)?,
                LISP => lisp(&mut rest)?,
                TZSP => tzsp(&mut rest)?,
                _ => match server(ports) {
                    Some(L2TP) => l2tp(&mut rest)?,
                    Some(TEREDO) => teredo(&mut rest)?,
                    Some(AYIYA) => ayiya(&mut rest)?,
                    _ => return Err(Skip::NotTcp),
                },
            }
        }
        _ => return Err(Skip::NotTcp),
    };
    Ok(Inner { version, bytes: rest.bytes, tunnel: Some(tunnel) })
}

/// What a header says: the IP version inside, and which tunnel it is.
type Opened = (Version, (TunnelKind, Option<u32>));

/// RFC 2784 section 2, RFC 2890 section 2.
fn gre(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const VERSION: u16 = 0x0007;
    let (flags, protocol) = (rest.half()?, rest.half()?);
    if flags & VERSION == 1 && protocol == PPTP {
        return pptp(flags, rest);
    }
    if flags & (ROUTING | VERSION) != 0 {
        return Err(Skip::Unread(Unread::Gre));
    }
    if flags & CHECKSUM != 0 {
        rest.skip(4)?;
    }
    let key = if flags & KEY != 0 { Some(rest.word()?) } else { None };
    if flags & SEQUENCE != 0 {
        rest.skip(4)?;
    }
    match protocol {
        // Type I has no header of its own, and no sequence number.
        ERSPAN if flags & SEQUENCE == 0 => Ok((link::of_ethernet(rest)?, (TunnelKind::Erspan, None))),
        ERSPAN => {
            let session = rest.word()? & 0x3ff;
            rest.skip(4)?;
            Ok((link::of_ethernet(rest)?, (TunnelKind::Erspan, Some(session))))
        }
        ERSPAN_III => {
            let session = rest.word()? & 0x3ff;
            // Time stamp and security group.
            rest.skip(6)?;
            let kinds = rest.half()?;
            if kinds & 1 != 0 {
                rest.skip(8)?;
            }
            let version = match kinds >> 10 & 0x1f {
                0 => link::of_ethernet(rest)?,
                2 => link::by_first_bits(rest.bytes)?,
                _ => return Err(Skip::Unread(Unread::Payload)),
            };
            Ok((version, (TunnelKind::Erspan, Some(session))))
        }
        protocol => Ok((link::of_inner_ethertype(protocol, rest)?, (TunnelKind::Gre, key))),
    }
}

/// RFC 7348 section 5; with a field for what comes next, draft-ietf-nvo3-vxlan-gpe section 3.
fn vxlan(rest: &mut Rest<'_>, says_next: bool) -> Result<Opened, Skip> {
    const VALID: u32 = 0x0800_0000;
    const NEXT_PROTOCOL: u32 = 0x0400_0000;
    let (flags, vni) = (rest.word()?, rest.word()? >> 8);
    // Another protocol on this port.
    if flags & VALID == 0 {
        return Err(Skip::NotTcp);
    }
    let version = if says_next && flags & NEXT_PROTOCOL != 0 {
        link::of_next_protocol(flags as u8, rest)?
    } else {
        link::of_ethernet(rest)?
    };
    Ok((version, (TunnelKind::Vxlan, Some(vni))))
}

/// RFC 8926 section 3.4.
fn geneve(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    let lengths = rest.byte()?;
    rest.skip(1)?;
    let protocol = rest.half()?;
    let vni = rest.word()? >> 8;
    if lengths >> 6 != 0 {
        return Err(Skip::NotTcp);
    }
    // In 4-byte units.
    rest.skip(usize::from(lengths & 0x3f) * 4)?;
    Ok((link::of_inner_ethertype(protocol, rest)?, (TunnelKind::Geneve, Some(vni))))
}

/// 3GPP TS 29.281 section 5.1: version 1, protocol type GTP, and of the messages the one that carries a packet.
fn gtp_u(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    const G_PDU: u8 = 255;
    const EXTENSION: u8 = 0x04;
    let (flags, message) = (rest.byte()?, rest.byte()?);
    if flags & 0xf0 != 0x30 || message != G_PDU {
        return Err(Skip::NotTcp);
    }
    // Length and tunnel endpoint identifier.
    rest.skip(6)?;
    if flags & 0x07 != 0 {
        // Sequence number, N-PDU number.
        rest.skip(3)?;
        let mut next = rest.byte()?;
        while flags & EXTENSION != 0 && next != 0 {
            // In 4-byte units, this byte and the next type included.
            let len = usize::from(rest.byte()?) * 4;
            rest.skip(len.checked_sub(2).ok_or(Skip::NotTcp)?)?;
            next = rest.byte()?;
        }
    }
    Ok((link::by_first_bits(rest.bytes)?, (TunnelKind::GtpU, None)))
}

/// GRE as PPTP has it (RFC 2637 section 4.1), whose call has another number in each direction.
fn pptp(flags: u16, rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGEMENT: u16 = 0x0080;
    // Length and call.
    rest.skip(4)?;
    // Without a sequence number it has no payload.
    if flags & SEQUENCE == 0 {
        return Err(Skip::NotTcp);
    }
    rest.skip(if flags & ACKNOWLEDGEMENT == 0 { 4 } else { 8 })?;
    Ok((link::of_ppp_frame(rest)?, (TunnelKind::Pptp, None)))
}

/// RFC 2661 section 3.1: messages with data, whose tunnel and session have other numbers in each direction.
fn l2tp(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    const CONTROL: u16 = 0x8000;
    const LENGTH: u16 = 0x4000;
    const SEQUENCE: u16 = 0x0800;
    const OFFSET: u16 = 0x0200;
    let flags = rest.half()?;
    match (flags & CONTROL, flags & 0xf) {
        (0, 2) => {}
        (0, 3) => return Err(Skip::Unread(Unread::L2tpV3)),
        _ => return Err(Skip::NotTcp),
    }
    let optional = |flag: u16, len: usize| if flags & flag == 0 { 0 } else { len };
    rest.skip(optional(LENGTH, 2) + 4 + optional(SEQUENCE, 4))?;
    if flags & OFFSET != 0 {
        let padding = usize::from(rest.half()?);
        rest.skip(padding)?;
    }
    Ok((link::of_ppp_frame(rest)?, (TunnelKind::L2tp, None)))
}

/// RFC 3378 section 3.
fn ether_ip(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    if rest.half()? >> 12 != 3 {
        return Err(Skip::NotTcp);
    }
    Ok((link::of_ethernet(rest)?, (TunnelKind::EtherIp, None)))
}

/// RFC 4023 section 3, RFC 7510 section 3.
fn mpls(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    Ok((link::of_mpls(rest, 0)?, (TunnelKind::Mpls, None)))
}

/// RFC 9300 section 5.3.
fn lisp(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    // Flags, nonce or versions, instance or status.
    rest.skip(8)?;
    Ok((link::by_first_bits(rest.bytes)?, (TunnelKind::Lisp, None)))
}

/// RFC 4380 section 5.1.1: IPv6, perhaps behind an authentication and where the packet came from.
fn teredo(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    if rest.bytes.starts_with(&[0, 1]) {
        rest.skip(2)?;
        let (identifier, value) = (usize::from(rest.byte()?), usize::from(rest.byte()?));
        // Nonce and confirmation.
        rest.skip(identifier + value + 9)?;
    }
    if rest.bytes.starts_with(&[0, 0]) {
        rest.skip(8)?;
    }
    match link::by_first_bits(rest.bytes) {
        Ok(Version::V6) => Ok((Version::V6, (TunnelKind::Teredo, None))),
        _ => Err(Skip::NotTcp),
    }
}

/// draft-massar-v6ops-ayiya-02 section 3.1: what is forwarded.
fn ayiya(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    const FORWARD: u8 = 1;
    let (identity, signature) = (rest.byte()? >> 4, rest.byte()? >> 4);
    let operation = rest.byte()? & 0xf;
    let next = rest.byte()?;
    // The time, who sends, and the signature in 4-byte units.
    rest.skip(4 + (1 << identity) + usize::from(signature) * 4)?;
    let version = match (operation, next) {
        (FORWARD, IPV4) => Version::V4,
        (FORWARD, IPV6) => Version::V6,
        _ => return Err(Skip::NotTcp),
    };
    Ok((version, (TunnelKind::Ayiya, None)))
}

/// Version 1, as Wireshark's and MikroTik's documentation describe it.
fn tzsp(rest: &mut Rest<'_>) -> Result<Opened, Skip> {
    const ETHERNET: u16 = 1;
    const PADDING: u8 = 0;
    const END: u8 = 1;
    let (version, kind) = (rest.byte()?, rest.byte()?);
    // A packet that was received, or is to be sent.
    if version != 1 || kind > 1 {
        return Err(Skip::NotTcp);
    }
    if rest.half()? != ETHERNET {
        return Err(Skip::Unread(Unread::Payload));
    }
    loop {
        match rest.byte()? {
            PADDING => {}
            END => break,
            _ => {
                let len = usize::from(rest.byte()?);
                rest.skip(len)?;
            }
        }
    }
    Ok((link::of_ethernet(rest)?, (TunnelKind::Tzsp, None)))
}
