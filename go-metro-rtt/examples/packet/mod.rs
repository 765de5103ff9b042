//! What the engine needs of a packet, read with etherparse.

use etherparse::{LaxNetSlice, LaxSlicedPacket, TcpOptionElement, TransportSlice};
use go_metro_rtt::{Addr, Bits, Endpoint, Payload, SegmentHeader, TcpFlags};

/// A TCP segment: who sent it to whom, and all of its header but what only the point of capture knows.
pub struct Packet {
    pub from: Endpoint,
    pub to: Endpoint,
    pub header: SegmentHeader,
}

/// The TCP segment in a packet, if there is one.
pub fn read(packet: &LaxSlicedPacket<'_>) -> Option<Packet> {
    // Lengths are those of the headers: of the payload not all need have been captured.
    let (from, to, ip_payload_len) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let ip = ip.header();
            (Addr::v4(ip.source()), Addr::v4(ip.destination()), usize::from(ip.payload_len().ok()?))
        }
        LaxNetSlice::Ipv6(ip) => {
            let len = usize::from(ip.header().payload_length()).checked_sub(ip.extensions().slice().len())?;
            (Addr::v6(ip.header().source()), Addr::v6(ip.header().destination()), len)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return None };
    let mut header = SegmentHeader {
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        payload: Payload::new(u32::try_from(ip_payload_len.checked_sub(tcp.header_slice().len())?).ok()?),
        window: tcp.window_size(),
        // The control bits, as they are on the wire.
        flags: TcpFlags(tcp.slice()[13]),
        ..SegmentHeader::default()
    };
    let mut bits = 0;
    for option in tcp.options_iterator().map_while(Result::ok) {
        match option {
            TcpOptionElement::Timestamp(tsval, tsecr) => {
                (header.tsval, header.tsecr) = (tsval, tsecr);
                bits |= Bits::TIMESTAMPS;
            }
            TcpOptionElement::SelectiveAcknowledgementPermitted => bits |= Bits::SACK_PERMITTED,
            TcpOptionElement::SelectiveAcknowledgement(first, others) => {
                let is_above = |block: &(u32, u32)| block.0.wrapping_sub(header.ack) as i32 > 0;
                bits |= if is_above(&first) { 0 } else { Bits::DSACK };
                let blocks = [Some(first)].into_iter().chain(others).flatten();
                bits |= if blocks.into_iter().any(|block| is_above(&block)) { Bits::SACK_ABOVE } else { 0 };
            }
            _ => {}
        }
    }
    header.bits = Bits(bits);
    let from = Endpoint { addr: from, port: tcp.source_port() };
    let to = Endpoint { addr: to, port: tcp.destination_port() };
    Some(Packet { from, to, header })
}
