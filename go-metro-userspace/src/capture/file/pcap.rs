//! pcap (draft-ietf-opsawg-pcap): a header, and a record for each frame.

use go_metro_rtt::Nanos;

use super::input::is_compressed;
use super::pcapng;
use super::reader::{Found, Piece};
use crate::capture::decode::LinkType;
use crate::record::note::Views;

/// Bytes of the file's header.
pub(super) const HEADER: usize = 24;
/// Bytes of a record's header.
const RECORD: usize = 16;
/// The same with the fields that a patched libpcap wrote (`KUZNETZOV_TCPDUMP_MAGIC` of libpcap's sf-pcap.c).
const PATCHED_RECORD: usize = 24;

/// As libpcap wrote it that was patched in SuSE 6.3 (`PCAP_SS990915` of Wireshark's wiretap/libpcap.h).
const SUSE_RECORD: usize = 28;
/// As in Red Hat 6.1, with the ordinary magic number (`PCAP_SS990417`).
const RED_HAT_RECORD: usize = 24;
/// Nokia's (`PCAP_NOKIA`).
const NOKIA_RECORD: usize = 20;
/// A longer packet makes no sense: Wireshark takes none either.
const PLAUSIBLE: u32 = 256 << 10;

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
    /// Lengths of a record's header that it may have instead.
    variants: &'static [usize],
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
            variants: match magic {
                MICROSECONDS => &[RED_HAT_RECORD, NOKIA_RECORD],
                PATCHED => &[SUSE_RECORD],
                _ => &[],
            },
            // The upper bits say how long a frame check sequence is.
            link_type: LinkType::of(word(header, 20, big_endian) & 0xffff),
        })
    }

    /// Finds out how long the headers of the records are that `rest` begins with, behind which nothing follows if it
    /// has `ended`: programs wrote longer ones without saying so (Wireshark's wiretap/libpcap.c tries them too).
    /// Whether there was enough of it.
    pub(super) fn settle(&mut self, rest: &[u8], ended: bool) -> bool {
        // A file that is cut is one of the usual kind, unless all of it fits another.
        let fits = |record: usize, cut: bool| Self { record, ..*self }.fits(rest, ended.then_some(cut));
        match fits(self.record, true) {
            None => return false,
            Some(true) => return true,
            Some(false) => {}
        }
        let mut chosen = self.record;
        for record in self.variants.iter().rev() {
            match fits(*record, false) {
                None => return false,
                Some(true) => chosen = *record,
                Some(false) => {}
            }
        }
        self.record = chosen;
        true
    }

    /// Whether three records make sense, or as many as there are; None if more must be there to say. `cut` is what to
    /// say of a last one that is not whole; None if more may follow.
    fn fits(self, mut rest: &[u8], cut: Option<bool>) -> Option<bool> {
        for _ in 0..3 {
            if rest.is_empty() && cut.is_some() {
                return Some(true);
            }
            if rest.len() < self.record {
                return cut;
            }
            let [units, captured, wire_len] = [4, 8, 12].map(|at| word(rest, at, self.big_endian));
            let (captured, wire_len) = match self.lengths {
                Lengths::CapturedFirst => (captured, wire_len),
                Lengths::WireFirst => (wire_len, captured),
                Lengths::Either => (captured.min(wire_len), captured.max(wire_len)),
            };
            if u64::from(units) * self.unit_ns >= 1_000_000_000 || captured > wire_len || captured > PLAUSIBLE {
                return Some(false);
            }
            let Some(next) = rest.get(self.record + captured as usize..) else { return cut };
            rest = next;
        }
        Some(true)
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
        let makes_sense =
            u64::from(units) * self.unit_ns < 1_000_000_000 && captured <= wire_len && captured <= PLAUSIBLE;
        if !makes_sense && is_compressed(rest) {
            return Piece::Malformed;
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
            views: Views::default(),
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
