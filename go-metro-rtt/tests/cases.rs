//! Every case in `tests/cases` (the language is in `support/case.rs`) comes out right, in all its variants: where
//! numbers wrap, without timestamps, without SACK, and with either end as the local one.

mod support;

use go_metro_rtt::EngineConfig;
use support::case::{Bases, Case, Frame, all};

const PLAIN: Bases = Bases { seq: [1_000_000_000, 3_000_000_000], timestamps: [500_000, 7_000_000] };

/// The case with names exchanged, options left away, and all of that together; and what was done.
fn variants(case: &Case) -> Vec<(Case, String)> {
    let mut variants = vec![(case.clone(), String::from("as it is"))];
    let more = |variants: &[(Case, String)], what: &str, change: &dyn Fn(&Case) -> Option<Case>| {
        variants.iter().filter_map(|(case, done)| Some((change(case)?, format!("{done}, {what}")))).collect::<Vec<_>>()
    };
    variants.extend(more(&variants, "ends exchanged", &|case| Some(case.swapped())));
    variants.extend(more(&variants, "without timestamps", &Case::without_timestamps));
    variants.extend(more(&variants, "without SACK", &Case::without_sack));
    variants
}

#[test]
fn every_case_comes_out_right() {
    let cases = all();
    assert!(cases.len() >= 10 && cases.iter().all(|case| !case.right.is_empty()), "{} cases", cases.len());
    for case in &cases {
        variants(case).iter().for_each(|(case, done)| case.check(PLAIN, done));
    }
}

#[test]
fn every_case_comes_out_right_wherever_numbers_wrap() {
    for case in all() {
        for (case, done) in variants(&case) {
            // The wrap before each frame in turn, of sequence numbers and timestamps of both ends.
            for wraps in &case.frames {
                let bases = |end: usize| {
                    let base = (wraps.from as usize == end).then_some(wraps.seq).or(wraps.ack).unwrap_or_default();
                    (0_u32.wrapping_sub(base as u32), 0_u32.wrapping_sub(wraps.timestamps.map_or(0, |t| t.0) as u32))
                };
                let (a, b) = (bases(0), bases(1));
                for off in [0, 1, 700] {
                    let bases = Bases {
                        seq: [a.0.wrapping_sub(off), b.0.wrapping_sub(off)],
                        timestamps: [a.1.wrapping_sub(off.min(2)), b.1.wrapping_sub(off.min(2))],
                    };
                    case.check(bases, &format!("{done}, wraps at {} us less {off}", wraps.time_us));
                }
            }
        }
    }
}

#[test]
fn records_lost_to_a_full_ring_make_no_sample_that_the_whole_case_does_not_have() {
    let mut judged = 0;
    for case in all() {
        for (case, done) in variants(&case) {
            for peers_complete in [false, true] {
                let config = EngineConfig { peers_complete, ..EngineConfig::default() };
                let whole = case.samples_without(PLAIN, config, usize::MAX..usize::MAX);
                let frames = case.frames.len();
                for (from, until) in (1..frames).flat_map(|from| (from..=from + 3).map(move |until| (from, until))) {
                    let lost = &case.frames[from..until.min(frames)];
                    for sample in case.samples_without(PLAIN, config, from..until) {
                        let (timed, ack, time, rtt) = sample;
                        // Captured ahead of its data and then lost: nothing that is left shows it.
                        let acked_early =
                            |frame: &Frame| frame.from != timed && frame.ack >= Some(ack) && frame.time_us < time - rtt;
                        if lost.iter().any(acked_early) {
                            continue;
                        }
                        judged += 1;
                        let name = &case.name;
                        assert!(whole.contains(&sample), "{name} ({done}), without {from}..{until}: {sample:?}");
                    }
                }
            }
        }
    }
    println!("{judged} samples judged");
    assert!(judged > 1000, "{judged}");
}
