//! From decoded segments in the order of the file to those of wanted flows in the order of time, without copies.

use go_metro_common::segment::{Sides, TcpFlags};
use go_metro_rtt::{Nanos, Segment};

use super::Told;
use super::clock::Clock;
use super::flows::{Flows, Wanted};
use super::frames::{Decoding, Item};
use super::order::Order;
use crate::capture::SourceCounters;
use crate::capture::copies::Observed;
use crate::capture::decode::Decoded;
use crate::capture::segmentation::Segmentation;

/// What is known of the segments of a file.
pub(super) struct Segments {
    /// What they are once they are held against those around them.
    pub(super) counters: SourceCounters,
    pub(super) clock: Clock,
    pub(super) order: Order<(Decoded, Observed)>,
    pub(super) flows: Flows,
    segmentation: Segmentation,
    /// There is something else than SYNs.
    pub(super) goes_on: bool,
    /// Which round trips were measured of what is made of records.
    pub(super) sides: Sides,
}

impl Segments {
    pub(super) fn new() -> Self {
        let (counters, clock) = (SourceCounters::default(), Clock::default());
        Self {
            counters,
            clock,
            order: Order::new(),
            flows: Flows::new(),
            segmentation: Segmentation::new(),
            goes_on: false,
            sides: Sides(0),
        }
    }

    /// Takes a frame, and says of those before it what can be said now.
    #[inline]
    pub(super) fn take(&mut self, item: Item<&Decoded>, wanted: &Wanted, sink: &mut impl FnMut(Told<&Segment>)) {
        let frame = match item {
            Item::Frame(frame) => frame,
            Item::Turn(section) => {
                self.finish(wanted, sink);
                self.sides.0 |= section.map_or(0, |section| section.sides.0);
                return sink(Told::Turn(section));
            }
        };
        let Self { counters, clock, order, flows, segmentation, goes_on, .. } = self;
        let Decoding { time, interface, is_first, views, segment } = frame;
        if is_first {
            clock.note(time);
        }
        let Some(decoded) = segment else { return };
        let flags = decoded.header.flags;
        *goes_on |= !flags.any(TcpFlags::SYN) || flags.any(TcpFlags::ACK);
        if !views.is_empty() {
            // It was found before what it is, and in what order.
            return flows.measure_recorded(decoded, (time, interface), views, wanted, counters, sink);
        }
        if clock.leapt() {
            clock.remember(time, order.held().map(|(time, (decoded, _))| (time, decoded)));
        }
        clock.check(decoded, time);
        let observed = flows.observe(decoded, time, interface);
        let mut decoded = *decoded;
        decoded.header.payload = segmentation.payload(&decoded, None);
        let mut state = (counters, clock, flows);
        order.take(time, (decoded, observed), &mut |time, frame| measure(time, frame, &mut state, wanted, sink));
    }

    /// Says the rest.
    pub(super) fn finish(&mut self, wanted: &Wanted, sink: &mut impl FnMut(Told<&Segment>)) {
        let Self { counters, clock, order, flows, .. } = self;
        let mut state = (counters, clock, flows);
        order.finish(&mut |time, frame| measure(time, frame, &mut state, wanted, sink));
    }
}

/// Says what a frame is whose turn it is.
#[inline]
fn measure(
    time: Nanos,
    (decoded, observed): &mut (Decoded, Observed),
    (counters, clock, flows): &mut (&mut SourceCounters, &mut Clock, &mut Flows),
    wanted: &Wanted,
    sink: &mut impl FnMut(Told<&Segment>),
) {
    if clock.take_step(time) {
        sink(Told::ClockSet);
    }
    flows.measure(decoded, (time, observed), wanted, counters, &mut |segment| sink(Told::Segment(segment)));
}
