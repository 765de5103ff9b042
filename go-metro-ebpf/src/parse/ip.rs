//! The network layer: addresses, and where TCP begins and ends.
//!
//! The end comes from the IP header, not from the frame, because Ethernet pads short frames; except where the header
//! says 0 as BIG TCP's super-segments do (include/net/ipv6.h, `ipv6_payload_len`; include/linux/ip.h, `iph_totlen`).

use core::ptr;

use go_metro_common::counters::{PerCpu, Unparsable};
use go_metro_common::headers::ip::{EXTENSIONS_MAX, V4_FRAGMENT_OFFSET, V6_FRAGMENT_OFFSET};
use go_metro_common::headers::protocol::{AUTHENTICATION, FRAGMENT, GRE, IPV4, IPV6, TCP, UDP, may_lead_to_tcp};
use go_metro_common::headers::tunnel_port;

use super::Skip;
use super::link::{Network, Version};
use super::packet::{Header, Packet};

/// RFC 791 section 3.1. Multi-byte integers in network order.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct V4 {
    pub(super) version_ihl: u8,
    pub(super) tos: u8,
    pub(super) total_len: u16,
    pub(super) id: u16,
    pub(super) fragment: u16,
    pub(super) ttl: u8,
    pub(super) protocol: u8,
    pub(super) checksum: u16,
    pub(super) source: u32,
    pub(super) destination: u32,
}

/// RFC 8200 section 3. Multi-byte integers in network order.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct V6 {
    pub(super) version_class_flow: u32,
    pub(super) payload_len: u16,
    pub(super) next: u8,
    pub(super) hop_limit: u8,
    pub(super) source: Wide,
    pub(super) destination: Wide,
}

/// An IPv6 address in network order, as two words: of a longer array, or of bytes, the compiler makes a copy byte by
/// byte.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Wide(pub(crate) u64, pub(crate) u64);

impl Wide {
    /// As bytes.
    #[inline(always)]
    pub(crate) fn octets(self) -> [u8; 16] {
        // SAFETY: both are sixteen bytes that may have any value.
        unsafe { core::mem::transmute(self) }
    }
}

/// What all extension headers begin with (RFC 8200 section 4).
#[repr(C)]
#[derive(Clone, Copy)]
struct Extension {
    next: u8,
    len: u8,
    /// Of a fragment header: its offset and flags.
    fragment: u16,
}

const _: () = assert!(size_of::<V4>() == 20 && size_of::<V6>() == 40 && size_of::<Extension>() == 4);

// SAFETY: integers only.
unsafe impl Header for V4 {}
// SAFETY: integers only.
unsafe impl Header for V6 {}
// SAFETY: integers only.
unsafe impl Header for Extension {}

/// Source and destination, in network order.
#[derive(Clone, Copy)]
pub(crate) enum Addresses {
    V4 { source: u32, destination: u32 },
    V6 { source: Wide, destination: Wide },
}

/// An IP packet that carries TCP.
#[derive(Clone, Copy)]
pub(crate) struct Ip {
    pub addresses: Addresses,
    /// Where TCP begins.
    pub payload: u32,
    /// Where the IP packet ends; within the packet.
    pub end: u32,
}

/// Parses the IP header at `network`.
#[inline(always)]
pub(crate) fn parse(packet: Packet, cpu: &mut PerCpu, network: Network) -> Result<Ip, Skip> {
    match network.version {
        Version::V4 => v4(packet, network.offset),
        Version::V6 => v6(packet, cpu, network.offset),
    }
}

#[inline(always)]
fn v4(packet: Packet, offset: u32) -> Result<Ip, Skip> {
    let header: V4 = packet.read(offset).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    if header.protocol != TCP {
        return Err(not_tcp4(packet, &header, offset));
    }
    let header_len = u32::from(header.version_ihl & 0xf) * 4;
    if header.version_ihl >> 4 != 4 || header_len < size_of::<V4>() as u32 {
        return Err(Skip::Unparsable(Unparsable::IpHeader));
    }
    if is_fragment(&header) {
        return Err(Skip::Fragment);
    }
    let all = packet.len();
    let end = match u16::from_be(header.total_len) {
        0 => all,
        len if u32::from(len) < header_len => return Err(Skip::Unparsable(Unparsable::IpHeader)),
        len => offset + u32::from(len),
    };
    if end > all {
        return Err(Skip::Unparsable(Unparsable::Truncated));
    }
    Ok(Ip {
        addresses: Addresses::V4 { source: header.source, destination: header.destination },
        payload: offset + header_len,
        end,
    })
}

/// Whether it is a fragment other than the first.
#[inline(always)]
pub(super) fn is_fragment(header: &V4) -> bool {
    u16::from_be(header.fragment) & V4_FRAGMENT_OFFSET != 0
}

#[inline(always)]
fn v6(packet: Packet, cpu: &mut PerCpu, offset: u32) -> Result<Ip, Skip> {
    let header: V6 = packet.read(offset).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    if !may_lead_to_tcp(header.next) {
        return Err(not_tcp(header.next, port(packet, header.next, offset + size_of::<V6>() as u32)));
    }
    if u32::from_be(header.version_class_flow) >> 28 != 6 {
        return Err(Skip::Unparsable(Unparsable::IpHeader));
    }
    let all = packet.len();
    let mut payload = offset + size_of::<V6>() as u32;
    let end = match u16::from_be(header.payload_len) {
        0 => all,
        len => payload + u32::from(len),
    };
    if end > all {
        return Err(Skip::Unparsable(Unparsable::Truncated));
    }

    if header.next != TCP {
        payload = extensions(packet, cpu, payload, header.next)?;
    }
    Ok(Ip { addresses: Addresses::V6 { source: header.source, destination: header.destination }, payload, end })
}

/// Walks extension headers, of which the first is `next` at `offset`; where TCP begins.
#[inline(always)]
fn extensions(packet: Packet, cpu: &mut PerCpu, offset: u32, next: u8) -> Result<u32, Skip> {
    let (at, kind) = (&raw mut cpu.position, &raw mut cpu.next);
    // SAFETY: here and for each volatile access below: fields of this CPU's own value.
    unsafe {
        ptr::write_volatile(at, offset);
        ptr::write_volatile(kind, u32::from(next));
    }
    for _ in 0..EXTENSIONS_MAX {
        // SAFETY: as above.
        let (offset, next) = unsafe { (ptr::read_volatile(at), ptr::read_volatile(kind)) };
        if next == u32::from(TCP) {
            break;
        }
        let extension: Extension = packet.load(offset).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
        let len = match next as u8 {
            FRAGMENT if u16::from_be(extension.fragment) & V6_FRAGMENT_OFFSET != 0 => {
                return Err(if extension.next == TCP { Skip::Fragment } else { not_tcp(extension.next, 0) });
            }
            // RFC 8200 section 4.5: always 8 bytes.
            FRAGMENT => 8,
            // RFC 4302 section 2.2: in 4-byte units, minus 2.
            AUTHENTICATION => (u32::from(extension.len) + 2) * 4,
            // RFC 8200 section 4: in 8-byte units, not counting the first.
            _ => (u32::from(extension.len) + 1) * 8,
        };
        if !may_lead_to_tcp(extension.next) {
            let port = if extension.next == UDP { packet.load(offset + len + PORT).unwrap_or(0) } else { 0 };
            return Err(not_tcp(extension.next, port));
        }
        // SAFETY: as above.
        unsafe {
            ptr::write_volatile(at, offset + len);
            ptr::write_volatile(kind, u32::from(extension.next));
        }
    }
    // SAFETY: as above.
    let (offset, next) = unsafe { (ptr::read_volatile(at), ptr::read_volatile(kind)) };
    if next == u32::from(TCP) { Ok(offset) } else { Err(Skip::Unparsable(Unparsable::TooDeep)) }
}

/// Where the destination port is in a UDP header.
const PORT: u32 = 2;

/// What an IPv4 packet of another protocol is. Behind options, which are rare, its port is copied out: the verifier
/// loses track of such an offset.
#[inline(always)]
fn not_tcp4(packet: Packet, header: &V4, offset: u32) -> Skip {
    if header.protocol != UDP {
        return not_tcp(header.protocol, 0);
    }
    if is_fragment(header) {
        return Skip::NotOurs;
    }
    let header_len = u32::from(header.version_ihl & 0xf) * 4;
    let port = if header_len == size_of::<V4>() as u32 {
        packet.read(offset + size_of::<V4>() as u32 + PORT)
    } else {
        packet.load(offset + header_len + PORT)
    };
    not_tcp(UDP, port.unwrap_or(0))
}

/// The port of a UDP datagram, in network order; 0 of what is none or too short.
#[inline(always)]
fn port(packet: Packet, protocol: u8, offset: u32) -> u16 {
    if protocol == UDP { packet.read(offset + PORT).unwrap_or(0) } else { 0 }
}

/// What a packet is that carries neither TCP nor a header that TCP may come after. The port is in network order.
#[inline(always)]
fn not_tcp(protocol: u8, port: u16) -> Skip {
    match protocol {
        IPV4 | IPV6 | GRE | AUTHENTICATION => Skip::Encapsulated,
        UDP if tunnel_port::ALL.contains(&u16::from_be(port)) => Skip::Encapsulated,
        _ => Skip::NotOurs,
    }
}
