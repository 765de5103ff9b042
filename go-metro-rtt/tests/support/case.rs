//! Cases: packet traces with the samples that are right, one file each in `tests/cases`.
//!
//! ```text
//! # What happened, in a sentence or two.
//! # right: A 1448 2084
//! # right: B 10 none
//!          0.000 A>B A    seq 0 len 1448 ack 0 win 97 tsval 0 tsecr 0
//!       2084.000 B>A A    seq 0 len 0 ack 1448 win 4096 tsval 121 tsecr 0 sack 2896-4344
//! ```
//!
//! A line is a frame, in the order of the capture: time in microseconds, who sends to whom, control bits (`S`, `F`,
//! `R`, `P`, `A`), then numbers relative to each end's own first: sequence number, payload length, acknowledgement
//! number, window, TSval, TSecr (`-` for none yet), SACK blocks.
//!
//! `# right:` names the sender of what is timed, the acknowledgement number, and the round-trip time in microseconds,
//! or `none` where no acknowledgement of that number may be a sample. `# needs: timestamps` (or `sack`): without them
//! the frames do not tell.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use go_metro_common::segment::{Bits, Payload, SegmentHeader, Sides, TcpFlags};
use go_metro_rtt::{Addr, Endpoint, Engine, EngineConfig, FlowKey, Outcome, Segment, Side};

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    A,
    B,
}

/// One frame; numbers are relative.
#[derive(Clone, Debug)]
pub struct Frame {
    pub time_us: f64,
    pub from: End,
    pub flags: u8,
    pub seq: i64,
    pub len: u32,
    pub ack: Option<i64>,
    pub window: u16,
    /// TSval and TSecr; no TSecr where nothing was received yet.
    pub timestamps: Option<(i64, Option<i64>)>,
    pub sack: Vec<(i64, i64)>,
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub frames: Vec<Frame>,
    /// What must come out, in microseconds, or must not.
    pub right: BTreeMap<(End, i64), Option<f64>>,
    /// Whether the frames tell without timestamps, and without SACK.
    pub needs_timestamps: bool,
    pub needs_sack: bool,
}

/// Where each end's numbers begin.
#[derive(Clone, Copy, Debug)]
pub struct Bases {
    pub seq: [u32; 2],
    pub timestamps: [u32; 2],
}

/// Every case in `tests/cases`.
pub fn all() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| parse(&file.file_stem().unwrap().to_string_lossy(), &std::fs::read_to_string(file).unwrap()))
        .collect()
}

fn parse(name: &str, text: &str) -> Case {
    let mut case = Case {
        name: name.to_owned(),
        frames: Vec::new(),
        right: BTreeMap::new(),
        needs_timestamps: false,
        needs_sack: false,
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some(comment) = line.strip_prefix('#').map(str::trim) else {
            case.frames.push(frame(line));
            continue;
        };
        if let Some(right) = comment.strip_prefix("right:") {
            let words: Vec<&str> = right.split_whitespace().collect();
            let [from, ack, rtt] = words[..] else { panic!("{name}: bad `{line}`") };
            let rtt = (rtt != "none").then(|| rtt.parse().unwrap_or_else(|_| panic!("{name}: bad `{line}`")));
            case.right.insert((end(from), ack.parse().unwrap()), rtt);
        } else if let Some(needs) = comment.strip_prefix("needs:") {
            case.needs_timestamps |= needs.contains("timestamps");
            case.needs_sack |= needs.contains("sack");
        }
    }
    case
}

fn end(letter: &str) -> End {
    match letter {
        "A" => End::A,
        "B" => End::B,
        _ => panic!("no end is called `{letter}`"),
    }
}

fn frame(line: &str) -> Frame {
    let mut words = line.split_whitespace();
    let mut next = || words.next().unwrap_or_else(|| panic!("`{line}` ends too early"));
    let time_us = next().parse().unwrap_or_else(|_| panic!("no time in `{line}`"));
    let from = end(next().split('>').next().unwrap());
    let flags = next().chars().fold(0, |flags, letter| {
        flags
            | match letter {
                'S' => TcpFlags::SYN,
                'F' => TcpFlags::FIN,
                'R' => TcpFlags::RST,
                'P' => TcpFlags::PSH,
                'A' => TcpFlags::ACK,
                _ => panic!("unknown control bit in `{line}`"),
            }
    });
    let mut frame =
        Frame { time_us, from, flags, seq: 0, len: 0, ack: None, window: 0, timestamps: None, sack: Vec::new() };
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("nothing after `{word}` in `{line}`"));
        let number = || value.parse::<i64>().unwrap_or_else(|_| panic!("no number after `{word}` in `{line}`"));
        match word {
            "seq" => frame.seq = number(),
            "len" => frame.len = number() as u32,
            "ack" => frame.ack = (flags & TcpFlags::ACK != 0).then(number),
            "win" => frame.window = number() as u16,
            "tsval" => frame.timestamps = Some((number(), None)),
            "tsecr" => {
                let tsval = frame.timestamps.map_or(0, |(tsval, _)| tsval);
                frame.timestamps = Some((tsval, (value != "-").then(number)));
            }
            "sack" => {
                frame.sack = value
                    .split(',')
                    .map(|block| block.split_once('-').unwrap_or_else(|| panic!("bad block in `{line}`")))
                    .map(|(begin, end)| (begin.parse().unwrap(), end.parse().unwrap()))
                    .collect();
            }
            word => panic!("unknown word `{word}` in `{line}`"),
        }
    }
    frame
}

impl Case {
    /// The same with the ends' names exchanged.
    pub fn swapped(&self) -> Self {
        let other = |end| if end == End::A { End::B } else { End::A };
        let mut case = self.clone();
        case.frames.iter_mut().for_each(|frame| frame.from = other(frame.from));
        case.right = self.right.iter().map(|((from, ack), rtt)| ((other(*from), *ack), *rtt)).collect();
        case
    }

    /// The same between ends that do not know timestamps; `None` if the frames no longer tell then.
    pub fn without_timestamps(&self) -> Option<Self> {
        let mut case = self.clone();
        case.frames.iter_mut().for_each(|frame| frame.timestamps = None);
        (!self.needs_timestamps).then_some(case)
    }

    /// The same between ends that do not know SACK; `None` if the frames no longer tell then.
    pub fn without_sack(&self) -> Option<Self> {
        let mut case = self.clone();
        case.frames.iter_mut().for_each(|frame| frame.sack.clear());
        (!self.needs_sack).then_some(case)
    }

    /// Every sample of both ends: who sent what is timed, the relative acknowledgement number, the time of the
    /// acknowledgement and the round-trip time in microseconds.
    pub fn samples(&self, bases: Bases) -> Vec<(End, i64, f64, f64)> {
        let config = EngineConfig { peers_complete: true, ..EngineConfig::default() };
        self.samples_without(bases, config, usize::MAX..usize::MAX)
    }

    /// The same where these frames are lost to a full ring, and the engine is notified of a gap after them.
    pub fn samples_without(&self, bases: Bases, config: EngineConfig, lost: Range<usize>) -> Vec<(End, i64, f64, f64)> {
        let mut engine = Engine::new(config);
        let mut samples = Vec::new();
        for (k, frame) in self.frames.iter().enumerate() {
            if lost.contains(&k) {
                continue;
            }
            if k == lost.end {
                engine.note_gap();
            }
            frame.segment(bases).for_each_side(Sides::BOTH, &mut |segment| {
                if let Outcome::Sample(sample) = engine.record(segment) {
                    let from = if sample.flow.side == Side::Remote { End::A } else { End::B };
                    let ack = i64::from(sample.ack.0.wrapping_sub(bases.seq[from as usize]) as i32);
                    samples.push((from, ack, frame.time_us, sample.rtt.0 as f64 / 1e3));
                }
            });
        }
        samples
    }

    /// Plays it, and panics if something comes out that is not right, or does not come out that is.
    pub fn check(&self, bases: Bases, variant: &str) {
        let samples = self.samples(bases);
        for ((from, ack), right) in &self.right {
            let found: Vec<f64> = samples.iter().filter(|s| (s.0, s.1) == (*from, *ack)).map(|s| s.3).collect();
            let matches = match right {
                None => found.is_empty(),
                Some(right) => found.len() == 1 && (found[0] - right).abs() <= 1.0,
            };
            assert!(matches, "{} ({variant}): {from:?} {ack} is {found:?} us, not {right:?}\n{samples:?}", self.name);
        }
    }
}

impl Frame {
    /// As the interface of A sees it.
    pub fn segment(&self, bases: Bases) -> Segment {
        let (own, other) = (self.from as usize, 1 - self.from as usize);
        let at = |base: u32, relative: i64| base.wrapping_add(relative as u32);
        let mut bits = if self.from == End::A { Bits::EGRESS } else { 0 };
        if self.timestamps.is_some() {
            bits |= Bits::TIMESTAMPS;
        }
        let ack = self.ack.unwrap_or_default();
        // As the classifier reads them.
        if self.sack.iter().any(|(begin, _)| *begin > ack) {
            bits |= Bits::SACK_ABOVE;
        }
        if self.sack.first().is_some_and(|(begin, _)| *begin <= ack) {
            bits |= Bits::DSACK;
        }
        let (tsval, tsecr) = self.timestamps.unwrap_or_default();
        let header = SegmentHeader {
            time_ns: 1_000_000_000 + (self.time_us * 1e3).round() as u64,
            seq: at(bases.seq[own], self.seq),
            ack: if self.ack.is_some() { at(bases.seq[other], ack) } else { 0 },
            tsval: at(bases.timestamps[own], tsval),
            tsecr: tsecr.map_or(0, |tsecr| at(bases.timestamps[other], tsecr)),
            payload: Payload::new(self.len),
            window: self.window,
            flags: TcpFlags(self.flags),
            bits: Bits(bits),
            ..SegmentHeader::default()
        };
        let flow = FlowKey {
            local: Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40000 },
            remote: Endpoint { addr: Addr::v4([10, 0, 0, 2]), port: 80 },
            ifindex: 1,
            side: Side::Remote,
        };
        Segment { flow, header }
    }
}
