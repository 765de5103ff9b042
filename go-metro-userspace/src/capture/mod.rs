//! Sources of segment records: the kernel's classifier, live libpcap, capture files.
//!
//! Each yields [`Segment`](go_metro_rtt::Segment)s, already of the configured targets and already told apart into
//! ingress and egress, and keeps its own [`SourceCounters`]. What comes after is the same for all.

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
pub(crate) mod recorded;
mod segmentation;
mod source;
mod trouble;
mod turns;

use std::collections::BTreeMap;

use go_metro_common::segment::Sides;
use go_metro_rtt::FlowKey;
use ipnet::IpNet;

use crate::config::{IngressHook, Thinning};

pub use clock::Jump;
pub use error::CaptureError;
pub use source::{Handover, Source};

pub use crate::metrics::{SourceCounters, Unread};

/// What is known of the segments that come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Continuity {
    /// Others may be missing before them.
    pub is_gap: bool,
    /// Others may be missing among them.
    pub is_doubtful: bool,
    /// A flow whose segments do not come in their order here: nothing before this is to be compared with what comes.
    pub late: Option<FlowKey>,
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
    /// Whether the other end's responses are timed, so that the first payload after an acknowledgement alone must not
    /// be left in the kernel as a repetition of it (eBPF).
    pub responses: bool,
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
