//! A daemon with a configuration file and a DogStatsD server, and traffic for it to measure.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use tempfile::TempDir;
use testing_lab::agent::Agent;
pub(crate) use testing_lab::agent::Backend;
pub(crate) use testing_lab::soon::{SOON, wait};
use testing_lab::statsd::{Listener, Metric};
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};

/// The path's round-trip time: no true sample is shorter.
pub(crate) const RTT: Duration = Duration::from_millis(5);
/// Time between reports.
const INTERVAL: &str = "0.3";

/// Two hosts 5 ms apart.
pub(crate) fn lab() -> Lab {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(RTT);
    lab
}

/// A configuration file in a folder of its own.
pub(crate) struct Conf {
    directory: TempDir,
}

impl Conf {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// With these lines in `init_config`, and host b's addresses on eth0.
    pub(crate) fn usual(init: &[&str]) -> Self {
        let conf = Self::new();
        conf.write(init, USUAL);
        conf
    }

    pub(crate) fn write(&self, init: &[&str], instances: &str) {
        let init: String = init.iter().map(|line| format!("  {line}\n")).collect();
        self.write_text(&format!("init_config:\n  reverse_dns: false\n{init}instances:\n{instances}"));
    }

    pub(crate) fn write_text(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("conf.yaml")
    }

    /// Where the daemon is asked for its status, if its configuration has this line.
    pub(crate) fn status_line(&self) -> String {
        format!("status_socket: {}", self.socket().display())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("go-metro.sock")
    }

    /// The daemon's status document.
    pub(crate) fn status(&self) -> serde_json::Value {
        testing_lab::agent::status(&self.socket()).unwrap()
    }

    /// What is in the daemon's way, joined; nothing if all is well.
    pub(crate) fn problems(&self) -> String {
        let status = self.status();
        let problems = status["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap());
        problems.collect::<Vec<_>>().join("; ")
    }

    /// Arguments that run with it, and report often.
    pub(crate) fn args(&self) -> Vec<String> {
        self.args_every(INTERVAL)
    }

    /// Arguments that run with it, and report every so many seconds.
    pub(crate) fn args_every(&self, interval: &str) -> Vec<String> {
        let path = self.path();
        ["run", "-c", path.to_str().unwrap(), "--output", "statsd", "--interval", interval].map(str::to_owned).to_vec()
    }
}

/// The instance of most tests.
pub(crate) const USUAL: &str = "  - interface: eth0\n    ips: [10.77.0.0/24]\n";

/// A backend, as a line of the configuration.
pub(crate) fn backend(backend: Backend) -> String {
    format!("backend: {}", backend.name())
}

/// An agent on host a with this configuration.
pub(crate) fn start(lab: &Lab, conf: &Conf) -> Agent {
    Agent::start(&lab.a, conf.args()).unwrap()
}

/// Where its reports go by default.
pub(crate) fn statsd(lab: &Lab) -> Listener {
    Listener::udp(&lab.a, 8125).unwrap()
}

/// Everything that a server has heard, line by line; a line that no server would take fails the test.
pub(crate) struct Heard(pub(crate) Vec<Metric>);

impl Heard {
    pub(crate) fn by(server: &Listener) -> Self {
        Self(server.metrics().unwrap())
    }

    /// All that was counted under this name, over all tags.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.0.iter().filter(|metric| metric.name == name && metric.kind == "c").map(|m| m.values[0] as u64).sum()
    }

    /// The last value of a gauge.
    pub(crate) fn gauge(&self, name: &str) -> Option<f64> {
        Some(self.0.iter().rev().find(|metric| metric.name == name && metric.kind == "g")?.values[0])
    }

    /// RTTs of data segments, in milliseconds.
    pub(crate) fn rtts(&self) -> Vec<f64> {
        self.0.iter().filter(|metric| metric.name == "system.net.tcp.rtt.dist").flat_map(|m| m.values.clone()).collect()
    }

    /// The peers, as tags name them.
    pub(crate) fn peers(&self) -> Vec<String> {
        let mut peers: Vec<String> = self.0.iter().filter_map(|metric| metric.tag("dst")).map(str::to_owned).collect();
        peers.sort();
        peers.dedup();
        peers
    }

    /// Fails unless there are RTTs and none is shorter than the path or longer than a round took.
    pub(crate) fn assert_true_rtts(&self, longest: Duration, what: &str) {
        let rtts = self.rtts();
        // The acknowledgement of a FIN may be kept back for 40 ms, and no round waits for it.
        let (least, most) = (RTT.as_secs_f64() * 1e3, longest.as_secs_f64() * 1e3 + 60.0);
        assert!(!rtts.is_empty(), "{what}: no samples");
        let wrong: Vec<&f64> = rtts.iter().filter(|rtt| !(least..=most).contains(*rtt)).collect();
        assert!(wrong.is_empty(), "{what}: not within {least}..{most} ms: {wrong:?} of {}", rtts.len());
    }
}

/// Waits until what the server has heard satisfies `enough`.
pub(crate) fn wait_until(server: &Listener, what: &str, enough: impl Fn(&Heard) -> bool) -> Heard {
    let deadline = Instant::now() + SOON;
    loop {
        let heard = Heard::by(server);
        if enough(&heard) {
            return heard;
        }
        if Instant::now() >= deadline {
            let counts: Vec<_> = heard.0.iter().rev().take(40).map(|m| (m.name.clone(), m.values[0])).collect();
            panic!("not within {SOON:?}: {what}; last heard: {counts:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Drives `count` rounds to host b on a connection of their own; the longest.
pub(crate) fn rounds(lab: &Lab, count: usize) -> Duration {
    let rounds = Rounds { count, ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    let exchange = rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
    exchange.times.into_iter().max().unwrap()
}

/// Runs `during` while rounds go on over one connection; what that gave, and the longest round.
pub(crate) fn while_talking<T>(lab: &Lab, during: impl FnOnce() -> T) -> (T, Duration) {
    let (outcome, longest, _) = while_counting(lab, during);
    (outcome, longest)
}

/// As [`while_talking`], with the number of rounds.
pub(crate) fn while_counting<T>(lab: &Lab, during: impl FnOnce() -> T) -> (T, Duration, usize) {
    let rounds = Rounds { count: 1, pause: Duration::from_millis(5), ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    let mut stream = connect(&lab.a, server.address()).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let talker = scope.spawn(|| {
            let (mut longest, mut count) = (Duration::ZERO, 0);
            while !stop.load(Ordering::Relaxed) {
                longest = longest.max(rounds.drive(&mut stream).unwrap().times[0]);
                count += 1;
            }
            (longest, count)
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        stop.store(true, Ordering::Relaxed);
        let (longest, count) = talker.join().unwrap();
        match outcome {
            Ok(outcome) => (outcome, longest, count),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Does something when dropped, whatever happens to the test.
pub(crate) struct Finally<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A file system with room for 64 KiB, unmounted when dropped, whatever happens to the test.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    pub(crate) fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// From now on nobody can write to it.
    pub(crate) fn forbid_writing(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, self.path(), None::<&str>, flags, None::<&str>).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount(self.path());
    }
}

/// What strace(1) does to system calls of an agent, until it is dropped.
pub(crate) struct Injected(std::process::Child);

impl Injected {
    /// With these arguments, which say which calls and what becomes of them.
    pub(crate) fn start(agent: &Agent, what: &[&str]) -> Self {
        let mut strace = std::process::Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-p", &agent.pid().to_string()]).args(what);
        strace.stdin(std::process::Stdio::null());
        let strace = strace.spawn().expect("strace injects the fault; `cargo xtask setup` installs it");
        let status = format!("/proc/{}/status", agent.pid());
        let is_traced = || {
            let status = fs::read_to_string(&status).unwrap();
            status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
        };
        wait("strace has attached", SOON, is_traced);
        Self(strace)
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        wait("strace lets go", SOON, || self.0.try_wait().unwrap().is_some());
    }
}
