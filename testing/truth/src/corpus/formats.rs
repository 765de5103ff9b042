//! The files themselves as people have them: a plain capture of the corpus in other formats. Its samples must be the
//! same.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::encapsulate::PLAIN;
use super::file::{Capture, Frame, SNAPLEN};
use super::{Scenario, Truth, unpacked};

/// The formats' words in the order of another machine than most.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// A capture with the samples of the plain one.
const fn scenario(name: &'static str, shows: &'static str, make: fn(&Path) -> Result<()>) -> Scenario {
    Scenario { name, shows, must: &[], trusted: 100, truth: Truth::SameAs(PLAIN), make }
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "pcapng-obsolete-packets",
        "loss-microseconds as a big-endian pcapng with obsolete Packet Blocks",
        |into| write(into, &obsolete(&unpacked(PLAIN)?)),
    ),
    scenario(
        "pcap-2-2",
        "loss-microseconds as pcap of version 2.2: the two lengths of a record the other way round",
        |into| write(into, &old(&unpacked(PLAIN)?)),
    ),
    scenario(
        "appended",
        "loss-microseconds in two captures, the second appended to the first, big-endian and in nanoseconds",
        |into| write(into, &appended(&unpacked(PLAIN)?)),
    ),
    // What is made of these after that: `Scenario::packed`.
    scenario("zstd", "loss-microseconds compressed by zstd", plain),
    scenario("lz4", "loss-microseconds compressed by lz4", plain),
    Scenario {
        trusted: 30,
        truth: Truth::BeginsAs(PLAIN),
        ..scenario("cut-gzip", "loss-microseconds, compressed by gzip and cut in the middle", plain)
    },
];

fn plain(into: &Path) -> Result<()> {
    unpacked(PLAIN)?.write(into)
}

fn write(into: &Path, bytes: &[u8]) -> Result<()> {
    Ok(fs::write(into, bytes)?)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn halves(halves: &[u16]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_be_bytes()).collect()
}

/// draft-ietf-opsawg-pcapng, Appendix A.
fn obsolete(capture: &Capture) -> Vec<u8> {
    const SECTION: u32 = 0x0a0d_0d0a;
    const BYTE_ORDER: u32 = 0x1a2b_3c4d;
    const INTERFACE: u32 = 1;
    const PACKET: u32 = 2;
    let block = |kind: u32, body: &[u8]| {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let len = (12 + body.len() + padding.len()) as u32;
        [&words(&[kind, len]), body, &padding, &words(&[len])].concat()
    };
    let packet = |frame: &Frame| {
        // Interface 0, and how many were dropped: nobody knows.
        let before = halves(&[0, 0xffff]);
        let time = [(frame.time_us >> 32) as u32, frame.time_us as u32];
        let lengths = [frame.bytes.len() as u32, frame.len];
        block(PACKET, &[&before, &words(&time), &words(&lengths), &frame.bytes[..]].concat())
    };
    let section = block(SECTION, &[words(&[BYTE_ORDER]), halves(&[1, 0]), vec![0xff; 8]].concat());
    let interface = block(INTERFACE, &[halves(&[capture.link_type as u16, 0]), words(&[SNAPLEN])].concat());
    [section, interface].into_iter().chain(capture.frames.iter().map(packet)).flatten().collect()
}

/// A big-endian pcap of this version, of some of the frames.
fn pcap(magic: u32, version: u16, link_type: u32, frames: &[Frame]) -> Vec<u8> {
    let header = [words(&[magic]), halves(&[2, version]), words(&[0, 0, SNAPLEN, link_type])].concat();
    let scale = if magic == NANOSECONDS { 1000 } else { 1 };
    let record = |frame: &Frame| {
        let (seconds, fraction) = (frame.time_us / 1_000_000, frame.time_us % 1_000_000 * scale);
        let (captured, len) = (frame.bytes.len() as u32, frame.len);
        let lengths = if version < 3 { [len, captured] } else { [captured, len] };
        [words(&[seconds as u32, fraction as u32]), words(&lengths), frame.bytes.clone()].concat()
    };
    [header].into_iter().chain(frames.iter().map(record)).flatten().collect()
}

fn old(capture: &Capture) -> Vec<u8> {
    pcap(MICROSECONDS, 2, capture.link_type, &capture.frames)
}

fn appended(capture: &Capture) -> Vec<u8> {
    let (first, second) = capture.frames.split_at(capture.frames.len() / 2);
    let first = Capture { link_type: capture.link_type, frames: first.to_vec() };
    [first.bytes(), pcap(NANOSECONDS, 4, capture.link_type, second)].concat()
}
