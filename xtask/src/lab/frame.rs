//! The little that the forwarder must know of a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::impairment::{Way, What};

/// Size of `struct virtio_net_hdr`, include/uapi/linux/virtio_net.h.
pub(super) const VNET_HEADER: usize = 10;
/// Offset of `csum_start` in it.
const CSUM_START: usize = 6;
/// Offset of `hdr_len` in it.
const HDR_LEN: usize = 2;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM` in its `flags`.
const NEEDS_CSUM: u8 = 1;
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

/// Looks into a frame (without its virtio header); none if it is not IP.
pub(super) fn content(frame: &[u8], framing: Framing, way: Way) -> Option<Content> {
    let mut rest = frame;
    if framing == Framing::Ethernet {
        let mut at = ADDRESSES;
        loop {
            let kind = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
            match kind {
                0x8100 | 0x88a8 => at += TAG,
                0x0800 | 0x86dd => break,
                _ => return None,
            }
        }
        rest = frame.get(at + 2..)?;
    }
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
