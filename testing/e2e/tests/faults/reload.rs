//! A reload that opens the source again: each packet is measured once, before or after.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use testing_lab::Over;
use testing_lab::agent::{Agent, Sample};
use testing_lab::traffic::{Rounds, Server, connect};

use super::support::{Conf, SOON, USUAL, lab};

/// Connections that talk all the while.
const TALKERS: usize = 6;
/// Reloads.
const RELOADS: usize = 5;

fn sum(of: &Value) -> u64 {
    of.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
}

/// Talks while a file is read again, with `key` at one value and another in turn; what was printed.
fn reloaded(always: &[&str], key: &str, values: [&str; 2]) {
    let what = format!("{always:?}, {key}");
    let lab = lab();
    let conf = Conf::new();
    let write = |value: &str| {
        let line = format!("{key}: {value}");
        conf.write(&[always, &[line.as_str()]].concat(), USUAL);
    };
    write(values[0]);
    let path = conf.path();
    let args = ["run", "-c", path.to_str().unwrap(), "--output", "json", "--samples", "--interval", "3600"];
    let agent = Agent::start(&lab.a, args).unwrap();
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let rounds = Rounds { count: 1, ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    thread::scope(|scope| {
        for _ in 0..TALKERS {
            scope.spawn(|| {
                let mut stream = connect(&lab.a, server.address()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    rounds.drive(&mut stream).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _over = Over(&stop);
        for number in 1..=RELOADS {
            thread::sleep(Duration::from_millis(400));
            write(values[number % 2]);
            agent.signal(Signal::SIGHUP).unwrap();
            let again =
                |agent: &Agent| agent.log().iter().filter(|line| line.contains("configuration reloaded")).count();
            super::support::wait(&format!("{what}: reload {number}"), 2 * SOON, || again(&agent) == number);
        }
        thread::sleep(Duration::from_millis(800));
    });
    thread::sleep(Duration::from_millis(500));
    let finished = agent.stop().unwrap();
    assert_eq!(finished.status.code(), Some(0), "{what}");
    let log = finished.stderr.join("\n");
    assert!(!log.contains("using tc"), "{what}: {log}");
    let samples: Vec<Sample> = finished.samples().unwrap().into_iter().filter(Sample::is_data).collect();
    let mut each = BTreeMap::<_, usize>::new();
    samples.iter().for_each(|sample| *each.entry((sample.local, sample.remote, sample.ack)).or_default() += 1);
    let (rounds, twice) = (count.load(Ordering::Relaxed), samples.len() - each.len());
    let health: Value = finished
        .stdout
        .iter()
        .rev()
        .find_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["health"].clone()).filter(Value::is_object))
        .unwrap();
    println!("{what}: {rounds} rounds, {} samples, {twice} twice; {health}", samples.len());
    let number = |name: &str| health[name].as_u64().unwrap();
    assert_eq!(twice, 0, "{what}");
    assert_eq!(
        number("segments") + number("second_sides"),
        number("records") + number("repeats") + number("thinned") + number("lost"),
        "{what}: segments"
    );
    assert_eq!(
        number("records"),
        number("sent") + number("samples") + sum(&health["rejected"]) + sum(&health["quiet"]),
        "{what}: records"
    );
    // A request and its answer each round, and three more at both ends of a connection.
    assert!(number("sent") <= (rounds + 3 * TALKERS) as u64, "{what}: a packet was seen twice");
    assert!(number("sent") >= rounds as u64, "{what}: a packet was not seen");
    assert!(samples.len() + TALKERS >= rounds, "{what}: rounds were not measured, and nothing says so");
}

#[test]
fn libpcap_with_another_snaplen_measures_each_packet_once() {
    reloaded(&["backend: pcap"], "snaplen", ["200", "300"]);
}

#[test]
fn another_classifier_takes_over_from_the_one_before_and_each_packet_is_measured_once() {
    reloaded(&["backend: ebpf", "sandbox: false"], "ring_size", ["4MiB", "8MiB"]);
}

#[test]
fn with_several_threads_too() {
    reloaded(&["backend: ebpf", "sandbox: false", "workers: 2"], "ring_size", ["4MiB", "8MiB"]);
}

#[test]
fn in_the_driver_too() {
    reloaded(&["backend: ebpf", "sandbox: false", "ingress_hook: xdp"], "ring_size", ["4MiB", "8MiB"]);
}

#[test]
fn outputs_open_and_end_as_the_file_that_is_read_again_has_them() {
    const PORT: u16 = 9464;
    let lab = lab();
    let server = super::support::statsd(&lab);
    let conf = Conf::new();
    let write = |keys: &[&str]| conf.write(&[&[conf.status_line().as_str()], keys].concat(), USUAL);
    write(&["outputs: [json]"]);
    let path = conf.path();
    let agent = Agent::start(&lab.a, ["run", "-c", path.to_str().unwrap(), "--interval", "0.2"]).unwrap();
    let outputs = || {
        let status = conf.status();
        let kinds = status["outputs"].as_array().unwrap().iter().map(|output| output["kind"].as_str().unwrap());
        kinds.collect::<Vec<_>>().join(" ")
    };
    let reload = |keys: &[&str], expected: &str| {
        write(keys);
        agent.signal(Signal::SIGHUP).unwrap();
        super::support::wait(&format!("{keys:?}: {expected}"), SOON, || outputs() == expected);
    };
    let is_scraped = || lab.a.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))).is_ok();
    super::support::wait("json alone", SOON, || outputs() == "json");
    assert!(server.metrics().unwrap().is_empty() && !is_scraped());

    reload(&["outputs: [statsd, json]"], "statsd json");
    super::support::wait_until(&server, "a report", |heard| !heard.0.is_empty());
    reload(&["prometheus_listen: 127.0.0.1:9464"], "statsd prometheus");
    assert!(is_scraped());
    // An address of another host: nothing changes.
    write(&["prometheus_listen: 192.0.2.9:9464"]);
    agent.signal(Signal::SIGHUP).unwrap();
    super::support::wait("it is refused", SOON, || conf.status()["happened"]["reloads_refused"] == 1);
    assert!(outputs() == "statsd prometheus" && is_scraped());

    // To all addresses of the host, which the port itself is in the way of; but not where another program's is.
    let at = |address: IpAddr| lab.a.enter(|| TcpStream::connect((address, PORT)));
    let other = lab.a.enter(|| TcpListener::bind((lab.a.v4, PORT))).unwrap();
    write(&["prometheus_listen: 0.0.0.0:9464"]);
    agent.signal(Signal::SIGHUP).unwrap();
    super::support::wait("it is refused", SOON, || conf.status()["happened"]["reloads_refused"] == 2);
    assert!(outputs() == "statsd prometheus" && is_scraped());
    drop(other);
    let refused = conf.status()["happened"]["reloads_refused"].clone();
    agent.signal(Signal::SIGHUP).unwrap();
    super::support::wait("it listens at all addresses", SOON, || at(lab.a.v4.into()).is_ok() && is_scraped());
    assert_eq!(conf.status()["happened"]["reloads_refused"], refused);
    reload(&["prometheus_listen: 127.0.0.1:9464"], "statsd prometheus");
    super::support::wait("it listens at one", SOON, || at(lab.a.v4.into()).is_err() && is_scraped());

    reload(&["outputs: [json]"], "json");
    super::support::wait("the port is closed", SOON, || !is_scraped());
    let finished = agent.stop().unwrap();
    assert_eq!(finished.status.code(), Some(0), "{:?}", finished.stderr);
}
