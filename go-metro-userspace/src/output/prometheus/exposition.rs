//! The Prometheus sink: what is measured as histograms that grow for as long as the process lives, for a server that
//! scrapes them.
//!
//! Which metrics there are is declared in [`crate::metrics`]. [`Totals`] are what is shown; instances' tags are labels
//! too, and beyond `max_pairs` all others are `dst="other"`, so that no scrape grows without bound.
//!
//! [`prometheus_client`] writes OpenMetrics; a [`Page`] is that, or the same in the older text format, compressed, or
//! what [`protobuf`] writes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use go_metro_common::metric::{self, Kind};
use go_metro_rtt::{Buckets, PeerHealth};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::page::{Compressor, Format, MAX_BYTES, Page, PageError, PageWriter};
use super::protobuf;
use crate::metrics::pair::{self, Value};
use crate::metrics::{self, Health, Reading, Scraped};
use crate::output::naming::OTHER;
use crate::output::totals::{Labelling, Labels, QUANTILES, Series, Totals};
use crate::output::{NamedPair, Report};

/// What is scraped; shared by the sink that fills it and the server that hands it out.
#[derive(Debug)]
pub struct Exposition {
    inner: Mutex<Inner>,
    /// By format.
    pages: [Mutex<Pages>; Format::COUNT],
    /// Why there was no page when one was last wanted.
    problem: Mutex<Option<PageError>>,
}

/// The page as it was last made, which all scrapers share.
#[derive(Debug, Default)]
struct Pages {
    current: Option<(u64, Arc<Page>)>,
    /// The one before, as long as a slow scraper is still being sent it.
    old: Weak<Page>,
}

/// Takes reports for scrapers.
#[derive(Clone, Debug)]
pub struct Prometheus(Arc<Exposition>);

#[derive(Debug)]
struct Inner {
    /// Grows with each change of what is shown.
    generation: u64,
    buckets: Buckets,
    backend: &'static str,
    health: Health,
    totals: Totals,
}

/// How series are labelled here.
const LABELLING: Labelling = Labelling {
    of: labels,
    of_others: || ["src", "dst", "iface"].map(|key| (key.to_owned(), OTHER.to_owned())).to_vec(),
};

impl Prometheus {
    /// A sink that keeps at most `max_series` pairs apart and shows these buckets.
    pub fn new(max_series: usize, buckets: Buckets) -> Self {
        let totals = Totals::new(LABELLING, max_series);
        let inner = Inner { generation: 0, buckets, backend: "none", health: Health::default(), totals };
        Self(Arc::new(Exposition { inner: Mutex::new(inner), pages: Default::default(), problem: Mutex::default() }))
    }

    /// Keeps at most so many pairs apart and shows these buckets, from now on. Pairs that are there stay.
    pub fn follow(&self, max_series: usize, buckets: Buckets) {
        let mut inner = self.0.lock();
        inner.totals.keep_apart(max_series);
        inner.buckets = buckets;
        inner.generation += 1;
    }

    /// Shows nothing of the health of connections any more, as it is not counted.
    pub fn forget_health(&self) {
        let mut inner = self.0.lock();
        inner.totals.forget_health();
        inner.generation += 1;
    }

    /// What it fills.
    pub fn exposition(&self) -> Arc<Exposition> {
        self.0.clone()
    }

    /// Adds a report.
    pub fn report(&self, report: &Report) {
        self.0.lock().add(report, Instant::now());
    }
}

impl Exposition {
    /// All metrics.
    ///
    /// # Errors
    ///
    /// The page is larger than [`MAX_BYTES`].
    pub fn encode(&self, format: Format) -> Result<Page, PageError> {
        let snapshot = self.lock().snapshot();
        if format == Format::Protobuf {
            let mut page = Compressor::new(MAX_BYTES);
            return protobuf::write(&snapshot, &mut page).and_then(|()| page.finish());
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(snapshot));
        let mut writer = PageWriter::new(format, MAX_BYTES);
        let written = text::encode(&mut writer, &registry);
        let page = writer.finish()?;
        written.map(|()| page).map_err(|error| PageError::Write(error.to_string()))
    }

    /// All metrics, encoded once for all who ask: however many scrapers there are, and however slow, there are two
    /// pages of a format at most. While one from before the last report is still being sent, all others get the one
    /// after it.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    pub fn page(&self, format: Format) -> Result<Arc<Page>, PageError> {
        let mut pages = self.pages[format as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.lock().generation;
        let is_stale = pages.current.as_ref().is_none_or(|(of, _)| *of != generation);
        if is_stale && pages.old.strong_count() == 0 {
            // Gone before the next is made, unless it is being sent.
            pages.old = pages.current.take().map(|(_, page)| Arc::downgrade(&page)).unwrap_or_default();
            let made = self.encode(format);
            let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = &made
                && problem.as_ref() != Some(error)
            {
                tracing::error!("{error}");
            }
            *problem = made.as_ref().err().cloned();
            pages.current = Some((generation, Arc::new(made?)));
        }
        match &pages.current {
            Some((_, page)) => Ok(page.clone()),
            // The page before is still being sent, and none could be made since.
            None => Err(self.problem().unwrap_or(PageError::TooLarge)),
        }
    }

    /// Why there was no page when one was last wanted.
    pub fn problem(&self) -> Option<PageError> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a page is made of. Reports that come meanwhile change copies.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) series: Vec<(Arc<Labels>, Arc<Series>)>,
    pub(super) buckets: Buckets,
    pub(super) backend: &'static str,
    pub(super) health: Health,
    pub(super) expired: u64,
}

impl Inner {
    fn snapshot(&self) -> Snapshot {
        let Self { buckets, backend, health, .. } = *self;
        Snapshot { series: self.totals.sorted(), buckets, backend, health, expired: self.totals.expired() }
    }

    fn add(&mut self, report: &Report, now: Instant) {
        self.generation += 1;
        self.backend = report.backend;
        self.health = report.health;
        self.totals.add(report, now);
    }
}

/// A pair's labels. A tag `key:value` is one too; a key that cannot be, or that is taken, is made so that it can, and
/// values of one key are joined.
fn labels(pair: &NamedPair) -> Labels {
    let mut labels: Labels = [("src", &pair.src), ("dst", &pair.dst), ("iface", &pair.iface)]
        .map(|(k, v)| (k.to_owned(), v.clone()))
        .to_vec();
    if let Some(side) = pair.side {
        labels.push(("side".to_owned(), side.name().to_owned()));
    }
    let own = labels.len();
    let mut tags: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for tag in pair.tags.iter() {
        let (key, value) = tag.split_once(':').unwrap_or((tag, "true"));
        let mut key: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        // `le` is a histogram's own, `quantile` a summary's and `q` our gauge's; two underscores in front are
        // Prometheus's.
        let is_taken = labels[..own].iter().any(|(known, _)| *known == key)
            || matches!(key.as_str(), "le" | "quantile" | "q" | "side");
        if is_taken || key.starts_with("__") || !key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            key.insert_str(0, "tag_");
        }
        tags.entry(key).or_default().push(value);
    }
    labels.extend(tags.into_iter().map(|(key, values)| (key, values.join(","))));
    labels
}

/// A pair's labels and a metric's own, which take precedence: a tag of the same key is renamed there, and nowhere else.
pub(super) fn with_labels(pair: &Labels, own: &[(&'static str, &'static str)]) -> Labels {
    let is_own = |key: &str| own.iter().any(|(taken, _)| *taken == key);
    let renamed = |key: &str| if is_own(key) { format!("tag_{key}") } else { key.to_owned() };
    let pair = pair.iter().map(|(key, value)| (renamed(key), value.clone()));
    pair.chain(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))).collect()
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { health, series, buckets, backend, expired } = self;
        let sorted: Vec<(&Labels, &Series)> = series.iter().map(|(labels, series)| (&**labels, &**series)).collect();
        for (at, metric) in pair::ALL.iter().enumerate() {
            let Some(name) = metric.prometheus else { continue };
            // Nobody has asked for it.
            if matches!(metric.value, Value::EachResponse) && series.iter().all(|(_, all)| all.response.is_none()) {
                continue;
            }
            let kind = if metric.value.is_each() { MetricType::Histogram } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(name, metric.help, Some(&Unit::Seconds), kind)?;
            match metric.value {
                Value::EachSample | Value::EachHandshake | Value::EachResponse => {
                    histogram(family, &sorted, *buckets, metric.value)?;
                }
                Value::Quantiles => quantiles(family, &sorted)?,
                Value::Data(_) | Value::Kernel(_) | Value::Base(_) | Value::Host(_) => {
                    let values = sorted.iter().filter_map(|(labels, series)| Some((*labels, series.last?.gauges[at]?)));
                    for (labels, value) in values {
                        family.encode_family(labels)?.encode_gauge(&value)?;
                    }
                }
            }
        }
        let counted = sorted.iter().filter_map(|(labels, series)| Some((*labels, &series.health.as_ref()?.1)));
        let counted: Vec<(&Labels, &PeerHealth)> = counted.collect();
        for metric in pair::PEER.iter().filter(|_| !counted.is_empty()) {
            let name = metric.prometheus_name();
            let unit = metric.is_time().then_some(&Unit::Seconds);
            let mut family = encoder.encode_descriptor(&name, metric.help, unit, MetricType::Counter)?;
            for (labels, health) in &counted {
                for (more, count) in (metric.values)(health) {
                    let labels = with_labels(labels, &more);
                    let mut one = family.encode_family(&labels)?;
                    if metric.is_time() {
                        one.encode_counter::<NoLabelSet, _, f64>(&(count as f64 / 1e3), None)?;
                    } else {
                        one.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                    }
                }
            }
        }
        let scraped = Scraped { pairs: series.len() as u64, expired: *expired };
        let own_metrics = metrics::readings(health).filter(|reading| reading.meta.is_sent);
        for reading in own_metrics.chain(metrics::read(Scraped::METRICS, &scraped)) {
            own(&mut encoder, &reading)?;
        }
        let (name, help, _) = metrics::BUILD;
        let about = [("version", env!("CARGO_PKG_VERSION")), ("backend", *backend)];
        encoder.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&about)
    }
}

fn histogram(mut metric: MetricEncoder<'_>, all: &[(&Labels, &Series)], buckets: Buckets, value: Value) -> fmt::Result {
    let growing = all.iter().filter_map(|(labels, series)| Some((*labels, series.each(value)?)));
    for (labels, growing) in growing.filter(|(_, growing)| growing.count > 0) {
        let bound = |ns: Option<u64>| ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e9);
        let buckets: Vec<(f64, u64)> = growing.buckets.counts(buckets).map(|(ns, count)| (bound(ns), count)).collect();
        let mut one = metric.encode_family(labels)?;
        one.encode_histogram::<NoLabelSet>(growing.sum_seconds, growing.count, &buckets, None)?;
    }
    Ok(())
}

fn quantiles(mut metric: MetricEncoder<'_>, all: &[(&Labels, &Series)]) -> fmt::Result {
    for (labels, values) in all.iter().filter_map(|(labels, series)| Some((*labels, series.last?.quantiles?))) {
        for ((_, quantile), value) in QUANTILES.iter().zip(values) {
            let mut labels = labels.clone();
            // `promtool check metrics` refuses `quantile` on all but summaries.
            labels.push(("q".to_owned(), (*quantile).to_owned()));
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

/// One of the daemon's own, by its labels if it has any.
fn own(encoder: &mut DescriptorEncoder<'_>, reading: &Reading) -> fmt::Result {
    let meta = reading.meta;
    let unit = (meta.unit == metric::Unit::Byte).then_some(&Unit::Bytes);
    let kind = match meta.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let name = metrics::prometheus_name(meta);
    let mut family = encoder.encode_descriptor(&name, meta.explained(), unit, kind)?;
    let value = |mut one: MetricEncoder<'_>, value: u64| match meta.kind {
        Kind::Counter => one.encode_counter::<NoLabelSet, u64, f64>(&value, None),
        Kind::Gauge => one.encode_gauge(&(value as f64)),
    };
    if meta.labels.is_empty() {
        return value(family, reading.total());
    }
    for (label, count) in reading.by_label() {
        value(family.encode_family(&[(meta.key, label)])?, count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::examples::{pair, report, responding};
    use crate::output::totals::EXPIRE_AFTER;

    #[test]
    fn all_scrapers_share_a_page_and_there_are_two_at_most() {
        let sink = Prometheus::new(10, Buckets::default());
        let page = || sink.exposition().page(Format::Classic).unwrap();
        let [first, same] = [page(), page()];
        assert!(Arc::ptr_eq(&first, &same));
        sink.report(&report(vec![pair("a", &[1000], &[])]));
        let second = page();
        assert!(!Arc::ptr_eq(&second, &first) && second.plain().left() > first.plain().left());
        sink.report(&report(vec![pair("b", &[1000], &[])]));
        let sent = [first.gzip(), first.gzip()];
        drop((first, same));
        assert!(Arc::ptr_eq(&page(), &second), "the first is still being sent");
        drop(sent);
        assert!(page().plain().left() > second.plain().left());
    }

    fn scraped(sink: &Prometheus, format: Format) -> String {
        let mut inflated = Arc::new(sink.exposition().encode(format).unwrap()).plain();
        let pieces = std::iter::from_fn(|| inflated.next_piece().unwrap());
        String::from_utf8(pieces.flatten().collect()).unwrap()
    }

    #[test]
    fn samples_add_up_in_buckets_for_as_long_as_the_process_lives() {
        let sink = Prometheus::new(10, Buckets::Fine);
        sink.report(&report(vec![pair("db", &[20_000, 23_500], &[19_000])]));
        sink.report(&report(vec![pair("db", &[150_001], &[])]));
        let text = scraped(&sink, Format::OpenMetrics);
        let labels = r#"src="10.42.31.222",dst="db",iface="va",env="test""#;
        for line in [
            "# TYPE go_metro_tcp_rtt_seconds histogram",
            "# UNIT go_metro_tcp_rtt_seconds seconds",
            &format!("go_metro_tcp_rtt_seconds_count{{{labels}}} 3"),
            &format!("go_metro_tcp_rtt_seconds_bucket{{le=\"0.02\",{labels}}} 1"),
            &format!("go_metro_tcp_rtt_seconds_bucket{{le=\"0.024\",{labels}}} 2"),
            &format!("go_metro_tcp_rtt_seconds_bucket{{le=\"0.141\",{labels}}} 2"),
            &format!("go_metro_tcp_rtt_seconds_bucket{{le=\"0.154\",{labels}}} 3"),
            &format!("go_metro_tcp_rtt_quantile_seconds{{{labels},q=\"0.95\"}} 0.150001"),
            &format!("go_metro_tcp_rtt_seconds_bucket{{le=\"+Inf\",{labels}}} 3"),
            &format!("go_metro_tcp_connect_seconds_count{{{labels}}} 1"),
            &format!("go_metro_tcp_rtt_last_seconds{{{labels}}} 0.150001"),
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        let sum = text.lines().find(|line| line.starts_with("go_metro_tcp_rtt_seconds_sum")).unwrap();
        assert!((sum.rsplit(' ').next().unwrap().parse::<f64>().unwrap() - 0.193_501).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn what_is_counted_of_connections_grows_and_nothing_is_shown_of_it_where_it_is_not() {
        use super::super::super::examples::counted;
        let sink = Prometheus::new(10, Buckets::Coarse);
        sink.report(&report(vec![pair("db", &[20_000], &[])]));
        assert!(!scraped(&sink, Format::OpenMetrics).contains("go_metro_tcp_peer"));
        sink.report(&report(vec![counted("db", &[20_000]), pair("cache", &[300], &[])]));
        sink.report(&report(vec![counted("db", &[])]));
        let text = scraped(&sink, Format::OpenMetrics);
        let labels = r#"src="10.42.31.222",dst="db",iface="va",env="test""#;
        for line in [
            "# TYPE go_metro_tcp_peer_segments counter",
            &format!("go_metro_tcp_peer_segments_total{{{labels}}} 1600"),
            &format!("go_metro_tcp_peer_retransmits_total{{{labels},cause=\"fast\"}} 10"),
            &format!("go_metro_tcp_peer_retransmits_total{{{labels},cause=\"timeout\"}} 0"),
            &format!("go_metro_tcp_peer_connects_total{{{labels},result=\"refused\",role=\"client\"}} 4"),
            &format!("go_metro_tcp_peer_zero_window_seconds_total{{{labels}}} 0.5"),
            &format!("go_metro_tcp_peer_ece_total{{{labels}}} 8"),
            &format!("go_metro_tcp_rtt_base_seconds{{{labels}}} 0.018"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains(r#"go_metro_tcp_peer_segments_total{src="10.42.31.222",dst="cache""#), "{text}");
        let tagged = NamedPair { tags: Arc::from(["role:db".to_owned()]), ..counted("db2", &[20_000]) };
        sink.report(&report(vec![tagged]));
        let text = scraped(&sink, Format::OpenMetrics);
        let labels = r#"src="10.42.31.222",dst="db2",iface="va""#;
        for line in [
            &format!("go_metro_tcp_rtt_seconds_count{{{labels},role=\"db\"}} 1"),
            &format!("go_metro_tcp_peer_closes_total{{{labels},role=\"db\"}} 3"),
            &format!(
                "go_metro_tcp_peer_connects_total{{{labels},tag_role=\"db\",result=\"refused\",role=\"client\"}} 2"
            ),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        sink.forget_health();
        assert!(!scraped(&sink, Format::OpenMetrics).contains("go_metro_tcp_peer"));
    }

    #[test]
    fn responses_are_a_histogram_where_they_are_timed() {
        let sink = Prometheus::new(10, Buckets::Fine);
        sink.report(&report(vec![pair("db", &[20_000], &[])]));
        assert!(!scraped(&sink, Format::OpenMetrics).contains("peer_response"));
        let kernel = Some(pair::KernelRtt::of(go_metro_rtt::Rtt(20_500_000), None));
        sink.report(&report(vec![NamedPair { kernel, ..responding("db", &[20_000], &[5_000, 7_000]) }]));
        let text = scraped(&sink, Format::OpenMetrics);
        let labels = r#"src="10.42.31.222",dst="db",iface="va",env="test""#;
        for line in [
            "# TYPE go_metro_tcp_peer_response_seconds histogram",
            &format!("go_metro_tcp_peer_response_seconds_count{{{labels}}} 2"),
            &format!("go_metro_tcp_peer_response_seconds_sum{{{labels}}} 0.012"),
            &format!("go_metro_tcp_rtt_host_seconds{{{labels}}} 0.0005"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn a_silent_pair_loses_its_gauges_at_once_and_its_histogram_after_a_while() {
        let sink = Prometheus::new(10, Buckets::Fine);
        sink.report(&report(vec![pair("db", &[20_000], &[])]));
        sink.report(&report(vec![]));
        let text = scraped(&sink, Format::Classic);
        assert!(text.contains("go_metro_tcp_rtt_seconds_count{") && !text.contains("rtt_last_seconds{"), "{text}");
        sink.0.lock().add(&report(vec![]), Instant::now() + EXPIRE_AFTER);
        let text = scraped(&sink, Format::Classic);
        assert!(!text.contains("go_metro_tcp_rtt_seconds_count{") && text.contains("pairs_expired_total 1"), "{text}");
    }

    #[test]
    fn pairs_beyond_the_bound_are_others() {
        let sink = Prometheus::new(2, Buckets::Coarse);
        sink.report(&report((0..5).map(|k| pair(&format!("h{k}"), &[1000], &[])).collect()));
        let text = scraped(&sink, Format::Classic);
        assert!(text.contains(r#"rtt_seconds_count{src="other",dst="other",iface="other"} 3"#), "{text}");
    }

    #[test]
    fn no_name_or_tag_breaks_a_line() {
        let mut hostile = pair("x\"} 1\n# EOF\\", &[1000], &[]);
        hostile.tags = ["le:1", "src:y", "9lives", "a b:c", "a-b:d", "__name__:z"].map(str::to_owned).into();
        let sink = Prometheus::new(2, Buckets::Coarse);
        sink.report(&report(vec![hostile]));
        let text = scraped(&sink, Format::Classic);
        let count = text.lines().find(|line| line.starts_with("go_metro_tcp_rtt_seconds_count")).unwrap();
        assert_eq!(
            count,
            concat!(
                r#"go_metro_tcp_rtt_seconds_count{src="10.42.31.222",dst="x\"} 1\n# EOF\\",iface="va",a_b="c,d","#,
                r#"tag_9lives="true",tag___name__="z",tag_le="1",tag_src="y"} 1"#
            )
        );
    }

    #[test]
    fn more_pairs_are_kept_apart_once_a_reload_allows_them() {
        let sink = Prometheus::new(1, Buckets::Coarse);
        let both = || report(vec![pair("10.0.0.1", &[1000], &[]), pair("10.0.0.2", &[1000], &[])]);
        let second = |text: &str| text.contains(r#"dst="10.0.0.2""#);
        sink.report(&both());
        assert!(!second(&scraped(&sink, Format::Classic)));
        // What was folded is a row of its own.
        sink.follow(3, Buckets::Coarse);
        sink.report(&both());
        assert!(second(&scraped(&sink, Format::Classic)));
    }

    #[test]
    fn the_older_format_has_full_names_and_only_its_own_words() {
        let sink = Prometheus::new(2, Buckets::Coarse);
        sink.report(&report(vec![]));
        let text = scraped(&sink, Format::Classic);
        assert!(text.contains("# TYPE go_metro_packets_total counter\ngo_metro_packets_total 0\n"), "{text}");
        assert!(text.contains("# TYPE go_metro_build_info gauge\ngo_metro_build_info{version="), "{text}");
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
    }
}
