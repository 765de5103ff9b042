//! The three sources see the same traffic and find the same samples.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use xtask::lab::agent::{Agent, Sample, read_samples};
use xtask::lab::tcpdump::Tcpdump;
use xtask::lab::traffic::{Rounds, Server};
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

/// Small and large requests over both families, and short connections.
fn drive(lab: &Lab) {
    let small = Rounds { count: 50, ..Rounds::default() };
    let large = Rounds { count: 10, request: 1 << 20, response: 100, ..Rounds::default() };
    let short = Rounds { count: 1, ..Rounds::default() };
    for start in [Server::v4, Server::v6] {
        let servers = [small, large, short].map(|rounds| start(&lab.b, rounds.service()).unwrap());
        thread::scope(|scope| {
            for (rounds, server) in [(small, &servers[0]), (large, &servers[1])] {
                scope.spawn(move || rounds.run(&lab.a, server.address()).unwrap());
            }
        });
        for _ in 0..10 {
            short.run(&lab.a, servers[2].address()).unwrap();
        }
    }
}

/// How many samples there were, and how far apart the times of one were at most.
struct Compared {
    samples: usize,
    furthest: Duration,
}

/// Runs all three sources over the same traffic. They must find the same samples; how far apart their times are is returned.
fn compare(lab: &Lab) -> Compared {
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

    let mut furthest = 0;
    for (name, other) in [("live libpcap", &pcap), ("the capture file", &read)] {
        let only = |these: &BTreeMap<Key, Sample>, those: &BTreeMap<Key, Sample>| {
            these.keys().filter(|key| !those.contains_key(*key)).cloned().collect::<Vec<_>>()
        };
        let (missing, extra) = (only(&ebpf, other), only(other, &ebpf));
        assert!(missing.is_empty() && extra.is_empty(), "{name} lacks {missing:?}, has besides {extra:?}");
        for (key, sample) in &ebpf {
            let twin = &other[key];
            let apart = sample.time_ns.abs_diff(twin.time_ns).max(sample.rtt_ns.abs_diff(twin.rtt_ns));
            if apart >= 1_000_000 {
                println!("{apart} ns apart: {sample:?}, {name}: {twin:?}");
            }
            furthest = furthest.max(apart);
        }
    }
    let compared = Compared { samples: ebpf.len(), furthest: Duration::from_nanos(furthest) };
    println!("{} samples, at most {:?} apart", compared.samples, compared.furthest);
    compared
}

/// Compares until times agree too, three times at most.
///
/// A kernel that loses its processor between stamping a packet for libpcap and running the hook puts the two apart, and on a busy
/// machine of two processors that happens. What our sources add would be there each time.
fn agree(lab: &Lab, least: usize) {
    let tries: Vec<Duration> = (0..3)
        .map(|_| {
            let Compared { samples, furthest } = compare(lab);
            assert!(samples >= least, "{samples} samples");
            furthest
        })
        .take_while(|furthest| *furthest >= Duration::from_millis(1))
        .collect();
    assert!(tries.len() < 3, "times apart: {tries:?}");
}

#[test]
fn classifier_live_libpcap_and_a_capture_file_yield_the_same_samples() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(10));
    agree(&lab, 150);
}

#[test]
fn all_three_agree_on_a_lossy_reordering_path_too() {
    let lab = Lab::with_offload(Link::Veth, Offload::Off).unwrap();
    for way in Way::BOTH {
        let delay = Impairment::delay(Duration::from_millis(5));
        lab.path().impair(way, Impairment { loss: 0.005, duplicate: 0.005, reorder: 0.005, seed: 11, ..delay });
    }
    agree(&lab, 130);
    assert!(lab.path().counters(Way::AToB).lost > 0, "nothing was lost");
}

#[test]
fn all_three_agree_on_a_device_without_link_header() {
    let lab = Lab::new(Link::Tun).unwrap();
    lab.path().set_rtt(Duration::from_millis(10));
    agree(&lab, 150);
}
