//! The three sources see the same traffic and find the same samples.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use xtask::lab::agent::{Agent, Sample, read_samples};
use xtask::lab::tcpdump::Tcpdump;
use xtask::lab::traffic::{Rounds, Server, connect};
use xtask::lab::{Impairment, Lab, Link, Offload, Way};

use super::support::{Backend, sampling};

/// What makes a sample that sample.
type Key = (SocketAddr, SocketAddr, u32, String, String);

fn keyed(samples: Vec<Sample>) -> BTreeMap<Key, Sample> {
    let count = samples.len();
    let map: BTreeMap<Key, Sample> = samples
        .into_iter()
        .map(|sample| ((sample.local, sample.remote, sample.ack, sample.kind.clone(), sample.class.clone()), sample))
        .collect();
    assert_eq!(map.len(), count, "a sample twice");
    map
}

/// Small and large requests over both families, in parallel, and short connections.
fn drive(lab: &Lab) {
    let small = Rounds { count: 100, ..Rounds::default() };
    let large = Rounds { count: 15, request: 1 << 20, response: 100, ..Rounds::default() };
    let short = Rounds { count: 1, ..Rounds::default() };
    thread::scope(|scope| {
        for rounds in [small, large] {
            for start in [Server::v4, Server::v6] {
                scope.spawn(move || {
                    let server = start(&lab.b, rounds.service()).unwrap();
                    rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
                });
            }
        }
        scope.spawn(move || {
            let server = Server::v4(&lab.b, short.service()).unwrap();
            for _ in 0..20 {
                short.run(&lab.a, server.address()).unwrap();
            }
        });
    });
}

/// Runs all three sources over the same traffic and compares what they find.
fn compare(lab: &Lab) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("traffic.pcap");
    let capture = Tcpdump::start(&lab.a, &file).unwrap();
    let agents = Backend::BOTH.map(|backend| sampling(lab, backend));
    drive(lab);
    // The last acknowledgements, and libpcap's buffer.
    thread::sleep(Duration::from_millis(500));
    let [ebpf, pcap] = agents.map(Agent::stop).map(|finished| {
        let finished = finished.unwrap();
        assert_eq!(finished.status.code(), Some(0));
        keyed(finished.samples().unwrap())
    });
    capture.stop().unwrap();
    let locals = [IpAddr::from(lab.a.v4), lab.a.v6.into()];
    let read = keyed(locals.into_iter().flat_map(|local| read_samples(&file, local).unwrap()).collect());

    let mut furthest = [0; 2];
    for (name, other) in [("live libpcap", &pcap), ("the capture file", &read)] {
        let only = |these: &BTreeMap<Key, Sample>, those: &BTreeMap<Key, Sample>| {
            these.keys().filter(|key| !those.contains_key(*key)).cloned().collect::<Vec<_>>()
        };
        let (missing, extra) = (only(&ebpf, other), only(other, &ebpf));
        assert!(missing.is_empty() && extra.is_empty(), "{name} lacks {missing:?}, has besides {extra:?}");
        for (key, sample) in &ebpf {
            let twin = &other[key];
            furthest[0] = furthest[0].max(sample.time_ns.abs_diff(twin.time_ns));
            furthest[1] = furthest[1].max(sample.rtt_ns.abs_diff(twin.rtt_ns));
            for apart in [sample.time_ns.abs_diff(twin.time_ns), sample.rtt_ns.abs_diff(twin.rtt_ns)] {
                assert!(apart < 1_000_000, "{apart} ns apart: {sample:?}, {name}: {twin:?}");
            }
        }
    }
    println!("{} samples; times at most {} ns apart, RTTs {} ns", ebpf.len(), furthest[0], furthest[1]);
    ebpf.len()
}

#[test]
fn classifier_live_libpcap_and_a_capture_file_yield_the_same_samples() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(10));
    assert!(compare(&lab) >= 300);
}

#[test]
fn all_three_agree_on_a_lossy_reordering_path_too() {
    let lab = Lab::with_offload(Link::Veth, Offload::Off).unwrap();
    for way in Way::BOTH {
        let delay = Impairment::delay(Duration::from_millis(5));
        lab.path().impair(way, Impairment { loss: 0.005, duplicate: 0.005, reorder: 0.005, seed: 11, ..delay });
    }
    assert!(compare(&lab) >= 200);
    assert!(lab.path().counters(Way::AToB).lost > 0, "nothing was lost");
}

#[test]
fn all_three_agree_on_a_device_without_link_header() {
    let lab = Lab::new(Link::Tun).unwrap();
    lab.path().set_rtt(Duration::from_millis(10));
    assert!(compare(&lab) >= 300);
}
