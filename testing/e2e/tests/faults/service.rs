//! The service manager's protocol, over a real notification socket; and a stop that is quick and loses nothing.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use testing_lab::Lab;
use testing_lab::agent::{Agent, binary};
use testing_lab::late::{Late, in_time, timely};
use testing_lab::threads::threads;

use super::support::{Conf, SOON, lab, rounds, statsd, wait, wait_until};

/// What systemd listens on.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(conf: &Conf) -> Self {
        let path = conf.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self { socket, path }
    }

    fn start(&self, lab: &Lab, conf: &Conf, watchdog: Option<Duration>) -> Agent {
        let mut command = lab.a.namespace.command(binary().unwrap());
        command.args(conf.args()).env("NOTIFY_SOCKET", &self.path);
        if let Some(time) = watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
        Agent::spawn_command(&mut command).unwrap()
    }

    /// What is said within `time`, or until a message has this line.
    fn hear(&self, time: Duration, until: &str) -> Vec<String> {
        let deadline = Instant::now() + time;
        let mut said: Vec<String> = Vec::new();
        let mut buffer = [0; 4096];
        while Instant::now() < deadline && !said.iter().any(|message| message.lines().any(|line| line == until)) {
            if let Ok(length) = self.socket.recv(&mut buffer) {
                said.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            }
        }
        said
    }
}

fn has(messages: &[String], line: &str) -> bool {
    messages.iter().any(|message| message.lines().any(|l| l == line))
}

#[test]
fn the_service_manager_hears_of_start_reload_state_and_end() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    let manager = Manager::new(&conf);
    let mut agent = manager.start(&lab, &conf, None);
    // Ready means that it captures.
    let said = manager.hear(SOON, "READY=1");
    assert!(has(&said, "READY=1"), "{said:?}");
    // The log is written by a thread of its own.
    agent.wait_for_log("classifier attached", SOON).unwrap();
    rounds(&lab, 5);
    let is_status = |message: &String| {
        message.strip_prefix("STATUS=ebpf on 1 interfaces: ").is_some_and(|status| status.contains(" samples, 0 lost"))
    };
    wait("a status", SOON, || manager.hear(Duration::from_millis(100), "").iter().any(is_status));

    let outcomes = [(None, "configuration reloaded"), (Some("nonsense"), "reload refused, configuration unchanged")];
    for (text, status) in outcomes {
        if let Some(text) = text {
            conf.write_text(text);
        }
        agent.signal(Signal::SIGHUP).unwrap();
        let said = manager.hear(SOON, "READY=1");
        let reloading = said.iter().find(|message| message.starts_with("RELOADING=1\n")).expect("it says so");
        let now: u64 = reloading.trim().rsplit_once("MONOTONIC_USEC=").unwrap().1.parse().unwrap();
        let uptime: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((uptime - now as f64 / 1e6).abs() < 5.0, "{now} is not the time");
        let ready = said.last().unwrap();
        assert!(ready.contains("READY=1") && ready.contains(&format!("STATUS={status}")), "{said:?}");
    }
    agent.signal(Signal::SIGTERM).unwrap();
    assert!(has(&manager.hear(SOON, "STOPPING=1"), "STOPPING=1"));
    assert_eq!(agent.finish().unwrap().status.code(), Some(0));
}

/// The thread of this name.
fn thread_of(agent: &Agent, name: &str) -> Pid {
    threads(agent.pid()).unwrap().iter().find(|thread| thread.name() == name).expect("there is such a thread").id
}

/// A thread of a process that is held, as a debugger does, until this is dropped: before its process is waited for.
struct Hung(Pid);

impl Hung {
    fn new(thread: Pid) -> Self {
        ptrace::seize(thread, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self(thread)
    }

    /// Waits for the thread's end, of which its tracer hears first.
    fn ends_within(&self, limit: Duration) {
        let ended = || waitpid(self.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
        wait("its end", limit, || !matches!(ended(), Ok(WaitStatus::StillAlive)));
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
        let _ = waitpid(self.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
    }
}

#[test]
fn the_watchdog_is_fed_only_while_the_capture_thread_makes_progress() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    let manager = Manager::new(&conf);
    let bite = Duration::from_secs(2);
    let mut agent = manager.start(&lab, &conf, Some(bite));
    manager.hear(SOON, "READY=1");
    for _ in 0..3 {
        assert!(has(&manager.hear(bite, "WATCHDOG=1"), "WATCHDOG=1"), "it is fed in time");
    }
    let hung = Hung::new(thread_of(&agent, "capture"));
    // What it did before it hung may count once more.
    manager.hear(bite / 2, "");
    let said = manager.hear(2 * bite, "WATCHDOG=1");
    assert!(!has(&said, "WATCHDOG=1"), "fed although nothing is captured: {said:?}");
    agent.wait_for_log("the capture thread makes no progress", SOON).unwrap();
    drop(hung);
    assert!(has(&manager.hear(bite, "WATCHDOG=1"), "WATCHDOG=1"), "it goes on, and is fed");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn it_stops_within_a_second_and_sends_what_it_has() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        in_time(signal.as_str(), || {
            let lab = lab();
            let server = statsd(&lab);
            let conf = Conf::usual(&[]);
            // No report is due before the end.
            let agent = Agent::start(&lab.a, conf.args_every("60")).unwrap();
            let longest = rounds(&lab, 10);
            let began = Instant::now();
            agent.signal(signal).unwrap();
            let finished = agent.finish().unwrap();
            let took = began.elapsed();
            println!("{signal}: {took:?}");
            assert_eq!(finished.status.code(), Some(0), "{signal}: {:?}", finished.stderr);
            let heard = wait_until(&server, "the last report", |heard| heard.rtts().len() >= 10);
            heard.assert_true_rtts(longest, signal.as_str());
            timely(took < Duration::from_secs(1), || format!("{took:?}"))
        });
    }
}

#[test]
fn a_signal_that_comes_with_the_first_line_stops_it_in_order() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].repeat(5) {
        let mut command = lab.a.namespace.command(binary().unwrap());
        let mut daemon = command.args(conf.args()).stderr(Stdio::piped()).spawn().unwrap();
        daemon.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        kill(Pid::from_raw(daemon.id().cast_signed()), signal).unwrap();
        let ended = daemon.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{signal}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn it_stops_within_a_second_though_the_capture_thread_hangs_or_the_server_does_not_read() {
    in_time("a thread that hangs", try_to_stop_with_a_thread_that_hangs);
}

fn try_to_stop_with_a_thread_that_hangs() -> Result<(), Late> {
    let lab = lab();
    let conf = Conf::new();
    let path = conf.folder().join("dsd.socket");
    conf.write(&[&format!("statsd_socket: {}", path.display())], super::support::USUAL);
    let _never_reads = UnixDatagram::bind(&path).unwrap();
    let agent = Agent::start(&lab.a, conf.args()).unwrap();
    rounds(&lab, 10);
    std::thread::sleep(Duration::from_secs(1));
    let hung = Hung::new(thread_of(&agent, "capture"));
    let began = Instant::now();
    agent.signal(Signal::SIGTERM).unwrap();
    // The end of a thread that is traced is the tracer's to hear of first.
    hung.ends_within(SOON);
    let took = began.elapsed();
    let finished = agent.finish().unwrap();
    println!("{took:?}: {:?}", finished.stderr);
    assert_eq!(finished.status.code(), Some(0), "{:?}", finished.stderr);
    assert!(
        finished.stderr.iter().any(|line| line.contains("the capture thread does not respond")),
        "{:?}",
        finished.stderr
    );
    timely(took < Duration::from_secs(1), || format!("{took:?}"))
}
