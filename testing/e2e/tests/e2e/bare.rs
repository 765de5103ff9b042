//! `go-metro run` and nothing else.

use std::time::Duration;

use testing_lab::agent::{Agent, binary};
use testing_lab::traffic::{Rounds, Server};
use testing_lab::{Lab, Link};

use super::support::SOON;

/// Starts it on a host without any configuration, whatever the machine has.
fn bare(lab: &Lab) -> Agent {
    let mut command = lab.a.namespace.command("unshare");
    let script = "for d in /etc/go-metro /etc/dd-agent /run/go-metro; do [ ! -d $d ] || mount -t tmpfs none $d; done; \
                  exec \"$0\" run --status-socket off";
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]).arg(binary().unwrap());
    let mut agent = Agent::spawn_command(&mut command).unwrap();
    agent.ready().unwrap();
    agent
}

/// Whether it says what it chose and why, and shows every peer.
fn shows_every_peer(lab: &Lab, why: &str) {
    let agent = bare(lab);
    let log = agent.log().join("\n");
    assert!(log.contains("no configuration: none of /etc/go-metro/conf.yaml, "), "{log}");
    assert!(log.contains(&format!("watching every TCP peer on eth0, {why}")), "{log}");
    let rounds = Rounds { count: 5, ..Rounds::default() };
    for peer in ["10.77.0.2", "10.77.0.3", "fd77::2"] {
        let server =
            Server::start(&lab.b, (peer.parse::<std::net::IpAddr>().unwrap(), 0).into(), rounds.service()).unwrap();
        rounds.run(&lab.a, server.address()).unwrap();
        let is_row = |line: &str| line.split_whitespace().nth(1) == Some(peer);
        assert!(
            agent.wait_for_output(SOON, |lines| lines.iter().any(|line| is_row(line))),
            "{peer}: {:?}",
            agent.output()
        );
    }
    // The time of the interval, then its table.
    assert!(agent.output()[1].starts_with("src "), "{:?}", agent.output());
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn run_without_configuration_watches_every_peer_of_the_default_routes_interface_and_says_so() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    lab.b.add_address("10.77.0.3".parse().unwrap()).unwrap();
    // Another interface with an address, so that there is something to choose.
    lab.a
        .namespace
        .ip("link add other type veth peer name far\naddress add 10.88.0.1/24 dev other\n\
                        link set other up\nlink set far up")
        .unwrap();
    lab.a.namespace.ip("route add default via 10.77.0.2").unwrap();
    shows_every_peer(&lab, "the interface of the default route");
}

#[test]
fn run_without_configuration_and_default_route_watches_the_only_interface_or_says_which_there_are() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.b.add_address("10.77.0.3".parse().unwrap()).unwrap();
    shows_every_peer(&lab, "the only interface with an address");
    lab.a
        .namespace
        .ip("link add other type veth peer name far\naddress add 10.88.0.1/24 dev other\n\
                        link set other up\nlink set far up")
        .unwrap();
    let mut command = lab.a.namespace.command(binary().unwrap());
    let refused = Agent::spawn_command(command.args(["run", "--target", "10.77.0.2"])).unwrap().finish().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = refused.stderr.join("\n");
    assert!(
        said.contains("no default route")
            && said.contains("eth0")
            && said.contains("other")
            && said.contains("--interface"),
        "{said}"
    );
}
