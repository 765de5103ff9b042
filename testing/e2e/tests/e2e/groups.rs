//! Groups of remote hosts, live: several addresses of a host and two ports, to DogStatsD and Prometheus alike, against
//! the samples one by one; after a reload; and in a capture.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testing_lab::agent::{Agent, run_once, samples, status};
use testing_lab::statsd::Listener;
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};
use testing_support::mmdb;

use super::support::SOON;

/// The other host's addresses, the ports of their services, and the groups that they are to be in.
const SERVICES: [(u8, u16, &str); 8] = [
    (17, 443, "office"),
    (18, 443, "office"),
    (25, 443, "vpn"),
    (130, 443, "AS64500"),
    (131, 443, "AS64500"),
    (2, 443, "10.77.0.0/25"),
    (3, 8443, "10.77.0.0/25"),
    (4, 8443, "10.77.0.0/25"),
];
/// Round trips of each.
const ROUNDS: usize = 10;

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

/// The group and port of a sample's remote end.
fn place(remote: SocketAddr) -> (String, String) {
    let service = SERVICES.iter().find(|(last, ..)| remote.ip() == address(*last)).unwrap();
    assert_eq!(remote.port(), service.1);
    (service.2.to_owned(), service.1.to_string())
}

/// A configuration with this `group_by`.
fn configured(file: &Path, socket: &Path, group_by: &str) {
    let text = format!(
        "init_config:\n  report_interval: 1\n  max_pairs: 5\n  metrics: [default, health]\n  status_socket: {}\n  \
         prometheus_listen: 127.0.0.1:9464\n  outputs: [statsd, prometheus, json]\n  group_by: {group_by}\n\
         instances:\n  - interface: eth0\n    ips: [10.77.0.0/24]\n    tags: [env:test]\n",
        socket.display(),
    );
    fs::write(file, text).unwrap();
}

/// A line of Prometheus's page: its labels, without the quotes, and its value.
fn of_page(page: &str, name: &str) -> Vec<(BTreeMap<String, String>, f64)> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    let labels = |labels: &str| {
        let pairs = labels.split("\",").filter_map(|label| label.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned())).collect()
    };
    lines.map(|(its, value)| (labels(its), value.parse().unwrap())).collect()
}

/// Whether something came to be within the limit.
fn until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

fn drive(lab: &Lab) {
    for (last, port, _) in SERVICES {
        let rounds = Rounds { count: ROUNDS, ..Rounds::default() };
        let server = Server::start(&lab.b, (address(last), port).into(), rounds.service()).unwrap();
        rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
    }
}

#[test]
fn groups_have_the_samples_of_their_hosts_in_every_output_and_a_reload_changes_them_whole_or_not_at_all() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    for (last, ..) in SERVICES.iter().filter(|(last, ..)| *last != 2) {
        lab.b.add_address(address(*last)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let [config, socket, database] = ["conf.yaml", "socket", "as.mmdb"].map(|name| folder.path().join(name));
    fs::write(&database, mmdb::of_systems(&[("10.77.0.128/26", 64_500, "Example, Inc.")])).unwrap();
    let wanted = format!(
        "{{names: {{office: [10.77.0.16/28], vpn: [10.77.0.24/29]}}, ipv4_prefix: 25, port: service, as_database: {}}}",
        database.display()
    );
    configured(&config, &socket, &wanted);
    let server = Listener::udp(&lab.a, 8125).unwrap();
    let mut agent =
        Agent::start(&lab.a, ["run".as_ref(), "-c".as_ref(), config.as_os_str(), "--samples".as_ref()]).unwrap();
    drive(&lab);

    // Ten round trips and a handshake each; an acknowledgement of a FIN may be one more.
    let all = || samples(&agent.output()).unwrap();
    let is_all = || all().iter().filter(|sample| sample.is_data()).count() >= SERVICES.len() * ROUNDS;
    assert!(until(SOON, is_all), "{:#?}", agent.output());
    let page = || {
        lab.a.enter(|| {
            let mut answer = String::new();
            let mut stream = std::net::TcpStream::connect("127.0.0.1:9464").unwrap();
            std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
            answer
        })
    };
    let expected = || {
        let mut expected: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
        for sample in all().iter().filter(|sample| sample.is_data()) {
            expected.entry(place(sample.remote)).or_default().push(sample.rtt_ns / 1000);
        }
        expected.values_mut().for_each(|times| times.sort_unstable());
        expected
    };
    let counts = |name: &str, page: &str| -> BTreeMap<(String, String), u64> {
        let lines = of_page(page, name).into_iter();
        lines.map(|(labels, value)| ((labels["dst"].clone(), labels["port"].clone()), value as u64)).collect()
    };
    let as_counts = |expected: BTreeMap<(String, String), Vec<u64>>| -> BTreeMap<(String, String), u64> {
        expected.into_iter().map(|(place, times)| (place, times.len() as u64)).collect()
    };
    let is_scraped = || counts("go_metro_tcp_rtt_seconds_count", &page()) == as_counts(expected());
    assert!(until(SOON, is_scraped), "{:?}\n{}", expected(), page());
    let page = page();
    let established = of_page(&page, "go_metro_tcp_peer_connects_total");
    let established =
        established.into_iter().filter(|(its, _)| its["result"] == "established" && its["role"] == "client");
    let connects: BTreeMap<_, _> =
        established.map(|(labels, value)| ((labels["dst"].clone(), labels["port"].clone()), value)).collect();
    for (place, count) in &as_counts(expected()) {
        let hosts =
            SERVICES.iter().filter(|(_, port, group)| (*group, port.to_string()) == (&*place.0, place.1.clone()));
        assert_eq!(connects[place], hosts.count() as f64, "{place:?}, {count} samples: {page}");
    }

    // DogStatsD has each sample, under its group's name, the port of its service, and the system's tags.
    let heard = || {
        let mut heard: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
        for metric in server.metrics().unwrap().iter().filter(|metric| metric.name == "system.net.tcp.rtt.dist") {
            let [dst, port] = ["dst", "port"].map(|key| metric.tag(key).unwrap_or_default().to_owned());
            assert_eq!((metric.tag("env"), metric.rate), (Some("test"), None), "{metric:?}");
            let system = if dst == "AS64500" { (Some("64500"), Some("Example__Inc.")) } else { (None, None) };
            assert_eq!((metric.tag("as"), metric.tag("as_org")), system, "{metric:?}");
            heard.entry((dst, port)).or_default().extend(metric.values.iter().map(|ms| (ms * 1000.0) as u64));
        }
        heard.values_mut().for_each(|times| times.sort_unstable());
        heard
    };
    // Milliseconds are sent with three digits at least; what is compared is microseconds, but for rounding.
    let is_alike = || {
        let (heard, expected) = (heard(), expected());
        heard.keys().eq(expected.keys())
            && heard.iter().all(|(place, times)| {
                let expected = &expected[place];
                times.len() == expected.len() && times.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1)
            })
    };
    assert!(until(SOON, is_alike), "{:#?}\n{:#?}", heard(), expected());

    let said = status(&socket).unwrap();
    let groups =
        ["office: 10.77.0.16/28", "vpn: 10.77.0.24/29", "autonomous systems: 1 of ", "IPv4 /25", "port of the service"];
    for (said, group) in said["groups"].as_array().unwrap().iter().zip(groups) {
        assert!(said.as_str().unwrap().starts_with(group), "{said}");
    }

    // A database that is none: refused as a whole, and foreseen by `check`.
    let broken = folder.path().join("broken.mmdb");
    fs::write(&broken, "no database").unwrap();
    configured(&config, &socket, &format!("{{names: {{lab: [10.77.0.0/24]}}, as_database: {}}}", broken.display()));
    let check =
        || Agent::spawn(&lab.a, ["check".as_ref(), "-c".as_ref(), config.as_os_str()]).unwrap().finish().unwrap();
    let checked = check();
    let complaint = format!("`group_by.as_database`: {}: it is not a database in MaxMind's format", broken.display());
    assert!(checked.stdout.iter().any(|line| line.starts_with(&format!("FAIL  groups: {complaint}"))), "{checked:?}");
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log(&format!("configuration unchanged: {complaint}"), SOON).unwrap();
    assert_eq!(status(&socket).unwrap()["groups"], said["groups"]);
    // Nor does it start with it.
    let started = Agent::spawn(&lab.a, ["run".as_ref(), "-c".as_ref(), config.as_os_str()]).unwrap().finish().unwrap();
    assert_eq!(started.status.code(), Some(1), "{started:?}");

    // Other groups hold for connections that come and those that are there.
    let rounds = Rounds { count: ROUNDS, ..Rounds::default() };
    let far = Server::start(&lab.b, (address(17), 443).into(), rounds.service()).unwrap();
    let mut stream = connect(&lab.a, far.address()).unwrap();
    rounds.drive(&mut stream).unwrap();
    configured(&config, &socket, "{names: {lab: [10.77.0.0/24]}}");
    assert!(check().stdout.iter().any(|line| line == "ok    groups: lab: 10.77.0.0/24"), "{:?}", check());
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration reloaded", SOON).unwrap();
    assert_eq!(status(&socket).unwrap()["groups"], serde_json::json!(["lab: 10.77.0.0/24"]));
    let is_quiet = || {
        drop(server.take());
        std::thread::sleep(Duration::from_millis(1500));
        server.metrics().unwrap().iter().all(|metric| metric.name != "system.net.tcp.rtt.dist")
    };
    assert!(until(SOON, is_quiet));
    rounds.drive(&mut stream).unwrap();
    let named = |dst: &str| {
        let metrics = server.metrics().unwrap();
        let times = metrics.iter().filter(|metric| metric.name == "system.net.tcp.rtt.dist");
        times
            .filter(|metric| metric.tag("dst") == Some(dst) && metric.tag("port").is_none())
            .map(|m| m.values.len())
            .sum()
    };
    assert!(
        until(SOON, || {
            let count: usize = named("lab");
            count >= ROUNDS
        }),
        "{:?}",
        server.metrics()
    );
    let others = server.metrics().unwrap().into_iter().filter(|metric| metric.tag("src").is_some());
    assert!(others.clone().all(|metric| metric.tag("dst") == Some("lab")), "{:?}", others.collect::<Vec<_>>());
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn the_kernels_times_of_a_group_are_those_of_its_sockets() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    [17, 18].iter().for_each(|last| lab.b.add_address(address(*last)).unwrap());
    let words = ["run", "-i", "eth0", "-t", "10.77.0.0/24", "--kernel-rtt", "-o", "json", "--status-socket", "off"];
    let groups = ["--group-by", "names.office=10.77.0.16/28", "--group-by", "port=service"];
    let agent = Agent::start(&lab.a, words.iter().chain(&groups)).unwrap();
    let rounds = Rounds { count: ROUNDS, ..Rounds::default() };
    let servers = [(17, 443), (18, 443), (18, 444)]
        .map(|(last, port)| Server::start(&lab.b, (address(last), port).into(), rounds.service()).unwrap());
    let mut streams = servers.each_ref().map(|server| connect(&lab.a, server.address()).unwrap());
    let sockets = |port: u16| -> Option<u64> {
        let lines = agent.output();
        let pairs = lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let its =
            pairs.filter(|pair| pair["dst"] == "office" && pair["tags"] == serde_json::json!([format!("port:{port}")]));
        its.filter_map(|pair| pair["kernel"]["sockets"].as_u64()).max()
    };
    // All of them in one interval.
    let are_all = || {
        streams.iter_mut().for_each(|stream| drop(rounds.drive(stream).unwrap()));
        (sockets(443), sockets(444)) == (Some(2), Some(1))
    };
    assert!(until(SOON, are_all), "{:#?}", agent.output());
}

#[test]
fn a_capture_is_read_by_groups_and_its_samples_keep_their_addresses() {
    let capture = testing_support::workspace::root().join("corpus/delayed-acks.pcap.gz");
    let read = |more: &[&str]| {
        let words = [&["read", capture.to_str().unwrap()], more].concat();
        let finished = run_once(words).unwrap();
        assert!(finished.status.success(), "{finished:?}");
        finished.stdout
    };
    let column = |lines: &[String], number: usize| -> Vec<String> {
        lines[1..].iter().map(|line| line.split(',').nth(number).unwrap().to_owned()).collect()
    };
    let alone = read(&["-o", "csv"]);
    let grouped = read(&["-o", "csv", "--group-by", "names.lab=10.77.0.0/24", "--group-by", "port=service"]);
    assert!(grouped[0].ends_with(",port") && !alone[0].contains("port"), "{}", grouped[0]);
    assert!(column(&grouped, 1).iter().all(|dst| dst == "lab"), "{grouped:?}");
    let total = |lines: &[String]| column(lines, 5).iter().map(|count| count.parse::<u64>().unwrap()).sum::<u64>();
    assert_eq!(total(&alone), total(&grouped));
    let by_prefix = read(&["-o", "json", "--group-by", "ipv4_prefix=24"]);
    assert!(by_prefix.iter().all(|line| line.contains("\"dst\":\"10.77.0.0/24\"")), "{by_prefix:?}");
    assert!(read(&["--group-by", "port=service"]).iter().any(|line| line.contains("10.77.0.2:")), "the table names it");
    let samples = |more: &[&str]| read(&[&["--samples"], more].concat());
    assert_eq!(samples(&[]), samples(&["--group-by", "ipv4_prefix=24"]), "a sample has its own addresses");
    let refused = run_once(["read", capture.to_str().unwrap(), "--group-by", "as_database=/nonexistent"]).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.concat().contains("/nonexistent: cannot read it: No such file"), "{refused:?}");
}
