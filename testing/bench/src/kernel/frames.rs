//! One packet for each path.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The end whose segments are timed.
pub(super) const LOCAL4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The same.
pub(super) const LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// A target.
pub(super) const REMOTE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// A target.
pub(super) const REMOTE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
/// None.
pub(super) const STRANGER4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;

/// NOP, NOP, timestamps.
const USUAL: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
/// The same and two SACK blocks.
const SACK: [u8; 32] =
    [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 18, 0, 0, 9, 0, 0, 0, 9, 9, 0, 0, 8, 0, 0, 0, 8, 8];

/// Which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Way {
    Out,
    In,
}

/// A path through the classifier, and a packet that takes it.
pub(super) struct Path {
    pub(super) name: &'static str,
    pub(super) way: Way,
    /// Whether it leaves a record.
    pub(super) emits: bool,
    pub(super) bytes: Vec<u8>,
}

/// Every path, cheapest refusal first.
pub(super) fn paths() -> Vec<Path> {
    let out = |name, emits, bytes| Path { name, way: Way::Out, emits, bytes };
    let data = segment(&USUAL, 100);
    let mut udp = ipv4(LOCAL4, REMOTE4, &data);
    udp[9] = UDP;
    vec![
        out("other ethertype (ARP)", false, ethernet(ETH_P_ARP, &[0; 46])),
        out("not TCP (UDP)", false, ethernet(ETH_P_IP, &udp)),
        out("TCP of no target", false, ethernet(ETH_P_IP, &ipv4(LOCAL4, STRANGER4, &data))),
        out(
            "target, not emitted: pure ACK out",
            false,
            ethernet(ETH_P_IP, &ipv4(LOCAL4, REMOTE4, &segment(&USUAL, 0))),
        ),
        out("target, emitted: data out", true, ethernet(ETH_P_IP, &ipv4(LOCAL4, REMOTE4, &data))),
        Path {
            name: "target, emitted: ACK in",
            way: Way::In,
            emits: true,
            bytes: ethernet(ETH_P_IP, &ipv4(REMOTE4, LOCAL4, &segment(&USUAL, 0))),
        },
        out("emitted, IPv6", true, ethernet(ETH_P_IPV6, &ipv6(LOCAL6, REMOTE6, &data))),
        out("emitted, VLAN tag in band", true, tagged(ETH_P_IP, &ipv4(LOCAL4, REMOTE4, &data))),
        Path {
            name: "emitted, with SACK blocks",
            way: Way::In,
            emits: true,
            bytes: ethernet(ETH_P_IP, &ipv4(REMOTE4, LOCAL4, &segment(&SACK, 0))),
        },
    ]
}

/// A packet so large that a packet socket leaves all but its Ethernet header outside the linear part.
pub(super) fn not_linear() -> Path {
    let bytes = ethernet(ETH_P_IP, &ipv4(LOCAL4, REMOTE4, &segment(&USUAL, 9000)));
    Path { name: "emitted, headers not linear", way: Way::Out, emits: true, bytes }
}

fn segment(options: &[u8], payload: usize) -> Vec<u8> {
    let mut bytes = [&40_000_u16.to_be_bytes()[..], &443_u16.to_be_bytes(), &[0, 0, 1, 0, 0, 0, 2, 0]].concat();
    bytes.extend([(((20 + options.len()) / 4) << 4) as u8, ACK, 1, 0, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.resize(bytes.len() + payload, 0);
    bytes
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut bytes = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 1, 0x40, 0, 64, TCP, 0, 0]].concat();
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(payload);
    bytes
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0x60, 0, 0, 0][..], &(payload.len() as u16).to_be_bytes(), &[TCP, 64]].concat();
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(payload);
    bytes
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let addresses = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    [&addresses[..], &ethertype.to_be_bytes(), payload].concat()
}

fn tagged(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let tag_and_rest = [&[0, 42][..], &ethertype.to_be_bytes(), payload].concat();
    ethernet(ETH_P_8021Q, &tag_and_rest)
}
