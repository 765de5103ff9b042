//! The capture-file source: pcap and pcapng, perhaps gzipped, read as a stream.
//!
//! Memory does not depend on the file's size. What is broken at the end of a file costs only the end: everything before it is
//! used, and a warning says where it broke.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use bytes::Buf;
use flate2::read::MultiGzDecoder;
use go_metro_common::segment::Sides;
use ipnet::IpNet;
use pcap_parser::pcapng::Block;
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{PcapBlockOwned, PcapError, create_reader};

use super::copies::Copies;
use super::decode::{LinkType, Packet, decode_counted};
use super::prefixes::Prefixes;
use super::{CaptureError, SourceCounters};
use crate::rtt::{Direction, FlowKey, Nanos, Segment};

/// Largest block, and so the largest packet: far above any super-segment.
const BUFFER: usize = 4 << 20;
/// What is read at once: what is decoded is then still in the cache that it was read into.
const CHUNK: usize = 1 << 16;
/// The first two bytes of gzip (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// pcapng's obsolete packet block (draft-ietf-opsawg-pcapng, section on obsolete blocks).
const OBSOLETE_PACKET: u32 = 2;

/// Which flows are wanted of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileFilter {
    /// Hosts whose segments are timed; none means both ends of every connection.
    pub local: Vec<IpNet>,
    /// Remote hosts; none means all.
    pub targets: Vec<IpNet>,
    /// Which round trips to measure.
    pub sides: Sides,
}

/// A [`FileFilter`], made ready.
struct Wanted {
    local: Prefixes,
    targets: Prefixes,
    sides: Sides,
}

impl Wanted {
    fn new(filter: &FileFilter) -> Self {
        Self { local: Prefixes::or_all(&filter.local), targets: Prefixes::or_all(&filter.targets), sides: filter.sides }
    }

    #[inline]
    fn has(&self, flow: &FlowKey) -> bool {
        self.local.contain(flow.local.addr) && self.targets.contain(flow.remote.addr)
    }
}

/// An open capture file.
pub struct FileSource {
    reader: Box<dyn PcapReaderIterator + Send>,
    format: Format,
    counters: SourceCounters,
    copies: Copies,
    broken: Option<String>,
    last: Nanos,
}

/// What is known of the packets to come.
enum Format {
    /// pcap: one link type for all.
    Legacy { link_type: LinkType, nanoseconds: bool },
    /// pcapng: the current section's interfaces and byte order.
    Next { interfaces: Vec<Interface>, big_endian: bool },
}

#[derive(Clone, Copy)]
struct Interface {
    link_type: LinkType,
    units_per_second: u64,
    offset_seconds: i64,
}

impl FileSource {
    /// Opens a capture; `-` is standard input.
    ///
    /// # Errors
    ///
    /// What cannot be read, or is no capture.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        Self::open_through(path, |file| Box::new(file))
    }

    /// As [`Self::open`], but reads the file (not standard input) through what `through` makes of it.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_through(path: &Path, through: impl FnOnce(File) -> Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::File { path: path.to_owned(), source };
        let input: Box<dyn Read + Send> = match path.to_str() {
            Some("-") => Box::new(io::stdin()),
            _ => through(File::open(path).map_err(failed)?),
        };
        let input = Peeked::new(input).map_err(failed)?;
        let input: Box<dyn Read + Send> = if input.peeked().starts_with(&GZIP) {
            Box::new(Peeked::new(MultiGzDecoder::new(input)).map_err(failed)?)
        } else {
            Box::new(input)
        };
        let reader = create_reader(BUFFER, input).map_err(|_| CaptureError::NoCapture { path: path.to_owned() })?;
        let format = Format::Next { interfaces: Vec::new(), big_endian: false };
        let (counters, copies) = (SourceCounters::default(), Copies::new());
        Ok(Self { reader, format, counters, copies, broken: None, last: Nanos(0) })
    }

    /// Hands every wanted segment to `sink`, as each end that is wanted sees it.
    pub fn for_each(&mut self, filter: &FileFilter, sink: &mut impl FnMut(&Segment)) {
        let wanted = Wanted::new(filter);
        loop {
            match self.reader.next() {
                Ok((length, block)) => {
                    if let Some((packet, time, ifindex)) = self.format.packet(&block) {
                        self.last = self.last.max(time);
                        let Self { counters, copies, .. } = self;
                        orient(packet, time, ifindex, counters, copies, &wanted, sink);
                    }
                    // What is left is moved to the front once in a refill, not half-way through as well.
                    self.reader.consume_noshift(length);
                }
                Err(PcapError::Eof) => return,
                Err(PcapError::Incomplete(_)) => {
                    if self.reader.refill().is_err() {
                        self.broken = Some("it cannot be read any further".to_owned());
                        return;
                    }
                }
                Err(error) => {
                    self.broken = Some(match error {
                        PcapError::UnexpectedEof => "it ends inside a packet".to_owned(),
                        PcapError::BufferTooSmall => format!("a block is larger than {BUFFER} bytes"),
                        _ => "a block is malformed".to_owned(),
                    });
                    return;
                }
            }
        }
    }

    /// What was counted.
    pub fn counters(&self) -> SourceCounters {
        self.counters
    }

    /// How the file is broken, if it is; all before that place was used.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The latest time in the file so far.
    pub fn last(&self) -> Nanos {
        self.last
    }
}

/// Decodes a packet and hands it on as both its ends see it.
fn orient(
    packet: Packet<'_>,
    time: Nanos,
    ifindex: u32,
    counters: &mut SourceCounters,
    copies: &mut Copies,
    wanted: &Wanted,
    sink: &mut impl FnMut(&Segment),
) {
    let Some(decoded) = decode_counted(packet, counters) else { return };
    let ifindex = decoded.ifindex.unwrap_or(ifindex);
    if copies.is_copy(&decoded, time, ifindex) {
        counters.copies += 1;
        return;
    }
    let before = counters.records;
    for direction in [Direction::Egress, Direction::Ingress] {
        let seen = decoded.seen_from(direction, wanted.sides, time, ifindex);
        if let Some(segment) = seen.filter(|segment| wanted.has(&segment.flow)) {
            segment.for_each_side(wanted.sides, &mut |segment| {
                counters.records += 1;
                sink(segment);
            });
        }
    }
    counters.count_packet(before);
}

impl Format {
    /// The packet in a block, with its time and its interface's number; other blocks are remembered.
    fn packet<'a>(&mut self, block: &'a PcapBlockOwned<'_>) -> Option<(Packet<'a>, Nanos, u32)> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let link_type = known(header.network.0 & 0xffff);
                *self = Self::Legacy { link_type, nanoseconds: header.is_nanosecond_precision() };
                None
            }
            PcapBlockOwned::Legacy(block) => {
                let Self::Legacy { link_type, nanoseconds } = self else { return None };
                let unit = if *nanoseconds { 1 } else { 1000 };
                let time = u64::from(block.ts_sec) * 1_000_000_000 + u64::from(block.ts_usec) * unit;
                let packet = Packet { bytes: block.data, wire_len: block.origlen, link_type: *link_type };
                Some((packet, Nanos(time), 0))
            }
            PcapBlockOwned::NG(block) => self.next_generation(block),
        }
    }

    fn next_generation<'a>(&mut self, block: &'a Block<'_>) -> Option<(Packet<'a>, Nanos, u32)> {
        let Self::Next { interfaces, big_endian } = self else { return None };
        match block {
            Block::SectionHeader(section) => {
                interfaces.clear();
                *big_endian = section.big_endian();
                None
            }
            Block::InterfaceDescription(interface) => {
                interfaces.push(Interface {
                    link_type: known(interface.linktype.0),
                    units_per_second: interface.ts_resolution().unwrap_or(1_000_000).max(1),
                    offset_seconds: interface.ts_offset(),
                });
                None
            }
            Block::EnhancedPacket(packet) => {
                let interface = interfaces.get(packet.if_id as usize).unwrap_or(&Interface::UNKNOWN);
                let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                interface.packet(packet.packet_data(), packet.origlen, units, packet.if_id)
            }
            // It has no time of its own, so nothing can be timed with it; but it is seen.
            Block::SimplePacket(packet) => interfaces.first()?.packet(packet.packet_data(), packet.origlen, 0, 0),
            Block::Unknown(unknown) if unknown.block_type == OBSOLETE_PACKET => {
                obsolete(unknown.data, interfaces, *big_endian)
            }
            _ => None,
        }
    }
}

/// The link type of libpcap's number; says so when it is none of ours.
fn known(number: i32) -> LinkType {
    LinkType::from_number(number).unwrap_or_else(|| {
        tracing::warn!("link type {number} is not known: its packets are passed over");
        LinkType::Other
    })
}

/// Interface and drops (16 bits each), time, captured and original length (32 bits each), then the packet.
fn obsolete<'a>(mut data: &'a [u8], interfaces: &[Interface], big_endian: bool) -> Option<(Packet<'a>, Nanos, u32)> {
    let word = |rest: &mut &'a [u8]| if big_endian { rest.try_get_u32() } else { rest.try_get_u32_le() }.ok();
    let number = word(&mut data)?;
    let number = if big_endian { number >> 16 } else { number & 0xffff };
    let (high, low) = (word(&mut data)?, word(&mut data)?);
    let (captured, wire_len) = (word(&mut data)?, word(&mut data)?);
    let units = u64::from(high) << 32 | u64::from(low);
    interfaces.get(number as usize)?.packet(data.get(..captured as usize)?, wire_len, units, number)
}

impl Interface {
    /// One that the file does not describe: what was captured there is counted, and passed over.
    const UNKNOWN: Self = Self { link_type: LinkType::Other, units_per_second: 1_000_000, offset_seconds: 0 };

    fn packet<'a>(&self, bytes: &'a [u8], wire_len: u32, units: u64, number: u32) -> Option<(Packet<'a>, Nanos, u32)> {
        let (seconds, rest) = (units / self.units_per_second, units % self.units_per_second);
        let rest = u128::from(rest) * 1_000_000_000 / u128::from(self.units_per_second);
        let seconds = seconds.saturating_add_signed(self.offset_seconds);
        let time = seconds.saturating_mul(1_000_000_000).saturating_add(rest as u64);
        Some((Packet { bytes, wire_len, link_type: self.link_type }, Nanos(time), number))
    }
}

/// A reader whose first bytes were looked at. The parser's first read must see a whole header, which a pipe does not promise.
struct Peeked<R> {
    head: Cursor<Vec<u8>>,
    rest: R,
}

impl<R: Read> Peeked<R> {
    fn new(mut rest: R) -> io::Result<Self> {
        let mut head = Vec::new();
        rest.by_ref().take(4096).read_to_end(&mut head)?;
        Ok(Self { head: Cursor::new(head), rest })
    }

    fn peeked(&self) -> &[u8] {
        self.head.get_ref()
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.head.read(into)? {
            0 => {
                let chunk = into.len().min(CHUNK);
                self.rest.read(&mut into[..chunk])
            }
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An IPv4 TCP segment with one byte of payload.
    fn segment() -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 41, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend([0x03, 0xe8, 0, 80, 0, 0, 0, 7, 0, 0, 0, 100, 0x50, 0x10, 1, 0, 0, 0, 0, 0, b'x']);
        bytes
    }

    fn pcap(magic: u32, big_endian: bool, packets: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let word = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let version = if big_endian { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
        let mut bytes = [&word(magic)[..], &version, &[0; 8], &word(65535), &word(101)].concat();
        for (seconds, fraction, data) in packets {
            let len = word(data.len() as u32);
            bytes.extend([&word(*seconds)[..], &word(*fraction), &len, &len, data].concat());
        }
        bytes
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let len = (12 + body.len() + padding.len()) as u32;
        [&kind.to_le_bytes()[..], &len.to_le_bytes(), body, &padding, &len.to_le_bytes()].concat()
    }

    fn times(bytes: &[u8]) -> (Vec<(u64, u32)>, Option<String>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut source = FileSource::open(file.path()).unwrap();
        let filter = FileFilter { local: vec!["10.0.0.1/32".parse().unwrap()], targets: vec![], sides: Sides::REMOTE };
        let mut seen = Vec::new();
        source.for_each(&filter, &mut |segment| seen.push((segment.time().0, segment.flow.ifindex)));
        (seen, source.broken().map(str::to_owned))
    }

    #[test]
    fn pcap_is_read_in_either_precision_and_byte_order() {
        let data = segment();
        for (magic, big_endian, expected) in [
            (0xa1b2_c3d4, false, 5_000_007_000),
            (0xa1b2_c3d4, true, 5_000_007_000),
            (0xa1b2_3c4d, false, 5_000_000_007),
            (0xa1b2_3c4d, true, 5_000_000_007),
        ] {
            assert_eq!(times(&pcap(magic, big_endian, &[(5, 7, &data)])), (vec![(expected, 0)], None));
        }
    }

    #[test]
    fn gzip_is_unpacked() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&pcap(0xa1b2_c3d4, false, &[(5, 7, &segment())])).unwrap();
        assert_eq!(times(&gzip.finish().unwrap()).0.len(), 1);
    }

    #[test]
    fn pcapng_interfaces_have_link_types_and_resolutions_of_their_own() {
        let header = block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
        let interface =
            |link_type: u8, options: &[u8]| block(1, &[&[link_type, 0, 0, 0, 0, 0, 0, 0][..], options].concat());
        let data = segment();
        let len = (data.len() as u32).to_le_bytes();
        let enhanced = |id: u32, units: u64| {
            let (high, low) = ((units >> 32) as u32, units as u32);
            let words = [id.to_le_bytes(), high.to_le_bytes(), low.to_le_bytes(), len, len].concat();
            block(6, &[&words[..], &data].concat())
        };
        let old = [&[1, 0, 0, 0][..], &[0; 4], &9_u32.to_le_bytes(), &len, &len, &data].concat();
        let nanoseconds = [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let bytes = [
            header,
            interface(101, &[]),
            interface(101, &nanoseconds),
            interface(147, &[]),
            enhanced(0, 5_000_007),
            enhanced(1, 5_000_000_007),
            enhanced(2, 1),
            enhanced(9, 1),
            block(OBSOLETE_PACKET, &old),
            block(3, &[&len[..], &data].concat()),
        ]
        .concat();
        assert_eq!(times(&bytes), (vec![(5_000_007_000, 0), (5_000_000_007, 1), (9, 1), (0, 0)], None));
    }

    #[test]
    fn a_cut_file_is_used_up_to_the_cut() {
        let data = segment();
        let whole = pcap(0xa1b2_c3d4, false, &[(5, 7, &data), (6, 7, &data)]);
        let (seen, broken) = times(&whole[..whole.len() - 3]);
        assert_eq!(seen.len(), 1);
        assert_eq!(broken.as_deref(), Some("it ends inside a packet"));
    }

    #[test]
    fn what_is_no_capture_is_an_error_that_says_what_is_expected() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "hello, this is not a capture file at all, but a text"] {
            file.write_all(text.as_bytes()).unwrap();
            let error = FileSource::open(file.path()).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("is no capture file") && error.contains("pcapng"), "{error}");
        }
        let error = FileSource::open(Path::new("/nowhere")).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }

    #[test]
    fn without_local_both_ends_are_timed_and_targets_restrict_the_remote_one() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&pcap(0xa1b2_c3d4, false, &[(5, 7, &segment())])).unwrap();
        let ends = |filter: FileFilter| {
            let mut ends = Vec::new();
            FileSource::open(file.path())
                .unwrap()
                .for_each(&filter, &mut |s| ends.push((s.flow.local.port, s.direction())));
            ends
        };
        assert_eq!(ends(FileFilter::default()), [(1000, Direction::Egress), (80, Direction::Ingress)]);
        let targets = vec!["10.0.0.1/32".parse().unwrap()];
        assert_eq!(ends(FileFilter { targets, ..FileFilter::default() }), [(80, Direction::Ingress)]);
    }
}
