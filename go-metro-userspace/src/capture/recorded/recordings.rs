//! What a meter measured, written as a recording, is what `read` finds in it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use go_metro_common::segment::{Bits, Payload, SegmentHeader, Sides, TcpFlags};
use go_metro_rtt::{Addr, Class, Endpoint, FlowKey, Kind, Rtt, Sample, SeqNum, Side, shard_of};

use super::*;
use crate::capture::decode::{LinkType, Origin, Packet, Tunnels, decode};
use crate::record::{
    Blocks, Choice, Described, Focus, Folder, FolderLimits, Mark, Ongoing, Recording, Ring, Snapshot, note, write,
};

/// Every capture of the corpus.
fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus"));
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ext| ext != "md")).collect();
    files.sort();
    assert!(files.len() > 50, "{files:?}");
    files
}

/// A sample, whatever its flow is called by.
type Found = (Nanos, [Endpoint; 2], Side, SeqNum, Rtt, Kind, Class, bool);

fn found(sample: &Sample) -> Found {
    let Sample { flow, acked_at, ack, rtt, kind, class, delayed, .. } = *sample;
    (acked_at, [flow.local, flow.remote], flow.side, ack, rtt, kind, class, delayed)
}

fn sorted(mut samples: Vec<Found>) -> Vec<Found> {
    samples.sort_by_key(|(at, ends, side, ack, ..)| (*at, *ends, *side, ack.0));
    samples
}

const CONFIG: EngineConfig = EngineConfig { max_flows: 1 << 12, peers_complete: true, ..EngineConfig::DEFAULT };

/// So many meters, each with a ring.
struct Meters {
    meters: Vec<(Engine, Ring)>,
    samples: Vec<Found>,
    remotes: BTreeSet<Addr>,
}

impl Meters {
    fn new(count: usize) -> Self {
        Self::with_memory(count, 32 << 20)
    }

    /// The same, each ring with so much memory.
    fn with_memory(count: usize, bytes: usize) -> Self {
        let meter = |_| (Engine::new(CONFIG), Ring::new(bytes));
        Self { meters: (0..count).map(meter).collect(), samples: Vec::new(), remotes: BTreeSet::new() }
    }

    fn record(&mut self, segment: &Segment) {
        let number = shard_of(&segment.flow, 7, self.meters.len() as u32);
        let (engine, ring) = &mut self.meters[number as usize];
        let outcome = engine.record(segment);
        ring.push(segment, &outcome);
        if let Outcome::Sample(sample) = &outcome {
            self.samples.push(found(sample));
        }
        self.remotes.insert(segment.flow.remote.addr);
    }

    fn mark(&mut self, mark: Mark) {
        for (engine, ring) in &mut self.meters {
            match mark {
                Mark::Gap => engine.note_gap(),
                Mark::Interrupt(ifindex) => engine.interrupt(ifindex),
                Mark::InterruptAll => engine.interrupt_all(),
                Mark::InterruptFlow(flow) => [Side::Remote, Side::Local]
                    .iter()
                    .for_each(|side| engine.interrupt_flow(&FlowKey { side: *side, ..flow })),
                Mark::Restart => engine.drop_flows(),
            }
            ring.mark(mark);
        }
    }

    /// Measures a capture; `between` is called with the number of each segment.
    fn measure(path: &Path, sides: Sides, count: usize, between: impl Fn(&mut Self, u64, &Segment)) -> Self {
        Self::new(count).measuring(path, sides, between)
    }

    fn measuring(self, path: &Path, sides: Sides, between: impl Fn(&mut Self, u64, &Segment)) -> Self {
        let mut meters = self;
        let filter = FileFilter { sides, ..FileFilter::default() };
        let mut number = 0;
        FileSource::open(path).unwrap().for_each_told(1, &filter, &mut |told| match told {
            Told::Segment(segment) => {
                between(&mut meters, number, segment);
                meters.record(segment);
                number += 1;
            }
            Told::ClockSet => meters.mark(Mark::Gap),
            other => panic!("{other:?}"),
        });
        meters
    }

    fn choice(&self, since: Nanos) -> Choice {
        Choice {
            remotes: self.remotes.iter().map(|addr| (*addr, None)).collect(),
            local: None,
            ifindex: None,
            since,
            until: Nanos(u64::MAX),
            focus: None,
            most_bytes: u64::MAX,
        }
    }

    fn rings(&self) -> Vec<Snapshot> {
        self.meters.iter().map(|(_, ring)| ring.snapshot()).collect()
    }

    fn recording(&self, since: Nanos) -> Recording {
        Recording::of(&self.rings(), &self.choice(since), note::Section::of(&CONFIG, Sides::BOTH))
    }

    /// Writes what is new to a recording that goes on.
    fn go_on(&self, (ongoing, bytes): &mut (Ongoing, Vec<u8>)) {
        loop {
            let part = ongoing.next(&self.rings(), &self.choice(Nanos(0)), &Described::default());
            bytes.extend(part.blocks);
            if part.is_all {
                return;
            }
        }
    }
}

/// What `read` finds in it.
fn read(recording: &Recording, described: &Described) -> (Vec<Found>, FileSource) {
    let mut bytes = Vec::new();
    write(recording, described, &mut bytes).unwrap();
    read_bytes(&bytes)
}

fn read_bytes(bytes: &[u8]) -> (Vec<Found>, FileSource) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let mut source = FileSource::open(file.path()).unwrap();
    let filter = FileFilter { sides_as_recorded: true, ..FileFilter::default() };
    let wanted = Wanted { filter: &filter, ports: Ports::ALL, grouping: None, called: Called::OPTIONS };
    let mut samples = Vec::new();
    let config = EngineConfig { max_flows: 1 << 12, ..EngineConfig::DEFAULT };
    measure(&mut source, wanted, 2, (config, None, false), &mut |_: &Segment, outcome| {
        if let Outcome::Sample(sample) = &outcome {
            samples.push(found(sample));
        }
    });
    assert_eq!(source.broken(), None);
    (sorted(samples), source)
}

fn same(found: &[Found], expected: &[Found], what: &str) {
    let first = found.iter().zip(expected).position(|(found, expected)| found != expected);
    assert_eq!(found.len(), expected.len(), "{what}: {first:?}");
    assert!(first.is_none(), "{what}: {:?}, not {:?}", found[first.unwrap()], expected[first.unwrap()]);
}

#[test]
fn a_recording_of_any_capture_has_the_samples_of_the_capture() {
    let mut all = 0;
    for path in corpus() {
        for (sides, meters) in [(Sides::REMOTE, 1), (Sides::BOTH, 3)] {
            let meters = Meters::measure(&path, sides, meters, |_, _, _| ());
            let recording = meters.recording(Nanos(0));
            let what = format!("{} {sides:?}", path.display());
            assert_eq!((recording.samples, recording.missing), (meters.samples.len() as u64, 0), "{what}");
            let (samples, _) = read(&recording, &Described::default());
            let expected = sorted(meters.samples);
            same(&samples, &expected, &what);
            all += samples.len();
        }
    }
    assert!(all > 10_000, "{all} samples");
}

/// A recording that goes on, and its bytes so far.
fn ongoing() -> RefCell<(Ongoing, Vec<u8>)> {
    RefCell::new((Ongoing::new(note::Section::of(&CONFIG, Sides::BOTH)), Vec::new()))
}

#[test]
fn a_recording_that_is_written_while_it_goes_on_has_the_same_samples() {
    let mut all = 0;
    for path in corpus() {
        for (sides, count) in [(Sides::REMOTE, 1), (Sides::BOTH, 3)] {
            let file = ongoing();
            let between = |meters: &mut Meters, number: u64, segment: &Segment| match number % 97 {
                13 => meters.mark(Mark::Gap),
                29 => meters.mark(Mark::InterruptFlow(segment.flow)),
                31 | 73 => meters.go_on(&mut file.borrow_mut()),
                93 if number > 500 => meters.mark(Mark::InterruptAll),
                _ => {}
            };
            let meters = Meters::measure(&path, sides, count, between);
            meters.go_on(&mut file.borrow_mut());
            let (ongoing, mut bytes) = file.into_inner();
            bytes.extend(ongoing.end());
            let mut blocks = Blocks::default();
            assert_eq!(blocks.add(&bytes).unwrap().len(), bytes.len(), "{}", path.display());
            assert!(blocks.is_whole || blocks.packets == 0, "{}", path.display());
            if blocks.packets == 0 {
                assert!(bytes.is_empty() && meters.samples.is_empty(), "{}", path.display());
                continue;
            }
            let said = format!("`go-metro read` finds {} samples in it", meters.samples.len());
            assert!(String::from_utf8_lossy(&bytes).contains(&said), "{}: {said}", path.display());
            let (samples, _) = read_bytes(&bytes);
            same(&samples, &sorted(meters.samples), &format!("{} {sides:?}", path.display()));
            all += samples.len();
        }
    }
    assert!(all > 10_000, "{all} samples");
}

#[test]
fn what_is_overwritten_before_it_is_taken_leaves_a_gap_and_no_wrong_sample() {
    let (mut fewer, mut given) = (0, 0);
    for path in corpus() {
        let file = ongoing();
        let between = |meters: &mut Meters, number: u64, _: &Segment| {
            // For a third of the time nobody takes anything, and there is room for a hundred records or two.
            if number % 1200 > 400 && number.is_multiple_of(20) {
                meters.go_on(&mut file.borrow_mut());
            }
        };
        let meters = Meters::with_memory(1, 12 << 10).measuring(&path, Sides::REMOTE, between);
        meters.go_on(&mut file.borrow_mut());
        let (ongoing, mut bytes) = file.into_inner();
        bytes.extend(ongoing.end());
        if bytes.is_empty() {
            continue;
        }
        let (samples, _) = read_bytes(&bytes);
        let reported = sorted(meters.samples);
        assert!(samples.iter().all(|sample| reported.contains(sample)), "{}", path.display());
        fewer += reported.len() - samples.len();
        given += samples.len();
    }
    assert!(fewer > 100 && given > 1000, "{given} of {}", given + fewer);
}

#[test]
fn nothing_is_measured_across_what_interrupted_the_meter_either() {
    let between = |meters: &mut Meters, number: u64, segment: &Segment| match number % 97 {
        13 => meters.mark(Mark::Gap),
        29 => meters.mark(Mark::InterruptFlow(segment.flow)),
        47 => meters.mark(Mark::Interrupt(segment.flow.ifindex)),
        71 => meters.mark(Mark::Interrupt(77)),
        93 if number > 500 => meters.mark(Mark::InterruptAll),
        _ => {}
    };
    let mut fewer = 0;
    for path in corpus() {
        for count in [1, 2] {
            let meters = Meters::measure(&path, Sides::BOTH, count, between);
            let whole = Meters::measure(&path, Sides::BOTH, count, |_, _, _| ());
            let recording = meters.recording(Nanos(0));
            assert_eq!(recording.missing, 0, "{}", path.display());
            let (samples, _) = read(&recording, &Described::default());
            fewer += whole.samples.len() - samples.len();
            same(&samples, &sorted(meters.samples), &path.display().to_string());
        }
    }
    assert!(fewer > 1000, "{fewer} samples fewer");
}

#[test]
fn a_recording_that_begins_within_connections_has_no_sample_that_was_not_reported() {
    let (mut within, mut given) = (0, 0);
    for path in corpus() {
        let meters = Meters::measure(&path, Sides::REMOTE, 1, |_, _, _| ());
        let reported = sorted(meters.samples.clone());
        let Some((middle, ..)) = reported.get(reported.len() / 2) else { continue };
        let recording = meters.recording(*middle);
        let (samples, _) = read(&recording, &Described::default());
        let what = path.display();
        assert!(samples.iter().all(|sample| reported.contains(sample)), "{what}");
        assert_eq!(samples.len() as u64, recording.samples, "{what}");
        let later = reported.iter().filter(|(at, ..)| at >= middle).count() as u64;
        assert!(recording.samples + recording.missing <= later, "{what}");
        // Of segments that are in it.
        within += reported.iter().filter(|(at, .., rtt, _, _, _)| at.0 - rtt.0 >= middle.0).count();
        given += samples.len();
    }
    assert!(given <= within && given * 100 >= within * 99 && within > 1000, "{given} of {within}");
}

#[test]
fn a_record_is_the_same_when_it_is_read_again() {
    let v6 = |last| Addr::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    let sack = [0, Bits::SACK_ABOVE, Bits::DSACK, Bits::SACK_ABOVE | Bits::DSACK];
    let all = [false, true].into_iter().flat_map(|is_v6| sack.map(|bits| (is_v6, bits)));
    for (is_v6, sack) in all {
        for (flags, len) in [(2, 0), (0x12, 0), (0x10, 0), (0x18, 1), (0x10, 65_000), (0xd1, 200_000), (0x14, 0)] {
            for more in [0, Bits::TIMESTAMPS, Bits::SACK_PERMITTED, Bits::TIMESTAMPS | Bits::SACK_PERMITTED] {
                let addr = |last| if is_v6 { v6(last) } else { Addr::v4([10, 0, 0, last]) };
                let end = |last, port| Endpoint { addr: addr(last), port };
                let bits = sack | more | if is_v6 { Bits::IPV6 } else { 0 };
                let has_times = more & Bits::TIMESTAMPS != 0;
                let header = SegmentHeader {
                    time_ns: 5,
                    seq: u32::MAX - 3,
                    ack: 0x8000_0000,
                    tsval: if has_times { 7 } else { 0 },
                    tsecr: if has_times { u32::MAX } else { 0 },
                    payload: Payload::new(len),
                    ifindex: 3,
                    local_port: 1000,
                    remote_port: 443,
                    window: 64_240,
                    flags: TcpFlags(flags),
                    bits: Bits(bits | Bits::EGRESS),
                };
                let flow = FlowKey { local: end(1, 1000), remote: end(2, 443), ifindex: 3, side: Side::Remote };
                let segment = Segment { flow, header };
                let mut ring = Ring::new(1 << 20);
                ring.push(&segment, &Outcome::Sent);
                let choice = Choice {
                    remotes: vec![(flow.remote.addr, Some(443))],
                    local: Some(flow.local.addr),
                    ifindex: Some(3),
                    since: Nanos(5),
                    until: Nanos(5),
                    focus: None,
                    most_bytes: 1 << 20,
                };
                let recording = Recording::of(&[ring.snapshot()], &choice, note::Section::of(&CONFIG, Sides::REMOTE));
                let mut bytes = Vec::new();
                write(&recording, &Described::default(), &mut bytes).unwrap();
                // The first packet's block is the third.
                let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
                let second = word(4);
                let third = second + word(second + 4);
                let (captured, wire_len) = (word(third + 20), word(third + 24) as u32);
                let frame = &bytes[third + 28..third + 28 + captured];
                let packet =
                    Packet { bytes: frame, wire_len, link_type: LinkType::Raw, origin: Origin::File(Tunnels::Opened) };
                let decoded = decode(packet).unwrap();
                let seen = decoded.seen_from(go_metro_rtt::Direction::Egress, Sides::BOTH, Nanos(5), 3);
                let what = format!("{is_v6} {bits:b} {flags:b} {len}");
                assert!(!decoded.bad_option && !decoded.cut_options, "{what}");
                match seen {
                    Some(seen) => assert_eq!(seen, segment, "{what}"),
                    // It tells nothing to who sent it.
                    None => assert_eq!(decoded.header.payload.len(), 0, "{what}"),
                }
            }
        }
    }
}

#[test]
fn what_is_too_large_keeps_the_flow_that_it_is_for_and_the_newest() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/loss-sack-timestamps.pcap.gz"));
    let meters = Meters::measure(path, Sides::REMOTE, 1, |_, _, _| ());
    let last = *meters.samples.last().unwrap();
    let (acked_at, [local, remote], side, ack, rtt, ..) = last;
    let flow = FlowKey { local, remote, ifindex: 0, side };
    let choice = |most_bytes| Choice {
        remotes: vec![(remote.addr, None)],
        local: Some(local.addr),
        ifindex: None,
        since: Nanos(0),
        until: Nanos(u64::MAX),
        focus: Some(Focus { flow, acked_at, ack, rtt, base: None }),
        most_bytes,
    };
    let rings = [meters.meters[0].1.snapshot()];
    let of = |most_bytes| Recording::of(&rings, &choice(most_bytes), note::Section::of(&CONFIG, Sides::REMOTE));
    let whole = of(u64::MAX);
    assert_eq!(whole.left_out, 0);
    let small = of(20_000);
    let mut bytes = Vec::new();
    write(&small, &Described::default(), &mut bytes).unwrap();
    assert!(bytes.len() < 22_000 && small.len() > 50, "{} bytes, {} packets", bytes.len(), small.len());
    assert_eq!(small.left_out + small.len() as u64, whole.left_out + whole.len() as u64);
    let (samples, _) = read(&small, &Described::default());
    assert!(samples.contains(&last));
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("acknowledged by frame") && text.contains("records were left out"), "{text}");
}

#[test]
fn a_folder_holds_no_more_than_it_may_and_only_whole_recordings_of_its_own() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/keep-alive.pcap.gz"));
    let recording = Meters::measure(path, Sides::REMOTE, 1, |_, _, _| ()).recording(Nanos(0));
    let mut bytes = Vec::new();
    write(&recording, &Described::default(), &mut bytes).unwrap();
    let one = bytes.len() as u64;
    let within = tempfile::tempdir().unwrap();
    let at = within.path().join("a/recordings");
    let keep = |name: &str, files, bytes| {
        let folder = Folder::new(&at, FolderLimits { files, bytes });
        folder.check().unwrap();
        // What an earlier process was ended in.
        fs::write(at.join("go-metro-20261130T10-before.pcapng.part"), "half").unwrap();
        let path = folder.keep(&format!("20261130T10-{name}"), &recording, &Described::default()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        path
    };
    let names = || {
        let entries = fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    };
    let first = keep("1", 3, u64::MAX);
    assert_eq!(fs::read(&first).unwrap(), bytes);
    // What people put there stays, whatever they call it.
    for name in ["go-metro-incident-42.pcapng", "mine.pcapng"] {
        fs::write(at.join(name), vec![0; 1 << 20]).unwrap();
    }
    for name in ["1", "2", "3"] {
        keep(name, 3, u64::MAX);
    }
    let names_of = |numbers: &[&str]| -> Vec<String> {
        let own = numbers.iter().map(|number| format!("go-metro-20261130T10-{number}.pcapng"));
        own.chain(["go-metro-incident-42.pcapng", "mine.pcapng"].map(str::to_owned)).collect()
    };
    assert_eq!(names(), names_of(&["1-2", "2", "3"]));
    // Room for two of them.
    keep("4", 3, 2 * one + one / 2);
    assert_eq!(names(), names_of(&["3", "4"]));
    keep("5", 1, u64::MAX);
    assert_eq!(names(), names_of(&["5"]));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&at), mode(&at.join("go-metro-20261130T10-5.pcapng"))), (0o700, 0o600));
    // In the place of the folder is a file.
    let folder = Folder::new(&at.join("mine.pcapng"), FolderLimits { files: 1, bytes: 1 });
    assert!(folder.check().is_err() && folder.keep("6", &recording, &Described::default()).is_err());
}

#[test]
fn a_recording_may_be_damaged_anywhere() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/keep-alive.pcap.gz"));
    let recording = Meters::measure(path, Sides::BOTH, 1, |_, _, _| ()).recording(Nanos(0));
    let mut whole = Vec::new();
    write(&recording, &Described::default(), &mut whole).unwrap();
    // As random as need be (Knuth's MMIX).
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random(4) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        bytes.truncate(whole.len() - random(2) * random(whole.len()));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        let Ok(mut source) = FileSource::open(file.path()) else { continue };
        let filter = FileFilter { sides_as_recorded: true, ..FileFilter::default() };
        let wanted = Wanted { filter: &filter, ports: Ports::ALL, grouping: None, called: Called::OPTIONS };
        let config = EngineConfig { max_flows: 1 << 8, ..EngineConfig::DEFAULT };
        measure(&mut source, wanted, 1, (config, None, false), &mut |segment: &Segment, _| {
            assert!(!source_name(segment).is_empty());
        });
        let _ = source.place(u32::MAX);
    }
}

fn source_name(segment: &Segment) -> String {
    segment.flow.local.to_string()
}

#[test]
fn an_interface_goes_by_its_name_and_recordings_one_after_the_other_are_each_their_own() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/clean.pcap.gz"));
    let meters = Meters::measure(path, Sides::REMOTE, 1, |_, _, _| ());
    let recording = meters.recording(Nanos(0));
    let names = |name: &str| Described { interfaces: vec![(0, name.to_owned())], ..Described::default() };
    let file = tempfile::NamedTempFile::new().unwrap();
    for name in ["eth7", "wg0"] {
        write(&recording, &names(name), &mut file.as_file()).unwrap();
    }
    let mut source = FileSource::open(file.path()).unwrap();
    let wanted = Wanted { filter: &FileFilter::default(), ports: Ports::ALL, grouping: None, called: Called::OPTIONS };
    let mut places = Vec::new();
    let engine = measure(&mut source, wanted, 1, (EngineConfig::DEFAULT, None, false), &mut |_: &Segment, outcome| {
        if let Outcome::Sample(sample) = outcome {
            places.push(sample.flow.ifindex);
        }
    });
    assert_eq!(engine.counters().samples_total() as usize, 2 * meters.samples.len());
    places.dedup();
    let places: Vec<&str> = places.iter().map(|place| source.place(*place)).collect();
    assert_eq!(places, ["eth7", "wg0"]);
}
