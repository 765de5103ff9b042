//! What starts the original starts this.

use std::fs;
use std::path::Path;
use std::time::Duration;

use testing_e2e::ORIGINAL;
use testing_lab::agent::Agent;
use testing_lab::statsd::Listener;
use testing_lab::{Lab, Link};

use super::support::{SOON, some_rounds};

/// A line of the original's log: `YYYY-MM-DD HH:MM:SS TZ | LEVEL | (file:line) | message`.
fn is_log_line(line: &str) -> bool {
    let fields: Vec<&str> = line.splitn(4, " | ").collect();
    fields.len() == 4
        && fields[0].len() >= 20
        && fields[1].trim() == fields[1].trim().to_uppercase()
        && fields[2].starts_with('(')
}

fn heard(lab: &Lab, agent: Agent, server: &Listener, log: &Path) {
    lab.path().set_rtt(Duration::from_millis(5));
    // Its log goes to a file: what it does tells that it runs.
    let start = std::time::Instant::now();
    while !fs::read_to_string(log).is_ok_and(|text| text.contains("capturing on")) {
        assert!(start.elapsed() < SOON, "it does not log to {}: {:?}", log.display(), agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    some_rounds(lab, 20);
    let finished = agent.stop().unwrap();
    assert_eq!(finished.status.code(), Some(0), "{:?}", finished.stderr);
    assert!(server.wait_for("system.net.tcp.rtt.avg", SOON));
    let metrics = server.metrics().unwrap();
    for name in ["system.net.tcp.rtt", "system.net.tcp.rtt.avg", "system.net.tcp.rtt.jitter"] {
        let metric = metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(metric.tags, ["src:10.77.0.1", "dst:10.77.0.2", "env:test", "iface:eth0"]);
        assert!((0.0..1000.0).contains(&metric.values[0]), "{metric:?}");
    }
    let text = fs::read_to_string(log).unwrap();
    let bad: Vec<&str> = text.lines().filter(|line| !is_log_line(line)).collect();
    assert!(bad.is_empty(), "not in the original's format: {bad:?}");
}

#[test]
fn the_originals_configuration_and_invocation_start_it_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let (config, log) = (directory.path().join("go-metro.yaml"), directory.path().join("go-metro.log"));
    fs::write(&config, ORIGINAL).unwrap();
    let (cfg_flag, log_flag) = (format!("-cfg={}", config.display()), format!("-log={}", log.display()));
    for filter in [None, Some("-f=tcp")] {
        let lab = Lab::new(Link::Veth).unwrap();
        let server = Listener::udp(&lab.a, 8125).unwrap();
        let _ = fs::remove_file(&log);
        let agent = Agent::spawn(&lab.a, [&cfg_flag, &log_flag].into_iter().map(String::as_str).chain(filter)).unwrap();
        heard(&lab, agent, &server, &log);
    }
}

#[test]
fn a_configuration_file_of_the_original_works_with_run_too() {
    let directory = tempfile::tempdir().unwrap();
    let (config, log) = (directory.path().join("go-metro.yaml"), directory.path().join("go-metro.log"));
    fs::write(&config, ORIGINAL).unwrap();
    let lab = Lab::new(Link::Veth).unwrap();
    let server = Listener::udp(&lab.a, 8125).unwrap();
    let args = ["run".as_ref(), "-c".as_ref(), config.as_os_str(), "--log-file".as_ref(), log.as_os_str()];
    heard(&lab, Agent::spawn(&lab.a, args).unwrap(), &server, &log);
}

#[test]
fn a_capture_that_the_configuration_names_is_read_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("go-metro.yaml");
    let pcap = testing_truth::corpus::directory().join("clean.pcap.gz");
    fs::write(&config, format!("instances: [{{interface: file, pcap: '{}', ips: [10.77.0.2]}}]", pcap.display()))
        .unwrap();
    let args = ["run".as_ref(), "-c".as_ref(), config.as_os_str(), "--output".as_ref(), "json".as_ref()];
    let finished = testing_lab::agent::run_once(args).unwrap();
    assert_eq!(finished.status.code(), Some(0), "{:?}", finished.stderr);
    let pair = finished.stdout.iter().find(|line| line.contains("\"dst\":\"10.77.0.2\""));
    let pair: serde_json::Value = serde_json::from_str(pair.unwrap()).unwrap();
    assert_eq!(pair["src"], "10.77.0.1");
    let data = &pair["data"];
    assert!(data["count"].as_u64().unwrap() > 30 && data["min_ms"].as_f64().unwrap() > 20.0, "{pair}");
}

#[test]
fn mistakes_are_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("conf.yaml");
    for (wrong, needles) in [
        (ORIGINAL.replace("idle_ttl", "idle_tl"), vec!["idle_tl", "idle_ttl"]),
        (ORIGINAL.replace("statsd_port: 8125", "statsd_port: none"), vec!["statsd_port"]),
        (ORIGINAL.replace("10.77.0.2", "127.0.0.1"), vec!["addresses of this host"]),
    ] {
        fs::write(&config, wrong).unwrap();
        let finished = testing_lab::agent::run_once(["run".as_ref(), "-c".as_ref(), config.as_os_str()]).unwrap();
        let said = finished.stderr.join("\n");
        assert!(!finished.status.success(), "{needles:?}: started");
        for needle in needles {
            assert!(said.contains(needle), "{needle} is not in: {said}");
        }
    }
}
