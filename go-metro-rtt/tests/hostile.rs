//! What somebody sends who wants a false figure: forged acknowledgements, resets, SYNs, timestamps and sequence
//! numbers. They may cost samples; they never make a false one, and never more than the bounds allow.
//!
//! Who guesses an acknowledgement number within what is outstanding at that moment can do as the peer does: lie. That
//! is left to SECURITY.md.

// Also in helper functions, outside of what clippy takes for a test.
#![allow(clippy::unwrap_used)]

mod support;

use go_metro_common::segment::{Bits, Payload, TcpFlags};
use go_metro_rtt::{EngineConfig, Nanos, Outcome, Segment};
use proptest::prelude::*;
use support::property::cases;
use support::trace::{parse, play, play_with};

#[test]
fn an_optimistic_ack_of_what_was_not_sent_yet_costs_what_is_outstanding_or_sent_until_the_peer_says_otherwise() {
    play(
        "0   > 1000+100
         10  < ack 500000000    => rejected never_sent
         20  > 1100+100
         21  > 1200+100
         50  < ack 1100         => rejected unseen
         70  < ack 1200         => rejected unseen
         71  < ack 1300         => rejected unseen
         72  > 1300+100
         122 < ack 1400         => data exact 50",
    );
}

#[test]
fn a_forged_reset_costs_what_is_outstanding_and_no_more() {
    play(
        "0   > 1000+100
         5   < R 77777
         50  < ack 1100
         60  > 1100+100
         110 < ack 1200         => data exact 50",
    );
}

#[test]
fn a_forged_syn_costs_what_is_outstanding_and_no_more() {
    play(
        "0   > S 999
         50  < SA 7000 ack 1000 => connect exact 50
         60  > 1000+100
         70  < S 123456
         110 < ack 1100
         120 > 1100+100
         170 < ack 1200         => data exact 50",
    );
}

#[test]
fn forged_duplicates_and_sack_blocks_cost_what_is_outstanding_and_no_more() {
    play(
        "0   > 1000+100
         50  < ack 1100         => data exact 50
         60  > 1100+100
         61  > 1200+100
         70  < ack 1100 sack
         110 < ack 1200         => rejected hole
         111 < ack 1300         => data exact 50
         120 > 1300+100
         170 < ack 1400         => data exact 50",
    );
}

#[test]
fn timestamps_that_jump_cost_samples_and_make_none_that_sequence_numbers_do_not() {
    play(
        "0   > 1000+100 ts 4294967295
         50  < ack 1100 ecr 4294967295 => data exact 50
         60  > 1100+100 ts 5
         110 < ack 1200 ecr 4000000000 => rejected unseen
         120 > 1200+100 ts 3000000000
         130 > 1200+100 ts 2
         170 < ack 1300 ecr 0   => rejected retransmitted
         180 > 1300+100 ts 1
         230 < ack 1400 ecr 1   => data exact 50",
    );
}

#[test]
fn acknowledgements_from_the_other_half_of_the_sequence_space_are_old_or_never_sent() {
    play(
        "0   > 1000+100
         10  < ack 2147484700   => rejected never_sent
         11  < ack 2147484800   # more than 2^31 ahead is behind
         12  < ack 3000000000
         50  < ack 1100         => data exact 50",
    );
}

#[test]
fn a_local_end_whose_numbers_leap_is_followed_where_it_goes() {
    play(
        "0   > 1000+100
         10  > 2000000000+100   # as after a restart
         20  < ack 1100
         60  < ack 2000000100   => data exact 50
         70  > 1000+100
         120 < ack 1100         => data exact 50",
    );
}

#[test]
fn acks_of_a_thousand_connections_that_nobody_made_make_no_flow() {
    let engine = play_with(
        EngineConfig { max_flows: 2, ..EngineConfig::default() },
        &(0..1000).map(|port| format!("{port} < ack 5000 port {port}\n")).collect::<String>(),
    );
    assert_eq!(engine.flows(), 0);
}

/// What somebody sends who does not know what is outstanding.
#[derive(Clone, Debug)]
enum Forged {
    /// A reset, with whatever sequence and acknowledgement numbers.
    Reset { seq: u32, ack: u32 },
    /// A SYN or SYN-ACK that acknowledges nothing that is outstanding.
    Syn { seq: u32, with_ack: bool },
    /// An acknowledgement so far above what was sent, or below what was acknowledged.
    Outside { above: bool, by: u32 },
    /// One more of the last acknowledgement, with or without a block above it.
    Duplicate { sack: bool, window: u16 },
    /// Anything at all, of another connection of the same hosts.
    Other { port: u16, flags: u8, bits: u8, seq: u32, ack: u32, len: u32 },
}

fn forged() -> impl Strategy<Value = Forged> {
    prop_oneof![
        (any::<u32>(), any::<u32>()).prop_map(|(seq, ack)| Forged::Reset { seq, ack }),
        (any::<u32>(), any::<bool>()).prop_map(|(seq, with_ack)| Forged::Syn { seq, with_ack }),
        (any::<bool>(), 1u32..1 << 30).prop_map(|(above, by)| Forged::Outside { above, by }),
        (any::<bool>(), 499u16..502).prop_map(|(sack, window)| Forged::Duplicate { sack, window }),
        (0u16..40_000, any::<u8>(), any::<u8>(), any::<u32>(), any::<u32>(), 0u32..100_000)
            .prop_map(|(port, flags, bits, seq, ack, len)| Forged::Other { port, flags, bits, seq, ack, len }),
    ]
}

/// The forged segment, at a time at which the honest connection has sent and acknowledged so much.
fn forge(forged: &Forged, at_ns: u64, sent: u32, acknowledged: u32) -> Segment {
    let mut segment = parse("0 < ack 0").map(|line| line.segment).unwrap();
    let header = &mut segment.header;
    header.time_ns = at_ns;
    match *forged {
        Forged::Reset { seq, ack } => {
            (header.seq, header.ack, header.flags.0) = (seq, ack, TcpFlags::RST | TcpFlags::ACK);
        }
        Forged::Syn { seq, with_ack } => {
            let ack = if with_ack { TcpFlags::ACK } else { 0 };
            (header.seq, header.ack, header.flags.0) = (seq, acknowledged, TcpFlags::SYN | ack);
        }
        Forged::Outside { above, by } => {
            header.ack = if above { sent.wrapping_add(by) } else { acknowledged.wrapping_sub(by) };
        }
        Forged::Duplicate { sack, window } => {
            (header.ack, header.window) = (acknowledged, window);
            header.bits.0 |= if sack { Bits::SACK_ABOVE } else { 0 };
        }
        Forged::Other { port, flags, bits, seq, ack, len } => {
            (header.seq, header.ack, header.payload, header.flags.0) = (seq, ack, Payload::new(len), flags);
            header.bits.0 = bits & !Bits::EGRESS;
            segment.flow.local.port = port;
        }
    }
    segment
}

proptest! {
    #![proptest_config(cases(400))]

    /// A segment every 7 ms, each acknowledged after 50 ms; between them, forged ones.
    #[test]
    fn forged_segments_cost_samples_and_never_make_a_false_one(
        count in 5u32..60, attacks in prop::collection::vec((0u64..500_000_000, forged()), 0..40), first: u32,
    ) {
        const RTT: u64 = 50_000_000;
        // A forged number ahead costs what is sent until the next segment is acknowledged.
        const SPACING: u64 = 7_000_000;
        let mut engine = go_metro_rtt::Engine::new(EngineConfig { max_flows: 16, ..EngineConfig::default() });
        let mut events: Vec<(u64, Option<Segment>, Option<&Forged>)> = Vec::new();
        for k in 0..count {
            let (at, seq) = (1_000_000_000 + u64::from(k) * SPACING, first.wrapping_add(k * 100));
            let mut honest = parse("0 > 0+100").map(|line| line.segment).unwrap();
            (honest.header.time_ns, honest.header.seq) = (at, seq);
            events.push((at, Some(honest), None));
            let mut ack = parse("0 < ack 0").map(|line| line.segment).unwrap();
            (ack.header.time_ns, ack.header.ack) = (at + RTT, seq.wrapping_add(100));
            events.push((at + RTT, Some(ack), None));
        }
        events.extend(attacks.iter().map(|(at, forged)| (1_000_000_001 + at, None, Some(forged))));
        events.sort_by_key(|(at, ..)| *at);
        let (mut sent, mut acknowledged, mut samples, mut undisturbed) = (first, first, 0, 0);
        let attacks_here = attacks.iter().filter(|(_, f)| !matches!(f, Forged::Other { .. }));
        let last_attack = attacks_here.map(|(at, _)| 1_000_000_001 + at).max();
        for (at, honest, attack) in events {
            let segment = honest.unwrap_or_else(|| forge(attack.unwrap(), at, sent, acknowledged));
            let is_honest = attack.is_none();
            if is_honest && segment.header.bits.any(Bits::EGRESS) {
                sent = segment.header.seq.wrapping_add(100);
            } else if is_honest {
                acknowledged = segment.header.ack;
                undisturbed += u32::from(last_attack.is_none_or(|last| last < at - 2 * RTT - SPACING));
            }
            if let Outcome::Sample(sample) = engine.record(&segment) {
                prop_assert!(is_honest, "{:?} made {sample:?}", attack);
                prop_assert_eq!(sample.rtt.0, RTT, "{:?}", sample);
                samples += 1;
            }
        }
        prop_assert!(samples >= undisturbed, "{samples} samples; {undisturbed} segments left after the last attack");
        prop_assert!(engine.flows() <= 16);
        engine.expire(Nanos(1 << 60));
        prop_assert_eq!(engine.flows(), 0);
    }
}
