//! What the classifier counts and keeps, per CPU.
//!
//! The map is an array with a [`PerCpu`] for each processor: the [`Counters`], the state of the processor's ring
//! ([`crate::slot`]) and the classifier's working memory, so that one look-up a packet serves all. Each packet that the
//! classifier sees raises `seen`; what becomes of a TCP segment is one of the others.

use crate::flow::FlowId;
use crate::metric::{Text, Unit, count};

reasons! {
    /// Why a packet could not be made a segment record.
    #[repr(u32)]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Unparsable {
        /// The packet ends inside a header.
        Truncated = "truncated",
        /// An IP header's version or length is impossible (RFC 791 section 3.1, RFC 8200 section 3).
        IpHeader = "ip_header",
        /// The TCP data offset is below 5 or reaches past the packet (RFC 9293 section 3.1).
        TcpHeader = "tcp_header",
        /// A TCP option's length is impossible. The segment is still emitted, with the options before it.
        TcpOption = "tcp_option",
        /// More VLAN tags or IPv6 extension headers than the walk allows.
        TooDeep = "too_deep",
    }
}

impl Unparsable {
    /// The causes that cost a packet its record.
    pub const REFUSED: [Self; 4] = [Self::Truncated, Self::IpHeader, Self::TcpHeader, Self::TooDeep];
}

counters! {
    /// What one CPU counted since the classifier was loaded, or a decoder in user space of the same packets.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Counters {
        /// Packets at the hooks.
        pub seen: u64 = count("packets", Unit::Packet).status("packets.seen", Text::Always("seen")),
        /// Segments of configured targets that are relevant to round-trip time.
        pub matched: u64 = count("segments", Unit::Segment).status("packets.matched", Text::Always("of targets")),
        /// Records of segments that reached the engine.
        pub records: u64 = count("records", Unit::Record).status("packets.records", Text::Absent),
        /// Records (eBPF) or packets (libpcap) lost because a buffer was full.
        pub lost: u64 = count("lost", Unit::Record).bad().status("drops.records", Text::Always("records")),
        /// Segments left in the kernel because they would only have repeated the flow's last acknowledgement.
        pub repeats: u64 = count("repeats", Unit::Segment).status("packets.repeats", Text::Absent),
        /// Segments left in the kernel because their flow is thinned.
        pub thinned: u64 = count("thinned", Unit::Segment).status("packets.thinned", Text::IfAny("thinned")),
        /// IP fragments other than the first, which have no TCP header.
        pub fragments: u64 = count("fragments", Unit::Packet).status("packets.fragments", Text::Absent),
        /// Tunnelled packets, which are not decoded: measure on the inner interface.
        pub encapsulated: u64 =
            count("encapsulated", Unit::Packet).status("packets.encapsulated", Text::IfAny("in tunnels")),
        /// Packets that could not be parsed.
        pub unparsable: [u64; Unparsable::COUNT] = count("unparsable", Unit::Packet)
            .bad()
            .by("cause", names_of!(Unparsable))
            .status("packets.unparsable", Text::Always("unparsable")),
    }
}

impl Counters {
    /// Packets that are not TCP, not of a target, or not relevant to round-trip time: all that no other counter has.
    pub fn passed_over(&self) -> u64 {
        let refused = Unparsable::REFUSED.iter().map(|cause| self.unparsable[*cause as usize]).sum::<u64>();
        self.seen.saturating_sub(self.matched + self.fragments + self.encapsulated + refused)
    }
}

/// Bytes of working memory for TCP options: the longest list is 40 bytes (RFC 9293 section 3.1); the rest lets the
/// verifier see that no read, wherever an option begins, leaves the array.
pub const OPTIONS_LEN: usize = 128;

/// The value of an array that has one for each processor: its ring, counters and working memory.
///
/// What every packet needs is in the first cache line; what the reader writes is far from all that the processor
/// writes, as processors fetch lines in pairs.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug)]
pub struct PerCpu {
    /// Position after the last record that the reader may read ([`crate::slot`]).
    pub head: u64,
    /// [`Self::tail`], as the producer last read it: there is at least as much room as that says.
    pub known_tail: u64,
    /// The first slot of the ring; written by user space before the classifier runs.
    pub base: u32,
    /// Slots of the ring, less one; likewise.
    pub mask: u32,
    /// Bits of [`RingState`].
    pub state: u32,
    /// Bits of [`Everything`]; written by user space.
    pub everything: u32,
    /// What user space reads.
    pub counters: Counters,
    /// Where a walk through TCP options or IPv6 extension headers is. In memory rather than in a register because the
    /// verifier does not track the contents of map values, so every turn of the loop looks the same to it and is
    /// checked once.
    pub position: u32,
    /// Which extension header comes next, for the same reason.
    pub next: u32,
    /// The packet's flow, where it is a map's key. In memory so that the verifier need not follow what it is made of.
    pub flow: FlowId,
    /// TCP options that are not in the usual place are copied here: kernels before 5.12 have no variable-offset reads
    /// of the stack.
    pub options: [u8; OPTIONS_LEN],
    /// Position up to which the reader has read. Nothing else is in its pair of lines.
    pub tail: Tail,
}

/// A position that user space writes.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug)]
pub struct Tail(pub u64);

/// What [`PerCpu::everything`] says: of which families every address is a target on every interface, so that none need
/// be looked up.
pub struct Everything;

impl Everything {
    /// IPv4.
    pub const V4: u32 = 1 << 0;
    /// IPv6.
    pub const V6: u32 = 1 << 1;
}

/// What [`PerCpu::state`] says.
pub struct RingState;

impl RingState {
    /// A record is being written.
    pub const BUSY: u32 = 1 << 0;
    /// Records were lost since the last one that was written.
    pub const AFTER_LOSS: u32 = 1 << 1;
}

const _: () = assert!(core::mem::offset_of!(PerCpu, counters) == 32);
const _: () = assert!(size_of::<PerCpu>() == 512);

// SAFETY: `repr(C)` of `u64`s only: no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Counters {}
// SAFETY: `repr(C)` of integers; user space reads and writes only fields, and padding has no meaning.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PerCpu {}
