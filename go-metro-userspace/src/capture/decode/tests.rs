use proptest::prelude::*;

use super::*;

const SRC4: [u8; 4] = [10, 0, 0, 1];
const DST4: [u8; 4] = [10, 0, 0, 2];

/// A TCP header from port 1000 to 80 with these options and payload.
fn tcp(options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let mut bytes = vec![0x03, 0xe8, 0, 80, 0, 0, 0, 7, 0, 0, 0, 100];
    bytes.extend([((20 + options.len() / 4 * 4) / 4 * 16) as u8, TcpFlags::ACK, 0x12, 0x34, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

use go_metro_common::segment::TcpFlags;

fn ipv4(options: &[u8], fragment: u16, total: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let total = total.unwrap_or((header_len + payload.len()) as u16);
    let mut bytes = vec![0x40 | (header_len / 4) as u8, 0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, 6, 0, 0]);
    bytes.extend(SRC4);
    bytes.extend(DST4);
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

fn ipv6(next: u8, payload_len: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(payload_len.unwrap_or(payload.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    bytes.extend(payload);
    bytes
}

fn ethernet(ethertypes: &[u16], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    for (index, ethertype) in ethertypes.iter().enumerate() {
        if index > 0 {
            bytes.extend([0, 42]);
        }
        bytes.extend(ethertype.to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}

fn as_type(link_type: LinkType, bytes: &[u8]) -> Result<Decoded, Skip> {
    decode(Packet { bytes, wire_len: bytes.len() as u32, link_type })
}

fn raw(bytes: &[u8]) -> Result<Decoded, Skip> {
    as_type(LinkType::Raw, bytes)
}

#[test]
fn a_plain_segment_is_read_in_full() {
    let decoded =
        as_type(LinkType::Ethernet, &ethernet(&[0x800], &ipv4(&[], 0x4000, None, &tcp(&[], b"hello")))).unwrap();
    assert_eq!(
        (decoded.source.to_string(), decoded.destination.to_string()),
        ("10.0.0.1:1000".into(), "10.0.0.2:80".into())
    );
    let header = decoded.header;
    assert_eq!((header.seq, header.ack, header.payload_len, header.window), (7, 100, 5, 0x1234));
    assert_eq!((header.flags.0, header.bits.0), (TcpFlags::ACK, 0));
    let seen = decoded.seen_from(Direction::Egress, Sides::REMOTE, Nanos(9), 3).unwrap();
    assert_eq!(
        (seen.flow.local.port, seen.flow.remote.port, seen.header.time_ns, seen.header.ifindex),
        (1000, 80, 9, 3)
    );
    let seen = decoded.seen_from(Direction::Ingress, Sides::REMOTE, Nanos(9), 3).unwrap();
    assert_eq!((seen.flow.local.port, seen.header.local_port, seen.direction()), (80, 80, Direction::Ingress));
}

#[test]
fn ethernet_padding_is_no_payload_and_a_snapped_packet_keeps_its_length() {
    let mut padded = ethernet(&[0x800], &ipv4(&[], 0, None, &tcp(&[], b"")));
    padded.resize(60, 0);
    assert_eq!(as_type(LinkType::Ethernet, &padded).unwrap().header.payload_len, 0);
    let whole = ethernet(&[0x800], &ipv4(&[], 0, None, &tcp(&[], &[0; 1000])));
    let snapped = Packet { bytes: &whole[..54], wire_len: whole.len() as u32, link_type: LinkType::Ethernet };
    assert_eq!(decode(snapped).unwrap().header.payload_len, 1000);
}

#[test]
fn every_link_type_leads_to_the_same_segment() {
    let (v4, v6) = (ipv4(&[], 0, None, &tcp(&[], b"x")), ipv6(6, None, &tcp(&[], b"x")));
    let with = |prefix: &[u8], packet: &[u8]| [prefix, packet].concat();
    let sll = |ethertype: [u8; 2]| [&[0, 4, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0][..], &ethertype].concat();
    let sll2 = |ethertype: [u8; 2]| [&ethertype[..], &[0, 0, 0, 0, 0, 5, 0, 1, 4, 6, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let cases = [
        (LinkType::Raw, v4.clone(), v6.clone()),
        (LinkType::Ethernet, ethernet(&[0x8100, 0x800], &v4), ethernet(&[0x88a8, 0x8100, 0x86dd], &v6)),
        (LinkType::Ethernet, ethernet(&[0x8100, 0x8100, 0x8100, 0x800], &v4), ethernet(&[0x9100, 0x86dd], &v6)),
        (
            LinkType::Ethernet,
            ethernet(&[0x8864], &with(&[0x11, 0, 0, 1, 0, 9, 0, 0x21], &v4)),
            ethernet(&[0x8100, 0x8864], &with(&[0x11, 0, 0, 1, 0, 9, 0, 0x57], &v6)),
        ),
        (LinkType::Null, with(&[2, 0, 0, 0], &v4), with(&[0, 0, 0, 30], &v6)),
        (LinkType::Loop, with(&[0, 0, 0, 2], &v4), with(&[0, 0, 0, 24], &v6)),
        (LinkType::Ppp, with(&[0xff, 3, 0, 0x21], &v4), with(&[0x57], &v6)),
        (LinkType::Sll, with(&sll([8, 0]), &v4), with(&sll([0x86, 0xdd]), &v6)),
        (LinkType::Sll2, with(&sll2([8, 0]), &v4), with(&sll2([0x86, 0xdd]), &v6)),
    ];
    for (link_type, v4_frame, v6_frame) in cases {
        let cooked = matches!(link_type, LinkType::Sll | LinkType::Sll2);
        for (frame, reference) in [(v4_frame, raw(&v4)), (v6_frame, raw(&v6))] {
            let decoded = as_type(link_type, &frame).unwrap_or_else(|skip| panic!("{link_type:?}: {skip:?}"));
            assert_eq!(
                (decoded.source, decoded.header),
                (reference.unwrap().source, reference.unwrap().header),
                "{link_type:?}"
            );
            assert_eq!(decoded.direction, cooked.then_some(Direction::Egress));
            assert_eq!(decoded.ifindex, (link_type == LinkType::Sll2).then_some(5));
        }
    }
}

#[test]
fn too_many_tags_or_extension_headers_are_refused() {
    let v4 = ipv4(&[], 0, None, &tcp(&[], b""));
    let frame = ethernet(&[0x8100, 0x8100, 0x8100, 0x8100, 0x800], &v4);
    assert_eq!(as_type(LinkType::Ethernet, &frame), Err(Skip::Unparsable(Unparsable::TooDeep)));
    let nested = |count: usize| {
        let mut payload = Vec::new();
        for index in 0..count {
            payload.extend([if index + 1 == count { 6 } else { 60 }, 0, 0, 0, 0, 0, 0, 0]);
        }
        payload.extend(tcp(&[], b"abc"));
        ipv6(60, None, &payload)
    };
    assert_eq!(raw(&nested(8)).unwrap().header.payload_len, 3);
    assert_eq!(raw(&nested(9)), Err(Skip::Unparsable(Unparsable::TooDeep)));
}

#[test]
fn ip_options_big_tcp_and_fragments_are_told_apart() {
    let segment = tcp(&[], b"abc");
    assert_eq!(raw(&ipv4(&[1; 8], 0, None, &segment)).unwrap().header.payload_len, 3);
    assert_eq!(raw(&ipv4(&[], 0, Some(0), &segment)).unwrap().header.payload_len, 3);
    assert_eq!(raw(&ipv6(6, Some(0), &segment)).unwrap().header.payload_len, 3);
    assert!(raw(&ipv4(&[], 0x2000, None, &segment)).is_ok(), "the first fragment has the header");
    assert_eq!(raw(&ipv4(&[], 0x2001, None, &segment)), Err(Skip::Fragment));
    let later = [&[6, 0, 0, 8, 0, 0, 0, 1][..], &segment].concat();
    assert_eq!(raw(&ipv6(44, None, &later)), Err(Skip::Fragment));
    let authenticated = [&[6, 4, 0, 0][..], &[0; 20], &segment].concat();
    assert_eq!(raw(&ipv6(51, None, &authenticated)).unwrap().header.payload_len, 3);
}

#[test]
fn options_are_read_wherever_they_stand() {
    let timestamps = [8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let header = |options: &[u8]| raw(&ipv4(&[], 0, None, &tcp(options, b""))).unwrap();
    let usual = header(&[&[1, 1][..], &timestamps].concat()).header;
    assert_eq!((usual.tsval, usual.tsecr, usual.bits.0), (1, 2, Bits::TIMESTAMPS));
    let last = header(&[&[2, 4, 5, 0xb4, 4, 2, 3, 3, 7, 1][..], &timestamps].concat()).header;
    assert_eq!((last.tsval, last.bits.0), (1, Bits::TIMESTAMPS | Bits::SACK_PERMITTED));
    let sack = |blocks: &[u32]| {
        let mut option = vec![1, 1, 5, (2 + blocks.len() * 8) as u8];
        blocks.iter().for_each(|left| option.extend([left.to_be_bytes(), (left + 10).to_be_bytes()].concat()));
        header(&option).header.bits.0
    };
    assert_eq!(sack(&[200]), Bits::SACK_ABOVE);
    assert_eq!(sack(&[50]), Bits::DSACK);
    assert_eq!(sack(&[50, 200]), Bits::DSACK | Bits::SACK_ABOVE);
    assert_eq!(sack(&[200, 50]), Bits::SACK_ABOVE, "only the first block can be a D-SACK");
}

#[test]
fn a_malformed_option_is_counted_and_what_stands_before_it_is_kept() {
    for bad in [[8, 0, 0, 0], [8, 1, 0, 0], [8, 255, 0, 0], [1, 1, 1, 8]] {
        let decoded = raw(&ipv4(&[], 0, None, &tcp(&[&[4, 2, 1, 1][..], &bad].concat(), b"x"))).unwrap();
        assert!(decoded.bad_option, "{bad:?}");
        assert_eq!((decoded.header.bits.0, decoded.header.payload_len), (Bits::SACK_PERMITTED, 1));
    }
    let short = raw(&ipv4(&[], 0, None, &tcp(&[8, 2, 1, 1], b""))).unwrap();
    assert_eq!((short.bad_option, short.header.bits.0), (false, 0), "the original crashed on this one");
    let whole = ipv4(&[], 0, None, &tcp(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], b""));
    let cut = decode(Packet { bytes: &whole[..45], wire_len: whole.len() as u32, link_type: LinkType::Raw }).unwrap();
    assert_eq!((cut.bad_option, cut.header.bits.0), (false, 0), "a short capture is no fault of the sender's");
}

#[test]
fn malformed_headers_are_counted_by_cause() {
    let good = ipv4(&[], 0, None, &tcp(&[], b""));
    let mut counters = SourceCounters::default();
    let mut count = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        decode_counted(Packet { bytes: &bytes, wire_len: bytes.len() as u32, link_type: LinkType::Raw }, &mut counters);
    };
    count(&|bytes| bytes.truncate(39));
    count(&|bytes| bytes.truncate(10));
    count(&|bytes| bytes[0] = 0x44);
    count(&|bytes| bytes[32] = 0x40);
    count(&|bytes| bytes[32] = 0x60);
    count(&|bytes| bytes[9] = 17);
    assert_eq!(counters.seen, 6);
    assert_eq!(counters.unparsable, [2, 1, 2, 0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), wire_len: u32, number in 0i32..300) {
        if let Some(link_type) = LinkType::from_number(number) {
            let _ = decode(Packet { bytes: &bytes, wire_len, link_type });
        }
    }

    #[test]
    fn no_change_to_a_good_packet_makes_it_panic(
        changes in prop::collection::vec((0usize..120, any::<u8>()), 0..8), cut in 0usize..120, v6: bool,
    ) {
        let segment = tcp(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7], b"data");
        let mut bytes = if v6 { ipv6(6, None, &segment) } else { ipv4(&[1; 4], 0, None, &segment) };
        for (place, value) in changes {
            let len = bytes.len();
            bytes[place % len] = value;
        }
        let wire_len = bytes.len() as u32;
        bytes.truncate(cut.max(1));
        if let Ok(decoded) = decode(Packet { bytes: &bytes, wire_len, link_type: LinkType::Raw }) {
            prop_assert!(decoded.header.payload_len <= wire_len);
        }
    }
}
