//! Signals that may be blocked when the process starts, and signals whose default action would end it for no reason.

use std::io;

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

/// They ask a program to end.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

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
        Self::hold(&HANDLED)
    }

    /// Holds back those that ask a program to end, while a thread is started. It inherits that for good: one that does
    /// not would take such a signal, with its default action, although the first thread holds it back for
    /// [`Endings`].
    pub(crate) fn endings() -> Self {
        Self::hold(&ENDING)
    }

    fn hold(signals: &[Signal]) -> Self {
        let held: SigSet = signals.iter().copied().collect();
        Self(held.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap_or_else(|_| SigSet::empty()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.thread_set_mask();
    }
}

/// Signals that ask a program to end, held back in this thread and in those that it starts, for a thread that waits for
/// them.
#[derive(Clone, Copy)]
pub(crate) struct Endings(SigSet);

impl Endings {
    /// Holds them back, for good.
    ///
    /// # Errors
    ///
    /// The kernel does not go along.
    pub(crate) fn hold() -> io::Result<Self> {
        // A terminal that hangs up is no reason to end for who was started by nohup(1).
        let is_meant = |signal: &Signal| *signal != Signal::SIGHUP || !is_ignored(*signal);
        let held: SigSet = ENDING.into_iter().filter(is_meant).collect();
        held.thread_block()?;
        Ok(Self(held))
    }

    /// Waits for the next one.
    ///
    /// # Errors
    ///
    /// The kernel does not go along.
    pub(crate) fn wait(self) -> io::Result<Signal> {
        Ok(self.0.wait()?)
    }

    /// Ends the process as the signal would have.
    pub(crate) fn follow(self, signal: Signal) -> ! {
        let _ = self.0.thread_unblock();
        let _ = nix::sys::signal::raise(signal);
        // It is ignored.
        std::process::exit(128 + signal as i32)
    }
}

/// Whether who started this process has it ignore a signal (proc_pid_status(5)).
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.is_some_and(|ignored| ignored & (1 << (signal as i32 - 1)) != 0)
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
