//! Whatever a packet's bytes, live or of a file: the decoder does not panic, says something, and claims no more payload
//! than was on the wire, or of a file, whose lengths are not believed, than an IP packet holds.
#![no_main]

use go_metro::capture::SourceCounters;
use go_metro::capture::decode::{LinkType, Origin, Packet, Tunnels, decode_counted};
use go_metro_rtt::{Direction, Nanos};
use go_metro_common::segment::Sides;
use libfuzzer_sys::fuzz_target;

const LINK_TYPES: &[LinkType] = &[
    LinkType::Ethernet,
    LinkType::Raw,
    LinkType::Null,
    LinkType::Loop,
    LinkType::Sll,
    LinkType::Sll2,
    LinkType::Ppp,
    LinkType::Other(147),
    LinkType::CiscoHdlc,
    LinkType::Wireless,
    LinkType::Radiotap,
    LinkType::Ppi,
    LinkType::Nflog,
];
const ORIGINS: [Origin; 3] = [Origin::Live, Origin::File(Tunnels::Opened), Origin::File(Tunnels::Closed)];

// The first byte chooses link type and origin, the second how much longer than its captured part the packet was.
fuzz_target!(|data: &[u8]| {
    let [link_type, missing, bytes @ ..] = data else { return };
    let choice = usize::from(*link_type);
    let link_type = LINK_TYPES[choice % LINK_TYPES.len()];
    let origin = ORIGINS[choice / LINK_TYPES.len() % ORIGINS.len()];
    let wire_len = bytes.len() as u32 + u32::from(*missing) * 16;
    let mut counters = SourceCounters::default();
    let decoded = decode_counted(Packet { bytes, wire_len, link_type, origin }, &mut counters);
    let apart = counters.packets.fragments + counters.packets.encapsulated + counters.unread.iter().sum::<u64>();
    let accounted = counters.passed_over + apart + counters.packets.unparsable.iter().sum::<u64>();
    let Some(decoded) = decoded else {
        assert_eq!((counters.packets.seen, accounted), (1, 1), "seen, and said why not");
        return;
    };
    let most = if origin == Origin::Live { wire_len } else { wire_len.max(u32::from(u16::MAX)) };
    assert!(decoded.header.payload.len() <= most);
    assert!(decoded.tunnel.is_none() || origin == Origin::File(Tunnels::Opened));
    for direction in [Direction::Egress, Direction::Ingress] {
        if let Some(segment) = decoded.seen_from(direction, Sides::BOTH, Nanos(1), 2) {
            assert_eq!(segment.direction(), direction);
            let mut sides = 0;
            segment.for_each_side(Sides::BOTH, &mut |_| sides += 1);
            assert!(sides <= 2);
        }
    }
});
