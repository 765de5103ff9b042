//! The messages of a report: requests of OTLP, each complete in itself.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use go_metro_common::metric::Kind;
use go_metro_rtt::{Exponential, PeerHealth};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use crate::metrics::pair::{self, OTLP_TIME, PairMetric, PeerMetric, Value};
use crate::metrics::{self, Health, Reading, Scraped};
use crate::output::totals::{Labels, Series};

/// Pairs in one request: with four tags each, all metrics and a thousand buckets some 5 MB before compression, where
/// receivers take 20 MiB and more.
const PAIRS_PER_REQUEST: usize = 500;
/// How hard bodies are compressed: the highest level that is about as fast as those below.
const LEVEL: u32 = 3;
/// What attributes of counts begin with, and that of every pair which no label has.
const TCP: &str = "network.tcp.";
const TRANSPORT: &str = "network.transport";

/// Whether a tag of this key would stand in the way of an attribute of ours.
pub(super) fn is_ours(key: &str) -> bool {
    key == TRANSPORT || key.starts_with(TCP)
}

/// What the requests of one report are made of. Reports that come meanwhile change copies.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at: SystemTime,
    pub(super) series: Vec<(Arc<Labels>, Arc<Series>)>,
    pub(super) expired: u64,
    /// When series began to be kept.
    pub(super) series_began: SystemTime,
    pub(super) health: Health,
    /// When the agent's own counters began.
    pub(super) counters_began: SystemTime,
}

/// The body of a request, and how many data points it has.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) points: u64,
}

/// Writes requests.
#[derive(Debug)]
pub(super) struct Writer {
    resource: Resource,
    gzip: bool,
}

impl Writer {
    pub(super) fn new(attributes: &[(String, String)], gzip: bool) -> Self {
        let attributes = attributes.iter().map(|(key, value)| attribute(key, value)).collect();
        Self { resource: Resource { attributes, ..Resource::default() }, gzip }
    }

    /// The bodies of a report, one after the other: what is of the agent itself is in the first.
    pub(super) fn bodies(&self, snapshot: &Snapshot) -> impl Iterator<Item = Body> {
        let chunks = snapshot.series.len().div_ceil(PAIRS_PER_REQUEST).max(1);
        (0..chunks).map(|chunk| {
            let first = chunk * PAIRS_PER_REQUEST;
            let last = (first + PAIRS_PER_REQUEST).min(snapshot.series.len());
            let mut metrics = of_pairs(snapshot, &snapshot.series[first..last]);
            if chunk == 0 {
                metrics.extend(of_the_agent(snapshot));
            }
            self.body(metrics)
        })
    }

    fn body(&self, metrics: Vec<Metric>) -> Body {
        let points = metrics.iter().map(points).sum();
        let scope = InstrumentationScope {
            name: "go-metro".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let of_scope = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
        let of_resource = ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics: vec![of_scope],
            ..ResourceMetrics::default()
        };
        let message = ExportMetricsServiceRequest { resource_metrics: vec![of_resource] }.encode_to_vec();
        let bytes = if self.gzip { compressed(&message) } else { message };
        Body { bytes: bytes.into(), points }
    }

    /// Whether bodies are compressed.
    pub(super) fn is_gzip(&self) -> bool {
        self.gzip
    }
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    // Writing to memory cannot fail.
    let written = gzip.write_all(message);
    debug_assert!(written.is_ok());
    gzip.finish().unwrap_or_default()
}

/// How many data points a report has.
pub(super) fn points_of(snapshot: &Snapshot) -> u64 {
    of_pairs(snapshot, &snapshot.series).iter().chain(&of_the_agent(snapshot)).map(points).sum()
}

/// How many data points a metric has.
fn points(metric: &Metric) -> u64 {
    let count = match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Histogram(_) | Data::Summary(_)) | None => 0,
    };
    count as u64
}

/// The metrics of some pairs, those that have any.
fn of_pairs(snapshot: &Snapshot, series: &[(Arc<Labels>, Arc<Series>)]) -> Vec<Metric> {
    let at = nanoseconds(snapshot.at);
    let all: Vec<(Vec<KeyValue>, &Series)> =
        series.iter().map(|(labels, series)| (attributes(labels), &**series)).collect();
    let of_pair = pair::ALL.iter().enumerate().filter_map(|(index, metric)| {
        let name = metric.otlp?;
        let data = match metric.value {
            value if value.is_each() => histogram(&all, at, value),
            _ => gauge(&all, at, index),
        };
        Some(named(name, metric, data))
    });
    let of_peer = pair::PEER.iter().map(|metric| peer(&all, at, metric));
    of_pair.chain(of_peer).filter(|metric| points(metric) > 0).collect()
}

fn named(name: &str, metric: &PairMetric, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        description: metric.help.to_owned(),
        unit: OTLP_TIME.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn histogram(all: &[(Vec<KeyValue>, &Series)], at: u64, value: Value) -> Data {
    let grown = all.iter().filter_map(|(attributes, series)| Some((attributes, *series, series.each(value)?)));
    let data_points = grown.filter(|(.., growing)| growing.count > 0).map(|(attributes, series, growing)| {
        let (offset, counts) = growing.exponential.buckets();
        ExponentialHistogramDataPoint {
            attributes: attributes.clone(),
            start_time_unix_nano: nanoseconds(series.since),
            time_unix_nano: at,
            count: growing.count,
            sum: Some(growing.sum_seconds),
            scale: Exponential::SCALE,
            positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
            ..ExponentialHistogramDataPoint::default()
        }
    });
    let data_points = data_points.collect();
    Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: CUMULATIVE })
}

/// Since the start of a series: what Prometheus takes without being told to.
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

fn gauge(all: &[(Vec<KeyValue>, &Series)], at: u64, index: usize) -> Data {
    let data_points = all.iter().filter_map(|(attributes, series)| {
        let value = series.last?.gauges[index]?;
        Some(NumberDataPoint {
            attributes: attributes.clone(),
            time_unix_nano: at,
            value: Some(number_data_point::Value::AsDouble(value)),
            ..NumberDataPoint::default()
        })
    });
    Data::Gauge(Gauge { data_points: data_points.collect() })
}

fn peer(all: &[(Vec<KeyValue>, &Series)], at: u64, metric: &PeerMetric) -> Metric {
    let counted = all.iter().filter_map(|(attributes, series)| Some((attributes, series.health.as_ref()?)));
    let each = |(attributes, (since, health)): (&Vec<KeyValue>, &(SystemTime, PeerHealth))| {
        let start = nanoseconds(*since);
        let points = (metric.values)(health).into_iter().map(move |(more, count)| {
            let more = more.iter().map(|(key, value)| attribute(pair::otlp_attribute(key), pair::otlp_value(value)));
            let value =
                if metric.is_time() { number_data_point::Value::AsDouble(count as f64 / 1e3) } else { integer(count) };
            total(attributes.iter().cloned().chain(more).collect(), start, at, value)
        });
        points.collect::<Vec<_>>()
    };
    Metric {
        name: metric.otlp.to_owned(),
        description: metric.help.to_owned(),
        unit: metric.otlp_unit().to_owned(),
        data: Some(sum(counted.flat_map(each).collect())),
        ..Metric::default()
    }
}

fn total(attributes: Vec<KeyValue>, start: u64, at: u64, value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        start_time_unix_nano: start.min(at),
        time_unix_nano: at,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn integer(count: u64) -> number_data_point::Value {
    number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX))
}

fn sum(data_points: Vec<NumberDataPoint>) -> Data {
    Data::Sum(Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true })
}

/// What is of the agent itself.
fn of_the_agent(snapshot: &Snapshot) -> Vec<Metric> {
    let at = nanoseconds(snapshot.at);
    let scraped = Scraped { pairs: snapshot.series.len() as u64, expired: snapshot.expired };
    let (own, kept) = (nanoseconds(snapshot.counters_began), nanoseconds(snapshot.series_began));
    let readings = metrics::readings(&snapshot.health).filter(|reading| reading.meta.is_sent);
    let of_pairs = metrics::read(Scraped::METRICS, &scraped);
    let all = readings.map(|reading| agent(&reading, own, at)).chain(of_pairs.map(|reading| agent(&reading, kept, at)));
    all.filter(|metric| points(metric) > 0).collect()
}

fn agent(reading: &Reading, start: u64, at: u64) -> Metric {
    let meta = reading.meta;
    let labelled = |index: usize| meta.labels.get(index).map(|label| attribute(meta.key, label)).into_iter().collect();
    let values = reading.values.iter().enumerate();
    let values = values.filter(|(_, value)| !(meta.is_unknown_at_zero && **value == 0));
    let data = match meta.kind {
        Kind::Counter => sum(values.map(|(index, count)| total(labelled(index), start, at, integer(*count))).collect()),
        Kind::Gauge => {
            let point = |(index, value): (usize, &u64)| NumberDataPoint {
                attributes: labelled(index),
                time_unix_nano: at,
                value: Some(integer(*value)),
                ..NumberDataPoint::default()
            };
            Data::Gauge(Gauge { data_points: values.map(point).collect() })
        }
    };
    Metric {
        name: metrics::otlp_name(meta),
        description: meta.explained().to_owned(),
        unit: meta.unit.ucum().to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// A pair's attributes, with the transport.
fn attributes(labels: &Labels) -> Vec<KeyValue> {
    let pair = labels.iter().map(|(key, value)| attribute(key, value));
    pair.chain([attribute(TRANSPORT, "tcp")]).collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// Since the epoch; 0, which says that the time is not known, where the clock is before that.
fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;
    use std::time::{Duration, Instant};

    use flate2::read::GzDecoder;

    use super::*;
    use crate::output::examples::{counted, pair, report};
    use crate::output::otlp::LABELLING;
    use crate::output::totals::Totals;

    fn snapshot(totals: &Totals, at: SystemTime) -> Snapshot {
        let began = at - Duration::from_secs(100);
        let health = Health { flows: 7, send_errors: 3, ..Health::default() };
        let (series, expired) = (totals.sorted(), totals.expired());
        Snapshot { at, series, expired, series_began: began, health, counters_began: began }
    }

    fn read(body: &Body, gzip: bool) -> ExportMetricsServiceRequest {
        let mut message = body.bytes.to_vec();
        if gzip {
            message.clear();
            GzDecoder::new(&*body.bytes).read_to_end(&mut message).unwrap();
        }
        ExportMetricsServiceRequest::decode(&*message).unwrap()
    }

    /// The metrics of a request that has one resource and one scope.
    fn metrics_of(request: ExportMetricsServiceRequest) -> BTreeMap<String, Metric> {
        let [resource] = <[ResourceMetrics; 1]>::try_from(request.resource_metrics).unwrap();
        assert_eq!(resource.resource.unwrap().attributes, [attribute("service.name", "x")]);
        let [scope] = <[ScopeMetrics; 1]>::try_from(resource.scope_metrics).unwrap();
        scope.metrics.into_iter().map(|metric| (metric.name.clone(), metric)).collect()
    }

    fn text(attributes: &[KeyValue]) -> String {
        let value = |pair: &KeyValue| match pair.value.clone().unwrap().value.unwrap() {
            any_value::Value::StringValue(value) => value,
            other => panic!("{other:?}"),
        };
        attributes.iter().map(|pair| format!("{}={}", pair.key, value(pair))).collect::<Vec<_>>().join(" ")
    }

    const PAIR: &str = "network.local.address=10.42.31.222 network.peer.address=db network.interface.name=va env=test \
                        network.transport=tcp";

    fn writer(gzip: bool) -> Writer {
        Writer::new(&[("service.name".to_owned(), "x".to_owned())], gzip)
    }

    #[test]
    fn a_report_becomes_histograms_sums_and_gauges_with_their_times() {
        let mut totals = Totals::new(LABELLING, 10);
        let first = report(vec![counted("db", &[20_000, 23_500])]);
        totals.add(&first, Instant::now());
        let mut second = report(vec![counted("db", &[20_000])]);
        second.at += Duration::from_secs(30);
        totals.add(&second, Instant::now());
        for gzip in [true, false] {
            let writer = writer(gzip);
            let bodies: Vec<Body> = writer.bodies(&snapshot(&totals, second.at)).collect();
            let metrics = metrics_of(read(&bodies[0], gzip));
            assert_eq!((bodies.len(), bodies[0].points), (1, metrics.values().map(points).sum()));
            let rtt = &metrics["system.network.tcp.rtt"];
            let Some(Data::ExponentialHistogram(histogram)) = &rtt.data else { panic!("{rtt:?}") };
            let [point] = &*histogram.data_points else { panic!("{histogram:?}") };
            let start = nanoseconds(first.at - first.interval);
            assert_eq!((text(&point.attributes).as_str(), rtt.unit.as_str(), point.scale), (PAIR, "s", 7));
            assert_eq!((point.count, point.start_time_unix_nano), (3, start));
            assert_eq!((point.time_unix_nano, histogram.aggregation_temporality), (nanoseconds(second.at), 2));
            assert!((point.sum.unwrap() - 0.0635).abs() < 1e-12);
            let buckets = point.positive.as_ref().unwrap();
            assert_eq!((buckets.bucket_counts[0], buckets.bucket_counts.iter().sum::<u64>()), (2, 3));
            assert!(Exponential::upper_bound(buckets.offset) >= 0.02);
            assert!(Exponential::upper_bound(buckets.offset - 1) < 0.02);
            let Some(Data::Sum(sum)) = &metrics["system.network.tcp.retransmits"].data else { panic!("no sum") };
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
            let fast = format!("{PAIR} network.tcp.retransmit.type=fast");
            let counts: Vec<_> = sum.data_points.iter().filter(|point| text(&point.attributes) == fast).collect();
            assert_eq!((counts.len(), counts[0].start_time_unix_nano), (1, start));
            assert_eq!(counts[0].value, Some(integer(10)));
            let tail = format!("{PAIR} network.tcp.retransmit.type=tail_loss_probe");
            assert!(sum.data_points.iter().any(|point| text(&point.attributes) == tail));
            let Some(Data::Gauge(gauge)) = &metrics["system.network.tcp.rtt.base"].data else { panic!("no gauge") };
            assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(0.018)));
            let Some(Data::Gauge(gauge)) = &metrics["go_metro.flows"].data else { panic!("no gauge") };
            assert_eq!(gauge.data_points[0].value, Some(integer(7)));
            assert!(!metrics.contains_key("go_metro.memory"), "it is not known");
            let Some(Data::Sum(sum)) = &metrics["go_metro.send_errors"].data else { panic!("no sum") };
            let began = nanoseconds(second.at - Duration::from_secs(100));
            assert_eq!((sum.data_points[0].value, sum.data_points[0].start_time_unix_nano), (Some(integer(3)), began));
        }
    }

    #[test]
    fn every_metric_has_the_unit_and_the_type_that_the_pages_list() {
        let mut totals = Totals::new(LABELLING, 10);
        totals.add(&report(vec![counted("db", &[20_000])]), Instant::now());
        let body = writer(false).bodies(&snapshot(&totals, UNIX_EPOCH + Duration::from_secs(200))).next().unwrap();
        let metrics = metrics_of(read(&body, false));
        assert!(metrics.contains_key("system.network.tcp.zero_window"));
        let listed = metrics::listing::all();
        for (name, metric) in metrics {
            let listed = listed.iter().find(|listed| listed.otlp.as_ref() == Some(&name)).expect(&name);
            let kind = match metric.data.unwrap() {
                Data::Gauge(_) => "gauge",
                Data::Sum(_) => "sum",
                _ => "exponential histogram",
            };
            assert_eq!((listed.otlp_unit, listed.otlp_type), (metric.unit.as_str(), kind), "{name}");
        }
    }

    #[test]
    fn what_is_not_there_has_no_point_and_a_silent_pair_only_its_totals() {
        let mut totals = Totals::new(LABELLING, 10);
        totals.add(&report(vec![pair("db", &[20_000], &[])]), Instant::now());
        let mut silent = report(vec![]);
        silent.at += Duration::from_secs(30);
        totals.add(&silent, Instant::now());
        let writer = writer(false);
        let body = writer.bodies(&snapshot(&totals, silent.at)).next().unwrap();
        let metrics = metrics_of(read(&body, false));
        let of_pair: Vec<&String> = metrics.keys().filter(|name| name.starts_with("system.")).collect();
        assert_eq!(of_pair, ["system.network.tcp.rtt"]);
        assert_eq!(points(&metrics["go_metro.pairs"]), 1);
    }

    #[test]
    fn many_pairs_are_several_requests_and_each_pair_is_in_one() {
        let mut totals = Totals::new(LABELLING, 2000);
        let pairs = (0..2 * PAIRS_PER_REQUEST + 1).map(|k| pair(&format!("h{k}"), &[1000 + k as u64], &[]));
        let report = report(pairs.collect());
        totals.add(&report, Instant::now());
        let writer = writer(true);
        let bodies: Vec<Body> = writer.bodies(&snapshot(&totals, report.at)).collect();
        assert_eq!(bodies.len(), 3);
        let requests: Vec<_> = bodies.iter().map(|body| metrics_of(read(body, true))).collect();
        let counts: Vec<u64> = requests.iter().map(|metrics| points(&metrics["system.network.tcp.rtt"])).collect();
        assert_eq!(counts, [500, 500, 1]);
        assert_eq!(requests.iter().filter(|metrics| metrics.contains_key("go_metro.packets")).count(), 1);
    }
}
