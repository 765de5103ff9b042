//! The threads that measure: one, or with `workers` one for each shard of the flows (docs/design-many-cores.md).
//!
//! The first handles interfaces, targets and the classifier, and drains the first ring; the others only drain
//! theirs. No record ever goes from one to another. Here their answers are put together, so that the rest of the daemon
//! sees one.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use go_metro_rtt::{EngineConfig, Interval};
use tokio::sync::mpsc as async_mpsc;
use tokio::sync::oneshot;

use super::capture_thread::{self, CaptureStatus, Command, Event, PATIENCE, Replacement, Samples, Snapshot, Worker};
use super::flow_tap::Tapped;
use super::settings::Limits;
use crate::capture::{Source, WatchList, Way};

/// Samples on their way to a slow reader before more are dropped, and counted.
const SAMPLE_BATCHES: usize = 4096;

/// Longest wait until a source has taken over.
const TAKE_OVER: Duration = Duration::from_secs(3);

/// When it has.
type TakenOver = Arc<OnceLock<Instant>>;

/// The running threads; they end when this is dropped.
pub(super) struct CaptureThreads {
    /// The first has the classifier.
    workers: Vec<Worker>,
    /// What those said at their end that a reload made surplus.
    retired: Vec<Snapshot>,
    /// All workers' together.
    limits: Limits,
    samples: Option<mpsc::SyncSender<Samples>>,
    /// For threads that start later.
    events: async_mpsc::WeakUnboundedSender<Event>,
    beats: Beats,
}

/// How often all of several threads got on since they were looked at last.
#[derive(Default)]
struct Beats {
    count: u64,
    /// Where each was when all had got on.
    seen: Vec<u64>,
}

impl Beats {
    /// Looks at how often each has gone round; a number that grows as long as every one gets on.
    fn look(&mut self, now: Vec<u64>) -> u64 {
        if self.seen.len() != now.len() || self.seen.iter().zip(&now).all(|(then, now)| then != now) {
            self.count += 1;
            self.seen = now;
        }
        self.count
    }
}

impl CaptureThreads {
    /// Starts the threads on a source that was opened for `watch`. Samples are handed to `samples` one by one, if
    /// anybody wants them.
    pub(super) fn spawn(
        mut source: Source,
        watch: WatchList,
        limits: Limits,
        samples: Option<mpsc::SyncSender<Samples>>,
    ) -> io::Result<(Self, async_mpsc::UnboundedReceiver<Event>)> {
        let (events, outbox) = async_mpsc::unbounded_channel();
        let mut rings = source.take_rings();
        let mut threads = Self {
            workers: Vec::new(),
            retired: Vec::new(),
            limits,
            samples,
            events: events.downgrade(),
            beats: Beats::default(),
        };
        let own = threads.share_of(1 + rings.len());
        let first = Worker::spawn("capture", source, watch, own, threads.samples.clone(), events)?;
        threads.workers.push(first);
        let new = threads.spawn_workers(&mut rings)?;
        threads.distribute(rings, new, (true, &TakenOver::default()));
        Ok((threads, outbox))
    }

    /// A channel for samples that never blocks the packet path.
    pub(super) fn sample_channel() -> (mpsc::SyncSender<Samples>, mpsc::Receiver<Samples>) {
        mpsc::sync_channel(SAMPLE_BATCHES)
    }

    /// Gives each ring to a thread, and tells the first which there are. A thread that has a ring already keeps reading
    /// that for a while.
    fn distribute(&mut self, rings: Vec<Source>, new: Vec<Worker>, (keeps_flows, taken_over): (bool, &TakenOver)) {
        for (worker, ring) in self.workers[1..].iter().zip(rings) {
            let (watch, taken_over) = (WatchList::new(), taken_over.clone());
            let replacement = Replacement { source: ring, watch, keeps_flows, taken_over };
            worker.send(Command::Replace(Box::new(replacement)));
        }
        self.workers.extend(new);
        let others = self.workers[1..].iter().filter_map(Worker::inbox).collect();
        self.workers[0].send(Command::Others(others));
    }

    /// Starts threads for the rings that are more than there are threads, which are left in `rings`. Nothing else
    /// changes, so that without a thread all stays as it was.
    fn spawn_workers(&self, rings: &mut Vec<Source>) -> io::Result<Vec<Worker>> {
        let own = self.share_of(1 + rings.len());
        let have = self.workers.len();
        let without = rings.split_off((have - 1).min(rings.len()));
        let spawned = (have..).zip(without).map(|(number, ring)| {
            let Some(events) = self.events.upgrade() else { return Err(io::Error::other("the capture thread ended")) };
            let name = format!("capture-{number}");
            Worker::spawn(&name, ring, WatchList::new(), own, self.samples.clone(), events)
        });
        spawned.collect()
    }

    /// What one of so many engines may hold.
    fn share_of(&self, workers: usize) -> Limits {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        let engine = self.limits.engine;
        Limits { engine: EngineConfig { max_flows: engine.max_flows.div_ceil(workers), ..engine }, ..self.limits }
    }

    /// Switches to another source, prepared for these targets, and as many threads as it has rings. Each packet is
    /// measured once, by the one or the other. Flows change their shards with the number of rings, and start over then;
    /// `keeps_flows` says whether they go on otherwise.
    pub(super) async fn replace(&mut self, mut source: Source, watch: WatchList, keeps_flows: bool) -> io::Result<()> {
        let mut rings = source.take_rings();
        let wanted = 1 + rings.len();
        let keeps_flows = keeps_flows && wanted == self.workers.len();
        let new = self.spawn_workers(&mut rings)?;
        let taken_over = TakenOver::default();
        let replacement = Replacement { source, watch, keeps_flows, taken_over: taken_over.clone() };
        self.workers[0].send(Command::Replace(Box::new(replacement)));
        let surplus = self.workers.split_off(wanted.min(self.workers.len()));
        self.distribute(rings, new, (keeps_flows, &taken_over));
        self.beats.seen.clear();
        if surplus.is_empty() {
            return Ok(());
        }
        // What their rings get until then is measured by them.
        let deadline = Instant::now() + TAKE_OVER;
        while taken_over.get().is_none_or(|until| Instant::now() < *until) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for worker in surplus {
            if let Ok(Ok(last)) = tokio::time::timeout(PATIENCE, worker.finish()).await {
                self.retired.push(Snapshot { flows: 0, ..last });
            }
            worker.abandon();
        }
        Ok(())
    }

    /// Moves to the head of the hook that tells this way on an interface.
    pub(super) fn move_to_head(&self, ifindex: u32, way: Way) {
        self.workers[0].send(Command::MoveToHead(ifindex, way));
    }

    /// Applies new limits.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        let own = self.share_of(self.workers.len());
        self.workers.iter().for_each(|worker| worker.send(Command::Limits(own)));
    }

    /// Watches these addresses from now on.
    pub(super) fn watch(&self, watch: WatchList) {
        self.workers[0].send(Command::Watch(watch));
    }

    /// A number that grows as long as every thread gets on: each goes round between records, and at least every half
    /// second.
    pub(super) fn beats(&mut self) -> u64 {
        self.beats.look(self.workers.iter().map(|worker| worker.beats.load(Ordering::Relaxed)).collect())
    }

    /// Asks for the interval. It comes once all threads have looked at their commands, and never when the first has
    /// ended.
    pub(super) fn interval(&mut self) -> oneshot::Receiver<Snapshot> {
        if let ([only], []) = (self.workers.as_slice(), self.retired.as_slice()) {
            return only.interval();
        }
        let asked = self.workers.iter().map(Worker::interval).collect();
        self.gather(asked)
    }

    /// Asks for the last interval, and ends the threads; `None` where the first does not answer by then. Whatever
    /// sample was printed is in it or in one before.
    pub(super) async fn finish(&mut self, by: tokio::time::Instant) -> Option<Snapshot> {
        // What one ring gets while another is closed would be in the kernel's counters only.
        let _ = tokio::time::timeout_at(by, self.workers.first()?.detach()).await;
        let asked = self.workers.iter().map(Worker::finish).collect();
        tokio::time::timeout_at(by, self.gather(asked)).await.ok()?.ok()
    }

    /// Puts what each answers together with what those said that are no more.
    fn gather(&mut self, asked: Vec<oneshot::Receiver<Snapshot>>) -> oneshot::Receiver<Snapshot> {
        // Their last intervals are told once, their counters go on.
        let kept = self.retired.iter().map(|last| Snapshot { interval: Interval::default(), ..*last }).collect();
        let retired = std::mem::replace(&mut self.retired, kept);
        let max_pairs = self.limits.summaries.max_pairs;
        let (reply, answer) = oneshot::channel();
        tokio::spawn(async move {
            let mut parts = Vec::new();
            for (number, part) in asked.into_iter().enumerate() {
                match part.await {
                    Ok(part) => parts.push(part),
                    Err(_) if number == 0 => return,
                    Err(_) => {}
                }
            }
            parts.extend(retired);
            let _ = reply.send(Snapshot::together(parts, max_pairs));
        });
        answer
    }

    /// The state of all; `None` when a thread has ended or hangs.
    pub(super) async fn status(&self) -> Option<CaptureStatus> {
        let asked: Vec<_> = self.workers.iter().map(Worker::status).collect();
        let mut states = Vec::new();
        for state in asked {
            states.push(tokio::time::timeout(PATIENCE, state).await.ok()?.ok()?);
        }
        self.together(states)
    }

    /// What each flow measured since the last time; `None` when a thread has ended or hangs.
    pub(super) async fn flows(&self) -> Option<(Tapped, CaptureStatus)> {
        let asked: Vec<_> = self.workers.iter().map(Worker::flows).collect();
        let (mut tapped, mut states) = (Tapped::default(), Vec::new());
        for tap in asked {
            let (flows, state) = tokio::time::timeout(PATIENCE, tap).await.ok()?.ok()?;
            tapped.add(flows);
            states.push(state);
        }
        Some((tapped, self.together(states)?))
    }

    /// Stops per-flow reporting.
    pub(super) fn stop_flows(&self) {
        self.workers.iter().for_each(|worker| worker.send(Command::StopFlows));
    }

    fn together(&self, states: Vec<CaptureStatus>) -> Option<CaptureStatus> {
        let mut states = states.into_iter();
        let mut all = states.next()?;
        states.for_each(|state| all.add(&state.source, &state.engine, state.flows, state.samples_dropped));
        for last in &self.retired {
            all.add(&last.source, &last.engine, 0, last.samples_dropped);
        }
        Some(all)
    }
}

impl Drop for CaptureThreads {
    /// Ends the threads and waits until the source is detached. Threads that hang are left to the end of the process,
    /// which detaches as well.
    fn drop(&mut self) {
        let deadline = Instant::now() + capture_thread::END;
        self.workers.iter_mut().for_each(Worker::hang_up);
        for worker in self.workers.drain(..) {
            worker.join(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_hangs_among_several_shows_and_so_does_its_recovery() {
        let mut beats = Beats::default();
        let first = beats.look(vec![1, 1, 1]);
        let all = beats.look(vec![5, 2, 900]);
        assert!(all > first);
        // The second hangs, however fast the others go.
        assert_eq!([vec![6, 2, 1000], vec![7, 2, 2000], vec![8, 2, 3000]].map(|now| beats.look(now)), [all; 3]);
        let recovered = beats.look(vec![9, 3, 4000]);
        assert!(recovered > all);
        // Others, after a reload.
        assert!(beats.look(vec![9]) > recovered);
    }
}
