//! A machine with a real systemd as its first process, in namespaces of its own, on a host of the lab.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};
use testing_support::workspace::{root, shown};

use super::shipped::shipped;

/// The path's round-trip time.
pub(crate) const RTT: Duration = Duration::from_millis(5);
/// How long it may take to start, to install, to restart.
const LIMIT: Duration = Duration::from_secs(120);

/// It is gone, with all its processes, when this is dropped.
pub(crate) struct Machine {
    pub(crate) lab: Lab,
    init: Child,
    pid: u32,
    _work: TempDir,
}

impl Machine {
    /// Starts it, with what was shipped in `/mnt/packages`, the repository in `/mnt/repository`, and the lab's host b
    /// behind its default route.
    pub(crate) fn start() -> Self {
        let lab = Lab::new(Link::Veth).unwrap();
        lab.path().set_rtt(RTT);
        lab.a.namespace.ip(&format!("route add default via {}", lab.b.v4)).unwrap();
        let work = tempfile::tempdir().unwrap();
        let mut command = lab.a.namespace.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts", "--ipc", "sh", "-c"]);
        command
            .args([include_str!("boot.sh"), "boot.sh"])
            .arg(work.path())
            .arg(shipped())
            .arg(root())
            .stdin(Stdio::null());
        let init = command.spawn().unwrap();
        let pid = wait("the machine's first process is systemd", || {
            let path = format!("/proc/{0}/task/{0}/children", init.id());
            let pid: u32 = fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()?;
            (fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() == "systemd").then_some(pid)
        });
        let machine = Self { lab, init, pid, _work: work };
        wait("the machine is up", || {
            let state = machine.try_run("systemctl is-system-running");
            ["running\n", "degraded\n"].contains(&&*String::from_utf8_lossy(&state.stdout)).then_some(())
        });
        machine
    }

    /// Runs a line of shell on it, as root.
    pub(crate) fn try_run(&self, line: &str) -> Output {
        let pid = self.pid.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net"]);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
            .args(["sh", "-c", &format!("cd /\n{line}")])
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("{}: {e}", shown(&command)))
    }

    /// Runs a line of shell that must succeed; what it printed.
    pub(crate) fn run(&self, line: &str) -> String {
        let output = self.try_run(line);
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            let journal = self.try_run("journalctl --unit go-metro --no-pager | tail -30").stdout;
            panic!("`{line}`: {}\n{said}{error}\n{}", output.status, String::from_utf8_lossy(&journal));
        }
        said.trim().to_owned()
    }

    /// Whether a line of shell succeeds.
    pub(crate) fn can(&self, line: &str) -> bool {
        self.try_run(line).status.success()
    }

    /// A property of the service, as systemd has it.
    pub(crate) fn property(&self, name: &str) -> String {
        self.run(&format!("systemctl show go-metro --value --property {name}"))
    }

    /// Drives rounds to host b, and waits until the daemon says that it has timed as many.
    pub(crate) fn measures(&self) {
        self.measures_by("go-metro");
    }

    /// The same of a daemon that is asked by this command.
    pub(crate) fn measures_by(&self, go_metro: &str) {
        // Well or degraded; not there yet is nothing.
        let status = || -> Option<Value> {
            let output = self.try_run(&format!("{go_metro} status --json"));
            serde_json::from_slice(&output.stdout).ok()
        };
        let samples = || status()?["samples"]["data"].as_u64();
        let rounds = Rounds { count: 10, ..Rounds::default() };
        let server = Server::v4(&self.lab.b, rounds.service()).unwrap();
        // What was sent before it captured is not timed.
        wait("the service captures", || (status()?["interfaces"][0]["attached"] == true).then_some(()));
        let before = samples().unwrap();
        rounds.drive(&mut connect(&self.lab.a, server.address()).unwrap()).unwrap();
        wait("the rounds are timed", || (samples()? >= before + 10).then_some(()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The namespaces' first process, and with it all.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

/// Waits until there is something.
pub(crate) fn wait<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(it) = get() {
            return it;
        }
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
