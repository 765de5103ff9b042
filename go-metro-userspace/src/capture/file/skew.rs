//! Clocks of a file's interfaces that disagree.
//!
//! Where one interface has what is sent and another what answers it, as a tap with one for each direction, a round trip
//! is as wrong as their clocks are apart. An acknowledgement that was captured before what it acknowledges shows it,
//! and by how much at least. What is smaller than the shortest round trip shows nowhere.

use std::collections::HashMap;
use std::time::Duration;

use go_metro_common::segment::TcpFlags;
use go_metro_rtt::{Nanos, SeqNum};

use crate::capture::decode::Decoded;

/// Flows that are looked into.
const FLOWS_MAX: usize = 1 << 16;
/// Fewer answers that came too early may be frames that the file lacks.
const LEAST: u32 = 3;
/// Pairs of interfaces that are named.
const NAMED_MAX: usize = 8;
/// An acknowledgement is no further from what it acknowledges.
const NEAR: u32 = 1 << 24;

/// What is known of the clocks.
#[derive(Default)]
pub(super) struct Skew {
    first: Option<u32>,
    flows: HashMap<u64, Flow>,
    /// By the interfaces of what was sent and of what answered it.
    pairs: HashMap<(u32, u32), Pair>,
    /// Whether any clocks disagree.
    any: bool,
}

/// Answers at one interface to what was captured at another.
#[derive(Clone, Copy, Default)]
struct Pair {
    answers: u32,
    too_early: u32,
    /// The most that one was too early.
    by: Duration,
}

impl Pair {
    fn disagrees(self) -> bool {
        self.too_early >= LEAST && self.too_early * 2 > self.answers
    }
}

#[derive(Clone, Copy, Default)]
struct Flow {
    ends: [End; 2],
    /// The last two interfaces of which one had the answer to what the other had.
    across: Option<(u32, u32)>,
}

/// What one end has sent.
#[derive(Clone, Copy, Default)]
struct End {
    /// The highest end of a segment, when it was captured, and at which interface.
    sent: Option<(SeqNum, Nanos, u32)>,
    /// Whether it waits for its acknowledgement.
    waits: bool,
    /// The same of acknowledgement numbers.
    acked: Option<(SeqNum, Nanos, u32)>,
}

impl Skew {
    /// Looks at a frame, in the order of the file: which flow's, which of the two ways, at which interface.
    #[inline]
    pub(super) fn observe(&mut self, decoded: &Decoded, time: Nanos, of: (u64, usize, u32)) {
        if *self.first.get_or_insert(of.2) != of.2 || !self.flows.is_empty() {
            self.look(decoded, time, of);
        }
    }

    fn look(&mut self, decoded: &Decoded, time: Nanos, (flow, way, interface): (u64, usize, u32)) {
        let header = &decoded.header;
        if header.flags.any(TcpFlags::RST) || self.flows.len() >= FLOWS_MAX && !self.flows.contains_key(&flow) {
            return;
        }
        let known = self.flows.entry(flow).or_default();
        if header.flags.any(TcpFlags::SYN) {
            // Another connection, perhaps; of its answer the same is read again.
            known.ends[way] = End::default();
        }
        let covers = |ack: SeqNum, end: SeqNum| !ack.before(end) && ack.distance(end) <= NEAR;
        let [mut seen, mut seen_early] = [None; 2];
        if header.flags.any(TcpFlags::ACK) {
            let ack = SeqNum(header.ack);
            let other = &mut known.ends[1 - way];
            if let Some((_, sent_at, at)) = other.sent.filter(|(end, ..)| other.waits && covers(ack, *end)) {
                other.waits = false;
                seen = Some(((at, interface), sent_at, time));
            }
            let end = &mut known.ends[way];
            if end.acked.is_none_or(|(before, ..)| before.before(ack)) {
                end.acked = Some((ack, time, interface));
            }
        }
        let len = header.payload.len().wrapping_add(header.flags.sequence_space());
        let end = SeqNum(header.seq).plus(len);
        if len > 0 && known.ends[way].sent.is_none_or(|(before, ..)| before.before(end)) {
            // In the order of wrong times the answer is read first.
            let early = known.ends[1 - way].acked.filter(|(ack, ..)| covers(*ack, end));
            seen_early = early.map(|(_, acked_at, at)| ((interface, at), time, acked_at));
            known.ends[way].waits = early.is_none();
            known.ends[way].sent = Some((end, time, interface));
        }
        for (interfaces, sent_at, acked_at) in [seen, seen_early].into_iter().flatten() {
            if interfaces.0 == interfaces.1 {
                continue;
            }
            known.across = Some(interfaces);
            let pair = self.pairs.entry(interfaces).or_default();
            pair.answers += 1;
            if acked_at < sent_at {
                pair.too_early += 1;
                pair.by = pair.by.max(Duration::from_nanos(sent_at.0 - acked_at.0));
                self.any |= pair.disagrees();
            }
        }
    }

    /// Whether round trips of this flow would be from one clock to another that disagrees.
    #[inline]
    pub(super) fn spoils(&self, flow: u64) -> bool {
        self.any && self.flows.get(&flow).and_then(|flow| flow.across).is_some_and(|pair| self.apart(pair).is_some())
    }

    /// By how much at least these interfaces' clocks disagree.
    fn apart(&self, (one, other): (u32, u32)) -> Option<Duration> {
        let by = |pair| self.pairs.get(&pair).filter(|pair| pair.disagrees()).map(|pair| pair.by);
        by((one, other)).max(by((other, one)))
    }

    /// Which clocks disagree, a line each, for people.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let mut pairs: Vec<_> = self.pairs.iter().filter(|(_, pair)| pair.disagrees()).collect();
        pairs.sort_unstable_by_key(|(interfaces, _)| **interfaces);
        pairs.into_iter().take(NAMED_MAX).map(|((ahead, behind), pair)| {
            format!(
                "the clock of interface {behind} is at least {:?} behind that of interface {ahead}, as {} of {} \
                 answers were captured before what they answer; round trips from one to the other are not measured",
                Duration::from_micros(pair.by.as_micros() as u64),
                pair.too_early,
                pair.answers
            )
        })
    }
}
