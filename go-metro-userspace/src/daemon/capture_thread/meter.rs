//! What measures segments, on whichever thread: engine, summaries, and what else looks at outcomes.

use std::sync::mpsc;

use go_metro_rtt::{
    Batch, Engine, EngineConfig, EngineCounters, FlowKey, Grouping, Interval, Label, Nanos, Outcome, PairKey,
    PeerHealth, Sample, Segment, Side, Summaries,
};

use super::Samples;
use super::keeper::Keeper;
use super::labels::Labelling;
use crate::capture::Source;
use crate::daemon::flow_tap::{FlowTap, Tapped};
use crate::daemon::one_direction::{Change, Views};
use crate::daemon::owners::Asker;
use crate::daemon::settings::Limits;
use crate::record::{Focus, Mark, Snapshot};

/// Measures segments of some flows, or of all.
pub(in crate::daemon) struct Meter {
    limits: Limits,
    engine: Engine,
    batch: Batch,
    summaries: Summaries,
    samples: Option<mpsc::SyncSender<Samples>>,
    samples_dropped: u64,
    tap: Option<FlowTap>,
    views: Views,
    /// Who knows whose the flows are, where that is wanted.
    labelling: Option<Labelling>,
    /// Records, where they are kept,
    keeper: Option<Keeper>,
    /// and in how many bytes because somebody records by hand.
    by_hand: Option<usize>,
    peers_complete: bool,
}

/// Where segments that are measured together come from.
#[derive(Clone, Copy)]
pub(in crate::daemon) struct Origin {
    /// What to add to their times for nanoseconds since the epoch.
    pub(in crate::daemon) epoch_offset_ns: i64,
    /// Whether something before the hook may hide others of the same flows.
    pub(in crate::daemon) may_hide: bool,
}

/// Something that has segments, in their order.
pub(in crate::daemon) trait Segments {
    /// Hands each to `sink`.
    fn hand_to(self, sink: &mut impl FnMut(&Segment));
}

impl Segments for &mut Source {
    fn hand_to(self, sink: &mut impl FnMut(&Segment)) {
        self.read(sink);
    }
}

impl Segments for &[Segment] {
    fn hand_to(self, sink: &mut impl FnMut(&Segment)) {
        self.iter().for_each(sink);
    }
}

/// What is to be done to every meter, at this point among the segments.
#[derive(Clone)]
pub(super) enum Order {
    /// Forget what is outstanding on this interface.
    Interrupt(u32),
    /// Forget what is outstanding of this flow.
    InterruptFlow(FlowKey),
    /// Forget all that is outstanding.
    InterruptAll,
    /// Segments were lost before those that come next.
    Gap,
    /// Whether segments may be missing among those that come next.
    Doubtful(bool),
    /// Whether every segment of the peers comes.
    PeersComplete(bool),
    /// Forget flows that are silent.
    Expire(Nanos),
    /// Apply these limits: a meter's share.
    Limits(Box<Limits>),
    /// Group remote hosts otherwise.
    Group(Option<Grouping>),
    /// Note flows one by one no longer.
    StopFlows,
    /// Tell flows apart by whose they are, as this one says; or no longer.
    LabelFlows(Option<Asker>),
    /// Keep records in so many bytes, where none are kept otherwise; or no longer.
    KeepByHand(Option<usize>),
}

/// What a meter has found since the last reading, and counted since it began.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) interval: Interval,
    pub(super) counts: Counts,
}

/// What a meter has counted since it began.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) engine: EngineCounters,
    pub(super) flows: usize,
    pub(super) samples_dropped: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.engine.add(&other.engine);
        self.flows += other.flows;
        self.samples_dropped += other.samples_dropped;
    }
}

impl Meter {
    /// With its share of the limits. Samples are handed to `samples` one by one, if anybody wants them.
    pub(in crate::daemon) fn new(limits: &Limits, samples: Option<mpsc::SyncSender<Samples>>) -> Self {
        let mut engine = Engine::new(limits.engine);
        engine.count_health(limits.health_for(false));
        engine.time_responses(limits.responses);
        engine.group(limits.grouping.clone());
        let mut keeper = None;
        Keeper::set(&mut keeper, limits.record, None);
        Self {
            limits: limits.clone(),
            engine,
            batch: Batch::of(limits.ports),
            summaries: Summaries::new(limits.summaries),
            samples,
            samples_dropped: 0,
            tap: None,
            views: Views::default(),
            labelling: None,
            keeper,
            by_hand: None,
            peers_complete: limits.engine.peers_complete,
        }
    }

    /// Measures what there is; whether that was anything.
    pub(super) fn measure(&mut self, origin: Origin, segments: impl Segments) -> bool {
        let Self { engine, batch, summaries, samples, tap, views, keeper, .. } = self;
        let mut found: Vec<Sample> = Vec::new();
        let mut sink = |segment: &Segment, outcome| {
            if origin.may_hide {
                views.note(segment, &outcome);
            }
            // A response comes beside what became of its segment.
            if let Some(keeper) = keeper.as_mut().filter(|_| !matches!(outcome, Outcome::Response(_))) {
                keeper.note(segment, &outcome);
            }
            match outcome {
                Outcome::Sample(sample) => {
                    summaries.add(&sample);
                    if let Some(tap) = tap {
                        tap.add(&sample);
                    }
                    if samples.is_some() {
                        found.push(sample);
                    }
                }
                Outcome::Response(response) => {
                    summaries.add_response(&response);
                    if let Some(tap) = tap {
                        tap.add_response(&response);
                    }
                }
                _ => {}
            }
        };
        let mut is_any = false;
        segments.hand_to(&mut |segment| {
            is_any = true;
            batch.push(segment, engine, &mut sink);
        });
        batch.flush(engine, &mut sink);
        if let Some(channel) = samples.as_ref().filter(|_| !found.is_empty()) {
            let count = found.len() as u64;
            let found = Samples { samples: found, epoch_offset_ns: origin.epoch_offset_ns };
            if channel.try_send(found).is_err() {
                self.samples_dropped += count;
            }
        }
        is_any
    }

    /// Carries out an order.
    pub(super) fn follow(&mut self, order: &Order) {
        if let Some(keeper) = &mut self.keeper {
            let mark = match order {
                Order::Interrupt(ifindex) => Some(Mark::Interrupt(*ifindex)),
                Order::InterruptFlow(flow) => Some(Mark::InterruptFlow(*flow)),
                Order::InterruptAll => Some(Mark::InterruptAll),
                Order::Gap => Some(Mark::Gap),
                // Of flows that go on, what came before was measured otherwise.
                Order::PeersComplete(complete) => Some(Mark::Restart).filter(|_| *complete != self.peers_complete),
                Order::Limits(new) => {
                    let so_far = EngineConfig { peers_complete: self.peers_complete, ..self.limits.engine };
                    let starts_over = new.engine != so_far || new.ports != self.limits.ports;
                    Some(Mark::Restart).filter(|_| starts_over)
                }
                Order::Expire(now) => {
                    keeper.expire(now.0);
                    None
                }
                _ => None,
            };
            mark.into_iter().for_each(|mark| keeper.mark(mark));
        }
        let engine = &mut self.engine;
        match order {
            Order::Interrupt(ifindex) => engine.interrupt(*ifindex),
            Order::InterruptFlow(flow) => {
                [Side::Remote, Side::Local]
                    .iter()
                    .for_each(|side| engine.interrupt_flow(&FlowKey { side: *side, ..*flow }));
            }
            Order::InterruptAll => engine.interrupt_all(),
            Order::Gap => engine.note_gap(),
            Order::Doubtful(is_doubtful) => engine.set_doubtful(*is_doubtful),
            Order::PeersComplete(complete) => {
                engine.set_peers_complete(*complete);
                self.peers_complete = *complete;
            }
            Order::Expire(now) => engine.expire(*now),
            Order::Limits(limits) => {
                engine.set_config(limits.engine);
                self.batch.set_ports(limits.ports, engine);
                self.summaries.set_limits(limits.summaries);
                engine.count_health(limits.health_for(self.tap.is_some()));
                engine.time_responses(limits.responses);
                engine.group(limits.grouping.clone());
                self.peers_complete = limits.engine.peers_complete;
                Keeper::set(&mut self.keeper, limits.record, self.by_hand);
                self.limits.clone_from(limits);
            }
            Order::Group(grouping) => {
                engine.group(grouping.clone());
                self.limits.grouping.clone_from(grouping);
            }
            Order::StopFlows => self.tap(None),
            Order::KeepByHand(bytes) => {
                self.by_hand = *bytes;
                Keeper::set(&mut self.keeper, self.limits.record, *bytes);
            }
            Order::LabelFlows(asker) => {
                engine.label_flows(asker.is_some());
                self.summaries.label_pending(Label::UNKNOWN);
                self.labelling = asker.clone().map(Labelling::new);
            }
        }
    }

    /// Whether flows are told apart by whose they are: then [`Self::look_up_owners`] is due every [`LOOK_EVERY`].
    ///
    /// [`LOOK_EVERY`]: super::labels::LOOK_EVERY
    pub(super) fn is_labelling(&self) -> bool {
        self.labelling.is_some()
    }

    /// Takes answers to whose flows are, and asks for those that have begun.
    pub(super) fn look_up_owners(&mut self) {
        let Self { engine, summaries, labelling, .. } = self;
        labelling.iter_mut().for_each(|labelling| labelling.look(engine, summaries));
    }

    /// The last interval: nothing comes after it.
    pub(super) fn read_last(&mut self) -> Reading {
        if let Some(labelling) = self.labelling.take() {
            labelling.end(&mut self.engine, &mut self.summaries);
        }
        self.read()
    }

    /// The interval so far.
    pub(super) fn read(&mut self) -> Reading {
        self.take_health(|engine, sink| engine.take_health(sink));
        Reading { interval: self.summaries.take(), counts: self.counts() }
    }

    /// Adds what was counted of connections since the last time to the interval, if reports have it, and to what those
    /// who watch are told.
    fn take_health(&mut self, take: impl FnOnce(&mut Engine, &mut dyn FnMut(Option<PairKey>, &PeerHealth))) {
        let Self { engine, summaries, tap, limits, .. } = self;
        take(engine, &mut |pair, health| {
            if limits.reports_health {
                summaries.add_health(pair, health);
            }
            if let Some(tap) = tap {
                tap.add_health(pair, health);
            }
        });
    }

    /// Notes what each flow measures from now on, and how each pair's connections do, or no longer.
    fn tap(&mut self, tap: Option<FlowTap>) {
        self.tap = tap;
        self.engine.count_health(self.limits.health_for(self.tap.is_some()));
    }

    /// What was counted, whatever the interval.
    pub(super) fn counts(&mut self) -> Counts {
        let engine = &self.engine;
        Counts { engine: *engine.counters(), flows: engine.flows(), samples_dropped: self.samples_dropped }
    }

    /// What each flow measured since the last time, and how the connections of each pair did; from now on that is
    /// noted.
    pub(super) fn flows(&mut self) -> (Tapped, Counts) {
        if self.tap.is_none() {
            self.tap(Some(FlowTap::default()));
        }
        self.take_health(|engine, sink| engine.take_health_so_far(sink));
        let tapped = self.tap.as_mut().map(FlowTap::take).unwrap_or_default();
        (tapped, self.counts())
    }

    /// The outliers since the last time.
    pub(super) fn outliers(&mut self) -> Vec<Focus> {
        self.keeper.as_mut().map(Keeper::take_outliers).unwrap_or_default()
    }

    /// What is kept of records; nothing where none are.
    pub(super) fn kept(&mut self) -> Snapshot {
        self.keeper.as_ref().map(Keeper::snapshot).unwrap_or_default()
    }

    /// Which interfaces are seen one way alone since the last look, or no longer.
    pub(super) fn look(&mut self) -> Vec<Change> {
        self.views.look()
    }
}
