//! Flows that are thinned in the kernel: where that is configured, and where the daemon cannot keep up.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use testing_lab::agent::{Agent, Finished, Sample};
use testing_lab::flood::syn_flood;
use testing_lab::traffic::{Rounds, Server, Service, bulk, connect};
use testing_lab::{Host, Lab, Link, Pair};

use super::support::{Late, in_time, timely};

/// Until what is under way has come, and is out of the ring: accounts that are closed while something passes are off by
/// that.
const QUIET: Duration = Duration::from_millis(500);

/// An agent on a host that prints each sample, with these settings.
fn agent(host: &Host, targets: &str, settings: &str) -> (Agent, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("conf.yaml");
    let text = format!(
        "init_config: {{backend: ebpf, status_socket: off, reverse_dns: false, {settings}}}\n\
         instances: [{{interface: eth0, ips: [{targets}]}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let args = ["run", "-c", config.to_str().unwrap(), "--output", "json", "--samples"];
    (Agent::start(host, args).unwrap(), folder)
}

/// The counters at the end. Every segment became a record, or was left in the kernel, or is lost.
fn health(finished: &Finished) -> BTreeMap<&'static str, u64> {
    let line = finished.stdout.iter().rev().find(|line| line.contains("\"health\"")).unwrap();
    let health: Value = serde_json::from_str::<Value>(line).unwrap()["health"].clone();
    let names = ["segments", "records", "repeats", "thinned", "lost", "samples"];
    let health: BTreeMap<&str, u64> = names.into_iter().map(|name| (name, health[name].as_u64().unwrap())).collect();
    println!("{health:?}");
    assert_eq!(health["segments"], health["records"] + health["repeats"] + health["thinned"] + health["lost"]);
    health
}

/// The samples of data of one upload of two seconds over a path of this round-trip time, and what was counted.
fn upload(rtt: Duration, per_flow: &str) -> (Vec<Sample>, BTreeMap<&'static str, u64>) {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(rtt);
    let (agent, _folder) = agent(&lab.a, &lab.b.v4.to_string(), &format!("sampling: {{per_flow: {per_flow}}}"));
    let server = Server::v4(&lab.b, Service::Sink).unwrap();
    let mut stream = connect(&lab.a, server.address()).unwrap();
    bulk(&mut stream, Duration::from_secs(2)).unwrap();
    thread::sleep(QUIET);
    let finished = agent.stop().unwrap();
    let mut samples: Vec<Sample> = finished.samples().unwrap().into_iter().filter(Sample::is_data).collect();
    samples.sort_by_key(|sample| sample.time_ns);
    let mut rtts: Vec<Duration> = samples.iter().map(Sample::rtt).collect();
    rtts.sort();
    println!("{per_flow}: {} samples, {:?} to {:?}", samples.len(), rtts[0], rtts[rtts.len() - 1]);
    // Between the clocks of the forwarder and of the kernel's hooks.
    assert!(rtts[0] + Duration::from_micros(20) >= rtt, "less than the path's delay: {:?}", rtts[0]);
    (samples, health(&finished))
}

#[test]
fn a_bulk_flow_yields_one_sample_in_the_configured_time() {
    in_time("100ms", try_the_configured_time);
}

fn try_the_configured_time() -> Result<(), Late> {
    let (samples, health) = upload(Duration::from_millis(10), "100ms");
    // Two seconds, and what the sender had buffered at their end.
    timely((10..=26).contains(&samples.len()), || format!("{} samples", samples.len()))?;
    for pair in samples.windows(2) {
        let sent = |sample: &Sample| sample.time_ns - sample.rtt_ns;
        // The pick begins with the first of a few segments, and the sample may be of the last of them.
        let apart = Duration::from_nanos(sent(&pair[1]) - sent(&pair[0]));
        assert!(apart >= Duration::from_millis(80), "samples are {apart:?} apart");
    }
    assert_eq!(health["lost"], 0);
    timely(health["thinned"] > 10 * health["records"], || format!("{health:?}"))
}

#[test]
fn a_bulk_flow_yields_one_sample_in_each_round_trip() {
    in_time("1rtt", try_each_round_trip);
}

fn try_each_round_trip() -> Result<(), Late> {
    let (samples, health) = upload(Duration::from_millis(50), "1rtt");
    // The path's queue makes round trips longer than its delay.
    timely((8..=45).contains(&samples.len()), || format!("{} samples", samples.len()))?;
    for pair in samples.windows(2) {
        let apart = Duration::from_nanos(pair[1].time_ns - pair[0].time_ns);
        assert!(apart >= Duration::from_millis(45), "samples are {apart:?} apart");
    }
    timely(health["thinned"] > health["records"], || format!("{health:?}"))
}

/// Longer than the longest time between two samples of a thinned flow (`STEPS` of go-metro-common, 1 s): how far the
/// classifier thins depends on how busy the machine is, and of a flow that sends so seldom it leaves nothing out.
const SELDOM: Duration = Duration::from_millis(1100);
/// Connections that send so seldom.
const LONG: usize = 40;

/// What an agent saw that gets to run one third of the time, while four flows upload and others exchange little.
struct Overload {
    health: BTreeMap<&'static str, u64>,
    /// Share of what could be timed: of long connections that send little, and of many short ones.
    long: f64,
    short: f64,
    /// Samples of the flows that upload.
    bulk: usize,
    log: Vec<String>,
}

fn overload(watermark: &str) -> Overload {
    const TIME: Duration = Duration::from_secs(3);
    let pair = Pair::new().unwrap();
    let settings = format!("ring_size: 16KiB, sampling: {{watermark: {watermark}}}");
    let (agent, _folder) = agent(&pair.a, &pair.b.v4.to_string(), &settings);
    let sink = Server::v4(&pair.b, Service::Sink).unwrap();
    let paced = Rounds { count: 3, pause: SELDOM, ..Rounds::default() };
    let brief = Rounds { count: 3, ..Rounds::default() };
    let (paced_server, brief_server) =
        (Server::v4(&pair.b, paced.service()).unwrap(), Server::v4(&pair.b, brief.service()).unwrap());
    let over = AtomicBool::new(false);
    // The acknowledgement of each FIN is a sample as well.
    let run = |rounds: Rounds, server: &Server| rounds.run(&pair.a, server.address()).unwrap().times.len() + 1;
    let (mut long_timed, mut short_timed) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                agent.signal(Signal::SIGSTOP).unwrap();
                thread::sleep(Duration::from_millis(40));
                agent.signal(Signal::SIGCONT).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
        });
        for _ in 0..4 {
            scope.spawn(|| {
                let mut stream: TcpStream = connect(&pair.a, sink.address()).unwrap();
                bulk(&mut stream, TIME).unwrap();
            });
        }
        let long: Vec<_> = (0..LONG).map(|_| scope.spawn(|| run(paced, &paced_server))).collect();
        while !long.iter().all(ScopedJoinHandle::is_finished) {
            short_timed += run(brief, &brief_server);
            thread::sleep(Duration::from_millis(20));
        }
        long_timed = long.into_iter().map(|connection| connection.join().unwrap()).sum();
        over.store(true, Ordering::Relaxed);
    });
    agent.signal(Signal::SIGCONT).unwrap();
    thread::sleep(QUIET);
    let finished = agent.stop().unwrap();
    let samples = finished.samples().unwrap();
    let of = |server: SocketAddr| samples.iter().filter(|sample| sample.is_data() && sample.remote == server).count();
    let overload = Overload {
        health: health(&finished),
        long: of(paced_server.address()) as f64 / long_timed as f64,
        short: of(brief_server.address()) as f64 / short_timed as f64,
        bulk: of(sink.address()),
        log: finished.stderr,
    };
    let Overload { long, short, bulk, .. } = &overload;
    println!("{watermark}: of long flows {long:.2} of all rounds, of short flows {short:.2}; {bulk} samples of bulk");
    overload
}

#[test]
fn a_daemon_that_cannot_keep_up_has_long_flows_thinned_and_loses_little() {
    in_time("a daemon that cannot keep up", try_not_to_keep_up);
}

fn try_not_to_keep_up() -> Result<(), Late> {
    let (without, with) = (overload("off"), overload("50%"));
    let said = |log: &[String]| log.iter().filter(|line| line.contains("ring under pressure")).count();
    assert_eq!((without.health["thinned"], said(&without.log)), (0, 0));
    timely(without.health["lost"] > 1000, || format!("it kept up: {:?}", without.health))?;
    timely(with.health["thinned"] > 1000, || format!("{:?}", with.health))?;
    assert!(said(&with.log) >= 1, "{:?} {:#?}", with.health, with.log);
    let share = |overload: &Overload| overload.health["lost"] as f64 / overload.health["segments"] as f64;
    timely(share(&with) < share(&without) / 4.0, || {
        format!("lost {:.3}, without {:.3}", share(&with), share(&without))
    })?;
    // Not thinned, they miss what is lost, and no more.
    let (records, lost) = (with.health["records"] as f64, with.health["lost"] as f64);
    let least = 0.8 * records / (records + lost);
    timely(with.long > without.long && with.long > least, || format!("{} of long flows' rounds", with.long))?;
    timely(with.short > without.short && with.short > least, || format!("{} of short flows' rounds", with.short))
}

#[test]
fn bursts_that_fit_into_a_ring_are_not_lost_however_quiet_it_was_before() {
    in_time("bursts", || {
        const BURST: u32 = 100;
        const BURSTS: u32 = 10;
        let lab = Lab::new(Link::Veth).unwrap();
        let (agent, _folder) = agent(&lab.a, "10.66.0.0/16", "ring_size: 16KiB, sampling: {watermark: off}");
        for burst in 0..BURSTS {
            // So long that the reader hardly looks any more.
            thread::sleep(Duration::from_millis(700));
            for part in 0..3 {
                let first = (burst * 3 + part) * BURST;
                assert_eq!(syn_flood(&lab.a, "eth0", first..first + BURST).unwrap(), u64::from(BURST));
                thread::sleep(Duration::from_millis(50));
            }
        }
        thread::sleep(QUIET);
        let health = health(&agent.stop().unwrap());
        assert_eq!(health["segments"], u64::from(3 * BURST * BURSTS));
        timely(health["lost"] == 0, || format!("{} lost", health["lost"]))
    });
}
