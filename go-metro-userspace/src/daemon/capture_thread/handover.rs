//! From one source to another while records flow: both are read until the older one has nothing more, and what came
//! from both is measured in the order of its times.

use std::time::{Duration, Instant};

use go_metro_rtt::Segment;

use super::{Event, Order, READS, State, counters};
use crate::capture::{CaptureError, Continuity, Handover, InterfaceEvent, Source, WatchList};

/// A source to go on with.
pub(super) struct Replacement {
    /// Prepared to take over.
    pub(super) source: Source,
    /// What it was opened for.
    pub(super) watch: WatchList,
    /// Whether it says the same of flows as the one before, so that what is outstanding stays comparable.
    pub(super) keeps_flows: bool,
}

/// A source that was replaced, while what it has seen still comes.
pub(super) struct Retiring {
    source: Source,
    /// Held until it is over.
    handover: Handover,
    keeps_flows: bool,
    /// What came from both, to be sorted by time.
    came: Vec<Segment>,
    /// Others may be missing among those.
    has_gap: bool,
    /// Interfaces that it was on, and the one that took over is.
    stay: Vec<InterfaceEvent>,
}

impl State {
    /// Goes on with another source, where this one was.
    pub(super) fn replace(&mut self, replacement: Replacement) {
        let Replacement { source, watch, mut keeps_flows } = replacement;
        let mut before = std::mem::replace(&mut self.source, source);
        keeps_flows &= self.watch == watch;
        let handover = self.source.take_over(&mut before);
        if !handover.is_seamless {
            tracing::info!("capture switched to another kind of source; what passed in between is not measured");
        }
        keeps_flows &= handover.is_seamless;
        self.source.go_beside(&self.bell);
        self.watch = watch;
        let stay = self.announce();
        self.retiring =
            Some(Retiring { source: before, handover, keeps_flows, came: Vec::new(), has_gap: false, stay });
    }

    /// Reads a source that was replaced, and the one that took over, and measures what came from both once that is all.
    pub(super) fn retire(&mut self) -> Result<(), CaptureError> {
        let Some(retiring) = &mut self.retiring else { return Ok(()) };
        self.source.wait(Duration::from_millis(5), None)?;
        // First what may be older.
        for source in [&mut retiring.source, &mut self.source] {
            retiring.has_gap |= take_all(source, &mut retiring.came);
        }
        if retiring.handover.until <= Instant::now()
            && let Some(Retiring { mut source, keeps_flows, mut came, has_gap, stay, .. }) = self.retiring.take()
        {
            self.retired.add(&counters(&mut source));
            let was_gap = source.is_gap_near() || has_gap;
            drop(source);
            let is_gap = self.source.is_gap_near() || was_gap;
            // Where in what is sorted by time now, nobody knows.
            self.measuring.tell(&Order::Doubtful(is_gap));
            if !keeps_flows {
                self.measuring.tell(&Order::InterruptAll);
            }
            self.measuring.tell(&Order::PeersComplete(self.source.peers_complete()));
            if is_gap {
                self.measuring.tell(&Order::Gap);
            }
            came.sort_by_key(Segment::time);
            self.measure(Some(&came));
            if is_gap {
                self.measuring.tell(&Order::Gap);
                self.measuring.tell(&Order::Doubtful(false));
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
