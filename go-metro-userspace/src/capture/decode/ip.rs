//! The network layer: addresses, and where TCP begins and ends.
//!
//! The end comes from the IP header, not from the frame, because Ethernet pads short frames; except where the header
//! says 0 as BIG TCP's super-segments do. A capture file may say of a packet that it was shorter than that, and is not
//! believed.

use bytes::Buf;
use go_metro_common::counters::Unparsable;
use go_metro_common::headers::ip::{EXTENSIONS_MAX, V4_FRAGMENT_OFFSET, V6_FRAGMENT_OFFSET};
use go_metro_common::headers::protocol::{AUTHENTICATION, FRAGMENT, TCP, may_lead_to_tcp};
use go_metro_common::segment::Bits;
use go_metro_rtt::Addr;

use super::link::Version;
use super::tunnel::{self, Carried};
use super::{Origin, Skip, Tunnels};

/// An IP packet that carries TCP, or in a capture file a tunnel.
#[derive(Clone, Copy)]
pub(super) struct Ip<'a> {
    pub(super) source: Addr,
    pub(super) destination: Addr,
    /// What it carries.
    pub(super) protocol: u8,
    /// From its header on, as far as it was captured.
    pub(super) payload: &'a [u8],
    /// Its header and payload on the wire.
    pub(super) payload_len: u32,
    /// Identification (RFC 791 section 3.1); 0 where there is none.
    pub(super) id: u16,
    /// The family's share of the record's bits.
    pub(super) bits: u8,
}

pub(super) fn parse(version: Version, bytes: &[u8], wire_len: u32, origin: Origin) -> Result<Ip<'_>, Skip> {
    match version {
        Version::V4 => v4(bytes, wire_len, origin),
        Version::V6 => v6(bytes, wire_len, origin),
    }
}

/// What becomes of a packet that carries neither TCP nor a header that TCP may come after: read on where this returns.
#[cold]
fn not_tcp(protocol: u8, payload: &[u8], origin: Origin) -> Result<(), Skip> {
    match (tunnel::carried(protocol, payload), origin) {
        (Carried::Tunnel | Carried::TunnelOfFiles, Origin::File(Tunnels::Opened)) => Ok(()),
        (Carried::Tunnel, _) | (Carried::TunnelOfFiles, Origin::File(Tunnels::Closed)) => Err(Skip::Encapsulated),
        (Carried::Unread(reason), Origin::File(_)) => Err(Skip::Unread(reason)),
        _ => Err(Skip::NotTcp),
    }
}

/// The length of a packet, by its header, of which the frame says that there are at most `available`.
#[inline]
fn length(said: u32, available: u32, origin: Origin) -> Result<u32, Skip> {
    match said {
        0 => Ok(available),
        said if said > available && origin == Origin::Live => Err(Skip::Unparsable(Unparsable::Truncated)),
        said => Ok(said),
    }
}

/// RFC 791 section 3.1.
fn v4(bytes: &[u8], wire_len: u32, origin: Origin) -> Result<Ip<'_>, Skip> {
    let mut header = bytes.get(..20).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    let version_ihl = header.try_get_u8()?;
    let _tos = header.try_get_u8()?;
    let total_len = header.try_get_u16()?;
    let id = header.try_get_u16()?;
    let fragment = header.try_get_u16()?;
    let _ttl = header.try_get_u8()?;
    let protocol = header.try_get_u8()?;
    let _checksum = header.try_get_u16()?;
    let header_len = u32::from(version_ihl & 0xf) * 4;
    if protocol != TCP {
        let payload = bytes.get(header_len as usize..).filter(|_| fragment & V4_FRAGMENT_OFFSET == 0);
        not_tcp(protocol, payload.unwrap_or_default(), origin)?;
    }
    if version_ihl >> 4 != 4 || header_len < 20 {
        return Err(Skip::Unparsable(Unparsable::IpHeader));
    }
    if fragment & V4_FRAGMENT_OFFSET != 0 {
        return Err(Skip::Fragment);
    }
    if total_len != 0 && u32::from(total_len) < header_len {
        return Err(Skip::Unparsable(Unparsable::IpHeader));
    }
    let len = length(u32::from(total_len), wire_len, origin)?;
    let source = Addr::v4(header.try_get_u32()?.to_be_bytes());
    let destination = Addr::v4(header.try_get_u32()?.to_be_bytes());
    let payload = bytes.get(header_len as usize..).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    Ok(Ip { source, destination, protocol, payload, payload_len: len.saturating_sub(header_len), id, bits: 0 })
}

/// RFC 8200 section 3.
fn v6(bytes: &[u8], wire_len: u32, origin: Origin) -> Result<Ip<'_>, Skip> {
    let mut header = bytes.get(..40).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    let version = header.try_get_u32()? >> 28;
    let payload_len = header.try_get_u16()?;
    let next = header.try_get_u8()?;
    let _hop_limit = header.try_get_u8()?;
    let behind = bytes.get(40..).unwrap_or_default();
    if !may_lead_to_tcp(next) {
        not_tcp(next, behind, origin)?;
    }
    if version != 6 {
        return Err(Skip::Unparsable(Unparsable::IpHeader));
    }
    let len = length(u32::from(payload_len), wire_len.saturating_sub(40), origin)?;
    let source = Addr::v6(header.try_get_u128()?.to_be_bytes());
    let destination = Addr::v6(header.try_get_u128()?.to_be_bytes());
    let (protocol, payload, extensions_len) = extensions(behind, next, origin)?;
    let payload_len = len.saturating_sub(extensions_len);
    Ok(Ip { source, destination, protocol, payload, payload_len, id: 0, bits: Bits::IPV6 })
}

/// Walks extension headers, of which the first is `next`; what follows them, and how long they are.
fn extensions(bytes: &[u8], mut next: u8, origin: Origin) -> Result<(u8, &[u8], u32), Skip> {
    let mut at = 0;
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(next) {
            break;
        }
        let mut extension = bytes.get(at..at + 4).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
        let following = extension.try_get_u8()?;
        let len = usize::from(extension.try_get_u8()?);
        let fragment = extension.try_get_u16()?;
        at += match next {
            FRAGMENT if fragment & V6_FRAGMENT_OFFSET != 0 => {
                // Of a tunnel's packet, only the beginning tells what it carries.
                return match not_tcp(following, &[], origin) {
                    _ if following == TCP => Err(Skip::Fragment),
                    Ok(()) => Err(Skip::Fragment),
                    Err(skip) => Err(skip),
                };
            }
            // RFC 8200 section 4.5: always 8 bytes.
            FRAGMENT => 8,
            // RFC 4302 section 2.2: in 4-byte units, minus 2.
            AUTHENTICATION => (len + 2) * 4,
            // RFC 8200 section 4: in 8-byte units, not counting the first.
            _ => (len + 1) * 8,
        };
        if !may_lead_to_tcp(following) {
            not_tcp(following, bytes.get(at..).unwrap_or_default(), origin)?;
        }
        next = following;
    }
    if is_extension(next) {
        return Err(Skip::Unparsable(Unparsable::TooDeep));
    }
    let behind = bytes.get(at..).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    Ok((next, behind, at as u32))
}

/// Whether it is an extension header that TCP may follow.
fn is_extension(next: u8) -> bool {
    next != TCP && may_lead_to_tcp(next)
}
