//! Flows shared out to several threads: what they say together is what one says.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use testing_lab::agent::{Agent, Finished, Sample};
use testing_lab::flood::{NET, syn_flood};
use testing_lab::terminal::Terminal;
use testing_lab::threads::threads;
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};

use super::support::{SOON, wait_for_samples};

/// Connections over either family.
const FLOWS: usize = 60;
const ROUNDS: Rounds = Rounds { count: 5, request: 100, response: 200, pause: Duration::ZERO };

/// A configuration file in a folder of its own, which the status socket is in too.
struct Conf(tempfile::TempDir);

impl Conf {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("conf.yaml")
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("go-metro.sock")
    }

    /// For traffic with host b, with these keys more.
    fn write(&self, lab: &Lab, init: &str, instances: &str) {
        let text = format!(
            "init_config:\n  status_socket: {}\n  reverse_dns: false\n  report_interval: 1\n  {}\ninstances:\n  \
             - interface: eth0\n    ips: [{}, '{}']\n{instances}",
            self.socket().display(),
            init.replace(", ", "\n  "),
            lab.b.v4,
            lab.b.v6,
        );
        fs::write(self.path(), text).unwrap();
    }

    fn start(&self, lab: &Lab) -> Agent {
        let path = self.path();
        Agent::start(&lab.a, ["run", "-c", path.to_str().unwrap(), "--output", "json", "--samples"]).unwrap()
    }

    fn status(&self) -> Value {
        testing_lab::agent::status(&self.socket()).unwrap()
    }
}

/// Holds that so many threads of the agent measure, where one does it while it captures; a thread takes its name, and
/// leaves, in its own time.
fn assert_threads(agent: &Agent, wanted: usize) {
    let deadline = Instant::now() + SOON;
    loop {
        let all = threads(agent.pid()).unwrap();
        let count = |name: &str| all.iter().filter(|thread| thread.name().starts_with(name)).count();
        let (capture, beside) = (count("capture"), count("measure-"));
        if (capture, beside.max(1)) == (1, wanted) && beside != 1 {
            return;
        }
        assert!(Instant::now() < deadline, "{capture} and {beside} threads, not {wanted}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Rounds over many connections of both families, one of them after the other in each of four threads.
fn drive(lab: &Lab) {
    let servers = [Server::v4, Server::v6].map(|start| start(&lab.b, ROUNDS.service()).unwrap());
    thread::scope(|scope| {
        for server in servers.iter().chain(&servers) {
            scope.spawn(|| {
                let mut streams: Vec<_> = (0..FLOWS / 2).map(|_| connect(&lab.a, server.address()).unwrap()).collect();
                streams.iter_mut().for_each(|stream| drop(ROUNDS.drive(stream).unwrap()));
            });
        }
    });
}

/// What makes a sample that sample.
fn keys(samples: Vec<Sample>) -> BTreeSet<(SocketAddr, SocketAddr, u32, String, bool)> {
    let count = samples.len();
    let key = |s: Sample| (s.local, s.remote, s.ack, s.kind.clone(), s.is_local());
    let keys: BTreeSet<_> = samples.into_iter().map(key).collect();
    assert_eq!(keys.len(), count, "a sample twice");
    keys
}

/// Samples in all reports together.
fn reported(finished: &Finished) -> u64 {
    let lines = finished.stdout.iter().filter(|line| line.contains("\"src\""));
    let count = |line: &String| {
        let pair: Value = serde_json::from_str(line).unwrap();
        ["data", "connect"].map(|kind| pair[kind]["count"].as_u64().unwrap_or(0)).iter().sum::<u64>()
    };
    lines.map(count).sum()
}

fn health(finished: &Finished) -> Value {
    let last = finished.stdout.iter().rev().find(|line| line.contains("\"health\"")).unwrap();
    serde_json::from_str::<Value>(last).unwrap()["health"].clone()
}

#[test]
fn several_workers_find_the_samples_that_one_finds_and_their_last_report_lacks_none() {
    for (backend, sides) in [("ebpf", "remote"), ("ebpf", "both"), ("pcap", "remote")] {
        let lab = Lab::new(Link::Veth).unwrap();
        lab.path().set_rtt(Duration::from_millis(5));
        let agents = [1, 2, 5].map(|workers| {
            let conf = Conf::new();
            conf.write(&lab, &format!("workers: {workers}, sides: {sides}, backend: {backend}"), "");
            let agent = conf.start(&lab);
            assert_threads(&agent, workers);
            (agent, conf)
        });
        drive(&lab);
        thread::sleep(Duration::from_millis(300));
        let [one, others @ ..] = agents.map(|(agent, _conf)| agent.stop().unwrap()).map(|finished| {
            assert_eq!(finished.status.code(), Some(0), "{:?}", finished.stderr);
            let (samples, health) = (finished.samples().unwrap(), health(&finished));
            // What came since the last report is in one that is sent at the end.
            assert_eq!(reported(&finished), samples.len() as u64, "in the reports");
            assert_eq!(health["samples"], samples.len(), "in the accounts");
            assert_eq!((&health["lost"], &health["dropped_samples"]), (&0.into(), &0.into()));
            (keys(samples), health)
        });
        let sent = one.1["sent"].as_u64().unwrap();
        assert!(one.0.len() > FLOWS * 2 * (ROUNDS.count + 1), "{} samples", one.0.len());
        assert_eq!(one.0.iter().any(|key| key.4), sides == "both");
        for (several, health) in others {
            let differ = one.0.symmetric_difference(&several).count();
            println!(
                "{backend}, {sides}: {} samples by one, {} by several, {differ} differ",
                one.0.len(),
                several.len()
            );
            // Two sources on one interface see all in the same order, but for two processors that meet in between.
            assert!(differ * 200 <= one.0.len(), "{differ} of {} differ", one.0.len());
            assert!(health["sent"].as_u64().unwrap().abs_diff(sent) <= 2, "{health} and {sent}");
        }
    }
}

#[test]
fn the_number_of_workers_changes_on_sighup_and_nothing_that_was_counted_is_lost() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(2));
    let conf = Conf::new();
    conf.write(&lab, "workers: 3", "");
    let mut agent = conf.start(&lab);
    let mut before = 0;
    for (reload, workers) in [3, 1, 4, 4].into_iter().enumerate() {
        if reload > 0 {
            conf.write(&lab, &format!("workers: {workers}, max_flows: {}", 1000 * reload), "");
            agent.signal(Signal::SIGHUP).unwrap();
            let deadline = Instant::now() + SOON;
            while conf.status()["happened"]["reloads"] != reload {
                assert!(Instant::now() < deadline, "not reloaded: {:?}", agent.log());
                thread::sleep(Duration::from_millis(50));
            }
            thread::sleep(Duration::from_millis(300));
        }
        assert_threads(&agent, workers);
        drive(&lab);
        let wanted = before + 2 * FLOWS * ROUNDS.count;
        assert!(wait_for_samples(&agent, wanted, |_| true).len() >= wanted, "{workers} workers");
        thread::sleep(Duration::from_millis(300));
        let told = conf.status();
        let printed = wait_for_samples(&agent, wanted, |_| true).len();
        let samples = ["data", "connect"].map(|kind| told["samples"][kind].as_u64().unwrap()).iter().sum::<u64>();
        assert_eq!(samples, printed as u64, "{workers} workers");
        before = printed;
    }
    // A number that is none changes nothing, and is told with its place.
    conf.write(&lab, "workers: 65", "");
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration unchanged", SOON).unwrap();
    let log = agent.log().join("\n");
    assert!(log.contains("conf.yaml:5") && log.contains("workers") && log.contains("from 1 to 64"), "{log}");
    assert_threads(&agent, 4);
    let finished = agent.stop().unwrap();
    assert_eq!(finished.status.code(), Some(0));
    assert_eq!(reported(&finished), finished.samples().unwrap().len() as u64);
}

#[test]
fn what_does_not_fit_into_the_rings_of_several_workers_is_counted() {
    const FLOOD: u32 = 100_000;
    let lab = Lab::new(Link::Veth).unwrap();
    lab.a
        .namespace
        .ip("link add flood0 type veth peer name sink0\naddress add 10.66.0.1/24 dev flood0\n\
                        link set sink0 up\nlink set flood0 up")
        .unwrap();
    let conf = Conf::new();
    let flood = format!("  - interface: flood0\n    ips: [{NET}]\n");
    conf.write(&lab, "workers: 2, ring_size: 128KiB, max_pairs: 10, max_flows: 5000", &flood);
    let mut agent = conf.start(&lab);
    agent.wait_for_log("capturing on flood0", SOON).unwrap();
    agent.freeze().unwrap();
    assert_eq!(syn_flood(&lab.a, "flood0", 0..FLOOD).unwrap(), u64::from(FLOOD));
    agent.signal(Signal::SIGCONT).unwrap();
    let deadline = Instant::now() + SOON;
    let told = loop {
        let told = conf.status();
        if told["packets"]["matched"] == u64::from(FLOOD) || Instant::now() > deadline {
            break told;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let count = |group: &str, name: &str| told[group][name].as_u64().unwrap();
    let (matched, records, lost) =
        (count("packets", "matched"), count("packets", "records"), count("drops", "records"));
    println!("{matched} matched, {records} in the engines, {lost} lost");
    assert_eq!((matched, records + lost), (u64::from(FLOOD), u64::from(FLOOD)));
    // One processor's ring was full, or two were: one of 64 KiB takes 1,024 records.
    assert!((1000..=2 * 1024).contains(&records), "{records} records");
    assert!(count("flows", "now") >= 1000 && count("flows", "max") == 5000, "{told:#}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn top_shows_the_flows_of_all_workers() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(2));
    let conf = Conf::new();
    conf.write(&lab, "workers: 2", "");
    let agent = conf.start(&lab);
    let top = testing_lab::agent::shell_word().unwrap();
    let top = format!("exec {top} top --socket {}", conf.socket().display());
    let terminal = Terminal::start(&lab.a, (100, 40), &top).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0")).unwrap();
    let server = Server::v4(&lab.b, ROUNDS.service()).unwrap();
    for _ in 0..20 {
        ROUNDS.run(&lab.a, server.address()).unwrap();
    }
    // Each connection has a sample of its handshake too, and perhaps of its FIN.
    let all = |screen: &str| {
        let row = screen.lines().find(|line| line.starts_with("10.77.0.1 ") && line.contains(" 10.77.0.2 "));
        row.and_then(|row| row.split_whitespace().nth(3)?.parse::<usize>().ok()).is_some_and(|n| n >= 20 * ROUNDS.count)
    };
    terminal.wait_for(SOON, all).unwrap();
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}
