//! The live libpcap source: for kernels and privileges that eBPF asks too much of.
//!
//! [`cooked`] is all interfaces whose packets' type tells their direction, [`device`] one where it does not: a loopback
//! device, or any under a libpcap that is older than 1.10; [`tap`] is an open handle, [`filter`] what the kernel sorts
//! out beforehand, [`gaps`] where something was lost. [`PcapSource`] here keeps them in step with what is to be watched
//! and which interfaces exist.

mod cooked;
mod device;
mod filter;
mod gaps;
mod tap;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use go_metro_common::segment::Sides;
use go_metro_rtt::{Nanos, Segment};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock::Clocks;
use super::interfaces::{self, ANY, Wanted};
use super::segmentation::Segmentation;
use super::trouble::Trouble;
use super::turns::Turns;
use super::{Attached, CaptureError, Continuity, InterfaceEvent, Jump, SourceCounters, SourceSettings, WatchList};
use crate::targets::TargetSet;
use cooked::{Cooked, Port};
use device::Device;
use gaps::{Gaps, Loss, Side};
use tap::{BATCH, Due, Rest, Tap};

pub use tap::check_filter;

/// Most packets read before the source is left for other work.
const ROUND: usize = 4096;

/// How late a timer of the kernel may be: a tick of the slowest clock.
const TICK: Duration = Duration::from_millis(10);

/// More packets than wait in a buffer of the usual size.
const WAITING: usize = 1 << 17;

/// Most segments that a packet makes: two ends on a loopback device, each timed and acknowledging.
const SEGMENTS_OF_PACKET: usize = 4;

/// How direction is determined on an interface. Addresses are whatever the sender of a frame wrote; the packet's type
/// (packet(7), `PACKET_OUTGOING`) is the kernel's own word, and the cooked header has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Not at all: both ends of what passes a loopback device are here.
    Loopback,
    /// By the packet's type if libpcap tells it together with the interface, else by addresses, which may be forged.
    TypeIfPossible,
    /// By the packet's type: addresses would be wrong.
    Type,
}

/// Segment records from libpcap.
pub struct PcapSource {
    devices: Vec<Device>,
    cooked: Option<Cooked>,
    settings: SourceSettings,
    turns: Turns,
    trouble: Trouble,
    /// Why this source is used although eBPF was wanted.
    pub(super) fallback: Option<String>,
    counters: SourceCounters,
    /// What was read and is not handed on yet, the next one first.
    read: VecDeque<Segment>,
    gaps: Gaps,
    segmentation: Segmentation,
    /// Of what was handed on last.
    side: Side,
    /// Which handle is read next.
    turn: usize,
    /// How many packets may be read in this round.
    budget: usize,
    /// What is to be reported by the next [`PcapSource::maintain`].
    events: Vec<InterfaceEvent>,
    clocks: Clocks,
    jump: Option<Jump>,
    /// What is stamped before or from these moments on is another source's.
    from_ns: i64,
    until_ns: i64,
}

impl PcapSource {
    /// Opens every interface that exists; the others are waited for.
    ///
    /// # Errors
    ///
    /// No such interface at all, a capability that is missing, a filter that libpcap does not understand, a libpcap too
    /// old to tell direction where addresses do not.
    pub fn open(settings: &SourceSettings) -> Result<Self, CaptureError> {
        let mut source = Self {
            devices: Vec::new(),
            cooked: None,
            settings: settings.clone(),
            turns: Turns::default(),
            trouble: Trouble::default(),
            fallback: None,
            counters: SourceCounters::default(),
            read: VecDeque::with_capacity(BATCH * SEGMENTS_OF_PACKET),
            gaps: Gaps::new(),
            segmentation: Segmentation::new(),
            side: Side::default(),
            turn: 0,
            budget: ROUND,
            events: Vec::new(),
            clocks: Clocks::new(),
            jump: None,
            from_ns: i64::MIN,
            until_ns: i64::MAX,
        };
        let mut wanted = interfaces::look(&settings.watch, &settings.host_ends)?;
        source.turns.settle(&mut wanted, Instant::now());
        let missing = interfaces::missing(&settings.watch, &wanted);
        for (now, error) in source.reconcile(wanted) {
            // A pattern may mean what cannot be watched; a name means what must be.
            if now.is_named {
                return Err(error);
            }
            source.trouble.note(&now, &error);
        }
        interfaces::must_be_there(&settings.watch, &missing)?;
        Ok(source)
    }

    /// Waits at most `timeout` for packets.
    ///
    /// # Errors
    ///
    /// poll(2) itself fails.
    pub fn wait(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<(), CaptureError> {
        if self.has_more() {
            return Ok(());
        }
        let Self { devices, cooked, .. } = self;
        let handles = devices.iter().map(AsFd::as_fd).chain(cooked.iter().map(AsFd::as_fd)).chain(also);
        let mut waiting: Vec<PollFd<'_>> = handles.map(|handle| PollFd::new(handle, PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(CaptureError::System { call: "poll", source: io::Error::from(error) }),
        }
    }

    /// How long the kernel may keep what has come before it can be read.
    pub fn gathers(&self) -> Duration {
        tap::GATHER + TICK
    }

    /// What is known of the segments that the next [`Self::read`] hands on.
    pub fn continuity(&mut self) -> Continuity {
        if self.read.is_empty() {
            self.budget = ROUND;
            self.taps().for_each(Tap::note_wait);
            self.notice_jump();
            self.fill();
        }
        let side = self.read.front().map_or(self.side, |segment| self.gaps.side(segment.time()));
        let is_gap = std::mem::replace(&mut self.side, side) != side;
        Continuity { is_gap, is_doubtful: side.1, late: None }
    }

    /// Hands on what has come, up to where something is missing.
    pub fn read(&mut self, sink: &mut impl FnMut(&Segment)) {
        while self.jump.is_none() {
            while let Some(segment) = self.read.front() {
                if self.gaps.side(segment.time()) != self.side {
                    return;
                }
                self.gaps.pass(segment.time());
                sink(segment);
                self.read.pop_front();
            }
            if !self.fill() {
                return;
            }
        }
    }

    /// Whether the last [`Self::read`] ended before all was handed on that was read.
    pub fn has_more(&self) -> bool {
        !self.read.is_empty() && self.jump.is_none()
    }

    /// Throws away what waits, if a clock jumped: among it are stamps from before and after.
    fn notice_jump(&mut self) {
        let Some(jump) = self.clocks.look() else { return };
        if let Jump::Set(ns) = jump {
            // These moments are what they were, and the clock has other numbers for them.
            self.from_ns = self.from_ns.saturating_add(ns);
            self.until_ns = self.until_ns.saturating_add(ns);
        }
        let records = self.counters.packets.records;
        self.budget = WAITING;
        while self.fill() {
            self.read.clear();
        }
        let waited = std::mem::replace(&mut self.counters.packets.records, records) - records;
        self.counters.packets.lost += waited;
        self.gaps = Gaps::new();
        self.jump = Some(jump);
    }

    /// Reads what is there and due; whether anything came of it.
    fn fill(&mut self) -> bool {
        let begun = self.clocks.now();
        let mut idle = 0;
        while self.read.is_empty() && self.jump.is_none() && self.budget > 0 {
            let handles = self.devices.len() + usize::from(self.cooked.is_some());
            if idle >= handles {
                self.gaps.drained(begun);
                break;
            }
            self.turn = if self.turn + 1 < handles { self.turn + 1 } else { 0 };
            match self.read_one(self.turn) {
                Rest::More => idle = 0,
                Rest::Nothing => idle += 1,
                Rest::Gone => {}
            }
            self.budget = self.budget.saturating_sub(BATCH);
        }
        !self.read.is_empty()
    }

    /// Reads a batch from this handle.
    fn read_one(&mut self, turn: usize) -> Rest {
        let Self { devices, cooked, counters, read, gaps, segmentation, clocks, events, .. } = self;
        let due = Due { clocks, from_ns: self.from_ns, until_ns: self.until_ns };
        let mut sink = |segment: &Segment| read.push_back(*segment);
        if let Some(device) = devices.get_mut(turn) {
            note(device.tap().look_after_wait(clocks), counters, gaps);
            let rest = device.read(due, segmentation, counters, &mut sink);
            note(device.tap().look(clocks), counters, gaps);
            if rest == Rest::Gone {
                events.push(lost(device.name(), device.ifindex()));
                devices.remove(turn);
            }
            rest
        } else if let Some(handle) = cooked {
            note(handle.tap().look_after_wait(clocks), counters, gaps);
            let rest = handle.read(due, segmentation, counters, &mut sink);
            note(handle.tap().look(clocks), counters, gaps);
            if rest == Rest::Gone {
                events.extend(handle.ports().map(|(ifindex, port)| lost(&port.name, ifindex)));
                *cooked = None;
            }
            rest
        } else {
            Rest::Nothing
        }
    }

    fn taps(&mut self) -> impl Iterator<Item = &mut Tap> {
        self.devices.iter_mut().map(Device::tap).chain(self.cooked.as_mut().map(Cooked::tap))
    }

    pub(in crate::capture) fn clocks(&mut self) -> &mut Clocks {
        &mut self.clocks
    }

    /// What happened to the clocks since the last call.
    pub fn take_jump(&mut self) -> Option<Jump> {
        self.jump.take()
    }

    /// What was counted since the source was opened.
    ///
    /// # Errors
    ///
    /// None; the eBPF source has some.
    pub fn counters(&mut self) -> Result<SourceCounters, CaptureError> {
        let Self { devices, cooked, counters, gaps, clocks, .. } = self;
        let taps = devices.iter_mut().map(Device::tap).chain(cooked.as_mut().map(Cooked::tap));
        taps.for_each(|tap| note(tap.look(clocks), counters, gaps));
        Ok(self.counters)
    }

    /// Whether packets are missing near those that come next, as of now.
    pub fn is_gap_near(&mut self) -> bool {
        self.counters().is_err() || self.gaps.is_near()
    }

    /// Watches other targets from now on.
    ///
    /// # Errors
    ///
    /// When libpcap refuses the filter; what was watched on that interface stays.
    pub fn set_targets(&mut self, watch: &WatchList) -> Result<(), CaptureError> {
        let wanted = interfaces::look(watch, &self.settings.host_ends)?;
        let nets_of = |name: &str| wanted.iter().find(|now| now.name == name).map(|now| now.nets.clone());
        self.devices.retain(|device| nets_of(device.name()).is_some());
        for device in &mut self.devices {
            device.watch(&nets_of(device.name()).unwrap_or_default(), self.settings.filter.as_deref())?;
        }
        if let Some(cooked) = &mut self.cooked {
            let ports = cooked.ports().filter_map(|(ifindex, port)| {
                Some((ifindex, Port::new(port.name.clone(), port.host_end, nets_of(&port.name)?)))
            });
            let ports = ports.collect();
            cooked.watch(ports)?;
        }
        // Interfaces that are new are opened by the next `maintain`.
        self.settings.watch.clone_from(watch);
        Ok(())
    }

    /// Opens interfaces that have appeared, and forgets those that are gone. Call it when the kernel reports a change,
    /// and periodically.
    pub fn maintain(&mut self) -> Vec<InterfaceEvent> {
        let before = self.held();
        // While they cannot be asked about, interfaces are taken to be as they were.
        let Ok(mut wanted) = interfaces::look(&self.settings.watch, &self.settings.host_ends) else {
            return std::mem::take(&mut self.events);
        };
        self.turns.settle(&mut wanted, Instant::now());
        self.trouble.keep(&wanted);
        for (now, error) in self.reconcile(wanted) {
            // It may be down or half made; the next call sees.
            self.trouble.note(&now, &error);
        }
        let after = self.held();
        after.iter().for_each(|(name, ..)| self.trouble.is_over(name));
        let turned = |name: &String, ifindex: u32| after.iter().any(|(its, index, _)| its == name && *index == ifindex);
        let went = before.iter().filter(|(name, ifindex, _)| !turned(name, *ifindex));
        self.events.extend(went.map(|(name, ifindex, _)| lost(name, *ifindex)));
        self.events.extend(after.difference(&before).map(|(name, ifindex, _)| attached(name, *ifindex)));
        std::mem::take(&mut self.events)
    }

    /// From now on, hands on and counts only packets stamped after this time, and `before` only those stamped until
    /// then. Stamps are of the wall clock.
    pub fn begin_after(&mut self, time: Duration, before: &mut Self) {
        // As of the last look: a clock that was set since moves this with all the rest.
        let now = i64::try_from(self.clocks.now().0).unwrap_or(i64::MAX).saturating_add(self.clocks.epoch_offset_ns());
        self.from_ns = now.saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
        before.until_ns = self.from_ns;
    }

    /// What to add to a record's time for nanoseconds since the epoch.
    pub fn epoch_offset_ns(&self) -> i64 {
        self.clocks.epoch_offset_ns()
    }

    /// Now, on the clock of the records.
    pub fn now(&self) -> Nanos {
        self.clocks.now()
    }

    /// The interfaces that capture runs on, with their indices.
    pub fn interfaces(&self) -> impl Iterator<Item = (&str, u32)> {
        let cooked = self.cooked.iter().flat_map(Cooked::ports).map(|(ifindex, port)| (&*port.name, ifindex));
        self.devices.iter().map(|device| (device.name(), device.ifindex())).chain(cooked)
    }

    /// The interfaces that capture runs on, and how.
    pub fn attached(&self) -> Vec<Attached> {
        let of = |(name, ifindex, host_end)| Attached { name, ifindex, hook: "libpcap".to_owned(), host_end };
        self.held().into_iter().map(of).collect()
    }

    /// Interfaces that exist and are not captured on, and why.
    pub(super) fn trouble(&self) -> Vec<(String, String)> {
        self.trouble.list()
    }

    /// The interfaces, their indices, and whether their directions are reversed.
    fn held(&self) -> BTreeSet<(String, u32, bool)> {
        let devices = self.devices.iter().map(|device| (device.name().to_owned(), device.ifindex(), false));
        let cooked = self.cooked.iter().flat_map(Cooked::ports);
        devices.chain(cooked.map(|(ifindex, port)| (port.name.clone(), ifindex, port.host_end))).collect()
    }

    /// Brings the handles in step with the interfaces that are wanted and exist; what stood in the way of some.
    fn reconcile(&mut self, wanted: Vec<Wanted>) -> Vec<(Wanted, CaptureError)> {
        if wanted.iter().any(|now| now.name == ANY) {
            self.segmentation.set_mtus(interfaces::mtus());
        } else {
            self.segmentation.set_mtus(wanted.iter().map(|now| (now.ifindex, now.mtu)));
        }
        let Self { devices, counters, gaps, clocks, .. } = self;
        devices.retain_mut(|device| {
            // One that may be told by addresses is left alone.
            let same = |now: &&Wanted| now.name == device.name() && now.ifindex == device.ifindex();
            let stays = wanted.iter().find(same).is_some_and(|now| way(now) != Way::Type);
            if stays {
                device.refresh_addresses();
            } else {
                note(device.tap().look(clocks), counters, gaps);
            }
            stays
        });
        let (mut ports, mut errors) = (BTreeMap::new(), Vec::new());
        for now in wanted {
            if let Err(error) = now.has_usable_name() {
                errors.push((now, error));
                continue;
            }
            if let Some(device) = self.devices.iter_mut().find(|device| device.name() == now.name) {
                errors.extend(device.watch(&now.nets, self.settings.filter.as_deref()).err().map(|error| (now, error)));
                continue;
            }
            let held = self.cooked.iter().flat_map(Cooked::ports).any(|(ifindex, _)| ifindex == now.ifindex);
            let way = if held { Way::Type } else { way(&now) };
            let cooks = if way == Way::Loopback { Ok(false) } else { self.cooks(&now) };
            let done = match (way, cooks) {
                (Way::Type | Way::TypeIfPossible, Ok(true)) => {
                    ports.insert(now.ifindex, Port::new(now.name, now.host_end, now.nets));
                    continue;
                }
                (Way::Type, Ok(false)) => Err(CaptureError::OldLibpcap { name: now.name.clone() }),
                (Way::Type, Err(error)) => Err(error),
                (Way::TypeIfPossible, cooks) => {
                    let reason = match cooks {
                        Err(error) => error.to_string(),
                        Ok(_) => "libpcap is older than 1.10".to_owned(),
                    };
                    tracing::warn!(
                        interface = now.name,
                        reason,
                        "packet types are unknown; taking directions from addresses: forwarded traffic is not \
                         measured, and forged frames of a neighbour are taken for real"
                    );
                    Device::open(&now, &self.settings)
                }
                (Way::Loopback, _) => Device::open(&now, &self.settings),
            };
            match done {
                Ok(device) => self.devices.push(device),
                Err(error) => errors.push((now, error)),
            }
        }
        if ports.is_empty() {
            if let Some(mut handle) = self.cooked.take() {
                note(handle.tap().look(&self.clocks), &mut self.counters, &mut self.gaps);
            }
        } else if let Some(handle) = &mut self.cooked {
            handle.turn(interfaces::host_ends(&self.settings.host_ends));
            if let Err(error) = handle.watch(ports) {
                tracing::warn!(%error, "cannot change what is watched on some interfaces");
            }
        }
        errors
    }

    /// Whether the cooked handle, opened if it is not yet, serves this interface.
    fn cooks(&mut self, wanted: &Wanted) -> Result<bool, CaptureError> {
        let handle = match &mut self.cooked {
            Some(handle) => handle,
            none => none.insert(Cooked::open(&self.settings)?),
        };
        Ok(handle.tells_interface() || wanted.name == ANY)
    }
}

/// Takes note of what a handle lost.
fn note(loss: Option<Loss>, counters: &mut SourceCounters, gaps: &mut Gaps) {
    if let Some(Loss { count, during }) = loss {
        counters.packets.lost += count;
        gaps.note(during);
    }
}

fn lost(name: &str, ifindex: u32) -> InterfaceEvent {
    InterfaceEvent::Lost { name: name.to_owned(), ifindex }
}

fn attached(name: &str, ifindex: u32) -> InterfaceEvent {
    InterfaceEvent::Attached { name: name.to_owned(), ifindex }
}

/// How direction is to be told on an interface.
fn way(wanted: &Wanted) -> Way {
    if wanted.name == ANY || wanted.host_end {
        Way::Type
    } else if wanted.is_loopback {
        Way::Loopback
    } else {
        Way::TypeIfPossible
    }
}

/// Hands a segment on, if its remote end is a target, as each of its sides.
fn hand_on(
    segment: Option<Segment>,
    targets: &TargetSet,
    sides: Sides,
    counters: &mut SourceCounters,
    sink: &mut impl FnMut(&Segment),
) {
    if let Some(segment) = segment.filter(|segment| targets.matches(segment.flow.remote.addr.ip())) {
        let before = counters.packets.records;
        segment.for_each_side(sides, &mut |segment| {
            counters.packets.records += 1;
            sink(segment);
        });
        counters.second_sides += (counters.packets.records - before).saturating_sub(1);
    }
}
