//! The way of a file's frames on several threads, one a stage, with batches passed from one to the next.
//!
//! Each stage sees what it would see alone, in the same order: nothing of the result depends on how many there are.
//! Where there can be no more threads, one does the work of two.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, scope};

use go_metro_rtt::Segment;

use super::Told;
use super::flows::Wanted;
use super::frames::{Frames, Item};
use super::segments::Segments;
use crate::capture::decode::Decoded;
use crate::threads;

/// Items of a batch: some 100 KB, which stay in the second cache, and a thread is woken for each.
const BATCH: usize = 1024;
/// Batches that wait for a stage that is slower.
const WAITING: usize = 4;

/// What is done before the sink.
pub(super) struct Stages<'a> {
    pub(super) frames: &'a mut Frames,
    pub(super) segments: &'a mut Segments,
    pub(super) wanted: &'a Wanted,
}

impl Stages<'_> {
    /// Hands all that is said to `sink`, on this thread.
    pub(super) fn run(self, threads: usize, sink: &mut impl FnMut(Told<&Segment>)) {
        let threads = if threads > 1 && self.frames.decompress_beside() { threads - 1 } else { threads };
        scope(|scope| {
            if threads < 2 {
                return self.segments_to(scope, 1, sink);
            }
            let (mut giver, taker) = batches();
            let work = move |stages: Self| {
                stages.segments_to(scope, threads - 1, &mut |told| {
                    giver.give(told.map(|segment| **segment));
                });
            };
            match threads::spawn_within(scope, "segments", self, work) {
                Ok(()) => taker.for_each(&mut |told: &Told<Segment>| sink(told.map(|segment| segment))),
                Err((_, stages)) => stages.segments_to(scope, 1, sink),
            }
        });
    }

    /// Finds the segments, with one thread more for the frames if there may be two.
    fn segments_to<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        threads: usize,
        sink: &mut impl FnMut(Told<&Segment>),
    ) where
        Self: 'scope,
    {
        let Self { frames, segments, wanted } = self;
        let tunnels = wanted.tunnels;
        let alone = if threads < 2 {
            Some(frames)
        } else {
            let (mut giver, taker) = batches();
            let work = move |frames: &mut Frames| {
                frames.read(tunnels, &mut |frame| {
                    giver.give(frame.map(|segment| **segment));
                });
            };
            match threads::spawn_within(scope, "frames", frames, work) {
                Ok(()) => {
                    taker.for_each(&mut |frame: &Item<Decoded>| {
                        segments.take(frame.map(|segment| segment), wanted, sink);
                    });
                    None
                }
                Err((_, frames)) => Some(frames),
            }
        };
        if let Some(frames) = alone {
            frames.read(tunnels, &mut |frame| segments.take(frame, wanted, sink));
        }
        segments.finish(wanted, sink);
    }
}

/// A way from one thread to the next. Batches come back empty, so that none is allocated once some are on their way.
fn batches<T>() -> (Giver<T>, Taker<T>) {
    let ((full, filled), (empty, emptied)) = (sync_channel(WAITING), channel());
    (Giver { batch: Vec::with_capacity(BATCH), full, emptied }, Taker { filled, empty })
}

struct Giver<T> {
    batch: Vec<T>,
    full: SyncSender<Vec<T>>,
    emptied: Receiver<Vec<T>>,
}

impl<T> Giver<T> {
    #[inline]
    fn give(&mut self, item: T) {
        self.batch.push(item);
        if self.batch.len() == BATCH {
            let next = self.emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
            self.pass_on(next);
        }
    }

    fn pass_on(&mut self, next: Vec<T>) {
        // Nobody takes it only if that thread panicked, which the scope reports.
        let _ = self.full.send(std::mem::replace(&mut self.batch, next));
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.pass_on(Vec::new());
    }
}

struct Taker<T> {
    filled: Receiver<Vec<T>>,
    empty: Sender<Vec<T>>,
}

impl<T> Taker<T> {
    fn for_each(self, work: &mut impl FnMut(&T)) {
        for mut batch in self.filled {
            batch.iter().for_each(&mut *work);
            batch.clear();
            let _ = self.empty.send(batch);
        }
    }
}
