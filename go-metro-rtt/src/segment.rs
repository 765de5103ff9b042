//! A segment as the engine sees it: a flow, and the record's header.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use go_metro_common::segment::{Bits, Direction, SegmentHeader, SegmentV4, SegmentV6, Sides, TcpFlags, is_relevant};

use crate::{Nanos, SeqNum};

/// An IP address of either family; IPv4 is kept mapped (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2), so that both have
/// one type, one size and one way to be hashed.
#[derive(Clone, Copy, Debug, Eq, PartialOrd, Ord)]
pub struct Addr([u8; 16]);

// As numbers: what is derived for an array calls memcmp(3) and hashes a length.
impl PartialEq for Addr {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

impl Hash for Addr {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.bits());
    }
}

impl Addr {
    /// From four bytes in network order.
    #[inline]
    pub const fn v4(a: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3]])
    }

    /// From sixteen bytes in network order.
    #[inline]
    pub const fn v6(a: [u8; 16]) -> Self {
        Self(a)
    }

    /// In two words, in the machine's byte order.
    #[inline]
    pub(super) fn words(self) -> [u64; 2] {
        let bits = u128::from_ne_bytes(self.0);
        [bits as u64, (bits >> 64) as u64]
    }

    /// What [`Addr::words`] is of.
    pub(super) fn of_words([low, high]: [u64; 2]) -> Self {
        Self((u128::from(high) << 64 | u128::from(low)).to_ne_bytes())
    }

    /// As a number, the first byte highest.
    #[inline]
    pub const fn bits(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// Whether it is of IPv4.
    #[inline]
    pub const fn is_v4(self) -> bool {
        self.bits() >> 32 == 0xffff
    }

    /// As the standard library's type, IPv4 unmapped.
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.0).to_canonical()
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(ip.octets()),
            IpAddr::V6(ip) => Self::v6(ip.octets()),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address.
    pub addr: Addr,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    /// `ip:port`, or `[ip]:port` for IPv6.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.addr.ip(), self.port).fmt(f)
    }
}

/// To which end of a connection a round trip goes, and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// To the remote end: what the local end sends is timed.
    #[default]
    Remote,
    /// To the local end: what the remote end sends is timed.
    Local,
}

impl Side {
    /// Its name in tags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Local => "local",
        }
    }
}

/// What names a flow: its two ends, the interface it was seen on, and which end it measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// The end on this side of the interface.
    pub local: Endpoint,
    /// The end beyond it.
    pub remote: Endpoint,
    /// Interface index; 0 for captures that do not tell.
    pub ifindex: u32,
    /// The end that acknowledges; the other sends what this flow times.
    pub side: Side,
}

impl Hash for FlowKey {
    /// Five words instead of forty bytes, for maps by flow; the flow table hashes its own, shorter key.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_ne_bytes(self.local.addr.0));
        state.write_u128(u128::from_ne_bytes(self.remote.addr.0));
        let ports = u64::from(self.local.port) << 16 | u64::from(self.remote.port);
        // Indices are far below 2^31.
        let interface = u64::from(self.ifindex) ^ (self.side as u64) << 31;
        state.write_u64(ports << 32 | interface);
    }
}

impl FlowKey {
    /// The same connection, with the other end on this side of the interface.
    pub(crate) fn mirrored(self) -> Self {
        Self { local: self.remote, remote: self.local, ..self }
    }
}

/// How a segment follows on what the source has handed over of its flow before: per-flow sampling leaves segments out
/// by design ([`Bits::RESYNC`], [`Bits::UNTIMED`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// Nothing was left out.
    Whole,
    /// Of a segment that is timed: others were left out before it, and it is new. Of one that acknowledges: nothing was
    /// left out since what it acknowledges, and nothing is any more.
    Resumes,
    /// Others were left out, and of this one only the flags count.
    FlagsOnly,
}

/// One TCP segment: the engine's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The flow it belongs to.
    pub flow: FlowKey,
    /// Everything else, as the record has it.
    pub header: SegmentHeader,
}

impl Segment {
    /// Among the bits of one that acknowledges, from a source that leaves nothing out and knows the peer's packets
    /// ([`super::EngineConfig::peers_complete`]): the peer sent another right before it that was not captured.
    pub const MISSED_BEFORE: u8 = Bits::RESYNC;

    /// Hands this segment, as the remote side sees it, to `sink`: once for each of `sides` to which it tells something.
    #[inline]
    pub fn for_each_side(&self, sides: Sides, sink: &mut impl FnMut(&Self)) {
        // The source has seen to it that what it hands on tells something.
        if sides == Sides::REMOTE {
            return sink(self);
        }
        let (direction, flags, len) = (self.direction(), self.header.flags, self.header.payload.len());
        if sides.contains(Sides::REMOTE) && is_relevant(Sides::REMOTE, direction, flags, len) {
            sink(self);
        }
        if is_relevant(Sides::LOCAL, direction, flags, len) {
            let bits = Bits(self.header.bits.0 ^ Bits::EGRESS);
            sink(&Self {
                flow: FlowKey { side: Side::Local, ..self.flow },
                header: SegmentHeader { bits, ..self.header },
            });
        }
    }

    /// When it was captured.
    #[inline]
    pub fn time(&self) -> Nanos {
        Nanos(self.header.time_ns)
    }

    /// Which way it went.
    #[inline]
    pub fn direction(&self) -> Direction {
        if self.header.bits.any(Bits::EGRESS) { Direction::Egress } else { Direction::Ingress }
    }

    /// First sequence number.
    #[inline]
    pub fn start(&self) -> SeqNum {
        SeqNum(self.header.seq)
    }

    /// Sequence space it occupies: payload, SYN and FIN.
    #[inline]
    pub fn len(&self) -> u32 {
        self.header.payload.len().wrapping_add(self.header.flags.sequence_space())
    }

    /// Whether it occupies no sequence space.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sequence number after its last.
    #[inline]
    pub fn end(&self) -> SeqNum {
        self.start().plus(self.len())
    }

    /// Whether any of these control bits is set.
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.header.flags.any(flags)
    }

    /// Acknowledgement number, if it carries one.
    #[inline]
    pub fn ack(&self) -> Option<SeqNum> {
        self.has(TcpFlags::ACK).then_some(SeqNum(self.header.ack))
    }

    /// How it follows on what was handed over of its flow before.
    #[inline]
    pub(crate) fn continuity(&self) -> Continuity {
        match self.header.bits {
            bits if bits.any(Bits::UNTIMED) => Continuity::FlagsOnly,
            bits if bits.any(Bits::RESYNC) => Continuity::Resumes,
            _ => Continuity::Whole,
        }
    }

    /// Whether its [continuity](Self::continuity) is [`Continuity::Whole`], in one question.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        !self.header.bits.any(Bits::UNTIMED | Bits::RESYNC)
    }

    /// Whether neither its flags, its SACK blocks nor its window say more of a connection than what it carries and
    /// acknowledges.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        !self.has(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::ECE)
            && !self.header.bits.any(Bits::SACK_ABOVE | Bits::DSACK)
            && self.header.window != 0
    }

    /// As [`Segment::ack`], unless the source has left out what it would have to be compared with.
    #[inline]
    pub(crate) fn timed_ack(&self) -> Option<SeqNum> {
        self.ack().filter(|_| self.continuity() != Continuity::FlagsOnly)
    }

    /// All below was sent before a segment came that acknowledges this: the receiver that has a hole there was sent
    /// what fills it, if not yet in vain.
    pub(crate) fn sent_before(&self, ack: SeqNum) -> SeqNum {
        ack.plus(u32::from(self.header.bits.any(Bits::SACK_ABOVE)))
    }

    /// TSval, if it carries timestamps.
    #[inline]
    pub fn tsval(&self) -> Option<u32> {
        self.header.bits.any(Bits::TIMESTAMPS).then_some(self.header.tsval)
    }

    /// TSecr, if it carries timestamps.
    #[inline]
    pub fn tsecr(&self) -> Option<u32> {
        self.header.bits.any(Bits::TIMESTAMPS).then_some(self.header.tsecr)
    }
}

impl From<&SegmentV4> for Segment {
    #[inline]
    fn from(record: &SegmentV4) -> Self {
        Self { flow: flow(&record.header, Addr::v4(record.local), Addr::v4(record.remote)), header: record.header }
    }
}

impl From<&SegmentV6> for Segment {
    #[inline]
    fn from(record: &SegmentV6) -> Self {
        Self { flow: flow(&record.header, Addr::v6(record.local), Addr::v6(record.remote)), header: record.header }
    }
}

#[inline]
fn flow(header: &SegmentHeader, local: Addr, remote: Addr) -> FlowKey {
    FlowKey {
        local: Endpoint { addr: local, port: header.local_port },
        remote: Endpoint { addr: remote, port: header.remote_port },
        ifindex: header.ifindex,
        side: Side::Remote,
    }
}
