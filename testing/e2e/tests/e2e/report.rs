//! What a DogStatsD server hears: exactly the documented metrics, tags and units, once a series and interval.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use testing_lab::agent::Agent;
use testing_lab::statsd::{Datagram, Listener, Metric, parse};
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};

use super::support::{Backend, SOON, some_rounds, watching};

/// Metrics of a pair of hosts, as the documentation lists them.
const PAIR: [(&str, &str); 7] = [
    ("system.net.tcp.rtt", "g"),
    ("system.net.tcp.rtt.avg", "g"),
    ("system.net.tcp.rtt.jitter", "g"),
    ("system.net.tcp.rtt.min", "g"),
    ("system.net.tcp.rtt.max", "g"),
    ("system.net.tcp.rtt.dist", "d"),
    ("system.net.tcp.rtt.connect", "d"),
];

/// Metrics of the agent itself.
const OWN: [(&str, &str); 30] = [
    ("go_metro.packets", "c"),
    ("go_metro.segments", "c"),
    ("go_metro.records", "c"),
    ("go_metro.repeats", "c"),
    ("go_metro.thinned", "c"),
    ("go_metro.late", "c"),
    ("go_metro.lost", "c"),
    ("go_metro.fragments", "c"),
    ("go_metro.encapsulated", "c"),
    ("go_metro.retransmissions", "c"),
    ("go_metro.flows.evicted", "c"),
    ("go_metro.samples.delayed", "c"),
    ("go_metro.samples.folded", "c"),
    ("go_metro.send_errors", "c"),
    ("go_metro.otlp_lost", "c"),
    ("go_metro.interfaces.lost", "c"),
    ("go_metro.dns_failures", "c"),
    ("go_metro.clock_jumps", "c"),
    ("go_metro.intervals_incomplete", "c"),
    ("go_metro.log_lines_lost", "c"),
    ("go_metro.reloads", "c"),
    ("go_metro.process_lookups", "c"),
    ("go_metro.recordings", "c"),
    ("go_metro.recordings.records", "c"),
    ("go_metro.interfaces", "g"),
    ("go_metro.samples", "c"),
    ("go_metro.rejected", "c"),
    ("go_metro.unparsable", "c"),
    ("go_metro.flows", "g"),
    ("go_metro.memory", "g"),
];

fn metrics(datagrams: &[Datagram]) -> Vec<Metric> {
    datagrams.iter().flat_map(|datagram| parse(&datagram.bytes).unwrap()).collect()
}

fn named<'a>(metrics: &'a [Metric], name: &str) -> Vec<&'a Metric> {
    metrics.iter().filter(|metric| metric.name == name).collect()
}

fn statsd_agent(lab: &Lab, interval: &str) -> Agent {
    let mut args = watching(lab, Backend::Ebpf);
    args.extend(["--output", "statsd", "--interval", interval].map(str::to_owned));
    Agent::start(&lab.a, args).unwrap()
}

#[test]
fn a_server_hears_exactly_the_documented_metrics() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(20));
    let server = Listener::udp(&lab.a, 8125).unwrap();
    let agent = statsd_agent(&lab, "60");
    let exchange = some_rounds(&lab, 50);
    // The interval is long: what comes is the last report, sent on the way out.
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    server.drain();
    let datagrams = server.datagrams();
    assert!(datagrams.iter().all(|datagram| datagram.bytes.len() <= 1432), "a datagram larger than 1432 bytes");
    let metrics = metrics(&datagrams);
    for metric in &metrics {
        let known = PAIR.iter().chain(&OWN).find(|(name, _)| *name == metric.name);
        let (_, kind) = known.unwrap_or_else(|| panic!("undocumented: {metric:?}"));
        assert_eq!(metric.kind, *kind, "{metric:?}");
    }
    let (src, dst) = (format!("src:{}", lab.a.v4), format!("dst:{}", lab.b.v4));
    for (name, _) in PAIR {
        let found = named(&metrics, name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(found[0].tags, [src.as_str(), &dst, "iface:eth0"], "{name}");
        assert_eq!(found[0].rate, None, "{name}");
    }
    for (name, _) in OWN {
        assert!(!named(&metrics, name).is_empty(), "{name} is missing");
    }
    let one = |name: &str| named(&metrics, name)[0].values[0];
    // In milliseconds, and consistent among themselves.
    let all = &named(&metrics, "system.net.tcp.rtt.dist")[0].values;
    // The FIN is acknowledged too, if the server was quick enough.
    assert!((50..=51).contains(&all.len()), "{} values of 50 rounds", all.len());
    let (least, most) = (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let jitter = all.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<f64>() / (all.len() - 1) as f64;
    assert!((20.0..40.0).contains(&least), "{least} ms");
    for (name, expected) in [
        ("system.net.tcp.rtt", all[all.len() - 1]),
        ("system.net.tcp.rtt.avg", mean),
        ("system.net.tcp.rtt.jitter", jitter),
        ("system.net.tcp.rtt.min", least),
        ("system.net.tcp.rtt.max", most),
    ] {
        assert!((one(name) - expected).abs() < 0.001, "{name}: {}, expected {expected}", one(name));
    }
    let longest = exchange.times.iter().max().unwrap().as_secs_f64() * 1e3;
    assert!(all[..50].iter().all(|value| *value <= longest), "a value above {longest} ms");
    assert_eq!(named(&metrics, "system.net.tcp.rtt.connect")[0].values.len(), 1);
    let samples = named(&metrics, "go_metro.samples");
    assert_eq!(samples.iter().map(|metric| metric.values[0]).sum::<f64>(), all.len() as f64 + 1.0);
    assert_eq!(one("go_metro.lost"), 0.0);
}

#[test]
fn parallel_flows_of_one_pair_are_one_series() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(10));
    let server = Listener::udp(&lab.a, 8125).unwrap();
    let agent = statsd_agent(&lab, "1");
    let rounds = Rounds { count: 300, ..Rounds::default() };
    let service = Server::v4(&lab.b, rounds.service()).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| rounds.drive(&mut connect(&lab.a, service.address()).unwrap()).unwrap());
        }
    });
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    server.drain();

    // The agent's memory closes each report.
    let all = metrics(&server.datagrams());
    let reports: Vec<&[Metric]> = all.split_inclusive(|metric| metric.name == "go_metro.memory").collect();
    assert!(reports.len() >= 3, "{} reports", reports.len());
    let mut values = 0;
    for metrics in reports {
        let mut gauges: BTreeMap<(String, Vec<String>), usize> = BTreeMap::new();
        for metric in metrics.iter().filter(|metric| metric.name.starts_with("system.") && metric.kind == "g") {
            *gauges.entry((metric.name.clone(), metric.tags.clone())).or_default() += 1;
        }
        assert!(gauges.values().all(|count| *count == 1), "a series twice in one report: {gauges:?}");
        assert!(gauges.len() <= 5, "more than one series: {gauges:?}");
        values += named(metrics, "system.net.tcp.rtt.dist").iter().map(|metric| metric.values.len()).sum::<usize>();
    }
    // Four FINs may be among them.
    assert!((1200..=1204).contains(&values), "{values} values of 1200 rounds");
}

#[test]
fn a_pair_that_fell_silent_is_not_reported_again() {
    let lab = Lab::new(Link::Veth).unwrap();
    let server = Listener::udp(&lab.a, 8125).unwrap();
    let agent = statsd_agent(&lab, "1");
    some_rounds(&lab, 10);
    assert!(server.wait_for("system.net.tcp.rtt", SOON));
    // The memory closes a report. What began before the silence is over after two.
    let reports = |count: usize| {
        let heard = || metrics(&server.datagrams());
        let deadline = Instant::now() + SOON;
        while named(&heard(), "go_metro.memory").len() < count {
            assert!(Instant::now() < deadline, "no report comes");
            thread::sleep(Duration::from_millis(20));
        }
    };
    let _ = server.take();
    reports(2);
    let _ = server.take();
    reports(2);
    let metrics = metrics(&server.take());
    assert_eq!(named(&metrics, "system.net.tcp.rtt"), Vec::<&Metric>::new());
    agent.stop().unwrap();
}

#[test]
fn a_unix_socket_hears_the_same_even_if_it_comes_late() {
    let lab = Lab::new(Link::Veth).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (socket, config) = (directory.path().join("dsd.socket"), directory.path().join("conf.yaml"));
    let text = format!(
        "init_config:\n  statsd_socket: {}\n  report_interval: 1\n  reverse_dns: false\n\
         instances:\n  - interface: eth0\n    ips: [{}]\n    tags: [env:test]\n",
        socket.display(),
        lab.b.v4
    );
    fs::write(&config, text).unwrap();
    let agent = Agent::start(&lab.a, ["run".as_ref(), "-c".as_ref(), config.as_os_str()]).unwrap();
    some_rounds(&lab, 10);
    // A report finds nobody.
    thread::sleep(Duration::from_millis(1500));
    let server = Listener::unix(&socket).unwrap();
    some_rounds(&lab, 10);
    assert!(server.wait_for("system.net.tcp.rtt.dist", SOON), "nothing came to the socket");
    let metrics = server.metrics().unwrap();
    let tags =
        [format!("src:{}", lab.a.v4), format!("dst:{}", lab.b.v4), "env:test".to_owned(), "iface:eth0".to_owned()];
    assert_eq!(named(&metrics, "system.net.tcp.rtt.dist")[0].tags, tags);
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}
