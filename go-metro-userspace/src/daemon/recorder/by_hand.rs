//! A recording by hand: what has passed since the last time is handed over again and again, until its time is over or
//! who asked for it has enough.

use std::time::{Duration, Instant};

use bytes::Bytes;
use go_metro_rtt::{Addr, Nanos};
use tokio::sync::{mpsc, oneshot};

use super::earlier;
use crate::daemon::capture_thread::Kept;
use crate::record::{Choice, Ongoing, note};
use crate::status::record::{LARGEST, RecordError, RecordOrder};

/// How often something is handed over.
pub(super) const EVERY: Duration = Duration::from_millis(500);
/// How soon it is tried again where nothing could be, as what was before is not fetched yet.
const SOON: Duration = Duration::from_millis(50);
/// How long after its end what is left of it may be fetched.
const GRACE: Duration = Duration::from_secs(10);
/// Parts that wait until they are fetched. What finds no room stays in the memory for records.
const WAITING: usize = 2;

/// Parts of a recording, which come as long as it goes on; or why there is none.
pub(in crate::daemon) type Reply = oneshot::Sender<Result<mpsc::Receiver<Bytes>, RecordError>>;

/// A recording by hand.
pub(in crate::daemon) struct ByHand {
    order: RecordOrder,
    began: Instant,
    until: Instant,
    /// Whether what is handed over now is the last of it.
    ends: bool,
    /// Its first and last time on the clock of the records, once that is known.
    times: [Option<Nanos>; 2],
    taker: Taker,
    ongoing: Option<Ongoing>,
    bytes: u64,
}

/// Who asked for it.
enum Taker {
    /// Has nothing yet.
    Waits(Reply),
    /// Takes parts.
    Takes(mpsc::Sender<Bytes>),
    /// Has the reason why there is nothing.
    Told,
}

impl ByHand {
    /// One that begins now.
    pub(super) fn new(order: RecordOrder, reply: Reply) -> Self {
        let began = Instant::now();
        let until = began + order.time;
        let taker = Taker::Waits(reply);
        Self { order, began, until, ends: false, times: [None; 2], taker, ongoing: None, bytes: 0 }
    }

    /// What it is called by who asked for it.
    pub(super) fn id(&self) -> Option<u64> {
        self.order.id
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_forgotten(&self) -> bool {
        match &self.taker {
            Taker::Waits(reply) => reply.is_closed(),
            Taker::Takes(parts) => parts.is_closed(),
            Taker::Told => true,
        }
    }

    /// Whether it has no packet so far.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Ends it now, with what has passed.
    pub(super) fn end(&mut self) {
        self.until = self.until.min(Instant::now());
    }

    /// What is kept from now on is not in it if its time is over: to be called before that is asked for.
    pub(super) fn look_at_time(&mut self) {
        self.ends |= self.until <= Instant::now();
    }

    /// Whether what is left of it can be handed over later.
    pub(super) fn may_wait(&self) -> bool {
        self.until.elapsed() < GRACE
    }

    /// When to go on, this long after it was gone on with.
    pub(super) fn next(&self, after: Duration) -> Instant {
        let now = Instant::now();
        if self.ends { now + after } else { (now + after).min(self.until.max(now)) }
    }

    /// Hands over what has passed since the last time: how many packets, and when to go on; `None` where that was all.
    pub(super) fn go_on(&mut self, kept: &Kept, section: note::Section) -> (u64, Option<Duration>) {
        if matches!(&self.taker, Taker::Takes(parts) if parts.capacity() == 0) {
            return (0, self.may_wait().then_some(SOON));
        }
        let [first, last] = &mut self.times;
        let since = *first.get_or_insert_with(|| earlier(kept.now, self.began.elapsed()));
        let until = if self.ends { *last.get_or_insert(kept.now) } else { Nanos(u64::MAX) };
        let choice = Choice {
            remotes: self.order.pairs.iter().map(|(address, port)| (Addr::from(*address), *port)).collect(),
            local: None,
            ifindex: None,
            since,
            until,
            focus: None,
            most_bytes: LARGEST,
        };
        let ongoing = self.ongoing.get_or_insert_with(|| Ongoing::new(section));
        let mut part = ongoing.next(&kept.rings, &choice, &kept.described);
        self.bytes += part.blocks.len() as u64;
        let is_last = self.ends && part.is_all || self.bytes >= LARGEST;
        if is_last {
            part.blocks.extend(ongoing.end());
        }
        self.hand_over(part.blocks, is_last);
        let next = if part.is_all { EVERY } else { Duration::ZERO };
        (part.packets, (!is_last).then_some(next))
    }

    fn hand_over(&mut self, blocks: Vec<u8>, is_last: bool) {
        if blocks.is_empty() && !is_last {
            return;
        }
        self.taker = match std::mem::replace(&mut self.taker, Taker::Told) {
            Taker::Waits(reply) if blocks.is_empty() => {
                let seconds = self.began.elapsed().as_secs_f64();
                let why = format!("there was no measured segment of it in {seconds:.1} s");
                // Who asked may be gone, here and below.
                let _ = reply.send(Err(RecordError::Nothing(why)));
                Taker::Told
            }
            Taker::Waits(reply) => {
                let (parts, taker) = mpsc::channel(WAITING);
                let _ = reply.send(Ok(taker));
                Taker::Takes(parts)
            }
            taker => taker,
        };
        if let Taker::Takes(parts) = &self.taker {
            let _ = parts.try_send(blocks.into());
        }
    }
}
