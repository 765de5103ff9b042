//! The capture-file source: pcap and pcapng, perhaps compressed, read as a stream.
//!
//! [`input`] is the file's bytes, [`reader`] finds the frames in them, by [`pcap`] or [`pcapng`], and [`frames`]
//! decodes those. Memory does not depend on the file's size. What is broken at the end of a file costs only the end:
//! everything before it is used, and a warning says where it broke. Frames that may carry TCP but cannot be measured
//! are counted by their reason ([`unread`]); the others are put in the order of their times ([`segments`], [`order`]).
//! In a recording (docs/recorder.md) frames are records, which say what they are and are in order. From all of those
//! come the segments of flows ([`flows`]): a flow is identified without the interface, whose frames may be
//! spread over several, but by the tunnel that it is in ([`places`], [`tunnels`]). [`stages`] does it on several
//! threads.

mod clock;
mod flows;
mod frames;
mod ids;
mod input;
mod order;
mod pcap;
mod pcapng;
mod places;
mod reader;
mod segments;
mod skew;
mod stages;
mod tunnels;
mod unread;
mod vlans;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use go_metro_common::segment::Sides;
use go_metro_rtt::{Addr, EngineCounters, FlowKey, Nanos, Segment};
use ipnet::IpNet;

use super::decode::Tunnels;
use super::{CaptureError, SourceCounters};
use crate::record::note;
use flows::Wanted;
use frames::Frames;
use reader::{NoFrames, Reader};
use segments::Segments;

/// Which flows are wanted of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileFilter {
    /// Hosts whose segments are timed; none means both ends of every connection.
    pub local: Vec<IpNet>,
    /// Remote hosts; none means all.
    pub targets: Vec<IpNet>,
    /// Which round trips to measure.
    pub sides: Sides,
    /// Whether to measure, of a recording, whichever were measured when it was made.
    pub sides_as_recorded: bool,
    /// Whether to look for connections inside tunnels.
    pub tunnels: Tunnels,
}

/// Among the bits of a flow's `ifindex` that is made of records: the others are the number of the interface in the
/// file. Above the numbers of other places, and below what an interface's index can be.
const RECORDED: u32 = 1 << 29;

/// What a capture says next; of a segment itself, or by reference.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told<S> {
    /// A segment, as one end sees it.
    Segment(S),
    /// The clock was set forward before what comes next, as timestamps (RFC 7323) show: times across that are not to be
    /// compared.
    ClockSet,
    /// What comes is a recording: made of segment records, of which this is known. Or it is a capture again.
    Turn(Option<note::Section>),
    /// In a recording: what is outstanding of this flow is forgotten.
    Interrupted(FlowKey),
    /// In a recording: records of this flow may be missing before what comes.
    Gap(FlowKey),
    /// In a recording, a segment that gave no sample, for a reason that is not in it.
    Untold(S),
    /// In a recording, a segment whose sample was one of a delayed acknowledgement and does not look so here, or the
    /// other way round.
    Flipped(S),
}

impl<S> Told<S> {
    /// The same of what is made of a segment.
    fn map<'a, T>(&'a self, of: impl FnOnce(&'a S) -> T) -> Told<T> {
        match self {
            Self::Segment(segment) => Told::Segment(of(segment)),
            Self::ClockSet => Told::ClockSet,
            Self::Turn(section) => Told::Turn(*section),
            Self::Interrupted(flow) => Told::Interrupted(*flow),
            Self::Gap(flow) => Told::Gap(*flow),
            Self::Untold(segment) => Told::Untold(of(segment)),
            Self::Flipped(segment) => Told::Flipped(of(segment)),
        }
    }
}

/// An open capture file.
pub struct FileSource {
    frames: Frames,
    segments: Segments,
}

impl FileSource {
    /// Opens a capture; `-` is standard input.
    ///
    /// # Errors
    ///
    /// What cannot be read, or is no capture.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        Self::open_through(path, |file| Box::new(file))
    }

    /// As [`Self::open`], but reads the file (not standard input) through what `through` makes of it.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_through(path: &Path, through: impl FnOnce(File) -> Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::File { path: path.to_owned(), source };
        let input = input::open(path, through).map_err(failed)?;
        let no_frames = |why| match why {
            NoFrames::NothingComesOut(reason) => CaptureError::NothingComesOut { path: path.to_owned(), reason },
            NoFrames::NoCapture(reason) => CaptureError::NoCapture { path: path.to_owned(), reason },
        };
        Ok(Self { frames: Frames::of(Reader::new(input).map_err(no_frames)?), segments: Segments::new() })
    }

    /// Hands every wanted segment to `sink`, as each end that is wanted sees it.
    pub fn for_each(&mut self, filter: &FileFilter, sink: &mut impl FnMut(&Segment)) {
        self.for_each_told(1, filter, &mut |told| match told {
            Told::Segment(segment) | Told::Untold(segment) | Told::Flipped(segment) => sink(segment),
            Told::ClockSet | Told::Turn(_) | Told::Interrupted(_) | Told::Gap(_) => {}
        });
    }

    /// The same, and says where the clock that stamped the frames was set forward; with up to this many threads, this
    /// one included, and the same result.
    ///
    /// Each stage of the way is a thread: decompressing, reading and decoding, finding copies and the order of time,
    /// and what `sink` does. What a stage says is passed on in the order in which it says it, so that threads change
    /// nothing but when.
    pub(crate) fn for_each_told(&mut self, threads: usize, filter: &FileFilter, sink: &mut impl FnMut(Told<&Segment>)) {
        let wanted = Wanted::new(filter);
        let stages = stages::Stages { frames: &mut self.frames, segments: &mut self.segments, wanted: &wanted };
        stages.run(threads, sink);
    }

    /// What was counted.
    pub fn counters(&self) -> SourceCounters {
        let mut counters = self.frames.counters;
        counters.add(&self.segments.counters);
        counters
    }

    /// How the file is broken, if it is; all before that place was used.
    pub fn broken(&self) -> Option<&str> {
        self.frames.broken()
    }

    /// If none of these hosts is in the capture: those that are, most packets first.
    pub fn instead_of(&self, local: &[IpNet]) -> Vec<Addr> {
        if self.segments.counters.packets.records > 0 { Vec::new() } else { self.segments.flows.instead_of(local) }
    }

    /// Whether there are segments, and all are of other hosts than those that were named.
    pub fn has_only_others(&self) -> bool {
        self.segments.counters.packets.records == 0 && self.segments.flows.has_others()
    }

    /// How many frames could not be measured, and why, in a line for people; None if all could.
    pub fn unread(&self) -> Option<String> {
        unread::line(&self.frames.counters, &self.frames.unknown)
    }

    /// What most frames are, in a line for people, if hardly any is TCP.
    pub fn without_tcp(&self) -> Option<String> {
        self.frames.others.line(&self.counters())
    }

    /// What of the frames' times or lengths costs samples, a line each, for people.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let Segments { order, clock, flows, .. } = &self.segments;
        order.line().into_iter().chain(clock.lines()).chain(flows.warnings())
    }

    /// Whether the clock that stamped the frames was set back.
    pub fn clock_was_set_back(&self) -> bool {
        self.segments.clock.was_set_back()
    }

    /// That every connection was seen in one direction only, of which these are the engine's counters; None if one was
    /// seen in both.
    pub fn one_way(&self, sides: Sides, engine: &EngineCounters) -> Option<String> {
        unread::one_way(sides, engine, !self.segments.goes_on)
    }

    /// What a flow's `ifindex` stands for: the interface in a recording; else the tunnel that the flow is in, and the
    /// interface if it was captured at several places; else `0`.
    pub fn place(&self, ifindex: u32) -> &str {
        // Tunnels without a name have the bit above.
        if ifindex & !(RECORDED - 1) == RECORDED {
            return self.frames.interface(ifindex & (RECORDED - 1)).unwrap_or("other");
        }
        self.segments.flows.place(ifindex)
    }

    /// Which round trips were measured of the recordings that it holds.
    pub(crate) fn recorded_sides(&self) -> Sides {
        self.segments.sides
    }

    /// Whether nothing could be read of it, though something is there.
    pub fn is_unreadable(&self) -> bool {
        let counters = &self.frames.counters;
        let seen = counters.packets.seen;
        if seen == 0 { self.broken().is_some() } else { unread::total(counters) == seen }
    }

    /// The latest time in the file so far.
    pub fn last(&self) -> Nanos {
        self.segments.clock.last()
    }

    /// The tick of the clock that stamped the frames, as far as their times tell: the least step forward from one frame
    /// to the next. None where all have one time.
    pub fn tick(&self) -> Option<Duration> {
        self.segments.clock.tick()
    }
}

#[cfg(test)]
mod tests;
