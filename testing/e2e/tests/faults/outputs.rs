//! Outputs: each by itself, whatever becomes of the others; DogStatsD with a server that is slow, moves, or is given
//! lines it cannot take.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testing_lab::Lab;
use testing_lab::agent::{Agent, binary};
use testing_lab::late::{Late, in_time, timely};
use testing_lab::namespace::Namespace;
use testing_lab::statsd::parse;
use testing_lab::threads::threads;
use testing_lab::traffic::{Rounds, Server as Tcp, connect};

use super::dns::{Mood, Server};
use super::streams::{Daemon, closed_pipe, dev_full, unread_fifo};
use super::support::{Conf, Heard, SOON, SmallDisk, lab, rounds, start, statsd, wait, wait_until};

/// Problems that a status names.
fn problems(status: &Value) -> String {
    status["problems"].to_string()
}

#[test]
fn standard_output_that_fails_costs_its_own_reports_and_those_of_no_other_output() {
    let faults = [
        ("a full disk", dev_full(), "json stdout: No space left on device"),
        ("a closed pipe", closed_pipe(), "json stdout: "),
    ];
    for (what, stdout, problem) in faults {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::usual(&[]);
        let daemon = Daemon::start(&lab, &conf, &["--output", "json", "--samples"], stdout, Stdio::null());
        let status = daemon.wait(what, |status| status["state"] == "degraded");
        assert!(problems(&status).contains(problem), "{what}: {status}");
        drop(server.take());
        let longest = rounds(&lab, 10);
        let heard = wait_until(&server, what, |h| h.rtts().len() >= 10 && h.count("go_metro.send_errors") > 0);
        heard.assert_true_rtts(longest, what);
        assert_eq!(daemon.stop().0, Some(0), "{what}");
    }
}

#[test]
fn a_reader_of_standard_output_that_does_not_read_holds_up_nothing() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::usual(&[]);
    let (_reader, writer) = unread_fifo(&conf.folder().join("stdout"));
    let daemon = Daemon::start(&lab, &conf, &["--output", "json"], writer.into(), Stdio::null());
    daemon.wait("reports are not printed", |status| problems(status).contains("its reader does not read"));
    drop(server.take());
    let longest = rounds(&lab, 10);
    wait_until(&server, "samples", |h| h.rtts().len() >= 10).assert_true_rtts(longest, "nobody reads");
    // It would never end if it waited for its reader.
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn it_ends_by_itself_with_0_when_its_only_output_is_a_pipe_that_closed() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    let mut command = lab.a.namespace.command(binary().unwrap());
    command.args(["run", "-c", conf.path().to_str().unwrap(), "--output", "json", "--interval", "0.3"]);
    let mut daemon = Daemon::spawn(&mut command, &conf, closed_pipe(), Stdio::null());
    wait("it ends", 2 * SOON, || daemon.ended().is_some());
    assert_eq!(daemon.ended().unwrap().code(), Some(0));
}

#[test]
fn printing_goes_on_with_a_whole_line_once_the_disk_has_room() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    let disk = SmallDisk::mount();
    let file = disk.path().join("lines");
    let ballast = disk.path().join("ballast");
    // Some of a line still fits.
    fs::write(&ballast, vec![0; 60 << 10]).unwrap();
    let stdout = OpenOptions::new().create(true).append(true).open(&file).unwrap();
    let mut command = lab.a.namespace.command(binary().unwrap());
    command.args(["run", "-c", conf.path().to_str().unwrap(), "--output", "json", "--interval", "0.3"]);
    let daemon = Daemon::spawn(&mut command, &conf, stdout.into(), Stdio::null());
    daemon.wait("the disk is full", |status| problems(status).contains("json stdout: No space left on device"));
    fs::remove_file(&ballast).unwrap();
    daemon.wait("it is well again", |status| !problems(status).contains("json stdout"));
    assert_eq!(daemon.stop().0, Some(0));
    let text = fs::read_to_string(&file).unwrap();
    let torn = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    assert!(torn <= 1, "{torn} torn lines");
    assert!(text.ends_with('\n') && text.lines().count() > 2, "{text}");
}

/// How many datagrams the kernel dropped in a namespace for want of room in a receiver's buffer (`Udp: ...
/// RcvbufErrors`, proc_net_snmp).
fn receive_buffer_errors(namespace: &Namespace) -> u64 {
    let text = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let [names, values] = &text.lines().filter(|line| line.starts_with("Udp:")).collect::<Vec<_>>()[..] else {
        panic!("{text}");
    };
    let place = names.split(' ').position(|name| name == "RcvbufErrors").unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

/// A DogStatsD server with the default buffer that takes its time for each datagram.
struct SlowServer {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Vec<Vec<u8>>>>,
}

impl SlowServer {
    fn start(lab: &Lab, each: Duration) -> Self {
        let socket = lab.a.enter(|| UdpSocket::bind(("127.0.0.1", 8125))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut datagrams = Vec::new();
            let mut buffer = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut buffer) else { continue };
                datagrams.push(buffer[..length].to_vec());
                thread::sleep(each);
            }
            datagrams
        });
        Self { stop, thread: Some(thread) }
    }

    fn heard(mut self) -> Heard {
        self.stop.store(true, Ordering::Relaxed);
        let datagrams = self.thread.take().unwrap().join().unwrap();
        Heard(datagrams.iter().flat_map(|datagram| parse(datagram).unwrap()).collect())
    }
}

/// One of so many addresses of host b.
pub(crate) fn nth(k: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a4e_0001 + k as u32)
}

/// Host b has a whole prefix of addresses: [`nth`].
pub(crate) fn many_addresses(lab: &Lab) {
    lab.b.namespace.ip("route add local 10.78.0.0/16 dev lo").unwrap();
    lab.a.namespace.ip("route add 10.78.0.0/16 via 10.77.0.2").unwrap();
}

/// A round with each of `count` addresses of host b.
pub(crate) fn talk_to_all(lab: &Lab, server: &Tcp, count: usize) {
    const AT_ONCE: usize = 8;
    let port = server.address().port();
    thread::scope(|scope| {
        for part in 0..AT_ONCE {
            scope.spawn(move || {
                for k in (part..count).step_by(AT_ONCE) {
                    let mut stream = connect(&lab.a, SocketAddr::from((nth(k), port))).unwrap();
                    Rounds { count: 1, ..Rounds::default() }.drive(&mut stream).unwrap();
                }
            });
        }
    });
}

#[test]
fn two_thousand_pairs_reach_a_server_with_the_default_buffer_that_takes_100_us_for_each_datagram() {
    in_time("two thousand pairs", try_two_thousand_pairs);
}

fn try_two_thousand_pairs() -> Result<(), Late> {
    const PAIRS: usize = 2000;
    let lab = lab();
    many_addresses(&lab);
    let conf = Conf::new();
    conf.write(&[], "  - interface: eth0\n    ips: [10.78.0.0/16]\n");
    let service = Rounds { count: 1, ..Rounds::default() }.service();
    let tcp = Tcp::start(&lab.b, (Ipv4Addr::UNSPECIFIED, 0).into(), service).unwrap();
    let server = SlowServer::start(&lab, Duration::from_micros(100));
    let agent = Agent::start(&lab.a, conf.args_every("10")).unwrap();
    let began = Instant::now();
    let lost_before = receive_buffer_errors(&lab.a.namespace);
    talk_to_all(&lab, &tcp, PAIRS);
    timely(began.elapsed() < Duration::from_secs(9), || {
        format!("the pairs are not all of one interval: {:?}", began.elapsed())
    })?;
    // The report, and half of an interval for it.
    thread::sleep(Duration::from_secs(16).saturating_sub(began.elapsed()));
    let lost = receive_buffer_errors(&lab.a.namespace) - lost_before;
    // What was measured since is sent within the time of a stop.
    talk_to_all(&lab, &tcp, PAIRS);
    let asked = Instant::now();
    let finished = agent.stop().unwrap();
    let took = asked.elapsed();
    thread::sleep(Duration::from_millis(500));
    let lost_at_stop = receive_buffer_errors(&lab.a.namespace) - lost_before - lost;
    let heard = server.heard();
    let peers = heard.peers().len();
    let averages = heard.0.iter().filter(|metric| metric.name == "system.net.tcp.rtt.avg").count();
    println!("{averages} lines of averages, {lost} datagrams lost, at the stop {lost_at_stop}; the stop took {took:?}");
    assert_eq!(finished.status.code(), Some(0), "{:?}", finished.stderr);
    // A server that does not get to run for longer than its buffer lasts loses some.
    timely((lost, lost_at_stop) == (0, 0), || format!("{lost} datagrams lost, at the stop {lost_at_stop}"))?;
    // On a busy machine some of a connection may come after its interval.
    assert!(peers == PAIRS && averages >= 2 * PAIRS, "{peers} pairs, {averages} averages");
    timely(took < Duration::from_millis(1500), || format!("the stop took {took:?}"))
}

#[test]
fn a_servers_name_is_followed_to_another_address_on_refusal_and_at_each_refresh() {
    const NAME: &str = "statsd.lab.test";
    let [first, second] = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    for (what, refresh, first_dies) in [("at a refresh", 1, false), ("on refusal", 3600, true)] {
        let lab = lab();
        let listen = |address: Ipv4Addr| lab.a.enter(|| UdpSocket::bind((address, 8125))).unwrap();
        let hears = |socket: &UdpSocket, within: Duration| {
            socket.set_read_timeout(Some(within)).unwrap();
            socket.recv(&mut [0; 65_536]).is_ok()
        };
        let names = Server::start(&lab.a, Mood::Addresses(vec![first]));
        let conf = Conf::usual(&[&format!("statsd_ip: {NAME}"), &format!("dns_refresh_interval: {refresh}")]);
        let (old, new) = (listen(first), listen(second));
        let mut agent = Agent::spawn_command(names.command(&binary().unwrap()).args(conf.args())).unwrap();
        agent.ready().unwrap();
        assert!(hears(&old, SOON), "{what}: reports to the first address");
        // Names are looked up by threads that may do nothing else.
        let sender = threads(agent.pid()).unwrap().into_iter().find(|thread| thread.name() == "statsd").unwrap();
        assert_eq!(sender.number("CapPrm", 16).unwrap(), 0);
        names.be(Mood::Addresses(vec![second]));
        if first_dies {
            drop(old);
        }
        assert!(hears(&new, 3 * SOON), "{what}: no report at the new address; {:?}", agent.log());
        agent.wait_for_log("moved from 127.0.0.1 to 127.0.0.2", SOON).unwrap();
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    }
}

#[test]
fn lines_that_no_datagram_holds_are_foreseen_by_check_and_counted() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    let tags: Vec<String> = (0..60).map(|k| format!("tag{k}:{}", "x".repeat(180))).collect();
    conf.write(&[], &format!("  - interface: eth0\n    ips: [10.77.0.0/24]\n    tags: {tags:?}\n"));
    let mut check = lab.a.namespace.command(binary().unwrap());
    let checked = check.args(["check", "-c", conf.path().to_str().unwrap()]).output().unwrap();
    let told = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{told}");
    assert!(told.contains("more than a datagram holds") && told.contains("fewer or shorter tags"), "{told}");
    // It tried whether anybody listens.
    drop(server.take());
    let agent = start(&lab, &conf);
    rounds(&lab, 10);
    let heard = wait_until(&server, "lines that are counted", |h| h.count("go_metro.send_errors") > 0);
    assert_eq!(heard.peers(), Vec::<String>::new());
    assert!(agent.log().join("\n").contains("more than a datagram to DogStatsD"), "{:?}", agent.log());
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}
