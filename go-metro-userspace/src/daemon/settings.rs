//! From the configuration to what source, engine and summaries take.

use std::collections::BTreeMap;
use std::time::Duration;

use go_metro_rtt::{EngineConfig, Grouping, HealthLimits, Ports, Rtt, Side, SummaryLimits};

use super::directory::{self, Directory};
use crate::capture::SourceSettings;
use crate::config::{Config, DelayedAcks, MetricName, SidesWanted};

pub(super) fn source_settings(config: &Config, directory: &Directory) -> SourceSettings {
    SourceSettings {
        watch: directory.watch_list(),
        ring_bytes: config.ring_size,
        snaplen: config.snaplen,
        filter: config.narrowing_filter().map(str::to_owned),
        sides: config.sides.into(),
        ingress: config.ingress_hook,
        thinning: config.sampling,
        host_ends: host_ends(config),
        responses: config.wants(MetricName::Response),
    }
}

/// What the configuration says of interfaces' ends.
pub(super) fn host_ends(config: &Config) -> BTreeMap<String, bool> {
    directory::live(config).filter_map(|instance| Some((instance.interface.clone(), instance.host_end?))).collect()
}

/// What a flow sends that is first seen in the middle, or first since records were lost, may be a retransmission for
/// about as long as a retransmission timeout is at least (RFC 6298 section 2.4).
const SETTLES_AFTER: Duration = Duration::from_secs(1);

/// What is kept of records, and which samples are outliers; of all meters together, or of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordLimits {
    /// Bytes for records; none to keep none.
    pub(super) memory: Option<usize>,
    /// A sample of at least this is an outlier.
    pub(super) threshold: Option<Rtt>,
    /// So is one of at least so many times its pair's lowest,
    pub(super) times_base: Option<u32>,
    /// if it is no shorter than this.
    pub(super) at_least: Rtt,
    /// Most pairs whose lowest is kept.
    pub(super) max_pairs: usize,
}

impl Default for RecordLimits {
    /// Nothing is kept.
    fn default() -> Self {
        Self { memory: None, threshold: None, times_base: None, at_least: Rtt(0), max_pairs: 0 }
    }
}

impl RecordLimits {
    /// One of so many meters' share.
    pub(super) fn share(self, workers: u32) -> Self {
        Self { memory: self.memory.map(|bytes| bytes / workers.max(1) as usize), ..self }
    }

    /// Whether a sample can be an outlier.
    pub(super) fn has_outliers(&self) -> bool {
        self.threshold.is_some() || self.times_base.is_some()
    }
}

/// What engines and summaries take; all meters' together, or one's.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// The engine's.
    pub(super) engine: EngineConfig,
    /// The ports that are chosen before it.
    pub(super) ports: Ports,
    /// The summaries'.
    pub(super) summaries: SummaryLimits,
    /// Those of what is counted of connections' health.
    pub(super) health: HealthLimits,
    /// Whether reports have that; else it is counted only while somebody watches.
    pub(super) reports_health: bool,
    /// Whether the other end's responses are timed.
    pub(super) responses: bool,
    /// How remote hosts are grouped, if they are.
    pub(super) grouping: Option<Grouping>,
    /// What is kept of records.
    pub(super) record: RecordLimits,
}

impl Default for Limits {
    /// Those of a configuration that sets none of them.
    fn default() -> Self {
        let (engine, summaries) = (EngineConfig::default(), SummaryLimits::default());
        let (max_pairs, connect_timeout) = (summaries.max_pairs, Duration::from_secs(30));
        let health = HealthLimits { max_pairs, connect_timeout, side: Side::Remote };
        let (record, grouping) = (RecordLimits::default(), None);
        let (reports_health, responses) = (false, false);
        Self { engine, ports: Ports::ALL, summaries, health, reports_health, responses, grouping, record }
    }
}

impl Limits {
    pub(super) fn of(config: &Config, directory: &Directory) -> Self {
        Self {
            engine: engine_config(config),
            ports: config.ports,
            summaries: summary_limits(config),
            health: HealthLimits {
                max_pairs: config.max_pairs,
                connect_timeout: config.connect_timeout,
                side: if config.sides == SidesWanted::Local { Side::Local } else { Side::Remote },
            },
            reports_health: config.wants(MetricName::Health),
            responses: config.wants(MetricName::Response),
            grouping: directory.grouping(),
            record: record_limits(config),
        }
    }

    /// What is counted of connections' health, for reports or for who watches.
    pub(super) fn health_for(&self, is_watched: bool) -> Option<HealthLimits> {
        (self.reports_health || is_watched).then_some(self.health)
    }
}

fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        idle_ttl: config.idle_ttl,
        exp_ttl: config.exp_ttl,
        max_flows: config.max_flows,
        outstanding_per_flow: config.outstanding_per_flow,
        peers_complete: false,
        settles_after: SETTLES_AFTER,
    }
}

fn record_limits(config: &Config) -> RecordLimits {
    let record = &config.record;
    let rtt = |time: Duration| Rtt(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    RecordLimits {
        memory: record.memory.map(|bytes| bytes as usize),
        threshold: record.threshold.map(rtt),
        times_base: record.times_base,
        at_least: rtt(record.at_least),
        max_pairs: config.max_pairs,
    }
}

fn summary_limits(config: &Config) -> SummaryLimits {
    SummaryLimits {
        max_pairs: config.max_pairs,
        without_delayed: config.delayed_acks == DelayedAcks::Drop,
        average: config.average.into(),
        ..SummaryLimits::default()
    }
}
