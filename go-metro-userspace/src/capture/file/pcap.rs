//! pcap (draft-ietf-opsawg-pcap): a header, and a record for each frame.

use super::pcapng;
use super::reader::{Found, Piece};
use crate::capture::decode::LinkType;
use crate::rtt::Nanos;

/// Bytes of the file's header.
pub(super) const HEADER: usize = 24;
/// Bytes of a record's header.
const RECORD: usize = 16;
/// The same with the fields that a patched libpcap wrote (`KUZNETZOV_TCPDUMP_MAGIC` of libpcap's sf-pcap.c).
const PATCHED_RECORD: usize = 24;

// Magic numbers, as the machine that captured wrote them.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const PATCHED: u32 = 0xa1b2_cd34;

/// What the order of a record's two lengths is: versions before 2.3 had it the other way round (libpcap's sf-pcap.c).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    WireFirst,
    /// Programs disagreed; what was captured is no longer than what was on the wire.
    Either,
}

/// What a file's header says of its records.
#[derive(Clone, Copy)]
pub(super) struct Pcap {
    big_endian: bool,
    /// Nanoseconds in a unit of the second half of a time stamp.
    unit_ns: u64,
    record: usize,
    lengths: Lengths,
    link_type: LinkType,
}

impl Pcap {
    /// The header that `bytes` begin with, if they do.
    pub(super) fn begins(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let magic = word(header, 0, false);
        let big_endian = is_magic(magic.swap_bytes());
        let magic = if big_endian { magic.swap_bytes() } else { magic };
        if !is_magic(magic) {
            return None;
        }
        let half = |at: usize| {
            let bytes = [header[at], header[at + 1]];
            if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
        };
        let lengths = match (half(4), half(6)) {
            (2, ..=2) => Lengths::WireFirst,
            // DG/UX called its version 543.
            (2, 3) | (543, _) => Lengths::Either,
            (2, _) => Lengths::CapturedFirst,
            _ => return None,
        };
        Some(Self {
            big_endian,
            unit_ns: if magic == NANOSECONDS { 1 } else { 1000 },
            record: if magic == PATCHED { PATCHED_RECORD } else { RECORD },
            lengths,
            // The upper bits say how long a frame check sequence is.
            link_type: LinkType::of(word(header, 20, big_endian) & 0xffff),
        })
    }

    /// The record that `rest` begins with.
    #[inline]
    pub(super) fn piece(&mut self, rest: &[u8]) -> Piece {
        if rest.len() < self.record {
            return Piece::Incomplete(self.record);
        }
        let first = word(rest, 0, false);
        if is_magic(first) || is_magic(first.swap_bytes()) || first == pcapng::SECTION_HEADER {
            // No time of a packet, but the header of another capture, if what follows is one too.
            if rest.len() < HEADER {
                return Piece::Incomplete(HEADER);
            }
            if pcapng::begins(rest) || Self::begins(rest).is_some() {
                return Piece::Malformed;
            }
        }
        let (seconds, units) = (word(rest, 0, self.big_endian), word(rest, 4, self.big_endian));
        let (mut captured, mut wire_len) = (word(rest, 8, self.big_endian), word(rest, 12, self.big_endian));
        let swapped = match self.lengths {
            Lengths::CapturedFirst => false,
            Lengths::WireFirst => true,
            Lengths::Either => captured > wire_len,
        };
        if swapped {
            std::mem::swap(&mut captured, &mut wire_len);
        }
        let captured = captured as usize;
        if rest.len() - self.record < captured {
            return Piece::Incomplete(self.record.saturating_add(captured));
        }
        Piece::Frame(Found {
            at: self.record,
            captured,
            block: self.record + captured,
            wire_len,
            time: Some(Nanos(u64::from(seconds) * 1_000_000_000 + u64::from(units) * self.unit_ns)),
            interface: 0,
            link_type: Some(self.link_type),
        })
    }
}

fn is_magic(word: u32) -> bool {
    matches!(word, MICROSECONDS | NANOSECONDS | PATCHED)
}

/// The 32 bits at `at`, which are there.
#[inline]
fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}
