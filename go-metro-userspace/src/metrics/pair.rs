//! The metrics of a host pair: names, units and values, for every output.
//!
//! OpenTelemetry's names are those of the proposal `system.network.tcp.*` (semantic-conventions issue 3682, in
//! development) where it has one: `rtt`, `handshake.duration`, `retransmits`, `resets` and the attributes
//! `network.tcp.retransmit.type` and `network.tcp.handshake.role`. The others are in its manner.

use go_metro_common::metric::Unit;
use go_metro_rtt::{By, Cause, Connect, PairSummary, PeerHealth, Role, Rtt, Stats};

use crate::config::MetricName;

/// What the kernel itself measured of this host's sockets between two hosts, those together that were in use in the
/// interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelRtt {
    sockets: u64,
    srtt_ns: u128,
    min: Option<Rtt>,
}

impl KernelRtt {
    /// Of one socket: its smoothed RTT (RFC 6298), and its least of the last minutes (`tcp_min_rtt_wlen`) if it knows
    /// one.
    pub fn of(srtt: Rtt, min: Option<Rtt>) -> Self {
        Self { sockets: 1, srtt_ns: u128::from(srtt.0), min }
    }

    /// Adds other sockets.
    pub fn merge(&mut self, other: &Self) {
        self.sockets += other.sockets;
        self.srtt_ns += other.srtt_ns;
        self.min = [self.min, other.min].into_iter().flatten().min();
    }

    /// How many sockets; never 0.
    pub fn sockets(&self) -> u64 {
        self.sockets
    }

    /// Mean of their smoothed RTTs, in milliseconds.
    pub fn srtt_ms(&self) -> f64 {
        self.srtt_ns as f64 / self.sockets as f64 / 1e6
    }

    /// The least RTT of any, in milliseconds.
    pub fn min_ms(&self) -> Option<f64> {
        self.min.map(Rtt::as_millis_f64)
    }
}

/// Where a metric comes from: one value in milliseconds, or none, such as the jitter of a single sample; or many
/// values.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// Of the interval's samples of data.
    Data(fn(&Stats) -> Option<f64>),
    /// Of what the kernel says.
    Kernel(fn(&KernelRtt) -> Option<f64>),
    /// Every sample of data.
    EachSample,
    /// Every handshake.
    EachHandshake,
    /// Every response.
    EachResponse,
    /// p50, p95 and p99 of the interval's samples of data.
    Quantiles,
    /// Of the lowest round trip of the last ten minutes, and the interval's samples of data.
    Base(fn(Rtt, Option<&Stats>) -> Option<f64>),
    /// Of what the kernel says, and the interval's samples of data.
    Host(fn(&KernelRtt, &Stats) -> f64),
}

/// A metric of a host pair.
#[derive(Clone, Copy, Debug)]
pub struct PairMetric {
    /// DogStatsD's name, and the choice in `metrics` that it belongs to.
    pub dogstatsd: Option<(MetricName, &'static str)>,
    /// Prometheus's name, without the unit at its end.
    pub prometheus: Option<&'static str>,
    /// OpenTelemetry's name.
    pub otlp: Option<&'static str>,
    /// What it means, without a full stop.
    pub help: &'static str,
    /// Where it comes from.
    pub value: Value,
}

impl Value {
    /// The value in milliseconds, if there is one; none for a metric with many values.
    pub fn one(self, data: Option<&Stats>, kernel: Option<&KernelRtt>, base: Option<Rtt>) -> Option<f64> {
        match self {
            Self::Data(of) => data.and_then(of),
            Self::Kernel(of) => kernel.and_then(of),
            Self::Base(of) => base.and_then(|base| of(base, data)),
            Self::Host(of) => kernel.zip(data).map(|(kernel, data)| of(kernel, data)),
            Self::EachSample | Self::EachHandshake | Self::EachResponse | Self::Quantiles => None,
        }
    }

    /// All times of a pair, for a metric with many values; none for a single value.
    pub fn each(self, summary: &PairSummary) -> Option<&Stats> {
        match self {
            Self::EachSample => summary.data.as_ref(),
            Self::EachHandshake => summary.connect.as_ref(),
            Self::EachResponse => summary.response.as_ref(),
            Self::Data(_) | Self::Kernel(_) | Self::Quantiles | Self::Base(_) | Self::Host(_) => None,
        }
    }

    /// Whether the metric has many values: all times of a pair.
    pub const fn is_each(self) -> bool {
        matches!(self, Self::EachSample | Self::EachHandshake | Self::EachResponse)
    }
}

/// Each, in the order in which they are sent.
pub const ALL: &[PairMetric] = &[
    PairMetric {
        dogstatsd: Some((MetricName::Last, "system.net.tcp.rtt")),
        prometheus: Some("go_metro_tcp_rtt_last"),
        otlp: Some("system.network.tcp.rtt.last"),
        help: "Last RTT sample of the interval",
        value: Value::Data(|stats| Some(stats.last().as_millis_f64())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Average, "system.net.tcp.rtt.avg")),
        prometheus: None,
        otlp: None,
        help: "Mean of the interval's RTT samples, or their smoothed RTT with `average: smoothed`",
        value: Value::Data(|stats| Some(stats.average_ms())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Jitter, "system.net.tcp.rtt.jitter")),
        prometheus: Some("go_metro_tcp_rtt_jitter"),
        otlp: Some("system.network.tcp.rtt.jitter"),
        help: "Mean absolute difference of successive RTT samples of the interval",
        value: Value::Data(Stats::jitter_ms),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Min, "system.net.tcp.rtt.min")),
        prometheus: Some("go_metro_tcp_rtt_min"),
        otlp: Some("system.network.tcp.rtt.min"),
        help: "Smallest RTT sample of the interval",
        value: Value::Data(|stats| Some(stats.min().as_millis_f64())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Max, "system.net.tcp.rtt.max")),
        prometheus: Some("go_metro_tcp_rtt_max"),
        otlp: Some("system.network.tcp.rtt.max"),
        help: "Largest RTT sample of the interval",
        value: Value::Data(|stats| Some(stats.max().as_millis_f64())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Distribution, "system.net.tcp.rtt.dist")),
        prometheus: Some("go_metro_tcp_rtt"),
        otlp: Some("system.network.tcp.rtt"),
        help: "Every RTT sample",
        value: Value::EachSample,
    },
    PairMetric {
        dogstatsd: Some((MetricName::Connect, "system.net.tcp.rtt.connect")),
        prometheus: Some("go_metro_tcp_connect"),
        otlp: Some("system.network.tcp.handshake.duration"),
        help: "Every TCP handshake's RTT",
        value: Value::EachHandshake,
    },
    PairMetric {
        dogstatsd: None,
        prometheus: Some("go_metro_tcp_rtt_quantile"),
        otlp: None,
        help: "Quantiles of the RTT samples of the interval",
        value: Value::Quantiles,
    },
    PairMetric {
        dogstatsd: Some((MetricName::Kernel, "system.net.tcp.rtt.kernel")),
        prometheus: Some("go_metro_kernel_srtt"),
        otlp: Some("system.network.tcp.kernel.srtt"),
        help: "Mean of the kernel's smoothed RTT of this host's own sockets of the pair. Needs `kernel_rtt: true`",
        value: Value::Kernel(|kernel| Some(kernel.srtt_ms())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Kernel, "system.net.tcp.rtt.kernel.min")),
        prometheus: Some("go_metro_kernel_rtt_min"),
        otlp: Some("system.network.tcp.kernel.rtt.min"),
        help: "Lowest of the kernel's RTTs of this host's own sockets of the pair. Needs `kernel_rtt: true`",
        value: Value::Kernel(KernelRtt::min_ms),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Base, "system.net.tcp.rtt.base")),
        prometheus: Some("go_metro_tcp_rtt_base"),
        otlp: Some("system.network.tcp.rtt.base"),
        help: "Lowest RTT of the last ten minutes, including handshakes. Needs `metrics: [default, base]`",
        value: Value::Base(|base, _| Some(base.as_millis_f64())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Base, "system.net.tcp.rtt.queueing")),
        prometheus: Some("go_metro_tcp_rtt_queueing"),
        otlp: Some("system.network.tcp.rtt.queueing"),
        help: "Median RTT of the interval minus the lowest of the last ten minutes: the delay added by queues, and by \
            receivers that delay their acknowledgements or acknowledge with their responses. Needs `metrics: \
            [default, base]`",
        value: Value::Base(queueing_ms),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Response, "system.net.tcp.rtt.host")),
        prometheus: Some("go_metro_tcp_rtt_host"),
        otlp: Some("system.network.tcp.rtt.host"),
        help: "Delay added by this host itself: the kernel's smoothed RTT minus the mean of the interval's RTT \
            samples, which are taken at the interface. Needs `kernel_rtt: true`, and in DogStatsD \
            `metrics: [default, response]`",
        value: Value::Host(host_ms),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Response, "system.net.tcp.peer.response")),
        prometheus: Some("go_metro_tcp_peer_response"),
        otlp: Some("system.network.tcp.response.duration"),
        help: "How long the other end took for each response, where a connection is clearly request and response: \
            from the request's last byte to the response's first, minus the RTT. Needs `metrics: [default, response]`",
        value: Value::EachResponse,
    },
];

/// What the kernel's smoothed RTT has above the mean of the interval's samples, in milliseconds.
pub fn host_ms(kernel: &KernelRtt, data: &Stats) -> f64 {
    // In whole nanoseconds.
    ((kernel.srtt_ms() - data.mean_ms()).max(0.0) * 1e6).round() / 1e6
}

/// The median of the interval's samples less the base, in milliseconds.
pub fn queueing_ms(base: Rtt, data: Option<&Stats>) -> Option<f64> {
    // In whole nanoseconds, as both are.
    data.map(|stats| ((stats.quantile(0.5).ms - base.as_millis_f64()).max(0.0) * 1e6).round() / 1e6)
}

/// A count, and the tags that tell it apart from others of its metric.
pub type Labelled = (Vec<(&'static str, &'static str)>, u64);

/// A count of what happened to the connections of a host pair in the interval.
pub struct PeerMetric {
    /// `system.net.tcp.peer.` in front gives the name in DogStatsD, `go_metro_tcp_peer_` that in Prometheus.
    pub name: &'static str,
    /// OpenTelemetry's name.
    pub otlp: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Whether more of it is worse.
    pub is_bad: bool,
    /// What it means, without a full stop.
    pub help: &'static str,
    /// What its counts are told apart by.
    pub keys: &'static str,
    /// Its counts.
    pub values: fn(&PeerHealth) -> Vec<Labelled>,
}

/// Each, in the order in which they are sent.
pub const PEER: &[PeerMetric] = &[
    PeerMetric {
        name: "segments",
        otlp: "system.network.tcp.segments",
        unit: Unit::Segment,
        is_bad: false,
        help: "Segments sent with payload or FIN, including retransmissions",
        keys: "",
        values: |health| vec![(Vec::new(), health.segments)],
    },
    PeerMetric {
        name: "bytes",
        otlp: "system.network.tcp.io",
        unit: Unit::Byte,
        is_bad: false,
        help: "Payload sent, including retransmissions",
        keys: "",
        values: |health| vec![(Vec::new(), health.bytes)],
    },
    PeerMetric {
        name: "retransmits",
        otlp: "system.network.tcp.retransmits",
        unit: Unit::Segment,
        is_bad: true,
        help: "Segments that were retransmitted",
        keys: "cause",
        values: |health| {
            let count = |cause: Cause| (vec![("cause", cause.name())], health.retransmits[cause as usize]);
            Cause::ALL.map(count).into()
        },
    },
    PeerMetric {
        name: "spurious_retransmits",
        otlp: "system.network.tcp.spurious_retransmits",
        unit: Unit::Segment,
        is_bad: true,
        help: "Segments that were retransmitted although the receiver had them",
        keys: "",
        values: |health| vec![(Vec::new(), health.spurious)],
    },
    PeerMetric {
        name: "connects",
        otlp: "system.network.tcp.connection.attempts",
        unit: Unit::Connection,
        is_bad: false,
        help: "Attempts to connect, by their outcome and the role of the local end",
        keys: "result, role",
        values: |health| {
            let count = |role: Role, result: Connect| {
                let tags = vec![("result", result.name()), ("role", role.name())];
                (tags, health.connects[role as usize][result as usize])
            };
            Role::ALL.iter().flat_map(|role| Connect::ALL.map(|result| count(*role, result))).collect()
        },
    },
    PeerMetric {
        name: "resets",
        otlp: "system.network.tcp.resets",
        unit: Unit::Connection,
        is_bad: true,
        help: "Established connections that were reset, by the end that sent the reset",
        keys: "by",
        values: |health| By::ALL.map(|by| (vec![("by", by.name())], health.resets[by as usize])).into(),
    },
    PeerMetric {
        name: "closes",
        otlp: "system.network.tcp.connection.closes",
        unit: Unit::Connection,
        is_bad: false,
        help: "Connections that both ends closed",
        keys: "",
        values: |health| vec![(Vec::new(), health.closes)],
    },
    PeerMetric {
        name: "zero_window",
        otlp: "system.network.tcp.zero_window",
        unit: Unit::Millisecond,
        is_bad: true,
        help: "Time for which the other end announced a zero window while data waited to be sent, summed over all \
            connections",
        keys: "",
        values: |health| vec![(Vec::new(), health.zero_window_ms())],
    },
    PeerMetric {
        name: "ece",
        otlp: "system.network.tcp.congestion_echoes",
        unit: Unit::Segment,
        is_bad: true,
        help: "Acknowledgements that echo congestion (ECN)",
        keys: "",
        values: |health| vec![(Vec::new(), health.echoes)],
    },
];

/// OpenTelemetry's unit of times (UCUM).
pub const OTLP_TIME: &str = "s";

impl PeerMetric {
    /// What DogStatsD calls it.
    pub fn dogstatsd_name(&self) -> String {
        format!("system.net.tcp.peer.{}", self.name)
    }

    /// What Prometheus calls it, without its unit and `_total`.
    pub fn prometheus_name(&self) -> String {
        format!("go_metro_tcp_peer_{}", self.name)
    }

    /// What JSON lines and the status document call it.
    pub fn json_name(&self) -> String {
        if self.is_time() { format!("{}_ms", self.name) } else { self.name.to_owned() }
    }

    /// Its unit in OpenTelemetry (UCUM).
    pub fn otlp_unit(&self) -> &'static str {
        if self.is_time() { OTLP_TIME } else { self.unit.ucum() }
    }

    /// Whether it is a time, which Prometheus and OpenTelemetry have in seconds.
    pub fn is_time(&self) -> bool {
        self.unit == Unit::Millisecond
    }
}

/// OpenTelemetry's attribute for what counts are told apart by.
pub fn otlp_attribute(key: &'static str) -> &'static str {
    match key {
        "cause" => "network.tcp.retransmit.type",
        "result" => "network.tcp.connection.result",
        "role" => "network.tcp.handshake.role",
        "by" => "network.tcp.reset.by",
        other => other,
    }
}

/// OpenTelemetry's value of such an attribute.
pub fn otlp_value(value: &'static str) -> &'static str {
    if value == Cause::TailProbe.name() { "tail_loss_probe" } else { value }
}
