//! The name server: dead, slow, changing its mind, lying.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use testing_lab::agent::{Agent, binary, shell_word};
use testing_lab::late::{Late, in_time, timely};
use testing_lab::statsd::Listener;
use testing_lab::terminal::Terminal;
use testing_lab::threads::threads;
use testing_lab::traffic::{Rounds, Server as Tcp, connect, talk};
use testing_lab::{Lab, Over};

use super::dns::{Mood, Server};
use super::outputs::{many_addresses, talk_to_all};
use super::streams::Daemon;
use super::support::{Conf, Heard, SOON, USUAL, lab, statsd, wait, wait_until, while_talking};

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
        // A report is several datagrams.
        if heard.peers().contains(&HOST.to_owned()) && !heard.rtts().is_empty() {
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
    assert!(agent.log().iter().any(|line| line.contains("no address yet for db.lab.test")), "{:?}", agent.log());

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
fn with_reverse_dns_off_a_name_server_hears_of_no_peer() {
    let lab = lab();
    let statsd = statsd(&lab);
    let names = Server::start(&lab.a, Mood::Dead);
    for reverse_dns in [false, true] {
        let conf = Conf::new();
        conf.write_text(&format!("init_config:\n  reverse_dns: {reverse_dns}\ninstances:\n{USUAL}"));
        let agent = spawn(&names, &conf);
        drop(statsd.take());
        talk_to(&lab, FIRST);
        wait_until(&statsd, "a report", |heard| !heard.rtts().is_empty());
        if reverse_dns {
            wait("it is asked", SOON, || names.questions() > 0);
        } else {
            assert_eq!(names.questions(), 0, "asked, though names are turned off");
        }
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    }
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
        // A report takes up to half of its interval to come.
        thread::sleep(Duration::from_millis(700));
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
    // An honest name is believed, and is the peer's from its first report on: one series each, not two.
    names.call_all(b"honest");
    thread::sleep(Duration::from_millis(700));
    for address in [200, 201, 202].map(|last| Ipv4Addr::new(10, 77, 0, last)) {
        lab.b.add_address(address).unwrap();
        drop(statsd.take());
        talk_to(&lab, address);
        let heard = wait_until(&statsd, "its first report", |heard| !heard.peers().is_empty());
        assert_eq!(heard.peers(), ["honest"], "of {address}");
    }
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

/// How many threads it has.
fn threads_of(daemon: &Daemon) -> usize {
    threads(daemon.pid()).unwrap().len()
}

#[test]
fn a_server_that_does_not_name_addresses_costs_a_few_threads_and_keeps_no_configured_name_waiting() {
    const PEERS: usize = 600;
    let lab = lab();
    many_addresses(&lab);
    let statsd = statsd(&lab);
    // The resolver's own patience: 5 s, twice.
    let names = Server::with(&lab.a, Mood::Addresses(vec![FIRST]), "nameserver 127.0.0.1\n");
    names.answer_no_pointers();
    let conf = Conf::new();
    conf.write_text(&format!(
        "init_config: {{reverse_dns: true, kernel_rtt: true, dns_refresh_interval: 1}}\ninstances:\n  \
         - interface: eth0\n    ips: [10.78.0.0/16]\n    hosts: [{HOST}]\n"
    ));
    let mut command = names.command(&binary().unwrap());
    command.args(conf.args());
    let daemon = Daemon::spawn(&mut command, &conf, Stdio::null(), Stdio::null());
    daemon.wait("it captures", |status| status["interfaces"][0]["attached"] == true);
    let before = threads_of(&daemon);
    let rounds = Rounds { count: 1, ..Rounds::default() };
    let tcp = Tcp::start(&lab.b, (Ipv4Addr::UNSPECIFIED, 0).into(), rounds.service()).unwrap();
    let mut most = 0;
    for _ in 0..3 {
        talk_to_all(&lab, &tcp, PEERS);
        most = most.max(threads_of(&daemon));
        let asked = Instant::now();
        assert!(daemon.status().is_some(), "it does not say how it is");
        // The resolver's patience is ten seconds.
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    }
    println!("{PEERS} peers without names: {before} threads before, {most} at most");
    // Eight for names, four for addresses, and what asks the kernel.
    assert!(most <= before + 14, "{before} threads, then {most}");
    thread::sleep(Duration::from_secs(1));
    measured(&lab, &statsd, FIRST, "while no address has a name");
    names.be(Mood::Addresses(vec![OTHER]));
    let asked = Instant::now();
    daemon.wait("a configured name is looked up", |status| {
        status["targets"][0]["hosts"][0]["addresses"].to_string().contains(&OTHER.to_string())
    });
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    let (code, took) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(8), "it waits for the resolver: {took:?}");
}

#[test]
fn a_dead_first_server_delays_neither_capture_nor_status_and_the_second_answers() {
    in_time("a dead first server", try_a_dead_first_server);
}

fn try_a_dead_first_server() -> Result<(), Late> {
    let lab = lab();
    let statsd = statsd(&lab);
    // It takes questions, so that the resolver waits for it.
    let _dead = lab.a.enter(|| UdpSocket::bind("127.0.0.9:53").unwrap());
    let servers = "nameserver 127.0.0.9\nnameserver 127.0.0.1\n";
    let names = Server::with(&lab.a, Mood::Addresses(vec![FIRST]), servers);
    let conf = Conf::new();
    conf.write(&["dns_refresh_interval: 1"], &format!("  - interface: eth0\n    hosts: [{HOST}]\n"));
    let mut command = names.command(&binary().unwrap());
    command.args(conf.args());
    let began = Instant::now();
    let daemon = Daemon::spawn(&mut command, &conf, Stdio::null(), Stdio::null());
    let status = daemon.wait("it captures", |status| status["interfaces"][0]["attached"] == true);
    let took = began.elapsed();
    // The resolver waits for five seconds.
    timely(took < Duration::from_secs(4), || format!("captures after {took:?}"))?;
    assert!(status["problems"].to_string().contains("db.lab.test cannot be looked up"), "{status}");
    daemon.wait("the second server is asked", |status| status["state"] == "ok");
    println!("captures after {took:?}, has the name after {:?}", began.elapsed());
    measured(&lab, &statsd, FIRST, "with a dead first server");
    assert_eq!(daemon.stop().0, Some(0));
    Ok(())
}

#[test]
fn a_live_table_has_one_row_a_pair_and_side_when_names_come_late() {
    let lab = lab();
    lab.b.add_address(OTHER).unwrap();
    // One name for both addresses; two reports are shown before the first answer, and the second comes as long after
    // it.
    let slow = Mood::Slow(Duration::from_secs(4), Vec::new());
    let _names = Server::with(&lab.a, slow, "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n");
    let line = format!("{} run --interface eth0 --sides both --status-socket off 2> /dev/null", shell_word().unwrap());
    let terminal = Terminal::start(&lab.a, (130, 30), &line).unwrap();
    let stop = AtomicBool::new(false);
    let rows = |screen: &str| -> Vec<Vec<String>> {
        let words = screen.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        words.filter(|words| words.first().is_some_and(|src| src == "10.77.0.1")).collect()
    };
    let named = thread::scope(|scope| {
        for address in [FIRST, OTHER] {
            let (lab, stop) = (&lab, &stop);
            scope.spawn(move || talk(lab, address.into(), Duration::from_millis(30), stop));
        }
        let _over = Over(&stop);
        let by_address =
            terminal.wait_for(3 * SOON, |screen| rows(screen).iter().any(|row| row[1] == FIRST.to_string()));
        let is_named = |screen: &str| {
            let rows = rows(screen);
            rows.iter().any(|row| row[1] == "host") && !rows.iter().any(|row| row[1].parse::<Ipv4Addr>().is_ok())
        };
        let named = terminal.wait_for(6 * SOON, is_named);
        by_address.and(named)
    });
    let screen = named.unwrap();
    let mut sides: Vec<(String, String)> =
        rows(&screen).into_iter().map(|row| (row[1].clone(), row[3].clone())).collect();
    sides.sort();
    assert_eq!(sides, [("host", "local"), ("host", "remote")].map(|(a, b)| (a.to_owned(), b.to_owned())), "{screen}");
    assert!(screen.contains("2 pairs"), "{screen}");
}

#[test]
fn fifty_dead_names_are_one_warning() {
    let lab = lab();
    let names = Server::start(&lab.a, Mood::Dead);
    let conf = Conf::new();
    let hosts: Vec<String> = (0..50).map(|k| format!("h{k:02}.lab.test")).collect();
    conf.write(&["dns_refresh_interval: 1"], &format!("  - interface: eth0\n    hosts: [{}]\n", hosts.join(", ")));
    let mut agent = spawn(&names, &conf);
    agent.wait_for_log("cannot resolve h00.lab.test, h01.lab.test, h02.lab.test and 47 more: ", 6 * SOON).unwrap();
    thread::sleep(Duration::from_secs(3));
    let warnings = agent.log().iter().filter(|line| line.contains("cannot resolve")).count();
    assert_eq!(warnings, 1, "{:?}", agent.log());
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_connection_to_an_address_that_answers_leave_out_in_turn_is_measured_in_every_interval_under_its_name() {
    let lab = lab();
    let statsd = statsd(&lab);
    let addresses: Vec<Ipv4Addr> = (2..7).map(|last| Ipv4Addr::new(10, 77, 0, last)).collect();
    let names = Server::start(&lab.a, Mood::Turns(addresses));
    let conf = Conf::new();
    conf.write(&["dns_refresh_interval: 1"], &format!("  - interface: eth0\n    hosts: [{HOST}]\n"));
    let agent = spawn(&names, &conf);
    let ((), _) = while_talking(&lab, || {
        wait_until(&statsd, "it is measured", |heard| heard.peers().contains(&HOST.to_owned()));
        drop(statsd.take());
        // Several answers, each without most of the addresses.
        let asked = names.questions();
        wait("answers in turn", 3 * SOON, || names.questions() > asked + 14);
    });
    let heard = Heard::by(&statsd);
    assert_eq!(heard.peers(), [HOST]);
    // Each report has one average of the pair, and one gauge of memory.
    let count = |name: &str| heard.0.iter().filter(|metric| metric.name == name).count();
    let (measured, reports) = (count("system.net.tcp.rtt.avg"), count("go_metro.memory"));
    println!("measured in {measured} of {reports} intervals");
    assert!(reports > 15 && measured + 1 >= reports, "measured in {measured} of {reports} intervals");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn of_a_name_with_more_addresses_than_there_is_room_for_the_surplus_alone_is_left_out() {
    let lab = lab();
    let statsd = statsd(&lab);
    let names = Server::start(&lab.a, Mood::Addresses(vec![FIRST, OTHER]));
    let conf = Conf::new();
    // Room for one address more.
    let ips: Vec<String> = (1..65_536_u32).map(|k| Ipv4Addr::from(0x0a50_0000 + k).to_string()).collect();
    let instance = format!("  - interface: eth0\n    hosts: [{HOST}]\n    ips: [{}]\n", ips.join(", "));
    conf.write(&["backend: ebpf", "dns_refresh_interval: 1"], &instance);
    let mut command = names.command(&binary().unwrap());
    command.args(conf.args());
    let daemon = Daemon::spawn(&mut command, &conf, Stdio::null(), Stdio::null());
    let status = daemon.wait("the surplus is named", |status| {
        status["problems"].to_string().contains("no room in the classifier for 1 of 2 addresses of db.lab.test")
    });
    assert_eq!((&status["state"], &status["backend"]["name"]), (&"degraded".into(), &"ebpf".into()), "{status}");
    measured(&lab, &statsd, FIRST, "the address for which there was room");
    assert_eq!(daemon.stop().0, Some(0));
}
