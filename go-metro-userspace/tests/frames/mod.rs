//! Packets made by hand: builders that fill in what is right, and leave it to the case to break it.

#![allow(dead_code, unreachable_pub)]

pub mod cases;
pub mod kernel;

use std::net::{Ipv4Addr, Ipv6Addr};

use go_metro_common::segment::TcpFlags;

pub const ETH_P_IP: u16 = 0x0800;
pub const ETH_P_IPV6: u16 = 0x86dd;
pub const ETH_P_8021Q: u16 = 0x8100;
pub const ETH_P_8021AD: u16 = 0x88a8;
pub const ETH_P_QINQ1: u16 = 0x9100;

pub const HOP_BY_HOP: u8 = 0;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const AUTHENTICATION: u8 = 51;
pub const DESTINATION: u8 = 60;
pub const MOBILITY: u8 = 135;

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: usize,
    /// Data offset in words, where it is to be another than the right one.
    pub data_offset: Option<u8>,
}

/// Data of a connection under way: an ACK with 100 bytes.
pub fn data() -> Tcp {
    Tcp {
        source: 40_000,
        destination: 443,
        seq: 0x0102_0304,
        ack: 0xfffe_fdfc,
        flags: TcpFlags::ACK | TcpFlags::PSH,
        window: 0x1234,
        options: Vec::new(),
        payload: 100,
        data_offset: None,
    }
}

/// An acknowledgement without data.
pub fn ack() -> Tcp {
    Tcp { payload: 0, flags: TcpFlags::ACK, ..data() }
}

impl Tcp {
    pub fn with_flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    pub fn with_payload(self, payload: usize) -> Self {
        Self { payload, ..self }
    }

    pub fn with_ack(self, ack: u32) -> Self {
        Self { ack, ..self }
    }

    pub fn with_data_offset(self, words: u8) -> Self {
        Self { data_offset: Some(words), ..self }
    }

    /// Options as they are, padded with zeros (end of list) to whole words.
    pub fn with_options(self, options: &[&[u8]]) -> Self {
        let mut options = options.concat();
        options.resize(options.len().next_multiple_of(4), 0);
        Self { options, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let words = self.data_offset.unwrap_or((5 + self.options.len() / 4) as u8);
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([words << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.extend((0..self.payload).map(|at| at as u8));
        bytes
    }
}

/// A timestamps option.
pub fn timestamps(tsval: u32, tsecr: u32) -> Vec<u8> {
    [&[8, 10][..], &tsval.to_be_bytes(), &tsecr.to_be_bytes()].concat()
}

/// A SACK option with these blocks.
pub fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut option = vec![5, (2 + 8 * blocks.len()) as u8];
    for (left, right) in blocks {
        option.extend(left.to_be_bytes());
        option.extend(right.to_be_bytes());
    }
    option
}

/// An IPv4 packet around `payload`. Its header may be broken afterwards: it begins at 0, and options have been made
/// room for.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4));
    let header = 20 + options.len();
    let mut bytes = vec![0x40 | (header / 4) as u8, 0];
    bytes.extend(((header + payload.len()) as u16).to_be_bytes());
    bytes.extend([0x12, 0x34, 0x40, 0, 64, TCP, 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

/// An IPv6 packet around `payload`, whose first header is `next`.
pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(payload);
    bytes
}

/// An extension header of `len` bytes (a multiple of 8), before `rest`.
pub fn extension(next: u8, len: usize, rest: &[u8]) -> Vec<u8> {
    assert!(len.is_multiple_of(8));
    let mut bytes = vec![0; len];
    bytes[0] = next;
    bytes[1] = (len / 8 - 1) as u8;
    bytes.extend(rest);
    bytes
}

/// A fragment header, before `rest`. The offset is in bytes, a multiple of 8.
pub fn fragment(next: u8, offset: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend((offset | 1).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(rest);
    bytes
}

/// An Ethernet frame with these VLAN tags, outermost first.
pub fn ethernet(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0, 42]);
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes
}
