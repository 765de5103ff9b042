//! Frames that a capture file holds twice: a mirror port of both directions, or a capture on several devices of one path.
//!
//! A copy is no retransmission, and would make every segment look retransmitted. But a retransmission on a path of some microseconds may
//! be equal to the first transmission in all that TCP says. What proves a copy, wherever between the two others lie, if it follows at once:
//!
//! - it was captured at another interface;
//! - its flow, or a good part of the capture, has shown to be doubled (the network itself may duplicate a packet now and then, which the
//!   receiver answers), and it is the same IPv4 packet, by its identification, which each transmission of a host that counts them has anew
//!   (RFC 791 section 2.3; RFC 6864 section 4);
//! - elsewhere (IPv6, or identifications that do not change) its flow has shown to be doubled, and it is every second one of its kind, since
//!   a retransmission is doubled too.
//!
//! A SYN alone is believed at once, for which no timer is as short as [`WITHIN`]. In doubt a frame is no copy: that costs a sample, the other
//! mistake would make a wrong one.
//!
//! What comes much later at another interface was captured at another place of the path, as in captures that were merged: there the flow has
//! round trips of its own. So a flow is identified without the interface, but where its frames have been seen to repeat.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::time::Duration;

use go_metro_common::segment::TcpFlags;

use super::decode::{Decoded, Tunnel};
use crate::rtt::{Endpoint, Nanos};

/// A copy follows within this time: a switch or a kernel takes microseconds.
const WITHIN: Duration = Duration::from_millis(1);
/// The same frame at another place of the path follows within this time, also by another clock.
const ELSEWHERE_WITHIN: Duration = Duration::from_secs(3);
/// Frames that are remembered, by digest. More within [`WITHIN`] would be more than 16 million a second.
const REMEMBERED: usize = 1 << 14;
/// Flows of which it is remembered whether their frames are doubled.
const FLOWS: usize = 1 << 14;
/// Places of flows other than the first that are remembered.
const PLACES_MAX: usize = 1 << 16;
/// What an equal frame adds to the suspicion that a flow's frames are doubled; any other takes one away. In a doubled flow half
/// of all frames are equal to another; by retransmission alone never a fifth are.
const EQUAL: u8 = 4;
/// What an equal SYN or SYN-ACK adds: both are as good as certain.
const EQUAL_SYN: u8 = 6;
/// So much suspicion is certainty.
const CERTAIN: u8 = 12;
/// And it grows no further.
const MOST: u8 = 32;
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

/// Frames of the capture that were equal to another, and those that might have been.
#[derive(Clone, Copy, Default)]
struct Share {
    equal: u32,
    all: u32,
}

impl Share {
    /// Whether enough of the capture is doubled for each equal frame to be a copy: one in eight. Networks duplicate fewer.
    fn is_large(self) -> bool {
        self.equal >= 16 && self.equal.saturating_mul(8) > self.all
    }
}

/// What is known of a flow.
#[derive(Clone, Copy, Default)]
struct Flow {
    /// Part of the flow's digest.
    print: u16,
    /// That its frames are doubled.
    suspicion: u8,
    /// Identifications in a row that were not that of the packet before, up to [`COUNTS`].
    counting: u8,
    /// The last identification each way.
    last_id: [u16; 2],
}

/// Where a frame was captured that is no copy: 0 but where its flow was captured at several places.
pub(super) type Place = u32;

/// What was seen lately.
pub(super) struct Copies {
    seen: Box<[Seen]>,
    flows: Box<[Flow]>,
    /// Digests of flow and interface.
    places: HashSet<u64>,
    hasher: foldhash::fast::FixedState,
    /// Whether any frame was ever equal to another: before that nothing is known of flows.
    any: bool,
    share: Share,
}

impl Copies {
    /// Nothing seen.
    pub(super) fn new() -> Self {
        Self {
            seen: vec![Seen::default(); REMEMBERED].into_boxed_slice(),
            flows: vec![Flow::default(); FLOWS].into_boxed_slice(),
            places: HashSet::new(),
            hasher: foldhash::fast::FixedState::default(),
            any: false,
            share: Share::default(),
        }
    }

    /// Where the segment was captured, or None if it is a copy of one that was captured before.
    pub(super) fn place(&mut self, decoded: &Decoded, time: Nanos, interface: u32) -> Option<Place> {
        let Decoded { source, destination, header, tunnel, ip_id, .. } = decoded;
        let ends = [self.end(source), self.end(destination)];
        let flow = ends[0].wrapping_add(ends[1]) ^ tunnel.as_ref().map_or(0, Tunnel::digest);
        let at_place = self.hasher.hash_one((flow, interface));
        let mut place = if self.places.contains(&at_place) { interface + 1 } else { 0 };
        let same_ends = ends[0] ^ ends[1].rotate_left(32) ^ flow;
        let digest = self.digest(decoded, same_ends, place);
        let seen = self.seen[digest as usize % REMEMBERED];
        let is_equal = seen.times > 0 && seen.digest == (digest >> 32) as u32;
        let age = age(seen.first_at, time);
        // Acknowledgements may be equal without a copy, but for their packets' identifications.
        let is_syn = header.flags.any(TcpFlags::SYN);
        let tells = header.payload_len > 0 || *ip_id != 0 || is_syn;
        let elsewhere = seen.interface != interface as u16;
        if is_equal && elsewhere && age >= WITHIN && age < ELSEWHERE_WITHIN && tells && place == 0 {
            if self.places.len() < PLACES_MAX {
                self.places.insert(at_place);
            }
            place = interface + 1;
            self.note(self.digest(decoded, same_ends, place), time, interface);
            return Some(place);
        }
        let is_equal = is_equal && age < WITHIN;
        let times = if is_equal {
            let slot = &mut self.seen[digest as usize % REMEMBERED];
            slot.times = slot.times.saturating_add(1);
            slot.times
        } else {
            self.note(digest, time, interface);
            1
        };
        self.any |= is_equal;
        if !self.any {
            return Some(place);
        }
        if tells {
            self.share.all = self.share.all.saturating_add(1);
            self.share.equal += u32::from(is_equal);
        }
        let mostly = self.share.is_large();
        let known = self.flow(flow);
        let counts = known.learn(decoded, is_equal, tells, usize::from(ends[0] > ends[1]));
        let proved = counts && (mostly || known.suspicion >= CERTAIN);
        let every_second = known.suspicion >= CERTAIN && times.is_multiple_of(2);
        (!(is_equal && (elsewhere || is_syn || proved || every_second))).then_some(place)
    }

    fn end(&self, end: &Endpoint) -> u64 {
        self.hasher.hash_one((end.addr, end.port))
    }

    /// Of all that copies have in common. Two checksums of one packet differ where a device fills one in: where there is an identification,
    /// that counts alone.
    #[inline]
    fn digest(&self, decoded: &Decoded, ends: u64, place: Place) -> u64 {
        let Decoded { header, ip_id, checksum, .. } = decoded;
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let name = if *ip_id == 0 { u32::from(*checksum) << 16 } else { u32::from(*ip_id) };
        let bits = u32::from(header.window) << 16 | u32::from(header.flags.0) << 8 | u32::from(header.bits.0);
        self.hasher.hash_one((
            (ends, pair(name, bits), pair(header.payload_len, place)),
            (pair(header.seq, header.ack), pair(header.tsval, header.tsecr)),
        ))
    }

    #[inline]
    fn note(&mut self, digest: u64, first_at: Nanos, interface: u32) {
        let interface = interface as u16;
        self.seen[digest as usize % REMEMBERED] = Seen { first_at, digest: (digest >> 32) as u32, interface, times: 1 };
    }

    /// What is known of the flow with this digest.
    fn flow(&mut self, digest: u64) -> &mut Flow {
        let print = (digest >> 48) as u16;
        let flow = &mut self.flows[digest as usize % FLOWS];
        if flow.print != print {
            *flow = Flow { print, ..Flow::default() };
        }
        flow
    }
}

impl Flow {
    /// Learns of a frame; whether its identification tells its packet from others.
    fn learn(&mut self, decoded: &Decoded, is_equal: bool, tells: bool, way: usize) -> bool {
        let counts = decoded.ip_id != 0 && self.counting >= COUNTS;
        if !is_equal {
            let changed = self.last_id[way] != decoded.ip_id;
            self.counting = if changed { (self.counting + 1).min(COUNTS) } else { 0 };
            self.last_id[way] = decoded.ip_id;
        }
        if tells {
            let more = if decoded.header.flags.any(TcpFlags::SYN) { EQUAL_SYN } else { EQUAL };
            let suspicion = if is_equal { self.suspicion + more } else { self.suspicion.saturating_sub(1) };
            self.suspicion = suspicion.min(MOST);
        }
        counts
    }
}

/// From one time to the other, whichever is first.
fn age(a: Nanos, b: Nanos) -> Duration {
    Duration::from_nanos(a.0.abs_diff(b.0))
}

#[cfg(test)]
mod tests {
    use go_metro_common::segment::SegmentHeader;

    use super::*;
    use crate::rtt::Addr;

    fn data(seq: u32, ip_id: u16) -> Decoded {
        let end = |last| Endpoint { addr: Addr::v4([10, 0, 0, last]), port: 80 };
        let header = SegmentHeader { seq, payload_len: 100, flags: TcpFlags(TcpFlags::ACK), ..Default::default() };
        Decoded {
            source: end(1),
            destination: end(2),
            header,
            direction: None,
            ifindex: None,
            tunnel: None,
            ip_id,
            checksum: 7,
            bad_option: false,
            cut_options: false,
        }
    }

    /// Which of the frames, given with their times in microseconds, are copies.
    fn copies(frames: &[(u64, Decoded)]) -> Vec<bool> {
        let mut copies = Copies::new();
        frames.iter().map(|(us, frame)| copies.place(frame, Nanos(us * 1000), 0).is_none()).collect()
    }

    /// Data, each segment twice, with identifications from `ip_id` on or without.
    fn doubled(segments: std::ops::Range<u32>, ip_id: Option<u16>) -> Vec<(u64, Decoded)> {
        let frame = |k: u32| data(k, ip_id.map_or(0, |first| first + k as u16));
        segments.flat_map(|k| [0, 4].map(|late| (u64::from(k) * 1000 + late, frame(k)))).collect()
    }

    #[test]
    fn the_same_ip_packet_is_a_copy_and_another_with_the_same_segment_is_not() {
        let mut frames = doubled(0..20, Some(100));
        let known = copies(&frames).iter().filter(|copy| **copy).count();
        assert!((15..=20).contains(&known), "{known}");
        frames.extend([(30_000, data(30, 7)), (30_003, data(30, 7)), (30_005, data(30, 7)), (30_007, data(30, 8))]);
        assert_eq!(copies(&frames)[40..], [false, true, true, false]);
    }

    #[test]
    fn copies_of_one_flow_are_recognised_wherever_between_them_others_lie() {
        let of = |flow: u8, seq: u32| {
            let mut frame = data(seq, 100 + seq as u16);
            frame.source.port = u16::from(flow);
            frame
        };
        let mut frames = Vec::new();
        for k in 0..200_u64 {
            frames.extend((0..50).map(|flow| (k * 1000 + u64::from(flow), of(flow, k as u32))));
            frames.push((k * 1000 + 60, of(3, k as u32)));
        }
        let found = copies(&frames);
        let known = found.iter().skip(50).step_by(51).filter(|copy| **copy).count();
        assert!(known >= 196, "{known} of 200: all but the first");
        assert_eq!(found.iter().filter(|copy| **copy).count(), known, "and no other");
    }

    #[test]
    fn a_packet_that_the_network_duplicated_is_no_copy() {
        let mut frames: Vec<(u64, Decoded)> =
            (0..100).map(|k| (u64::from(k) * 1000, data(k, 100 + k as u16))).collect();
        for k in [20, 50, 51, 90] {
            frames.push((u64::from(k) * 1000 + 30, data(k, 100 + k as u16)));
        }
        frames.sort_by_key(|frame| frame.0);
        assert!(copies(&frames).iter().all(|copy| !copy));
    }

    #[test]
    fn identifications_that_do_not_change_prove_nothing() {
        // A path of 100 µs that loses one in ten, and a host that gives all packets the same identification.
        let frames: Vec<(u64, Decoded)> = (0..200)
            .flat_map(|k: u32| {
                let first = (u64::from(k) * 1000, data(k, 54_321));
                [Some(first), k.is_multiple_of(10).then_some((first.0 + 150, first.1))].into_iter().flatten()
            })
            .collect();
        assert!(copies(&frames).iter().all(|copy| !copy));
    }

    #[test]
    fn a_repeated_syn_is_a_copy_when_it_follows_at_once() {
        let mut syn = data(1, 0);
        syn.header.flags.0 = TcpFlags::SYN;
        syn.header.payload_len = 0;
        assert_eq!(copies(&[(0, syn), (3, syn), (1_000_000, syn)]), [false, true, false]);
    }

    #[test]
    fn a_handshake_that_is_doubled_tells_that_all_of_the_flow_is() {
        let mut syn = data(0, 0);
        (syn.header.flags.0, syn.header.payload_len) = (TcpFlags::SYN, 0);
        let mut answer = syn;
        (answer.source, answer.destination, answer.header.ack) = (syn.destination, syn.source, 1);
        let frames = [(0, syn), (3, syn), (100, answer), (103, answer), (200, data(1, 0)), (203, data(1, 0))];
        assert_eq!(copies(&frames), [false, true, false, true, false, true]);
    }

    #[test]
    fn without_identification_a_quick_retransmission_is_no_copy() {
        // A path of 100 µs that loses one in ten.
        let frames: Vec<(u64, Decoded)> = (0..200)
            .flat_map(|k: u32| {
                let first = (u64::from(k) * 1000, data(k, 0));
                [Some(first), k.is_multiple_of(10).then_some((first.0 + 150, first.1))].into_iter().flatten()
            })
            .collect();
        assert!(copies(&frames).iter().all(|copy| !copy));
    }

    #[test]
    fn a_capture_that_doubles_every_frame_is_recognised_and_its_retransmissions_are_not_lost() {
        let mut frames = doubled(0..20, None);
        let known = copies(&frames).iter().filter(|copy| **copy).count();
        assert!((15..20).contains(&known), "{known}");
        // Sent again after 200 µs: that is one transmission more, and a copy of it.
        frames.extend([(19_200, data(19, 0)), (19_204, data(19, 0))]);
        assert_eq!(copies(&frames)[38..], [false, true, false, true]);
    }

    #[test]
    fn at_another_interface_a_frame_is_a_copy_at_once_and_much_later_the_flow_has_another_place() {
        let mut copies = Copies::new();
        let mut at = |us: u64, interface, seq| copies.place(&data(seq, 0), Nanos(us * 1000), interface);
        assert_eq!([at(0, 0, 1), at(5, 1, 1), at(10, 2, 1)], [Some(0), None, None]);
        // Half of a path of 40 ms away.
        assert_eq!([at(1000, 0, 2), at(21_000, 7, 2)], [Some(0), Some(8)]);
        assert_eq!([at(22_000, 7, 3), at(2_000, 0, 3)], [Some(8), Some(0)]);
        assert_eq!([at(23_000, 7, 2), at(23_500, 7, 9)], [Some(8), Some(8)], "sent again");
        assert_eq!(at(60_000, 1, 4), Some(0), "no other place was seen to repeat at this interface");
    }
}
