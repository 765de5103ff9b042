//! The real `go-metro` as a black box: started in a host's namespace, watched through what it prints.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use testing_support::workspace::quoted;

use super::Host;

/// Names the agent's binary.
pub const BINARY_VARIABLE: &str = "GO_METRO_BIN";
/// A system call that it should have no use for ends it, instead of failing unnoticed.
pub const NOTICE_CALLS: [(&str, &str); 1] = [("GO_METRO_SANDBOX", "kill")];
/// What the agent logs once it sees the traffic of an interface.
const READY: &str = "capturing on";
/// How long it may take until then: loading means verification, and others may use the machine.
const START: Duration = Duration::from_secs(60);
/// How long it may take to stop. It bounds a failure; how quick a stop is has tests of its own.
const STOP: Duration = Duration::from_secs(60);

/// The agent's binary: what [`BINARY_VARIABLE`] names, or else the one in cargo's target directory, newest first.
///
/// # Errors
///
/// There is none; says how to build it.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY_VARIABLE) {
        return Ok(path.into());
    }
    let target = testing_support::workspace::target();
    let built = ["debug", "release"].map(|profile| target.join(profile).join("go-metro"));
    built
        .into_iter()
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .context("no go-metro binary; run `cargo xtask build-ebpf && cargo build -p go-metro-userspace`")
}

/// [`binary`], as a word of a shell's line: its path may have spaces.
///
/// # Errors
///
/// As [`binary`].
pub fn shell_word() -> Result<String> {
    Ok(quoted(binary()?.as_os_str()))
}

/// The agent's source of segments, as `--backend` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The classifier.
    Ebpf,
    /// libpcap.
    Pcap,
}

impl Backend {
    /// Every one.
    pub const BOTH: [Self; 2] = [Self::Ebpf, Self::Pcap];

    /// What `--backend` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Pcap => "pcap",
        }
    }
}

/// One line of `--output json --samples`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// When the acknowledgement came, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// Sender of the acknowledged segment.
    pub local: std::net::SocketAddr,
    /// Sender of the acknowledgement.
    pub remote: std::net::SocketAddr,
    /// Raw acknowledgement number.
    pub ack: u32,
    /// The round-trip time in nanoseconds.
    pub rtt_ns: u64,
    /// `data` or `connect`.
    pub kind: String,
    /// `exact`, `partial` or `timestamp`.
    pub class: String,
    /// Whether the receiver kept the acknowledgement back.
    #[serde(default)]
    pub delayed: bool,
    /// `local` where the round trip went to the local end.
    #[serde(default)]
    pub side: Option<String>,
}

impl Sample {
    /// The round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        Duration::from_nanos(self.rtt_ns)
    }

    /// Whether the round trip went to the local end.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.side.as_deref() == Some("local")
    }

    /// Whether it timed data, not a handshake.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.kind == "data"
    }
}

/// Parses the samples among lines of output.
///
/// # Errors
///
/// A line that looks like a sample and is none.
pub fn samples(lines: &[String]) -> Result<Vec<Sample>> {
    lines
        .iter()
        .filter(|line| line.contains("\"rtt_ns\""))
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a sample: {line}")))
        .collect()
}

/// Lines that a thread collects from a pipe.
#[derive(Debug, Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    more: Condvar,
    /// Whether the thread is to close its pipe at the next line.
    closes: AtomicBool,
}

impl Lines {
    fn collect(self: &Arc<Self>, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if lines.closes.load(Ordering::Relaxed) {
                    return;
                }
                lines.lock().push(line);
                lines.more.notify_all();
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough` says so of the lines.
    fn wait(&self, deadline: Instant, mut enough: impl FnMut(&[String]) -> bool) -> bool {
        let mut lines = self.lock();
        loop {
            if enough(&lines) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            lines = self.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
}

/// What is left of an agent.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: Vec<String>,
    /// What it logged.
    pub stderr: Vec<String>,
}

impl Finished {
    /// The samples that it printed.
    ///
    /// # Errors
    ///
    /// As [`samples`].
    pub fn samples(&self) -> Result<Vec<Sample>> {
        samples(&self.stdout)
    }
}

impl Agent {
    /// Starts `go-metro` with these arguments on `host`, and returns at once.
    ///
    /// # Errors
    ///
    /// There is no binary, or it cannot be run.
    pub fn spawn<S: AsRef<std::ffi::OsStr>>(host: &Host, args: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::spawn_command(host.namespace.command(binary()?).args(args))
    }

    /// Starts a command that was prepared by [`super::Namespace::command`].
    ///
    /// # Errors
    ///
    /// It cannot be run.
    pub fn spawn_command(command: &mut Command) -> Result<Self> {
        // What the machine happens to have set must not reach the reports.
        for name in ["DD_AGENT_HOST", "DD_DOGSTATSD_PORT", "DD_DOGSTATSD_URL", "DD_ENTITY_ID", "DD_ENV", "DD_SERVICE"] {
            command.env_remove(name);
        }
        // The test itself may run under an exporter; what `command` sets is kept.
        let set: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        let inherited = std::env::vars_os().map(|(name, _)| name).filter(|name| !set.contains(name));
        inherited.filter(|name| name.to_string_lossy().starts_with("OTEL_")).for_each(|name| {
            command.env_remove(name);
        });
        let mut child = command
            .env("NO_COLOR", "1")
            .envs(NOTICE_CALLS)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
        let (stdout, stderr) = (Arc::<Lines>::default(), Arc::<Lines>::default());
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|pipe| stdout.collect(pipe)));
        readers.extend(child.stderr.take().map(|pipe| stderr.collect(pipe)));
        Ok(Self { child, stdout, stderr, readers })
    }

    /// Starts it and waits until it sees the traffic of one interface.
    ///
    /// # Errors
    ///
    /// As [`Agent::spawn`] and [`Agent::ready`].
    pub fn start<S: AsRef<std::ffi::OsStr>>(host: &Host, args: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut agent = Self::spawn(host, args)?;
        agent.ready()?;
        Ok(agent)
    }

    /// Waits until it sees the traffic of an interface.
    ///
    /// # Errors
    ///
    /// It ended, or takes too long; the error has what it logged.
    pub fn ready(&mut self) -> Result<()> {
        self.wait_for_log(READY, START)
    }

    /// Waits for a line of its log that contains `text`.
    ///
    /// # Errors
    ///
    /// It ended, or takes longer than `limit`; the error has what it logged.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let soon = (Instant::now() + Duration::from_millis(100)).min(deadline);
            if self.stderr.wait(soon, |lines| lines.iter().any(|line| line.contains(text))) {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                let log = self.stderr.lock().join("\n");
                match ended {
                    Some(status) => bail!("go-metro ended ({status}) before it said {text:?}; its log:\n{log}"),
                    None => bail!("go-metro did not say {text:?} within {limit:?}; its log:\n{log}"),
                }
            }
        }
    }

    /// Waits until its output satisfies `enough`; false if that takes longer than `limit`.
    #[must_use]
    pub fn wait_for_output(&self, limit: Duration, enough: impl FnMut(&[String]) -> bool) -> bool {
        self.stdout.wait(Instant::now() + limit, enough)
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.stdout.lock().clone()
    }

    /// The last line that it printed and that is `wanted`.
    #[must_use]
    pub fn last_output(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.stdout.lock().iter().rev().find(|line| wanted(line)).cloned()
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.stderr.lock().clone()
    }

    /// Does something while nobody reads its log.
    pub fn without_reading_the_log<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        // The reader cannot keep its line, so it reads no other.
        let lines = self.stderr.lock();
        let done = meanwhile();
        drop(lines);
        done
    }

    /// Does something while the pipe of its log has no reader from the next line on.
    ///
    /// # Errors
    ///
    /// The pipe cannot be opened again.
    pub fn without_a_reader_of_the_log<T>(&self, meanwhile: impl FnOnce() -> T) -> Result<T> {
        self.stderr.closes.store(true, Ordering::Relaxed);
        let done = meanwhile();
        self.stderr.closes.store(false, Ordering::Relaxed);
        // Its end of the pipe leads to the other one.
        let pipe = File::open(format!("/proc/{}/fd/2", self.pid())).context("cannot read the log again")?;
        self.stderr.collect(pipe);
        Ok(done)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("cannot send {signal}"))
    }

    /// Whether a signal that was sent to it waits until it is taken: `ShdPnd` (proc_pid_status(5)).
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn awaits(&self, signal: Signal) -> Result<bool> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).context("no pending signals")?;
        Ok(u64::from_str_radix(pending.trim(), 16)? & (1 << (signal as i32 - 1)) != 0)
    }

    /// Stops all its threads where they are (SIGSTOP), and returns once none runs any more; SIGCONT lets them go on.
    ///
    /// # Errors
    ///
    /// It is gone, or a thread goes on.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let deadline = Instant::now() + STOP;
        while !self.is_frozen()? {
            if Instant::now() > deadline {
                bail!("go-metro goes on after {}", Signal::SIGSTOP);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether each thread is stopped: `T`, the field after the name in parentheses (proc_pid_stat(5)).
    fn is_frozen(&self) -> Result<bool> {
        let mut tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()))?;
        let stopped = |task: std::io::Result<std::fs::DirEntry>| -> Result<bool> {
            let stat = std::fs::read_to_string(task?.path().join("stat"))?;
            Ok(stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T')))
        };
        tasks.try_fold(true, |all, task| Ok(all && stopped(task)?))
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn stop(self) -> Result<Finished> {
        // One that has ended by itself tells by its status.
        let _ = self.signal(Signal::SIGTERM);
        self.finish()
    }

    /// Sends SIGKILL and waits for its end.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub fn kill(self) -> Result<Finished> {
        let _ = self.signal(Signal::SIGKILL);
        self.finish()
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn finish(mut self) -> Result<Finished> {
        let deadline = Instant::now() + STOP;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("go-metro does not stop; its log:\n{}", self.log().join("\n"));
            }
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Ok(Finished { status, stdout: self.output(), stderr: self.log() })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs `go-metro` to its end, outside of any namespace.
///
/// # Errors
///
/// There is no binary, or it cannot be run.
pub fn run_once<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Finished> {
    let output = Command::new(binary()?).args(args).env("NO_COLOR", "1").envs(NOTICE_CALLS).output()?;
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
    Ok(Finished { status: output.status, stdout: lines(&output.stdout), stderr: lines(&output.stderr) })
}

/// The status document of the daemon at a socket, which is asked until it answers: it may be about to start, or say
/// that it is busy.
///
/// # Errors
///
/// It does not answer; with what was said last.
pub fn status(socket: &Path) -> Result<serde_json::Value> {
    let deadline = Instant::now() + START;
    loop {
        let said = run_once(["status".as_ref(), "--json".as_ref(), "--socket".as_ref(), socket.as_os_str()])?;
        match serde_json::from_str(&said.stdout.concat()) {
            Ok(status) => return Ok(status),
            Err(error) if Instant::now() > deadline => bail!("{error}: {said:?}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Samples of a capture file, as `go-metro read` finds them.
///
/// # Errors
///
/// It fails, or prints what is no sample.
pub fn read_samples(file: &Path, local: std::net::IpAddr) -> Result<Vec<Sample>> {
    let local = local.to_string();
    let finished =
        run_once(["read".as_ref(), file.as_os_str(), "--local".as_ref(), local.as_ref(), "--samples".as_ref()])?;
    if !finished.status.success() {
        bail!("go-metro read failed ({}):\n{}", finished.status, finished.stderr.join("\n"));
    }
    finished.samples()
}
