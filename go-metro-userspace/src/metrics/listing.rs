//! Every declaration as data: `cargo xtask docs` makes the pages and files from it that list metrics.

use go_metro_common::metric::{Kind, Meta, Unit};
use serde::Serialize;

use super::pair::{self, OTLP_TIME, PairMetric, PeerMetric, Value, otlp_attribute};
use super::{BUILD, Scraped, declared, dogstatsd_name, json_name, otlp_name, prometheus_name};

/// A number, with its names in all outputs.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Whether it is of a host pair, and not the daemon's own.
    pub is_of_pair: bool,
    /// DogStatsD's name.
    pub dogstatsd: Option<String>,
    /// Whether DogStatsD gets every sample.
    pub is_distribution: bool,
    /// Prometheus's complete name.
    pub prometheus: Option<String>,
    /// Prometheus's type.
    pub prometheus_type: &'static str,
    /// OpenTelemetry's name.
    pub otlp: Option<String>,
    /// What it is there.
    pub otlp_type: &'static str,
    /// Its unit there.
    pub otlp_unit: &'static str,
    /// The attributes that separate its parts there.
    pub otlp_attributes: Vec<&'static str>,
    /// The name in JSON lines.
    pub json: Option<String>,
    /// The place in the status document.
    pub status: Option<&'static str>,
    /// `count` or `gauge`.
    pub datadog_type: &'static str,
    /// Datadog's unit.
    pub unit: &'static str,
    /// Whether more of it is worse.
    pub is_bad: bool,
    /// What it means, without a full stop.
    pub help: String,
    /// The key that separates its parts; empty for a single number.
    pub key: &'static str,
    /// The values of that.
    pub labels: &'static [&'static str],
}

/// Each, those of a pair first.
pub fn all() -> Vec<Listed> {
    let scraped = Scraped::METRICS.iter().map(|metric| Listed { dogstatsd: None, json: None, ..own(&metric.meta) });
    let (name, help, key) = BUILD;
    let build = Listed {
        prometheus: Some(format!("{name}_info")),
        prometheus_type: "info",
        otlp: None,
        help: help.to_owned(),
        key,
        ..own(&Scraped::METRICS[0].meta)
    };
    let build = Listed { dogstatsd: None, json: None, ..build };
    pair::ALL
        .iter()
        .map(of_pair)
        .chain(pair::PEER.iter().map(of_peer))
        .chain(declared().map(own))
        .chain(scraped)
        .chain([build])
        .collect()
}

fn of_pair(metric: &PairMetric) -> Listed {
    let is_histogram = metric.value.is_each();
    Listed {
        is_of_pair: true,
        dogstatsd: metric.dogstatsd.map(|(_, name)| name.to_owned()),
        is_distribution: is_histogram,
        prometheus: metric.prometheus.map(|name| format!("{name}_seconds")),
        prometheus_type: if is_histogram { "histogram" } else { "gauge" },
        otlp: metric.otlp.map(str::to_owned),
        otlp_type: if is_histogram { "exponential histogram" } else { "gauge" },
        otlp_unit: OTLP_TIME,
        otlp_attributes: Vec::new(),
        json: None,
        status: None,
        datadog_type: "gauge",
        unit: Unit::Millisecond.name(),
        is_bad: true,
        help: metric.help.to_owned(),
        key: if matches!(metric.value, Value::Quantiles) { "q" } else { "" },
        labels: &[],
    }
}

fn of_peer(metric: &PeerMetric) -> Listed {
    Listed {
        is_of_pair: true,
        dogstatsd: Some(metric.dogstatsd_name()),
        is_distribution: false,
        prometheus: Some(metric.prometheus_name() + if metric.is_time() { "_seconds_total" } else { "_total" }),
        prometheus_type: "counter",
        otlp: Some(metric.otlp.to_owned()),
        otlp_type: "sum",
        otlp_unit: metric.otlp_unit(),
        otlp_attributes: keys(metric.keys).map(otlp_attribute).collect(),
        json: None,
        status: None,
        datadog_type: "count",
        unit: metric.unit.name(),
        is_bad: metric.is_bad,
        help: metric.help.to_owned() + ". Needs `metrics: [default, health]`",
        key: metric.keys,
        labels: &[],
    }
}

fn own(meta: &'static Meta) -> Listed {
    let otlp_type = if meta.kind == Kind::Counter { "sum" } else { "gauge" };
    let (datadog_type, prometheus_type, end) = match (meta.kind, meta.unit) {
        (Kind::Counter, _) => ("count", "counter", "_total"),
        (Kind::Gauge, Unit::Byte) => ("gauge", "gauge", "_bytes"),
        (Kind::Gauge, _) => ("gauge", "gauge", ""),
    };
    Listed {
        is_of_pair: false,
        dogstatsd: meta.is_sent.then(|| dogstatsd_name(meta)),
        is_distribution: false,
        prometheus: meta.is_sent.then(|| prometheus_name(meta) + end),
        prometheus_type,
        otlp: meta.is_sent.then(|| otlp_name(meta)),
        otlp_type,
        otlp_unit: meta.unit.ucum(),
        otlp_attributes: keys(meta.key).collect(),
        json: json_name(meta),
        status: Some(meta.status).filter(|place| !place.is_empty()),
        datadog_type,
        unit: meta.unit.name(),
        is_bad: meta.is_bad,
        help: meta.explained().to_owned(),
        key: meta.key,
        labels: meta.labels,
    }
}

/// One by one.
fn keys(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.split(", ").filter(|key| !key.is_empty())
}
