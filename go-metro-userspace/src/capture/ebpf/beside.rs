//! A thread that puts the classifier on hooks, beside the one that reads its records: attaching takes the kernel tens
//! of milliseconds an interface, and a host of containers has a thousand.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{error, info};

use super::hooks::{Follower, Hooks};
use crate::capture::{InterfaceEvent, WatchList, Way};
use crate::inbox::{self, Bell, Inbox};
use crate::netlink::monitor::Monitor;
use crate::threads;

/// Shortest time between two looks at the interfaces: a change seldom comes alone.
const TICK: Duration = Duration::from_millis(50);
/// How often interfaces are looked at though the kernel told of no change, or where it does not tell.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(1)];
/// Longest wait until the reader has acted on the events, for which it is woken.
const SETTLE: Duration = Duration::from_secs(1);

/// What the thread is asked to do.
enum Order {
    /// Watch these addresses from now on.
    Watch(WatchList),
    /// Move to the head of the hook that tells this way.
    Head(u32, Way),
    /// Leave the hooks as far as there is time until then, and end.
    Leave(Instant, mpsc::Sender<()>),
    /// Hand the hooks over as they are, and end.
    HandOver(mpsc::Sender<Hooks>),
}

/// The thread, as its reader sees it. It ends when this is dropped.
pub(super) struct Beside {
    orders: inbox::Sender<Order>,
    events: mpsc::Receiver<InterfaceEvent>,
    /// Events that were taken, and that were acted on.
    taken: u64,
    settled: Arc<AtomicU64>,
}

impl Beside {
    /// Starts it. It rings `bell` for each event.
    ///
    /// # Errors
    ///
    /// There can be no more threads, or files; the hooks come back as they are.
    pub(super) fn start(hooks: Box<Hooks>, bell: Bell) -> Result<Self, (io::Error, Box<Hooks>)> {
        let (orders, inbox) = match inbox::channel() {
            Ok(channel) => channel,
            Err(error) => return Err((error, hooks)),
        };
        let (told, events) = mpsc::channel();
        let settled = Arc::<AtomicU64>::default();
        let room = Room { inbox, waiting: VecDeque::new(), told, bell, count: 0, settled: settled.clone() };
        threads::spawn_with("attach", hooks, move |hooks| room.run(*hooks))?;
        Ok(Self { orders, events, taken: 0, settled })
    }

    /// What happened since the last call. What that returned is taken to be acted on.
    pub(super) fn events(&mut self) -> Vec<InterfaceEvent> {
        self.settled.store(self.taken, Ordering::Release);
        let events: Vec<InterfaceEvent> = self.events.try_iter().collect();
        self.taken += events.len() as u64;
        events
    }

    /// Watches these addresses from now on.
    pub(super) fn watch(&self, watch: WatchList) {
        let _ = self.orders.send(Order::Watch(watch));
    }

    /// Moves to the head of the hook that tells `way` on this interface.
    pub(super) fn move_to_head(&self, ifindex: u32, way: Way) {
        let _ = self.orders.send(Order::Head(ifindex, way));
    }

    /// Leaves the hooks as far as there is time until then.
    pub(super) fn leave(&self, deadline: Instant) {
        let (done, left) = mpsc::channel();
        if self.orders.send(Order::Leave(deadline, done)).is_ok() {
            let _ = left.recv_timeout(deadline.saturating_duration_since(Instant::now()) + TICK);
        }
    }

    /// Takes the hooks back; none if the thread does not give them in this time.
    pub(super) fn end(self, patience: Duration) -> Option<Hooks> {
        let (give, take) = mpsc::channel();
        self.orders.send(Order::HandOver(give)).ok()?;
        take.recv_timeout(patience).ok()
    }
}

/// What the thread has beside the hooks.
struct Room {
    inbox: Inbox<Order>,
    /// Orders that came while something else was done.
    waiting: VecDeque<Order>,
    told: mpsc::Sender<InterfaceEvent>,
    /// The reader's.
    bell: Bell,
    count: u64,
    settled: Arc<AtomicU64>,
}

impl Room {
    fn run(mut self, mut hooks: Hooks) {
        let monitor = Monitor::open()
            .inspect_err(|error| info!(%error, "the kernel reports no changes; checking interfaces every second"))
            .ok();
        let look_every = LOOK_EVERY[usize::from(monitor.is_none())];
        let mut look_at = Instant::now();
        let (mut has_changed, mut looked_at) = (false, None::<Instant>);
        loop {
            let order = self.next_order();
            let may_wait = order.is_err();
            match order {
                Ok(Order::Watch(watch)) => {
                    match hooks.set_targets(&watch) {
                        Ok(()) => {}
                        Err(error) => error!("cannot change the targets, keeping the previous ones: {error}"),
                    }
                    // There may be interfaces that were not watched before.
                    look_at = Instant::now();
                }
                Ok(Order::Head(ifindex, way)) => hooks.move_to_head(ifindex, way, &mut self),
                Ok(Order::Leave(deadline, done)) => {
                    hooks.leave(deadline);
                    let _ = done.send(());
                    return;
                }
                Ok(Order::HandOver(give)) => {
                    let _ = give.send(hooks);
                    return;
                }
                Err(mpsc::TryRecvError::Empty) => {}
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
            has_changed |= monitor.as_ref().is_some_and(Monitor::has_changed);
            let now = Instant::now();
            let may_look_at = looked_at.map_or(now, |at| at + TICK);
            if look_at <= now || has_changed && may_look_at <= now {
                has_changed = false;
                let complete = hooks.maintain(&mut self);
                let now = Instant::now();
                look_at = now + if complete { look_every } else { Duration::ZERO };
                looked_at = Some(now);
            } else if may_wait {
                // Until it may look again, nothing that the kernel says makes a difference.
                let (until, hears) = if has_changed { (may_look_at, None) } else { (look_at, monitor.as_ref()) };
                self.wait(until.saturating_duration_since(now), hears);
            }
        }
    }

    fn next_order(&mut self) -> Result<Order, mpsc::TryRecvError> {
        self.inbox.hush();
        self.waiting.pop_front().map_or_else(|| self.inbox.try_recv(), Ok)
    }

    /// Waits for an order, or for the kernel's word.
    fn wait(&self, timeout: Duration, monitor: Option<&Monitor>) {
        // Rounded up: a millisecond too early would be too early again.
        let timeout = PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let files = std::iter::once(self.inbox.as_fd()).chain(monitor.map(AsFd::as_fd));
        let mut files: Vec<PollFd<'_>> = files.map(|file| PollFd::new(file, PollFlags::POLLIN)).collect();
        if let Err(error) = poll(&mut files, timeout)
            && error != Errno::EINTR
        {
            // Not as fast as it can.
            std::thread::sleep(TICK);
        }
    }
}

impl Follower for Room {
    fn tell(&mut self, event: InterfaceEvent) {
        self.count += 1;
        let _ = self.told.send(event);
        self.bell.ring();
    }

    fn settle(&mut self) {
        let deadline = Instant::now() + SETTLE;
        while self.settled.load(Ordering::Acquire) < self.count && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn is_urgent(&mut self) -> bool {
        match self.inbox.try_recv() {
            Ok(order) => self.waiting.push_back(order),
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => return true,
        }
        !self.waiting.is_empty()
    }
}
