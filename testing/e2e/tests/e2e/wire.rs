//! Super-segments that the path cuts as a network card does, so that a part of one can be lost, and a queue before the
//! narrowest link: every sample against the path's record of each segment on the wire.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testing_lab::agent::{Agent, Sample};
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Impairment, Lab, Link, Order, Over, Passage, Queue, Way, What};
use testing_truth::oracle::live::Live;

use super::court::Verdicts;
use super::support::{Backend, watching};

pub(super) const RTT: Duration = Duration::from_millis(10);
pub(super) const TRAFFIC: Duration = Duration::from_secs(3);
/// Bytes of a request: two segments, a super-segment and a half, several, and a transfer of many round trips.
const REQUESTS: [usize; 4] = [2_896, 4_400, 20_000, 60_000];
/// Connections of each kind and request size.
const EACH: usize = 2;
/// `tcp_timestamps` and `tcp_sack` of a quarter of the connections each.
const KINDS: [[&str; 2]; 4] = [["1", "1"], ["0", "1"], ["1", "0"], ["0", "0"]];
/// How long an agent runs that starts while all of that goes on, and how many of each backend do.
const GLANCE: Duration = Duration::from_millis(400);
const GLANCES: usize = 2;

/// How an agent is called where its figures are shown, what it printed, and how many records it has lost.
pub(super) type Seen = (String, Vec<Sample>, u64);

/// An agent with these settings.
pub(super) fn agent_with(lab: &Lab, backend: Backend, settings: &str) -> Agent {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("conf.yaml");
    let text = format!(
        "init_config: {{backend: {}, status_socket: off, reverse_dns: false, {settings}}}\n\
         instances: [{{interface: eth0, ips: [{}, '{}']}}]\n",
        backend.name(),
        lab.b.v4,
        lab.b.v6
    );
    std::fs::write(&config, text).unwrap();
    let args = ["run", "-c", config.to_str().unwrap(), "--output", "json", "--samples", "--interval", "1"];
    let agent = Agent::start(&lab.a, args).unwrap();
    // It has read the file.
    drop(folder);
    agent
}

fn agent(lab: &Lab, backend: Backend) -> Agent {
    let json = ["--output", "json", "--samples", "--interval", "1"].map(str::to_owned);
    Agent::start(&lab.a, watching(lab, backend).into_iter().chain(json)).unwrap()
}

pub(super) fn finish(agent: Agent, name: &str) -> Seen {
    let finished = agent.stop().unwrap();
    assert_eq!(finished.status.code(), Some(0), "{name}: {:#?}", finished.stderr);
    // On a busy machine one that is stopped at once may end without a report: then nobody knows, and it is not judged.
    let health = finished.stdout.iter().rev().find(|line| line.contains("\"health\""));
    println!("{name}: {}", health.map_or("no report", |line| line));
    let lost = health.map_or(u64::MAX, |line| {
        let report: serde_json::Value = serde_json::from_str(line).unwrap();
        report["health"]["lost"].as_u64().unwrap()
    });
    (name.to_owned(), finished.samples().unwrap(), lost)
}

/// The connections, made before the path has faults, each with what it is for.
fn connections(lab: &Lab) -> (Vec<Server>, Vec<(TcpStream, Rounds)>) {
    let rounds = REQUESTS.map(|request| Rounds { count: 1, request, pause: 4 * RTT, ..Rounds::default() });
    connections_for(lab, &rounds)
}

/// Some of each kind for each of these.
pub(super) fn connections_for(lab: &Lab, rounds: &[Rounds]) -> (Vec<Server>, Vec<(TcpStream, Rounds)>) {
    connections_to(lab, lab.b.v4.into(), rounds)
}

/// The same, to this address of the second host's.
pub(super) fn connections_to(lab: &Lab, to: IpAddr, rounds: &[Rounds]) -> (Vec<Server>, Vec<(TcpStream, Rounds)>) {
    let server = |rounds: &Rounds| Server::start(&lab.b, SocketAddr::new(to, 0), rounds.service()).unwrap();
    let servers: Vec<Server> = rounds.iter().map(server).collect();
    let mut streams = Vec::new();
    for [timestamps, sack] in KINDS {
        lab.a.namespace.sysctl("net/ipv4/tcp_timestamps", timestamps).unwrap();
        lab.a.namespace.sysctl("net/ipv4/tcp_sack", sack).unwrap();
        for (server, rounds) in servers.iter().zip(rounds) {
            streams.extend((0..EACH).map(|_| (connect(&lab.a, server.address()).unwrap(), *rounds)));
        }
    }
    (servers, streams)
}

/// What there is to judge.
struct Watched {
    lab: Lab,
    passages: Vec<Passage>,
    /// By the agents that ran from before the first SYN on.
    throughout: Vec<Seen>,
    /// By those that started meanwhile.
    glances: Vec<Seen>,
    /// Near ends of the connections with timestamps and SACK.
    usual: HashSet<SocketAddr>,
}

/// Near ends of the connections with timestamps and SACK.
pub(super) fn usual_of(streams: &[(TcpStream, Rounds)]) -> HashSet<SocketAddr> {
    streams.iter().take(streams.len() / KINDS.len()).map(|(stream, _)| stream.local_addr().unwrap()).collect()
}

/// Samples of these connections, and of the others.
pub(super) fn by_kind(usual: &HashSet<SocketAddr>, samples: &[Sample]) -> (Vec<Sample>, Vec<Sample>) {
    samples.iter().cloned().partition(|sample| usual.contains(&sample.local))
}

/// A path that cuts super-segments and records what passes, without faults so far.
pub(super) fn lab() -> Lab {
    let lab = Lab::new(Link::Veth).unwrap();
    // Tail loss probes, as on other machines: the lab has them off where it wants a path without faults.
    lab.a.namespace.sysctl("net/ipv4/tcp_early_retrans", "3").unwrap();
    lab.path().set_rtt(RTT);
    lab.path().cut_super_segments();
    lab.path().record();
    lab
}

fn lossy(loss: f64, seed: u64) -> Impairment {
    Impairment { loss, seed, ..Impairment::delay(RTT / 2) }
}

pub(super) fn impair(lab: &Lab, out: Impairment, back: Impairment) {
    lab.path().impair(Way::AToB, out);
    lab.path().impair(Way::BToA, back);
}

/// Does something while all connections are in use.
pub(super) fn while_driving(streams: Vec<(TcpStream, Rounds)>, meanwhile: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (mut stream, rounds) in streams {
            let is_over = &is_over;
            scope.spawn(move || while !is_over.load(Ordering::Relaxed) && rounds.drive(&mut stream).is_ok() {});
        }
        let _over = Over(&is_over);
        meanwhile();
    });
    // What is on its way arrives, and another report is due.
    thread::sleep(Duration::from_millis(1200));
}

/// All connections at once over this path.
fn watch(out: Impairment, back: Impairment) -> Watched {
    let lab = lab();
    let throughout = Backend::BOTH.map(|backend| (agent(&lab, backend), backend));
    let (_servers, streams) = connections(&lab);
    let usual = usual_of(&streams);
    impair(&lab, out, back);
    let mut glances = Vec::new();
    while_driving(streams, || {
        let start = Instant::now();
        for backend in [Backend::BOTH; GLANCES].concat() {
            let glance = agent(&lab, backend);
            thread::sleep(GLANCE);
            glances.push(finish(glance, &format!("{backend:?}, started meanwhile")));
        }
        thread::sleep(TRAFFIC.saturating_sub(start.elapsed()));
    });
    let throughout = throughout.into_iter().map(|(agent, backend)| finish(agent, &format!("{backend:?}"))).collect();
    let passages = lab.path().passages();
    Watched { lab, passages, throughout, glances, usual }
}

impl Watched {
    /// Judges what the agents saw; those that watched throughout have at least so many samples.
    fn judge(&self, at_least: usize) {
        let live = Live::new(&self.passages);
        println!("{} frames on the wire, {:?}", self.passages.len(), self.lab.path().counters(Way::AToB));
        for (name, samples, lost) in &self.throughout {
            let verdicts = Verdicts::of(&live, samples);
            say(name, samples, &verdicts);
            if *lost > 0 {
                println!("{name}: not judged, {lost} records were lost on this busy machine");
                continue;
            }
            verdicts.assert_true(|_| RTT);
            assert!(samples.len() >= at_least, "{name}: {} samples", samples.len());
        }
        for (name, samples, lost) in &self.glances {
            // What was sent and lost before is not seen, and without SACK the receiver does not say what it holds.
            let (usual, others) = by_kind(&self.usual, samples);
            let verdicts = Verdicts::of(&live, &usual);
            say(name, &usual, &verdicts);
            if *lost == 0 {
                verdicts.assert_true(|_| RTT);
            }
            say(&format!("{name}, no timestamps or no SACK"), &others, &Verdicts::of(&live, &others));
        }
    }
}

pub(super) fn say(name: &str, samples: &[Sample], verdicts: &Verdicts<'_>) {
    let longest = samples.iter().map(Sample::rtt).max().unwrap_or_default();
    let (wrong, untold) = (verdicts.wrong.len(), verdicts.untold());
    println!("{name}: {} samples judged, {wrong} wrong, untold: {untold:?}; the longest {longest:?}", samples.len());
}

#[test]
fn with_parts_of_super_segments_lost_every_sample_is_true() {
    let watched = watch(lossy(0.02, 11), lossy(0.005, 12));
    let counters = watched.lab.path().counters(Way::AToB);
    assert!(counters.lost > 200 && counters.super_segments == 0, "{counters:?}");
    watched.judge(1000);
}

#[test]
fn behind_a_queue_that_fills_and_overflows_every_sample_is_true() {
    let queue = Some(Queue::of(20_000_000, Duration::from_millis(110)));
    let watched = watch(Impairment { queue, ..Impairment::delay(RTT / 2) }, Impairment::delay(RTT / 2));
    let counters = watched.lab.path().counters(Way::AToB);
    assert!(counters.dropped > 20 && counters.super_segments == 0, "{counters:?}");
    watched.judge(500);
    let waited = |(_, samples, _): &Seen| samples.iter().any(|sample| sample.rtt() > RTT * 5);
    assert!(watched.throughout.iter().all(waited), "nothing waited in the queue");
}

/// One whose first response is lost on the way, so that a second says first that the request has arrived.
#[test]
fn libpcap_times_nothing_by_what_comes_behind_a_jump_in_the_peers_numbers() {
    const LATER: Duration = Duration::from_millis(40);
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(RTT);
    lab.path().record();
    let agents = Backend::BOTH.map(|backend| (agent(&lab, backend), backend));
    let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0))).unwrap();
    let mut near = connect(&lab.a, listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    far.set_nodelay(true).unwrap();
    // A receiver acknowledges at once at first, and then once more with its response.
    let orders = vec![Order::lose(What::Ack, 1), Order::lose(What::Data, 1)];
    lab.path().impair(Way::BToA, Impairment { orders, ..Impairment::delay(RTT / 2) });
    for _ in 0..2 {
        near.write_all(&[b'q'; 100]).unwrap();
        far.read_exact(&mut [0; 100]).unwrap();
        far.write_all(&[b'r'; 100]).unwrap();
        thread::sleep(LATER);
        far.write_all(&[b'r'; 100]).unwrap();
        near.read_exact(&mut [0; 200]).unwrap();
    }
    thread::sleep(Duration::from_millis(1200));
    let seen = agents.map(|(agent, backend)| (finish(agent, backend.name()), backend));
    let live = Live::new(&lab.path().passages());
    assert_eq!(lab.path().counters(Way::BToA).lost, 2);
    for ((name, samples, lost), backend) in seen {
        let verdicts = Verdicts::of(&live, &samples);
        say(&name, &samples, &verdicts);
        assert_eq!(lost, 0);
        // The classifier leaves in the kernel what of the peer only repeats, so there a jump says nothing.
        if backend == Backend::Pcap {
            assert!(samples.iter().all(|sample| sample.rtt() < LATER), "{samples:#?}");
        }
        // The second request's, by an acknowledgement that nothing is missing before.
        assert!(samples.iter().any(Sample::is_data), "{name}: {samples:#?}");
    }
}

#[test]
fn what_found_no_room_in_a_buffer_is_a_gap_and_makes_no_false_sample() {
    let lab = lab();
    let tiny = "ring_size: 16KiB, sampling: {watermark: off}";
    let agents = Backend::BOTH.map(|backend| (agent_with(&lab, backend, tiny), backend));
    let (_servers, streams) = connections(&lab);
    let usual = usual_of(&streams);
    impair(&lab, lossy(0.02, 11), lossy(0.005, 12));
    while_driving(streams, || {
        // Stopped for a while between two reads, and again and again in the middle of one.
        let stalls = [(60, 100), (300, 100)].repeat(6).into_iter().chain([(20, 1)].repeat(100));
        for (stopped, running) in stalls {
            agents.iter().for_each(|(agent, _)| agent.signal(Signal::SIGSTOP).unwrap());
            thread::sleep(Duration::from_millis(stopped));
            agents.iter().for_each(|(agent, _)| agent.signal(Signal::SIGCONT).unwrap());
            thread::sleep(Duration::from_millis(running));
        }
    });
    let seen = agents.map(|(agent, backend)| finish(agent, &format!("{backend:?}, with gaps")));
    let live = Live::new(&lab.path().passages());
    for (name, samples, lost) in seen {
        let (usual, others) = by_kind(&usual, &samples);
        let verdicts = Verdicts::of(&live, &usual);
        println!("{lost} records lost");
        say(&name, &usual, &verdicts);
        say(&format!("{name}, no timestamps or no SACK"), &others, &Verdicts::of(&live, &others));
        assert!(lost > 100, "{name}: {lost} records lost");
        verdicts.assert_true(|_| RTT);
        assert!(usual.len() > 100, "{name}: {} samples", usual.len());
    }
}
