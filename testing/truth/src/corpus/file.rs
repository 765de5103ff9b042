//! A capture as the scenarios that rewrite one need it: pcap as tcpdump writes it on this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Microseconds, in the host's byte order.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
/// What is captured of a frame at most, which readers want to be told.
pub(super) const SNAPLEN: u32 = 262_144;

/// Link type of Ethernet, tcpdump.org/linktypes.html.
pub(super) const ETHERNET: u32 = 1;
/// Two Ethernet addresses and a type.
pub(super) const ETHERNET_HEADER: usize = 14;

/// A captured frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) time_us: u64,
    pub(super) bytes: Vec<u8>,
    /// On the wire.
    pub(super) len: u32,
}

/// Frames of one link type.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    pub(super) link_type: u32,
    pub(super) frames: Vec<Frame>,
}

impl Capture {
    /// Reads a file of tcpdump's.
    pub(super) fn read(file: &Path) -> Result<Self> {
        Self::parse(&fs::read(file)?)
    }

    /// Reads what is in a file of tcpdump's.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let word = |at: usize| -> Result<u32> {
            let word = bytes.get(at..at + 4).context("the capture is cut")?;
            Ok(u32::from_ne_bytes(word.try_into()?))
        };
        ensure!(word(0)? == MICROSECONDS, "not a capture in microseconds of this machine");
        let (mut frames, mut at) = (Vec::new(), 24);
        while at < bytes.len() {
            let (seconds, fraction, captured) = (word(at)?, word(at + 4)?, word(at + 8)? as usize);
            let data = bytes.get(at + 16..at + 16 + captured).context("the capture is cut")?;
            frames.push(Frame {
                time_us: u64::from(seconds) * 1_000_000 + u64::from(fraction),
                bytes: data.to_vec(),
                len: word(at + 12)?,
            });
            at += 16 + captured;
        }
        Ok(Self { link_type: word(20)?, frames })
    }

    /// How many frames are whole in the beginning of what is in a file of tcpdump's.
    pub(super) fn whole_frames(bytes: &[u8]) -> usize {
        (0..=bytes.len()).rev().find_map(|len| Self::parse(&bytes[..len]).ok()).map_or(0, |read| read.frames.len())
    }

    /// Writes it.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        Ok(fs::write(file, self.bytes())?)
    }

    /// What is in the file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        bytes.extend(words(&[MICROSECONDS, u32::from_ne_bytes(version()), 0, 0, SNAPLEN, self.link_type]));
        for frame in &self.frames {
            let (seconds, fraction) = (frame.time_us / 1_000_000, frame.time_us % 1_000_000);
            bytes.extend(words(&[seconds as u32, fraction as u32, frame.bytes.len() as u32, frame.len]));
            bytes.extend(&frame.bytes);
        }
        bytes
    }
}

/// Version 2.4, two 16-bit numbers.
fn version() -> [u8; 4] {
    let ([a, b], [c, d]) = (2_u16.to_ne_bytes(), 4_u16.to_ne_bytes());
    [a, b, c, d]
}
