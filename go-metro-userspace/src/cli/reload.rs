//! `go-metro reload`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Failure;
use crate::config;
use crate::status::client::{self, AskError};
use crate::status::{RELOAD_REFUSED, Status};
use crate::terminal::printable;

/// Longest wait for the daemon to apply or refuse the file: a name server that does not answer is waited for.
const LONGEST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// Exit status where the daemon was signalled, but cannot be asked for the outcome.
const UNKNOWN: u8 = 3;
/// The daemon's name in /proc/PID/comm.
const NAME: &str = "go-metro";

#[derive(clap::Args)]
pub(super) struct Args {
    /// The daemon's Unix socket, `status_socket` of its configuration
    #[arg(short, long, value_name = "PATH", default_value = config::STATUS_SOCKET)]
    socket: PathBuf,
    /// The daemon's process ID [default: that of the process that listens on the socket]
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
}

/// Sends SIGHUP and waits for the outcome, so that a service manager's reload fails when the file is refused.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let failed = |error: AskError| Failure::running(&error);
    let listening = client::process(&args.socket);
    let daemon = match (args.pid, &listening) {
        (Some(pid), _) => pid,
        (None, Ok(Some(pid))) => *pid,
        (None, Ok(None)) => {
            let why = "the daemon runs in another process namespace; run `go-metro reload` there";
            return Err(Failure::running(&why));
        }
        (None, Err(error)) => return Err(Failure::running(error)),
    };
    // A daemon without a socket, or with another one, can be signalled but not asked.
    let can_be_asked = matches!(listening, Ok(Some(pid)) if pid == daemon);
    let before = can_be_asked.then(|| client::status(&args.socket).map_err(failed)).transpose()?;
    if before.is_none() {
        check_process(daemon, Path::new("/proc")).map_err(|why| Failure::running(&why))?;
    }
    kill(Pid::from_raw(daemon), Signal::SIGHUP)
        .map_err(|error| Failure::running(&format!("cannot signal process {daemon}: {error}")))?;
    let Some(before) = before.as_ref().map(outcomes) else {
        let why = unasked(&listening, &args.socket);
        let message = format!(
            "process {daemon} was signalled, but whether it reloaded its configuration is unknown; see its log: {why} \
             (--socket names another socket)"
        );
        return Err(Failure { code: UNKNOWN, message });
    };
    let deadline = Instant::now() + LONGEST;
    while Instant::now() < deadline {
        thread::sleep(PAUSE);
        let status = client::status(&args.socket).map_err(failed)?;
        let now = outcomes(&status);
        if now.refused > before.refused {
            let refused = status.problems.into_iter().find(|problem| problem.starts_with(RELOAD_REFUSED));
            let why = refused.unwrap_or_else(|| "the daemon refused the configuration; see its log for why".to_owned());
            return Err(Failure::running(&why));
        }
        if now.applied > before.applied {
            return Ok(());
        }
    }
    let seconds = LONGEST.as_secs();
    Err(Failure::running(&format!("the reload did not finish within {seconds} s; see the daemon's log")))
}

/// How many reloads ended how, since the daemon started.
struct Outcomes {
    applied: u64,
    refused: u64,
}

fn outcomes(status: &Status) -> Outcomes {
    let count = |name: &str| status.happened.get(name);
    Outcomes { applied: count("reloads"), refused: count("reloads_refused") }
}

/// Checks that a process is go-metro, and reloads on SIGHUP: by default that signal ends a process. A file with another
/// name is recognised if it is the one that runs here.
fn check_process(pid: i32, proc: &Path) -> Result<(), String> {
    let folder = proc.join(pid.to_string());
    let read = |file: &str| {
        fs::read_to_string(folder.join(file)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if proc.join("self").exists() => {
                format!("process {pid} does not exist; nothing was signalled")
            }
            _ => format!("cannot find out whether process {pid} is go-metro, so it is not signalled: {error}"),
        })
    };
    let (name, status) = (read("comm")?, read("status")?);
    let file = |exe: &Path| fs::metadata(exe).map(|file| (file.dev(), file.ino())).ok();
    let ours = file(&proc.join("self/exe"));
    let name = name.trim_end();
    if name != NAME && (ours.is_none() || ours != file(&folder.join("exe"))) {
        return Err(format!("process {pid} is `{}`, not go-metro; nothing was signalled", printable(name)));
    }
    let caught = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
    if caught.is_some_and(|caught| caught & (1 << (Signal::SIGHUP as i32 - 1)) == 0) {
        return Err(format!("process {pid} is not a go-metro daemon: SIGHUP would end it; nothing was signalled"));
    }
    Ok(())
}

/// Why a daemon that is signalled cannot be asked, by what is found at the socket.
fn unasked(listening: &Result<Option<i32>, AskError>, socket: &Path) -> String {
    match listening {
        Err(error) => error.to_string(),
        Ok(_) => format!("another process answers at {}", socket.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_go_metro_and_handles_the_signal_is_signalled() {
        let proc = tempfile::tempdir().unwrap();
        let put = |pid: &str, (comm, caught): (&str, &str), exe: &str| {
            let folder = proc.path().join(pid);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(folder.join("status"), format!("Name:\t{comm}\nSigCgt:\t{caught}\n")).unwrap();
            fs::write(proc.path().join(exe), "").unwrap();
            std::os::unix::fs::symlink(proc.path().join(exe), folder.join("exe")).unwrap();
        };
        put("self", ("go-metro", "0"), "ours");
        put("7", ("go-metro", "0000000000004003"), "older");
        put("8", ("renamed", "0000000000000001"), "ours");
        put("9", ("sleep\u{1b}[2J", "0000000000000001"), "sleep");
        put("10", ("go-metro", "0000000000004002"), "ours");
        let check = |pid| check_process(pid, proc.path());
        assert_eq!((check(7), check(8)), (Ok(()), Ok(())));
        let other = check(9).unwrap_err();
        assert!(other.starts_with("process 9 is `sleep") && other.ends_with("`, not go-metro; nothing was signalled"));
        assert!(!other.contains('\u{1b}'), "{other:?}");
        assert!(check(10).unwrap_err().contains("not a go-metro daemon: SIGHUP would end it"));
        assert!(check(11).unwrap_err().contains("process 11 does not exist"));
        fs::remove_file(proc.path().join("7/status")).unwrap();
        fs::create_dir(proc.path().join("7/status")).unwrap();
        assert!(check(7).unwrap_err().contains("cannot find out whether process 7 is go-metro"));
    }

    #[test]
    fn why_a_daemon_cannot_be_asked_is_what_its_socket_says() {
        let socket = Path::new("/run/socket");
        assert_eq!(unasked(&Ok(Some(7)), socket), "another process answers at /run/socket");
        let refused = AskError::Refused { socket: "/run/socket".to_owned(), whose: String::new() };
        let said = unasked(&Err(refused), socket);
        assert!(said.starts_with("permission denied at /run/socket"), "{said}");
    }
}
