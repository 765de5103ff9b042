//! What a running daemon says of itself at its socket.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use testing_lab::agent::{Agent, Finished, run_once};
use testing_lab::statsd::Listener;
use testing_lab::{Lab, Link};

use super::support::{SOON, some_rounds};

fn ask(socket: &Path, how: &[&str]) -> Finished {
    let words = ["status", "--socket", socket.to_str().unwrap()];
    run_once(words.iter().chain(how)).unwrap()
}

fn document(socket: &Path) -> Value {
    testing_lab::agent::status(socket).unwrap()
}

/// Asks until the document satisfies `enough`.
fn document_once(socket: &Path, enough: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let document = document(socket);
        if enough(&document) || Instant::now() > deadline {
            return document;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn configured(folder: &Path, lab: &Lab, more: &str) -> std::path::PathBuf {
    let config = folder.join("conf.yaml");
    let text = format!(
        "init_config:\n  status_socket: {}\n  report_interval: 1\n  reverse_dns: false\n\
         instances:\n  - interface: eth0\n    ips: [{}]\n    hosts: [localhost]\n    tags: [env:test]\n{more}",
        folder.join("go-metro.sock").display(),
        lab.b.v4
    );
    fs::write(&config, text).unwrap();
    config
}

#[test]
fn a_daemon_that_measures_one_service_says_so_and_counts_the_others_nowhere() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("go-metro.sock");
    let _server = Listener::udp(&lab.a, 8125).unwrap();
    let config = configured(folder.path(), &lab, "");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("init_config:\n", "init_config:\n  ports: [1, 5-7]\n")).unwrap();
    let agent = Agent::start(&lab.a, ["run", "-c", config.to_str().unwrap()]).unwrap();
    some_rounds(&lab, 50);
    let told = document_once(&socket, |document| document["packets"]["other_ports"].as_u64() > Some(50));
    assert_eq!(told["ports"], serde_json::json!(["1", "5-7"]));
    assert_eq!(told["packets"]["other_ports"], told["packets"]["records"], "{told:#}");
    assert_eq!((&told["samples"]["data"], &told["flows"]["begun"]), (&0.into(), &0.into()), "{told:#}");
    let page = ask(&socket, &[]).stdout.join("\n");
    assert!(page.contains("ports       1, 5-7") && page.contains("of other ports"), "{page}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn how_connections_did_is_told_where_it_is_counted_and_who_watches_takes_nothing_of_it() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("go-metro.sock");
    let _server = Listener::udp(&lab.a, 8125).unwrap();
    let config = configured(folder.path(), &lab, "");
    let agent = Agent::start(&lab.a, ["run", "-c", config.to_str().unwrap()]).unwrap();
    assert!(document(&socket).get("connections").is_none());
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("init_config:\n", "init_config:\n  metrics: [default, health]\n")).unwrap();
    let agent = Agent::start(&lab.a, ["run", "-c", config.to_str().unwrap()]).unwrap();
    // A watcher such as `top` gets an update each second; reports contain everything all the same.
    let watcher = Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "6", "--unix-socket", socket.to_str().unwrap()])
        .arg("http://go-metro/v1/live")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(300));
    let exchange = some_rounds(&lab, 200);
    let refused = testing_lab::traffic::connect(&lab.a, (lab.b.v4, 9).into());
    assert!(refused.is_err() && exchange.times.len() == 200);
    let told = document_once(&socket, |document| {
        let connects = &document["connections"]["total"]["connects"];
        connects["refused"] == 1 && connects["established"] == 1
    });
    let total = &told["connections"]["total"];
    // And the FIN.
    assert_eq!((&total["segments"], &total["bytes"]), (&201.into(), &20_000.into()), "{told:#}");
    assert_eq!(total["connects"]["refused"], 1, "{told:#}");
    let live = watcher.wait_with_output().unwrap();
    let seconds = String::from_utf8(live.stdout).unwrap();
    let seconds = seconds.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let pairs: Vec<Value> =
        seconds.flat_map(|second| second["pairs"].as_array().cloned().unwrap_or_default()).collect();
    let segments: u64 = pairs.iter().filter_map(|pair| pair["health"]["segments"].as_u64()).sum();
    assert_eq!(segments, 201, "{pairs:#?}");
    let page = ask(&socket, &[]).stdout.join("\n");
    let line = "connections 201 segments, 20000 bytes, 2 connects (1 established, 1 refused)";
    assert!(page.contains(line), "{page}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

/// The program, where another user can run it.
fn program_of_others(folder: &Path) -> std::path::PathBuf {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("go-metro");
    fs::copy(testing_lab::agent::binary().unwrap(), &program).unwrap();
    program
}

#[test]
fn a_user_who_may_not_ask_is_told_who_may_whatever_is_asked() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = program_of_others(folder.path());
    let hidden = folder.path().join("hidden");
    fs::create_dir(&hidden).unwrap();
    let socket = folder.path().join("go-metro.sock");
    let _server = Listener::udp(&lab.a, 8125).unwrap();
    let config = configured(folder.path(), &lab, "");
    let agent = Agent::start(&lab.a, ["run", "-c", config.to_str().unwrap()]).unwrap();
    std::os::unix::fs::symlink(&socket, hidden.join("link.sock")).unwrap();
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).unwrap();
    let recording = folder.path().join("recording");
    fs::create_dir(&recording).unwrap();
    fs::set_permissions(&recording, fs::Permissions::from_mode(0o777)).unwrap();
    let file = recording.join("file.pcapng");
    let asked = |words: &[&str], socket: &Path| {
        let mut command = lab.a.namespace.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all", "--"]);
        let output = command.arg(&program).args(words).arg("--socket").arg(socket).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let record = ["record", "--pair", "10.77.0.2", "--for", "100ms", "--write", file.to_str().unwrap()];
    let asks: [(&[&str], i32); 5] = [
        (&["status"], 2),
        (&["status", "--probe", "alive"], 2),
        (&["top", "--web"], 1),
        (&record, 1),
        (&["reload"], 1),
    ];
    for (words, code) in asks {
        let said = format!(
            "go-metro: permission denied at {}: root and members of group root (0) may ask there; run it with sudo, or \
             as one who may\n",
            socket.display()
        );
        assert_eq!(asked(words, &socket), (Some(code), said), "{words:?}");
        let (_, said) = asked(words, &hidden.join("link.sock"));
        assert!(said.contains("permission denied at") && said.contains("may not enter a folder above it"), "{said}");
    }
    // That nobody is there reads otherwise.
    let (code, said) = asked(&["status"], &folder.path().join("other.sock"));
    assert!(code == Some(2) && said.contains("no daemon answers at"), "{said}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_daemon_tells_how_it_is_and_a_health_check_tells_by_the_exit_status() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("go-metro.sock");
    let nobody = ask(&socket, &[]);
    assert_eq!(nobody.status.code(), Some(2), "{nobody:?}");

    let _server = Listener::udp(&lab.a, 8125).unwrap();
    let config = configured(folder.path(), &lab, "");
    let mut agent = Agent::start(&lab.a, ["run", "-c", config.to_str().unwrap()]).unwrap();
    some_rounds(&lab, 50);
    let told = document_once(&socket, |document| document["last_report"]["pairs"] == 1);
    assert_eq!((&told["version"], &told["state"]), (&1.into(), &"ok".into()), "{told:#}");
    assert_eq!(told["program"]["pid"], agent.pid().as_raw());
    assert_eq!((&told["backend"]["name"], &told["backend"]["wanted"]), (&"ebpf".into(), &"auto".into()));
    assert!(told["backend"]["fallback"].is_null());
    assert_eq!(told["interfaces"][0]["name"], "eth0");
    assert!(["tcx", "clsact"].contains(&told["interfaces"][0]["hook"].as_str().unwrap()), "{told:#}");
    assert_eq!(told["targets"][0]["prefixes"][0], format!("{}/32", lab.b.v4));
    let host = &told["targets"][0]["hosts"][0];
    assert!(host["name"] == "localhost" && host["age_s"].as_f64().unwrap() < 60.0, "{host}");
    assert!(host["addresses"].as_array().unwrap().contains(&"127.0.0.1".into()), "{host}");
    assert!((50..=51).contains(&told["samples"]["data"].as_u64().unwrap()), "{told:#}");
    assert_eq!((&told["samples"]["connect"], &told["flows"]["begun"]), (&1.into(), &1.into()));
    assert!(told["rates"]["samples_per_s"].as_f64().unwrap() > 0.0, "{told:#}");
    assert_eq!(told["drops"].as_object().unwrap().values().filter(|count| **count != 0).count(), 0, "{told:#}");
    assert_eq!((&told["outputs"][0]["kind"], &told["outputs"][0]["errors"]), (&"statsd".into(), &0.into()));
    assert!(told["kernel"]["features"].as_array().unwrap().iter().any(|feature| feature["name"] == "ring buffer"));
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "{mode:o}");

    let page = ask(&socket, &[]);
    assert_eq!(page.status.code(), Some(0), "{page:?}");
    assert!(page.stdout[0].starts_with("state") && page.stdout[0].ends_with(" ok"), "{page:?}");
    println!("{}", page.stdout.join("\n"));
    // Without go-metro, one asks with what there is.
    let by_hand = Command::new("curl")
        .args(["--silent", "--unix-socket", socket.to_str().unwrap(), "http://go-metro/healthz"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&by_hand.stdout), "ok\n");

    // What is in its way is told, and ends when it does.
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, good.replace("report_interval", "report_intervall")).unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration unchanged", SOON).unwrap();
    let degraded = ask(&socket, &[]);
    assert_eq!(degraded.status.code(), Some(1), "{degraded:?}");
    assert!(degraded.stdout[0].contains("report_intervall"), "{degraded:?}");
    let told = document(&socket);
    let logged = told["errors"].as_array().unwrap().last().unwrap();
    assert!(logged["level"] == "error" && logged["text"].as_str().unwrap().contains("report_intervall"), "{logged}");
    fs::write(&config, good).unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration reloaded", SOON).unwrap();
    lab.a.namespace.ip("link set eth0 down\nlink delete eth0").unwrap();
    let told = document_once(&socket, |document| document["state"] == "degraded");
    assert_eq!(told["problems"], serde_json::json!(["interface eth0 is absent"]), "{told:#}");

    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    assert!(!socket.exists(), "the socket is left behind");
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("go-metro.sock");
    let config = configured(folder.path(), &lab, "");
    let start = || Agent::start(&lab.a, ["run", "-c", config.to_str().unwrap()]).unwrap();
    start().kill().unwrap();
    assert!(socket.exists());
    assert_eq!(ask(&socket, &[]).status.code(), Some(2));
    let living = start();
    let of = |agent: &Agent| Value::from(agent.pid().as_raw());
    assert_eq!(document(&socket)["program"]["pid"], of(&living));
    // One that reports to the same server would be refused.
    let mut second = Agent::start(&lab.a, ["run", "-c", config.to_str().unwrap(), "-o", "json"]).unwrap();
    second.wait_for_log("another go-metro answers", SOON).unwrap();
    let said = second.log().iter().find(|line| line.contains("another go-metro answers")).cloned().unwrap();
    assert!(said.contains("WARN"), "{said}");
    assert_eq!(document(&socket)["program"]["pid"], of(&living));
    second.stop().unwrap();
    assert_eq!(document(&socket)["program"]["pid"], of(&living), "the second took the first one's socket away");
    // A file that is no socket is nobody's to remove: measuring goes on without.
    living.stop().unwrap();
    fs::write(&socket, "kept").unwrap();
    let mut without = start();
    without.wait_for_log("cannot create the status socket", SOON).unwrap();
    assert_eq!(without.stop().unwrap().status.code(), Some(0));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "kept");
}
