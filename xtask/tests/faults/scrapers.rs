//! Clients of the Prometheus port that ask and do not read, as many as there can be.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use xtask::lab::Lab;
use xtask::lab::traffic::{Rounds, Server as Tcp};

use super::outputs::{many_addresses, talk_to_all};
use super::streams::{Daemon, attached};
use super::support::{Conf, SOON, lab, wait};

const PORT: u16 = 9464;

/// Resident memory, in bytes (proc_pid_status(5)).
fn resident(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn ask(lab: &Lab, path: &str) -> TcpStream {
    let mut stream = lab.a.enter(|| TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
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
    let mut command = lab.a.namespace.command(xtask::lab::agent::binary().unwrap());
    command.args(["run", "-c", conf.path().to_str().unwrap(), "--output", "prometheus", "--interval", "12"]);
    let daemon = Daemon::spawn(&mut command, &conf, Stdio::null(), Stdio::null());
    daemon.wait("it captures", attached);
    let rounds = Rounds { count: 1, ..Rounds::default() };
    let tcp = Tcp::start(&lab.b, (Ipv4Addr::UNSPECIFIED, 0).into(), rounds.service()).unwrap();
    talk_to_all(&lab, &tcp, PAIRS);
    daemon.wait("a report", |status| status["last_report"]["pairs"].as_u64() >= Some(PAIRS as u64 / 2));
    let page = get(&lab, "/metrics").len() as u64;
    let before = resident(daemon.pid());

    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| ask(&lab, "/metrics")).collect();
    let asked = Instant::now();
    let health = get(&lab, "/healthz");
    let took = asked.elapsed();
    assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
    let more = resident(daemon.pid()).saturating_sub(before);
    println!("a page of {page} bytes, {CLIENTS} clients: {more} bytes more; health after {took:?}");
    assert!(page > 1 << 20 && more <= page + (1 << 20), "a page of {page} bytes, {more} bytes more");
    // Clients that do not read are cut off after half a minute.
    assert!(took < Duration::from_secs(25), "{took:?}");
    assert!(get(&lab, "/metrics").len() as u64 >= page / 2);
    let status = daemon.status().unwrap();
    assert!(status["errors"].to_string().contains("too many connections at once of 127.0.0.1"), "{status}");
    assert!(status["problems"].to_string().contains("too many connections at once of 127.0.0.1"), "{status}");

    // Those that were not cut off at once live half a minute at most.
    wait("all connections end", 2 * SOON, || {
        let sockets = lab.a.enter(|| fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
        // Local port, state 01: established (proc_net_tcp, include/net/tcp_states.h).
        let port = format!(":{PORT:04X} ");
        sockets
            .lines()
            .filter(|line| line.split_whitespace().nth(3) == Some("01") && line[..22].contains(&port))
            .count()
            == 0
    });
    clients.clear();
    assert_eq!(daemon.stop().0, Some(0));
}
