//! TCP inside tunnels, one perhaps within another: what capture files hold of overlay networks, mirror sessions and mobile cores.
//!
//! Live interfaces are not looked into: where the inner interface is on the host, it is measured there.

use go_metro_common::counters::Unparsable;

use super::ip::{self, AUTHENTICATION, Ip, TCP};
use super::link::{self, Rest, Version};
use super::{Origin, Skip};
use crate::rtt::Addr;

// Protocol numbers: IANA.
const IPIP: u8 = 4;
pub(super) const UDP: u8 = 17;
const IPV6: u8 = 41;
const GRE: u8 = 47;

// UDP ports: IANA, and what Linux took before there was one for VXLAN.
const VXLAN: [u16; 2] = [4789, 8472];
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;
const GTP_U: u16 = 2152;

// ERSPAN in GRE (draft-foschiano-erspan), types I and II, and III.
const ERSPAN: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;

/// Tunnels and Authentication Headers that are looked into, one within another.
const DEPTH_MAX: usize = 8;

/// Whether IPv4 packets of this protocol, and IPv6 packets but for AH, are a tunnel's.
pub(super) fn is_protocol(protocol: u8) -> bool {
    matches!(protocol, IPIP | IPV6 | GRE | AUTHENTICATION)
}

/// Whether UDP datagrams to this port are a tunnel's.
pub(super) fn is_port(port: u16) -> bool {
    VXLAN.contains(&port) || matches!(port, VXLAN_GPE | GENEVE | GTP_U)
}

/// What a tunnel is made with.
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
}

impl TunnelKind {
    /// As results have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IpInIp => "ipip",
            Self::Gre => "gre",
            Self::Erspan => "erspan",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::GtpU => "gtp",
        }
    }
}

/// A tunnel, both of whose directions are one.
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
}

impl Tunnel {
    fn new(kind: TunnelKind, id: Option<u32>, ip: &Ip<'_>, around: Option<&Self>) -> Self {
        let ends = if ip.source <= ip.destination { [ip.source, ip.destination] } else { [ip.destination, ip.source] };
        Self { kind, id, ends, around: around.map_or(0, Self::digest) }
    }

    /// The same number for the same tunnel, and hardly ever for another; never 0.
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
        match ip.protocol {
            TCP => return Ok((ip, tunnel)),
            UDP => {}
            protocol if is_protocol(protocol) => {}
            _ => return Err(Skip::NotTcp),
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
    let mut rest = Rest { bytes: ip.payload, origin };
    let (version, tunnel) = match ip.protocol {
        IPIP => (Version::V4, (TunnelKind::IpInIp, None)),
        IPV6 => (Version::V6, (TunnelKind::IpInIp, None)),
        GRE => gre(&mut rest)?,
        UDP => {
            rest.skip(2)?;
            let port = rest.half()?;
            // Length and checksum.
            rest.skip(4)?;
            match port {
                GENEVE => geneve(&mut rest)?,
                GTP_U => gtp_u(&mut rest)?,
                port if is_port(port) => vxlan(&mut rest, port == VXLAN_GPE)?,
                _ => return Err(Skip::NotTcp),
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
    if flags & (ROUTING | VERSION) != 0 {
        return Err(Skip::NotTcp);
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
                _ => return Err(Skip::NotTcp),
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
    let version = match flags & 0xff {
        1 if says_next && flags & NEXT_PROTOCOL != 0 => Version::V4,
        2 if says_next && flags & NEXT_PROTOCOL != 0 => Version::V6,
        _ => link::of_ethernet(rest)?,
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
