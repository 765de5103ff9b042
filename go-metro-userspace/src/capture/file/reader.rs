//! Frames out of a capture file, pcap or pcapng, several of them perhaps one after the other.
//!
//! Nothing is copied and nothing is allocated for a frame: it is a slice of the buffer that the file is read into.

use std::io::{ErrorKind, Read};

use go_metro_rtt::Nanos;

use super::input::{Input, is_compressed};
use super::pcap::{self, Pcap};
use super::pcapng::{self, Section};
use crate::capture::decode::LinkType;
use crate::record::note::{self, Views};

/// Largest block, and so the largest frame: far above any super-segment.
pub(super) const LARGEST: usize = 4 << 20;
/// What is read at once: what is decoded is then still in the cache that it was read into.
const CHUNK: usize = 1 << 16;

/// A captured frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) bytes: &'a [u8],
    /// How long it was on the wire, as the file has it.
    pub(super) wire_len: u32,
    /// None for those of Simple Packet Blocks, which have none.
    pub(super) time: Option<Nanos>,
    /// Number of the interface within the section; 0 in pcap.
    pub(super) interface: u32,
    /// None if the file does not describe the interface.
    pub(super) link_type: Option<LinkType>,
    /// What it is to a meter, in what is made of records.
    pub(super) views: Views,
    /// Where what comes is made of records and what came before is not, or the other way round: what is said of them.
    pub(super) turn: Option<Option<note::Section>>,
}

/// A frame's place in the bytes that follow, and what the file says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Where its bytes begin.
    pub(super) at: usize,
    /// How many of them there are.
    pub(super) captured: usize,
    /// Bytes from the beginning of its block to the next block.
    pub(super) block: usize,
    pub(super) wire_len: u32,
    pub(super) time: Option<Nanos>,
    pub(super) interface: u32,
    pub(super) link_type: Option<LinkType>,
    pub(super) views: Views,
}

/// What comes next in a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    Frame(Found),
    /// So many bytes that a section begins with; if it is made of records, what is said of them.
    Section(usize, Option<note::Section>),
    /// So many bytes that hold no frame.
    Nothing(usize),
    /// So many bytes at least must be there to say.
    Incomplete(usize),
    /// No sense can be made of it as what came before it: another capture may begin here.
    Malformed,
}

/// What the frames to come are in.
enum Format {
    Pcap(Pcap),
    PcapNg(Section),
}

/// Why there is no frame to be found.
pub(super) enum NoFrames {
    /// How the input breaks before its first byte.
    NothingComesOut(String),
    /// Why it is no capture.
    NoCapture(String),
}

/// A file that is being read.
pub(super) struct Reader {
    input: Input,
    buffer: Box<[u8]>,
    /// What has not been handed out yet is `buffer[start..end]`.
    start: usize,
    end: usize,
    ended: bool,
    format: Format,
    broken: Option<String>,
    /// Whether what is read now is made of records.
    is_recorded: bool,
    /// [`Frame::turn`] of the next frame.
    turn: Option<Option<note::Section>>,
}

impl Reader {
    /// Reads the beginning of a file.
    pub(super) fn new(input: Input) -> Result<Self, NoFrames> {
        let buffer = vec![0; LARGEST].into_boxed_slice();
        let format = Format::PcapNg(Section::default());
        let (is_recorded, turn) = (false, None);
        let mut reader =
            Self { input, buffer, start: 0, end: 0, ended: false, format, broken: None, is_recorded, turn };
        while reader.end < pcap::HEADER && reader.refill() {}
        if let Some((format, header)) = begins(&reader.buffer[..reader.end]) {
            (reader.format, reader.start) = (format, header);
            reader.settle();
            return Ok(reader);
        }
        Err(match (reader.end, reader.broken) {
            (0, Some(broken)) => NoFrames::NothingComesOut(broken),
            (_, Some(broken)) => NoFrames::NoCapture(broken),
            (0, None) => NoFrames::NoCapture("it is empty".to_owned()),
            (_, None) => NoFrames::NoCapture(
                "expected pcap or pcapng, plain or compressed with gzip, zstd or lz4; \
                 `editcap -F pcapng` converts other formats"
                    .to_owned(),
            ),
        })
    }

    /// Finds out which kind of pcap it is, which takes some records.
    fn settle(&mut self) {
        while let Format::Pcap(pcap) = &mut self.format
            && !pcap.settle(&self.buffer[self.start..self.end], self.ended)
            && !self.ended
        {
            self.refill();
        }
    }

    /// The next frame; None at the end, which [`Self::broken`] may explain.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Frame<'_>> {
        let Found { at, captured, block, wire_len, time, interface, link_type, views } = self.find()?;
        let turn = self.turn.take();
        let bytes = &self.buffer[self.start + at..self.start + at + captured];
        self.start += block;
        Some(Frame { bytes, wire_len, time, interface, link_type, views, turn })
    }

    /// Where the next frame is, relative to the start of what is left.
    #[inline]
    fn find(&mut self) -> Option<Found> {
        loop {
            let rest = &self.buffer[self.start..self.end];
            let piece = match &mut self.format {
                Format::Pcap(pcap) => pcap.piece(rest),
                Format::PcapNg(section) => section.piece(rest),
            };
            match piece {
                Piece::Frame(found) => return Some(found),
                Piece::Nothing(len) => self.start += len,
                Piece::Section(len, recorded) => {
                    self.start += len;
                    self.turn_to(recorded);
                }
                Piece::Incomplete(needed) if needed > LARGEST => {
                    self.break_off(match self.format {
                        Format::Pcap(_) => format!("a packet is longer than {LARGEST} bytes"),
                        Format::PcapNg(_) => format!("a block is larger than {LARGEST} bytes"),
                    });
                    return None;
                }
                Piece::Incomplete(_) => {
                    if !self.refill() {
                        if self.start < self.end && self.broken.is_none() {
                            self.break_off("it ends inside a packet".to_owned());
                        }
                        return None;
                    }
                }
                Piece::Malformed => match begins(rest) {
                    // A section whose own header is malformed begins here again and again.
                    Some((format, header)) if header > 0 || matches!(self.format, Format::Pcap(_)) => {
                        self.format = format;
                        self.start += header;
                        self.turn_to(None);
                    }
                    None if is_compressed(rest) && self.input.take_back(rest) => {
                        (self.start, self.end, self.ended) = (0, 0, false);
                    }
                    _ => {
                        self.break_off("a block is malformed".to_owned());
                        return None;
                    }
                },
            }
        }
    }

    /// Each recording is one of its own; what was captured goes on as one.
    fn turn_to(&mut self, recorded: Option<note::Section>) {
        if std::mem::replace(&mut self.is_recorded, recorded.is_some()) || recorded.is_some() {
            self.turn = Some(recorded);
        }
    }

    /// The name of the interface of a frame that is made of a record.
    pub(super) fn name(&self, interface: u32) -> Option<&str> {
        match &self.format {
            Format::Pcap(_) => None,
            Format::PcapNg(section) => section.name(interface),
        }
    }

    /// Decompresses on a thread of its own; whether it is compressed.
    pub(super) fn decompress_beside(&mut self) -> bool {
        self.input.decompress_beside()
    }

    /// How the file is broken, if it is; all before that place was used.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    fn break_off(&mut self, why: String) {
        (self.broken, self.ended, self.start) = (Some(why), true, self.end);
    }

    /// Reads more; whether anything came.
    fn refill(&mut self) -> bool {
        if self.ended {
            return false;
        }
        // What is left is moved to the front once in a refill.
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let until = self.buffer.len().min(self.end + CHUNK);
        loop {
            match self.input.read(&mut self.buffer[self.end..until]) {
                Ok(0) => break,
                Ok(count) => {
                    self.end += count;
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broken = Some(error.to_string());
                    break;
                }
            }
        }
        self.ended = true;
        false
    }
}

/// Whether a capture begins here.
pub(super) fn is_capture(bytes: &[u8]) -> bool {
    begins(bytes).is_some()
}

/// The format of what begins here, if a capture does, and the length of its header where that is no block.
fn begins(bytes: &[u8]) -> Option<(Format, usize)> {
    if pcapng::begins(bytes) {
        return Some((Format::PcapNg(Section::default()), 0));
    }
    Some((Format::Pcap(Pcap::begins(bytes)?), pcap::HEADER))
}
