//! The thread that is the path: it takes frames at one end, holds them as long as it is told, and puts them out at the
//! other.
//!
//! A frame's delay counts from the kernel's receive time stamp, so that it does not matter when the thread got a
//! processor. The last tens of microseconds before a frame is due are spun away; a sleep would overshoot by as much.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;

use super::frame::{Content, VNET_HEADER, content, mark, wire_segments};
use super::impairment::{Impairment, REORDER_HOLD, Then, Way, What};
use super::passage::{Log, Passage};
use super::port::{Port, Received, Scratch};

/// A sleep ends this much before a frame is due: about what a sleep overshoots by on an idle machine.
const SPIN: Duration = Duration::from_micros(60);
/// Frames taken from one end before what is due is looked at again.
const BATCH: usize = 32;
/// Bytes held in both directions; beyond that, frames are lost as in a router's full queue.
const QUEUE: usize = 512 << 20;

/// What passed in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCounters {
    /// Frames put out.
    pub forwarded: u64,
    /// Bytes put out.
    pub bytes: u64,
    /// Frames put out that were larger than an Ethernet frame can be: super-segments.
    pub super_segments: u64,
    /// Frames lost by [`Impairment::loss`] or by order.
    pub lost: u64,
    /// Frames put out twice.
    pub duplicated: u64,
    /// Frames held back.
    pub reordered: u64,
    /// Frames marked ([`Impairment::mark`]).
    pub marked: u64,
    /// Frames lost because the queue before the narrowest link was full ([`Impairment::queue`]).
    pub dropped: u64,
    /// Frames lost because the queue was full or the receiving end took no more. Zero in a sane test.
    pub overflowed: u64,
}

#[derive(Debug, Default)]
struct Counters([AtomicU64; 9]);

impl Counters {
    fn add(&self, which: usize, count: u64) {
        self.0[which].fetch_add(count, Ordering::Relaxed);
    }
}

const FORWARDED: usize = 0;
const BYTES: usize = 1;
const SUPER_SEGMENTS: usize = 2;
const LOST: usize = 3;
const DUPLICATED: usize = 4;
const REORDERED: usize = 5;
const OVERFLOWED: usize = 6;
const DROPPED: usize = 7;
const MARKED: usize = 8;

#[derive(Debug, Default)]
struct Shared {
    /// Orders for each direction, and when they were given: a count that moves has the thread read them again.
    orders: Mutex<[(u64, Impairment); 2]>,
    version: AtomicU64,
    /// Super-segments are cut.
    cuts: AtomicBool,
    counters: [Counters; 2],
    log: Log,
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, [(u64, Impairment); 2]> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path between two hosts, and the handle to its delay and faults.
#[derive(Debug)]
pub struct Forwarder {
    shared: Arc<Shared>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Starts a path without delay or faults between `ports`.
    pub(super) fn start(ports: [Port; 2]) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let stop = Arc::new(EventFd::new().context("cannot make an eventfd")?);
        let worker = Worker::new(ports, Arc::clone(&shared), Arc::clone(&stop));
        let thread = thread::Builder::new().name("path".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// Sets what happens to frames of one direction from now on; its random draws start over.
    pub fn impair(&self, way: Way, impairment: Impairment) {
        let mut orders = self.shared.orders();
        let version = self.shared.version.load(Ordering::Relaxed) + 1;
        orders[way.index()] = (version, impairment);
        self.shared.version.store(version, Ordering::Release);
    }

    /// Sets both directions to half of `rtt`, without faults.
    pub fn set_rtt(&self, rtt: Duration) {
        for way in Way::BOTH {
            self.impair(way, Impairment::delay(rtt / 2));
        }
    }

    /// Cuts super-segments from now on, as a network card does: each of their parts has its own fate and its own
    /// passage.
    pub fn cut_super_segments(&self) {
        self.shared.cuts.store(true, Ordering::Relaxed);
    }

    /// Keeps a record of every frame's passage from now on.
    pub fn record(&self) {
        self.shared.log.start();
    }

    /// The passages since [`Forwarder::record`], of frames that were put out or lost; ends the record.
    ///
    /// To be asked once the agents that are judged by it have ended: a connection may wait for its last retransmission
    /// longer than any pause, and what an agent sees after the record's end nothing can prove.
    #[must_use]
    pub fn passages(&self) -> Vec<Passage> {
        self.shared.log.take()
    }

    /// What has passed in one direction.
    #[must_use]
    pub fn counters(&self, way: Way) -> PathCounters {
        let counters = &self.shared.counters[way.index()].0;
        let get = |which: usize| counters[which].load(Ordering::Relaxed);
        PathCounters {
            forwarded: get(FORWARDED),
            bytes: get(BYTES),
            super_segments: get(SUPER_SEGMENTS),
            lost: get(LOST),
            duplicated: get(DUPLICATED),
            reordered: get(REORDERED),
            marked: get(MARKED),
            dropped: get(DROPPED),
            overflowed: get(OVERFLOWED),
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A frame on its way; ordered by when it is due, then by when it came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    number: u64,
    way: usize,
    left: Instant,
    buffer: Vec<u8>,
}

/// What one direction needs to decide a frame's fate.
struct Lane {
    version: u64,
    orders: Impairment,
    random: fastrand::Rng,
    /// Of marks alone, so that they leave the other faults as they are.
    marks: fastrand::Rng,
    /// Latest due time by far address: jitter must not reorder.
    latest: HashMap<Option<IpAddr>, Instant>,
    /// Segments so far, by kind.
    seen: HashMap<What, u32>,
    /// When the narrowest link is done with what waits before it.
    free_at: Option<Instant>,
    /// The last frame was lost by chance.
    in_burst: bool,
}

impl Lane {
    fn new((version, orders): (u64, Impairment)) -> Self {
        let random = fastrand::Rng::with_seed(orders.seed);
        let marks = fastrand::Rng::with_seed(!orders.seed);
        let (latest, seen) = (HashMap::new(), HashMap::new());
        Self { version, orders, random, marks, latest, seen, free_at: None, in_burst: false }
    }
}

/// A frame's fate.
struct Fate {
    due: Instant,
    copies: u32,
    held_back: bool,
    /// The queue had no room.
    dropped: bool,
}

impl Fate {
    /// It arrives once, or not at all.
    fn lost(due: Instant) -> Self {
        Self { due, copies: 0, held_back: false, dropped: false }
    }
}

impl Lane {
    /// When a frame of this length that comes at `at` has passed the narrowest link; None if there is no room before
    /// it.
    fn queue(&mut self, at: Instant, length: usize) -> Option<Instant> {
        let Some(queue) = self.orders.queue else { return Some(at) };
        let free_at = self.free_at.map_or(at, |free_at| free_at.max(at));
        if free_at - at + queue.time(length) > queue.time(queue.room) {
            return None;
        }
        self.free_at = Some(free_at + queue.time(length));
        self.free_at
    }

    fn decide(&mut self, left: Instant, content: Option<Content>, length: usize) -> Fate {
        let orders = &self.orders;
        let far = content.map(|content| content.far);
        let delay = orders.delay_of.iter().find(|(address, _)| Some(*address) == far);
        let mut due = left + delay.map_or(orders.delay, |(_, delay)| *delay);
        if !content.is_some_and(|content| content.is_transport) {
            return Fate { due, copies: 1, held_back: false, dropped: false };
        }
        // Always four draws, so that one fault's probability does not shift the others' fates.
        let [lost, twice, held_back, late] = [(); 4].map(|()| self.random.f64());
        let order = content.and_then(|content| content.segment).and_then(|what| {
            let nth = self.seen.entry(what).or_default();
            *nth += 1;
            orders.orders.iter().find(|order| (order.what, order.nth) == (what, *nth)).map(|order| order.then)
        });
        match order {
            Some(Then::Lose) => return Fate::lost(due),
            Some(Then::Hold(time)) => return Fate { due: due + time, copies: 1, held_back: true, dropped: false },
            Some(Then::Duplicate) => return Fate { due, copies: 2, held_back: false, dropped: false },
            None => {}
        }
        let loss_of = orders.loss_of.iter().find(|(address, _)| Some(*address) == far);
        let loss = loss_of.map_or(orders.loss, |(_, loss)| *loss);
        let loss = if self.in_burst { loss.max(orders.burst) } else { loss };
        self.in_burst = lost < loss;
        if self.in_burst {
            return Fate::lost(due);
        }
        due += orders.jitter.mul_f64(late);
        let held_back = held_back < orders.reorder;
        let copies = if twice < orders.duplicate { 2 } else { 1 };
        let Some(passed) = self.queue(left, length) else { return Fate { dropped: true, ..Fate::lost(due) } };
        due += passed - left;
        if held_back {
            due += REORDER_HOLD;
        } else {
            let latest = self.latest.entry(far).or_insert(due);
            due = due.max(*latest);
            *latest = due;
        }
        Fate { due, copies, held_back, dropped: false }
    }
}

struct Worker {
    ports: [Port; 2],
    shared: Arc<Shared>,
    stop: Arc<EventFd>,
    lanes: [Lane; 2],
    version: u64,
    queue: BinaryHeap<Reverse<Held>>,
    queued: usize,
    number: u64,
    scratch: Scratch,
}

impl Worker {
    fn new(ports: [Port; 2], shared: Arc<Shared>, stop: Arc<EventFd>) -> Self {
        let lanes = [Lane::new(Default::default()), Lane::new(Default::default())];
        Self {
            ports,
            shared,
            stop,
            lanes,
            version: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            number: 0,
            scratch: Scratch::new(),
        }
    }

    fn run(mut self) {
        // Both are for accuracy; where they are refused, the lab is only less precise.
        let _ = nix::sys::prctl::set_timerslack(1);
        super::priority::before_others();
        loop {
            self.deliver();
            if self.wait() {
                return;
            }
            self.read_orders();
            for from in 0..2 {
                self.take(from);
            }
        }
    }

    fn read_orders(&mut self) {
        if self.shared.version.load(Ordering::Acquire) != self.version {
            let orders = self.shared.orders();
            for (lane, new) in self.lanes.iter_mut().zip(&*orders) {
                if lane.version != new.0 {
                    // What waits before the narrowest link goes on waiting.
                    *lane = Lane { free_at: lane.free_at, ..Lane::new(new.clone()) };
                }
            }
            self.version = orders.iter().map(|(version, _)| *version).max().unwrap_or_default();
        }
    }

    /// Sleeps until a frame comes or one is nearly due; true to stop.
    fn wait(&self) -> bool {
        let next = self.queue.peek().map(|Reverse(held)| held.due);
        let timeout = next.map(|due| due.saturating_duration_since(Instant::now()).saturating_sub(SPIN));
        let mut fds = [
            PollFd::new(self.ports[0].as_fd(), PollFlags::POLLIN),
            PollFd::new(self.ports[1].as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
        ];
        let _ = ppoll(&mut fds, timeout.map(TimeSpec::from), None);
        fds[2].any() == Some(true)
    }

    fn take(&mut self, from: usize) {
        for _ in 0..BATCH {
            let Ok(Some(Received { buffer, age })) = self.ports[from].receive(&mut self.scratch) else { return };
            let now = Instant::now();
            let left = now.checked_sub(age).unwrap_or(now);
            let cuts = self.shared.cuts.load(Ordering::Relaxed);
            match cuts.then(|| wire_segments(&buffer, self.ports[from].framing())).flatten() {
                Some(segments) => segments.into_iter().for_each(|segment| self.send_off(from, left, segment)),
                None => self.send_off(from, left, buffer),
            }
        }
    }

    /// Decides what becomes of a frame that left its sender then.
    fn send_off(&mut self, from: usize, left: Instant, mut buffer: Vec<u8>) {
        let way = if from == 0 { Way::AToB } else { Way::BToA };
        let (lane, framing) = (&mut self.lanes[from], self.ports[from].framing());
        if lane.orders.mark > 0.0
            && lane.marks.f64() < lane.orders.mark
            && mark(buffer.get_mut(VNET_HEADER..).unwrap_or_default(), framing)
        {
            self.shared.counters[from].add(MARKED, 1);
        }
        let frame = buffer.get(VNET_HEADER..).unwrap_or_default();
        let content = content(frame, self.ports[from].framing(), way);
        let fate = self.lanes[from].decide(left, content, frame.len());
        let counters = &self.shared.counters[from];
        match fate.copies {
            0 => {
                counters.add(if fate.dropped { DROPPED } else { LOST }, 1);
                self.shared.log.note(from, left, None, frame);
            }
            2 => counters.add(DUPLICATED, 1),
            _ => {}
        }
        if fate.held_back {
            counters.add(REORDERED, 1);
        }
        if fate.copies == 2 {
            self.hold(Held { due: fate.due, number: 0, way: from, left, buffer: buffer.clone() });
        }
        if fate.copies > 0 {
            self.hold(Held { due: fate.due, number: 0, way: from, left, buffer });
        }
    }

    fn hold(&mut self, held: Held) {
        if self.queued + held.buffer.len() > QUEUE {
            self.shared.counters[held.way].add(OVERFLOWED, 1);
            return;
        }
        self.queued += held.buffer.len();
        self.number += 1;
        self.queue.push(Reverse(Held { number: self.number, ..held }));
    }

    fn deliver(&mut self) {
        while let Some(Reverse(next)) = self.queue.peek() {
            let left = next.due.saturating_duration_since(Instant::now());
            if left > SPIN {
                return;
            }
            while Instant::now() < next.due {
                std::hint::spin_loop();
            }
            let Some(Reverse(held)) = self.queue.pop() else { return };
            self.queued -= held.buffer.len();
            let counters = &self.shared.counters[held.way];
            let put_out = Instant::now();
            let sent = self.ports[1 - held.way].send(&held.buffer);
            let frame = held.buffer.get(VNET_HEADER..).unwrap_or_default();
            self.shared.log.note(held.way, held.left, sent.then_some(put_out), frame);
            if sent {
                let length = held.buffer.len() - VNET_HEADER;
                counters.add(FORWARDED, 1);
                counters.add(BYTES, length as u64);
                // An Ethernet frame with two tags is 1522 bytes.
                counters.add(SUPER_SEGMENTS, u64::from(length > 1522));
            } else {
                counters.add(OVERFLOWED, 1);
            }
        }
    }
}
