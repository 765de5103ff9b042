//! The status document, version 1: fields may be added to it, and keep their meaning.
//!
//! Times are nanoseconds since the epoch, ages and spans seconds, counters since the daemon started.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use go_metro_rtt::PeerHealth;
use serde::{Deserialize, Serialize};

use crate::metrics::Reading;
use crate::metrics::pair::{PEER, PeerMetric};

/// The version that this program writes and understands.
pub(crate) const VERSION: u32 = 1;

/// How a daemon is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// `ok` or `degraded`.
    pub state: State,
    /// Why it is degraded, for people.
    pub problems: Vec<String>,
    /// The process.
    pub program: Program,
    /// Where segments come from.
    pub backend: BackendStatus,
    /// What the kernel can do.
    pub kernel: Kernel,
    /// What the process may do, and what it has given up.
    #[serde(default)]
    pub privileges: PrivilegesStatus,
    /// Every interface that is to be watched.
    pub interfaces: Vec<InterfaceStatus>,
    /// Every instance's targets.
    pub targets: Vec<TargetStatus>,
    /// The ports that are chosen; none for all.
    #[serde(default)]
    pub ports: Vec<String>,
    /// What remote hosts are grouped by, in words; none if they are not.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Flows.
    pub flows: Counts,
    /// How much passes.
    pub rates: Rates,
    /// Packets, by what became of them.
    pub packets: Counts,
    /// What was measured, and what was not.
    pub samples: Counts,
    /// What was lost, by cause.
    pub drops: Counts,
    /// What happened to the daemon from outside.
    pub happened: Counts,
    /// Look-ups of the processes that connections are of (`process_tags`), by what came of them.
    #[serde(default)]
    pub processes: Counts,
    /// What came of outliers and of recording by hand (`record`).
    #[serde(default)]
    pub recorder: Counts,
    /// How connections did, where that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionsStatus>,
    /// The pairs of the last report whose other end took longest for its responses, where those are timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub responses: Option<Vec<ResponseStatus>>,
    /// Where results go.
    pub outputs: Vec<OutputStatus>,
    /// Where browsers find the page, if it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<String>,
    /// The last report, if there was one.
    pub last_report: Option<LastReport>,
    /// The last warnings and errors of the log, oldest first.
    pub errors: Vec<LogMessage>,
}

impl Status {
    /// Whether packets are being captured: on at least one interface, or on all of none (a pattern that matches nothing
    /// yet).
    ///
    /// What becomes of the results does not matter here: a server that is away is no reason to keep a pod out of
    /// service.
    #[must_use]
    pub(crate) fn is_capturing(&self) -> bool {
        self.interfaces.is_empty() || self.interfaces.iter().any(|interface| interface.attached)
    }
}

/// Whether it does all that it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It does.
    Ok,
    /// Something is in its way.
    Degraded,
}

/// The process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_ns: u64,
    /// How long ago that was.
    pub uptime_s: f64,
    /// Its configuration file.
    pub config: Option<String>,
    /// Resident memory.
    pub memory_bytes: u64,
}

/// Where segments come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BackendStatus {
    /// `ebpf` or `pcap`.
    pub name: String,
    /// `auto`, `ebpf` or `pcap`.
    pub wanted: String,
    /// Why it is libpcap although eBPF was tried.
    pub fallback: Option<String>,
}

/// The kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// As `uname -r` has it.
    pub release: String,
    /// What the eBPF source needs or uses.
    pub features: Vec<FeatureStatus>,
}

/// A feature of the kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeatureStatus {
    /// Its name.
    pub name: String,
    /// Whether it can be used.
    pub available: bool,
    /// What that means.
    pub detail: String,
}

/// What the process may do, as the kernel tells it of all its threads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PrivilegesStatus {
    /// Why it gives up nothing, if so.
    pub off: Option<String>,
    /// Whether the kernel cannot be asked, as /proc is not mounted: the three that follow say nothing then.
    #[serde(default)]
    pub unknown: bool,
    /// Capabilities that at least one thread has.
    pub capabilities: Vec<String>,
    /// Whether no thread can gain rights by running a program.
    pub no_new_privs: bool,
    /// Whether the system calls of all threads are filtered.
    pub seccomp: bool,
    /// How far writing and running files is restricted: `full`, `part` of what is meant to be, `off`.
    pub landlock: String,
}

/// One interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Whether capture runs on it; otherwise it is waited for.
    pub attached: bool,
    /// Its index.
    pub ifindex: Option<u32>,
    /// What sees its packets: `tcx`, `clsact` or `libpcap`.
    pub hook: Option<String>,
    /// Its queueing disciplines, as tc(8) names them, the root's first.
    #[serde(default)]
    pub qdisc: Option<String>,
    /// Whether it is this host's end of another machine's link.
    pub host_end: bool,
}

/// What one instance watches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TargetStatus {
    /// On which interface.
    pub interface: String,
    /// False in the off part of a sampling window.
    pub watching: bool,
    /// Configured addresses and prefixes.
    pub prefixes: Vec<String>,
    /// Configured host names.
    pub hosts: Vec<HostStatus>,
    /// Tags of its metrics.
    pub tags: Vec<String>,
}

/// A configured host name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostStatus {
    /// The name.
    pub name: String,
    /// The last good answer.
    pub addresses: Vec<String>,
    /// How old it is; none if there never was one.
    pub age_s: Option<f64>,
    /// Why the last look-up failed, if it did.
    pub error: Option<String>,
}

/// Numbers by name. Which there are is declared in [`crate::metrics`], as `group.field`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counts(BTreeMap<String, Count>);

/// A number, or one for each cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Count {
    /// One.
    One(u64),
    /// By cause, or reason.
    Each(BTreeMap<String, u64>),
}

impl Counts {
    /// The numbers of this group.
    pub(crate) fn of(group: &str, readings: impl Iterator<Item = Reading>) -> Self {
        let mut counts = BTreeMap::new();
        for reading in readings {
            let each = reading.by_label().map(|(label, count)| (label.to_owned(), count));
            match reading.meta.status.split_once('.') {
                Some((its, field)) if its == group => {
                    let is_one = reading.meta.labels.is_empty();
                    let count = if is_one { Count::One(reading.total()) } else { Count::Each(each.collect()) };
                    counts.insert(field.to_owned(), count);
                }
                None if reading.meta.status == group => counts.extend(each.map(|(name, n)| (name, Count::One(n)))),
                _ => {}
            }
        }
        Self(counts)
    }

    /// What was counted of a pair's connections, below the value of the first label where there are labels.
    pub(crate) fn of_peer(health: &PeerHealth) -> Self {
        let count = |metric: &PeerMetric| {
            let mut each = BTreeMap::new();
            for (labels, count) in (metric.values)(health) {
                match labels.first() {
                    None => return (metric.json_name(), Count::One(count)),
                    Some((_, value)) => *each.entry((*value).to_owned()).or_default() += count,
                }
            }
            (metric.json_name(), Count::Each(each))
        };
        Self(PEER.iter().map(count).collect())
    }

    /// The numbers by cause that are not zero, largest first; none of a single number.
    pub(crate) fn each(&self, name: &str) -> Vec<(&str, u64)> {
        let Some(Count::Each(counts)) = self.0.get(name) else { return Vec::new() };
        let mut each: Vec<_> = counts.iter().map(|(cause, count)| (cause.as_str(), *count)).collect();
        each.retain(|(_, count)| *count > 0);
        each.sort_by_key(|(cause, count)| (Reverse(*count), *cause));
        each
    }

    /// The same with another number.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, count: u64) -> Self {
        self.0.insert(name.to_owned(), Count::One(count));
        self
    }

    /// Whether any of them is not 0.
    pub(crate) fn any(&self) -> bool {
        self.0.keys().any(|name| self.get(name) > 0)
    }

    /// A number, the sum of those by cause; 0 from a daemon that does not have it.
    pub(crate) fn get(&self, name: &str) -> u64 {
        match self.0.get(name) {
            Some(Count::One(count)) => *count,
            Some(Count::Each(counts)) => counts.values().sum(),
            None => 0,
        }
    }
}

/// How connections did, up to the last report (docs/health.md).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ConnectionsStatus {
    /// All of them since the daemon started.
    pub total: Counts,
    /// Pairs of hosts of the last report with something sent again or failed, those with most of it first.
    pub peers: Vec<PeerStatus>,
}

/// What one of the last report's pairs of hosts is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PairName {
    /// This end.
    pub src: String,
    /// Whose connections these are on this host, with `process_tags`: a unit or a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The other end, with the port of its service where pairs are split by port.
    pub dst: String,
    /// On which interface.
    pub iface: String,
    /// To which end round trips went, where both sides or the local one are measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<String>,
}

/// How the connections of one pair of hosts did in an interval.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PeerStatus {
    /// Which.
    #[serde(flatten)]
    pub pair: PairName,
    /// What was counted.
    pub counts: Counts,
}

/// How long the other end of a pair of hosts took for its responses in an interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResponseStatus {
    /// Which.
    #[serde(flatten)]
    pub pair: PairName,
    /// How many.
    pub count: u64,
    /// Their median.
    pub p50_ms: f64,
    /// What 19 of 20 took at most.
    pub p95_ms: f64,
}

/// How much passes a second.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Rates {
    /// The time that the rates are of.
    pub over_s: f64,
    /// Packets at the hooks.
    pub packets_per_s: f64,
    /// Records that reach the engine.
    pub records_per_s: f64,
    /// Samples.
    pub samples_per_s: f64,
}

/// Where results go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OutputStatus {
    /// `statsd`, `prometheus`, `json` or `table`.
    pub kind: String,
    /// Address, path or `stdout`.
    pub destination: String,
    /// What could not be sent.
    pub errors: u64,
}

/// A report.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LastReport {
    /// When.
    pub at_ns: u64,
    /// How long ago.
    pub age_s: f64,
    /// The time that it is of.
    pub interval_s: f64,
    /// Host pairs in it.
    pub pairs: u64,
}

/// A line of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogMessage {
    /// When, by the wall clock of that time.
    pub at_ns: u64,
    /// How long ago; none from an older daemon.
    #[serde(default)]
    pub age_s: Option<f64>,
    /// `warning` or `error`.
    pub level: String,
    /// Its text.
    pub text: String,
}
