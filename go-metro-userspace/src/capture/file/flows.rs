//! From frames in the order of their times to the segments of wanted flows, as each end sees them.

use std::collections::HashMap;

use go_metro_common::segment::{Bits, SegmentHeader, Sides, TcpFlags};
use go_metro_rtt::{Addr, Direction, FlowKey, Nanos, Segment, Side};
use ipnet::IpNet;

use super::ids::Ids;
use super::places::Places;
use super::skew::Skew;
use super::vlans::Vlans;
use super::{FileFilter, RECORDED, Told};
use crate::capture::SourceCounters;
use crate::capture::copies::{Copies, Mixed, Observed, Verdict};
use crate::capture::decode::{Decoded, Tunnels};
use crate::capture::prefixes::Prefixes;
use crate::record::note::{View, Views};

/// A [`FileFilter`], made ready.
pub(super) struct Wanted {
    local: Prefixes,
    targets: Prefixes,
    sides: Sides,
    sides_as_recorded: bool,
    pub(super) tunnels: Tunnels,
    /// Whether hosts were named.
    names_hosts: bool,
}

impl Wanted {
    pub(super) fn new(filter: &FileFilter) -> Self {
        let FileFilter { local, targets, sides, sides_as_recorded, tunnels } = filter;
        Self {
            local: Prefixes::or_all(local),
            targets: Prefixes::or_all(targets),
            sides: *sides,
            sides_as_recorded: *sides_as_recorded,
            tunnels: *tunnels,
            names_hosts: !local.is_empty() || !targets.is_empty(),
        }
    }

    /// Whether round trips of this side are wanted of what is made of records.
    fn has_side(&self, side: Side) -> bool {
        let of = if side == Side::Local { Sides::LOCAL } else { Sides::REMOTE };
        self.sides_as_recorded || self.sides.contains(of)
    }

    #[inline]
    fn has(&self, flow: &FlowKey) -> bool {
        self.local.contain(flow.local.addr) && self.targets.contain(flow.remote.addr)
    }
}

/// What is known of the flows of a file.
pub(super) struct Flows {
    copies: Copies,
    skew: Skew,
    ids: Ids,
    vlans: Vlans,
    places: Places,
    others: Others,
    /// Segments whose TCP options are cut off.
    cut_options: u64,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self {
            copies: Copies::new(),
            skew: Skew::default(),
            ids: Ids::new(),
            vlans: Vlans::default(),
            places: Places::default(),
            others: Others::default(),
            cut_options: 0,
        }
    }

    /// Observes a segment, which was captured at this interface, in the order of the file.
    #[inline]
    pub(super) fn observe(&mut self, decoded: &Decoded, time: Nanos, interface: u32) -> Observed {
        let observed = self.copies.observe(decoded, time, decoded.ifindex.unwrap_or(interface));
        let of = observed.of();
        if !self.copies.is_at_several(of.0) {
            self.skew.observe(decoded, time, of);
        }
        observed
    }

    /// Hands a segment to `sink` as its ends see it, if it is wanted and no copy.
    #[inline]
    pub(super) fn measure(
        &mut self,
        decoded: &mut Decoded,
        (time, observed): (Nanos, &Observed),
        wanted: &Wanted,
        counters: &mut SourceCounters,
        sink: &mut impl FnMut(&Segment),
    ) {
        if decoded.cut_options {
            self.cut_options += 1;
            hide_what_was_cut(decoded);
        }
        let Verdict::At(place, mut mixed) = self.copies.verdict(observed) else {
            counters.copies += 1;
            return;
        };
        if self.skew.spoils(observed.of().0) {
            mixed = [true; 2];
        }
        let ifindex = self.places.of(decoded, place);
        let (flow, way, _) = observed.of();
        let direction = flow.rotate_left(way as u32) ^ u64::from(place);
        let missed = self.ids.miss_before(decoded, direction);
        self.vlans.note(direction, decoded.vlans);
        let before = counters.packets.records;
        if orient(decoded, (time, ifindex), (mixed, missed), wanted, counters, sink)
            && counters.packets.records == before
        {
            counters.mixed += 1;
            return;
        }
        // Nobody asks whose they were once a segment was wanted.
        if counters.packets.records == 0 && wanted.names_hosts {
            self.others.note(decoded, time);
        }
        counters.count_packet(before);
    }

    /// Hands a record to `sink` as the meter received it, after the gaps and interruptions that the meter received
    /// before it, if the record is wanted.
    pub(super) fn measure_recorded(
        &mut self,
        decoded: &Decoded,
        (time, interface): (Nanos, u32),
        views: Views,
        wanted: &Wanted,
        counters: &mut SourceCounters,
        sink: &mut impl FnMut(Told<&Segment>),
    ) {
        let before = counters.packets.records;
        let ifindex = RECORDED | interface & (RECORDED - 1);
        for view in views.each() {
            let ends = [decoded.source, decoded.destination];
            let [local, remote] = if view.is_sent() { ends } else { [ends[1], ends[0]] };
            let flow = FlowKey { local, remote, ifindex, side: view.side() };
            if !wanted.has_side(flow.side) || !wanted.has(&flow) {
                continue;
            }
            counters.packets.records += 1;
            let header = SegmentHeader {
                time_ns: time.0,
                ifindex,
                local_port: local.port,
                remote_port: remote.port,
                payload: view.payload(decoded.header.payload.len()),
                bits: view.bits(decoded.header.bits),
                ..decoded.header
            };
            if view.has(View::INTERRUPTED) {
                sink(Told::Interrupted(flow));
            }
            if view.has(View::GAP) {
                sink(Told::Gap(flow));
            }
            let segment = Segment { flow, header };
            if view.has(View::UNTOLD) {
                sink(Told::Untold(&segment));
            } else if view.has(View::FLIPPED) {
                sink(Told::Flipped(&segment));
            } else {
                sink(Told::Segment(&segment));
            }
        }
        if counters.packets.records == 0 && wanted.names_hosts {
            self.others.note(decoded, time);
        }
        counters.count_packet(before);
    }

    /// If none of these hosts is in the capture: those that are, most packets first.
    pub(super) fn instead_of(&self, local: &[IpNet]) -> Vec<Addr> {
        let wanted = Prefixes::or_all(local);
        if self.others.0.keys().any(|addr| wanted.contain(*addr)) {
            return Vec::new();
        }
        let mut all: Vec<(&Addr, &u64)> = self.others.0.iter().collect();
        all.sort_by_key(|(addr, packets)| (std::cmp::Reverse(**packets), addr.to_string()));
        all.into_iter().map(|(addr, _)| *addr).collect()
    }

    /// Whether there were segments of other hosts than those that were named, before any that was wanted.
    pub(super) fn has_others(&self) -> bool {
        !self.others.0.is_empty()
    }

    /// What a flow's `ifindex` stands for.
    pub(super) fn place(&self, ifindex: u32) -> &str {
        self.places.name(ifindex)
    }

    /// What of the flows costs samples, a line each, for people.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let cut = (self.cut_options > 0).then(|| {
            format!(
                "the TCP options of {} segments are cut off by the capture's snapshot length; acknowledgements that \
                 may have carried SACK blocks are not used. Capture 128 bytes or more of each packet",
                self.cut_options
            )
        });
        let mixed = self.copies.mixed_flows();
        let mixed = (mixed > 0).then(|| {
            format!(
                "{mixed} flows contain frames from two places that cannot be told apart; round trips that this would \
                 falsify are not measured. Read each capture separately, or merge them with `mergecap -I none`"
            )
        });
        cut.into_iter().chain(mixed).chain(self.skew.lines()).chain(self.vlans.warning()).chain(self.places.warning())
    }
}

/// Whose segments were there and not wanted, with how many packets each: what is listed if a host was named that is not
/// there.
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

/// Takes an acknowledgement whose options are cut off for one that carried a SACK block above itself, as it may have:
/// where there is a hole, the number alone would be timed in full.
fn hide_what_was_cut(decoded: &mut Decoded) {
    if decoded.header.flags.any(TcpFlags::ACK) && !decoded.header.flags.any(TcpFlags::SYN) {
        decoded.header.bits.0 |= Bits::SACK_ABOVE;
    }
}

/// Hands a segment on as both its ends see it, but for the round trips that are mixed; whether there were such. Where
/// something was `missed` right before it, the segment that the other end receives says so.
#[inline]
fn orient(
    decoded: &Decoded,
    (time, ifindex): (Nanos, u32),
    (mixed, missed): (Mixed, bool),
    wanted: &Wanted,
    counters: &mut SourceCounters,
    sink: &mut impl FnMut(&Segment),
) -> bool {
    let mut any_mixed = false;
    for direction in [Direction::Egress, Direction::Ingress] {
        let seen = decoded.seen_from(direction, wanted.sides, time, ifindex);
        if let Some(segment) = seen.filter(|segment| wanted.has(&segment.flow)) {
            segment.for_each_side(wanted.sides, &mut |segment| {
                let timed_to_sender = (direction == Direction::Ingress) != (segment.flow.side == Side::Local);
                if mixed[usize::from(timed_to_sender)] {
                    any_mixed = true;
                    return;
                }
                counters.packets.records += 1;
                if missed && segment.direction() == Direction::Ingress {
                    let bits = Bits(segment.header.bits.0 | Segment::MISSED_BEFORE);
                    return sink(&Segment { header: SegmentHeader { bits, ..segment.header }, ..*segment });
                }
                sink(segment);
            });
        }
    }
    any_mixed
}
