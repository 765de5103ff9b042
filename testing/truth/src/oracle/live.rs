//! The third judge: the path itself. Of live traffic in the lab it knows when each frame left and when it arrived
//! ([`Passage`]), so it knows what no capture tells: which transmission the far end had received when it sent an
//! acknowledgement, and what was lost on the way.
//!
//! Obvious on purpose, like [`super::trace`]: it plays the receiver with everything that arrived, in order, and without
//! a line of the engine's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use testing_lab::agent::Sample;
use testing_lab::{Passage, Way};

/// How far the agent's time of an acknowledgement may be from that of its arrival: a frame that was put out may wait
/// for a processor.
const SAME_FRAME_NS: u64 = 50_000_000;
/// Between the clocks of the path and of the agent.
const CLOCKS_NS: u64 = 100_000;
/// An acknowledgement that comes so much later than one that was lost is not the path's time any more.
const REPEATED_NS: u64 = 5_000_000;

/// Near and far end.
type Flow = (SocketAddr, SocketAddr);

/// What the near end sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    left_ns: u64,
    arrived_ns: Option<u64>,
    /// From the initial sequence number on.
    start: u32,
    end: u32,
    payload: u32,
    tsval: Option<u32>,
    /// What the receiver had without a gap once this had arrived.
    reached: u32,
}

/// What the far end sent.
#[derive(Clone, Copy, Debug)]
struct Answer {
    left_ns: u64,
    arrived_ns: Option<u64>,
    ack: u32,
    is_empty: bool,
    window: u16,
    /// A SACK block lies above the acknowledgement number.
    tells_of_hole: bool,
    tsecr: Option<u32>,
}

/// A connection as the path saw it, in the order of departure.
#[derive(Debug, Default)]
struct Connection {
    isn: Option<u32>,
    sent: Vec<Sent>,
    answers: Vec<Answer>,
    uses_sack: bool,
}

/// All connections.
#[derive(Debug)]
pub struct Live {
    connections: HashMap<Flow, Connection>,
}

/// A sample that nothing which arrived at the near end speaks against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// From the transmission's departure to the acknowledgement's arrival, by the path's clock.
    pub truth_ns: u64,
    /// How long the far end had the segment before it sent the acknowledgement.
    pub held_ns: u64,
    /// Why it is not the path's time all the same, which only the path itself can know.
    pub untold: Option<Untold>,
}

/// What happened on the path and left no trace at the near end, because nothing arrived that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Untold {
    /// The first acknowledgement of it was lost; this one came with something else that the far end sent later.
    AcknowledgementLost,
    /// It arrived out of order, and what would have told of that was lost or (without SACK) is not told at all.
    OutOfOrder,
}

/// Why a sample is not.
pub type Disproof = &'static str;

impl Live {
    /// From everything that passed since before the first SYN.
    #[must_use]
    pub fn new(passages: &[Passage]) -> Self {
        let mut connections: HashMap<Flow, Connection> = HashMap::new();
        for passage in passages {
            let Some(head) = Head::read(&passage.head) else { continue };
            let (left_ns, arrived_ns) = (passage.left_ns, passage.arrived_ns);
            if passage.way == Way::AToB {
                let connection = connections.entry((head.source, head.destination)).or_default();
                connection.isn = connection.isn.or(head.syn.then_some(head.seq));
                let end = head.seq.wrapping_add(head.len);
                let Head { seq: start, payload, tsval, .. } = head;
                connection.sent.push(Sent { left_ns, arrived_ns, start, end, payload, tsval, reached: 0 });
            } else if let Some(ack) = head.ack {
                let connection = connections.entry((head.destination, head.source)).or_default();
                let Head { len, window, tells_of_hole, tsecr, .. } = head;
                let is_empty = len == 0;
                connection.uses_sack |= head.permits_sack;
                connection.answers.push(Answer { left_ns, arrived_ns, ack, is_empty, window, tells_of_hole, tsecr });
            }
        }
        connections.values_mut().for_each(Connection::play);
        Self { connections }
    }

    /// How many acknowledgements of something new arrived of the flow.
    #[must_use]
    pub fn acknowledgements(&self, local: SocketAddr, remote: SocketAddr) -> usize {
        let Some(connection) = self.connections.get(&(local, remote)) else { return 0 };
        let mut arrived: Vec<&Answer> =
            connection.answers.iter().filter(|answer| answer.arrived_ns.is_some()).collect();
        arrived.sort_by_key(|answer| answer.arrived_ns);
        let mut highest = 0;
        let mut advances = |answer: &Answer| {
            let before = highest;
            highest = before.max(answer.ack);
            highest > before
        };
        arrived.into_iter().filter(|answer| advances(answer)).count()
    }

    /// What passed on the sample's connection from a second before its segment left until just after its
    /// acknowledgement came: a line a frame, with its time in milliseconds before (and after) that acknowledgement.
    #[must_use]
    pub fn around(&self, sample: &Sample) -> Vec<String> {
        let Some(connection) = self.connections.get(&(sample.local, sample.remote)) else { return Vec::new() };
        let isn = connection.isn.unwrap_or_default();
        let ms = |at: u64| (at as f64 - sample.time_ns as f64) / 1e6;
        let arrival = |at: Option<u64>| at.map_or("lost".to_owned(), |at| format!("{:.3}", ms(at)));
        let sent = connection.sent.iter().map(|sent| {
            let Sent { left_ns, arrived_ns, start, end, tsval, reached, .. } = *sent;
            let line = format!("> {start}..{end} tsval {tsval:?}, arrived {}, reached {reached}", arrival(arrived_ns));
            (left_ns, line)
        });
        let answers = connection.answers.iter().map(|answer| {
            let Answer { left_ns, arrived_ns, ack, is_empty, tells_of_hole, tsecr, .. } = *answer;
            let what = if is_empty { "empty" } else { "with payload" };
            let sack = if tells_of_hole { ", SACK block above" } else { "" };
            let line = format!("< ack {ack} tsecr {tsecr:?} {what}{sack}, arrived {}", arrival(arrived_ns));
            (left_ns, line)
        });
        let until = sample.time_ns + REPEATED_NS;
        let since = sample.time_ns.saturating_sub(sample.rtt_ns + 1_000_000_000);
        let mut lines: Vec<_> = sent.chain(answers).filter(|(at, _)| (since..until).contains(at)).collect();
        lines.sort();
        let lines = lines.into_iter().map(|(at, line)| format!("{:12.3} {line}", ms(at)));
        [format!("initial sequence number {isn}, acknowledged {}", sample.ack.wrapping_sub(isn))]
            .into_iter()
            .chain(lines)
            .collect()
    }

    /// How near to the sample's acknowledgement payload left again that it acknowledges.
    #[must_use]
    pub fn sent_again_near(&self, sample: &Sample) -> Option<Duration> {
        let connection = self.connections.get(&(sample.local, sample.remote))?;
        let ack = sample.ack.wrapping_sub(connection.isn?);
        let (mut highest, mut nearest) = (0, None);
        for sent in connection.sent.iter().filter(|sent| sent.payload > 0) {
            if sent.start < highest && sent.start < ack {
                let apart = sent.left_ns.abs_diff(sample.time_ns);
                nearest = Some(nearest.map_or(apart, |nearest: u64| nearest.min(apart)));
            }
            highest = highest.max(sent.end);
        }
        nearest.map(Duration::from_nanos)
    }

    /// Whether `sample` is the time from a transmission to an acknowledgement that it caused.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn prove(&self, sample: &Sample) -> Result<Proof, Disproof> {
        let connection = self.connections.get(&(sample.local, sample.remote)).ok_or("no such connection")?;
        let isn = connection.isn.ok_or("its beginning passed unseen")?;
        let number = sample.ack.wrapping_sub(isn);
        let carriers = || connection.answers.iter().filter(|answer| answer.ack == number);
        let nearest = carriers()
            .filter(|answer| answer.arrived_ns.is_some_and(|at| at.abs_diff(sample.time_ns) < SAME_FRAME_NS))
            .min_by_key(|answer| answer.arrived_ns.unwrap_or_default().abs_diff(sample.time_ns))
            .ok_or("no such acknowledgement arrived then")?;
        if sample.rtt_ns == 0 {
            return Err("no time passed");
        }
        let repeated_ns = nearest.arrived_ns.unwrap_or_default();
        let before = |answer: &&Answer| answer.arrived_ns.is_some_and(|at| at + REPEATED_NS < repeated_ns);
        if connection.answers.iter().filter(before).any(|answer| answer.ack >= number) {
            return Err("that number had arrived before");
        }
        // Only the first of them advances. A duplicate is put out some microseconds later, about when the first has
        // reached the hook, and may be nearer to what the agent's clock showed.
        let ack = carriers().filter(|answer| answer.arrived_ns.is_some()).min_by_key(|answer| answer.arrived_ns);
        let ack = ack.unwrap_or(nearest);
        let arrived_ns = ack.arrived_ns.unwrap_or_default();
        if ack.tells_of_hole {
            return Err("the acknowledgement itself carries a SACK block above");
        }
        let departure = sample.time_ns.saturating_sub(sample.rtt_ns);
        let of_that_byte = || connection.sent.iter().filter(|sent| sent.start < number && number <= sent.end);
        // A frame passes the hook before the path has it, on a busy machine by tens of milliseconds.
        let since = of_that_byte().filter(|sent| sent.left_ns + CLOCKS_NS >= departure).min_by_key(|sent| sent.left_ns);
        let timed = since.or_else(|| of_that_byte().max_by_key(|sent| sent.left_ns)).ok_or("that byte never left")?;
        let left_ns = timed.left_ns;
        if timed.tsval.zip(ack.tsecr).is_some_and(|(tsval, tsecr)| (tsecr.wrapping_sub(tsval) as i32) > 0) {
            return Err("TSecr is newer than the segment's TSval");
        }
        // A duplicated frame arrives twice. Of a super-segment's parts, which left at once, another may have been the
        // last that the receiver lacked.
        let caused = |sent: &&Sent| sent.start < number && (number <= sent.end || number <= sent.reached);
        let there = || {
            let arrivals = connection.sent.iter().filter(|sent| sent.left_ns == left_ns).filter(caused);
            arrivals.filter_map(|sent| Some((sent.arrived_ns.filter(|at| *at <= ack.left_ns)?, sent.reached)))
        };
        let Some((first_there, _)) = there().min() else {
            return Err("that transmission had not arrived when the acknowledgement left");
        };
        let truth_ns = arrived_ns - left_ns;
        let Some((at, _)) = there().filter(|(_, reached)| *reached >= number).max() else {
            if connection.told_of_hole(left_ns, arrived_ns, number) {
                return Err("it waited behind a hole");
            }
            return Ok(Proof { truth_ns, held_ns: ack.left_ns - first_there, untold: Some(Untold::OutOfOrder) });
        };
        let later = connection.answers.iter().filter(|answer| answer.left_ns >= at && answer.ack >= number);
        let first = later.map(|answer| answer.left_ns).min().unwrap_or(ack.left_ns);
        let is_repeated = ack.left_ns.saturating_sub(first) > REPEATED_NS;
        if is_repeated && of_that_byte().any(|sent| sent.left_ns > left_ns && sent.left_ns < arrived_ns) {
            return Err("sent again, and the acknowledgement is not the first");
        }
        // It had kept the acknowledgement back, and something that was sent again made it speak, unless that was
        // answered before.
        let is_answered = |there: u64| {
            let meanwhile = there..ack.left_ns.saturating_sub(REPEATED_NS).max(there);
            connection.answers.iter().any(|answer| meanwhile.contains(&answer.left_ns))
        };
        let causes = |sent: &Sent| {
            let in_time = |there: u64| there > at + REPEATED_NS && there <= ack.left_ns && !is_answered(there);
            sent.arrived_ns.is_some_and(in_time)
        };
        if connection.sent.iter().any(|sent| sent.left_ns > left_ns && sent.start < number && causes(sent)) {
            return Err("another transmission caused the acknowledgement");
        }
        let untold = is_repeated.then_some(Untold::AcknowledgementLost);
        Ok(Proof { truth_ns, held_ns: ack.left_ns - at, untold })
    }
}

impl Connection {
    /// Whether the near end had a sign, between these two times, that something below `number` was missing: it sent it
    /// again, a SACK block arrived, or without SACK a duplicate.
    fn told_of_hole(&self, from: u64, to: u64, number: u32) -> bool {
        let again = |sent: &Sent| self.sent.iter().any(|other| other.left_ns < sent.left_ns && other.end > sent.start);
        let during = |at: u64| (from..to).contains(&at);
        if self.sent.iter().any(|sent| sent.left_ns < to && sent.left_ns >= from && sent.start < number && again(sent))
        {
            return true;
        }
        let mut arrived: Vec<&Answer> =
            self.answers.iter().filter(|answer| answer.arrived_ns.is_some_and(|at| at < to)).collect();
        arrived.sort_by_key(|answer| answer.arrived_ns);
        let duplicate =
            |pair: &[&Answer]| pair[1].is_empty && pair[1].ack == pair[0].ack && pair[1].window == pair[0].window;
        let is_sign = |pair: &[&Answer]| pair[1].tells_of_hole || (!self.uses_sack && duplicate(pair));
        // With SACK, one that advances without a block says that nothing is held above: what was missing has come.
        let closes = |pair: &[&Answer]| self.uses_sack && pair[1].ack > pair[0].ack && !pair[1].tells_of_hole;
        let is_during = |pair: &&[&Answer]| during(pair[1].arrived_ns.unwrap_or_default());
        arrived.windows(2).filter(is_during).fold(false, |told, pair| is_sign(pair) || told && !closes(pair))
    }

    /// Counts from the initial sequence number, and plays the receiver.
    fn play(&mut self) {
        let Some(isn) = self.isn else { return };
        for sent in &mut self.sent {
            (sent.start, sent.end) = (sent.start.wrapping_sub(isn), sent.end.wrapping_sub(isn));
        }
        self.answers.iter_mut().for_each(|answer| answer.ack = answer.ack.wrapping_sub(isn));
        self.sent.sort_by_key(|sent| sent.left_ns);
        self.answers.sort_by_key(|answer| answer.left_ns);
        let mut arrivals: Vec<usize> = (0..self.sent.len()).filter(|k| self.sent[*k].arrived_ns.is_some()).collect();
        arrivals.sort_by_key(|k| self.sent[*k].arrived_ns);
        let (mut rcv_nxt, mut waiting) = (0, Vec::<(u32, u32)>::new());
        for k in arrivals {
            waiting.push((self.sent[k].start, self.sent[k].end));
            while let Some(place) = waiting.iter().position(|(start, _)| *start <= rcv_nxt) {
                rcv_nxt = rcv_nxt.max(waiting.swap_remove(place).1);
            }
            self.sent[k].reached = rcv_nxt;
        }
    }
}

/// What the judge reads of a frame.
struct Head {
    source: SocketAddr,
    destination: SocketAddr,
    seq: u32,
    /// Payload, SYN and FIN.
    len: u32,
    payload: u32,
    ack: Option<u32>,
    window: u16,
    syn: bool,
    permits_sack: bool,
    tells_of_hole: bool,
    tsval: Option<u32>,
    tsecr: Option<u32>,
}

impl Head {
    /// Ethernet, IPv4 or IPv6 without extensions, TCP: what the lab's hosts send.
    fn read(frame: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
        let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
        let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
        let (source, destination, protocol, tcp, length) = match half(12)? {
            0x0800 => {
                let header = usize::from(frame.get(14)? & 0xf) * 4;
                (v4(26)?, v4(30)?, *frame.get(23)?, 14 + header, u32::from(half(16)?) - header as u32)
            }
            0x86dd => (v6(22)?, v6(38)?, *frame.get(20)?, 54, u32::from(half(18)?)),
            _ => return None,
        };
        if protocol != 6 {
            return None;
        }
        let flags = *frame.get(tcp + 13)?;
        let control = |bit: u8| u32::from(flags & bit != 0);
        let header = usize::from(frame.get(tcp + 12)? >> 4) * 4;
        let payload = length - header as u32;
        let ack = if control(16) == 1 { word(tcp + 8) } else { None };
        let (mut permits_sack, mut tells_of_hole) = (false, false);
        let (mut tsval, mut tsecr) = (None, None);
        let mut options = frame.get(tcp + 20..tcp + header)?;
        while let [kind, rest @ ..] = options {
            let length = if *kind < 2 { 1 } else { usize::from(*rest.first()?).max(2) };
            let data = options.get(..length)?.get(2..).unwrap_or_default();
            permits_sack |= *kind == 4;
            if let (8, [v0, v1, v2, v3, e0, e1, e2, e3]) = (*kind, data) {
                tsval = Some(u32::from_be_bytes([*v0, *v1, *v2, *v3]));
                tsecr = ack.map(|_| u32::from_be_bytes([*e0, *e1, *e2, *e3]));
            }
            if *kind == 5 {
                let edges =
                    data.chunks_exact(8).map(|block| u32::from_be_bytes([block[0], block[1], block[2], block[3]]));
                tells_of_hole |= edges.into_iter().any(|edge| (edge.wrapping_sub(ack.unwrap_or_default()) as i32) > 0);
            }
            options = &options[length..];
        }
        Some(Self {
            source: SocketAddr::new(source, half(tcp)?),
            destination: SocketAddr::new(destination, half(tcp + 2)?),
            seq: word(tcp + 4)?,
            len: payload + control(2) + control(1),
            payload,
            ack,
            window: half(tcp + 14)?,
            permits_sack,
            tells_of_hole,
            tsval,
            tsecr,
            syn: control(2) == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: [u8; 4] = [10, 0, 0, 1];
    const FAR: [u8; 4] = [10, 0, 0, 2];
    const ISN: u32 = u32::MAX - 50;

    fn frame(way: Way, seq: u32, ack: Option<u32>, flags: u8, payload: u16) -> Vec<u8> {
        let (from, to) = if way == Way::AToB { (NEAR, FAR) } else { (FAR, NEAR) };
        let (source, destination) = if way == Way::AToB { (5000_u16, 80_u16) } else { (80, 5000) };
        let mut bytes = vec![0; 12];
        bytes.extend([8, 0, 0x45, 0]);
        bytes.extend((40 + payload).to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        bytes.extend([from, to].concat());
        bytes.extend([source.to_be_bytes(), destination.to_be_bytes()].concat());
        bytes.extend([seq.to_be_bytes(), ack.unwrap_or_default().to_be_bytes()].concat());
        bytes.extend([0x50, flags | if ack.is_some() { 16 } else { 0 }, 1, 0, 0, 0, 0, 0]);
        bytes
    }

    /// `relative` counts from the initial sequence number; times in milliseconds.
    fn sent(left: u64, arrived: Option<u64>, relative: u32, payload: u16) -> Passage {
        let head = frame(Way::AToB, ISN.wrapping_add(relative), Some(1), 0, payload);
        Passage { way: Way::AToB, left_ns: left * 1_000_000, arrived_ns: arrived.map(|at| at * 1_000_000), head }
    }

    fn answer(left: u64, arrived: Option<u64>, relative: u32) -> Passage {
        let head = frame(Way::BToA, 1, Some(ISN.wrapping_add(relative)), 0, 0);
        Passage { way: Way::BToA, left_ns: left * 1_000_000, arrived_ns: arrived.map(|at| at * 1_000_000), head }
    }

    fn verdict(passages: &[Passage], at: u64, relative: u32, rtt: u64) -> Result<(u64, u64, Option<Untold>), Disproof> {
        let syn = Passage { head: frame(Way::AToB, ISN, None, 2, 0), ..sent(1000, Some(1010), 0, 0) };
        let live = Live::new(&[&[syn], passages].concat());
        let sample = Sample {
            time_ns: at * 1_000_000,
            local: SocketAddr::from((NEAR, 5000)),
            remote: SocketAddr::from((FAR, 80)),
            ack: ISN.wrapping_add(relative),
            rtt_ns: rtt * 1_000_000,
            kind: "data".to_owned(),
            class: "exact".to_owned(),
            delayed: false,
            side: None,
        };
        let proof = live.prove(&sample)?;
        Ok((proof.truth_ns / 1_000_000, proof.held_ns / 1_000_000, proof.untold))
    }

    #[test]
    fn the_time_to_the_acknowledgement_that_a_segment_caused_is_true() {
        let passed = [sent(2000, Some(2100), 1, 100), answer(2105, Some(2205), 101)];
        assert_eq!(verdict(&passed, 2205, 101, 205), Ok((205, 5, None)));
        assert_eq!(verdict(&passed, 2400, 101, 205), Err("no such acknowledgement arrived then"));
        assert_eq!(verdict(&passed, 2205, 99, 205), Err("no such acknowledgement arrived then"));
    }

    #[test]
    fn a_transmission_that_was_lost_or_came_later_caused_nothing() {
        let passed = [sent(2000, None, 1, 100), sent(2300, Some(2400), 1, 100), answer(2400, Some(2500), 101)];
        let not_there = Err("that transmission had not arrived when the acknowledgement left");
        assert_eq!(verdict(&passed, 2500, 101, 500), not_there);
        assert_eq!(verdict(&passed, 2500, 101, 200), Ok((200, 0, None)));
        let passed = [sent(2000, Some(2100), 1, 100), sent(2150, Some(2250), 1, 100), answer(2100, Some(2200), 101)];
        assert_eq!(verdict(&passed, 2200, 101, 50), not_there);
    }

    #[test]
    fn what_arrived_behind_a_hole_is_not_acknowledged_by_the_filler() {
        let passed = [
            sent(2000, None, 1, 100),
            sent(2001, Some(2101), 101, 100),
            sent(2300, Some(2400), 1, 100),
            answer(2400, Some(2500), 201),
        ];
        assert_eq!(verdict(&passed, 2500, 201, 499), Err("it waited behind a hole"));
    }

    #[test]
    fn a_reordering_is_untold_unless_a_duplicate_arrived() {
        let passed = |told| {
            [
                sent(2000, Some(2103), 1, 100),
                sent(2001, Some(2100), 101, 100),
                answer(1900, Some(2000), 1),
                answer(2100, told, 1),
                answer(2103, Some(2203), 201),
            ]
        };
        assert_eq!(verdict(&passed(None), 2203, 201, 202), Ok((202, 3, Some(Untold::OutOfOrder))));
        assert_eq!(verdict(&passed(Some(2200)), 2203, 201, 202), Err("it waited behind a hole"));
    }

    #[test]
    fn an_acknowledgement_that_was_lost_is_untold_unless_the_segment_was_sent_again() {
        let passed = [sent(2000, Some(2100), 1, 100), answer(2101, None, 101), answer(2140, Some(2240), 101)];
        assert_eq!(verdict(&passed, 2240, 101, 240), Ok((240, 40, Some(Untold::AcknowledgementLost))));
        let again = [&passed[..], &[sent(2200, Some(2300), 1, 100)]].concat();
        assert_eq!(verdict(&again, 2240, 101, 240), Err("sent again, and the acknowledgement is not the first"));
    }

    #[test]
    fn what_is_sent_again_and_makes_a_receiver_speak_is_what_is_acknowledged() {
        // The receiver keeps the acknowledgement back until a probe repeats what it has.
        let passed = [sent(2000, Some(2100), 1, 100), sent(2030, Some(2130), 1, 100), answer(2130, Some(2230), 101)];
        assert_eq!(verdict(&passed, 2230, 101, 230), Err("another transmission caused the acknowledgement"));
        assert_eq!(verdict(&passed, 2230, 101, 200), Ok((200, 0, None)));
        // Two acknowledgements are lost, and what was sent again has made it speak before it repeats itself.
        let lost = [answer(2102, None, 201), answer(2230, None, 201), answer(2260, Some(2360), 201)];
        let two = [sent(2000, Some(2100), 1, 100), sent(2001, Some(2101), 101, 100)];
        let passed = [&two[..], &[sent(2130, Some(2230), 1, 100)], &lost[..]].concat();
        assert_eq!(verdict(&passed, 2360, 201, 359), Ok((359, 159, Some(Untold::AcknowledgementLost))));
    }

    #[test]
    fn a_number_that_had_arrived_before_measures_nothing() {
        let passed = [sent(2000, Some(2100), 1, 100), answer(2100, Some(2200), 101), answer(2300, Some(2400), 101)];
        assert_eq!(verdict(&passed, 2400, 101, 400), Err("that number had arrived before"));
        assert_eq!(verdict(&passed, 2200, 101, 0), Err("no time passed"));
    }

    /// The same with a SACK block, of a byte above what it acknowledges.
    fn with_block_above(answer: Passage) -> Passage {
        let mut head = answer.head;
        head[46] = 0x80;
        let ack = u32::from_be_bytes([head[42], head[43], head[44], head[45]]);
        head.extend([1, 1, 5, 10]);
        head[16..18].copy_from_slice(&52_u16.to_be_bytes());
        head.extend([ack.wrapping_add(100).to_be_bytes(), ack.wrapping_add(200).to_be_bytes()].concat());
        Passage { head, ..answer }
    }

    /// The same with the SACK-permitted option.
    fn permitting_sack(answer: Passage) -> Passage {
        let mut head = answer.head;
        head[46] = 0x60;
        head.extend([1, 1, 4, 2]);
        head[16..18].copy_from_slice(&44_u16.to_be_bytes());
        Passage { head, ..answer }
    }

    #[test]
    fn a_hole_that_an_acknowledgement_without_a_block_has_closed_tells_nothing_of_the_next() {
        // Two reorderings, one after the other; the acknowledgement that would have told of the second is lost.
        let passed = |told| {
            [
                permitting_sack(answer(1900, Some(2000), 1)),
                sent(2000, Some(2105), 1, 100),
                sent(2001, Some(2100), 101, 100),
                sent(2002, Some(2112), 201, 100),
                sent(2003, Some(2110), 301, 100),
                with_block_above(answer(2100, Some(2200), 1)),
                answer(2105, Some(2205), 201),
                with_block_above(answer(2110, told, 201)),
                answer(2112, Some(2212), 401),
            ]
        };
        assert_eq!(verdict(&passed(None), 2212, 401, 209), Ok((209, 2, Some(Untold::OutOfOrder))));
        assert_eq!(verdict(&passed(Some(2210)), 2212, 401, 209), Err("it waited behind a hole"));
    }

    #[test]
    fn the_first_acknowledgement_of_a_number_is_the_one_that_counts_wherever_its_duplicates_are() {
        let segment = sent(2000, Some(2100), 1, 100);
        // A duplicate follows, so closely that the agent's clock may show the time of either.
        let plain_first =
            [segment.clone(), answer(2100, Some(2200), 101), with_block_above(answer(2101, Some(2202), 101))];
        for at in 2200..=2202 {
            assert_eq!(verdict(&plain_first, at, 101, 200), Ok((200, 0, None)), "at {at}");
        }
        let block_first = [segment, with_block_above(answer(2100, Some(2200), 101)), answer(2101, Some(2202), 101)];
        for at in 2200..=2202 {
            let refuted = Err("the acknowledgement itself carries a SACK block above");
            assert_eq!(verdict(&block_first, at, 101, 200), refuted, "at {at}");
        }
    }

    #[test]
    fn the_parts_of_a_super_segment_left_together_and_are_judged_apart() {
        // The last part was lost; a probe repeated it, and that is what was acknowledged.
        let passed = [
            sent(2000, Some(2100), 1, 100),
            sent(2000, None, 101, 100),
            sent(2030, Some(2130), 101, 100),
            answer(2130, Some(2230), 201),
        ];
        let not_there = Err("that transmission had not arrived when the acknowledgement left");
        assert_eq!(verdict(&passed, 2230, 201, 230), not_there);
        assert_eq!(verdict(&passed, 2230, 201, 200), Ok((200, 0, None)));
    }

    #[test]
    fn of_parts_that_left_together_the_one_that_the_receiver_lacked_is_what_counts() {
        // The receiver has the last part from before. The first one fills the hole, and has left at the same time.
        let passed = [
            sent(1500, Some(1600), 101, 100),
            sent(2000, Some(2100), 1, 100),
            sent(2000, Some(2105), 101, 100),
            answer(2100, Some(2200), 201),
        ];
        assert_eq!(verdict(&passed, 2200, 201, 200), Ok((200, 0, None)));
    }

    #[test]
    fn on_a_busy_machine_a_frame_passes_the_hook_long_before_the_path_has_it() {
        // Sent at 1988 and 2001; the path had them 12 ms later each, and only the second arrived.
        let passed = [sent(2000, None, 1, 100), sent(2013, Some(2113), 1, 100), answer(2113, Some(2213), 101)];
        assert_eq!(verdict(&passed, 2213, 101, 212), Ok((200, 0, None)));
        let not_there = Err("that transmission had not arrived when the acknowledgement left");
        assert_eq!(verdict(&passed, 2213, 101, 225), not_there);
    }
}
