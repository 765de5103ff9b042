//! From the configuration to what source, engine and summaries take.

use std::collections::BTreeMap;

use super::directory::{self, Directory};
use crate::capture::SourceSettings;
use crate::config::{Config, DelayedAcks};
use crate::rtt::{EngineConfig, SummaryLimits};

pub(super) fn source_settings(config: &Config, directory: &Directory) -> SourceSettings {
    SourceSettings {
        watch: directory.watch_list(),
        ring_bytes: config.ring_bytes,
        workers: config.workers,
        snaplen: config.snaplen,
        filter: config.filter.clone().filter(|filter| filter.trim() != "tcp"),
        sides: config.sides.into(),
        ingress: config.ingress_hook,
        thinning: config.thinning,
        host_ends: host_ends(config),
    }
}

/// What the configuration says of interfaces' ends.
pub(super) fn host_ends(config: &Config) -> BTreeMap<String, bool> {
    directory::live(config).filter_map(|instance| Some((instance.interface.clone(), instance.host_end?))).collect()
}

pub(super) fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        ports: config.ports,
        idle_ttl: config.idle_ttl,
        exp_ttl: config.exp_ttl,
        max_flows: config.max_flows,
        outstanding_per_flow: config.outstanding_per_flow,
        peers_complete: false,
    }
}

pub(super) fn summary_limits(config: &Config) -> SummaryLimits {
    SummaryLimits {
        max_pairs: config.max_pairs,
        without_delayed: config.delayed_acks == DelayedAcks::Drop,
        average: config.average.into(),
        ..SummaryLimits::default()
    }
}
