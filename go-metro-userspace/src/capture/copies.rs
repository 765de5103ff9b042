//! Frames that a capture file holds twice: a mirror port of both directions, or a capture on several devices of one path.
//!
//! A copy is no retransmission, and would make every segment look retransmitted. But a retransmission on a path of some microseconds may
//! be equal to the first transmission in all that TCP says, so equality alone proves nothing. What proves it:
//!
//! - the identification of an IPv4 packet, which each transmission has anew (RFC 791 section 2.3; RFC 6864 section 4);
//! - a SYN, for which no timer is as short as [`WITHIN`];
//! - elsewhere (IPv6, or an identification of 0) that the capture has shown to be one that doubles frames; and then every second
//!   one only, since a retransmission is doubled too.
//!
//! In doubt a frame is no copy: that costs a sample, the other mistake would make a wrong one.

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

#[derive(Clone, Copy, Default)]
struct Seen {
    digest: u64,
    first_at: Nanos,
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
        let numbers = (header.seq, header.ack, header.tsval, header.tsecr, header.payload_len, header.window);
        let rest = (header.flags.0, header.bits.0, *ip_id, *checksum, ifindex);
        let digest = self.hasher.hash_one((source, destination, numbers, rest));
        let seen = &mut self.seen[digest as usize % REMEMBERED];
        let equal = seen.times > 0 && seen.digest == digest && age(seen.first_at, time) < WITHIN;
        if equal {
            seen.times += 1;
        } else {
            *seen = Seen { digest, first_at: time, times: 1 };
        }
        // Acknowledgements may be equal without a copy; data is not.
        if header.payload_len > 0 {
            let changed = if equal { self.suspicion + EQUAL } else { self.suspicion.saturating_sub(1) };
            self.suspicion = changed.min(MOST);
        }
        let identified = *ip_id != 0 || header.flags.any(TcpFlags::SYN);
        equal && (identified || (self.suspicion >= CERTAIN && seen.times.is_multiple_of(2)))
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

    #[test]
    fn the_same_ip_packet_again_is_a_copy_and_a_new_one_with_the_same_segment_is_not() {
        assert_eq!(
            copies(&[(0, data(1, 5)), (3, data(1, 5)), (5, data(1, 5)), (7, data(1, 6)), (9, data(2, 5))]),
            [false, true, true, false, false]
        );
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
        let doubled = |us, frame| [(us, frame), (us + 4, frame)];
        let mut frames: Vec<(u64, Decoded)> =
            (0..20).flat_map(|k: u32| doubled(u64::from(k) * 1000, data(k, 0))).collect();
        let known = copies(&frames).iter().filter(|copy| **copy).count();
        assert!((15..20).contains(&known), "{known}");
        // Sent again after 200 µs: that is one transmission more, and a copy of it.
        frames.extend(doubled(19_200, data(19, 0)));
        assert_eq!(copies(&frames)[38..], [false, true, false, true]);
    }

    #[test]
    fn a_copy_at_another_interface_or_much_later_is_none() {
        let mut copies = Copies::new();
        assert!(!copies.is_copy(&data(1, 5), Nanos(0), 1));
        assert!(!copies.is_copy(&data(1, 5), Nanos(10), 2));
        assert!(!copies.is_copy(&data(1, 5), Nanos(1_000_000), 1));
    }
}
