//! Frames that a capture file holds twice: a mirror port of both directions, a capture on several devices of one path,
//! merged captures.
//!
//! A copy is no retransmission, and would make every segment look retransmitted. But a retransmission or a duplicate
//! that the network made may equal the first transmission in all that it carries, and follow within microseconds. One
//! frame therefore proves nothing. What does is that nearly every frame of a flow is there twice, acknowledgements and
//! the other direction too: no loss does that. The frames are observed when they are read, and judged when those that
//! follow have been read too ([`super::file`] holds some thousands back). A flow of few frames is judged by the capture
//! as a whole. Where the IPv4 identifications of a sender change from packet to packet, an equal frame with an equal
//! one is the same packet, however few are there twice: what is sent again has another. An equal frame that is not
//! proved to be a copy is a transmission, so that its segment is not timed (Karn's algorithm, RFC 6298): that costs a
//! sample, the other mistake would make a wrong one.
//!
//! Departure and acknowledgement are timed at one place. Flows whose frames repeat at another interface were captured
//! at two places and are measured at each. Where the two went through one interface of the file, nothing tells which
//! frame is from where: round trips of which the time between two copies is a good part are not measured, nor are flows
//! whose frames repeat later than [`WITHIN`].

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::time::Duration;

use go_metro_common::segment::TcpFlags;
use go_metro_rtt::Nanos;

use super::decode::{Decoded, FlowName};

/// A copy follows within this time: a switch or a kernel takes microseconds.
const WITHIN: Duration = Duration::from_millis(1);
/// The same frame at another place of the path follows within this time, if both went through one interface of the
/// file: less than what lies between two keep-alive probes.
const LATE_WITHIN: Duration = Duration::from_millis(900);
/// The same frame at another interface follows within this time, also by another clock.
const ELSEWHERE_WITHIN: Duration = Duration::from_secs(3);
/// Frames that are remembered, by digest. More within [`WITHIN`] would be more than 16 million a second.
const REMEMBERED: usize = 1 << 14;
/// Flows of which it is remembered whether their frames are doubled.
const FLOWS: usize = 1 << 14;
/// Places of flows other than the first that are remembered.
const PLACES_MAX: usize = 1 << 16;
/// Frames each way that must be there twice before a flow is taken for doubled: a network that duplicates half of all
/// packets does that once in 4,096 flows.
const LEAST_EACH_WAY: u32 = 6;
/// Of a capture.
const LEAST_OF_CAPTURE: u32 = 12;
/// Of so many frames that are there twice one may be missing.
const ONE_MISSING_IN: u32 = 8;
/// Counts of a flow are halved from here on, so that they tell of lately.
const FLOW_MEMORY: u32 = 64;
/// Those of the capture.
const CAPTURE_MEMORY: u32 = 4096;
/// A copy that follows within this time was captured at the same place: what a switch takes.
const AT_ONCE_NS: u64 = 10_000;
/// So was, or near enough, one that follows within this part of the round trip.
const PART_OF_ROUND_TRIP: u64 = 10;
/// So many identifications in a row that are not that of the packet before tell that they count.
const COUNTS: u8 = 2;

/// Sixteen bytes, so that all that is remembered stays in the processor's second cache.
#[derive(Clone, Copy, Default)]
struct Seen {
    first_at: Nanos,
    /// Half of the digest; most of the other half is the place.
    digest: u32,
    interface: u16,
    times: u16,
}

/// Frames that are there once, twice within [`WITHIN`], and again later.
#[derive(Clone, Copy, Default)]
struct Share {
    once: u32,
    twice: u32,
    /// Of those that are there once: repetitions of an earlier one.
    late: u32,
}

impl Share {
    fn learn(&mut self, times: u16, late: bool, memory: u32) {
        match times {
            1 => self.once += 1,
            2 => (self.once, self.twice) = (self.once.saturating_sub(1), self.twice + 1),
            _ => return,
        }
        self.late += u32::from(late);
        if self.once + self.twice >= memory {
            *self = Self { once: self.once / 2, twice: self.twice / 2, late: self.late / 2 };
        }
    }

    fn is_doubled(self, least: u32) -> bool {
        self.twice >= least && self.once * ONE_MISSING_IN <= self.twice
    }

    /// Whether nearly every frame came again, later than a copy does.
    fn is_repeated_late(self, least: u32) -> bool {
        self.late >= least && self.late * 8 >= self.once * 3
    }
}

/// How long the round trips of what one end sends are, next to the time between two copies.
#[derive(Clone, Copy, Default)]
struct Apart {
    round_trips: u32,
    /// Of the round trips, those of which the lag is no small part.
    short: u32,
    /// And those that were over before the copy came, so that it is from no place further along the path.
    over: u32,
}

impl Apart {
    fn note_round_trip(&mut self, took: Duration, lag_ns: u64) {
        let took_ns = took.as_nanos() as u64;
        self.round_trips += 1;
        self.over += u32::from(took_ns < lag_ns);
        let is_short = lag_ns >= AT_ONCE_NS && (lag_ns..lag_ns * PART_OF_ROUND_TRIP).contains(&took_ns);
        self.short += u32::from(is_short);
        if self.round_trips >= FLOW_MEMORY {
            (self.round_trips, self.short, self.over) = (self.round_trips / 2, self.short / 2, self.over / 2);
        }
    }

    /// Whether the copies come from another place of the path: a quarter, since many round trips wait for a delayed
    /// acknowledgement.
    fn is_far(self) -> bool {
        self.short >= 2 && self.short * 4 >= self.round_trips && self.over * 4 <= self.short
    }
}

/// What is known of a flow at an interface.
#[derive(Clone, Copy, Default)]
struct Flow {
    /// Part of the digest.
    print: u32,
    /// Identifications in a row each way that were not that of the packet before, up to [`COUNTS`].
    counting: [u8; 2],
    /// The last identification each way.
    last_id: [u16; 2],
    ways: [Share; 2],
    /// From a frame to its copy.
    lag_ns: u64,
    apart: [Apart; 2],
    /// The acknowledgement that the last frame each way waits for, and since when.
    awaited: [Option<(u32, Nanos)>; 2],
    /// Frames at this interface, and those of them that were at another too.
    frames: u32,
    elsewhere: u32,
}

impl Flow {
    /// Whether it has shown that all of it is there twice; None if that is too little to say.
    fn is_doubled(&self) -> Option<bool> {
        if self.ways.iter().all(|way| way.once + way.twice >= LEAST_EACH_WAY) {
            return Some(self.ways.iter().all(|way| way.is_doubled(LEAST_EACH_WAY)));
        }
        let [once, twice] = self.ways.iter().fold([0, 0], |sum, way| [sum[0] + way.once, sum[1] + way.twice]);
        (once > twice).then_some(false)
    }

    /// Whether equal frames this way are one packet, by their identification, which each transmission of a host that
    /// counts them has new (RFC 791 section 2.3; RFC 6864 section 4).
    fn tells_packets_apart(&self, way: usize) -> bool {
        self.counting[way] >= COUNTS
    }

    /// Whether a part of the frames is there twice that cannot be transmissions: more than a network doubles.
    fn has_copies(&self) -> bool {
        let is_part = |way: Share| way.twice >= LEAST_EACH_WAY && way.twice * 8 >= way.once;
        [0, 1].into_iter().any(|way| self.tells_packets_apart(way) && is_part(self.ways[way]))
    }
}

/// Where a frame was captured that is no copy: 0 but where its flow was captured at several places.
pub(super) type Place = u32;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Captured here.
    At(Place, Mixed),
    /// A copy of one that was captured before.
    Copy,
}

/// Whether departure and acknowledgement may be from two places that cannot be told apart: of what the frame's sender
/// sends, and of what its receiver sends.
pub(super) type Mixed = [bool; 2];

/// What was observed of a frame when it was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observed {
    flow: u64,
    interface: u32,
    /// How many equal frames there were within [`WITHIN`], this one included.
    times: u16,
    way: u8,
    /// Whether it has an identification.
    counted: bool,
}

impl Observed {
    /// The flow, which of its two ways the frame went, and the interface.
    pub(super) fn of(&self) -> (u64, usize, u32) {
        (self.flow, usize::from(self.way), self.interface)
    }
}

/// What was seen lately.
pub(super) struct Copies {
    seen: Box<[Seen]>,
    /// The same for frames of any interface; empty while there is one.
    anywhere: Box<[Seen]>,
    first_interface: Option<u32>,
    flows: Box<[Flow]>,
    /// The first interface, by number, of flows that were captured at several.
    homes: HashMap<u64, u32>,
    /// Digests of flow and interface.
    places: HashSet<u64>,
    hasher: foldhash::fast::FixedState,
    /// Whether any frame was ever equal to another: before that nothing is known of flows.
    any: bool,
    share: Share,
    apart: Apart,
    /// Flows of which the round trips of what is sent each way are not measured.
    mixed: HashMap<u64, [bool; 2]>,
}

impl Copies {
    /// Nothing seen.
    pub(super) fn new() -> Self {
        Self {
            seen: vec![Seen::default(); REMEMBERED].into_boxed_slice(),
            anywhere: Box::default(),
            first_interface: None,
            flows: vec![Flow::default(); FLOWS].into_boxed_slice(),
            homes: HashMap::new(),
            places: HashSet::new(),
            hasher: foldhash::fast::FixedState::default(),
            any: false,
            share: Share::default(),
            apart: Apart::default(),
            mixed: HashMap::new(),
        }
    }

    /// Observes a frame, in the order of the file.
    #[inline]
    pub(super) fn observe(&mut self, decoded: &Decoded, time: Nanos, interface: u32) -> Observed {
        let FlowName { ends, flow, way } = decoded.flow_name();
        let same_ends = ends[0] ^ ends[1].rotate_left(32) ^ flow;
        let digest = self.digest(decoded, same_ends, interface + 1);
        let slot = &mut self.seen[digest as usize % REMEMBERED];
        let is_equal = slot.times > 0 && slot.digest == (digest >> 32) as u32;
        let age = age(slot.first_at, time);
        let late = is_equal && age >= WITHIN && age < LATE_WITHIN;
        if is_equal && age < WITHIN {
            slot.times = slot.times.saturating_add(1);
            if slot.times % 2 == 1 {
                // A transmission, or a duplicate, that has a copy of its own.
                slot.first_at = time;
            }
        } else {
            let interface = interface as u16;
            *slot = Seen { first_at: time, digest: (digest >> 32) as u32, interface, times: 1 };
        }
        let counted = decoded.ip_id != 0;
        let observed = Observed { flow, interface, times: slot.times, way: way as u8, counted };
        self.any |= is_equal && age < LATE_WITHIN;
        if *self.first_interface.get_or_insert(interface) != interface || !self.anywhere.is_empty() {
            self.observe_elsewhere(decoded, same_ends, time, &observed);
        }
        if self.any {
            self.learn(decoded, time, &observed, age, late);
        }
        observed
    }

    /// Learns of a frame's flow.
    fn learn(&mut self, decoded: &Decoded, time: Nanos, observed: &Observed, age: Duration, late: bool) {
        let Observed { flow, interface, times, way, .. } = *observed;
        let way = usize::from(way);
        self.share.learn(times, late, CAPTURE_MEMORY);
        let known = flow_at(&mut self.flows, flow, interface);
        known.ways[way].learn(times, late, FLOW_MEMORY);
        if times > 1 {
            if times == 2 {
                let age_ns = age.as_nanos() as u64;
                known.lag_ns = if known.lag_ns == 0 { age_ns } else { (known.lag_ns * 3 + age_ns) / 4 };
            }
            return;
        }
        let changed = known.last_id[way] != decoded.ip_id;
        let counting = &mut known.counting[way];
        *counting = if changed && decoded.ip_id != 0 { (*counting + 1).min(COUNTS) } else { 0 };
        known.last_id[way] = decoded.ip_id;
        let header = &decoded.header;
        if let Some((_, since)) = known.awaited[1 - way].take_if(|(end, _)| *end == header.ack) {
            let took = self::age(since, time);
            known.apart[1 - way].note_round_trip(took, known.lag_ns);
            self.apart.note_round_trip(took, known.lag_ns);
        }
        let flags = u32::from(header.flags.any(TcpFlags::SYN)) + u32::from(header.flags.any(TcpFlags::FIN));
        let len = header.payload.len() + flags;
        if len > 0 {
            known.awaited[way] = Some((header.seq.wrapping_add(len), time));
        }
    }

    /// Whether the frame was captured at another interface, too.
    #[cold]
    fn observe_elsewhere(&mut self, decoded: &Decoded, same_ends: u64, time: Nanos, observed: &Observed) {
        if self.anywhere.is_empty() {
            self.anywhere = vec![Seen::default(); REMEMBERED].into_boxed_slice();
        }
        let Observed { flow, interface, .. } = *observed;
        let digest = self.digest(decoded, same_ends, 0);
        let slot = &mut self.anywhere[digest as usize % REMEMBERED];
        let is_equal = slot.times > 0 && slot.digest == (digest >> 32) as u32;
        let first = u32::from(slot.interface);
        let is_elsewhere = is_equal && first != interface && age(slot.first_at, time) < ELSEWHERE_WITHIN;
        if !is_elsewhere {
            *slot = Seen { first_at: time, digest: (digest >> 32) as u32, interface: interface as u16, times: 1 };
        }
        let known = flow_at(&mut self.flows, flow, interface);
        known.frames = known.frames.saturating_add(1);
        if is_elsewhere {
            known.elsewhere += 1;
            flow_at(&mut self.flows, flow, first).elsewhere += 1;
            if self.homes.len() < PLACES_MAX {
                let lower = first.min(interface);
                let home = self.homes.entry(flow).or_insert(lower);
                *home = lower.min(*home);
            }
        }
    }

    /// What a frame is that was observed, in the order of time.
    #[inline]
    pub(super) fn verdict(&mut self, observed: &Observed) -> Verdict {
        let place = if self.homes.is_empty() { 0 } else { self.place(observed) };
        if self.any { self.verdict_at(place, observed) } else { Verdict::At(place, [false; 2]) }
    }

    fn verdict_at(&mut self, place: Place, observed: &Observed) -> Verdict {
        let Observed { flow, interface, times, way, counted } = *observed;
        let known = *flow_at(&mut self.flows, flow, interface);
        let own = known.is_doubled();
        let is_doubled = own.unwrap_or_else(|| self.share.is_doubled(LEAST_OF_CAPTURE));
        let is_repeated = known.ways.iter().all(|way| way.is_repeated_late(LEAST_EACH_WAY));
        let is_far = |way: usize| if own.is_some() { known.apart[way].is_far() } else { self.apart.is_far() };
        let has_copies = is_doubled || known.has_copies();
        let now = [0, 1].map(|way| is_repeated || has_copies && is_far(way));
        let mut mixed = [false; 2];
        if now != mixed || !self.mixed.is_empty() {
            mixed = self.mixed(flow ^ u64::from(place), now);
        }
        let way = usize::from(way);
        let is_one_packet = times > 1 && counted && known.tells_packets_apart(way);
        if is_one_packet || is_doubled && times.is_multiple_of(2) {
            return Verdict::Copy;
        }
        Verdict::At(place, [mixed[way], mixed[1 - way]])
    }

    /// What is mixed of this flow, now or before.
    #[cold]
    fn mixed(&mut self, flow: u64, now: [bool; 2]) -> [bool; 2] {
        if now == [false; 2] || self.mixed.len() >= PLACES_MAX {
            return self.mixed.get(&flow).copied().unwrap_or(now);
        }
        let mixed = self.mixed.entry(flow).or_default();
        *mixed = [mixed[0] || now[0], mixed[1] || now[1]];
        *mixed
    }

    /// Where the frame was captured: at a place of its own if half of what its flow has at this interface was seen at
    /// another too.
    #[cold]
    fn place(&mut self, observed: &Observed) -> Place {
        let Observed { flow, interface, .. } = *observed;
        if self.homes.get(&flow).is_none_or(|home| *home == interface) {
            return 0;
        }
        let at = self.hasher.hash_one((flow, interface));
        if !self.places.contains(&at) {
            let known = flow_at(&mut self.flows, flow, interface);
            if known.elsewhere == 0 || known.elsewhere * 2 < known.frames || self.places.len() >= PLACES_MAX {
                return 0;
            }
            self.places.insert(at);
        }
        interface + 1
    }

    /// Whether this flow was captured at several interfaces.
    pub(super) fn is_at_several(&self, flow: u64) -> bool {
        self.homes.contains_key(&flow)
    }

    /// Flows that were captured at two places that cannot be told apart.
    pub(super) fn mixed_flows(&self) -> usize {
        self.mixed.len()
    }

    /// Of all that copies have in common. Two checksums of one packet differ where a device fills one in: where there
    /// is an identification, that counts alone.
    #[inline]
    fn digest(&self, decoded: &Decoded, ends: u64, place: u32) -> u64 {
        let Decoded { header, ip_id, checksum, .. } = decoded;
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let name = if *ip_id == 0 { u32::from(*checksum) << 16 } else { u32::from(*ip_id) };
        let bits = u32::from(header.window) << 16 | u32::from(header.flags.0) << 8 | u32::from(header.bits.0);
        self.hasher.hash_one((
            (ends, pair(name, bits), pair(header.payload.len(), place)),
            (pair(header.seq, header.ack), pair(header.tsval, header.tsecr)),
        ))
    }
}

/// What is known of the flow with this digest at this interface.
fn flow_at(flows: &mut [Flow], flow: u64, interface: u32) -> &mut Flow {
    let digest = flow ^ u64::from(interface).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let print = (digest >> 32) as u32;
    let known = &mut flows[digest as usize % FLOWS];
    if known.print != print {
        *known = Flow { print, ..Flow::default() };
    }
    known
}

/// From one time to the other, whichever is first.
fn age(a: Nanos, b: Nanos) -> Duration {
    Duration::from_nanos(a.0.abs_diff(b.0))
}

#[cfg(test)]
mod tests {
    use go_metro_common::segment::{Payload, SegmentHeader};
    use go_metro_rtt::{Addr, Endpoint};

    use super::*;

    /// Times in microseconds.
    type Frames = Vec<(u64, Decoded)>;

    fn data(seq: u32, ip_id: u16) -> Decoded {
        let end = |last| Endpoint { addr: Addr::v4([10, 0, 0, last]), port: 80 };
        let header =
            SegmentHeader { seq, payload: Payload::new(100), flags: TcpFlags(TcpFlags::ACK), ..Default::default() };
        Decoded { ip_id, checksum: 7, ..Decoded::between([end(1), end(2)], header) }
    }

    /// The acknowledgement of these data.
    fn answer(data: &Decoded) -> Decoded {
        let (source, destination) = (data.destination, data.source);
        let header = SegmentHeader { seq: 1, ack: data.header.seq + 100, payload: Payload::new(0), ..data.header };
        Decoded { source, destination, header, ..*data }
    }

    fn syn(seq: u32) -> Decoded {
        let mut syn = data(seq, 0);
        (syn.header.flags.0, syn.header.payload) = (TcpFlags::SYN, Payload::new(0));
        syn
    }

    /// What the frames are, which were captured at one interface.
    fn verdicts(frames: &[(u64, Decoded)]) -> Vec<Verdict> {
        let mut copies = Copies::new();
        let observed: Vec<Observed> =
            frames.iter().map(|(us, frame)| copies.observe(frame, Nanos(us * 1000), 0)).collect();
        observed.iter().map(|observed| copies.verdict(observed)).collect()
    }

    /// Which of the frames are copies.
    fn copies(frames: &[(u64, Decoded)]) -> Vec<bool> {
        verdicts(frames).iter().map(|verdict| *verdict == Verdict::Copy).collect()
    }

    fn count(copies: &[bool]) -> usize {
        copies.iter().filter(|copy| **copy).count()
    }

    /// A segment each 10 ms and its acknowledgement after `round_trip` microseconds, with identifications that count or
    /// without.
    fn exchange(segments: std::ops::Range<u32>, counts: bool, round_trip: u64) -> Frames {
        segments
            .flat_map(|k| {
                let (at, data) = (u64::from(k) * 10_000, data(k * 100, if counts { k as u16 + 1 } else { 0 }));
                [(at, data), (at + round_trip, answer(&data))]
            })
            .collect()
    }

    /// Each frame again, so many microseconds later.
    fn doubled(frames: &Frames, lag: u64) -> Frames {
        let mut all: Frames = frames.iter().flat_map(|(at, frame)| [(*at, *frame), (at + lag, *frame)]).collect();
        all.sort_by_key(|(at, _)| *at);
        all
    }

    #[test]
    fn in_a_doubled_flow_every_second_frame_is_a_copy_from_the_first_on() {
        for counts in [false, true] {
            let found = copies(&doubled(&exchange(0..20, counts, 4000), 5));
            assert_eq!(found, [false, true].repeat(40));
        }
    }

    #[test]
    fn in_a_doubled_flow_what_was_sent_again_or_duplicated_on_the_path_is_a_transmission() {
        for (counts, after) in [(false, 200), (true, 200), (true, 2), (true, 999)] {
            let mut frames = exchange(0..20, counts, 4000);
            let again = (frames[20].0 + after, frames[20].1);
            frames.insert(21, again);
            let frames = doubled(&frames, 5);
            let found = copies(&frames);
            let same: Vec<bool> =
                frames.iter().zip(&found).filter(|((_, frame), _)| *frame == again.1).map(|(_, copy)| *copy).collect();
            // With an identification it is the same packet.
            let expected =
                if counts { (42, vec![false, true, true, true]) } else { (41, vec![false, true, false, true]) };
            assert_eq!((count(&found), same), expected, "{counts}, {after} µs");
        }
    }

    #[test]
    fn a_doubled_flow_is_recognised_among_others() {
        let of = |port: u16| {
            let mut frames = exchange(0..100, true, 4000);
            for (_, frame) in &mut frames {
                let end = if !frame.header.payload.is_empty() { &mut frame.source } else { &mut frame.destination };
                end.port = port;
            }
            frames
        };
        let mut frames: Frames = (0..50).flat_map(of).collect();
        frames.extend(of(3).into_iter().map(|(at, frame)| (at + 60, frame)));
        frames.sort_by_key(|frame| frame.0);
        let found = copies(&frames);
        assert!(count(&found) >= 198, "{} of 200: others may be where one is remembered", count(&found));
        assert!(
            frames
                .iter()
                .zip(&found)
                .all(|((_, frame), copy)| { !copy || frame.source.port == 3 || frame.destination.port == 3 })
        );
    }

    #[test]
    fn segments_that_are_lost_and_sent_again_within_a_millisecond_are_no_copies() {
        for ip_id in [0, 54_321] {
            for burst in 1..40 {
                let mut frames: Frames = vec![(0, syn(0)), (100, answer(&syn(0)))];
                frames.extend((0..burst).map(|k| (1000 + u64::from(k), data(100 * k, ip_id))));
                frames.extend((0..burst).map(|k| (1800 + u64::from(k), data(100 * k, ip_id))));
                frames.extend((0..burst).map(|k| (1900 + u64::from(k), answer(&data(100 * k, ip_id)))));
                frames.extend([
                    (5000, data(9000, ip_id)),
                    (5800, data(9000, ip_id)),
                    (5900, answer(&data(9000, ip_id))),
                ]);
                assert_eq!(count(&copies(&frames)), 0, "{burst} segments");
            }
        }
    }

    #[test]
    fn some_frames_that_are_there_twice_are_copies_where_identifications_tell_and_may_be_duplicates_elsewhere() {
        let mut random = 1_u64;
        for (counts, share) in [(false, 0.05), (true, 0.002), (true, 0.05), (false, 0.6), (true, 0.6)] {
            let mut frames: Frames = Vec::new();
            let mut twice = 0;
            for frame in exchange(0..5000, counts, 4000) {
                frames.push(frame);
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if ((random >> 40) as f64) < share * f64::from(1 << 24) {
                    frames.push((frame.0 + 30, frame.1));
                    twice += 1;
                }
            }
            assert!(twice > 0);
            assert_eq!(count(&copies(&frames)), if counts { twice } else { 0 }, "{share} of all");
        }
    }

    #[test]
    fn a_repeated_syn_is_a_copy_only_in_a_doubled_capture() {
        let handshake: Frames = vec![(0, syn(7)), (60, answer(&syn(7)))];
        assert_eq!(count(&copies(&doubled(&handshake, 3))), 0);
        let mut frames = exchange(1..20, false, 4000);
        for (_, frame) in &mut frames {
            frame.tunnel = None;
            (frame.source.addr, frame.destination.addr) = (frame.destination.addr, frame.source.addr);
            (frame.source.port, frame.destination.port) = (7, 7);
        }
        frames.splice(0..0, handshake);
        assert_eq!(count(&copies(&doubled(&frames, 3))), frames.len());
    }

    #[test]
    fn of_two_places_of_which_one_has_some_of_the_frames_no_round_trip_is_measured() {
        let mut frames: Frames = exchange(0..40, true, 1000)
            .into_iter()
            .enumerate()
            .flat_map(|(k, (at, frame))| {
                let far = if !frame.header.payload.is_empty() { at + 300 } else { at - 300 };
                if k / 2 % 3 == 0 { vec![(at, frame), (far, frame)] } else { vec![(at, frame)] }
            })
            .collect();
        frames.sort_by_key(|frame| frame.0);
        for (verdict, (_, frame)) in verdicts(&frames).iter().zip(&frames) {
            let mixed = match verdict {
                Verdict::Copy => true,
                Verdict::At(_, [sent, received]) => *if !frame.header.payload.is_empty() { sent } else { received },
            };
            assert!(mixed, "{verdict:?}");
        }
    }

    /// Frames with the numbers of their interfaces.
    fn places(frames: &[(u64, u32, Decoded)]) -> Vec<Verdict> {
        let mut copies = Copies::new();
        let observed: Vec<Observed> =
            frames.iter().map(|(us, interface, frame)| copies.observe(frame, Nanos(us * 1000), *interface)).collect();
        observed.iter().map(|observed| copies.verdict(observed)).collect()
    }

    #[test]
    fn a_flow_that_repeats_at_another_interface_has_a_place_at_each_however_near() {
        for distance in [5, 200, 20_000] {
            let frames: Vec<(u64, u32, Decoded)> = exchange(0..20, false, 2 * distance + 10)
                .into_iter()
                .flat_map(|(at, frame)| {
                    let far = if !frame.header.payload.is_empty() { at + distance } else { at - distance };
                    [(at, 0, frame), (far, 7, frame)]
                })
                .collect();
            for ((_, interface, _), verdict) in frames.iter().zip(places(&frames)) {
                let place = if *interface == 7 { 8 } else { 0 };
                assert_eq!(verdict, Verdict::At(place, [false; 2]), "{distance} µs");
            }
        }
    }

    #[test]
    fn a_flow_that_is_spread_over_interfaces_has_one_place_though_some_was_sent_again() {
        let mut frames: Vec<(u64, u32, Decoded)> =
            (0..).zip(exchange(0..50, false, 4000)).map(|(k, (at, frame))| (at, k / 2 % 2, frame)).collect();
        let (at, interface, frame) = frames[20];
        frames.insert(21, (at + 300, 1 - interface, frame));
        assert!(places(&frames).iter().all(|verdict| *verdict == Verdict::At(0, [false; 2])));
    }

    #[test]
    fn of_two_places_at_one_interface_no_round_trip_is_measured() {
        for distance in [20, 200, 450, 5000, 300_000] {
            let mut frames: Frames = exchange(0..20, true, 2 * distance + 10)
                .into_iter()
                .flat_map(|(at, frame)| {
                    let at = at + 1_000_000 * u64::from(frame.ip_id);
                    let far = if !frame.header.payload.is_empty() { at + distance } else { at - distance };
                    [(at, frame), (far, frame)]
                })
                .collect();
            frames.sort_by_key(|frame| frame.0);
            let mixed = |verdict: &Verdict, frame: &Decoded| match verdict {
                Verdict::Copy => true,
                Verdict::At(_, [sent, received]) => {
                    if !frame.header.payload.is_empty() {
                        *sent
                    } else {
                        *received
                    }
                }
            };
            let verdicts = verdicts(&frames);
            assert!(verdicts.iter().zip(&frames).all(|(verdict, (_, frame))| mixed(verdict, frame)), "{distance} µs");
        }
    }

    #[test]
    fn a_copy_that_comes_late_but_soon_for_the_round_trip_is_of_the_same_place() {
        let verdicts = verdicts(&doubled(&exchange(0..20, true, 9500), 900));
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Copy | Verdict::At(0, [false, false]))));
    }
}
