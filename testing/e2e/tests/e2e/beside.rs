//! A second program beside a living daemon: it shows what the daemon reports, or refuses; nothing is reported twice.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testing_lab::agent::{Agent, Finished, shell_word};
use testing_lab::programs::{Hook, attached};
use testing_lab::statsd::Listener;
use testing_lab::terminal::Terminal;
use testing_lab::{Lab, Link};
use testing_support::workspace::quoted;

use super::support::{SOON, some_rounds};

/// A daemon on host a that reports to a DogStatsD server there, with its files in a folder of its own.
struct Daemon {
    agent: Agent,
    config: PathBuf,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("conf.yaml");
        let text = format!(
            "init_config:\n  status_socket: {}\n  report_interval: 1\n  reverse_dns: false\n\
             instances:\n  - interface: eth0\n    ips: [{}]\n",
            folder.path().join("go-metro.sock").display(),
            lab.b.v4
        );
        fs::write(&config, text).unwrap();
        let agent = Agent::start(&lab.a, run(&config, &[])).unwrap();
        Self { agent, config, folder }
    }
}

/// The arguments of a daemon with this file.
fn run<'a>(config: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    ["run", "-c", config.to_str().unwrap()].iter().chain(more).copied().collect()
}

/// Programs on the hook of host a's interface: one for each capture.
fn captures(lab: &Lab) -> usize {
    attached(&lab.a, Hook::Egress).unwrap().len()
}

#[test]
fn run_alone_on_a_terminal_follows_the_daemon_that_runs() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    let server = Listener::udp(&lab.a, 8125).unwrap();
    let daemon = Daemon::start(&lab);
    // The file is in its usual place, as a package puts it, in an /etc that this shell alone sees.
    let inside = format!(
        "mount -t tmpfs none /etc; mkdir /etc/go-metro; cp {} /etc/go-metro/conf.yaml; exec {} run",
        daemon.config.display(),
        shell_word().unwrap()
    );
    let script = format!(
        "echo before; unshare --mount --propagation private sh -ec {}; echo ended $?; exec sleep 60",
        quoted(OsStr::new(&inside))
    );
    let terminal = Terminal::start(&lab.a, (120, 30), &script).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0") && screen.contains("q quit")).unwrap();
    some_rounds(&lab, 30);
    let screen = terminal.wait_for(SOON, |screen| screen.contains("1 pairs, times in ms")).unwrap();
    println!("{screen}");
    assert!(screen.contains("10.77.0.2"), "{screen}");
    assert_eq!(captures(&lab), 1, "a second capture");
    terminal.press(&["q"]).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("before") && screen.contains("ended 0")).unwrap();
    assert_eq!(captures(&lab), 1, "the daemon's capture is gone");
    // The samples of the handshake, the rounds and perhaps the FIN, each once.
    assert!(server.wait_for("system.net.tcp.rtt.dist", SOON), "the daemon reports nothing");
    assert_eq!(daemon.agent.stop().unwrap().status.code(), Some(0));
    let metrics = server.metrics().unwrap();
    let samples: usize = metrics.iter().filter(|metric| metric.name.ends_with(".dist")).map(|m| m.values.len()).sum();
    assert!((30..=32).contains(&samples), "{samples} samples were reported");
}

#[test]
fn a_second_daemon_that_would_report_the_same_refuses_and_says_how_to_do_it_on_purpose() {
    let lab = Lab::new(Link::Veth).unwrap();
    let _server = Listener::udp(&lab.a, 8125).unwrap();
    let daemon = Daemon::start(&lab);
    let refused = Agent::spawn(&lab.a, run(&daemon.config, &[])).unwrap().finish().unwrap();
    let said = refused.stderr.join("\n");
    println!("{said}");
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let socket = daemon.folder.path().join("go-metro.sock");
    for part in [socket.to_str().unwrap(), "already reports", "go-metro top", "`-o table`", "`--status-socket`"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert_eq!(captures(&lab), 1);
    // What it says is so: a table, or a socket of its own.
    let ends_well = |more: &[&str]| {
        let second: Finished = Agent::start(&lab.a, run(&daemon.config, more)).unwrap().stop().unwrap();
        assert_eq!(second.status.code(), Some(0), "{more:?}: {:?}", second.stderr);
    };
    ends_well(&["-o", "table"]);
    ends_well(&["--status-socket", "off"]);
    let other = daemon.folder.path().join("other.sock");
    ends_well(&["--status-socket", other.to_str().unwrap()]);
    // In another network namespace it sees other traffic.
    let theirs = daemon.folder.path().join("theirs.yaml");
    let text = fs::read_to_string(&daemon.config).unwrap().replace(&lab.b.v4.to_string(), &lab.a.v4.to_string());
    fs::write(&theirs, text).unwrap();
    let elsewhere = Agent::start(&lab.b, run(&theirs, &[])).unwrap().stop().unwrap();
    assert_eq!(elsewhere.status.code(), Some(0), "{:?}", elsewhere.stderr);
    // None lives any more: the next one takes the socket.
    assert_eq!(daemon.agent.stop().unwrap().status.code(), Some(0));
    ends_well_alone(&lab, &daemon.config);
}

fn ends_well_alone(lab: &Lab, config: &Path) {
    let next = Agent::start(&lab.a, run(config, &[])).unwrap().stop().unwrap();
    assert_eq!(next.status.code(), Some(0), "{:?}", next.stderr);
}

#[test]
fn top_of_a_socket_where_nobody_answers_is_an_error_and_captures_nothing() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nobody.sock");
    let script = format!("{} top -s {}; echo ended $?; exec sleep 60", shell_word().unwrap(), socket.display());
    let terminal = Terminal::start(&lab.a, (120, 30), &script).unwrap();
    let screen = terminal.wait_for(SOON, |screen| screen.contains("ended ")).unwrap();
    assert!(screen.contains("ended 1") && screen.contains("no daemon answers at"), "{screen}");
    assert!(screen.contains("nobody.sock") && !screen.contains("q quit"), "{screen}");
    assert_eq!(captures(&lab), 0);
}
