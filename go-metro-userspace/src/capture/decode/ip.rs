//! The network layer: addresses, and where TCP begins and ends.
//!
//! The end comes from the IP header, not from the frame, because Ethernet pads short frames; except where the header says 0
//! as BIG TCP's super-segments do.

use bytes::Buf;
use go_metro_common::counters::Unparsable;
use go_metro_common::segment::Bits;

use super::Skip;
use super::link::Version;
use crate::rtt::Addr;

// Protocol numbers: IANA.
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

/// Extension headers that are looked behind, as in the kernel.
const EXTENSIONS_MAX: usize = 8;

/// An IP packet that carries TCP.
pub(super) struct Ip<'a> {
    pub(super) source: Addr,
    pub(super) destination: Addr,
    /// From the TCP header on, as far as it was captured.
    pub(super) payload: &'a [u8],
    /// TCP header and payload on the wire.
    pub(super) payload_len: u32,
    /// Identification (RFC 791 section 3.1); 0 where there is none.
    pub(super) id: u16,
    /// The family's share of the record's bits.
    pub(super) bits: u8,
}

pub(super) fn parse(version: Version, bytes: &[u8], wire_len: u32) -> Result<Ip<'_>, Skip> {
    match version {
        Version::V4 => v4(bytes, wire_len),
        Version::V6 => v6(bytes, wire_len),
    }
}

/// RFC 791 section 3.1.
fn v4(bytes: &[u8], wire_len: u32) -> Result<Ip<'_>, Skip> {
    let mut header = bytes.get(..20).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    let version_ihl = header.try_get_u8()?;
    let _tos = header.try_get_u8()?;
    let total_len = header.try_get_u16()?;
    let id = header.try_get_u16()?;
    let fragment = header.try_get_u16()?;
    let _ttl = header.try_get_u8()?;
    let protocol = header.try_get_u8()?;
    let _checksum = header.try_get_u16()?;
    if protocol != TCP {
        return Err(Skip::NotTcp);
    }
    let header_len = u32::from(version_ihl & 0xf) * 4;
    if version_ihl >> 4 != 4 || header_len < 20 {
        return Err(Skip::Unparsable(Unparsable::IpHeader));
    }
    if fragment & 0x1fff != 0 {
        return Err(Skip::Fragment);
    }
    let len = match u32::from(total_len) {
        0 => wire_len,
        len if len < header_len => return Err(Skip::Unparsable(Unparsable::IpHeader)),
        len => len,
    };
    if len > wire_len {
        return Err(Skip::Unparsable(Unparsable::Truncated));
    }
    let source = Addr::v4(header.try_get_u32()?.to_be_bytes());
    let destination = Addr::v4(header.try_get_u32()?.to_be_bytes());
    let payload = bytes.get(header_len as usize..).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    Ok(Ip { source, destination, payload, payload_len: len.saturating_sub(header_len), id, bits: 0 })
}

/// RFC 8200 section 3.
fn v6(bytes: &[u8], wire_len: u32) -> Result<Ip<'_>, Skip> {
    let mut header = bytes.get(..40).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    let version = header.try_get_u32()? >> 28;
    let payload_len = header.try_get_u16()?;
    let next = header.try_get_u8()?;
    let _hop_limit = header.try_get_u8()?;
    if !may_lead_to_tcp(next) {
        return Err(Skip::NotTcp);
    }
    if version != 6 {
        return Err(Skip::Unparsable(Unparsable::IpHeader));
    }
    let available = wire_len.saturating_sub(40);
    let len = match u32::from(payload_len) {
        0 => available,
        len => len,
    };
    if len > available {
        return Err(Skip::Unparsable(Unparsable::Truncated));
    }
    let source = Addr::v6(header.try_get_u128()?.to_be_bytes());
    let destination = Addr::v6(header.try_get_u128()?.to_be_bytes());
    let behind = bytes.get(40..).unwrap_or_default();
    let (payload, extensions_len) = extensions(behind, next)?;
    let payload_len = len.saturating_sub(extensions_len);
    Ok(Ip { source, destination, payload, payload_len, id: 0, bits: Bits::IPV6 })
}

/// Walks extension headers, of which the first is `next`; what follows them, and how long they are.
fn extensions(bytes: &[u8], mut next: u8) -> Result<(&[u8], u32), Skip> {
    let mut at = 0;
    for _ in 0..EXTENSIONS_MAX {
        if next == TCP {
            break;
        }
        let mut extension = bytes.get(at..at + 4).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
        let following = extension.try_get_u8()?;
        let len = usize::from(extension.try_get_u8()?);
        let fragment = extension.try_get_u16()?;
        at += match next {
            FRAGMENT if fragment & 0xfff8 != 0 => {
                return Err(if following == TCP { Skip::Fragment } else { Skip::NotTcp });
            }
            // RFC 8200 section 4.5: always 8 bytes.
            FRAGMENT => 8,
            // RFC 4302 section 2.2: in 4-byte units, minus 2.
            AUTHENTICATION => (len + 2) * 4,
            // RFC 8200 section 4: in 8-byte units, not counting the first.
            _ => (len + 1) * 8,
        };
        if !may_lead_to_tcp(following) {
            return Err(Skip::NotTcp);
        }
        next = following;
    }
    if next != TCP {
        return Err(Skip::Unparsable(Unparsable::TooDeep));
    }
    let behind = bytes.get(at..).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    Ok((behind, at as u32))
}

/// Whether a next-header value is TCP or an extension header that TCP may come after.
fn may_lead_to_tcp(next: u8) -> bool {
    matches!(next, TCP | HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY)
}
