//! The name server: dead, slow, changing its mind, lying.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use xtask::lab::Lab;
use xtask::lab::agent::{Agent, binary};
use xtask::lab::statsd::Listener;
use xtask::lab::traffic::{Rounds, Server as Tcp, connect};

use super::dns::{Mood, Server};
use super::support::{Conf, Heard, SOON, lab, statsd, wait, wait_until};

const HOST: &str = "db.lab.test";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

fn spawn(server: &Server, conf: &Conf) -> Agent {
    let mut agent = Agent::spawn_command(server.command(&binary().unwrap()).args(conf.args())).unwrap();
    agent.ready().unwrap();
    agent
}

fn talk_to(lab: &Lab, address: Ipv4Addr) -> Duration {
    let rounds = Rounds { count: 5, ..Rounds::default() };
    let server = Tcp::start(&lab.b, (address, 0).into(), rounds.service()).unwrap();
    let exchange = rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
    exchange.times.into_iter().max().unwrap()
}

/// Talks until samples of the host by its name arrive; the longest round.
fn measured(lab: &Lab, statsd: &Listener, address: Ipv4Addr, what: &str) -> Heard {
    drop(statsd.take());
    let mut longest = Duration::ZERO;
    let deadline = Instant::now() + SOON;
    loop {
        longest = longest.max(talk_to(lab, address));
        let heard = Heard::by(statsd);
        if heard.peers() == [HOST] {
            heard.assert_true_rtts(longest, what);
            return heard;
        }
        assert!(Instant::now() < deadline, "{what}: nothing of {HOST} at {address}, but {:?}", heard.peers());
    }
}

/// Waits until this is the last address that the agent learned, and the only one.
fn learns(agent: &Agent, address: Ipv4Addr) {
    wait("the address is learned", SOON, || {
        let log = agent.log();
        let last = log.iter().rev().find(|line| line.contains("host resolved"));
        last.is_some_and(|line| line.contains(&format!("{{{address}}}")))
    });
    // What was measured before has the same name.
    thread::sleep(Duration::from_millis(700));
}

#[test]
fn whatever_the_name_server_does_the_last_good_answer_is_measured() {
    let lab = lab();
    lab.b.add_address(OTHER).unwrap();
    let statsd = statsd(&lab);
    let names = Server::start(&lab.a, Mood::Dead);
    let conf = Conf::new();
    conf.write(&["dns_refresh_interval: 1"], &format!("  - interface: eth0\n    hosts: [{HOST}]\n"));
    // Dead at the start: the agent is there, and waits for it.
    let agent = spawn(&names, &conf);
    assert!(agent.log().iter().any(|line| line.contains("no address yet of db.lab.test")), "{:?}", agent.log());

    // An answer that changes is followed.
    for (what, address) in [("once it answers", FIRST), ("the answer changed", OTHER), ("it changed back", FIRST)] {
        names.be(Mood::Addresses(vec![address]));
        learns(&agent, address);
        measured(&lab, &statsd, address, what);
    }

    let moods = [
        ("dead", Mood::Dead),
        ("empty", Mood::Addresses(vec![])),
        ("garbage", Mood::Garbage),
        ("slow", Mood::Slow(Duration::from_millis(1500), vec![OTHER])),
    ];
    for (what, mood) in moods {
        names.be(mood);
        let asked = names.questions();
        wait("it is asked again", SOON, || names.questions() > asked);
        // Longer than the resolver waits, and then the failure is counted.
        drop(statsd.take());
        wait_until(&statsd, &format!("{what}: a failure that is counted"), |h| h.count("go_metro.dns_failures") > 0);
        measured(&lab, &statsd, FIRST, what);
    }

    // A flood of addresses, over TCP since no datagram holds them: a part is believed, memory stays small.
    names.be(Mood::Huge(4000));
    drop(statsd.take());
    wait("so many addresses", SOON, || agent.log().iter().any(|line| line.contains("10.77.1.7")));
    thread::sleep(Duration::from_millis(400));
    let memory = Heard::by(&statsd).gauge("go_metro.memory").unwrap();
    assert!(memory < 200e6, "{memory} bytes");
    names.be(Mood::Addresses(vec![FIRST]));
    learns(&agent, FIRST);
    measured(&lab, &statsd, FIRST, "after the flood");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_name_that_would_break_a_datagram_is_not_believed() {
    let lab = lab();
    let statsd = statsd(&lab);
    let names = Server::start(&lab.a, Mood::Addresses(vec![]));
    let conf = Conf::new();
    conf.write_text("init_config:\n  reverse_dns: true\ninstances:\n  - interface: eth0\n    ips: [10.77.0.0/24]\n");
    let lies: [&[u8]; 6] = [b"a|c", b"a,dst:x", b"a#b", b"a\nsystem.fake:1|g", b"\xff\xfe\x80", b"\0"];
    for (k, lie) in lies.iter().enumerate() {
        names.call_all(lie);
        let address = Ipv4Addr::new(10, 77, 0, 100 + k as u8);
        lab.b.add_address(address).unwrap();
    }
    let agent = spawn(&names, &conf);
    for (k, lie) in lies.iter().enumerate() {
        names.call_all(lie);
        let address = Ipv4Addr::new(10, 77, 0, 100 + k as u8);
        let asked = names.questions();
        drop(statsd.take());
        talk_to(&lab, address);
        wait("its name is asked for", SOON, || names.questions() > asked);
        // The name would be in the report after the answer.
        thread::sleep(Duration::from_millis(300));
        talk_to(&lab, address);
        // Every line of every datagram is one that a server takes: the parser sees to that.
        let heard = wait_until(&statsd, "a second report", |heard| {
            heard.0.iter().filter(|metric| metric.name == "system.net.tcp.rtt").count() >= 2
        });
        assert_eq!(heard.peers(), [address.to_string()], "called {lie:?}");
    }
    // An honest name is believed.
    names.call_all(b"honest");
    let address = Ipv4Addr::new(10, 77, 0, 200);
    lab.b.add_address(address).unwrap();
    wait_until_named(&lab, &statsd, address);
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

fn wait_until_named(lab: &Lab, statsd: &Listener, address: Ipv4Addr) {
    let deadline = Instant::now() + SOON;
    while !Heard::by(statsd).peers().contains(&"honest".to_owned()) {
        assert!(Instant::now() < deadline, "{:?}", Heard::by(statsd).peers());
        talk_to(lab, address);
    }
}
