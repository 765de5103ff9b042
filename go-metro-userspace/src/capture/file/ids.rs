//! What the IPv4 identifications of an end say of packets that the capture does not have.
//!
//! A host that counts the packets of a connection by one (as Linux does) gives each an identification; where one is
//! left out, a packet was lost on the path or by the capture. That may have been the first to acknowledge what the next
//! one acknowledges, if the host sent the next one of its own accord: data, a FIN, or behind data that is missing. An
//! acknowledgement alone, where the last segment ended, was sent because something arrived.

use go_metro_common::segment::{Bits, TcpFlags};
use go_metro_rtt::SeqNum;

use crate::capture::decode::Decoded;

/// Ends that are remembered.
const ENDS: usize = 1 << 14;
/// So often in a row an identification must have been the next one before one that is not tells anything: a counter
/// that connections share is not, unless the others are nearly silent.
const STEADY: u8 = 4;
/// An identification that is lower by no more than this was overtaken.
const OVERTAKEN: u16 = 1024;
/// What is longer is a super-segment: it has the identifications of all its segments, and those are no shorter than the
/// other.
const LONGEST_SEGMENT: u32 = 1460;
const SHORTEST_SEGMENT: u32 = 536;

/// The last that each end sent.
pub(super) struct Ids(Box<[End]>);

#[derive(Clone, Copy, Default)]
struct End {
    /// Part of the digest; 0 for none.
    print: u32,
    /// Where the last segment ended.
    end: SeqNum,
    /// How many segments the last may have been.
    segments: u16,
    id: u16,
    steady: u8,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self(vec![End::default(); ENDS].into_boxed_slice())
    }

    /// Whether a packet is missing right before this one of its end that may have said first what this one says; in the
    /// order of time. `end` is the end's digest.
    #[inline]
    pub(super) fn miss_before(&mut self, decoded: &Decoded, end: u64) -> bool {
        let header = &decoded.header;
        if header.bits.any(Bits::IPV6) || header.flags.any(TcpFlags::RST) {
            return false;
        }
        let print = (end >> 32) as u32 | 1;
        let slot = &mut self.0[end as usize % ENDS];
        let len = header.payload.len().wrapping_add(header.flags.sequence_space());
        let start = SeqNum(header.seq);
        let now =
            End { print, end: start.plus(len), segments: segments(header.payload.len()), id: decoded.ip_id, steady: 0 };
        let last = std::mem::replace(slot, now);
        if last.print != print || header.flags.any(TcpFlags::SYN) {
            return false;
        }
        let step = now.id.wrapping_sub(last.id);
        if (1..=last.segments).contains(&step) {
            slot.steady = (last.steady + 1).min(STEADY);
            return false;
        }
        // Linux counts nothing where no socket of its own answers, as in TIME-WAIT, and says 0.
        if now.id == 0 || step.wrapping_neg() <= OVERTAKEN {
            *slot = last;
            return false;
        }
        last.steady >= STEADY && (len > 0 || start.after(last.end))
    }
}

/// As how many segments this payload may have been sent, at most.
fn segments(payload_len: u32) -> u16 {
    if payload_len <= LONGEST_SEGMENT {
        1
    } else {
        (payload_len / SHORTEST_SEGMENT + 1).min(u32::from(u16::MAX)) as u16
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use go_metro_common::segment::{Payload, SegmentHeader};
    use go_metro_rtt::{Addr, Endpoint};

    use super::*;

    /// What an end sends: identification, sequence number, payload.
    fn segment(ip_id: u16, seq: u32, payload_len: u32) -> Decoded {
        let end = |last| Endpoint { addr: Addr::v4(Ipv4Addr::new(10, 0, 0, last).octets()), port: 80 };
        let flags = TcpFlags(TcpFlags::ACK);
        let header = SegmentHeader { seq, payload: Payload::new(payload_len), flags, ..SegmentHeader::default() };
        Decoded { ip_id, ..Decoded::between([end(1), end(2)], header) }
    }

    /// Which of these have something missing before them.
    fn missed(segments: impl IntoIterator<Item = (u16, u32, u32)>) -> Vec<usize> {
        let mut ids = Ids::new();
        let segments = segments.into_iter().map(|(ip_id, seq, len)| segment(ip_id, seq, len));
        segments.enumerate().filter(|(_, segment)| ids.miss_before(segment, 7 << 32)).map(|(k, _)| k).collect()
    }

    /// Data of 100 bytes each with these identifications.
    fn data(ids: impl IntoIterator<Item = u16>) -> Vec<usize> {
        missed(ids.into_iter().zip(0..).map(|(id, k)| (id, k * 100, 100)))
    }

    #[test]
    fn a_gap_in_identifications_that_went_up_by_one_is_a_packet_that_is_missing() {
        let none: [usize; 0] = [];
        let begun = || (65_530..=65_535).chain(0..=2);
        assert_eq!(data(begun().chain([3, 4])), none);
        assert_eq!(data(begun().chain([4, 5])), [9]);
        // One that was overtaken is missing before the one that overtook it.
        assert_eq!(data(begun().chain([3, 5, 4, 6])), [10]);
        // What no socket sent is not counted.
        assert_eq!(data((1..=9).chain([0, 10])), none);
    }

    #[test]
    fn identifications_that_do_not_count_this_end_s_packets_tell_nothing() {
        let none: [usize; 0] = [];
        assert_eq!(data([0; 50]), none);
        assert_eq!(data((0..50).map(|k: u16| k.wrapping_mul(40_503))), none, "at random");
        assert_eq!(data((0..50).map(|k: u16| k.swap_bytes())), none, "in the other byte order");
        assert_eq!(data((0..50).map(|k| k * 2)), none, "shared with another connection");
        assert_eq!(data([1, 2, 4]), none, "too few");
        let every_fourth = (0..200_u16).map(|k| k + k / 4);
        assert_eq!(data(every_fourth), none, "shared with a connection that sends less");
    }

    #[test]
    fn a_super_segment_has_the_identifications_of_its_segments() {
        let steady = (1..=9).map(|id| (id, u32::from(id) * 100, 100));
        let none: [usize; 0] = [];
        let then = |id| missed(steady.clone().chain([(10, 1000, 14_600), (id, 15_600, 100)]));
        assert_eq!((then(20), then(43)), (none.to_vec(), vec![10]));
    }

    #[test]
    fn an_acknowledgement_alone_was_sent_because_something_arrived() {
        let steady = (1..=9).map(|id| (id, 100, 0));
        let then = |seq, len| missed(steady.clone().chain([(11, seq, len)]));
        assert_eq!((then(100, 0), then(100, 1), then(101, 0)), (vec![], vec![9], vec![9]));
    }
}
