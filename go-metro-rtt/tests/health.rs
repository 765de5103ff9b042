//! What is counted of connections: causes of retransmissions, how they open, how they end. Each is a packet trace (the
//! language is in `support/trace.rs`).

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use go_metro_common::segment::{Bits, SegmentHeader};
use go_metro_rtt::{
    By, Cause, Connect, Engine, EngineConfig, FlowKey, HealthLimits, Nanos, PairKey, PeerHealth, Role, Segment, Side,
    Sides,
};
use support::path::Random;
use support::trace::parse;

const LIMITS: HealthLimits =
    HealthLimits { max_pairs: 2, connect_timeout: Duration::from_secs(10), side: Side::Remote };

/// An engine that has seen a trace.
fn after(trace: &str) -> Engine {
    let mut engine = Engine::new(EngineConfig { max_flows: 8, ..EngineConfig::default() });
    engine.count_health(Some(LIMITS));
    for line in trace.lines().filter_map(parse) {
        engine.record(&line.segment);
    }
    engine
}

/// What an engine has counted, in words: of pairs, and of strangers.
fn taken(engine: &mut Engine) -> String {
    let mut all = Vec::new();
    engine.take_health(|pair, health| all.push((pair.is_none(), words(health))));
    all.sort();
    all.into_iter().map(|(other, words)| if other { format!("[{words}]") } else { words }).collect::<Vec<_>>().join(" ")
}

fn words(health: &PeerHealth) -> String {
    let mut words = Vec::new();
    let mut add = |name: String, count: u64| {
        if count > 0 {
            words.push(format!("{name} {count}"));
        }
    };
    add("segments".into(), health.segments);
    add("bytes".into(), health.bytes);
    Cause::ALL.iter().for_each(|cause| add(cause.name().into(), health.retransmits[*cause as usize]));
    add("spurious".into(), health.spurious);
    for role in Role::ALL {
        for result in Connect::ALL {
            let count = health.connects[role as usize][result as usize];
            add(format!("{} {}", role.name(), result.name()), count);
        }
    }
    By::ALL.iter().for_each(|by| add(format!("reset by {}", by.name()), health.resets[*by as usize]));
    add("closed".into(), health.closes);
    add("zero window".into(), health.zero_window_ms());
    add("echoes".into(), health.echoes);
    words.join(", ")
}

/// What is counted of a trace.
fn counted(trace: &str) -> String {
    taken(&mut after(trace))
}

/// The same after a handshake with SACK, at sequence number 1001.
fn after_handshake(trace: &str) -> String {
    let opened = format!("0 > S 1000 sackperm\n 50 < SA 7000 ack 1001 sackperm\n{trace}");
    counted(&opened).replace("client established 1", "opened")
}

#[test]
fn payload_is_counted_and_an_acknowledgement_is_not() {
    assert_eq!(after_handshake("60 > 1001+100\n 61 > 1101+4344/3\n 90 > 5445+0"), "segments 4, bytes 4444, opened");
}

#[test]
fn counts_are_of_the_time_since_the_last_report() {
    let mut engine = after("60 > 1001+100\n 61 > 1101+100");
    assert_eq!(taken(&mut engine), "segments 2, bytes 200");
    assert_eq!(taken(&mut engine), "");
    engine.record(&parse("70 > 1201+5").unwrap().segment);
    assert_eq!(taken(&mut engine), "segments 1, bytes 5");
}

#[test]
fn what_the_receiver_is_said_to_miss_is_sent_again_fast() {
    let trace = "60  > 1001+100
                 61  > 1101+100
                 62  > 1201+100
                 110 < ack 1001 sack
                 111 > 1001+100
                 160 < ack 1301";
    assert_eq!(after_handshake(trace), "segments 4, bytes 400, fast 1, opened");
}

#[test]
fn what_is_still_missing_as_acknowledgements_advance_is_sent_again_fast() {
    let trace = "60  > 1001+100
                 61  > 1101+100
                 62  > 1201+100
                 63  > 1301+100
                 110 < ack 1001 sack
                 111 > 1001+100
                 160 < ack 1201
                 161 > 1201+100
                 162 > 1301+100
                 210 < ack 1401";
    assert_eq!(after_handshake(trace), "segments 7, bytes 700, fast 3, opened");
}

#[test]
fn three_duplicates_are_the_same_without_sack() {
    let trace = "0   > S 1000
                 50  < SA 7000 ack 1001
                 60  > 1001+100
                 61  > 1101+100
                 62  > 1201+100
                 63  > 1301+100
                 110 < ack 1001
                 111 < ack 1001
                 112 < ack 1001
                 113 > 1001+100
                 163 < ack 1401";
    assert_eq!(counted(trace), "segments 5, bytes 500, fast 1, client established 1");
}

#[test]
fn the_last_segment_is_sent_again_as_a_probe_and_the_first_after_the_timer() {
    let trace = "60  > 1001+100
                 61  > 1101+100
                 170 > 1101+100
                 470 > 1001+100
                 520 < ack 1101
                 521 > 1101+100
                 570 < ack 1201";
    assert_eq!(after_handshake(trace), "segments 5, bytes 500, timeout 2, tail_probe 1, opened");
}

#[test]
fn without_sack_there_is_no_probe() {
    let trace = "0   > S 1000
                 50  < SA 7000 ack 1001
                 60  > 1001+100
                 360 > 1001+100
                 960 > 1001+100
                 999 < ack 1101";
    assert_eq!(counted(trace), "segments 3, bytes 300, timeout 2, client established 1");
}

#[test]
fn a_retransmission_that_was_lost_too_waits_for_the_timer() {
    let trace = "60  > 1001+100
                 61  > 1101+100
                 110 < ack 1001 sack
                 111 > 1001+100
                 450 > 1001+100
                 500 < ack 1201";
    assert_eq!(after_handshake(trace), "segments 4, bytes 400, timeout 1, fast 1, opened");
}

#[test]
fn what_a_receiver_is_given_time_to_say_is_no_timeout() {
    // With D-SACKs a sender waits up to a round trip whether what is missing was only overtaken.
    let waits = "60  > 1001+100
                 61  > 1101+100
                 62  > 1201+100
                 110 < ack 1001 sack
                 175 > 1001+100
                 225 < ack 1001 sack
                 300 > 1001+100
                 350 < ack 1301";
    assert_eq!(after_handshake(waits), "segments 5, bytes 500, fast 2, opened");
    // The timer waits for 200 ms and a round trip since the same was sent again.
    assert_eq!(after_handshake(&waits.replace("300 >", "430 >")), "segments 5, bytes 500, timeout 1, fast 1, opened");
    // Or since an acknowledgement advanced, whatever came meanwhile.
    let advances = "60  > 1001+100
                    61  > 1101+100
                    62  > 1201+100
                    110 < ack 1101 sack
                    150 < ack 1101 sack dsack
                    320 > 1101+100
                    370 < ack 1301";
    assert_eq!(after_handshake(advances), "segments 4, bytes 400, timeout 1, opened");
    assert_eq!(after_handshake(&advances.replace("320 >", "215 >")), "segments 4, bytes 400, fast 1, opened");
}

#[test]
fn segments_of_any_number_are_counted() {
    let mut engine = after("");
    for number in 0..200_000_u32 {
        engine.record(&parse(&format!("60 > {}+1", 1001 + number)).unwrap().segment);
    }
    for number in 0..100_u32 {
        engine.record(&parse(&format!("61 > {}+8190/4095", 201_001 + number * 8190)).unwrap().segment);
    }
    assert_eq!(taken(&mut engine), "segments 609500, bytes 1019000");
}

#[test]
fn what_nothing_explains_is_unknown() {
    let trace = "60  > 1001+100
                 61  > 1101+100
                 62  > 1201+100
                 90  > 1101+100
                 500 < ack 1301";
    assert_eq!(after_handshake(trace), "segments 4, bytes 400, unknown 1, opened");
}

#[test]
fn a_super_segment_that_is_sent_again_counts_as_what_it_becomes() {
    let trace = "60  > 1001+2896/2
                 61  > 3897+100
                 110 < ack 1001 sack
                 111 > 1001+2896/2
                 160 < ack 3997";
    assert_eq!(after_handshake(trace), "segments 5, bytes 5892, fast 2, opened");
}

#[test]
fn a_retransmission_that_the_receiver_had_already_is_spurious() {
    let by_dsack = "60  > 1001+100
                    170 > 1001+100
                    180 < ack 1101
                    220 < ack 1101 dsack
                    221 < ack 1101 dsack";
    assert_eq!(after_handshake(by_dsack), "segments 2, bytes 200, tail_probe 1, spurious 1, opened");
    let by_echo = "0   > S 1000 ts 1
                   50  < SA 7000 ack 1001 ecr 1
                   60  > 1001+100 ts 60
                   360 > 1001+100 ts 360
                   380 < ack 1101 ecr 60";
    assert_eq!(counted(by_echo), "segments 2, bytes 200, timeout 1, spurious 1, client established 1");
    let necessary = by_echo.replace("380 < ack 1101 ecr 60", "410 < ack 1101 ecr 360");
    assert_eq!(counted(&necessary), "segments 2, bytes 200, timeout 1, client established 1");
}

#[test]
fn a_connection_opens_and_closes_as_client_and_as_server() {
    let client = "0  > S 1000
                  50 < SA 7000 ack 1001
                  60 > 1001+10
                  70 > FA 1011 ack 7001
                  90 < FA 7001 ack 1012";
    assert_eq!(counted(client), "segments 2, bytes 10, client established 1, closed 1");
    let server = "0  < S 7000
                  1  > SA 1000 ack 7001
                  51 < ack 1001
                  60 > 1001+10
                  70 < FA 7001 ack 1011
                  71 > FA 1011 ack 7002
                  99 < ack 1012";
    assert_eq!(counted(server), "segments 2, bytes 10, server established 1, closed 1");
}

#[test]
fn a_syn_is_answered_refused_or_given_up() {
    assert_eq!(counted("0 > S 1000\n 50 < RA 0 ack 1001\n 51 < RA 0 ack 1001"), "client refused 1");
    assert_eq!(counted("0 > S 1000\n 50 > R 1001"), "client reset 1");
    let mut unanswered = after("0 > S 1000\n 1000 > S 1000\n 3000 > S 1000");
    unanswered.expire(Nanos(9_000_000_000));
    assert_eq!(taken(&mut unanswered), "syn 2");
    unanswered.expire(Nanos(11_000_000_000));
    assert_eq!(taken(&mut unanswered), "client timeout 1");
    // It is over only once.
    unanswered.expire(Nanos(1_000_000_000_000));
    assert_eq!(taken(&mut unanswered), "");
    let again = "0 > S 1000\n 5000 > S 9000\n 5050 < SA 7000 ack 9001";
    assert_eq!(counted(again), "client established 1, client timeout 1");
}

#[test]
fn a_syn_that_waits_for_its_answer_is_told_until_it_is_answered_or_given_up() {
    let waiting = |engine: &mut Engine| {
        let mut ports = Vec::new();
        engine.awaiting_answers(|flow, pair| {
            assert_eq!(pair, PairKey::from(flow));
            ports.push(flow.local.port);
        });
        ports.sort_unstable();
        ports
    };
    let trace = "0   > S 1000 port 1
                 1   > S 1000 port 2
                 2   > S 1000 port 3
                 3   > S 1000 port 4
                 4   > 1000+9 port 5
                 5   < S 1000 port 6
                 6   > SA 1000 ack 1001 port 6
                 50  < SA 7000 ack 1001 port 1
                 51  < RA 0 ack 1001 port 2
                 999 > S 1000 port 3";
    let mut engine = after(trace);
    assert_eq!(waiting(&mut engine), [3, 4]);
    engine.record(&parse("5000 < SA 7000 ack 1001 port 4").unwrap().segment);
    assert_eq!(waiting(&mut engine), [3]);
    engine.expire(Nanos(11_000_000_000));
    assert_eq!(waiting(&mut engine), []);
}

#[test]
fn whoever_ends_it_with_a_reset_is_named_once() {
    let trace = "60  > 1001+100\n 110 < ack 1101\n";
    let once = "segments 1, bytes 100, opened, reset by";
    assert_eq!(after_handshake(&format!("{trace} 120 < R 7001\n 121 < R 7001")), format!("{once} remote 1"));
    assert_eq!(after_handshake(&format!("{trace} 120 > R 1101\n 121 > R 1101")), format!("{once} local 1"));
    // In the middle of what was not seen to begin, too.
    assert_eq!(counted(&format!("{trace} 120 < R 7001")), "segments 1, bytes 100, reset by remote 1");
}

#[test]
fn who_looks_in_the_middle_of_an_interval_changes_nothing_of_what_strangers_count_for() {
    let so_far = |engine: &mut Engine| {
        let mut all = Vec::new();
        engine.take_health_so_far(|pair, health| all.push((pair.is_some(), words(health))));
        all
    };
    let mut engine = after("60 > 1001+100");
    assert_eq!(so_far(&mut engine), [(true, "segments 1, bytes 100".to_owned())]);
    assert_eq!(so_far(&mut engine), []);
    // The pair has sent data in the interval, whether or not somebody has looked since.
    engine.record(&parse("70 > RA 0 ack 1 port 9").unwrap().segment);
    engine.take_health(|pair, health| assert_eq!((pair.is_some(), &*words(health)), (true, "server refused 1")));
    // In the next it has not.
    engine.record(&parse("80 > RA 0 ack 1 port 9").unwrap().segment);
    engine.take_health(|pair, health| assert_eq!((pair.is_some(), &*words(health)), (false, "server refused 1")));
}

#[test]
fn strangers_make_no_pair() {
    // Nobody answers the SYN-ACK.
    let mut flood = after("0 < S 7000\n 1 > SA 1000 ack 7001\n 1001 > SA 1000 ack 7001");
    assert_eq!(taken(&mut flood), "");
    flood.expire(Nanos(1_000_000_000_000));
    assert_eq!(taken(&mut flood), "[syn 1, server timeout 1]");
    // A scan of ports, open and closed.
    assert_eq!(counted("0 < S 7000\n 1 > SA 1000 ack 7001\n 50 < R 7001"), "[server reset 1]");
    assert_eq!(counted("0 < S 7000\n 1 > RA 0 ack 7001"), "[server refused 1]");
    // A host with other traffic has its own counts.
    let known = "0 > 1+10 port 9\n 1 < S 7000\n 2 > RA 0 ack 7001";
    assert_eq!(counted(known), "segments 1, bytes 10, server refused 1");
}

#[test]
fn a_syn_ack_that_is_answered_late_was_sent_again() {
    let trace = "0    < S 7000
                 1    > SA 1000 ack 7001
                 1001 > SA 1000 ack 7001
                 1051 < ack 1001";
    assert_eq!(counted(trace), "syn 1, server established 1");
}

#[test]
fn a_syn_ack_that_is_sent_again_after_its_answer_has_come_was_sent_again_too() {
    let trace = "0  < S 7000
                 1  > SA 1000 ack 7001
                 51 < ack 1001
                 52 > SA 1000 ack 7001
                 99 > 1000+1";
    assert_eq!(counted(trace), "syn 1, server established 1", "a keep-alive is none");
    // Where both opened at once it only answers.
    let crossing = "0  > S 1000
                    1  < S 7000
                    51 < SA 7000 ack 1001
                    52 > SA 1000 ack 7001";
    assert_eq!(counted(crossing), "client established 1");
}

#[test]
fn a_fin_that_crosses_its_acknowledgement_was_sent_again() {
    let trace = "100 > F 1001
                 150 < ack 1002
                 151 > F 1001";
    assert_eq!(after_handshake(trace), "segments 2, tail_probe 1, spurious 1, opened");
}

#[test]
fn a_fin_is_a_segment_of_which_a_share_may_be_sent_again() {
    let trace = "60  > 1001+100
                 110 < ack 1101
                 120 > FA 1101 ack 7001
                 370 > FA 1101 ack 7001
                 420 < FA 7001 ack 1102";
    assert_eq!(after_handshake(trace), "segments 3, bytes 100, tail_probe 1, opened, closed 1");
    let mut engine = after("0 > S 1000\n 50 < SA 7000 ack 1001\n 60 > F 1001\n 370 > F 1001\n 970 > F 1001");
    engine.take_health(|_, health| assert_eq!(health.resent(), Some(2.0 / 3.0)));
}

#[test]
fn what_had_been_acknowledged_before_it_is_sent_again_is_needless() {
    let trace = "60  > 1001+100
                 61  > 1101+100
                 110 < ack 1201
                 111 > 1001+100
                 112 > 1101+100
                 161 < ack 1201 dsack
                 162 < ack 1201 dsack";
    assert_eq!(after_handshake(trace), "segments 4, bytes 400, tail_probe 1, unknown 1, spurious 2, opened");
    // Half of it was not sent before.
    let more = "60  > 1001+100
                360 > 1001+200
                400 < ack 1201 dsack
                401 < ack 1201 dsack";
    assert_eq!(after_handshake(more), "segments 2, bytes 300, timeout 1, opened");
    // Of a SYN-ACK there is no share that would have to be corrected.
    let opening = "0    < S 7000 sackperm
                   1    > SA 1000 ack 7001 sackperm
                   51   < ack 1001
                   1001 > SA 1000 ack 7001 sackperm
                   1050 < ack 1001 dsack
                   1060 > 1001+10";
    assert_eq!(counted(opening), "segments 1, bytes 10, syn 1, server established 1");
    // What was sent to a host that has reset the connection need not have arrived.
    let reset = "60 > 1001+100\n 110 < R 7001\n 360 > 1001+100";
    assert!(!after_handshake(reset).contains("spurious"));
}

#[test]
fn of_what_was_sent_again_each_is_needless_once_and_nothing_else_is() {
    // Frames that the network has doubled: the receiver reports each of them.
    let doubled = "60  > 1001+100
                   61  > 1101+100
                   110 < ack 1101 dsack
                   111 < ack 1201 dsack";
    assert_eq!(after_handshake(doubled), "segments 2, bytes 200, opened");
    let beside_one_that_was_lost = "60  > 1001+100
                                    61  > 1101+100
                                    110 < ack 1001 sack
                                    111 > 1001+100
                                    160 < ack 1201 dsack
                                    161 < ack 1201 dsack
                                    170 > 1201+100
                                    220 < ack 1301 dsack";
    assert_eq!(after_handshake(beside_one_that_was_lost), "segments 4, bytes 400, fast 1, spurious 1, opened");
    // No SYN is: the handshake is not over yet.
    let opening = "0    < S 7000 sackperm
                   1    > SA 1000 ack 7001 sackperm
                   1001 > SA 1000 ack 7001 sackperm
                   1040 < ack 1000 dsack
                   1050 < ack 1001";
    assert_eq!(counted(opening), "syn 1, server established 1");
}

#[test]
fn whatever_a_receiver_reports_no_more_is_needless_than_was_sent_again() {
    let mut needless = 0;
    for seed in 0..2000 {
        let mut random = Random(seed);
        let has_sack = random.chance(700);
        let word = |on: bool, word: &'static str| if on { word } else { "" };
        let sack = word(has_sack, "sackperm");
        let mut trace = format!("0 < S 7000 {sack} ts 1\n 1 > SA 1000 ack 7001 {sack} ts 1\n");
        if random.chance(300) {
            trace += "1001 > SA 1000 ack 7001 ts 1001\n 1002 < ack 1000 dsack\n";
        }
        trace += "1050 < ack 1001 ecr 1\n";
        let (mut at, mut una, mut next) = (1060, 1001, 1001);
        for _ in 0..40 {
            at += random.one_of(&[0, 1, 20, 250]);
            let sent = (next - 1001) / 100;
            trace += &match random.below(4) {
                0 => {
                    next += 100;
                    format!("{at} > {}+100 ts {at}\n", next - 100)
                }
                1 if sent > 0 => format!("{at} > {}+100 ts {at}\n", 1001 + 100 * random.below(sent)),
                _ => {
                    una += 100 * random.below((next - una) / 100 + 1);
                    let (hole, again) = (word(random.chance(200), "sack"), word(random.chance(400), "dsack"));
                    format!("{at} < ack {una} ecr {} {hole} {again}\n", at - random.one_of(&[1, 30, 300]))
                }
            };
        }
        let mut counts = PeerHealth::default();
        after(&trace).take_health(|_, health| counts.merge(health));
        let again = counts.retransmits_total() - counts.retransmits[Cause::Syn as usize];
        assert!(counts.spurious <= again, "{} of {again}:\n{trace}", counts.spurious);
        needless += counts.spurious;
    }
    assert!(needless > 1000, "{needless}");
}

#[test]
fn what_probes_a_window_was_not_lost() {
    let trace = "60   > 1001+100
                 110  < ack 1101 win 0
                 310  > 1101+1
                 360  < ack 1101 win 0
                 710  > 1101+1
                 760  < ack 1101 win 0
                 1510 > 1101+1
                 1560 < ack 1101 win 0
                 1800 < ack 1101 win 9
                 1801 > 1101+100
                 1850 < ack 1201 win 9";
    assert_eq!(after_handshake(trace), "segments 2, bytes 200, opened, zero window 1690");
    // Nothing else waits than the byte.
    let alone = trace.replace("1801 > 1101+100", "1801 > 1101+1").replace("ack 1201", "ack 1102");
    assert_eq!(after_handshake(&alone), "segments 2, bytes 101, opened, zero window 1690");
    // A probe that is taken, the first or another, is data; what follows begins behind it.
    for (first, last) in [("310  > 1101+1\n 360  < ack 1101 win 0", "1850 < ack 1202 win 9"), ("", "1850 < ack 1202")] {
        let taken = format!(
            "60   > 1001+100\n 110  < ack 1101 win 0\n {first}
             710  > 1101+1\n 760  < ack 1102 win 9\n 761 > 1102+100\n {last}"
        );
        assert_eq!(after_handshake(&taken), "segments 3, bytes 201, opened, zero window 650", "{first}");
    }
    // What was sent as there was room for it counts once.
    let sent_before = "60  > 1001+1
                       110 < ack 1001 win 0
                       310 > 1001+1
                       360 < ack 1002 win 9";
    assert_eq!(after_handshake(sent_before), "segments 1, bytes 1, opened, zero window 250");
    // The same where there is room was lost.
    let lost = trace.replace("win 0", "win 9");
    assert!(after_handshake(&lost).contains("timeout"), "{}", after_handshake(&lost));
}

#[test]
fn what_a_syn_carried_in_vain_is_sent_again_at_once() {
    let trace = "0  > S 1000+100 sackperm
                 50 < SA 7000 ack 1001 sackperm
                 51 > 1001+100 ack 7001
                 99 < ack 1101";
    assert_eq!(counted(trace), "segments 2, bytes 200, fast 1, client established 1");
}

#[test]
fn a_reset_that_answers_no_syn_ends_no_attempt() {
    // RFC 9293 section 3.10.7.3.
    for reset in ["RA 0 ack 9999", "R 0", "RA 0 ack 1000"] {
        let trace = format!("0 > S 1000\n 40 < {reset}\n 50 < SA 7000 ack 1001\n 60 > 1001+10");
        assert_eq!(counted(&trace), "segments 1, bytes 10, client established 1", "{reset}");
    }
    // The other end knows an older connection, and answers as that has it (section 3.5.1).
    let half_open = "0    > 501+100
                     50   < ack 601
                     5000 > S 90000
                     5050 < ack 601
                     5051 > R 601
                     6000 > S 90000
                     6050 < SA 7000 ack 90001
                     6060 > F 90001
                     6110 < FA 7001 ack 90002";
    assert_eq!(counted(half_open), "segments 2, bytes 100, syn 1, client established 1, closed 1");
}

#[test]
fn an_attempt_with_the_same_number_after_a_reset_is_another_one() {
    let refused = "0 > S 1000\n 20 < RA 0 ack 1001\n";
    let thrice = refused.to_owned() + &refused.replace("0 >", "500 >").replace("20 <", "520 <") + "1000 > S 1000";
    assert_eq!(counted(&thrice), "client refused 2");
    assert_eq!(counted(&format!("{thrice}\n 1050 < SA 7000 ack 1001")), "client established 1, client refused 2");
    let aborted = "0 > S 1000\n 50 < SA 7000 ack 1001\n 60 > R 1001\n 70 > S 1000\n 120 < SA 8000 ack 1001";
    assert_eq!(counted(aborted), "client established 2, reset by local 1");
    let server = "0 < S 7000\n 1 > SA 1000 ack 7001\n 50 < ack 1001\n 60 < R 7001
                  70 < S 7000\n 71 > SA 5000 ack 7001\n 120 < ack 5001";
    assert_eq!(counted(server), "server established 2, reset by remote 1");
}

#[test]
fn a_second_answer_to_one_syn_is_no_second_connection() {
    let trace = "0    < S 7000
                 1    > SA 1000 ack 7001
                 1001 > SA 777777 ack 7001
                 1051 < ack 1001";
    assert_eq!(counted(trace), "server established 1");
}

#[test]
fn what_a_flow_counted_is_not_lost_with_it() {
    let mut engine = after("60 > 1001+100\n 61 > 1001+100 port 2");
    engine.expire(Nanos(1_000_000_000_000));
    assert_eq!((engine.flows(), taken(&mut engine)), (0, "segments 2, bytes 200".into()));
    let mut engine = after("60 > 1001+100");
    engine.set_config(EngineConfig { max_flows: 4, ..EngineConfig::default() });
    assert_eq!(taken(&mut engine), "segments 1, bytes 100");
    let many: String = (0..20).map(|port| format!("60 > 1001+100 port {port}\n")).collect();
    assert_eq!(counted(&many), "segments 20, bytes 2000", "most were evicted");
}

#[test]
fn pairs_beyond_the_bound_are_counted_together() {
    let mut engine = after("");
    for host in 0..5 {
        let mut line = parse("60 > 1001+100").unwrap().segment;
        line.flow.remote.addr = go_metro_rtt::Addr::v4([10, 0, 0, host]);
        engine.record(&line);
    }
    let mut all = Vec::new();
    engine.take_health(|pair: Option<PairKey>, health| all.push((pair.is_some(), health.segments)));
    all.sort_unstable();
    assert_eq!(all, [(false, 3), (true, 1), (true, 1)]);
}

#[test]
fn what_was_sent_at_once_and_comes_in_another_order_is_not_sent_again() {
    let trace = "60  > 1001+100
                 61  > 1201+100
                 61  > 1101+100
                 120 < ack 1301";
    assert_eq!(after_handshake(trace), "segments 3, bytes 300, opened");
}

#[test]
fn what_is_sent_again_at_one_time_counts_each() {
    let trace = "60  > 1001+100
                 60  > 1101+100
                 60  > 1201+100
                 60  > 1301+100
                 110 < ack 1001 sack
                 110 > 1001+100
                 110 > 1101+100
                 110 > 1401+100
                 110 > 1201+100
                 160 < ack 1501";
    assert_eq!(after_handshake(trace), "segments 8, bytes 800, fast 3, opened");
    // Where three come in the wrong order, none of them is sent again.
    let trace = "60  > 1001+100
                 61  > 1301+100
                 61  > 1101+100
                 61  > 1201+100
                 120 < ack 1401";
    assert_eq!(after_handshake(trace), "segments 4, bytes 400, opened");
}

#[test]
fn what_comes_about_after_it_was_given_up_stays_given_up() {
    let mut engine = after("0 > S 1000");
    engine.expire(Nanos(11_000_000_000));
    for line in ["15000 > S 1000", "15050 < SA 7000 ack 1001", "15060 > 1001+10", "15110 < ack 1011"] {
        engine.record(&parse(line).unwrap().segment);
    }
    assert_eq!(taken(&mut engine), "segments 1, bytes 10, syn 1, client timeout 1");
}

#[test]
fn two_that_open_at_once_are_clients_both_and_repeat_nothing() {
    let trace = "0  > S 1000
                 40 < S 7000
                 41 > SA 1000 ack 7001
                 90 < SA 7000 ack 1001";
    assert_eq!(counted(trace), "client established 1");
    // In whatever order the answers come.
    let trace = "0  < S 7000
                 1  > S 1000
                 50 < SA 7000 ack 1001
                 51 > SA 1000 ack 7001
                 99 < ack 1001";
    assert_eq!(counted(trace), "client established 1");
}

#[test]
fn to_the_local_end_strangers_make_no_pair_either() {
    let trace = "0 < S 7000\n 1 > RA 0 ack 7001\n 1000 < S 7000\n 1001 > RA 0 ack 7001";
    let mut engine = after("");
    for line in trace.lines().filter_map(parse) {
        line.segment.for_each_side(Sides::BOTH, &mut |segment| {
            engine.record(segment);
        });
    }
    engine.expire(Nanos(1_000_000_000_000));
    assert_eq!(taken(&mut engine), "[server refused 2]");
}

/// What is counted of a trace where only the other end is timed.
fn counted_local(trace: &str) -> String {
    let mut engine = Engine::new(EngineConfig { max_flows: 8, ..EngineConfig::default() });
    engine.count_health(Some(HealthLimits { side: Side::Local, ..LIMITS }));
    for line in trace.lines().filter_map(parse) {
        line.segment.for_each_side(Sides::LOCAL, &mut |segment| {
            engine.record(segment);
        });
    }
    engine.expire(Nanos(1_000_000_000_000));
    taken(&mut engine)
}

#[test]
fn where_only_the_other_end_is_timed_connections_count_with_it() {
    let client = "0  > S 1000
                  50 < SA 7000 ack 1001
                  51 > ack 7001
                  60 < 7001+10 ack 1001
                  61 > FA 1001 ack 7011
                  90 < FA 7011 ack 1002
                  91 > ack 7012";
    assert_eq!(counted_local(client), "segments 2, bytes 10, client established 1, closed 1");
    let server = "0  < S 7000
                  1  > SA 1000 ack 7001
                  51 < ack 1001
                  60 < 7001+10 ack 1001
                  61 > RA 1001 ack 7011";
    assert_eq!(counted_local(server), "segments 1, bytes 10, server established 1, reset by local 1");
    let by_remote = server.replace("61 > RA 1001 ack 7011", "61 < RA 7011 ack 1001");
    assert!(counted_local(&by_remote).ends_with("reset by remote 1"), "{}", counted_local(&by_remote));
    // Who has only an address makes no pair.
    assert_eq!(counted_local("0 < S 7000\n 1 > RA 0 ack 7001"), "[server refused 1]");
    assert_eq!(counted_local("0 < S 7000"), "[server timeout 1]");
    for answers_nothing in ["50 < RA 0 ack 1001", "0 > S 1000\n 50 < RA 0 ack 1002"] {
        assert_eq!(counted_local(answers_nothing), "[client refused 1]", "{answers_nothing}");
    }
    // An attempt of this host itself does.
    assert_eq!(counted_local("0 > S 1000\n 50 < RA 0 ack 1001"), "client refused 1");
    assert_eq!(counted_local("0 > S 1000\n 1000 > S 1000\n 1050 < RA 0 ack 1001"), "client refused 1");
}

#[test]
fn an_own_attempt_that_is_remembered_changes_nothing_of_what_the_local_side_times() {
    let trace = "0  > S 1000
                 50 < SA 7000 ack 1001
                 51 > ack 7001
                 60 < 7001+10 ack 1001
                 80 > 1101+100 ack 7011";
    let samples = |counts: bool| {
        let mut engine = Engine::new(EngineConfig::default());
        engine.count_health(counts.then_some(HealthLimits { side: Side::Local, ..LIMITS }));
        let mut outcomes = Vec::new();
        for line in trace.lines().filter_map(parse) {
            line.segment.for_each_side(Sides::LOCAL, &mut |segment| outcomes.push(engine.record(segment)));
        }
        outcomes
    };
    assert_eq!(samples(true), samples(false));
}

#[test]
fn an_attempt_that_is_seen_from_both_its_ends_fails_once() {
    let counted = |sides: Sides, trace: &str| {
        let mut engine = Engine::new(EngineConfig { max_flows: 8, ..EngineConfig::default() });
        let side = if sides == Sides::LOCAL { Side::Local } else { Side::Remote };
        engine.count_health(Some(HealthLimits { side, ..LIMITS }));
        for Segment { flow, header } in trace.lines().filter_map(parse).map(|line| line.segment) {
            let other_end = FlowKey { local: flow.remote, remote: flow.local, ..flow };
            let bits = Bits(header.bits.0 ^ Bits::EGRESS);
            let mut ends = [(flow, header), (other_end, SegmentHeader { bits, ..header })];
            // As it leaves one end, then as it comes to the other.
            ends.sort_by_key(|(_, header)| !header.bits.any(Bits::EGRESS));
            for (flow, header) in ends {
                Segment { flow, header }.for_each_side(sides, &mut |segment| {
                    engine.record(segment);
                });
            }
        }
        engine.expire(Nanos(1_000_000_000_000));
        taken(&mut engine)
    };
    for sides in [Sides::REMOTE, Sides::BOTH, Sides::LOCAL] {
        for trace in ["0 > S 1000\n 50 < RA 0 ack 1001", "0 < S 1000\n 50 > RA 0 ack 1001"] {
            assert_eq!(counted(sides, trace), "client refused 1", "{sides:?} {trace}");
        }
    }
    // The end that sent the SYN has it established; to the other it never was.
    let reset = "0 > S 1000\n 50 < SA 7000 ack 1001\n 60 > R 1001";
    assert_eq!(counted(Sides::REMOTE, reset), "client established 1, reset by local 1");
    assert_eq!(
        counted(Sides::REMOTE, &reset.replace("60 > R 1001", "60 < R 7001")),
        "client established 1, reset by remote 1"
    );
    // Nobody else can tell that what was sent to this end did not arrive.
    assert_eq!(counted(Sides::REMOTE, "0 > S 1000\n 50 < SA 7000 ack 1001"), "client established 1 [server timeout 1]");
}

#[test]
fn a_window_that_is_closed_counts_from_the_announcement_until_it_opens() {
    // Something is outstanding as it closes.
    let outstanding = "60  > 1001+100
                       61  > 1101+100
                       110 < ack 1101 win 0
                       310 > 1101+100
                       360 < ack 1101 win 0
                       500 < ack 1201 win 9
                       501 > 1201+5";
    assert!(after_handshake(outstanding).ends_with("zero window 390"), "{}", after_handshake(outstanding));
    // All is acknowledged, and the other end answers probes that pass unseen.
    let probed = "60  > 1001+100
                  110 < ack 1101 win 0
                  360 < ack 1101 win 0
                  800 < ack 1101 win 0
                  900 < ack 1101 win 9
                  901 > 1101+5";
    assert_eq!(after_handshake(probed), "segments 2, bytes 105, opened, zero window 790");
    // Nothing waits.
    let idle = "60  > 1001+100
                110 < ack 1101 win 0
                800 < ack 1101 win 9
                900 > 1101+5";
    assert_eq!(after_handshake(idle), "segments 2, bytes 105, opened");
    // What is sent at once had waited.
    assert_eq!(after_handshake(&idle.replace("900 >", "801 >")), "segments 2, bytes 105, opened, zero window 690");
}

#[test]
fn what_is_sent_as_a_window_opens_is_looked_at_once_and_counted_as_ever() {
    let mut engine = after("0 > S 1000\n 50 < SA 7000 ack 1001\n 60 > 1001+100");
    let mut play = |trace: &str| {
        trace.lines().filter_map(parse).for_each(|line| {
            engine.record(&line.segment);
        });
        taken(&mut engine)
    };
    assert_eq!(play("110 < ack 1101 win 0\n 160 < ack 1101 win 9"), "segments 1, bytes 100, client established 1");
    // A report is between, and another window that closes.
    assert_eq!(play("161 > 1101+5\n 162 > 1106+5"), "segments 2, bytes 10, zero window 50");
    assert_eq!(play("210 < ack 1111 win 0\n 211 < ack 1111 win 9\n 212 < ack 1111 win 0"), "");
    assert_eq!(play("222 < ack 1111 win 9\n 223 > 1111+5"), "segments 1, bytes 5, zero window 10");
}

#[test]
fn a_closed_window_counts_in_each_interval_and_up_to_the_last_sign_where_nothing_follows() {
    let closed = "60  > 1001+100\n 61  > 1101+100\n 110 < ack 1101 win 0\n 1110 < ack 1101 win 0";
    let mut engine = after(closed);
    engine.expire(Nanos(1_500_000_000));
    assert_eq!(taken(&mut engine), "segments 2, bytes 200, zero window 1390");
    engine.expire(Nanos(2_000_000_000));
    assert_eq!(taken(&mut engine), "zero window 500");
    // Four seconds after the last sign nobody knows.
    engine.expire(Nanos(60_000_000_000));
    assert_eq!(taken(&mut engine), "zero window 3110");
    engine.record(&parse("70000 < ack 1101 win 0").unwrap().segment);
    assert_eq!(taken(&mut engine), "zero window 64890");
    // A reset, of whichever end, or a close ends it; of another connection or silence nobody knows since when.
    let closes = "2000 < FA 7001 ack 1101 win 0\n 2010 > F 1201";
    let ends = [("2000 < RA 7001 ack 1101", 1890), ("2000 > R 1201", 1890), (closes, 1900)];
    for (end, waited_ms) in ends.into_iter().chain([("2000 > S 90000", 1000), ("", 1000)]) {
        let mut engine = after(&format!("{closed}\n{end}"));
        engine.expire(Nanos(1_000_000_000_000));
        assert!(taken(&mut engine).contains(&format!("zero window {waited_ms}")), "{end}");
    }
    // Nothing is known to have waited.
    let idle = "60 > 1001+100\n 110 < ack 1101 win 0\n 500 > R 1101";
    assert!(!counted(idle).contains("zero window"), "{}", counted(idle));
    // Nobody knows what happened meanwhile.
    let mut engine = after(closed);
    engine.interrupt_all();
    engine.record(&parse("5000 < ack 1101 win 9").unwrap().segment);
    assert!(taken(&mut engine).contains("zero window 1000"));
}

#[test]
fn what_does_not_announce_a_window_closes_none() {
    // Resets and SYNs have what they have; what was overtaken is old.
    for other in ["105 < FA 7001 ack 1101 win 0", "105 < RA 7001 ack 1101 win 0", "105 < ack 1001 win 0"] {
        let trace = format!("60 > 1001+100\n 100 < ack 1101 win 9\n {other}\n 106 > 1101+100\n 400 < ack 1201 win 9");
        assert!(!after_handshake(&trace).contains("zero"), "{other}");
    }
}

#[test]
fn acknowledgements_that_echo_congestion_are_counted() {
    let trace = "60  > 1001+100
                 110 < AE 7001 ack 1101
                 111 < AE 7001+50 ack 1101
                 112 < AE 7051+50 ack 1101
                 120 < ack 1101
                 130 > 1101+100
                 180 < AER 7101 ack 1101";
    assert_eq!(after_handshake(trace), "segments 2, bytes 200, opened, reset by remote 1, echoes 3");
    // A SYN-ACK with ECE agrees to ECN.
    assert_eq!(counted("0 > SE 1000\n 50 < SAE 7000 ack 1001"), "client established 1");
}
