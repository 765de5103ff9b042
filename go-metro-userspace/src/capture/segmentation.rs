//! How many segments on the wire a captured frame is.
//!
//! A capture on the sender sees super-segments (TSO, GSO) before the network card cuts them, and one on the receiver
//! those that it put together again (GRO). The kernel knows the number of segments (`gso_segs`), but neither libpcap
//! nor a capture file has it. It follows from how long a packet of the connection may be: by the MSS of its SYN and
//! SYN-ACK (RFC 9293 section 3.7.1), which leaves room for options (RFC 6691), and by the MTU of a live interface.
//!
//! A frame costs a comparison; only one that is longer than some connection or interface allows is looked up.

use std::collections::BTreeMap;

use go_metro_common::segment::{Bits, Payload, TcpFlags};

use super::decode::{Decoded, FlowName};

/// Connections in a set: of these, the one that was opened first is replaced.
const WAYS: usize = 4;
/// Room for 65,536 connections: 1 MiB, of which only pages that were written to are resident.
const SETS: usize = 1 << 14;

/// The longest packet of which nothing else is known that is taken for one segment: with this MTU (jumbo frames) most
/// network cards and switches end.
const LONGEST: u32 = 9_216;
/// How long the packets are that a longer one is cut into: Ethernet's MTU.
const ETHERNET: u32 = 1_500;

/// Headers without options: TCP behind IPv4 and IPv6.
const V4_HEADERS: u32 = 40;
const V6_HEADERS: u32 = 60;

/// The smallest MSS that Linux uses, whatever was announced (`TCP_MIN_SND_MSS` of include/net/tcp.h).
const LEAST_MSS: u16 = 48;

/// How long packets may be. Lengths are of IP packets, headers included.
pub(super) struct Segmentation {
    /// Names of connections, the last one that was opened first in its set.
    flows: Box<[[u64; WAYS]]>,
    /// The longest packet by what the end that sends each way has announced; 0 if that is not known.
    longest: Box<[[[u32; 2]; WAYS]]>,
    /// Of live interfaces, by index.
    mtus: BTreeMap<u32, u32>,
    /// The least that any connection has announced.
    least_announced: u32,
    /// No packet up to this length is more than one segment.
    least: u32,
}

impl Segmentation {
    pub(super) fn new() -> Self {
        Self {
            flows: vec![[0; WAYS]; SETS].into_boxed_slice(),
            longest: vec![[[0; 2]; WAYS]; SETS].into_boxed_slice(),
            mtus: BTreeMap::new(),
            least_announced: LONGEST,
            least: LONGEST,
        }
    }

    /// The MTUs of interfaces from now on; 0 is not known.
    pub(super) fn set_mtus(&mut self, mtus: impl Iterator<Item = (u32, u32)>) {
        self.mtus = mtus.filter(|(_, mtu)| *mtu > 0).collect();
        self.least = self.mtus.values().copied().fold(self.least_announced, u32::min);
    }

    /// A segment's payload, with the number of segments that it is on the wire. Each is to be passed, as SYNs are
    /// learned from.
    #[inline]
    pub(super) fn payload(&mut self, decoded: &Decoded, ifindex: Option<u32>) -> Payload {
        let payload = decoded.header.payload;
        if decoded.header.flags.any(TcpFlags::SYN) {
            self.learn(decoded);
            return payload;
        }
        let headers = plain_headers(decoded) + u32::from(decoded.options_len);
        if headers + payload.len() <= self.least {
            return payload;
        }
        self.in_segments(decoded, headers, ifindex)
    }

    /// Notes what a SYN or SYN-ACK announces.
    fn learn(&mut self, decoded: &Decoded) {
        let Some(mss) = decoded.mss else { return };
        let longest = plain_headers(decoded) + u32::from(mss.max(LEAST_MSS));
        let FlowName { flow, way, .. } = decoded.flow_name();
        let set = place(flow);
        let (flows, sizes) = (&mut self.flows[set], &mut self.longest[set]);
        let at = flows.iter().position(|known| *known == flow).unwrap_or_else(|| {
            flows.rotate_right(1);
            sizes.rotate_right(1);
            (flows[0], sizes[0]) = (flow, [0; 2]);
            0
        });
        sizes[at][way] = longest;
        self.least_announced = self.least_announced.min(longest);
        self.least = self.least.min(longest);
    }

    /// The payload of a segment with so many bytes of headers, which may be more than one on the wire.
    fn in_segments(&self, decoded: &Decoded, headers: u32, ifindex: Option<u32>) -> Payload {
        let payload = decoded.header.payload;
        let mtu = ifindex.and_then(|ifindex| self.mtus.get(&ifindex)).copied();
        let longest = match self.announced(decoded).into_iter().chain(mtu).min() {
            Some(longest) => longest,
            None if headers + payload.len() <= LONGEST || is_loopback(decoded) => return payload,
            None => ETHERNET,
        };
        let room = longest.saturating_sub(headers).max(1);
        Payload::in_segments(payload.len(), payload.len().div_ceil(room))
    }

    /// The longest packet by what the ends of a connection have announced. An end sends no more than it announced
    /// itself, as both follow from the same MTU.
    fn announced(&self, decoded: &Decoded) -> Option<u32> {
        let FlowName { flow, .. } = decoded.flow_name();
        let set = place(flow);
        let at = self.flows[set].iter().position(|known| *known == flow)?;
        self.longest[set][at].into_iter().filter(|longest| *longest > 0).min()
    }
}

fn place(flow: u64) -> usize {
    flow as usize % SETS
}

/// Bytes of IP and TCP headers without options.
fn plain_headers(decoded: &Decoded) -> u32 {
    if decoded.header.bits.any(Bits::IPV6) { V6_HEADERS } else { V4_HEADERS }
}

/// Whether both ends are one host, whose packets no network limits.
fn is_loopback(decoded: &Decoded) -> bool {
    let (source, destination) = (decoded.source.addr, decoded.destination.addr);
    source == destination || source.ip().is_loopback()
}

#[cfg(test)]
mod tests {
    use go_metro_common::segment::SegmentHeader;
    use go_metro_rtt::{Addr, Endpoint};

    use super::*;

    const TIMESTAMPS: u8 = 12;

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint { addr: Addr::v4([192, 0, 2, last]), port }
    }

    fn frame(ends: [Endpoint; 2], flags: u8, len: u32) -> Decoded {
        let header = SegmentHeader { flags: TcpFlags(flags), payload: Payload::new(len), ..SegmentHeader::default() };
        Decoded { options_len: TIMESTAMPS, ..Decoded::between(ends, header) }
    }

    fn flow(number: u16) -> [Endpoint; 2] {
        [end(1, number), end(2, 443)]
    }

    fn back([source, destination]: [Endpoint; 2]) -> [Endpoint; 2] {
        [destination, source]
    }

    fn announce(segmentation: &mut Segmentation, ends: [Endpoint; 2], mss: Option<u16>) {
        let syn = Decoded { mss, ..frame(ends, TcpFlags::SYN, 0) };
        assert_eq!(segmentation.payload(&syn, None).segments(), 1);
    }

    fn segments(segmentation: &mut Segmentation, ends: [Endpoint; 2], len: u32) -> u32 {
        let payload = segmentation.payload(&frame(ends, TcpFlags::ACK, len), None);
        assert_eq!(payload.len(), len);
        payload.segments()
    }

    #[test]
    fn the_smaller_mss_less_the_options_says_how_many_segments_a_frame_is() {
        let mut known = Segmentation::new();
        announce(&mut known, flow(1), Some(1_460));
        // Only the end that sends has said something: it sends no more than that.
        assert_eq!([1_448, 1_449, 14_480].map(|len| segments(&mut known, flow(1), len)), [1, 2, 10]);
        announce(&mut known, back(flow(1)), Some(1_372));
        for ends in [flow(1), back(flow(1))] {
            let lens = [1_360, 1_361, 1_448, 13_600, 13_601, 65_000];
            assert_eq!(lens.map(|len| segments(&mut known, ends, len)), [1, 2, 2, 10, 11, 48]);
        }
        // Options of this segment: SACK blocks beside its timestamps, or none.
        for (options_len, expected) in [(36, 11), (0, 10)] {
            let data = Decoded { options_len, ..frame(flow(1), TcpFlags::ACK, 13_601) };
            assert_eq!(known.payload(&data, None).segments(), expected, "{options_len}");
        }
        // Another connection between the same ends, and jumbo frames.
        announce(&mut known, flow(1), Some(8_960));
        announce(&mut known, back(flow(1)), Some(8_960));
        assert_eq!([8_948, 8_949].map(|len| segments(&mut known, flow(1), len)), [1, 2]);
    }

    #[test]
    fn ipv6_has_longer_headers() {
        let mut known = Segmentation::new();
        let v6 = |mut frame: Decoded| {
            frame.header.bits.0 |= Bits::IPV6;
            frame
        };
        known.payload(&v6(Decoded { mss: Some(1_440), ..frame(flow(1), TcpFlags::SYN, 0) }), None);
        for (len, expected) in [(1_428, 1), (1_429, 2), (14_280, 10)] {
            assert_eq!(known.payload(&v6(frame(flow(1), TcpFlags::ACK, len)), None).segments(), expected, "{len}");
        }
        // Not announced, and longer than any packet.
        assert_eq!(known.payload(&v6(frame(flow(2), TcpFlags::ACK, 14_280)), None).segments(), 10);
    }

    #[test]
    fn without_a_syn_a_frame_is_one_segment_unless_no_link_carries_it() {
        let mut known = Segmentation::new();
        announce(&mut known, flow(2), None);
        let lens = [1_448, 2_896, LONGEST - 52, LONGEST - 51, 14_480];
        assert_eq!(lens.map(|len| segments(&mut known, flow(1), len)), [1, 1, 1, 7, 10]);
        // Another connection that is known changes nothing.
        announce(&mut known, flow(3), Some(536));
        assert_eq!(lens.map(|len| segments(&mut known, flow(1), len)), [1, 1, 1, 7, 10]);
        // A host that talks to itself.
        assert_eq!(segments(&mut known, [end(1, 1), end(1, 2)], 60_000), 1);
    }

    #[test]
    fn on_a_live_interface_its_mtu_limits_a_packet_as_well() {
        let mut known = Segmentation::new();
        known.set_mtus([(2, 1_500), (3, 65_536), (4, 0)].into_iter());
        let on = |known: &mut Segmentation, ifindex, number, len| {
            known.payload(&frame(flow(number), TcpFlags::ACK, len), Some(ifindex)).segments()
        };
        assert_eq!([1_448, 1_449, 14_480].map(|len| on(&mut known, 2, 1, len)), [1, 2, 10]);
        assert_eq!([3, 4, 5].map(|ifindex| on(&mut known, ifindex, 1, 9_000)), [1; 3]);
        // The connection's packets may be shorter than the interface allows, and longer.
        announce(&mut known, flow(1), Some(1_012));
        announce(&mut known, flow(2), Some(8_960));
        assert_eq!([1, 2].map(|number| on(&mut known, 2, number, 14_480)), [15, 10]);
        known.set_mtus([(2, 9_000)].into_iter());
        assert_eq!([1, 2, 3].map(|number| on(&mut known, 2, number, 8_948)), [9, 1, 1]);
    }

    #[test]
    fn a_small_mss_leaves_some_room() {
        let mut known = Segmentation::new();
        announce(&mut known, flow(1), Some(1));
        let data = Decoded { options_len: 40, ..frame(flow(1), TcpFlags::ACK, 800) };
        assert_eq!(known.payload(&data, None).segments(), 100);
    }

    #[test]
    fn what_was_opened_last_is_known_and_the_table_does_not_grow() {
        let mut known = Segmentation::new();
        for number in 0..u16::MAX {
            announce(&mut known, flow(number), Some(1_460));
            announce(&mut known, back(flow(number)), Some(1_012));
        }
        // As many as there is room for, shared out by chance: some were replaced by later ones, and the last were not.
        let is_known: Vec<bool> = (0..u16::MAX).map(|number| segments(&mut known, flow(number), 1_900) == 2).collect();
        let count = |of: &[bool]| of.iter().filter(|is_known| **is_known).count();
        let [all, last] = [count(&is_known), count(&is_known[64_000..])];
        assert!((45_000..60_000).contains(&all) && last > 1_500, "{all}, {last} of the last");
        assert_eq!((known.flows.len(), known.longest.len()), (SETS, SETS));
    }
}
