//! The matching rules of `RULES.md`, one by one, each as a packet trace (the language is in
//! `support/trace.rs`).

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use go_metro_common::segment::{Bits, Sides};
use go_metro_rtt::{Engine, EngineConfig, Nanos};
use support::trace::{parse, play, play_sides, play_with};

#[test]
fn rule_1_what_advances_snd_nxt_is_timed() {
    play(
        "0   > 1000+100
         50  < ack 1100         => data exact 50
         60  > 1100+100
         61  > 1200+100
         110 < ack 1200         => data exact 50
         112 < ack 1300         => data exact 51",
    );
}

#[test]
fn rule_1_a_cumulative_ack_times_the_newest_segment_it_covers() {
    play(
        "0  > 1000+100
         5  > 1100+100
         9  > 1200+100
         50 < ack 1300          => data exact 41",
    );
}

#[test]
fn rule_1_a_keep_alive_is_not_timed() {
    play(
        "0    > 1000+100
         50   < ack 1100        => data exact 50
         9000 > 1099+1
         9050 < ack 1100
         9100 > 1100+10
         9150 < ack 1110        => data exact 50",
    );
}

#[test]
fn rule_2_a_retransmission_makes_everything_outstanding_ambiguous() {
    play(
        "0   > 1000+100
         1   > 1100+100
         300 > 1000+100
         350 < ack 1200         => rejected retransmitted
         360 > 1200+100
         410 < ack 1300         => data exact 50",
    );
}

#[test]
fn rule_2_a_retransmission_that_carries_new_data_is_ambiguous_too() {
    play(
        "0   > 1000+100
         300 > 1000+200
         350 < ack 1200         => rejected retransmitted
         360 > 1200+100
         400 < ack 1300         => data exact 40",
    );
}

#[test]
fn rule_2_what_is_sent_in_recovery_and_acknowledged_with_it_may_have_waited() {
    play(
        "0   > 1000+100
         300 > 1000+100
         301 > 1100+100
         380 < ack 1200         => rejected recovery",
    );
    play(
        "0   > 1000+100 ts 0
         300 > 1000+100 ts 300
         301 > 1100+100 ts 301
         350 < ack 1100 ecr 300 => data timestamp 50
         351 < ack 1200 ecr 301 => data exact 50",
    );
    play(
        "0   > 1000+100 ts 0
         300 > 1000+100 ts 300
         301 > 1100+100 ts 301
         351 < ack 1200 ecr 301 => data exact 50",
    );
    play(
        "0     > 1000+100 ts 0
         300   > 1000+100 ts 300
         300.4 > 1100+100 ts 300
         351   < ack 1200 ecr 300 => rejected recovery",
    );
    // It was sent before the retransmission and captured after it: what was sent first has its TSval, too.
    play(
        "0   > 1000+100 ts 7
         300 > 1000+100 ts 300
         301 > 1100+100 ts 7
         351 < ack 1200 ecr 7   => rejected recovery",
    );
}

#[test]
fn rule_3_ack_inside_a_super_segment_yields_a_partial_sample() {
    play(
        "0  > 1000+64000
         50 < ack 3896          => data partial 50
         51 < ack 65000         => data exact 51",
    );
}

#[test]
fn rule_3_ack_beyond_what_was_sent_or_below_what_was_acknowledged_yields_nothing() {
    play(
        "0  > 1000+100
         0  < ack 1000
         1  < ack 1101          => rejected never_sent
         2  < ack 999
         50 < ack 1100          => rejected unseen
         51 < ack 1050
         # Either it was overtaken by the first, or that one is not true: it takes one more to tell.
         60 > 1100+100
         99 < ack 1200          => rejected unseen
         100 > 1200+100
         149 < ack 1300         => data exact 49",
    );
}

#[test]
fn rule_12_a_late_acknowledgement_of_less_than_one_that_ran_ahead_yields_nothing() {
    play(
        "0   > 3000+1000 ts 10
         # 4000..5000 passes unseen, and its acknowledgement overtakes the one before it.
         100 < ack 5000 ecr 10  => rejected never_sent
         200 < ack 4000 ecr 10  => rejected unseen
         210 > 5000+1000 ts 20
         310 < ack 6000 ecr 20  => data exact 100",
    );
}

#[test]
fn rule_13_an_echo_older_than_all_that_was_seen_of_the_first_byte_is_of_something_unseen() {
    play(
        "0   > 1000+100 ts 1
         20  < ack 1100 ecr 1   => data exact 20
         # 1100..1200 passes unseen, in the same tick as what follows.
         30  > 1200+100 ts 30
         300 > 1100+100 ts 300
         320 < ack 1300 ecr 30  => rejected unseen",
    );
}

#[test]
fn rule_3_a_byte_that_passed_unseen_yields_nothing() {
    play(
        "0  > 1000+100
         # 1100..1200 passes unseen
         2  > 1200+100
         50 < ack 1150          => rejected no_segment
         51 < ack 1300          => rejected unseen
         60 > 1300+100
         99 < ack 1400          => data exact 39",
    );
}

#[test]
fn defect_2_a_stale_acknowledgement_in_flight_is_no_round_trip() {
    // The original took the acknowledgement of what came before, which was on its way, for that of the segment that
    // begins there.
    play(
        "0   > 1000+100
         49  > 1100+100
         50  < ack 1100             => data exact 50
         99  < ack 1200             => data exact 50",
    );
    play(
        "0  > 1000+100
         1  < ack 1000
         50 < ack 1100              => data exact 50",
    );
}

#[test]
fn rule_4_tsecr_tells_which_transmission_is_acknowledged() {
    play(
        "0   > 1000+100 ts 1000
         300 > 1000+100 ts 1300
         320 < ack 1100 ecr 1000 => rejected retransmitted
         400 > 1100+100 ts 1400
         700 > 1100+100 ts 1700
         750 < ack 1200 ecr 1700 => data timestamp 50",
    );
}

#[test]
fn rule_4_an_answer_that_comes_late_may_be_one_that_is_sent_again() {
    // The response at 50 was lost, and the acknowledgement with it. The peer sends it again before it has our
    // retransmission.
    play(
        "0   > 1000+100 ts 1000
         364 > 1000+100 ts 1364
         503 < 7000+200 ack 1100 ecr 1000 => rejected retransmitted",
    );
    play(
        "0   > 1000+100 ts 1000
         364 > 1000+100 ts 1364
         414 < 7000+200 ack 1100 ecr 1364 => data timestamp 50",
    );
}

#[test]
fn rule_4_a_delayed_acknowledgement_echoes_the_first_segment_it_covers() {
    // The tail was lost; the tick is that of the segment before it, whose acknowledgement was kept back.
    play(
        "0    > 1000+100 ts 1000
         0.4  > 1100+100 ts 1000
         22   > 1100+100 ts 1022
         28.2 < ack 1200 ecr 1000 => rejected retransmitted",
    );
}

#[test]
fn rule_4_two_transmissions_within_a_tick_cannot_be_told_apart() {
    play(
        "0    > 1000+100 ts 1000
         0.4  > 1000+100 ts 1000
         50   < ack 1100 ecr 1000 => rejected retransmitted",
    );
}

#[test]
fn rule_4_tsecr_of_neither_transmission_decides_nothing() {
    play(
        "0   > 1000+100 ts 1000
         300 > 1000+100 ts 1300
         320 < ack 1100 ecr 999 => rejected retransmitted",
    );
}

#[test]
fn rule_5_a_sack_block_above_tells_of_a_hole() {
    play(
        "0   > 1000+100 ts 1
         1   > 1100+100 ts 2
         2   > 1200+100 ts 3
         51  < ack 1000 ecr 0 sack
         60  > 1000+100 ts 61
         110 < ack 1300 ecr 61  => rejected hole
         120 > 1300+100 ts 121
         170 < ack 1400 ecr 121 => data exact 50",
    );
}

#[test]
fn rule_5_a_hole_is_over_when_all_that_was_sent_is_acknowledged_without_a_block() {
    // The FIN is one sequence number, the one above the hole.
    play(
        "0   > 1000+100 ts 1
         1   > 1100+100 ts 2
         51  < ack 1000 ecr 0 sack
         60  > 1000+100 ts 61
         110 < ack 1200 ecr 61  => rejected hole
         120 > F 1200 ts 121
         170 < ack 1201 ecr 121 => data exact 50",
    );
    // Not where nothing was missing of what was seen: the block is of something that passes later.
    play(
        "0   > 1000+100 ts 1
         50  < ack 1100 ecr 1   => data exact 50
         60  < ack 1100 ecr 1 sack
         61  > F 1100 ts 62
         111 < ack 1101 ecr 62  => rejected hole",
    );
}

#[test]
fn rule_5_after_a_hole_not_even_tsecr_decides() {
    play(
        "0   > 1000+100 ts 1
         0.1 > 1100+100 ts 1
         51  < ack 1000 ecr 0 sack
         90  > 1000+100 ts 91
         140 < ack 1200 ecr 1   => rejected hole",
    );
}

#[test]
fn rule_5_what_is_sent_after_a_hole_showed_may_have_come_before_what_fills_it() {
    // The first segment was late, and the word of the third's arrival was lost.
    play(
        "0   > 1000+100
         1   > 1100+100
         51  < ack 1000 sack
         60  > 1200+100
         115 < ack 1300             => rejected hole",
    );
    let stamped = "0   > 1000+100 ts 1
         1   > 1100+100 ts 2
         51  < ack 1000 ecr 0 sack
         60  > 1200+100 ts 61";
    play(&format!("{stamped}\n 115 < ack 1300 ecr 1 => rejected hole"));
    play(&format!("{stamped}\n 110 < ack 1300 ecr 61 => data exact 50"));
}

#[test]
fn rule_5_where_sack_is_in_use_duplicate_acks_without_a_block_are_no_sign() {
    play(
        "0   > S 999 sackperm
         50  < SA 7000 ack 1000 sackperm => connect exact 50
         60  > 1000+100
         61  < ack 1000
         62  < ack 1000
         63  < ack 1000
         64  < ack 1000
         110 < ack 1100         => data exact 50",
    );
}

#[test]
fn rule_5_without_sack_three_duplicate_acks_tell_of_a_hole() {
    let two = "0   > S 999
         50  < SA 7000 ack 1000 => connect exact 50
         60  > 1000+100
         60  > 1100+100
         60  > 1200+100
         60  > 1300+100
         111 < ack 1000
         112 < ack 1000";
    play(&format!("{two}\n 113 < ack 1000 \n 120 < ack 1100 => rejected hole"));
    // Fewer may mean nothing; but then what was sent first cannot have waited for anything.
    play(&format!("{two}\n 120 < ack 1100 => data exact 60 \n 121 < ack 1200 => data exact 61"));
}

#[test]
fn rule_5_without_sack_one_duplicate_ack_may_tell_of_a_hole_that_fills() {
    play(
        "0     > 900+100 ts 1
         50    < ack 1000 ecr 1  => data exact 50
         100   > 1000+100 ts 101
         100.1 > 1100+100 ts 101
         100.2 > 1200+100 ts 101
         150   < ack 1000 ecr 1
         153   < ack 1200 ecr 101 => rejected hole
         # The last one was outstanding too, yet nothing was in its way.
         154   < ack 1300 ecr 101 => data exact 53.8
         160   > 1300+100 ts 161
         210   < ack 1400 ecr 161 => data exact 50",
    );
}

#[test]
fn rule_5_window_updates_are_no_duplicate_acks() {
    play(
        "0  > 1000+100
         1  < ack 1000 win 100
         2  < ack 1000 win 200
         3  < ack 1000 win 300
         4  < ack 1000 win 400
         5  < ack 1000 win 500
         50 < ack 1100 win 500  => data exact 50",
    );
}

#[test]
fn rule_5_a_d_sack_is_no_hole() {
    play(
        "0   > 1000+100
         50  < ack 1100         => data exact 50
         60  > 1100+100
         61  < ack 1100 dsack
         110 < ack 1200         => data exact 50",
    );
}

#[test]
fn rule_6_both_halves_of_the_handshake_are_connect_samples() {
    play(
        "0  > S 1000
         50 < SA 7000 ack 1001  => connect exact 50",
    );
    play(
        "0  < S 7000
         1  > SA 1000 ack 7001
         51 < ack 1001          => connect exact 50",
    );
}

#[test]
fn rule_6_a_retransmitted_syn_is_no_sample_unless_timestamps_decide() {
    play(
        "0    > S 1000
         1000 > S 1000
         1050 < SA 7000 ack 1001 => rejected retransmitted",
    );
    play(
        "0    > S 1000 ts 1
         1000 > S 1000 ts 1001
         1050 < SA 7000 ack 1001 ecr 1001 => connect timestamp 50",
    );
    // A SYN-ACK that answers the first SYN after the second has left may have been sent twice too.
    play(
        "0    > S 1000 ts 1
         1000 > S 1000 ts 1001
         1020 < SA 7000 ack 1001 ecr 1 => rejected retransmitted",
    );
}

#[test]
fn rule_6_a_syn_ack_that_takes_as_long_as_its_timer_may_be_one_sent_again() {
    play(
        "0    > S 1000
         1018 < SA 7000 ack 1001 => rejected retransmitted",
    );
    play(
        "0    > S 1000
         999  < SA 7000 ack 1001 => connect exact 999",
    );
}

#[test]
fn rule_7_a_syn_with_another_initial_sequence_number_is_a_new_flow() {
    play(
        "0   > S 1000
         50  < SA 7000 ack 1001  => connect exact 50
         60  > 1001+100
         70  > S 900000
         120 < SA 9000 ack 900001 => connect exact 50
         130 < ack 1101",
    );
    play(
        "0   < S 7000
         1   > SA 1000 ack 7001
         51  < ack 1001          => connect exact 50
         60  > 1001+100
         70  < S 8000
         71  > SA 500 ack 8001
         121 < ack 501           => connect exact 50",
    );
}

#[test]
fn rule_7_an_inbound_reset_ends_what_is_outstanding() {
    play(
        "0  > 1000+100
         50 < RA 7000 ack 1100
         60 < ack 1100",
    );
}

#[test]
fn rule_7_after_an_outbound_reset_the_peer_still_acknowledges() {
    play(
        "0  > 1000+100
         1  > R 1100
         50 < ack 1100           => data exact 50",
    );
}

#[test]
fn rule_7_fin_is_timed_and_a_closed_flow_ends_after_exp_ttl() {
    let config = EngineConfig { exp_ttl: Duration::from_secs(10), ..EngineConfig::default() };
    let mut engine = play_with(
        config,
        "0   > 1000+100
         50  < ack 1100          => data exact 50
         60  > F 1100
         110 < F 7000 ack 1101   => data exact 50",
    );
    engine.expire(Nanos(10_109_000_000));
    assert_eq!((engine.flows(), engine.counters().flows_closed), (1, 0));
    engine.expire(Nanos(10_111_000_000));
    assert_eq!((engine.flows(), engine.counters().flows_closed), (0, 1));
}

#[test]
fn rule_7_what_comes_after_both_fins_does_not_prolong_the_flow() {
    let config = EngineConfig { exp_ttl: Duration::from_secs(10), ..EngineConfig::default() };
    let mut engine = play_with(
        config,
        "0    > F 1100
         10   < F 7000 ack 1101  => data exact 10
         9000 > F 1100
         9010 < A 7001 ack 1101",
    );
    engine.expire(Nanos(10_011_000_000));
    assert_eq!(engine.flows(), 0);
}

#[test]
fn rule_7_silence_ends_a_flow_after_idle_ttl() {
    let config = EngineConfig { idle_ttl: Duration::from_secs(10), ..EngineConfig::default() };
    let mut engine = play_with(config, "0 > 1000+100\n 5000 < ack 1000");
    engine.expire(Nanos(14_999_000_000));
    assert_eq!((engine.flows(), engine.counters().flows_idle), (1, 0));
    engine.expire(Nanos(15_001_000_000));
    assert_eq!((engine.flows(), engine.counters().flows_idle), (0, 1));
    // Even when nothing expired it in time.
    play_with(config, "0 > 1000+100\n 10001 < ack 1100");
}

#[test]
fn rule_8_a_flow_seen_first_mid_stream_works_from_its_first_segment() {
    // What was sent before may be missing at the receiver: the acknowledgement that covers both says nothing.
    play(
        "0   > 1000+100
         20  < ack 600
         51  < ack 1100          => rejected unseen
         60  > 1100+100
         110 < ack 1200          => data exact 50",
    );
    play(
        "0   < ack 600
         1   > 1000+100
         50  < ack 1000          => rejected no_segment
         51  < ack 1100          => data exact 50",
    );
    // It misses just this one: an earlier transmission of it was lost, or is late.
    play(
        "0   < ack 1000 sack
         1   > 1000+100
         51  < ack 1100          => rejected unseen
         60  > 1100+100
         110 < ack 1200          => data exact 50",
    );
    // It misses what was not seen yet.
    play(
        "0   > 1000+100
         50  < ack 1100          => data exact 50
         60  < ack 1100 sack
         61  > 1100+200
         111 < ack 1300          => rejected hole
         120 > 1300+100
         170 < ack 1400          => data exact 50",
    );
    play(
        "0   < 7000+1000 ack 4000000000
         1   > 4000000000+100
         2   < ack 3999999000
         51  < ack 4000000100    => data exact 50",
    );
}

#[test]
fn rule_12_an_early_ack_is_not_believed_any_more_once_the_peer_says_less() {
    play(
        "0   > 1000+100
         0   < ack 1100 sack        => rejected hole
         0   < ack 1122 sack        => rejected never_sent
         0   > 1100+13
         0   > 995+106
         0   < ack 1101             => rejected hole # so that 1122 was not true
         0   > 1113+100
         0   < ack 1175             => rejected recovery
         1   < ack 1176             => data partial 1",
    );
}

#[test]
fn rule_9_a_full_record_is_thinned_and_still_never_wrong() {
    let config = EngineConfig { outstanding_per_flow: 8, ..EngineConfig::default() };
    let mut trace = String::new();
    for k in 0..64 {
        trace += &format!("{k} > {}+100\n", 1000 + 100 * k);
    }
    // The oldest survives every thinning, and the newest was never subject to one.
    trace += "100 < ack 1100 => data exact 100\n";
    trace += "101 < ack 1200 => rejected no_segment\n";
    trace += "163 < ack 7400 => data exact 100\n";
    let engine = play_with(config, &trace);
    assert!(engine.counters().thinned > 0);
}

#[test]
fn rule_9_a_record_that_is_given_up_leaves_the_gap_before_its_first_segment() {
    let config = EngineConfig { outstanding_per_flow: 2, ..EngineConfig::default() };
    play_with(
        config,
        "0   > 1000+100     # the first that is seen: something may be outstanding before it
         0   > 1100+100
         0   > 1199+100     # the record is full and cannot be thinned: all of it is forgotten
         0   > 1299+100
         0   < ack 999 sack # something was, and is
         0   > 1399+102
         0   < ack 1398             => rejected hole
         1   < ack 1501             => rejected unseen",
    );
}

#[test]
fn rule_9_a_duplicate_ack_does_not_make_a_hole_of_a_record_that_was_given_up() {
    let config = EngineConfig { outstanding_per_flow: 2, ..EngineConfig::default() };
    play_with(
        config,
        "0   < ack 1000
         0   > 1000+100 ts 1
         0   > 1100+100 ts 1
         0   > 1200+100 ts 1
         0   < ack 1200 ecr 1       => rejected no_segment
         0   > 1299+100 ts 1    # the record was thinned and cannot take this: all of it is forgotten
         1   > 1399+118 ts 2
         1   < ack 1317 ecr 1       => rejected hole
         1   < ack 1317 ecr 1
         1   < ack 1516 dsack ecr 1 => rejected hole
         1   > 1517+101 ts 2
         2   < ack 1618 ecr 1       => rejected hole",
    );
}

#[test]
fn rule_9_a_record_that_was_given_up_does_not_make_an_early_ack_true() {
    let config = EngineConfig { outstanding_per_flow: 2, ..EngineConfig::default() };
    play_with(
        config,
        "0   > 1000+100
         0   < ack 1301             => rejected never_sent
         0   > 941+100
         0   > 1128+100     # behind a gap, and the record is given up
         0   < ack 1001             => rejected hole # so 1301 was not true
         0   > 1301+101     # behind another gap, then
         1   < ack 1402             => rejected unseen",
    );
}

#[test]
fn rule_9_a_record_that_was_given_up_does_not_end_a_hole_below_what_was_not_seen() {
    let config = EngineConfig { outstanding_per_flow: 2, ..EngineConfig::default() };
    play_with(
        config,
        "0   > 1000+100 ts 1
         1   > 1100+100 ts 2
         2   > 1200+100 ts 3    # the record is thinned
         3   < ack 1200 ecr 3 sack  => rejected hole # the receiver holds something above 1200
         55  > 1200+100 ts 55   # the record is given up
         56  > 1300+101 ts 56
         57  < ack 1301 ecr 56      => rejected hole # what it holds may be the byte 1300",
    );
}

#[test]
fn rule_9_what_a_doubted_early_ack_may_have_acknowledged_is_not_timed() {
    let config = EngineConfig { outstanding_per_flow: 2, ..EngineConfig::default() };
    play_with(
        config,
        "0   > 1000+100 ts 1
         0   > 1099+100 ts 1
         0   > 1199+100 ts 1    # the record is given up
         0   < ack 1300 ecr 1       => rejected never_sent
         0   > 1150+40 ts 1
         0   < ack 1199 ecr 1       => rejected hole
         0   > 1500+100 ts 1    # so that 1300 was sent, if the peer is right
         1   < ack 1200 ecr 1       => rejected hole",
    );
}

#[test]
fn rule_9_an_early_ack_after_a_doubted_one_still_forbids() {
    let config = EngineConfig { outstanding_per_flow: 2, ..EngineConfig::default() };
    play_with(
        config,
        "0   > 1000+100
         0   < ack 1101             => rejected never_sent
         0   > 1000+100
         0   < ack 900
         0   > 993+100      # the record is given up
         0   < ack 1100             => rejected hole # so 1101 was not true
         0   > 1100+100
         0   < ack 1201             => rejected never_sent
         0   < ack 1200             => rejected unseen
         0   > 1200+301
         1   < ack 1501             => rejected unseen",
    );
}

#[test]
fn rule_9_thinning_among_retransmissions_leaves_nothing_that_could_mislead() {
    let config = EngineConfig { outstanding_per_flow: 4, ..EngineConfig::default() };
    play_with(
        config,
        "0   > 1000+100 ts 1
         1   > 1100+100 ts 1
         2   > 1000+100 ts 1
         3   > 1100+100 ts 2
         4   > 1200+100 ts 3
         50  < ack 1100 ecr 1    => rejected hole",
    );
}

#[test]
fn rule_10_no_sample_is_negative_zero_or_longer_than_idle_ttl() {
    play(
        "10 > 1000+100
         10 < ack 1100           => rejected not_positive
         20 > 1100+100
         15 < ack 1200           => rejected not_positive",
    );
    let config = EngineConfig { idle_ttl: Duration::from_secs(10), ..EngineConfig::default() };
    play_with(
        config,
        "0     > 1000+100
         9000  < ack 1000
         10001 < ack 1100        => rejected too_long",
    );
}

#[test]
fn sequence_numbers_wrap() {
    play(
        "0   > 4294967246+100
         1   > 50+100
         50  < ack 50            => data exact 50
         51  < ack 150           => data exact 50",
    );
}

#[test]
fn a_jump_beyond_the_largest_window_starts_anew() {
    play(
        "0   > 1000+100
         1   > 3000000000+100
         2   > 3000000100+100
         52  < ack 3000000200    => data exact 50",
    );
}

#[test]
fn parallel_flows_do_not_mix() {
    play(
        "0  > 1000+100 port 1
         5  > 1000+100 port 2
         50 < ack 1100 port 1    => data exact 50
         60 < ack 1100 port 2    => data exact 55",
    );
}

#[test]
fn the_least_recently_active_flow_makes_room() {
    let config = EngineConfig { max_flows: 2, ..EngineConfig::default() };
    let engine = play_with(
        config,
        "0    > 1000+100 port 1
         1000 > 1000+100 port 2
         2500 < ack 1000 port 1
         3000 > 1000+100 port 3
         3050 < ack 1100 port 3  => data exact 50
         3060 < ack 1100 port 1  => data exact 3060
         3070 < ack 1100 port 2",
    );
    assert_eq!((engine.flows(), engine.counters().flows_evicted), (2, 1));
}

#[test]
fn inbound_segments_and_resets_alone_make_no_flow() {
    let engine = play_with(
        EngineConfig::default(),
        "0 < S 7000
         1 > R 0
         2 < 7000+100 ack 1",
    );
    assert_eq!(engine.flows(), 0);
}

#[test]
fn an_interruption_forgets_what_is_outstanding() {
    let mut engine = play_with(EngineConfig::default(), "0 > 1000+100");
    engine.interrupt(1);
    for text in ["9000 < ack 1100", "9001 > 1100+100", "9051 < ack 1200 => data exact 50"] {
        let line = parse(text).unwrap();
        assert_eq!(support::trace::describe(&engine.record(&line.segment)), line.expected, "{text}");
    }
}

#[test]
fn nothing_is_timed_across_lost_records_however_many_gaps_a_flow_was_silent_for() {
    for gaps in [1, 2, 255, 256, 257, 512] {
        let lines = "0 > 1000+100\n 50 < ack 1100 => data exact 50\n 60 > 1100+100";
        let mut engine = play_with(EngineConfig::default(), lines);
        (0..gaps).for_each(|_| engine.note_gap());
        for text in ["110 < ack 1200 => rejected no_segment", "120 > 1200+100", "170 < ack 1300 => data exact 50"] {
            let line = parse(text).unwrap();
            assert_eq!(support::trace::describe(&engine.record(&line.segment)), line.expected, "{gaps} gaps: {text}");
        }
    }
}

#[test]
fn among_records_some_of_which_may_be_missing_nothing_is_timed_and_flows_go_on() {
    let mut engine = play_with(EngineConfig::default(), "0 > 1000+100\n 50 < ack 1100 => data exact 50");
    let play = |text: &str, engine: &mut Engine| {
        let line = parse(text).unwrap();
        assert_eq!(support::trace::describe(&engine.record(&line.segment)), line.expected, "{text}");
    };
    engine.note_gap();
    engine.set_doubtful(true);
    play("60 > 1100+100", &mut engine);
    play("110 < ack 1200 => rejected unseen", &mut engine);
    play("115 > 1200+100", &mut engine);
    engine.note_gap();
    engine.set_doubtful(false);
    play("160 < ack 1300 => rejected no_segment", &mut engine);
    play("170 > 1300+100", &mut engine);
    play("220 < ack 1400 => data exact 50", &mut engine);
    assert_eq!(engine.flows(), 1);
}

/// As a live source has it.
fn live() -> EngineConfig {
    EngineConfig { settles_after: Duration::from_secs(1), ..EngineConfig::default() }
}

#[test]
fn what_a_live_source_sees_first_in_the_middle_may_be_a_retransmission_for_a_second() {
    play_with(
        live(),
        "0    > 1000+100
         50   < ack 1100        => rejected unseen
         900  > 1100+100
         1050 < ack 1200        => rejected unseen
         1100 > 1200+100
         1150 < ack 1300        => data exact 50
         1200 > 1300+100
         1250 < ack 1400        => data exact 50",
    );
    // Unless the echo says that it is none.
    play_with(
        live(),
        "0    > 1000+100 ts 100
         50   < ack 1100 ecr 100  => data exact 50
         60   > 1100+100 ts 160
         70   > 1200+100 ts 170
         120  < ack 1300 ecr 160  => rejected unseen
         1100 > 1300+100 ts 1200
         1110 > 1400+100 ts 1210
         1160 < ack 1500 ecr 1200 => data exact 50",
    );
    // What begins with a SYN was seen from the beginning.
    play_with(
        live(),
        "0    > S 999
         50   < SA 7000 ack 1000 => connect exact 50
         60   > 1000+100
         110  < ack 1100         => data exact 50",
    );
}

#[test]
fn the_same_holds_after_lost_records_but_not_for_what_the_classifier_has_compared() {
    let before =
        "0 > S 999\n 50 < SA 7000 ack 1000 => connect exact 50\n 60 > 1000+100\n 110 < ack 1100 => data exact 50";
    let after = ["2000 > 1100+100", "2050 < ack 1200", "2060 > 1200+100", "2110 < ack 1300", "3200 > 1300+100"];
    for (bits, expected) in [(0, "rejected unseen"), (Bits::RESYNC, "data exact 50")] {
        let mut engine = play_with(live(), before);
        engine.note_gap();
        let mut lines: Vec<_> = after.into_iter().filter_map(parse).collect();
        lines[0].segment.header.bits.0 |= bits;
        let found: Vec<String> =
            lines.iter().filter_map(|line| support::trace::describe(&engine.record(&line.segment))).collect();
        // The first is behind a gap.
        assert_eq!(found.last().unwrap(), expected, "{found:?}");
        let last = parse("3250 < ack 1400").unwrap();
        assert_eq!(support::trace::describe(&engine.record(&last.segment)).unwrap(), "data exact 50");
    }
}

#[test]
fn a_connection_that_begins_after_a_gap_is_timed_from_its_syn_on() {
    // On a tuple that nothing was known of, and on one whose earlier connection the gap was in.
    for before in ["", "0 > S 1000\n 50 < SA 7000 ack 1001 => connect exact 50"] {
        let mut engine = play_with(EngineConfig::default(), before);
        engine.note_gap();
        for text in ["100 > S 50000", "150 < SA 90000 ack 50001 => connect exact 50"] {
            let line = parse(text).unwrap();
            assert_eq!(support::trace::describe(&engine.record(&line.segment)), line.expected, "{before:?}: {text}");
        }
    }
}

#[test]
fn other_bounds_hold_from_now_on_and_the_counters_go_on() {
    let mut engine =
        play_with(EngineConfig::default(), "0 > 1000+100\n 50 < ack 1100 => data exact 50\n 60 > 1100+100");
    engine.set_config(EngineConfig::default());
    assert_eq!(engine.flows(), 1, "the same bounds disturb nothing");
    engine.set_config(EngineConfig { idle_ttl: Duration::from_millis(20), ..EngineConfig::default() });
    assert_eq!((engine.flows(), engine.counters().samples_total(), engine.counters().sent), (0, 1, 2));
    for text in ["70 > 1200+100", "100 < ack 1300", "110 > 1300+100", "120 < ack 1400 => data exact 10"] {
        let line = parse(text).unwrap();
        assert_eq!(support::trace::describe(&engine.record(&line.segment)), line.expected, "{text}");
    }
}

#[test]
fn the_account_closes() {
    let engine = play_with(
        EngineConfig::default(),
        "0   > 1000+100
         50  < ack 1100          => data exact 50
         60  > 1100+100
         90  > 1100+100
         99  < ack 1200          => rejected retransmitted
         100 < ack 1200
         101 < ack 9999          => rejected never_sent",
    );
    let counters = engine.counters();
    assert_eq!((counters.sent, counters.retransmissions), (3, 1));
    assert_eq!((counters.samples_total(), counters.rejected_total(), counters.quiet_total()), (1, 2, 1));
}

#[test]
fn rule_2_a_retransmission_on_a_path_of_microseconds_is_one_too() {
    // However soon it follows, and with the same TSval: the first may have been lost.
    play(
        "1    > 1000+100 ts 1
         1.15 > 1000+100 ts 1
         1.2  < ack 1100 ecr 1      => rejected retransmitted
         1.3  > 1100+100 ts 1
         1.35 < ack 1200 ecr 1      => data exact 0.05",
    );
    play(
        "1    > 1000+100
         1.01 > 1100+100
         1.06 < ack 1000 sack
         1.07 > 1000+100
         1.12 < ack 1200            => rejected hole",
    );
}

#[test]
fn an_acknowledgement_that_was_kept_back_is_marked() {
    // One at once, one kept back for 40 ms, and so on; what the receiver does is known after eight.
    let round = |k: u64| {
        let (at, seq) = (k * 100, 1000 + k * 200);
        let mark = if k < 8 { "" } else { " delayed" };
        let (first, second) = (seq + 100, seq + 200);
        format!(
            "{at} > {seq}+100\n{} < ack {first} => data exact 10\n{} > {first}+100\n\
             {} < ack {second} => data exact 51{mark}",
            at + 10,
            at + 20,
            at + 71
        )
    };
    let talk: Vec<String> = (0..12).map(round).collect();
    let then = "
        # Two segments: the second may not wait.
        1280 > 3400+100
        1281 > 3500+100
        1332 < ack 3600             => data exact 51
        1340 > 3600+100
        1350 < ack 3700             => data exact 10
        # With payload: when the peer had something to say.
        1360 > 3700+100
        1411 < 7000+10 ack 3800     => data exact 51";
    assert_eq!(play_with(EngineConfig::default(), &(talk.join("\n") + then)).counters().delayed, 4);
}

#[test]
fn what_waited_in_a_queue_is_not_marked() {
    // A queue fills and drains: 110 ms at most, and now and then the 40 ms of a delayed ACK.
    let waits = [0, 110, 70, 41, 20, 0, 41, 0];
    let round = |k: usize| {
        let (at, seq, rtt) = (k * 200, 1000 + k * 100, 10 + waits[k % waits.len()]);
        format!("{at} > {seq}+100\n{} < ack {} => data exact {rtt}", at + rtt, seq + 100)
    };
    play(&(0..200).map(round).collect::<Vec<_>>().join("\n"));
}

/// A connection through a router: 50 ms to the remote end and back, 3 ms to the local one.
const THROUGH_THE_MIDDLE: &str = "
    0    > S 1000
    50   < SA 7000 ack 1001             => REMOTE connect exact 50
    53   > A 1001 ack 7001              => LOCAL connect exact 3
    60   > 1001+100 ack 7001
    110  < 7001+200 ack 1101            => REMOTE data exact 50
    113  > A 1101 ack 7201              => LOCAL data exact 3
    # Data that crosses: each side has its own.
    200  > 1101+100 ack 7201
    201  < 7201+100 ack 1101
    204  > A 1201 ack 7301              => LOCAL data exact 3
    250  < A 7301 ack 1201              => REMOTE data exact 50";

/// The trace with only these sides' outcomes.
fn seen_by(sides: &[&str]) -> String {
    let only = |line: &str| match line.split_once("=>") {
        Some((segment, outcome)) if !sides.iter().any(|side| outcome.contains(side)) => segment.to_owned(),
        _ => line.to_owned(),
    };
    THROUGH_THE_MIDDLE
        .lines()
        .map(only)
        .collect::<Vec<_>>()
        .join("\n")
        .replace("REMOTE", "remote")
        .replace("LOCAL", "local")
}

#[test]
fn each_side_times_what_the_other_end_sends() {
    let engine = play_sides(Sides::BOTH, &seen_by(&["REMOTE", "LOCAL"]));
    assert_eq!((engine.flows(), engine.counters().samples_total()), (2, 6));
    let engine = play_sides(Sides::LOCAL, &seen_by(&["LOCAL"]));
    assert_eq!((engine.flows(), engine.counters().samples_total()), (1, 3));
    let engine = play_sides(Sides::REMOTE, &seen_by(&["REMOTE"]));
    assert_eq!((engine.flows(), engine.counters().samples_total()), (1, 3));
}

#[test]
fn a_retransmission_makes_only_its_own_side_ambiguous() {
    play_sides(
        Sides::BOTH,
        "0    > 1000+100 ack 7000
         1    < 7000+100 ack 1000
         4    > A 1100 ack 7100          => local data exact 3
         300  > 1000+100 ack 7100
         350  < A 7100 ack 1100          => remote rejected retransmitted",
    );
    // The remote end sends again what the local end has not acknowledged.
    play_sides(
        Sides::BOTH,
        "0    < 7000+100 ack 1000
         250  < 7000+100 ack 1000
         253  > A 1000 ack 7100          => local rejected retransmitted
         260  > 1000+100 ack 7100
         310  < A 7100 ack 1100          => remote data exact 50",
    );
}

#[test]
fn what_the_local_end_keeps_back_is_marked_as_well() {
    let round = |k: u64| {
        let (at, seq) = (k * 100, 7000 + k * 200);
        let mark = if k < 8 { "" } else { " delayed" };
        let (first, second) = (seq + 100, seq + 200);
        format!(
            "{at} < {seq}+100 ack 1000\n{} > A 1000 ack {first} => local data exact 3\n\
             {} < {first}+100 ack 1000\n{} > A 1000 ack {second} => local data exact 43{mark}",
            at + 3,
            at + 10,
            at + 53
        )
    };
    play_sides(Sides::BOTH, &(0..10).map(round).collect::<Vec<_>>().join("\n"));
}

// What the frames of captures from elsewhere refute; the same as whole conversations in `tests/cases`.

#[test]
fn rule_13_an_echo_newer_than_the_segment_names_something_that_passed_unseen() {
    let talk = "0   > 1000+100 ts 10
         50  < ack 1100 ecr ECHO    => OUTCOME
         60  > 1100+100 ts 70
         110 < ack 1200 ecr 70      => data exact 50";
    let with = |echo: &str, outcome: &str| play(&talk.replace("ECHO", echo).replace("OUTCOME", outcome));
    with("11", "rejected unseen");
    with("10", "data exact 50");
    // No echo at all.
    with("0", "data exact 50");
    // Timestamps wrap too.
    let wraps = "0   > 1000+100 ts 4294967290
         50  < ack 1100 ecr 3       => rejected unseen
         60  > 1100+100 ts 4
         110 < ack 1200 ecr 4       => data exact 50";
    play(wraps);
    // Also where the first that is acknowledged carries no timestamps.
    for (echo, outcome) in [("70", "data exact 49"), ("71", "rejected unseen")] {
        play(&format!(
            "0   > 1000+100 ts 10
             50  < ack 1100 ecr 10      => data exact 50
             60  > 1100+100
             61  > 1200+100 ts 70
             110 < ack 1300 ecr {echo}  => {outcome}"
        ));
    }
    // Several that are acknowledged together: the receiver echoes the first, or any up to the last.
    for (echo, outcome) in [("10", "data exact 48"), ("12", "data exact 48"), ("13", "rejected unseen")] {
        play(&format!(
            "0 > 1000+100 ts 10\n 1 > 1100+100 ts 11\n 2 > 1200+100 ts 12\n 50 < ack 1300 ecr {echo} => {outcome}"
        ));
    }
}

#[test]
fn rule_13_an_echo_older_than_all_that_is_acknowledged_is_of_an_earlier_transmission() {
    // The first segment that is seen is a retransmission, after a start, a sampling window or an eviction.
    play(
        "100 > 1000+100 ts 200
         101 < ack 1100 ecr 90      => rejected unseen
         110 > 1100+100 ts 210
         160 < ack 1200 ecr 210     => data exact 50",
    );
    // Or any other, whose first transmission passed unseen.
    play(
        "0   > 1000+100 ts 10
         50  < ack 1100 ecr 10      => data exact 50
         160 > 1100+100 ts 170
         161 < ack 1200 ecr 120     => rejected unseen",
    );
    let mut engine = play_with(EngineConfig::default(), "0 > 1000+100 ts 10\n 50 < ack 1100 ecr 10 => data exact 50");
    engine.interrupt(1);
    for text in ["160 > 1100+100 ts 170", "161 < ack 1200 ecr 120 => rejected unseen"] {
        let line = parse(text).unwrap();
        assert_eq!(support::trace::describe(&engine.record(&line.segment)), line.expected, "{text}");
    }
    // A part of what is acknowledged says as much.
    play(
        "0   > 1000+100 ts 10
         1   > 1100+100 ts 11
         30  < ack 1200 ecr 9       => rejected unseen",
    );
}

#[test]
fn rule_11_across_a_gap_nothing_is_timed_unless_its_echo_says_that_there_was_none() {
    let gap = "0   > 1000+100 ts 10
         # 1100..1200 passes unseen
         2   > 1200+100 ts 12
         3   > 1300+100 ts 13";
    play(&format!("{gap}\n 50 < ack 1100 ecr 10 => data exact 50\n 51 < ack 1400 ecr 11 => rejected unseen"));
    play(&format!("{gap}\n 50 < ack 1300 ecr 12 => data exact 48\n 51 < ack 1400 ecr 13 => data exact 48"));
    // Without timestamps, and with sequence numbers that wrap within it.
    play(
        "0   > 4294967196+50
         2   > 50+100
         3   > 150+100
         50  < ack 4294967246       => data exact 50
         51  < ack 250              => rejected unseen
         60  > 250+100
         110 < ack 350              => data exact 50",
    );
    // What is below the gap is none of its business, and neither is what comes after it was acknowledged.
    play(
        "0   > 1000+100
         1   > 1200+100
         50  < ack 1100             => data exact 50
         51  < ack 1200             => rejected no_segment
         52  < ack 1300             => data exact 51",
    );
}

#[test]
fn rule_11_a_gap_outlives_the_thinning_of_the_record_and_a_hole() {
    let config = EngineConfig { outstanding_per_flow: 4, ..EngineConfig::default() };
    play_with(
        config,
        "0   > 1000+100
         1   > 1200+100     # behind a gap, and dropped from the record
         2   > 1300+100
         3   > 1400+100
         4   > 1500+100
         50  < ack 1400             => rejected unseen",
    );
    play(
        "0   > S 999 sackperm
         1   < SA 7000 ack 1000 sackperm => connect exact 1
         2   > 1000+100
         3   > 1200+100     # behind a gap
         4   > 1300+100
         20  < ack 1000 sack
         30  < ack 1100             => rejected hole
         31  > 1400+100
         60  < ack 1500             => rejected unseen",
    );
}

#[test]
fn rule_5_an_advancing_ack_with_a_block_above_was_caused_by_what_is_behind_the_hole() {
    play(
        "0   > 1000+100
         1   > 1100+100
         6   > 1300+100     # 1200..1300 is lost
         56  < ack 1200 sack        => rejected hole
         100 > 1200+100
         150 < ack 1400             => rejected hole
         160 > 1400+100
         210 < ack 1500             => data exact 50",
    );
}

#[test]
fn rule_12_what_was_acknowledged_before_it_was_seen_is_not_timed_by_a_repetition() {
    // The acknowledgement was captured first, or its segment's record was lost and this is a retransmission.
    play(
        "0   > 1000+100
         50  < ack 1100             => data exact 50
         60  < ack 1200             => rejected never_sent
         61  > 1100+100
         90  < ack 1200             => rejected unseen
         91  > 1200+100
         140 < ack 1300             => data exact 49",
    );
    // Several, the last of them new in part.
    play(
        "0   > 1000+100
         50  < ack 1350             => rejected never_sent
         51  > 1100+100
         52  > 1200+100
         53  > 1300+100
         99  < ack 1400             => rejected unseen",
    );
    // Before there was a flow.
    play(
        "0   < ack 1200
         1   > 1000+100
         2   > 1100+100
         90  < ack 1200             => rejected unseen
         91  > 1200+100
         140 < ack 1300             => data exact 49",
    );
    play(
        "0   < S 7000
         1   < ack 1001
         2   > SA 1000 ack 7001
         90  < ack 1001             => rejected unseen",
    );
    // Of another connection, which is over.
    play(
        "0   < ack 1200
         1   > S 1000
         51  < SA 7000 ack 1001     => connect exact 50
         52  > 1001+100
         102 < ack 1101             => data exact 50",
    );
    // A number that has wrapped.
    play(
        "0   < ack 100
         1   > 4294967196+200
         90  < ack 100              => rejected unseen",
    );
}

#[test]
fn rule_12_both_ends_agree_that_what_passed_unseen_was_acknowledged() {
    // 1100..1200 passed unseen and was acknowledged: there is no gap for what follows.
    play(
        "0   > 1000+100
         50  < ack 1200             => rejected never_sent
         60  > 1200+100
         110 < ack 1300             => data exact 50",
    );
    play(
        "0   > 1000+100
         50  < ack 1200             => rejected never_sent
         60  > 1300+100
         110 < ack 1400             => rejected unseen",
    );
}

#[test]
fn rule_7_a_second_syn_ack_with_another_number_does_not_silence_its_direction() {
    for second in [500_u32, 4_000_000_000, 17_000_000] {
        let opening = format!(
            "0   < S 7000
             1   > SA 1000 ack 7001
             3   > SA {second} ack 7001\n"
        );
        play(&format!(
            "{opening}
             51  < ack 1001             => connect exact 50
             60  > 1001+100
             61  > SA {second} ack 7001 # and again
             110 < ack 1101             => data exact 50
             120 > 1101+100
             170 < ack 1201             => data exact 50"
        ));
        // The connection may as well go on with the second.
        let next = second + 1;
        let mut engine = play_with(EngineConfig::default(), &opening);
        let rest = format!(
            "60  > {next}+100
             110 < ack {}               => data exact 50
             120 > {}+100
             170 < ack {}               => data exact 50",
            next + 100,
            next + 100,
            next + 200
        );
        for line in rest.lines().filter_map(parse) {
            assert_eq!(support::trace::describe(&engine.record(&line.segment)), line.expected, "{}", line.text);
        }
    }
}

#[test]
fn rule_4_the_echo_of_a_super_segment_proves_nothing_once_a_part_of_it_was_sent_again() {
    let probed = "0    > 1000+2896 ts 91
         10   < ack 1000 ecr 80
         38   > 2448+1448 ts 129";
    play(&format!("{probed}\n 48 < ack 3896 ecr 91  => rejected retransmitted"));
    play(&format!("{probed}\n 48 < ack 3896 ecr 129 => data timestamp 10"));
    // Nor where all of it was: its head may have been lost again.
    play(
        "0    > 1000+2896 ts 91
         38   > 1000+2896 ts 129
         48   < ack 3896 ecr 91  => rejected retransmitted",
    );
    // What was sent again below it does not matter.
    play(
        "0    > 1000+100 ts 90
         30   > 1100+2896 ts 120
         38   > 1000+100 ts 129
         78   < ack 1100 ecr 129 => data timestamp 40
         80   < ack 3996 ecr 120 => data timestamp 50",
    );
    // Without timestamps nothing tells.
    play(
        "0    > 1000+2896
         38   > 2448+1448
         48   < ack 3896         => rejected retransmitted",
    );
}

#[test]
fn rule_5_a_hole_ends_where_a_receiver_with_sack_acknowledges_without_a_block() {
    // It holds nothing above 1100, so that what was sent since cannot have been there already.
    let holes = "0   > S 999 PERMITTED
         51   < SA 7000 ack 1000 PERMITTED => connect exact 51
         52   > 1000+100
         53   > 1100+100
         54   > 1200+100
         102  < ack 1000 sack
         103  > 1300+100
         110  < ack 1100             => rejected hole
         153  < ack 1200             => data exact 100
         154  < ack 1400             => data exact 51";
    play(&holes.replace("PERMITTED", "sackperm"));
    let across = "0   > S 999 sackperm
         51   < SA 7000 ack 1000 sackperm => connect exact 51
         52   > 1000+100
         53   > 1100+100
         54   > 1200+100
         102  < ack 1000 sack
         103  > 1300+100";
    play(&format!("{across}\n 110 < ack 1100 => rejected hole\n 153 < ack 1400 => data exact 50"));
    play(&format!("{across}\n 110 < ack 1100 sack => rejected hole\n 153 < ack 1400 => rejected hole"));
    // So is what was outstanding when the hole showed, and was not there yet.
    play(&format!("{across}\n 110 < ack 1100 => rejected hole\n 153 < ack 1300 => data exact 99"));
    // Also where it was filled by a retransmission, unless something that was sent again is still outstanding.
    play(&format!(
        "{across}
         104 > 1000+100
         155 < ack 1100             => rejected hole
         156 < ack 1200             => data exact 103"
    ));
    play(&format!(
        "{across}
         104 > 1000+100
         105 > 1100+100
         155 < ack 1100             => rejected hole
         156 < ack 1200             => rejected retransmitted
         157 < ack 1300             => rejected retransmitted"
    ));
    // With another hole since, or a retransmission, it is as before.
    play(&format!(
        "{across}
         110  < ack 1100             => rejected hole
         120  < ack 1100 sack
         153 < ack 1400             => rejected hole"
    ));
    play(&format!(
        "{across}
         110  < ack 1100             => rejected hole
         310 > 1100+100
         311 > 1400+100
         360 < ack 1500             => rejected recovery"
    ));
    // Where SACK is only found to be in use after one duplicate acknowledgement made a hole suspected.
    let suspected = "50   > 1000+100
         50.5 < ack 1000
         51   > 1100+100
         52   > 1200+100
         53   > 1300+100
         100  < ack 1000
         101  < ack 1100 dsack       => rejected unseen";
    play(&format!("{suspected}\n 103 < ack 1400 => data exact 50"));
    let plain = suspected.replace("dsack       => rejected unseen", "=> data exact 51");
    play(&format!("{plain}\n 103 < ack 1400 => rejected hole"));
}

#[test]
fn what_was_acknowledged_ahead_is_of_another_connection_than_a_syn_ack_that_comes_then() {
    // Whether the first segment was seen or, by the classifier, left out.
    let begins = "2  > SA 200 ack 0
         3  > 300+100
         4  < ack 400                => rejected unseen";
    play(&format!("0 < ack 300\n {begins}"));
    play(&format!("0 < ack 300\n 1 > 200+100\n {begins}"));
}

#[test]
fn every_rule_holds_for_the_local_side_as_well() {
    play_sides(
        Sides::BOTH,
        "0   < 1000+100 ts 10 ack 7000
         50  > A 7000 ack 1100 ecr 11   => local rejected unseen
         51  < 1200+100 ack 7000
         54  > A 7000 ack 1300          => local rejected unseen
         60  > A 7000 ack 1400          => local rejected never_sent
         61  < 1300+100 ack 7000
         64  > A 7000 ack 1400          => local rejected unseen
         70  < 1400+100 ack 7000
         71  < 1500+100 ack 7000
         73  > A 7000 ack 1500 sack     => local rejected hole",
    );
}

#[test]
fn rule_15_where_a_segment_of_the_peer_was_missed_the_next_is_not_the_first_acknowledgement() {
    let config = EngineConfig { peers_complete: true, ..EngineConfig::default() };
    let trace = "
        0   > S 999
        50  < SA 7000 ack 1000     => connect exact 50
        60  > 1000+100
        110 < 7001+10 ack 1100     => data exact 50
        120 > 1100+100
        # 7011..7021 passes unseen, which may have acknowledged 1200
        200 < 7021+10 ack 1200     => rejected unseen
        210 > 1200+100
        260 < 7031+0 ack 1300      => data exact 50
        270 > 1300+100
        # What was missed was sent before this, so that it acknowledged no more.
        280 < 7051+10 ack 1300
        320 < 7061+10 ack 1400     => data exact 50
        330 > 1400+100
        # A retransmission or a late segment does not show that anything was missed.
        380 < 7041+10 ack 1500     => data exact 50
        390 > 1500+100
        # An acknowledgement without payload tells as well.
        440 < 7091+0 ack 1600      => rejected unseen
        445 < 7091+10 ack 1600
        450 > 1600+100
        500 < 7101+0 ack 1700      => data exact 50
        # 7101..7111 is acknowledged here, so that it was sent before this.
        510 > 1700+100 ack 7111
        560 < 7111+10 ack 1800     => data exact 50
        570 > 1800+100 ack 7121
        580 > 1900+100 ack 7131
        # And here it may have acknowledged what was outstanding.
        630 < 7131+10 ack 1900     => rejected unseen
        # That one was sent after it had arrived.
        635 < 7141+0 ack 2000      => data exact 55
        640 > 2000+100 ack 7141
        650 > 2100+100 ack 7151
        # 7141..7151 passed unseen as well, and is sent again: its first transmission may have acknowledged 2100.
        900 < 7141+10 ack 2100     => rejected unseen
        910 < 7151+0 ack 2200      => data exact 260";
    play_with(config, trace);
    // And where the peer's numbers wrap.
    play_with(
        config,
        "0   > 1000+100
         50  < 4294967290+6 ack 1100 => data exact 50
         60  > 1100+100
         110 < 0+10 ack 1200         => data exact 50
         120 > 1200+100
         170 < 20+10 ack 1300        => rejected unseen",
    );
    // The classifier leaves out what repeats an acknowledgement.
    play(
        "0   > 1000+100
         50  < 7000+10 ack 1100    => data exact 50
         60  > 1100+100
         110 < 9000+10 ack 1200    => data exact 50",
    );
}

#[test]
fn rule_14_an_advancing_ack_with_a_d_sack_was_caused_by_what_had_arrived_before() {
    let conversation = "0   > 1000+100
         1   > 1100+100
         50  < ack 1100             => data exact 50
         90  < ack 1200 DSACK";
    play(&conversation.replace("DSACK", "dsack => rejected unseen"));
    play(&conversation.replace("DSACK", "=> data exact 89"));
}

/// The numbers that a text cites: `rule 4`, `Rules 1 to 4, 9, and 11 to 13`, `rule_5_…`.
fn cited(text: &str) -> BTreeSet<u32> {
    let mut cited = BTreeSet::new();
    for (at, word) in text.to_lowercase().match_indices("rule") {
        let rest = &text[at + word.len()..];
        let rest = rest.strip_prefix('s').unwrap_or(rest);
        let Some(rest) = rest.strip_prefix([' ', '_']) else { continue };
        let list = rest.find(|c: char| !c.is_ascii_digit() && !" ,andto".contains(c)).map_or(rest, |end| &rest[..end]);
        let mut range_from = None;
        let mut previous = None;
        for part in list.split([' ', ',', '_']).filter(|part| !part.is_empty()) {
            match (part.parse::<u32>(), range_from.take()) {
                (Ok(number), Some(from)) => cited.extend(from..=number),
                (Ok(number), None) => {
                    cited.insert(number);
                    previous = Some(number);
                }
                (Err(_), _) if part == "to" => range_from = previous,
                (Err(_), _) if part == "and" => {}
                (Err(_), _) => break,
            }
        }
    }
    cited
}

/// The files in a folder and in those in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn every_citation_is_of_a_rule_and_every_rule_is_obeyed_and_tested_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let rules: BTreeSet<u32> = read("RULES.md")
        .lines()
        .filter_map(|line| line.strip_prefix("### Rule ")?.split_once(':')?.0.parse().ok())
        .collect();
    let headings = read("RULES.md").matches("\n### Rule ").count();
    assert_eq!(rules, (1..).take(headings).collect(), "the headings of RULES.md count up from 1");
    for rule in read("RULES.md").split("\n### Rule ").skip(1) {
        assert!(rule.contains("\n- Source: ") && rule.contains("Cost: "), "Rule {rule}");
    }
    let code: String = files(&root.join("src")).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(cited(&code), rules, "by the engine");
    let traces: String = read("tests/rules.rs").lines().filter(|line| line.starts_with("fn rule_")).collect();
    assert_eq!(cited(&traces), rules, "by the traces");
    // The model knows no bounds.
    let unbounded: BTreeSet<u32> = rules.iter().copied().filter(|rule| *rule != 9).collect();
    assert_eq!(cited(&read("tests/support/model.rs")), unbounded, "by the model");
    let pages = ["README.md", "RULES.md", "../ARCHITECTURE.md", "../docs/accuracy.md", "../docs/how-it-measures.md"];
    let tests = files(&root.join("tests")).into_iter().filter(|path| !path.ends_with("rules.rs"));
    for page in pages.map(|page| root.join(page)).into_iter().chain(tests) {
        let unknown: Vec<u32> = cited(&fs::read_to_string(&page).unwrap()).difference(&rules).copied().collect();
        assert!(unknown.is_empty(), "{} cites {unknown:?}", page.display());
    }
    assert_eq!(
        cited("Rules 1 to 4, 9, and 11 to 13 of it; ruled 7; rule_15_x (rule\n6)"),
        BTreeSet::from([1, 2, 3, 4, 9, 11, 12, 13, 15])
    );
}
