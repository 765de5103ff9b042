//! A recording as a pcapng file (draft-ietf-opsawg-pcapng): packets that begin with their IP headers, and nothing
//! behind their TCP headers.
//!
//! Written here and not by a library, as those that there are know no options for local use.

use std::io::{self, Write};

use bytes::BufMut as _;
use go_metro_common::segment::TcpFlags;
use go_metro_rtt::Endpoint;

use super::choice::{Focus, Packet, Recording};
use super::headers::{self, SCALE};
use super::note::{OPTION, Section, View};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
/// What a recording by hand ends with.
pub(super) const INTERFACE_STATISTICS: u32 = 5;
pub(super) const ENHANCED_PACKET: u32 = 6;
/// LINKTYPE_RAW (tcpdump.org/linktypes.html): the first four bits are IP's version.
const RAW: u16 = 101;

// Options: of any block, of a section, of an interface, of a packet, of an interface's statistics.
const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
const USER_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_DESCRIBED: u16 = 3;
const TIME_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const RECEIVED: u16 = 4;

/// What is known of a recording beside its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Described {
    /// What to add to the records' times for nanoseconds since the epoch.
    pub(crate) epoch_offset_ns: i64,
    /// Names of interfaces by their indices.
    pub(crate) interfaces: Vec<(u32, String)>,
}

/// Writes it.
///
/// # Errors
///
/// What writing fails with.
pub(crate) fn write(recording: &Recording, described: &Described, out: &mut impl Write) -> io::Result<()> {
    let (mut writer, mut blocks) = (Writer::default(), Vec::new());
    writer.begin(&recording.section, &about_whole(recording, described), &mut blocks);
    let focused = recording.focused();
    for (number, packet) in recording.packets.iter().enumerate() {
        let focus = focused.and_then(|focused| of_focus(recording, focused, number));
        writer.packet(packet, focus, described, &mut blocks);
        out.write_all(&blocks)?;
        blocks.clear();
    }
    out.write_all(&blocks)
}

/// Writes a section, block by block.
#[derive(Default)]
pub(super) struct Writer {
    /// Indices of the interfaces that it has described, and how many packets each has had.
    interfaces: Vec<(u32, u64)>,
    /// When the last packet was, in nanoseconds since the epoch.
    last: u64,
}

impl Writer {
    /// The section's own block; `about` is for people.
    pub(super) fn begin(&mut self, its: &Section, about: &str, into: &mut Vec<u8>) {
        into.put_slice(&section(its, about));
    }

    /// A packet, behind the description of its interface where it is that one's first; and what it is to what the
    /// recording is for.
    pub(super) fn packet(&mut self, packet: &Packet, focus: Option<String>, described: &Described, into: &mut Vec<u8>) {
        let index = packet.segment.flow.ifindex;
        let known = self.interfaces.iter().position(|(its, _)| *its == index);
        let number = known.unwrap_or_else(|| {
            into.put_slice(&interface(&described.name(index)));
            self.interfaces.push((index, 0));
            self.interfaces.len() - 1
        });
        self.interfaces[number].1 += 1;
        self.last = packet.segment.time().0.saturating_add_signed(described.epoch_offset_ns);
        put_packet(packet, number as u32, self.last, &comment(packet, focus), into);
    }

    /// What shows that nothing is missing at the end: statistics of each interface; `about` is for people.
    pub(super) fn end(&self, about: &str, into: &mut Vec<u8>) {
        for (number, (_, packets)) in self.interfaces.iter().enumerate() {
            let mut body = Vec::new();
            body.put_u32_le(number as u32);
            body.put_u32_le((self.last >> 32) as u32);
            body.put_u32_le(self.last as u32);
            put_option(COMMENT, about.as_bytes(), &mut body);
            put_option(RECEIVED, &packets.to_le_bytes(), &mut body);
            put_option(END_OF_OPTIONS, &[], &mut body);
            put_block(INTERFACE_STATISTICS, &body, into);
        }
    }
}

impl Described {
    /// What an interface is called.
    fn name(&self, index: u32) -> String {
        let known = self.interfaces.iter().find(|(its, _)| *its == index);
        known.map_or_else(|| index.to_string(), |(_, name)| name.clone())
    }
}

fn section(section: &Section, about: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u32_le(BYTE_ORDER);
    body.put_u16_le(1);
    body.put_u16_le(0);
    // Its length is not told.
    body.put_u64_le(u64::MAX);
    put_option(USER_APPLICATION, concat!("go-metro ", env!("CARGO_PKG_VERSION")).as_bytes(), &mut body);
    put_option(COMMENT, about.as_bytes(), &mut body);
    put_option(OPTION, &section.encode(), &mut body);
    put_option(END_OF_OPTIONS, &[], &mut body);
    let mut block = Vec::new();
    put_block(SECTION_HEADER, &body, &mut block);
    block
}

/// What a file is and what of it was made up, for people.
pub(super) fn about() -> String {
    format!(
        "Made by go-metro from segment records, not captured. Headers are built from addresses, ports, sequence and \
         acknowledgement numbers, control bits, window, timestamps, SACK-permitted, length of the payload and time, \
         which are as they were. Made up: TTL 64; no identification; window scale {SCALE} in SYNs, as records have \
         none; where SACK blocks lie; checksums as for a payload of zeros. Other options are not recorded, and \
         segments that tell nothing about round trips are not there: \"previous segment not captured\" and \"ACKed \
         unseen segment\" are no losses here."
    )
}

/// The same of a recording that is whole, with what it is for and what it has.
fn about_whole(recording: &Recording, described: &Described) -> String {
    let Recording { samples, missing, left_out, .. } = recording;
    let mut text = format!("{} {}", about(), found(*samples, *missing));
    if *left_out > 0 {
        text += &format!(" {left_out} records were left out to keep it small.");
    }
    if let Some(focus) = recording.focus {
        text += &format!(" Recorded for {} on {}.", told(&focus), described.name(focus.flow.ifindex));
    }
    text
}

/// What `read` finds in a file, for people.
pub(super) fn found(samples: u64, missing: u64) -> String {
    let mut text = format!("`go-metro read` finds {samples} samples in it, as they were reported.");
    if missing > 0 {
        text += &format!(" {missing} more were reported, of segments that were sent before it begins.");
    }
    text
}

/// A sample that a recording is made for, for people.
fn told(focus: &Focus) -> String {
    let Focus { flow, rtt, base, .. } = focus;
    let base = base.map(|base| format!(", {:.3} ms at the lowest in ten minutes", base.as_millis_f64()));
    let [from, to]: [Endpoint; 2] = match flow.side {
        go_metro_rtt::Side::Remote => [flow.local, flow.remote],
        go_metro_rtt::Side::Local => [flow.remote, flow.local],
    };
    format!("a round trip of {:.6} ms from {from} to {to}{}", rtt.as_millis_f64(), base.unwrap_or_default())
}

/// What a packet is to what a recording is made for, by the numbers of the packets that matter.
fn of_focus(recording: &Recording, (at, sent): (usize, Option<usize>), number: usize) -> Option<String> {
    let focus = recording.focus?;
    if number == at {
        let frame = sent.map(|sent| format!(", of frame {}", sent + 1)).unwrap_or_default();
        return Some(format!("{}{frame}", told(&focus)));
    }
    let ms = focus.rtt.as_millis_f64();
    (Some(number) == sent).then(|| format!("acknowledged by frame {}, {ms:.6} ms later", at + 1))
}

/// What is to be said of a packet, for people; mostly nothing.
fn comment(Packet { segment, views }: &Packet, focus: Option<String>) -> String {
    let mut said: Vec<String> = focus.into_iter().collect();
    let any = |mark: u32| views.each().any(|view| view.has(mark));
    if any(View::GAP) {
        said.push("records may be missing before it".to_owned());
    }
    if any(View::INTERRUPTED) {
        said.push("segments may have passed unseen before it".to_owned());
    }
    if any(View::UNTOLD) {
        said.push("no sample, for a reason before this file begins".to_owned());
    }
    if segment.header.flags.any(TcpFlags::SYN) {
        said.push(format!("window scale {SCALE} is made up, and the MSS is not recorded"));
    }
    if said.is_empty() { String::new() } else { format!("go-metro: {}", said.join("; ")) }
}

fn interface(name: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u16_le(RAW);
    body.put_u16_le(0);
    // No limit: what is captured of a packet is its headers.
    body.put_u32_le(0);
    put_option(INTERFACE_NAME, name.as_bytes(), &mut body);
    put_option(INTERFACE_DESCRIBED, b"headers made from go-metro's segment records", &mut body);
    put_option(TIME_RESOLUTION, &[9], &mut body);
    put_option(END_OF_OPTIONS, &[], &mut body);
    let mut block = Vec::new();
    put_block(INTERFACE_DESCRIPTION, &body, &mut block);
    block
}

fn put_packet(Packet { segment, views }: &Packet, interface: u32, time: u64, comment: &str, block: &mut Vec<u8>) {
    let mut bytes = Vec::with_capacity(headers::LONGEST);
    let wire_len = headers::write(segment, &mut bytes);
    let mut body = Vec::with_capacity(256);
    body.put_u32_le(interface);
    body.put_u32_le((time >> 32) as u32);
    body.put_u32_le(time as u32);
    body.put_u32_le(bytes.len() as u32);
    body.put_u32_le(wire_len);
    put_padded(&bytes, &mut body);
    // Which way it went: 1 is inbound, 2 outbound.
    let way: u32 = if headers::is_sent(segment) { 2 } else { 1 };
    put_option(PACKET_FLAGS, &way.to_le_bytes(), &mut body);
    if !comment.is_empty() {
        put_option(COMMENT, comment.as_bytes(), &mut body);
    }
    put_option(OPTION, &views.encode(), &mut body);
    put_option(END_OF_OPTIONS, &[], &mut body);
    put_block(ENHANCED_PACKET, &body, block);
}

/// Type, length, body, length.
fn put_block(kind: u32, body: &[u8], into: &mut Vec<u8>) {
    let len = 12 + body.len() as u32;
    into.put_u32_le(kind);
    into.put_u32_le(len);
    into.put_slice(body);
    into.put_u32_le(len);
}

/// Code, length, value. One that is longer than a length can tell is cut.
fn put_option(code: u16, value: &[u8], into: &mut Vec<u8>) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    into.put_u16_le(code);
    into.put_u16_le(value.len() as u16);
    put_padded(value, into);
}

/// Bytes, filled up with zeros to a multiple of four.
fn put_padded(bytes: &[u8], into: &mut Vec<u8>) {
    into.put_slice(bytes);
    into.put_bytes(0, bytes.len().next_multiple_of(4) - bytes.len());
}
