//! Configuration and life: reloads that ask for too much, files in odd places, signals that mean nothing, a socket that
//! is removed, and captures that are made to hurt.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use testing_lab::agent::{Agent, binary};

use super::support::{Backend, Conf, SOON, USUAL, lab, rounds, start, statsd, wait, wait_until};

#[test]
fn a_reload_that_asks_for_more_than_the_kernel_holds_is_refused_as_a_whole() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    let init = |tag: &str| format!("tags: [v:{tag}]");
    conf.write(&[&init("one"), &conf.status_line(), "backend: ebpf"], USUAL);
    let mut agent = start(&lab, &conf);
    let before = conf.status()["targets"].clone();
    let mut many = String::from("  - interface: eth0\n    ips:\n      - 10.77.0.0/24\n");
    for number in 0..=u16::MAX {
        writeln!(many, "      - 10.99.{}.{}", number >> 8, number & 255).unwrap();
    }
    conf.write(&[&init("two"), &conf.status_line(), "backend: ebpf"], &many);
    // It is foreseen.
    let checked = Agent::spawn(&lab.a, ["check", "-c", conf.path().to_str().unwrap()]).unwrap().finish().unwrap();
    assert_eq!(checked.status.code(), Some(1), "{:?}", checked.stdout);
    let line = "FAIL  targets: 65537 targets are more than the classifier's limit of 65536";
    assert!(checked.stdout.iter().any(|said| said.starts_with(line)), "{:#?}", checked.stdout);
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration unchanged: 65537 targets are more", 4 * SOON).unwrap();
    assert!(conf.problems().contains("the last reload was refused: 65537 targets"), "{}", conf.problems());
    let status = conf.status();
    assert_eq!((&status["targets"], &status["happened"]["reloads_refused"]), (&before, &1.into()));
    drop(server.take());
    rounds(&lab, 10);
    let heard = wait_until(&server, "samples", |heard| heard.rtts().len() >= 10);
    for metric in heard.0.iter().filter(|metric| metric.name.starts_with("system.net.tcp")) {
        assert_eq!(metric.tag("v"), Some("one"), "{metric:?}");
    }
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_reload_whose_port_is_taken_changes_nothing_else() {
    let lab = lab();
    let _server = statsd(&lab);
    let conf = Conf::new();
    let taken = lab.a.namespace.enter(|| std::net::TcpListener::bind("127.0.0.1:9470").unwrap());
    let init = |port: u16, ring: &str| {
        [
            "outputs: [prometheus, statsd]".to_owned(),
            format!("prometheus_listen: 127.0.0.1:{port}"),
            format!("ring_size: {ring}"),
            conf.status_line(),
        ]
    };
    let write = |port, ring, ips: &str| {
        let lines = init(port, ring);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        conf.write(&lines, &format!("  - interface: eth0\n    ips: [{ips}]\n"));
    };
    write(9469, "4194304", "10.77.0.0/24");
    let path = conf.path();
    let arguments = ["run", "-c", path.to_str().unwrap(), "--interval", "0.3"];
    let mut agent = Agent::start(&lab.a, arguments).unwrap();
    let before = conf.status();
    write(9470, "4194304", "10.77.0.0/16");
    // What would not start is known to `check`; that the daemon itself has its port is no fault.
    let check = || Agent::spawn(&lab.a, ["check", "-c", path.to_str().unwrap()]).unwrap().finish().unwrap();
    let checked = check();
    assert!(checked.stdout.iter().any(|line| line.starts_with("FAIL  Prometheus")), "{:#?}", checked.stdout);
    assert_eq!(checked.status.code(), Some(1));
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration unchanged: cannot listen on 127.0.0.1:9470", SOON).unwrap();
    let after = conf.status();
    for part in ["targets", "outputs"] {
        let without_counts = |status: &serde_json::Value| {
            let mut part = status[part].clone();
            part.as_array_mut().unwrap().iter_mut().for_each(|one| drop(one.as_object_mut().unwrap().remove("errors")));
            part
        };
        assert_eq!(without_counts(&before), without_counts(&after));
    }
    drop(taken);
    // The port could move now; the ring cannot be opened again in the sandbox, so that the port stays.
    write(9470, "8388608", "10.77.0.0/16");
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("restart to change ring_size", SOON).unwrap();
    let at = |port: u16| lab.a.namespace.enter(|| std::net::TcpStream::connect(("127.0.0.1", port))).is_ok();
    assert!(at(9469) && !at(9470));
    write(9469, "4194304", "10.77.0.0/24");
    let checked = check();
    assert_eq!(checked.status.code(), Some(0), "{:#?}", checked.stdout);
    assert!(checked.stdout.iter().any(|line| line.ends_with("the running daemon listens there")), "{checked:?}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn signals_that_mean_nothing_end_nothing_and_a_socket_that_is_removed_comes_back() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::new();
        conf.write(&[&super::support::backend(which), &conf.status_line()], USUAL);
        let mut agent = start(&lab, &conf);
        for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE] {
            agent.signal(signal).unwrap();
        }
        rounds(&lab, 10);
        wait_until(&server, "samples", |heard| heard.rtts().len() >= 10);
        let socket = conf.folder().join("go-metro.sock");
        for round in 0..2 {
            fs::remove_file(&socket).unwrap();
            if round == 1 {
                // Something else in its place, of a daemon that is dead.
                drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
            }
            wait("the socket is there again", SOON, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
            let status = conf.status();
            assert_eq!((&status["state"], &status["program"]["pid"]), (&"ok".into(), &agent.pid().as_raw().into()));
            let mode = fs::metadata(&socket).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o660, "{mode:o}");
        }
        agent.wait_for_log("is gone; creating it again", SOON).unwrap();
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
        assert!(!socket.exists(), "{which:?}: the socket is left behind");
    }
}

/// Runs with an /etc of its own, in which a shell made what it is told to.
fn with_etc(made: &str, arguments: &str) -> Output {
    let script = format!("mount -t tmpfs none /etc && {made} && exec \"$0\" {arguments}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(binary().unwrap()).output().unwrap()
}

#[test]
fn a_configuration_that_is_a_link_to_nowhere_is_an_error_and_a_second_one_is_told_of() {
    let ours = "mkdir /etc/go-metro && ln -s /nowhere/conf.yaml /etc/go-metro/conf.yaml";
    for verb in ["run --duration 1", "check"] {
        let said = with_etc(ours, verb);
        let told = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(!said.status.success(), "{verb}: {told}");
        assert!(told.contains("it is a symbolic link to a file that does not exist"), "{verb}: {told}");
    }
    let conf = "instances: [{interface: lo, ips: [127.0.0.1]}]";
    let both = format!(
        "mkdir -p /etc/go-metro /etc/dd-agent/conf.d && echo '{conf}' > /etc/go-metro/conf.yaml && \
         cp /etc/go-metro/conf.yaml /etc/dd-agent/conf.d/go-metro.yaml"
    );
    for verb in ["run --duration 0.5 --output json", "check"] {
        let said = with_etc(&both, verb);
        let told = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        let line = "using /etc/go-metro/conf.yaml; ignoring /etc/dd-agent/conf.d/go-metro.yaml";
        assert!(told.contains(line), "{verb}: {told}");
    }
}

/// A capture of as many connections, each of a pair of its own: SYN and SYN-ACK, 10 ms apart.
fn capture_of(pairs: u32) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        file.extend_from_slice(&word.to_ne_bytes());
    }
    for pair in 0..pairs {
        let (local, remote) = ([10, 0, 0, 1], (0x0b00_0000 | pair).to_be_bytes());
        for (at, source, destination, flags) in [(0, local, remote, 0x02), (10_000, remote, local, 0x12)] {
            let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
            packet.extend([source, destination].concat());
            let (from, to): (u16, u16) = if flags == 0x02 { (40_000, 443) } else { (443, 40_000) };
            packet.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
            packet.extend(1000_u32.to_be_bytes());
            packet.extend(if flags == 0x02 { [0; 4] } else { 1001_u32.to_be_bytes() });
            packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            for word in [1_700_000_000 + pair / 10_000, at + pair % 10_000, 40, 40] {
                file.extend_from_slice(&word.to_ne_bytes());
            }
            file.extend(packet);
        }
    }
    file
}

#[test]
fn a_capture_of_very_many_pairs_takes_bounded_memory_and_the_rest_is_folded_and_counted() {
    const PAIRS: u32 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.pcap");
    fs::write(&path, capture_of(PAIRS)).unwrap();
    let read = |more: &[&str]| {
        let mut child = Command::new(binary().unwrap())
            .args(["read", path.to_str().unwrap(), "--local", "10.0.0.1", "--format", "csv"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let status = format!("/proc/{}/status", child.id());
        let watch = thread::spawn(move || {
            let mut most = 0_u64;
            while let Ok(text) = fs::read_to_string(&status) {
                let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmHWM:")) else { break };
                most = most.max(line.trim().trim_end_matches(" kB").parse().unwrap());
                thread::sleep(Duration::from_millis(2));
            }
            most
        });
        let errors = child.stderr.take().unwrap();
        let errors = thread::spawn(move || std::io::read_to_string(errors).unwrap());
        let said = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        assert!(child.wait().unwrap().success());
        (said.lines().count(), errors.join().unwrap(), watch.join().unwrap() >> 10)
    };
    let (lines, told, usual_mib) = read(&[]);
    // A header, and one line for all the rest.
    assert_eq!(lines, 1 + (1 << 14) + 1);
    let folded = PAIRS - (1 << 14);
    assert!(told.contains(&format!("{folded} samples of the others are counted as `other`")), "{told}");
    let (lines, _, least_mib) = read(&["--max-pairs", "10"]);
    assert_eq!(lines, 12);
    println!("{usual_mib} MiB by default, {least_mib} MiB with ten pairs");
    assert!(usual_mib < 400, "{usual_mib} MiB");
    assert!(usual_mib - least_mib < 256, "{usual_mib} MiB by default, {least_mib} MiB with ten pairs");
}

#[test]
fn read_is_confined_before_it_opens_the_capture() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    // It waits there for somebody to write.
    let mut child = Command::new(binary().unwrap()).args(["read", fifo.to_str().unwrap()]).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let in_open = || fs::read_to_string(format!("/proc/{}/wchan", child.id())).is_ok_and(|at| at.contains("fifo_open"));
    wait("it opens the capture", SOON, || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
        in_open() || call.starts_with("257 ")
    });
    let told = fs::read_to_string(status).unwrap();
    let of = |key: &str| told.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned();
    assert_eq!((of("Seccomp:"), of("NoNewPrivs:")), ("2".to_owned(), "1".to_owned()), "{told}");
    let capabilities = u64::from_str_radix(&of("CapEff:"), 16).unwrap();
    // CAP_DAC_OVERRIDE and CAP_NET_BIND_SERVICE at most (linux/capability.h).
    assert_eq!(capabilities & !(1 << 1 | 1 << 10), 0, "{capabilities:#x}");
    child.kill().unwrap();
    child.wait().unwrap();
}
