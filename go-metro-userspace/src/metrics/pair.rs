//! The metrics of a host pair: names, units and values, for every output.

use go_metro_rtt::{Rtt, Stats};

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

/// Where a metric comes from: one value in milliseconds, none where there is none as jitter of a single sample; or
/// many.
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
    /// p50, p95 and p99 of the interval's samples of data.
    Quantiles,
}

/// A metric of a host pair.
#[derive(Clone, Copy, Debug)]
pub struct PairMetric {
    /// DogStatsD's name, and the choice in `metrics` that it belongs to.
    pub dogstatsd: Option<(MetricName, &'static str)>,
    /// Prometheus's name, without the unit at its end.
    pub prometheus: Option<&'static str>,
    /// What it means, without a full stop.
    pub help: &'static str,
    /// Where it comes from.
    pub value: Value,
}

impl Value {
    /// The value in milliseconds, of what there is; none of what has many.
    pub fn one(self, data: Option<&Stats>, kernel: Option<&KernelRtt>) -> Option<f64> {
        match self {
            Self::Data(of) => data.and_then(of),
            Self::Kernel(of) => kernel.and_then(of),
            Self::EachSample | Self::EachHandshake | Self::Quantiles => None,
        }
    }
}

/// Each, in the order in which they are sent.
pub const ALL: &[PairMetric] = &[
    PairMetric {
        dogstatsd: Some((MetricName::Last, "system.net.tcp.rtt")),
        prometheus: Some("go_metro_tcp_rtt_last"),
        help: "Last RTT sample of the interval",
        value: Value::Data(|stats| Some(stats.last().as_millis_f64())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Average, "system.net.tcp.rtt.avg")),
        prometheus: None,
        help: "Mean of the interval's RTT samples, or their smoothed RTT where `average: smoothed` is set",
        value: Value::Data(|stats| Some(stats.average_ms())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Jitter, "system.net.tcp.rtt.jitter")),
        prometheus: Some("go_metro_tcp_rtt_jitter"),
        help: "Mean absolute difference of successive RTT samples of the interval",
        value: Value::Data(Stats::jitter_ms),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Min, "system.net.tcp.rtt.min")),
        prometheus: Some("go_metro_tcp_rtt_min"),
        help: "Least RTT sample of the interval",
        value: Value::Data(|stats| Some(stats.min().as_millis_f64())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Max, "system.net.tcp.rtt.max")),
        prometheus: Some("go_metro_tcp_rtt_max"),
        help: "Largest RTT sample of the interval",
        value: Value::Data(|stats| Some(stats.max().as_millis_f64())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Distribution, "system.net.tcp.rtt.dist")),
        prometheus: Some("go_metro_tcp_rtt"),
        help: "Every RTT sample",
        value: Value::EachSample,
    },
    PairMetric {
        dogstatsd: Some((MetricName::Connect, "system.net.tcp.rtt.connect")),
        prometheus: Some("go_metro_tcp_connect"),
        help: "The round-trip time of every TCP handshake",
        value: Value::EachHandshake,
    },
    PairMetric {
        dogstatsd: None,
        prometheus: Some("go_metro_tcp_rtt_quantile"),
        help: "Quantiles of the RTT samples of the interval",
        value: Value::Quantiles,
    },
    PairMetric {
        dogstatsd: Some((MetricName::Kernel, "system.net.tcp.rtt.kernel")),
        prometheus: Some("go_metro_kernel_srtt"),
        help: "Mean smoothed RTT that the kernel keeps for this host's own sockets of the pair. Needs `kernel_rtt: \
            true`",
        value: Value::Kernel(|kernel| Some(kernel.srtt_ms())),
    },
    PairMetric {
        dogstatsd: Some((MetricName::Kernel, "system.net.tcp.rtt.kernel.min")),
        prometheus: Some("go_metro_kernel_rtt_min"),
        help: "Least RTT that the kernel knows of this host's own sockets of the pair. Needs `kernel_rtt: true`",
        value: Value::Kernel(KernelRtt::min_ms),
    },
];
