use std::io::Write;

use go_metro_common::segment::TcpFlags;
use go_metro_rtt::{Direction, Engine, EngineConfig, Outcome};

use super::unread::LinkTypes;
use super::*;
use crate::metrics::Unread;

/// An IPv4 TCP segment with one byte of payload.
fn segment() -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 41, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    bytes.extend([0x03, 0xe8, 0, 80, 0, 0, 0, 7, 0, 0, 0, 100, 0x50, 0x10, 1, 0, 0, 0, 0, 0, b'x']);
    bytes
}

const MICRO: u32 = 0xa1b2_c3d4;
const NANO: u32 = 0xa1b2_3c4d;

/// Words of a file, in one byte order.
#[derive(Clone, Copy)]
struct Order(bool);

const LITTLE: Order = Order(false);
const BIG: Order = Order(true);

impl Order {
    fn word(self, n: u32) -> [u8; 4] {
        if self.0 { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn words(self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| self.word(*word)).collect()
    }

    fn half(self, n: u16) -> [u8; 2] {
        if self.0 { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn header(self, magic: u32, version: (u16, u16), link_type: u32) -> Vec<u8> {
        let version = [self.half(version.0), self.half(version.1)].concat();
        [&self.word(magic)[..], &version, &[0; 8], &self.words(&[65535, link_type])].concat()
    }

    fn pcap(self, magic: u32, packets: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = self.header(magic, (2, 4), 101);
        for (seconds, fraction, data) in packets {
            let len = data.len() as u32;
            bytes.extend([&self.words(&[*seconds, *fraction, len, len])[..], data].concat());
        }
        bytes
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let len = self.word((12 + body.len() + padding.len()) as u32);
        [&self.word(kind)[..], &len, body, &padding, &len].concat()
    }

    fn section(self) -> Vec<u8> {
        let version = [self.half(1), self.half(0)].concat();
        self.block(0x0a0d_0d0a, &[&self.word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat())
    }

    fn interface(self, link_type: u16, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [&self.half(link_type)[..], &[0; 6]].concat();
        for (code, value) in options {
            body.extend([self.half(*code), self.half(value.len() as u16)].concat());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body)
    }

    fn enhanced(self, interface: u32, units: u64, data: &[u8]) -> Vec<u8> {
        let len = data.len() as u32;
        let words = self.words(&[interface, (units >> 32) as u32, units as u32, len, len]);
        self.block(6, &[&words, data].concat())
    }

    fn obsolete(self, interface: u16, units: u64, data: &[u8]) -> Vec<u8> {
        let len = data.len() as u32;
        let words = self.words(&[(units >> 32) as u32, units as u32, len, len]);
        self.block(2, &[&self.half(interface)[..], &self.half(7), &words, data].concat())
    }
}

/// What a file comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    times: Vec<u64>,
    broken: Option<String>,
    unread: Option<String>,
    unreadable: bool,
}

fn opened(bytes: &[u8]) -> Result<FileSource, CaptureError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    FileSource::open(file.path())
}

fn read(bytes: &[u8]) -> Read {
    let mut source = opened(bytes).unwrap();
    let filter = FileFilter { local: vec!["10.0.0.1/32".parse().unwrap()], ..FileFilter::default() };
    let mut times = Vec::new();
    source.for_each(&filter, &mut |segment| times.push(segment.time().0));
    let (broken, unread) = (source.broken().map(str::to_owned), source.unread());
    Read { times, broken, unread, unreadable: source.is_unreadable() }
}

fn times(bytes: &[u8]) -> Vec<u64> {
    let Read { times, broken, unread, unreadable } = read(bytes);
    assert_eq!((broken, unread, unreadable), (None, None, false));
    times
}

#[test]
fn pcap_is_read_in_either_precision_and_byte_order() {
    let data = segment();
    for (magic, order, expected) in [
        (MICRO, LITTLE, 5_000_007_000),
        (MICRO, BIG, 5_000_007_000),
        (NANO, LITTLE, 5_000_000_007),
        (NANO, BIG, 5_000_000_007),
    ] {
        assert_eq!(times(&order.pcap(magic, &[(5, 7, &data)])), [expected]);
    }
}

#[test]
fn versions_before_2_3_have_the_lengths_the_other_way_round_and_2_3_has_either() {
    let data = segment();
    let short = data.len() as u32 - 1;
    for order in [LITTLE, BIG] {
        for (version, first, second) in [
            ((2, 2), data.len() as u32, short),
            ((2, 0), data.len() as u32, short),
            ((2, 3), data.len() as u32, short),
            ((2, 3), short, data.len() as u32),
            ((543, 0), data.len() as u32, short),
            ((2, 4), short, data.len() as u32),
        ] {
            let mut bytes = order.header(MICRO, version, 101);
            for seconds in [5, 6] {
                bytes.extend([&order.words(&[seconds, 7, first, second])[..], &data[..short as usize]].concat());
            }
            assert_eq!(times(&bytes), [5_000_007_000, 6_000_007_000], "{version:?}");
        }
    }
}

#[test]
fn records_of_the_patched_libpcap_are_longer() {
    let data = segment();
    let len = data.len() as u32;
    let mut bytes = LITTLE.header(0xa1b2_cd34, (2, 4), 101);
    for seconds in [5, 6] {
        bytes.extend([&LITTLE.words(&[seconds, 7, len, len, 3, 0])[..], &data].concat());
    }
    assert_eq!(times(&bytes), [5_000_007_000, 6_000_007_000]);
}

#[test]
fn captures_appended_to_one_another_are_read_whatever_their_formats() {
    let data = segment();
    let micro = LITTLE.pcap(MICRO, &[(5, 7, &data)]);
    let nano = BIG.pcap(NANO, &[(6, 7, &data)]);
    let next = [BIG.section(), BIG.interface(101, &[]), BIG.enhanced(0, 7_000_000, &data)].concat();
    let all = [(&micro, 5_000_007_000), (&nano, 6_000_000_007), (&next, 7_000_000_000_u64)];
    for (first, at) in all {
        for (second, then) in all {
            let mut in_order = [at, then, at];
            in_order.sort_unstable();
            assert_eq!(times(&[&first[..], second, first].concat()), in_order);
        }
    }
}

#[test]
fn pcapng_interfaces_have_link_types_and_resolutions_of_their_own_in_either_byte_order() {
    let data = segment();
    for order in [LITTLE, BIG] {
        let minute = if order.0 { 60_i64.to_be_bytes() } else { 60_i64.to_le_bytes() };
        let bytes = [
            order.section(),
            order.interface(101, &[]),
            order.interface(101, &[(2, b"eth0"), (9, &[9])]),
            order.interface(101, &[(9, &[0x80 | 10]), (14, &minute), (0, &[])]),
            // A block that nobody knows.
            order.block(0x0bad, &[1, 2, 3, 4]),
            order.enhanced(0, 5_000_007, &data),
            order.enhanced(1, 6_000_000_007, &data),
            order.enhanced(2, 7 * 1024 + 512, &data),
            order.obsolete(1, 8_000_000_007, &data),
        ]
        .concat();
        // In the order of time.
        assert_eq!(times(&bytes), [5_000_007_000, 6_000_000_007, 8_000_000_007, 67_500_000_000]);
    }
}

#[test]
fn what_cannot_be_measured_is_said_with_its_count_and_reason() {
    let data = segment();
    let cut = &data[..30];
    let bytes = [
        LITTLE.section(),
        LITTLE.interface(101, &[]),
        LITTLE.interface(163, &[]),
        LITTLE.interface(401, &[]),
        LITTLE.enhanced(0, 1, &data),
        LITTLE.enhanced(1, 2, &data),
        LITTLE.enhanced(1, 3, &data),
        LITTLE.enhanced(2, 3, &data),
        LITTLE.enhanced(9, 4, &data),
        LITTLE.block(3, &[&LITTLE.word(41)[..], &data].concat()),
        LITTLE.enhanced(0, 5, cut),
    ];
    let expected = "6 of 7 frames could not be measured: 2 of link type 163 (IEEE802_11_RADIO_AVS), 1 of link type \
        401, \
                    1 of an interface that the file does not describe, 1 without a time (Simple Packet Blocks), \
                    1 cut off inside a header";
    let found = read(&bytes.concat());
    assert_eq!((found.times.len(), found.unread.as_deref(), found.unreadable), (1, Some(expected), false));
    let nothing = read(&[&bytes[..4], &bytes[5..]].concat().concat());
    assert!(nothing.times.is_empty() && nothing.unreadable, "{nothing:?}");
    let empty = read(&LITTLE.pcap(MICRO, &[]));
    assert!(!empty.unreadable, "a capture without packets is a capture");
}

#[test]
fn a_cut_file_is_used_up_to_the_cut() {
    let data = segment();
    let whole = LITTLE.pcap(MICRO, &[(5, 7, &data), (6, 7, &data)]);
    for cut in 1..data.len() + 16 {
        let found = read(&whole[..whole.len() - cut]);
        assert_eq!(found.times.len(), 1);
        assert_eq!(found.broken.as_deref(), Some("it ends inside a packet"));
    }
}

#[test]
fn a_section_whose_own_header_is_malformed_ends_the_file() {
    let whole = LITTLE.pcap(MICRO, &[(5, 7, &segment())]);
    for length in [0_u32, 4, 11] {
        let section = [0x0a0d_0d0a, length, 0x1a2b_3c4d, 1].map(u32::to_le_bytes).concat();
        for (before, frames) in [(&[][..], 0), (&whole, 1)] {
            let found = read(&[before, &section].concat());
            assert_eq!(found.times.len(), frames);
            assert!(found.broken.is_some(), "a header of {length} bytes");
        }
    }
}

/// 200 packets of this second, which compress to some kilobytes.
fn capture(second: u32) -> Vec<u8> {
    let mut random = 1_u32;
    let packets: Vec<Vec<u8>> = (0..200)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            [&segment()[..24], &random.to_le_bytes(), &segment()[28..]].concat()
        })
        .collect();
    let packets: Vec<(u32, u32, &[u8])> = packets.iter().map(|packet| (second, 7, &packet[..])).collect();
    LITTLE.pcap(MICRO, &packets)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(bytes).unwrap();
    lz4.finish().unwrap()
}

#[test]
fn compressed_files_are_read_also_in_several_pieces() {
    let (whole, later) = (capture(5), capture(6));
    let (head, tail) = whole.split_at(2000);
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"hello"].concat();
    for (name, pack) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd), ("lz4", lz4)] {
        assert_eq!(times(&pack(&whole)).len(), 200, "{name}");
        assert_eq!(times(&[pack(head), pack(tail), pack(&later)].concat()).len(), 400, "{name}");
    }
    assert_eq!(times(&[&skippable[..], &zstd(head), &skippable, &zstd(tail), &skippable].concat()).len(), 200);
    assert_eq!(times(&[&gzip(&whole)[..], &[0; 512]].concat()).len(), 200, "behind the last member");
}

#[test]
fn compressed_and_plain_captures_appended_to_one_another_are_read_in_any_order() {
    type Pack = fn(&[u8]) -> Vec<u8>;
    let plain = |bytes: &[u8]| bytes.to_vec();
    let packed: [Pack; 4] = [plain, gzip, zstd, lz4];
    let data = segment();
    let later = [LITTLE.section(), LITTLE.interface(101, &[]), LITTLE.enhanced(0, 900_000_000, &data)].concat();
    let (a, b, c) = (capture(1), capture(200), later);
    for (i, first) in packed.iter().enumerate() {
        for (j, second) in packed.iter().enumerate() {
            for (k, third) in packed.iter().enumerate() {
                for padding in [0, 512] {
                    // Zeros behind a plain capture are records of it.
                    let padding = |i: usize| vec![0; if i == 0 { 0 } else { padding }];
                    let bytes = [first(&a), padding(i), second(&c), padding(j), third(&b), padding(k)].concat();
                    let read = read(&bytes);
                    assert_eq!((read.times.len(), read.broken), (401, None), "{i} {j} {k}");
                }
            }
        }
    }
}

#[test]
fn what_follows_a_compressed_stream_and_cannot_be_read_is_said() {
    for (name, pack) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd), ("lz4", lz4)] {
        let read = read(&[&pack(&capture(1))[..], &[0; 512], b"something else altogether"].concat());
        let said = format!("what follows the {name} stream is not a capture");
        assert_eq!((read.times.len(), read.broken), (200, Some(said)));
    }
    for first in [capture(1), gzip(&capture(1))] {
        let xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0\x21\x01";
        let read = read(&[&first[..], xz].concat());
        assert_eq!(read.times.len(), 200);
        assert!(read.broken.unwrap().starts_with("compressed with xz"));
    }
}

/// Files of the programs themselves are among the seeds of the fuzz target.
#[test]
fn files_of_zstd_and_lz4_themselves_are_read() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/capture_file_survives_any_bytes");
    let records = |name: &str| {
        let mut source = FileSource::open(&seeds.join(name)).unwrap();
        let mut records = 0;
        source.for_each(&FileFilter::default(), &mut |_| records += 1);
        assert_eq!(source.broken(), None, "{name}");
        records
    };
    let plain = records("micro.pcap");
    assert!(plain > 0);
    for name in ["micro.pcap.zst", "micro.long.pcap.zst", "micro.pcap.lz4", "micro.legacy.pcap.lz4", "micro.pcap.gz"] {
        assert_eq!(records(name), plain, "{name}");
    }
}

#[test]
fn a_compressed_file_that_is_cut_anywhere_is_used_as_far_as_it_goes_and_says_so() {
    let whole = capture(5);
    for (name, pack) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd), ("lz4", lz4)] {
        let packed = pack(&whole);
        let said = format!("the {name} stream is cut short");
        let mut most = 0;
        for cut in 6..packed.len() {
            match opened(&packed[..cut]) {
                Err(error) => {
                    // Of zstd and lz4 nothing comes out before a block is whole; of gzip a part of the file's header
                    // may.
                    let error = error.to_string();
                    let nothing = error.ends_with("before anything can be decompressed, so nothing can be read");
                    assert!(error.contains(&said) && (nothing || name == "gzip"), "{name}, {cut}: {error}");
                }
                Ok(_) => {
                    let found = read(&packed[..cut]);
                    assert_eq!(found.broken.as_deref(), Some(&*said), "{name}, {cut}");
                    most = most.max(found.times.len());
                }
            }
        }
        // The last block may be the only one, or the checksum all that is missing.
        assert!(name == "zstd" || most > 190, "{name}: {most}");
    }
}

#[test]
fn what_is_no_capture_is_an_error_that_says_what_is_expected() {
    let error = |bytes: &[u8]| opened(bytes).map(|_| ()).unwrap_err().to_string();
    assert!(error(b"").ends_with("is not a capture file: it is empty"));
    let text = error(b"hello, this is not a capture file at all, but a text");
    assert!(text.contains("is not a capture file") && text.contains("pcapng") && text.contains("zstd"), "{text}");
    let xz = error(b"\xfd7zXZ\0\0\0");
    assert!(xz.contains("compressed with xz; use `xz -dc"), "{xz}");
    let error = FileSource::open(Path::new("/nowhere")).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("/nowhere"), "{error}");
}

#[test]
fn without_local_both_ends_are_timed_and_targets_restrict_the_remote_one() {
    let file = LITTLE.pcap(MICRO, &[(5, 7, &segment())]);
    let ends = |filter: FileFilter| {
        let mut ends = Vec::new();
        opened(&file).unwrap().for_each(&filter, &mut |s| ends.push((s.flow.local.port, s.direction())));
        ends
    };
    assert_eq!(ends(FileFilter::default()), [(1000, Direction::Egress), (80, Direction::Ingress)]);
    let targets = vec!["10.0.0.1/32".parse().unwrap()];
    assert_eq!(ends(FileFilter { targets, ..FileFilter::default() }), [(80, Direction::Ingress)]);
}

#[test]
fn hosts_that_are_there_are_told_if_none_that_was_named_is() {
    let file = LITTLE.pcap(MICRO, &[(5, 7, &segment())]);
    let instead_of = |local: &str| {
        let mut source = opened(&file).unwrap();
        let local = vec![local.parse().unwrap()];
        source.for_each(&FileFilter { local: local.clone(), ..FileFilter::default() }, &mut |_| ());
        source.instead_of(&local).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(instead_of("10.0.0.9/32"), ["10.0.0.1", "10.0.0.2"]);
    assert!(instead_of("10.0.0.1/32").is_empty() && instead_of("10.0.0.0/30").is_empty());
}

/// What two ends say to each other: a byte after every answer, each answered after 100 µs, with identifications that
/// count.
fn talk(rounds: u32) -> Vec<(u64, bool, Vec<u8>)> {
    let mut frames = Vec::new();
    for k in 0..rounds {
        let mut sent = segment();
        sent[4..6].copy_from_slice(&(100 + k as u16).to_be_bytes());
        sent[24..28].copy_from_slice(&(7 + k).to_be_bytes());
        let mut answer = segment()[..40].to_vec();
        answer[2..4].copy_from_slice(&40_u16.to_be_bytes());
        answer[4..6].copy_from_slice(&(9000 + k as u16).to_be_bytes());
        answer[12..20].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
        answer[20..24].copy_from_slice(&[0, 80, 0x03, 0xe8]);
        answer[24..28].copy_from_slice(&100_u32.to_be_bytes());
        answer[28..32].copy_from_slice(&(8 + k).to_be_bytes());
        let at = u64::from(k) * 10_000;
        frames.extend([(at, true, sent), (at + 100, false, answer)]);
    }
    frames
}

/// Round trips in microseconds of the end that speaks, from the first flow on.
fn round_trips(frames: &[(u64, u32, Vec<u8>)]) -> (Vec<u64>, usize) {
    let (found, places, _) = round_trips_and_warnings(frames);
    (found, places)
}

fn round_trips_and_warnings(frames: &[(u64, u32, Vec<u8>)]) -> (Vec<u64>, usize, Vec<String>) {
    let mut bytes = [LITTLE.section(), LITTLE.interface(101, &[]), LITTLE.interface(101, &[])].concat();
    for (us, interface, frame) in frames {
        bytes.extend(LITTLE.enhanced(*interface, 1_000_000 + us, frame));
    }
    let mut engine = Engine::new(EngineConfig::default());
    let filter = FileFilter { local: vec!["10.0.0.1/32".parse().unwrap()], ..FileFilter::default() };
    let (mut found, mut places) = (Vec::new(), std::collections::BTreeSet::new());
    let mut source = opened(&bytes).unwrap();
    source.for_each(&filter, &mut |segment| {
        places.insert(segment.flow.ifindex);
        if let Outcome::Sample(sample) = engine.record(segment) {
            found.push(sample.rtt.0 / 1000);
        }
    });
    (found, places.len(), source.warnings().collect())
}

#[test]
fn a_tap_with_an_interface_for_each_direction_is_one_flow() {
    let frames: Vec<_> = talk(50).into_iter().map(|(us, sent, frame)| (us, u32::from(!sent), frame)).collect();
    let (found, places) = round_trips(&frames);
    assert!(places == 1 && found.len() >= 49 && found.iter().all(|us| *us == 100), "{places} places, {found:?}");
}

#[test]
fn interfaces_whose_clocks_disagree_measure_nothing_across_and_say_by_how_much() {
    for (late, sorted) in [(250, false), (250, true), (2_000_000, false), (2_000_000, true)] {
        for is_late in [false, true] {
            let mut frames: Vec<(u64, u32, Vec<u8>)> = talk(300)
                .into_iter()
                .map(|(at, sent, frame)| {
                    (3_000_000 + at - if sent == is_late { 0 } else { late }, u32::from(!sent), frame)
                })
                .collect();
            if sorted {
                frames.sort_by_key(|frame| frame.0);
            }
            let (found, _, warnings) = round_trips_and_warnings(&frames);
            if is_late {
                // Answers come before what they answer.
                assert!(found.is_empty(), "{late} {sorted}: {found:?}");
                let said = "the clock of interface 1 is at least ";
                assert!(warnings.iter().any(|line| line.starts_with(said)), "{late} {sorted}: {warnings:?}");
                let by = if late == 250 { "150µs behind" } else { "1.9" };
                assert!(warnings.iter().any(|line| line.contains(by)), "{late} {sorted}: {warnings:?}");
            }
        }
    }
    let agreed: Vec<_> = talk(300).into_iter().map(|(at, sent, frame)| (at, u32::from(!sent), frame)).collect();
    let (found, _, warnings) = round_trips_and_warnings(&agreed);
    assert_eq!((found.len(), warnings), (300, vec![]));
}

#[test]
fn a_bridge_and_its_port_are_measured_at_each() {
    let both = |(us, sent, frame): (u64, bool, Vec<u8>)| {
        [(us, u32::from(sent), frame.clone()), (us + 3, u32::from(!sent), frame)]
    };
    let (found, places) = round_trips(&talk(50).into_iter().flat_map(both).collect::<Vec<_>>());
    let of = |round_trip: u64| found.iter().filter(|us| **us == round_trip).count();
    assert!(
        places == 2 && of(97) >= 49 && of(103) >= 49 && of(97) + of(103) == found.len(),
        "{places} places, {found:?}"
    );
}

#[test]
fn two_captures_merged_are_two_places_each_with_its_own_round_trips() {
    // The second is 20 ms away from the end that speaks, and next to the one that answers.
    let mut frames = Vec::new();
    for (us, sent, frame) in talk(50) {
        let us = us * 10;
        let (here, there) = if sent { (us, us + 20_000) } else { (us + 40_000, us + 20_000) };
        frames.extend([(here, 0, frame.clone()), (there, 1, frame)]);
    }
    frames.sort_by_key(|(us, ..)| *us);
    let (found, places) = round_trips(&frames);
    let near = found.iter().filter(|us| **us == 41_000).count();
    let far = found.iter().filter(|us| **us == 1_000).count();
    assert_eq!((near + far, places), (found.len(), 2), "{found:?}");
    assert!(near >= 49 && far >= 49, "{near} and {far}");
}

/// What a packet is in on its way: the number and the gateways' last bytes.
type Around = fn(vni: u8, ends: [u8; 2], packet: &[u8]) -> Vec<u8>;

fn outer(protocol: u8, [from, to]: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len() as u16).to_be_bytes();
    let header = [0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, from, 192, 0, 2, to];
    [&header[..], payload].concat()
}

fn in_vxlan(vni: u8, ends: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let len = (8 + 8 + 14 + packet.len() as u16).to_be_bytes();
    let headers = [&[0xc0, 1, 0x12, 0xb5, len[0], len[1], 0, 0][..], &[8, 0, 0, 0, 0, 0, vni, 0], &[0; 12], &[8, 0]];
    outer(17, ends, &[&headers.concat(), packet].concat())
}

fn in_gre(key: u8, ends: [u8; 2], packet: &[u8]) -> Vec<u8> {
    outer(47, ends, &[&[0x20, 0, 8, 0, 0, 0, 0, key][..], packet].concat())
}

/// A mirror session (ERSPAN II).
fn in_erspan(session: u8, ends: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let headers = [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1][..], &[0x10, 0, 0, session, 0, 0, 0, 0], &[0; 12], &[8, 0]];
    outer(47, ends, &[&headers.concat(), packet].concat())
}

fn in_geneve(vni: u8, ends: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let len = (8 + 8 + packet.len() as u16).to_be_bytes();
    let headers = [0xc0, 1, 0x17, 0xc1, len[0], len[1], 0, 0, 0, 0, 8, 0, 0, 0, vni, 0];
    outer(17, ends, &[&headers[..], packet].concat())
}

fn in_gtp(teid: u8, ends: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let len = (8 + 8 + packet.len() as u16).to_be_bytes();
    let headers = [8, 0x68, 8, 0x68, len[0], len[1], 0, 0, 0x30, 255, 0, packet.len() as u8, 0, 0, 0, teid];
    outer(17, ends, &[&headers[..], packet].concat())
}

/// The round trips of what is said in tunnels, the places, and the warnings.
fn tunnelled(frames: Vec<(u64, Vec<u8>)>) -> (Vec<u64>, usize, Vec<String>) {
    let frames: Vec<_> = frames.into_iter().map(|(us, frame)| (us, 0, frame)).collect();
    let (found, places) = round_trips(&frames);
    let mut bytes = [LITTLE.section(), LITTLE.interface(101, &[])].concat();
    frames.iter().for_each(|(us, _, frame)| bytes.extend(LITTLE.enhanced(0, 1_000_000 + us, frame)));
    let mut source = opened(&bytes).unwrap();
    source.for_each(&FileFilter::default(), &mut |_| ());
    (found, places, source.warnings().collect())
}

#[test]
fn the_directions_of_a_connection_meet_in_tunnels_of_other_numbers_and_other_ends() {
    let there = (1, [1, 9]);
    for (name, around) in
        [("vxlan", in_vxlan as Around), ("geneve", in_geneve), ("gre", in_gre), ("erspan", in_erspan), ("gtp", in_gtp)]
    {
        // Another number; the other end answers from another address; both; and a mirror's sessions, which go one way.
        for back in [(2, [9, 1]), (1, [8, 1]), (2, [8, 3]), (2, [1, 9])] {
            let frames = talk(50).into_iter().map(|(us, sent, frame)| {
                let (number, ends) = if sent { there } else { back };
                (us, around(number, ends, &frame))
            });
            let (found, places, warnings) = tunnelled(frames.collect());
            assert!(found.len() >= 49 && found.iter().all(|us| *us == 100), "{name}, {back:?}: {found:?}");
            assert!(places <= 2 && warnings.is_empty(), "{name}, {back:?}: {places} places, {warnings:?}");
        }
    }
}

/// The same conversation from another sequence number on, some microseconds later.
fn of_another_tenant(frames: Vec<(u64, bool, Vec<u8>)>) -> Vec<(u64, bool, Vec<u8>)> {
    let shifted = |(us, sent, mut frame): (u64, bool, Vec<u8>)| {
        for at in [24, 28] {
            frame[at] = frame[at].wrapping_add(if (at == 24) == sent { 0x40 } else { 0x90 });
        }
        (us + 50, sent, frame)
    };
    frames.into_iter().map(shifted).collect()
}

#[test]
fn two_tenants_with_the_same_addresses_stay_apart_in_tunnels_of_one_number_each_way_or_two() {
    for [[a, b], [c, d]] in [[[1, 1], [2, 2]], [[1, 2], [3, 4]], [[1, 2], [2, 1]]] {
        let with = |numbers: [u8; 2], frames: Vec<(u64, bool, Vec<u8>)>| {
            frames.into_iter().map(move |(us, sent, frame)| {
                let ends = if sent { [1, 9] } else { [9, 1] };
                (us, in_vxlan(numbers[usize::from(!sent)], ends, &frame))
            })
        };
        let mut frames: Vec<_> = with([a, b], talk(50)).chain(with([c, d], of_another_tenant(talk(50)))).collect();
        frames.sort_by_key(|(us, _)| *us);
        let (found, places, warnings) = tunnelled(frames);
        assert!(found.iter().all(|us| *us == 100), "{a} {b} {c} {d}: {found:?}");
        // Tunnels that carry one tenant one way and the other the other way cannot be told from those of one tenant.
        assert!(
            [a, b] == [d, c] || found.len() >= 98 && warnings.is_empty(),
            "{a} {b} {c} {d}: {} {places}",
            found.len()
        );
    }
}

#[test]
fn a_connection_on_both_sides_of_a_gateway_is_measured_on_each() {
    // Each side has a number for each direction, the gateway takes 10 µs.
    let mut frames = Vec::new();
    for (us, sent, frame) in talk(50) {
        let [first, second] = if sent { [(1, [1, 5]), (2, [5, 9])] } else { [(3, [9, 5]), (4, [5, 1])] };
        for (late, (number, ends)) in [(0, first), (10, second)] {
            frames.push((us + late, in_gre(number, ends, &frame)));
        }
    }
    let (found, places, warnings) = tunnelled(frames);
    let near = found.iter().filter(|us| **us == 90).count();
    let far = found.iter().filter(|us| **us == 110).count();
    assert!(near >= 49 && far >= 49 && near + far == found.len(), "{places} {found:?}");
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_tunnel_that_turns_out_to_carry_both_directions_parts_from_the_one_it_met() {
    // The capture begins with the answer, seen at the second place before the first.
    let at_both = |(us, _, frame): (u64, bool, Vec<u8>)| {
        [(us, in_vxlan(1, [1, 5], &frame)), (us + 5_000, in_vxlan(2, [5, 9], &frame))]
    };
    let mut frames: Vec<_> = talk(50).into_iter().flat_map(at_both).collect();
    frames.sort_by_key(|(us, _)| *us);
    frames.retain(|(us, _)| *us > 4_000 && *us != 5_100);
    let (found, ..) = tunnelled(frames);
    assert!(found.len() >= 96 && found.iter().all(|us| *us == 100), "{found:?}");
}

#[test]
fn connections_in_tunnels_whose_directions_cannot_be_matched_are_counted() {
    let frames = talk(20).into_iter().map(|(us, sent, mut frame)| {
        // Nothing that is acknowledged was sent.
        frame[28] = if sent { frame[28] } else { 0x70 };
        (us, in_vxlan(if sent { 1 } else { 2 }, [1, 9], &frame))
    });
    let (found, _, warnings) = tunnelled(frames.collect());
    assert!(found.is_empty() && warnings.len() == 1, "{found:?} {warnings:?}");
    let apart = "1 connections inside tunnels have their two directions in different tunnels";
    assert!(warnings[0].starts_with(apart), "{warnings:?}");
}

#[test]
fn each_reason_for_which_a_frame_is_not_read_has_words_of_its_own() {
    let mut words = std::collections::BTreeSet::new();
    for reason in Unread::ALL {
        let mut counters = SourceCounters::default();
        counters.count_unread(reason);
        let line = unread::line(&counters, &LinkTypes::default()).unwrap();
        assert!(line.starts_with("1 of 1 frames could not be measured: 1 "), "{line}");
        assert_eq!(Unread::ALL[reason as usize], reason);
        words.insert(line);
    }
    assert_eq!(words.len(), Unread::COUNT);
    // And in a file.
    let esp = outer(50, [1, 9], &[1; 40]);
    let bytes =
        [LITTLE.section(), LITTLE.interface(101, &[]), LITTLE.enhanced(0, 1, &segment()), LITTLE.enhanced(0, 2, &esp)];
    assert_eq!(read(&bytes.concat()).unread.unwrap(), "1 of 2 frames could not be measured: 1 encrypted (ESP)");
}

#[test]
fn a_capture_of_one_direction_is_told_from_one_that_has_both() {
    let of = |frames: Vec<(u64, bool, Vec<u8>)>, sides| {
        let mut bytes = [LITTLE.section(), LITTLE.interface(101, &[])].concat();
        frames.iter().for_each(|(us, _, frame)| bytes.extend(LITTLE.enhanced(0, *us, frame)));
        let (mut source, filter) = (opened(&bytes).unwrap(), FileFilter { sides, ..FileFilter::default() });
        let mut engine = Engine::new(EngineConfig::default());
        source.for_each(&filter, &mut |segment| {
            engine.record(segment);
        });
        source.one_way(sides, engine.counters())
    };
    let one_way = |keep: &dyn Fn(bool) -> bool, sides| {
        of(talk(20).into_iter().filter(|(_, sent, _)| keep(*sent)).collect(), sides)
    };
    for sides in [Sides::REMOTE, Sides::LOCAL, Sides::BOTH] {
        assert_eq!(one_way(&|_| true, sides), None);
        let line = one_way(&|sent| sent, sides).unwrap();
        assert!(line.starts_with("none of 1 flows was seen in both directions"), "{line}");
        assert_eq!(one_way(&|sent| !sent, sides), None, "acknowledgements alone are nothing to measure");
        // A SYN that nobody answers.
        let mut syn = talk(1).remove(0);
        syn.2[33] = TcpFlags::SYN;
        let line = of(vec![syn], sides).unwrap();
        assert!(line.starts_with("there are only SYNs, of 1 connections: none was answered"), "{line}");
    }
}

#[test]
fn a_zstd_stream_whose_checksum_is_wrong_is_damaged() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/capture_file_survives_any_bytes");
    let mut bytes = std::fs::read(seeds.join("micro.pcap.zst")).unwrap();
    assert_eq!(read(&bytes).broken, None);
    // The last four bytes of a frame are the checksum of what comes out of it (RFC 8878 section 3.1.1).
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(read(&bytes).broken.as_deref(), Some("the zstd stream is damaged: its checksum is wrong"));
}

#[test]
fn fragments_of_segments_are_said_with_their_count() {
    let mut fragment = segment();
    fragment[6..8].copy_from_slice(&[0, 3]);
    let found = read(&LITTLE.pcap(MICRO, &[(5, 7, &segment()), (5, 8, &fragment)]));
    let expected = "1 of 2 frames could not be measured: 1 later fragments of a segment";
    assert_eq!((found.times.len(), found.unread.as_deref(), found.unreadable), (1, Some(expected), false));
}

#[test]
fn records_that_are_longer_than_their_version_says_are_recognised() {
    let data = segment();
    let len = data.len() as u32;
    for order in [LITTLE, BIG] {
        // Nokia's, and libpcap as Red Hat 6.1 and SuSE 6.3 patched it.
        for (magic, extra) in [(MICRO, 0), (MICRO, 4), (MICRO, 8), (0xa1b2_cd34, 8), (0xa1b2_cd34, 12)] {
            for packets in [2, 5] {
                let mut bytes = order.header(magic, (2, 4), 101);
                let mut expected = Vec::new();
                for seconds in 5..5 + packets {
                    bytes.extend([&order.words(&[seconds, 7, len, len])[..], &vec![9; extra], &data].concat());
                    expected.push(u64::from(seconds) * 1_000_000_000 + 7000);
                }
                assert_eq!(times(&bytes), expected, "{magic:x}, {extra} bytes more, {packets} packets");
            }
        }
    }
}

#[test]
fn a_packet_that_is_too_long_to_be_one_is_called_so() {
    let data = segment();
    let mut bytes = LITTLE.pcap(MICRO, &[(5, 7, &data), (6, 7, &data)]);
    bytes.extend(LITTLE.words(&[7, 7, 0x7000_0000, 0x7000_0000]));
    let found = read(&bytes);
    assert_eq!((found.times.len(), found.broken.as_deref()), (2, Some("a packet is longer than 4194304 bytes")));
}

#[test]
fn where_there_is_no_tcp_it_is_said_what_there_is() {
    let mut udp = segment();
    udp[9] = 17;
    // Port 51820 on one side.
    udp[20..24].copy_from_slice(&[0x03, 0xe8, 0xca, 0x6c]);
    let no_tcp = |bytes: &[u8]| {
        let mut source = opened(bytes).unwrap();
        source.for_each(&FileFilter::default(), &mut |_| ());
        source.without_tcp()
    };
    let mut packets: Vec<(u32, u32, &[u8])> = vec![(5, 7, &udp[..]); 20];
    let said = "no TCP was found in 20 frames; 20 are UDP port 1000 or 51820";
    assert_eq!(no_tcp(&LITTLE.pcap(MICRO, &packets)).as_deref(), Some(said));
    let tcp = segment();
    packets.push((5, 7, &tcp));
    assert_eq!(no_tcp(&LITTLE.pcap(MICRO, &packets)), None, "a twentieth is TCP");
    let frame = [&[0; 12][..], &[0x88, 0xcc], &[0; 40]].concat();
    let mut ethernet = LITTLE.header(MICRO, (2, 4), 1);
    ethernet.extend([&LITTLE.words(&[5, 7, 54, 54])[..], &frame].concat());
    let said = "no TCP was found in 1 frames; 1 are EtherType 0x88cc";
    assert_eq!(no_tcp(&ethernet).as_deref(), Some(said));
}

/// A segment of the near end's with ten bytes from `seq` on, or else of the far end's, with timestamps.
fn stamped(seq: Option<u32>, ack: u32, timestamps: [u32; 2]) -> Vec<u8> {
    let (from, to) = if seq.is_some() { (1, 2) } else { (2, 1) };
    let payload = if seq.is_some() { 10 } else { 0 };
    let mut bytes = vec![0x45, 0, 0, 52 + payload, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, from, 10, 0, 0, to];
    let ports = if seq.is_some() { [5000_u16, 80] } else { [80, 5000] };
    bytes.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    bytes.extend([seq.unwrap_or(1), ack].iter().flat_map(|number| number.to_be_bytes()));
    bytes.extend([0x80, 0x10, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10]);
    bytes.extend(timestamps.iter().flat_map(|number| number.to_be_bytes()));
    bytes.extend(std::iter::repeat_n(0, usize::from(payload)));
    bytes
}

#[test]
fn nothing_is_timed_across_a_clock_that_was_set_forward() {
    // By clocks that tick once a second, as slowly as they may.
    let samples = |set: u32| {
        let packets = [
            (stamped(Some(1), 1, [1000, 8999]), 500),
            (stamped(None, 11, [9001, 1000]), 501),
            (stamped(Some(11), 1, [1002, 9001]), 502),
            (stamped(None, 21, [9003, 1002]), 503 + set),
            (stamped(Some(21), 1, [1004, 9003]), 504 + set),
            (stamped(None, 31, [9005, 1004]), 505 + set),
        ];
        let packets: Vec<(u32, u32, &[u8])> = packets.iter().map(|(packet, at)| (*at, 7, &packet[..])).collect();
        let mut source = opened(&LITTLE.pcap(MICRO, &packets)).unwrap();
        let mut engine = Engine::new(EngineConfig { peers_complete: true, ..EngineConfig::default() });
        let mut samples = Vec::new();
        source.for_each_told(1, &FileFilter::default(), &mut |told| match told {
            Told::Segment(segment) => {
                if let Outcome::Sample(sample) = engine.record(segment) {
                    samples.push((sample.ack.0, Duration::from(sample.rtt).as_secs()));
                }
            }
            Told::ClockSet => engine.note_gap(),
            other => panic!("{other:?}"),
        });
        samples
    };
    assert_eq!(samples(0), [(11, 1), (21, 1), (31, 1)]);
    assert_eq!(samples(20), [(11, 1), (31, 1)]);
}

#[test]
fn a_clock_that_was_set_is_noticed() {
    let said = |times: &[u32], ts: Option<&[u32]>| {
        let packets: Vec<Vec<u8>> = (0..times.len())
            .map(|k| match ts {
                None => segment(),
                Some(ts) => {
                    // Twelve bytes of options: two that do nothing, and a timestamp.
                    let mut bytes = segment();
                    bytes[3] += 12;
                    bytes[32] = 0x80;
                    let option = [&[1, 1, 8, 10][..], &ts[k].to_be_bytes(), &[0; 4]].concat();
                    bytes.splice(40..40, option);
                    bytes
                }
            })
            .collect();
        let packets: Vec<(u32, u32, &[u8])> =
            times.iter().zip(&packets).map(|(at, packet)| (*at, 7, &packet[..])).collect();
        let mut source = opened(&LITTLE.pcap(MICRO, &packets)).unwrap();
        source.for_each(&FileFilter::default(), &mut |_| ());
        source.warnings().find(|line| line.contains("clock"))
    };
    assert_eq!(said(&[500, 501, 502], None), None);
    assert_eq!(said(&[500, 501, 521, 522], Some(&[1000, 2000, 22_000, 23_000])), None, "20 s passed");
    let forward = "the capture's clock was set forward by about 20 s; round trips across it are not measured";
    assert_eq!(said(&[500, 501, 521, 522], Some(&[1000, 2000, 2004, 3000])).as_deref(), Some(forward));
    let back = "the capture's clock was set back, or another capture was appended (1 times); round trips across that \
        are not measured";
    assert_eq!(said(&[500, 501, 401, 402], None).as_deref(), Some(back));
}

/// The headers of an IPv4 segment of a host or of the other end, with this much payload.
fn headers(is_answer: bool, flags: u8, options: &[u8], payload_len: u16) -> Vec<u8> {
    let tcp_len = 20 + options.len() as u16;
    let mut ends = [([10, 0, 0, 1], [0x03, 0xe8]), ([10, 0, 0, 2], [0, 80])];
    ends.rotate_left(usize::from(is_answer));
    let mut bytes = vec![0x45, 0];
    bytes.extend((20 + tcp_len + payload_len).to_be_bytes());
    bytes.extend([0, 1, 0, 0, 64, 6, 0, 0]);
    bytes.extend(ends.map(|(address, _)| address).as_flattened());
    bytes.extend(ends.map(|(_, port)| port).as_flattened());
    bytes.extend([0, 0, 0, 7, 0, 0, 0, 100, (tcp_len * 4) as u8, flags, 1, 0, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes
}

#[test]
fn a_super_segment_is_as_many_segments_as_its_own_connection_allows() {
    const MSS_1460: &[u8] = &[2, 4, 0x05, 0xb4];
    const MSS_1360: &[u8] = &[2, 4, 0x05, 0x50];
    const MSS_960: &[u8] = &[2, 4, 0x03, 0xc0];
    const SYN: u8 = TcpFlags::SYN;
    const ACK: u8 = TcpFlags::ACK;
    let tunnelled = |inner: Vec<u8>| {
        let len = 20 + u16::from_be_bytes([inner[2], inner[3]]);
        let mut bytes = vec![0x45, 0];
        bytes.extend(len.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 64, 4, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
        bytes.extend(inner);
        bytes
    };
    let data = || headers(false, ACK, &[], 12_000);
    let frames = [
        // Nothing is known yet, and no link carries it as one.
        tunnelled(data()),
        headers(false, SYN, MSS_1460, 0),
        headers(true, SYN | ACK, MSS_1360, 0),
        data(),
        tunnelled(headers(false, SYN, MSS_960, 0)),
        tunnelled(headers(true, SYN | ACK, MSS_1460, 0)),
        tunnelled(data()),
        data(),
    ];
    let frames: Vec<_> = (1..).zip(&frames).map(|(second, frame)| (second, 0, frame.as_slice())).collect();
    let filter = FileFilter { local: vec!["10.0.0.1/32".parse().unwrap()], ..FileFilter::default() };
    let mut segments = Vec::new();
    opened(&LITTLE.pcap(NANO, &frames)).unwrap().for_each(&filter, &mut |segment| {
        let payload = segment.header.payload;
        segments.extend((!payload.is_empty()).then(|| (payload.len(), payload.segments())));
    });
    assert_eq!(segments, [9, 9, 13, 9].map(|count| (12_000, count)));
}
