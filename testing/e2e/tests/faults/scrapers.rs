//! Clients of the Prometheus port that ask and do not read, as many as there can be.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use testing_lab::Lab;
use testing_lab::traffic::{Rounds, Server as Tcp};

use super::outputs::{many_addresses, talk_to_all};
use super::streams::{Daemon, attached};
use super::support::{Conf, SOON, lab, wait};

const PORT: u16 = 9464;

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
    let mut stream = lab.a.enter(|| TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n").unwrap();
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
