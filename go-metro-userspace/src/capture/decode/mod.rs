//! From the bytes of one captured packet to a segment record: what the classifier does in the kernel, for the other
//! sources.
//!
//! [`link`] finds the IP header ([`wireless`] in IEEE 802.11), [`ip`] the TCP header, [`tcp`] reads it. The same bytes
//! give the same record as in the kernel, which the parity test holds; in capture files more is read: other link types,
//! and what is inside tunnels ([`tunnel`]). Nothing here allocates or can panic, whatever the bytes.

mod ip;
mod link;
mod tcp;
mod tunnel;
mod wireless;

use std::hash::BuildHasher as _;

use bytes::TryGetError;
use go_metro_common::counters::Unparsable;
use go_metro_common::headers::protocol::{TCP, UDP};
use go_metro_common::segment::{Bits, SegmentHeader, Sides, TcpFlags, is_relevant};
use go_metro_rtt::{Direction, Endpoint, FlowKey, Nanos, Segment, Side};

use super::{SourceCounters, Unread};

pub use link::LinkType;
pub use tunnel::{Tunnel, TunnelKind};
pub(super) use wireless::Msdus;

/// Why a packet yields no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It carries no TCP.
    NotTcp,
    /// A fragment of a TCP segment, other than the first.
    Fragment,
    /// It is a tunnel's, and not looked into.
    Encapsulated,
    /// It cannot be read, whatever it carries.
    Unread(Unread),
    /// It is malformed.
    Unparsable(Unparsable),
}

impl From<TryGetError> for Skip {
    /// A header reaches past what was captured.
    fn from(_: TryGetError) -> Self {
        Self::Unparsable(Unparsable::Truncated)
    }
}

/// Whether to look inside tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnels {
    /// Look for TCP inside.
    #[default]
    Opened,
    /// Count them.
    Closed,
}

/// Where a packet comes from, which decides whether its lengths are trusted and whether tunnels are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A live interface, as the classifier sees it: the packet is as long as the kernel says, and tunnels are counted.
    Live,
    /// A capture file. Its record may have lost the packet's length: where the IP header says more, that is believed.
    File(Tunnels),
}

/// A captured packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// How long it was on the wire.
    pub wire_len: u32,
    /// What it begins with.
    pub link_type: LinkType,
    /// Where it comes from.
    pub origin: Origin,
}

/// A decoded TCP segment, before it is known which end is local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// Its numbers; ports, time, interface and direction are filled in by [`Decoded::seen_from`].
    pub header: SegmentHeader,
    /// Which way it went, where the link layer tells.
    pub direction: Option<Direction>,
    /// Which interface it passed, where the link layer tells.
    pub ifindex: Option<u32>,
    /// The tunnel that it is in, if any.
    pub tunnel: Option<Tunnel>,
    /// Identifiers of the VLANs that the outermost frame's tags name, 12 bits each, the innermost lowest; 0 for none.
    /// Priority tags name none.
    pub vlans: u64,
    /// Identification of the IPv4 packet; 0 where there is none.
    pub ip_id: u16,
    /// Checksum of the TCP segment.
    pub checksum: u16,
    /// Its options are malformed; those before the fault were read.
    pub bad_option: bool,
    /// Options that may have been SACK blocks are cut off by a short capture.
    pub cut_options: bool,
    /// Bytes of TCP options.
    pub options_len: u8,
    /// Of a SYN: the maximum segment size that it announces (RFC 9293 section 3.7.1), if it is not cut off.
    pub mss: Option<u16>,
}

/// The MSS of an end that announces none (RFC 9293 section 3.7.1).
const V4_DEFAULT_MSS: u16 = 536;
const V6_DEFAULT_MSS: u16 = 1220;

/// Decodes a packet.
///
/// # Errors
///
/// What the packet is instead of a TCP segment.
pub fn decode(packet: Packet<'_>) -> Result<Decoded, Skip> {
    let network = link::network(packet)?;
    let mut ip = ip::parse(network.version, network.bytes, network.wire_len, packet.origin)?;
    let mut tunnel = None;
    if ip.protocol != TCP {
        (ip, tunnel) = tunnel::inside(&ip, packet.origin)?;
    }
    let tcp = tcp::parse(ip.payload, ip.payload_len)?;
    let mss = tcp.header.flags.any(TcpFlags::SYN).then(|| {
        let default = if ip.bits & Bits::IPV6 == 0 { V4_DEFAULT_MSS } else { V6_DEFAULT_MSS };
        tcp.mss.or(tcp.is_whole.then_some(default))
    });
    Ok(Decoded {
        source: Endpoint { addr: ip.source, port: tcp.source },
        destination: Endpoint { addr: ip.destination, port: tcp.destination },
        header: SegmentHeader { bits: Bits(tcp.header.bits.0 | ip.bits), ..tcp.header },
        direction: network.direction,
        ifindex: network.ifindex,
        tunnel,
        vlans: network.vlans,
        ip_id: ip.id,
        checksum: tcp.checksum,
        bad_option: tcp.bad_option,
        cut_options: tcp.cut_options,
        options_len: tcp.options_len,
        mss: mss.flatten(),
    })
}

/// Decodes a packet and counts what it was.
#[inline]
pub fn decode_counted(packet: Packet<'_>, counters: &mut SourceCounters) -> Option<Decoded> {
    counters.packets.seen += 1;
    match decode(packet) {
        Ok(decoded) => {
            counters.packets.unparsable[Unparsable::TcpOption as usize] += u64::from(decoded.bad_option);
            return Some(decoded);
        }
        Err(Skip::NotTcp) => counters.passed_over += 1,
        Err(Skip::Fragment) => counters.packets.fragments += 1,
        Err(Skip::Encapsulated) => counters.packets.encapsulated += 1,
        Err(Skip::Unread(reason)) => counters.unread[reason as usize] += 1,
        Err(Skip::Unparsable(cause)) => counters.packets.unparsable[cause as usize] += 1,
    }
    None
}

/// What a packet carries that carries no TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carried {
    /// No IP, but this.
    EtherType(u16),
    /// A protocol of IP, by its number.
    Protocol(u8),
    /// UDP between these ports, the lower one first.
    Udp(u16, u16),
}

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EtherType(number) => write!(f, "EtherType 0x{number:04x}"),
            Self::Protocol(number) => write!(f, "IP protocol {number}"),
            Self::Udp(port, other) if port == other => write!(f, "UDP port {port}"),
            Self::Udp(port, other) => write!(f, "UDP port {port} or {other}"),
        }
    }
}

/// What a packet without TCP carries, as far as its outermost headers tell.
pub fn carried(packet: Packet<'_>) -> Option<Carried> {
    let Ok(network) = link::network(packet) else {
        let ethertype = packet.bytes.get(12..14).filter(|_| packet.link_type == LinkType::Ethernet)?;
        return Some(Carried::EtherType(u16::from_be_bytes([ethertype[0], ethertype[1]])));
    };
    let first = *network.bytes.first()?;
    let (protocol, header) = match network.version {
        link::Version::V4 => (*network.bytes.get(9)?, usize::from(first & 0xf) * 4),
        link::Version::V6 => (*network.bytes.get(6)?, 40),
    };
    let ports = network.bytes.get(header..header + 4).filter(|_| protocol == UDP);
    Some(ports.map_or(Carried::Protocol(protocol), |ports| {
        let ports = [[ports[0], ports[1]], [ports[2], ports[3]]].map(u16::from_be_bytes);
        Carried::Udp(ports[0].min(ports[1]), ports[0].max(ports[1]))
    }))
}

/// What names a frame's flow, almost without doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowName {
    /// Of the sender and the receiver.
    pub(super) ends: [u64; 2],
    /// The same in both directions, and in each tunnel another.
    pub(super) flow: u64,
    /// Which of the two directions it is.
    pub(super) way: usize,
}

impl Decoded {
    /// What names the flow that it belongs to.
    #[inline]
    pub(super) fn flow_name(&self) -> FlowName {
        let hasher = foldhash::fast::FixedState::default();
        let ends = [self.source, self.destination].map(|end| hasher.hash_one((end.addr, end.port)));
        let flow = ends[0].wrapping_add(ends[1]) ^ self.tunnel.as_ref().map_or(0, Tunnel::digest);
        FlowName { ends, flow, way: usize::from(ends[0] > ends[1]) }
    }

    /// A segment between these, of which nothing else is known.
    #[cfg(test)]
    pub(super) fn between([source, destination]: [Endpoint; 2], header: SegmentHeader) -> Self {
        Self {
            source,
            destination,
            header,
            direction: None,
            ifindex: None,
            tunnel: None,
            vlans: 0,
            ip_id: 0,
            checksum: 0,
            bad_option: false,
            cut_options: false,
            options_len: 0,
            mss: None,
        }
    }

    /// The segment as one of its ends sees it: the sender for egress, the receiver for ingress; `None` if it tells
    /// nothing about the round-trip times of these sides.
    #[inline]
    pub fn seen_from(&self, direction: Direction, sides: Sides, time: Nanos, ifindex: u32) -> Option<Segment> {
        if !is_relevant(sides, direction, self.header.flags, self.header.payload.len()) {
            return None;
        }
        let (local, remote, way) = match direction {
            Direction::Egress => (self.source, self.destination, Bits::EGRESS),
            Direction::Ingress => (self.destination, self.source, 0),
        };
        let header = SegmentHeader {
            time_ns: time.0,
            ifindex,
            local_port: local.port,
            remote_port: remote.port,
            bits: Bits(self.header.bits.0 | way),
            ..self.header
        };
        Some(Segment { flow: FlowKey { local, remote, ifindex, side: Side::Remote }, header })
    }
}

#[cfg(test)]
mod tests;
