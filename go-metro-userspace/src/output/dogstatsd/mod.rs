//! The DogStatsD sink: the original's metrics, names, tags and units, and ours beside them.
//!
//! Which metrics there are is declared in [`crate::metrics`].
//!
//! Gauges are of data segments alone: a pair that only shook hands sends only `.connect`. Tags come in the original's
//! order: `src:`, `dst:`, the instance's, `iface:`; where the local side is measured too, `side:` comes behind `dst:`.

pub mod origin;
mod tags;
mod transport;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cadence::prelude::*;
use cadence::{Metric, MetricBuilder, StatsdClient};
use go_metro_common::metric::Kind;
use go_metro_rtt::{PeerHealth, Stats};

use super::{NamedPair, Report, Sink};
use crate::config::{Config, MetricName, Statsd};
use crate::logging::OnceInAWhile;
use crate::metrics::{self, Health, pair};
use tags::{sanitise, tag};
pub use transport::datagram_bytes;
use transport::{Lines, Packer, Sender, Tally};

/// A line that does not fit in a datagram is mentioned in the log not more often than this.
const COMPLAIN_EVERY: Duration = Duration::from_secs(3600);
/// Most bytes that one value takes in a packed line: `:300000.123456` and one to spare.
const VALUE_BYTES: usize = 15;
/// What a packed line needs beside values and tags: name, type, sample rate, newline.
const PACKED_OVERHEAD: usize = 64;

/// What the server is told.
#[derive(Clone, Debug)]
pub struct DogStatsdOptions {
    /// Where it listens.
    pub destination: Statsd,
    /// Tags of the agent's own metrics.
    pub tags: Vec<String>,
    /// Which metrics it gets.
    pub metrics: Vec<MetricName>,
    /// Fields at the end of every line, by which the server finds the sender's container; see [`origin`].
    pub origin: String,
    /// How often its name is looked up again, if it is a name.
    pub refresh: Duration,
}

/// Bytes of the longest line of a pair with these tags between two hosts known by IPv6 addresses, without values.
#[must_use]
pub fn line_bytes(tags: &[String], origin: &str) -> usize {
    const LONGEST: &str =
        "src:2001:0db8:0000:0000:0000:0000:0000:0001,dst:2001:0db8:0000:0000:0000:0000:0000:0002,iface:";
    let tags: usize = tags.iter().map(|tag| sanitise(tag).len() + 1).sum();
    PACKED_OVERHEAD + VALUE_BYTES + LONGEST.len() + libc::IFNAMSIZ + tags + origin.len()
}

/// Sends reports to a DogStatsD server; never waits for it.
pub struct DogStatsd {
    destination: String,
    client: StatsdClient,
    lines: Lines,
    sender: Sender,
    tally: Arc<Tally>,
    tags: Vec<String>,
    metrics: Vec<MetricName>,
    /// Room in a datagram for a line without its origin.
    line_bytes: usize,
    before: Health,
    complained: OnceInAWhile,
}

impl DogStatsd {
    /// A sink for the configured server.
    pub fn open(config: &Config) -> Self {
        let destination = config.statsd.clone();
        tracing::info!("reporting to {destination} every {} s", config.report_interval.as_secs_f64());
        Self::new(&DogStatsdOptions {
            destination,
            tags: config.tags.clone(),
            metrics: config.metrics.clone(),
            origin: origin::fields(&|name| std::env::var(name).ok()),
            refresh: config.dns_refresh_interval,
        })
    }

    /// A sink for this server, which need not be there yet.
    pub fn new(options: &DogStatsdOptions) -> Self {
        let DogStatsdOptions { destination, tags, metrics, origin, refresh } = options;
        let tally = Arc::new(Tally::default());
        let bytes = datagram_bytes(destination);
        let lines = Lines(Arc::new(Mutex::new(Packer::new(bytes, origin.clone()))));
        Self {
            destination: destination.to_string(),
            client: StatsdClient::from_sink("", lines.clone()),
            lines,
            sender: Sender::start(destination.clone(), *refresh, tally.clone()),
            tally,
            tags: tags.iter().map(|tag| sanitise(tag)).collect(),
            metrics: metrics.clone(),
            line_bytes: bytes.saturating_sub(origin.len()),
            before: Health::default(),
            complained: OnceInAWhile::new(COMPLAIN_EVERY),
        }
    }

    /// Counts lines that no datagram holds.
    fn complain(&mut self, longest: usize, too_long: u64) {
        self.tally.errors.fetch_add(too_long, Ordering::Relaxed);
        if self.complained.may_say() {
            tracing::warn!(
                "{too_long} lines have up to {longest} bytes with all their tags, more than a datagram to DogStatsD \
                 holds ({}); they are not sent. Use fewer or shorter tags",
                self.line_bytes
            );
        }
    }

    fn wants(&self, metric: MetricName) -> bool {
        self.metrics.contains(&metric)
    }

    fn pair(&self, pair: &NamedPair) {
        let mut tags = vec![tag("src", &pair.src), tag("dst", &pair.dst)];
        tags.extend(pair.side.map(|side| tag("side", side.name())));
        tags.extend(pair.tags.iter().map(|tag| sanitise(tag)));
        tags.push(tag("iface", &pair.iface));
        for metric in pair::ALL {
            let Some((_, name)) = metric.dogstatsd.filter(|(choice, _)| self.wants(*choice)) else { continue };
            if let Some(stats) = metric.value.each(&pair.summary) {
                self.distribution(name, stats, &tags);
            }
            if let Some(value) = metric.value.one(pair.summary.data.as_ref(), pair.kernel.as_ref(), pair.base) {
                self.gauge(name, rounded(value), &tags);
            }
        }
        if let Some(health) = pair.summary.health.as_ref().filter(|_| self.wants(MetricName::Health)) {
            self.peer(health, &tags);
        }
    }

    /// How a pair's connections did: what happened at all.
    fn peer(&self, health: &PeerHealth, tags: &[String]) {
        for metric in pair::PEER {
            let name = metric.dogstatsd_name();
            for (labels, count) in (metric.values)(health).into_iter().filter(|(_, count)| *count > 0) {
                let labels = labels.into_iter().chain(health.incomplete.then_some(("incomplete", "true")));
                let tags: Vec<String> =
                    tags.iter().cloned().chain(labels.map(|(key, value)| tag(key, value))).collect();
                self.count(&name, count, &tags);
            }
        }
    }

    /// Every kept sample, as many to a line as a datagram holds.
    fn distribution(&self, name: &str, stats: &Stats, tags: &[String]) {
        let tags_bytes: usize = tags.iter().map(|tag| tag.len() + 1).sum();
        let room = self.line_bytes.saturating_sub(PACKED_OVERHEAD + tags_bytes);
        for chunk in stats.kept().chunks((room / VALUE_BYTES).max(1)) {
            let values: Vec<f64> = chunk.iter().map(|rtt| rounded(rtt.as_millis_f64())).collect();
            let mut line = self.client.distribution_with_tags(name, values);
            if stats.kept_rate() < 1.0 {
                line = line.with_sampling_rate(rounded(stats.kept_rate()));
            }
            send(line, tags);
        }
    }

    fn health(&mut self, health: &Health) {
        // Those of the other outputs up to the report before.
        let now = Health { send_errors: health.send_errors.max(self.errors()), ..*health };
        let before = std::mem::replace(&mut self.before, now);
        let own = self.tags.clone();
        let both = metrics::readings(&now).zip(metrics::readings(&before));
        for (now, before) in both.filter(|(now, _)| now.meta.is_sent) {
            let name = metrics::dogstatsd_name(now.meta);
            for (index, (now_value, before_value)) in now.values.iter().zip(&before.values).enumerate() {
                let label = now.meta.labels.get(index).map(|label| tag(now.meta.key, label));
                let tags: Vec<String> = own.iter().cloned().chain(label).collect();
                match now.meta.kind {
                    Kind::Counter => self.count(&name, now_value.saturating_sub(*before_value), &tags),
                    Kind::Gauge if *now_value == 0 && now.meta.is_unknown_at_zero => {}
                    Kind::Gauge => self.gauge(&name, *now_value as f64, &tags),
                }
            }
        }
    }

    fn gauge(&self, name: &str, value: f64, tags: &[String]) {
        send(self.client.gauge_with_tags(name, value), tags);
    }

    fn count(&self, name: &str, count: u64, tags: &[String]) {
        send(self.client.count_with_tags(name, count), tags);
    }
}

impl Sink for DogStatsd {
    fn destination(&self) -> String {
        self.destination.clone()
    }

    /// Queues a report, to be sent over up to half of the time until the next one.
    fn report(&mut self, report: &Arc<Report>) {
        for pair in &report.pairs {
            self.pair(pair);
        }
        if self.wants(MetricName::Own) {
            self.health(&report.health);
        }
        let (datagrams, (longest, too_long)) = {
            let mut lines = self.lines.lock();
            (lines.take(), lines.take_too_long())
        };
        if too_long > 0 {
            self.complain(longest, too_long);
        }
        self.sender.send(datagrams, report.interval / 2);
    }

    /// The old one's thread sends what it has, and ends.
    fn must_reopen(&self, old: &Config, new: &Config) -> bool {
        fn of(config: &Config) -> impl PartialEq {
            (config.statsd.clone(), config.tags.clone(), config.metrics.clone(), config.dns_refresh_interval)
        }
        of(old) != of(new)
    }

    fn retry(&mut self) {
        // It is known to be missing, and is tried again.
        let _ = self.sender.run();
    }

    fn finish(self: Box<Self>, limit: Duration) {
        if !self.sender.finish(limit) {
            tracing::warn!("the last report may be incomplete: the server did not take it in time");
        }
    }

    /// Datagrams and lines.
    fn errors(&self) -> u64 {
        self.tally.errors.load(Ordering::Relaxed)
    }

    /// Why the last datagram could not be sent, if it could not.
    fn problems(&self) -> Vec<String> {
        self.tally.problem().into_iter().collect()
    }
}

/// Adds one line with its tags.
fn send<'a, M>(mut line: MetricBuilder<'a, '_, M>, tags: &'a [String])
where
    M: Metric + From<String>,
{
    for tag in tags {
        line = line.with_tag_value(tag);
    }
    // The packer takes every line.
    let _ = line.try_send();
}

/// Six decimals of a millisecond are one nanosecond: more would be noise, but for a mean that is less.
fn rounded(value: f64) -> f64 {
    let rounded = (value * 1e6).round() / 1e6;
    if rounded == 0.0 { value } else { rounded }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    use super::super::examples::{pair, report};
    use crate::metrics::pair::KernelRtt;
    use std::time::Instant;

    use go_metro_rtt::{Rtt, Side};

    use super::*;

    fn udp(port: u16) -> DogStatsd {
        let destination = Statsd::Udp { host: "127.0.0.1".to_owned(), port };
        DogStatsd::new(&DogStatsdOptions {
            destination,
            tags: vec!["env:test".to_owned()],
            metrics: MetricName::all(),
            origin: String::new(),
            refresh: Duration::from_secs(60),
        })
    }

    fn listen() -> (UdpSocket, u16) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // After the last datagram; long, as a busy machine may leave the queue's thread waiting.
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    }

    fn datagrams(socket: &UdpSocket) -> Vec<String> {
        let mut buffer = vec![0; 65536];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| String::from_utf8(buffer[..n].to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn what_is_counted_of_connections_is_sent_with_its_tags_where_that_is_chosen() {
        let sent = |metrics: Vec<MetricName>, incomplete: bool| {
            let (socket, port) = listen();
            let destination = Statsd::Udp { host: "127.0.0.1".to_owned(), port };
            let refresh = Duration::from_secs(60);
            let options = DogStatsdOptions { destination, tags: Vec::new(), metrics, origin: String::new(), refresh };
            let mut sink = DogStatsd::new(&options);
            let mut counted = super::super::examples::counted("db", &[20_000, 23_500]);
            counted.summary.health.as_mut().unwrap().incomplete = incomplete;
            sink.report(&Arc::new(report(vec![counted])));
            Box::new(sink).finish(Duration::from_secs(5));
            datagrams(&socket).concat()
        };
        let tags = "src:10.42.31.222,dst:db,env:test,iface:va";
        let text = sent(vec![MetricName::Base, MetricName::Health], false);
        let expected = [
            format!("system.net.tcp.rtt.base:18|g|#{tags}"),
            format!("system.net.tcp.rtt.queueing:2|g|#{tags}"),
            format!("system.net.tcp.peer.segments:800|c|#{tags}"),
            format!("system.net.tcp.peer.bytes:1000000|c|#{tags}"),
            format!("system.net.tcp.peer.retransmits:5|c|#{tags},cause:fast"),
            format!("system.net.tcp.peer.retransmits:2|c|#{tags},cause:tail_probe"),
            format!("system.net.tcp.peer.spurious_retransmits:1|c|#{tags}"),
            format!("system.net.tcp.peer.connects:4|c|#{tags},result:established,role:client"),
            format!("system.net.tcp.peer.connects:2|c|#{tags},result:refused,role:client"),
            format!("system.net.tcp.peer.resets:1|c|#{tags},by:remote"),
            format!("system.net.tcp.peer.closes:3|c|#{tags}"),
            format!("system.net.tcp.peer.zero_window:250|c|#{tags}"),
            format!("system.net.tcp.peer.ece:4|c|#{tags}"),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        let text = sent(vec![MetricName::Health], true);
        assert!(text.lines().all(|line| line.ends_with(",incomplete:true")), "{text}");
        let text = sent(MetricName::usual(), false);
        assert!(!text.contains("peer") && !text.contains("base") && !text.contains("queueing"), "{text}");
    }

    #[test]
    fn metrics_that_are_not_chosen_are_not_sent() {
        let (socket, port) = listen();
        let destination = Statsd::Udp { host: "127.0.0.1".to_owned(), port };
        let metrics = vec![MetricName::Average, MetricName::Connect];
        let refresh = Duration::from_secs(60);
        let options = DogStatsdOptions { destination, tags: Vec::new(), metrics, origin: String::new(), refresh };
        let mut sink = DogStatsd::new(&options);
        sink.report(&Arc::new(report(vec![pair("162.243.251.92", &[20_000, 23_500], &[19_000])])));
        Box::new(sink).finish(Duration::from_secs(5));
        let received = datagrams(&socket).concat();
        let names: Vec<&str> = received.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(names, ["system.net.tcp.rtt.avg", "system.net.tcp.rtt.connect"]);
    }

    #[test]
    fn a_listener_receives_exactly_the_documented_lines() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        let mut report = report(vec![pair("162.243.251.92", &[20_000, 23_500, 21_385], &[19_000])]);
        report.health.flows = 3;
        report.health.memory_bytes = 1;
        sink.report(&Arc::new(report));
        Box::new(sink).finish(Duration::from_millis(500));
        let received = datagrams(&socket).concat();
        let (rtt, own): (Vec<&str>, Vec<&str>) = received.lines().partition(|line| line.starts_with("system."));
        assert_eq!(
            rtt,
            [
                "system.net.tcp.rtt:21.385|g|#src:10.42.31.222,dst:162.243.251.92,env:test,iface:va",
                "system.net.tcp.rtt.avg:21.628333|g|#src:10.42.31.222,dst:162.243.251.92,env:test,iface:va",
                "system.net.tcp.rtt.jitter:2.8075|g|#src:10.42.31.222,dst:162.243.251.92,env:test,iface:va",
                "system.net.tcp.rtt.min:20|g|#src:10.42.31.222,dst:162.243.251.92,env:test,iface:va",
                "system.net.tcp.rtt.max:23.5|g|#src:10.42.31.222,dst:162.243.251.92,env:test,iface:va",
                "system.net.tcp.rtt.dist:20:23.5:21.385|d|#src:10.42.31.222,dst:162.243.251.92,env:test,iface:va",
                "system.net.tcp.rtt.connect:19|d|#src:10.42.31.222,dst:162.243.251.92,env:test,iface:va",
            ]
        );
        let names: BTreeSet<&str> = own.iter().filter_map(|line| line.split(':').next()).collect();
        let expected: BTreeSet<String> =
            metrics::declared().filter(|meta| meta.is_sent).map(metrics::dogstatsd_name).collect();
        assert_eq!(names, expected.iter().map(String::as_str).collect());
        assert!(own.contains(&"go_metro.flows:3|g|#env:test"));
        assert!(own.contains(&"go_metro.rejected:0|c|#env:test,reason:hole"));
    }

    #[test]
    fn a_pair_that_only_shook_hands_sends_only_connect() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        sink.report(&Arc::new(report(vec![pair("a", &[], &[19_000])])));
        Box::new(sink).finish(Duration::from_millis(500));
        let received = datagrams(&socket).concat();
        let names: Vec<&str> =
            received.lines().filter(|l| l.starts_with("system.")).filter_map(|l| l.split(':').next()).collect();
        assert_eq!(names, ["system.net.tcp.rtt.connect"]);
    }

    #[test]
    fn a_side_is_a_tag_behind_dst_and_the_kernels_word_two_gauges() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        let kernel = Some(KernelRtt::of(Rtt(21_900_000), Some(Rtt(20_100_000))));
        sink.report(&Arc::new(report(vec![NamedPair {
            side: Some(Side::Local),
            kernel,
            ..pair("a", &[], &[19_000])
        }])));
        Box::new(sink).finish(Duration::from_millis(500));
        let received = datagrams(&socket).concat();
        let lines: Vec<&str> = received.lines().filter(|l| l.starts_with("system.")).collect();
        let tags = "#src:10.42.31.222,dst:a,side:local,env:test,iface:va";
        let expected = [
            format!("system.net.tcp.rtt.connect:19|d|{tags}"),
            format!("system.net.tcp.rtt.kernel:21.9|g|{tags}"),
            format!("system.net.tcp.rtt.kernel.min:20.1|g|{tags}"),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn responses_are_a_distribution_and_what_the_host_adds_a_gauge() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        let kernel = Some(KernelRtt::of(Rtt(21_900_000), None));
        let pair = super::super::examples::responding("a", &[20_000], &[5_000, 7_000]);
        sink.report(&Arc::new(report(vec![NamedPair { kernel, ..pair }])));
        Box::new(sink).finish(Duration::from_millis(500));
        let received = datagrams(&socket).concat();
        let lines: Vec<&str> = received.lines().filter(|l| l.contains(".host") || l.contains(".response")).collect();
        let tags = "#src:10.42.31.222,dst:a,env:test,iface:va";
        let expected =
            [format!("system.net.tcp.rtt.host:1.9|g|{tags}"), format!("system.net.tcp.peer.response:5:7|d|{tags}")];
        assert_eq!(lines, expected);
    }

    #[test]
    fn counts_are_of_the_interval() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        let mut report = report(vec![]);
        for records in [10, 25] {
            report.health.source.packets.records = records;
            sink.report(&Arc::new(report.clone()));
        }
        Box::new(sink).finish(Duration::from_millis(500));
        let received = datagrams(&socket).concat();
        let counts: Vec<&str> = received.lines().filter(|l| l.starts_with("go_metro.records:")).collect();
        assert_eq!(counts, ["go_metro.records:10|c|#env:test", "go_metro.records:15|c|#env:test"]);
    }

    #[test]
    fn distributions_are_packed_and_no_datagram_is_too_large() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        let samples: Vec<u64> = (1..=1000).map(|k| 300_000_000 - k * 7).collect();
        sink.report(&Arc::new(report(vec![pair(&"long.example.".repeat(15), &samples, &[])])));
        Box::new(sink).finish(Duration::from_millis(500));
        let received = datagrams(&socket);
        assert!(received.iter().all(|datagram| datagram.len() <= 1432));
        let lines: Vec<&str> = received.iter().flat_map(|d| d.lines()).filter(|l| l.contains(".dist:")).collect();
        let values = lines.iter().map(|l| l.split('|').next().unwrap().matches(':').count()).sum::<usize>();
        assert_eq!(values, 1000, "every sample is sent once");
        assert!(lines.len() < 30, "packed, not one a line: {}", lines.len());
    }

    #[test]
    fn every_line_ends_with_its_origin_and_still_fits() {
        let (socket, port) = listen();
        let destination = Statsd::Udp { host: "127.0.0.1".to_owned(), port };
        let origin = format!("|c:ci-{}|e:cn-app", "8c046cb0".repeat(8));
        let mut sink = DogStatsd::new(&DogStatsdOptions {
            destination,
            tags: vec![],
            metrics: MetricName::all(),
            origin: origin.clone(),
            refresh: Duration::from_secs(60),
        });
        sink.report(&Arc::new(report(vec![pair("a", &(1..=1000).collect::<Vec<u64>>(), &[])])));
        Box::new(sink).finish(Duration::from_millis(500));
        let received = datagrams(&socket);
        assert!(received.iter().all(|datagram| datagram.len() <= 1432));
        assert!(received.iter().flat_map(|datagram| datagram.lines()).all(|line| line.ends_with(&origin)));
    }

    #[test]
    fn hostile_names_stay_inside_their_tag() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        sink.report(&Arc::new(report(vec![pair("x|c\nsystem.fake:1|g|#dst:y,z", &[1000], &[])])));
        Box::new(sink).finish(Duration::from_millis(500));
        let received = datagrams(&socket).concat();
        let rtt: Vec<&str> = received.lines().filter(|line| line.starts_with("system.")).collect();
        // Of a single sample, so without jitter.
        assert!(rtt.len() == 5 && !received.contains("jitter"), "{received}");
        assert!(
            rtt.iter().all(|l| l.ends_with("|#src:10.42.31.222,dst:x_c_system.fake:1_g__dst:y_z,env:test,iface:va"))
        );
    }

    #[test]
    fn a_server_that_comes_later_is_heard_by_and_absence_is_counted() {
        let (socket, port) = listen();
        drop(socket);
        let mut sink = udp(port);
        for _ in 0..3 {
            sink.report(&Arc::new(report(vec![pair("a", &[1000], &[])])));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(sink.errors() > 0, "a refused datagram is counted");
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        sink.report(&Arc::new(report(vec![pair("b", &[1000], &[])])));
        Box::new(sink).finish(Duration::from_millis(500));
        assert!(datagrams(&socket).concat().contains("dst:b"), "the first report after its return arrives");
    }

    #[test]
    fn a_replaced_unix_socket_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dsd.socket");
        let options = DogStatsdOptions {
            destination: Statsd::Unix(path.clone()),
            tags: vec![],
            metrics: MetricName::all(),
            origin: String::new(),
            refresh: Duration::from_secs(60),
        };
        let mut sink = DogStatsd::new(&options);
        sink.report(&Arc::new(report(vec![pair("absent", &[1000], &[])])));
        let mut buffer = vec![0; 65536];
        for name in ["first", "second"] {
            std::thread::sleep(Duration::from_millis(50));
            let _ = std::fs::remove_file(&path);
            let server = UnixDatagram::bind(&path).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            sink.report(&Arc::new(report(vec![pair(name, &[1000], &[])])));
            let n = server.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            assert!(text.contains(&format!("dst:{name}")) && n <= 8192, "{text}");
        }
        assert!(sink.errors() > 0);
    }

    #[test]
    fn a_server_that_never_reads_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dsd.socket");
        let _server = UnixDatagram::bind(&path).unwrap();
        let mut sink = DogStatsd::new(&DogStatsdOptions {
            destination: Statsd::Unix(path),
            tags: vec![],
            metrics: MetricName::all(),
            origin: String::new(),
            refresh: Duration::from_secs(60),
        });
        let began = Instant::now();
        for _ in 0..100 {
            sink.report(&Arc::new(report(vec![pair("a", &[1000; 1000], &[])])));
        }
        // A wait for this server never ends; what is less is the machine's.
        assert!(began.elapsed() < Duration::from_secs(5), "reporting took {:?}", began.elapsed());
        let began = Instant::now();
        Box::new(sink).finish(Duration::from_millis(500));
        assert!(began.elapsed() < Duration::from_secs(5), "finishing took {:?}", began.elapsed());
    }
}
