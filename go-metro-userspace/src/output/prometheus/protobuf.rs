//! The page as protocol buffers, the only form that has native histograms: one `io.prometheus.client.MetricFamily`
//! after the other, each behind its length.
//!
//! The messages are those of `io/prometheus/client/metrics.proto` in prometheus/client_model 0.6, as far as they are
//! used. A family is written metric by metric, so that it is nowhere whole.

use std::time::{SystemTime, UNIX_EPOCH};

use go_metro_common::metric::{self, Kind};
use go_metro_rtt::{Buckets, Exponential};
use prost::Message;
use prost::encoding::{encode_varint, message};

use super::exposition::{Snapshot, with_labels};
use super::page::{Compressor, PageError};
use crate::metrics::pair::{self, Value};
use crate::metrics::{self, Reading, Scraped};
use crate::output::totals::{Growing, Labels, QUANTILES, Series};

/// `MetricType`.
const COUNTER: i32 = 0;
const GAUGE: i32 = 1;
const HISTOGRAM: i32 = 4;

/// `MetricFamily` without its metrics, which follow as field [`METRIC`].
#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

/// The number of the field `metric`.
const METRIC: u32 = 4;

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Gauge {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Counter {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    created_timestamp: Option<Timestamp>,
}

/// Of a classic histogram.
#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

/// Buckets of a native histogram that follow one another.
#[derive(Clone, Copy, PartialEq, Message)]
struct BucketSpan {
    /// From the end of the span before; of the first its index.
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() as i32 }
    }
}

/// Writes all metrics, those of which there are any.
///
/// # Errors
///
/// The page is too large.
pub(super) fn write(snapshot: &Snapshot, page: &mut Compressor) -> Result<(), PageError> {
    let Snapshot { health, series, buckets, backend, expired } = snapshot;
    let all = || series.iter().map(|(labels, series)| (&**labels, &**series));
    for (at, metric) in pair::ALL.iter().enumerate() {
        let Some(name) = metric.prometheus else { continue };
        let name = format!("{name}_seconds");
        match metric.value {
            Value::EachSample | Value::EachHandshake | Value::EachResponse => {
                let grown = || all().filter_map(|(labels, series)| Some((labels, series, series.each(metric.value)?)));
                let metrics = || grown().filter_map(|(labels, series, each)| histogram(labels, series, each, *buckets));
                family(page, &name, metric.help, HISTOGRAM, metrics)?;
            }
            Value::Quantiles => family(page, &name, metric.help, GAUGE, || all().flat_map(quantiles))?,
            Value::Data(_) | Value::Kernel(_) | Value::Base(_) | Value::Host(_) => {
                let metrics = || all().filter_map(|(labels, series)| Some(gauge(labels, series.last?.gauges[at]?)));
                family(page, &name, metric.help, GAUGE, metrics)?;
            }
        }
    }
    for metric in pair::PEER {
        let metrics = || {
            let counted = all().filter_map(|(labels, series)| Some((labels, series.health.as_ref()?)));
            counted.flat_map(|(labels, (since, health))| {
                let each = (metric.values)(health).into_iter();
                let value = |count: u64| if metric.is_time() { count as f64 / 1e3 } else { count as f64 };
                each.map(move |(more, count)| counter(&with_labels(labels, &more), value(count), Some(*since)))
            })
        };
        let unit = if metric.is_time() { "_seconds" } else { "" };
        family(page, &format!("{}{unit}_total", metric.prometheus_name()), metric.help, COUNTER, metrics)?;
    }
    let scraped = Scraped { pairs: series.len() as u64, expired: *expired };
    let own = metrics::readings(health).filter(|reading| reading.meta.is_sent);
    for reading in own.chain(metrics::read(Scraped::METRICS, &scraped)) {
        write_own(page, &reading)?;
    }
    let (name, help, _) = metrics::BUILD;
    let about = vec![
        ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("backend".to_owned(), (*backend).to_owned()),
    ];
    family(page, &format!("{name}_info"), help, GAUGE, || std::iter::once(gauge(&about, 1.0)))
}

fn write_own(page: &mut Compressor, reading: &Reading) -> Result<(), PageError> {
    let meta = reading.meta;
    let (end, kind) = match (meta.kind, meta.unit) {
        (Kind::Counter, _) => ("_total", COUNTER),
        (Kind::Gauge, metric::Unit::Byte) => ("_bytes", GAUGE),
        (Kind::Gauge, _) => ("", GAUGE),
    };
    let metrics = || {
        let labelled = |index: usize| {
            meta.labels.get(index).map(|label| (meta.key.to_owned(), (*label).to_owned())).into_iter().collect()
        };
        reading.values.iter().enumerate().map(move |(index, value)| {
            let labels: Labels = labelled(index);
            if kind == COUNTER { counter(&labels, *value as f64, None) } else { gauge(&labels, *value as f64) }
        })
    };
    family(page, &(metrics::prometheus_name(meta) + end), meta.explained(), kind, metrics)
}

/// Writes a family whose metrics are made twice: for its length, and for itself.
fn family<I: Iterator<Item = Metric>>(
    page: &mut Compressor,
    name: &str,
    help: &str,
    kind: i32,
    metrics: impl Fn() -> I,
) -> Result<(), PageError> {
    let head = Family { name: Some(name.to_owned()), help: Some(help.to_owned()), kind: Some(kind) };
    let length: usize = metrics().map(|metric| message::encoded_len(METRIC, &metric)).sum();
    if length == 0 {
        return Ok(());
    }
    let mut bytes = Vec::new();
    encode_varint((head.encoded_len() + length) as u64, &mut bytes);
    head.encode_raw(&mut bytes);
    page.write(&bytes)?;
    for metric in metrics() {
        bytes.clear();
        message::encode(METRIC, &metric, &mut bytes);
        page.write(&bytes)?;
    }
    Ok(())
}

fn label_pairs(labels: &Labels) -> Vec<LabelPair> {
    let pair = |(name, value): &(String, String)| LabelPair { name: Some(name.clone()), value: Some(value.clone()) };
    labels.iter().map(pair).collect()
}

fn gauge(labels: &Labels, value: f64) -> Metric {
    Metric { label: label_pairs(labels), gauge: Some(Gauge { value: Some(value) }), ..Metric::default() }
}

fn counter(labels: &Labels, value: f64, since: Option<SystemTime>) -> Metric {
    let counter = Counter { value: Some(value), created_timestamp: since.map(Timestamp::from) };
    Metric { label: label_pairs(labels), counter: Some(counter), ..Metric::default() }
}

fn quantiles((labels, series): (&Labels, &Series)) -> Vec<Metric> {
    let values = series.last.and_then(|last| last.quantiles);
    let each = values.iter().flat_map(|values| QUANTILES.iter().zip(values));
    let labelled = each.map(|((_, quantile), value)| {
        let more = [("q".to_owned(), (*quantile).to_owned())];
        gauge(&labels.iter().cloned().chain(more).collect(), *value)
    });
    labelled.collect()
}

/// Both kinds of histogram in one: the server takes the native one if it is set to, else the classic one.
fn histogram(labels: &Labels, series: &Series, growing: &Growing, buckets: Buckets) -> Option<Metric> {
    if growing.count == 0 {
        return None;
    }
    let mut below = 0;
    let classic = growing.buckets.counts(buckets).map(|(ns, count)| {
        below += count;
        let upper_bound = Some(ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e9));
        Bucket { cumulative_count: Some(below), upper_bound }
    });
    let (positive_span, positive_delta) = native(&growing.exponential);
    let histogram = Histogram {
        sample_count: Some(growing.count),
        sample_sum: Some(growing.sum_seconds),
        bucket: classic.collect(),
        schema: Some(Exponential::SCALE),
        // Nothing takes no time at all.
        zero_threshold: Some(0.0),
        zero_count: Some(0),
        positive_span,
        positive_delta,
        created_timestamp: Some(series.since.into()),
    };
    Some(Metric { label: label_pairs(labels), histogram: Some(histogram), ..Metric::default() })
}

/// Most empty buckets that are written between others: a span takes as many bytes.
const GAP: usize = 4;

/// The buckets that have any, as spans and the differences of their counts.
///
/// Prometheus's bucket of an index ends where OpenTelemetry's of that index begins.
fn native(exponential: &Exponential) -> (Vec<BucketSpan>, Vec<i64>) {
    let (first, counts) = exponential.buckets();
    let (mut spans, mut deltas) = (Vec::<BucketSpan>::new(), Vec::new());
    let (mut before, mut end) = (0, None::<usize>);
    for (place, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        // Empty ones since the last one.
        let skipped = end.map(|end| place - end);
        match (skipped, spans.last_mut()) {
            (Some(skipped), Some(span)) if skipped <= GAP => {
                for _ in 0..skipped {
                    deltas.push(-before);
                    before = 0;
                }
                span.length = span.length.map(|length| length + skipped as u32 + 1);
            }
            (skipped, _) => {
                let offset = skipped.map_or(first + place as i32 + 1, |skipped| skipped as i32);
                spans.push(BucketSpan { offset: Some(offset), length: Some(1) });
            }
        }
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        before = count;
        end = Some(place + 1);
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use go_metro_rtt::Rtt;
    use prost::encoding::decode_varint;

    use super::*;
    use crate::output::examples::{counted, pair, report};
    use crate::output::prometheus::Prometheus;
    use crate::output::prometheus::page::Format;

    /// A family with its metrics.
    #[derive(Clone, PartialEq, Message)]
    struct Whole {
        #[prost(string, optional, tag = "1")]
        name: Option<String>,
        #[prost(int32, optional, tag = "3")]
        kind: Option<i32>,
        #[prost(message, repeated, tag = "4")]
        metric: Vec<Metric>,
    }

    fn families(sink: &Prometheus) -> BTreeMap<String, Whole> {
        let mut inflated = Arc::new(sink.exposition().encode(Format::Protobuf).unwrap()).plain();
        let page: Vec<u8> = std::iter::from_fn(|| inflated.next_piece().unwrap()).flatten().collect();
        let mut rest = &*page;
        let mut families = BTreeMap::new();
        while !rest.is_empty() {
            let length = decode_varint(&mut rest).unwrap() as usize;
            let whole = Whole::decode(&rest[..length]).unwrap();
            families.insert(whole.name.clone().unwrap(), whole);
            rest = &rest[length..];
        }
        families
    }

    /// The counts of a native histogram by the upper bounds of their buckets.
    fn counts(histogram: &Histogram) -> Vec<(f64, i64)> {
        let (mut index, mut count, mut deltas) = (0, 0, histogram.positive_delta.iter());
        let mut counts = Vec::new();
        for span in &histogram.positive_span {
            index += span.offset.unwrap();
            for _ in 0..span.length.unwrap() {
                count += deltas.next().unwrap();
                // As Prometheus has it: bucket i ends at base^i.
                counts.push(((f64::from(index) / 128.0).exp2(), count));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        counts
    }

    #[test]
    fn a_histogram_is_native_and_classic_and_both_have_every_sample() {
        let sink = Prometheus::new(10, Buckets::Fine);
        sink.report(&report(vec![pair("db", &[20_000, 20_000, 20_400, 300_000], &[19_000])]));
        let families = families(&sink);
        let rtt = &families["go_metro_tcp_rtt_seconds"];
        let [metric] = &*rtt.metric else { panic!("{rtt:?}") };
        let histogram = metric.histogram.as_ref().unwrap();
        assert_eq!((rtt.kind, histogram.sample_count, histogram.bucket.len()), (Some(HISTOGRAM), Some(4), 115));
        assert_eq!(histogram.bucket.last().unwrap().cumulative_count, Some(4));
        assert_eq!(histogram.bucket.last().unwrap().upper_bound, Some(f64::INFINITY));
        let at_20_ms = histogram.bucket.iter().find(|bucket| bucket.upper_bound == Some(0.02)).unwrap();
        assert_eq!(at_20_ms.cumulative_count, Some(2));
        let native = counts(histogram);
        let in_bucket = |seconds: f64| {
            native.iter().find(|(bound, _)| seconds <= *bound && seconds > bound / 1.0055).map(|(_, count)| *count)
        };
        assert_eq!([0.02, 0.0204, 0.3].map(in_bucket), [Some(2), Some(1), Some(1)]);
        assert_eq!(native.iter().map(|(_, count)| count).sum::<i64>(), 4);
        let start = Timestamp { seconds: 1_700_000_000 - 30, nanos: 0 };
        assert_eq!((histogram.created_timestamp, histogram.schema), (Some(start), Some(7)));
        assert!(families.contains_key("go_metro_tcp_connect_seconds"));
    }

    #[test]
    fn spans_leave_out_what_is_far_apart_and_give_back_every_count() {
        for values in [&[1][..], &[5_000, 5_000, 5_030, 7_000, 90_000_000], &[1, u64::MAX], &[]] {
            let mut exponential = Exponential::default();
            values.iter().for_each(|ns| exponential.add(Rtt(*ns)));
            let (positive_span, positive_delta) = native(&exponential);
            let histogram = Histogram { positive_span, positive_delta, ..Histogram::default() };
            let found: Vec<_> = counts(&histogram).into_iter().filter(|(_, count)| *count > 0).collect();
            let (first, counts) = exponential.buckets();
            let of = (first..).zip(counts).filter(|(_, count)| **count > 0);
            let expected: Vec<_> = of.map(|(index, count)| (Exponential::upper_bound(index), *count as i64)).collect();
            assert_eq!(found, expected, "{values:?}");
            assert!(histogram.positive_delta.len() <= values.len() * (GAP + 1));
        }
    }

    #[test]
    fn counters_and_gauges_have_the_names_of_the_text_and_what_has_no_value_is_not_there() {
        let sink = Prometheus::new(10, Buckets::Coarse);
        sink.report(&report(vec![counted("db", &[20_000])]));
        let families = families(&sink);
        let fast = families["go_metro_tcp_peer_retransmits_total"].metric.iter().find(|metric| {
            metric
                .label
                .iter()
                .any(|label| label.name.as_deref() == Some("cause") && label.value.as_deref() == Some("fast"))
        });
        assert_eq!(fast.unwrap().counter.unwrap().value, Some(5.0));
        assert_eq!(families["go_metro_tcp_rtt_base_seconds"].metric[0].gauge.unwrap().value, Some(0.018));
        assert_eq!(families["go_metro_tcp_rtt_quantile_seconds"].metric.len(), 3);
        assert_eq!(families["go_metro_build_info"].metric[0].gauge.unwrap().value, Some(1.0));
        assert!(families.contains_key("go_metro_memory_bytes") && families.contains_key("go_metro_packets_total"));
        assert!(!families.contains_key("go_metro_tcp_connect_seconds"), "nothing was connected");
    }
}
