//! From one source to another while records flow: both are read until the older one has nothing more, and what came
//! from both is measured in the order of its times.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use go_metro_rtt::Segment;

use super::{Event, READS, State, counters};
use crate::capture::{CaptureError, Continuity, Handover, InterfaceEvent, Source, WatchList};

/// A source to go on with.
pub(in crate::daemon) struct Replacement {
    /// Prepared to take over.
    pub(in crate::daemon) source: Source,
    /// What it was opened for.
    pub(in crate::daemon) watch: WatchList,
    /// Whether it says the same of flows as the one before, so that what is outstanding stays comparable.
    pub(in crate::daemon) keeps_flows: bool,
    /// Set once the first thread's source has taken over, to the moment from which only the new rings get anything.
    pub(in crate::daemon) taken_over: Arc<OnceLock<Instant>>,
}

/// A source that was replaced, while what it has seen still comes.
pub(super) struct Retiring {
    source: Source,
    /// Held until it is over.
    _handover: Option<Handover>,
    taken_over: Arc<OnceLock<Instant>>,
    /// When it is given up in any case.
    at_the_latest: Instant,
    keeps_flows: bool,
    /// What came from both, to be sorted by time.
    came: Vec<Segment>,
    /// Others may be missing among those.
    has_gap: bool,
    /// Interfaces that it was on, and the one that took over is.
    stay: Vec<InterfaceEvent>,
}

impl Retiring {
    fn is_over(&self) -> bool {
        let now = Instant::now();
        let until = self.taken_over.get().copied().filter(|until| *until <= self.at_the_latest);
        until.unwrap_or(self.at_the_latest) <= now
    }
}

/// Longest time that a replaced source is read.
const RETIRE: Duration = Duration::from_secs(3);

impl State {
    /// Goes on with another source, where this one was.
    pub(super) fn replace(&mut self, replacement: Replacement) {
        let Replacement { source, watch, keeps_flows, taken_over } = replacement;
        let mut before = std::mem::replace(&mut self.source, source);
        let (mut handover, mut stay) = (None, Vec::new());
        let mut keeps_flows = keeps_flows && (self.is_other() || self.watch == watch);
        if !self.is_other() {
            let done = self.source.take_over(&mut before);
            if !done.is_seamless {
                tracing::info!("one source took over from another kind: what passed between them is not measured");
            }
            keeps_flows &= done.is_seamless;
            let _ = taken_over.set(done.until);
            handover = Some(done);
            self.source.go_beside(&self.bell);
            self.watch = watch;
            stay = self.announce();
        }
        let at_the_latest = Instant::now() + RETIRE;
        self.retiring = Some(Retiring {
            source: before,
            _handover: handover,
            taken_over,
            at_the_latest,
            keeps_flows,
            came: Vec::new(),
            has_gap: false,
            stay,
        });
    }

    /// Reads a source that was replaced, and the one that took over, and measures what came from both once that is all.
    pub(super) fn retire(&mut self) -> Result<(), CaptureError> {
        let Some(retiring) = &mut self.retiring else { return Ok(()) };
        self.source.wait(Duration::from_millis(5), None)?;
        // First what may be older.
        for source in [&mut retiring.source, &mut self.source] {
            retiring.has_gap |= take_all(source, &mut retiring.came);
        }
        if retiring.is_over()
            && let Some(Retiring { mut source, keeps_flows, mut came, has_gap, stay, .. }) = self.retiring.take()
        {
            self.retired.add(&counters(&mut source));
            let was_gap = source.is_gap_near() || has_gap;
            drop(source);
            let is_gap = self.source.is_gap_near() || was_gap;
            // Where in what is sorted by time now, nobody knows.
            self.engine.set_doubtful(is_gap);
            if !keeps_flows {
                self.engine.interrupt_all();
            }
            self.engine.set_peers_complete(self.source.peers_complete());
            if is_gap {
                self.engine.note_gap();
            }
            came.sort_by_key(Segment::time);
            self.measure(Some(&came));
            if is_gap {
                self.engine.note_gap();
                self.engine.set_doubtful(false);
            }
            self.notice_jump();
            // They are not interrupted, but captured by another source from now on.
            stay.into_iter().for_each(|event| drop(self.events.send(Event::Interface(event))));
        }
        Ok(())
    }
}

/// Takes what a source has; whether others may be missing among it.
fn take_all(source: &mut Source, came: &mut Vec<Segment>) -> bool {
    let mut has_gap = false;
    for _ in 0..READS {
        // What comes late is put in its order with all the rest.
        let Continuity { is_gap, is_doubtful, late: _ } = source.continuity();
        has_gap |= is_gap || is_doubtful;
        source.read(&mut |segment| came.push(*segment));
        if !source.has_more() {
            break;
        }
    }
    has_gap
}
