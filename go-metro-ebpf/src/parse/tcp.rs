//! The TCP header (RFC 9293 section 3.1).

use go_metro_common::counters::Unparsable;
use go_metro_common::headers::tcp::HEADER_LEN;
use go_metro_common::segment::TcpFlags;

use super::Skip;
use super::packet::{Header, Packet};

/// Multi-byte integers in network order.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Wire {
    source: u16,
    destination: u16,
    seq: u32,
    ack: u32,
    pub(super) data_offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

const _: () = assert!(size_of::<Wire>() == HEADER_LEN as usize);

// SAFETY: integers only.
unsafe impl Header for Wire {}

/// A TCP header; integers in host byte order.
#[derive(Clone, Copy)]
pub(crate) struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub flags: TcpFlags,
    pub payload_len: u32,
    /// Where the options begin.
    pub options: u32,
    /// Bytes of options: 0 to 40.
    pub options_len: u32,
}

impl Tcp {
    /// In place of a header, where there is none.
    pub(super) const NONE: Self = Self {
        source: 0,
        destination: 0,
        seq: 0,
        ack: 0,
        window: 0,
        flags: TcpFlags(0),
        payload_len: 0,
        options: 0,
        options_len: 0,
    };
}

/// Parses the header at `offset` of an IP packet that ends at `end`.
#[inline(always)]
pub(crate) fn parse(packet: Packet, offset: u32, end: u32) -> Result<Tcp, Skip> {
    if offset + HEADER_LEN > end {
        return Err(Skip::Unparsable(Unparsable::Truncated));
    }
    let wire: Wire = packet.read(offset).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    let header_len = u32::from(wire.data_offset >> 4) * 4;
    if header_len < HEADER_LEN || offset + header_len > end {
        return Err(Skip::Unparsable(Unparsable::TcpHeader));
    }
    Ok(of(&wire, offset, header_len - HEADER_LEN, end))
}

/// What a header at `offset` says, with as many bytes of options, of an IP packet that ends at `end`.
#[inline(always)]
pub(super) fn of(wire: &Wire, offset: u32, options_len: u32, end: u32) -> Tcp {
    Tcp {
        source: u16::from_be(wire.source),
        destination: u16::from_be(wire.destination),
        seq: u32::from_be(wire.seq),
        ack: u32::from_be(wire.ack),
        window: u16::from_be(wire.window),
        flags: TcpFlags(wire.flags),
        payload_len: end - offset - HEADER_LEN - options_len,
        options: offset + HEADER_LEN,
        options_len,
    }
}
