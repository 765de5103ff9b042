//! The daemon's handle of the capture thread.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use go_metro_rtt::{EngineConfig, Grouping};
use tokio::sync::mpsc as async_mpsc;
use tokio::sync::oneshot;

use super::handover::Replacement;
use super::messages::{Command, Kept};
use super::meter::Meter;
use super::shards::Measuring;
use super::{CaptureStatus, END, Ended, Event, PATIENCE, Samples, Snapshot, State};
use crate::capture::{Source, SourceCounters, WatchList, Way};
use crate::daemon::flow_tap::Tapped;
use crate::daemon::one_direction::Silence;
use crate::daemon::owners::Asker;
use crate::daemon::settings::Limits;
use crate::{inbox, threads};

/// Samples on their way to a slow reader before more are dropped, and counted.
const SAMPLE_BATCHES: usize = 4096;

/// The running thread; it ends when this is dropped.
pub(in crate::daemon) struct CaptureThread {
    commands: Option<inbox::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    samples: Option<mpsc::SyncSender<Samples>>,
    workers: u32,
    beats: Beats,
}

/// How often all of several threads got on since they were looked at last.
#[derive(Default)]
struct Beats {
    /// How often the capture thread has gone round: between segments, and at least every half second.
    capture: Arc<AtomicU64>,
    /// The same of those that measure beside it.
    others: Vec<Arc<AtomicU64>>,
    count: u64,
    /// Where each was when all had got on.
    seen: Vec<u64>,
}

impl Beats {
    /// A number that grows as long as every thread gets on.
    fn look(&mut self) -> u64 {
        let all = [&self.capture].into_iter().chain(&self.others);
        let now = all.map(|beats| beats.load(Ordering::Relaxed)).collect();
        self.note(now)
    }

    fn note(&mut self, now: Vec<u64>) -> u64 {
        if self.seen.len() != now.len() || self.seen.iter().zip(&now).all(|(then, now)| then != now) {
            self.count += 1;
            self.seen = now;
        }
        self.count
    }
}

/// What one of so many meters may hold.
fn share_of(limits: &Limits, workers: u32) -> Limits {
    let engine = EngineConfig { max_flows: limits.engine.max_flows.div_ceil(workers), ..limits.engine };
    Limits { engine, record: limits.record.share(workers), ..limits.clone() }
}

impl CaptureThread {
    /// Starts the thread on a source that was opened for `watch`, and as many as `workers` says to measure. Samples are
    /// handed to `samples` one by one, if anybody wants them.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub(in crate::daemon) fn spawn(
        source: Source,
        watch: WatchList,
        (limits, workers): (Limits, u32),
        samples: Option<mpsc::SyncSender<Samples>>,
    ) -> io::Result<(Self, async_mpsc::UnboundedReceiver<Event>)> {
        let (events, outbox) = async_mpsc::unbounded_channel();
        let (commands, inbox) = inbox::channel()?;
        let limits = share_of(&limits, workers);
        let measuring = Measuring::by(workers, || Meter::new(&limits, samples.clone()))?;
        let beats = Beats { others: measuring.beats(), ..Beats::default() };
        let state = State {
            beats: beats.capture.clone(),
            bell: inbox.bell(),
            source,
            measuring,
            limits,
            watch,
            indices: BTreeMap::new(),
            retired: SourceCounters::default(),
            ended: Ended::default(),
            events,
            outages: None,
            retiring: None,
            silence: Silence::default(),
            asker: None,
            by_hand: None,
        };
        let thread = threads::spawn("capture", move || state.run(&inbox))?;
        Ok((Self { commands: Some(commands), thread: Some(thread), samples, workers, beats }, outbox))
    }

    /// A channel for samples that never blocks the packet path.
    pub(in crate::daemon) fn sample_channel() -> (mpsc::SyncSender<Samples>, mpsc::Receiver<Samples>) {
        mpsc::sync_channel(SAMPLE_BATCHES)
    }

    /// A thread that ended has said why in an event.
    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
    }

    fn asked<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply));
        answer
    }

    /// Switches to another source, prepared for these targets. Each packet is measured once, by the one or the other;
    /// `keeps_flows` says whether flows go on.
    pub(in crate::daemon) fn replace(&self, source: Source, watch: WatchList, keeps_flows: bool) {
        self.send(Command::Replace(Box::new(Replacement { source, watch, keeps_flows })));
    }

    /// What measures, if another number of threads is wanted than there is: for [`Self::set_limits`], so that what may
    /// fail comes before what is changed.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub(in crate::daemon) fn prepare(&self, limits: &Limits, workers: u32) -> io::Result<Option<Measuring>> {
        if workers == self.workers {
            return Ok(None);
        }
        let share = share_of(limits, workers);
        Measuring::by(workers, || Meter::new(&share, self.samples.clone())).map(Some)
    }

    /// Applies new limits, with what was prepared for them.
    pub(in crate::daemon) fn set_limits(&mut self, (limits, workers): (Limits, u32), prepared: Option<Measuring>) {
        self.workers = workers;
        if let Some(prepared) = &prepared {
            self.beats.others = prepared.beats();
            self.beats.seen.clear();
        }
        self.send(Command::Limits(Box::new(share_of(&limits, workers)), prepared.map(Box::new)));
    }

    /// Groups remote hosts otherwise from now on.
    pub(in crate::daemon) fn group(&self, grouping: Option<Grouping>) {
        self.send(Command::Group(grouping));
    }

    /// Moves to the head of the hook that tells this way on an interface.
    pub(in crate::daemon) fn move_to_head(&self, ifindex: u32, way: Way) {
        self.send(Command::MoveToHead(ifindex, way));
    }

    /// Tells flows apart by whose they are from now on, as this one says, or no longer.
    pub(in crate::daemon) fn label_flows(&self, asker: Option<Asker>) {
        self.send(Command::LabelFlows(asker));
    }

    /// Watches these addresses from now on.
    pub(in crate::daemon) fn watch(&self, watch: WatchList) {
        self.send(Command::Watch(watch));
    }

    /// A number that grows as long as every thread gets on.
    pub(in crate::daemon) fn beats(&mut self) -> u64 {
        self.beats.look()
    }

    /// Asks for the interval. It comes once the thread looks at its commands, and never when it has ended.
    pub(in crate::daemon) fn interval(&self) -> oneshot::Receiver<Snapshot> {
        self.asked(Command::Interval)
    }

    /// Asks for the last interval, after which the thread ends; `None` where it does not answer by then. Whatever
    /// sample was printed is in it or in one before.
    pub(in crate::daemon) async fn finish(&self, by: tokio::time::Instant) -> Option<Snapshot> {
        // What passes while the last is read would be in the kernel's counters only.
        let _ = tokio::time::timeout_at(by, self.asked(Command::Detach)).await;
        tokio::time::timeout_at(by, self.asked(Command::Finish)).await.ok()?.ok()
    }

    /// The state; `None` when the thread has ended or hangs.
    pub(in crate::daemon) async fn status(&self) -> Option<CaptureStatus> {
        tokio::time::timeout(PATIENCE, self.asked(Command::Status)).await.ok()?.ok()
    }

    /// What each flow measured since the last time; `None` when the thread has ended or hangs.
    pub(in crate::daemon) async fn flows(&self) -> Option<(Tapped, CaptureStatus)> {
        tokio::time::timeout(PATIENCE, self.asked(Command::Flows)).await.ok()?.ok()
    }

    /// Keeps records in so much memory while somebody records by hand, where none are kept otherwise; or no longer.
    pub(in crate::daemon) fn keep_by_hand(&self, bytes: Option<usize>) {
        self.send(Command::KeepByHand(bytes.map(|bytes| bytes / self.workers.max(1) as usize)));
    }

    /// What is kept of records. It comes once the thread looks at its commands, and never when it has ended.
    pub(in crate::daemon) fn kept(&self) -> oneshot::Receiver<Kept> {
        self.asked(Command::Kept)
    }

    /// Stops per-flow reporting.
    pub(in crate::daemon) fn stop_flows(&self) {
        self.send(Command::StopFlows);
    }
}

impl Drop for CaptureThread {
    /// Ends the thread and waits until the source is detached. One that hangs is left to the end of the process, which
    /// detaches as well.
    fn drop(&mut self) {
        self.commands = None;
        let deadline = Instant::now() + END;
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                tracing::error!("the capture thread does not respond; stopping without it");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_hangs_among_several_shows_and_so_does_its_recovery() {
        let mut beats = Beats::default();
        let first = beats.note(vec![1, 1, 1]);
        let all = beats.note(vec![5, 2, 900]);
        assert!(all > first);
        // The second hangs, however fast the others go.
        assert_eq!([vec![6, 2, 1000], vec![7, 2, 2000], vec![8, 2, 3000]].map(|now| beats.note(now)), [all; 3]);
        let recovered = beats.note(vec![9, 3, 4000]);
        assert!(recovered > all);
        // Others, after a reload.
        assert!(beats.note(vec![9]) > recovered);
    }
}
