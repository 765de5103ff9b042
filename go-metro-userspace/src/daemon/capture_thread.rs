//! A capture thread: source to engine to summaries.
//!
//! It owns all three, so that no record ever crosses a thread or takes a lock. The rest of the daemon talks to it in
//! commands, looked at between polls, and hears of it in events. Where there are several ([`super::capture_threads`]),
//! the first has the classifier, and the others a ring each, of flows of their own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use go_metro_rtt::{
    Batch, Engine, EngineConfig, EngineCounters, Interval, Outcome, Sample, Segment, Summaries, SummaryLimits,
};
use tokio::sync::mpsc as async_mpsc;
use tokio::sync::oneshot;

use super::flow_tap::{FlowTap, Tapped};
use super::one_direction::{Change, Silence, Views};
use crate::capture::{
    Attached, CaptureError, Continuity, Handover, InterfaceEvent, Jump, Source, SourceCounters, WatchList, Way,
    interfaces,
};
use crate::netlink::monitor::Monitor;
use crate::netlink::outages::Outages;
use crate::threads;

/// Longest wait for records before commands are looked at.
const POLL: Duration = Duration::from_millis(100);
/// Most reads of a source, each of a part of its buffer, before commands are looked at.
const READS: usize = 8;

/// How often flows are expired, and interfaces' views looked at.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// How often interfaces are looked after though the kernel told of no change, or where it does not tell.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(1)];

/// Longest wait for the thread when the daemon stops; it answers within [`POLL`] unless it hangs.
pub(super) const END: Duration = Duration::from_millis(300);

/// Longest wait for the last interval, of which a stop within a second leaves no more.
pub(super) const LAST: Duration = Duration::from_millis(450);

/// Longest time that leaving the hooks takes of a stop.
const DETACH: Duration = Duration::from_millis(150);

/// Longest wait for it by a question about the state.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What the daemon asks of the thread.
pub(super) enum Command {
    /// Watch these addresses from now on.
    Watch(WatchList),
    /// These threads have the rings of the same classifier.
    Others(Vec<mpsc::Sender<Command>>),
    /// Forget what is outstanding on these interfaces, and say so if somebody waits for it.
    Interrupt(Vec<u32>, Option<mpsc::Sender<()>>),
    /// Hand out the interval.
    Interval(oneshot::Sender<Snapshot>),
    /// Leave the hooks, as far as there is time, so that nothing more comes into any ring.
    Detach(oneshot::Sender<()>),
    /// Measure what has come, hand out the last interval, and end.
    Finish(oneshot::Sender<Snapshot>),
    /// Go on with another source.
    Replace(Box<Replacement>),
    /// Move to the head of the hook that sees this direction of an interface.
    MoveToHead(u32, Way),
    /// Apply new limits.
    Limits(EngineConfig, SummaryLimits),
    /// Report the state.
    Status(oneshot::Sender<CaptureStatus>),
    /// Report what each flow measured since the last time, and keep doing so.
    Flows(oneshot::Sender<(Tapped, CaptureStatus)>),
    /// Stop per-flow reporting.
    StopFlows,
}

/// A source to go on with.
pub(super) struct Replacement {
    /// Prepared to take over.
    pub(super) source: Source,
    /// What it was opened for.
    pub(super) watch: WatchList,
    /// Whether it says the same of flows as the one before, so that what is outstanding stays comparable.
    pub(super) keeps_flows: bool,
    /// Set once the first thread's source has taken over, to the moment from which only the new rings get anything.
    pub(super) taken_over: Arc<OnceLock<Instant>>,
}

/// A source that was replaced, while what it has seen still comes.
struct Retiring {
    source: Source,
    /// Held until it is over.
    _handover: Option<Handover>,
    taken_over: Arc<OnceLock<Instant>>,
    /// When it is given up in any case.
    at_the_latest: Instant,
    keeps_flows: bool,
    /// What came from both, to be sorted by time.
    came: Vec<Segment>,
    /// Others may be missing among those.
    has_gap: bool,
    /// Interfaces that it was on, and the one that took over is.
    stay: Vec<InterfaceEvent>,
}

impl Retiring {
    fn is_over(&self) -> bool {
        let now = Instant::now();
        let until = self.taken_over.get().copied().filter(|until| *until <= self.at_the_latest);
        until.unwrap_or(self.at_the_latest) <= now
    }
}

/// Longest time that a replaced source is read.
const RETIRE: Duration = Duration::from_secs(3);

/// What the thread tells the daemon.
pub(super) enum Event {
    /// Something happened to an interface.
    Interface(InterfaceEvent),
    /// Something happened to the clocks.
    Clock(Jump),
    /// One direction of an interface is hidden, or no longer.
    View(Change),
    /// The source failed for good.
    Failed(CaptureError),
}

/// One interval and the counters at its end.
#[derive(Default)]
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
pub(super) struct CaptureStatus {
    pub(super) source: SourceCounters,
    pub(super) engine: EngineCounters,
    pub(super) flows: usize,
    pub(super) samples_dropped: u64,
    pub(super) backend: &'static str,
    pub(super) fallback: Option<String>,
    pub(super) attached: Vec<Attached>,
    /// Interfaces that exist and are not captured on though they should be, and why.
    pub(super) trouble: Vec<(String, String)>,
}

impl Snapshot {
    /// One of several threads, of which the first has the classifier.
    pub(super) fn together(parts: Vec<Self>, max_pairs: usize) -> Self {
        let mut all = Self { backend: "", ..Self::default() };
        let mut intervals = Vec::new();
        for (number, part) in parts.into_iter().enumerate() {
            if number == 0 {
                (all.backend, all.interfaces) = (part.backend, part.interfaces);
            }
            all.source.add(&part.source);
            all.engine.add(&part.engine);
            all.flows += part.flows;
            all.samples_dropped += part.samples_dropped;
            intervals.push(part.interval);
        }
        all.interval = Interval::merged(intervals, max_pairs);
        all
    }
}

impl CaptureStatus {
    /// Adds what another thread has counted.
    pub(super) fn add(&mut self, source: &SourceCounters, engine: &EngineCounters, flows: usize, samples_dropped: u64) {
        self.source.add(source);
        self.engine.add(engine);
        self.flows += flows;
        self.samples_dropped += samples_dropped;
    }
}

/// Samples as they come, with what makes their times nanoseconds since the epoch.
pub(super) struct Samples {
    pub(super) samples: Vec<Sample>,
    pub(super) epoch_offset_ns: i64,
}

/// A running thread; it ends once nobody can send it commands any more.
pub(super) struct Worker {
    commands: Option<mpsc::Sender<Command>>,
    thread: JoinHandle<()>,
    /// How often the thread has gone round: between records, and at least every tenth of a second.
    pub(super) beats: Arc<AtomicU64>,
}

impl Worker {
    /// Starts a thread on a source that was opened for `watch`. Samples are handed to `samples` one by one, if anybody
    /// wants them.
    pub(super) fn spawn(
        name: &str,
        source: Source,
        watch: WatchList,
        (engine, limits): (EngineConfig, SummaryLimits),
        samples: Option<mpsc::SyncSender<Samples>>,
        events: async_mpsc::UnboundedSender<Event>,
    ) -> std::io::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let peers_complete = source.peers_complete();
        let beats = Arc::<AtomicU64>::default();
        let state = State {
            beats: beats.clone(),
            source,
            engine: Engine::new(EngineConfig { peers_complete, ..engine }),
            batch: Batch::new(),
            summaries: Summaries::new(limits),
            watch,
            indices: BTreeMap::new(),
            retired: SourceCounters::default(),
            samples,
            samples_dropped: 0,
            tap: None,
            events,
            others: Vec::new(),
            outages: None,
            retiring: None,
            views: Views::default(),
            silence: Silence::default(),
        };
        let thread = threads::spawn(name, move || state.run(&inbox))?;
        Ok(Self { commands: Some(commands), thread, beats })
    }

    /// Sends a command. A thread that ended has said why in an event.
    pub(super) fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
    }

    /// Where others may send it commands.
    pub(super) fn inbox(&self) -> Option<mpsc::Sender<Command>> {
        self.commands.clone()
    }

    /// Asks for the interval. It comes once the thread looks at its commands, and never when the thread has ended.
    pub(super) fn interval(&self) -> oneshot::Receiver<Snapshot> {
        self.asked(Command::Interval)
    }

    /// Asks it to leave the hooks.
    pub(super) fn detach(&self) -> oneshot::Receiver<()> {
        self.asked(Command::Detach)
    }

    /// Asks for the last interval, after which it ends: every sample that it found is in a report.
    pub(super) fn finish(&self) -> oneshot::Receiver<Snapshot> {
        self.asked(Command::Finish)
    }

    /// Asks for its state.
    pub(super) fn status(&self) -> oneshot::Receiver<CaptureStatus> {
        self.asked(Command::Status)
    }

    /// Asks what each flow measured since the last time.
    pub(super) fn flows(&self) -> oneshot::Receiver<(Tapped, CaptureStatus)> {
        self.asked(Command::Flows)
    }

    fn asked<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply));
        answer
    }

    /// Sends no more commands.
    pub(super) fn hang_up(&mut self) {
        self.commands = None;
    }

    /// Stops controlling it: it ends once nothing else sends it commands either.
    pub(super) fn abandon(mut self) {
        self.hang_up();
    }

    /// Waits for its end until then, after which it is taken to hang.
    pub(super) fn join(self, deadline: Instant) {
        while !self.thread.is_finished() {
            if Instant::now() >= deadline {
                tracing::error!("the capture thread hangs; going without it");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.thread.join();
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
    tap: Option<FlowTap>,
    events: async_mpsc::UnboundedSender<Event>,
    /// Threads that drain the other rings of the same classifier.
    others: Vec<mpsc::Sender<Command>>,
    /// Hears of links that are down, in the namespace of the thread.
    outages: Option<Outages>,
    retiring: Option<Retiring>,
    views: Views,
    silence: Silence,
}

impl State {
    fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        let (mut expire_at, mut look_at) = (Instant::now(), Instant::now());
        // Who has only a ring has no interfaces to look after.
        let monitor = (!self.is_other()).then(Monitor::open).transpose().unwrap_or_else(|error| {
            tracing::info!("interfaces are looked at every second only: the kernel does not tell of changes: {error}");
            None
        });
        self.outages = Outages::open()
            .inspect_err(|error| tracing::info!("what a link loses while it is down may be timed: {error}"))
            .ok();
        let has_changed = || monitor.as_ref().is_some_and(Monitor::has_changed);
        let look_every = LOOK_EVERY[usize::from(monitor.is_none())];
        self.source.go_beside();
        self.announce();
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            if self.source.is_beside() {
                self.tend();
            } else if has_changed() || look_at <= Instant::now() {
                self.tend();
                look_at = Instant::now() + if self.source.wants_thread() { LOOK_EVERY[1] } else { look_every };
            }
            if expire_at <= Instant::now() {
                self.engine.expire(self.source.now());
                expire_at = Instant::now() + EXPIRE_EVERY;
                let changes = self.views.look().into_iter().chain(self.silence());
                changes.for_each(|change| drop(self.events.send(Event::View(change))));
            }
            if let Err(error) = self.poll(POLL) {
                let _ = self.events.send(Event::Failed(error));
                return;
            }
            // What was asked for waits until all that came before has been measured.
            while self.retiring.is_none() {
                match inbox.try_recv() {
                    Ok(Command::Finish(reply)) => {
                        // What waits in the source is measured still, and whatever was measured is in the interval.
                        let _ = self.poll(Duration::ZERO);
                        let _ = reply.send(self.snapshot());
                        return;
                    }
                    Ok(command) => {
                        // There may be interfaces that were not watched before.
                        if matches!(command, Command::Watch(_) | Command::Replace(_)) {
                            look_at = Instant::now();
                        }
                        self.handle(command);
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    /// What tells that the classifier sees nothing, or sees again. libpcap has its own counters, and no program before
    /// it.
    fn silence(&mut self) -> Vec<Change> {
        if self.retiring.is_some() || !matches!(self.source, Source::Ebpf(_)) {
            return Vec::new();
        }
        self.silence.look(counters(&mut self.source).packets.seen, &self.source.interfaces())
    }

    /// Whether another thread has the classifier.
    fn is_other(&self) -> bool {
        matches!(self.source, Source::Ring(_))
    }

    /// Forgets what is outstanding on these interfaces, here and in the other threads.
    fn interrupt(&mut self, indices: &[u32], heard: Option<&mpsc::Sender<()>>) {
        indices.iter().for_each(|index| self.engine.interrupt(*index));
        for other in &self.others {
            let _ = other.send(Command::Interrupt(indices.to_vec(), heard.cloned()));
        }
    }

    /// The same, done everywhere when this returns.
    fn interrupt_now(&mut self, indices: &[u32]) {
        if indices.is_empty() {
            return;
        }
        let (heard, hearing) = mpsc::channel();
        self.interrupt(indices, Some(&heard));
        drop(heard);
        let deadline = Instant::now() + PATIENCE;
        // It ends when all have answered, or gone.
        while hearing.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
    }

    /// Reads a source that was replaced, and the one that took over, and measures what came from both once that is all.
    fn retire(&mut self) -> Result<(), CaptureError> {
        let Some(retiring) = &mut self.retiring else { return Ok(()) };
        self.source.wait(Duration::from_millis(5))?;
        // First what may be older.
        for source in [&mut retiring.source, &mut self.source] {
            retiring.has_gap |= take_all(source, &mut retiring.came);
        }
        if retiring.is_over()
            && let Some(Retiring { mut source, keeps_flows, mut came, has_gap, stay, .. }) = self.retiring.take()
        {
            self.retired.add(&counters(&mut source));
            let was_gap = source.is_gap_near() || has_gap;
            drop(source);
            let is_gap = self.source.is_gap_near() || was_gap;
            // Where in what is sorted by time now, nobody knows.
            self.engine.set_doubtful(is_gap);
            if !keeps_flows {
                self.engine.interrupt_all();
            }
            self.engine.set_peers_complete(self.source.peers_complete());
            if is_gap {
                self.engine.note_gap();
            }
            came.sort_by_key(Segment::time);
            self.measure(Some(&came));
            if is_gap {
                self.engine.note_gap();
                self.engine.set_doubtful(false);
            }
            self.notice_jump();
            // They are not interrupted, but captured by another source from now on.
            stay.into_iter().for_each(|event| drop(self.events.send(Event::Interface(event))));
        }
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<(), CaptureError> {
        if self.retiring.is_some() {
            return self.retire();
        }
        self.source.wait(timeout)?;
        let Self { engine, outages, .. } = self;
        // Told before anything that came after it: what comes when the link is up again meets nothing from before.
        if let Some(outages) = outages {
            let interrupted = outages.take();
            interrupted.indices.iter().for_each(|ifindex| engine.interrupt(*ifindex));
            if interrupted.overrun {
                engine.interrupt_all();
            }
        }
        for _ in 0..READS {
            self.notice_loss();
            self.measure(None);
            if !self.source.has_more() {
                break;
            }
        }
        self.notice_jump();
        Ok(())
    }

    /// Looks whether the kernel had no room for a record before, or among, what is read next.
    fn notice_loss(&mut self) {
        let Continuity { is_gap, is_doubtful } = self.source.continuity();
        if is_gap {
            self.engine.note_gap();
        }
        self.engine.set_doubtful(is_doubtful);
    }

    /// Measures what came, or else what the source has.
    fn measure(&mut self, came: Option<&[Segment]>) {
        let Self { source, engine, batch, summaries, samples, tap, views, .. } = self;
        // A hook may hide something; libpcap is on none.
        let has_hooks = !matches!(source, Source::Pcap(_));
        let mut found = Vec::new();
        let mut sink = |segment: &Segment, outcome| {
            if has_hooks {
                views.note(segment, &outcome);
            }
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
        match came {
            Some(came) => came.iter().for_each(|segment| batch.push(segment, engine, &mut sink)),
            None => source.read(&mut |segment| batch.push(segment, engine, &mut sink)),
        }
        batch.flush(engine, &mut sink);
        if let Some(channel) = samples.as_ref().filter(|_| !found.is_empty()) {
            let count = found.len() as u64;
            let found = Samples { samples: found, epoch_offset_ns: source.epoch_offset_ns() };
            if channel.try_send(found).is_err() {
                self.samples_dropped += count;
            }
        }
    }

    fn notice_jump(&mut self) {
        if let Some(jump) = self.source.take_jump() {
            if !self.source.stamps_survive(jump) {
                self.engine.interrupt_all();
            }
            // All threads see it; one reports it.
            if !self.is_other() {
                let _ = self.events.send(Event::Clock(jump));
            }
        }
    }

    /// The interval so far, and the counters.
    fn snapshot(&mut self) -> Snapshot {
        let mut source = self.retired;
        source.add(&counters(&mut self.source));
        Snapshot {
            interval: self.summaries.take(),
            source,
            engine: *self.engine.counters(),
            flows: self.engine.flows(),
            samples_dropped: self.samples_dropped,
            backend: self.source.name(),
            interfaces: self.indices.len(),
        }
    }

    fn status(&mut self) -> CaptureStatus {
        let mut source = self.retired;
        source.add(&counters(&mut self.source));
        CaptureStatus {
            source,
            engine: *self.engine.counters(),
            flows: self.engine.flows(),
            samples_dropped: self.samples_dropped,
            backend: self.source.name(),
            fallback: self.source.fallback().map(str::to_owned),
            attached: self.source.attached(),
            trouble: self.source.trouble(),
        }
    }

    /// Tells which interfaces a source that was just opened is on, so far as they differ from those before; the others.
    fn announce(&mut self) -> Vec<InterfaceEvent> {
        let now: BTreeMap<String, u32> = self.source.interfaces().into_iter().collect();
        let before = self.indices.clone();
        for (name, ifindex) in before.into_iter().filter(|(name, ifindex)| now.get(name) != Some(ifindex)) {
            self.note(InterfaceEvent::Lost { name, ifindex });
        }
        let mut stay = Vec::new();
        for (name, ifindex) in now {
            let stays = self.indices.get(&name) == Some(&ifindex);
            let event = InterfaceEvent::Attached { name, ifindex };
            if stays { stay.push(event) } else { self.note(event) }
        }
        stay
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
                    // The same interface, but reversed: what was sent is what is received now.
                    self.interrupt(&[*ifindex], None);
                }
            }
            InterfaceEvent::Turned { ifindex, .. } => return self.interrupt(&[*ifindex], None),
            InterfaceEvent::Lost { name, ifindex } => {
                self.indices.remove(name);
                self.interrupt(&[*ifindex], None);
            }
        }
        let _ = self.events.send(Event::Interface(event));
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Watch(watch) => {
                // What was not watched until now may have outstanding segments from an earlier window, acknowledged
                // unseen. They are forgotten before the first new record can come, whichever thread it comes to.
                let changed = watch.iter().filter(|(text, nets)| self.watch.get(*text) != Some(nets));
                let changed: Vec<&str> = changed.map(|(text, _)| text.as_str()).collect();
                let meant = interfaces::indices_of(&changed);
                let is_meant = |index: &u32| *index == 0 || meant.as_ref().is_none_or(|meant| meant.contains(index));
                let meant: Vec<u32> = self.indices.values().copied().filter(is_meant).collect();
                self.interrupt_now(&meant);
                match self.source.set_targets(&watch) {
                    Ok(()) => self.watch = watch,
                    Err(error) => tracing::error!("targets stay as they were: {error}"),
                }
            }
            Command::Others(others) => self.others = others,
            Command::Interrupt(indices, heard) => {
                indices.iter().for_each(|index| self.engine.interrupt(*index));
                if let Some(heard) = heard {
                    let _ = heard.send(());
                }
            }
            Command::Interval(reply) | Command::Finish(reply) => {
                let _ = reply.send(self.snapshot());
            }
            Command::Detach(reply) => {
                self.source.detach(Instant::now() + DETACH);
                let _ = reply.send(());
            }
            Command::Limits(engine, limits) => {
                let peers_complete = self.source.peers_complete();
                self.engine.set_config(EngineConfig { peers_complete, ..engine });
                self.summaries.set_limits(limits);
            }
            Command::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Command::Flows(reply) => {
                let _ = reply.send((self.tap.get_or_insert_default().take(), self.status()));
            }
            Command::StopFlows => self.tap = None,
            Command::MoveToHead(ifindex, way) => {
                let events = self.source.move_to_head(ifindex, way);
                events.into_iter().for_each(|event| self.note(event));
            }
            Command::Replace(replacement) => self.replace(*replacement),
        }
    }
}

impl State {
    /// Goes on with another source, where this one was.
    fn replace(&mut self, replacement: Replacement) {
        let Replacement { source, watch, keeps_flows, taken_over } = replacement;
        let mut before = std::mem::replace(&mut self.source, source);
        let (mut handover, mut stay) = (None, Vec::new());
        let mut keeps_flows = keeps_flows && (self.is_other() || self.watch == watch);
        if !self.is_other() {
            let done = self.source.take_over(&mut before);
            if !done.is_seamless {
                tracing::info!("one source took over from another kind: what passed between them is not measured");
            }
            keeps_flows &= done.is_seamless;
            let _ = taken_over.set(done.until);
            handover = Some(done);
            self.source.go_beside();
            self.watch = watch;
            stay = self.announce();
        }
        let at_the_latest = Instant::now() + RETIRE;
        self.retiring = Some(Retiring {
            source: before,
            _handover: handover,
            taken_over,
            at_the_latest,
            keeps_flows,
            came: Vec::new(),
            has_gap: false,
            stay,
        });
    }
}

/// Takes what a source has; whether others may be missing among it.
fn take_all(source: &mut Source, came: &mut Vec<Segment>) -> bool {
    let mut has_gap = false;
    for _ in 0..READS {
        let Continuity { is_gap, is_doubtful } = source.continuity();
        has_gap |= is_gap || is_doubtful;
        source.read(&mut |segment| came.push(*segment));
        if !source.has_more() {
            break;
        }
    }
    has_gap
}

/// A source's counters; zeros, and a word in the log, if the kernel does not let them be read.
fn counters(source: &mut Source) -> SourceCounters {
    source.counters().unwrap_or_else(|error| {
        tracing::warn!("no counters this time: {error}");
        SourceCounters::default()
    })
}
