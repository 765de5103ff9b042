//! What measures segments, on whichever thread: engine, summaries, and what else looks at outcomes.

use std::sync::mpsc;

use go_metro_rtt::{
    Batch, Engine, EngineCounters, FlowKey, Grouping, Interval, Nanos, Outcome, Sample, Segment, Side, Summaries,
};

use super::Samples;
use crate::capture::Source;
use crate::daemon::flow_tap::{FlowTap, Tapped};
use crate::daemon::one_direction::{Change, Views};
use crate::daemon::settings::Limits;

/// Measures segments of some flows, or of all.
pub(in crate::daemon) struct Meter {
    engine: Engine,
    batch: Batch,
    summaries: Summaries,
    samples: Option<mpsc::SyncSender<Samples>>,
    samples_dropped: u64,
    tap: Option<FlowTap>,
    views: Views,
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
    Limits(Limits),
    /// Group remote hosts otherwise.
    Group(Option<Grouping>),
    /// Note flows one by one no longer.
    StopFlows,
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
        engine.count_health(limits.health);
        engine.group(limits.grouping.clone());
        Self {
            engine,
            batch: Batch::of(limits.ports),
            summaries: Summaries::new(limits.summaries),
            samples,
            samples_dropped: 0,
            tap: None,
            views: Views::default(),
        }
    }

    /// Measures what there is; whether that was anything.
    pub(super) fn measure(&mut self, origin: Origin, segments: impl Segments) -> bool {
        let Self { engine, batch, summaries, samples, tap, views, .. } = self;
        let mut found: Vec<Sample> = Vec::new();
        let mut sink = |segment: &Segment, outcome| {
            if origin.may_hide {
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

    /// Does as it is told.
    pub(super) fn follow(&mut self, order: &Order) {
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
            Order::PeersComplete(complete) => engine.set_peers_complete(*complete),
            Order::Expire(now) => engine.expire(*now),
            Order::Limits(limits) => {
                engine.set_config(limits.engine);
                self.batch.set_ports(limits.ports, engine);
                self.summaries.set_limits(limits.summaries);
                engine.count_health(limits.health);
                engine.group(limits.grouping.clone());
            }
            Order::Group(grouping) => engine.group(grouping.clone()),
            Order::StopFlows => self.tap = None,
        }
    }

    /// The interval so far.
    pub(super) fn read(&mut self) -> Reading {
        let Self { engine, summaries, .. } = self;
        engine.take_health(|pair, health| summaries.add_health(pair, health));
        Reading { interval: summaries.take(), counts: self.counts() }
    }

    /// What was counted, whatever the interval.
    pub(super) fn counts(&mut self) -> Counts {
        let engine = &self.engine;
        Counts { engine: *engine.counters(), flows: engine.flows(), samples_dropped: self.samples_dropped }
    }

    /// What each flow measured since the last time; from now on that is noted.
    pub(super) fn flows(&mut self) -> (Tapped, Counts) {
        (self.tap.get_or_insert_default().take(), self.counts())
    }

    /// Which interfaces are seen one way alone since the last look, or no longer.
    pub(super) fn look(&mut self) -> Vec<Change> {
        self.views.look()
    }
}
