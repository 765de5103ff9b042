//! A neighbour on the link sends segments in this host's name.

use std::net::SocketAddrV4;
use std::thread;
use std::time::Duration;

use testing_lab::flood::{Forged, forge};

use super::support::{Backend, Conf, RTT, backend, lab, rounds, start, statsd, wait_until, while_talking};

/// Flows that the neighbour pretends this host has.
const FLOWS: u16 = 5_000;

#[test]
fn segments_that_a_neighbour_sends_in_this_hosts_name_make_no_flow_and_no_sample() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let agent = start(&lab, &Conf::usual(&[&backend(which)]));
        rounds(&lab, 5);
        let end = |address, port| SocketAddrV4::new(address, port);
        let (here, there) = (|port| end(lab.a.v4, port), end(lab.b.v4, 80));
        // Data in this host's name, and much later the acknowledgement that is to time it.
        let data = |port| Forged { from: here(port), to: there, seq: 1000, ack: 1, flags: Forged::ACK, payload: 100 };
        let ack = |port| Forged { from: there, to: here(port), seq: 1, ack: 1100, flags: Forged::ACK, payload: 0 };
        let (sent, longest) = while_talking(&lab, || {
            let ports = || 10_000..10_000 + FLOWS;
            let mut sent = forge(&lab.b, "eth0", ports().map(data)).unwrap();
            thread::sleep(Duration::from_millis(500));
            sent += forge(&lab.b, "eth0", ports().map(ack)).unwrap();
            thread::sleep(Duration::from_millis(500));
            sent
        });
        assert_eq!(sent, 2 * u64::from(FLOWS));
        let seen = |heard: &super::support::Heard| heard.count("go_metro.packets") >= sent;
        let heard = wait_until(&server, "the forged frames", |heard| seen(heard) && !heard.rtts().is_empty());
        let flows = heard.0.iter().filter(|m| m.name == "go_metro.flows").map(|m| m.values[0]).fold(0.0, f64::max);
        let (rtts, most) = (heard.rtts(), (longest + RTT).as_secs_f64() * 1e3 + 60.0);
        println!("{which:?}: {flows} flows, {} samples, the longest round {longest:?}", rtts.len());
        assert!(flows <= 4.0, "{which:?}: {flows} flows, of 2 that there are");
        assert!(rtts.iter().all(|rtt| *rtt < most.min(500.0)), "{which:?}: forged");
        heard.assert_true_rtts(longest, &format!("{which:?}"));
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}
