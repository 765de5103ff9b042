//! Frames that a capture file holds twice: a mirror port of both directions, or a capture on several devices of one path.
//!
//! A copy is no retransmission, and would make every segment look retransmitted. But a retransmission on a path of some microseconds may
//! be equal to the first transmission in all that TCP says, and the network itself may duplicate a packet now and then, which the receiver
//! answers. So equality alone proves nothing. What proves it: the capture has shown to be one that doubles frames, and
//!
//! - it is the same IPv4 packet, by its identification, which each transmission has anew (RFC 791 section 2.3; RFC 6864 section 4);
//! - elsewhere (IPv6, or an identification of 0) it is every second one of its kind, since a retransmission is doubled too.
//!
//! A SYN alone is believed at once, for which no timer is as short as [`WITHIN`]. In doubt a frame is no copy: that costs a sample, the other
//! mistake would make a wrong one.

use std::hash::BuildHasher;
use std::time::Duration;

use go_metro_common::segment::TcpFlags;

use super::decode::Decoded;
use crate::rtt::Nanos;

/// A copy follows within this time: a switch or a kernel takes microseconds.
const WITHIN: Duration = Duration::from_millis(1);
/// Frames that are remembered, by digest. More within [`WITHIN`] would be more than 16 million a second.
const REMEMBERED: usize = 1 << 14;
/// What an equal frame adds to the suspicion that the capture doubles frames; any other takes one away. In a doubling capture half
/// of all frames are equal to another; by retransmission alone never a fifth are.
const EQUAL: u32 = 4;
/// So much suspicion is certainty.
const CERTAIN: u32 = 12;
/// And it grows no further.
const MOST: u32 = 32;

/// Sixteen bytes, so that all that is remembered stays in the processor's second cache.
#[derive(Clone, Copy, Default)]
struct Seen {
    first_at: Nanos,
    /// Half of the digest; most of the other half is the place.
    digest: u32,
    times: u32,
}

/// What was seen lately.
pub(super) struct Copies {
    seen: Box<[Seen]>,
    hasher: foldhash::fast::FixedState,
    suspicion: u32,
}

impl Copies {
    /// Nothing seen.
    pub(super) fn new() -> Self {
        Self {
            seen: vec![Seen::default(); REMEMBERED].into_boxed_slice(),
            hasher: foldhash::fast::FixedState::default(),
            suspicion: 0,
        }
    }

    /// Whether the segment was captured before, at the same interface.
    pub(super) fn is_copy(&mut self, decoded: &Decoded, time: Nanos, ifindex: u32) -> bool {
        let Decoded { source, destination, header, ip_id, checksum, .. } = decoded;
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let quarter = |a: u16, b: u16| pair(0, u32::from(a) << 16 | u32::from(b));
        let digest = self.hasher.hash_one((
            (source.addr, destination.addr, quarter(source.port, destination.port) << 32 | quarter(*ip_id, *checksum)),
            (pair(header.seq, header.ack), pair(header.tsval, header.tsecr), pair(header.payload_len, ifindex)),
            quarter(header.window, u16::from(header.flags.0) << 8 | u16::from(header.bits.0)),
        ));
        let seen = &mut self.seen[digest as usize % REMEMBERED];
        let digest = (digest >> 32) as u32;
        let equal = seen.times > 0 && seen.digest == digest && age(seen.first_at, time) < WITHIN;
        if equal {
            seen.times += 1;
        } else {
            *seen = Seen { digest, first_at: time, times: 1 };
        }
        // Acknowledgements may be equal without a copy, but for their packets' identifications.
        if header.payload_len > 0 || *ip_id != 0 || header.flags.any(TcpFlags::SYN) {
            let changed = if equal { self.suspicion + EQUAL } else { self.suspicion.saturating_sub(1) };
            self.suspicion = changed.min(MOST);
        }
        let doubles = self.suspicion >= CERTAIN && (*ip_id != 0 || seen.times.is_multiple_of(2));
        equal && (doubles || header.flags.any(TcpFlags::SYN))
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
    use crate::rtt::{Addr, Endpoint};

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
        }
    }

    /// Which of the frames, given with their times in microseconds, are copies.
    fn copies(frames: &[(u64, Decoded)]) -> Vec<bool> {
        let mut copies = Copies::new();
        frames.iter().map(|(us, frame)| copies.is_copy(frame, Nanos(us * 1000), 0)).collect()
    }

    /// Data, each segment twice, with identifications from `ip_id` on or without.
    fn doubled(segments: std::ops::Range<u32>, ip_id: Option<u16>) -> Vec<(u64, Decoded)> {
        let frame = |k: u32| data(k, ip_id.map_or(0, |first| first + k as u16));
        segments.flat_map(|k| [0, 4].map(|late| (u64::from(k) * 1000 + late, frame(k)))).collect()
    }

    #[test]
    fn in_a_capture_that_doubles_the_same_ip_packet_is_a_copy_and_another_with_the_same_segment_is_not() {
        let mut frames = doubled(0..20, Some(100));
        let known = copies(&frames).iter().filter(|copy| **copy).count();
        assert!((15..20).contains(&known), "{known}");
        frames.extend([(30_000, data(30, 7)), (30_003, data(30, 7)), (30_005, data(30, 7)), (30_007, data(30, 8))]);
        assert_eq!(copies(&frames)[40..], [false, true, true, false]);
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
    fn a_repeated_syn_is_a_copy_when_it_follows_at_once() {
        let mut syn = data(1, 0);
        syn.header.flags.0 = TcpFlags::SYN;
        syn.header.payload_len = 0;
        assert_eq!(copies(&[(0, syn), (3, syn), (1_000_000, syn)]), [false, true, false]);
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
    fn a_copy_at_another_interface_or_much_later_is_none() {
        let mut copies = Copies::new();
        for (us, frame) in doubled(0..20, Some(100)) {
            copies.is_copy(&frame, Nanos(us * 1000), 1);
        }
        let mut at = |us: u64, ifindex| copies.is_copy(&data(50, 5), Nanos(us * 1000), ifindex);
        assert_eq!([at(50_000, 1), at(50_010, 2), at(50_020, 1), at(51_000, 1)], [false, false, true, false]);
    }
}
