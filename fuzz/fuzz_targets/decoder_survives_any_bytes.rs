//! Whatever a packet's bytes: the decoder does not panic, says something, and claims no more payload than was on the wire.
#![no_main]

use go_metro::capture::SourceCounters;
use go_metro::capture::decode::{LinkType, Packet, decode_counted};
use go_metro::rtt::{Direction, Nanos};
use go_metro_common::segment::Sides;
use libfuzzer_sys::fuzz_target;

const LINK_TYPES: [LinkType; 8] = [
    LinkType::Ethernet,
    LinkType::Raw,
    LinkType::Null,
    LinkType::Loop,
    LinkType::Sll,
    LinkType::Sll2,
    LinkType::Ppp,
    LinkType::Other,
];

// The first byte chooses the link type, the second how much longer than its captured part the packet was.
fuzz_target!(|data: &[u8]| {
    let [link_type, missing, bytes @ ..] = data else { return };
    let link_type = LINK_TYPES[usize::from(*link_type) % LINK_TYPES.len()];
    let wire_len = bytes.len() as u32 + u32::from(*missing) * 16;
    let mut counters = SourceCounters::default();
    let decoded = decode_counted(Packet { bytes, wire_len, link_type }, &mut counters);
    let accounted = counters.passed_over + counters.fragments + counters.unparsable.iter().sum::<u64>();
    let Some(decoded) = decoded else {
        assert_eq!((counters.seen, accounted), (1, 1), "seen, and said why not");
        return;
    };
    assert!(decoded.header.payload_len <= wire_len);
    for direction in [Direction::Egress, Direction::Ingress] {
        if let Some(segment) = decoded.seen_from(direction, Sides::BOTH, Nanos(1), 2) {
            assert_eq!(segment.direction(), direction);
            let mut sides = 0;
            segment.for_each_side(Sides::BOTH, &mut |_| sides += 1);
            assert!(sides <= 2);
        }
    }
});
