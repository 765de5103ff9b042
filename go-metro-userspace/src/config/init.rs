//! `init_config`: what holds for all instances.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::declaration::settings;
use super::group_by::{GroupBy, PortBy};
use super::kinds::{
    Bytes, Keys, List, Listen, Number, OneOrMore, Optional, OrOff, OtlpEndpoint, Path, PortList, ServerHost,
    SocketPath, Text, Time, YesNo,
};
use super::otlp::{self, Otlp, Unsent, UnusedVariables};
use super::record::Record;
use super::section::Reader;
use super::thinning::{PerFlow, Thinning};
use super::words::{
    AnyCase, AverageWanted, Backend, BucketsWanted, DelayedAcks, FileOutput, IngressHook, LogLevel, MetricName, Output,
    ProcessTags, SidesWanted, Word,
};
use super::{Environment, Instance, Origin, Statsd, environment};
use go_metro_rtt::{EngineConfig, Ports, SummaryLimits};

/// Shortest time between reports, and of a flow's life. On a busy host, what waits for the capture thread arrives later
/// than that.
pub(super) const SHORTEST_MS: u64 = 100;
/// Longest time that an attempt to connect may take: longer than any system tries.
const HOUR_S: u64 = 3600;
/// How far back the page for browsers goes by default.
pub const WEB_HISTORY: Duration = Duration::from_secs(15 * 60);
/// Shortest history of the page for browsers: what it adds up at once.
const SHORTEST_HISTORY_MS: u64 = 10_000;
/// Its longest history: 32 MiB hold a day of a quiet host.
pub const LONGEST_HISTORY_S: u64 = 86_400;
/// What the engine takes where nobody says otherwise. A minute for connections that were closed is the original's too.
const ENGINE: EngineConfig = EngineConfig::DEFAULT;
/// Round trips up to this are usual on the Internet, with a lost segment or a delayed acknowledgement.
const USUAL_RTT: Duration = Duration::from_secs(1);
/// The default port of OpenTelemetry's exporters for Prometheus.
pub(super) const PROMETHEUS_PORT: u16 = 9464;
/// That of the web page: the port after that one.
pub(super) const WEB_PORT: u16 = 9465;
/// Where `top --web` serves the page.
pub const WEB_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), WEB_PORT);
/// Where the daemon answers `status` by default.
pub const STATUS_SOCKET: &str = "/run/go-metro/go-metro.sock";

settings! {
    /// The whole configuration, valid.
    pub struct Config {
        ["where results go"]
        /// Address or host name of the DogStatsD server. If not set, taken from DD_DOGSTATSD_URL or DD_AGENT_HOST.
        pub(crate) statsd_ip: ServerHost = "127.0.0.1".to_owned(),
            elsewhere ["statsd_host", "statsd_address", "dogstatsd_host"],
            environment ["DD_DOGSTATSD_URL", "DD_AGENT_HOST"],
            on_reload Apply;

        /// UDP port of the DogStatsD server. If not set, taken from DD_DOGSTATSD_URL or DD_DOGSTATSD_PORT.
        pub(crate) statsd_port: Number<u16, 1, 65_535> = 8125,
            elsewhere ["dogstatsd_port"],
            environment ["DD_DOGSTATSD_URL", "DD_DOGSTATSD_PORT"],
            on_reload Apply;

        /// Unix datagram socket of the DogStatsD server, instead of statsd_ip and statsd_port.
        pub(crate) statsd_socket: Optional<SocketPath> = None, example "/var/run/datadog/dsd.socket", on_reload Apply;

        /// Where results go, unless --output is given. If not set: statsd, plus prometheus if prometheus_listen is set
        /// and otlp if otlp_endpoint is set.
        pub outputs: OneOrMore<FileOutput> = vec![Output::Statsd], on_reload Apply;

        /// Metrics to report. These are on by default, and one that is left out is not sent to DogStatsD: rtt (the last
        /// sample), rtt.avg, rtt.jitter, rtt.min, rtt.max, rtt.dist and rtt.connect (distributions), rtt.kernel (with
        /// kernel_rtt), go_metro (the daemon's own health). docs/how-to.md says what they cost. These are off in every
        /// output unless they are named: health (retransmissions and their causes, how connections open and end, zero
        /// windows, ECN echoes), base (the lowest round trip of the last ten minutes, and the queueing above it),
        /// response (how long the other end takes to respond, and in DogStatsD what this host adds, which other outputs
        /// have with kernel_rtt alone). `default` stands for all that are on by default: `[default, health, base,
        /// response]`.
        pub metrics: OneOrMore<Word<MetricName>> = MetricName::usual(), on_reload ReopenForResponse;

        /// Address and port that Prometheus scrapes; adds that output unless `outputs` is set. Serves /metrics, and
        /// /healthz for probes.
        pub prometheus_listen: Optional<Listen<PROMETHEUS_PORT>> = None, example "127.0.0.1:9464", on_reload Apply;

        /// Bucket bounds of Prometheus histograms. fine: 114 buckets, at most 10 % apart from 100 us to 2 s, so
        /// histogram_quantile is off by at most that much there; outside that range at 1, 2 and 5 of each decade.
        /// coarse: 15 buckets, at 1, 2 and 5 of each decade, for many pairs: each bucket is a series for each pair.
        pub prometheus_buckets: Word<BucketsWanted> = BucketsWanted::Fine, on_reload Apply;

        /// URL of an OTLP receiver, which gets metrics as protocol buffers over HTTP; adds that output unless `outputs`
        /// is set. /v1/metrics is appended. If not set, OpenTelemetry's environment variables apply, such as
        /// OTEL_EXPORTER_OTLP_ENDPOINT. See docs/otlp.md.
        pub otlp_endpoint: Optional<OtlpEndpoint> = None,
            example "http://127.0.0.1:4318",
            environment [
                "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS",
                "OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_TIMEOUT",
                "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_COMPRESSION",
                "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "OTEL_EXPORTER_OTLP_PROTOCOL",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES",
                "OTEL_SDK_DISABLED", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY",
                "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "OTEL_METRIC_EXPORT_INTERVAL",
                "OTEL_METRIC_EXPORT_TIMEOUT"
            ],
            on_reload Apply;

        /// Address and port of a live web page, or `off`: host pairs with their round-trip times and the health of
        /// their connections, and the daemon's own health. The page has no password: use a loopback address, unless
        /// everyone who can reach another one may know who this host talks to (docs/web.md).
        pub web_listen: OrOff<Listen<WEB_PORT>> = None, example "127.0.0.1:9465", on_reload Apply;

        /// How far back the web page goes, within 32 MiB of memory. At least 10, at most 86400 (a day).
        pub web_history: Time<SHORTEST_HISTORY_MS, LONGEST_HISTORY_S> = WEB_HISTORY, on_reload Apply;

        /// Unix socket for `go-metro status` and `go-metro top`, or `off`. Readable and writable for root's group.
        pub status_socket: OrOff<SocketPath> = Some(STATUS_SOCKET.into()), on_reload ApplyIfWritable;

        /// Time between reports: seconds, or a number with a unit such as 500ms, 10s, 5m, 1h or 1d. Every time in this
        /// file is written like that. At least 0.1.
        pub report_interval: Time<SHORTEST_MS> = Duration::from_secs(30), elsewhere ["interval"], on_reload Apply;

        /// Tags to add to every metric. DD_ENV, DD_SERVICE, DD_VERSION and DD_ENTITY_ID each add theirs, unless a tag
        /// with the same key is set here.
        pub tags: List<Text> = Vec::new(),
            environment ["DD_ENV", "DD_SERVICE", "DD_VERSION", "DD_ENTITY_ID"],
            on_reload Apply;

        /// Most host pairs to report separately in one interval; the others are folded into `dst:other` and counted.
        /// Which pairs have a row of their own then changes from interval to interval, and counts of a single pair are
        /// too low; raise the limit if that happens.
        pub max_pairs: Number<usize, 1, 1_000_000> = SummaryLimits::DEFAULT.max_pairs, on_reload Apply;

        /// Report remote hosts in groups, each group as one pair with the group's name in `dst:`. A host is in the
        /// group of its named prefix, else of its autonomous system, else of its leading address bits; else it is
        /// reported alone, as is each of `hosts`, which already has a name. See docs/groups.md.
        pub group_by: Keys<GroupBy> = GroupBy::default(), on_reload Apply;

        ["where segments come from"]
        /// Where segments come from. auto: eBPF if the kernel and the privileges allow it, else libpcap. ebpf, pcap:
        /// that one only.
        pub backend: Word<Backend> = Backend::Auto, on_reload ReopenFlows;

        /// Total size of the buffers between the kernel and the daemon: bytes, or a number with KiB or MiB. With eBPF
        /// each processor gets its share, a power of two of at least 4 KiB, where the machine allows it. With libpcap
        /// the buffer is at least 512 KiB.
        pub ring_size: Bytes = 8 << 20, on_reload Reopen;

        /// Number of threads that measure, each with its share of the flows and of max_flows. With 1, the thread that
        /// reads the buffers also measures, and keeps up with about six million segments a second. With more, that
        /// thread hands the segments to the others: for hosts with many cores that lose records although ring_size is
        /// large.
        pub workers: Number<u32, 1, 64> = 1, on_reload ApplyFlows;

        /// Where the classifier sees incoming segments (eBPF). tc: at the TC hook. xdp: earlier, in the device's
        /// driver, if it has native XDP (Linux 5.18); otherwise the daemon logs a warning and uses tc. Outgoing
        /// segments are seen at the TC hook either way.
        pub ingress_hook: Word<IngressHook> = IngressHook::Tc, on_reload ReopenFlows;

        /// Bytes to capture of each packet (libpcap). The headers are enough; at least 128 bytes are always captured.
        pub snaplen: Number<u32, 64, 262_144> = 256, on_reload Reopen;

        /// Capture filter in the syntax of pcap-filter(7), applied in addition to the targets; needs libpcap.
        pub filter: Optional<Text> = None, example "tcp", on_reload ReopenFlows;

        /// Measure only connections with one of these ports, or ranges such as 8000-8010, at either end. At most 16.
        pub ports: PortList = Ports::default(), on_reload ApplyFlows;

        ["what is measured"]
        /// Which round trips to measure. remote: from here to the remote end and back. local: from here to the local
        /// end and back, as a router, bridge or container host sees it. both: each separately. Metrics get the tag
        /// `side:`, except with remote. docs/round-trips.md explains this section.
        pub sides: Word<SidesWanted> = SidesWanted::Remote, on_reload ReopenFlows;

        /// Whether to keep or drop samples that include the receiver's delayed-ACK timer, as far as the flow's own
        /// pattern shows it. Most delayed ACKs look like a queue and are not recognised. `min` is the network's time
        /// either way. docs/round-trips.md has the rule.
        pub delayed_acks: Word<DelayedAcks> = DelayedAcks::Keep, on_reload Apply;

        /// What `system.net.tcp.rtt.avg` reports: mean (of all samples of the interval) or smoothed (the SRTT of RFC
        /// 6298, which gives the newest samples more weight).
        pub average: Word<AverageWanted> = AverageWanted::Mean, on_reload Apply;

        /// Also report the kernel's own RTT of this host's sockets, to distinguish host delay from network delay. The
        /// metrics are system.net.tcp.rtt.kernel (mean of their SRTT) and .kernel.min. Only for sockets in this network
        /// namespace.
        pub kernel_rtt: YesNo = false, on_reload Apply;

        /// Tag connections with the unit or container of the local process that owns them, and report each separately.
        /// unit: the systemd unit, as `unit:`. container: the container, as `container_id:` and `pod_uid:`, or `unit:`
        /// outside containers. Connections that end before they are looked up get `unit:unknown`. Each unit or
        /// container makes a row of its own, which counts towards max_pairs. Only for sockets in this network
        /// namespace; needs Linux 5.9 and control groups of version 2. See docs/processes.md.
        pub process_tags: Word<ProcessTags> = ProcessTags::Off, on_reload Apply;

        /// Per-flow sampling: take fewer samples of a flow. The segments between two samples stay in the kernel and are
        /// counted. Only with eBPF, and not with `sides: both`.
        pub sampling: Keys<Thinning> = Thinning::default(), on_reload ReopenFlows;

        ["flows"]
        /// How long to keep a silent flow; no RTT longer than this is measured. At least 0.1.
        pub idle_ttl: Time<SHORTEST_MS> = ENGINE.idle_ttl, on_reload ApplyFlows;

        /// Time after which an attempt of this host to connect counts as failed (with `metrics: [default, health]`). An
        /// attempt of another host counts as failed when its flow is dropped (idle_ttl). At least 0.1, at most an hour.
        pub connect_timeout: Time<SHORTEST_MS, HOUR_S> = Duration::from_secs(30), on_reload Apply;

        /// How long to keep a closed flow.
        pub exp_ttl: Time<0> = ENGINE.exp_ttl, on_reload ApplyFlows;

        /// Another name for exp_ttl, the one that the original program reads. Set only one of the two.
        pub(crate) expired_ttl: Time<0> = ENGINE.exp_ttl, on_reload ApplyFlows;

        /// Most flows to track at once; each takes at most 256 bytes of memory (12 more with group_by). When there are
        /// more, closed flows are dropped first, then the flow that has been silent longest; both are counted.
        pub max_flows: Number<u32, 1, 16_777_216> = ENGINE.max_flows, on_reload ApplyFlows;

        /// Most segments of one flow that may wait for their acknowledgement. When there are more, every second one is
        /// left out.
        pub outstanding_per_flow: Number<u16, 2, 65_535> = ENGINE.outstanding_per_flow, on_reload ApplyFlows;

        ["recorder"]
        /// Keep the last segment records in memory, and write those of a pair to a file when a round trip takes long.
        /// The file is for Wireshark, and for `go-metro read`, which finds the same samples in it. See
        /// docs/recorder.md.
        pub record: Keys<Record> = Record::default(), on_reload Apply;

        ["names"]
        /// Time between look-ups of `hosts`. While the name server does not respond, the last good answer is kept.
        pub dns_refresh_interval: Time<0> = Duration::from_secs(60), on_reload Apply;

        /// Look up the names of peers that were not configured by name, for their `dst:` tag.
        pub reverse_dns: YesNo = true, on_reload Apply;

        ["log"]
        /// How much to log: trace, debug, info, warning, error or critical. GO_METRO_LOG in the environment takes
        /// precedence; it can also set the level of a module, as in GO_METRO_LOG=info,go_metro::capture=debug.
        pub log_level: AnyCase<LogLevel> = LogLevel::Info, on_reload Warn;

        /// Log to a file, rotated by size, instead of standard error.
        pub log_to_file: YesNo = false, on_reload Warn;

        /// Path of the log file. Under systemd with LogsDirectory= (as in the packages) the default is go-metro.log in
        /// that folder, /var/log/go-metro.
        pub log_file: Path = "/var/log/datadog/go-metro.log".into(), environment ["LOGS_DIRECTORY"], on_reload Warn;

        /// Size at which the log file is rotated: bytes, or a number with KiB or MiB.
        pub log_max_size: Bytes = 100_000, on_reload Warn;

        /// How many log files to keep, including the current one.
        pub log_files: Number<usize, 1, 1000> = 5, on_reload Warn;

        ["privileges"]
        /// Once capture runs, give up the capabilities, system calls and files that are no longer needed
        /// (docs/privileges.md). Turn it off to use a debugger or tracer. GO_METRO_SANDBOX=off in the environment does
        /// the same.
        pub sandbox: YesNo = true, on_reload Refuse;
    }
    derived {
        /// What to watch.
        pub instances: Vec<Instance> = Vec::new();
        /// The DogStatsD server.
        pub statsd: Statsd = Statsd::Unix(PathBuf::new());
        /// What named it.
        pub statsd_origin: Origin = Origin::Default;
        /// Settings of the OTLP output, or why it cannot be used.
        pub otlp: Result<Otlp, String> = Err(String::new());
        /// OpenTelemetry's variables that have no effect.
        pub otlp_unused: UnusedVariables = UnusedVariables::default();
    }
}

/// A setting that is valid but probably a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What it is about.
    pub subject: &'static str,
    /// What comes of it.
    pub what: String,
    /// What to do.
    pub fix: &'static str,
}

impl Config {
    /// Whether these metrics are wanted.
    pub fn wants(&self, metric: MetricName) -> bool {
        self.metrics.contains(&metric)
    }

    /// Checks keys that depend on each other.
    fn check(&mut self, reader: &mut Reader<'_, '_>) {
        if reader.has("statsd_socket") && (reader.has("statsd_ip") || reader.has("statsd_port")) {
            let what = "`statsd_socket` and `statsd_ip`/`statsd_port` exclude each other; keep one";
            reader.fault_at("statsd_socket", what);
        }
        if self.outputs.iter().enumerate().any(|(index, output)| self.outputs[..index].contains(output)) {
            reader.fault_in("outputs", "names an output twice; each report would be sent twice");
        }
        if self.metrics.contains(&MetricName::Default) {
            let chosen = std::mem::take(&mut self.metrics);
            let is_chosen = |name: &MetricName| chosen.contains(name) || MetricName::usual().contains(name);
            self.metrics = MetricName::all().into_iter().filter(is_chosen).collect();
        }
        if self.prometheus_listen.is_some() && !reader.has("outputs") {
            self.outputs.push(Output::Prometheus);
        }
        if self.web_listen.is_some_and(|address| address.port() > 0 && Some(address) == self.prometheus_listen) {
            let what = "`web_listen` and `prometheus_listen` are the same address; give each a port of its own";
            reader.fault_at("web_listen", what);
        }
        // One setting with two names: the original's documents say `exp_ttl`, its program read `expired_ttl`.
        match [reader.has("exp_ttl"), reader.has("expired_ttl")] {
            [true, true] if self.exp_ttl != self.expired_ttl => {
                let what = "`exp_ttl` and `expired_ttl` are two names of the same setting and differ; keep one";
                reader.fault_at("expired_ttl", what);
            }
            [false, true] => self.exp_ttl = self.expired_ttl,
            _ => {}
        }
        if self.sides == SidesWanted::Both && self.sampling.per_flow != PerFlow::Off {
            let what =
                "`sampling.per_flow` thins one side of a connection; leave it out, or set `sides` to remote or local";
            reader.fault_at("sampling", what);
        }
    }

    /// What the environment sets where the file does not; `is_set` says whether the file sets a key.
    pub(super) fn with_environment(
        mut self,
        is_set: impl Fn(&str) -> bool,
        env: Environment<'_>,
    ) -> Result<Self, String> {
        (self.statsd, self.statsd_origin) = match self.statsd_socket.take() {
            Some(path) => (Statsd::Unix(path), Origin::File),
            None => {
                let file = (
                    is_set("statsd_ip").then_some(&*self.statsd_ip),
                    is_set("statsd_port").then_some(self.statsd_port),
                );
                environment::statsd(file, (&self.statsd_ip, self.statsd_port), env)?
            }
        };
        let has_outputs = is_set("outputs");
        (self.otlp, self.otlp_unused) = otlp::settings(self.otlp_endpoint.as_ref(), has_outputs, env);
        // A variable that is meant for other programs on this host must not keep this one from starting.
        let is_named = self.otlp.as_ref().is_ok_and(|otlp| otlp.origin != Origin::Default);
        if !has_outputs && is_named && !self.otlp_unused.is_off {
            self.outputs.push(Output::Otlp);
        }
        if !is_set("log_file") {
            self.log_file = environment::log_file(env).unwrap_or(self.log_file);
        }
        if !is_set("record.folder") {
            self.record.folder = environment::state_folder(env).unwrap_or(self.record.folder);
        }
        let has = |tags: &[String], key: &str| tags.iter().any(|tag| tag.split(':').next() == Some(key));
        for (key, tag) in environment::tags(env) {
            // A tag that an instance sets itself is set for the others one by one.
            if has(&self.tags, key) {
                continue;
            }
            if self.instances.iter().any(|instance| has(&instance.tags, key)) {
                self.instances.iter_mut().filter(|i| !has(&i.tags, key)).for_each(|i| i.tags.push(tag.clone()));
            } else {
                self.tags.push(tag);
            }
        }
        Ok(self)
    }

    /// Settings that are valid but probably mistakes.
    pub fn doubts(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        let idle_s = self.idle_ttl.as_secs_f64();
        if self.idle_ttl < USUAL_RTT {
            doubts.push(Doubt {
                subject: "flows",
                what: format!(
                    "`idle_ttl` is {idle_s} s: flows that are silent for longer are dropped, so longer round trips are \
                     not measured"
                ),
                fix: "leave `idle_ttl` out, for 300 s, or set it to 1 s or more",
            });
        }
        if self.prometheus_listen.is_some() && !self.outputs.contains(&Output::Prometheus) {
            doubts.push(Doubt {
                subject: "Prometheus",
                what: "`prometheus_listen` has no effect: `outputs` does not name prometheus".to_owned(),
                fix: "add prometheus to `outputs`, or leave `prometheus_listen` out",
            });
        }
        if self.otlp_endpoint.is_some() && !self.outputs.contains(&Output::Otlp) {
            doubts.push(Doubt {
                subject: "OTLP",
                what: "`otlp_endpoint` has no effect: `outputs` does not name otlp".to_owned(),
                fix: "add otlp to `outputs`, or leave `otlp_endpoint` out",
            });
        }
        if self.outputs.contains(&Output::Otlp) {
            let malformed = self.otlp_unused.malformed.iter();
            doubts.extend(malformed.map(|what| Doubt {
                subject: "OTLP",
                what: what.clone(),
                fix: "correct the variable, or unset it",
            }));
        } else if let Some(Unsent::Unusable(what)) = &self.otlp_unused.unsent {
            doubts.push(Doubt {
                subject: "OTLP",
                what: what.clone(),
                fix: "correct the variable, or set `otlp_endpoint` or `outputs`",
            });
        }
        if self.outputs.contains(&Output::Statsd) && !MetricName::usual().into_iter().any(|name| self.wants(name)) {
            doubts.push(Doubt {
                subject: "metrics",
                what: "`metrics` does not name `default`: DogStatsD gets no round-trip times (rtt, rtt.avg, …) and \
                       nothing of the daemon's own health (go_metro)"
                    .to_owned(),
                fix: "add `default`, as in `metrics: [default, health]`",
            });
        }
        doubts.extend(self.tag_doubts());
        if self.wants(MetricName::Health) && self.idle_ttl < self.connect_timeout {
            let connect_s = self.connect_timeout.as_secs_f64();
            doubts.push(Doubt {
                subject: "health",
                what: format!(
                    "`idle_ttl` is {idle_s} s and `connect_timeout` {connect_s} s: an attempt to connect counts as \
                     failed once its flow is dropped, so connections that open after {idle_s} s count as timeouts"
                ),
                fix: "set `connect_timeout` to no more than `idle_ttl`",
            });
        }
        if self.wants(MetricName::Health) && self.sampling.per_flow != PerFlow::Off {
            doubts.push(Doubt {
                subject: "health",
                what: "`sampling.per_flow` leaves most segments in the kernel: most retransmissions are missed, and \
                       counts of segments and bytes are too low"
                    .to_owned(),
                fix: "leave `sampling.per_flow` out, or `health` out of `metrics`",
            });
        }
        if self.wants(MetricName::Response) && self.sampling.per_flow != PerFlow::Off {
            doubts.push(Doubt {
                subject: "responses",
                what: "`sampling.per_flow` leaves most segments in the kernel: few responses are timed".to_owned(),
                fix: "leave `sampling.per_flow` out, or `response` out of `metrics`",
            });
        }
        match self.web_listen {
            Some(address) => doubts.extend(web_doubt(address)),
            None if self.web_history != WEB_HISTORY => doubts.push(Doubt {
                subject: "web",
                what: "`web_history` has no effect: there is no page, as `web_listen` is not set".to_owned(),
                fix: "set `web_listen`, or leave `web_history` out",
            }),
            None => {}
        }
        doubts
    }

    /// Tags with the key of one of ours.
    fn tag_doubts(&self) -> Vec<Doubt> {
        // An end is a label that no tag replaces; what distinguishes pairs is a tag among others.
        let ends = ["src", "dst", "iface"].map(|key| (key, true, true));
        let in_some = ["cause", "result", "role", "by"].map(|key| (key, self.wants(MetricName::Health), true));
        let process = self.process_tags != ProcessTags::Off;
        let container = self.process_tags == ProcessTags::Container;
        let by_as = self.group_by.as_database.is_some();
        let ours = ends.into_iter().chain(in_some).chain([
            ("side", self.sides != SidesWanted::Remote, true),
            ("port", self.group_by.port != PortBy::Off, false),
            ("unit", process, false),
            ("container_id", container, false),
            ("pod_uid", container, false),
            ("as", by_as, false),
            ("as_org", by_as, false),
        ]);
        let tags = || self.tags.iter().chain(self.instances.iter().flat_map(|instance| &instance.tags));
        let of_key = |key: &str| tags().find(|tag| tag.split(':').next() == Some(key));
        let doubts = ours.filter(|(_, is_in_use, _)| *is_in_use).filter_map(|(key, _, is_renamed)| {
            of_key(key)?;
            let elsewhere = if is_renamed {
                format!("the label `tag_{key}` in Prometheus")
            } else {
                "joined with it by a comma in Prometheus and OTLP".to_owned()
            };
            Some(Doubt {
                subject: "tags",
                what: format!(
                    "a tag in `tags` has the key `{key}`, which is also go-metro's own: yours is sent beside it to \
                     DogStatsD, and is {elsewhere}"
                ),
                fix: "choose another key for it",
            })
        });
        doubts.collect()
    }

    /// Variables that are not wrong but have no effect: a line for each reason.
    pub fn without_effect(&self) -> Vec<String> {
        if self.outputs.contains(&Output::Otlp) {
            return self.otlp_unused.overridden.clone();
        }
        match &self.otlp_unused.unsent {
            Some(Unsent::Unwanted(what)) => vec![what.clone()],
            Some(Unsent::Unusable(_)) | None => Vec::new(),
        }
    }

    /// The address that Prometheus scrapes, if it does.
    pub fn prometheus_address(&self) -> SocketAddr {
        self.prometheus_listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, PROMETHEUS_PORT).into())
    }
}

/// What is doubtful about a page for browsers at this address; nothing of one for this host alone.
pub fn web_doubt(address: SocketAddr) -> Option<Doubt> {
    (!address.ip().to_canonical().is_loopback()).then(|| Doubt {
        subject: "web",
        what: format!(
            "the web page is served at {address}, not a loopback address: everyone who can reach it sees who this host \
             talks to, without a password or encryption"
        ),
        fix: "serve it at 127.0.0.1 (`web_listen`) and connect through SSH, or restrict access with a firewall \
              (docs/web.md)",
    })
}
