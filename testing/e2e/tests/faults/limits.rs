//! What a host may run short of, or a supervisor may set wrongly: threads, sizes of files and stacks, signals, a
//! terminal, a manager that reads.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use serde_json::Value;
use testing_lab::Lab;
use testing_lab::agent::{Agent, binary, run_once};

use super::streams::{Daemon, attached};
use testing_lab::late::{Late, in_time, timely};

use super::support::{Conf, Injected, SOON, USUAL, lab, rounds, start, statsd, wait, wait_until};

fn wait_for_problem(conf: &Conf, what: &str) {
    wait(what, SOON, || conf.problems().contains(what));
}

/// Waits until it captures, of a daemon whose log goes elsewhere.
fn captures(server: &testing_lab::statsd::Listener) {
    wait_until(server, "a report", |heard| heard.gauge("go_metro.interfaces") == Some(1.0));
}

/// Sees to it that ten rounds are measured.
fn measures(lab: &Lab, server: &testing_lab::statsd::Listener, what: &str) {
    drop(server.take());
    let longest = rounds(lab, 10);
    wait_until(server, what, |heard| heard.rtts().len() >= 10).assert_true_rtts(longest, what);
}

#[test]
fn a_configuration_that_is_no_sensible_file_is_refused_at_once() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    let usual = || conf.write(&[&conf.status_line()], USUAL);
    usual();
    let agent = start(&lab, &conf);
    let at = conf.path();
    let link = |to: &str| std::os::unix::fs::symlink(to, conf.path()).unwrap();
    let fifo = || nix::unistd::mkfifo(&conf.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let sparse = || fs::File::create(conf.path()).unwrap().set_len(3 << 30).unwrap();
    let faults: [(&dyn Fn(), &str); 6] = [
        (&fifo, "it is a FIFO, not a regular file"),
        (&|| link("/dev/zero"), "it is a device, not a regular file"),
        (&sparse, "it is larger than 8 MiB"),
        (&|| fs::write(conf.path(), format!("init_config: {}", "[".repeat(200_000))).unwrap(), "brackets are open"),
        (&|| fs::write(conf.path(), "{a: ".repeat(100_000)).unwrap(), "brackets are open"),
        (&|| fs::create_dir(conf.path()).unwrap(), "it is a folder, not a regular file"),
    ];
    for (lay, why) in faults {
        fs::remove_file(&at).unwrap();
        lay();
        agent.signal(Signal::SIGHUP).unwrap();
        wait_for_problem(&conf, why);
        measures(&lab, &server, why);
        let checked = run_once(["check", "-c", at.to_str().unwrap()]).unwrap();
        let told = [checked.stdout, checked.stderr].concat().join("\n");
        assert!(!checked.status.success(), "{told}");
        // Of a FIFO, `check` waits a while for somebody who writes.
        assert!(told.contains(why.split(',').next().unwrap()), "{told}");
        let is_folder = at.symlink_metadata().unwrap().is_dir();
        if is_folder {
            fs::remove_dir(&at).unwrap();
        } else {
            fs::remove_file(&at).unwrap();
        }
        usual();
        agent.signal(Signal::SIGHUP).unwrap();
        wait("the file is read again", SOON, || conf.status()["state"] == "ok");
    }
    let memory = conf.status()["program"]["memory_bytes"].as_u64().unwrap();
    assert!(memory < 256 << 20, "{memory}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_configuration_on_a_file_system_that_does_not_answer_holds_up_nothing() {
    in_time("status while the file cannot be read", try_a_file_system_that_does_not_answer);
}

fn try_a_file_system_that_does_not_answer() -> Result<(), Late> {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    conf.write(&[&conf.status_line()], USUAL);
    let agent = start(&lab, &conf);
    let path = conf.path();
    // As open(2) of a file on a server that is gone.
    let delayed = ["-P", path.to_str().unwrap(), "-e", "trace=openat", "-e", "inject=openat:delay_enter=300000000"];
    let fault = Injected::start(&agent, &delayed);
    conf.write(&[&conf.status_line()], &format!("{USUAL}    tags: [\"read:later\"]\n"));
    let mut longest = Duration::ZERO;
    let mut status = || {
        let began = Instant::now();
        let problems = conf.problems();
        longest = longest.max(began.elapsed());
        problems
    };
    agent.signal(Signal::SIGHUP).unwrap();
    wait("it cannot be read", 2 * SOON, || status().contains("could not be read within 5 s"));
    // Asked for once more, it is read once more.
    agent.signal(Signal::SIGHUP).unwrap();
    measures(&lab, &server, "while the file cannot be read");
    assert!(status().contains("it is applied once it can be"));
    assert_eq!(conf.status()["happened"]["reloads_refused"], 1);
    drop(fault);
    wait("the file is followed", SOON, || conf.status()["state"] == "ok");
    drop(server.take());
    rounds(&lab, 10);
    wait_until(&server, "the new tag", |heard| heard.0.iter().any(|metric| metric.tag("read") == Some("later")));
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    timely(longest < Duration::from_secs(1), || format!("status took {longest:?}"))
}

#[test]
fn without_proc_it_measures_and_says_what_it_cannot_tell() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    conf.write(&[&conf.status_line()], USUAL);
    let without_proc = |args: &[String]| {
        let mut command = lab.a.namespace.command("unshare");
        command.args(["--mount", "sh", "-c", "umount -l /proc && exec \"$@\"", "sh"]).arg(binary().unwrap()).args(args);
        command
    };
    let mut agent = Agent::spawn_command(&mut without_proc(&conf.args())).unwrap();
    agent.ready().unwrap();
    wait_for_problem(&conf, "/proc is not mounted");
    assert_eq!(conf.status()["privileges"]["unknown"], true);
    measures(&lab, &server, "without /proc");
    let checked = without_proc(&["check", "-c", conf.path().to_str().unwrap()].map(str::to_owned)).output().unwrap();
    let told = String::from_utf8(checked.stdout).unwrap();
    assert!(told.contains("warn  /proc: /proc is not mounted") && told.contains("ok    CAP_NET_RAW"), "{told}");
    assert!(!told.contains("FAIL"), "{told}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn without_sys_it_measures_with_libpcap_and_says_what_to_mount() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    conf.write(&[&conf.status_line()], USUAL);
    let without_sys = |args: &[String]| {
        let mut command = lab.a.namespace.command("unshare");
        command.args(["--mount", "sh", "-c", "mount -t tmpfs none /sys && exec \"$@\"", "sh"]);
        command.arg(binary().unwrap()).args(args);
        command
    };
    let mut agent = Agent::spawn_command(&mut without_sys(&conf.args())).unwrap();
    agent.ready().unwrap();
    let why = conf.status()["backend"]["fallback"].as_str().unwrap().to_owned();
    assert!(why.contains("/sys/devices/system/cpu") && why.contains("mount -t sysfs sysfs /sys"), "{why}");
    measures(&lab, &server, "without /sys");
    let checked = without_sys(&["check", "-c", conf.path().to_str().unwrap()].map(str::to_owned)).output().unwrap();
    let told = String::from_utf8(checked.stdout).unwrap();
    let line = "warn  /sys: not mounted; eBPF is not used without it\n      fix: mount -t sysfs sysfs /sys";
    assert!(told.contains(line) && !told.contains("FAIL"), "{told}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_service_manager_that_does_not_read_holds_up_nothing() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    conf.write(&[&conf.status_line()], USUAL);
    let path = conf.folder().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut command = lab.a.namespace.command(binary().unwrap());
    command.args(conf.args_every("0.1")).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "0");
    let mut agent = Agent::spawn_command(&mut command).unwrap();
    agent.ready().unwrap();
    // net.unix.max_dgram_qlen is some ten, or some hundred.
    wait_for_problem(&conf, "the service manager does not read NOTIFY_SOCKET");
    measures(&lab, &server, "nobody reads");
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration reloaded", SOON).unwrap();
    assert!(conf.status()["happened"]["notifications_lost"].as_u64().unwrap() > 0);
    // What it missed of the state is said once it reads.
    manager.set_read_timeout(Some(SOON)).unwrap();
    let mut buffer = [0; 4096];
    wait("the state after the reload", SOON, || {
        let length = manager.recv(&mut buffer).unwrap();
        std::str::from_utf8(&buffer[..length]).unwrap().contains("READY=1\nSTATUS=configuration reloaded")
    });
    wait("nothing is in the way", SOON, || {
        manager.set_nonblocking(true).unwrap();
        while manager.recv(&mut buffer).is_ok() {}
        conf.status()["state"] == "ok"
    });
    // Nor does it stop later for a manager that has stopped reading.
    let finished = agent.stop().unwrap();
    assert_eq!(finished.status.code(), Some(0));
    assert!(!finished.stderr.iter().any(|line| line.contains("not feeding the watchdog")), "WATCHDOG_USEC=0 is off");
}

/// A control group that bounds how many threads its processes have; removed when dropped.
struct Threads(PathBuf);

impl Threads {
    /// None where the kernel or this machine has no such group.
    fn new() -> Option<Self> {
        let root = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
        let root = root.into_iter().find(|root| root.join("cgroup.procs").exists())?;
        // Of version 2.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+pids");
        let group = Self(root.join(format!("go-metro-faults-{}", std::process::id())));
        let _ = fs::create_dir(&group.0);
        if group.0.join("pids.max").exists() {
            return Some(group);
        }
        println!("skipped: there is no pids controller");
        None
    }

    fn limit(&self, most: &str) {
        fs::write(self.0.join("pids.max"), most).unwrap();
    }

    /// Allows no more than there are.
    fn close(&self) {
        self.limit(&fs::read_to_string(self.0.join("pids.current")).unwrap());
    }

    fn start(&self, lab: &Lab, conf: &Conf) -> Agent {
        let mut command = lab.a.namespace.command("sh");
        command.args(["-c", "echo $$ > \"$GROUP/cgroup.procs\"; exec \"$0\" \"$@\""]).env("GROUP", &self.0);
        Agent::spawn_command(command.arg(binary().unwrap()).args(conf.args())).unwrap()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn without_threads_it_measures_on_and_does_the_rest_once_there_are() {
    let Some(group) = Threads::new() else { return };
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    conf.write(&[&conf.status_line()], USUAL);
    group.limit("max");
    let mut agent = group.start(&lab, &conf);
    agent.ready().unwrap();
    measures(&lab, &server, "as usual");
    group.close();
    // Names of both kinds, another sender, and the kernel's times all want a thread.
    let instances = "  - interface: eth0\n    ips: [10.77.0.0/24]\n    hosts: [localhost, one.invalid]\n";
    let text = format!(
        "init_config:\n  reverse_dns: true\n  kernel_rtt: true\n  tags: [a:b]\n  {}\ninstances:\n{instances}",
        conf.status_line()
    );
    conf.write_text(&text);
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration reloaded", SOON).unwrap();
    wait_for_problem(&conf, "no thread can be started");
    let host = |status: &Value, name: &str| {
        let hosts = status["targets"][0]["hosts"].as_array().unwrap();
        hosts.iter().find(|host| host["name"] == name).unwrap().clone()
    };
    assert!(conf.problems().contains("cannot be looked up"), "{}", conf.problems());
    let _longest = rounds(&lab, 10);
    wait("samples without threads", SOON, || conf.status()["samples"]["data"].as_u64().unwrap() >= 20);
    group.limit("max");
    wait("threads are there again", SOON, || !conf.problems().contains("no thread can be started"));
    wait("the name is known", SOON, || host(&conf.status(), "localhost")["error"].is_null());
    measures(&lab, &server, "with threads again");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn with_too_few_threads_to_start_it_says_so_and_ends_or_goes_on_without() {
    let Some(group) = Threads::new() else { return };
    let mut outcomes = Vec::new();
    for most in 1..=9 {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::new();
        conf.write(&[&conf.status_line()], USUAL);
        group.limit(&most.to_string());
        let mut agent = group.start(&lab, &conf);
        // It ends, or answers.
        let answers = || run_once(["status", "--probe", "alive", "--socket", conf.socket().to_str().unwrap()]);
        wait("it ends or answers", SOON, || {
            agent.wait_for_log("\0", Duration::ZERO).is_err_and(|error| error.to_string().contains("go-metro ended"))
                || answers().unwrap().status.success()
        });
        if !answers().unwrap().status.success() {
            let finished = agent.finish().unwrap();
            let log = finished.stderr.join("\n");
            assert_eq!(finished.status.code(), Some(1), "{most}: {log}");
            assert!(log.contains("no thread can be started"), "{most}: {log}");
            outcomes.push("ended");
            continue;
        }
        let is_short = conf.problems().contains("no thread can be started");
        outcomes.push(if is_short { "without" } else { "complete" });
        rounds(&lab, 10);
        wait("samples", SOON, || conf.status()["samples"]["data"].as_u64().unwrap() >= 10);
        group.limit("max");
        wait("all is well", SOON, || conf.status()["state"] == "ok");
        measures(&lab, &server, "with threads");
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{most}");
    }
    println!("with at most 1 to 9 threads: {outcomes:?}");
    assert!(["ended", "without", "complete"].iter().all(|outcome| outcomes.contains(outcome)), "{outcomes:?}");
}

#[test]
fn a_limit_of_the_size_of_files_is_a_full_disk() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    let file = conf.folder().join("go-metro.log");
    let init = ["log_to_file: true".to_owned(), format!("log_file: {}", file.display()), conf.status_line()];
    let init: Vec<&str> = init.iter().map(String::as_str).collect();
    conf.write(&init, USUAL);
    let mut command = lab.a.namespace.command("sh");
    command.args(["-c", "ulimit -f 16; exec \"$0\" \"$@\""]).arg(binary().unwrap()).args(conf.args());
    let agent = Agent::spawn_command(&mut command).unwrap();
    captures(&server);
    measures(&lab, &server, "before the limit");
    conf.write_text(&format!("nonsense: {}\n", "x".repeat(1000)));
    wait("lines are lost", SOON, || {
        agent.signal(Signal::SIGHUP).unwrap();
        conf.status()["happened"]["log_lines_lost"].as_u64().unwrap() > 0
    });
    assert!(conf.problems().contains("lines of the log could not be written"), "{}", conf.problems());
    measures(&lab, &server, "at the limit");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    // A verb says what is wrong.
    let output = conf.folder().join("schema.json");
    let command = format!("ulimit -f 1; exec \"$0\" config schema > '{}'", output.display());
    let ended = Command::new("sh").arg("-c").arg(command).arg(binary().unwrap()).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && told.contains("File too large"), "{ended:?}");
}

#[test]
fn signals_that_nobody_means_and_those_that_are_blocked_change_nothing() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    conf.write(&[&conf.status_line()], USUAL);
    let mut command = lab.a.namespace.command(binary().unwrap());
    command.args(conf.args()).env("RUST_MIN_STACK", "1");
    // SAFETY: sigprocmask(2) may be called between fork and exec.
    unsafe { command.pre_exec(|| Ok(SigSet::all().thread_block()?)) };
    let mut agent = Agent::spawn_command(&mut command).unwrap();
    agent.ready().unwrap();
    let named = [Signal::SIGIO, Signal::SIGPWR, Signal::SIGVTALRM, Signal::SIGPROF, Signal::SIGALRM, Signal::SIGSTKFLT];
    for signal in named.into_iter().chain([Signal::SIGXFSZ]) {
        agent.signal(signal).unwrap();
    }
    for signal in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: kill(2) takes numbers.
        assert_eq!(unsafe { libc::kill(agent.pid().as_raw(), signal) }, 0);
    }
    measures(&lab, &server, "after the signals");
    assert_eq!(conf.status()["state"], "ok");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0), "SIGTERM was blocked when it was started");
    // Too small a stack is said.
    let small = Command::new("sh").args(["-c", "ulimit -s 64; exec \"$0\" --version"]).arg(binary().unwrap()).output();
    let small = small.unwrap();
    let told = String::from_utf8_lossy(&small.stderr);
    assert!(small.status.code() == Some(1) && told.contains("the stack is limited to 64 KiB"), "{small:?}");
}

#[test]
fn a_log_that_cannot_be_rotated_stays_small_and_says_so() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    let file = conf.folder().join("go-metro.log");
    for age in 1..=4 {
        fs::create_dir_all(conf.folder().join(format!("go-metro.log.{age}/x"))).unwrap();
    }
    let to = format!("log_file: {}", file.display());
    conf.write(&["log_to_file: true", "log_max_size: 20000", "log_files: 3", &to, &conf.status_line()], USUAL);
    let agent = Agent::spawn(&lab.a, conf.args()).unwrap();
    captures(&server);
    measures(&lab, &server, "before the log is full");
    conf.write_text(&format!("nonsense: {}\n", "x".repeat(1000)));
    let mut longest = 0;
    for _ in 0..3 {
        wait("the log is full", SOON, || {
            agent.signal(Signal::SIGHUP).unwrap();
            let before = longest;
            longest = longest.max(fs::metadata(&file).unwrap().len());
            fs::metadata(&file).unwrap().len() < before
        });
    }
    wait_for_problem(&conf, "cannot be rotated and is emptied");
    assert!(longest <= 20_000, "{longest}");
    (1..=4).for_each(|age| fs::remove_dir_all(conf.folder().join(format!("go-metro.log.{age}"))).unwrap());
    wait("it is rotated again", SOON, || {
        agent.signal(Signal::SIGHUP).unwrap();
        !conf.problems().contains("cannot be rotated")
    });
    assert!(conf.folder().join("go-metro.log.1").is_file());
    measures(&lab, &server, "with a log again");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_terminal_that_hangs_up_ends_what_prints_on_it_alone() {
    let lab = lab();
    let conf = Conf::new();
    let terminal = nix::pty::openpty(None, None).unwrap();
    // Else the daemon has an end of its own.
    let close = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
    nix::fcntl::fcntl(&terminal.master, close).unwrap();
    let mut command = lab.a.namespace.command(binary().unwrap());
    command.args(["run", "-i", "eth0", "-n", "--interval", "0.2"]);
    let stdout = Stdio::from(terminal.slave.try_clone().unwrap());
    let mut daemon = Daemon::spawn(&mut command, &conf, stdout, Stdio::from(terminal.slave));
    daemon.wait("it is there", attached);
    let mut master = fs::File::from(terminal.master);
    assert!(master.read(&mut [0; 4096]).unwrap() > 0);
    drop(master);
    kill(daemon.pid(), Signal::SIGHUP).unwrap();
    wait("it ends", SOON, || daemon.ended().is_some());
    assert_eq!(daemon.ended().unwrap().code(), Some(0));
}

#[test]
fn a_socket_that_drips_or_takes_nobody_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let drips = folder.path().join("drips");
    let listener = UnixListener::bind(&drips).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut part = "HTTP/1.0 200 OK\r\n".to_owned();
                while stream.write_all(part.as_bytes()).is_ok() {
                    part = "X: y\r\n".to_owned();
                    thread::sleep(Duration::from_millis(300));
                }
            });
        }
    });
    // Nobody accepts, and what waits is full (unix(7)).
    let full = folder.path().join("full");
    let stopped = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::empty(),
        None,
    )
    .unwrap();
    let address = nix::sys::socket::UnixAddr::new(&full).unwrap();
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&stopped), &address).unwrap();
    nix::sys::socket::listen(&stopped, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _waits = std::os::unix::net::UnixStream::connect(&full).unwrap();
    for socket in [&drips, &full] {
        for more in [&["--json"][..], &["--probe", "alive"], &[]] {
            let args = [&["status", "--socket", socket.to_str().unwrap()], more].concat();
            let asked = Instant::now();
            let finished = run_once(args).unwrap();
            assert_eq!(finished.status.code(), Some(2), "{:?}", finished.stderr);
            assert!(finished.stderr.join("\n").contains("does not answer"), "{:?}", finished.stderr);
            assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
        }
    }
}

#[test]
fn a_reload_whose_outcome_cannot_be_asked_for_says_so() {
    let (lab, conf) = (lab(), Conf::usual(&[]));
    let daemon = Daemon::start(&lab, &conf, &[], Stdio::null(), Stdio::null());
    daemon.wait("it captures", attached);
    let pid = daemon.pid().to_string();
    let said = run_once(["reload", "--pid", &pid, "--socket", "/nonexistent/go-metro.sock"]).unwrap();
    assert_eq!(said.status.code(), Some(3), "{said:?}");
    assert!(said.stderr.concat().contains("is unknown; see its log: no daemon answers"), "{said:?}");
    daemon.wait("a reload", |status| status["happened"]["reloads"] == 1);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_reload_signals_no_other_program() {
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let reload = |pid: &str| run_once(["reload", "--pid", pid, "--socket", "/nonexistent/go-metro.sock"]).unwrap();
    let refused = reload(&other.id().to_string());
    let is_alive = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    let said = refused.stderr.concat();
    assert!(refused.status.code() == Some(1) && said.contains("is `sleep`, not go-metro"), "{refused:?}");
    assert!(is_alive, "it was signalled: {said}");
    // To kill(2), 0 is its own process group and -1 everybody.
    for group in ["0", "-1"] {
        assert_eq!(reload(group).status.code(), Some(2), "{group}");
    }
}
