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
    decode(Packet { bytes, wire_len: bytes.len() as u32, link_type, origin: Origin::Live })
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
    assert_eq!((header.seq, header.ack, header.payload.len(), header.window), (7, 100, 5, 0x1234));
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
    assert_eq!(as_type(LinkType::Ethernet, &padded).unwrap().header.payload.len(), 0);
    let whole = ethernet(&[0x800], &ipv4(&[], 0, None, &tcp(&[], &[0; 1000])));
    let snapped = Packet {
        bytes: &whole[..54],
        wire_len: whole.len() as u32,
        link_type: LinkType::Ethernet,
        origin: Origin::Live,
    };
    assert_eq!(decode(snapped).unwrap().header.payload.len(), 1000);
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
        // Tags that the protocol names, that it is silent about (Linux 6.10), and that it names although they are gone.
        (
            LinkType::Sll2,
            with(&sll2([0x81, 0]), &with(&[0, 5, 8, 0], &v4)),
            with(&sll2([0x88, 0xa8]), &with(&[0, 5, 0x81, 0, 0, 6, 0x86, 0xdd], &v6)),
        ),
        (
            LinkType::Sll2,
            with(&sll2([8, 0]), &with(&[0, 5, 8, 0], &v4)),
            with(&sll2([0x86, 0xdd]), &with(&[0, 5, 0x81, 0, 0, 6, 0x86, 0xdd], &v6)),
        ),
        (LinkType::Sll, with(&sll([0x81, 0]), &v4), with(&sll([0x88, 0xa8]), &v6)),
        // A tag whose priority and number look like the first byte of an IP header.
        (
            LinkType::Sll2,
            with(&sll2([8, 0]), &with(&[0x45, 5, 8, 0], &v4)),
            with(&sll2([0x86, 0xdd]), &with(&[0x60, 5, 0x86, 0xdd], &v6)),
        ),
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
fn tags_name_vlans_and_a_priority_tag_names_none() {
    let v4 = ipv4(&[], 0, None, &tcp(&[], b"x"));
    let vlans = |tags: &[[u8; 2]]| {
        let mut frame = vec![0; 12];
        tags.iter().for_each(|tag| frame.extend([[0x81, 0], *tag].concat()));
        frame.extend([&[8, 0][..], &v4].concat());
        as_type(LinkType::Ethernet, &frame).unwrap().vlans
    };
    // A tag is three bits of priority, one of eligibility to be dropped, and the VLAN (IEEE 802.1Q section 9.6).
    let (ten, twenty, priority) = ([0xe0, 10], [0, 20], [0xe0, 0]);
    assert_eq!([vlans(&[]), vlans(&[ten]), vlans(&[ten, twenty])], [0, 10, 10 << 12 | 20]);
    assert_eq!([vlans(&[priority]), vlans(&[ten, priority]), vlans(&[priority, ten])], [0, 10, 10]);
}

/// As in a capture file, tunnels looked into or not.
fn of_file(link_type: LinkType, tunnels: Tunnels, bytes: &[u8]) -> Result<Decoded, Skip> {
    decode(Packet { bytes, wire_len: bytes.len() as u32, link_type, origin: Origin::File(tunnels) })
}

/// A data frame of IEEE 802.11 with this frame control and what stands between the third address and LLC.
fn wireless(control: u16, more: &[u8], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0][..], &ethertype.to_be_bytes()].concat();
    [&control.to_le_bytes()[..], &[0; 22], more, &snap, packet].concat()
}

#[test]
fn the_link_types_of_files_lead_to_the_same_segment() {
    let (v4, v6) = (ipv4(&[], 0, None, &tcp(&[], b"x")), ipv6(6, None, &tcp(&[], b"x")));
    let with = |prefix: &[u8], packet: &[u8]| [prefix, packet].concat();
    let (data, qos) = (0x0108, 0x0188);
    let radiotap = |fields: &[u8], present: u32| {
        let len = (8 + fields.len()) as u16;
        [&[0, 0][..], &len.to_le_bytes(), &present.to_le_bytes(), fields].concat()
    };
    let attribute = |order: fn(u16) -> [u8; 2], kind: u16, value: &[u8]| {
        let mut bytes = [order(4 + value.len() as u16), order(kind)].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let nflog = |order: fn(u16) -> [u8; 2], packet: &[u8]| {
        let before = [attribute(order, 1, &[0; 4]), attribute(order, 10, b"prefix\0")].concat();
        [&[2, 0, 0, 5][..], &before, &attribute(order, 9, packet)].concat()
    };
    let ppi = |number: u32, packet: &[u8]| [&[0, 0, 12, 0][..], &number.to_le_bytes(), &[2, 0, 0, 0], packet].concat();
    // 802.11 pads the header to 32 bits where radiotap says so: QoS data has 26 bytes.
    let padded = with(&radiotap(&[0; 8], 1), &wireless(data, &[], 0x800, &v4));
    let with_padding = with(&radiotap(&[0, 0, 0, 0, 0, 0, 0, 0, 0x20], 3), &wireless(qos, &[0, 0, 0, 0], 0x86dd, &v6));
    let label = |bottom: bool| [0, 1, u8::from(bottom), 64];
    let snap = |ethertype: u16| [&[0xaa, 0xaa, 3, 0, 0, 0][..], &ethertype.to_be_bytes()].concat();
    let cases = [
        // A length in place of the ethertype, then LLC and SNAP.
        (LinkType::Ethernet, ethernet(&[49], &with(&snap(0x800), &v4)), ethernet(&[69], &with(&snap(0x86dd), &v6))),
        (LinkType::Wireless, wireless(data, &[], 0x800, &v4), wireless(qos, &[0, 0], 0x86dd, &v6)),
        // Between access points, with four addresses; and with HT control.
        (LinkType::Wireless, wireless(0x0308, &[0; 6], 0x800, &v4), wireless(0x8188, &[0; 6], 0x86dd, &v6)),
        // The first of an aggregate.
        (
            LinkType::Wireless,
            wireless(qos, &[&[0x80, 0][..], &[0; 14]].concat(), 0x800, &v4),
            wireless(data, &[], 0x86dd, &v6),
        ),
        (LinkType::Radiotap, padded, with_padding),
        (
            LinkType::Radiotap,
            with(&radiotap(&[0, 0, 0, 0, 0, 0, 0, 0], 0x8000_0002), &wireless(data, &[], 0x800, &v4)),
            with(&radiotap(&[], 0), &wireless(data, &[], 0x86dd, &v6)),
        ),
        (LinkType::Ppi, ppi(105, &wireless(data, &[], 0x800, &v4)), ppi(1, &ethernet(&[0x86dd], &v6))),
        (LinkType::Nflog, nflog(u16::to_le_bytes, &v4), nflog(u16::to_be_bytes, &v6)),
        (LinkType::CiscoHdlc, with(&[0x0f, 0, 8, 0], &v4), with(&[0x8f, 0, 0x86, 0xdd], &v6)),
        (
            LinkType::CiscoHdlc,
            with(&[0x0f, 0, 0x88, 0x47], &with(&label(true), &v4)),
            with(&[0x0f, 0, 0x88, 0x47], &with(&label(true), &v6)),
        ),
        (
            LinkType::Ethernet,
            ethernet(&[0x8847], &[&label(false)[..], &label(true), &v4].concat()),
            ethernet(&[0x8100, 0x8848], &with(&label(true), &v6)),
        ),
        // A pseudowire: control word, then a frame.
        (
            LinkType::Ethernet,
            ethernet(&[0x8847], &[&label(true)[..], &[0; 4], &ethernet(&[0x8100, 0x800], &v4)].concat()),
            ethernet(&[0x8847], &[&label(true)[..], &[0; 4], &ethernet(&[0x86dd], &v6)].concat()),
        ),
        (
            LinkType::Ppp,
            with(&[0xff, 3, 0x02, 0x81], &with(&label(true), &v4)),
            with(&[0x02, 0x81], &with(&label(true), &v6)),
        ),
    ];
    for (link_type, v4_frame, v6_frame) in cases {
        for (frame, reference) in [(v4_frame, raw(&v4).unwrap()), (v6_frame, raw(&v6).unwrap())] {
            let decoded =
                of_file(link_type, Tunnels::Opened, &frame).unwrap_or_else(|e| panic!("{link_type:?}: {e:?}"));
            assert_eq!((decoded.source, decoded.header, decoded.tunnel), (reference.source, reference.header, None));
        }
    }
}

#[test]
fn mesh_control_is_gone_behind_where_it_is_and_not_taken_for_what_a_number_says() {
    let packet = ipv4(&[], 0, None, &tcp(&[], b"x"));
    let reference = raw(&packet).unwrap();
    let mesh = |addresses: u8| [&[addresses, 31, 1, 0, 0, 0][..], &vec![0; usize::from(addresses) * 6]].concat();
    let four_addresses = |more: &[u8]| [&[0; 6], more].concat();
    for more in [
        four_addresses(&[&[0, 1][..], &mesh(0)].concat()),
        four_addresses(&[&[0, 1][..], &mesh(1)].concat()),
        four_addresses(&[&[0, 1][..], &mesh(2)].concat()),
        // No mesh: how much an access point holds back.
        four_addresses(&[0, 1]),
        // The first of an aggregate.
        four_addresses(&[&[0x80, 1][..], &[0; 14], &mesh(2)].concat()),
    ] {
        let frame = wireless(0x0388, &more, 0x800, &packet);
        let decoded = of_file(LinkType::Wireless, Tunnels::Opened, &frame);
        assert_eq!(decoded.map(|decoded| decoded.header), Ok(reference.header), "{more:?}");
    }
}

#[test]
fn every_packet_of_an_aggregate_of_802_11_is_read() {
    let packet = |payload: &[u8]| ipv4(&[], 0, None, &tcp(&[], payload));
    for (qos, mesh) in [([0x80, 0], &[][..]), ([0x80, 1], &[0, 31, 1, 0, 0, 0][..])] {
        let msdu = |payload: &[u8], is_last: bool| {
            let body = [mesh, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &packet(payload)].concat();
            let mut msdu = [&[0; 12][..], &(body.len() as u16).to_be_bytes(), &body].concat();
            msdu.resize(if is_last { msdu.len() } else { msdu.len().next_multiple_of(4) }, 0);
            msdu
        };
        let payloads: [&[u8]; 3] = [b"x", &[7; 1460], b""];
        let msdus: Vec<Vec<u8>> = (0..3).map(|k| msdu(payloads[k], k == 2)).collect();
        let header = [&0x0388_u16.to_le_bytes()[..], &[0; 28], &qos].concat();
        let frame = [&header[..], &msdus.concat(), &[1, 2, 3, 4]].concat();
        let of = |link_type, bytes: &[u8], wire_len: usize| -> Vec<Result<u32, Skip>> {
            let origin = Origin::File(Tunnels::Opened);
            Msdus::of(Packet { bytes, wire_len: wire_len as u32, link_type, origin })
                .map(|packet| decode(packet).map(|decoded| decoded.header.payload.len()))
                .collect()
        };
        let all = vec![Ok(1), Ok(1460), Ok(0)];
        assert_eq!(of(LinkType::Wireless, &frame, frame.len()), all);
        let radiotap = [&[0, 0, 8, 0, 0, 0, 0, 0][..], &frame].concat();
        assert_eq!(of(LinkType::Radiotap, &radiotap, radiotap.len()), all);
        let ppi = [&[0, 0, 8, 0, 105, 0, 0, 0][..], &frame].concat();
        assert_eq!(of(LinkType::Ppi, &ppi, ppi.len()), all);
        // What was not captured is counted.
        let cut = &frame[..header.len() + msdus[0].len() + 100];
        assert_eq!(
            of(LinkType::Wireless, cut, frame.len()),
            [Ok(1), Ok(1460), Err(Skip::Unparsable(Unparsable::Truncated))]
        );
    }
}

#[test]
fn what_cannot_be_read_of_802_11_is_told_from_what_carries_nothing() {
    let packet = ipv4(&[], 0, None, &tcp(&[], b"x"));
    let of = |control: u16| of_file(LinkType::Wireless, Tunnels::Opened, &wireless(control, &[0, 0], 0x800, &packet));
    assert_eq!(of(0x4188), Err(Skip::Unread(Unread::Encrypted)));
    assert_eq!(of(0x0080), Err(Skip::NotTcp), "a beacon");
    assert_eq!(of(0x01c8), Err(Skip::NotTcp), "no data");
    let damaged = [&[0, 0, 9, 0, 2, 0, 0, 0, 0x40][..], &wireless(0x0188, &[0, 0], 0x800, &packet)].concat();
    assert_eq!(of_file(LinkType::Radiotap, Tunnels::Opened, &damaged), Err(Skip::Unread(Unread::Damaged)));
}

#[test]
fn a_file_that_lost_the_length_on_the_wire_is_not_believed_and_an_interface_is() {
    let whole = ethernet(&[0x800], &ipv4(&[], 0, None, &tcp(&[], &[0; 1000])));
    let whole6 = ethernet(&[0x86dd], &ipv6(6, None, &tcp(&[], &[0; 1000])));
    for (bytes, headers) in [(&whole[..], 54), (&whole6, 74)] {
        let cut = |origin| {
            let (bytes, wire_len) = (&bytes[..headers], headers as u32);
            decode(Packet { bytes, wire_len, link_type: LinkType::Ethernet, origin })
        };
        assert_eq!(cut(Origin::File(Tunnels::Opened)).unwrap().header.payload.len(), 1000);
        assert_eq!(cut(Origin::Live), Err(Skip::Unparsable(Unparsable::Truncated)));
    }
}

/// IPv4 from one of two gateways to the other, of this protocol.
fn outer4(protocol: u8, back: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = ipv4(&[], 0, None, payload);
    bytes[9] = protocol;
    let ends = [[192, 0, 2, 1], [192, 0, 2, 9]];
    bytes[12..16].copy_from_slice(&ends[usize::from(back)]);
    bytes[16..20].copy_from_slice(&ends[usize::from(!back)]);
    bytes
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xc0, 0x01][..], &port.to_be_bytes(), &(8 + payload.len() as u16).to_be_bytes(), &[0, 0], payload].concat()
}

/// Every tunnel, around these packets of IPv4 and IPv6, with what it is called.
fn tunnels(v4: &[u8], v6: &[u8], back: bool) -> Vec<(&'static str, Option<u32>, Vec<u8>)> {
    let (frame4, frame6) = (ethernet(&[0x800], v4), ethernet(&[0x8100, 0x86dd], v6));
    let gre = |flags: u16, protocol: u16, header: &[u8], inner: &[u8]| {
        outer4(47, back, &[&flags.to_be_bytes()[..], &protocol.to_be_bytes(), header, inner].concat())
    };
    let port = |port: u16, header: &[u8], inner: &[u8]| outer4(17, back, &udp(port, &[header, inner].concat()));
    let vxlan = [8, 0, 0, 0, 0, 0, 42, 0];
    let ah = [6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let wide = |next: u8, payload: &[u8]| {
        let mut bytes = ipv6(next, None, payload);
        bytes[8 + 15] = if back { 9 } else { 1 };
        bytes[24 + 15] = if back { 1 } else { 9 };
        bytes
    };
    let erspan2 = [0x10, 0, 0, 7, 0, 0, 0, 0];
    let erspan3 = |last: [u8; 2]| [&[0x20, 0, 0, 7, 0, 0, 0, 0, 0, 0][..], &last].concat();
    vec![
        ("ipip", None, outer4(4, back, v4)),
        ("ipip", None, outer4(41, back, v6)),
        ("ipip", None, wide(4, v4)),
        ("ipip", None, wide(41, v6)),
        ("gre", None, gre(0, 0x800, &[], v4)),
        ("gre", Some(9), gre(0xb000, 0x86dd, &[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1], v6)),
        ("gre", None, gre(0, 0x6558, &[], &frame4)),
        ("gre", Some(9), wide(47, &[&[0x20, 0, 0x65, 0x58, 0, 0, 0, 9][..], &frame6].concat())),
        ("gre", None, gre(0, 0x8847, &[0, 1, 1, 64], v4)),
        ("erspan", None, gre(0, 0x88be, &[], &frame4)),
        ("erspan", Some(7), gre(0x1000, 0x88be, &[&[0, 0, 0, 1][..], &erspan2].concat(), &frame6)),
        ("erspan", Some(7), gre(0x1000, 0x22eb, &[&[0, 0, 0, 1][..], &erspan3([0, 0])].concat(), &frame4)),
        ("erspan", Some(7), gre(0x1000, 0x22eb, &[&[0, 0, 0, 1][..], &erspan3([0, 1]), &[0; 8]].concat(), &frame4)),
        ("erspan", Some(7), gre(0x1000, 0x22eb, &[&[0, 0, 0, 1][..], &erspan3([8, 0])].concat(), v4)),
        ("vxlan", Some(42), port(4789, &vxlan, &frame4)),
        ("vxlan", Some(42), port(8472, &vxlan, &frame6)),
        ("vxlan", Some(42), wide(17, &udp(4789, &[&vxlan[..], &frame4].concat()))),
        ("vxlan", Some(42), port(4790, &[0x0c, 0, 0, 2, 0, 0, 42, 0], v6)),
        ("vxlan", Some(42), port(4790, &[0x0c, 0, 0, 3, 0, 0, 42, 0], &frame4)),
        ("geneve", Some(42), port(6081, &[0, 0, 0x65, 0x58, 0, 0, 42, 0], &frame4)),
        ("geneve", Some(42), port(6081, &[2, 0, 0x86, 0xdd, 0, 0, 42, 0, 1, 2, 3, 1, 0, 0, 0, 0], v6)),
        ("gtp", None, port(2152, &[0x30, 255, 0, 0, 0, 0, 0, u8::from(back)], v4)),
        ("gtp", None, port(2152, &[0x36, 255, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0x85, 1, 0, 9, 0], v6)),
        ("none", None, outer4(51, back, &[&ah[..], &tcp(&[], b"x")].concat())),
    ]
}

#[test]
fn tcp_is_found_inside_every_tunnel_and_both_directions_are_of_the_same() {
    let (v4, v6) = (ipv4(&[], 0, None, &tcp(&[], b"x")), ipv6(6, None, &tcp(&[], b"x")));
    let reference = raw(&v4).unwrap();
    for ((name, id, there), (.., back)) in tunnels(&v4, &v6, false).into_iter().zip(tunnels(&v4, &v6, true)) {
        let frame = |packet: &[u8]| ethernet(&[if packet[0] >> 4 == 6 { 0x86dd } else { 0x800 }], packet);
        let decoded = of_file(LinkType::Ethernet, Tunnels::Opened, &frame(&there));
        let decoded = decoded.unwrap_or_else(|skip| panic!("{name}: {skip:?}"));
        let inner = decoded.header;
        assert_eq!((inner.seq, inner.payload.len(), inner.local_port), (7, 1, 0), "{name}");
        let Some(tunnel) = decoded.tunnel else {
            assert_eq!(name, "none");
            continue;
        };
        assert_eq!((tunnel.kind.name(), tunnel.id), (name, id));
        assert!(decoded.source == reference.source || inner.bits.any(Bits::IPV6), "{name}: the inner addresses");
        let back = of_file(LinkType::Ethernet, Tunnels::Opened, &frame(&back)).unwrap();
        assert_eq!(back.tunnel, Some(tunnel), "{name}: the way back is through the same tunnel");
        // What is on an interface, and what nobody wants to look into, is counted.
        for closed in
            [of_file(LinkType::Ethernet, Tunnels::Closed, &frame(&there)), as_type(LinkType::Ethernet, &frame(&there))]
        {
            assert_eq!(closed, Err(Skip::Encapsulated), "{name}");
        }
        // However it is cut, and whatever its lengths say.
        for len in 0..frame(&there).len() {
            let _ = of_file(LinkType::Ethernet, Tunnels::Opened, &frame(&there)[..len]);
        }
    }
}

/// Tunnels that are looked into in capture files only, in the same form.
fn tunnels_of_files(v4: &[u8], v6: &[u8], back: bool) -> Vec<(&'static str, Vec<u8>)> {
    let (frame4, frame6) = (ethernet(&[0x800], v4), ethernet(&[0x8100, 0x86dd], v6));
    let concat = |parts: &[&[u8]]| parts.concat();
    let to = |port: u16, header: &[u8], inner: &[u8]| outer4(17, back, &udp(port, &[header, inner].concat()));
    // A client and its server: one of the two ports says what it is.
    let with = |port: u16, header: &[u8], inner: &[u8]| {
        let mut packet = to(port, header, inner);
        if back {
            let (source, destination) = packet[20..24].split_at_mut(2);
            source.swap_with_slice(destination);
        }
        packet
    };
    let label = [0, 1, 1, 64];
    let ppp = |protocol: u8, inner: &[u8]| concat(&[&[0xff, 3, 0, protocol], inner]);
    let nsh = |next: u8| [0, 2, 2, next, 0, 0, 1, 255];
    let ayiya = [4 << 4 | 2, 5 << 4 | 1, 1 << 4 | 1, 41, 0, 0, 0, 1];
    let gpe = |next: u8| [0x0c, 0, 0, next, 0, 0, 42, 0];
    vec![
        ("etherip", outer4(97, back, &concat(&[&[0x30, 0], &frame4]))),
        ("mpls", outer4(137, back, &concat(&[&label, v6]))),
        ("mpls", to(6635, &label, v4)),
        ("gre", to(4754, &[0x20, 0, 0x65, 0x58, 0, 0, 0, 9], &frame6)),
        ("lisp", to(4341, &[0; 8], v4)),
        ("l2tp", with(1701, &[0, 2, 0, 1, 0, u8::from(back)], &ppp(0x21, v4))),
        ("l2tp", with(1701, &[0x4a, 2, 0, 40, 0, 1, 0, 2, 0, 1, 0, 1, 0, 2, 9, 9], &ppp(0x57, v6))),
        (
            "pptp",
            outer4(47, back, &concat(&[&[0x30, 1, 0x88, 0x0b, 0, 40, 0, u8::from(back), 0, 0, 0, 1], &ppp(0x21, v4)])),
        ),
        (
            "pptp",
            outer4(47, back, &concat(&[&[0x30, 0x81, 0x88, 0x0b, 0, 40, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x21], v4])),
        ),
        ("teredo", with(3544, &[], v6)),
        ("teredo", with(3544, &[&[0, 1, 1, 2, 7, 8, 9][..], &[0; 9], &[0; 8]].concat(), v6)),
        ("ayiya", with(5072, &[&ayiya[..], &[0; 16 + 20]].concat(), v6)),
        ("tzsp", to(37008, &[1, 0, 0, 1, 10, 1, 60, 0, 1], &frame4)),
        ("vxlan", to(4790, &[&gpe(4)[..], &nsh(1)].concat(), v4)),
        ("vxlan", to(4790, &[&gpe(4)[..], &nsh(3)].concat(), &frame6)),
        ("vxlan", to(4790, &[&gpe(5)[..], &label].concat(), v6)),
    ]
}

#[test]
fn tunnels_of_files_are_counted_where_they_are_closed_and_are_nothing_on_an_interface() {
    let (v4, v6) = (ipv4(&[], 0, None, &tcp(&[], b"x")), ipv6(6, None, &tcp(&[], b"x")));
    let all = tunnels_of_files(&v4, &v6, false).into_iter().zip(tunnels_of_files(&v4, &v6, true));
    for ((name, there), (_, back)) in all {
        let [there, back] = [there, back].map(|packet| ethernet(&[0x800], &packet));
        let opened = |frame: &[u8]| {
            let decoded = of_file(LinkType::Ethernet, Tunnels::Opened, frame);
            decoded.unwrap_or_else(|skip| panic!("{name}: {skip:?}"))
        };
        let (decoded, tunnel) = (opened(&there), opened(&there).tunnel.unwrap());
        assert_eq!((decoded.header.seq, decoded.header.payload.len(), tunnel.kind.name()), (7, 1, name));
        assert_eq!(opened(&back).tunnel, Some(tunnel), "{name}: the way back is through the same tunnel");
        assert_eq!(of_file(LinkType::Ethernet, Tunnels::Closed, &there), Err(Skip::Encapsulated), "{name}");
        let live = if name == "vxlan" || name == "pptp" { Skip::Encapsulated } else { Skip::NotTcp };
        assert_eq!(as_type(LinkType::Ethernet, &there), Err(live), "{name}");
        for len in 0..there.len() {
            let _ = of_file(LinkType::Ethernet, Tunnels::Opened, &there[..len]);
        }
    }
}

#[test]
fn headers_of_the_link_layer_that_only_files_have_lead_to_the_same_segment() {
    let (v4, v6) = (ipv4(&[], 0, None, &tcp(&[], b"x")), ipv6(6, None, &tcp(&[], b"x")));
    let customer = ethernet(&[0x8100, 0x86dd], &v6);
    let label = [0, 1, 1, 64];
    let [mac, other] = [0x02, 0x12].map(|first| [first, 0x14, 0, 0, 0, 1, 0x12, 0, 0, 0, 0, 2]);
    for (name, frame) in [
        ("802.1ah", ethernet(&[0x88a8, 0x88e7], &[&[0, 0, 0, 9][..], &customer].concat())),
        ("NSH", ethernet(&[0x894f], &[&[0, 6, 1, 1][..], &[0; 20], &v4].concat())),
        ("HSR", ethernet(&[0x892f], &[&[0, 52, 0, 1, 8, 0][..], &v4].concat())),
        ("802.1BR", ethernet(&[0x893f], &[&[0, 0, 0, 1, 0, 0, 0x86, 0xdd][..], &v6].concat())),
        ("VN-Tag", ethernet(&[0x8926], &[&[0, 0, 0, 1, 8, 0][..], &v4].concat())),
        ("MACsec", ethernet(&[0x88e5], &[&[0, 0, 0, 0, 0, 1, 8, 0][..], &v4].concat())),
        ("MACsec", ethernet(&[0x88e5], &[&[0x20, 0, 0, 0, 0, 1][..], &[0; 8], &[8, 0], &v4].concat())),
        ("a pseudowire without control word", ethernet(&[0x8847], &[&label[..], &mac, &[8, 0], &v4].concat())),
        ("a pseudowire without control word", ethernet(&[0x8847], &[&label[..], &other, &[0x86, 0xdd], &v6].concat())),
        ("802.1H", ethernet(&[49], &[&[0xaa, 0xaa, 3, 0, 0, 0xf8, 8, 0][..], &v4].concat())),
    ] {
        let decoded = of_file(LinkType::Ethernet, Tunnels::Opened, &frame);
        let decoded = decoded.unwrap_or_else(|skip| panic!("{name}: {skip:?}"));
        assert_eq!((decoded.header.seq, decoded.header.payload.len(), decoded.tunnel), (7, 1, None), "{name}");
        let closed = matches!(name, "802.1ah" | "NSH" | "a pseudowire without control word");
        let other = of_file(LinkType::Ethernet, Tunnels::Closed, &frame);
        assert_eq!(other.err(), closed.then_some(Skip::Encapsulated), "{name}");
    }
    // A cooked header says that LLC follows.
    let sll = [&[0, 4, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &v4].concat();
    assert!(of_file(LinkType::Sll, Tunnels::Opened, &sll).is_ok());
}

#[test]
fn what_is_not_looked_into_is_told_from_what_carries_nothing() {
    let ppp = |protocol: [u8; 2]| ethernet(&[0x8864], &[&[0x11, 0, 0, 1, 0, 9][..], &protocol, &[0; 30]].concat());
    let in_ip = |protocol: u8| ethernet(&[0x800], &outer4(protocol, false, &[1; 40]));
    let in_udp = |port: u16, first: u8| ethernet(&[0x800], &outer4(17, false, &udp(port, &[first; 40])));
    for (frame, expected) in [
        (in_ip(50), Some(Unread::Esp)),
        (ethernet(&[0x86dd], &ipv6(50, None, &[1; 40])), Some(Unread::Esp)),
        (in_udp(4500, 1), Some(Unread::Esp)),
        (in_udp(4500, 0), None),
        (in_ip(108), Some(Unread::IpComp)),
        (in_ip(115), Some(Unread::L2tpV3)),
        (ethernet(&[0x800], &outer4(17, false, &udp(1701, &[0, 3, 0, 0, 0, 0, 0, 1]))), Some(Unread::L2tpV3)),
        (ethernet(&[0x800], &outer4(17, false, &udp(1701, &[0xc8, 2, 0, 12, 0, 1, 0, 0, 0, 0, 0, 0]))), None),
        (in_udp(6636, 1), Some(Unread::Dtls)),
        (in_udp(5247, 1), Some(Unread::Capwap)),
        (ethernet(&[0x800], &outer4(47, false, &[0x40, 0, 8, 0, 0, 0, 0, 0])), Some(Unread::Gre)),
        (ethernet(&[0x800], &outer4(17, false, &udp(4790, &[0x0c, 0, 0, 9, 0, 0, 42, 0]))), Some(Unread::Payload)),
        (ethernet(&[0x88e5], &[0x2c; 40]), Some(Unread::MacSec)),
        (ethernet(&[0x22f3], &[0; 40]), Some(Unread::Trill)),
        (ethernet(&[0x8909], &[0; 40]), Some(Unread::CiscoMetaData)),
        (ethernet(&[0x4305], &[0; 40]), Some(Unread::Batman)),
        (ethernet(&[0x8847], &[&[0, 1, 1, 64][..], &[0x22; 40]].concat()), Some(Unread::Payload)),
        (ppp([0, 0xfd]), Some(Unread::Ppp)),
        (ppp([0x80, 0x21]), None),
        (ethernet(&[0x0806], &[0; 28]), None),
        (ethernet(&[0x88cc], &[0; 28]), None),
    ] {
        let expected = expected.map_or(Skip::NotTcp, Skip::Unread);
        assert_eq!(of_file(LinkType::Ethernet, Tunnels::Opened, &frame), Err(expected), "{frame:x?}");
        assert!(!matches!(as_type(LinkType::Ethernet, &frame), Err(Skip::Unread(_))), "{frame:x?}");
    }
}

#[test]
fn headers_within_headers_end_at_a_bound_and_not_with_the_stack() {
    let customers = [&[0, 0, 0, 9][..], &[0; 12], &[0x88, 0xe7]].concat();
    let wires = [&[0, 1, 1, 64][..], &[0; 4], &[0; 12], &[0x81, 0, 0, 1, 0x88, 0x47]].concat();
    let chains = [0, 2, 2, 4, 0, 0, 1, 255];
    for (ethertype, header) in [(0x88e7, &customers[..]), (0x8847, &wires), (0x894f, &chains)] {
        let frame = ethernet(&[ethertype], &header.repeat(100_000));
        let too_deep = Err(Skip::Unparsable(Unparsable::TooDeep));
        assert_eq!(of_file(LinkType::Ethernet, Tunnels::Opened, &frame), too_deep, "{ethertype:x}");
    }
}

#[test]
fn tunnels_are_told_apart_by_kind_number_ends_and_what_is_around_them_and_nest_to_a_bound() {
    let v4 = ipv4(&[], 0, None, &tcp(&[], b"x"));
    let vni = |vni: u8, inner: &[u8]| {
        outer4(17, false, &udp(4789, &[&[8, 0, 0, 0, 0, 0, vni, 0][..], &ethernet(&[0x800], inner)].concat()))
    };
    let of = |packet: &[u8]| of_file(LinkType::Raw, Tunnels::Opened, packet).map(|decoded| decoded.tunnel.unwrap());
    let (one, two) = (of(&vni(1, &v4)).unwrap(), of(&vni(2, &v4)).unwrap());
    assert_ne!(one, two);
    let (inside_two, inside_one) = (of(&vni(2, &vni(1, &v4))).unwrap(), of(&vni(1, &vni(1, &v4))).unwrap());
    assert!(inside_two.id == Some(1) && inside_two != one && inside_two != inside_one);
    let nested = |count: usize| (0..count).fold(v4.clone(), |inner, _| outer4(4, false, &inner));
    assert!(of(&nested(8)).is_ok());
    assert_eq!(of(&nested(9)), Err(Skip::Unparsable(Unparsable::TooDeep)));
    let mut fragment = vni(1, &v4);
    fragment[6..8].copy_from_slice(&[0, 10]);
    assert_eq!(of(&fragment), Err(Skip::NotTcp), "of a later fragment nothing is known");
    let other_port = outer4(17, false, &udp(53, &[0; 40]));
    assert_eq!(of(&other_port), Err(Skip::NotTcp));
    let udp_inside = vni(1, &outer4(17, false, &udp(53, &[0; 40])));
    assert_eq!(of(&udp_inside), Err(Skip::NotTcp));
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
    assert_eq!(raw(&nested(8)).unwrap().header.payload.len(), 3);
    assert_eq!(raw(&nested(9)), Err(Skip::Unparsable(Unparsable::TooDeep)));
}

#[test]
fn ip_options_big_tcp_and_fragments_are_told_apart() {
    let segment = tcp(&[], b"abc");
    assert_eq!(raw(&ipv4(&[1; 8], 0, None, &segment)).unwrap().header.payload.len(), 3);
    assert_eq!(raw(&ipv4(&[], 0, Some(0), &segment)).unwrap().header.payload.len(), 3);
    assert_eq!(raw(&ipv6(6, Some(0), &segment)).unwrap().header.payload.len(), 3);
    assert!(raw(&ipv4(&[], 0x2000, None, &segment)).is_ok(), "the first fragment has the header");
    assert_eq!(raw(&ipv4(&[], 0x2001, None, &segment)), Err(Skip::Fragment));
    let later = [&[6, 0, 0, 8, 0, 0, 0, 1][..], &segment].concat();
    assert_eq!(raw(&ipv6(44, None, &later)), Err(Skip::Fragment));
    let authenticated = [&[6, 4, 0, 0][..], &[0; 20], &segment].concat();
    assert_eq!(raw(&ipv6(51, None, &authenticated)).unwrap().header.payload.len(), 3);
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
        assert_eq!((decoded.header.bits.0, decoded.header.payload.len()), (Bits::SACK_PERMITTED, 1));
    }
    let short = raw(&ipv4(&[], 0, None, &tcp(&[8, 2, 1, 1], b""))).unwrap();
    assert_eq!((short.bad_option, short.header.bits.0), (false, 0), "the original crashed on this one");
    let whole = ipv4(&[], 0, None, &tcp(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], b""));
    let cut = decode(Packet {
        bytes: &whole[..45],
        wire_len: whole.len() as u32,
        link_type: LinkType::Raw,
        origin: Origin::Live,
    })
    .unwrap();
    assert_eq!((cut.bad_option, cut.header.bits.0), (false, 0), "a short capture is no fault of the sender's");
}

#[test]
fn malformed_headers_are_counted_by_cause() {
    let good = ipv4(&[], 0, None, &tcp(&[], b""));
    let mut counters = SourceCounters::default();
    let mut count = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        decode_counted(
            Packet { bytes: &bytes, wire_len: bytes.len() as u32, link_type: LinkType::Raw, origin: Origin::Live },
            &mut counters,
        );
    };
    count(&|bytes| bytes.truncate(39));
    count(&|bytes| bytes.truncate(10));
    count(&|bytes| bytes[0] = 0x44);
    count(&|bytes| bytes[32] = 0x40);
    count(&|bytes| bytes[32] = 0x60);
    count(&|bytes| bytes[9] = 17);
    assert_eq!(counters.packets.seen, 6);
    assert_eq!(counters.packets.unparsable, [2, 1, 2, 0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), wire_len: u32, number in 0i32..300) {
        if let Some(link_type) = LinkType::from_number(number) {
            for origin in [Origin::Live, Origin::File(Tunnels::Opened)] {
                let _ = decode(Packet { bytes: &bytes, wire_len, link_type, origin });
            }
        }
    }

    #[test]
    fn no_change_to_a_tunnels_packet_makes_it_panic(
        kind in any::<prop::sample::Index>(), changes in prop::collection::vec((0usize..60, any::<u8>()), 0..6),
    ) {
        let segment = tcp(&[], b"x");
        let (v4, v6) = (ipv4(&[], 0, None, &segment), ipv6(6, None, &segment));
        let of_files = tunnels_of_files(&v4, &v6, false).into_iter().map(|(_, packet)| packet);
        let all: Vec<Vec<u8>> =
            tunnels(&v4, &v6, false).into_iter().map(|(.., packet)| packet).chain(of_files).collect();
        let mut bytes = kind.get(&all).clone();
        for (place, value) in changes {
            let len = bytes.len();
            bytes[place % len] = value;
        }
        if let Ok(decoded) = of_file(LinkType::Raw, Tunnels::Opened, &bytes) {
            prop_assert!(decoded.header.payload.len() < 1 << 16);
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
        let packet = Packet { bytes: &bytes, wire_len, link_type: LinkType::Raw, origin: Origin::Live };
        if let Ok(decoded) = decode(packet) {
            prop_assert!(decoded.header.payload.len() <= wire_len);
        }
    }
}

#[test]
fn a_syn_says_which_mss_is_announced() {
    let syn = |options: &[u8]| {
        let mut segment = tcp(options, b"");
        segment[13] = TcpFlags::SYN;
        segment
    };
    let (usual, none) = (syn(&[1, 1, 1, 1, 2, 4, 0x05, 0xb4]), syn(&[]));
    let v4 = |segment: &[u8]| raw(&ipv4(&[], 0, None, segment)).unwrap();
    let v6 = |segment: &[u8]| raw(&ipv6(6, None, segment)).unwrap();
    assert_eq!([v4(&usual), v6(&usual)].map(|decoded| (decoded.mss, decoded.options_len)), [(Some(1_460), 8); 2]);
    assert_eq!([v4(&none), v6(&none), v4(&syn(&[2, 4, 0, 0]))].map(|decoded| decoded.mss), [536, 1_220, 536].map(Some));
    // It means nothing in another segment.
    assert_eq!(v4(&tcp(&[2, 4, 0x05, 0xb4], b"x")).mss, None);
    let packet = ipv4(&[], 0, None, &usual);
    let (bytes, wire_len) = (&packet[..packet.len() - 4], packet.len() as u32);
    let cut = Packet { bytes, wire_len, link_type: LinkType::Raw, origin: Origin::Live };
    assert_eq!(decode(cut).unwrap().mss, None);
}
