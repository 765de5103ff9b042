//! `init_config`: what holds for all instances.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use go_metro_common::hash::WORKERS_MAX;
use go_metro_rtt::Ports;
use serde::Deserialize;
use serde_yaml::Value;

use super::sampling::SamplingWanted;
use super::schema::Described;
use super::section::Section;
use super::values::{
    AbsolutePath, AtLeast, AverageWanted, Backend, Bounded, BucketsWanted, Bytes, DelayedAcks, IngressHook, Listen,
    LogLevel, MetricName, OutputName, PathOrOff, PortRange, Seconds, ServerHost, SidesWanted, Text, YesNo,
};
use super::{Config, Environment, Instance, LogSettings, Origin, Statsd, environment};

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
/// Shortest time between reports, and of a flow's life. What waits for the capture thread comes later than that on a
/// busy host.
const SHORTEST_MS: u64 = 100;
/// The same, for the command line.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_millis(SHORTEST_MS);
/// Round trips up to this are usual on the Internet, with a lost segment or an acknowledgement kept back.
const USUAL_RTT: Duration = Duration::from_secs(1);
const DNS_REFRESH_INTERVAL: Duration = Duration::from_secs(60);
const STATSD_HOST: &str = "127.0.0.1";
const STATSD_PORT: u16 = 8125;
/// The port that OpenTelemetry's exporters for Prometheus use, which is nobody else's.
const PROMETHEUS_PORT: u16 = 9464;
/// Where the daemon tells its status.
pub(super) const STATUS_SOCKET: &str = "/run/go-metro/go-metro.sock";
/// The original's place, size and number of log files.
const LOG_FILE: &str = "/var/log/datadog/go-metro.log";
const LOG_MAX_BYTES: u32 = 100_000;
const LOG_FILES: u64 = 5;

/// The section as it stands in the file; every key may be absent.
#[derive(Default)]
pub(super) struct InitConfig {
    // The original's.
    snaplen: Option<Bounded<64, 262_144>>,
    idle_ttl: Option<AtLeast<SHORTEST_MS>>,
    exp_ttl: Option<Seconds>,
    log_to_file: Option<YesNo>,
    log_level: Option<LogLevel>,
    server: Server,
    // Ours.
    backend: Option<Backend>,
    sides: Option<SidesWanted>,
    ingress_hook: Option<IngressHook>,
    sampling: SamplingWanted,
    delayed_acks: Option<DelayedAcks>,
    average: Option<AverageWanted>,
    kernel_rtt: Option<YesNo>,
    report_interval: Option<AtLeast<SHORTEST_MS>>,
    dns_refresh_interval: Option<Seconds>,
    reverse_dns: Option<YesNo>,
    max_flows: Option<Bounded<1, 16_777_216>>,
    max_pairs: Option<Bounded<1, 1_000_000>>,
    outstanding_per_flow: Option<Bounded<2, 65_535>>,
    ring_size: Option<Bytes>,
    workers: Option<Bounded<1, { WORKERS_MAX as u64 }>>,
    filter: Option<Text>,
    ports: Vec<PortRange>,
    prometheus_listen: Option<Listen>,
    prometheus_buckets: Option<BucketsWanted>,
    outputs: Vec<OutputName>,
    metrics: Vec<MetricName>,
    status_socket: Option<PathOrOff>,
    tags: Vec<String>,
    log_file: Option<PathBuf>,
    log_max_size: Option<Bytes>,
    log_files: Option<Bounded<1, 1000>>,
    sandbox: Option<YesNo>,
}

/// The server as the file names it.
enum Server {
    Network { host: Option<String>, port: Option<u16> },
    Socket(PathBuf),
}

impl Default for Server {
    fn default() -> Self {
        Self::Network { host: None, port: None }
    }
}

impl Server {
    fn read(section: &mut Section<'_, '_, '_>) -> Self {
        let host = section.take("statsd_ip").map(|ServerHost(host)| host);
        let port = section.take("statsd_port").map(|Bounded::<1, 65_535>(port)| port as u16);
        let socket = section.take("statsd_socket").map(|AbsolutePath(path)| path);
        if section.has("statsd_socket") && (section.has("statsd_ip") || section.has("statsd_port")) {
            let what = "`statsd_socket` and `statsd_ip`/`statsd_port` exclude each other; keep one";
            section.fault_at("statsd_socket", what);
        }
        socket.map_or(Self::Network { host, port }, Self::Socket)
    }
}

impl InitConfig {
    /// Reads the section; what is wrong is noted, and as good as absent.
    pub(super) fn read(mut section: Section<'_, '_, '_>) -> Self {
        let init = Self {
            snaplen: section.take("snaplen"),
            idle_ttl: section.take("idle_ttl"),
            exp_ttl: exp_ttl(&mut section),
            server: Server::read(&mut section),
            log_to_file: section.take("log_to_file"),
            log_level: section.take("log_level"),
            backend: section.take("backend"),
            sides: section.take("sides"),
            ingress_hook: section.take("ingress_hook"),
            sampling: SamplingWanted::read(&mut section),
            delayed_acks: section.take("delayed_acks"),
            average: section.take("average"),
            kernel_rtt: section.take("kernel_rtt"),
            report_interval: section.take("report_interval"),
            dns_refresh_interval: section.take("dns_refresh_interval"),
            reverse_dns: section.take("reverse_dns"),
            max_flows: section.take("max_flows"),
            max_pairs: section.take("max_pairs"),
            outstanding_per_flow: section.take("outstanding_per_flow"),
            ring_size: section.take("ring_size"),
            workers: section.take("workers"),
            filter: section.take("filter"),
            ports: ports(&mut section),
            prometheus_listen: section.take("prometheus_listen"),
            prometheus_buckets: section.take("prometheus_buckets"),
            outputs: each_once(&mut section, "outputs", "DogStatsD"),
            metrics: some_of(&mut section, "metrics", "all of them"),
            status_socket: section.take("status_socket"),
            tags: section.take_list("tags").into_iter().map(|Text(tag)| tag).collect(),
            log_file: section.take("log_file").map(|Text(path)| PathBuf::from(path)),
            log_max_size: section.take("log_max_size"),
            log_files: section.take("log_files"),
            sandbox: section.take("sandbox"),
        };
        section.finish();
        init
    }

    /// The whole configuration: the file's word first, then the environment's, then the default.
    pub(super) fn into_config(self, mut instances: Vec<Instance>, env: Environment<'_>) -> Result<Config, String> {
        let seconds = |given: Option<Seconds>, default| given.map_or(default, |Seconds(time)| time);
        let number = |given: Option<u64>, default: u64| given.unwrap_or(default);
        let (statsd, statsd_origin) = match self.server {
            Server::Socket(path) => (Statsd::Unix(path), Origin::File),
            Server::Network { host, port } => environment::statsd(host, port, env, (STATSD_HOST, STATSD_PORT))?,
        };
        let mut tags = self.tags;
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
            sides: self.sides.unwrap_or_default(),
            ingress_hook: self.ingress_hook.unwrap_or_default(),
            thinning: self.sampling.thinning(),
            delayed_acks: self.delayed_acks.unwrap_or_default(),
            average: self.average.unwrap_or_default(),
            kernel_rtt: self.kernel_rtt.is_some_and(|YesNo(yes)| yes),
            snaplen: self.snaplen.map_or(SNAPLEN, |Bounded(n)| n as u32),
            ring_bytes: self.ring_size.map_or(RING_BYTES, |Bytes(n)| n),
            workers: self.workers.map_or(1, |Bounded(n)| n as u32),
            filter: self.filter.map(|Text(filter)| filter),
            ports: Ports::new(&self.ports.iter().map(|PortRange(range)| *range).collect::<Vec<_>>())
                .unwrap_or_default(),
            idle_ttl: self.idle_ttl.map_or(IDLE_TTL, |AtLeast(time)| time),
            exp_ttl: seconds(self.exp_ttl, EXP_TTL),
            max_flows: number(self.max_flows.map(|Bounded(n)| n), MAX_FLOWS) as u32,
            outstanding_per_flow: number(self.outstanding_per_flow.map(|Bounded(n)| n), OUTSTANDING_PER_FLOW) as u16,
            max_pairs: number(self.max_pairs.map(|Bounded(n)| n), MAX_PAIRS) as usize,
            report_interval: self.report_interval.map_or(REPORT_INTERVAL, |AtLeast(time)| time),
            dns_refresh_interval: seconds(self.dns_refresh_interval, DNS_REFRESH_INTERVAL),
            reverse_dns: self.reverse_dns.is_none_or(|YesNo(yes)| yes),
            statsd,
            statsd_origin,
            outputs: outputs(self.outputs, self.prometheus_listen.is_some()),
            metrics: if self.metrics.is_empty() { MetricName::ALL.to_vec() } else { self.metrics },
            prometheus_listen: self.prometheus_listen.map(|Listen(address)| address),
            prometheus_buckets: self.prometheus_buckets.unwrap_or_default(),
            status_socket: self.status_socket.map_or_else(|| Some(STATUS_SOCKET.into()), |PathOrOff(path)| path),
            tags,
            log: LogSettings {
                to_file: self.log_to_file.is_some_and(|YesNo(yes)| yes),
                file: self.log_file.unwrap_or_else(|| environment::log_file(env, LOG_FILE)),
                level: self.log_level.unwrap_or_default(),
                max_bytes: u64::from(self.log_max_size.map_or(LOG_MAX_BYTES, |Bytes(n)| n)),
                files: number(self.log_files.map(|Bounded(n)| n), LOG_FILES) as usize,
            },
            sandbox: self.sandbox.is_none_or(|YesNo(yes)| yes),
        })
    }
}

/// Those that are listed; else DogStatsD, as the original, and Prometheus where its address was named.
fn outputs(listed: Vec<OutputName>, listens: bool) -> Vec<OutputName> {
    match (listed.is_empty(), listens) {
        (false, _) => listed,
        (true, false) => vec![OutputName::Statsd],
        (true, true) => vec![OutputName::Statsd, OutputName::Prometheus],
    }
}

impl Config {
    /// That `idle_ttl` leaves out round trips that occur, if so.
    pub fn short_idle_ttl(&self) -> Option<String> {
        let seconds = self.idle_ttl.as_secs_f64();
        (self.idle_ttl < USUAL_RTT).then(|| {
            format!("`idle_ttl` is {seconds} s: flows are forgotten after that, so no round trip that takes longer is measured")
        })
    }

    /// Where Prometheus scrapes, if it does.
    pub fn prometheus_address(&self) -> SocketAddr {
        self.prometheus_listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, PROMETHEUS_PORT).into())
    }
}

/// A list that means something only if it holds something.
fn some_of<'v, T: Deserialize<'v> + Described>(
    section: &mut Section<'v, '_, '_>,
    key: &'static str,
    default: &str,
) -> Vec<T> {
    let listed = section.take_list(key);
    if section.value(key).and_then(Value::as_sequence).is_some_and(Vec::is_empty) {
        section.fault_in(key, &format!("is empty; leave the key out for {default}"));
    }
    listed
}

/// As [`some_of`], where nothing may be listed twice.
fn each_once<'v, T: Deserialize<'v> + Described + PartialEq>(
    section: &mut Section<'v, '_, '_>,
    key: &'static str,
    default: &str,
) -> Vec<T> {
    let listed: Vec<T> = some_of(section, key, default);
    if listed.iter().enumerate().any(|(index, item)| listed[..index].contains(item)) {
        section.fault_in(key, "lists one of them twice; each report would be sent twice");
    }
    listed
}

/// A list no longer than the summaries take.
fn ports(section: &mut Section<'_, '_, '_>) -> Vec<PortRange> {
    let ports: Vec<PortRange> = section.take_list("ports");
    if ports.len() > Ports::MOST {
        section.fault_at("ports", &format!("holds {} ports or ranges; at most {} are taken", ports.len(), Ports::MOST));
    }
    ports
}

/// One setting with two names: the original's documents say `exp_ttl`, its program read `expired_ttl`.
fn exp_ttl(section: &mut Section<'_, '_, '_>) -> Option<Seconds> {
    let (ours, theirs): (Option<Seconds>, Option<Seconds>) = (section.take("exp_ttl"), section.take("expired_ttl"));
    if ours.is_some() && theirs.is_some() && ours != theirs {
        let what = "`exp_ttl` and `expired_ttl` are two names of one setting and differ; keep one";
        section.fault_at("expired_ttl", what);
    }
    ours.or(theirs)
}
