//! Who counts [`PeerHealth`]: twenty bytes of each flow's [`Extension`](crate::extension::Extension) for what nearly
//! every segment changes and what a cause is judged by, and the counts of pairs for what is rare.

use std::collections::VecDeque;
use std::time::Duration;

use go_metro_common::segment::{Bits, Payload, TcpFlags};
use hashbrown::HashMap;

use crate::extension::Extensions;
use crate::flow::{Again, Flow, Sent, Ticks};
use crate::flow_health::{FlowHealth, State, WATCHED};
use crate::grouping::Places;
use crate::health::{By, Cause, Connect, PeerHealth, Role};
use crate::key::Key;
use crate::outstanding::is_newer;
use crate::summary::PairKey;
use crate::zero_window::{Announced, ZeroWindows};
use crate::{FlowKey, Kind, Label, Nanos, Outcome, Sample, Segment, SeqNum, Side};

/// Whose attempt to connect a reset ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Only the handshake says: somebody's at the other end, perhaps.
    Unknown,
    /// This host's own, which has made no flow.
    Own,
    /// It is seen from its other end too, with which it counts: both ends are local, as in a capture of all hosts or on
    /// the loopback interface.
    Mirrored,
}

/// The flow that something is counted of.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) key: &'a Key,
    /// Its number.
    pub(crate) index: u32,
    /// The places of all flows, where they are grouped.
    pub(crate) places: Option<&'a Places>,
    pub(crate) label: Label,
    /// What the segment resets.
    pub(crate) attempt: Attempt,
}

impl Of<'_> {
    fn side(self) -> Side {
        self.key.side()
    }

    /// Whose counts these are.
    pub(crate) fn pair(self) -> PairKey {
        let place = self.places.map(|places| places.of(self.index, self.key));
        PairKey::of(&self.key.flow(), place.unwrap_or_default(), self.label)
    }
}

/// A flow of the table, as the ledger counts for it.
#[inline]
pub(crate) fn of_flow<'a>(key: &'a Key, index: u32, places: Option<&'a Places>, label: Label) -> Of<'a> {
    Of { key, index, places, label, attempt: Attempt::Unknown }
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
            listed: Vec::new(),
            waiting: VecDeque::new(),
            max_flows,
            pairs: HashMap::default(),
            pending: HashMap::default(),
            other: PeerHealth::default(),
            windows: ZeroWindows::default(),
        }
    }

    /// Whether connections count with the local side.
    pub(crate) fn is_of_local_side(&self) -> bool {
        self.limits.side == Side::Local
    }

    pub(crate) fn set_limits(&mut self, limits: HealthLimits) {
        self.limits = limits;
    }

    /// Room for so many flows, now that there is none.
    pub(crate) fn resize(&mut self, max_flows: usize) {
        self.max_flows = max_flows;
        self.listed.clear();
        self.waiting.clear();
        self.windows = ZeroWindows::default();
    }

    /// What windows were when is not known of these flows any more.
    pub(crate) fn interrupt(&mut self, which: impl Fn(u32) -> bool) {
        self.windows.forget(which);
    }

    /// A flow is about to be forgotten.
    pub(crate) fn end(&mut self, health: &mut FlowHealth, key: Of<'_>, flow: &Flow) {
        self.spill(health, key);
        self.end_window(key, None);
        if let Some(role) = health.role() {
            // That it was answered may have been lost.
            let is_answered = flow.snd_una().after(health.point);
            self.opened(health, key, role, if is_answered { Connect::Established } else { Connect::Timeout });
        }
    }

    /// The end that is timed has sent this; why, if it had before. [`FlowHealth::sent_as_usual`] counts most.
    pub(crate) fn sent(
        &mut self,
        health: &mut FlowHealth,
        key: Of<'_>,
        segment: &Segment,
        sent: Sent,
        flow: &Flow,
    ) -> Option<Cause> {
        let payload = segment.header.payload;
        // A FIN may be lost as well as data, and is then sent again.
        let is_counted =
            !payload.is_empty() || segment.has(TcpFlags::FIN) && !segment.has(TcpFlags::SYN | TcpFlags::RST);
        if is_counted && !sent.probe {
            self.count(health, key, segment.time(), payload);
        }
        if sent.again.is_some() || segment.has(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) {
            return self.sent_more(health, key, segment, sent, flow);
        }
        None
    }

    /// Counts data, or a FIN without any.
    fn count(&mut self, health: &mut FlowHealth, key: Of<'_>, at: Nanos, payload: Payload) {
        health.count(payload);
        if !health.state.contains(State::LISTED) || health.is_to_spill() {
            self.list(health, key, at);
        }
    }

    /// A flow has something to report. Its pair is known from now on, and it may count on by itself.
    #[cold]
    fn list(&mut self, health: &mut FlowHealth, key: Of<'_>, at: Nanos) {
        if health.bytes & WATCHED != 0 {
            health.bytes &= !WATCHED;
            let waited_ns = self.windows.sent(key.index, at);
            self.count_zero_window(key, waited_ns);
        }
        if !health.state.contains(State::LISTED) {
            health.state.insert(State::LISTED);
            self.listed.push(key.index);
        }
        self.spill(health, key);
    }

    /// What is rare among what is sent.
    #[cold]
    fn sent_more(
        &mut self,
        health: &mut FlowHealth,
        key: Of<'_>,
        segment: &Segment,
        sent: Sent,
        flow: &Flow,
    ) -> Option<Cause> {
        if segment.has(TcpFlags::RST) {
            // Or it is the answer to what is of an older connection.
            if flow.is_reset() {
                self.reset(health, key, segment.time(), By::Local);
            }
            return None;
        }
        if segment.has(TcpFlags::SYN) && (flow.is_crossing(segment) || !flow.is_opened_by(segment)) {
            // Both have opened at once, or it is a second answer to the same SYN: nothing is repeated, and nothing
            // begins.
            self.close(health, key, segment.time(), flow);
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
                self.opened(health, key, role, Connect::Timeout);
            }
            self.end_window(key, None);
            self.open(health, key.index, segment);
        }
        self.close(health, key, segment.time(), flow);
        cause.map(|(_, cause)| cause)
    }

    /// A connection begins with this SYN or SYN-ACK; nothing is left of another.
    #[inline]
    pub(crate) fn open(&mut self, health: &mut FlowHealth, index: u32, segment: &Segment) {
        let is_answer = segment.has(TcpFlags::ACK);
        let state = if is_answer { State::SERVER } else { State::CLIENT };
        health.state = state | health.state & State::LISTED;
        (health.unconfirmed, health.point) = (0, segment.start());
        if !is_answer && self.waiting.len() < self.max_flows {
            self.waiting.push_back((segment.time().plus(self.limits.connect_timeout), index, segment.start()));
        }
    }

    /// A reset of what was never seen, and makes no flow: the answer of a closed port to a SYN (RFC 9293 section
    /// 3.10.7.1).
    pub(crate) fn sent_reset(&mut self, pair: PairKey, attempt: Attempt, segment: &Segment) {
        if !segment.has(TcpFlags::ACK) || segment.start() != SeqNum(0) || pair.side != self.limits.side {
            return;
        }
        let counts = match attempt {
            Attempt::Unknown => self.pairs.get_mut(&pair).unwrap_or(&mut self.other),
            Attempt::Own => self.labelled(pair),
            Attempt::Mirrored => return,
        };
        counts.count_connect(Role::Server.seen_from(pair.side), Connect::Refused);
    }

    /// The other end has sent this, which was answered to by the flow as it is now.
    #[cold]
    pub(crate) fn received(
        &mut self,
        health: &mut FlowHealth,
        key: Of<'_>,
        segment: &Segment,
        before: Before,
        flow: &Flow,
    ) {
        health.heard = Ticks::of(segment.time()).low();
        let advances = flow.snd_una() != before.una;
        // What advanced before was not looked at.
        if advances || before.is_usual {
            health.timer = health.heard;
        }
        if segment.has(TcpFlags::RST) {
            // Or it answers something else than the SYN that is out.
            if flow.is_reset() {
                self.reset(health, key, segment.time(), By::Remote);
            }
            return;
        }
        if advances && before.has_probed {
            // The receiver took it, as it had room by then: it was data.
            self.count(health, key, segment.time(), Payload::new(1));
        }
        if segment.has(TcpFlags::SYN) {
            // Of another connection, perhaps.
            self.end_window(key, None);
        } else if (segment.header.window == 0 || before.window == 0) && self.window(key, segment, before, flow) {
            health.bytes |= WATCHED;
        }
        if segment.has(TcpFlags::ECE) && segment.has(TcpFlags::ACK) && !segment.has(TcpFlags::SYN) {
            self.pair(key).echoes += 1;
        }
        let role = health.role().filter(|_| flow.snd_una().after(health.point));
        let mut spurious = false;
        // Until the handshake is over, what was sent again is a SYN.
        if health.unconfirmed > 0 && health.role().is_none() {
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
            self.opened(health, key, role, Connect::Established);
        }
        if spurious {
            self.pair(key).spurious += 1;
        }
        self.close(health, key, segment.time(), flow);
    }

    /// The other end announces a window of zero, or had before; whether what the flow sends next is to be looked at.
    fn window(&mut self, key: Of<'_>, segment: &Segment, before: Before, flow: &Flow) -> bool {
        // What was overtaken announces nothing (RFC 9293 section 3.10.7.4), and what ends a connection need not.
        let is_current = segment.has(TcpFlags::ACK) && segment.header.window == flow.window();
        if !is_current || segment.has(TcpFlags::FIN) {
            return false;
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
        let (waited_ns, is_watched) = self.windows.announced(key.index, segment.time(), announced);
        self.count_zero_window(key, waited_ns);
        is_watched
    }

    /// A flow is over, or its connection is: since when, if that was seen.
    fn end_window(&mut self, key: Of<'_>, ended: Option<Nanos>) {
        let waited_ns = self.windows.end(key.index, ended);
        self.count_zero_window(key, waited_ns);
    }

    fn count_zero_window(&mut self, key: Of<'_>, ns: u64) {
        if ns > 0 {
            self.pair(key).zero_window_ns += ns;
        }
    }

    /// A RST passed.
    fn reset(&mut self, health: &mut FlowHealth, key: Of<'_>, at: Nanos, by: By) {
        let role = health.role();
        let was_over = health.state.contains(State::OVER);
        health.state.insert(State::OVER);
        self.end_window(key, Some(at));
        match (role, by) {
            (Some(role @ Role::Client), By::Remote) => self.opened(health, key, role, Connect::Refused),
            (Some(role), _) => self.opened(health, key, role, Connect::Reset),
            (None, by) if !was_over && key.side() == self.limits.side => {
                self.pair(key).resets[by.seen_from(key.side()) as usize] += 1;
            }
            _ => {}
        }
    }

    /// What became of a handshake is known.
    fn opened(&mut self, health: &mut FlowHealth, key: Of<'_>, role: Role, result: Connect) {
        health.state.remove(State::CLIENT | State::SERVER);
        let repeated = std::mem::take(&mut health.unconfirmed);
        let is_strangers = is_strangers(role, key.side());
        let repeated = if is_strangers { repeated } else { 0 };
        let is_unknown = is_strangers && result != Connect::Established;
        // With the other side, or the other end, only what was sent again counts.
        let counts = key.side() == self.limits.side && !(is_unknown && key.attempt == Attempt::Mirrored);
        if repeated == 0 && !counts {
            return;
        }
        let pair = if is_unknown { self.stranger(key) } else { self.pair(key) };
        pair.retransmits[Cause::Syn as usize] += u64::from(repeated);
        if counts {
            pair.count_connect(role.seen_from(key.side()), result);
        }
    }

    /// Counts a connection as closed once it is.
    fn close(&mut self, health: &mut FlowHealth, key: Of<'_>, at: Nanos, flow: &Flow) {
        if flow.is_closed() && !health.state.contains(State::OVER) {
            health.state.insert(State::OVER);
            self.end_window(key, Some(at));
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
    pub(crate) fn give_up(&mut self, health: &mut FlowHealth, isn: SeqNum, key: Of<'_>) {
        if health.state.contains(State::CLIENT) && health.point == isn {
            self.opened(health, key, Role::Client, Connect::Timeout);
        }
    }

    /// Puts what a flow has counted by itself into its pair's counts.
    fn spill(&mut self, FlowHealth { bytes, segments, .. }: &mut FlowHealth, key: Of<'_>) {
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
        extensions: &mut Extensions,
        key: impl Fn(u32) -> Option<(Key, Label)>,
        places: Option<&Places>,
        sink: impl FnMut(Option<PairKey>, &PeerHealth),
    ) {
        self.take_so_far(now, extensions, key, places, sink);
        self.pairs.clear();
    }

    /// The same in the middle of an interval: which pairs there are in it stays known, so that what strangers do counts
    /// for them whether or not somebody looks.
    pub(crate) fn take_so_far(
        &mut self,
        now: Nanos,
        extensions: &mut Extensions,
        key: impl Fn(u32) -> Option<(Key, Label)>,
        places: Option<&Places>,
        mut sink: impl FnMut(Option<PairKey>, &PeerHealth),
    ) {
        for index in std::mem::take(&mut self.listed) {
            let health = &mut extensions.of(index).health;
            health.state.remove(State::LISTED);
            if let Some((key, label)) = &key(index) {
                self.spill(health, of_flow(key, index, places, *label));
            }
        }
        for (index, waited_ns) in self.windows.so_far(now) {
            if let Some((key, label)) = &key(index) {
                self.count_zero_window(of_flow(key, index, places, *label), waited_ns);
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

/// Whether what comes of an acknowledgement may tell something of the flow's health, whatever the flow was before.
#[inline]
pub(crate) fn is_of_interest(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Rejected(_) | Outcome::Sample(Sample { kind: Kind::Connect, .. }))
}

/// What a flow was before an acknowledgement.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    is_usual: bool,
    has_probed: bool,
    una: SeqNum,
    window: u16,
    /// The TSval of the only retransmission that was waited for.
    retransmission: Option<u32>,
}

impl Before {
    /// A flow for which [`Flow::received`] had nothing to weigh; all below `una` was acknowledged.
    #[inline]
    pub(crate) fn usual(una: SeqNum) -> Self {
        Self { is_usual: true, has_probed: false, una, window: u16::MAX, retransmission: None }
    }

    pub(crate) fn of(flow: &Flow) -> Self {
        Self {
            is_usual: flow.is_usual(),
            has_probed: flow.has_probed(),
            una: flow.snd_una(),
            window: flow.window(),
            retransmission: flow.single_retransmission(),
        }
    }

    /// Whether what came then may tell something of the flow's health.
    pub(crate) fn is_of_interest(self, segment: &Segment, outcome: &Outcome) -> bool {
        !self.is_usual || !segment.is_plain() || self.window == 0 || is_of_interest(outcome)
    }
}
