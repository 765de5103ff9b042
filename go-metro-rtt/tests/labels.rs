//! Results of flows whose labels come later, as they are told apart by them.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use go_metro_rtt::{
    Endpoint, Engine, EngineConfig, FlowKey, HealthLimits, Interval, Label, Outcome, Segment, Side, Stats, Summaries,
    SummaryLimits, Unlabelled,
};
use support::trace::parse;

const MANY: usize = 8192;

struct Measured {
    engine: Engine,
    summaries: Summaries,
}

impl Measured {
    fn new(max_pairs: usize) -> Self {
        let mut engine = Engine::new(EngineConfig { max_flows: MANY as u32, ..EngineConfig::default() });
        engine.count_health(Some(HealthLimits {
            max_pairs,
            connect_timeout: Duration::from_secs(10),
            side: Side::Remote,
        }));
        engine.label_flows(true);
        Self { engine, summaries: Summaries::new(SummaryLimits { max_pairs, ..SummaryLimits::default() }) }
    }

    /// A trace of the flow with this local port.
    fn see(&mut self, port: u16, trace: &str) {
        for line in trace.lines().filter_map(parse) {
            let flow = FlowKey { local: Endpoint { port, ..line.segment.flow.local }, ..line.segment.flow };
            if let Outcome::Sample(sample) = self.engine.record(&Segment { flow, ..line.segment }) {
                self.summaries.add(&sample);
            }
        }
    }

    fn asked(&mut self) -> Vec<Unlabelled> {
        let mut asked = Vec::with_capacity(MANY);
        self.engine.take_unlabelled(&mut asked);
        asked
    }

    fn answer(&mut self, flow: &FlowKey, label: Label) {
        self.engine.label(flow, label);
        self.summaries.label(flow, label);
    }

    /// Of each label: samples of data and handshakes, segments, connections that were established.
    fn taken(&mut self) -> (Vec<(Label, [u64; 4])>, Interval) {
        let Self { engine, summaries } = self;
        engine.take_health(|pair, health| summaries.add_health(pair, health));
        let interval = summaries.take();
        let mut rows: Vec<_> = interval
            .pairs
            .iter()
            .map(|(key, summary)| {
                let [data, connect] =
                    [&summary.data, &summary.connect].map(|stats| stats.as_ref().map_or(0, Stats::count));
                let health = summary.health.as_deref().copied().unwrap_or_default();
                let established = health.connects.iter().map(|role| role[0]).sum();
                (key.label, [data, connect, health.segments, established])
            })
            .collect();
        rows.sort_unstable();
        (rows, interval)
    }
}

const OPENED: &str = "0 > S 1000\n 50 < SA 7000 ack 1001";
const EXCHANGE: &str = "60 > 1001+100\n 90 < ack 1101";

fn label(number: u32) -> Label {
    Label::new(number).unwrap()
}

#[test]
fn what_comes_before_the_label_is_known_is_reported_under_it_and_not_before() {
    let mut measured = Measured::new(8);
    measured.see(1, OPENED);
    measured.see(1, EXCHANGE);
    let asked = measured.asked();
    assert_eq!((asked.len(), asked[0].is_opened_here, asked[0].label), (1, true, Label::PENDING));
    assert!(measured.asked().is_empty(), "each is asked for once");
    let (rows, interval) = measured.taken();
    assert!(rows.is_empty() && interval.other.is_none(), "{interval:?}");

    measured.answer(&asked[0].flow, label(7));
    measured.see(1, "100 > 1101+100\n 140 < ack 1201");
    assert_eq!(measured.taken().0, [(label(7), [2, 1, 2, 1])]);
    measured.see(1, "200 > 1201+100\n 240 < ack 1301");
    assert_eq!(measured.taken().0, [(label(7), [1, 0, 1, 0])]);
}

#[test]
fn who_has_opened_a_connection_is_said_whichever_end_is_timed() {
    for (side, trace, is_opened_here) in [
        (Side::Remote, "0 > S 1000", true),
        (Side::Remote, "0 > SA 1000 ack 7001", false),
        (Side::Remote, "0 > 1000+100", false),
        (Side::Local, "0 > S 1000", false),
        (Side::Local, "0 > SA 1000 ack 7001", true),
    ] {
        let mut measured = Measured::new(8);
        let segment = parse(trace).unwrap().segment;
        measured.engine.record(&Segment { flow: FlowKey { side, ..segment.flow }, ..segment });
        assert_eq!(measured.asked()[0].is_opened_here, is_opened_here, "{side:?}: {trace}");
    }
}

#[test]
fn flows_of_one_pair_are_told_apart_by_their_labels_and_those_alike_are_together() {
    let mut measured = Measured::new(8);
    for port in 1..=4 {
        measured.see(port, OPENED);
        measured.see(port, EXCHANGE);
    }
    for (asked, number) in measured.asked().into_iter().zip([Some(5), Some(6), Some(5), None]) {
        measured.answer(&asked.flow, number.map_or(Label::UNKNOWN, label));
    }
    let each = [1, 1, 1, 1];
    assert_eq!(measured.taken().0, [(label(5), each.map(|n| n * 2)), (label(6), each), (Label::UNKNOWN, each)]);
}

#[test]
fn labels_beyond_the_bound_of_pairs_are_folded_and_counted() {
    let mut measured = Measured::new(1);
    for port in 1..=3 {
        measured.see(port, OPENED);
    }
    for (asked, number) in measured.asked().into_iter().zip(5..) {
        measured.answer(&asked.flow, label(number));
    }
    let (rows, interval) = measured.taken();
    assert_eq!((rows.len(), interval.folded_samples), (1, 2));
    assert_eq!(interval.other.unwrap().connect.unwrap().count(), 2);
}

#[test]
fn a_flow_that_is_forgotten_before_the_answer_is_reported_with_it() {
    let mut measured = Measured::new(8);
    measured.see(1, OPENED);
    measured.see(1, EXCHANGE);
    let asked = measured.asked();
    measured.engine.set_config(EngineConfig { max_flows: 3, ..EngineConfig::default() });
    assert_eq!(measured.engine.flows(), 0);
    measured.answer(&asked[0].flow, label(7));
    assert_eq!(measured.taken().0, [(label(7), [1, 1, 1, 1])]);
}

#[test]
fn what_nobody_answers_is_unknown_once_it_is_given_up() {
    let mut measured = Measured::new(8);
    measured.see(1, OPENED);
    measured.see(1, EXCHANGE);
    measured.engine.label_pending(Label::UNKNOWN);
    measured.summaries.label_pending(Label::UNKNOWN);
    assert_eq!(measured.taken().0, [(Label::UNKNOWN, [1, 1, 1, 1])]);
}

#[test]
fn flows_for_which_there_is_no_room_to_ask_are_unknown_until_they_are_asked_for_later() {
    let mut measured = Measured::new(8);
    for port in 0..MANY as u16 {
        measured.see(port, "0 > S 1000");
    }
    let asked = measured.asked();
    assert!(asked.len() < MANY);
    assert_eq!(measured.engine.counters().labels_postponed, (MANY - asked.len()) as u64);
    let last = MANY as u16 - 1;
    assert!(asked.iter().all(|asked| asked.flow.local.port != last));
    for asked in &asked {
        measured.answer(&asked.flow, label(3));
    }
    measured.see(last, "50 < SA 7000 ack 1001");
    let again = measured.asked();
    assert_eq!(again.len(), 1);
    measured.answer(&again[0].flow, label(9));
    measured.see(last, EXCHANGE);
    let (rows, _) = measured.taken();
    assert_eq!(rows, [(label(9), [1, 1, 1, 1])], "a sample that asks is of the answer too");
}

#[test]
fn labels_are_asked_for_again_where_they_are_to_be_others_and_none_where_none_are_wanted() {
    let mut measured = Measured::new(8);
    measured.see(1, OPENED);
    let asked = measured.asked();
    measured.answer(&asked[0].flow, label(7));
    measured.engine.label_flows(true);
    measured.see(1, EXCHANGE);
    let asked = measured.asked();
    assert_eq!(asked.len(), 1);
    measured.answer(&asked[0].flow, label(8));
    let rows: Vec<(Label, u64)> = measured.taken().0.into_iter().map(|(label, [data, ..])| (label, data)).collect();
    assert_eq!(rows, [(label(7), 0), (label(8), 1)]);

    measured.engine.label_flows(false);
    measured.see(1, "100 > 1101+100\n 140 < ack 1201");
    assert!(measured.asked().is_empty());
    assert_eq!(measured.taken().0, [(Label::NONE, [1, 0, 1, 0])]);
}

#[test]
fn a_label_is_a_number_but_for_those_with_a_meaning_of_their_own() {
    for number in [0, u32::MAX - 2, u32::MAX - 1, u32::MAX] {
        assert_eq!(Label::new(number), None);
    }
    assert!(Label::new(1).is_some());
}
