//! The DogStatsD sink: the original's metrics, names, tags and units, and ours beside them.
//!
//! | metric | type | unit |
//! |---|---|---|
//! | `system.net.tcp.rtt` | gauge | ms, the last sample |
//! | `system.net.tcp.rtt.avg`, `.jitter`, `.min`, `.max` | gauge | ms, of the interval |
//! | `system.net.tcp.rtt.dist` | distribution | ms, every sample |
//! | `system.net.tcp.rtt.connect` | distribution | ms, every handshake |
//! | `system.net.tcp.rtt.kernel`, `.kernel.min` | gauge | ms, the kernel's own of this host's sockets, where that is asked for |
//! | `go_metro.*` | count, gauge | the agent's own health |
//!
//! Gauges are of data segments alone: a pair that only shook hands sends only `.connect`. Tags come in the original's order:
//! `src:`, `dst:`, the instance's, `iface:`; where the local side is measured too, `side:` comes behind `dst:`.

pub mod origin;
mod tags;
mod transport;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cadence::prelude::*;
use cadence::{Metric, MetricBuilder, StatsdClient};
use go_metro_common::counters::Unparsable;
use go_metro_rtt::{Kind, Rejection, Stats};

use super::{Health, NamedPair, Report};
use crate::config::MetricName;
use crate::logging::OnceInAWhile;
use tags::{sanitise, tag};
pub use transport::{Destination, look_up};
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
    pub destination: Destination,
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
    client: StatsdClient,
    lines: Lines,
    sender: Sender,
    tally: Arc<Tally>,
    tags: Vec<String>,
    metrics: Vec<MetricName>,
    /// Room in a datagram for a line without its origin.
    line_bytes: usize,
    before: Health,
    errors_before: u64,
    complained: OnceInAWhile,
}

impl DogStatsd {
    /// A sink for this server, which need not be there yet.
    pub fn new(options: &DogStatsdOptions) -> Self {
        let DogStatsdOptions { destination, tags, metrics, origin, refresh } = options;
        let tally = Arc::new(Tally::default());
        let bytes = destination.datagram_bytes();
        let lines = Lines(Arc::new(Mutex::new(Packer::new(bytes, origin.clone()))));
        Self {
            client: StatsdClient::from_sink("", lines.clone()),
            lines,
            sender: Sender::start(destination.clone(), *refresh, tally.clone()),
            tally,
            tags: tags.iter().map(|tag| sanitise(tag)).collect(),
            metrics: metrics.clone(),
            line_bytes: bytes.saturating_sub(origin.len()),
            before: Health::default(),
            errors_before: 0,
            complained: OnceInAWhile::new(COMPLAIN_EVERY),
        }
    }

    /// Queues a report, to be sent over up to half of the time until the next one.
    pub fn report(&mut self, report: &Report) {
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

    /// Counts lines that no datagram holds.
    fn complain(&mut self, longest: usize, too_long: u64) {
        self.tally.errors.fetch_add(too_long, Ordering::Relaxed);
        if self.complained.may_say() {
            tracing::warn!(
                "{too_long} lines with all their tags have up to {longest} bytes, more than a datagram to DogStatsD ({}); \
                 they are not sent: use fewer or shorter tags",
                self.line_bytes
            );
        }
    }

    /// Starts what could not be started before for want of a thread.
    pub fn retry(&mut self) {
        // It is known to be missing, and is tried again.
        let _ = self.sender.run();
    }

    /// Sends what is queued, within this time.
    pub fn finish(self, limit: Duration) {
        if !self.sender.finish(limit) {
            tracing::warn!("the last report may be incomplete: the server did not take it in time");
        }
    }

    /// Datagrams and lines that could not be sent.
    pub fn send_errors(&self) -> u64 {
        self.tally.errors.load(Ordering::Relaxed)
    }

    /// Why the last datagram could not be sent, if it could not.
    pub fn problem(&self) -> Option<String> {
        self.tally.problem()
    }

    fn wants(&self, metric: MetricName) -> bool {
        self.metrics.contains(&metric)
    }

    fn pair(&self, pair: &NamedPair) {
        let mut tags = vec![tag("src", &pair.src), tag("dst", &pair.dst)];
        tags.extend(pair.side.map(|side| tag("side", side.name())));
        tags.extend(pair.tags.iter().map(|tag| sanitise(tag)));
        tags.push(tag("iface", &pair.iface));
        if let Some(data) = &pair.summary.data {
            let gauges = [
                (MetricName::Last, "system.net.tcp.rtt", Some(data.last().as_millis_f64())),
                (MetricName::Average, "system.net.tcp.rtt.avg", Some(data.average_ms())),
                // A single sample has none.
                (MetricName::Jitter, "system.net.tcp.rtt.jitter", data.jitter_ms()),
                (MetricName::Min, "system.net.tcp.rtt.min", Some(data.min().as_millis_f64())),
                (MetricName::Max, "system.net.tcp.rtt.max", Some(data.max().as_millis_f64())),
            ];
            for (metric, name, value) in gauges {
                if let Some(value) = value.filter(|_| self.wants(metric)) {
                    self.gauge(name, rounded(value), &tags);
                }
            }
            if self.wants(MetricName::Distribution) {
                self.distribution("system.net.tcp.rtt.dist", data, &tags);
            }
        }
        if let Some(connect) = pair.summary.connect.as_ref().filter(|_| self.wants(MetricName::Connect)) {
            self.distribution("system.net.tcp.rtt.connect", connect, &tags);
        }
        if let Some(kernel) = pair.kernel.as_ref().filter(|_| self.wants(MetricName::Kernel)) {
            self.gauge("system.net.tcp.rtt.kernel", rounded(kernel.srtt_ms()), &tags);
            if let Some(min) = kernel.min_ms() {
                self.gauge("system.net.tcp.rtt.kernel.min", rounded(min), &tags);
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
        let (now, before) = (health, std::mem::replace(&mut self.before, *health));
        // Those of the other outputs up to the report before.
        let errors = now.send_errors.max(self.send_errors());
        let own = self.tags.clone();
        let with = |key: &str, value: &str| [own.as_slice(), &[tag(key, value)]].concat();

        let counts = [
            ("go_metro.packets", now.source.seen, before.source.seen),
            ("go_metro.segments", now.source.matched, before.source.matched),
            ("go_metro.records", now.source.records, before.source.records),
            ("go_metro.repeats", now.source.repeats, before.source.repeats),
            ("go_metro.thinned", now.source.thinned, before.source.thinned),
            ("go_metro.lost", now.source.lost, before.source.lost),
            ("go_metro.fragments", now.source.fragments, before.source.fragments),
            ("go_metro.encapsulated", now.source.encapsulated, before.source.encapsulated),
            ("go_metro.retransmissions", now.engine.retransmissions, before.engine.retransmissions),
            ("go_metro.flows.evicted", now.engine.flows_evicted, before.engine.flows_evicted),
            ("go_metro.samples.delayed", now.engine.delayed, before.engine.delayed),
            ("go_metro.samples.folded", now.folded_samples, before.folded_samples),
            ("go_metro.send_errors", errors, self.errors_before),
            ("go_metro.interfaces.lost", now.happened.interfaces_lost, before.happened.interfaces_lost),
            ("go_metro.dns_failures", now.happened.dns_failures, before.happened.dns_failures),
            ("go_metro.clock_jumps", now.happened.clock_jumps, before.happened.clock_jumps),
            ("go_metro.log_lines_lost", now.happened.log_lines_lost, before.happened.log_lines_lost),
        ];
        for (name, now, before) in counts {
            self.count(name, now.saturating_sub(before), &own);
        }
        for kind in [Kind::Data, Kind::Connect] {
            let samples = |health: &Health| health.engine.samples[kind as usize];
            self.count("go_metro.samples", samples(now) - samples(&before), &with("kind", kind.name()));
        }
        for reason in Rejection::ALL {
            let rejected = |health: &Health| health.engine.rejected[reason as usize];
            self.count("go_metro.rejected", rejected(now) - rejected(&before), &with("reason", reason.name()));
        }
        for cause in Unparsable::ALL {
            let unparsable = |health: &Health| health.source.unparsable[cause as usize];
            let count = unparsable(now).saturating_sub(unparsable(&before));
            self.count("go_metro.unparsable", count, &with("cause", cause.name()));
        }
        let reloads = [
            ("done", now.happened.reloads - before.happened.reloads),
            ("refused", now.happened.reloads_refused - before.happened.reloads_refused),
        ];
        for (result, count) in reloads {
            self.count("go_metro.reloads", count, &with("result", result));
        }
        self.gauge("go_metro.interfaces", now.interfaces as f64, &own);
        self.gauge("go_metro.flows", now.flows as f64, &own);
        // 0 means that it could not be told.
        if now.memory_bytes > 0 {
            self.gauge("go_metro.memory", now.memory_bytes as f64, &own);
        }
        self.errors_before = errors;
    }

    fn gauge(&self, name: &str, value: f64, tags: &[String]) {
        send(self.client.gauge_with_tags(name, value), tags);
    }

    fn count(&self, name: &str, count: u64, tags: &[String]) {
        send(self.client.count_with_tags(name, count), tags);
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

    use super::super::KernelRtt;
    use super::super::examples::{pair, report};
    use std::time::Instant;

    use go_metro_rtt::{Rtt, Side};

    use super::*;

    fn udp(port: u16) -> DogStatsd {
        let destination = Destination::Udp { host: "127.0.0.1".to_owned(), port };
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
    fn metrics_that_are_not_chosen_are_not_sent() {
        let (socket, port) = listen();
        let destination = Destination::Udp { host: "127.0.0.1".to_owned(), port };
        let metrics = vec![MetricName::Average, MetricName::Connect];
        let refresh = Duration::from_secs(60);
        let options = DogStatsdOptions { destination, tags: Vec::new(), metrics, origin: String::new(), refresh };
        let mut sink = DogStatsd::new(&options);
        sink.report(&report(vec![pair("162.243.251.92", &[20_000, 23_500], &[19_000])]));
        sink.finish(Duration::from_secs(5));
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
        sink.report(&report);
        sink.finish(Duration::from_millis(500));
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
        let expected = [
            "go_metro.clock_jumps",
            "go_metro.dns_failures",
            "go_metro.encapsulated",
            "go_metro.flows",
            "go_metro.flows.evicted",
            "go_metro.fragments",
            "go_metro.interfaces",
            "go_metro.interfaces.lost",
            "go_metro.log_lines_lost",
            "go_metro.lost",
            "go_metro.memory",
            "go_metro.packets",
            "go_metro.records",
            "go_metro.rejected",
            "go_metro.reloads",
            "go_metro.repeats",
            "go_metro.retransmissions",
            "go_metro.samples",
            "go_metro.samples.delayed",
            "go_metro.samples.folded",
            "go_metro.segments",
            "go_metro.send_errors",
            "go_metro.thinned",
            "go_metro.unparsable",
        ];
        assert_eq!(names, BTreeSet::from(expected));
        assert!(own.contains(&"go_metro.flows:3|g|#env:test"));
        assert!(own.contains(&"go_metro.rejected:0|c|#env:test,reason:hole"));
    }

    #[test]
    fn a_pair_that_only_shook_hands_sends_only_connect() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        sink.report(&report(vec![pair("a", &[], &[19_000])]));
        sink.finish(Duration::from_millis(500));
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
        sink.report(&report(vec![NamedPair { side: Some(Side::Local), kernel, ..pair("a", &[], &[19_000]) }]));
        sink.finish(Duration::from_millis(500));
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
    fn counts_are_of_the_interval() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        let mut report = report(vec![]);
        for records in [10, 25] {
            report.health.source.records = records;
            sink.report(&report);
        }
        sink.finish(Duration::from_millis(500));
        let received = datagrams(&socket).concat();
        let counts: Vec<&str> = received.lines().filter(|l| l.starts_with("go_metro.records:")).collect();
        assert_eq!(counts, ["go_metro.records:10|c|#env:test", "go_metro.records:15|c|#env:test"]);
    }

    #[test]
    fn distributions_are_packed_and_no_datagram_is_too_large() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        let samples: Vec<u64> = (1..=1000).map(|k| 300_000_000 - k * 7).collect();
        sink.report(&report(vec![pair(&"long.example.".repeat(15), &samples, &[])]));
        sink.finish(Duration::from_millis(500));
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
        let destination = Destination::Udp { host: "127.0.0.1".to_owned(), port };
        let origin = format!("|c:ci-{}|e:cn-app", "8c046cb0".repeat(8));
        let mut sink = DogStatsd::new(&DogStatsdOptions {
            destination,
            tags: vec![],
            metrics: MetricName::all(),
            origin: origin.clone(),
            refresh: Duration::from_secs(60),
        });
        sink.report(&report(vec![pair("a", &(1..=1000).collect::<Vec<u64>>(), &[])]));
        sink.finish(Duration::from_millis(500));
        let received = datagrams(&socket);
        assert!(received.iter().all(|datagram| datagram.len() <= 1432));
        assert!(received.iter().flat_map(|datagram| datagram.lines()).all(|line| line.ends_with(&origin)));
    }

    #[test]
    fn hostile_names_stay_inside_their_tag() {
        let (socket, port) = listen();
        let mut sink = udp(port);
        sink.report(&report(vec![pair("x|c\nsystem.fake:1|g|#dst:y,z", &[1000], &[])]));
        sink.finish(Duration::from_millis(500));
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
            sink.report(&report(vec![pair("a", &[1000], &[])]));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(sink.send_errors() > 0, "a refused datagram is counted");
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        sink.report(&report(vec![pair("b", &[1000], &[])]));
        sink.finish(Duration::from_millis(500));
        assert!(datagrams(&socket).concat().contains("dst:b"), "the first report after its return arrives");
    }

    #[test]
    fn a_replaced_unix_socket_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dsd.socket");
        let options = DogStatsdOptions {
            destination: Destination::Unix(path.clone()),
            tags: vec![],
            metrics: MetricName::all(),
            origin: String::new(),
            refresh: Duration::from_secs(60),
        };
        let mut sink = DogStatsd::new(&options);
        sink.report(&report(vec![pair("absent", &[1000], &[])]));
        let mut buffer = vec![0; 65536];
        for name in ["first", "second"] {
            std::thread::sleep(Duration::from_millis(50));
            let _ = std::fs::remove_file(&path);
            let server = UnixDatagram::bind(&path).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            sink.report(&report(vec![pair(name, &[1000], &[])]));
            let n = server.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            assert!(text.contains(&format!("dst:{name}")) && n <= 8192, "{text}");
        }
        assert!(sink.send_errors() > 0);
    }

    #[test]
    fn a_server_that_never_reads_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dsd.socket");
        let _server = UnixDatagram::bind(&path).unwrap();
        let mut sink = DogStatsd::new(&DogStatsdOptions {
            destination: Destination::Unix(path),
            tags: vec![],
            metrics: MetricName::all(),
            origin: String::new(),
            refresh: Duration::from_secs(60),
        });
        let began = Instant::now();
        for _ in 0..100 {
            sink.report(&report(vec![pair("a", &[1000; 1000], &[])]));
        }
        // Whoever waits for this server waits for ever; what is less is the machine's.
        assert!(began.elapsed() < Duration::from_secs(5), "reporting took {:?}", began.elapsed());
        let began = Instant::now();
        sink.finish(Duration::from_millis(500));
        assert!(began.elapsed() < Duration::from_secs(5), "finishing took {:?}", began.elapsed());
    }
}
