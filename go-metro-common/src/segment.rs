//! The segment record: what one TCP segment tells about round-trip time, in fixed layout.
//!
//! The classifier builds it in place in the ring buffer; the pcap decoder builds the same value from
//! bytes. All integers are in host byte order, addresses in network byte order.
//!
//! There are two sizes, told apart by the length of the ring buffer's item and by [`Bits::IPV6`]:
//! [`SegmentV4`] (48 bytes) and [`SegmentV6`] (72 bytes). Neither has padding, so no kernel memory
//! can leak through one.

use core::fmt;

/// The part that both families share: 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentHeader {
    /// When the segment passed the hook, or will leave the queue if later, in nanoseconds.
    ///
    /// Monotonic (`CLOCK_MONOTONIC`) from eBPF, since the epoch from a capture.
    pub time_ns: u64,
    /// Sequence number (RFC 9293 section 3.1).
    pub seq: u32,
    /// Acknowledgement number; meaningful only with [`TcpFlags::ACK`].
    pub ack: u32,
    /// TSval (RFC 7323 section 3.2); meaningful only with [`Bits::TIMESTAMPS`].
    pub tsval: u32,
    /// TSecr (RFC 7323 section 3.2); meaningful only with [`Bits::TIMESTAMPS`].
    pub tsecr: u32,
    /// Payload as the stack sees it: a GSO or GRO super-segment is up to 512 KiB.
    pub payload: Payload,
    /// Index of the interface that the segment passed.
    pub ifindex: u32,
    /// TCP port of the local end.
    pub local_port: u16,
    /// TCP port of the remote end.
    pub remote_port: u16,
    /// Window, unscaled, as on the wire.
    pub window: u16,
    /// Control bits.
    pub flags: TcpFlags,
    /// What else is known: direction, family, options.
    pub bits: Bits,
}

/// Length of a payload, and how many segments it is on the wire: 20 and 12 bits.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub struct Payload(u32);

// One segment has two forms.
impl PartialEq for Payload {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        (self.len(), self.segments()) == (other.len(), other.segments())
    }
}

impl Eq for Payload {}

impl Payload {
    const LEN_BITS: u32 = 20;
    /// The longest that can be told, in bytes: twice what BIG TCP allows (include/linux/netdevice.h,
    /// `GSO_MAX_SIZE`).
    pub const LONGEST: u32 = (1 << Self::LEN_BITS) - 1;
    /// The most segments that can be told.
    pub const MOST_SEGMENTS: u32 = (1 << (u32::BITS - Self::LEN_BITS)) - 1;

    /// This many bytes in one segment, or in nobody knows how many.
    #[inline(always)]
    pub const fn new(len: u32) -> Self {
        Self(if len > Self::LONGEST { Self::LONGEST } else { len })
    }

    /// This many bytes, no more than [`Payload::LONGEST`], in this many segments (`skb_shinfo(skb)->gso_segs`); 0 is
    /// one.
    #[inline(always)]
    pub const fn in_segments(len: u32, segments: u32) -> Self {
        let segments = if segments > Self::MOST_SEGMENTS { Self::MOST_SEGMENTS } else { segments };
        Self(len & Self::LONGEST | segments << Self::LEN_BITS)
    }

    /// Bytes.
    #[inline(always)]
    pub const fn len(self) -> u32 {
        self.0 & Self::LONGEST
    }

    /// Whether there is none.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Segments on the wire, as far as that is known: one otherwise.
    #[inline(always)]
    pub const fn segments(self) -> u32 {
        let segments = self.0 >> Self::LEN_BITS;
        if segments == 0 { 1 } else { segments }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {}", self.len(), self.segments())
    }
}

/// A segment record over IPv4: 48 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentV4 {
    /// All but the addresses.
    pub header: SegmentHeader,
    /// Local address.
    pub local: [u8; 4],
    /// Remote address.
    pub remote: [u8; 4],
}

/// A segment record over IPv6: 72 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentV6 {
    /// All but the addresses.
    pub header: SegmentHeader,
    /// Local address.
    pub local: [u8; 16],
    /// Remote address.
    pub remote: [u8; 16],
}

const _: () = assert!(size_of::<SegmentHeader>() == 40);
const _: () = assert!(size_of::<SegmentV4>() == 48);
const _: () = assert!(size_of::<SegmentV6>() == 72);
const _: () = assert!(align_of::<SegmentV4>() == 8 && align_of::<SegmentV6>() == 8);

/// The control bits of a TCP header, its 14th byte (RFC 9293 section 3.1).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is meaningful.
    pub const ACK: u8 = 0x10;
    /// The network has marked what the sender of this had received: congestion (RFC 3168 section 6.1).
    pub const ECE: u8 = 0x40;

    /// Whether any bit of `mask` is set.
    #[inline(always)]
    pub const fn any(self, mask: u8) -> bool {
        self.0 & mask != 0
    }

    /// Sequence space that SYN and FIN occupy: 0, 1 or 2.
    #[inline(always)]
    pub const fn sequence_space(self) -> u32 {
        (self.0 & Self::FIN) as u32 + ((self.0 & Self::SYN) >> 1) as u32
    }
}

/// Which way a segment passes the interface, seen from the local end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received by the local end.
    Ingress,
    /// Sent by the local end.
    Egress,
}

/// What a record says beside the numbers.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits(pub u8);

impl Bits {
    /// The segment was sent by the local end (egress); else it was received.
    pub const EGRESS: u8 = 1 << 0;
    /// The addresses are IPv6.
    pub const IPV6: u8 = 1 << 1;
    /// A well-formed timestamps option was present.
    pub const TIMESTAMPS: u8 = 1 << 2;
    /// The SACK-permitted option was present (RFC 2018 section 2).
    pub const SACK_PERMITTED: u8 = 1 << 3;
    /// A SACK block lies above the acknowledgement number: the receiver has a hole (RFC 2018 section 3).
    pub const SACK_ABOVE: u8 = 1 << 4;
    /// The first SACK block lies below the acknowledgement number: a D-SACK (RFC 2883 section 4).
    pub const DSACK: u8 = 1 << 5;
    /// Of a segment that is timed: others of its flow were left out before it, so nothing that went before says
    /// anything about it. Of one that acknowledges: nothing was left out since what it acknowledges, and nothing is any
    /// more.
    pub const RESYNC: u8 = 1 << 6;
    /// Others of its flow were left out, and this one says nothing but its flags.
    pub const UNTIMED: u8 = 1 << 7;

    /// Whether any bit of `mask` is set.
    #[inline(always)]
    pub const fn any(self, mask: u8) -> bool {
        self.0 & mask != 0
    }
}

/// Which round trips are measured: from the interface to the remote end and back, to the local end and back, or both.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides(pub u8);

impl Default for Sides {
    fn default() -> Self {
        Self::REMOTE
    }
}

impl Sides {
    /// To the remote end: what the local end sends is timed.
    pub const REMOTE: Self = Self(1 << 0);
    /// To the local end: what the remote end sends is timed. On a host that forwards that is a way through a network as
    /// well.
    pub const LOCAL: Self = Self(1 << 1);
    /// Both.
    pub const BOTH: Self = Self(Self::REMOTE.0 | Self::LOCAL.0);

    /// Whether all of `other` are among these.
    #[inline(always)]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Whether a segment with these flags and payload has anything to say about the round-trip times of these sides.
///
/// Only such segments leave the kernel: for the remote side outbound those that occupy sequence space or reset, inbound
/// those that acknowledge, open, close or reset; for the local side the other way round.
#[inline(always)]
pub const fn is_relevant(sides: Sides, direction: Direction, flags: TcpFlags, payload_len: u32) -> bool {
    let timed = payload_len != 0 || flags.any(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST);
    let acknowledges = flags.any(TcpFlags::ACK | TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST);
    let (as_sent, as_received) = match direction {
        Direction::Egress => (Sides::REMOTE, Sides::LOCAL),
        Direction::Ingress => (Sides::LOCAL, Sides::REMOTE),
    };
    (sides.contains(as_sent) && timed) || (sides.contains(as_received) && acknowledges)
}

#[cfg(test)]
mod tests {
    use super::Payload;

    #[test]
    fn a_payload_says_how_long_it_is_and_in_how_many_segments() {
        let of = |payload: Payload| (payload.len(), payload.segments());
        assert_eq!(of(Payload::new(100)), (100, 1));
        assert_eq!(of(Payload::in_segments(524_280, 362)), (524_280, 362));
        assert_eq!(of(Payload::in_segments(9, u32::from(u16::MAX))), (9, Payload::MOST_SEGMENTS));
        assert_eq!(of(Payload::new(u32::MAX)), (Payload::LONGEST, 1));
        assert_eq!([0, 1].map(|segments| Payload::in_segments(5, segments)), [Payload::new(5); 2]);
        assert_ne!(Payload::in_segments(5, 2), Payload::new(5));
        assert!(Payload::default().is_empty() && !Payload::new(1).is_empty());
    }
}
