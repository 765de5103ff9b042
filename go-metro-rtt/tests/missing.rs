//! Captures with frames missing, out of order and doubled: a sample that comes out is one of the complete capture, or
//! nothing that is left says that it is not.
//!
//! The complete capture is simulated (`support/path.rs`), so that of each acknowledgement it is known which
//! transmission it acknowledges. Then neighbours are exchanged, as by a tap that is given one behind the other, and
//! frames are removed and some doubled. What is left is in the order of its times, as from every source: a file need
//! not have it, but its reader sees to it. A sample that is not right is *refuted* if a frame that is left, and came
//! before the acknowledgement, speaks against it: [`evidence`] looks for that, by itself and as slowly as it likes. Of
//! those there must be none. What is neither right nor refuted (the only acknowledgement was removed and a later one
//! says the same) no engine can know; it is counted, and must stay rare. So must be what is missed, lest an engine that
//! rejects everything pass.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use go_metro_common::segment::{Bits, Payload, SegmentHeader, Sides, TcpFlags};
use go_metro_rtt::{Addr, Direction, Endpoint, Engine, EngineConfig, FlowKey, Outcome, Segment, Side};
use support::path::{BASE, Frame, Random, Settings, simulate};

/// Complete captures, each with other frames missing; `PROPTEST_CASES` asks for more.
const CASES: u32 = 12_000;

/// A sample, as it can be compared: the end whose transmission was timed, the acknowledgement number, when it was
/// acknowledged, and the time.
type Key = (usize, u64, u64, u64);

/// Where the ends' numbers are in 32 bits: both wrap within most connections.
const WRAP: u64 = u32::MAX as u64 - 3000 - (BASE & u32::MAX as u64);

/// Both ends' clocks pass zero within most connections; as an echo that is none.
const TICKS_BEFORE_ZERO: u32 = 1500;

fn segment(frame: &Frame) -> Segment {
    let bit = |condition: bool, bit: u8| if condition { bit } else { 0 };
    let flow = FlowKey {
        local: Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40000 },
        remote: Endpoint { addr: Addr::v4([10, 0, 0, 2]), port: 80 },
        ifindex: 1,
        side: Side::Remote,
    };
    let (tsval, tsecr) = frame.timestamps.unwrap_or_default();
    let header = SegmentHeader {
        time_ns: frame.at,
        seq: (frame.seq + WRAP) as u32,
        ack: frame.ack.map_or(0, |ack| (ack + WRAP) as u32),
        tsval: tsval.wrapping_sub(TICKS_BEFORE_ZERO),
        tsecr: if tsecr == 0 { 0 } else { tsecr.wrapping_sub(TICKS_BEFORE_ZERO) },
        payload: Payload::new(frame.len as u32),
        window: frame.window,
        flags: TcpFlags(bit(frame.syn, TcpFlags::SYN) | bit(frame.ack.is_some(), TcpFlags::ACK)),
        bits: Bits(
            bit(frame.from == 0, Bits::EGRESS)
                | bit(frame.timestamps.is_some(), Bits::TIMESTAMPS)
                | bit(frame.sack_permitted, Bits::SACK_PERMITTED)
                | bit(frame.sack_above, Bits::SACK_ABOVE)
                | bit(frame.dsack, Bits::DSACK),
        ),
        ..SegmentHeader::default()
    };
    Segment { flow, header }
}

/// Before which frames a packet of the same end is missing that may have acknowledged the same, as the source of files
/// tells by the identifications.
fn left_out(frames: &[Frame]) -> Vec<bool> {
    // The last of each end, and how often in a row its identification was the next.
    let mut ends: [Option<(Frame, u32)>; 2] = [None; 2];
    let mut is_left_out = |frame: &Frame| {
        let Some((last, run)) = ends[frame.from].filter(|_| !frame.syn) else {
            ends[frame.from] = Some((*frame, 0));
            return false;
        };
        let step = frame.ip_id.wrapping_sub(last.ip_id);
        let most = if last.len > 1460 { last.len / 536 + 1 } else { 1 };
        if step == 0 || step > u16::MAX - 1024 || frame.ip_id == 0 && u64::from(step) > most {
            return false;
        }
        let is_next = u64::from(step) <= most;
        ends[frame.from] = Some((*frame, if is_next { run + 1 } else { 0 }));
        !is_next && run >= 4 && (frame.len > 0 || last.end() < frame.seq)
    };
    frames.iter().map(&mut is_left_out).collect()
}

/// Every sample of both ends, each with the place of its acknowledgement.
fn samples(frames: &[Frame]) -> Vec<(usize, Key)> {
    samples_by(EngineConfig { peers_complete: true, ..EngineConfig::default() }, frames, None)
}

/// The same with these settings, where records were lost before the one at `gap`.
fn samples_by(config: EngineConfig, frames: &[Frame], gap: Option<usize>) -> Vec<(usize, Key)> {
    let left_out = if config.peers_complete { left_out(frames) } else { vec![false; frames.len()] };
    let mut engine = Engine::new(EngineConfig { max_flows: 4, outstanding_per_flow: 256, ..config });
    let mut found = Vec::new();
    for (place, frame) in frames.iter().enumerate() {
        if gap == Some(place) {
            engine.note_gap();
        }
        segment(frame).for_each_side(Sides::BOTH, &mut |segment| {
            let mut segment = *segment;
            if left_out[place] && segment.direction() == Direction::Ingress {
                segment.header.bits.0 |= Segment::MISSED_BEFORE;
            }
            if let Outcome::Sample(sample) = engine.record(&segment) {
                let timed = usize::from(sample.flow.side == Side::Local);
                found.push((place, (timed, frame.ack.unwrap_or_default(), frame.at, sample.rtt.0)));
            }
        });
    }
    found
}

/// What is true of a complete capture: of each first acknowledgement the transmission that it acknowledges, if the tap
/// saw that.
fn truth(frames: &[Frame]) -> BTreeSet<Key> {
    let sent: BTreeMap<usize, &Frame> = frames.iter().map(|frame| (frame.id, frame)).collect();
    let pair = |ack: &Frame| {
        let sent = sent.get(&ack.caused_by?)?;
        Some((sent.from, ack.ack?, ack.at, ack.at.checked_sub(sent.at)?))
    };
    frames.iter().filter_map(pair).collect()
}

/// Whether one timestamp is newer than another.
fn is_newer(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) as i32 > 0
}

/// What in these frames, up to the acknowledgement at `place`, speaks against a sample; `None` if nothing does.
fn evidence(frames: &[Frame], place: usize, (from, number, at, rtt): Key) -> Option<&'static str> {
    let before = &frames[..place];
    let ack = &frames[place];
    let acks = || before.iter().filter(|frame| frame.from != from);
    let sent: Vec<(usize, &Frame)> =
        before.iter().enumerate().filter(|(_, frame)| frame.from == from && frame.end() > frame.seq).collect();
    let contains = |frame: &Frame, byte: u64| frame.seq <= byte && byte < frame.end();
    let timed = sent.iter().rev().find(|(_, frame)| frame.at + rtt == at && contains(frame, number - 1));
    let Some((timed_place, timed)) = timed else { return Some("nothing was sent then") };
    if rtt == 0 {
        return Some("no time");
    }
    if acks().any(|frame| frame.ack.is_some_and(|ack| ack >= number)) {
        return Some("acknowledged before");
    }
    // Of that end's segments since the other end was first seen to send.
    let begun = before.iter().position(|frame| frame.from == from && frame.end() > frame.seq).unwrap_or(place);
    let peer_nxt = before[begun..].iter().filter(|frame| frame.from != from).map(Frame::end).max();
    if left_out(&frames[..=place])[place] {
        return Some("a packet of the acknowledging end is left out right before");
    }
    // What had arrived when the segment was sent does not acknowledge it.
    let heard = before[..=*timed_place].iter().filter(|frame| frame.from == from).filter_map(|frame| frame.ack).max();
    let peer_nxt = peer_nxt.max(heard.filter(|_| peer_nxt.is_some()));
    if !ack.syn && peer_nxt.is_some_and(|nxt| nxt < ack.seq) {
        return Some("a segment of the acknowledging end was missed right before");
    }
    // What the other end had sent by then, and the timed end had received, may have been the first to say the same.
    let heard_since = before[timed_place + 1..].iter().filter(|frame| frame.from == from && frame.end() > frame.seq);
    let mut heard_since = heard_since.filter_map(|frame| frame.ack);
    if peer_nxt.is_some_and(|nxt| heard_since.any(|heard| heard > nxt.max(ack.seq))) {
        return Some("a segment of the acknowledging end was missed since");
    }
    if ack.sack_above {
        return Some("a block above the acknowledgement number");
    }
    let begun = sent.iter().map(|(_, frame)| frame.seq).min().unwrap_or_default();
    let first = sent[0].1.seq;
    let una = acks().filter_map(|frame| frame.ack).max().unwrap_or(begun).max(first.min(begun));
    let echo = timed.timestamps.zip(ack.timestamps).map(|((tsval, _), (_, tsecr))| (tsval, tsecr));
    let is_named = echo.is_some_and(|(tsval, tsecr)| tsval == tsecr);
    let echo = echo.filter(|(_, tsecr)| *tsecr != TICKS_BEFORE_ZERO);
    if echo.is_some_and(|(tsval, tsecr)| is_newer(tsecr, tsval)) {
        return Some("the echo of something later");
    }
    let firsts = sent.iter().filter(|(_, frame)| contains(frame, una)).filter_map(|(_, frame)| frame.timestamps);
    let firsts: Vec<u32> = firsts.map(|(tsval, _)| tsval).collect();
    if let Some((_, tsecr)) = echo
        && !firsts.is_empty()
        && firsts.iter().all(|tsval| is_newer(*tsval, tsecr))
    {
        return Some("the echo of something earlier");
    }
    let mut at_hand = una;
    for _ in 0..sent.len() {
        at_hand =
            sent.iter().filter(|(_, frame)| frame.seq <= at_hand).map(|(_, frame)| frame.end()).fold(at_hand, u64::max);
    }
    if at_hand < timed.seq && !is_named {
        return Some("bytes below it were never sent");
    }
    let covering: Vec<&(usize, &Frame)> =
        sent.iter().filter(|(_, frame)| frame.end() > una && frame.seq < number).collect();
    let overlap = |a: &Frame, b: &Frame| a.seq.max(b.seq).max(una) < a.end().min(b.end()).min(number);
    let repeated = covering.iter().any(|(a, one)| covering.iter().any(|(b, other)| a < b && overlap(one, other)));
    if repeated {
        let same = |frame: &Frame| frame.timestamps.map(|(tsval, _)| tsval) == timed.timestamps.map(|(tsval, _)| tsval);
        let is_involved =
            |place: usize, frame: &Frame| covering.iter().any(|(k, other)| *k != place && overlap(frame, other));
        let timed_involved = is_involved(*timed_place, timed);
        // The echo of something newer than all that was sent again is of none of those.
        let is_rival = |(k, frame): &&&(usize, &Frame)| {
            k != timed_place && same(frame) && (timed_involved || is_involved(*k, frame))
        };
        let rivals = covering.iter().filter(is_rival).count();
        let later = covering.iter().any(|(k, frame)| k > timed_place && overlap(frame, timed));
        if !is_named || rivals > 0 || later {
            return Some("sent again");
        }
    }
    let sack_in_use = frames.iter().any(|frame| frame.sack_above || frame.dsack);
    let since = acks().filter(|frame| {
        frame.at > timed.at || before.iter().position(|f| std::ptr::eq(f, *frame)) > Some(*timed_place)
    });
    // Until the receiver says that it holds nothing above what it acknowledges.
    let mut is_hole_below = false;
    let mut una_then = acks().take_while(|frame| frame.at < timed.at).filter_map(|frame| frame.ack).max().unwrap_or(0);
    for (ack, frame) in since.clone().filter_map(|frame| Some((frame.ack?, frame))) {
        if frame.sack_above && ack < number {
            is_hole_below = true;
        } else if una_then < ack && ack < number && !frame.sack_above {
            is_hole_below = false;
        }
        una_then = una_then.max(ack);
    }
    if is_hole_below {
        return Some("a hole below it");
    }
    let duplicates = since.filter(|frame| frame.len == 0 && frame.ack == Some(una)).count();
    if !sack_in_use && duplicates > 1 && timed.seq > una {
        return Some("duplicate acknowledgements");
    }
    None
}

/// One way in which a capture came to differ from what passed.
#[derive(Clone, Copy, Debug)]
enum Change {
    Removed(usize),
    /// Captured after the next, each at the time of the other.
    Exchanged(usize),
    /// Doubled, after so many nanoseconds.
    Doubled(usize, u64),
}

fn changes(random: &mut Random, frames: &[Frame]) -> Vec<Change> {
    let mut changes = Vec::new();
    let (removed, exchanged, doubled) =
        (random.one_of(&[0, 10, 50, 200]), random.one_of(&[0, 0, 20, 100]), random.one_of(&[0, 0, 0, 20]));
    let only_from = random.one_of(&[None, None, Some(0), Some(1)]);
    // As when it begins in mid-traffic, or the ring was full for a while.
    let (begins, gap) = (random.below(frames.len() as u64), random.below(frames.len() as u64));
    let (late, full) = (random.chance(300), random.chance(200));
    for (place, frame) in (0..).zip(frames) {
        let in_gap = full && (gap..gap + 8).contains(&place);
        let missing = random.chance(removed) && only_from.is_none_or(|from| frame.from == from);
        let place = place as usize;
        if late && (place as u64) < begins / 2 || in_gap || missing {
            changes.push(Change::Removed(place));
        } else if random.chance(exchanged) {
            changes.push(Change::Exchanged(place));
        } else if random.chance(doubled) {
            changes.push(Change::Doubled(place, random.below(3000)));
        }
    }
    changes
}

/// All frames as they are captured.
fn captured(frames: &[Frame], changes: &[Change]) -> Vec<Frame> {
    let mut captured = frames.to_vec();
    for change in changes {
        if let Change::Exchanged(place) = *change
            && let [one, other] = &mut captured[place..frames.len().min(place + 2)]
        {
            std::mem::swap(one, other);
            std::mem::swap(&mut one.at, &mut other.at);
        }
    }
    captured
}

/// What is left of them, in the order of its times.
fn left(captured: &[Frame], changes: &[Change]) -> Vec<Frame> {
    let mut left: Vec<Vec<Frame>> = captured.iter().map(|frame| vec![*frame]).collect();
    for change in changes {
        match *change {
            Change::Removed(place) => left[place].clear(),
            Change::Exchanged(_) => {}
            Change::Doubled(place, after) => {
                left[place].push(Frame { at: captured[place].at + after, ..captured[place] });
            }
        }
    }
    let mut left = left.concat();
    left.sort_by_key(|frame| frame.at);
    left
}

#[derive(Default, Debug)]
struct Counts {
    /// Right pairs in the complete captures, and how many of them came out.
    complete: (usize, usize),
    /// Samples of the complete captures, and how many of them came out of what was left.
    left: (usize, usize),
    /// Neither right nor refuted, of complete captures and of what was left.
    untold: (usize, usize),
    samples: (usize, usize),
}

/// The first sample of `frames` that is refuted.
fn refuted(frames: &[Frame], right: &BTreeSet<Key>) -> Option<(usize, Key, &'static str)> {
    let wrong = samples(frames).into_iter().filter(|(_, key)| !right.contains(key));
    wrong.into_iter().find_map(|(place, key)| Some((place, key, evidence(frames, place, key)?)))
}

/// What the samples of the complete capture, and of what is left of it, are judged by, and the first that is refuted.
struct Case {
    true_pairs: BTreeSet<Key>,
    whole: Vec<(usize, Key)>,
    left: Vec<Frame>,
    /// True pairs, and what nothing in the complete capture refutes.
    right: BTreeSet<Key>,
    refuted: Option<(usize, Key, &'static str)>,
}

fn case(frames: &[Frame], changes: &[Change]) -> Case {
    let captured = captured(frames, changes);
    let (true_pairs, whole) = (truth(&captured), samples(&captured));
    let mut right = true_pairs.clone();
    let refuted_whole = refuted(&captured, &right);
    if refuted_whole.is_some() {
        return Case { true_pairs, whole, left: captured, right, refuted: refuted_whole };
    }
    right.extend(whole.iter().map(|(_, key)| *key));
    let left = left(&captured, changes);
    let refuted = refuted(&left, &right);
    Case { true_pairs, whole, left, right, refuted }
}

/// As few of the changes as still lead to a refuted sample, and what is left then.
fn report(seed: u64, settings: &Settings, frames: &[Frame], mut changes: Vec<Change>) -> String {
    let mut place = 0;
    while place < changes.len() {
        let mut fewer = changes.clone();
        fewer.remove(place);
        if case(frames, &fewer).refuted.is_some() {
            changes = fewer;
        } else {
            place += 1;
        }
    }
    let Case { left, refuted: found, .. } = case(frames, &changes);
    let until = found.map_or(left.len(), |(place, ..)| place + 1);
    let lines: Vec<String> = left[until.saturating_sub(30)..until].iter().map(line).collect();
    let gone: Vec<String> = changes
        .iter()
        .map(|change| {
            let (Change::Removed(place) | Change::Exchanged(place) | Change::Doubled(place, _)) = change;
            format!("{change:?}: {}", line(&frames[*place]))
        })
        .collect();
    format!("seed {seed}: {found:?}\n{settings:?}\n{}\n{}", gone.join("\n"), lines.join("\n"))
}

fn line(frame: &Frame) -> String {
    let Frame { at, from, syn, seq, len, ack, timestamps, sack_above, dsack, id, caused_by, .. } = frame;
    let relative = |number: u64| number as i64 - BASE as i64;
    format!(
        "{:>12.3} {from} {} {}+{len} ack {:?} ts {timestamps:?} {}{} #{id} caused by {caused_by:?}",
        *at as f64 / 1e3,
        if *syn { "S" } else { "." },
        relative(*seq),
        ack.map(relative),
        if *sack_above { "sack " } else { "" },
        if *dsack { "dsack" } else { "" },
    )
}

fn judge(seed: u64, counts: &mut Counts) {
    let mut random = Random(seed);
    let settings = Settings::random(&mut random);
    let frames = simulate(settings, random.next());
    if frames.is_empty() {
        return;
    }
    let Case { true_pairs, whole, refuted, .. } = case(&frames, &[]);
    assert!(refuted.is_none(), "the complete capture: {}", report(seed, &settings, &frames, Vec::new()));
    counts.complete.0 += true_pairs.len();
    counts.complete.1 += whole.iter().filter(|(_, key)| true_pairs.contains(key)).count();
    counts.samples.0 += whole.len();
    counts.untold.0 += whole.iter().filter(|(_, key)| !true_pairs.contains(key)).count();

    let changes = changes(&mut random, &frames);
    let Case { whole, left, right, refuted, .. } = case(&frames, &changes);
    if refuted.is_some() {
        panic!("{}", report(seed, &settings, &frames, changes));
    }
    let found: BTreeSet<Key> = samples(&left).into_iter().map(|(_, key)| key).collect();
    counts.samples.1 += found.len();
    counts.untold.1 += found.iter().filter(|key| !right.contains(key)).count();
    counts.left.0 += whole.len();
    counts.left.1 += whole.iter().filter(|(_, key)| found.contains(key)).count();
}

#[test]
fn no_sample_of_a_capture_with_frames_missing_is_refuted_by_those_that_are_left() {
    let mut counts = Counts::default();
    let cases = u64::from(support::property::cases(CASES).cases);
    (0..cases).for_each(|seed| judge(seed, &mut counts));
    let share = |(of, found): (usize, usize)| found as f64 / of as f64;
    println!(
        "{cases} captures: {:.1} % of {} right pairs of the complete ones, {:.1} % of those samples from what was left \
         of them; of {} and {} samples {} and {} are not right, and nothing tells",
        100.0 * share(counts.complete),
        counts.complete.0,
        100.0 * share(counts.left),
        counts.samples.0,
        counts.samples.1,
        counts.untold.0,
        counts.untold.1,
    );
    // An engine that rejects everything would pass all of the above. As measured, less a little.
    assert!(share(counts.complete) > 0.68 && share(counts.left) > 0.78, "{counts:?}");
    let untold = |samples: usize, untold: usize| untold as f64 / samples as f64;
    assert!(untold(counts.samples.0, counts.untold.0) < 0.005, "{counts:?}");
    assert!(untold(counts.samples.1, counts.untold.1) < 0.0105, "{counts:?}");
}

#[test]
fn what_a_live_source_joins_in_the_middle_of_a_recovery_is_not_timed_wrongly_without_timestamps() {
    let settled = EngineConfig { settles_after: Duration::from_secs(1), ..EngineConfig::default() };
    let (mut samples, mut of_new) = (0, 0);
    let cases = support::property::cases(4_000).cases;
    for seed in 0..u64::from(cases) {
        let mut random = Random(seed);
        let mut settings = Settings::random(&mut random);
        (settings.timestamps, settings.handshake, settings.lost) = (false, false, settings.lost.max(10));
        let frames = simulate(settings, random.next());
        let mut right = truth(&frames);
        right.extend(samples_by(EngineConfig::default(), &frames, None).into_iter().map(|(_, key)| key));
        let at = random.below(frames.len() as u64) as usize;
        let behind = frames.len().min(at + 1 + random.below(30) as usize);
        let joined = (frames[at..].to_vec(), None);
        for (left, gap) in [joined, ([&frames[..at], &frames[behind..]].concat(), Some(at))] {
            let wrong = |config| -> (usize, Vec<(usize, Key)>) {
                let found = samples_by(config, &left, gap);
                (found.len(), found.into_iter().filter(|(_, key)| !right.contains(key)).collect())
            };
            let (count, refuted) = wrong(settled);
            assert!(refuted.is_empty(), "seed {seed}, {gap:?}: {refuted:?}\n{settings:?}");
            samples += count;
            of_new += wrong(EngineConfig::default()).1.len();
        }
    }
    println!("{cases} connections: {samples} samples, all of them right; {of_new} wrong where all is taken for new");
    assert!(samples > cases as usize && of_new > cases as usize / 200, "{samples} samples, {of_new} wrong otherwise");
}
