//! Everything that the daemon counts, and what it is called: each counter and each metric is declared here once.
//!
//! What holds the numbers: [`SourceCounters`] of a source, with the classifier's [`Counters`] in it;
//! [`EngineCounters`]; [`Events`] of the daemon; and [`Health`], all of them together. [`readings`] pairs every number
//! with its declaration ([`Meta`]): outputs and `status` iterate over it. [`pair`] has the metrics of a host pair.

pub mod listing;
pub mod pair;

use go_metro_common::counters::Counters;
use go_metro_common::metric::{Json, Meta, Metric, Text, Unit, count, gauge, internal};
use go_metro_common::{counters, names_of, reasons};

use go_metro_rtt::{EngineCounters, Quiet, Rejection};

/// In front of each name in DogStatsD.
const DOGSTATSD_PREFIX: &str = "go_metro.";
/// In front of each name in Prometheus.
const PROMETHEUS_PREFIX: &str = "go_metro_";

counters! {
    /// What a source has counted since it was opened. matched + second sides = records + repeats + thinned + lost.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SourceCounters {
        /// What the classifier counts too; [`Counters::METRICS`] are its metrics.
        pub packets: Counters,
        /// Packets that are not TCP, not of a target, or not relevant to round-trip time.
        pub passed_over: u64 = internal("passed_over", Unit::Packet)
            .json(Json::Absent)
            .status("packets.passed_over", Text::Absent),
        /// Second records of segments that are measured for both sides (`sides: both`).
        pub second_sides: u64 =
            internal("second_sides", Unit::Record).status("packets.second_sides", Text::Absent),
        /// Records that arrived after newer ones from other processors; no round trip is timed across them.
        pub late: u64 = count("late", Unit::Record).status("packets.late", Text::IfAny("late")),
        /// Frames that were captured before, as a mirror port gives (capture files).
        pub copies: u64,
        /// Frames of flows that were captured at two places that cannot be told apart (capture files).
        pub mixed: u64,
        /// Frames that may carry TCP but cannot be measured, by reason (capture files).
        pub unread: [u64; Unread::COUNT],
    }
}

impl SourceCounters {
    /// Counts a frame that cannot be measured.
    pub(crate) fn count_unread(&mut self, reason: Unread) {
        self.packets.seen += 1;
        self.unread[reason as usize] += 1;
    }

    /// Counts a decoded packet as matched or passed over; `records_before` were there before it.
    pub fn count_packet(&mut self, records_before: u64) {
        if self.packets.records > records_before {
            self.packets.matched += 1;
        } else {
            self.passed_over += 1;
        }
    }
}

reasons! {
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
}

/// Of the engine, in the order in which they are shown.
const ENGINE: &[Metric<EngineCounters>] = &[
    Metric {
        meta: internal("other_ports", Unit::Record)
            .help("Records of ports other than the configured ones.")
            .status("packets.other_ports", Text::IfAny("of other ports")),
        value: |engine, _| engine.other_ports,
    },
    Metric { meta: internal("sent", Unit::Segment).help("Outbound segments tracked."), value: |engine, _| engine.sent },
    Metric {
        meta: count("retransmissions", Unit::Segment).bad().help("Retransmissions seen."),
        value: |engine, _| engine.retransmissions,
    },
    Metric {
        meta: count("samples", Unit::Sample)
            .help("RTT samples.")
            .by("kind", &["data", "connect"])
            .json(Json::Total)
            .status("samples", Text::Labels),
        value: |engine, kind| engine.samples[kind],
    },
    Metric {
        meta: count("samples.delayed", Unit::Sample)
            .help("Samples that took as long as a delayed ACK of their flow.")
            .json(Json::Named("delayed"))
            .status("samples.delayed", Text::Absent),
        value: |engine, _| engine.delayed,
    },
    Metric {
        meta: count("rejected", Unit::Segment)
            .bad()
            .help("Acknowledgements of new data that gave no sample.")
            .by("reason", names_of!(Rejection))
            .status("samples.rejected", Text::Always("acknowledgements rejected")),
        value: |engine, reason| engine.rejected[reason],
    },
    Metric {
        meta: internal("quiet", Unit::Segment)
            .help("Inbound segments that could not give a sample.")
            .by("reason", names_of!(Quiet)),
        value: |engine, reason| engine.quiet[reason],
    },
    Metric {
        meta: internal("flows_begun", Unit::Connection)
            .help("Flows started.")
            .json(Json::Absent)
            .status("flows.begun", Text::Always("begun")),
        value: |engine, _| engine.flows_begun,
    },
    Metric {
        meta: internal("flows_closed", Unit::Connection)
            .help("Flows that ended after a close or reset.")
            .json(Json::Absent)
            .status("flows.closed", Text::Always("closed")),
        value: |engine, _| engine.flows_closed,
    },
    Metric {
        meta: internal("flows_idle", Unit::Connection)
            .help("Flows that ended because they were idle.")
            .json(Json::Absent)
            .status("flows.idle", Text::Always("idle")),
        value: |engine, _| engine.flows_idle,
    },
    Metric {
        meta: count("flows.evicted", Unit::Eviction)
            .bad()
            .help("Flows dropped because there were more than `max_flows`.")
            .status("drops.flows_evicted", Text::Always("flows evicted")),
        value: |engine, _| engine.flows_evicted,
    },
    Metric {
        meta: internal("process_lookups_postponed", Unit::Connection)
            .help("Connections whose process was looked up later, because too many were waiting (`process_tags`).")
            .json(Json::Absent)
            .status("processes.postponed", Text::IfAny("postponed")),
        value: |engine, _| engine.labels_postponed,
    },
    Metric {
        meta: internal("outstanding", Unit::Segment)
            .help("Transmissions not tracked, because all flows together had too many outstanding.")
            .json(Json::Absent)
            .status("drops.outstanding", Text::Always("outstanding")),
        value: |engine, _| engine.pool_full,
    },
];

counters! {
    /// What happened to the daemon from outside, since it started; how often.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Events {
        /// Times that an interface watched by name disappeared.
        pub interfaces_lost: u64 = count("interfaces.lost", Unit::Event)
            .bad()
            .status("happened.interfaces_lost", Text::Absent),
        /// Failed look-ups of configured host names.
        pub dns_failures: u64 =
            count("dns_failures", Unit::Error).bad().status("happened.dns_failures", Text::Absent),
        /// Times that the wall clock was set or the host was suspended.
        pub clock_jumps: u64 =
            count("clock_jumps", Unit::Event).bad().status("happened.clock_jumps", Text::Absent),
        /// Intervals in which records were lost or left out by sampling, or flows were dropped.
        pub intervals_incomplete: u64 =
            count("intervals_incomplete", Unit::Event).bad().status("happened.intervals_incomplete", Text::Absent),
        /// Reloads of the configuration that were applied.
        pub reloads: u64 = internal("reloads", Unit::Event).status("happened.reloads", Text::Absent),
        /// Reloads of the configuration that were refused.
        pub reloads_refused: u64 =
            internal("reloads_refused", Unit::Event).status("happened.reloads_refused", Text::Absent),
        /// Lines of the log that could not be written.
        pub log_lines_lost: u64 =
            count("log_lines_lost", Unit::Message).bad().status("happened.log_lines_lost", Text::Absent),
        /// Notifications to the service manager that it did not take.
        pub notifications_lost: u64 = internal("notifications_lost", Unit::Message)
            .json(Json::Absent)
            .status("happened.notifications_lost", Text::Absent),
        /// Connections to the socket, the metrics port or the page that were closed to make room for newer ones.
        pub clients_closed: u64 = internal("clients_closed", Unit::Connection)
            .json(Json::Absent)
            .status("happened.clients_closed", Text::IfAny("clients' connections closed to make room")),
    }
}

reasons! {
    /// What came of looking up the process that a connection is of.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Lookup {
        /// Its socket is this host's.
        Found = "found",
        /// It is forwarded: no socket here.
        Forwarded = "forwarded",
        /// It was over before, or its addresses are translated here.
        Unknown = "unknown",
    }
}

reasons! {
    /// What came of an outlier, or of recording by hand.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Recorded {
        /// A recording was made.
        Written = "written",
        /// It could not be written.
        Failed = "failed",
        /// There was one of its pair shortly before, or too many at once.
        Skipped = "skipped",
        /// There were no records of it: those of an outlier had left the memory, or nothing passed while somebody
        /// recorded by hand.
        Empty = "empty",
    }
}

/// How the daemon itself is doing: its counters since it started, and what is as of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The source's.
    pub source: SourceCounters,
    /// The engine's.
    pub engine: EngineCounters,
    /// Flows now.
    pub flows: u64,
    /// Samples folded into `dst:other`.
    pub folded_samples: u64,
    /// Samples not printed.
    pub samples_dropped: u64,
    /// Resident memory now, in bytes.
    pub memory_bytes: u64,
    /// Interfaces that capture runs on now.
    pub interfaces: u64,
    /// What the outputs could not send; in a report, up to the one before it.
    pub send_errors: u64,
    /// Data points not delivered over OTLP; in a report, up to the one before it.
    pub otlp_lost: u64,
    /// Connections whose processes were looked up, indexed by [`Lookup`].
    pub process_lookups: [u64; Lookup::COUNT],
    /// What came of outliers and of recording by hand, indexed by [`Recorded`].
    pub recordings: [u64; Recorded::COUNT],
    /// Records in recordings.
    pub recorded: u64,
    /// What happened to the daemon.
    pub happened: Events,
}

/// Of the daemon itself.
const HEALTH: &[Metric<Health>] = &[
    Metric {
        meta: count("samples.folded", Unit::Sample)
            .bad()
            .help("Samples folded into `dst:other` because there were more than `max_pairs` host pairs.")
            .json(Json::Named("folded_samples"))
            .status("drops.samples_folded", Text::Always("samples folded")),
        value: |health, _| health.folded_samples,
    },
    Metric {
        meta: internal("dropped_samples", Unit::Sample)
            .help("Samples not printed because the reader was too slow.")
            .status("drops.samples_not_printed", Text::Absent),
        value: |health, _| health.samples_dropped,
    },
    Metric {
        meta: count("send_errors", Unit::Error)
            .bad()
            .help(
                "Datagrams that could not be sent to the DogStatsD server, lines too long for one, and reports that \
                 could not be printed.",
            )
            .json(Json::Absent)
            .status("drops.send_errors", Text::Always("not sent")),
        value: |health, _| health.send_errors,
    },
    Metric {
        meta: count("otlp_lost", Unit::Item)
            .bad()
            .help("Data points that no OTLP receiver accepted.")
            .json(Json::Absent)
            .status("drops.otlp_lost", Text::IfAny("data points not accepted over OTLP")),
        value: |health, _| health.otlp_lost,
    },
    Metric {
        meta: count("process_lookups", Unit::Connection)
            .help("Connections whose process was looked up (`process_tags`); unknown for those that had ended.")
            .by("result", names_of!(Lookup))
            .status("processes", Text::Labels),
        value: |health, result| health.process_lookups[result],
    },
    Metric {
        meta: count("recordings", Unit::Event)
            .help("Outliers, and recordings on request (`record`).")
            .by("result", names_of!(Recorded))
            .status("recorder", Text::Labels),
        value: |health, result| health.recordings[result],
    },
    Metric {
        meta: count("recordings.records", Unit::Record)
            .help("Records in recordings.")
            .json(Json::Absent)
            .status("recorder.records", Text::Always("records")),
        value: |health, _| health.recorded,
    },
    Metric {
        meta: count("reloads", Unit::Event)
            .help("Requested reloads of the configuration.")
            .by("result", &["done", "refused"])
            .json(Json::Absent),
        value: |health, result| [health.happened.reloads, health.happened.reloads_refused][result],
    },
    Metric {
        meta: gauge("flows", Unit::Connection).help("TCP flows tracked now.").status("flows.now", Text::Absent),
        value: |health, _| health.flows,
    },
    Metric {
        meta: gauge("interfaces", Unit::Device).help("Interfaces that capture runs on now."),
        value: |health, _| health.interfaces,
    },
    Metric {
        meta: gauge("memory", Unit::Byte)
            .bad()
            .help("Resident memory of the daemon.")
            .json(Json::Named("memory_bytes"))
            .unknown_at_zero(),
        value: |health, _| health.memory_bytes,
    },
];

/// Numbers that only Prometheus and OTLP show: how many pairs they have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scraped {
    /// Host pairs kept apart.
    pub pairs: u64,
    /// Host pairs that were forgotten.
    pub expired: u64,
}

impl Scraped {
    /// Their metrics.
    pub const METRICS: &'static [Metric<Self>] = &[
        Metric {
            meta: gauge("pairs", Unit::Connection).help("Host pairs reported separately."),
            value: |scraped, _| scraped.pairs,
        },
        Metric {
            meta: count("pairs_expired", Unit::Event).help("Host pairs dropped because they were idle."),
            value: |scraped, _| scraped.expired,
        },
    ];
}

/// Prometheus's metric about the build: name without its suffix, help, labels.
pub const BUILD: (&str, &str, &str) = ("go_metro_build", "Version and backend in use", "version, backend");

/// A declared number and its value, or its values by label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What it is.
    pub meta: &'static Meta,
    /// One for each label; one where there is no label.
    pub values: Vec<u64>,
}

impl Reading {
    /// Each label and its value.
    pub fn by_label(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.meta.labels.iter().copied().zip(self.values.iter().copied())
    }

    /// All labels together.
    pub fn total(&self) -> u64 {
        self.values.iter().sum()
    }
}

/// Reads the values of `metrics` from what holds them.
pub fn read<S>(metrics: &'static [Metric<S>], from: &S) -> impl Iterator<Item = Reading> {
    metrics.iter().map(move |Metric { meta, value }| Reading {
        meta,
        values: (0..meta.labels.len().max(1)).map(|index| value(from, index)).collect(),
    })
}

/// Every number of the daemon's own.
pub fn readings(health: &Health) -> impl Iterator<Item = Reading> {
    read(Counters::METRICS, &health.source.packets)
        .chain(read(SourceCounters::METRICS, &health.source))
        .chain(read(ENGINE, &health.engine))
        .chain(read(HEALTH, health))
        .chain(read(Events::METRICS, &health.happened))
}

/// Every declaration of the daemon's own numbers.
pub fn declared() -> impl Iterator<Item = &'static Meta> {
    let of_source = Counters::METRICS.iter().map(|metric| &metric.meta);
    of_source
        .chain(SourceCounters::METRICS.iter().map(|metric| &metric.meta))
        .chain(ENGINE.iter().map(|metric| &metric.meta))
        .chain(HEALTH.iter().map(|metric| &metric.meta))
        .chain(Events::METRICS.iter().map(|metric| &metric.meta))
}

/// What DogStatsD calls it.
pub fn dogstatsd_name(meta: &Meta) -> String {
    format!("{DOGSTATSD_PREFIX}{}", meta.name)
}

/// What OpenTelemetry calls it.
pub fn otlp_name(meta: &Meta) -> String {
    dogstatsd_name(meta)
}

/// What Prometheus calls it, without the end that says unit or kind.
pub fn prometheus_name(meta: &Meta) -> String {
    format!("{PROMETHEUS_PREFIX}{}", flat(meta))
}

/// What JSON lines call it, if they have it.
pub fn json_name(meta: &Meta) -> Option<String> {
    match meta.json {
        Json::Absent => None,
        Json::Usual | Json::Total => Some(flat(meta)),
        Json::Named(name) => Some(name.to_owned()),
    }
}

fn flat(meta: &Meta) -> String {
    meta.name.replace('.', "_")
}
