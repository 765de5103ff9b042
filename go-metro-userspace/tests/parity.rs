//! The decoder in user space and the classifier in the kernel make the same record of the same bytes: of every
//! hand-made packet, and of thousands of damaged ones. Needs root; without it the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod frames;

use frames::cases::{self, Hook};
use frames::kernel::{self, LOOPBACK};
use go_metro::capture::SourceCounters;
use go_metro::capture::decode::{LinkType, Origin, Packet, decode_counted};
use go_metro::capture::ebpf::Classifier;
use go_metro::targets::TargetSet;
use go_metro_common::counters::Counters;
use go_metro_common::segment::Sides;
use go_metro_rtt::{Direction, Nanos, Segment};

/// Every choice of round trips.
const ALL_SIDES: [Sides; 3] = [Sides::REMOTE, Sides::LOCAL, Sides::BOTH];

/// What either of them makes of a packet: for both sides one segment may be two. All that the classifier counts is
/// here, so that no counter can be forgotten in user space.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    segments: Vec<Segment>,
    counters: Counters,
}

fn by_kernel(classifier: &mut Classifier, hook: Hook, bytes: &[u8]) -> Made {
    let (segments, _, counters) = kernel::run(classifier, hook, bytes);
    let segments = segments.iter().map(|segment| Segment { header: timeless(segment), ..*segment }).collect();
    Made { segments, counters: counters.packets }
}

/// The two have different clocks.
fn timeless(segment: &Segment) -> go_metro_common::segment::SegmentHeader {
    go_metro_common::segment::SegmentHeader { time_ns: 0, ..segment.header }
}

fn by_decoder(targets: &TargetSet, sides: Sides, hook: Hook, bytes: &[u8]) -> Made {
    let link_type = match hook {
        Hook::EgressEthernet | Hook::IngressEthernet => LinkType::Ethernet,
        Hook::EgressIp | Hook::IngressIp => LinkType::Raw,
    };
    let mut counters = SourceCounters::default();
    let packet = Packet { bytes, wire_len: bytes.len() as u32, link_type, origin: Origin::Live };
    let decoded = decode_counted(packet, &mut counters);
    let is_decoded = decoded.is_some();
    let direction = if hook.is_egress() { Direction::Egress } else { Direction::Ingress };
    let segment = decoded.and_then(|decoded| decoded.seen_from(direction, sides, Nanos(0), LOOPBACK));
    let segment = segment.filter(|segment| targets.matches(segment.flow.remote.addr.ip()));
    // The kernel reads options only of what it emits, so only there it finds them malformed.
    if segment.is_none() {
        counters.packets.unparsable[go_metro_common::counters::Unparsable::TcpOption as usize] = 0;
    }
    let mut segments = Vec::new();
    if let Some(segment) = segment {
        segment.for_each_side(sides, &mut |segment| segments.push(*segment));
    }
    counters.packets.records = segments.len() as u64;
    if is_decoded {
        counters.count_packet(0);
    }
    Made { segments, counters: counters.packets }
}

#[test]
fn every_hand_made_packet_becomes_the_same_record_for_every_choice_of_sides() {
    let targets = TargetSet::new(cases::targets(), []);
    let mut of_side = [0; 2];
    for sides in ALL_SIDES {
        let Some(mut classifier) = kernel::classifier(sides) else { return };
        let (mut compared, mut encapsulated) = (0, 0);
        for case in cases::all() {
            if kernel_only(&case.bytes, case.hook) {
                continue;
            }
            let kernel = by_kernel(&mut classifier, case.hook, &case.bytes);
            encapsulated += kernel.counters.encapsulated;
            kernel.segments.iter().for_each(|segment| of_side[segment.flow.side as usize] += 1);
            assert_eq!(by_decoder(&targets, sides, case.hook, &case.bytes), kernel, "{} for {sides:?}", case.name);
            compared += 1;
        }
        assert!(compared > 60, "{compared} cases compared");
        assert_eq!(encapsulated, 10, "packets of tunnels");
    }
    assert!(of_side.iter().all(|count| *count > 60), "records of the remote and of the local side: {of_side:?}");
}

/// The kernel's test run takes no less than an Ethernet and an IPv6 header.
const SHORTEST: usize = 54;

/// The packets that are segments: each of these is damaged in every way of a kind.
fn whole_packets() -> Vec<cases::Case> {
    cases::all().into_iter().filter(|case| case.outcome.record.is_some() && case.bytes.len() < 400).collect()
}

#[test]
fn every_bit_flip_of_every_header_becomes_the_same_record() {
    let Some(mut classifier) = kernel::classifier(Sides::BOTH) else { return };
    let targets = TargetSet::new(cases::targets(), []);
    let (mut compared, mut records) = (0, 0);
    for case in whole_packets() {
        let payload = case.outcome.record.as_ref().map_or(0, |record| record.payload_len as usize);
        // Headers, and the first bytes behind them.
        let headers = case.bytes.len().saturating_sub(payload.min(case.bytes.len().saturating_sub(SHORTEST))) + 4;
        for bit in 0..headers.min(case.bytes.len()) * 8 {
            let mut bytes = case.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if kernel_only(&bytes, case.hook) {
                continue;
            }
            let kernel = by_kernel(&mut classifier, case.hook, &bytes);
            records += usize::from(!kernel.segments.is_empty());
            compared += 1;
            assert_eq!(
                by_decoder(&targets, Sides::BOTH, case.hook, &bytes),
                kernel,
                "{}, bit {bit}: {bytes:02x?}",
                case.name
            );
        }
    }
    println!("{compared} flips, of which {records} are segments still");
    assert!(compared > 20_000 && records > 2000, "{compared} flips, {records} records");
}

#[test]
fn every_truncation_becomes_the_same_record_or_none() {
    let Some(mut classifier) = kernel::classifier(Sides::BOTH) else { return };
    let targets = TargetSet::new(cases::targets(), []);
    let mut compared = 0;
    for case in whole_packets() {
        for length in SHORTEST..case.bytes.len() {
            let bytes = &case.bytes[..length];
            if kernel_only(bytes, case.hook) {
                continue;
            }
            let kernel = by_kernel(&mut classifier, case.hook, bytes);
            assert_eq!(by_decoder(&targets, Sides::BOTH, case.hook, bytes), kernel, "{}, cut to {length}", case.name);
            compared += 1;
        }
        // Shorter ones never reach a hook; the decoder takes them from a file.
        for length in 0..SHORTEST.min(case.bytes.len()) {
            let made = by_decoder(&targets, Sides::BOTH, case.hook, &case.bytes[..length]);
            assert_eq!(made.segments, [], "{}, cut to {length}", case.name);
        }
    }
    assert!(compared > 2000, "{compared} compared");
}

#[test]
fn every_damaged_packet_becomes_the_same_record() {
    let mut classifiers = Vec::new();
    for sides in ALL_SIDES {
        let Some(classifier) = kernel::classifier(sides) else { return };
        classifiers.push((sides, classifier));
    }
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
    for round in 0..20_000 {
        let (sides, classifier) = &mut classifiers[round % ALL_SIDES.len()];
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
        let kernel = by_kernel(classifier, case.hook, &bytes);
        records += kernel.segments.len();
        let decoded = by_decoder(&targets, *sides, case.hook, &bytes);
        assert_eq!(decoded, kernel, "{} for {sides:?}, damaged: {bytes:02x?}", case.name);
    }
    assert!(records > 1000, "{records} of the damaged packets are still segments");
}

/// What only one of them can be asked: libpcap's tag, put back in front of two in the packet, is one more than the
/// kernel has in band; PPPoE is decoded in user space alone; and a device without a link header tells the kernel the
/// protocol.
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
