//! Sources of segment records: the kernel's classifier, live libpcap, capture files.
//!
//! Each yields [`Segment`]s, already of the configured targets and already told apart into ingress and egress, and
//! keeps its own [`SourceCounters`]. What comes after is the same for all.

mod clock;
mod copies;
pub mod decode;
pub mod ebpf;
pub mod error;
pub mod file;
pub mod interfaces;
#[cfg_attr(not(feature = "pcap"), path = "without_pcap.rs")]
pub mod pcap;
mod prefixes;
mod source;
mod trouble;
mod turns;

use std::collections::BTreeMap;

use go_metro_common::counters::Unparsable;
use go_metro_common::segment::Sides;
use ipnet::IpNet;

use crate::config::{IngressHook, Thinning};

pub use clock::Jump;
pub use error::CaptureError;
pub use source::{Handover, Source};

/// What is known of the segments that come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Continuity {
    /// Others may be missing before them.
    pub is_gap: bool,
    /// Others may be missing among them.
    pub is_doubtful: bool,
}

impl Continuity {
    /// Of several sources together.
    fn and(self, other: Self) -> Self {
        Self { is_gap: self.is_gap || other.is_gap, is_doubtful: self.is_doubtful || other.is_doubtful }
    }
}

/// Which remote addresses each interface is to watch: what `interface` says (a name, a pattern and so on, see
/// [`Selector`](crate::config::Selector)) to prefixes (an address is a full-length prefix).
pub type WatchList = BTreeMap<String, Vec<IpNet>>;

/// What a live source needs to know to open.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Interfaces and what to watch on each.
    pub watch: WatchList,
    /// Bytes of the kernel's buffers: of eBPF's rings together, each rounded up to a power of two of at least one page,
    /// or of each of libpcap's handles, at least 512 KiB.
    pub ring_bytes: u32,
    /// Rings that the flows are shared out to (eBPF), each for a thread of its own; libpcap has one buffer.
    pub workers: u32,
    /// Bytes of each packet to capture (libpcap).
    pub snaplen: u32,
    /// A filter in libpcap's language that packets must pass as well (libpcap only).
    pub filter: Option<String>,
    /// Which round trips to measure.
    pub sides: Sides,
    /// Where the classifier sees what comes in (eBPF).
    pub ingress: IngressHook,
    /// Which samples are not taken (eBPF); libpcap takes all.
    pub thinning: Thinning,
    /// Which interfaces are a host's end of another machine's link, where the configuration says; elsewhere the kernel
    /// is asked.
    pub host_ends: BTreeMap<String, bool>,
}

/// What a source has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounters {
    /// Packets looked at.
    pub seen: u64,
    /// Packets that are no TCP, not of a target, or tell nothing about round-trip time.
    pub passed_over: u64,
    /// Segments of a target that tell something about round-trip time.
    pub matched: u64,
    /// Records handed to the engine: one for each end of a segment that is watched.
    pub records: u64,
    /// Of the records, those that are the second of one segment, which is watched at both ends. So matched + second
    /// sides = records + repeats + thinned + lost.
    pub second_sides: u64,
    /// Of the matched, those that would only have repeated the flow's last acknowledgement and were left in the kernel.
    pub repeats: u64,
    /// Of the matched, those that were left in the kernel because their flow is thinned.
    pub thinned: u64,
    /// Records or packets lost because a buffer was full, or thrown away because a clock jumped while they waited in
    /// it.
    pub lost: u64,
    /// IP fragments other than the first.
    pub fragments: u64,
    /// Frames that were captured before, as a mirror port gives (capture files).
    pub copies: u64,
    /// Frames of flows that were captured at two places that cannot be told apart (capture files).
    pub mixed: u64,
    /// Packets of a tunnel that was not looked into: GRE, IP in IP, VXLAN, GENEVE, GTP-U, MPLS, or IPv4 with an
    /// Authentication Header.
    pub encapsulated: u64,
    /// Unparsable packets, by cause.
    pub unparsable: [u64; Unparsable::COUNT],
    /// Frames that may carry TCP but cannot be measured, by reason (capture files).
    pub unread: [u64; Unread::COUNT],
}

/// Why a frame of a capture file cannot be measured, whatever it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Its link type is not known.
    LinkType,
    /// The file does not describe its interface.
    Interface,
    /// It has no time, as those of pcapng's Simple Packet Blocks.
    NoTime,
    /// It is encrypted at the link layer (IEEE 802.11).
    Encrypted,
    /// Its frame check sequence is wrong (IEEE 802.11).
    Damaged,
    /// It is in ESP, bare or in UDP.
    Esp,
    /// It is in MACsec, encrypted.
    MacSec,
    /// It is in a tunnel over DTLS.
    Dtls,
    /// It is in PPP that is compressed, encrypted or split over several links.
    Ppp,
    /// It is in L2TPv3, whose headers only the two ends know.
    L2tpV3,
    /// It is in IPComp.
    IpComp,
    /// It is in CAPWAP.
    Capwap,
    /// It is in TRILL or FabricPath.
    Trill,
    /// It is in Cisco MetaData.
    CiscoMetaData,
    /// It is in B.A.T.M.A.N.
    Batman,
    /// It is in GRE of a kind that is not read.
    Gre,
    /// It is in a tunnel, behind a protocol that is not read.
    Payload,
}

impl Unread {
    /// How many reasons there are.
    pub const COUNT: usize = 17;
    /// Every reason, in the order of its index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::LinkType,
        Self::Interface,
        Self::NoTime,
        Self::Encrypted,
        Self::Damaged,
        Self::Esp,
        Self::MacSec,
        Self::Dtls,
        Self::Ppp,
        Self::L2tpV3,
        Self::IpComp,
        Self::Capwap,
        Self::Trill,
        Self::CiscoMetaData,
        Self::Batman,
        Self::Gre,
        Self::Payload,
    ];
}

impl SourceCounters {
    /// Counts a frame that cannot be measured.
    fn count_unread(&mut self, reason: Unread) {
        self.seen += 1;
        self.unread[reason as usize] += 1;
    }

    /// Counts a decoded packet as matched or passed over; `records_before` were there before it.
    fn count_packet(&mut self, records_before: u64) {
        if self.records > records_before {
            self.matched += 1;
        } else {
            self.passed_over += 1;
        }
    }

    /// Adds another source's counters to these.
    pub fn add(&mut self, other: &Self) {
        self.seen += other.seen;
        self.passed_over += other.passed_over;
        self.matched += other.matched;
        self.records += other.records;
        self.second_sides += other.second_sides;
        self.repeats += other.repeats;
        self.thinned += other.thinned;
        self.lost += other.lost;
        self.fragments += other.fragments;
        self.copies += other.copies;
        self.mixed += other.mixed;
        self.encapsulated += other.encapsulated;
        for (mine, theirs) in self.unparsable.iter_mut().zip(&other.unparsable) {
            *mine += theirs;
        }
        for (mine, theirs) in self.unread.iter_mut().zip(&other.unread) {
            *mine += theirs;
        }
    }
}

/// Which way a segment goes, as its local end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the local end.
    Sent,
    /// To the local end.
    Received,
}

impl Way {
    /// As messages have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// An interface that capture runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// What sees its packets: `tcx`, `clsact` or `libpcap`, and its order if that is not the usual one.
    pub hook: String,
    /// Whether it is this host's end of another machine's link.
    pub host_end: bool,
}

/// Something that happened to an interface since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceEvent {
    /// Capture runs on it (again), under this interface index.
    Attached {
        /// Its name.
        name: String,
        /// Its index, new each time it is created.
        ifindex: u32,
    },
    /// Capture on it pauses for a moment: what is outstanding there must not meet what comes afterwards.
    Turned {
        /// Its name.
        name: String,
        /// Its index.
        ifindex: u32,
    },
    /// It went away; the source waits for it.
    Lost {
        /// Its name.
        name: String,
        /// The index it had.
        ifindex: u32,
    },
}
