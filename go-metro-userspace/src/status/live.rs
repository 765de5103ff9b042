//! What a watched daemon tells each second: the flows that measured something, how connections did, and its counters.
//!
//! It is for `go-metro top` of the same version; the document of [`super::document`] is the one that others may rely
//! on.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use go_metro_rtt::{PairSummary, PeerHealth};

/// One second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Live {
    /// The version of the program that tells it.
    pub program: String,
    /// The end of the second, in nanoseconds since the epoch.
    pub at_ns: u64,
    /// How long it was, in seconds.
    pub interval_s: f64,
    /// `ebpf` or `pcap`.
    pub backend: String,
    /// The interfaces that capture runs on.
    pub interfaces: Vec<String>,
    /// Counters since the daemon started.
    pub counters: Counters,
    /// Flows that measured something.
    pub flows: Vec<LiveFlow>,
    /// Pairs of hosts of whose connections something was counted.
    pub pairs: Vec<LivePair>,
    /// The same of those that have no pair of their own.
    pub other: PeerHealth,
}

/// Counters since the daemon started, but for `flows`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Packets at the hooks.
    pub packets: u64,
    /// Records that reached the engine.
    pub records: u64,
    /// Records or packets lost because a buffer was full.
    pub lost: u64,
    /// Packets that could not be parsed.
    pub unparsable: u64,
    /// Samples.
    pub samples: u64,
    /// Acknowledgements that measured nothing.
    pub rejected: u64,
    /// Retransmissions seen.
    pub retransmissions: u64,
    /// Flows now.
    pub flows: u64,
    /// Flows evicted to make room.
    pub evicted: u64,
    /// Samples of flows that are not told one by one, because there are too many.
    pub left_out: u64,
}

/// One flow in one second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LiveFlow {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// What the other end is called, or its address.
    pub name: String,
    /// The group that the other end is in, where hosts are grouped.
    #[serde(default)]
    pub group: Option<String>,
    /// The port of its service, where connections are told apart by it.
    #[serde(default)]
    pub service: Option<u16>,
    /// On which interface.
    pub iface: String,
    /// Whether it is the way to the local end that was timed.
    pub to_local: bool,
    /// What was measured.
    pub summary: PairSummary,
}

/// One pair of hosts in one second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LivePair {
    /// This end.
    pub local: IpAddr,
    /// The other end.
    pub remote: IpAddr,
    /// What the other end is called, or its address.
    pub name: String,
    /// The group that the other end is in, where hosts are grouped.
    #[serde(default)]
    pub group: Option<String>,
    /// The port of its service, where connections are told apart by it.
    #[serde(default)]
    pub service: Option<u16>,
    /// On which interface.
    pub iface: String,
    /// Whether it is the remote end that sends what is counted.
    pub to_local: bool,
    /// What was counted of its connections.
    pub health: PeerHealth,
}
