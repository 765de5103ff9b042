//! Signals that may be blocked when the process starts, and signals whose default action would end it for no reason.

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};

/// They ask for something, so none is to be blocked by what a careless supervisor had blocked (signal(7): the mask is
/// inherited).
const HANDLED: [Signal; 9] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
    Signal::SIGTSTP,
];

/// By default they end a process, and nobody means that: a file that has reached its limit fails with EFBIG, as a full
/// disk fails; the others are of timers and devices that this program does not use.
const IGNORED: [Signal; 7] = [
    Signal::SIGXFSZ,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
];

/// Smallest stack of the first thread that every verb gets along with.
const LEAST_STACK: u64 = 256 << 10;

/// Puts signals in order. To be called before there is another thread: threads inherit what is blocked.
pub(crate) fn settle() {
    let handled: SigSet = HANDLED.into_iter().collect();
    // What cannot be changed stays as it is.
    let _ = handled.thread_unblock();
    for signal in IGNORED {
        // SAFETY: ignoring a signal installs no function that could be called at a bad moment.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) };
    }
    for signal in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: as above; these are the real-time signals that the C library leaves to programs.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Signals that the daemon takes wait while this lives, in this thread and in those that it starts meanwhile. What
/// comes before there is a handler for it ends the process, and what comes while one is put in place gets lost: the
/// kernel calls it before its library has noted for whom (signal-hook-registry).
pub(crate) struct Held(SigSet);

impl Held {
    /// Holds them back until it is dropped.
    pub(crate) fn new() -> Self {
        let held: SigSet = HANDLED.into_iter().collect();
        Self(held.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap_or_else(|_| SigSet::empty()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.thread_set_mask();
    }
}

/// Why the first thread's stack is too small to go on, if it is: running out of it would end the process without a
/// reason.
pub(crate) fn stack_is_too_small() -> Option<String> {
    let (now, most) = getrlimit(Resource::RLIMIT_STACK).ok()?;
    (now < LEAST_STACK).then(|| {
        let remedy = if most >= LEAST_STACK { "" } else { " (as root, or in the unit: LimitSTACK=)" };
        format!("the stack is limited to {} KiB, too little to run: raise it with `ulimit -s 8192`{remedy}", now >> 10)
    })
}
