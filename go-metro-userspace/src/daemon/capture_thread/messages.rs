//! What the daemon asks of a capture thread, and what it hears of one.

use go_metro_rtt::{EngineConfig, EngineCounters, Grouping, Interval, Nanos, Sample};
use tokio::sync::oneshot;

use super::handover::Replacement;
use super::shards::Measuring;
use crate::capture::{Attached, CaptureError, InterfaceEvent, Jump, SourceCounters, WatchList, Way};
use crate::daemon::flow_tap::Tapped;
use crate::daemon::one_direction::Change;
use crate::daemon::owners::Asker;
use crate::daemon::settings::Limits;
use crate::record::{self, Described, Focus};

/// What the daemon asks of the thread.
pub(super) enum Command {
    /// Watch these addresses from now on.
    Watch(WatchList),
    /// Hand out the interval.
    Interval(oneshot::Sender<Snapshot>),
    /// Leave the hooks, as far as there is time, so that nothing more comes.
    Detach(oneshot::Sender<()>),
    /// Measure what has come, hand out the last interval, and end.
    Finish(oneshot::Sender<Snapshot>),
    /// Go on with another source.
    Replace(Box<Replacement>),
    /// Move to the head of the hook that sees this direction of an interface.
    MoveToHead(u32, Way),
    /// Apply new limits, each meter's share, and go on with other meters if their number has changed.
    Limits(Box<Limits>, Option<Box<Measuring>>),
    /// Tell flows apart by whose they are, as this one says; or no longer.
    LabelFlows(Option<Asker>),
    /// Group remote hosts otherwise.
    Group(Option<Grouping>),
    /// Report the state.
    Status(oneshot::Sender<CaptureStatus>),
    /// Report what each flow measured since the last time, and keep doing so.
    Flows(oneshot::Sender<(Tapped, CaptureStatus)>),
    /// Stop per-flow reporting.
    StopFlows,
    /// Keep records in so much memory, each meter's share, where none are kept; or no longer.
    KeepByHand(Option<usize>),
    /// Hand out what is kept of records.
    Kept(oneshot::Sender<Kept>),
}

/// What the thread tells the daemon.
pub(in crate::daemon) enum Event {
    /// Something happened to an interface.
    Interface(InterfaceEvent),
    /// Something happened to the clocks.
    Clock(Jump),
    /// One direction of an interface is hidden, or no longer.
    View(Change),
    /// A round trip took long: the longest of its pair in the last second.
    Outlier(Focus),
    /// The source failed for good.
    Failed(CaptureError),
}

/// One interval and the counters at its end.
#[derive(Default)]
pub(in crate::daemon) struct Snapshot {
    pub(in crate::daemon) interval: Interval,
    pub(in crate::daemon) source: SourceCounters,
    pub(in crate::daemon) engine: EngineCounters,
    pub(in crate::daemon) flows: usize,
    pub(in crate::daemon) samples_dropped: u64,
    pub(in crate::daemon) backend: &'static str,
    /// Interfaces that capture runs on.
    pub(in crate::daemon) interfaces: usize,
}

/// How things are, whatever the interval.
#[derive(Clone)]
pub(in crate::daemon) struct CaptureStatus {
    pub(in crate::daemon) source: SourceCounters,
    pub(in crate::daemon) engine: EngineCounters,
    pub(in crate::daemon) flows: usize,
    pub(in crate::daemon) samples_dropped: u64,
    pub(in crate::daemon) backend: &'static str,
    pub(in crate::daemon) fallback: Option<String>,
    pub(in crate::daemon) attached: Vec<Attached>,
    /// Interfaces that exist and are not captured on though they should be, and why.
    pub(in crate::daemon) trouble: Vec<(String, String)>,
}

/// What is kept of records.
pub(in crate::daemon) struct Kept {
    /// Of each meter.
    pub(in crate::daemon) rings: Vec<record::Snapshot>,
    /// How the meters measure.
    pub(in crate::daemon) engine: EngineConfig,
    /// Now, on the clock of the records.
    pub(in crate::daemon) now: Nanos,
    pub(in crate::daemon) described: Described,
}

/// Samples as they come, with what makes their times nanoseconds since the epoch.
pub(in crate::daemon) struct Samples {
    pub(in crate::daemon) samples: Vec<Sample>,
    pub(in crate::daemon) epoch_offset_ns: i64,
}
