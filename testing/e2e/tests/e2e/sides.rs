//! A host that forwards sees both round trips of a flow: to the remote end and to the local one, each over its own
//! path.

use std::thread;
use std::time::Duration;

use testing_lab::agent::{Agent, Sample};
use testing_lab::behind::INSIDE;
use testing_lab::traffic::{Exchange, Rounds, Server, connect};
use testing_lab::{Behind, INTERFACE, Lab, Link, before_others};

use super::support::{Backend, Late, SOON, in_time, wait_for_samples};

/// To host b and back, and to the host behind host a and back.
const FAR: Duration = Duration::from_millis(30);
const NEAR: Duration = Duration::from_millis(8);
/// Between the clocks of the forwarder and of the kernel's hooks.
const CLOCKS: Duration = Duration::from_micros(20);
const ROUNDS: Rounds = Rounds { count: 30, request: 100, response: 200, pause: Duration::ZERO };

fn agent(lab: &Lab, interface: &str, backend: Backend, more: &[&str]) -> Agent {
    let args = ["run", "--interface", interface, "--backend", backend.name(), "--output", "json", "--samples"];
    let mut agent = Agent::start(&lab.a, args.iter().chain(more)).unwrap();
    agent.wait_for_log(&format!("capturing on {interface}"), SOON).unwrap();
    agent
}

/// Rounds from the host behind host a to host b, over both families.
fn drive(lab: &Lab, behind: &Behind) -> Vec<Exchange> {
    let servers = [Server::v4, Server::v6].map(|start| start(&lab.b, ROUNDS.service()).unwrap());
    let drive = |server: &Server| {
        // The round trip to the near end is until this end has read the response and asks again.
        before_others();
        ROUNDS.drive(&mut connect(&behind.host, server.address()).unwrap()).unwrap()
    };
    thread::scope(|scope| {
        let drivers = servers.each_ref().map(|server| scope.spawn(move || drive(server)));
        drivers.into_iter().map(|driver| driver.join().unwrap()).collect()
    })
}

/// What was found of an exchange: as many samples as rounds and one of the handshake, none below the path's floor, the
/// middle one near it.
fn assert_path(what: &str, samples: &[Sample], exchange: &Exchange, rtt: Duration) -> Result<(), Late> {
    let of = |sample: &&Sample| (sample.local, sample.remote) == (exchange.local, exchange.remote);
    let found: Vec<&Sample> = samples.iter().filter(of).collect();
    let mut rtts: Vec<Duration> = found.iter().map(|sample| sample.rtt()).collect();
    rtts.sort();
    println!("{what} {} samples: {:?} / {:?}", rtts.len(), rtts.first(), rtts.get(rtts.len() / 2));
    let (data, connect): (Vec<&Sample>, Vec<&Sample>) = found.into_iter().partition(|sample| sample.is_data());
    // FINs may be among them, and an acknowledgement that was overtaken by the next is none.
    assert!((ROUNDS.count * 2 / 3..=ROUNDS.count + 1).contains(&data.len()), "{what}: {} samples", data.len());
    assert_eq!(connect.len(), 1, "{what}: handshakes");
    assert!(rtts[0] + CLOCKS >= rtt, "{what}: less than the path's delay: {:?}", rtts[0]);
    let middle = rtts[rtts.len() / 2];
    if middle < rtt + rtt / 4 { Ok(()) } else { Err(format!("{what}: far more than the path's delay: {middle:?}")) }
}

fn both_paths(lab: &Lab, behind: &Behind) {
    lab.path().set_rtt(FAR);
    behind.path().set_rtt(NEAR);
    // Addresses are resolved before, or the first handshake takes longer.
    for server in [lab.b.v4.into(), lab.b.v6.into()] {
        assert!(connect(&behind.host, std::net::SocketAddr::new(server, 1)).is_err(), "nobody listens there");
    }
}

#[test]
fn on_the_hosts_end_of_a_bridged_container_the_container_is_local() {
    let lab = Lab::new(Link::Veth).unwrap();
    let behind = Behind::bridge(&lab).unwrap();
    both_paths(&lab, &behind);
    for backend in Backend::BOTH {
        in_time(backend.name(), || {
            // The kind of link shows that its directions are reversed.
            let agents = [agent(&lab, INSIDE, backend, &[]), agent(&lab, INSIDE, backend, &["--sides", "both"])];
            let exchanges = drive(&lab, &behind);
            let [remote, both] = agents.map(|agent| {
                let each = ROUNDS.count + 1;
                let _ = wait_for_samples(&agent, 2 * each, |_| true);
                thread::sleep(Duration::from_millis(300));
                agent.stop().unwrap().samples().unwrap()
            });
            assert!(remote.iter().all(|sample| !sample.is_local()), "{backend:?}: a side that none asked for");
            let (near, far): (Vec<Sample>, Vec<Sample>) = both.into_iter().partition(Sample::is_local);
            for exchange in &exchanges {
                let what = |which: &str| format!("{backend:?}, {which}, to {}", exchange.remote);
                assert_path(&what("remote alone"), &remote, exchange, FAR)?;
                assert_path(&what("remote of both"), &far, exchange, FAR)?;
                assert_path(&what("local of both"), &near, exchange, NEAR)?;
            }
            Ok(())
        });
    }
}

#[test]
fn a_router_sees_the_delay_of_each_side_apart_on_either_interface() {
    let lab = Lab::new(Link::Veth).unwrap();
    let behind = Behind::router(&lab).unwrap();
    both_paths(&lab, &behind);
    for backend in Backend::BOTH {
        in_time(backend.name(), || {
            let outside = agent(&lab, INTERFACE, backend, &["--sides", "both"]);
            // Seen from the inner interface, host b is local.
            let inside = agent(&lab, INSIDE, backend, &["--sides", "local"]);
            let exchanges = drive(&lab, &behind);
            let [outside, inside] = [outside, inside].map(|agent| {
                let _ = wait_for_samples(&agent, 2 * (ROUNDS.count + 1), |_| true);
                thread::sleep(Duration::from_millis(300));
                agent.stop().unwrap().samples().unwrap()
            });
            let (near, far): (Vec<Sample>, Vec<Sample>) = outside.into_iter().partition(Sample::is_local);
            assert!(inside.iter().all(Sample::is_local), "{backend:?}");
            for exchange in &exchanges {
                let what = |which: &str| format!("{backend:?}, {which}, to {}", exchange.remote);
                assert_path(&what("outside, remote"), &far, exchange, FAR)?;
                assert_path(&what("outside, local"), &near, exchange, NEAR)?;
                let turned = Exchange { local: exchange.remote, remote: exchange.local, ..exchange.clone() };
                assert_path(&what("inside, local"), &inside, &turned, FAR)?;
            }
            Ok(())
        });
    }
}
