//! From the configuration to what source, engine and summaries take.

use std::collections::BTreeMap;
use std::time::Duration;

use go_metro_rtt::{EngineConfig, Grouping, HealthLimits, Ports, SummaryLimits};

use super::directory::{self, Directory};
use crate::capture::SourceSettings;
use crate::config::{Config, DelayedAcks, MetricName};

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
    }
}

/// What the configuration says of interfaces' ends.
pub(super) fn host_ends(config: &Config) -> BTreeMap<String, bool> {
    directory::live(config).filter_map(|instance| Some((instance.interface.clone(), instance.host_end?))).collect()
}

/// What a flow sends that is first seen in the middle, or first since records were lost, may be a retransmission for
/// about as long as a retransmission timeout is at least (RFC 6298 section 2.4).
const SETTLES_AFTER: Duration = Duration::from_secs(1);

/// What engines and summaries take; all meters' together, or one's.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// The engine's.
    pub(super) engine: EngineConfig,
    /// The ports that are chosen before it.
    pub(super) ports: Ports,
    /// The summaries'.
    pub(super) summaries: SummaryLimits,
    /// What is counted of connections' health, if that is wanted.
    pub(super) health: Option<HealthLimits>,
    /// How remote hosts are grouped, if they are.
    pub(super) grouping: Option<Grouping>,
}

impl Limits {
    pub(super) fn of(config: &Config, directory: &Directory) -> Self {
        let health = config
            .wants(MetricName::Health)
            .then_some(HealthLimits { max_pairs: config.max_pairs, connect_timeout: config.connect_timeout });
        let grouping = directory.grouping();
        Self { engine: engine_config(config), ports: config.ports, summaries: summary_limits(config), health, grouping }
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

fn summary_limits(config: &Config) -> SummaryLimits {
    SummaryLimits {
        max_pairs: config.max_pairs,
        without_delayed: config.delayed_acks == DelayedAcks::Drop,
        average: config.average.into(),
        ..SummaryLimits::default()
    }
}
