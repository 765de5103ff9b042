//! The full screen in a real terminal.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testing_lab::agent::{Agent, binary, shell_word};
use testing_lab::programs::{Hook, attached};
use testing_lab::terminal::Terminal;
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Impairment, Lab, Link, Way};

use super::support::SOON;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);

/// `top` with these arguments, between two words of the shell, so that what it leaves behind is seen.
fn command(arguments: &str) -> String {
    format!(
        "echo before; GO_METRO_SANDBOX=kill {} top {arguments}; echo ended $?; stty -a | tr ';' '\\n' | grep -w echo; \
         exec sleep 60",
        shell_word().unwrap()
    )
}

/// Whether the shell is back: its words from before and after, a terminal that echoes.
fn is_restored(screen: &str, status: u8) -> bool {
    let ended = format!("ended {status}");
    let lines: Vec<&str> = screen.lines().map(str::trim).collect();
    lines.contains(&"before")
        && lines.contains(&ended.as_str())
        && screen.contains(" echo ")
        && !screen.contains("-echo ")
}

#[test]
fn a_screen_shows_live_traffic_obeys_keys_and_gives_the_terminal_back() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(20));
    let terminal = Terminal::start(&lab.a, SMALL, &command("--interface eth0")).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0")).unwrap();
    let rounds = Rounds { count: 120, pause: Duration::from_millis(10), ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap());
        }
    });
    let row = |screen: &str| screen.lines().find(|line| line.starts_with("10.77.0.2 ")).map(str::to_owned);
    let count = |row: &str| row.split_whitespace().nth(1).and_then(|count| count.parse::<u32>().ok());
    let enough = |screen: &str| row(screen).is_some_and(|row| count(&row) >= Some(240));
    let screen = terminal.wait_for(SOON, enough).unwrap();
    println!("{screen}");
    let row = row(&screen).unwrap();
    let values: Vec<f64> = row.split_whitespace().skip(1).map(|value| value.parse().unwrap()).collect();
    // Two FINs may be among them.
    assert!((240.0..=242.0).contains(&values[0]) && values[3] >= 20.0, "{row}");
    assert!(screen.contains("lost 0") && screen.contains("distribution") && screen.contains("q quit"), "{screen}");

    terminal.press(&["Tab"]).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("2 flows, times in ms")).unwrap();
    terminal.press(&["/", "n", "o", "w", "h", "e", "r", "e"]).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("filter: nowhere") && screen.contains("no row matches")).unwrap();
    terminal.press(&["Escape"]).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("2 flows, times in ms")).unwrap();
    terminal.press(&["h"]).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("any key closes")).unwrap();
    terminal.press(&["h"]).unwrap();
    terminal.resize(LARGE).unwrap();
    let screen = terminal.wait_for(SOON, |screen| screen.lines().any(|line| line.starts_with("src "))).unwrap();
    assert!(screen.lines().last().unwrap().starts_with("q quit"), "{screen}");
    terminal.press(&["q"]).unwrap();
    terminal.wait_for(SOON, |screen| is_restored(screen, 0)).unwrap();
    assert_eq!(attached(&lab.a, Hook::Egress).unwrap(), Vec::<String>::new(), "it left the classifier behind");
}

/// Twenty requests over a path that loses one frame in ten, and a port where nobody listens.
fn lossy(lab: &Lab) {
    let way = Impairment { loss: 0.1, seed: 7, ..Impairment::delay(Duration::from_millis(5)) };
    lab.path().impair(Way::AToB, way);
    let rounds = Rounds { count: 20, request: 20_000, ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
    lab.path().impair(Way::AToB, Impairment::default());
    connect(&lab.a, (lab.b.v4, 9).into()).unwrap_err();
}

/// What was retransmitted and what failed, in the row of host b.
fn health_of(screen: &str) -> Option<(f64, u32)> {
    let row = screen.lines().find(|line| line.starts_with("10.77.0.2 "))?;
    let words: Vec<&str> = row.split_whitespace().collect();
    let share = words.iter().position(|word| *word == "%")?;
    Some((words[share - 1].parse().ok()?, words.last()?.parse().ok()?))
}

#[test]
fn how_connections_do_is_shown_from_the_start_or_at_a_key_also_of_a_daemon_that_does_not_report_it() {
    let lab = Lab::new(Link::Veth).unwrap();
    let terminal = Terminal::start(&lab.a, SMALL, &command("--interface eth0 --health")).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0")).unwrap();
    lossy(&lab);
    let is_told = |screen: &str| health_of(screen).is_some_and(|(resent, failed)| resent > 1.0 && failed == 1);
    let screen = terminal.wait_for(SOON, is_told).unwrap();
    println!("{screen}");
    assert!(screen.contains("retrans ") && screen.contains("retransmits") && screen.contains("refused client 1"));
    terminal.press(&["m"]).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains(" p99 ") && !screen.contains("retrans ")).unwrap();
    terminal.press(&["q"]).unwrap();
    terminal.wait_for(SOON, |screen| is_restored(screen, 0)).unwrap();
    drop(terminal);

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("go-metro.sock");
    let socket = socket.to_str().unwrap();
    let words = ["run", "--interface", "eth0", "--output", "json", "--interval", "1", "--status-socket", socket];
    let daemon = Agent::start(&lab.a, words).unwrap();
    let terminal = Terminal::start(&lab.a, SMALL, &command(&format!("--socket {socket}"))).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0")).unwrap();
    terminal.press(&["m"]).unwrap();
    lossy(&lab);
    terminal.wait_for(SOON, is_told).unwrap();
    let finished = daemon.stop().unwrap();
    let data = finished.stdout.iter().filter(|line| line.contains("\"data\":{")).count();
    assert!(data > 0 && !finished.stdout.iter().any(|line| line.contains("\"peer\"")), "{:#?}", finished.stdout);
}

#[test]
fn a_terminal_that_claims_to_be_endless_is_drawn_on_as_far_as_a_screen_goes() {
    let lab = Lab::new(Link::Veth).unwrap();
    let command = format!("stty rows 65535 columns 65535; {}", command("--interface eth0"));
    let terminal = Terminal::start(&lab.a, LARGE, &command).unwrap();
    // What is drawn beyond the real one's edges covers the rest of its lines.
    terminal.wait_for(SOON, |screen| screen.contains("q quit")).unwrap();
    terminal.press(&["q"]).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ended 0")).unwrap();
}

#[test]
fn a_locale_without_utf_8_gets_ascii_and_a_dumb_terminal_no_escape_sequences() {
    let lab = Lab::new(Link::Veth).unwrap();
    let terminal =
        Terminal::start(&lab.a, LARGE, &format!("export LC_ALL=C; {}", command("--interface eth0"))).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0")).unwrap();
    super::support::some_rounds(&lab, 30);
    let screen = terminal.wait_for(SOON, |screen| screen.contains("distribution")).unwrap();
    assert!(screen.is_ascii() && screen.contains("vsamples") && screen.contains('#'), "{screen}");
    drop(terminal);
    // script(1) keeps what is written to a terminal, byte by byte.
    let folder = tempfile::tempdir().unwrap();
    let kept = |name: &str, term: &str, arguments: &str| {
        let file = folder.path().join(name);
        let line = format!("{} {arguments}", shell_word().unwrap());
        let mut command = lab.a.namespace.command("script");
        command.args(["-qec", &line]).arg(&file).env("TERM", term).env("LC_ALL", "C.UTF-8");
        let mut script = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| super::support::some_rounds(&lab, 30));
        });
        script.wait().unwrap();
        fs::read_to_string(file).unwrap()
    };
    let live = kept("live", "xterm", "run --interface eth0 --duration 4");
    assert!(live.contains("\x1b[H"), "{live}");
    let plain = kept("plain", "dumb", "run --interface eth0 --duration 4");
    // The first line is script's own.
    assert!(plain.lines().count() > 1 && !plain.contains('\x1b'), "{plain:?}");
    let refused = kept("refused", "dumb", "top --interface eth0");
    assert!(
        refused.contains("(TERM=dumb); use `run --output table` to print lines") && !refused.contains('\x1b'),
        "{refused:?}"
    );
}

#[test]
fn a_signal_gives_the_terminal_back_too() {
    let lab = Lab::new(Link::Veth).unwrap();
    let terminal = Terminal::start(&lab.a, SMALL, &command("--interface eth0")).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0")).unwrap();
    kill(pid_of("--interface eth0", &lab), Signal::SIGTERM).unwrap();
    terminal.wait_for(SOON, |screen| is_restored(screen, 0)).unwrap();
    // A terminal that goes takes what runs on it along.
    let terminal = Terminal::start(&lab.a, SMALL, &command("--interface eth0")).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0")).unwrap();
    let pid = pid_of("--interface eth0", &lab);
    drop(terminal);
    let deadline = Instant::now() + SOON;
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "it goes on without a terminal");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_terminal_that_goes_away_ends_it() {
    let lab = Lab::new(Link::Veth).unwrap();
    // Also while it leaves by itself, when nobody hears of another signal unless that is seen to.
    for leaves in [None, Some(Signal::SIGTERM), Some(Signal::SIGINT)] {
        let terminal = Terminal::start(&lab.a, SMALL, &command("--interface eth0")).unwrap();
        terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0")).unwrap();
        let pid = pid_of("--interface eth0", &lab);
        if let Some(signal) = leaves {
            kill(pid, signal).unwrap();
        }
        drop(terminal);
        let deadline = Instant::now() + SOON;
        while fs::exists(format!("/proc/{pid}")).unwrap() {
            if Instant::now() > deadline {
                kill(pid, Signal::SIGKILL).unwrap();
                panic!("after {leaves:?} it runs on without a terminal");
            }
            thread::sleep(Duration::from_millis(50));
        }
        let left = attached(&lab.a, Hook::Egress).unwrap();
        assert_eq!(left, Vec::<String>::new(), "after {leaves:?} it left the classifier behind");
    }
}

/// The process `go-metro top ARGUMENTS` in host a's namespace.
fn pid_of(arguments: &str, lab: &Lab) -> Pid {
    let namespace =
        fs::metadata(lab.a.namespace.path()).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta)).unwrap();
    let is_ours = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let inode = fs::metadata(format!("/proc/{pid}/ns/net")).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta));
        line.starts_with(binary().unwrap().to_str().unwrap())
            && line.contains(arguments)
            && inode.is_ok_and(|inode| inode == namespace)
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Pid::from_raw(pids.into_iter().find(is_ours).expect("no such process"))
}

#[test]
fn a_running_daemon_is_followed_for_as_long_as_it_runs() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("go-metro.sock");
    let socket = socket.to_str().unwrap();
    let daemon = Agent::start(
        &lab.a,
        ["run", "--interface", "eth0", "--output", "json", "--interval", "60", "--status-socket", socket],
    )
    .unwrap();
    let terminal = Terminal::start(&lab.a, SMALL, &command(&format!("--socket {socket}"))).unwrap();
    terminal.wait_for(SOON, |screen| screen.contains("ebpf on eth0")).unwrap();
    super::support::some_rounds(&lab, 30);
    terminal.wait_for(SOON, |screen| screen.contains("1 pairs, times in ms") && screen.contains("10.77.0.2")).unwrap();
    daemon.stop().unwrap();
    let screen = terminal.wait_for(SOON, |screen| is_restored(screen, 1)).unwrap();
    assert!(screen.contains("the daemon has ended"), "{screen}");
}
