//! The capture thread: source to engine to summaries.
//!
//! It owns all three, so that no record ever crosses a thread or takes a lock. The rest of the agent talks to it in commands,
//! looked at between polls, and hears of it in events.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc as async_mpsc;
use tokio::sync::oneshot;

use super::tap::{Tap, Tapped};
use crate::capture::{Attached, CaptureError, InterfaceEvent, Jump, Source, SourceCounters, WatchList};
use crate::config::Selector;
use crate::netlink::monitor::Monitor;
use crate::rtt::{
    Batch, Engine, EngineConfig, EngineCounters, Interval, Outcome, Sample, Segment, Summaries, SummaryLimits,
};

/// Longest wait for records before commands are looked at.
const POLL: Duration = Duration::from_millis(100);

/// How often flows are expired.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// How often interfaces are looked after though the kernel told of no change, or where it does not tell.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(1)];

/// Longest wait for the thread when the agent stops; it answers within [`POLL`] unless it hangs.
pub(super) const END: Duration = Duration::from_millis(300);

/// Longest wait for it by whoever only wants to know how things are.
const PATIENCE: Duration = Duration::from_secs(1);

/// Samples on their way to a slow reader before more are dropped, and counted.
const SAMPLE_BATCHES: usize = 4096;

/// What the agent asks of the thread.
pub(super) enum Command {
    /// Watch these addresses from now on.
    Watch(WatchList),
    /// Hand out the interval.
    Take(oneshot::Sender<Snapshot>),
    /// Go on with another source.
    Replace(Source),
    /// Keep to other bounds from now on.
    Bounds(EngineConfig, SummaryLimits),
    /// Tell how things are.
    Look(oneshot::Sender<Look>),
    /// Hand out what each flow measured since the last time, and go on noting it.
    Tap(oneshot::Sender<(Tapped, Look)>),
    /// Nobody wants to know flows any more.
    Untap,
}

/// What the thread tells the agent.
pub(super) enum Event {
    /// Something happened to an interface.
    Interface(InterfaceEvent),
    /// Something happened to the clocks.
    Clock(Jump),
    /// The source failed for good.
    Failed(CaptureError),
}

/// One interval and the counters at its end.
pub(super) struct Snapshot {
    pub(super) interval: Interval,
    pub(super) source: SourceCounters,
    pub(super) engine: EngineCounters,
    pub(super) flows: usize,
    pub(super) samples_dropped: u64,
    pub(super) backend: &'static str,
    /// Interfaces that capture runs on.
    pub(super) interfaces: usize,
}

/// How things are, whatever the interval.
#[derive(Clone)]
pub(super) struct Look {
    pub(super) source: SourceCounters,
    pub(super) engine: EngineCounters,
    pub(super) flows: usize,
    pub(super) samples_dropped: u64,
    pub(super) backend: &'static str,
    pub(super) fallback: Option<String>,
    pub(super) attached: Vec<Attached>,
}

/// Samples as they come, with what makes their times nanoseconds since the epoch.
pub(super) struct Samples {
    pub(super) samples: Vec<Sample>,
    pub(super) epoch_offset_ns: i64,
}

/// The running thread; it ends when this is dropped.
pub(super) struct Worker {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    beats: Arc<AtomicU64>,
}

impl Worker {
    /// Starts the thread on a source that was opened for `watch`. Samples are handed to `samples` one by one, if anybody wants them.
    pub(super) fn spawn(
        source: Source,
        watch: WatchList,
        engine: EngineConfig,
        limits: SummaryLimits,
        samples: Option<mpsc::SyncSender<Samples>>,
    ) -> std::io::Result<(Self, async_mpsc::UnboundedReceiver<Event>)> {
        let (commands, inbox) = mpsc::channel();
        let (events, outbox) = async_mpsc::unbounded_channel();
        let beats = Arc::<AtomicU64>::default();
        let state = State {
            beats: beats.clone(),
            source,
            engine: Engine::new(engine),
            batch: Batch::new(),
            summaries: Summaries::new(limits),
            watch,
            indices: BTreeMap::new(),
            retired: SourceCounters::default(),
            samples,
            samples_dropped: 0,
            tap: None,
            events,
        };
        let thread = std::thread::Builder::new().name("capture".to_owned()).spawn(move || state.run(&inbox))?;
        Ok((Self { commands: Some(commands), thread: Some(thread), beats }, outbox))
    }

    /// A channel for samples that never blocks the packet path.
    pub(super) fn sample_channel() -> (mpsc::SyncSender<Samples>, mpsc::Receiver<Samples>) {
        mpsc::sync_channel(SAMPLE_BATCHES)
    }

    /// Sends a command. A thread that ended has said why in an event.
    pub(super) fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
    }

    /// How often the thread has gone round: between records, and at least every tenth of a second.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Asks for the interval. It comes once the thread looks at its commands, and never when the thread has ended.
    pub(super) fn ask(&self) -> oneshot::Receiver<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Take(reply));
        answer
    }

    /// How things are; `None` when the thread has ended or hangs.
    pub(super) async fn look(&self) -> Option<Look> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Look(reply));
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }

    /// What each flow measured since the last time; `None` when the thread has ended or hangs.
    pub(super) async fn tap(&self) -> Option<(Tapped, Look)> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Tap(reply));
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }
}

impl Drop for Worker {
    /// Ends the thread and waits until the source is detached. A thread that hangs is left to the end of the process, which detaches
    /// as well.
    fn drop(&mut self) {
        self.commands = None;
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + END;
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                tracing::error!("the capture thread hangs; going without it");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

struct State {
    beats: Arc<AtomicU64>,
    source: Source,
    engine: Engine,
    batch: Batch,
    summaries: Summaries,
    watch: WatchList,
    /// The index that each interface has now.
    indices: BTreeMap<String, u32>,
    /// What sources that were replaced had counted.
    retired: SourceCounters,
    samples: Option<mpsc::SyncSender<Samples>>,
    samples_dropped: u64,
    tap: Option<Tap>,
    events: async_mpsc::UnboundedSender<Event>,
}

impl State {
    fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        let (mut expire_at, mut look_at) = (Instant::now(), Instant::now());
        let monitor = Monitor::open().inspect_err(|error| {
            tracing::info!("interfaces are looked at every second only: the kernel does not tell of changes: {error}");
        });
        let has_changed = || monitor.as_ref().is_ok_and(Monitor::has_changed);
        let look_every = LOOK_EVERY[usize::from(monitor.is_err())];
        self.announce();
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            if has_changed() || look_at <= Instant::now() {
                self.tend();
                look_at = Instant::now() + look_every;
            }
            if expire_at <= Instant::now() {
                self.engine.expire(self.source.now());
                expire_at = Instant::now() + EXPIRE_EVERY;
            }
            if let Err(error) = self.poll() {
                let _ = self.events.send(Event::Failed(error));
                return;
            }
            loop {
                match inbox.try_recv() {
                    Ok(command) => {
                        // There may be interfaces that were not watched before.
                        if matches!(command, Command::Watch(_) | Command::Replace(_)) {
                            look_at = Instant::now();
                        }
                        self.obey(command);
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    fn poll(&mut self) -> Result<(), CaptureError> {
        let Self { source, engine, batch, summaries, samples, tap, .. } = self;
        let mut found = Vec::new();
        let mut sink = |_: &Segment, outcome| {
            if let Outcome::Sample(sample) = outcome {
                summaries.add(&sample);
                if let Some(tap) = tap {
                    tap.add(&sample);
                }
                if samples.is_some() {
                    found.push(sample);
                }
            }
        };
        let polled = source.poll(POLL, &mut |segment| batch.push(segment, engine, &mut sink));
        batch.flush(engine, &mut sink);
        polled?;
        if let Some(channel) = samples.as_ref().filter(|_| !found.is_empty()) {
            let count = found.len() as u64;
            let found = Samples { samples: found, epoch_offset_ns: source.epoch_offset_ns() };
            if channel.try_send(found).is_err() {
                self.samples_dropped += count;
            }
        }
        if let Some(jump) = self.source.take_jump() {
            if !self.source.stamps_survive(jump) {
                self.engine.interrupt_all();
            }
            let _ = self.events.send(Event::Clock(jump));
        }
        Ok(())
    }

    fn look(&mut self) -> Look {
        let mut source = self.retired;
        source.add(&counters(&mut self.source));
        Look {
            source,
            engine: *self.engine.counters(),
            flows: self.engine.flows(),
            samples_dropped: self.samples_dropped,
            backend: self.source.name(),
            fallback: self.source.fallback().map(str::to_owned),
            attached: self.source.attached(),
        }
    }

    /// Tells which interfaces a source that was just opened is on.
    fn announce(&mut self) {
        for (name, ifindex) in self.source.interfaces() {
            self.note(InterfaceEvent::Attached { name, ifindex });
        }
    }

    /// Attaches to interfaces that came and forgets those that went.
    fn tend(&mut self) {
        for event in self.source.maintain() {
            self.note(event);
        }
    }

    fn note(&mut self, event: InterfaceEvent) {
        match &event {
            InterfaceEvent::Attached { name, ifindex } => {
                if self.indices.insert(name.clone(), *ifindex) == Some(*ifindex) {
                    // The same interface, but turned round: what was sent is what is received now.
                    self.engine.interrupt(*ifindex);
                }
            }
            InterfaceEvent::Lost { name, ifindex } => {
                self.indices.remove(name);
                self.engine.interrupt(*ifindex);
            }
        }
        let _ = self.events.send(Event::Interface(event));
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Watch(watch) => {
                if let Err(error) = self.source.set_targets(&watch) {
                    tracing::error!("targets stay as they were: {error}");
                    return;
                }
                // What was not watched until now may have outstanding segments from an earlier window, acknowledged unseen.
                let changed = watch.iter().filter(|(text, nets)| self.watch.get(*text) != Some(nets));
                for selector in changed.filter_map(|(text, _)| Selector::parse(text).ok()) {
                    let meant = self.indices.iter().filter(|(name, _)| selector.chooses(name, *name == "lo", true));
                    meant.for_each(|(_, index)| self.engine.interrupt(*index));
                }
                self.watch = watch;
            }
            Command::Take(reply) => {
                let mut source = self.retired;
                source.add(&counters(&mut self.source));
                let _ = reply.send(Snapshot {
                    interval: self.summaries.take(),
                    source,
                    engine: *self.engine.counters(),
                    flows: self.engine.flows(),
                    samples_dropped: self.samples_dropped,
                    backend: self.source.name(),
                    interfaces: self.indices.len(),
                });
            }
            Command::Bounds(engine, limits) => {
                self.engine.follow(engine);
                self.summaries.follow(limits);
            }
            Command::Look(reply) => {
                let _ = reply.send(self.look());
            }
            Command::Tap(reply) => {
                let _ = reply.send((self.tap.get_or_insert_default().take(), self.look()));
            }
            Command::Untap => self.tap = None,
            Command::Replace(source) => {
                let mut old = std::mem::replace(&mut self.source, source);
                self.retired.add(&counters(&mut old));
                self.indices.values().for_each(|index| self.engine.interrupt(*index));
                self.indices.clear();
                self.watch.clear();
                self.announce();
            }
        }
    }
}

/// A source's counters; zeros, and a word in the log, if the kernel does not let them be read.
fn counters(source: &mut Source) -> SourceCounters {
    source.counters().unwrap_or_else(|error| {
        tracing::warn!("no counters this time: {error}");
        SourceCounters::default()
    })
}
