//! Captures of TCP inside something else: the frames of a plain capture of the corpus, each inside a tunnel or behind
//! another link's header. The plain capture says what is right: the samples must be the same.
//!
//! The addresses of the tunnels are of RFC 5737 and RFC 3849. A header says the length on the wire, as the frames are
//! cut off.

use std::path::Path;

use anyhow::{Result, ensure};

use super::file::{ETHERNET, ETHERNET_HEADER};
use super::{Scenario, Truth, unpacked};

/// The plain capture: IPv4 and IPv6, with loss.
pub(super) const PLAIN: &str = "loss-microseconds";

// Link types, tcpdump.org/linktypes.html.
const CISCO_HDLC: u32 = 104;
const WIRELESS: u32 = 105;
const RADIOTAP: u32 = 127;
const PPI: u32 = 192;
const NFLOG: u32 = 239;

// Protocol numbers of IP, and ethertypes.
const UDP: u8 = 17;
const GRE: u8 = 47;
const AUTHENTICATION: u8 = 51;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const MPLS: u16 = 0x8847;

macro_rules! scenario {
    ($name:literal, $shows:literal, $filter:literal, $link_type:expr, $wrap:expr) => {
        Scenario {
            name: $name,
            shows: $shows,
            must: &[($filter, 500)],
            trusted: 100,
            truth: Truth::SameAs(PLAIN),
            make: |into| encapsulate(into, $link_type, $wrap),
        }
    };
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario!("tunnel-vxlan", "loss-microseconds in VXLAN", "vxlan.vni == 42 && tcp", ETHERNET, |frame| frame
        .in_vxlan()
        .in_ethernet(IPV4)),
    scenario!(
        "tunnel-geneve",
        "loss-microseconds in GENEVE, with an option",
        "geneve.vni == 42 && tcp",
        ETHERNET,
        |frame| frame.behind(&[2, 0, 0x65, 0x58, 0, 0, 42, 0, 1, 2, 3, 1, 0, 0, 0, 0]).in_udp(6081).in_ethernet(IPV4)
    ),
    scenario!("tunnel-gre", "loss-microseconds in GRE with a key", "gre.key == 9 && tcp", ETHERNET, |frame| frame
        .in_gre()
        .in_ethernet(IPV4)),
    scenario!(
        "tunnel-erspan-1",
        "loss-microseconds in an ERSPAN session of type I",
        "erspan && tcp",
        ETHERNET,
        |frame| frame.behind(&[0, 0, 0x88, 0xbe]).in_v4(GRE).in_ethernet(IPV4)
    ),
    scenario!(
        "tunnel-erspan-2",
        "loss-microseconds in an ERSPAN session of type II",
        "erspan.spanid == 7 && tcp",
        ETHERNET,
        |frame| {
            let erspan = [0x10, 0, 0, 7, 0, 0, 0, 0];
            frame.behind(&erspan).behind(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1]).in_v4(GRE).in_ethernet(IPV4)
        }
    ),
    scenario!(
        "tunnel-erspan-3",
        "loss-microseconds in an ERSPAN session of type III, with a subheader",
        "erspan.spanid == 7 && tcp",
        ETHERNET,
        |frame| {
            let erspan = [0x20, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
            frame.behind(&erspan).behind(&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1]).in_v4(GRE).in_ethernet(IPV4)
        }
    ),
    scenario!(
        "tunnel-ip-in-ip",
        "loss-microseconds in IPv4: IP in IP, and 6in4",
        "ip.proto == 4 && tcp || ip.proto == 41 && tcp",
        ETHERNET,
        |frame| {
            let protocol = if frame.is_v6 { 41 } else { 4 };
            frame.packet().in_v4(protocol).in_ethernet(IPV4)
        }
    ),
    scenario!(
        "tunnel-ip-in-ipv6",
        "loss-microseconds in IPv6: 4in6, and IPv6 in IPv6",
        "ipv6.nxt == 4 && tcp || ipv6.nxt == 41 && tcp",
        ETHERNET,
        |frame| {
            let protocol = if frame.is_v6 { 41 } else { 4 };
            frame.packet().in_v6(protocol).in_ethernet(IPV6)
        }
    ),
    scenario!("tunnel-mpls", "loss-microseconds behind two labels of MPLS", "mpls && tcp", ETHERNET, |frame| frame
        .packet()
        .behind_label()
        .behind(&[0, 1, 0, 64])
        .in_ethernet(MPLS)),
    scenario!(
        "tunnel-gtp-u",
        "loss-microseconds in GTP-U, with another endpoint identifier in each direction",
        "gtp && tcp",
        ETHERNET,
        |frame| {
            let packet = frame.packet();
            let [high, low] = (packet.len as u16).to_be_bytes();
            let endpoint = 1 + u8::from(packet.is_outbound);
            packet.behind(&[0x30, 255, high, low, 0, 0, 0, endpoint]).in_udp(2152).in_ethernet(IPV4)
        }
    ),
    scenario!(
        "authentication-header",
        "loss-microseconds with an Authentication Header before TCP",
        "ah && tcp",
        ETHERNET,
        Data::authenticated
    ),
    scenario!(
        "tunnel-nested",
        "loss-microseconds in VXLAN, in GRE, behind a label of MPLS",
        "mpls && gre && vxlan && tcp",
        ETHERNET,
        |frame| frame.in_vxlan().in_ethernet(IPV4).in_gre().behind_label().in_ethernet(MPLS)
    ),
    scenario!(
        "wireless",
        "loss-microseconds as IEEE 802.11 has it, to an access point and from it",
        "wlan && tcp",
        WIRELESS,
        Data::in_wireless
    ),
    scenario!(
        "radiotap",
        "the same with radiotap's header",
        "radiotap && wlan && tcp",
        RADIOTAP,
        // Flags and rate.
        |frame| frame.in_wireless().behind(&[0, 0, 10, 0, 6, 0, 0, 0, 0, 12])
    ),
    scenario!("ppi", "the same with PPI's header", "ppi && wlan && tcp", PPI, |frame| frame
        .in_wireless()
        .behind(&[0, 0, 8, 0, 105, 0, 0, 0])),
    scenario!("nflog", "loss-microseconds as Linux's NFLOG has it", "nflog && tcp", NFLOG, Data::in_nflog),
    scenario!(
        "cisco-hdlc",
        "loss-microseconds behind Cisco's HDLC header, the half of it that is IPv6 behind a label of MPLS",
        "chdlc && tcp",
        CISCO_HDLC,
        |frame| {
            let packet = frame.packet();
            if packet.is_v6 {
                packet.behind_label().behind(&[0x0f, 0, 0x88, 0x47])
            } else {
                packet.behind(&[0x0f, 0, 8, 0])
            }
        }
    ),
];

/// Writes [`PLAIN`] as `wrap` makes it.
fn encapsulate(into: &Path, link_type: u32, wrap: fn(Data) -> Data) -> Result<()> {
    let mut capture = unpacked(PLAIN)?;
    ensure!(capture.link_type == ETHERNET, "link type {}", capture.link_type);
    capture.link_type = link_type;
    let addresses: Vec<u8> = capture.frames.first().map_or_else(Vec::new, |first| first.bytes[..12].to_vec());
    for frame in &mut capture.frames {
        let wrapped = wrap(Data {
            is_outbound: frame.bytes[..12] == addresses,
            is_v6: frame.bytes[12..14] == IPV6.to_be_bytes(),
            addresses: frame.bytes[..12].to_vec(),
            bytes: std::mem::take(&mut frame.bytes),
            len: frame.len as usize,
        });
        (frame.bytes, frame.len) = (wrapped.bytes, wrapped.len as u32);
    }
    capture.write(into)
}

/// A frame, or what is to be one.
struct Data {
    /// What was captured of it.
    bytes: Vec<u8>,
    /// How long it is on the wire.
    len: usize,
    /// Destination and source of the plain frame.
    addresses: Vec<u8>,
    /// It goes where the first frame goes.
    is_outbound: bool,
    /// The plain frame is of IPv6.
    is_v6: bool,
}

impl Data {
    fn behind(mut self, header: &[u8]) -> Self {
        self.len += header.len();
        self.bytes = [header, &self.bytes].concat();
        self
    }

    /// Of an Ethernet frame the packet.
    fn packet(mut self) -> Self {
        self.len -= ETHERNET_HEADER;
        self.bytes.drain(..ETHERNET_HEADER);
        self
    }

    fn in_ethernet(self, ethertype: u16) -> Self {
        let header = [&self.addresses[..], &ethertype.to_be_bytes()].concat();
        self.behind(&header)
    }

    fn in_v4(self, protocol: u8) -> Self {
        let len = (20 + self.len as u16).to_be_bytes();
        let (from, to) = if self.is_outbound { (1, 2) } else { (2, 1) };
        let addresses = [192, 0, 2, from, 192, 0, 2, to];
        self.behind(&[&[0x45, 0][..], &len, &[0, 0, 0x40, 0, 64, protocol, 0, 0], &addresses].concat())
    }

    fn in_v6(self, protocol: u8) -> Self {
        let len = (self.len as u16).to_be_bytes();
        let address = |last| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
        let (from, to) = if self.is_outbound { (1, 2) } else { (2, 1) };
        self.behind(&[&[0x60, 0, 0, 0][..], &len, &[protocol, 64], &address(from), &address(to)].concat())
    }

    fn in_udp(self, port: u16) -> Self {
        let len = (8 + self.len as u16).to_be_bytes();
        self.behind(&[&[0xc0, 0][..], &port.to_be_bytes(), &len, &[0, 0]].concat()).in_v4(UDP)
    }

    fn in_vxlan(self) -> Self {
        self.behind(&[8, 0, 0, 0, 0, 0, 42, 0]).in_udp(4789)
    }

    /// A frame in GRE with a key (RFC 2890).
    fn in_gre(self) -> Self {
        self.behind(&[0x20, 0, 0x65, 0x58, 0, 0, 0, 9]).in_v4(GRE)
    }

    /// The last label of MPLS.
    fn behind_label(self) -> Self {
        self.behind(&[0, 2, 1, 64])
    }

    /// An Authentication Header between IP and TCP (RFC 4302), in an Ethernet frame without IPv6 extension headers.
    fn authenticated(mut self) -> Self {
        let (protocol, length, end) = if self.is_v6 { (6, 4, 40) } else { (9, 2, 20) };
        let header = &mut self.bytes[ETHERNET_HEADER..];
        let next = std::mem::replace(&mut header[protocol], AUTHENTICATION);
        let total = u16::from_be_bytes([header[length], header[length + 1]]) + 24;
        header[length..length + 2].copy_from_slice(&total.to_be_bytes());
        let authentication = [&[next, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1][..], &[0; 12]].concat();
        let at = ETHERNET_HEADER + end;
        self.bytes.splice(at..at, authentication);
        self.len += 24;
        self
    }

    /// A data frame with three addresses, then LLC and SNAP.
    fn in_wireless(self) -> Self {
        let (to, from) = self.addresses.split_at(6);
        let point = [2, 0, 0, 0, 0, 9];
        let (control, addresses) = if self.is_outbound {
            ([0x08, 1], [&point[..], from, to].concat())
        } else {
            ([0x08, 2], [to, &point[..], from].concat())
        };
        let ethertype = if self.is_v6 { IPV6 } else { IPV4 }.to_be_bytes();
        let header = [&control[..], &[0, 0], &addresses, &[0, 0], &[0xaa, 0xaa, 3, 0, 0, 0], &ethertype].concat();
        self.packet().behind(&header)
    }

    /// Attributes of `nfnetlink_log`, in the order of the machine that captured; the last is the packet, of which the
    /// kernel copies as much as libpcap asks for, so that nothing says how long it was.
    fn in_nflog(self) -> Self {
        const PACKET_HEADER: u16 = 1;
        const PAYLOAD: u16 = 9;
        let family = if self.is_v6 { 10 } else { 2 };
        let ethertype = if self.is_v6 { IPV6 } else { IPV4 }.to_be_bytes();
        let attribute = |kind: u16, len: usize| [(4 + len as u16).to_le_bytes(), kind.to_le_bytes()].concat();
        let mut packet = self.packet();
        packet.len = packet.bytes.len();
        let before = [&attribute(PACKET_HEADER, 4)[..], &ethertype, &[0, 0]].concat();
        let header = [&[family, 0, 0, 5][..], &before, &attribute(PAYLOAD, packet.len)].concat();
        packet.behind(&header)
    }
}
