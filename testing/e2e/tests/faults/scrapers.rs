//! Clients of the Prometheus port, and of the page for browsers, that ask and do not read, as many as there can be.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use testing_lab::traffic::{Rounds, Server as Tcp, connect};
use testing_lab::{Lab, Over};

use super::outputs::{many_addresses, nth, talk_to_all};
use super::streams::{Daemon, attached};
use super::support::{Conf, SOON, lab, wait};

const PORT: u16 = 9464;
/// Of the page for browsers.
const WEB: u16 = 9465;

/// A figure of a process's memory, in bytes (proc_pid_status(5)).
fn memory(pid: Pid, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn ask(lab: &Lab, path: &str) -> TcpStream {
    ask_with(lab, path, "")
}

fn ask_with(lab: &Lab, path: &str, headers: &str) -> TcpStream {
    ask_at(lab, PORT, path, headers)
}

fn ask_at(lab: &Lab, port: u16, path: &str, headers: &str) -> TcpStream {
    let mut stream = lab.a.enter(|| TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n").unwrap();
    stream
}

fn get(lab: &Lab, path: &str) -> String {
    let mut answer = String::new();
    ask(lab, path).read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn clients_that_ask_and_do_not_read_cost_one_page_and_keep_nobody_out() {
    const PAIRS: usize = 2000;
    const CLIENTS: usize = 64;
    let lab = lab();
    many_addresses(&lab);
    let conf = Conf::new();
    // One page for the whole test.
    conf.write(&[&format!("prometheus_listen: 127.0.0.1:{PORT}")], "  - interface: eth0\n    ips: [10.78.0.0/16]\n");
    let mut command = lab.a.namespace.command(testing_lab::agent::binary().unwrap());
    command.args(["run", "-c", conf.path().to_str().unwrap(), "--output", "prometheus", "--interval", "12"]);
    let daemon = Daemon::spawn(&mut command, &conf, Stdio::null(), Stdio::null());
    daemon.wait("it captures", attached);
    let rounds = Rounds { count: 1, ..Rounds::default() };
    let tcp = Tcp::start(&lab.b, (Ipv4Addr::UNSPECIFIED, 0).into(), rounds.service()).unwrap();
    talk_to_all(&lab, &tcp, PAIRS);
    daemon.wait("a report", |status| status["last_report"]["pairs"].as_u64() >= Some(PAIRS as u64 / 2));
    // Text, and compressed, in both formats: what the chart's limit has to hold is the peak.
    let started = memory(daemon.pid(), "VmRSS:");
    let page = get(&lab, "/metrics").len() as u64;
    let mut compressed = Vec::new();
    let headers = "Accept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n";
    ask_with(&lab, "/metrics", headers).read_to_end(&mut compressed).unwrap();
    let body = compressed.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&compressed[..body]).to_lowercase();
    assert!(head.contains("content-encoding: gzip") && head.contains("openmetrics"), "{head}");
    let file = conf.folder().join("page.gz");
    fs::write(&file, &compressed[body..]).unwrap();
    let text = Command::new("gzip").arg("-dc").arg(&file).output().unwrap();
    assert!(text.status.success(), "{text:?}");
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.len() as u64 > page / 2 && text.ends_with("# EOF\n"), "{} bytes", text.len());
    let peak = memory(daemon.pid(), "VmHWM:").saturating_sub(started);
    println!("a page of {page} bytes, {} compressed: {peak} bytes more at the most", compressed.len());
    assert!(page > 1 << 24 && peak < page / 2, "a page of {page} bytes, {peak} bytes more");
    let before = memory(daemon.pid(), "VmRSS:");

    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| ask(&lab, "/metrics")).collect();
    let asked = Instant::now();
    let health = get(&lab, "/healthz");
    let took = asked.elapsed();
    assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
    let more = memory(daemon.pid(), "VmRSS:").saturating_sub(before);
    println!("a page of {page} bytes, {CLIENTS} clients: {more} bytes more; health after {took:?}");
    // One compressed page, and 64 KiB and what inflates it for each.
    assert!(more <= page / 4, "a page of {page} bytes, {more} bytes more");
    // Clients that do not read are cut off after half a minute.
    assert!(took < Duration::from_secs(25), "{took:?}");
    assert!(get(&lab, "/metrics").len() as u64 >= page / 2);
    let status = daemon.status().unwrap();
    assert!(status["errors"].to_string().contains("too many connections at once from 127.0.0.1"), "{status}");
    // Every client can have connections closed: it is counted, and says nothing about the daemon's health.
    let closed = status["happened"]["clients_closed"].as_u64().unwrap();
    let problems = status["problems"].to_string();
    assert!(closed >= (CLIENTS - 16) as u64 && !problems.contains("connections"), "{status}");

    // Those that were not cut off at once live half a minute at most.
    wait("all connections end", 2 * SOON, || established(&lab, PORT) == 0);
    clients.clear();
    assert_eq!(daemon.stop().0, Some(0));
}

/// Connections to a port.
fn established(lab: &Lab, port: u16) -> usize {
    let sockets = lab.a.enter(|| fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
    // Local port, state 01: established (proc_net_tcp, include/net/tcp_states.h).
    let port = format!(":{port:04X} ");
    let is_one = |line: &&str| line.split_whitespace().nth(3) == Some("01") && line[..22].contains(&port);
    sockets.lines().filter(is_one).count()
}

/// Follows the seconds with little room for what it does not read.
fn follow(lab: &Lab) -> TcpStream {
    let socket = lab.a.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, WEB)).into()).unwrap();
        socket
    });
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream
}

#[test]
fn browsers_that_follow_and_do_not_read_are_cut_off_and_keep_nobody_out() {
    // Each has two ends in this process.
    const PAIRS: usize = 200;
    const CLIENTS: usize = 64;
    let lab = lab();
    many_addresses(&lab);
    let conf = Conf::new();
    conf.write(&[&format!("web_listen: 127.0.0.1:{WEB}")], "  - interface: eth0\n    ips: [10.78.0.0/16]\n");
    let mut command = lab.a.namespace.command(testing_lab::agent::binary().unwrap());
    command.args(["run", "-c", conf.path().to_str().unwrap(), "--output", "json", "--interval", "5"]);
    let daemon = Daemon::spawn(&mut command, &conf, Stdio::null(), Stdio::null());
    daemon.wait("it captures", attached);
    let rounds = Rounds { count: 1, ..Rounds::default() };
    let tcp = Tcp::start(&lab.b, (Ipv4Addr::UNSPECIFIED, 0).into(), rounds.service()).unwrap();
    let to = |k| SocketAddr::from((nth(k), tcp.address().port()));
    let mut streams: Vec<TcpStream> = (0..PAIRS).map(|k| connect(&lab.a, to(k)).unwrap()).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&stop);
        for part in streams.chunks_mut(PAIRS / 8) {
            let stop = &stop;
            scope.spawn(move || {
                // All of them again and again: an event has most of them.
                while !stop.load(Ordering::Relaxed) {
                    part.iter_mut().for_each(|stream| drop(rounds.drive(stream).unwrap()));
                    thread::sleep(Duration::from_millis(300));
                }
            });
        }
        let get = |path: &str| {
            let mut answer = String::new();
            ask_at(&lab, WEB, path, "").read_to_string(&mut answer).unwrap();
            answer
        };
        wait("pairs are shown", SOON, || get("/api/v1/pairs").matches("\"dst\"").count() > PAIRS / 2);
        let before = memory(daemon.pid(), "VmRSS:");
        let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| follow(&lab)).collect();
        let asked = Instant::now();
        let page = get("/");
        assert!(page.starts_with("HTTP/1.1 200 OK") && asked.elapsed() < Duration::from_secs(25), "{page}");
        let status = daemon.status().unwrap();
        assert!(status["errors"].to_string().contains("too many connections at once from 127.0.0.1"), "{status}");
        let closed = status["happened"]["clients_closed"].as_u64().unwrap();
        let problems = status["problems"].to_string();
        assert!(closed >= (CLIENTS - 16) as u64 && !problems.contains("connections"), "{status}");
        // As much as there is room for goes to the kernel; then nothing is taken for half a minute.
        let mut most = 0;
        wait("who does not read is cut off", 4 * SOON, || {
            most = most.max(memory(daemon.pid(), "VmRSS:").saturating_sub(before));
            established(&lab, WEB) == 0
        });
        println!("{CLIENTS} browsers that do not read: {most} bytes more, for {:?}", asked.elapsed());
        // At most 16 of them at once, each with a few events; and what the history has more by then.
        assert!(most < 24 << 20, "{most} bytes more");
        drop(clients);
        assert!(get("/api/v1/pairs").starts_with("HTTP/1.1 200 OK"));
    });
    assert_eq!(daemon.stop().0, Some(0));
}
