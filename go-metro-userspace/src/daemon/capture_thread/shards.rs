//! Meters on threads of their own, each for its share of the flows.
//!
//! The capture thread hands each the segments of its flows, in their order, and everything that is to be known at a
//! point among them goes the same way. Where a meter does not keep up the capture thread waits, and the classifier
//! leaves segments out as with a ring that fills: nothing is lost between the threads.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, mem};

use go_metro_rtt::{Segment, shard_of};

use super::meter::{Meter, Order, Origin, Segments};
use crate::threads;

/// Segments that are handed over at once: enough that handing over costs little of a segment, few enough that all the
/// buffers of a meter are about a megabyte.
const BATCH: usize = 1024;
/// Messages that may wait for a meter.
const WAITING: usize = 8;
/// How often a meter without segments goes round.
const IDLE: Duration = Duration::from_millis(500);

/// What measures: the capture thread's own meter, or several on threads of their own.
pub(in crate::daemon) enum Measuring {
    /// On the capture thread: no segment goes from one thread to another.
    Here(Box<Meter>),
    /// Elsewhere.
    Apart(Shards),
}

/// Meters with a thread each. They measure what they were handed, and end, when this is dropped.
pub(in crate::daemon) struct Shards {
    shards: Vec<Shard>,
    /// By which flows are shared out: nobody who does not know it can send all to one meter.
    seed: u64,
    /// What they were told last.
    are_doubtful: bool,
}

/// The capture thread's end of one.
struct Shard {
    messages: Option<SyncSender<Message>>,
    /// Its buffers, measured.
    measured: Receiver<Vec<Segment>>,
    next: Vec<Segment>,
    thread: Option<JoinHandle<()>>,
    beats: Arc<AtomicU64>,
}

enum Message {
    Segments(Vec<Segment>, Origin),
    Order(Order),
    Ask(Box<dyn FnOnce(&mut Meter) + Send>),
}

impl Shard {
    fn spawn(number: usize, mut meter: Meter) -> io::Result<Self> {
        let (messages, inbox) = sync_channel::<Message>(WAITING);
        let (give_back, measured) = sync_channel(WAITING + 2);
        let beats = Arc::<AtomicU64>::default();
        let going = beats.clone();
        let work = move || {
            loop {
                going.fetch_add(1, Ordering::Relaxed);
                match inbox.recv_timeout(IDLE) {
                    Ok(Message::Segments(mut segments, origin)) => {
                        meter.measure(origin, segments.as_slice());
                        segments.clear();
                        let _ = give_back.try_send(segments);
                    }
                    Ok(Message::Order(order)) => meter.follow(&order),
                    Ok(Message::Ask(question)) => question(&mut meter),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = Some(threads::spawn(&format!("measure-{number}"), work)?);
        Ok(Self { messages: Some(messages), measured, next: Vec::with_capacity(BATCH), thread, beats })
    }

    /// A meter ends only when this does.
    fn send(&self, message: Message) {
        if let Some(messages) = &self.messages {
            let _ = messages.send(message);
        }
    }

    fn hand_over(&mut self, origin: Origin) {
        if !self.next.is_empty() {
            let spare = self.measured.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
            let segments = mem::replace(&mut self.next, spare);
            self.send(Message::Segments(segments, origin));
        }
    }
}

impl Measuring {
    /// So many meters, made by `meter`; one is to be on the capture thread itself.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub(in crate::daemon) fn by(workers: u32, meter: impl Fn() -> Meter) -> io::Result<Self> {
        if workers <= 1 {
            return Ok(Self::Here(Box::new(meter())));
        }
        let shards = (1..=workers as usize).map(|number| Shard::spawn(number, meter())).collect::<io::Result<_>>()?;
        let seed = RandomState::new().build_hasher().finish();
        Ok(Self::Apart(Shards { shards, seed, are_doubtful: false }))
    }

    /// How often each thread has gone round: between segments, and at least every half second. None of the capture
    /// thread's.
    pub(super) fn beats(&self) -> Vec<Arc<AtomicU64>> {
        match self {
            Self::Here(_) => Vec::new(),
            Self::Apart(Shards { shards, .. }) => shards.iter().map(|shard| shard.beats.clone()).collect(),
        }
    }

    /// Measures what there is; whether that was anything.
    pub(in crate::daemon) fn measure(&mut self, origin: Origin, segments: impl Segments) -> bool {
        let Shards { shards, seed, .. } = match self {
            Self::Here(meter) => return meter.measure(origin, segments),
            Self::Apart(shards) => shards,
        };
        let mut is_any = false;
        let count = shards.len() as u32;
        segments.hand_to(&mut |segment| {
            is_any = true;
            let shard = &mut shards[shard_of(&segment.flow, *seed, count) as usize];
            shard.next.push(*segment);
            if shard.next.len() == BATCH {
                shard.hand_over(origin);
            }
        });
        shards.iter_mut().for_each(|shard| shard.hand_over(origin));
        is_any
    }

    /// Has every meter do something at this point among the segments.
    pub(super) fn tell(&mut self, order: &Order) {
        match self {
            Self::Here(meter) => meter.follow(order),
            Self::Apart(Shards { shards, are_doubtful, .. }) => {
                if let Order::Doubtful(now) = *order
                    && mem::replace(are_doubtful, now) == now
                {
                    return;
                }
                shards.iter().for_each(|shard| shard.send(Message::Order(order.clone())));
            }
        }
    }

    /// Asks every meter at this point among the segments; `then` gets the answers, in one order, once all are there. It
    /// is called on whichever thread answers last.
    pub(in crate::daemon) fn ask<T: Send + 'static>(
        &mut self,
        question: fn(&mut Meter) -> T,
        then: impl FnOnce(Vec<T>) + Send + 'static,
    ) {
        match self {
            Self::Here(meter) => then(vec![question(meter)]),
            Self::Apart(Shards { shards, .. }) => {
                let answers = Arc::new(Answers(Mutex::new((Vec::new(), Some(then)))));
                for (number, shard) in shards.iter().enumerate() {
                    let answers = answers.clone();
                    shard.send(Message::Ask(Box::new(move |meter| answers.add(number, question(meter)))));
                }
            }
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.shards.iter_mut().for_each(|shard| shard.messages = None);
        for thread in self.shards.iter_mut().filter_map(|shard| shard.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// What several threads answer, each with its number, and what gets all of it when the last of them lets go of this.
struct Answers<T, F: FnOnce(Vec<T>)>(Mutex<Given<T, F>>);

type Given<T, F> = (Vec<(usize, T)>, Option<F>);

impl<T, F: FnOnce(Vec<T>)> Answers<T, F> {
    fn add(&self, number: usize, answer: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.push((number, answer));
    }
}

impl<T, F: FnOnce(Vec<T>)> Drop for Answers<T, F> {
    fn drop(&mut self) {
        let (given, then) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        given.sort_by_key(|(number, _)| *number);
        if let Some(then) = then.take() {
            then(mem::take(given).into_iter().map(|(_, answer)| answer).collect());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::channel;

    use go_metro_common::segment::{Bits, Payload, SegmentHeader, TcpFlags};
    use go_metro_rtt::{Addr, Endpoint, EngineConfig, FlowKey, Interval, Ports, Side, SummaryLimits};

    use super::super::meter::Reading;
    use super::*;
    use crate::daemon::settings::Limits;

    const FLOWS: u16 = 500;
    const ROUNDS: u32 = 40;
    const ORIGIN: Origin = Origin { epoch_offset_ns: 0, may_hide: false };

    fn meter() -> Meter {
        let (engine, summaries) = (EngineConfig::default(), SummaryLimits::default());
        Meter::new(&Limits { engine, ports: Ports::ALL, summaries, health: None, grouping: None }, None)
    }

    fn segment(flow: u16, time_ns: u64, sent: bool, (seq, ack, len): (u32, u32, u32)) -> Segment {
        let end = |last: u8, port| Endpoint { addr: Addr::v4([10, 0, 0, last]), port };
        let flow = FlowKey { local: end(1, 1024 + flow), remote: end(2, 443), ifindex: 2, side: Side::Remote };
        let bits = Bits(if sent { Bits::EGRESS } else { 0 });
        let payload = Payload::new(len);
        let flags = TcpFlags(TcpFlags::ACK);
        Segment { flow, header: SegmentHeader { time_ns, seq, ack, payload, bits, flags, ..Default::default() } }
    }

    /// Rounds of a request that each flow sends and the acknowledgement that it gets, 1 ms to 1.5 ms later.
    fn rounds() -> Vec<Segment> {
        let mut all = Vec::new();
        for round in 0..ROUNDS {
            let at = u64::from(round) * 10_000_000;
            let seq = 1 + round * 100;
            all.extend((0..FLOWS).map(|flow| segment(flow, at + u64::from(flow), true, (seq, 1, 100))));
            let answered = |flow: u16| at + 1_000_000 + u64::from(flow) * 1000;
            all.extend((0..FLOWS).map(|flow| segment(flow, answered(flow), false, (1, seq + 100, 0))));
        }
        all
    }

    fn together(readings: Vec<Reading>) -> Reading {
        let mut all = Reading::default();
        readings.iter().for_each(|reading| all.counts.add(&reading.counts));
        all.interval = Interval::merged(readings.into_iter().map(|reading| reading.interval), 1000);
        all
    }

    /// What meters say of it, handed over in pieces of this many.
    fn measured(workers: u32, segments: &[Segment], piece: usize) -> Reading {
        let mut measuring = Measuring::by(workers, meter).unwrap();
        for piece in segments.chunks(piece) {
            assert!(measuring.measure(ORIGIN, piece));
        }
        let (give, take) = channel();
        measuring.ask(Meter::read, move |readings| give.send(readings).unwrap());
        let readings = take.recv().unwrap();
        assert_eq!(readings.len(), workers as usize);
        together(readings)
    }

    #[test]
    fn several_meters_say_together_what_one_says_and_lose_nothing_however_fast_it_comes() {
        let segments = rounds();
        let one = measured(1, &segments, segments.len());
        assert_eq!(one.counts.engine.samples[0], u64::from(FLOWS) * u64::from(ROUNDS));
        for (workers, piece) in [(2, 7), (3, segments.len()), (16, 3000)] {
            let several = measured(workers, &segments, piece);
            assert_eq!(several.counts.engine, one.counts.engine, "{workers} meters");
            assert_eq!(several.counts.flows, one.counts.flows, "{workers} meters");
            let [(key, mine)] = one.interval.pairs.as_slice() else { panic!("not one pair") };
            let [(same, theirs)] = several.interval.pairs.as_slice() else { panic!("not one pair") };
            let (mine, theirs) = (mine.data.as_ref().unwrap(), theirs.data.as_ref().unwrap());
            assert_eq!((key, mine.count(), mine.min(), mine.max()), (same, theirs.count(), theirs.min(), theirs.max()));
        }
    }

    #[test]
    fn what_is_told_comes_between_the_segments_before_and_after_it() {
        for workers in [1, 4] {
            let mut measuring = Measuring::by(workers, meter).unwrap();
            let segments = rounds();
            // Each request meets an interruption before its acknowledgement.
            for half in segments.chunks(usize::from(FLOWS)) {
                measuring.measure(ORIGIN, half);
                measuring.tell(&Order::Interrupt(2));
            }
            let (give, take) = channel();
            measuring.ask(Meter::read, move |readings| give.send(readings).unwrap());
            assert_eq!(together(take.recv().unwrap()).counts.engine.samples, [0, 0], "{workers} meters");
        }
    }

    #[test]
    fn an_answer_is_given_even_if_the_meters_end_at_once() {
        let mut measuring = Measuring::by(5, meter).unwrap();
        measuring.measure(ORIGIN, rounds().as_slice());
        let (give, take) = channel();
        measuring.ask(Meter::counts, move |counts| give.send(counts.len()).unwrap());
        drop(measuring);
        assert_eq!(take.recv(), Ok(5));
    }
}
