//! What becomes of which packet: one line of prose a case, the bytes, and the outcome.
//!
//! The classifier and the decoder in user space must agree on all of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use go_metro_common::counters::Unparsable;
use go_metro_common::segment::{Bits, TcpFlags};
use ipnet::IpNet;

use super::*;

/// Addresses that the cases' targets cover. Those on devices without a link header are chosen such that their bytes 12
/// and 13 look like an ethertype, which is where the kernel's test run takes the protocol from.
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

fn case(name: &'static str, hook: Hook, bytes: Vec<u8>, outcome: Outcome) -> Case {
    Case { name, hook, bytes, outcome }
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
        case("outbound data, IPv4", EgressEthernet, frame4(&d), record(EgressEthernet, &d)),
        case("outbound data, IPv6", EgressEthernet, frame6(TCP, &d.bytes()), record(EgressEthernet, &d)),
        case("an outbound ACK without data tells nothing", EgressEthernet, frame4(&a), NOTHING),
        case("outbound SYN", EgressEthernet, frame4(&syn), record(EgressEthernet, &syn)),
        case("outbound FIN", EgressEthernet, frame4(&fin), record(EgressEthernet, &fin)),
        case("outbound RST", EgressEthernet, frame4(&rst), record(EgressEthernet, &rst)),
        case("inbound ACK, IPv4", IngressEthernet, received4(&a), record(IngressEthernet, &a)),
        case("inbound ACK, IPv6", IngressEthernet, received6(&a), record(IngressEthernet, &a)),
        case("inbound data", IngressEthernet, received4(&d), record(IngressEthernet, &d)),
        case("inbound SYN", IngressEthernet, received6(&syn), record(IngressEthernet, &syn)),
        case("inbound RST", IngressEthernet, received4(&rst), record(IngressEthernet, &rst)),
        case(
            "an inbound segment without ACK, SYN, FIN or RST tells nothing",
            IngressEthernet,
            received4(&bare),
            NOTHING,
        ),
        case("the remote end is no target, IPv4", EgressEthernet, stranger4, NOTHING),
        case("the remote end is no target, IPv6", EgressEthernet, stranger6, NOTHING),
        case("only the remote end's address counts", IngressEthernet, frame4(&d), NOTHING),
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
        case("one tag in band", EgressEthernet, tagged(&[ETH_P_8021Q]), record(EgressEthernet, &d)),
        case("one tag in band, IPv6", EgressEthernet, tagged6(&[ETH_P_8021Q]), record(EgressEthernet, &d)),
        case("QinQ, 802.1ad", EgressEthernet, tagged(&[ETH_P_8021AD, ETH_P_8021Q]), record(EgressEthernet, &d)),
        case("QinQ, 802.1ad, IPv6", EgressEthernet, tagged6(&[ETH_P_8021AD, ETH_P_8021Q]), record(EgressEthernet, &d)),
        case("QinQ as before 802.1ad", EgressEthernet, tagged(&[ETH_P_QINQ1, ETH_P_8021Q]), record(EgressEthernet, &d)),
        case(
            "three tags are too many",
            EgressEthernet,
            tagged(&[ETH_P_8021AD, ETH_P_8021Q, ETH_P_8021Q]),
            unparsable(Unparsable::TooDeep),
        ),
        case(
            "a frame that ends in its tag",
            EgressEthernet,
            cut(tagged(&[ETH_P_8021AD, ETH_P_8021Q]), 20),
            unparsable(Unparsable::Truncated),
        ),
        case("ARP", EgressEthernet, ethernet(&[], 0x0806, &[0; 46]), NOTHING),
        case(
            "padding is no payload",
            IngressEthernet,
            {
                let mut frame = ethernet(&[], ETH_P_IP, &ipv4(REMOTE4, LOCAL4, &[], &a.bytes()));
                frame.resize(60, 0);
                frame
            },
            record(IngressEthernet, &a),
        ),
        case("no link header, outbound, IPv4", EgressIp, bare4, record(EgressIp, &d)),
        case("no link header, outbound, IPv6", EgressIp, bare6, record(EgressIp, &d)),
        case(
            "no link header, inbound, IPv4",
            IngressIp,
            ipv4(BARE_REMOTE4, BARE4, &[], &a.bytes()),
            record(IngressIp, &a),
        ),
        case(
            "no link header, inbound, IPv6",
            IngressIp,
            ipv6(BARE_REMOTE6, BARE6, TCP, &a.bytes()),
            record(IngressIp, &a),
        ),
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
        case("UDP", hook, udp.clone(), NOTHING),
        case("VXLAN", hook, with(udp.clone(), TCP4 + 2, &[0x12, 0xb5]), NOTHING),
        case("GENEVE", hook, with(udp.clone(), TCP4 + 2, &[0x17, 0xc1]), NOTHING),
        case("a later fragment of VXLAN", hook, with(with(udp, TCP4 + 2, &[0x12, 0xb5]), IP + 6, &[0, 10]), NOTHING),
        case(
            "VXLAN behind options of IP",
            hook,
            with(with(with_options(8), IP + 9, &[UDP]), TCP4 + 10, &[0x12, 0xb5]),
            NOTHING,
        ),
        case("GRE", hook, with(frame4(&d), IP + 9, &[47]), NOTHING),
        case("IP in IP", hook, with(frame4(&d), IP + 9, &[4]), NOTHING),
        case("an authentication header over IPv4", hook, with(frame4(&d), IP + 9, &[AUTHENTICATION]), NOTHING),
        case("MPLS", hook, with(frame4(&d), 12, &[0x88, 0x47]), NOTHING),
        case("IPv4 with 4 bytes of options", hook, with_options(4), record(hook, &d)),
        case("IPv4 with 40 bytes of options", hook, with_options(40), record(hook, &d)),
        case("the first fragment", hook, with(frame4(&d), IP + 6, &[0x20, 0]), record(hook, &d)),
        case("another fragment", hook, with(frame4(&d), IP + 6, &[0, 10]), Outcome { fragment: true, ..NOTHING }),
        case(
            "total length 0: a super-segment, as long as the packet",
            hook,
            with(frame4(&d), IP + 2, &[0, 0]),
            record(hook, &d),
        ),
        case("IPv4 with a version of 5", hook, with(frame4(&d), IP, &[0x55]), unparsable(Unparsable::IpHeader)),
        case("IPv4 with a header length of 16", hook, with(frame4(&d), IP, &[0x44]), unparsable(Unparsable::IpHeader)),
        case(
            "a total length below the header's",
            hook,
            with(frame4(&d), IP + 2, &[0, 19]),
            unparsable(Unparsable::IpHeader),
        ),
        case(
            "a total length beyond the packet",
            hook,
            with(frame4(&d), IP + 2, &[0, 141]),
            unparsable(Unparsable::Truncated),
        ),
        // Tagged, because the kernel's test run takes no shorter packets otherwise.
        case(
            "IPv4 that ends in its header",
            hook,
            cut(ethernet(&[ETH_P_8021Q], ETH_P_IP, &sent4(&d)), 18 + 19),
            unparsable(Unparsable::Truncated),
        ),
        case(
            "IPv4 that has no room for TCP",
            hook,
            with(frame4(&d), IP + 2, &[0, 39]),
            unparsable(Unparsable::Truncated),
        ),
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
        case("UDP over IPv6", hook, frame6(UDP, &tcp), NOTHING),
        case("VXLAN over IPv6", hook, frame6(UDP, &with(tcp.clone(), 2, &[0x12, 0xb5])), NOTHING),
        case("6in6 behind an extension header", hook, frame6(HOP_BY_HOP, &extension(41, 8, &tcp)), NOTHING),
        case(
            "VXLAN behind an extension header",
            hook,
            frame6(HOP_BY_HOP, &extension(UDP, 8, &with(tcp.clone(), 2, &[0x12, 0xb5]))),
            NOTHING,
        ),
        case("UDP behind an extension header", hook, frame6(HOP_BY_HOP, &extension(UDP, 8, &tcp)), NOTHING),
        case("hop-by-hop options", hook, frame6(HOP_BY_HOP, &extension(TCP, 8, &tcp)), record(hook, &d)),
        case(
            "hop-by-hop, routing, mobility and destination options",
            hook,
            frame6(HOP_BY_HOP, &several),
            record(hook, &d),
        ),
        case("an authentication header", hook, frame6(AUTHENTICATION, &authenticated), record(hook, &d)),
        case("the largest extension header", hook, frame6(DESTINATION, &extension(TCP, 2048, &tcp)), record(hook, &d)),
        case("eight extension headers", hook, chain(8), record(hook, &d)),
        case("nine extension headers are too many", hook, chain(9), unparsable(Unparsable::TooDeep)),
        case("the first fragment, IPv6", hook, frame6(FRAGMENT, &fragment(TCP, 0, &tcp)), record(hook, &d)),
        case(
            "another fragment, IPv6",
            hook,
            frame6(FRAGMENT, &fragment(TCP, 80, &tcp)),
            Outcome { fragment: true, ..NOTHING },
        ),
        case("another fragment of UDP", hook, frame6(FRAGMENT, &fragment(UDP, 80, &tcp)), NOTHING),
        case(
            "payload length 0: a super-segment, as long as the packet",
            hook,
            with(frame6(TCP, &tcp), IP + 4, &[0, 0]),
            record(hook, &d),
        ),
        case("a jumbogram", hook, with(frame6(HOP_BY_HOP, &jumbo), IP + 4, &[0, 0]), record(hook, &d)),
        case("IPv6 with a version of 4", hook, with(frame6(TCP, &tcp), IP, &[0x40]), unparsable(Unparsable::IpHeader)),
        case(
            "a payload length beyond the packet",
            hook,
            with(frame6(TCP, &tcp), IP + 4, &[0, 121]),
            unparsable(Unparsable::Truncated),
        ),
        case(
            "IPv6 that ends in its header",
            hook,
            cut(ethernet(&[ETH_P_8021Q], ETH_P_IPV6, &ipv6(LOCAL6, REMOTE6, TCP, &tcp)), 18 + 39),
            unparsable(Unparsable::Truncated),
        ),
        case(
            "IPv6 that ends in an extension header",
            hook,
            frame6(DESTINATION, &[TCP, 0, 0]),
            unparsable(Unparsable::Truncated),
        ),
        case(
            "an extension header that reaches past the packet",
            hook,
            frame6(DESTINATION, &with(extension(TCP, 8, &tcp), 1, &[20])),
            unparsable(Unparsable::Truncated),
        ),
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
        case("a full segment", hook, frame4(&large), record(hook, &large)),
        case("every control bit", hook, frame4(&all_flags), record(hook, &all_flags)),
        case("a data offset of 4", hook, frame4(&d.clone().with_data_offset(4)), unparsable(Unparsable::TcpHeader)),
        case("a data offset of 0", hook, frame4(&d.clone().with_data_offset(0)), unparsable(Unparsable::TcpHeader)),
        case(
            "a data offset past the packet",
            hook,
            frame4(&ack().with_flags(TcpFlags::SYN).with_data_offset(6)),
            unparsable(Unparsable::TcpHeader),
        ),
        case(
            "a data offset past the IP packet, but not past the frame",
            hook,
            {
                let mut frame = frame4(&ack().with_flags(TcpFlags::SYN).with_data_offset(6));
                frame.resize(60, 0);
                frame
            },
            unparsable(Unparsable::TcpHeader),
        ),
        case(
            "TCP that ends in its header",
            hook,
            {
                let short = cut(frame4(&d), TCP4 + 19);
                with(short, IP + 2, &[0, 39])
            },
            unparsable(Unparsable::Truncated),
        ),
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
    let carrying = |name, tcp: Tcp, change: &dyn Fn(Outcome) -> Outcome| Case {
        name,
        hook,
        bytes: frame4(&tcp),
        outcome: change(record(hook, &tcp)),
    };
    let sack_case = |name, blocks: &[(u32, u32)], bits: u8| {
        carrying(name, carries(&[&[1, 1], &sack(blocks)]), &|outcome| outcome.bits(bits))
    };
    let syn = data().with_flags(TcpFlags::SYN).with_payload(0);
    let usual_syn = [&[2, 4, 5, 180, 4, 2][..], &ts, &[1, 3, 3, 7]].concat();
    let fault = |outcome: Outcome| outcome.fault(Unparsable::TcpOption);
    vec![
        carrying("timestamps in the usual place", carries(&[&[1, 1], &ts]), &with_ts),
        carrying("timestamps first", carries(&[&ts, &[1, 1]]), &with_ts),
        carrying("timestamps between NOPs", carries(&[&[1], &ts, &[1]]), &with_ts),
        carrying(
            "timestamps last",
            carries(&[&[1, 1], &[254, 8, 0, 0, 0, 0, 0, 0], &[253, 18], &[0; 16], &ts]),
            &with_ts,
        ),
        carrying("timestamps at the very end of the longest list", carries(&[&[1; 30], &ts]), &with_ts),
        carrying("the usual SYN", syn.with_options(&[&usual_syn]), &|outcome| {
            with_ts(outcome).bits(Bits::SACK_PERMITTED)
        }),
        carrying("forty NOPs", carries(&[&[1; 40]]), &|outcome| outcome),
        carrying("no option behind the end of the list", carries(&[&[0, 0], &ts]), &|outcome| outcome),
        carrying("an unknown option", carries(&[&[77, 4, 1, 2], &[1, 1], &ts]), &with_ts),
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
        carrying(
            "timestamps and three blocks",
            carries(&[&[1, 1], &ts, &[1, 1], &sack(&[before(9), before(5), behind(5)])]),
            &|outcome| with_ts(outcome).bits(Bits::DSACK | Bits::SACK_ABOVE),
        ),
        carrying(
            "what follows a SACK option is no block",
            carries(&[&[1, 1], &sack(&[before(100)]), &[77, 18], &[0; 16]]),
            &|outcome| outcome.bits(Bits::DSACK),
        ),
        carrying("a SACK option of half a block is none", carries(&[&[5, 6, 0, 0, 0, 0], &[1, 1]]), &|outcome| outcome),
        carrying("a SACK option without a block is none", carries(&[&[5, 2], &[1, 1]]), &|outcome| outcome),
        carrying("timestamps of length 2 are none", carries(&[&[8, 2], &[1, 1]]), &|outcome| outcome),
        carrying("timestamps of length 12 are none", carries(&[&[8, 12], &[0; 10]]), &|outcome| outcome),
        carrying("SACK-permitted of length 3 is none", carries(&[&[4, 3, 0], &[1]]), &|outcome| outcome),
        carrying("an option of length 0", carries(&[&ts, &[77, 0]]), &|outcome| fault(with_ts(outcome))),
        carrying("an option of length 1", carries(&[&ts, &[77, 1]]), &|outcome| fault(with_ts(outcome))),
        carrying("an option past the end", carries(&[&ts, &[77, 3]]), &|outcome| fault(with_ts(outcome))),
        carrying("a list that ends in an option's kind", carries(&[&[1, 1], &ts, &[1, 1, 1, 77]]), &|outcome| {
            fault(with_ts(outcome))
        }),
        carrying("timestamps past the end", carries(&[&[1, 1, 1, 1], &[8, 10], &[0; 6]]), &fault),
        carrying("a SACK option past the end", carries(&[&[1, 1, 5, 18], &[0; 8]]), &fault),
    ]
}
