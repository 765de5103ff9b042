//! Standard error, standard output and the log as operators leave them: full, closed, hung up, never read, or a link
//! laid by somebody else. The daemon measures on.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testing_lab::Lab;
use testing_lab::agent::{NOTICE_CALLS, binary, run_once};

use super::support::{Conf, SOON, USUAL, lab, rounds, statsd, wait, wait_until};

/// A daemon whose standard streams are the test's affair; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    /// Starts it on host a with a status socket in the configuration's folder.
    pub(crate) fn start(lab: &Lab, conf: &Conf, more: &[&str], stdout: Stdio, stderr: Stdio) -> Self {
        let mut command = lab.a.namespace.command(binary().unwrap());
        command.args(conf.args()).args(more);
        Self::spawn(&mut command, conf, stdout, stderr)
    }

    pub(crate) fn spawn(command: &mut Command, conf: &Conf, stdout: Stdio, stderr: Stdio) -> Self {
        let socket = conf.folder().join("go-metro.sock");
        command.arg("--status-socket").arg(&socket).envs(NOTICE_CALLS).stdin(Stdio::null());
        let child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        Self { child, socket }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What it says of itself, if it answers.
    pub(crate) fn status(&self) -> Option<Value> {
        let told = run_once(["status", "--json", "--socket", self.socket.to_str().unwrap()]).unwrap();
        serde_json::from_str(&told.stdout.join("\n")).ok()
    }

    /// Waits until its status satisfies `enough`.
    pub(crate) fn wait(&self, what: &str, enough: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let deadline = Instant::now() + 3 * SOON;
        loop {
            let status = self.status();
            match status {
                Some(status) if enough(&status) => return status,
                other => last = other.or(last),
            }
            assert!(Instant::now() < deadline, "not in time: {what}; the last status: {last:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// How it ended by itself, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks it to stop; how it ended, and how long that took.
    pub(crate) fn stop(mut self) -> (Option<i32>, Duration) {
        let asked = Instant::now();
        self.signal(Signal::SIGTERM);
        wait("it ends", 2 * SOON, || self.ended().is_some());
        (self.ended().unwrap().code(), asked.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn attached(status: &Value) -> bool {
    status["interfaces"][0]["attached"] == true
}

fn lines_lost(status: &Value) -> u64 {
    status["happened"]["log_lines_lost"].as_u64().unwrap()
}

pub(crate) fn dev_full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// A pipe whose reader is gone.
pub(crate) fn closed_pipe() -> Stdio {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn standard_error_that_is_full_closed_or_hung_up_costs_lines_of_the_log_and_nothing_else() {
    let hung_up = || {
        let terminal = nix::pty::openpty(None, None).unwrap();
        drop(terminal.master);
        Stdio::from(terminal.slave)
    };
    let faults = [("/dev/full", dev_full()), ("a closed pipe", closed_pipe()), ("a terminal that hung up", hung_up())];
    for (what, stderr) in faults {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::usual(&[]);
        let daemon = Daemon::start(&lab, &conf, &[], Stdio::null(), stderr);
        let status = daemon.wait(what, attached);
        assert!(lines_lost(&status) > 0, "{what}: {status}");
        let degraded = daemon.wait(what, |status| status["state"] == "degraded");
        assert!(
            degraded["problems"].to_string().contains("lines of the log could not be written lately"),
            "{degraded}"
        );
        let longest = rounds(&lab, 10);
        let heard = wait_until(&server, what, |h| h.rtts().len() >= 10 && h.count("go_metro.log_lines_lost") > 0);
        heard.assert_true_rtts(longest, what);
        assert_eq!(daemon.stop().0, Some(0), "{what}");
    }
}

/// A FIFO of one page that is open at both ends, and nobody reads; its writing end.
pub(crate) fn unread_fifo(at: &Path) -> (File, File) {
    nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(at).unwrap();
    let writer = OpenOptions::new().write(true).open(at).unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    (reader, writer)
}

#[test]
fn a_reader_of_standard_error_that_does_not_read_holds_up_nothing() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::usual(&[]);
    let (mut reader, writer) = unread_fifo(&conf.folder().join("stderr"));
    let daemon = Daemon::start(&lab, &conf, &[], Stdio::null(), writer.into());
    daemon.wait("it is there", attached);
    // Each reload that is refused is a long line of the log, which quotes the value: seventy fill the queue.
    conf.write_text(&format!("init_config:\n  backend: {}\n", "x".repeat(15_000)));
    let status = daemon.wait("lines are lost", |status| {
        (0..50).for_each(|_| {
            daemon.signal(Signal::SIGHUP);
            thread::sleep(Duration::from_millis(5));
        });
        lines_lost(status) > 0
    });
    assert_eq!(status["state"], "degraded", "{status}");
    let longest = rounds(&lab, 10);
    wait_until(&server, "samples", |h| h.rtts().len() >= 10).assert_true_rtts(longest, "nobody reads the log");
    // The queue goes out once somebody does.
    let mut read = 0;
    let mut buffer = vec![0; 1 << 16];
    wait("the queue is written", SOON, || {
        read += reader.read(&mut buffer).unwrap_or(0);
        read > 32 << 10
    });
    // It would never end if it waited for its reader.
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn verbs_say_by_their_status_that_standard_output_cannot_be_written() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    let daemon = Daemon::start(&lab, &conf, &[], Stdio::null(), Stdio::null());
    daemon.wait("it is there", attached);
    let socket = conf.folder().join("go-metro.sock");
    let capture = conf.folder().join("empty.pcap");
    // The header of an empty capture of Ethernet frames (pcap(5)).
    let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    fs::write(&capture, header).unwrap();
    let (socket, capture, file) = (socket.to_str().unwrap(), capture.to_str().unwrap(), conf.path());
    let verbs: [&[&str]; 9] = [
        &["status", "--socket", socket],
        &["status", "--json", "--socket", socket],
        &["read", capture],
        &["read", capture, "-F", "csv"],
        &["check", "-c", file.to_str().unwrap()],
        &["config", "schema"],
        &["config", "init", "-", "-i", "lo"],
        &["completions", "bash"],
        &["--help"],
    ];
    for verb in verbs {
        let run = |stdout: Stdio, stderr: Stdio| {
            let mut command = lab.a.namespace.command(binary().unwrap());
            command.args(verb).envs(NOTICE_CALLS).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
            let output = command.spawn().unwrap().wait_with_output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, told) = run(dev_full(), Stdio::piped());
        assert_eq!(code, Some(1), "{verb:?}: {told}");
        assert!(told.contains("No space left on device"), "{verb:?}: {told}");
        assert_eq!(run(dev_full(), dev_full()).0, Some(1), "{verb:?} with nothing to write to");
        let (fine, _) = run(Stdio::null(), Stdio::null());
        assert_eq!(run(closed_pipe(), closed_pipe()).0, fine, "{verb:?} with a closed pipe");
        assert_eq!(run(closed_pipe(), Stdio::piped()).1, "", "{verb:?} with a closed pipe");
    }
    // An error that cannot be printed is an exit status all the same, never a signal.
    for stderr in [dev_full(), closed_pipe()] {
        let mut command = Command::new(binary().unwrap());
        let status = command.args(["read", "/nowhere"]).stdout(Stdio::null()).stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(1));
    }
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_log_file_that_is_a_link_a_fifo_or_somebody_elses_is_not_written() {
    let lab = lab();
    let conf = Conf::new();
    let at = |name: &str| conf.folder().join(name);
    fs::write(at("precious"), "kept").unwrap();
    symlink(at("precious"), at("link.log")).unwrap();
    fs::hard_link(at("precious"), at("hard.log")).unwrap();
    nix::unistd::mkfifo(&at("fifo.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(at("foreign.log"), "").unwrap();
    std::os::unix::fs::chown(at("foreign.log"), Some(65_534), None).unwrap();
    let refusals = [
        ("link.log", "it is a symbolic link"),
        ("hard.log", "it has another name"),
        ("fifo.log", "it is not a regular file"),
        ("foreign.log", "it belongs to user 65534"),
    ];
    for (name, why) in refusals {
        conf.write(&["log_to_file: true", &format!("log_file: {}", at(name).display())], USUAL);
        let agent = super::support::start(&lab, &conf);
        let log = agent.log().join("\n");
        assert!(log.contains(&format!("cannot log to {}: {why}", at(name).display())), "{log}");
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    }
    assert_eq!(fs::read_to_string(at("precious")).unwrap(), "kept");
    assert_eq!(fs::metadata(at("foreign.log")).unwrap().len(), 0);

    // A link that is laid while it runs is not followed either.
    let file = at("go-metro.log");
    conf.write(&["log_to_file: true", &format!("log_file: {}", file.display())], USUAL);
    fs::set_permissions(conf.folder(), fs::Permissions::from_mode(0o777)).unwrap();
    for umask in [0o000, 0o077] {
        let _ = fs::remove_file(&file);
        let mut command = lab.a.namespace.command(binary().unwrap());
        // SAFETY: umask(2) may be called between fork and exec.
        unsafe {
            command.args(conf.args()).pre_exec(move || {
                nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
                Ok(())
            });
        }
        let daemon = Daemon::spawn(&mut command, &conf, Stdio::null(), Stdio::null());
        daemon.wait("it is there", attached);
        wait("its log", SOON, || fs::read_to_string(&file).is_ok_and(|log| log.contains("everyone may write to it")));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640, "with the umask {umask:o}");
        fs::remove_file(&file).unwrap();
        symlink(at("precious"), &file).unwrap();
        daemon.signal(Signal::SIGHUP);
        daemon.wait("it reads its configuration again", |status| status["happened"]["reloads"] == 1);
        assert_eq!(daemon.stop().0, Some(0));
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "kept");
    }
}
