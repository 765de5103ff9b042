//! Signals: what stops the daemon and what makes it read its configuration again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::signals::Held;

/// Handlers, in place from the first moment on: a signal that comes while the daemon still starts is not lost, and does
/// not kill.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To stop, by the signal of this name.
    Stop(&'static str),
    /// To read the configuration again.
    Reload,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let _held = Held::new();
        // Tools send them to whatever daemon they meet; a handler stays though nobody waits for it.
        for kind in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            drop(signal(kind)?);
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            why = stop(&mut self.terminate, &mut self.interrupt, &mut self.quit) => Asked::Stop(why),
        }
    }

    /// The next signal that stops; one that asks for a reload waits meanwhile.
    pub(super) async fn stop(&mut self) -> &'static str {
        stop(&mut self.terminate, &mut self.interrupt, &mut self.quit).await
    }
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal, quit: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        _ = quit.recv() => "SIGQUIT",
    }
}
