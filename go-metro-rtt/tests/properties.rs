//! Properties of the engine.
//!
//! Two kinds: on arbitrary segments the engine says what the slow, obvious model says; and over a simulated path that
//! loses, reorders and duplicates, every sample is the true time from a transmission to the acknowledgement it caused.

mod support;

use go_metro_common::segment::{Bits, Payload, SegmentHeader, TcpFlags};
use go_metro_rtt::{
    Addr, Batch, Class, Endpoint, Engine, EngineConfig, FlowKey, Group, Interval, Kind, Label, Outcome, PairKey,
    PairSummary, Place, Rtt, Sample, Segment, Side, Stats, Summaries, SummaryLimits, shard_of,
};
use proptest::prelude::*;
use support::model::{Model, Seg};
use support::property::cases;

/// Unwrapped sequence numbers start here, so that what is below the first is still positive.
const BASE: u64 = 1 << 33;
/// Those of the peer; they wrap soon.
const PEER: u64 = BASE - 2000;

fn segment(s: &Seg) -> Segment {
    let bit = |condition: bool, bit: u8| if condition { bit } else { 0 };
    let flow = FlowKey {
        local: Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40000 },
        remote: Endpoint { addr: Addr::v4([10, 0, 0, 2]), port: 80 },
        ifindex: 1,
        side: Side::Remote,
    };
    let header = SegmentHeader {
        time_ns: s.at,
        seq: s.seq as u32,
        ack: s.ack.unwrap_or_default() as u32,
        tsval: s.tsval.unwrap_or_default(),
        tsecr: s.tsecr.unwrap_or_default(),
        payload: Payload::new(s.len as u32),
        window: s.window,
        flags: TcpFlags(bit(s.syn, TcpFlags::SYN) | bit(s.fin, TcpFlags::FIN) | bit(s.ack.is_some(), TcpFlags::ACK)),
        bits: Bits(
            bit(s.egress, Bits::EGRESS)
                | bit(s.tsval.is_some() || s.tsecr.is_some(), Bits::TIMESTAMPS)
                | bit(s.sack_permitted, Bits::SACK_PERMITTED)
                | bit(s.sack_above, Bits::SACK_ABOVE)
                | bit(s.dsack, Bits::DSACK),
        ),
        ..SegmentHeader::default()
    };
    Segment { flow, header }
}

fn config() -> EngineConfig {
    EngineConfig { outstanding_per_flow: u16::MAX, max_flows: 2, peers_complete: true, ..EngineConfig::default() }
}

fn sample(outcome: &Outcome) -> Option<(Kind, Class, u64)> {
    match outcome {
        Outcome::Sample(s) => Some((s.kind, s.class, s.rtt.0)),
        _ => None,
    }
}

/// A step of an arbitrary conversation, relative to what was said before.
#[derive(Clone, Debug)]
enum Step {
    /// Sends `len` bytes, `back` before `snd_nxt` or `gap` after it.
    Send { wait: u64, back: u64, gap: u64, len: u64, fin: bool },
    /// Acknowledges `below` the highest sent (negative: above), echoing one of the TSvals sent; `len` bytes that begin
    /// `jump` after what the peer sent before (negative: before that).
    Ack { wait: u64, below: i64, echo: usize, sack: bool, dsack: bool, window: u16, len: u64, jump: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![3 => 0u64..3_000_000, 1 => 0u64..400_000_000];
    let back = prop_oneof![3 => Just(0u64), 1 => 0u64..600];
    let gap = prop_oneof![8 => Just(0u64), 1 => 0u64..300];
    let below = prop_oneof![3 => (0i64..12).prop_map(|k| k * 100), 1 => -50i64..900];
    prop_oneof![
        (wait.clone(), back, gap, prop_oneof![Just(100u64), 1u64..400], prop::bool::weighted(0.02))
            .prop_map(|(wait, back, gap, len, fin)| Step::Send { wait, back, gap, len, fin }),
        (
            wait,
            below,
            0usize..6,
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.03),
            prop_oneof![5 => Just(500u16), 1 => Just(400u16)],
            prop_oneof![4 => Just(0u64), 1 => 1u64..100],
            prop_oneof![20 => Just(0i64), 1 => -200i64..300],
        )
            .prop_map(|(wait, below, echo, sack, dsack, window, len, jump)| Step::Ack {
                wait,
                below,
                echo,
                sack,
                dsack,
                window,
                len,
                jump
            }),
    ]
}

/// Turns steps into segments: TSvals tick each millisecond, as on Linux.
fn conversation(first: u64, syn: bool, sack_permitted: bool, timestamps: bool, steps: &[Step]) -> Vec<Seg> {
    let empty = Seg {
        at: 1_000_000_000,
        egress: true,
        syn: false,
        fin: false,
        seq: first,
        len: 0,
        ack: Some(PEER),
        window: 500,
        tsval: None,
        tsecr: None,
        sack_permitted: false,
        sack_above: false,
        dsack: false,
    };
    let tick = |at: u64| timestamps.then_some((at / 1_000_000) as u32);
    let (mut segments, mut at, mut nxt, mut peer_nxt) = (Vec::new(), empty.at, first, PEER + 1);
    if syn {
        segments.push(Seg { syn: true, ack: None, sack_permitted, tsval: tick(at), ..empty });
        nxt += 1;
        at += 5_000_000;
        let (ack, seq) = (Some(nxt), PEER);
        segments.push(Seg { at, egress: false, syn: true, seq, ack, sack_permitted, tsecr: tick(empty.at), ..empty });
    }
    let mut echoes = vec![tick(empty.at)];
    for step in steps {
        match *step {
            Step::Send { wait, back, gap, len, fin } => {
                at += wait;
                let seq = nxt.saturating_sub(back).max(first.saturating_sub(500)) + gap;
                // Now and then it has received what passed unseen.
                let ack = Some(peer_nxt + if len % 4 == 0 { 150 } else { 0 });
                segments.push(Seg { at, seq, len, fin, ack, tsval: tick(at), ..empty });
                echoes.push(tick(at));
                nxt = nxt.max(seq + len + u64::from(fin));
            }
            Step::Ack { wait, below, echo, sack, dsack, window, len, jump } => {
                at += wait;
                let ack = Some(nxt.saturating_add_signed(-below));
                let tsecr = echoes[echoes.len().saturating_sub(1 + echo)];
                let (seq, sack_above) = (peer_nxt.saturating_add_signed(jump), sack);
                peer_nxt = peer_nxt.max(seq + len);
                segments.push(Seg { at, egress: false, seq, len, ack, window, tsecr, sack_above, dsack, ..empty });
            }
        }
    }
    segments
}

/// Where sequence numbers begin: anywhere, and often just below the wrap.
fn first() -> impl Strategy<Value = u64> {
    prop_oneof![BASE..BASE + (1 << 32), (BASE + (1 << 32) - 3000)..(BASE + (1 << 32) + 10)]
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn the_engine_agrees_with_the_model(
        first in first(), syn: bool, sack_permitted: bool, timestamps: bool,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut engine = Engine::new(config());
        let mut model = Model::default();
        for s in conversation(first, syn, sack_permitted, timestamps, &steps) {
            let outcome = engine.record(&segment(&s));
            prop_assert_eq!(sample(&outcome), model.segment(&s), "at {:?}", s);
        }
    }

    #[test]
    fn a_bounded_record_finds_no_sample_that_the_model_does_not_know(
        first in first(), timestamps: bool, bound in 2u16..12,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut engine = Engine::new(EngineConfig { outstanding_per_flow: bound, ..config() });
        let mut model = Model::default();
        for s in conversation(first, false, false, timestamps, &steps) {
            let outcome = engine.record(&segment(&s));
            let expected = model.segment(&s);
            if let Some(found) = sample(&outcome) {
                prop_assert_eq!(Some(found), expected, "at {:?}", s);
            }
        }
    }

    #[test]
    fn nothing_depends_on_where_sequence_numbers_begin(
        a in first(), b in first(), syn: bool, sack_permitted: bool, timestamps: bool,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let run = |first| {
            let mut engine = Engine::new(config());
            conversation(first, syn, sack_permitted, timestamps, &steps)
                .iter().map(|s| sample(&engine.record(&segment(s)))).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(a), run(b));
    }

    #[test]
    fn the_account_closes_on_arbitrary_segments(
        records in prop::collection::vec(
            (any::<u32>(), any::<u32>(), 0u32..3000, any::<u8>(), any::<u8>(), 0u64..1 << 40, 0u16..4),
            1..300,
        ),
    ) {
        let bounds = EngineConfig { max_flows: 2, outstanding_per_flow: 4, ..EngineConfig::default() };
        let mut engine = Engine::new(bounds);
        let (mut segments, mut outcomes) = (Vec::new(), Vec::new());
        let total = records.len() as u64;
        for (seq, ack, len, flags, bits, at, port) in records {
            let mut s = segment(&Seg {
                at, egress: false, syn: false, fin: false, seq: u64::from(seq), len: u64::from(len),
                ack: Some(u64::from(ack)),
                window: 0, tsval: None, tsecr: None, sack_permitted: false, sack_above: false, dsack: false,
            });
            s.header.flags.0 = flags;
            s.header.bits.0 = bits;
            s.flow.local.port = port;
            let outcome = engine.record(&s);
            segments.push(s);
            outcomes.push((s, outcome));
            if let Outcome::Sample(found) = outcome {
                prop_assert!(found.rtt.0 > 0 && found.rtt.0 <= 300_000_000_000);
            }
            prop_assert!(engine.flows() <= 2);
        }
        let c = *engine.counters();
        // What goes in by batches comes out as what went in one by one.
        let mut batched = Engine::new(bounds);
        let mut batch = Batch::new();
        let mut outcomes_of_batches = Vec::new();
        for s in &segments {
            batch.push(s, &mut batched, &mut |s, outcome| outcomes_of_batches.push((*s, outcome)));
        }
        batch.flush(&mut batched, &mut |s, outcome| outcomes_of_batches.push((*s, outcome)));
        prop_assert_eq!(&outcomes_of_batches, &outcomes);
        prop_assert_eq!(batched.counters(), &c);
        // And where there is room for all, several engines that share the flows say what one says.
        let roomy = EngineConfig { max_flows: 8, ..bounds };
        let (mut one, mut three) = (Engine::new(roomy), [(); 3].map(|()| Engine::new(roomy)));
        for s in &segments {
            prop_assert_eq!(one.record(s), three[shard_of(&s.flow, 0, 3) as usize].record(s));
        }
        prop_assert_eq!(c.sent + c.quiet_total() + c.samples_total() + c.rejected_total(), total);
        prop_assert_eq!(c.samples_total(), c.classes.iter().sum::<u64>());
    }
}

/// A sample of one of many flows of few pairs.
fn flow_sample((local, port, remote, rtt, connect): (u8, u16, u8, u64, bool)) -> Sample {
    let flow = FlowKey {
        local: Endpoint { addr: Addr::v4([10, 0, 0, local]), port },
        remote: Endpoint { addr: Addr::v4([10, 0, 1, remote]), port: 443 },
        ifindex: 2,
        side: Side::Remote,
    };
    let kind = if connect { Kind::Connect } else { Kind::Data };
    let (acked_at, ack) = (go_metro_rtt::Nanos(0), go_metro_rtt::SeqNum(0));
    let (label, place) = (Label::NONE, Place::default());
    Sample { flow, acked_at, ack, rtt: Rtt(rtt), kind, class: Class::Exact, delayed: false, label, place }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn the_interval_of_several_engines_is_that_of_one_but_for_the_order_of_a_pairs_samples(
        samples in prop::collection::vec((0u8..3, 0u16..50, 0u8..3, 1u64..5_000_000_000, any::<bool>()), 0..400),
        shards in 1u32..6, kept_samples in prop_oneof![Just(10_usize), Just(1024)],
    ) {
        let limits = SummaryLimits { kept_samples, ..SummaryLimits::default() };
        let mut one = Summaries::new(limits);
        let mut several: Vec<Summaries> = (0..shards).map(|_| Summaries::new(limits)).collect();
        for sample in samples.iter().copied().map(flow_sample) {
            one.add(&sample);
            several[shard_of(&sample.flow, 3, shards) as usize].add(&sample);
        }
        let parts: Vec<Interval> = several.iter_mut().map(Summaries::take).collect();
        let lasts = |key: &PairKey| -> Vec<Option<Rtt>> {
            let pairs = parts.iter().flat_map(|part| &part.pairs).filter(|(its, _)| its == key);
            pairs.map(|(_, pair)| pair.data.as_ref().map(Stats::last)).collect()
        };
        let (whole, last_of) = (one.take(), lasts);
        let possible: Vec<(PairKey, Vec<Option<Rtt>>)> =
            whole.pairs.iter().map(|(key, _)| (*key, last_of(key))).collect();
        let mut merged = Interval::merged(parts, limits.max_pairs);
        let mut whole = whole;
        merged.pairs.sort_by_key(|(key, _)| *key);
        whole.pairs.sort_by_key(|(key, _)| *key);
        prop_assert_eq!((merged.folded_samples, merged.other.is_none()), (0, true));
        prop_assert_eq!(merged.pairs.len(), whole.pairs.len());
        for ((key, merged), (its, whole)) in merged.pairs.iter().zip(&whole.pairs) {
            prop_assert_eq!(key, its);
            prop_assert_eq!(merged.count(), whole.count());
            for (merged, whole) in [(&merged.data, &whole.data), (&merged.connect, &whole.connect)] {
                prop_assert_eq!(merged.is_some(), whole.is_some());
                let (Some(merged), Some(whole)) = (merged, whole) else { continue };
                prop_assert_eq!(merged.count(), whole.count());
                prop_assert_eq!((merged.min(), merged.max()), (whole.min(), whole.max()));
                prop_assert!((merged.mean_ms() - whole.mean_ms()).abs() < 1e-9);
                prop_assert!((merged.sum_seconds() - whole.sum_seconds()).abs() < 1e-9);
                prop_assert_eq!(merged.histogram(), whole.histogram());
                for q in [0.0, 0.5, 0.95, 0.99, 1.0] {
                    prop_assert_eq!(merged.quantile(q), whole.quantile(q), "quantile {}", q);
                }
                prop_assert_eq!(merged.kept().len(), whole.kept().len());
                let span = merged.max().as_millis_f64() - merged.min().as_millis_f64();
                prop_assert!(merged.jitter_ms().unwrap_or(0.0) <= span + 1e-9);
            }
            // The last is the last of one of them.
            let known = possible.iter().find(|(its, _)| its == key);
            let known = known.map(|(_, lasts)| lasts.as_slice()).unwrap_or_default();
            prop_assert!(merged.data.is_none() || known.contains(&merged.data.as_ref().map(Stats::last)));
        }
    }

    #[test]
    fn a_group_says_of_its_hosts_samples_what_one_host_would_have_said_of_all_of_them(
        samples in prop::collection::vec((Just(0u8), 0u16..50, 0u8..40, 1u64..5_000_000_000, any::<bool>()), 1..400),
        kept_samples in prop_oneof![Just(10_usize), Just(1024)],
    ) {
        let limits = SummaryLimits { kept_samples, max_pairs: 2, ..SummaryLimits::default() };
        let by_host = SummaryLimits { max_pairs: 40, ..limits };
        let [mut grouped, mut one, mut hosts] = [limits, limits, by_host].map(Summaries::new);
        let place = Place { group: Group::numbered(7), ..Place::default() };
        for sample in samples.iter().copied().map(flow_sample) {
            grouped.add(&Sample { place, ..sample });
            let remote = Endpoint { addr: Addr::v4([10, 9, 9, 9]), ..sample.flow.remote };
            one.add(&Sample { flow: FlowKey { remote, ..sample.flow }, ..sample });
            hosts.add(&sample);
        }
        let [mut grouped, mut one, hosts] = [grouped, one, hosts].map(|mut each| each.take());
        prop_assert_eq!((grouped.pairs.len(), grouped.folded_samples), (1, 0), "hosts use no room");
        let ((key, grouped), (_, one)) = (grouped.pairs.remove(0), one.pairs.remove(0));
        prop_assert_eq!(key.place, place);
        // In the order in which they came, so that jitter and the last are the same too.
        let figures = |stats: &Stats| {
            let quantiles = [0.0, 0.5, 0.95, 0.99, 1.0].map(|q| stats.quantile(q));
            (stats.count(), stats.last(), stats.min(), stats.max(), stats.jitter_ms(), quantiles)
        };
        for (grouped, one) in [(&grouped.data, &one.data), (&grouped.connect, &one.connect)] {
            prop_assert_eq!(grouped.as_ref().map(figures), one.as_ref().map(figures));
            prop_assert_eq!(grouped.as_ref().map(Stats::histogram), one.as_ref().map(Stats::histogram));
            prop_assert_eq!(grouped.as_ref().map(Stats::mean_ms), one.as_ref().map(Stats::mean_ms));
        }
        // And what the hosts' own summaries come to, put together.
        let mut merged = PairSummary::default();
        hosts.pairs.iter().for_each(|(_, host)| merged.merge(host));
        for (grouped, merged) in [(&grouped.data, &merged.data), (&grouped.connect, &merged.connect)] {
            let (Some(grouped), Some(merged)) = (grouped, merged) else {
                prop_assert!(grouped.is_none() && merged.is_none());
                continue;
            };
            let extremes = |stats: &Stats| (stats.count(), stats.min(), stats.max());
            prop_assert_eq!(extremes(grouped), extremes(merged));
            prop_assert_eq!(grouped.histogram(), merged.histogram());
            for q in [0.0, 0.5, 0.95, 0.99, 1.0] {
                prop_assert_eq!(grouped.quantile(q), merged.quantile(q), "quantile {}", q);
            }
        }
    }

    #[test]
    fn the_interval_of_several_engines_keeps_to_the_bound_of_pairs_and_loses_no_sample(
        samples in prop::collection::vec((0u8..4, 0u16..50, 0u8..4, 1u64..5_000_000_000, any::<bool>()), 0..400),
        shards in 1u32..6, max_pairs in 1usize..20,
    ) {
        let limits = SummaryLimits { max_pairs, ..SummaryLimits::default() };
        let mut several: Vec<Summaries> = (0..shards).map(|_| Summaries::new(limits)).collect();
        for sample in samples.iter().copied().map(flow_sample) {
            several[shard_of(&sample.flow, 3, shards) as usize].add(&sample);
        }
        let merged = Interval::merged(several.iter_mut().map(Summaries::take), max_pairs);
        prop_assert!(merged.pairs.len() <= max_pairs);
        prop_assert_eq!(merged.other.as_ref().map_or(0, PairSummary::count), merged.folded_samples);
        let apart: u64 = merged.pairs.iter().map(|(_, pair)| pair.count()).sum();
        prop_assert_eq!(apart + merged.folded_samples, samples.len() as u64);
    }
}

/// A path between a sender and a receiver that does what RFC 9293, 2018, 2883 and 7323 say, seen from the sender.
mod path {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{BASE, Seg};

    /// What happens to one transmission.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Fate {
        pub(super) lost: bool,
        pub(super) delay: u64,
        pub(super) duplicate: Option<u64>,
    }

    /// What the receiver can do.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Options {
        pub(super) timestamps: bool,
        pub(super) sack: bool,
        /// How long an acknowledgement takes.
        pub(super) back: u64,
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Send { start: u64, len: u64, fate: usize },
        Arrive { start: u64, len: u64, tsval: u32, sent_at: u64 },
        Ack { ack: u64, tsecr: u32, sack_above: bool, dsack: bool, caused_by: u64 },
        Timeout,
    }

    /// A segment that the sender's tap sees, with the departure of the transmission that caused it if it is an ACK.
    pub(super) struct Seen {
        pub(super) seg: Seg,
        pub(super) caused_by: Option<u64>,
    }

    const LEN: u64 = 100;

    /// Sends `count` segments `spacing` apart; what is not acknowledged in time is sent again.
    pub(super) fn simulate(count: usize, spacing: u64, timeout: u64, fates: &[Fate], options: Options) -> Vec<Seen> {
        let mut events: BTreeMap<(u64, u64), Event> = BTreeMap::new();
        let mut order = 0;
        let mut add = |events: &mut BTreeMap<(u64, u64), Event>, at: u64, event: Event| {
            order += 1;
            events.insert((at, order), event);
        };
        for k in 0..count {
            let event = Event::Send { start: BASE + k as u64 * LEN, len: LEN, fate: k };
            add(&mut events, 1_000_000_000 + k as u64 * spacing, event);
        }
        add(&mut events, 1_000_000_000 + timeout, Event::Timeout);
        let (mut next_fate, mut una) = (count, BASE);
        let (mut rcv_nxt, mut last_ack_sent, mut ts_recent) = (BASE, BASE, 0u32);
        let mut out_of_order: Vec<u64> = Vec::new();
        let mut sent: BTreeSet<u64> = BTreeSet::new();
        let mut seen = Vec::new();
        let blank = Seg {
            at: 0,
            egress: true,
            syn: false,
            fin: false,
            seq: BASE,
            len: 0,
            ack: Some(7000),
            window: 500,
            tsval: None,
            tsecr: None,
            sack_permitted: false,
            sack_above: false,
            dsack: false,
        };
        while let Some(((at, _), event)) = events.pop_first() {
            match event {
                Event::Send { start, len, fate } => {
                    let tsval = (at / 1_000_000) as u32;
                    sent.insert(start);
                    let seg = Seg { at, seq: start, len, tsval: options.timestamps.then_some(tsval), ..blank };
                    seen.push(Seen { seg, caused_by: None });
                    let fate = fates[fate % fates.len()];
                    let arrival = Event::Arrive { start, len, tsval, sent_at: at };
                    if !fate.lost {
                        add(&mut events, at + fate.delay, arrival);
                    }
                    if let Some(delay) = fate.duplicate {
                        add(&mut events, at + delay, arrival);
                    }
                }
                Event::Arrive { start, len, tsval, sent_at } => {
                    // RFC 7323 section 4.3.
                    if tsval >= ts_recent && start <= last_ack_sent {
                        ts_recent = tsval;
                    }
                    let known = start < rcv_nxt || out_of_order.contains(&start);
                    if !known {
                        out_of_order.push(start);
                    }
                    while let Some(place) = out_of_order.iter().position(|s| *s == rcv_nxt) {
                        out_of_order.swap_remove(place);
                        rcv_nxt += len;
                    }
                    last_ack_sent = rcv_nxt;
                    let sack_above = options.sack && !out_of_order.is_empty();
                    let dsack = options.sack && known;
                    let ack = Event::Ack { ack: rcv_nxt, tsecr: ts_recent, sack_above, dsack, caused_by: sent_at };
                    add(&mut events, at + options.back, ack);
                }
                Event::Ack { ack, tsecr, sack_above, dsack, caused_by } => {
                    una = una.max(ack);
                    let tsecr = options.timestamps.then_some(tsecr);
                    let seg = Seg { at, egress: false, seq: 7000, ack: Some(ack), tsecr, sack_above, dsack, ..blank };
                    seen.push(Seen { seg, caused_by: Some(caused_by) });
                }
                Event::Timeout if una < BASE + count as u64 * LEN && next_fate < count * 20 => {
                    // What was never sent cannot be sent again.
                    if sent.contains(&una) {
                        add(&mut events, at, Event::Send { start: una, len: LEN, fate: next_fate });
                        next_fate += 1;
                    }
                    add(&mut events, at + timeout, Event::Timeout);
                }
                Event::Timeout => {}
            }
        }
        seen
    }
}

fn fate() -> impl Strategy<Value = path::Fate> {
    let delay = prop_oneof![4 => Just(20_000_000u64), 1 => 20_000_000u64..60_000_000];
    (prop::bool::weighted(0.08), delay.clone(), prop::option::weighted(0.05, delay))
        .prop_map(|(lost, delay, duplicate)| path::Fate { lost, delay, duplicate })
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn over_loss_reordering_and_duplication_every_sample_is_true(
        count in 1usize..60, spacing in prop_oneof![100_000u64..2_000_000, 2_000_000u64..30_000_000],
        timeout in 100_000_000u64..300_000_000, fates in prop::collection::vec(fate(), 8..200), timestamps: bool,
    ) {
        let options = path::Options { timestamps, sack: true, back: 10_000_000 };
        let mut engine = Engine::new(config());
        for seen in path::simulate(count, spacing, timeout, &fates, options) {
            let outcome = engine.record(&segment(&seen.seg));
            if let Some((_, _, rtt)) = sample(&outcome) {
                prop_assert_eq!(seen.caused_by, Some(seen.seg.at - rtt), "{:?}", seen.seg);
            }
        }
    }

    #[test]
    fn on_a_path_of_microseconds_every_sample_is_true_too(
        count in 1usize..60, spacing in 2_000u64..300_000, timeout in 300_000u64..900_000,
        fates in prop::collection::vec(fate(), 8..200), timestamps: bool,
    ) {
        // A small part of everything, but for the tick of the timestamps: a retransmission mostly has the TSval of what
        // it repeats.
        let quick = |fate: &path::Fate| path::Fate {
            delay: fate.delay / 400, duplicate: fate.duplicate.map(|delay| delay / 400), ..*fate
        };
        let fates: Vec<path::Fate> = fates.iter().map(quick).collect();
        let options = path::Options { timestamps, sack: true, back: 40_000 };
        let mut engine = Engine::new(config());
        for seen in path::simulate(count, spacing, timeout, &fates, options) {
            let outcome = engine.record(&segment(&seen.seg));
            if let Some((_, _, rtt)) = sample(&outcome) {
                prop_assert_eq!(seen.caused_by, Some(seen.seg.at - rtt), "{:?}", seen.seg);
            }
        }
    }

    #[test]
    fn over_a_clean_path_every_segment_is_a_sample(
        count in 1usize..200, spacing in 100_000u64..50_000_000, timestamps: bool, sack: bool,
    ) {
        let fates = [path::Fate { lost: false, delay: 20_000_000, duplicate: None }];
        let mut engine = Engine::new(config());
        let options = path::Options { timestamps, sack, back: 10_000_000 };
        for seen in path::simulate(count, spacing, 1_000_000_000_000, &fates, options) {
            let outcome = engine.record(&segment(&seen.seg));
            prop_assert_eq!(sample(&outcome).map(|s| s.2), seen.caused_by.map(|_| 30_000_000));
        }
        prop_assert_eq!(engine.counters().samples_total(), count as u64);
    }
}
