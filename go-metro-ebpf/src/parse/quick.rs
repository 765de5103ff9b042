//! The usual packet, read straight: no VLAN tag in band, no options or extension headers of IP, all headers in the
//! packet's linear part, TCP without options or with timestamps alone. Whatever else there is, is another program's.

use go_metro_common::headers::ethertype;
use go_metro_common::headers::protocol::{TCP, UDP};
use go_metro_common::headers::tcp::HEADER_LEN;
use go_metro_common::headers::tunnel_port;

use super::Headers;
use super::ip::{Addresses, V4, V6, is_fragment};
use super::link::{ETHERNET_LEN, ETHERTYPE, Link};
use super::options::{Options, USUAL_LEN, Usual};
use super::packet::Packet;
use super::tcp::{self, Tcp, Wire};

/// A usual packet.
///
/// Every field is always set: of an enum, the compiler may read what a variant leaves undefined before it looks which
/// one it has, and Linux 5.10's verifier refuses that.
pub(crate) struct Quick {
    /// A TCP segment; else a datagram, and no tunnel's.
    pub is_segment: bool,
    pub headers: Headers,
    pub options: Options,
}

impl Quick {
    const DATAGRAM: Self = Self {
        is_segment: false,
        headers: Headers { addresses: Addresses::V4 { source: 0, destination: 0 }, tcp: Tcp::NONE },
        options: Options { bits: 0, tsval: 0, tsecr: 0 },
    };
}

/// What a packet is, if it is a usual one.
#[inline(always)]
pub(crate) fn look(packet: Packet, link: Link) -> Option<Quick> {
    let (kind, offset) = match link {
        Link::Ethernet => (u16::from_be(packet.peek(ETHERTYPE)?), ETHERNET_LEN),
        Link::Ip => (packet.protocol(), 0),
    };
    match kind {
        ethertype::IPV4 => v4(packet, offset),
        ethertype::IPV6 => v6(packet, offset),
        _ => None,
    }
}

#[inline(always)]
fn v4(packet: Packet, offset: u32) -> Option<Quick> {
    let header: V4 = packet.peek(offset)?;
    let payload = offset + size_of::<V4>() as u32;
    if header.version_ihl != 0x45 || is_fragment(&header) {
        return None;
    }
    if header.protocol != TCP {
        return datagram(packet, header.protocol, payload);
    }
    let len = u32::from(u16::from_be(header.total_len));
    let addresses = Addresses::V4 { source: header.source, destination: header.destination };
    // 0 is a super-segment of BIG TCP.
    segment(packet, addresses, payload, (len != 0).then_some(offset + len)?)
}

#[inline(always)]
fn v6(packet: Packet, offset: u32) -> Option<Quick> {
    let header: V6 = packet.peek(offset)?;
    let payload = offset + size_of::<V6>() as u32;
    if u32::from_be(header.version_class_flow) >> 28 != 6 {
        return None;
    }
    if header.next != TCP {
        return datagram(packet, header.next, payload);
    }
    let len = u32::from(u16::from_be(header.payload_len));
    let addresses = Addresses::V6 { source: header.source, destination: header.destination };
    segment(packet, addresses, payload, (len != 0).then_some(payload + len)?)
}

#[inline(always)]
fn datagram(packet: Packet, protocol: u8, offset: u32) -> Option<Quick> {
    let port: [u16; 2] = if protocol == UDP { packet.peek(offset)? } else { return None };
    (!tunnel_port::ALL.contains(&u16::from_be(port[1]))).then_some(Quick::DATAGRAM)
}

/// A segment of an IP packet that ends at `end`.
#[inline(always)]
fn segment(packet: Packet, addresses: Addresses, offset: u32, end: u32) -> Option<Quick> {
    let wire: Wire = packet.peek(offset)?;
    let options_len = (u32::from(wire.data_offset >> 4) * 4).wrapping_sub(HEADER_LEN);
    let options = match options_len {
        0 => Options::default(),
        USUAL_LEN => packet.peek::<Usual>(offset + HEADER_LEN)?.read()?,
        _ => return None,
    };
    if end > packet.len() || offset + HEADER_LEN + options_len > end {
        return None;
    }
    let tcp = tcp::of(&wire, offset, options_len, end);
    Some(Quick { is_segment: true, headers: Headers { addresses, tcp }, options })
}
