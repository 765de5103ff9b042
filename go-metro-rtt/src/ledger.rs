//! Who counts [`PeerHealth`]: twenty bytes a flow for what nearly every segment changes and what a cause is judged by,
//! and the counts of pairs for what is rare.
//!
//! The causes of retransmissions are those of a sender that does what Linux does (net/ipv4/tcp_input.c,
//! tcp_timer.c, tcp_recovery.c):
//!
//! - Once the receiver has shown a hole, what was sent before is sent again as its acknowledgements come: `fast`, until
//!   all that had been sent is acknowledged.
//! - Where it has shown none and SACK is in use, the first timer is that of a tail loss probe, which repeats the last
//!   segment: `tail_probe`, once until an acknowledgement advances.
//! - What starts with the first byte that is not acknowledged, with no such sign, or when nothing was heard of the
//!   receiver for a while, or once more where SACK is not in use: `timeout`, and so is all until what was outstanding
//!   then is acknowledged.

use std::collections::VecDeque;
use std::time::Duration;

use bitflags::bitflags;
use go_metro_common::segment::{Bits, TcpFlags};
use hashbrown::HashMap;

use crate::flow::{Again, Flow, Sent, Ticks};
use crate::grouping::Places;
use crate::health::{By, Cause, Connect, PeerHealth, Role};
use crate::key::Key;
use crate::outstanding::is_newer;
use crate::summary::PairKey;
use crate::zero_window::{Announced, ZeroWindows};
use crate::{FlowKey, Kind, Label, Nanos, Outcome, Sample, Segment, SeqNum, Side};

/// Without a word from the receiver for so long, it may be the timer that has something sent again: for the flow's
/// shortest round trip, but within these bounds, in nanoseconds. What answers an acknowledgement comes at once.
const SILENCE_NS: (u64, u64) = (20_000_000, 150_000_000);

/// The least that the timer waits, in nanoseconds: `TCP_RTO_MIN` (include/net/tcp.h, 200 ms) less a tick of the slowest
/// clock of a kernel, by which it may come early. What was reordered is waited for by another timer, for up to a round
/// trip once D-SACKs have come (RFC 8985 section 6.2 step 4): silence alone does not tell the two apart.
const TIMER_NS: u64 = 190_000_000;

/// What answers an acknowledgement is sent within this time, in nanoseconds: a tick of the slowest clock of a kernel.
const AT_ONCE_NS: u64 = 10_000_000;

/// So many bytes are put into the pair's count at once, before the flow's own overflows.
const SPILL: u32 = 1 << 30;

/// The same of segments: no record has more than [`Payload::MOST_SEGMENTS`](crate::Payload::MOST_SEGMENTS).
const SPILL_SEGMENTS: u16 = 1 << 15;

/// Of [`FlowHealth::bytes`], beside the number, which stays below: what the flow sends next is to be looked at. As it
/// makes the number larger than [`SPILL`], asking for it costs nothing.
const WATCHED: u32 = 1 << 31;

bitflags! {
    /// What is known of a flow's health in single bits.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct State: u8 {
        /// The end that is timed has sent a SYN; what becomes of it is not known.
        const CLIENT = 1 << 0;
        /// The same of a SYN-ACK.
        const SERVER = 1 << 1;
        /// The receiver has shown a hole; up to `point` it is being filled.
        const RECOVERS = 1 << 2;
        /// The retransmission timer ran out; what was sent up to `point` is sent again.
        const TIMED_OUT = 1 << 3;
        /// A tail loss probe is out.
        const PROBED = 1 << 4;
        /// The connection is over, and that was counted.
        const OVER = 1 << 5;
        /// It is among those that have something for the next report.
        const LISTED = 1 << 6;
        /// What starts with the first byte that is not acknowledged was sent again already.
        const HEAD_AGAIN = 1 << 7;
    }
}

/// What is counted and known of one flow.
#[derive(Clone, Copy, Debug, Default)]
struct FlowHealth {
    /// Payload bytes since they were last put into the pair's count, and [`WATCHED`].
    bytes: u32,
    segments: u16,
    /// When the timer was last set, as far as that matters: when an acknowledgement advanced, or what begins with the
    /// first byte that is not acknowledged was sent again. The lower half of [`Ticks`].
    timer: u16,
    /// `snd_nxt` when the loss was found that is being repaired (`high_seq` of Linux' tcp_sock); until the connection
    /// is established, our initial sequence number.
    point: SeqNum,
    /// `snd_nxt` when something was sent again last: what is acknowledged beyond came after it.
    repaired: SeqNum,
    /// When something was last heard of the receiver, where that matters: the lower half of [`Ticks`].
    heard: u16,
    /// Retransmissions that may prove needless.
    unconfirmed: u8,
    state: State,
}

/// Bytes of a flow here.
pub(crate) const BYTES_PER_FLOW: usize = size_of::<FlowHealth>();

const _: () = assert!(BYTES_PER_FLOW == 20);

/// The flow that something is counted of.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) key: &'a Key,
    /// Its number; none of what makes no flow.
    pub(crate) index: Option<u32>,
    /// The places of all flows, where they are grouped.
    pub(crate) places: Option<&'a Places>,
    pub(crate) label: Label,
}

impl Of<'_> {
    fn side(self) -> Side {
        self.key.side()
    }

    /// Whose counts these are.
    fn pair(self) -> PairKey {
        let place = self.places.map(|places| match self.index {
            Some(index) => places.of(index, self.key),
            None => places.of_refused(self.key),
        });
        PairKey::of(&self.key.flow(), place.unwrap_or_default(), self.label)
    }
}

/// What is counted where, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthLimits {
    /// Host pairs that are counted apart between two reports; the rest together.
    pub max_pairs: usize,
    /// An attempt to connect that is not answered in this time is over.
    pub connect_timeout: Duration,
    /// With which side a connection counts as opened, reset or closed, as each counts once: the local one only where no
    /// other is measured.
    pub side: Side,
}

/// The counts since the last report.
pub(crate) struct Ledger {
    limits: HealthLimits,
    flows: Vec<FlowHealth>,
    /// Flows whose own counts are not zero.
    listed: Vec<u32>,
    /// SYNs that wait for an answer: until when, of which flow, and their number; no more than flows.
    waiting: VecDeque<(Nanos, u32, SeqNum)>,
    max_flows: usize,
    pairs: HashMap<PairKey, PeerHealth, foldhash::fast::RandomState>,
    /// Of flows whose labels are being found out.
    pending: HashMap<FlowKey, (PairKey, PeerHealth), foldhash::fast::RandomState>,
    other: PeerHealth,
    /// Flows whose other end has closed its window.
    windows: ZeroWindows,
}

impl Ledger {
    /// Nothing counted; room for so many flows.
    pub(crate) fn new(limits: HealthLimits, max_flows: usize) -> Self {
        Self {
            limits,
            flows: Vec::with_capacity(max_flows),
            listed: Vec::new(),
            waiting: VecDeque::new(),
            max_flows,
            pairs: HashMap::default(),
            pending: HashMap::default(),
            other: PeerHealth::default(),
            windows: ZeroWindows::default(),
        }
    }

    pub(crate) fn set_limits(&mut self, limits: HealthLimits) {
        self.limits = limits;
    }

    /// Room for so many flows, now that there is none.
    pub(crate) fn resize(&mut self, max_flows: usize) {
        self.flows = Vec::with_capacity(max_flows);
        self.max_flows = max_flows;
        self.listed.clear();
        self.waiting.clear();
        self.windows = ZeroWindows::default();
    }

    /// What windows were when is not known of these flows any more.
    pub(crate) fn interrupt(&mut self, which: impl Fn(u32) -> bool) {
        self.windows.forget(which);
    }

    /// Reads what is known of a flow, so that it is in the cache.
    #[inline]
    pub(crate) fn touch(&self, index: u32) -> u64 {
        self.flows.get(index as usize).map_or(0, |flow| flow.bytes.into())
    }

    /// A flow begins under this number.
    pub(crate) fn begin(&mut self, index: u32) {
        let index = index as usize;
        if index >= self.flows.len() {
            self.flows.resize(index + 1, FlowHealth::default());
        }
        // What is listed stays so.
        let listed = self.flows[index].state & State::LISTED;
        self.flows[index] = FlowHealth { state: listed, ..FlowHealth::default() };
    }

    /// A flow is about to be forgotten.
    pub(crate) fn end(&mut self, index: u32, key: Of<'_>, flow: &Flow) {
        let Some(health) = self.flows.get(index as usize).copied() else { return };
        self.spill(index, key);
        self.end_window(index, key);
        if let Some(role) = health.role() {
            // That it was answered may have been lost.
            let is_answered = flow.snd_una().after(health.point);
            self.opened(index, key, role, if is_answered { Connect::Established } else { Connect::Timeout });
        }
    }

    /// The end that is timed has sent this; why, if it had before.
    #[inline]
    pub(crate) fn sent(
        &mut self,
        index: u32,
        key: Of<'_>,
        segment: &Segment,
        sent: Sent,
        flow: &Flow,
    ) -> Option<Cause> {
        let health = self.flows.get_mut(index as usize)?;
        let payload = segment.header.payload;
        // A FIN may be lost as well as data, and is then sent again.
        let is_counted =
            !payload.is_empty() || segment.has(TcpFlags::FIN) && !segment.has(TcpFlags::SYN | TcpFlags::RST);
        if is_counted && !sent.probe {
            health.bytes = health.bytes.wrapping_add(payload.len());
            health.segments = health.segments.wrapping_add(payload.segments() as u16);
            let is_full = health.bytes >= SPILL || health.segments >= SPILL_SEGMENTS;
            let is_first = !health.state.contains(State::LISTED);
            if is_first || is_full {
                self.list(index, key, segment.time());
            }
        }
        if sent.again.is_some() || segment.has(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) {
            return self.sent_more(index, key, segment, sent, flow);
        }
        None
    }

    /// A flow has something to report. Its pair is known from now on, and it may count on by itself.
    #[cold]
    fn list(&mut self, index: u32, key: Of<'_>, at: Nanos) {
        let health = &mut self.flows[index as usize];
        if health.bytes & WATCHED != 0 {
            health.bytes &= !WATCHED;
            let waited_ns = self.windows.sent(index, at);
            self.count_zero_window(key, waited_ns);
        }
        let health = &mut self.flows[index as usize];
        if !health.state.contains(State::LISTED) {
            health.state.insert(State::LISTED);
            self.listed.push(index);
        }
        self.spill(index, key);
    }

    /// What is rare among what is sent.
    #[cold]
    fn sent_more(&mut self, index: u32, key: Of<'_>, segment: &Segment, sent: Sent, flow: &Flow) -> Option<Cause> {
        let health = &mut self.flows[index as usize];
        if segment.has(TcpFlags::RST) {
            // Or it is the answer to what is of an older connection.
            if flow.is_reset() {
                self.reset(index, key, By::Local);
            }
            return None;
        }
        if segment.has(TcpFlags::SYN) && (flow.is_crossing(segment) || !flow.is_opened_by(segment)) {
            // Both have opened at once, or it is a second answer to the same SYN: nothing is repeated, and nothing
            // begins.
            self.close(index, key, flow);
            return None;
        }
        let cause = sent.again.map(|again| (again, health.cause(segment, again, flow)));
        if let Some((again, cause)) = cause {
            let count = segment.header.payload.segments();
            health.repaired = flow.snd_nxt();
            let is_syn = segment.has(TcpFlags::SYN);
            let is_needless = again.contains(Again::ACKNOWLEDGED) && !is_syn;
            // What the other end may say that it had.
            let may_be_needless = health.role().is_some() || !is_syn && !is_needless;
            if may_be_needless && !again.contains(Again::BRINGS_MORE) {
                health.unconfirmed = health.unconfirmed.saturating_add(count.try_into().unwrap_or(u8::MAX));
            }
            // Whether there is anybody at the other end will be seen.
            if !health.role().is_some_and(|role| is_strangers(role, key.side())) {
                let pair = self.pair(key);
                pair.retransmits[cause as usize] += u64::from(count);
                pair.spurious += u64::from(if is_needless { count } else { 0 });
            }
        } else if segment.has(TcpFlags::SYN) {
            // Another connection on the same ports: nobody answered the one before.
            if let Some(role) = health.role() {
                self.opened(index, key, role, Connect::Timeout);
            }
            self.end_window(index, key);
            let is_answer = segment.has(TcpFlags::ACK);
            let health = &mut self.flows[index as usize];
            let state = if is_answer { State::SERVER } else { State::CLIENT };
            health.state = state | health.state & State::LISTED;
            (health.unconfirmed, health.point) = (0, segment.start());
            if !is_answer && self.waiting.len() < self.max_flows {
                self.waiting.push_back((segment.time().plus(self.limits.connect_timeout), index, segment.start()));
            }
        }
        self.close(index, key, flow);
        cause.map(|(_, cause)| cause)
    }

    /// A reset of what was never seen: the answer of a closed port to a SYN (RFC 9293 section 3.10.7.1).
    pub(crate) fn sent_reset(&mut self, key: Of<'_>, segment: &Segment) {
        if segment.has(TcpFlags::ACK) && segment.start() == SeqNum(0) && key.side() == self.limits.side {
            self.stranger(key).count_connect(Role::Server.seen_from(key.side()), Connect::Refused);
        }
    }

    /// The other end has sent this, which was answered to by the flow as it is now.
    #[cold]
    pub(crate) fn received(&mut self, index: u32, key: Of<'_>, segment: &Segment, before: Before, flow: &Flow) {
        let Some(health) = self.flows.get_mut(index as usize) else { return };
        health.heard = Ticks::of(segment.time()).low();
        let advances = flow.snd_una() != before.una;
        // What advanced before was not looked at.
        if advances || before.is_usual {
            health.timer = health.heard;
        }
        if segment.has(TcpFlags::RST) {
            // Or it answers something else than the SYN that is out.
            if flow.is_reset() {
                self.reset(index, key, By::Remote);
            }
            return;
        }
        if segment.has(TcpFlags::SYN) {
            // Of another connection, perhaps.
            self.end_window(index, key);
        } else if segment.header.window == 0 || before.window == 0 {
            self.window(index, key, segment, before, flow);
        }
        if segment.has(TcpFlags::ECE) && segment.has(TcpFlags::ACK) && !segment.has(TcpFlags::SYN) {
            self.pair(key).echoes += 1;
        }
        let health = &mut self.flows[index as usize];
        let role = health.role().filter(|_| flow.snd_una().after(health.point));
        let mut spurious = false;
        if health.unconfirmed > 0 && role.is_none() {
            let by_echo = || {
                let echo = segment.tsecr().filter(|echo| *echo != 0);
                advances && before.retransmission.zip(echo).is_some_and(|(sent, echo)| is_newer(sent, echo))
            };
            spurious = segment.header.bits.any(Bits::DSACK) || !flow.uses_sack() && by_echo();
            health.unconfirmed -= u8::from(spurious);
            // It would have been said by now.
            if flow.snd_una().after(health.repaired) {
                health.unconfirmed = 0;
            }
        }
        if advances {
            health.state.remove(State::PROBED | State::HEAD_AGAIN);
            if role.is_none() && !health.repairs(flow) {
                health.state.remove(State::RECOVERS | State::TIMED_OUT);
            }
        }
        if let Some(role) = role {
            self.opened(index, key, role, Connect::Established);
        }
        if spurious {
            self.pair(key).spurious += 1;
        }
        self.close(index, key, flow);
    }

    /// The other end announces a window of zero, or had before.
    fn window(&mut self, index: u32, key: Of<'_>, segment: &Segment, before: Before, flow: &Flow) {
        // What was overtaken announces nothing (RFC 9293 section 3.10.7.4), and what ends a connection need not.
        let is_current = segment.has(TcpFlags::ACK) && segment.header.window == flow.window();
        if !is_current || segment.has(TcpFlags::FIN) {
            return;
        }
        let announced = if segment.header.window == 0 {
            let was_outstanding = before.una != flow.snd_nxt();
            Announced::Zero {
                outstanding: flow.snd_una() != flow.snd_nxt(),
                shows: was_outstanding || segment.is_empty(),
            }
        } else {
            Announced::Open
        };
        let (waited_ns, is_watched) = self.windows.announced(index, segment.time(), announced);
        if is_watched {
            self.flows[index as usize].bytes |= WATCHED;
        }
        self.count_zero_window(key, waited_ns);
    }

    /// A flow is over, or its connection is.
    fn end_window(&mut self, index: u32, key: Of<'_>) {
        let waited_ns = self.windows.end(index);
        self.count_zero_window(key, waited_ns);
    }

    fn count_zero_window(&mut self, key: Of<'_>, ns: u64) {
        if ns > 0 {
            self.pair(key).zero_window_ns += ns;
        }
    }

    /// A RST passed.
    fn reset(&mut self, index: u32, key: Of<'_>, by: By) {
        let health = &mut self.flows[index as usize];
        let role = health.role();
        let was_over = health.state.contains(State::OVER);
        health.state.insert(State::OVER);
        self.end_window(index, key);
        match (role, by) {
            (Some(role @ Role::Client), By::Remote) => self.opened(index, key, role, Connect::Refused),
            (Some(role), _) => self.opened(index, key, role, Connect::Reset),
            (None, by) if !was_over && key.side() == self.limits.side => {
                self.pair(key).resets[by.seen_from(key.side()) as usize] += 1;
            }
            _ => {}
        }
    }

    /// What became of a handshake is known.
    fn opened(&mut self, index: u32, key: Of<'_>, role: Role, result: Connect) {
        let health = &mut self.flows[index as usize];
        health.state.remove(State::CLIENT | State::SERVER);
        let repeated = std::mem::take(&mut health.unconfirmed);
        let is_strangers = is_strangers(role, key.side());
        let repeated = if is_strangers { repeated } else { 0 };
        // With the other side only what was sent again counts.
        let counts = key.side() == self.limits.side;
        if repeated == 0 && !counts {
            return;
        }
        let is_unknown = is_strangers && result != Connect::Established;
        let pair = if is_unknown { self.stranger(key) } else { self.pair(key) };
        pair.retransmits[Cause::Syn as usize] += u64::from(repeated);
        if counts {
            pair.count_connect(role.seen_from(key.side()), result);
        }
    }

    /// Counts a connection as closed once it is.
    fn close(&mut self, index: u32, key: Of<'_>, flow: &Flow) {
        let health = &mut self.flows[index as usize];
        if flow.is_closed() && !health.state.contains(State::OVER) {
            health.state.insert(State::OVER);
            if key.side() == self.limits.side {
                self.pair(key).closes += 1;
            }
        }
    }

    /// A flow that has waited longer for an answer to its SYN than it may, and that SYN's number.
    pub(crate) fn next_overdue(&mut self, now: Nanos) -> Option<(u32, SeqNum)> {
        let (_, index, isn) = self.waiting.pop_front_if(|(until, ..)| *until < now)?;
        Some((index, isn))
    }

    /// Counts a SYN that was not answered in time, unless it was.
    pub(crate) fn give_up(&mut self, index: u32, isn: SeqNum, key: Of<'_>) {
        let health = &self.flows[index as usize];
        if health.state.contains(State::CLIENT) && health.point == isn {
            self.opened(index, key, Role::Client, Connect::Timeout);
        }
    }

    /// Puts what a flow has counted by itself into its pair's counts.
    fn spill(&mut self, index: u32, key: Of<'_>) {
        let FlowHealth { bytes, segments, .. } = &mut self.flows[index as usize];
        let watched = *bytes & WATCHED;
        let (bytes, segments) = (std::mem::replace(bytes, watched) & !WATCHED, std::mem::take(segments));
        if segments > 0 {
            let pair = self.pair(key);
            pair.bytes += u64::from(bytes);
            pair.segments += u64::from(segments);
        }
    }

    /// The counts of a flow's pair.
    fn pair(&mut self, key: Of<'_>) -> &mut PeerHealth {
        if key.label == Label::PENDING {
            return &mut self.pending.entry(key.key.flow()).or_insert_with(|| (key.pair(), PeerHealth::default())).1;
        }
        self.labelled(key.pair())
    }

    fn labelled(&mut self, pair: PairKey) -> &mut PeerHealth {
        let full = self.pairs.len() >= self.limits.max_pairs;
        match self.pairs.contains_key(&pair) {
            false if full => &mut self.other,
            _ => self.pairs.entry(pair).or_default(),
        }
    }

    /// The counts of a flow's pair, if there are any: packets that come with an address make none.
    fn stranger(&mut self, key: Of<'_>) -> &mut PeerHealth {
        let known = match key.label {
            Label::PENDING => self.pending.get_mut(&key.key.flow()).map(|(_, health)| health),
            _ => self.pairs.get_mut(&key.pair()),
        };
        known.unwrap_or(&mut self.other)
    }

    /// The label of a flow was found out: what was counted of it joins what is counted of the label.
    pub(crate) fn label(&mut self, flow: &FlowKey, label: Label) {
        if let Some((pair, health)) = self.pending.remove(flow) {
            self.labelled(PairKey { label, ..pair }).merge(&health);
        }
    }

    /// The same of all whose labels are still being found out.
    pub(crate) fn label_pending(&mut self, label: Label) {
        for (pair, health) in std::mem::take(&mut self.pending).into_values() {
            self.labelled(PairKey { label, ..pair }).merge(&health);
        }
    }

    /// Hands out what was counted of each pair since the last time, up to `now`, and of those that there was no room
    /// for; what is of flows whose labels are being found out stays. `key` has the key and the label of a flow.
    pub(crate) fn take(
        &mut self,
        now: Nanos,
        key: impl Fn(u32) -> Option<(Key, Label)>,
        places: Option<&Places>,
        sink: impl FnMut(Option<PairKey>, &PeerHealth),
    ) {
        self.take_so_far(now, key, places, sink);
        self.pairs.clear();
    }

    /// The same in the middle of an interval: which pairs there are in it stays known, so that what strangers do counts
    /// for them whether or not somebody looks.
    pub(crate) fn take_so_far(
        &mut self,
        now: Nanos,
        key: impl Fn(u32) -> Option<(Key, Label)>,
        places: Option<&Places>,
        mut sink: impl FnMut(Option<PairKey>, &PeerHealth),
    ) {
        for index in std::mem::take(&mut self.listed) {
            self.flows[index as usize].state.remove(State::LISTED);
            if let Some((key, label)) = &key(index) {
                self.spill(index, Of { key, index: Some(index), places, label: *label });
            }
        }
        for (index, waited_ns) in self.windows.so_far(now) {
            if let Some((key, label)) = &key(index) {
                self.count_zero_window(Of { key, index: Some(index), places, label: *label }, waited_ns);
            }
        }
        let nothing = PeerHealth::default();
        for (pair, health) in self.pairs.iter_mut().filter(|(_, health)| **health != nothing) {
            sink(Some(*pair), &std::mem::take(health));
        }
        let other = std::mem::take(&mut self.other);
        if other != nothing {
            sink(None, &other);
        }
    }
}

/// Whether the remote end begins a handshake in which the end that is timed has this part: until it is established,
/// there need be nobody at that address.
fn is_strangers(role: Role, side: Side) -> bool {
    matches!((role, side), (Role::Server, Side::Remote) | (Role::Client, Side::Local))
}

/// What a flow was before an acknowledgement.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    is_usual: bool,
    una: SeqNum,
    window: u16,
    /// The TSval of the only retransmission that was waited for.
    retransmission: Option<u32>,
}

impl Before {
    #[inline]
    pub(crate) fn of(flow: &Flow) -> Self {
        Self {
            is_usual: flow.is_usual(),
            una: flow.snd_una(),
            window: flow.window(),
            retransmission: flow.single_retransmission(),
        }
    }

    /// Whether what came then may tell something of the flow's health: nearly all does not.
    #[inline]
    pub(crate) fn is_of_interest(self, segment: &Segment, outcome: &Outcome) -> bool {
        !self.is_usual
            || segment.has(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::ECE)
            || segment.header.bits.any(Bits::SACK_ABOVE | Bits::DSACK)
            // Nearly always there is one, and there was.
            || self.window.min(segment.header.window) == 0
            || matches!(outcome, Outcome::Rejected(_) | Outcome::Sample(Sample { kind: Kind::Connect, .. }))
    }
}

impl FlowHealth {
    /// What part the end that is timed has in a handshake that is not over.
    fn role(&self) -> Option<Role> {
        match self.state {
            state if state.contains(State::CLIENT) => Some(Role::Client),
            state if state.contains(State::SERVER) => Some(Role::Server),
            _ => None,
        }
    }

    /// Whether what was found to be missing is still being repaired. Without SACK that is so until something above is
    /// acknowledged: duplicates that come before are of what was sent again (RFC 6582 section 4.1).
    fn repairs(&self, flow: &Flow) -> bool {
        let una = flow.snd_una();
        una.before(self.point) || una == self.point && !flow.uses_sack()
    }

    /// What begins with the first byte that is not acknowledged is sent again, and was before if `is_repeated`: whether
    /// the timer may have run out by now. It is set to the smoothed round trip and [`TIMER_NS`] at least; but where it
    /// follows on another timer, from when that byte was sent (`tcp_rearm_rto` of net/ipv4/tcp_input.c), which is a
    /// round trip before an acknowledgement advances.
    fn timer_ran_out(&mut self, at: Nanos, is_repeated: bool, flow: &Flow) -> bool {
        let now = Ticks::of(at).low();
        let (least, most) = SILENCE_NS;
        let shortest = flow.shortest().map(|rtt| rtt.0);
        let silence = shortest.map_or(most, |rtt| rtt.clamp(least, most));
        let least = if is_repeated { TIMER_NS.saturating_add(shortest.unwrap_or(0)) } else { TIMER_NS };
        let waited = now.wrapping_sub(std::mem::replace(&mut self.timer, now));
        self.is_silent(at, silence) && waited >= Ticks::at_least(least).low()
    }

    /// Whether nothing was heard of the receiver for longer than this, in nanoseconds.
    fn is_silent(&self, at: Nanos, ns: u64) -> bool {
        Ticks::of(at).low().wrapping_sub(self.heard) > Ticks::at_least(ns).low()
    }

    /// Why this was sent again.
    fn cause(&mut self, segment: &Segment, again: Again, flow: &Flow) -> Cause {
        if segment.has(TcpFlags::SYN) {
            return Cause::Syn;
        }
        let repairs = self.repairs(flow);
        let is_head = again.contains(Again::HEAD);
        let is_repeated = is_head && self.state.contains(State::HEAD_AGAIN);
        self.state.set(State::HEAD_AGAIN, is_head || self.state.contains(State::HEAD_AGAIN));
        let timer_ran_out = is_head && self.timer_ran_out(segment.time(), is_repeated, flow);
        let shows_hole = again.contains(Again::SHOWN) || repairs && self.state.contains(State::RECOVERS);
        let timed_out = match self.state {
            state if state.contains(State::TIMED_OUT) && repairs => return Cause::Timeout,
            // Without SACK nothing but the timer has the same sent once more.
            _ if shows_hole => is_repeated && !again.contains(Again::SACK) || timer_ran_out,
            // What a SYN carried, and the answer left out, is sent again at once (RFC 7413 section 4.2.1).
            _ if is_head && flow.is_behind_syn(segment) && !self.is_silent(segment.time(), AT_ONCE_NS) => {
                self.point = flow.snd_nxt();
                self.state.insert(State::RECOVERS);
                return Cause::Fast;
            }
            state if again.contains(Again::TAIL | Again::SACK) && !state.contains(State::PROBED) => {
                self.state.insert(State::PROBED);
                return Cause::TailProbe;
            }
            _ => is_head,
        };
        if !timed_out && !shows_hole {
            return Cause::Unknown;
        }
        let (entered, left) =
            if timed_out { (State::TIMED_OUT, State::RECOVERS) } else { (State::RECOVERS, State::TIMED_OUT) };
        if timed_out || !repairs || !self.state.contains(entered) {
            self.point = flow.snd_nxt();
        }
        self.state.remove(left);
        self.state.insert(entered);
        if timed_out { Cause::Timeout } else { Cause::Fast }
    }
}
