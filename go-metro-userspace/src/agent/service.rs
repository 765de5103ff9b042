//! The service manager's side (sd_notify(3)): what state the agent is in, and that it still makes progress.
//!
//! Everything here does nothing where no manager listens (`NOTIFY_SOCKET` is not set).

use std::time::Duration;

use sd_notify::NotifyState;

/// How many times the watchdog is fed in the time after which it bites.
const FEEDINGS: u32 = 3;

/// What the service manager is told.
pub(super) struct Service {
    watchdog: Option<Duration>,
    fed_at_beat: Option<u64>,
}

impl Service {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(super) fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), fed_at_beat: None }
    }

    /// How often to call [`Self::feed`]; `None` if there is no watchdog.
    pub(super) fn feed_every(&self) -> Option<Duration> {
        self.watchdog.map(|bite| (bite / FEEDINGS).max(Duration::from_millis(1)))
    }

    /// Capture runs, with this to say about it.
    pub(super) fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The configuration is being read again; [`Self::ready`] ends it.
    pub(super) fn reloading(&self) {
        // systemd from 253 (`Type=notify-reload`) wants the time with it.
        let Ok(now) = NotifyState::monotonic_usec_now() else { return };
        tell(&[NotifyState::Reloading, now]);
    }

    /// How things are, in one line for people.
    pub(super) fn status(&self, status: &str) {
        tell(&[NotifyState::Status(status)]);
    }

    /// The last report is on its way.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("sending the last report")]);
    }

    /// Feeds the watchdog if the capture thread got on since the last time: `beat` is how often it has gone round. An agent whose
    /// loop runs but which no longer measures is to be restarted.
    pub(super) fn feed(&mut self, beat: u64) {
        if self.fed_at_beat == Some(beat) {
            tracing::warn!("the capture thread makes no progress; the watchdog is not fed");
            return;
        }
        self.fed_at_beat = Some(beat);
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager does not listen: {error}");
    }
}
