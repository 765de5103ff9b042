//! What is measured is what the lab imposes and what the kernel itself says, on every kind of link.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testing_lab::agent::{Agent, Sample};
use testing_lab::programs::{Hook, Position, Program};
use testing_lab::traffic::{Exchange, Rounds, Server, Service, bulk, connect};
use testing_lab::{Lab, Link, TcpInfo, Way};

use super::support::{Backend, Late, SOON, in_time, sampling, wait_for_samples};

const RTT: Duration = Duration::from_millis(50);
/// Between the clocks of the forwarder and of the kernel's hooks.
const CLOCKS: Duration = Duration::from_micros(20);

/// A hundred rounds, with the kernel's word after each. The connection stays open: the acknowledgement of a FIN is a
/// sample too.
fn watched_rounds(lab: &Lab, to: SocketAddr) -> (TcpStream, Exchange) {
    let one = Rounds { count: 1, ..Rounds::default() };
    let mut stream = connect(&lab.a, to).unwrap();
    let mut all = one.drive(&mut stream).unwrap();
    for _ in 1..100 {
        let Exchange { times, info, .. } = one.drive(&mut stream).unwrap();
        all.times.extend(times);
        all.info.extend(info);
    }
    (stream, all)
}

/// The kernel's own spread at a moment, by which it sets its timer: K times RTTVAR, RFC 6298 section 2.
fn spread(info: &TcpInfo) -> Duration {
    4 * info.rttvar
}

fn of<'a>(samples: &'a [Sample], exchange: &Exchange) -> Vec<&'a Sample> {
    samples.iter().filter(|sample| sample.local == exchange.local && sample.remote == exchange.remote).collect()
}

/// A hundred rounds at once over IPv4 and IPv6, on each backend.
///
/// A machine that is busy with something else delays the forwarder, and then the path is slower than was asked for:
/// that is tried again. Everything else must hold at once.
fn a_hundred_rounds_each(link: Link, programs: &[(&str, Hook, Position)]) {
    for backend in Backend::BOTH {
        in_time(backend.name(), || try_a_hundred_rounds_each(&Lab::new(link).unwrap(), backend, programs));
    }
}

fn try_a_hundred_rounds_each(lab: &Lab, backend: Backend, programs: &[(&str, Hook, Position)]) -> Result<(), Late> {
    lab.path().set_rtt(RTT);
    // Addresses are resolved before, or the first handshake takes twice as long.
    for address in [IpAddr::from(lab.b.v4), lab.b.v6.into()] {
        assert!(connect(&lab.a, (address, 1).into()).is_err(), "nobody listens there");
    }
    let agent = sampling(lab, backend);
    let _programs: Vec<Program> = [&lab.a, &lab.b]
        .into_iter()
        .flat_map(|host| programs.iter().map(move |(name, hook, position)| (host, *name, *hook, *position)))
        .map(|(host, name, hook, position)| Program::attach(host, name, hook, position).unwrap())
        .collect();
    let servers = [Server::v4, Server::v6].map(|start| start(&lab.b, Rounds::default().service()).unwrap());
    let exchanges: Vec<(TcpStream, Exchange)> = thread::scope(|scope| {
        let drivers = servers.each_ref().map(|server| scope.spawn(|| watched_rounds(lab, server.address())));
        drivers.into_iter().map(|driver| driver.join().unwrap()).collect()
    });
    let samples = wait_for_samples(&agent, 202, |_| true);
    let mut late = Ok(());
    for (_, exchange) in &exchanges {
        let found = of(&samples, exchange);
        let data: Vec<&Sample> = found.iter().copied().filter(|sample| sample.is_data()).collect();
        let mut rtts: Vec<Duration> = data.iter().map(|sample| sample.rtt()).collect();
        rtts.sort();
        assert!((99..=100).contains(&data.len()), "{} samples of 100 rounds with {}", data.len(), exchange.remote);
        assert_eq!(found.len() - data.len(), 1, "handshakes with {}", exchange.remote);
        println!("{backend:?} {}: {:?} / {:?} / {:?}", exchange.remote, rtts[0], rtts[50], rtts[rtts.len() - 1]);
        assert!(rtts[0] + CLOCKS >= RTT, "less than the path's delay: {:?}", rtts[0]);
        if rtts[50] > RTT.mul_f64(1.02) {
            late = Err(format!("the middle one is more than 2 % over {RTT:?}: {:?}", rtts[50]));
        }
        if data.len() == 100 {
            for ((sample, round), info) in data.iter().zip(&exchange.times).zip(&exchange.info) {
                assert_eq!(sample.class, "exact");
                assert!(sample.rtt() <= *round, "the round that it was part of took {round:?}: {sample:?}");
                let most = RTT.mul_f64(1.02) + spread(info);
                if sample.rtt() > most {
                    late = Err(format!("more than {most:?}; the round took {round:?}: {sample:?}"));
                }
            }
        }
    }
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    late
}

#[test]
fn a_hundred_rounds_are_a_hundred_samples_on_ethernet() {
    a_hundred_rounds_each(Link::Veth, &[]);
}

#[test]
fn a_hundred_rounds_are_a_hundred_samples_on_a_device_without_link_header() {
    a_hundred_rounds_each(Link::Tun, &[]);
}

#[test]
fn a_hundred_rounds_are_a_hundred_samples_with_a_vlan_tag() {
    // First out: tagged before go-metro sees it. Last in: go-metro sees the tag before it goes.
    let tag = [("lab_vlan_push", Hook::Egress, Position::First), ("lab_vlan_pop", Hook::Ingress, Position::Last)];
    a_hundred_rounds_each(Link::Veth, &tag);
}

#[test]
fn a_hundred_rounds_are_a_hundred_samples_with_two_vlan_tags() {
    let tags = [("lab_qinq_push", Hook::Egress, Position::First), ("lab_qinq_pop", Hook::Ingress, Position::Last)];
    a_hundred_rounds_each(Link::Veth, &tags);
}

/// The stack holds a SYN back until the next hop's address is resolved, here for a round trip: that is no part of the
/// handshake's.
#[test]
fn a_handshake_is_one_round_trip_also_where_the_next_hop_has_to_be_resolved() {
    for backend in Backend::BOTH {
        in_time(backend.name(), || {
            let lab = Lab::new(Link::Veth).unwrap();
            lab.path().set_rtt(RTT);
            let agent = sampling(&lab, backend);
            for start in [Server::v4, Server::v6] {
                let server = start(&lab.b, Rounds::default().service()).unwrap();
                let began = Instant::now();
                let _stream = connect(&lab.a, server.address()).unwrap();
                assert!(began.elapsed() >= 2 * RTT, "it was resolved before: this would show nothing");
            }
            let samples = wait_for_samples(&agent, 2, |sample| !sample.is_data());
            assert_eq!(agent.stop().unwrap().status.code(), Some(0));
            let longest = samples.iter().filter(|sample| !sample.is_data()).map(Sample::rtt).max().unwrap();
            let is_late = longest > RTT.mul_f64(1.5);
            if is_late { Err(format!("{longest:?} for {RTT:?}: {samples:?}")) } else { Ok(()) }
        });
    }
}

/// libpcap filters once more what is in the block of its ring that is being filled when the filter is set; nothing else
/// fills that block here before the handshake does.
#[test]
fn the_first_packets_behind_a_new_filter_are_seen_with_two_vlan_tags() {
    let lab = Lab::new(Link::Veth).unwrap();
    let _programs: Vec<Program> = [&lab.a, &lab.b]
        .into_iter()
        .flat_map(|host| {
            let tags =
                [("lab_qinq_push", Hook::Egress, Position::First), ("lab_qinq_pop", Hook::Ingress, Position::Last)];
            tags.map(|(name, hook, position)| Program::attach(host, name, hook, position).unwrap())
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("conf.yaml");
    let write = |other: usize| {
        let (v4, v6) = (lab.b.v4, lab.b.v6);
        let ips = format!("[{v4}, '{v6}', 10.77.1.{other}]");
        let general = "init_config:\n  backend: pcap\n  reverse_dns: false\n";
        fs::write(&config, format!("{general}instances:\n  - interface: eth0\n    ips: {ips}\n")).unwrap();
    };
    write(0);
    let args = ["run", "-c", config.to_str().unwrap(), "--output", "json", "--samples"];
    let agent = Agent::start(&lab.a, args).unwrap();
    let servers = [Server::v4, Server::v6].map(|start| start(&lab.b, Rounds::default().service()).unwrap());
    for reload in 1..=10 {
        write(reload);
        agent.signal(Signal::SIGHUP).unwrap();
        let read_again = |line: &String| line.contains("configuration reloaded");
        let deadline = Instant::now() + SOON;
        while agent.log().iter().filter(|line| read_again(line)).count() < reload {
            assert!(Instant::now() < deadline, "not reloaded: {:?}", agent.log());
            thread::sleep(Duration::from_millis(10));
        }
        // The thread that captures hears of it a little later.
        thread::sleep(Duration::from_millis(300));
        let streams = servers.each_ref().map(|server| connect(&lab.a, server.address()).unwrap());
        let handshakes = wait_for_samples(&agent, 2 * reload, |sample| !sample.is_data());
        assert_eq!(handshakes.len(), 2 * reload, "after reload {reload}");
        drop(streams);
    }
}

#[test]
fn a_bulk_transfer_with_segmentation_offload_agrees_with_the_kernel() {
    for backend in Backend::BOTH {
        in_time(backend.name(), || {
            let lab = Lab::new(Link::Veth).unwrap();
            let path = Duration::from_millis(10);
            lab.path().set_rtt(path);
            let agent = sampling(&lab, backend);
            let server = Server::v4(&lab.b, Service::Sink).unwrap();
            let mut stream = connect(&lab.a, server.address()).unwrap();
            let (sent, exchange) = bulk(&mut stream, Duration::from_secs(3)).unwrap();
            drop(stream);
            let counters = lab.path().counters(Way::AToB);
            assert!(counters.super_segments > 100, "{counters:?}");

            let samples = wait_for_samples(&agent, 200, Sample::is_data);
            let finished = agent.stop().unwrap();
            assert_eq!(finished.status.code(), Some(0));
            let mut rtts: Vec<Duration> = samples.iter().map(Sample::rtt).collect();
            rtts.sort();
            // The kernel's estimate is of the same acknowledgements, smoothed: its middle is theirs, give or take its
            // deviation.
            let mut kernel: Vec<Duration> = exchange.info[1..].iter().map(|info| info.rtt).collect();
            kernel.sort();
            let (ours, theirs) = (rtts[rtts.len() / 2], kernel[kernel.len() / 2]);
            let deviation = exchange.info.iter().map(|info| info.rttvar).max().unwrap();
            println!(
                "{backend:?}: {} Mbit/s, {} samples from {:?}, middle {ours:?}, kernel {theirs:?} from {:?}, deviation \
                 {deviation:?}",
                sent * 8 / 3_000_000,
                rtts.len(),
                rtts[0],
                exchange.last().min_rtt
            );
            assert!(rtts.len() >= 100, "{} samples of {sent} bytes", rtts.len());
            assert!(rtts[0] + CLOCKS >= path, "less than the path's delay: {:?}", rtts[0]);
            if rtts[0].abs_diff(exchange.last().min_rtt) >= Duration::from_millis(1) {
                return Err(format!("least: {:?}, the kernel's {:?}", rtts[0], exchange.last().min_rtt));
            }
            if ours.abs_diff(theirs) > theirs / 10 + deviation {
                return Err(format!("{ours:?}, the kernel {theirs:?} ± {deviation:?}"));
            }
            Ok(())
        });
    }
}

#[test]
fn a_flow_that_began_before_the_agent_is_measured_from_its_next_segment() {
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        lab.path().set_rtt(Duration::from_millis(10));
        let rounds = Rounds { count: 20, ..Rounds::default() };
        let server = Server::v4(&lab.b, rounds.service()).unwrap();
        let mut stream = connect(&lab.a, server.address()).unwrap();
        rounds.drive(&mut stream).unwrap();
        let agent = sampling(&lab, backend);
        rounds.drive(&mut stream).unwrap();
        let samples = wait_for_samples(&agent, 20, |_| true);
        assert_eq!(samples.len(), 20, "{backend:?}");
        assert!(samples.iter().all(Sample::is_data), "{backend:?}: a handshake that nobody saw");
    }
}

#[test]
fn the_device_that_is_all_devices_yields_samples() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(10));
    let args =
        ["run", "--interface", "any", "--backend", "pcap", "--target", "10.77.0.2", "--output", "json", "--samples"];
    let agent = Agent::start(&lab.a, args).unwrap();
    let rounds = Rounds { count: 20, ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
    let samples = wait_for_samples(&agent, 20, Sample::is_data);
    assert!((20..=21).contains(&samples.len()), "{} samples, with the end of the connection", samples.len());
    assert!(samples.iter().all(|sample| sample.rtt() >= Duration::from_millis(10) - CLOCKS), "{samples:?}");
}
