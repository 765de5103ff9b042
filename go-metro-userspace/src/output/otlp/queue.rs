//! The queue of reports: a thread makes requests from them and posts them, so that a receiver that is absent, slow or
//! does not respond costs only reports, which are counted.
//!
//! At most [`REPORTS`] wait, compressed, and at most [`BYTES`]; then the oldest is dropped. A request that may succeed
//! later is tried up to [`TRIES`] times. The pauses between tries double up to [`LONGEST_PAUSE`], also from one report
//! to the next. A receiver can ask for a longer pause, up to [`LONGEST_RETRY_AFTER`], but not for a shorter one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::request::{self, Body, Snapshot, Writer};
use super::tally::Tally;
use super::transport::{Failure, Taken, Transport};
use crate::{privileges, threads};

/// Reports that wait while an earlier one is being sent.
const REPORTS: usize = 4;
/// Bytes that wait: at the default of `max_pairs` four reports are some 4 MB.
const BYTES: usize = 32 << 20;
/// Tries of a request.
const TRIES: u32 = 5;
/// Time before the second try.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between tries, without jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The largest random change of a pause, as a share of it, so that many daemons do not retry at the same time.
const JITTER: f64 = 0.2;
/// Longest pause that a receiver can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Hands reports to the thread.
pub(super) struct Queue {
    snapshots: mpsc::Sender<Snapshot>,
    /// The deadline for everything that is queued, once the output ends.
    until: watch::Sender<Option<Instant>>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
    /// What the thread will work on, until it is started.
    unstarted: Option<Work>,
    tally: Arc<Tally>,
}

/// What the thread works on.
struct Work {
    snapshots: mpsc::Receiver<Snapshot>,
    until: watch::Receiver<Option<Instant>>,
    writer: Writer,
    transport: Transport,
    tally: Arc<Tally>,
    _ended: SyncSender<()>,
}

impl Queue {
    /// Starts the thread.
    pub(super) fn start(writer: Writer, transport: Transport, tally: Arc<Tally>) -> Self {
        // The thread takes reports immediately, also while it is sending.
        let (snapshots, taken) = mpsc::channel(1);
        let (until, ends) = watch::channel(None);
        let (end, ended) = sync_channel(0);
        let work = Work { snapshots: taken, until: ends, writer, transport, tally: tally.clone(), _ended: end };
        let mut queue = Self { snapshots, until, ended, unstarted: Some(work), tally };
        if let Err(error) = queue.run() {
            tracing::error!("cannot send reports over OTLP yet: {error}");
        }
        queue
    }

    /// Starts the thread, if that was not possible before.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let Some(work) = self.unstarted.take() else { return Ok(()) };
        let runtime = match Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                self.unstarted = Some(work);
                return Err(error);
            }
        };
        let done = |(runtime, work): (Runtime, Work)| {
            // It connects to whatever address a host name has.
            privileges::give_up_all();
            runtime.block_on(work.run());
        };
        threads::spawn_with("otlp", (runtime, work), done).map_err(|(error, (_, work))| {
            self.unstarted = Some(work);
            error
        })
    }

    /// Hands over a report; dropped and counted if there is no thread to take it.
    pub(super) fn push(&self, snapshot: Snapshot) {
        if let Err(refused) = self.snapshots.try_send(snapshot) {
            let snapshot = match refused {
                mpsc::error::TrySendError::Full(snapshot) | mpsc::error::TrySendError::Closed(snapshot) => snapshot,
            };
            self.tally.lose(request::points_of(&snapshot), "the thread that sends reports does not run, or is busy");
        }
    }

    /// Waits until everything is sent or given up; whether all of it was accepted.
    pub(super) fn finish(self, limit: Duration) -> bool {
        let Self { snapshots, until, ended, unstarted, tally } = self;
        if unstarted.is_some() {
            return false;
        }
        let before = tally.lost();
        drop(snapshots);
        // The last response must arrive before the limit.
        let _ = until.send(Some(Instant::now() + limit - limit / 8));
        let has_ended = matches!(ended.recv_timeout(limit), Err(RecvTimeoutError::Disconnected));
        has_ended && tally.lost() == before
    }
}

/// The requests of one report.
struct Pending {
    bodies: Vec<Body>,
}

impl Pending {
    fn points(&self) -> u64 {
        self.bodies.iter().map(|body| body.points).sum()
    }

    fn bytes(&self) -> usize {
        self.bodies.iter().map(|body| body.bytes.len()).sum()
    }
}

/// Reports that wait for the one before them, on the thread.
#[derive(Default)]
struct Waiting {
    reports: RefCell<VecDeque<Pending>>,
    changed: Notify,
    /// No more will come.
    is_closed: Cell<bool>,
    /// Data points of the report that is being sent which have no outcome yet.
    in_flight: Cell<u64>,
}

impl Waiting {
    /// Adds a report, and returns the number of data points that were dropped to make room.
    fn push(&self, report: Pending) -> u64 {
        let mut reports = self.reports.borrow_mut();
        reports.push_back(report);
        let mut lost = 0;
        while reports.len() > REPORTS || reports.iter().map(Pending::bytes).sum::<usize>() > BYTES {
            lost += reports.pop_front().map_or(0, |oldest| oldest.points());
        }
        self.changed.notify_one();
        lost
    }

    fn close(&self) {
        self.is_closed.set(true);
        self.changed.notify_one();
    }

    /// The oldest; none once there will be no more.
    async fn next(&self) -> Option<Pending> {
        loop {
            let oldest = self.reports.borrow_mut().pop_front();
            if let Some(report) = oldest {
                self.in_flight.set(report.points());
                return Some(report);
            }
            if self.is_closed.get() {
                return None;
            }
            self.changed.notified().await;
        }
    }

    fn points(&self) -> u64 {
        self.in_flight.get() + self.reports.borrow().iter().map(Pending::points).sum::<u64>()
    }
}

impl Work {
    /// Sends reports until there will be no more, or the time is up.
    async fn run(self) {
        let Self { mut snapshots, mut until, writer, transport, tally, _ended } = self;
        let waiting = Waiting::default();
        let mut sender = Sender::new(transport, writer.is_gzip(), until.clone(), tally.clone());
        let write = async {
            while let Some(snapshot) = snapshots.recv().await {
                tally.lose_waiting(waiting.push(Pending { bodies: writer.bodies(&snapshot).collect() }));
            }
            waiting.close();
        };
        let send = async {
            while let Some(report) = waiting.next().await {
                sender.deliver(report, &waiting.in_flight).await;
            }
        };
        let both = pin!(async { tokio::join!(write, send) });
        tokio::select! {
            _ = both => {}
            () = over(&mut until) => {}
        }
        tally.count(waiting.points());
    }
}

/// Waits until the time is up.
async fn over(until: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let end = *until.borrow_and_update();
        match end {
            Some(end) => return sleep_until(end).await,
            // The queue was dropped without a deadline.
            None if until.changed().await.is_err() => return,
            None => {}
        }
    }
}

/// Posts requests until they are taken or given up.
struct Sender {
    transport: Transport,
    gzip: bool,
    until: watch::Receiver<Option<Instant>>,
    tally: Arc<Tally>,
    /// How many tries have failed, one after the other.
    failures: u32,
    /// When the next try is due.
    due: Instant,
}

/// The outcome of a request.
enum Outcome {
    Taken,
    /// Finally, in part or as a whole; the loss is counted.
    Refused,
    /// After the last try, for this reason.
    GivenUp(String),
}

impl Sender {
    fn new(transport: Transport, gzip: bool, until: watch::Receiver<Option<Instant>>, tally: Arc<Tally>) -> Self {
        Self { transport, gzip, until, tally, failures: 0, due: Instant::now() }
    }

    /// Sends a report's requests one after the other. Once one is given up, so are the rest.
    async fn deliver(&mut self, report: Pending, in_flight: &Cell<u64>) {
        let mut is_taken = true;
        let mut bodies = report.bodies.into_iter();
        while let Some(body) = bodies.next() {
            match self.deliver_one(&body).await {
                Outcome::Taken => {}
                Outcome::Refused => is_taken = false,
                Outcome::GivenUp(cause) => {
                    is_taken = false;
                    let rest: u64 = bodies.by_ref().map(|body| body.points).sum();
                    self.tally.lose(body.points + rest, &cause);
                }
            }
            in_flight.set(bodies.as_slice().iter().map(|body| body.points).sum());
        }
        if is_taken {
            self.tally.delivered();
        }
        // The receiver may close an idle connection before the next report.
        self.transport.close();
    }

    async fn deliver_one(&mut self, body: &Body) -> Outcome {
        let mut tries = 0;
        loop {
            self.wait().await;
            tries += 1;
            let left = self.end().map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            match self.transport.post(&body.bytes, self.gzip, left).await {
                Ok(taken) => {
                    self.failures = 0;
                    return self.answered(&taken);
                }
                Err(Failure::Final(cause)) => {
                    self.failures = 0;
                    self.tally.lose(body.points, &cause);
                    return Outcome::Refused;
                }
                Err(Failure::Passing(cause, after)) => {
                    self.failures += 1;
                    self.due = Instant::now() + pause(self.failures, after);
                    if tries == TRIES || self.end().is_some_and(|end| self.due >= end) {
                        return Outcome::GivenUp(cause);
                    }
                    self.tally.fail(&cause);
                }
            }
        }
    }

    /// Evaluates the response to an accepted request.
    fn answered(&self, Taken { rejected, message }: &Taken) -> Outcome {
        if *rejected > 0 {
            let why = if message.is_empty() { String::new() } else { format!(": {message}") };
            self.tally.lose(*rejected, &format!("the receiver refused a part{why}"));
            return Outcome::Refused;
        }
        if !message.is_empty() {
            self.tally.note(message);
        }
        Outcome::Taken
    }

    /// The deadline for everything, if it is known.
    fn end(&self) -> Option<Instant> {
        *self.until.borrow()
    }

    /// Waits until the next try is due; not at all if that is after the end.
    async fn wait(&mut self) {
        while Instant::now() < self.due && self.end().is_none_or(|end| self.due < end) {
            let due = self.due;
            // The deadline may become known meanwhile.
            if !matches!(timeout_at(due, self.until.changed()).await, Ok(Ok(()))) {
                sleep_until(due).await;
            }
        }
    }
}

/// How long to wait after this number of failures; `retry_after` is the receiver's wish.
fn pause(failures: u32, retry_after: Option<Duration>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let own = doubled.min(LONGEST_PAUSE).mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0));
    own.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(points: u64, bytes: usize) -> Pending {
        Pending { bodies: vec![Body { bytes: vec![0; bytes].into(), points }] }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_differ() {
        for (failures, seconds) in [(1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (1000, 30.0)] {
            for retry_after in [None, Some(Duration::ZERO), Some(FIRST_PAUSE / 2)] {
                let pause = pause(failures, retry_after).as_secs_f64();
                assert!((0.8 * seconds..=1.2 * seconds).contains(&pause), "{failures} {retry_after:?}: {pause}");
            }
        }
        let pauses = || [(); 3].map(|()| pause(9, None));
        assert_ne!(pauses(), pauses());
        let minute = Duration::from_secs(60);
        assert_eq!((pause(1, Some(minute)), pause(9, Some(minute * 60))), (minute, LONGEST_RETRY_AFTER));
    }

    #[tokio::test]
    async fn the_oldest_reports_go_when_too_many_or_too_large_ones_wait() {
        let waiting = Waiting::default();
        let lost: u64 = (1..=6).map(|points| waiting.push(report(points, 10))).sum();
        assert_eq!((lost, waiting.points()), (1 + 2, 3 + 4 + 5 + 6));
        assert_eq!(waiting.next().await.unwrap().points(), 3);
        assert_eq!(waiting.push(report(7, BYTES - 10)), 4 + 5, "the last before it still has room");
        assert_eq!(waiting.push(report(8, BYTES + 1)), 6 + 7 + 8, "one that never has room is lost by itself");
        waiting.close();
        assert!(waiting.next().await.is_none());
    }
}
