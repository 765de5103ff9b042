//! The decoder in user space and the classifier in the kernel make the same record of the same bytes: of every hand-made
//! packet, and of thousands of damaged ones. Needs root; without it the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod frames;

use frames::cases::{self, Hook};
use frames::kernel::{self, LOOPBACK};
use go_metro::capture::SourceCounters;
use go_metro::capture::decode::{LinkType, Packet, decode_counted};
use go_metro::capture::ebpf::Classifier;
use go_metro::rtt::{Direction, Nanos, Segment};
use go_metro::targets::TargetSet;
use go_metro_common::segment::Sides;

/// What either of them makes of a packet.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    segment: Option<Segment>,
    fragments: u64,
    unparsable: [u64; 5],
}

fn by_kernel(classifier: &mut Classifier, hook: Hook, bytes: &[u8]) -> Made {
    let (segments, _, counters) = kernel::run(classifier, hook, bytes);
    let segment = segments.first().map(|segment| Segment { header: timeless(segment), ..*segment });
    Made { segment, fragments: counters.fragments, unparsable: counters.unparsable }
}

/// The two have different clocks.
fn timeless(segment: &Segment) -> go_metro_common::segment::SegmentHeader {
    go_metro_common::segment::SegmentHeader { time_ns: 0, ..segment.header }
}

fn by_decoder(targets: &TargetSet, hook: Hook, bytes: &[u8]) -> Made {
    let link_type = match hook {
        Hook::EgressEthernet | Hook::IngressEthernet => LinkType::Ethernet,
        Hook::EgressIp | Hook::IngressIp => LinkType::Raw,
    };
    let mut counters = SourceCounters::default();
    let packet = Packet { bytes, wire_len: bytes.len() as u32, link_type };
    let decoded = decode_counted(packet, &mut counters);
    let direction = if hook.is_egress() { Direction::Egress } else { Direction::Ingress };
    let segment = decoded.and_then(|decoded| decoded.seen_from(direction, Sides::REMOTE, Nanos(0), LOOPBACK));
    let segment = segment.filter(|segment| targets.matches(segment.flow.remote.addr.ip()));
    // The kernel reads options only of what it emits, so only there it finds them malformed.
    if segment.is_none() {
        counters.unparsable[go_metro_common::counters::Unparsable::TcpOption as usize] = 0;
    }
    Made { segment, fragments: counters.fragments, unparsable: counters.unparsable }
}

#[test]
fn every_hand_made_packet_becomes_the_same_record() {
    let Some(mut classifier) = kernel::classifier() else { return };
    let targets = TargetSet::new(cases::targets(), []);
    let mut compared = 0;
    for case in cases::all() {
        if kernel_only(&case.bytes, case.hook) {
            continue;
        }
        let kernel = by_kernel(&mut classifier, case.hook, &case.bytes);
        assert_eq!(by_decoder(&targets, case.hook, &case.bytes), kernel, "{}", case.name);
        compared += 1;
    }
    assert!(compared > 60, "{compared} cases compared");
}

#[test]
fn every_damaged_packet_becomes_the_same_record() {
    let Some(mut classifier) = kernel::classifier() else { return };
    let targets = TargetSet::new(cases::targets(), []);
    let cases = cases::all();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut records = 0;
    for _ in 0..20_000 {
        let case = &cases[next(cases.len())];
        let mut bytes = case.bytes.clone();
        for _ in 0..=next(3) {
            let place = next(bytes.len().min(90));
            bytes[place] ^= 1 << next(8);
        }
        if next(4) == 0 {
            // The kernel's test run takes no less than an Ethernet and an IP header.
            let keep = 54 + next(bytes.len().saturating_sub(54).max(1));
            bytes.truncate(keep);
        }
        if kernel_only(&bytes, case.hook) {
            continue;
        }
        let kernel = by_kernel(&mut classifier, case.hook, &bytes);
        records += usize::from(kernel.segment.is_some());
        assert_eq!(by_decoder(&targets, case.hook, &bytes), kernel, "{}, damaged: {bytes:02x?}", case.name);
    }
    assert!(records > 1000, "{records} of the damaged packets are still segments");
}

/// What only one of them can be asked: libpcap's tag, put back in front of two in the packet, is one more than the kernel has in
/// band; PPPoE is decoded in user space alone; and a device without a link header tells the kernel the protocol.
fn kernel_only(bytes: &[u8], hook: Hook) -> bool {
    let ethertype = |at: usize| bytes.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    match hook {
        Hook::EgressEthernet | Hook::IngressEthernet => {
            let is_tag = |at| [0x8100, 0x88a8, 0x9100].contains(&ethertype(at));
            let tags = (0..3).take_while(|tag| is_tag(12 + 4 * tag)).count();
            tags == 3 || ethertype(12 + 4 * tags) == 0x8864
        }
        // A test run takes the protocol from where an Ethernet header would have it.
        Hook::EgressIp | Hook::IngressIp => {
            let version = bytes.first().map_or(0, |first| first >> 4);
            !matches!((ethertype(12), version), (0x0800, 4) | (0x86dd, 6))
        }
    }
}
