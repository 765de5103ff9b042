//! Captures that this machine's kernel does not write: a real capture with its frames in other wrappings, doubled, or
//! thinned.

use std::path::Path;

use anyhow::{Result, ensure};

use super::file::{Capture, ETHERNET, ETHERNET_HEADER, Frame};

// Link types, tcpdump.org/linktypes.html.
const NULL: u32 = 0;
const PPP: u32 = 9;
const LOOP: u32 = 108;

const IPV6: [u8; 2] = [0x86, 0xdd];

/// A wrapping of IP packets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wrapping {
    /// BSD's loopback device: the address family in the order of the machine that captured; here one of the other
    /// order.
    Null,
    /// OpenBSD's: in network order.
    Loop,
    /// PPPoE in Ethernet (RFC 2516).
    Pppoe,
    /// PPP in HDLC-like framing (RFC 1662).
    Ppp,
    /// Ethernet, IPv6 with a Fragment header that says that there is but this one (RFC 6946).
    AtomicFragments,
}

impl Wrapping {
    fn link_type(self) -> u32 {
        match self {
            Self::Null => NULL,
            Self::Loop => LOOP,
            Self::Ppp => PPP,
            Self::Pppoe | Self::AtomicFragments => ETHERNET,
        }
    }

    /// This Ethernet frame, `len` long on the wire, in the other wrapping.
    fn wrap(self, ethernet: &[u8], len: u32) -> Vec<u8> {
        let (header, packet) = ethernet.split_at(ETHERNET_HEADER);
        let is_v6 = header[12..] == IPV6;
        // The families of FreeBSD.
        let family: u32 = if is_v6 { 28 } else { 2 };
        let ppp = if is_v6 { [0x00, 0x57] } else { [0x00, 0x21] };
        let before = match self {
            Self::Null | Self::Loop => family.to_be_bytes().to_vec(),
            Self::Ppp => [[0xff, 0x03], ppp].concat(),
            Self::Pppoe => {
                let len = (len as u16 - ETHERNET_HEADER as u16 + 2).to_be_bytes();
                [&header[..12], &[0x88, 0x64, 0x11, 0, 0, 7], &len, &ppp].concat()
            }
            Self::AtomicFragments if is_v6 => return [header, &with_fragment_header(packet)].concat(),
            Self::AtomicFragments => header.to_vec(),
        };
        [&before, packet].concat()
    }
}

fn with_fragment_header(packet: &[u8]) -> Vec<u8> {
    let (fixed, rest) = packet.split_at(40);
    let mut fixed = fixed.to_vec();
    let len = u16::from_be_bytes([fixed[4], fixed[5]]) + 8;
    fixed[4..6].copy_from_slice(&len.to_be_bytes());
    let next = std::mem::replace(&mut fixed[6], 44);
    [&fixed[..], &[next, 0, 0, 0, 0, 0, 0, 9], rest].concat()
}

/// Puts the frames of a capture, Ethernet without tags, into another wrapping.
pub(super) fn wrap(file: &Path, wrapping: Wrapping) -> Result<()> {
    let mut capture = Capture::read(file)?;
    ensure!(capture.link_type == ETHERNET, "link type {}", capture.link_type);
    capture.link_type = wrapping.link_type();
    for frame in &mut capture.frames {
        let wrapped = wrapping.wrap(&frame.bytes, frame.len);
        frame.len = frame.len + wrapped.len() as u32 - frame.bytes.len() as u32;
        frame.bytes = wrapped;
    }
    capture.write(file)
}

/// Doubles every frame, as a switch does that mirrors both ports of a path: the copy comes some microseconds later.
pub(super) fn double(file: &Path) -> Result<()> {
    let mut capture = Capture::read(file)?;
    let copy = |(k, frame): (usize, &Frame)| Frame { time_us: frame.time_us + 2 + k as u64 % 5, ..frame.clone() };
    let copies: Vec<Frame> = capture.frames.iter().enumerate().map(copy).collect();
    capture.frames.extend(copies);
    capture.frames.sort_by_key(|frame| frame.time_us);
    capture.write(file)
}

/// Drops one frame in ten, as an overrun buffer does: now and then one, now and then several.
pub(super) fn drop_some(file: &Path) -> Result<()> {
    let mut capture = Capture::read(file)?;
    let mut random = fastrand::Rng::with_seed(4);
    let mut burst = 0;
    capture.frames.retain(|_| {
        if burst == 0 && random.f64() < 0.05 {
            burst = random.usize(1..4);
        }
        let dropped = burst > 0;
        burst -= usize::from(dropped);
        !dropped
    });
    capture.write(file)
}
