//! The capture-file source: pcap and pcapng, perhaps compressed, read as a stream.
//!
//! [`input`] is the file's bytes, [`reader`] finds the frames in them, by [`pcap`] or [`pcapng`]. Memory does not depend on the file's size.
//! What is broken at the end of a file costs only the end: everything before it is used, and a warning says where it broke. Frames that
//! may carry TCP but cannot be measured are counted by their reason ([`unread`]). A flow is identified without the interface, whose frames may be
//! spread over several, but by the tunnel that it is in ([`places`]). Frames are put in the order of their times ([`order`]).

mod input;
mod order;
mod pcap;
mod pcapng;
mod places;
mod reader;
mod unread;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use go_metro_common::segment::{Bits, Sides, TcpFlags};
use ipnet::IpNet;

use super::copies::Copies;
use super::decode::{Decoded, LinkType, Origin, Packet, Tunnels, decode_counted};
use super::prefixes::Prefixes;
use super::{CaptureError, SourceCounters, Unread};
use crate::rtt::{Addr, Direction, FlowKey, Nanos, Segment};
use order::Order;
use places::Places;
use reader::{Frame, Reader};
use unread::LinkTypes;

/// Which flows are wanted of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileFilter {
    /// Hosts whose segments are timed; none means both ends of every connection.
    pub local: Vec<IpNet>,
    /// Remote hosts; none means all.
    pub targets: Vec<IpNet>,
    /// Which round trips to measure.
    pub sides: Sides,
    /// Whether to look for connections inside tunnels.
    pub tunnels: Tunnels,
}

/// A [`FileFilter`], made ready.
struct Wanted {
    local: Prefixes,
    targets: Prefixes,
    sides: Sides,
    tunnels: Tunnels,
}

impl Wanted {
    fn new(filter: &FileFilter) -> Self {
        let FileFilter { local, targets, sides, tunnels } = filter;
        Self { local: Prefixes::or_all(local), targets: Prefixes::or_all(targets), sides: *sides, tunnels: *tunnels }
    }

    #[inline]
    fn has(&self, flow: &FlowKey) -> bool {
        self.local.contain(flow.local.addr) && self.targets.contain(flow.remote.addr)
    }
}

/// An open capture file.
pub struct FileSource {
    reader: Reader,
    counters: SourceCounters,
    copies: Copies,
    places: Places,
    unknown: LinkTypes,
    clock: Clock,
    others: Others,
    order: Order<(Decoded, u32)>,
    /// Segments whose TCP options are cut off.
    cut_options: u64,
}

/// Whose segments were there and not wanted, with how many packets each: what is listed to who named a host that is not there.
#[derive(Default)]
struct Others(HashMap<Addr, u64>);

impl Others {
    /// Most hosts to remember.
    const MOST: usize = 4096;

    fn note(&mut self, decoded: &Decoded, time: Nanos) {
        for direction in [Direction::Egress, Direction::Ingress] {
            let Some(segment) = decoded.seen_from(direction, Sides::BOTH, time, 0) else { continue };
            let addr = segment.flow.local.addr;
            if self.0.len() < Self::MOST || self.0.contains_key(&addr) {
                *self.0.entry(addr).or_default() += 1;
            }
        }
    }
}

/// What the times of a capture say of its clock.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// None before the first frame.
    before: Option<Nanos>,
    /// The latest time.
    last: Nanos,
    /// The least step forward from one frame to the next: with enough frames a tick of the clock.
    tick_ns: Option<u64>,
}

impl Clock {
    #[inline]
    fn look(&mut self, time: Nanos) {
        let step = self.before.replace(time).and_then(|before| time.0.checked_sub(before.0)).filter(|step| *step > 0);
        if let Some(step) = step {
            self.tick_ns = Some(self.tick_ns.map_or(step, |tick| tick.min(step)));
        }
        self.last = self.last.max(time);
    }
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
        let no_capture = |reason| CaptureError::NoCapture { path: path.to_owned(), reason };
        Ok(Self {
            reader: Reader::new(input).map_err(no_capture)?,
            counters: SourceCounters::default(),
            copies: Copies::new(),
            places: Places::default(),
            unknown: LinkTypes::default(),
            others: Others::default(),
            clock: Clock { before: None, last: Nanos(0), tick_ns: None },
            order: Order::new(),
            cut_options: 0,
        })
    }

    /// Hands every wanted segment to `sink`, as each end that is wanted sees it.
    pub fn for_each(&mut self, filter: &FileFilter, sink: &mut impl FnMut(&Segment)) {
        let wanted = Wanted::new(filter);
        let Self { reader, counters, copies, places, unknown, clock, order, cut_options, others } = self;
        let mut measure = |time, (mut decoded, interface): (Decoded, u32), counters: &mut SourceCounters| {
            if decoded.cut_options {
                *cut_options += 1;
                hide_what_was_cut(&mut decoded);
            }
            let Some(place) = copies.place(&decoded, time, decoded.ifindex.unwrap_or(interface)) else {
                counters.copies += 1;
                return;
            };
            let before = counters.records;
            orient(&decoded, time, places.number(decoded.tunnel.as_ref(), place), counters, &wanted, sink);
            if before == counters.records && !filter.local.is_empty() {
                others.note(&decoded, time);
            }
        };
        while let Some(Frame { bytes, wire_len, time, interface, link_type }) = reader.next() {
            let (link_type, time) = match (link_type, time) {
                (Some(LinkType::Other(number)), _) => {
                    unknown.count(number);
                    counters.count_unread(Unread::LinkType);
                    continue;
                }
                (None, _) => {
                    counters.count_unread(Unread::Interface);
                    continue;
                }
                (_, None) => {
                    counters.count_unread(Unread::NoTime);
                    continue;
                }
                (Some(link_type), Some(time)) => (link_type, time),
            };
            clock.look(time);
            let packet = Packet { bytes, wire_len, link_type, origin: Origin::File(wanted.tunnels) };
            let Some(decoded) = decode_counted(packet, counters) else { continue };
            order.take(time, (decoded, interface), &mut |time, frame| measure(time, frame, counters));
        }
        order.finish(&mut |time, frame| measure(time, frame, counters));
    }

    /// What was counted.
    pub fn counters(&self) -> SourceCounters {
        self.counters
    }

    /// How the file is broken, if it is; all before that place was used.
    pub fn broken(&self) -> Option<&str> {
        self.reader.broken()
    }

    /// If none of these hosts is in the capture: those that are, most packets first.
    pub fn instead_of(&self, local: &[IpNet]) -> Vec<Addr> {
        let wanted = Prefixes::or_all(local);
        if self.counters.records > 0 || self.others.0.keys().any(|addr| wanted.contain(*addr)) {
            return Vec::new();
        }
        let mut all: Vec<(&Addr, &u64)> = self.others.0.iter().collect();
        all.sort_by_key(|(addr, packets)| (std::cmp::Reverse(**packets), addr.to_string()));
        all.into_iter().map(|(addr, _)| *addr).collect()
    }

    /// How many frames could not be measured, and why, in a line for people; None if all could.
    pub fn unread(&self) -> Option<String> {
        unread::line(&self.counters, &self.unknown)
    }

    /// What of the frames' times or lengths costs samples, a line each, for people.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let cut = (self.cut_options > 0).then(|| {
            format!(
                "the TCP options of {} segments are cut off by the capture's snapshot length: acknowledgements that may have carried SACK \
                 blocks are not used; capture 128 bytes or more of each packet",
                self.cut_options
            )
        });
        self.order.line().into_iter().chain(cut)
    }

    /// What a flow's `ifindex` stands for: the tunnel that the flow is in, and the interface if it was captured at several places; else `0`.
    pub fn place(&self, ifindex: u32) -> &str {
        self.places.name(ifindex)
    }

    /// Whether nothing could be read of it, though something is there.
    pub fn is_unreadable(&self) -> bool {
        let seen = self.counters.seen;
        if seen == 0 { self.broken().is_some() } else { unread::total(&self.counters) == seen }
    }

    /// The latest time in the file so far.
    pub fn last(&self) -> Nanos {
        self.clock.last
    }

    /// The tick of the clock that stamped the frames, as far as their times tell: the least step forward from one frame to the next. None
    /// where all have one time.
    pub fn tick(&self) -> Option<Duration> {
        self.clock.tick_ns.map(Duration::from_nanos)
    }
}

/// Takes an acknowledgement whose options are cut off for one that carried a SACK block above itself, as it may have: where there is a
/// hole, the number alone would be timed in full.
fn hide_what_was_cut(decoded: &mut Decoded) {
    if decoded.header.flags.any(TcpFlags::ACK) && !decoded.header.flags.any(TcpFlags::SYN) {
        decoded.header.bits.0 |= Bits::SACK_ABOVE;
    }
}

/// Hands a segment on as both its ends see it.
fn orient(
    decoded: &Decoded,
    time: Nanos,
    ifindex: u32,
    counters: &mut SourceCounters,
    wanted: &Wanted,
    sink: &mut impl FnMut(&Segment),
) {
    let before = counters.records;
    for direction in [Direction::Egress, Direction::Ingress] {
        let seen = decoded.seen_from(direction, wanted.sides, time, ifindex);
        if let Some(segment) = seen.filter(|segment| wanted.has(&segment.flow)) {
            segment.for_each_side(wanted.sides, &mut |segment| {
                counters.records += 1;
                sink(segment);
            });
        }
    }
    counters.count_packet(before);
}

#[cfg(test)]
mod tests;
