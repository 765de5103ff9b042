//! A SYN flood from a host: each segment of a flow of its own, as a port scanner or a broken client sends them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use anyhow::Result;

use super::Host;
use super::frame::VNET_HEADER;
use super::port::Port;

/// Where the flood goes: 10.66.1.0 and up, 65,536 flows to each.
pub const NET: &str = "10.66.0.0/16";

/// Sends a SYN for each number of `flows` out of a host's `interface`, which best leads nowhere; how many the kernel
/// took.
///
/// # Errors
///
/// There is no such interface.
pub fn syn_flood(host: &Host, interface: &str, flows: Range<u32>) -> Result<u64> {
    let mut port = host.enter(|| Port::packet(interface))?;
    let mut frame = frame();
    let mut sent = 0;
    for flow in flows {
        let [high, low] = [(flow >> 16) as u8, 0];
        frame[DESTINATION..DESTINATION + 4].copy_from_slice(&[10, 66, 1 + high, low]);
        frame[PORT..PORT + 2].copy_from_slice(&(flow as u16).to_be_bytes());
        sent += u64::from(port.send(&frame));
    }
    Ok(sent)
}

const IP: usize = VNET_HEADER + 14;
const DESTINATION: usize = IP + 16;
const PORT: usize = IP + 20;

/// A virtio header without offloads, Ethernet, IPv4, TCP. Nobody checks its checksums.
fn frame() -> Vec<u8> {
    let mut frame = vec![0; VNET_HEADER];
    frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(Ipv4Addr::new(10, 66, 0, 1).octets());
    frame.extend([0; 4]);
    // Ports, sequence and acknowledgement number, five words of header, SYN, window, checksum, urgent pointer.
    frame.extend([0, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// A TCP segment over IPv4, of whatever addresses.
#[derive(Clone, Copy, Debug)]
pub struct Forged {
    /// Who seems to send it.
    pub from: SocketAddrV4,
    /// Whom it seems to be for.
    pub to: SocketAddrV4,
    /// Its sequence number.
    pub seq: u32,
    /// Its acknowledgement number.
    pub ack: u32,
    /// Its flags, as in the header.
    pub flags: u8,
    /// Bytes of payload.
    pub payload: u16,
}

impl Forged {
    /// `SYN`.
    pub const SYN: u8 = 0x02;
    /// `ACK`.
    pub const ACK: u8 = 0x10;

    /// Behind a virtio header. It is for nobody's link address, and nobody checks its checksums.
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; VNET_HEADER];
        frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]);
        frame.extend((40 + self.payload).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(self.from.ip().octets());
        frame.extend(self.to.ip().octets());
        frame.extend(self.from.port().to_be_bytes());
        frame.extend(self.to.port().to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.resize(frame.len() + usize::from(self.payload), 0);
        frame
    }
}

/// Sends segments with any source address out of a host's `interface`; returns how many the kernel took.
///
/// # Errors
///
/// There is no such interface.
pub fn forge(host: &Host, interface: &str, segments: impl IntoIterator<Item = Forged>) -> Result<u64> {
    let mut port = host.enter(|| Port::sender(interface))?;
    Ok(segments.into_iter().map(|segment| u64::from(port.send(&segment.frame()))).sum())
}
