//! The engine: a record goes in, an [`Outcome`] comes out.
//!
//! It only coordinates: the [table](super::table) finds the flow, the [flow](super::flow) applies the rules. Time comes
//! with the records and with [`Engine::expire`]; nothing here asks a clock.

use std::hint::black_box;
use std::time::Duration;

use go_metro_common::counted;
use go_metro_common::segment::TcpFlags;

use crate::early::{Early, EarlySegments};
use crate::exchange::Exchange;
use crate::extension::Extensions;
use crate::flow::{Flow, FlowLimits, Sent, Ticks};
use crate::grouping::{Grouping, Places};
use crate::hashed::Hashed;
use crate::health::PeerHealth;
use crate::key::Key;
use crate::labels::Labels;
use crate::ledger::{Attempt, Before, HealthLimits, Ledger, Of, is_of_interest, of_flow};
use crate::outstanding::{Pool, common_for};
use crate::place::Place;
use crate::sample::{Quiet, Rejection, Resent, Response};
use crate::summary::PairKey;
use crate::table::{Ended, FlowTable, Lifetimes, NIL};
use crate::time::nanoseconds;
use crate::{Class, Direction, FlowKey, Kind, Label, Nanos, Outcome, Rtt, Segment, Side, Unlabelled};

/// Bounds and lifetimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// An open flow without a record for this long is forgotten; no sample is longer than this.
    pub idle_ttl: Duration,
    /// A flow that was reset, or closed in both directions, is forgotten after this.
    pub exp_ttl: Duration,
    /// Most flows at once; the least recently active makes room for a new one.
    pub max_flows: u32,
    /// Most transmissions on record per flow.
    pub outstanding_per_flow: u16,
    /// Every segment of the peers comes, as in a capture file or from libpcap; the classifier leaves out those that
    /// repeat an acknowledgement. Only then does a jump in a peer's sequence numbers say that segments from it were
    /// missed.
    pub peers_complete: bool,
    /// A flow that is first seen in the middle may be in a recovery: what it sends for this long may be a
    /// retransmission, and is timed only where TSecr is its echo. Zero: it is taken for new.
    pub settles_after: Duration,
}

impl EngineConfig {
    /// What suits a busy host.
    pub const DEFAULT: Self = Self {
        idle_ttl: Duration::from_secs(300),
        exp_ttl: Duration::from_secs(60),
        max_flows: 262_144,
        outstanding_per_flow: 4096,
        peers_complete: false,
        settles_after: Duration::ZERO,
    };
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

counted! {
    /// What the engine has counted since it was made.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EngineCounters {
        /// Segments of other ports than those that were chosen, which [`Batch`](crate::Batch) left out.
        pub other_ports: u64,
        /// Outbound segments noted.
        pub sent: u64,
        /// Of those, retransmissions.
        pub retransmissions: u64,
        /// Times that a flow's record was thinned.
        pub thinned: u64,
        /// Transmissions not recorded because all flows together had too many outstanding.
        pub pool_full: u64,
        /// Inbound segments from which nothing was to be expected, indexed by [`Quiet`].
        pub quiet: [u64; Quiet::COUNT],
        /// Samples by kind: data, connect.
        pub samples: [u64; 2],
        /// Samples by class: exact, partial, timestamp.
        pub classes: [u64; 3],
        /// Samples whose acknowledgement was kept back by the receiver.
        pub delayed: u64,
        /// Acknowledgements of something new that measured nothing, indexed by [`Rejection`].
        pub rejected: [u64; Rejection::COUNT],
        /// Flows begun.
        pub flows_begun: u64,
        /// Flows that ended after silence.
        pub flows_idle: u64,
        /// Flows that ended after a close or reset.
        pub flows_closed: u64,
        /// Flows evicted to make room.
        pub flows_evicted: u64,
        /// Flows whose labels could not be asked for when they began, as too many waited for theirs.
        pub labels_postponed: u64,
    }
}

impl EngineCounters {
    /// Samples of every kind.
    pub fn samples_total(&self) -> u64 {
        self.samples.iter().sum()
    }

    /// Inbound segments from which nothing was to be expected, for any reason.
    pub fn quiet_total(&self) -> u64 {
        self.quiet.iter().sum()
    }

    /// Acknowledgements rejected for any reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().sum()
    }

    fn note_sent(&mut self, sent: Sent) {
        self.retransmissions += u64::from(sent.again.is_some());
        self.thinned += u64::from(sent.thinned);
        self.pool_full += u64::from(sent.pool_full);
    }

    fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Sent | Outcome::Resent(_) => self.sent += 1,
            Outcome::Quiet(reason) => self.quiet[*reason as usize] += 1,
            Outcome::Rejected(reason) => self.rejected[*reason as usize] += 1,
            Outcome::Response(_) => {}
            Outcome::Sample(sample) => {
                self.samples[match sample.kind {
                    Kind::Data => 0,
                    Kind::Connect => 1,
                }] += 1;
                self.classes[match sample.class {
                    Class::Exact => 0,
                    Class::Partial => 1,
                    Class::Timestamp => 2,
                }] += 1;
                self.delayed += u64::from(sample.delayed);
            }
        }
    }
}

/// Matches segments with their acknowledgements, for all flows.
pub struct Engine {
    table: FlowTable,
    pool: Pool,
    early: EarlySegments,
    limits: FlowLimits,
    config: EngineConfig,
    counters: EngineCounters,
    /// Gaps in the records so far, modulo 2^8.
    gaps: u8,
    /// Records may be missing among those that come now.
    is_doubtful: bool,
    /// Counts health, where that is wanted.
    ledger: Option<Ledger>,
    /// What results are told apart by, where that is wanted.
    labels: Option<Labels>,
    /// Groups flows, where that is wanted.
    places: Option<Places>,
    /// Whether responses are timed.
    times_responses: bool,
    /// What flows have beside their entries, where health is counted or responses are timed; otherwise empty.
    extensions: Extensions,
    /// The flow whose response the last segment has begun, and how long the other end took for that.
    response: Option<(u32, Rtt)>,
    /// The latest that is known on the clock of the records.
    now: Nanos,
    /// Bits for the hashes of the flows that have begun since those of a batch were looked up ([`bit_of`]).
    begun: u64,
}

/// The label of a flow's results.
#[inline]
fn label_of(labels: Option<&Labels>, index: u32) -> Label {
    labels.map_or(Label::NONE, |labels| labels.of(index))
}

/// A bit for a hash; others have the same one.
#[inline]
fn bit_of(hash: u32) -> u64 {
    1 << (hash % 64)
}

impl Engine {
    /// An engine without flows.
    pub fn new(config: EngineConfig) -> Self {
        let max_flows = config.max_flows.max(1) as usize;
        let outstanding = config.outstanding_per_flow.max(2);
        Self {
            table: FlowTable::new(max_flows, Lifetimes { idle: config.idle_ttl, closing: config.exp_ttl }),
            pool: Pool::new(max_flows, common_for(max_flows).max(usize::from(outstanding))),
            early: EarlySegments::new(),
            limits: FlowLimits {
                outstanding,
                longest: Rtt(nanoseconds(config.idle_ttl)),
                peers_complete: config.peers_complete,
                settles_after: Some(config.settles_after)
                    .filter(|span| !span.is_zero())
                    .map(|span| Ticks::at_least(nanoseconds(span))),
            },
            config,
            counters: EngineCounters::default(),
            gaps: 0,
            is_doubtful: false,
            ledger: None,
            labels: None,
            places: None,
            times_responses: false,
            extensions: Extensions::default(),
            response: None,
            now: Nanos(0),
            begun: 0,
        }
    }

    /// Applies another configuration. If it differs, drops all flows and keeps the counters.
    pub fn set_config(&mut self, config: EngineConfig) {
        if config != self.config {
            self.config = config;
            self.drop_flows();
        }
    }

    /// Drops all flows and keeps the counters.
    pub fn drop_flows(&mut self) {
        let max_flows = self.config.max_flows.max(1) as usize;
        let extensions = if self.is_extended() { Extensions::new(max_flows) } else { Extensions::default() };
        let (mut ledger, mut labels, mut places) = (self.ledger.take(), self.labels.take(), self.places.take());
        if let Some(ledger) = &mut ledger {
            let (labels, places) = (labels.as_ref(), places.as_ref());
            let Self { table, extensions, .. } = self;
            table.for_each(|index, key, flow| {
                let of = of_flow(key, index, places, label_of(labels, index));
                ledger.end(&mut extensions.of(index).health, of, flow);
            });
            ledger.resize(max_flows);
        }
        labels.iter_mut().for_each(|labels| labels.resize(max_flows));
        places.iter_mut().for_each(|places| places.resize(max_flows));
        let times_responses = self.times_responses;
        let (counters, is_doubtful, now) = (self.counters, self.is_doubtful, self.now);
        let kept = Self { counters, is_doubtful, now, ledger, labels, places, ..Self::new(self.config) };
        *self = Self { times_responses, extensions, ..kept };
    }

    /// Whether flows have extensions.
    fn is_extended(&self) -> bool {
        self.ledger.is_some() || self.times_responses
    }

    /// Gives flows extensions, if they have none.
    fn extend_flows(&mut self) {
        if !self.is_extended() {
            let mut extensions = Extensions::new(self.config.max_flows.max(1) as usize);
            self.table.for_each(|index, _, _| extensions.begin(index));
            self.extensions = extensions;
        }
    }

    /// Takes them away, if nobody needs them.
    fn release_extensions(&mut self) {
        if !self.is_extended() {
            self.extensions = Extensions::default();
        }
    }

    /// Puts flows together in groups from now on, or no longer: [`Sample::place`](crate::Sample::place) says where each
    /// belongs. A flow's group is looked up when it begins; those that are there are looked up again when they next
    /// have something to report.
    pub fn group(&mut self, grouping: Option<Grouping>) {
        match (grouping, &mut self.places) {
            (None, places) => *places = None,
            (Some(grouping), Some(places)) => places.set(grouping),
            (Some(grouping), places) => {
                *places = Some(Places::new(grouping, self.config.max_flows.max(1) as usize));
            }
        }
    }

    /// Counts [`PeerHealth`] from now on, within these limits, or no longer.
    pub fn count_health(&mut self, limits: Option<HealthLimits>) {
        match (limits, &mut self.ledger) {
            (None, _) => {
                self.ledger = None;
                self.release_extensions();
            }
            (Some(limits), Some(ledger)) => ledger.set_limits(limits),
            (Some(limits), None) => {
                self.extend_flows();
                self.extensions.forget_health();
                self.ledger = Some(Ledger::new(limits, self.config.max_flows.max(1) as usize));
            }
        }
    }

    /// Times the other end's responses from now on, of flows that begin then, or no longer: [`Outcome::Response`].
    pub fn time_responses(&mut self, wanted: bool) {
        if wanted && !self.times_responses {
            self.extend_flows();
            self.extensions.forget_exchanges();
        }
        self.times_responses = wanted;
        self.release_extensions();
    }

    /// The response that this segment has begun, if it is the one that was recorded last; a [`Batch`](crate::Batch)
    /// hands it out by itself.
    #[inline]
    pub fn take_response(&mut self, segment: &Segment) -> Option<Response> {
        let (index, took) = self.response.take()?;
        let label = label_of(self.labels.as_ref(), index);
        let place = self.places.as_ref().and_then(|places| Some(places.of(index, &self.table.key(index)?)));
        Some(Response { flow: segment.flow, at: segment.time(), took, label, place: place.unwrap_or_default() })
    }

    /// Hands out what was counted of each pair of hosts since the last time, up to the last record or
    /// [`Engine::expire`]; none for those beyond
    /// [`HealthLimits::max_pairs`] together, and for what strangers made that showed no more than an address. What is
    /// of flows whose labels are being found out comes once they are known.
    pub fn take_health(&mut self, sink: impl FnMut(Option<PairKey>, &PeerHealth)) {
        let Self { table, labels, ledger, places, extensions, now, .. } = self;
        if let Some(ledger) = ledger {
            let key = |index| Some((table.key(index)?, label_of(labels.as_ref(), index)));
            ledger.take(*now, extensions, key, places.as_ref(), sink);
        }
    }

    /// Hands out the flows of the local end whose SYNs wait for their answers, and their pairs: of those
    /// [`Engine::take_health`] tells once they are answered, or have not been in time.
    pub fn awaiting_answers(&mut self, mut sink: impl FnMut(&FlowKey, PairKey)) {
        let Self { table, labels, ledger, places, extensions, .. } = self;
        if ledger.is_none() {
            return;
        }
        table.for_each(|index, key, flow| {
            if key.side() == Side::Remote && extensions.of(index).health.awaits_answer(flow) {
                let of = of_flow(key, index, places.as_ref(), label_of(labels.as_ref(), index));
                sink(&key.flow(), of.pair());
            }
        });
    }

    /// Tells results apart by their flows' labels from now on, which are to be found out by [`Engine::take_unlabelled`]
    /// and told by [`Engine::label`]; or no longer. Where they were told apart before, all labels are asked for again.
    pub fn label_flows(&mut self, wanted: bool) {
        self.label_pending(Label::UNKNOWN);
        self.labels = wanted.then(|| {
            let mut labels = Labels::new(self.config.max_flows.max(1) as usize);
            self.table.for_each(|index, _, _| labels.postpone(index));
            labels
        });
    }

    /// Hands out the flows whose labels are to be found out, in exchange for an empty vector with as much room.
    pub fn take_unlabelled(&mut self, empty: &mut Vec<Unlabelled>) {
        self.labels.iter_mut().for_each(|labels| labels.take(empty));
    }

    /// Says the label of a flow that was handed out: each once, also if it is [`Label::UNKNOWN`].
    /// Call [`Summaries::label`](crate::Summaries::label) with the same label as well.
    pub fn label(&mut self, flow: &FlowKey, label: Label) {
        let key = Key::from(flow);
        let index = self.table.find(&key, self.table.hash(&key));
        self.labels.iter_mut().for_each(|labels| labels.answer(index, label));
        self.ledger.iter_mut().for_each(|ledger| ledger.label(flow, label));
    }

    /// Gives the flows whose labels are being found out this one, and what is kept back of them, as nobody waits for
    /// the answers any more.
    pub fn label_pending(&mut self, label: Label) {
        self.labels.iter_mut().for_each(|labels| labels.answer_all(label));
        self.ledger.iter_mut().for_each(|ledger| ledger.label_pending(label));
    }

    /// As [`Engine::take_health`], in the middle of what that is the end of: a pair of which something was counted
    /// since stays one for which what strangers do counts.
    pub fn take_health_so_far(&mut self, sink: impl FnMut(Option<PairKey>, &PeerHealth)) {
        let Self { table, labels, ledger, places, extensions, now, .. } = self;
        if let Some(ledger) = ledger {
            let key = |index| Some((table.key(index)?, label_of(labels.as_ref(), index)));
            ledger.take_so_far(*now, extensions, key, places.as_ref(), sink);
        }
    }

    /// Whether every segment of the peers comes from now on, as [`EngineConfig::peers_complete`] has it. What is known
    /// of flows stays; if that changes, it is to be interrupted.
    pub fn set_peers_complete(&mut self, peers_complete: bool) {
        self.config.peers_complete = peers_complete;
        self.limits.peers_complete = peers_complete;
    }

    /// Counts a segment of other ports than the chosen, which is not to be recorded.
    #[inline]
    pub(super) fn note_other_ports(&mut self) {
        self.counters.other_ports += 1;
    }

    /// Takes one segment and says what became of it. Segments come in the order of their times: a source that has them
    /// in another sorts them, or calls [`Engine::interrupt_flow`].
    pub fn record(&mut self, segment: &Segment) -> Outcome {
        let key = Key::from(&segment.flow);
        // Nothing was looked up.
        self.begun = u64::MAX;
        self.response = None;
        self.now = self.now.max(segment.time());
        self.record_hashed(segment, &key, self.table.hash(&key), NIL)
    }

    /// Takes these segments, in their order, and says of each what became of it: as [`Engine::record`] does, but that
    /// what is known of all their flows is fetched from memory at the same time rather than one after the other.
    pub(super) fn record_all(&mut self, hashed: &mut [Hashed], sink: &mut impl FnMut(&Segment, Outcome)) {
        let mut warm = 0;
        for Hashed { segment, key, hash, .. } in hashed.iter_mut() {
            *key = Key::from(&segment.flow);
            *hash = self.table.hash(key);
            warm ^= self.table.touch_index(*hash);
        }
        for Hashed { hash, likely, .. } in hashed.iter_mut() {
            *likely = self.table.touch_entry(*hash, &self.pool, &mut warm);
            warm ^= self.extensions.touch(*likely);
        }
        // Only the reading counts, not what was read.
        black_box(warm);
        self.begun = 0;
        for Hashed { segment, key, hash, likely } in hashed.iter() {
            let outcome = self.record_hashed(segment, key, *hash, *likely);
            sink(segment, outcome);
            if self.response.is_some()
                && let Some(response) = self.take_response(segment)
            {
                sink(segment, Outcome::Response(response));
            }
        }
        if let Some(last) = hashed.last() {
            self.now = self.now.max(last.segment.time());
        }
    }

    #[inline]
    fn record_hashed(&mut self, segment: &Segment, key: &Key, hash: u32, likely: u32) -> Outcome {
        let mut outcome = match segment.direction() {
            Direction::Egress => self.sent(segment, key, hash, likely),
            Direction::Ingress => self.received(segment, key, hash, likely),
        };
        if self.is_doubtful && matches!(outcome, Outcome::Sample(_)) {
            outcome = Outcome::Rejected(Rejection::Unseen);
        }
        self.counters.note(&outcome);
        outcome
    }

    /// Forgets the flows whose time is over at `now`, on the clock of the records.
    pub fn expire(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        while let Some((index, ended)) = self.table.next_over(now) {
            self.end(index, ended);
        }
        while let Some(ledger) = &mut self.ledger
            && let Some((index, isn)) = ledger.next_overdue(now)
        {
            if let Some(key) = &self.table.key(index) {
                let label = label_of(self.labels.as_ref(), index);
                let of = of_flow(key, index, self.places.as_ref(), label);
                ledger.give_up(&mut self.extensions.of(index).health, isn, of);
            }
        }
    }

    /// Forgets what is outstanding on an interface, because segments may have passed it unseen.
    pub fn interrupt(&mut self, ifindex: u32) {
        self.interrupt_where(|key| key.ifindex() == ifindex);
    }

    /// The same of some flows.
    fn interrupt_where(&mut self, which: impl Fn(&Key) -> bool) {
        let Self { table, pool, extensions, ledger, .. } = self;
        if let Some(ledger) = ledger {
            ledger.interrupt(|index| table.key(index).as_ref().is_none_or(&which));
        }
        table.for_each_mut(&which, |index, flow| {
            flow.interrupt(&mut pool.share(index));
            extensions.interrupt(index);
        });
    }

    /// Forgets what is outstanding of a flow, because its segments may not come in their order.
    pub fn interrupt_flow(&mut self, flow: &FlowKey) {
        let key = Key::from(flow);
        if let Some(index) = self.table.find(&key, self.table.hash(&key)) {
            self.table.entry_mut(index).flow.interrupt(&mut self.pool.share(index));
            self.extensions.interrupt(index);
        }
    }

    /// Forgets what is outstanding everywhere, because the clock of the records has jumped.
    pub fn interrupt_all(&mut self) {
        self.interrupt_where(|_| true);
        self.now = Nanos(0);
    }

    /// Records of any flow were lost between the last one and the next: what is outstanding is not timed. A flow
    /// notices with its next segment.
    pub fn note_gap(&mut self) {
        self.gaps = self.gaps.wrapping_add(1);
        if self.gaps == 0 {
            // A flow that was silent since this number was last in use would not notice.
            let Self { pool, extensions, .. } = self;
            self.table.for_each_mut(
                |_| true,
                |index, flow| {
                    flow.enter_gap(0, &mut pool.share(index));
                    extensions.interrupt(index);
                },
            );
        }
    }

    /// As [`Self::note_gap`], of one flow alone: what a recording knows of the flows that it holds.
    pub fn note_gap_of(&mut self, flow: &FlowKey) {
        let key = Key::from(flow);
        if let Some(index) = self.table.find(&key, self.table.hash(&key)) {
            self.table.entry_mut(index).flow.enter_gap(self.gaps, &mut self.pool.share(index));
        }
    }

    /// Says whether records may be missing among those that come from now on, nobody knows where: then nothing that
    /// they acknowledge is timed. What is before and after that [`Self::note_gap`] keeps apart.
    pub fn set_doubtful(&mut self, is_doubtful: bool) {
        self.is_doubtful = is_doubtful;
    }

    /// Number of flows now.
    pub fn flows(&self) -> usize {
        self.table.len()
    }

    /// What was counted so far.
    pub fn counters(&self) -> &EngineCounters {
        &self.counters
    }

    #[inline(never)]
    fn sent(&mut self, segment: &Segment, key: &Key, hash: u32, likely: u32) -> Outcome {
        let attempt = self.attempt_reset_by(segment, hash);
        let Some(index) = self.live_flow(segment, key, hash, likely) else {
            // A reset of what was never seen, as a port scan gets: nothing to time, so no flow.
            if segment.has(TcpFlags::RST) {
                // Nobody asks for the label of what makes no flow.
                let label = self.labels.as_ref().map_or(Label::NONE, |_| Label::UNKNOWN);
                let place = self.places.as_ref().map(|places| places.of_refused(key)).unwrap_or_default();
                let pair = PairKey::of(&key.flow(), place, label);
                self.ledger.iter_mut().for_each(|ledger| ledger.sent_reset(pair, attempt, segment));
            } else if !segment.is_empty() {
                self.begin(segment, key, hash);
            }
            return Outcome::Sent;
        };
        if let Some(places) = &mut self.places {
            places.sent(index, segment);
        }
        let entry = self.table.entry_mut(index);
        let sent = entry.flow.sent(segment, &mut self.pool.share(index), self.limits);
        let is_of_exchange = self.times_responses && entry.flow.asks();
        if let Some(life) = entry.touch(segment.time()) {
            self.table.relist(index, life, segment.time());
        }
        self.counters.note_sent(sent);
        if let Some(labels) = &mut self.labels {
            labels.of_record(index, &segment.flow);
        }
        if let Some(extension) = self.extensions.get(index) {
            if is_of_exchange {
                extension.exchange.sent(segment, sent.again.is_some());
            }
            if self.ledger.is_some() && !extension.health.sent_as_usual(segment, sent) {
                return self.count_sent((index, key, attempt), segment, sent);
            }
        }
        Outcome::Sent
    }

    /// What is sent tells more of the flow's health than that there is more of it.
    #[cold]
    fn count_sent(&mut self, (index, key, attempt): (u32, &Key, Attempt), segment: &Segment, sent: Sent) -> Outcome {
        let Some(ledger) = &mut self.ledger else { return Outcome::Sent };
        let label = label_of(self.labels.as_ref(), index);
        let of = Of { attempt, ..of_flow(key, index, self.places.as_ref(), label) };
        let flow = &self.table.entry_mut(index).flow;
        let Some(cause) = ledger.sent(&mut self.extensions.of(index).health, of, segment, sent, flow) else {
            return Outcome::Sent;
        };
        let place = self.places.as_mut().map_or_else(Place::default, |places| places.settle(index, key));
        Outcome::Resent(Resent { cause, label, place })
    }

    #[inline(never)]
    fn received(&mut self, segment: &Segment, key: &Key, hash: u32, likely: u32) -> Outcome {
        // Only what this end sends makes a flow: a flood of inbound segments costs no memory.
        let Some(index) = self.live_flow(segment, key, hash, likely) else {
            self.received_early(segment, hash);
            return Outcome::Quiet(Quiet::NothingSent);
        };
        let entry = self.table.entry_mut(index);
        let una = entry.flow.snd_una();
        let (counts, mut before) = (self.ledger.is_some(), None);
        let weighs = |flow: &Flow| before = counts.then(|| Before::of(flow));
        let mut outcome = entry.flow.received(segment, &mut self.pool.share(index), self.limits, weighs);
        if let Outcome::Sample(sample) = &mut outcome {
            if let Some(labels) = &mut self.labels {
                sample.label = labels.of_record(index, &segment.flow);
            }
            if let Some(places) = &mut self.places {
                sample.place = places.settle(index, key);
            }
        }
        if self.times_responses
            && Exchange::is_of_interest(segment, &entry.flow)
            && let Some(took) = self.extensions.of(index).exchange.received(segment, &outcome, &mut entry.flow)
            && !self.is_doubtful
        {
            self.response = Some((index, took));
        }
        if let Some(life) = entry.touch(segment.time()) {
            self.table.relist(index, life, segment.time());
        }
        let before = match before {
            Some(before) => Some(before).filter(|before| before.is_of_interest(segment, &outcome)),
            None => is_of_interest(&outcome).then(|| Before::usual(una)),
        };
        if let Some(before) = before {
            self.count_received((index, key, hash), segment, before);
        }
        outcome
    }

    /// What the other end has sent may tell something of the flow's health.
    #[cold]
    fn count_received(&mut self, (index, key, hash): (u32, &Key, u32), segment: &Segment, before: Before) {
        let attempt = self.attempt_reset_by(segment, hash);
        if let Some(ledger) = &mut self.ledger {
            let label = label_of(self.labels.as_ref(), index);
            let of = Of { attempt, ..of_flow(key, index, self.places.as_ref(), label) };
            let flow = &self.table.entry_mut(index).flow;
            ledger.received(&mut self.extensions.of(index).health, of, segment, before, flow);
        }
    }

    /// An inbound segment of a flow that has not begun.
    #[inline(never)]
    fn received_early(&mut self, segment: &Segment, hash: u32) {
        let is_reset = segment.has(TcpFlags::RST);
        let ack = segment.timed_ack().filter(|_| !is_reset).map(|ack| segment.sent_before(ack));
        let is_own_attempt = segment.flow.side == Side::Local
            && segment.has(TcpFlags::SYN)
            && self.ledger.as_ref().is_some_and(Ledger::is_of_local_side);
        let is_followed = self.limits.peers_complete || is_own_attempt;
        let peer_nxt = (is_followed && !is_reset).then(|| segment.end());
        if segment.has(TcpFlags::SYN | TcpFlags::RST) {
            // The peer's numbers begin or end.
            self.early.take(hash);
        }
        if ack.is_some() || peer_nxt.is_some() {
            self.early.add(hash, segment, ack, peer_nxt);
        }
    }

    /// Whose attempt to connect this segment ends, if it resets one, as far as that is known; the hash is its flow's.
    #[inline]
    fn attempt_reset_by(&self, segment: &Segment, hash: u32) -> Attempt {
        if segment.has(TcpFlags::RST) && self.ledger.is_some() {
            self.weigh_attempt(segment, hash)
        } else {
            Attempt::Unknown
        }
    }

    #[cold]
    fn weigh_attempt(&self, segment: &Segment, hash: u32) -> Attempt {
        // To the local end nothing but its SYN shows an attempt of this host: it is not what makes a flow.
        let is_answer = |hash| segment.ack().is_some_and(|ack| self.early.of(hash).peer_nxt == Some(ack));
        if segment.flow.side == Side::Local && is_answer(hash) {
            return Attempt::Own;
        }
        let mirrored = Key::from(&segment.flow.mirrored());
        let hash = self.table.hash(&mirrored);
        let is_mirrored = self.table.find(&mirrored, hash).is_some() || is_answer(hash);
        if is_mirrored { Attempt::Mirrored } else { Attempt::Unknown }
    }

    /// The segment's flow, unless its time was over before the segment came.
    #[inline(always)]
    fn live_flow(&mut self, segment: &Segment, key: &Key, hash: u32, likely: u32) -> Option<u32> {
        let index = if self.table.is_at(likely, key) {
            likely
        } else if likely == NIL && self.begun & bit_of(hash) == 0 {
            // It was not there, and did not begin since.
            return None;
        } else {
            self.table.find(key, hash)?
        };
        if let Some(ended) = self.table.is_over(index, segment.time()) {
            self.end(index, ended);
            return None;
        }
        if self.table.entry_mut(index).flow.note_gaps(self.gaps, &mut self.pool.share(index)) {
            self.extensions.interrupt(index);
        }
        Some(index)
    }

    #[cold]
    fn end(&mut self, index: u32, ended: Ended) {
        self.remove(index);
        self.count_end(ended);
    }

    fn remove(&mut self, index: u32) {
        if let Some(ledger) = &mut self.ledger {
            let entry = self.table.entry_mut(index);
            let label = label_of(self.labels.as_ref(), index);
            let of = of_flow(entry.key(), index, self.places.as_ref(), label);
            ledger.end(&mut self.extensions.of(index).health, of, &entry.flow);
        }
        self.table.remove(index, &mut self.pool);
    }

    /// A flow begins with what this end sends.
    #[inline(never)]
    fn begin(&mut self, segment: &Segment, key: &Key, hash: u32) {
        while self.table.is_full() {
            let Some(oldest) = self.table.least_recent() else { break };
            self.remove(oldest);
            self.counters.flows_evicted += 1;
        }
        self.counters.flows_begun += 1;
        let index = self.table.next_index();
        self.pool.make_room_for(index);
        let (mut early, mut pool) = (self.early.take(hash), self.pool.share(index));
        early.peer_nxt = early.peer_nxt.filter(|_| self.limits.peers_complete);
        let mut sent = Sent::default();
        let is_opened_alone = early == Early::NOTHING && Flow::is_opened_alone(segment, self.limits);
        let flow = if is_opened_alone {
            Flow::opened_alone(segment, self.gaps, &mut pool)
        } else {
            let mut flow = Flow::after_gaps(self.gaps);
            flow.follow_early(early);
            sent = flow.weigh_sent(segment, &mut pool, self.limits);
            self.counters.note_sent(sent);
            flow
        };
        if let Some(labels) = &mut self.labels {
            // To the local end it is the remote end that is timed, and with whose segment a flow begins.
            let opens = !segment.has(TcpFlags::ACK);
            let is_opened_here = segment.has(TcpFlags::SYN) && opens == (key.side() == Side::Remote);
            let is_asked = labels.begin(index, segment.flow, is_opened_here);
            self.counters.labels_postponed += u64::from(!is_asked);
        }
        if let Some(places) = &mut self.places {
            places.begin(index, segment);
        }
        if self.is_extended() {
            self.extensions.begin(index);
        }
        if let Some(ledger) = &mut self.ledger {
            let health = &mut self.extensions.of(index).health;
            if is_opened_alone && segment.header.payload.is_empty() {
                ledger.open(health, index, segment);
            } else {
                let label = label_of(self.labels.as_ref(), index);
                let of = of_flow(key, index, self.places.as_ref(), label);
                ledger.sent(health, of, segment, sent, &flow);
            }
        }
        self.table.insert(*key, hash, segment.time(), flow);
        self.begun |= bit_of(hash);
    }

    fn count_end(&mut self, ended: Ended) {
        match ended {
            Ended::Idle => self.counters.flows_idle += 1,
            Ended::Closed => self.counters.flows_closed += 1,
        }
    }
}
