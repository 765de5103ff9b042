//! The eBPF source: the classifier on both hooks of each interface, and the ring buffer between it and the engine.
//!
//! `classifier` loads the embedded object; `tries` tells it the targets; `attach` puts it on the hooks and takes it off;
//! `ring` hands out its records;
//! [`EbpfSource`] here keeps them in step with what is to be watched and which interfaces exist; [`probe`] says what a
//! kernel can do. The source needs no runtime: it is polled from a plain thread.

mod attach;
mod classifier;
mod pressure;
mod probe;
mod ring;
mod tries;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tracing::{info, warn};

use super::error::CaptureError;
use super::interfaces::{self, Wanted};
use super::trouble::Trouble;
use super::turns::Turns;
use super::{Attached, InterfaceEvent, Jump, SourceCounters, SourceSettings, WatchList};
use crate::config::IngressHook;
use crate::netlink::deletions::Deletions;
use crate::rtt::{Nanos, Segment};
use attach::Attachment;
use classifier::with_sources;
use ring::Stamps;

pub use attach::{HookKind, LinkLayer};
pub use classifier::{Classifier, ClassifierSettings, Repeats};
pub use probe::{Feature, features, probe};
pub use ring::RingSource;
pub use tries::Tries;

/// An interface with the classifier on it, and what is watched there.
struct Watched {
    attachment: Attachment,
    nets: Vec<IpNet>,
}

/// Segment records from the kernel.
pub struct EbpfSource {
    // Dropped first: the hooks are left before the programs are unloaded.
    attached: BTreeMap<String, Watched>,
    classifier: Classifier,
    watch: WatchList,
    /// Where to attach, if not where it is best.
    hook: Option<HookKind>,
    ingress: IngressHook,
    /// Which interfaces are a host's end, where that is configured.
    host_ends: BTreeMap<String, bool>,
    turns: Turns,
    trouble: Trouble,
    /// Hears of interfaces that are deleted, and made anew before the next look.
    deletions: Option<Deletions>,
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
        Self::open_with(settings, None)
    }

    /// As [`Self::open`], on this kind of hook rather than on the best that there is.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_on(settings: &SourceSettings, hook: HookKind) -> Result<Self, CaptureError> {
        Self::open_with(settings, Some(hook))
    }

    fn open_with(settings: &SourceSettings, hook: Option<HookKind>) -> Result<Self, CaptureError> {
        let SourceSettings { ring_bytes, sides, ingress, thinning, workers, .. } = *settings;
        let wanted =
            ClassifierSettings { ring_bytes, sides, ingress, thinning, workers, ..ClassifierSettings::default() };
        let classifier = Classifier::load_with(wanted)?;
        let mut source = Self {
            attached: BTreeMap::new(),
            classifier,
            watch: settings.watch.clone(),
            hook,
            ingress: settings.ingress,
            host_ends: settings.host_ends.clone(),
            turns: Turns::default(),
            trouble: Trouble::default(),
            deletions: Deletions::new().ok(),
            pressure: pressure::Watch::new(),
            stamps: Stamps::new(),
        };
        let mut wanted = interfaces::look(&source.watch, &source.host_ends)?;
        source.turns.settle(&mut wanted, Instant::now());
        for now in &wanted {
            match source.attach(now) {
                // A pattern may mean what cannot be watched; a name means what must be.
                Err(error) if !now.is_named => source.trouble.note(now, &error),
                done => done?,
            }
        }
        let missing = interfaces::missing(&source.watch, &wanted);
        interfaces::must_be_there(&source.watch, &missing)?;
        Ok(source)
    }

    /// Waits up to `timeout` for records and hands those that there are to `sink`, oldest first.
    ///
    /// The kernel wakes this thread once in a batch, so the timeout is also how old a record may become. Returns early, perhaps
    /// without a record, when a signal arrives.
    ///
    /// # Errors
    ///
    /// poll(2) itself fails.
    pub fn poll(&mut self, timeout: Duration, sink: &mut impl FnMut(&Segment)) -> Result<(), CaptureError> {
        self.wait(timeout)?;
        self.read(sink);
        Ok(())
    }

    /// The first half of [`Self::poll`]: waits.
    ///
    /// # Errors
    ///
    /// poll(2) itself fails.
    pub fn wait(&mut self, timeout: Duration) -> Result<(), CaptureError> {
        self.classifier.wait(timeout)
    }

    /// The second half of [`Self::poll`]: hands on what has come.
    pub fn read(&mut self, sink: &mut impl FnMut(&Segment)) {
        self.classifier.flush_log();
        self.pressure.look(&self.classifier);
        self.stamps.drain(self.classifier.rings(), sink);
    }

    /// Gives the rings away that other threads are to drain: all but the first, where there are several.
    pub fn take_rings(&mut self) -> Vec<RingSource> {
        self.classifier.take_rings()
    }

    /// Leaves the hooks as far as there is time until then.
    pub fn detach(&mut self, deadline: Instant) {
        while Instant::now() < deadline && self.attached.pop_first().is_some() {}
    }

    /// What was counted since [`Self::open`], all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel does not let the map be read.
    pub fn counters(&self) -> Result<SourceCounters, CaptureError> {
        let mut counters = self.classifier.counters()?;
        counters.records = counters.records.saturating_sub(self.stamps.thrown_away);
        counters.lost += self.stamps.thrown_away;
        Ok(counters)
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

    /// Watches other targets from now on, on interfaces that stay without a gap.
    ///
    /// # Errors
    ///
    /// Too many targets, or a map that cannot be written; then what was added so far stays, and nothing was removed.
    pub fn set_targets(&mut self, watch: &WatchList) -> Result<(), CaptureError> {
        let wanted = interfaces::look(watch, &self.host_ends)?;
        let nets_of = |name: &str| wanted.iter().find(|now| now.name == name).map(|now| now.nets.clone());
        let before: Vec<Vec<IpNet>> = self.attached.values().map(|attached| attached.nets.clone()).collect();
        for (name, attached) in &mut self.attached {
            attached.nets = nets_of(name).unwrap_or_default();
        }
        if let Err(error) = self.classifier.tries.set(&self.wanted()) {
            self.attached.values_mut().zip(before).for_each(|(attached, nets)| attached.nets = nets);
            return Err(error);
        }
        self.watch.clone_from(watch);
        // Interfaces that are new are attached by the next `maintain`.
        self.attached.retain(|name, _| nets_of(name).is_some());
        Ok(())
    }

    /// Looks after interfaces: attaches to those that came, forgets those that went. To be called when the kernel
    /// tells of a change, and now and then.
    pub fn maintain(&mut self) -> Vec<InterfaceEvent> {
        let mut events = Vec::new();
        // While they cannot be asked about, interfaces are taken to be as they were.
        let Ok(mut wanted) = interfaces::look(&self.watch, &self.host_ends) else { return events };
        self.turns.settle(&mut wanted, Instant::now());
        self.trouble.keep(&wanted);
        let deleted = self.deletions.as_ref().map(Deletions::take).unwrap_or_default();
        self.attached.retain(|name, attached| {
            let ifindex = attached.attachment.ifindex();
            let now = wanted.iter().find(|now| now.name == *name && now.ifindex == ifindex);
            let now = now.filter(|_| !deleted.may_have(ifindex));
            if now.is_none() {
                events.push(InterfaceEvent::Lost { name: name.clone(), ifindex });
            }
            now.is_some_and(|now| now.host_end == attached.attachment.is_turned())
        });
        for now in wanted {
            if let Some(attached) = self.attached.get_mut(&now.name) {
                // Another pattern may mean it now.
                attached.nets = now.nets;
                continue;
            }
            match self.attach(&now) {
                Ok(()) => {
                    self.trouble.is_over(&now.name);
                    events.push(InterfaceEvent::Attached { name: now.name, ifindex: now.ifindex });
                }
                // It may be half made, or gone again; the next call sees.
                Err(error) => self.trouble.note(&now, &error),
            }
        }
        if let Err(error) = self.classifier.tries.set(&self.wanted()) {
            warn!(%error, "targets in the kernel are not what they should be");
        }
        events
    }

    /// The interfaces that capture runs on, with their indices.
    pub fn interfaces(&self) -> impl Iterator<Item = (&str, u32)> {
        self.attached.iter().map(|(name, attached)| (name.as_str(), attached.attachment.ifindex()))
    }

    /// The interfaces that capture runs on, and how.
    pub(super) fn attached(&self) -> Vec<Attached> {
        let each = |(name, Watched { attachment, .. }): (&String, &Watched)| Attached {
            name: name.clone(),
            ifindex: attachment.ifindex(),
            hook: attachment.kind(),
            host_end: attachment.is_turned(),
        };
        self.attached.iter().map(each).collect()
    }

    /// Interfaces that exist and are not captured on, and why.
    pub(super) fn trouble(&self) -> Vec<(String, String)> {
        self.trouble.list()
    }

    fn attach(&mut self, wanted: &Wanted) -> Result<(), CaptureError> {
        wanted.has_usable_name()?;
        let Wanted { name, ifindex, host_end, nets, .. } = wanted;
        let attachment = Attachment::new(&mut self.classifier, name, *ifindex, (self.hook, self.ingress), *host_end)?;
        info!(interface = name, ifindex, hook = attachment.kind(), host_end, "classifier attached");
        self.attached.insert(name.clone(), Watched { attachment, nets: nets.clone() });
        self.classifier.tries.set(&self.wanted()).inspect_err(|_| drop(self.attached.remove(name)))
    }

    /// The keys that the tries should hold: those of attached interfaces.
    fn wanted(&self) -> BTreeSet<(u32, IpNet)> {
        self.attached
            .values()
            .flat_map(|Watched { attachment, nets }| nets.iter().map(|net| (attachment.ifindex(), net.trunc())))
            .collect()
    }
}
