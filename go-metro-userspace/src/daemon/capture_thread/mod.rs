//! The capture thread: source to engine to summaries.
//!
//! It owns all three ([`meter`]), so that no segment ever crosses a thread or takes a lock; but with `workers`, where
//! meters on threads of their own share the flows ([`shards`]). The rest of the daemon talks to it in commands, looked
//! at between polls, and hears of it in events ([`messages`]); a [`CaptureThread`] is its handle.

mod handle;
mod handover;
mod keeper;
mod labels;
mod messages;
mod meter;
mod shards;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use go_metro_rtt::{EngineConfig, Interval, Segment};
use tokio::sync::mpsc as async_mpsc;
use tokio::sync::oneshot;

use super::flow_tap::Tapped;
use super::one_direction::{Change, Silence};
use super::owners::Asker;
use super::settings::Limits;
use crate::capture::{CaptureError, Continuity, InterfaceEvent, Source, SourceCounters, WatchList, interfaces};
use crate::inbox::{Bell, Inbox};
use crate::netlink::monitor::Monitor;
use crate::netlink::outages::Outages;
use crate::record::Described;
use handover::Retiring;
use messages::Command;
use meter::{Counts, Meter, Order, Origin, Reading};
use shards::Measuring;

/// What is measured without a capture thread.
pub(super) mod simulated {
    pub(in crate::daemon) use super::meter::{Meter, Origin, Segments};
    pub(in crate::daemon) use super::shards::Measuring;
}

pub(super) use handle::CaptureThread;
pub(super) use messages::{CaptureStatus, Event, Kept, Samples, Snapshot};

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
    measuring: Measuring,
    /// Each meter's share.
    limits: Limits,
    watch: WatchList,
    /// The index that each interface has now.
    indices: BTreeMap<String, u32>,
    /// What sources that were replaced had counted.
    retired: SourceCounters,
    /// What meters had counted that are no more, and what they had found since the last interval.
    ended: Ended,
    events: async_mpsc::UnboundedSender<Event>,
    /// Hears of links that are down, in the namespace of the thread.
    outages: Option<Outages>,
    retiring: Option<Retiring>,
    silence: Silence,
    /// Who says whose flows are, where that is wanted.
    asker: Option<Asker>,
    /// In how many bytes each meter keeps records because somebody records by hand.
    by_hand: Option<usize>,
}

/// Of meters that are no more.
#[derive(Default)]
struct Ended {
    intervals: Vec<Interval>,
    counts: Counts,
}

impl State {
    fn run(mut self, inbox: &Inbox<Command>) {
        let (mut expire_at, mut look_at) = (Instant::now(), Instant::now());
        let monitor = Monitor::open()
            .inspect_err(|error| {
                tracing::info!("the kernel does not report changes; checking interfaces every second: {error}");
            })
            .ok();
        self.outages = Outages::open()
            .inspect_err(|error| tracing::info!("segments lost while a link is down may be timed: {error}"))
            .ok();
        let has_changed = || monitor.as_ref().is_some_and(Monitor::has_changed);
        let look_every = LOOK_EVERY[usize::from(monitor.is_none())];
        self.source.go_beside(&self.bell);
        self.measuring.tell(&Order::PeersComplete(self.source.peers_complete()));
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
                self.measuring.tell(&Order::Expire(self.source.now()));
                expire_at = Instant::now() + EXPIRE_EVERY;
                let events = self.events.clone();
                let tell = move |change| drop(events.send(Event::View(change)));
                self.silence().into_iter().for_each(&tell);
                self.measuring.ask(Meter::look, move |changes| changes.into_iter().flatten().for_each(tell));
                if self.limits.record.has_outliers() {
                    let events = self.events.clone();
                    self.measuring.ask(Meter::outliers, move |outliers| {
                        outliers.into_iter().flatten().for_each(|focus| drop(events.send(Event::Outlier(focus))));
                    });
                }
            }
            let may_idle = !came && self.source.is_beside();
            let longest = match &self.asker {
                Some(_) => labels::LOOK_EVERY,
                None if may_idle => IDLE,
                None => POLL,
            };
            came = match self.poll(longest, Some(inbox.as_fd())) {
                Ok(came) => came,
                Err(error) => {
                    let _ = self.events.send(Event::Failed(error));
                    return;
                }
            };
            self.measuring.look_up_owners();
            if self.retiring.is_none() {
                inbox.hush();
            }
            // What was asked for waits until all that came before has been measured.
            while self.retiring.is_none() {
                match inbox.try_recv() {
                    Ok(Command::Finish(reply)) => {
                        // What waits in the source is measured still, and whatever was measured is in the interval.
                        self.source.hold_nothing_back();
                        let until = Instant::now() + self.source.gathers();
                        loop {
                            let left = until.saturating_duration_since(Instant::now());
                            let _ = self.poll(left, None);
                            if left.is_zero() {
                                break;
                            }
                        }
                        self.report(reply, Meter::read_last);
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

    /// Forgets what is outstanding on these interfaces.
    fn interrupt(&mut self, indices: impl IntoIterator<Item = u32>) {
        indices.into_iter().for_each(|index| self.measuring.tell(&Order::Interrupt(index)));
    }

    /// Waits for records, or until `also` is readable, and measures them; whether any came.
    fn poll(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<bool, CaptureError> {
        if self.retiring.is_some() {
            return self.retire().map(|()| true);
        }
        self.source.wait(timeout, also)?;
        // Told before anything that came after it: what comes when the link is up again meets nothing from before.
        if let Some(interrupted) = self.outages.as_mut().map(Outages::take) {
            self.interrupt(interrupted.indices);
            if interrupted.overrun {
                self.measuring.tell(&Order::InterruptAll);
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
            self.measuring.tell(&Order::Gap);
        }
        self.measuring.tell(&Order::Doubtful(is_doubtful));
        if let Some(flow) = late {
            self.measuring.tell(&Order::InterruptFlow(flow));
        }
    }

    /// Measures what came, or else what the source has; whether that was anything.
    fn measure(&mut self, came: Option<&[Segment]>) -> bool {
        let Self { source, measuring, .. } = self;
        // libpcap is on no hook.
        let may_hide = !matches!(source, Source::Pcap(_));
        let origin = Origin { epoch_offset_ns: source.epoch_offset_ns(), may_hide };
        match came {
            Some(came) => measuring.measure(origin, came),
            None => measuring.measure(origin, source),
        }
    }

    fn notice_jump(&mut self) {
        if let Some(jump) = self.source.take_jump() {
            if !self.source.stamps_survive(jump) {
                self.measuring.tell(&Order::InterruptAll);
            }
            let _ = self.events.send(Event::Clock(jump));
        }
    }

    /// What this source and those before it have counted.
    fn source_counters(&mut self) -> SourceCounters {
        let mut all = self.retired;
        all.add(&counters(&mut self.source));
        all
    }

    /// Answers with the interval so far, and the counters, once all meters have.
    fn report(&mut self, reply: oneshot::Sender<Snapshot>, read: fn(&mut Meter) -> Reading) {
        // What lasts counts until now.
        self.measuring.tell(&Order::Expire(self.source.now()));
        let source = self.source_counters();
        let (backend, interfaces) = (self.source.name(), self.indices.len());
        let Ended { intervals, counts } = &mut self.ended;
        let (mut intervals, mut counts) = (std::mem::take(intervals), *counts);
        let max_pairs = self.limits.summaries.max_pairs;
        self.measuring.ask(read, move |readings| {
            for reading in readings {
                counts.add(&reading.counts);
                intervals.push(reading.interval);
            }
            let interval = match intervals.as_mut_slice() {
                [only] => std::mem::take(only),
                _ => Interval::merged(intervals, max_pairs),
            };
            let Counts { engine, flows, samples_dropped } = counts;
            let _ = reply.send(Snapshot { interval, source, engine, flows, samples_dropped, backend, interfaces });
        });
    }

    /// Answers a question about the state once all meters have.
    fn tell_state<T: Send + 'static>(
        &mut self,
        question: fn(&mut Meter) -> (T, Counts),
        then: impl FnOnce(Vec<T>, CaptureStatus) + Send + 'static,
    ) {
        let mut counts = self.ended.counts;
        let source = self.source_counters();
        let (backend, fallback) = (self.source.name(), self.source.fallback().map(str::to_owned));
        let (attached, trouble) = (self.source.attached(), self.source.trouble());
        self.measuring.ask(question, move |answers| {
            let (answers, each): (Vec<T>, Vec<Counts>) = answers.into_iter().unzip();
            each.iter().for_each(|one| counts.add(one));
            let Counts { engine, flows, samples_dropped } = counts;
            let status = CaptureStatus { source, engine, flows, samples_dropped, backend, fallback, attached, trouble };
            then(answers, status);
        });
    }

    /// Goes on with other meters. Flows start over; what was counted and found is kept.
    fn measure_by(&mut self, measuring: Measuring) {
        let mut before = std::mem::replace(&mut self.measuring, measuring);
        let (give, take) = mpsc::channel();
        before.ask(Meter::read_last, move |readings| drop(give.send(readings)));
        // They have what they were handed, and that is little.
        for reading in take.recv().unwrap_or_default() {
            self.ended.counts.add(&Counts { flows: 0, ..reading.counts });
            self.ended.intervals.push(reading.interval);
        }
        self.measuring.tell(&Order::PeersComplete(self.source.peers_complete()));
        if self.asker.is_some() {
            self.measuring.tell(&Order::LabelFlows(self.asker.clone()));
        }
        if self.by_hand.is_some() {
            self.measuring.tell(&Order::KeepByHand(self.by_hand));
        }
    }

    /// Answers with what is kept of records, once all meters have.
    fn hand_out_kept(&mut self, reply: oneshot::Sender<Kept>) {
        let engine = EngineConfig { peers_complete: self.source.peers_complete(), ..self.limits.engine };
        let now = self.source.now();
        let interfaces = self.indices.iter().map(|(name, index)| (*index, name.clone())).collect();
        let described = Described { epoch_offset_ns: self.source.epoch_offset_ns(), interfaces };
        self.measuring.ask(Meter::kept, move |rings| {
            let _ = reply.send(Kept { rings, engine, now, described });
        });
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
                    self.interrupt([*ifindex]);
                }
            }
            InterfaceEvent::Turned { ifindex, .. } => return self.interrupt([*ifindex]),
            InterfaceEvent::Lost { name, ifindex } => {
                self.indices.remove(name);
                self.interrupt([*ifindex]);
            }
        }
        let _ = self.events.send(Event::Interface(event));
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Watch(watch) => {
                // What was not watched until now may have outstanding segments from an earlier window, acknowledged
                // unseen. They are forgotten before the first new record can come.
                let changed = watch.iter().filter(|(text, nets)| self.watch.get(*text) != Some(nets));
                let changed: Vec<&str> = changed.map(|(text, _)| text.as_str()).collect();
                let meant = interfaces::indices_of(&changed);
                let is_meant = |index: &u32| *index == 0 || meant.as_ref().is_none_or(|meant| meant.contains(index));
                let meant: Vec<u32> = self.indices.values().copied().filter(is_meant).collect();
                self.interrupt(meant);
                match self.source.set_targets(&watch) {
                    Ok(()) => self.watch = watch,
                    Err(error) => tracing::error!("cannot change the targets, keeping the previous ones: {error}"),
                }
            }
            Command::Interval(reply) | Command::Finish(reply) => self.report(reply, Meter::read),
            Command::Detach(reply) => {
                self.source.detach(Instant::now() + DETACH);
                let _ = reply.send(());
            }
            Command::Limits(limits, measuring) => {
                self.limits = *limits;
                if let Some(measuring) = measuring {
                    self.measure_by(*measuring);
                } else {
                    let peers_complete = self.source.peers_complete();
                    let engine = EngineConfig { peers_complete, ..self.limits.engine };
                    let limits = Limits { engine, ..self.limits.clone() };
                    self.measuring.tell(&Order::Limits(Box::new(limits)));
                }
            }
            Command::Group(grouping) => {
                self.limits.grouping.clone_from(&grouping);
                self.measuring.tell(&Order::Group(grouping));
            }
            Command::Status(reply) => {
                self.tell_state(|meter| ((), meter.counts()), move |_, status| drop(reply.send(status)));
            }
            Command::Flows(reply) => {
                self.tell_state(Meter::flows, move |flows, status| {
                    let mut all = Tapped::default();
                    flows.into_iter().for_each(|flows| all.add(flows));
                    let _ = reply.send((all, status));
                });
            }
            Command::LabelFlows(asker) => {
                self.measuring.tell(&Order::LabelFlows(asker.clone()));
                self.asker = asker;
            }
            Command::StopFlows => self.measuring.tell(&Order::StopFlows),
            Command::KeepByHand(bytes) => {
                self.by_hand = bytes;
                self.measuring.tell(&Order::KeepByHand(bytes));
            }
            Command::Kept(reply) => self.hand_out_kept(reply),
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
        tracing::warn!("cannot read the counters: {error}");
        SourceCounters::default()
    })
}
