//! The service manager's side (sd_notify(3)): what state the daemon is in, and that it still makes progress.
//!
//! Everything here does nothing where no manager listens (`NOTIFY_SOCKET` is not set). Nothing waits for a manager that
//! does not read: what it does not take is counted, and the last state is sent again.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::logging::OnceInAWhile;

/// How many times the watchdog is fed in the time after which it bites.
const FEEDINGS: u32 = 3;
/// Longest time of a watchdog that is believed.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Whether the capture thread got on since the watchdog was last to be fed.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Made,
    /// It did not; and whether the log is to have it.
    None {
        say: bool,
    },
}

/// What the service manager is told.
#[derive(Default)]
pub(super) struct Service {
    /// Where it listens.
    address: Option<OsString>,
    watchdog: Option<Duration>,
    fed_at_beat: Option<u64>,
    stands_still: bool,
    said_still: OnceInAWhile,
    /// Messages that it did not take.
    lost: u64,
    /// A state that it has not taken yet.
    owed: Option<String>,
    /// Whether it did not take the last message because it does not read.
    is_full: bool,
}

impl Service {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(super) fn from_environment() -> Self {
        // systemd.service(5): 0 turns it off.
        let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero()).map(|time| time.min(LONGEST));
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        Self { address, watchdog, ..Self::default() }
    }

    /// How often to call [`Self::feed`]; `None` if there is no watchdog.
    pub(super) fn feed_every(&self) -> Option<Duration> {
        self.watchdog.map(|bite| (bite / FEEDINGS).max(Duration::from_millis(1)))
    }

    /// Capture runs, with this to say about it.
    pub(super) fn ready(&mut self, status: &str) {
        self.tell_state(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The configuration is being read again; [`Self::ready`] ends it.
    pub(super) fn reloading(&mut self) {
        // systemd from 253 (`Type=notify-reload`) wants the time with it.
        let Ok(now) = NotifyState::monotonic_usec_now() else { return };
        self.tell_state(&[NotifyState::Reloading, now]);
    }

    /// How things are, in one line for people.
    pub(super) fn status(&mut self, status: &str) {
        self.tell(&text(&[NotifyState::Status(status)]));
    }

    /// The last report is on its way.
    pub(super) fn stopping(&mut self) {
        self.tell_state(&[NotifyState::Stopping, NotifyState::Status("sending the last report")]);
    }

    /// Feeds the watchdog if the capture thread got on since the last time: `beat` is how often it has gone round. An
    /// daemon whose loop runs but which no longer measures is to be restarted.
    pub(super) fn feed(&mut self, beat: u64) {
        match self.progress(beat) {
            Progress::Made => _ = self.tell(&text(&[NotifyState::Watchdog])),
            Progress::None { say: true } => {
                tracing::warn!("the capture thread makes no progress; not feeding the watchdog");
            }
            Progress::None { say: false } => {}
        }
    }

    fn progress(&mut self, beat: u64) -> Progress {
        if self.fed_at_beat == Some(beat) {
            // With a watchdog faster than the capture thread it stands still again and again.
            let is_new = !std::mem::replace(&mut self.stands_still, true);
            return Progress::None { say: is_new && self.said_still.may_say() };
        }
        self.fed_at_beat = Some(beat);
        self.stands_still = false;
        Progress::Made
    }

    /// Sends the last state again, if it was not taken.
    pub(super) fn retry(&mut self) {
        if let Some(state) = self.owed.take()
            && !self.tell(&state)
        {
            self.owed = Some(state);
        }
    }

    /// Messages that the manager did not take.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// That the manager does not read, if so.
    pub(super) fn problem(&self) -> Option<String> {
        self.is_full.then(|| {
            format!("the service manager does not read NOTIFY_SOCKET; {} messages to it are lost so far", self.lost)
        })
    }

    fn tell_state(&mut self, states: &[NotifyState<'_>]) {
        let state = text(states);
        self.owed = (!self.tell(&state)).then_some(state);
    }

    /// Whether the manager took it, or there is none.
    fn tell(&mut self, message: &str) -> bool {
        let Some(address) = &self.address else { return true };
        let Err(error) = send(address.as_bytes(), message.as_bytes()) else {
            self.is_full = false;
            return true;
        };
        self.lost += 1;
        let is_full = error.kind() == io::ErrorKind::WouldBlock;
        if is_full && !self.is_full {
            tracing::warn!("the service manager does not read its messages; dropping and counting them");
        } else if !is_full {
            tracing::debug!("the service manager does not listen: {error}");
        }
        self.is_full = is_full;
        // Nobody is there to be told later.
        !is_full
    }
}

fn text(states: &[NotifyState<'_>]) -> String {
    states.iter().fold(String::new(), |mut text, state| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{state}");
        text
    })
}

/// Sends a datagram to a path, or to an abstract name, which is written with `@` (sd_notify(3)). Never waits.
fn send(address: &[u8], message: &[u8]) -> io::Result<()> {
    let address = match address {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_thread_slower_than_the_watchdog_is_said_once() {
        let mut service = Service::default();
        // WATCHDOG_USEC=1000 asks each millisecond; the thread goes round once in three.
        let asked: Vec<Progress> = (0..3000).map(|time| service.progress(time / 3)).collect();
        assert_eq!(asked.iter().filter(|progress| **progress == Progress::Made).count(), 1000);
        assert_eq!(asked.iter().filter(|progress| **progress == Progress::None { say: true }).count(), 1);
    }
}
