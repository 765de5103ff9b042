//! What becomes of which packet: one line of prose a case, the bytes, and the outcome.
//!
//! The classifier and the decoder in user space must agree on all of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use go_metro_common::counters::Unparsable;
use go_metro_common::segment::{Bits, TcpFlags};
use ipnet::IpNet;

use super::*;

/// Addresses that the cases' targets cover. Those on devices without a link header are chosen such that their bytes 12 and 13
/// look like an ethertype, which is where the kernel's test run takes the protocol from.
pub fn targets() -> Vec<IpNet> {
    ["192.0.2.0/24", "2001:db8:1::/48", "8.0.9.9/32", "2001:db8:86dd:9::/64"].map(|net| net.parse().unwrap()).to_vec()
}

pub const LOCAL4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const REMOTE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub const STRANGER4: Ipv4Addr = Ipv4Addr::new(192, 0, 3, 7);
pub const LOCAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const REMOTE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0xabcd, 7);
pub const STRANGER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 7);
/// On devices without a link header.
pub const BARE4: Ipv4Addr = Ipv4Addr::new(8, 0, 1, 1);
pub const BARE_REMOTE4: Ipv4Addr = Ipv4Addr::new(8, 0, 9, 9);
pub const BARE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x86dd, 1, 0, 0, 0, 1);
pub const BARE_REMOTE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x86dd, 9, 0, 0, 0, 1);

/// Where a packet is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    EgressEthernet,
    IngressEthernet,
    EgressIp,
    IngressIp,
}

impl Hook {
    pub fn is_egress(self) -> bool {
        matches!(self, Self::EgressEthernet | Self::EgressIp)
    }
}

/// What a record is to say, beside addresses and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub local_port: u16,
    pub remote_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub payload_len: u32,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// Bits that options set, but for timestamps.
    pub option_bits: u8,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub record: Option<Record>,
    pub unparsable: Option<Unparsable>,
    pub fragment: bool,
}

/// A packet and what becomes of it.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub hook: Hook,
    pub bytes: Vec<u8>,
    pub outcome: Outcome,
}

/// Nothing at all.
const NOTHING: Outcome = Outcome { record: None, unparsable: None, fragment: false };

fn unparsable(cause: Unparsable) -> Outcome {
    Outcome { unparsable: Some(cause), ..NOTHING }
}

/// A record that says what `tcp` says, seen at `hook`.
fn record(hook: Hook, tcp: &Tcp) -> Outcome {
    let (local_port, remote_port) =
        if hook.is_egress() { (tcp.source, tcp.destination) } else { (tcp.destination, tcp.source) };
    let record = Record {
        local_port,
        remote_port,
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags,
        window: tcp.window,
        payload_len: tcp.payload as u32,
        timestamps: None,
        option_bits: 0,
    };
    Outcome { record: Some(record), ..NOTHING }
}

impl Outcome {
    fn timestamps(mut self, tsval: u32, tsecr: u32) -> Self {
        self.record.as_mut().unwrap().timestamps = Some((tsval, tsecr));
        self
    }

    fn bits(mut self, bits: u8) -> Self {
        self.record.as_mut().unwrap().option_bits = bits;
        self
    }

    fn payload(mut self, len: u32) -> Self {
        self.record.as_mut().unwrap().payload_len = len;
        self
    }

    fn fault(mut self, cause: Unparsable) -> Self {
        self.unparsable = Some(cause);
        self
    }
}

/// `tcp` from the local to the remote end over IPv4, without a link header.
fn sent4(tcp: &Tcp) -> Vec<u8> {
    ipv4(LOCAL4, REMOTE4, &[], &tcp.bytes())
}

/// As [`sent4`], in a frame.
fn frame4(tcp: &Tcp) -> Vec<u8> {
    ethernet(&[], ETH_P_IP, &sent4(tcp))
}

/// `next` and what follows from the local to the remote end over IPv6, in a frame.
fn frame6(next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], ETH_P_IPV6, &ipv6(LOCAL6, REMOTE6, next, payload))
}

/// As `bytes`, with those from `at` on replaced.
fn with(mut bytes: Vec<u8>, at: usize, replacement: &[u8]) -> Vec<u8> {
    bytes[at..at + replacement.len()].copy_from_slice(replacement);
    bytes
}

/// As `bytes`, cut to `len`.
fn cut(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes.truncate(len);
    bytes
}

/// Where the IP header begins in an untagged frame.
const IP: usize = 14;
/// Where TCP begins in an untagged IPv4 frame without IP options.
const TCP4: usize = IP + 20;

/// Every case.
pub fn all() -> Vec<Case> {
    [relevance(), link(), network4(), network6(), transport(), options()].concat()
}

/// Which segments are worth a record, of which remote ends, seen from which side.
fn relevance() -> Vec<Case> {
    use Hook::*;
    let (d, a) = (data(), ack());
    let syn = ack().with_flags(TcpFlags::SYN);
    let fin = ack().with_flags(TcpFlags::FIN | TcpFlags::ACK);
    let rst = ack().with_flags(TcpFlags::RST);
    let bare = ack().with_flags(TcpFlags::PSH);
    let received4 = |tcp: &Tcp| ethernet(&[], ETH_P_IP, &ipv4(REMOTE4, LOCAL4, &[], &tcp.bytes()));
    let received6 = |tcp: &Tcp| ethernet(&[], ETH_P_IPV6, &ipv6(REMOTE6, LOCAL6, TCP, &tcp.bytes()));
    let stranger4 = ethernet(&[], ETH_P_IP, &ipv4(LOCAL4, STRANGER4, &[], &d.bytes()));
    let stranger6 = ethernet(&[], ETH_P_IPV6, &ipv6(LOCAL6, STRANGER6, TCP, &d.bytes()));
    vec![
        Case {
            name: "outbound data, IPv4",
            hook: EgressEthernet,
            bytes: frame4(&d),
            outcome: record(EgressEthernet, &d),
        },
        Case {
            name: "outbound data, IPv6",
            hook: EgressEthernet,
            bytes: frame6(TCP, &d.bytes()),
            outcome: record(EgressEthernet, &d),
        },
        Case {
            name: "an outbound ACK without data tells nothing",
            hook: EgressEthernet,
            bytes: frame4(&a),
            outcome: NOTHING,
        },
        Case { name: "outbound SYN", hook: EgressEthernet, bytes: frame4(&syn), outcome: record(EgressEthernet, &syn) },
        Case { name: "outbound FIN", hook: EgressEthernet, bytes: frame4(&fin), outcome: record(EgressEthernet, &fin) },
        Case { name: "outbound RST", hook: EgressEthernet, bytes: frame4(&rst), outcome: record(EgressEthernet, &rst) },
        Case {
            name: "inbound ACK, IPv4",
            hook: IngressEthernet,
            bytes: received4(&a),
            outcome: record(IngressEthernet, &a),
        },
        Case {
            name: "inbound ACK, IPv6",
            hook: IngressEthernet,
            bytes: received6(&a),
            outcome: record(IngressEthernet, &a),
        },
        Case {
            name: "inbound data",
            hook: IngressEthernet,
            bytes: received4(&d),
            outcome: record(IngressEthernet, &d),
        },
        Case {
            name: "inbound SYN",
            hook: IngressEthernet,
            bytes: received6(&syn),
            outcome: record(IngressEthernet, &syn),
        },
        Case {
            name: "inbound RST",
            hook: IngressEthernet,
            bytes: received4(&rst),
            outcome: record(IngressEthernet, &rst),
        },
        Case {
            name: "an inbound segment without ACK, SYN, FIN or RST tells nothing",
            hook: IngressEthernet,
            bytes: received4(&bare),
            outcome: NOTHING,
        },
        Case { name: "the remote end is no target, IPv4", hook: EgressEthernet, bytes: stranger4, outcome: NOTHING },
        Case { name: "the remote end is no target, IPv6", hook: EgressEthernet, bytes: stranger6, outcome: NOTHING },
        Case {
            name: "only the remote end's address counts",
            hook: IngressEthernet,
            bytes: frame4(&d),
            outcome: NOTHING,
        },
    ]
}

/// Frames, tags, and devices without a link header.
fn link() -> Vec<Case> {
    use Hook::*;
    let (d, a) = (data(), ack());
    let tagged = |tags: &[u16]| ethernet(tags, ETH_P_IP, &sent4(&d));
    let tagged6 = |tags: &[u16]| ethernet(tags, ETH_P_IPV6, &ipv6(LOCAL6, REMOTE6, TCP, &d.bytes()));
    let bare4 = ipv4(BARE4, BARE_REMOTE4, &[], &d.bytes());
    let bare6 = ipv6(BARE6, BARE_REMOTE6, TCP, &d.bytes());
    vec![
        Case {
            name: "one tag in band",
            hook: EgressEthernet,
            bytes: tagged(&[ETH_P_8021Q]),
            outcome: record(EgressEthernet, &d),
        },
        Case {
            name: "one tag in band, IPv6",
            hook: EgressEthernet,
            bytes: tagged6(&[ETH_P_8021Q]),
            outcome: record(EgressEthernet, &d),
        },
        Case {
            name: "QinQ, 802.1ad",
            hook: EgressEthernet,
            bytes: tagged(&[ETH_P_8021AD, ETH_P_8021Q]),
            outcome: record(EgressEthernet, &d),
        },
        Case {
            name: "QinQ, 802.1ad, IPv6",
            hook: EgressEthernet,
            bytes: tagged6(&[ETH_P_8021AD, ETH_P_8021Q]),
            outcome: record(EgressEthernet, &d),
        },
        Case {
            name: "QinQ as before 802.1ad",
            hook: EgressEthernet,
            bytes: tagged(&[ETH_P_QINQ1, ETH_P_8021Q]),
            outcome: record(EgressEthernet, &d),
        },
        Case {
            name: "three tags are too many",
            hook: EgressEthernet,
            bytes: tagged(&[ETH_P_8021AD, ETH_P_8021Q, ETH_P_8021Q]),
            outcome: unparsable(Unparsable::TooDeep),
        },
        Case {
            name: "a frame that ends in its tag",
            hook: EgressEthernet,
            bytes: cut(tagged(&[ETH_P_8021AD, ETH_P_8021Q]), 20),
            outcome: unparsable(Unparsable::Truncated),
        },
        Case { name: "ARP", hook: EgressEthernet, bytes: ethernet(&[], 0x0806, &[0; 46]), outcome: NOTHING },
        Case {
            name: "padding is no payload",
            hook: IngressEthernet,
            bytes: {
                let mut frame = ethernet(&[], ETH_P_IP, &ipv4(REMOTE4, LOCAL4, &[], &a.bytes()));
                frame.resize(60, 0);
                frame
            },
            outcome: record(IngressEthernet, &a),
        },
        Case { name: "no link header, outbound, IPv4", hook: EgressIp, bytes: bare4, outcome: record(EgressIp, &d) },
        Case { name: "no link header, outbound, IPv6", hook: EgressIp, bytes: bare6, outcome: record(EgressIp, &d) },
        Case {
            name: "no link header, inbound, IPv4",
            hook: IngressIp,
            bytes: ipv4(BARE_REMOTE4, BARE4, &[], &a.bytes()),
            outcome: record(IngressIp, &a),
        },
        Case {
            name: "no link header, inbound, IPv6",
            hook: IngressIp,
            bytes: ipv6(BARE_REMOTE6, BARE6, TCP, &a.bytes()),
            outcome: record(IngressIp, &a),
        },
    ]
}

/// IPv4 headers.
fn network4() -> Vec<Case> {
    use Hook::*;
    let hook = EgressEthernet;
    let d = data();
    let udp = with(frame4(&d), IP + 9, &[UDP]);
    let with_options = |len| ethernet(&[], ETH_P_IP, &ipv4(LOCAL4, REMOTE4, &vec![1; len], &d.bytes()));
    vec![
        Case { name: "UDP", hook, bytes: udp, outcome: NOTHING },
        Case { name: "IPv4 with 4 bytes of options", hook, bytes: with_options(4), outcome: record(hook, &d) },
        Case { name: "IPv4 with 40 bytes of options", hook, bytes: with_options(40), outcome: record(hook, &d) },
        Case {
            name: "the first fragment",
            hook,
            bytes: with(frame4(&d), IP + 6, &[0x20, 0]),
            outcome: record(hook, &d),
        },
        Case {
            name: "another fragment",
            hook,
            bytes: with(frame4(&d), IP + 6, &[0, 10]),
            outcome: Outcome { fragment: true, ..NOTHING },
        },
        Case {
            name: "total length 0: a super-segment, as long as the packet",
            hook,
            bytes: with(frame4(&d), IP + 2, &[0, 0]),
            outcome: record(hook, &d),
        },
        Case {
            name: "IPv4 with a version of 5",
            hook,
            bytes: with(frame4(&d), IP, &[0x55]),
            outcome: unparsable(Unparsable::IpHeader),
        },
        Case {
            name: "IPv4 with a header length of 16",
            hook,
            bytes: with(frame4(&d), IP, &[0x44]),
            outcome: unparsable(Unparsable::IpHeader),
        },
        Case {
            name: "a total length below the header's",
            hook,
            bytes: with(frame4(&d), IP + 2, &[0, 19]),
            outcome: unparsable(Unparsable::IpHeader),
        },
        Case {
            name: "a total length beyond the packet",
            hook,
            bytes: with(frame4(&d), IP + 2, &[0, 141]),
            outcome: unparsable(Unparsable::Truncated),
        },
        // Tagged, because the kernel's test run takes no shorter packets otherwise.
        Case {
            name: "IPv4 that ends in its header",
            hook,
            bytes: cut(ethernet(&[ETH_P_8021Q], ETH_P_IP, &sent4(&d)), 18 + 19),
            outcome: unparsable(Unparsable::Truncated),
        },
        Case {
            name: "IPv4 that has no room for TCP",
            hook,
            bytes: with(frame4(&d), IP + 2, &[0, 39]),
            outcome: unparsable(Unparsable::Truncated),
        },
    ]
}

/// IPv6 headers and extensions.
fn network6() -> Vec<Case> {
    use Hook::*;
    let hook = EgressEthernet;
    let d = data();
    let tcp = d.bytes();
    let chain = |count: usize| {
        let inner = (0..count).fold((TCP, tcp.clone()), |(next, rest), _| (DESTINATION, extension(next, 8, &rest)));
        frame6(inner.0, &inner.1)
    };
    let several =
        extension(ROUTING, 16, &extension(MOBILITY, 24, &extension(DESTINATION, 8, &extension(TCP, 64, &tcp))));
    // RFC 4302 section 2.2: a length of 4 is 4 + 2 words of 4 bytes.
    let authenticated = [&[TCP, 4][..], &[0; 22], &tcp].concat();
    let jumbo_len = (8 + tcp.len() as u32).to_be_bytes();
    let jumbo = [&[TCP, 0, 0xc2, 4][..], &jumbo_len, &tcp].concat();
    vec![
        Case { name: "UDP over IPv6", hook, bytes: frame6(UDP, &tcp), outcome: NOTHING },
        Case {
            name: "UDP behind an extension header",
            hook,
            bytes: frame6(HOP_BY_HOP, &extension(UDP, 8, &tcp)),
            outcome: NOTHING,
        },
        Case {
            name: "hop-by-hop options",
            hook,
            bytes: frame6(HOP_BY_HOP, &extension(TCP, 8, &tcp)),
            outcome: record(hook, &d),
        },
        Case {
            name: "hop-by-hop, routing, mobility and destination options",
            hook,
            bytes: frame6(HOP_BY_HOP, &several),
            outcome: record(hook, &d),
        },
        Case {
            name: "an authentication header",
            hook,
            bytes: frame6(AUTHENTICATION, &authenticated),
            outcome: record(hook, &d),
        },
        Case {
            name: "the largest extension header",
            hook,
            bytes: frame6(DESTINATION, &extension(TCP, 2048, &tcp)),
            outcome: record(hook, &d),
        },
        Case { name: "eight extension headers", hook, bytes: chain(8), outcome: record(hook, &d) },
        Case {
            name: "nine extension headers are too many",
            hook,
            bytes: chain(9),
            outcome: unparsable(Unparsable::TooDeep),
        },
        Case {
            name: "the first fragment, IPv6",
            hook,
            bytes: frame6(FRAGMENT, &fragment(TCP, 0, &tcp)),
            outcome: record(hook, &d),
        },
        Case {
            name: "another fragment, IPv6",
            hook,
            bytes: frame6(FRAGMENT, &fragment(TCP, 80, &tcp)),
            outcome: Outcome { fragment: true, ..NOTHING },
        },
        Case {
            name: "another fragment of UDP",
            hook,
            bytes: frame6(FRAGMENT, &fragment(UDP, 80, &tcp)),
            outcome: NOTHING,
        },
        Case {
            name: "payload length 0: a super-segment, as long as the packet",
            hook,
            bytes: with(frame6(TCP, &tcp), IP + 4, &[0, 0]),
            outcome: record(hook, &d),
        },
        Case {
            name: "a jumbogram",
            hook,
            bytes: with(frame6(HOP_BY_HOP, &jumbo), IP + 4, &[0, 0]),
            outcome: record(hook, &d),
        },
        Case {
            name: "IPv6 with a version of 4",
            hook,
            bytes: with(frame6(TCP, &tcp), IP, &[0x40]),
            outcome: unparsable(Unparsable::IpHeader),
        },
        Case {
            name: "a payload length beyond the packet",
            hook,
            bytes: with(frame6(TCP, &tcp), IP + 4, &[0, 121]),
            outcome: unparsable(Unparsable::Truncated),
        },
        Case {
            name: "IPv6 that ends in its header",
            hook,
            bytes: cut(ethernet(&[ETH_P_8021Q], ETH_P_IPV6, &ipv6(LOCAL6, REMOTE6, TCP, &tcp)), 18 + 39),
            outcome: unparsable(Unparsable::Truncated),
        },
        Case {
            name: "IPv6 that ends in an extension header",
            hook,
            bytes: frame6(DESTINATION, &[TCP, 0, 0]),
            outcome: unparsable(Unparsable::Truncated),
        },
        Case {
            name: "an extension header that reaches past the packet",
            hook,
            bytes: frame6(DESTINATION, &with(extension(TCP, 8, &tcp), 1, &[20])),
            outcome: unparsable(Unparsable::Truncated),
        },
    ]
}

/// TCP headers.
fn transport() -> Vec<Case> {
    use Hook::*;
    let hook = EgressEthernet;
    let d = data();
    let large = data().with_payload(1448);
    let all_flags = data().with_flags(0xff);
    vec![
        Case { name: "a full segment", hook, bytes: frame4(&large), outcome: record(hook, &large) },
        Case { name: "every control bit", hook, bytes: frame4(&all_flags), outcome: record(hook, &all_flags) },
        Case {
            name: "a data offset of 4",
            hook,
            bytes: frame4(&d.clone().with_data_offset(4)),
            outcome: unparsable(Unparsable::TcpHeader),
        },
        Case {
            name: "a data offset of 0",
            hook,
            bytes: frame4(&d.clone().with_data_offset(0)),
            outcome: unparsable(Unparsable::TcpHeader),
        },
        Case {
            name: "a data offset past the packet",
            hook,
            bytes: frame4(&ack().with_flags(TcpFlags::SYN).with_data_offset(6)),
            outcome: unparsable(Unparsable::TcpHeader),
        },
        Case {
            name: "a data offset past the IP packet, but not past the frame",
            hook,
            bytes: {
                let mut frame = frame4(&ack().with_flags(TcpFlags::SYN).with_data_offset(6));
                frame.resize(60, 0);
                frame
            },
            outcome: unparsable(Unparsable::TcpHeader),
        },
        Case {
            name: "TCP that ends in its header",
            hook,
            bytes: {
                let short = cut(frame4(&d), TCP4 + 19);
                with(short, IP + 2, &[0, 39])
            },
            outcome: unparsable(Unparsable::Truncated),
        },
    ]
}

/// TCP options.
fn options() -> Vec<Case> {
    use Hook::*;
    let hook = EgressEthernet;
    let ack_number = 0xffff_ff00;
    // The acknowledgement number is shortly before the numbers wrap around.
    let carries = |options: &[&[u8]]| data().with_ack(ack_number).with_options(options);
    let ts = timestamps(0x0a0b_0c0d, 0x0102_0304);
    let with_ts = |outcome: Outcome| outcome.timestamps(0x0a0b_0c0d, 0x0102_0304);
    let before = |by: u32| (ack_number - by, ack_number - by + 8);
    let behind = |by: u32| (ack_number.wrapping_add(by), ack_number.wrapping_add(by + 8));
    let at = (ack_number, ack_number + 8);
    let case = |name, tcp: Tcp, change: &dyn Fn(Outcome) -> Outcome| Case {
        name,
        hook,
        bytes: frame4(&tcp),
        outcome: change(record(hook, &tcp)),
    };
    let sack_case = |name, blocks: &[(u32, u32)], bits: u8| {
        case(name, carries(&[&[1, 1], &sack(blocks)]), &|outcome| outcome.bits(bits))
    };
    let syn = data().with_flags(TcpFlags::SYN).with_payload(0);
    let usual_syn = [&[2, 4, 5, 180, 4, 2][..], &ts, &[1, 3, 3, 7]].concat();
    let fault = |outcome: Outcome| outcome.fault(Unparsable::TcpOption);
    vec![
        case("timestamps in the usual place", carries(&[&[1, 1], &ts]), &with_ts),
        case("timestamps first", carries(&[&ts, &[1, 1]]), &with_ts),
        case("timestamps between NOPs", carries(&[&[1], &ts, &[1]]), &with_ts),
        case("timestamps last", carries(&[&[1, 1], &[254, 8, 0, 0, 0, 0, 0, 0], &[253, 18], &[0; 16], &ts]), &with_ts),
        case("timestamps at the very end of the longest list", carries(&[&[1; 30], &ts]), &with_ts),
        case("the usual SYN", syn.with_options(&[&usual_syn]), &|outcome| with_ts(outcome).bits(Bits::SACK_PERMITTED)),
        case("forty NOPs", carries(&[&[1; 40]]), &|outcome| outcome),
        case("no option behind the end of the list", carries(&[&[0, 0], &ts]), &|outcome| outcome),
        case("an unknown option", carries(&[&[77, 4, 1, 2], &[1, 1], &ts]), &with_ts),
        sack_case("a SACK block above", &[behind(100)], Bits::SACK_ABOVE),
        sack_case("a SACK block above, past the wrap", &[behind(0x200)], Bits::SACK_ABOVE),
        sack_case("a D-SACK below", &[before(100)], Bits::DSACK),
        sack_case("a block that begins at the acknowledgement number", &[at], Bits::DSACK),
        sack_case("a D-SACK below, and a block above", &[before(100), behind(100)], Bits::DSACK | Bits::SACK_ABOVE),
        sack_case("a block below that is not the first", &[behind(100), before(100)], Bits::SACK_ABOVE),
        sack_case(
            "four blocks, the last above",
            &[before(400), before(300), before(200), behind(1)],
            Bits::DSACK | Bits::SACK_ABOVE,
        ),
        sack_case("four blocks above", &[behind(100), behind(200), behind(300), behind(400)], Bits::SACK_ABOVE),
        case(
            "timestamps and three blocks",
            carries(&[&[1, 1], &ts, &[1, 1], &sack(&[before(9), before(5), behind(5)])]),
            &|outcome| with_ts(outcome).bits(Bits::DSACK | Bits::SACK_ABOVE),
        ),
        case(
            "what follows a SACK option is no block",
            carries(&[&[1, 1], &sack(&[before(100)]), &[77, 18], &[0; 16]]),
            &|outcome| outcome.bits(Bits::DSACK),
        ),
        case("a SACK option of half a block is none", carries(&[&[5, 6, 0, 0, 0, 0], &[1, 1]]), &|outcome| outcome),
        case("a SACK option without a block is none", carries(&[&[5, 2], &[1, 1]]), &|outcome| outcome),
        case("timestamps of length 2 are none", carries(&[&[8, 2], &[1, 1]]), &|outcome| outcome),
        case("timestamps of length 12 are none", carries(&[&[8, 12], &[0; 10]]), &|outcome| outcome),
        case("SACK-permitted of length 3 is none", carries(&[&[4, 3, 0], &[1]]), &|outcome| outcome),
        case("an option of length 0", carries(&[&ts, &[77, 0]]), &|outcome| fault(with_ts(outcome))),
        case("an option of length 1", carries(&[&ts, &[77, 1]]), &|outcome| fault(with_ts(outcome))),
        case("an option past the end", carries(&[&ts, &[77, 3]]), &|outcome| fault(with_ts(outcome))),
        case("a list that ends in an option's kind", carries(&[&[1, 1], &ts, &[1, 1, 1, 77]]), &|outcome| {
            fault(with_ts(outcome))
        }),
        case("timestamps past the end", carries(&[&[1, 1, 1, 1], &[8, 10], &[0; 6]]), &fault),
        case("a SACK option past the end", carries(&[&[1, 1, 5, 18], &[0; 8]]), &fault),
    ]
}
