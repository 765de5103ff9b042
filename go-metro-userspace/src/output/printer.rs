//! Standard output as a sink: a thread that formats and writes, so that a reader that is slow or does not read costs
//! reports, which are counted, and nothing else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use std::io;

use tokio::sync::Notify;

use super::table::Columns;
use super::{Report, Sink};
use crate::config::Config;
use crate::{privileges, terminal, threads};

/// Reports that wait for a slow reader before more are dropped.
const QUEUE_REPORTS: usize = 2;

/// What is printed: one form of reports.
pub trait Print: Send {
    /// Writes a report.
    ///
    /// # Errors
    ///
    /// What writing fails with.
    fn report(&mut self, report: &Report) -> io::Result<()>;
    /// Has these columns from now on, if it has columns.
    fn show(&mut self, _columns: Columns) {}
}

enum Job {
    Report(Arc<Report>),
    Columns(Columns),
}

#[derive(Debug, Default)]
struct State {
    queued: AtomicU64,
    done: AtomicU64,
    errors: AtomicU64,
    closed: AtomicBool,
    problem: Mutex<Option<String>>,
}

/// The way to the thread.
#[derive(Debug)]
pub struct Printer {
    jobs: SyncSender<Job>,
    state: Arc<State>,
}

impl Printer {
    /// Starts the thread. It notifies `closed` once the reader has closed its pipe.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn start(page: Box<dyn Print>, closed: Arc<Notify>) -> io::Result<Self> {
        let (jobs, receiver) = sync_channel(QUEUE_REPORTS);
        let state = Arc::<State>::default();
        let of_thread = state.clone();
        threads::spawn("stdout", move || print(page, &receiver, &of_thread, &closed))?;
        Ok(Self { jobs, state })
    }
}

impl Sink for Printer {
    fn destination(&self) -> String {
        "stdout".to_owned()
    }

    /// Dropped and counted if the reader is too slow.
    fn report(&mut self, report: &Arc<Report>) {
        self.state.queued.fetch_add(1, Ordering::AcqRel);
        if self.jobs.try_send(Job::Report(report.clone())).is_err() {
            self.state.done.fetch_add(1, Ordering::AcqRel);
            self.state.errors.fetch_add(1, Ordering::Relaxed);
            self.state.say(if self.is_closed() { "its reader closed the pipe" } else { "its reader does not read" });
        }
    }

    fn follow(&mut self, config: &Config) {
        // Who does not read sees the old columns until the next change.
        let _ = self.jobs.try_send(Job::Columns(Columns::from(config)));
    }

    fn errors(&self) -> u64 {
        self.state.errors.load(Ordering::Relaxed)
    }

    fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    fn problems(&self) -> Vec<String> {
        self.state.problem.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Waits until what is queued is printed.
    fn finish(self: Box<Self>, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.state.done.load(Ordering::Acquire) < self.state.queued.load(Ordering::Acquire)
            && !self.is_closed()
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl State {
    fn say(&self, problem: &str) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.to_owned());
    }
}

fn print(mut page: Box<dyn Print>, jobs: &Receiver<Job>, state: &State, closed: &Notify) {
    privileges::give_up_all();
    // One that has hung up says EIO for ever (tty_ioctl(4)), and is no terminal any more if it is asked.
    let is_terminal = terminal::is_stdout();
    for job in jobs {
        let printed = match job {
            Job::Report(report) => page.report(&report),
            Job::Columns(columns) => {
                page.show(columns);
                continue;
            }
        };
        match printed {
            Ok(()) => *state.problem.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Err(error) => {
                state.errors.fetch_add(1, Ordering::Relaxed);
                let problem = state.problem.lock().unwrap_or_else(PoisonError::into_inner).replace(error.to_string());
                if problem.is_none() {
                    tracing::warn!(
                        "cannot write to standard output: {error}; trying again with each report, unless the reader \
                         is gone"
                    );
                }
                if error.kind() == io::ErrorKind::BrokenPipe || is_terminal && error.raw_os_error() == Some(libc::EIO) {
                    state.closed.store(true, Ordering::Release);
                    closed.notify_one();
                }
            }
        }
        state.done.fetch_add(1, Ordering::AcqRel);
        if state.closed.load(Ordering::Acquire) {
            return;
        }
    }
}
