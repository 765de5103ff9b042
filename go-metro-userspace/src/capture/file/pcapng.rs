//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks.
//!
//! Read here and not by a library, because those that there are read options, and blocks of types that they do not
//! know, in the wrong byte order in a section of a big-endian machine.

use bytes::{Buf, TryGetError};
use go_metro_rtt::Nanos;

use super::input::is_compressed;
use super::pcap::Pcap;
use super::reader::{Found, Piece};
use crate::capture::decode::LinkType;
use crate::record::note::{self, Views};

/// Type of a section's first block, the same in either byte order.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete, but written until 2009 or so.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// What shows the byte order of a section.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

// Options of an interface's description.
const END_OF_OPTIONS: u16 = 0;
const NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const TIME_OFFSET: u16 = 14;

/// Interfaces of a section that are remembered, so that no file can take more than its share of memory.
const INTERFACES_MAX: usize = 1 << 16;

/// The same of names, and the longest of a name: what a recording has is an interface of Linux.
const NAMES_MAX: usize = 1 << 12;
const NAME_MAX: usize = 64;

/// Bytes of a block beside its body: its type, and its length twice.
const FRAME: usize = 12;

/// A section: its byte order and its interfaces.
#[derive(Default)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// That it is made of records, and what is said of them.
    recorded: Option<note::Section>,
    /// Names of the interfaces of such sections, of all in the file so far.
    names: Vec<String>,
    /// How many interfaces such sections before this one have.
    named_before: u32,
}

#[derive(Clone, Copy)]
struct Interface {
    link_type: LinkType,
    snaplen: u32,
    units_per_second: u64,
    offset_seconds: i64,
}

/// Whether a section begins here.
pub(super) fn begins(bytes: &[u8]) -> bool {
    let word = |at: usize| bytes.get(at..at + 4).map(|mut word| word.get_u32_le());
    word(0) == Some(SECTION_HEADER) && matches!(word(8), Some(BYTE_ORDER | 0x4d3c_2b1a))
}

impl Section {
    /// The block that `rest` begins with.
    #[inline]
    pub(super) fn piece(&mut self, rest: &[u8]) -> Piece {
        if rest.len() < FRAME {
            return Piece::Incomplete(FRAME);
        }
        if rest.starts_with(&SECTION_HEADER.to_le_bytes()) {
            if !begins(rest) {
                return Piece::Malformed;
            }
            self.big_endian = rest[8..].starts_with(&BYTE_ORDER.to_be_bytes());
            if self.recorded.is_some() {
                self.named_before = self.named_before.saturating_add(self.interfaces.len() as u32);
            }
            self.interfaces.clear();
        }
        let mut head = Fields { rest, big_endian: self.big_endian };
        let (Ok(kind), Ok(len)) = (head.word(), head.word()) else { return Piece::Malformed };
        let len = len as usize;
        if len < FRAME {
            return Piece::Malformed;
        }
        // A pcap file may have been appended, or a compressed one: their magic numbers are no block's type.
        if kind > ENHANCED_PACKET && (Pcap::begins(rest).is_some() || is_compressed(rest)) {
            return Piece::Malformed;
        }
        if rest.len() < len {
            return Piece::Incomplete(len);
        }
        let mut body = Fields { rest: &rest[8..len - 4], big_endian: self.big_endian };
        let piece = match kind {
            SECTION_HEADER => {
                self.recorded = body.section();
                Ok(Piece::Section(len, self.recorded))
            }
            ENHANCED_PACKET | PACKET => self.packet(kind, &mut body, len),
            SIMPLE_PACKET => self.simple_packet(&mut body, len),
            INTERFACE_DESCRIPTION => body.interface().map(|(interface, name)| {
                if self.interfaces.len() < INTERFACES_MAX {
                    self.interfaces.push(interface);
                    if self.recorded.is_some() && self.names.len() < NAMES_MAX {
                        let name = &name[..name.len().min(NAME_MAX)];
                        self.names.push(String::from_utf8_lossy(name).into_owned());
                    }
                }
                Piece::Nothing(len)
            }),
            _ => Ok(Piece::Nothing(len)),
        };
        piece.unwrap_or(Piece::Malformed)
    }

    /// The name of an interface of a section that is made of records, by the number that its frames have.
    pub(super) fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(String::as_str)
    }

    /// Interface, time, captured and original length, packet. In the obsolete block a count of drops shares a word with
    /// the interface.
    #[inline]
    fn packet(&self, kind: u32, body: &mut Fields<'_>, block: usize) -> Result<Piece, TryGetError> {
        let number = if kind == PACKET {
            let number = body.half()?;
            body.half()?;
            u32::from(number)
        } else {
            body.word()?
        };
        let (high, low) = (body.word()?, body.word()?);
        let (captured, wire_len) = (body.word()? as usize, body.word()?);
        if captured > body.rest.len() {
            return Ok(Piece::Malformed);
        }
        let interface = self.interfaces.get(number as usize);
        let units = u64::from(high) << 32 | u64::from(low);
        let (views, before) = match self.recorded {
            Some(_) => (body.views(captured), self.named_before),
            None => (Views::default(), 0),
        };
        Ok(Piece::Frame(Found {
            at: 8 + 20,
            captured,
            block,
            wire_len,
            time: Some(interface.map_or(Nanos(0), |interface| interface.time(units))),
            interface: before.saturating_add(number),
            link_type: interface.map(|interface| interface.link_type),
            views,
        }))
    }

    /// Original length and packet, of the first interface.
    fn simple_packet(&self, body: &mut Fields<'_>, block: usize) -> Result<Piece, TryGetError> {
        let wire_len = body.word()?;
        let interface = self.interfaces.first();
        let snaplen = interface.map_or(0, |interface| interface.snaplen);
        let snaplen = if snaplen == 0 { usize::MAX } else { snaplen as usize };
        Ok(Piece::Frame(Found {
            at: 8 + 4,
            captured: body.rest.len().min(wire_len as usize).min(snaplen),
            block,
            wire_len,
            time: None,
            interface: 0,
            link_type: interface.map(|interface| interface.link_type),
            views: Views::default(),
        }))
    }
}

impl Interface {
    /// The time of so many units.
    #[inline]
    fn time(&self, units: u64) -> Nanos {
        let (seconds, rest) = (units / self.units_per_second, units % self.units_per_second);
        let rest = u128::from(rest) * 1_000_000_000 / u128::from(self.units_per_second);
        let seconds = seconds.saturating_add_signed(self.offset_seconds);
        Nanos(seconds.saturating_mul(1_000_000_000).saturating_add(rest as u64))
    }
}

/// Fields of a block, in its section's byte order.
struct Fields<'a> {
    rest: &'a [u8],
    big_endian: bool,
}

impl<'a> Fields<'a> {
    #[inline]
    fn word(&mut self) -> Result<u32, TryGetError> {
        if self.big_endian { self.rest.try_get_u32() } else { self.rest.try_get_u32_le() }
    }

    #[inline]
    fn half(&mut self) -> Result<u16, TryGetError> {
        if self.big_endian { self.rest.try_get_u16() } else { self.rest.try_get_u16_le() }
    }

    /// Byte order, version, length, options. Only a section that is made of records says something of interest.
    fn section(&mut self) -> Option<note::Section> {
        self.rest = self.rest.get(16..)?;
        let mut recorded = None;
        self.options(|code, value| {
            if code == note::OPTION {
                recorded = note::Section::decode(value.rest);
            }
        });
        recorded
    }

    /// What a section that is made of records says of a packet, behind so many bytes of it.
    fn views(&mut self, captured: usize) -> Views {
        self.rest = self.rest.get(captured.next_multiple_of(4)..).unwrap_or_default();
        let mut views = Views::default();
        self.options(|code, value| {
            if code == note::OPTION {
                views = Views::decode(value.rest);
            }
        });
        views
    }

    /// Each option: its code and value.
    fn options(&mut self, mut sink: impl FnMut(u16, Self)) {
        while let (Ok(code), Ok(len)) = (self.half(), self.half()) {
            let len = usize::from(len);
            let Some(value) = self.rest.get(..len).filter(|_| code != END_OF_OPTIONS) else { break };
            sink(code, Fields { rest: value, big_endian: self.big_endian });
            self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    /// Link type, two reserved bytes, the longest capture of a packet, options. And its name.
    fn interface(&mut self) -> Result<(Interface, &'a [u8]), TryGetError> {
        let link_type = LinkType::of(u32::from(self.half()?));
        self.half()?;
        let snaplen = self.word()?;
        let mut interface = Interface { link_type, snaplen, units_per_second: 1_000_000, offset_seconds: 0 };
        let mut name: &[u8] = &[];
        self.options(|code, mut value| match code {
            NAME => name = value.rest,
            TIME_RESOLUTION => interface.units_per_second = value.rest.try_get_u8().map_or(1_000_000, resolution),
            TIME_OFFSET => interface.offset_seconds = value.offset().unwrap_or(0),
            _ => {}
        });
        Ok((interface, name))
    }

    fn offset(&mut self) -> Result<i64, TryGetError> {
        if self.big_endian { self.rest.try_get_i64() } else { self.rest.try_get_i64_le() }
    }
}

/// Units in a second: a power of ten, or of two with the first bit. One that no number holds is taken for microseconds.
fn resolution(exponent: u8) -> u64 {
    let units = if exponent & 0x80 == 0 {
        10_u64.checked_pow(u32::from(exponent))
    } else {
        1_u64.checked_shl(u32::from(exponent & 0x7f))
    };
    units.unwrap_or(1_000_000)
}
