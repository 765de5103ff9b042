//! A capture thread: source to engine to summaries.
//!
//! It owns all three, so that no record ever crosses a thread or takes a lock. The rest of the daemon talks to it in
//! commands, looked at between polls, and hears of it in events ([`messages`]); a [`Worker`] is its handle. Where there
//! are several ([`super::capture_threads`]), the first has the classifier, and the others a ring each, of flows of
//! their own.

mod handover;
mod messages;
mod worker;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use go_metro_rtt::{Batch, Engine, EngineConfig, FlowKey, Outcome, Segment, Side, Summaries};
use tokio::sync::mpsc as async_mpsc;

use super::flow_tap::FlowTap;
use super::one_direction::{Change, Silence, Views};
use crate::capture::{CaptureError, Continuity, InterfaceEvent, Source, SourceCounters, WatchList, interfaces};
use crate::inbox::{self, Bell, Inbox};
use crate::netlink::monitor::Monitor;
use crate::netlink::outages::Outages;
use handover::Retiring;

pub(super) use handover::Replacement;
pub(super) use messages::{CaptureStatus, Command, Event, Samples, Snapshot};
pub(super) use worker::Worker;

/// Longest wait for records. The kernel's ring does not wake the thread for each, and libpcap's thread looks after the
/// interfaces too.
const POLL: Duration = Duration::from_millis(100);
/// The same of the classifier's records while none come. Commands wake the thread.
const IDLE: Duration = Duration::from_millis(500);
/// Most reads of a source, each of a part of its buffer, before commands are looked at.
const READS: usize = 8;

/// How often flows are expired, and interfaces' views looked at.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// How often interfaces are looked after though the kernel told of no change, or where it does not tell.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(1)];

/// Longest wait for the thread when the daemon stops; it answers at once unless it hangs.
pub(super) const END: Duration = Duration::from_millis(300);

/// Longest wait for the last interval, of which a stop within a second leaves no more.
pub(super) const LAST: Duration = Duration::from_millis(450);

/// Longest time that leaving the hooks takes of a stop.
const DETACH: Duration = Duration::from_millis(150);

/// Longest wait for it by a question about the state.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

struct State {
    beats: Arc<AtomicU64>,
    /// Wakes this thread.
    bell: Bell,
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
    others: Vec<inbox::Sender<Command>>,
    /// Hears of links that are down, in the namespace of the thread.
    outages: Option<Outages>,
    retiring: Option<Retiring>,
    views: Views,
    silence: Silence,
}

impl State {
    fn run(mut self, inbox: &Inbox<Command>) {
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
        self.source.go_beside(&self.bell);
        self.announce();
        let mut came = true;
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
            let may_idle = !came && (self.source.is_beside() || self.is_other());
            came = match self.poll(if may_idle { IDLE } else { POLL }, Some(inbox.as_fd())) {
                Ok(came) => came,
                Err(error) => {
                    let _ = self.events.send(Event::Failed(error));
                    return;
                }
            };
            if self.retiring.is_none() {
                inbox.hush();
            }
            // What was asked for waits until all that came before has been measured.
            while self.retiring.is_none() {
                match inbox.try_recv() {
                    Ok(Command::Finish(reply)) => {
                        // What waits in the source is measured still, and whatever was measured is in the interval.
                        self.source.hold_nothing_back();
                        let _ = self.poll(Duration::ZERO, None);
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

    /// Waits for records, or until `also` is readable, and measures them; whether any came.
    fn poll(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<bool, CaptureError> {
        if self.retiring.is_some() {
            return self.retire().map(|()| true);
        }
        self.source.wait(timeout, also)?;
        let Self { engine, outages, .. } = self;
        // Told before anything that came after it: what comes when the link is up again meets nothing from before.
        if let Some(outages) = outages {
            let interrupted = outages.take();
            interrupted.indices.iter().for_each(|ifindex| engine.interrupt(*ifindex));
            if interrupted.overrun {
                engine.interrupt_all();
            }
        }
        let mut came = false;
        for _ in 0..READS {
            self.notice_loss();
            came |= self.measure(None);
            if !self.source.has_more() {
                break;
            }
        }
        self.notice_jump();
        Ok(came)
    }

    /// Looks whether the kernel had no room for a record before, or among, what is read next.
    fn notice_loss(&mut self) {
        let Continuity { is_gap, is_doubtful, late } = self.source.continuity();
        if is_gap {
            self.engine.note_gap();
        }
        self.engine.set_doubtful(is_doubtful);
        if let Some(flow) = late {
            for side in [Side::Remote, Side::Local] {
                self.engine.interrupt_flow(&FlowKey { side, ..flow });
            }
        }
    }

    /// Measures what came, or else what the source has; whether that was anything.
    fn measure(&mut self, came: Option<&[Segment]>) -> bool {
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
        let mut is_any = false;
        let mut push = |segment: &Segment| {
            is_any = true;
            batch.push(segment, engine, &mut sink);
        };
        match came {
            Some(came) => came.iter().for_each(push),
            None => source.read(&mut push),
        }
        batch.flush(engine, &mut sink);
        if let Some(channel) = samples.as_ref().filter(|_| !found.is_empty()) {
            let count = found.len() as u64;
            let found = Samples { samples: found, epoch_offset_ns: source.epoch_offset_ns() };
            if channel.try_send(found).is_err() {
                self.samples_dropped += count;
            }
        }
        is_any
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

    /// What this source and those before it have counted.
    fn source_counters(&mut self) -> SourceCounters {
        let mut all = self.retired;
        all.add(&counters(&mut self.source));
        all
    }

    /// The interval so far, and the counters.
    fn snapshot(&mut self) -> Snapshot {
        let source = self.source_counters();
        let Self { engine, summaries, .. } = self;
        engine.take_health(|pair, health| summaries.add_health(pair, health));
        Snapshot {
            interval: summaries.take(),
            source,
            engine: *self.engine.counters(),
            flows: self.engine.flows(),
            samples_dropped: self.samples_dropped,
            backend: self.source.name(),
            interfaces: self.indices.len(),
        }
    }

    fn status(&mut self) -> CaptureStatus {
        let source = self.source_counters();
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
            Command::Limits(limits) => {
                let peers_complete = self.source.peers_complete();
                self.engine.set_config(EngineConfig { peers_complete, ..limits.engine });
                self.batch.set_ports(limits.ports, &mut self.engine);
                self.summaries.set_limits(limits.summaries);
                self.engine.count_health(limits.health);
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

/// A source's counters; zeros, and a word in the log, if the kernel does not let them be read.
fn counters(source: &mut Source) -> SourceCounters {
    source.counters().unwrap_or_else(|error| {
        tracing::warn!("no counters this time: {error}");
        SourceCounters::default()
    })
}
