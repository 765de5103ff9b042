//! The last records of a meter, and what became of them, in a fixed amount of memory.
//!
//! Words in chunks that are allocated at once: putting a record in allocates nothing, takes no lock and looks at no
//! clock. A chunk that is full never changes until it is the oldest and its turn comes again, so that a snapshot shares
//! it and copies only the one that is being filled. While a snapshot holds the oldest chunk its turn cannot come: what
//! passes then is left out, and marked as a gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use go_metro_common::segment::{Bits, Payload, SegmentHeader, TcpFlags};
use go_metro_rtt::{Addr, Class, Endpoint, FlowKey, Kind, Outcome, Rtt, Sample, Segment, Side};

/// Words of a chunk, and so of what a snapshot copies: 256 KiB, in less than 50 µs.
const CHUNK: usize = 32 << 10;
/// Words of the smallest chunk: some entries, and the mark of a gap.
const SMALLEST: usize = 64;
/// Fewest chunks, however small: what one of them holds is lost at once.
const LEAST: usize = 8;

// Words of an entry: its head, five of the record's header, and the addresses.
const V4: usize = 7;
const V6: usize = 10;

/// What an entry is: the lowest byte of its head.
mod tag {
    pub(super) const V4: u8 = 1;
    pub(super) const V6: u8 = 2;
    /// Of the local side.
    pub(super) const LOCAL: u8 = 0x10;
    /// No record: what is outstanding of its flow is forgotten.
    pub(super) const INTERRUPTED: u8 = 0x20;
    pub(super) const GAP: u8 = 3;
    pub(super) const INTERRUPT: u8 = 4;
    pub(super) const INTERRUPT_ALL: u8 = 5;
    pub(super) const RESTART: u8 = 6;
}

/// A sample, as far as it is to be the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) rtt: Rtt,
    pub(crate) kind: Kind,
    pub(crate) class: Class,
    pub(crate) delayed: bool,
}

/// What happens to a meter between records that changes what it makes of those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Records were lost.
    Gap,
    /// What is outstanding on this interface is forgotten.
    Interrupt(u32),
    /// What is outstanding of this flow, of both sides, is forgotten.
    InterruptFlow(FlowKey),
    /// All that is outstanding is forgotten.
    InterruptAll,
    /// All flows are: nothing before it says anything about what comes.
    Restart,
}

/// What a ring holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A record, and the sample that came of it.
    Record(Segment, Option<Reported>),
    /// Something between records.
    Mark(Mark),
}

/// Entries one after the other.
#[derive(Clone, Debug, Default)]
struct Chunk {
    words: Box<[u64]>,
    len: usize,
}

impl Chunk {
    fn of(words: usize) -> Self {
        Self { words: vec![0; words].into_boxed_slice(), len: 0 }
    }

    #[inline]
    fn put(&mut self, words: &[u64]) {
        self.words[self.len..self.len + words.len()].copy_from_slice(words);
        self.len += words.len();
    }
}

/// How many rings there have been.
static RINGS: AtomicU64 = AtomicU64::new(0);

/// The last entries.
pub(crate) struct Ring {
    /// Which of all rings of this process: from 1.
    id: u64,
    /// Number of the chunk that is being filled, of all that this ring has had.
    turns: u64,
    /// Full, the oldest first; those that are not in use yet before them, empty.
    full: VecDeque<Arc<Chunk>>,
    current: Chunk,
    /// Something was left out and is to be marked.
    has_gap: bool,
    /// Behind what it has taken over from another ring.
    begin: RingPlace,
}

/// What a ring holds at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Which ring it is of.
    pub(crate) ring: u64,
    /// Number of the chunk that was being filled.
    turns: u64,
    full: Vec<Arc<Chunk>>,
    current: Chunk,
    /// Behind what the ring has taken over from another one.
    pub(super) begin: RingPlace,
}

/// A place between entries, in all that a ring has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RingPlace {
    chunk: u64,
    words: usize,
}

impl Ring {
    /// An empty one of about so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let (words, chunks) = size(bytes);
        let full = (1..chunks).map(|_| Arc::new(Chunk::of(words))).collect();
        let id = RINGS.fetch_add(1, Ordering::Relaxed) + 1;
        let begin = RingPlace::default();
        Self { id, turns: 0, full, current: Chunk::of(words), has_gap: false, begin }
    }

    /// Goes on in about so many bytes, with the last of what it holds.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let (words, chunks) = size(bytes);
        let most = words * chunks;
        let sizes: Vec<usize> = self.full.iter().map(|chunk| chunk.words.len()).collect();
        if sizes.iter().chain([&self.current.words.len()]).any(|size| *size > words) {
            return self.copy_to(bytes, most);
        }
        // Chunks that stay are not copied, however many there are, and keep their size.
        let mut held = self.words();
        for size in sizes {
            if held <= most {
                break;
            }
            self.full.pop_front();
            held -= size;
        }
        for _ in 0..(most - held) / words {
            self.full.push_front(Arc::new(Chunk::of(words)));
        }
    }

    /// Words that it has room for.
    fn words(&self) -> usize {
        self.full.iter().map(|chunk| chunk.words.len()).sum::<usize>() + self.current.words.len()
    }

    /// Goes on in another ring, whose chunks are smaller, and which therefore is small.
    fn copy_to(&mut self, bytes: usize, most: usize) {
        let mut last = self.snapshot();
        let mut kept = last.current.len;
        let is_older = |chunk: &Arc<Chunk>| {
            kept += chunk.len;
            kept - chunk.len >= most
        };
        let older = last.full.len() - last.full.iter().rev().position(is_older).unwrap_or(last.full.len());
        last.full.drain(..older);
        let mut ring = Self::new(bytes);
        for entry in last.each() {
            match entry {
                Entry::Record(segment, reported) => ring.put_segment(&segment, reported.map_or(0, head_of)),
                Entry::Mark(mark) => ring.mark(mark),
            }
        }
        ring.has_gap = self.has_gap;
        ring.begin = RingPlace { chunk: ring.turns, words: ring.current.len };
        *self = ring;
    }

    /// Puts in a record, and what became of it.
    #[inline]
    pub(crate) fn push(&mut self, segment: &Segment, outcome: &Outcome) {
        let head = match outcome {
            Outcome::Sample(Sample { rtt, kind, class, delayed, .. }) => {
                head_of(Reported { rtt: *rtt, kind: *kind, class: *class, delayed: *delayed })
            }
            _ => 0,
        };
        self.put_segment(segment, head);
    }

    /// Puts in something that happened.
    pub(crate) fn mark(&mut self, mark: Mark) {
        let head = |tag: u8, data: u32| u64::from(tag) | u64::from(data) << 16;
        match mark {
            Mark::Gap => self.put(&[head(tag::GAP, 0)]),
            Mark::Interrupt(ifindex) => self.put(&[head(tag::INTERRUPT, ifindex)]),
            Mark::InterruptAll => self.put(&[head(tag::INTERRUPT_ALL, 0)]),
            Mark::Restart => self.put(&[head(tag::RESTART, 0)]),
            Mark::InterruptFlow(flow) => {
                let bits = if flow.local.addr.is_v4() && flow.remote.addr.is_v4() { 0 } else { Bits::IPV6 };
                let header = SegmentHeader {
                    ifindex: flow.ifindex,
                    local_port: flow.local.port,
                    remote_port: flow.remote.port,
                    bits: Bits(bits),
                    ..SegmentHeader::default()
                };
                self.put_segment(&Segment { flow, header }, u64::from(tag::INTERRUPTED));
            }
        }
    }

    /// What it holds now. The next records go on where this ends.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let full = self.full.iter().filter(|chunk| chunk.len > 0).cloned().collect();
        let Chunk { words, len } = &self.current;
        let current = Chunk { words: words[..*len].into(), len: *len };
        Snapshot { ring: self.id, turns: self.turns, full, current, begin: self.begin }
    }

    #[inline]
    fn put_segment(&mut self, segment: &Segment, head: u64) {
        let Segment { flow, header } = segment;
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let side = if flow.side == Side::Local { tag::LOCAL } else { 0 };
        let payload = header.payload.segments() << 20 | header.payload.len();
        let last = u64::from(header.local_port) << 48
            | u64::from(header.remote_port) << 32
            | u64::from(header.window) << 16
            | u64::from(header.flags.0) << 8
            | u64::from(header.bits.0);
        let [local, remote] = [flow.local.addr.bits(), flow.remote.addr.bits()];
        let mut words = [
            head | u64::from(side),
            header.time_ns,
            pair(header.seq, header.ack),
            pair(header.tsval, header.tsecr),
            pair(payload, header.ifindex),
            last,
            pair(local as u32, remote as u32),
            0,
            0,
            0,
        ];
        if header.bits.any(Bits::IPV6) {
            words[0] |= u64::from(tag::V6);
            words[6..].copy_from_slice(&[(local >> 64) as u64, local as u64, (remote >> 64) as u64, remote as u64]);
            self.put(&words);
        } else {
            words[0] |= u64::from(tag::V4);
            self.put(&words[..V4]);
        }
    }

    #[inline]
    fn put(&mut self, words: &[u64]) {
        // The mark of a gap has room beside any entry.
        if self.current.len + words.len() >= self.current.words.len() && !self.turn() {
            self.has_gap = true;
            return;
        }
        if std::mem::take(&mut self.has_gap) {
            self.current.put(&[u64::from(tag::GAP)]);
        }
        self.current.put(words);
    }

    /// Goes on in the oldest chunk; whether that is free.
    #[cold]
    fn turn(&mut self) -> bool {
        let Some(mut chunk) = self.full.pop_front() else { return false };
        let Some(oldest) = Arc::get_mut(&mut chunk) else {
            self.full.push_front(chunk);
            return false;
        };
        std::mem::swap(oldest, &mut self.current);
        self.current.len = 0;
        self.full.push_back(chunk);
        self.turns += 1;
        true
    }
}

/// Words of a chunk, and how many chunks there are in about so many bytes.
fn size(bytes: usize) -> (usize, usize) {
    let words = (bytes / 8 / LEAST).clamp(SMALLEST, CHUNK);
    (words, (bytes / 8 / words).max(LEAST))
}

/// What a head says of a sample: that there is one, how it was matched, and 48 bits of time.
fn head_of(Reported { rtt, kind, class, delayed }: Reported) -> u64 {
    let class = match class {
        Class::Exact => 0,
        Class::Partial => 1,
        Class::Timestamp => 2,
    };
    let code = 1 | u64::from(kind == Kind::Connect) << 1 | u64::from(delayed) << 2 | class << 3;
    code << 8 | rtt.0.min((1 << 48) - 1) << 16
}

fn reported(head: u64) -> Option<Reported> {
    let code = head >> 8 & 0xff;
    (code & 1 != 0).then_some(Reported {
        rtt: Rtt(head >> 16),
        kind: if code & 2 != 0 { Kind::Connect } else { Kind::Data },
        delayed: code & 4 != 0,
        class: [Class::Exact, Class::Partial, Class::Timestamp][(code as usize >> 3 & 3).min(2)],
    })
}

impl Snapshot {
    /// Every entry, the oldest first.
    pub(crate) fn each(&self) -> impl Iterator<Item = Entry> + '_ {
        self.since(RingPlace::default()).map(|(entry, _)| entry)
    }

    /// Whether every entry behind this place is here still.
    pub(crate) fn reaches(&self, place: RingPlace) -> bool {
        place.chunk >= self.first()
    }

    /// Every entry behind a place, the oldest first, with the place behind it.
    pub(crate) fn since(&self, place: RingPlace) -> impl Iterator<Item = (Entry, RingPlace)> + '_ {
        let chunks = self.full.iter().map(AsRef::as_ref).chain([&self.current]);
        let numbered = (self.first()..).zip(chunks).filter(move |(number, _)| *number >= place.chunk);
        numbered.flat_map(move |(number, chunk)| {
            let begin = if number == place.chunk { place.words.min(chunk.len) } else { 0 };
            let mut entries = Entries(&chunk.words[begin..chunk.len]);
            std::iter::from_fn(move || {
                let entry = entries.next()?;
                Some((entry, RingPlace { chunk: number, words: chunk.len - entries.0.len() }))
            })
        })
    }

    /// Number of the oldest chunk.
    fn first(&self) -> u64 {
        self.turns - self.full.len() as u64
    }
}

/// Entries out of words.
struct Entries<'a>(&'a [u64]);

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (head, rest) = self.0.split_first()?;
        let tag = *head as u8;
        let mark = match tag {
            tag::GAP => Some(Mark::Gap),
            tag::INTERRUPT => Some(Mark::Interrupt((head >> 16) as u32)),
            tag::INTERRUPT_ALL => Some(Mark::InterruptAll),
            tag::RESTART => Some(Mark::Restart),
            _ => None,
        };
        if let Some(mark) = mark {
            self.0 = rest;
            return Some(Entry::Mark(mark));
        }
        let is_v6 = tag & 0xf == tag::V6;
        let (entry, rest) = self.0.split_at_checked(if is_v6 { V6 } else { V4 })?;
        self.0 = rest;
        let side = if tag & tag::LOCAL != 0 { Side::Local } else { Side::Remote };
        let segment = segment(entry, is_v6, side);
        Some(if tag & tag::INTERRUPTED != 0 {
            Entry::Mark(Mark::InterruptFlow(segment.flow))
        } else {
            Entry::Record(segment, reported(*head))
        })
    }
}

fn segment(words: &[u64], is_v6: bool, side: Side) -> Segment {
    let halves = |word: u64| [(word >> 32) as u32, word as u32];
    let [seq, ack] = halves(words[2]);
    let [tsval, tsecr] = halves(words[3]);
    let [payload, ifindex] = halves(words[4]);
    let last = words[5];
    let (local_port, remote_port) = ((last >> 48) as u16, (last >> 32) as u16);
    let [local, remote] = if is_v6 {
        let whole = |words: &[u64]| Addr::v6((u128::from(words[0]) << 64 | u128::from(words[1])).to_be_bytes());
        [whole(&words[6..8]), whole(&words[8..10])]
    } else {
        halves(words[6]).map(|addr| Addr::v4(addr.to_be_bytes()))
    };
    let header = SegmentHeader {
        time_ns: words[1],
        seq,
        ack,
        tsval,
        tsecr,
        payload: Payload::in_segments(payload, payload >> 20),
        ifindex,
        local_port,
        remote_port,
        window: (last >> 16) as u16,
        flags: TcpFlags((last >> 8) as u8),
        bits: Bits(last as u8),
    };
    let end = |addr, port| Endpoint { addr, port };
    Segment { flow: FlowKey { local: end(local, local_port), remote: end(remote, remote_port), ifindex, side }, header }
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{Label, Place, Quiet, SeqNum};

    use super::*;

    fn record(number: u32, is_v6: bool) -> Segment {
        let addr = |last: u8| {
            let v6 = [0x20, 1, 0xd, 0xb8, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, last];
            if is_v6 { Addr::v6(v6) } else { Addr::v4([10, 1, 2, last]) }
        };
        let end = |last, port| Endpoint { addr: addr(last), port };
        let flow = FlowKey { local: end(1, 40_000), remote: end(2, 443), ifindex: 7, side: Side::Local };
        let header = SegmentHeader {
            time_ns: 1_000_000 + u64::from(number),
            seq: number,
            ack: u32::MAX - number,
            tsval: 3,
            tsecr: 4,
            payload: Payload::in_segments(100_000, 70),
            ifindex: 7,
            local_port: 40_000,
            remote_port: 443,
            window: 501,
            flags: TcpFlags(0xd8),
            bits: Bits(if is_v6 { Bits::IPV6 } else { 0 } | Bits::RESYNC | Bits::EGRESS | Bits::UNTIMED),
        };
        Segment { flow, header }
    }

    fn sample(segment: &Segment, delayed: bool) -> Outcome {
        Outcome::Sample(Sample {
            flow: segment.flow,
            acked_at: segment.time(),
            ack: SeqNum(1),
            rtt: Rtt(123_456_789_012),
            kind: Kind::Connect,
            class: Class::Timestamp,
            delayed,
            label: Label::NONE,
            place: Place::default(),
        })
    }

    fn reports(delayed: bool) -> Option<Reported> {
        Some(Reported { rtt: Rtt(123_456_789_012), kind: Kind::Connect, class: Class::Timestamp, delayed })
    }

    #[test]
    fn what_was_put_in_comes_out_in_its_order_whatever_it_is() {
        let mut ring = Ring::new(1 << 20);
        let [v4, v6] = [record(1, false), record(2, true)];
        ring.push(&v4, &sample(&v4, true));
        ring.push(&v6, &Outcome::Quiet(Quiet::Old));
        let marks =
            [Mark::Gap, Mark::Interrupt(u32::MAX), Mark::InterruptFlow(v6.flow), Mark::InterruptAll, Mark::Restart];
        marks.iter().for_each(|mark| ring.mark(*mark));
        ring.push(&v6, &sample(&v6, false));
        let out: Vec<Entry> = ring.snapshot().each().collect();
        let all = [Entry::Record(v4, reports(true)), Entry::Record(v6, None)]
            .into_iter()
            .chain(marks.map(Entry::Mark))
            .chain([Entry::Record(v6, reports(false))]);
        assert_eq!(out, all.collect::<Vec<_>>());
    }

    fn numbers(snapshot: &Snapshot) -> Vec<u32> {
        let number = |entry| match entry {
            Entry::Record(segment, _) => Some(segment.header.seq),
            Entry::Mark(_) => None,
        };
        snapshot.each().filter_map(number).collect()
    }

    #[test]
    fn the_last_records_stay_in_the_memory_that_was_given() {
        let bytes = 1 << 16;
        let mut ring = Ring::new(bytes);
        for number in 0..10_000 {
            ring.push(&record(number, number % 2 == 0), &Outcome::Sent);
        }
        let kept = numbers(&ring.snapshot());
        let last = 10_000 - kept.len() as u32;
        assert_eq!(kept, (last..10_000).collect::<Vec<_>>());
        // 68 bytes each; of eight chunks one may be just begun.
        let most = bytes / 68;
        assert!((most * 6 / 8..=most).contains(&kept.len()), "{} of {most}", kept.len());
    }

    #[test]
    fn what_is_behind_a_place_is_found_once_and_that_some_of_it_is_gone_is_known() {
        let mut ring = Ring::new(1 << 12);
        let (mut place, mut found) = (RingPlace::default(), Vec::new());
        for number in 0..498 {
            ring.push(&record(number, number % 3 == 0), &Outcome::Sent);
            if number % 7 == 0 {
                let snapshot = ring.snapshot();
                assert!(snapshot.reaches(place));
                for (entry, behind) in snapshot.since(place) {
                    let Entry::Record(segment, None) = entry else { panic!("{entry:?}") };
                    found.push(segment.header.seq);
                    place = behind;
                }
            }
        }
        assert_eq!(found, (0..498).collect::<Vec<_>>());
        assert_eq!(ring.snapshot().since(place).count(), 0);
        (498..998).for_each(|number| ring.push(&record(number, false), &Outcome::Sent));
        let snapshot = ring.snapshot();
        assert!(!snapshot.reaches(place));
        assert_eq!(snapshot.since(place).count(), snapshot.each().count());
        assert_ne!(snapshot.ring, Ring::new(1 << 12).snapshot().ring);
    }

    #[test]
    fn the_last_records_stay_when_there_is_other_room_for_them() {
        const MIB: usize = 1 << 20;
        let push = |ring: &mut Ring, numbers: std::ops::Range<u32>| {
            numbers.for_each(|number| ring.push(&record(number, number % 2 == 0), &Outcome::Sent));
        };
        // More than any of them holds: 68 bytes each.
        let many = 200_000;
        for (before, after) in [(4, 8), (8, 4), (4, 1), (1, 4), (1, 8), (8, 1), (4, 4)] {
            let what = format!("{before} MiB to {after}");
            let mut ring = Ring::new(before * MIB);
            push(&mut ring, 0..many);
            let held = numbers(&ring.snapshot());
            ring.resize(after * MIB);
            let kept = numbers(&ring.snapshot());
            assert_eq!(kept, held[held.len() - kept.len()..], "{what}: the last, in their order");
            let least = held.len().min(after * MIB / 68 * 6 / 8);
            assert!(kept.len() >= least, "{what}: {} of {}", kept.len(), held.len());
            push(&mut ring, many..2 * many);
            let later = numbers(&ring.snapshot());
            assert_eq!(later.last(), Some(&(2 * many - 1)), "{what}");
            assert!(later.windows(2).all(|pair| pair[1] == pair[0] + 1), "{what}: nothing is missing");
            let bytes = ring.words() * 8;
            assert!(bytes <= after * MIB && bytes >= after * MIB * 7 / 8, "{what}: {bytes}");
        }
    }

    #[test]
    fn what_was_taken_of_a_ring_is_not_taken_again_when_it_has_other_room() {
        for after in [1 << 21, 1 << 19] {
            let mut ring = Ring::new(1 << 20);
            (0..100).for_each(|number| ring.push(&record(number, false), &sample(&record(number, false), true)));
            let before = ring.snapshot();
            let place = before.since(RingPlace::default()).last().map(|(_, behind)| behind).unwrap();
            ring.resize(after);
            ring.push(&record(100, false), &Outcome::Sent);
            let snapshot = ring.snapshot();
            let place = if snapshot.ring == before.ring { place } else { snapshot.begin };
            let new: Vec<Entry> = snapshot.since(place).map(|(entry, _)| entry).collect();
            assert_eq!(new, [Entry::Record(record(100, false), None)], "{after}");
            assert!(snapshot.reaches(place));
            let is_sample = |entry: &Entry| matches!(entry, Entry::Record(_, reported) if *reported == reports(true));
            assert_eq!(snapshot.each().filter(is_sample).count(), 100, "{after}");
        }
    }

    #[test]
    fn a_snapshot_stays_as_it_is_and_what_it_leaves_no_room_for_is_a_gap() {
        let mut ring = Ring::new(1 << 12);
        let push = |ring: &mut Ring, from: u32| {
            (from..from + 1000).for_each(|number| ring.push(&record(number, false), &Outcome::Sent));
        };
        push(&mut ring, 0);
        let snapshot = ring.snapshot();
        let before = numbers(&snapshot);
        push(&mut ring, 1000);
        assert_eq!(numbers(&snapshot), before);
        let stalled = numbers(&ring.snapshot());
        assert!(stalled.last() < Some(&1999), "{stalled:?}");
        drop(snapshot);
        push(&mut ring, 2000);
        ring.mark(Mark::InterruptAll);
        let entries: Vec<Entry> = ring.snapshot().each().collect();
        assert_eq!(entries.last(), Some(&Entry::Mark(Mark::InterruptAll)));
        assert_eq!(numbers(&ring.snapshot()).last(), Some(&2999));
        // With much room the mark of the gap is there still.
        let mut ring = Ring::new(1 << 12);
        push(&mut ring, 0);
        let snapshot = ring.snapshot();
        push(&mut ring, 1000);
        drop(snapshot);
        (2000..2002).for_each(|number| ring.push(&record(number, false), &Outcome::Sent));
        let entries: Vec<Entry> = ring.snapshot().each().collect();
        let gap = entries.iter().position(|entry| *entry == Entry::Mark(Mark::Gap)).unwrap();
        assert!(matches!(entries[gap + 1], Entry::Record(segment, _) if segment.header.seq == 2000));
    }
}
