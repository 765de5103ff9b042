//! `go-metro reload`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Failure;
use crate::config;
use crate::status::Status;
use crate::status::client::{self, AskError};
use crate::terminal;

/// Longest wait for the daemon to apply or refuse the file: a name server that does not answer is waited for.
const LONGEST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub(super) struct Args {
    /// The daemon's Unix socket, `status_socket` of its configuration
    #[arg(short, long, value_name = "PATH", default_value = config::STATUS_SOCKET)]
    socket: PathBuf,
    /// The daemon's process ID [default: that of the process that listens on the socket]
    #[arg(long, value_name = "PID")]
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
    kill(Pid::from_raw(daemon), Signal::SIGHUP)
        .map_err(|error| Failure::running(&format!("cannot signal process {daemon}: {error}")))?;
    let Some(before) = before.as_ref().map(outcomes) else {
        let why = unasked(&listening, &args.socket);
        terminal::complain(&format!(
            "process {daemon} is asked to read its configuration again; whether it did, its log says: {why} (--socket \
             names another socket)\n"
        ));
        return Ok(());
    };
    let deadline = Instant::now() + LONGEST;
    while Instant::now() < deadline {
        thread::sleep(PAUSE);
        let status = client::status(&args.socket).map_err(failed)?;
        let now = outcomes(&status);
        if now.refused > before.refused {
            let refused = status.problems.into_iter().find(|problem| problem.starts_with("the configuration file"));
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
    fn why_a_daemon_cannot_be_asked_is_what_its_socket_says() {
        let socket = Path::new("/run/socket");
        assert_eq!(unasked(&Ok(Some(7)), socket), "another process answers at /run/socket");
        let refused = AskError::Refused { socket: "/run/socket".to_owned(), whose: String::new() };
        let said = unasked(&Err(refused), socket);
        assert!(said.starts_with("permission denied at /run/socket"), "{said}");
    }
}
