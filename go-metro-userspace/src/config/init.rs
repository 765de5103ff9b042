//! `init_config`: what holds for all instances.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::values::{Backend, Bounded, Bytes, LogLevel, Seconds, YesNo};
use super::{Config, Environment, Instance, LogSettings, Statsd, environment};

/// Headers with every option, tags and extension headers to spare.
const SNAPLEN: u32 = 256;
/// Room for some 150,000 records.
const RING_BYTES: u32 = 8 << 20;
const IDLE_TTL: Duration = Duration::from_secs(300);
/// The original's documents use this for connections that were closed.
const EXP_TTL: Duration = Duration::from_secs(60);
const MAX_FLOWS: u64 = 262_144;
const OUTSTANDING_PER_FLOW: u64 = 4096;
const MAX_PAIRS: u64 = 2000;
/// The original's flush interval.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
const DNS_REFRESH_INTERVAL: Duration = Duration::from_secs(60);
const STATSD_HOST: &str = "127.0.0.1";
const STATSD_PORT: u16 = 8125;
/// The original's place, size and number of log files.
const LOG_FILE: &str = "/var/log/datadog/go-metro.log";
const LOG_MAX_BYTES: u32 = 100_000;
const LOG_FILES: u64 = 5;

/// The section as it stands in the file; every key may be absent.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InitConfig {
    // The original's.
    snaplen: Option<Bounded<64, 262_144>>,
    idle_ttl: Option<Seconds>,
    exp_ttl: Option<Seconds>,
    expired_ttl: Option<Seconds>,
    statsd_ip: Option<String>,
    statsd_port: Option<Bounded<1, 65_535>>,
    log_to_file: Option<YesNo>,
    log_level: Option<LogLevel>,
    // Ours.
    statsd_socket: Option<PathBuf>,
    backend: Option<Backend>,
    report_interval: Option<Seconds>,
    dns_refresh_interval: Option<Seconds>,
    reverse_dns: Option<YesNo>,
    max_flows: Option<Bounded<1, 16_777_216>>,
    max_pairs: Option<Bounded<1, 1_000_000>>,
    outstanding_per_flow: Option<Bounded<2, 65_535>>,
    ring_size: Option<Bytes>,
    filter: Option<String>,
    tags: Option<Vec<String>>,
    log_file: Option<PathBuf>,
    log_max_size: Option<Bytes>,
    log_files: Option<Bounded<1, 1000>>,
}

impl InitConfig {
    /// The whole configuration: the file's word first, then the environment's, then the default.
    pub(super) fn into_config(self, mut instances: Vec<Instance>, env: Environment<'_>) -> Result<Config, String> {
        let seconds = |given: Option<Seconds>, default| given.map_or(default, |Seconds(time)| time);
        let number = |given: Option<u64>, default: u64| given.unwrap_or(default);
        let exp_ttl = match (self.exp_ttl, self.expired_ttl) {
            (Some(a), Some(b)) if a != b => {
                return Err("`exp_ttl` and `expired_ttl` are two names of one setting and differ; keep one".to_owned());
            }
            (a, b) => seconds(a.or(b), EXP_TTL),
        };
        let statsd = match (self.statsd_socket, self.statsd_ip, self.statsd_port) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err("`statsd_socket` and `statsd_ip`/`statsd_port` exclude each other; keep one".to_owned());
            }
            (Some(path), None, None) => Statsd::Unix(path),
            (None, host, port) => {
                let port = port.and_then(|Bounded(port)| u16::try_from(port).ok());
                environment::statsd(host, port, env, (STATSD_HOST, STATSD_PORT))?
            }
        };
        let mut tags = self.tags.unwrap_or_default();
        let inherited = environment::tags(env);
        let has = |tags: &[String], key: &str| tags.iter().any(|tag| tag.split(':').next() == Some(key));
        for (key, tag) in inherited {
            // A tag that an instance sets itself is set for the others one by one.
            if has(&tags, key) {
                continue;
            }
            if instances.iter().any(|instance| has(&instance.tags, key)) {
                instances.iter_mut().filter(|i| !has(&i.tags, key)).for_each(|i| i.tags.push(tag.clone()));
            } else {
                tags.push(tag);
            }
        }
        Ok(Config {
            instances,
            backend: self.backend.unwrap_or_default(),
            snaplen: self.snaplen.map_or(SNAPLEN, |Bounded(n)| n as u32),
            ring_bytes: self.ring_size.map_or(RING_BYTES, |Bytes(n)| n),
            filter: self.filter,
            idle_ttl: seconds(self.idle_ttl, IDLE_TTL),
            exp_ttl,
            max_flows: number(self.max_flows.map(|Bounded(n)| n), MAX_FLOWS) as u32,
            outstanding_per_flow: number(self.outstanding_per_flow.map(|Bounded(n)| n), OUTSTANDING_PER_FLOW) as u16,
            max_pairs: number(self.max_pairs.map(|Bounded(n)| n), MAX_PAIRS) as usize,
            report_interval: seconds(self.report_interval, REPORT_INTERVAL),
            dns_refresh_interval: seconds(self.dns_refresh_interval, DNS_REFRESH_INTERVAL),
            reverse_dns: self.reverse_dns.is_none_or(|YesNo(yes)| yes),
            statsd,
            tags,
            log: LogSettings {
                to_file: self.log_to_file.is_some_and(|YesNo(yes)| yes),
                file: self.log_file.unwrap_or_else(|| PathBuf::from(LOG_FILE)),
                level: self.log_level.unwrap_or_default(),
                max_bytes: u64::from(self.log_max_size.map_or(LOG_MAX_BYTES, |Bytes(n)| n)),
                files: number(self.log_files.map(|Bounded(n)| n), LOG_FILES) as usize,
            },
        })
    }
}
