//! The little that the forwarder must know of a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::impairment::{Way, What};

/// Size of `struct virtio_net_hdr`, include/uapi/linux/virtio_net.h.
pub(super) const VNET_HEADER: usize = 10;
/// Offset of `csum_start` in it.
const CSUM_START: usize = 6;
/// Offset of `hdr_len` in it.
const HDR_LEN: usize = 2;
/// Offsets of `gso_type` and `gso_size` in it.
const GSO_TYPE: usize = 1;
const GSO_SIZE: usize = 4;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM` in its `flags`.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4`, `_TCPV6` and `_ECN`.
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;
/// Control bits of TCP that only one of a super-segment's parts has (RFC 9293 section 3.1).
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;
/// Two Ethernet addresses; an 802.1Q tag goes behind them.
const ADDRESSES: usize = 12;
/// Bytes of an 802.1Q tag.
pub(super) const TAG: usize = 4;

/// Whether frames have an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Ethernet,
    Ip,
}

/// Puts a tag that the kernel had taken off back into `buffer`: virtio header, then frame.
pub(super) fn insert_tag(buffer: &mut Vec<u8>, protocol: u16, control: u16) {
    let at = VNET_HEADER + ADDRESSES;
    if buffer.len() < at {
        return;
    }
    let [p0, p1] = protocol.to_be_bytes();
    let [c0, c1] = control.to_be_bytes();
    buffer.splice(at..at, [p0, p1, c0, c1]);
    // These count from the start of the frame, which has grown. The kernel writes them in the host's byte order.
    let shift = |buffer: &mut Vec<u8>, at: usize| {
        let value = u16::from_ne_bytes([buffer[at], buffer[at + 1]]);
        if value > 0 {
            buffer[at..at + 2].copy_from_slice(&(value + TAG as u16).to_ne_bytes());
        }
    };
    shift(buffer, HDR_LEN);
    if buffer[0] & NEEDS_CSUM != 0 {
        shift(buffer, CSUM_START);
    }
}

/// What decides a frame's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The address of host b's side.
    pub(super) far: IpAddr,
    /// Whether it is TCP or UDP.
    pub(super) is_transport: bool,
    /// What kind of TCP segment it is.
    pub(super) segment: Option<What>,
}

/// Where the IP header of a frame (without its virtio header) begins; none if it has none.
fn network(frame: &[u8], framing: Framing) -> Option<usize> {
    if framing == Framing::Ip {
        return Some(0);
    }
    let mut at = ADDRESSES;
    loop {
        match u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]) {
            0x8100 | 0x88a8 => at += TAG,
            0x0800 | 0x86dd => return Some(at + 2),
            _ => return None,
        }
    }
}

/// The segments that a network card would put on the wire for this buffer, virtio header and super-segment; none if it
/// is no super-segment of TCP whose checksum is left to the device.
pub(super) fn wire_segments(buffer: &[u8], framing: Framing) -> Option<Vec<Vec<u8>>> {
    let native = |at: usize| Some(u16::from_ne_bytes(buffer.get(at..at + 2)?.try_into().ok()?));
    let (size, tcp) = (usize::from(native(GSO_SIZE)?), usize::from(native(CSUM_START)?));
    let is_tcp = matches!(buffer[GSO_TYPE] & !GSO_ECN, GSO_TCPV4 | GSO_TCPV6);
    if !is_tcp || size == 0 || buffer[0] & NEEDS_CSUM == 0 {
        return None;
    }
    let frame = buffer.get(VNET_HEADER..)?;
    let ip = network(frame, framing)?;
    let payload = tcp + usize::from(frame.get(tcp + 12)? >> 4) * 4;
    let (headers, data) = frame.split_at_checked(payload)?;
    let word = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
    let (seq, id) = (word(tcp + 4)?, u16::from_be_bytes([headers[ip + 4], headers[ip + 5]]));
    let last = data.len().div_ceil(size).saturating_sub(1);
    let segment = |(k, part): (usize, &[u8])| {
        let mut segment = [&buffer[..VNET_HEADER], headers, part].concat();
        // A frame like any other, whose checksum is still left to the device.
        segment[GSO_TYPE] = 0;
        segment[GSO_SIZE..GSO_SIZE + 2].fill(0);
        let frame = &mut segment[VNET_HEADER..];
        frame[tcp + 4..tcp + 8].copy_from_slice(&seq.wrapping_add((k * size) as u32).to_be_bytes());
        if k < last {
            frame[tcp + 13] &= !(FIN | PSH);
        }
        if k > 0 {
            frame[tcp + 13] &= !CWR;
        }
        let length = (frame.len() - ip) as u16;
        let tcp_length = (frame.len() - tcp) as u32;
        let pseudo = if frame[ip] >> 4 == 4 {
            frame[ip + 2..ip + 4].copy_from_slice(&length.to_be_bytes());
            frame[ip + 4..ip + 6].copy_from_slice(&id.wrapping_add(k as u16).to_be_bytes());
            frame[ip + 10..ip + 12].fill(0);
            let check = !fold(sum(&frame[ip..tcp]));
            frame[ip + 10..ip + 12].copy_from_slice(&check.to_be_bytes());
            &frame[ip + 12..ip + 20]
        } else {
            frame[ip + 4..ip + 6].copy_from_slice(&(length - 40).to_be_bytes());
            &frame[ip + 8..ip + 40]
        };
        let partial = fold(sum(pseudo) + 6 + tcp_length);
        frame[tcp + 16..tcp + 18].copy_from_slice(&partial.to_be_bytes());
        segment
    };
    Some(data.chunks(size).enumerate().map(segment).collect())
}

/// Marks a frame (without its virtio header) as a router does whose queue is long (CE, RFC 3168 section 5); whether its
/// sender has said that it understands that.
pub(super) fn mark(frame: &mut [u8], framing: Framing) -> bool {
    let Some(ip) = network(frame, framing).filter(|ip| frame.len() >= ip + 20) else { return false };
    let is_v4 = frame[ip] >> 4 == 4;
    let (field, shift) = (ip + 1, if is_v4 { 0 } else { 4 });
    let is_capable = matches!(frame[field] >> shift & 3, 1 | 2);
    if is_capable {
        frame[field] |= 3 << shift;
    }
    if is_capable && is_v4 {
        let header = ip..ip + usize::from(frame[ip] & 0xf) * 4;
        frame[ip + 10..ip + 12].fill(0);
        let check = !fold(sum(&frame[header]));
        frame[ip + 10..ip + 12].copy_from_slice(&check.to_be_bytes());
    }
    is_capable
}

/// Of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum()
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    (once + (once >> 16)) as u16
}

/// Looks into a frame (without its virtio header); none if it is not IP.
pub(super) fn content(frame: &[u8], framing: Framing, way: Way) -> Option<Content> {
    let rest = frame.get(network(frame, framing)?..)?;
    let (source, destination, protocol, behind): (IpAddr, IpAddr, u8, &[u8]) = match rest.first()? >> 4 {
        4 => {
            let address = |at: usize| <[u8; 4]>::try_from(rest.get(at..at + 4)?).ok().map(Ipv4Addr::from);
            let total = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
            // A total length of 0 is BIG TCP's; else what lies beyond it is padding.
            let packet = if total == 0 { rest } else { rest.get(..total).unwrap_or(rest) };
            let behind = packet.get(usize::from(rest[0] & 0xf) * 4..).unwrap_or_default();
            (address(12)?.into(), address(16)?.into(), *rest.get(9)?, behind)
        }
        6 => {
            let address = |at: usize| <[u8; 16]>::try_from(rest.get(at..at + 16)?).ok().map(Ipv6Addr::from);
            (address(8)?.into(), address(24)?.into(), *rest.get(6)?, rest.get(40..).unwrap_or_default())
        }
        _ => return None,
    };
    let far = match way {
        Way::AToB => destination,
        Way::BToA => source,
    };
    let segment = if protocol == 6 { segment(behind) } else { None };
    Some(Content { far, is_transport: matches!(protocol, 6 | 17), segment })
}

/// What kind of segment a TCP header begins (RFC 9293 section 3.1).
fn segment(bytes: &[u8]) -> Option<What> {
    let (offset, flags) = (usize::from(*bytes.get(12)? >> 4) * 4, *bytes.get(13)?);
    Some(match flags {
        _ if flags & 0x04 != 0 => What::Reset,
        _ if flags & 0x12 == 0x12 => What::SynAck,
        _ if flags & 0x02 != 0 => What::Syn,
        _ if flags & 0x01 != 0 => What::Fin,
        _ if bytes.len() > offset => What::Data,
        _ => What::Ack,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_put_back_moves_the_checksum_with_the_headers() {
        let mut buffer = vec![0; VNET_HEADER + 60];
        buffer[0] = NEEDS_CSUM;
        buffer[CSUM_START..CSUM_START + 2].copy_from_slice(&34_u16.to_ne_bytes());
        buffer[HDR_LEN..HDR_LEN + 2].copy_from_slice(&54_u16.to_ne_bytes());
        buffer[VNET_HEADER + 12] = 0x08;
        insert_tag(&mut buffer, 0x8100, 42);
        assert_eq!(buffer.len(), VNET_HEADER + 64);
        assert_eq!(buffer[VNET_HEADER + 12..VNET_HEADER + 18], [0x81, 0, 0, 42, 0x08, 0]);
        assert_eq!(buffer[CSUM_START..CSUM_START + 2], 38_u16.to_ne_bytes());
        assert_eq!(buffer[HDR_LEN..HDR_LEN + 2], 58_u16.to_ne_bytes());
    }

    /// A super-segment of IPv4 or IPv6 without options, with FIN, PSH, ACK and CWR, of `payload` bytes in parts of
    /// 1000.
    fn super_segment(is_v6: bool, payload: usize) -> Vec<u8> {
        let tcp = 14 + if is_v6 { 40 } else { 20 };
        let mut frame = vec![0; tcp + 20];
        frame[12..14].copy_from_slice(if is_v6 { &[0x86, 0xdd] } else { &[8, 0] });
        if is_v6 {
            frame[14] = 0x60;
            frame[20] = 6;
            frame[22..54].iter_mut().zip(1..).for_each(|(byte, value)| *byte = value);
        } else {
            frame[14] = 0x45;
            frame[18..20].copy_from_slice(&[0xff, 0xff]);
            frame[23] = 6;
            frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        }
        frame[tcp + 4..tcp + 8].copy_from_slice(&(u32::MAX - 999).to_be_bytes());
        frame[tcp + 12] = 0x50;
        frame[tcp + 13] = CWR | 0x10 | PSH | FIN;
        frame.extend((0..payload).map(|k| k as u8));
        let mut buffer = vec![0; VNET_HEADER];
        buffer[0] = NEEDS_CSUM;
        buffer[GSO_TYPE] = if is_v6 { GSO_TCPV6 } else { GSO_TCPV4 };
        buffer[GSO_SIZE..GSO_SIZE + 2].copy_from_slice(&1000_u16.to_ne_bytes());
        buffer[CSUM_START..CSUM_START + 2].copy_from_slice(&(tcp as u16).to_ne_bytes());
        buffer.extend(frame);
        buffer
    }

    #[test]
    fn a_super_segment_is_cut_as_a_network_card_cuts_it() {
        for is_v6 in [false, true] {
            let (ip, tcp) = (VNET_HEADER + 14, VNET_HEADER + 14 + if is_v6 { 40 } else { 20 });
            let parts = wire_segments(&super_segment(is_v6, 2500), Framing::Ethernet).unwrap();
            let payload: Vec<u8> = parts.iter().flat_map(|part| part[tcp + 20..].to_vec()).collect();
            assert_eq!(payload, super_segment(is_v6, 2500)[tcp + 20..]);
            let of = |at: usize, part: &[u8]| u16::from_be_bytes([part[at], part[at + 1]]);
            let seqs: Vec<u32> =
                parts.iter().map(|p| u32::from_be_bytes(p[tcp + 4..tcp + 8].try_into().unwrap())).collect();
            assert_eq!(seqs, [u32::MAX - 999, 0, 1000]);
            let flags: Vec<u8> = parts.iter().map(|part| part[tcp + 13]).collect();
            assert_eq!(flags, [CWR | 0x10, 0x10, 0x10 | PSH | FIN]);
            for (part, length) in parts.iter().zip([1000, 1000, 500]) {
                assert_eq!((part[GSO_TYPE], &part[GSO_SIZE..GSO_SIZE + 2]), (0, &[0, 0][..]));
                if is_v6 {
                    assert_eq!(of(ip + 4, part), 20 + length);
                } else {
                    assert_eq!(of(ip + 2, part), 40 + length);
                    assert_eq!(fold(sum(&part[ip..tcp])), 0xffff, "the header's checksum");
                }
                // The rest of the checksum is the device's work: with it, the sum over pseudo-header and segment is as
                // it must be.
                let addresses = if is_v6 { &part[ip + 8..ip + 40] } else { &part[ip + 12..ip + 20] };
                assert_eq!(of(tcp + 16, part), fold(sum(addresses) + 6 + u32::from(20 + length)));
            }
            let ids: Vec<u16> = parts.iter().map(|part| of(ip + 4, part)).collect();
            assert!(is_v6 || ids == [0xffff, 0, 1], "{ids:?}");
        }
    }

    #[test]
    fn only_what_is_capable_of_it_is_marked() {
        for is_v6 in [false, true] {
            let whole = super_segment(is_v6, 100);
            let frame = |ecn: u8| {
                let mut frame = whole[VNET_HEADER..].to_vec();
                frame[15] |= if is_v6 { ecn << 4 } else { ecn };
                frame
            };
            for (ecn, marked) in [(0, 0), (1, 3), (2, 3), (3, 3)] {
                let mut found = frame(ecn);
                assert_eq!(mark(&mut found, Framing::Ethernet), ecn != marked, "{ecn}");
                assert_eq!(found[15], frame(marked)[15], "{ecn}");
                if !is_v6 && ecn != marked {
                    assert_eq!(fold(sum(&found[14..34])), 0xffff, "the header's checksum");
                }
            }
        }
    }

    #[test]
    fn what_is_no_super_segment_is_left_whole() {
        let mut plain = super_segment(false, 100);
        plain[GSO_TYPE] = 0;
        assert_eq!(wire_segments(&plain, Framing::Ethernet), None);
        let cut_short = &super_segment(false, 100)[..VNET_HEADER + 20];
        assert_eq!(wire_segments(cut_short, Framing::Ethernet), None);
    }

    #[test]
    fn the_far_address_is_found_behind_tags_in_both_directions() {
        let mut frame = vec![0; 14 + 8 + 20];
        frame[12..14].copy_from_slice(&[0x88, 0xa8]);
        frame[16..18].copy_from_slice(&[0x81, 0]);
        frame[20..22].copy_from_slice(&[8, 0]);
        frame[22] = 0x45;
        frame[22 + 9] = 6;
        frame[22 + 12..22 + 20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let far = |way| content(&frame, Framing::Ethernet, way).map(|content| content.far.to_string());
        assert_eq!(far(Way::AToB).as_deref(), Some("10.0.0.2"));
        assert_eq!(far(Way::BToA).as_deref(), Some("10.0.0.1"));
        let content_of = |frame| content(frame, Framing::Ethernet, Way::AToB);
        assert!(content_of(&frame).is_some_and(|content| content.is_transport));
        assert_eq!(content(&frame[..30], Framing::Ethernet, Way::AToB), None);
    }
}
