//! The thread that writes the log. The caller leaves a line in a bounded queue and goes on, whatever becomes of it: a
//! full disk, a closed socket or a reader that does not read costs lines, which are counted, and nothing else.

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::attempt;
use super::rotate::Rotating;
use crate::privileges::{self, Needs};
use crate::{terminal, threads};

/// Lines that wait before more are dropped.
const QUEUE_LINES: usize = 1024;
/// Bytes that wait before more lines are dropped.
const QUEUE_BYTES: usize = 1 << 20;
/// Longest line, in bytes; the rest of a longer one is cut off.
const LONGEST_LINE: usize = 16 << 10;
/// Longest wait for the queue at the end of the process.
const FINISH: Duration = Duration::from_millis(500);
/// Longest wait for a reader of standard error before the line is lost. Long: a reader that is only slow shall miss
/// none.
const READER: Duration = Duration::from_secs(3600);

/// Lines that could not be written since the start.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Lines that the thread is done with, one way or the other.
static DONE: AtomicU64 = AtomicU64::new(0);
/// Lines put into the queue.
static QUEUED: AtomicU64 = AtomicU64::new(0);
/// Bytes in the queue.
static WAITING_BYTES: AtomicUsize = AtomicUsize::new(0);
/// What waits for [`start`].
static PENDING: Mutex<Option<(Receiver<Vec<u8>>, Target)>> = Mutex::new(None);

/// Where lines go.
pub(super) enum Target {
    /// Standard error.
    Stderr,
    /// A file that is rotated by size.
    File(Rotating),
}

/// Lines that could not be written since the start.
pub(super) fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// The end of the queue at which lines are left.
#[derive(Clone)]
pub(super) struct Queue(Arc<SyncSender<Vec<u8>>>);

impl Queue {
    /// A queue before this target. Nothing is written before [`start`] or [`finish`].
    pub(super) fn before(target: Target) -> Self {
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        *PENDING.lock().unwrap_or_else(PoisonError::into_inner) = Some((receiver, target));
        Self(Arc::new(sender))
    }

    /// Leaves a line.
    fn leave(&self, line: Vec<u8>) {
        QUEUED.fetch_add(1, Ordering::AcqRel);
        let bytes = line.len();
        let fits = WAITING_BYTES.fetch_add(bytes, Ordering::AcqRel) + bytes <= QUEUE_BYTES;
        if !fits || self.0.try_send(line).is_err() {
            WAITING_BYTES.fetch_sub(bytes, Ordering::AcqRel);
            LOST.fetch_add(1, Ordering::Relaxed);
            DONE.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Write for Queue {
    /// Takes one whole line, always: an error would have `tracing` complain on standard error, once a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut kept = line[..line.len().min(LONGEST_LINE)].to_vec();
        if kept.len() < line.len() {
            kept.push(b'\n');
        }
        let queue = self.clone();
        attempt::when_certain(move || queue.leave(kept));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pending() -> Option<(Receiver<Vec<u8>>, Target)> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Starts the thread, if it does not run. To be called once this process is confined: the thread is then confined as
/// well, and keeps no right but to files.
pub(super) fn start() {
    let Some(state) = pending() else { return };
    let started = threads::spawn_with("log", state, |(receiver, mut target)| {
        match target {
            Target::Stderr => privileges::give_up_all(),
            // It is made again by name.
            Target::File(_) => privileges::keep(Needs::Files),
        }
        for line in receiver {
            write(&mut target, &line, READER);
        }
    });
    if let Err((_, state)) = started {
        // What is logged waits, within the queue's bounds, for another attempt.
        *PENDING.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }
}

/// Waits until what was logged is written, half a second at most.
pub(super) fn finish() {
    let deadline = Instant::now() + FINISH;
    if let Some((receiver, mut target)) = pending() {
        // It ends before the thread was started.
        for line in receiver.try_iter() {
            write(&mut target, &line, deadline.saturating_duration_since(Instant::now()));
        }
    }
    while DONE.load(Ordering::Acquire) < QUEUED.load(Ordering::Acquire) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[expect(clippy::disallowed_methods, reason = "a line of the log is escaped")]
fn write(target: &mut Target, line: &[u8], patience: Duration) {
    let written = match target {
        Target::Stderr => terminal::write_within(io::stderr().as_fd(), line, patience),
        Target::File(file) => file.write_line(line),
    };
    if written.is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
    WAITING_BYTES.fetch_sub(line.len(), Ordering::AcqRel);
    DONE.fetch_add(1, Ordering::AcqRel);
}
