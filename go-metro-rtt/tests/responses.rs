//! How long the other end takes for its responses, and which are not reported. Each is a packet trace (the language is
//! in `support/trace.rs`).

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use go_metro_rtt::{
    Batch, Engine, EngineConfig, HealthLimits, Label, Outcome, Segment, Side, Sides, Summaries, SummaryLimits,
};
use support::trace::parse;

/// An engine that times responses.
fn engine() -> Engine {
    let mut engine = Engine::new(EngineConfig { max_flows: 8, ..EngineConfig::default() });
    engine.time_responses(true);
    engine
}

/// Of these segments each response, in milliseconds.
fn played(engine: &mut Engine, trace: &str) -> Vec<f64> {
    let mut found = Vec::new();
    for line in trace.lines().filter_map(parse) {
        engine.record(&line.segment);
        found.extend(engine.take_response(&line.segment).map(|response| response.took.as_millis_f64()));
    }
    found
}

/// Of a connection with a round trip of 50 ms.
fn after_handshake(trace: &str) -> Vec<f64> {
    played(&mut engine(), &format!("0 > S 1000\n 50 < SA 7000 ack 1001\n 51 > A 1001 ack 7001\n{trace}"))
}

#[test]
fn a_response_takes_what_is_more_than_the_round_trip() {
    // With the acknowledgement of the request, after it, and the next one.
    let trace = "60  > AP 1001+100 ack 7001
                 130 < AP 7001+10 ack 1101
                 140 > AP 1101+100 ack 7011
                 190 < ack 1201
                 230 < AP 7011+10 ack 1201
                 240 > AP 1201+100 ack 7021
                 290 < AP 7021+10 ack 1301";
    assert_eq!(after_handshake(trace), [20.0, 40.0, 1e-6]);
}

#[test]
fn a_request_ends_with_its_last_byte_and_a_response_begins_with_its_first() {
    // One write that is sent as acknowledgements come; two that follow each other at once.
    let trace = "60  > 1001+1000 ack 7001
                 61  > 2001+1000 ack 7001
                 110 < ack 2001
                 120 > AP 3001+100 ack 7001
                 200 < 7001+1000 ack 3101
                 201 < AP 8001+1000 ack 3101
                 210 > AP 3101+10 ack 9001
                 211 > AP 3111+10 ack 9001
                 281 < AP 9001+1 ack 3121";
    assert_eq!(after_handshake(trace), [30.0, 20.0]);
}

#[test]
fn what_is_ambiguous_is_not_reported() {
    let response = "200 < AP 7001+10 ack 1201";
    for (why, trace) in [
        ("two requests", "60 > AP 1001+100 ack 7001\n 62 > AP 1101+100 ack 7001"),
        ("sent again", "60 > AP 1001+200 ack 7001\n 150 > AP 1001+200 ack 7001"),
        ("not all of it", "60 > AP 1001+200 ack 7001\n 120 < AP 7001+10 ack 1101"),
        ("before the request came", "60 > AP 1001+200 ack 7001\n 100 < AP 7001+10 ack 1001"),
        ("its first byte was missed", "60 > AP 1001+200 ack 6991"),
        ("a later byte was expected", "60 > AP 1001+200 ack 7005"),
        ("reset", "60 > AP 1001+200 ack 7001\n 100 < R 7001"),
    ] {
        let trace = format!("{trace}\n{response}");
        assert_eq!(after_handshake(&trace), [0.0; 0], "{why}");
        // The next one is.
        let next = format!("{trace}\n 300 > AP 1201+10 ack 7011\n 360 < AP 7011+10 ack 1211");
        assert_eq!(after_handshake(&next), [10.0], "{why}");
    }
}

#[test]
fn only_the_end_that_opened_the_connection_asks_and_its_handshake_was_timed() {
    let exchange = "60 > AP 1001+100 ack 7001\n 130 < AP 7001+10 ack 1101";
    assert_eq!(played(&mut engine(), exchange), [0.0; 0], "not seen to open");
    let server = format!("0 < S 7000\n 1 > SA 1000 ack 7001\n 51 < ack 1001\n{exchange}");
    assert_eq!(played(&mut engine(), &server), [0.0; 0], "the other end asks");
    let repeated = format!("0 > S 1000\n 10 > S 1000\n 50 < SA 7000 ack 1001\n{exchange}");
    assert_eq!(played(&mut engine(), &repeated), [0.0; 0], "no round trip is known");
    // Another connection on the same ports.
    let again = format!("0 > S 1\n 50 < SA 1 ack 2\n 51 > F 2\n 52 < S 6000\n 53 > SA 1000 ack 6001\n{exchange}");
    assert_eq!(played(&mut engine(), &again), [0.0; 0]);
}

#[test]
fn where_records_are_missing_or_left_out_nothing_is_reported() {
    let open = "0 > S 1000\n 50 < SA 7000 ack 1001\n 60 > AP 1001+100 ack 7001";
    let response = "130 < AP 7001+10 ack 1101";
    type Lose = fn(&mut Engine);
    let lost: [(&str, Lose); 4] = [
        ("a gap", Engine::note_gap),
        ("doubt", |engine| engine.set_doubtful(true)),
        ("an interruption", |engine| engine.interrupt(1)),
        ("a clock that jumps", Engine::interrupt_all),
    ];
    for (why, lose) in lost {
        let mut engine = engine();
        assert_eq!(played(&mut engine, open), [0.0; 0]);
        lose(&mut engine);
        assert_eq!(played(&mut engine, response), [0.0; 0], "{why}");
    }
    let mut engine = engine();
    let mut lines: Vec<Segment> = format!("{open}\n{response}").lines().filter_map(parse).map(|l| l.segment).collect();
    // Per-flow sampling has left something out before the request.
    lines[2].header.bits.0 |= go_metro_rtt::Bits::RESYNC;
    for segment in &lines {
        engine.record(segment);
    }
    assert_eq!(engine.take_response(&lines[3]), None);
}

#[test]
fn a_batch_hands_it_out_behind_the_sample_and_summaries_keep_it_apart() {
    let mut engine = engine();
    engine.count_health(Some(HealthLimits {
        max_pairs: 2,
        connect_timeout: Duration::from_secs(10),
        side: Side::Remote,
    }));
    let (mut batch, mut summaries) = (Batch::new(), Summaries::new(SummaryLimits::default()));
    let mut outcomes = Vec::new();
    let mut sink = |_: &Segment, outcome: Outcome| {
        match &outcome {
            Outcome::Sample(sample) => summaries.add(sample),
            Outcome::Response(response) => summaries.add_response(response),
            _ => {}
        }
        outcomes.push(outcome);
    };
    let trace = "0   > S 1000
                 50  < SA 7000 ack 1001
                 60  > AP 1001+100 ack 7001
                 130 < AP 7001+10 ack 1101";
    trace.lines().filter_map(parse).for_each(|line| batch.push(&line.segment, &mut engine, &mut sink));
    batch.flush(&mut engine, &mut sink);
    assert!(matches!(outcomes[3..], [Outcome::Sample(_), Outcome::Response(_)]), "{outcomes:?}");
    let summary = summaries.take().pairs.remove(0).1;
    assert_eq!((summary.count(), summary.response.unwrap().last().as_millis_f64()), (2, 20.0));
    assert_eq!(engine.counters().samples_total(), 2);
}

#[test]
fn its_label_may_come_later_and_its_pair_is_one_of_many() {
    let mut engine = engine();
    engine.label_flows(true);
    let mut summaries = Summaries::new(SummaryLimits { max_pairs: 1, ..SummaryLimits::default() });
    let trace = |port: u16| {
        format!(
            "0 > S 1000 port {port}\n 50 < SA 7000 ack 1001 port {port}\n 60 > AP 1001+100 ack 7001 port {port}\n \
             130 < AP 7001+10 ack 1101 port {port}"
        )
    };
    let flows: Vec<Segment> =
        [1, 2].iter().map(|port| parse(trace(*port).lines().next().unwrap()).unwrap().segment).collect();
    for line in [trace(1), trace(2)].concat().replace("1101 port 1", "1101 port 1\n").lines().filter_map(parse) {
        engine.record(&line.segment);
        engine.take_response(&line.segment).iter().for_each(|response| summaries.add_response(response));
    }
    summaries.label(&flows[0].flow, Label::new(7).unwrap());
    summaries.label(&flows[1].flow, Label::new(8).unwrap());
    let interval = summaries.take();
    let count = |summary: &go_metro_rtt::PairSummary| summary.response.as_ref().unwrap().count();
    assert_eq!((interval.pairs[0].0.label, count(&interval.pairs[0].1)), (Label::new(7).unwrap(), 1));
    assert_eq!(count(&interval.other.unwrap()), 1);
}

#[test]
fn of_a_server_here_it_is_its_own_time_to_the_local_side() {
    let mut engine = engine();
    let trace = "0   < S 7000
                 1   > SA 1000 ack 7001
                 51  < ack 1001
                 52  < AP 7001+100 ack 1001
                 82  > AP 1001+10 ack 7101";
    let mut found = Vec::new();
    for line in trace.lines().filter_map(parse) {
        line.segment.for_each_side(Sides::BOTH, &mut |segment| {
            engine.record(segment);
            found.extend(
                engine.take_response(segment).map(|response| (response.flow.side, response.took.as_millis_f64())),
            );
        });
    }
    assert_eq!(found, [(Side::Local, 29.0)]);
}
