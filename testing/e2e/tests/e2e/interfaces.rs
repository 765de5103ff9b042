//! Interfaces by pattern, by default route and all of them; those that come and go; and the containers that they lead
//! to.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testing_lab::agent::{Agent, Sample};
use testing_lab::container::{self, Container, GATEWAY};
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};

use super::support::{Backend, SOON, wait_for_samples};

const ROUNDS: Rounds = Rounds { count: 10, request: 100, response: 200, pause: Duration::ZERO };

/// So many of them are timed on a busy machine too, where some are sent again.
const MOST: usize = ROUNDS.count * 2 / 3;

/// Rounds from host a to a server in the container.
fn talk(lab: &Lab, container: &Container) {
    let server = Server::v4(&container.host, ROUNDS.service()).unwrap();
    ROUNDS.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
}

/// The container's responses, timed to host a and back.
fn of(container: &Container) -> impl Fn(&Sample) -> bool {
    let address = container.host.v4;
    move |sample| sample.is_data() && sample.local.ip() == address && sample.remote.ip() == GATEWAY
}

#[test]
fn a_pattern_watches_containers_that_are_there_that_come_and_until_they_go() {
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        container::bridge(&lab).unwrap();
        let start = |link: &str, last: u8| Container::start(&lab, link, last, None).unwrap();
        let (first, second, other) = (start("cali1", 11), start("cali2", 12), start("other0", 13));
        let args = ["run", "--interface", "cali*", "--backend", backend.name(), "--output", "json", "--samples"];
        let mut agent = Agent::start(&lab.a, args).unwrap();
        for link in ["cali1", "cali2"] {
            agent.wait_for_log(&format!("capturing on {link}"), SOON).unwrap();
        }
        for container in [&first, &second, &other] {
            talk(&lab, container);
        }
        for container in [&first, &second] {
            // The last response is acknowledged when there is nothing more to say.
            let found = wait_for_samples(&agent, MOST, of(container)).len();
            assert!((MOST..=ROUNDS.count + 1).contains(&found), "{backend:?}: {found} samples");
        }

        let third = start("cali3", 14);
        let began = Instant::now();
        agent.wait_for_log("capturing on cali3", SOON).unwrap();
        println!("{backend:?}: a third one is watched {:?} after it was made", began.elapsed());
        talk(&lab, &third);
        assert!(wait_for_samples(&agent, MOST, of(&third)).len() >= MOST, "{backend:?}");

        let before = wait_for_samples(&agent, 0, of(&second)).len();
        drop(first);
        lab.a.namespace.ip("link delete cali1").ok();
        agent.wait_for_log("cali1 is gone", SOON).unwrap();
        talk(&lab, &second);
        let after = wait_for_samples(&agent, before + MOST, of(&second)).len();
        assert!(after - before >= MOST, "{backend:?}: the others are still watched");

        let finished = agent.stop().unwrap();
        assert_eq!(finished.status.code(), Some(0), "{backend:?}");
        let log = finished.stderr.join("\n");
        assert!(!log.contains("capturing on other0") && !log.contains("capturing on pods0"), "{backend:?}: {log}");
        assert!(finished.samples().unwrap().iter().all(|s| s.local.ip() != other.host.v4), "{backend:?}");
    }
}

#[test]
fn sixty_four_interfaces_are_watched_at_once() {
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        container::bridge(&lab).unwrap();
        let one = Container::start(&lab, "many63", 11, None).unwrap();
        let mut batch = String::new();
        for number in 0..63 {
            let peer = one.host.namespace.name();
            batch += &format!(
                "link add many{number} type veth peer name p{number} netns {peer}\nlink set many{number} up\n"
            );
        }
        lab.a.namespace.ip(&batch).unwrap();
        let args = ["run", "--interface", "many*", "--backend", backend.name(), "--output", "json", "--samples"];
        let began = Instant::now();
        let mut agent = Agent::start(&lab.a, args).unwrap();
        let watched = |agent: &Agent| agent.log().iter().filter(|line| line.contains("capturing on many")).count();
        while watched(&agent) < 64 && began.elapsed() < SOON {
            thread::sleep(Duration::from_millis(20));
        }
        println!("{backend:?}: {} interfaces after {:?}", watched(&agent), began.elapsed());
        assert_eq!(watched(&agent), 64, "{backend:?}: {:?}", agent.log());
        talk(&lab, &one);
        assert!(wait_for_samples(&agent, MOST, of(&one)).len() >= MOST, "{backend:?}");
        // All gone at once.
        lab.a.namespace.ip(&(0..63).map(|number| format!("link delete many{number}\n")).collect::<String>()).unwrap();
        agent.wait_for_log("many62 is gone", SOON).unwrap();
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{backend:?}");
    }
}

#[test]
fn default_is_the_interface_of_the_default_route_as_it_moves() {
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        let a = &lab.a.namespace;
        a.ip("link add extra0 type veth peer name extra1\nlink set extra0 up\nlink set extra1 up\n\
              address add 10.66.0.1/24 dev extra0")
            .unwrap();
        let args = ["run", "--interface", "default", "--backend", backend.name(), "--output", "json", "--samples"];
        let mut agent = Agent::spawn(&lab.a, args).unwrap();
        agent.wait_for_log("no such interface yet; waiting for it", SOON).unwrap();
        a.ip(&format!("route add default via {}", lab.b.v4)).unwrap();
        agent.wait_for_log("capturing on eth0", SOON).unwrap();
        super::support::some_rounds(&lab, 10);
        assert!(wait_for_samples(&agent, 10, Sample::is_data).len() >= 10, "{backend:?}");
        assert!(!agent.log().join("\n").contains("capturing on extra0"), "{backend:?}");
        a.ip("route replace default via 10.66.0.2").unwrap();
        agent.wait_for_log("capturing on extra0", SOON).unwrap();
        agent.wait_for_log("no longer capturing on eth0", SOON).unwrap();
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{backend:?}");
    }
}

#[test]
fn pairs_are_tagged_with_the_container_or_pod_that_the_link_leads_to() {
    const ID: &str = "3f4d1c7a9e0b2d5f8a6c4e1b7d9f0a2c5e8b1d4f7a0c3e6b9d2f5a8c1e4b7d0f";
    const UID: &str = "0e5c7b9a-1d2f-4a3b-8c6d-5e4f3a2b1c0d";
    let lab = Lab::new(Link::Veth).unwrap();
    container::bridge(&lab).unwrap();
    let groups = [format!("docker-{ID}.scope"), format!("kubepods/burstable/pod{UID}/{ID}")];
    let container = Container::start(&lab, "veth1", 11, Some(&groups[0])).unwrap();
    let pod = Container::start(&lab, "veth2", 12, Some(&groups[1])).unwrap();
    let plain = Container::start(&lab, "veth3", 13, None).unwrap();
    if !container.has_group() || !pod.has_group() {
        eprintln!("skipped: no control groups of version 2 to write to");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("conf.yaml");
    let text = "init_config:\n  report_interval: 60\n  reverse_dns: false\ninstances:\n  - interface: veth*\n    \
                ips: [\"0.0.0.0/0\"]\n    tags: [env:test]\n";
    fs::write(&config, text).unwrap();
    let args = ["run", "-c", config.to_str().unwrap(), "--output", "json"];
    let mut agent = Agent::start(&lab.a, args).unwrap();
    agent.wait_for_log("capturing on veth3", SOON).unwrap();
    for container in [&container, &pod, &plain] {
        talk(&lab, container);
    }
    thread::sleep(Duration::from_millis(500));
    let finished = agent.stop().unwrap();
    let lines: Vec<Value> = finished.stdout.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tags_of = |container: &Container| {
        let src = container.host.v4.to_string();
        let line =
            lines.iter().find(|line| line["src"] == *src).unwrap_or_else(|| panic!("no pair of {src}: {lines:?}"));
        line["tags"].clone()
    };
    assert_eq!(tags_of(&container), serde_json::json!(["env:test", format!("container_id:{ID}")]));
    assert_eq!(tags_of(&pod), serde_json::json!(["env:test", format!("pod_uid:{UID}")]));
    assert_eq!(tags_of(&plain), serde_json::json!(["env:test"]));
}

#[test]
fn check_shows_what_a_pattern_matches_and_a_hopeless_one_is_refused() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.a.namespace.ip("link add ethx type veth peer name other0").unwrap();
    let check = |interface: &str| Agent::spawn(&lab.a, ["check", "--interface", interface]).unwrap().finish().unwrap();
    for (interface, line) in [
        ("eth*", "ok    interface eth*: matches 2 now: eth0, ethx"),
        ("all", "ok    interface all: matches 3 now: "),
        ("cali*", "warn  interface cali*: matches none now"),
        ("default", "warn  interface default: matches none now"),
    ] {
        let finished = check(interface);
        assert!(finished.stdout.iter().any(|said| said.starts_with(line)), "{interface}: {:#?}", finished.stdout);
    }
    let refused = Agent::spawn(&lab.a, ["run", "--interface", "eth[0"]).unwrap().finish().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        refused.stderr.join("\n").contains("`eth[0` can never match: it is not a valid pattern"),
        "{:?}",
        refused.stderr
    );
}
