//! The headers of a packet, made of a segment record: IP and TCP, as the sender's would be as far as the record tells.
//!
//! Made up are: TTL, no identification, the window's scale in a SYN, where a SACK block lies, and a payload of zeros
//! for the checksum.

use bytes::BufMut as _;
use go_metro_common::headers::option::{NOP, SACK, SACK_PERMITTED, TIMESTAMPS};
use go_metro_common::headers::protocol::{HOP_BY_HOP, TCP};
use go_metro_common::headers::tcp::HEADER_LEN;
use go_metro_common::segment::{Bits, SegmentHeader, TcpFlags};
use go_metro_rtt::{Endpoint, Segment, Side};

/// The longest: IPv6 with a jumbo payload option, and TCP with as many options as it can have.
pub(super) const LONGEST: usize = 48 + 60;

const TTL: u8 = 64;
/// Don't fragment (RFC 791 section 3.1): a packet without an identification that tells it apart (RFC 6864 section 4.1).
const DONT_FRAGMENT: u16 = 0x4000;
/// The jumbo payload option (RFC 2675 section 2).
const JUMBO_PAYLOAD: u8 = 0xc2;
/// The window scale option, and the largest scale (RFC 7323 section 2.2). The record has none, and without one a
/// reader takes a window for as small as its field.
const WINDOW_SCALE: u8 = 3;
pub(super) const SCALE: u8 = 14;

/// Sender and receiver.
pub(super) fn ends(segment: &Segment) -> [Endpoint; 2] {
    let ends = [segment.flow.local, segment.flow.remote];
    if is_sent(segment) { ends } else { [ends[1], ends[0]] }
}

/// Whether the local end has sent it: to the local side it is the remote end that sends what is timed.
pub(super) fn is_sent(segment: &Segment) -> bool {
    segment.header.bits.any(Bits::EGRESS) != (segment.flow.side == Side::Local)
}

/// Appends them to `into`; how long the packet was on the wire.
pub(super) fn write(segment: &Segment, into: &mut Vec<u8>) -> u32 {
    let header = &segment.header;
    let [source, destination] = ends(segment);
    let options = options(header);
    let tcp_len = HEADER_LEN + options.len() as u32;
    let segment_len = tcp_len + header.payload.len();
    let octets = |end: Endpoint| end.addr.bits().to_be_bytes();
    let start = into.len();
    if header.bits.any(Bits::IPV6) {
        // BIG TCP's (RFC 2675).
        let jumbo = u16::try_from(segment_len).is_err();
        into.put_u32(6 << 28);
        into.put_u16(if jumbo { 0 } else { segment_len as u16 });
        into.put_u8(if jumbo { HOP_BY_HOP } else { TCP });
        into.put_u8(TTL);
        into.put_slice(&octets(source));
        into.put_slice(&octets(destination));
        if jumbo {
            into.put_slice(&[TCP, 0, JUMBO_PAYLOAD, 4]);
            into.put_u32(8 + segment_len);
        }
    } else {
        let total_len = 20 + segment_len;
        into.put_slice(&[0x45, 0]);
        // BIG TCP's is 0.
        into.put_u16(u16::try_from(total_len).unwrap_or(0));
        into.put_u16(0);
        into.put_u16(DONT_FRAGMENT);
        into.put_slice(&[TTL, TCP, 0, 0]);
        into.put_slice(&octets(source)[12..]);
        into.put_slice(&octets(destination)[12..]);
        let sum = checksum(&into[start..], 0);
        into[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    }
    let tcp = into.len();
    into.put_u16(source.port);
    into.put_u16(destination.port);
    into.put_u32(header.seq);
    into.put_u32(header.ack);
    into.put_u8((tcp_len / 4) as u8 * 16);
    into.put_u8(header.flags.0);
    into.put_u16(header.window);
    into.put_u32(0);
    into.put_slice(&options);
    // The pseudo header (RFC 9293 section 3.1); zeros add nothing, and those in front of an IPv4 address neither.
    let addresses = [octets(source), octets(destination)].map(|mut octets| {
        if !header.bits.any(Bits::IPV6) {
            octets[..12].fill(0);
        }
        sum_of(&octets)
    });
    let pseudo = addresses[0] + addresses[1] + u64::from(TCP) + u64::from(segment_len);
    let sum = checksum(&into[tcp..], pseudo);
    into[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    (tcp - start) as u32 + segment_len
}

/// The options that are known of the segment: a multiple of four bytes, 40 at most.
fn options(header: &SegmentHeader) -> Vec<u8> {
    let mut options = Vec::with_capacity(40);
    if header.flags.any(TcpFlags::SYN) {
        options.put_slice(&[NOP, WINDOW_SCALE, 3, SCALE]);
    }
    if header.bits.any(Bits::SACK_PERMITTED) {
        options.put_slice(&[NOP, NOP, SACK_PERMITTED, 2]);
    }
    if header.bits.any(Bits::TIMESTAMPS) {
        options.put_slice(&[NOP, NOP, TIMESTAMPS, 10]);
        options.put_u32(header.tsval);
        options.put_u32(header.tsecr);
    }
    let below = header.bits.any(Bits::DSACK).then(|| (header.ack.wrapping_sub(1), header.ack));
    let above = (header.bits.any(Bits::SACK_ABOVE)).then(|| (header.ack.wrapping_add(1), header.ack.wrapping_add(2)));
    // A D-SACK is the first (RFC 2883 section 4).
    let blocks: Vec<(u32, u32)> = below.into_iter().chain(above).collect();
    if !blocks.is_empty() {
        options.put_slice(&[NOP, NOP, SACK, 2 + 8 * blocks.len() as u8]);
        for (begins, ends) in blocks {
            options.put_u32(begins);
            options.put_u32(ends);
        }
    }
    options
}

/// The sum of 16-bit words, the last filled up with a zero (RFC 1071 section 1).
fn sum_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let last = rest.first().map(|byte| [*byte, 0]);
    words.iter().copied().chain(last).map(|word: [u8; 2]| u64::from(u16::from_be_bytes(word))).sum()
}

/// The Internet checksum of these bytes, and of others whose sum is known.
fn checksum(bytes: &[u8], others: u64) -> u16 {
    let mut sum = sum_of(bytes) + others;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
