//! The eBPF source: the classifier on both hooks of each interface, and the ring buffer between it and the engine.
//!
//! `classifier` loads the embedded object; `tries` tells it the targets; `attach` puts it on the hooks and takes it
//! off, `hooks` as interfaces come and go, `beside` on a thread of its own; `ring` hands out its records, `tally` its
//! counters; [`probe`] says what a kernel can do. The source needs no runtime: it is polled from a plain thread.

mod attach;
mod beside;
mod classifier;
mod gaps;
mod hooks;
mod losers;
mod mapping;
mod merge;
mod places;
mod pressure;
mod probe;
mod release;
mod ring;
pub(crate) mod simulated;
mod tally;
mod tries;

use std::os::fd::BorrowedFd;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use go_metro_rtt::{Nanos, Segment};

use super::clock::Clocks;
use super::error::CaptureError;
use super::{Attached, Continuity, InterfaceEvent, Jump, SourceCounters, SourceSettings, WatchList, Way};
use crate::inbox::Bell;
use beside::Beside;
use classifier::Reader;
use hooks::{Hooks, Shown};
use ring::Stamps;

pub use attach::{HookKind, LinkLayer};
pub use classifier::{Classifier, ClassifierSettings, Repeats, Rings};
pub use probe::{Feature, features, probe};
pub use tries::Tries;

/// How long a start attaches to interfaces before the rest is left to the thread beside; a stop waits no longer for it.
const START: Duration = Duration::from_millis(150);
/// Time between attempts to start the thread beside.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for the thread beside when another source takes over: it attaches to an interface at most meanwhile.
const END: Duration = Duration::from_secs(2);

/// Who looks after the hooks.
enum Keeper {
    /// The caller of [`EbpfSource::maintain`].
    Here(Box<Hooks>),
    /// A thread beside.
    Beside(Beside),
    /// Nobody any more.
    Nobody,
}

/// Segment records from the kernel.
pub struct EbpfSource {
    // Dropped first: the hooks are left before the rings are closed.
    hooks: Keeper,
    /// When to try again to start the thread beside that is wanted.
    wants_thread_at: Option<(Instant, Bell)>,
    shown: Shown,
    reader: Reader,
    pressure: pressure::Watch,
    stamps: Stamps,
}

impl EbpfSource {
    /// Loads the classifier and attaches it to every interface that exists; the others are waited for.
    ///
    /// # Errors
    ///
    /// What [`Classifier::load`] fails with, an interface that exists but cannot be attached to, or none that exists.
    pub fn open(settings: &SourceSettings) -> Result<Self, CaptureError> {
        Self::open_with(settings, None, None)
    }

    /// As [`Self::open`], on this kind of hook rather than on the best that there is.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_on(settings: &SourceSettings, hook: HookKind) -> Result<Self, CaptureError> {
        Self::open_with(settings, Some(hook), None)
    }

    /// As [`Self::open`], but that it attaches to named interfaces alone, and only for a while: [`Self::go_beside`]
    /// attaches to the rest.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_in_short(settings: &SourceSettings) -> Result<Self, CaptureError> {
        Self::open_with(settings, None, Some(START))
    }

    /// As [`Self::open`], but attaches to nothing: [`Self::take_over`] or [`Self::go_beside`] does.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn prepare(settings: &SourceSettings) -> Result<Self, CaptureError> {
        Self::open_with(settings, None, Some(Duration::ZERO))
    }

    fn open_with(
        settings: &SourceSettings,
        hook: Option<HookKind>,
        time: Option<Duration>,
    ) -> Result<Self, CaptureError> {
        let SourceSettings { ring_bytes, sides, responses, ingress, thinning, .. } = *settings;
        let wanted =
            ClassifierSettings { ring_bytes, sides, responses, ingress, thinning, ..ClassifierSettings::default() };
        let (programs, tries, reader) = Classifier::load_with(wanted)?.into_parts();
        let mut hooks = Box::new(Hooks::new((programs, tries), settings, hook));
        hooks.attach_all(time.map(|time| Instant::now() + time))?;
        hooks.must_be_there()?;
        let (shown, pressure, stamps) = (hooks.shown(), pressure::Watch::new(), Stamps::new());
        Ok(Self { hooks: Keeper::Here(hooks), wants_thread_at: None, shown, reader, pressure, stamps })
    }

    /// From now on a thread beside attaches to interfaces, so that none of that holds up the reader, and rings this
    /// bell when [`Self::maintain`] has something to say. Without a thread that attaches as before, and tries again to
    /// start one.
    pub(crate) fn go_beside(&mut self, bell: Bell) {
        let is_first = self.wants_thread_at.is_none();
        self.wants_thread_at = None;
        self.hooks = match std::mem::replace(&mut self.hooks, Keeper::Nobody) {
            Keeper::Here(hooks) => match Beside::start(hooks, bell.clone()) {
                Ok(beside) => Keeper::Beside(beside),
                Err((error, hooks)) => {
                    if is_first {
                        tracing::warn!(%error, "no thread to attach on; attaching on the capture thread for now");
                    }
                    self.wants_thread_at = Some((Instant::now() + AGAIN, bell));
                    Keeper::Here(hooks)
                }
            },
            other => other,
        };
    }

    /// Takes over the interfaces that `before` is attached to, so that exactly one of the two sees each packet.
    /// `before` keeps the records that it has. Other interfaces are left to [`Self::maintain`].
    pub fn take_over(&mut self, before: &mut Self) {
        let Keeper::Here(hooks) = &mut self.hooks else { return };
        let taken = match std::mem::replace(&mut before.hooks, Keeper::Nobody) {
            Keeper::Here(hooks) => Some(*hooks),
            Keeper::Beside(beside) => beside.end(END),
            Keeper::Nobody => None,
        };
        if let Some(taken) = taken {
            hooks.take_over(taken);
        }
    }

    /// Waits up to `timeout` for records and hands those that there are to `sink`, oldest first.
    ///
    /// The kernel wakes this thread once in a batch, so the timeout is also how old a record may become. Returns early,
    /// perhaps without a record, when a signal arrives.
    ///
    /// # Errors
    ///
    /// poll(2) itself fails.
    pub fn poll(&mut self, timeout: Duration, sink: &mut impl FnMut(&Segment)) -> Result<(), CaptureError> {
        self.wait(timeout, None)?;
        self.read(sink);
        Ok(())
    }

    /// The first half of [`Self::poll`]: waits, or until `also` is readable.
    ///
    /// # Errors
    ///
    /// poll(2) itself fails.
    pub fn wait(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<(), CaptureError> {
        self.reader.wait(timeout, also)
    }

    /// The second half of [`Self::poll`]: hands on what has come.
    pub fn read(&mut self, sink: &mut impl FnMut(&Segment)) {
        self.reader.flush_log();
        self.pressure.look(&self.reader);
        self.stamps.drain(self.reader.ring(), sink);
    }

    /// From now on, hands on records at once, without waiting for older ones, as no more arrive.
    pub fn hold_nothing_back(&mut self) {
        self.stamps.hold_nothing_back();
    }

    /// Detaches from the hooks, as far as there is time until the deadline.
    pub fn detach(&mut self, deadline: Instant) {
        match &mut self.hooks {
            Keeper::Here(hooks) => hooks.leave(deadline),
            Keeper::Beside(beside) => beside.leave(deadline),
            Keeper::Nobody => {}
        }
    }

    /// Moves to the head of the hook that sees `way` on this interface, as a program before ours may end the chain.
    pub fn move_to_head(&mut self, ifindex: u32, way: Way) -> Vec<InterfaceEvent> {
        let mut events = Vec::new();
        match &mut self.hooks {
            Keeper::Here(hooks) => hooks.move_to_head(ifindex, way, &mut events),
            Keeper::Beside(beside) => beside.move_to_head(ifindex, way),
            Keeper::Nobody => {}
        }
        events
    }

    /// What was counted since [`Self::open`], all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel does not let the map be read.
    pub fn counters(&self) -> Result<SourceCounters, CaptureError> {
        let mut counters = self.reader.counters()?;
        counters.packets.records = counters.packets.records.saturating_sub(self.stamps.thrown_away);
        counters.packets.lost += self.stamps.thrown_away;
        Ok(counters)
    }

    /// As [`crate::capture::Source::continuity`].
    pub fn continuity(&mut self) -> Continuity {
        self.reader.continuity()
    }

    /// Whether the last [`Self::read`] left something.
    pub fn has_more(&self) -> bool {
        self.reader.has_more()
    }

    /// As [`crate::capture::Source::is_gap_near`].
    pub fn is_gap_near(&mut self) -> bool {
        self.reader.is_gap_near()
    }

    pub(in crate::capture) fn clocks(&mut self) -> &mut Clocks {
        self.stamps.clocks()
    }

    /// What happened to the clocks since the last call.
    pub fn take_jump(&mut self) -> Option<Jump> {
        self.stamps.take_jump()
    }

    /// What to add to a record's time (`CLOCK_MONOTONIC`) for nanoseconds since the epoch, as of the last poll.
    pub fn epoch_offset_ns(&self) -> i64 {
        self.stamps.epoch_offset_ns()
    }

    /// Now, on the clock of the records.
    pub fn now(&self) -> Nanos {
        self.stamps.now()
    }

    /// Watches other targets from now on, on interfaces that stay without a gap. A thread beside logs what is in the
    /// way.
    ///
    /// # Errors
    ///
    /// Too many targets, or a map that cannot be written; then what was added so far stays, and nothing was removed.
    pub fn set_targets(&mut self, watch: &WatchList) -> Result<(), CaptureError> {
        match &mut self.hooks {
            Keeper::Here(hooks) => hooks.set_targets(watch),
            Keeper::Beside(beside) => {
                beside.watch(watch.clone());
                Ok(())
            }
            Keeper::Nobody => Ok(()),
        }
    }

    /// Attaches to interfaces that have appeared, and forgets those that are gone. Call it when the kernel reports a
    /// change, and periodically. If a separate thread attaches, this returns what that did, at next to no cost; the
    /// next call takes the events of the last one to be handled.
    pub fn maintain(&mut self) -> Vec<InterfaceEvent> {
        if let Some((_, bell)) = self.wants_thread_at.take_if(|(at, _)| *at <= Instant::now()) {
            self.go_beside(bell);
        }
        match &mut self.hooks {
            Keeper::Here(hooks) => {
                let mut events = Vec::new();
                hooks.maintain(&mut events);
                events
            }
            Keeper::Beside(beside) => beside.events(),
            Keeper::Nobody => Vec::new(),
        }
    }

    /// Whether the separate thread that attaches could not be started yet; [`Self::maintain`] tries again.
    pub fn wants_thread(&self) -> bool {
        self.wants_thread_at.is_some()
    }

    /// Whether a separate thread attaches to interfaces.
    pub fn is_beside(&self) -> bool {
        matches!(self.hooks, Keeper::Beside(_))
    }

    /// The interfaces that capture runs on, with their indices.
    pub fn interfaces(&self) -> Vec<(String, u32)> {
        self.attached().into_iter().map(|attached| (attached.name, attached.ifindex)).collect()
    }

    /// The interfaces that capture runs on, and how.
    pub(super) fn attached(&self) -> Vec<Attached> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).attached.clone()
    }

    /// Interfaces that exist and are not captured on, and why.
    pub(super) fn trouble(&self) -> Vec<(String, String)> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }
}
