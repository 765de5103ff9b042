//! Truth: every sample of `go-metro read`, one by one, against tshark and tcptrace, on every capture there is; and
//! every packet accounted for.
//!
//! The captures are those of the corpus, and, where it is set, those in the directory `GO_METRO_CAPTURES`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Context as _;
use testing_lab::agent::{self, Sample};
use testing_support::workspace::{CAPTURES_VARIABLE, capture};
use testing_truth::corpus::{self, Refutes, Scenario, Truth};
use testing_truth::oracle::health::{self, Counted, Why};
use testing_truth::oracle::thinned::{HEADER as THINNED_HEADER, Thinned};
use testing_truth::oracle::{
    Acknowledged, Court, HEADER, Judged, MIN_RECALL, Outcome, account, all_thinned, captures, courts, name_of,
    outcomes, samples,
};

type Courts = BTreeMap<PathBuf, Court>;

fn open(directory: PathBuf) -> Courts {
    courts(captures(&[directory]).unwrap()).map(|(file, court)| (file, court.unwrap())).collect()
}

/// The corpus before both judges.
fn corpus() -> &'static Courts {
    static CORPUS: OnceLock<Courts> = OnceLock::new();
    CORPUS.get_or_init(|| open(corpus::directory()))
}

/// Captures that others made.
fn elsewhere() -> Option<&'static Courts> {
    static ELSEWHERE: OnceLock<Option<Courts>> = OnceLock::new();
    ELSEWHERE.get_or_init(|| std::env::var_os(CAPTURES_VARIABLE).map(|directory| open(directory.into()))).as_ref()
}

fn court(name: &str) -> (&'static PathBuf, &'static Court) {
    corpus().iter().find(|(file, _)| name_of(file) == name).unwrap()
}

/// Judges all captures, prints the table, and returns each verdict by its name.
fn judge_all(courts: &Courts) -> BTreeMap<String, Judged> {
    let binary = agent::binary().unwrap();
    println!("{HEADER}");
    let mut total = Judged::default();
    let judge_one = |(file, court): (&PathBuf, &Court)| {
        let (name, judged) = (name_of(file), court.judge(&samples(&binary, file).unwrap()));
        println!("{}", judged.row(&name));
        judged.notes.iter().for_each(|note| println!("    ({note})"));
        total.add(&judged);
        (name, judged)
    };
    let all: BTreeMap<String, Judged> = courts.iter().map(judge_one).collect();
    println!("{}", total.row("total"));
    for (name, judged) in &all {
        assert_eq!((judged.wrong, judged.refuted), (0, 0), "{name}: {:#?}", judged.details);
        judged.details.iter().for_each(|line| println!("{name}: {line}"));
    }
    assert!(total.recall() >= MIN_RECALL, "{} of {} pairs missed", total.trusted - total.found, total.trusted);
    all
}

#[test]
fn in_the_corpus_every_trustworthy_pair_is_found_and_no_sample_is_wrong() {
    let all = judge_all(corpus());
    let expected: Vec<&str> = corpus::scenarios().map(|scenario| scenario.name).collect();
    assert_eq!(all.len(), expected.len(), "captures and scenarios: {:?}", all.keys());
    for Scenario { name, trusted, .. } in corpus::scenarios() {
        // A filter that came to trust nothing would find all of it.
        assert!(all[*name].trusted >= *trusted, "{name}: {} trustworthy pairs", all[*name].trusted);
    }
    let size: u64 = corpus().keys().map(|file| file.metadata().unwrap().len()).sum();
    assert!(size < 1_500_000, "the corpus has {size} bytes");
}

// Reported as ignored where there are none; `cargo xtask test` includes it when the variable is set.
#[test]
#[ignore = "set GO_METRO_CAPTURES to a directory of captures"]
fn on_captures_from_elsewhere_every_trustworthy_pair_is_found_and_no_sample_is_wrong() {
    let courts = elsewhere().expect("GO_METRO_CAPTURES is not set");
    let all = judge_all(courts);
    assert!(!all.is_empty(), "the directory has no captures");
}

/// Compares what was sent again in all of these with both judges, prints the table, and returns the total.
fn count_all(files: Vec<PathBuf>) -> Counted {
    println!("{}", health::HEADER);
    let mut total = Counted::default();
    for (file, counted) in health::all(&agent::binary().unwrap(), files) {
        let counted = counted.with_context(|| file.display().to_string()).unwrap();
        println!("{}", counted.row(&name_of(&file)));
        assert_eq!(counted.unexplained, Vec::<String>::new(), "{}", file.display());
        total.add(&counted);
    }
    println!("{}", total.row("total"));
    total
}

#[test]
fn what_was_sent_again_in_the_corpus_is_what_tshark_and_tcptrace_count_but_for_what_is_explained() {
    let total = count_all(captures(&[corpus::directory()]).unwrap());
    // A comparison that came to see nothing, or to explain everything, would fail no more.
    assert!(total.ours > 300 && total.tshark > 300 && total.tcptrace > Some(200), "{total:?}");
    for why in [Why::OutOfOrder, Why::Copy, Why::SameTime, Why::AcknowledgedEarly, Why::CrossingSyn] {
        assert!(total.to_tshark.contains_key(&why), "{why:?}: {total:?}");
    }
    assert!(total.to_tcptrace.contains_key(&Why::NotCapturedBefore), "{total:?}");
}

#[test]
#[ignore = "set GO_METRO_CAPTURES to a directory of captures"]
fn what_was_sent_again_in_captures_from_elsewhere_is_explained() {
    let directory = std::env::var_os(CAPTURES_VARIABLE).expect("GO_METRO_CAPTURES is not set");
    count_all(captures(&[directory.into()]).unwrap());
}

#[test]
fn a_single_segment_more_or_less_that_was_sent_again_is_noticed() {
    let binary = agent::binary().unwrap();
    for name in ["clean", "loss-sack", "loss-plain", "super-segments", "tail-loss-probe", "mirror-port"] {
        let file = corpus::scenarios().find(|scenario| scenario.name == name).unwrap().file();
        let honest = health::ours(&binary, &file).unwrap();
        assert_eq!(health::compare(&file, &honest).unwrap().unexplained, Vec::<String>::new(), "{name}");
        for hosts in honest.keys() {
            let mut lie = honest.clone();
            *lie.get_mut(hosts).unwrap() += 1;
            assert_eq!(health::compare(&file, &lie).unwrap().unexplained.len(), 1, "{name}: {hosts:?}");
        }
    }
}

/// Samples of a capture of the corpus, without the class: with a copy or a gap before it another rule may prove the
/// same.
fn keys(file: &Path) -> Vec<Sample> {
    let classless = |sample: Sample| Sample { class: String::new(), ..sample };
    let mut keys: Vec<Sample> = samples(&agent::binary().unwrap(), file).unwrap().into_iter().map(classless).collect();
    keys.sort();
    keys
}

#[test]
fn captures_that_are_made_of_others_have_the_samples_that_those_say() {
    let file_of = |name: &str| court(name).0.as_path();
    for scenario in corpus::scenarios() {
        let name = scenario.name;
        let ours = || keys(&scenario.file());
        match scenario.truth {
            Truth::Judges => {}
            Truth::SameAs(same) => {
                let expected = keys(file_of(same));
                assert!(expected.len() > 100);
                assert_eq!(ours(), expected, "{name} and {same}");
            }
            Truth::BeginsAs(_) => {
                let beginning = corpus::readable(&scenario.file()).unwrap().unwrap();
                let expected = keys(beginning.path());
                assert!(expected.len() > 30, "{name}: {}", expected.len());
                assert_eq!(ours(), expected, "{name}");
            }
            Truth::LeftOf { complete, refutes } => {
                let judged = court(complete).1.judge(&samples(&agent::binary().unwrap(), &scenario.file()).unwrap());
                assert!(judged.samples > 10, "{name}: {} samples", judged.samples);
                assert_eq!(judged.refuted, 0, "{name} by {complete}: {:#?}", judged.details);
                // That a hole lay below may be what only the missing frames tell.
                assert!(judged.wrong * 100 <= judged.samples, "{name} by {complete}: {:#?}", judged.details);
                // It holds what it is for.
                let (_, left) = court(name);
                let pairs = left.pairs_of_tshark();
                let (by_left, by_complete) = (left.judge(&pairs).details, court(complete).1.judge(&pairs).details);
                let says = |line: &&String, why: &str| line.contains(&format!("({why}"));
                let is_shown = match refutes {
                    Refutes::Left(why) => by_left.iter().any(|line| line.contains(&format!("refuted ({why}"))),
                    Refutes::Complete(why) => {
                        by_complete.iter().filter(|line| says(line, why)).any(|line| !by_left.contains(line))
                    }
                    Refutes::First(why) => {
                        let first = pairs.first().map(|pair| format!("{pair:?}")).unwrap();
                        let disproved =
                            |lines: &[String]| lines.iter().any(|line| line.ends_with(&first) && says(&line, why));
                        disproved(&by_left) && disproved(&by_complete)
                    }
                };
                assert!(is_shown, "{name}: {by_left:#?}, by {complete}: {by_complete:#?}");
            }
            Truth::ByClockOf { exact, tick_us } => {
                let (ours, exact) = (ours(), keys(file_of(exact)));
                assert!(ours.len() > 10, "{name}: {}", ours.len());
                for sample in ours {
                    let same = |other: &&Sample| {
                        (other.local, other.remote, other.ack) == (sample.local, sample.remote, sample.ack)
                    };
                    let true_rtt = exact.iter().find(same).unwrap_or_else(|| panic!("{name}: {sample:?}")).rtt_ns;
                    assert!(sample.rtt_ns.abs_diff(true_rtt) < tick_us * 1000, "{name}: {sample:?}, {true_rtt} ns");
                }
            }
            Truth::NoSample => assert_eq!(ours(), [], "{name}"),
        }
    }
}

/// Ways in which frames of each capture go missing; `cargo xtask oracle --thin` has more.
const THINNINGS: u64 = 2;

#[test]
fn of_captures_with_frames_missing_no_sample_is_refuted() {
    // What was made of these tells no more.
    let files = corpus::scenarios().filter(|scenario| scenario.truth == Truth::Judges).map(Scenario::file).collect();
    let mut total = Thinned::default();
    for (file, judged) in all_thinned(&agent::binary().unwrap(), files, THINNINGS) {
        total.add(judged.with_context(|| file.display().to_string()).unwrap().unwrap_or_default());
    }
    println!("{THINNED_HEADER}\n{}", total.row("total"));
    assert_eq!(total.refuted, 0, "{:#?}", total.details);
    assert!(total.unproved * 1_000 <= total.samples, "{:#?}", total.details);
    // What only the missing frames tell: mostly the first acknowledgement, of several that say the same.
    assert!(total.right * 100 >= total.samples * 98, "{:#?}", total.told_elsewhere);
    assert!(total.right > 8_000, "{} right", total.right);
}

#[test]
fn every_acknowledgement_of_something_new_is_a_sample_or_a_rejection_and_that_of_a_reset_is_neither() {
    let binary = agent::binary().unwrap();
    let mut resets = 0;
    for (file, court) in corpus().iter().chain(elsewhere().into_iter().flatten()) {
        let reset = Outcome::NothingToTime("reset".to_owned());
        let (by_resets, told): (Vec<_>, Vec<_>) =
            outcomes(&binary, file).unwrap().into_iter().partition(|(_, outcome)| *outcome == reset);
        let Acknowledged { new: mut expected, again, by_resets: expected_of_resets } = court.acknowledged();
        let mut told: Vec<_> = told.into_iter().map(|(advance, _)| advance).collect();
        // What was acknowledged before it was seen may be rejected once more when it was.
        expected.extend(again.into_iter().filter(|advance| told.contains(advance)));
        resets += by_resets.len();
        let mut by_resets: Vec<_> = by_resets.into_iter().map(|(advance, _)| advance).collect();
        for (mut expected, told) in [(expected, &mut told), (expected_of_resets, &mut by_resets)] {
            expected.sort();
            told.sort();
            let lacking: Vec<_> = expected.iter().filter(|advance| told.binary_search(advance).is_err()).collect();
            let besides: Vec<_> = told.iter().filter(|advance| expected.binary_search(advance).is_err()).collect();
            assert!(lacking.is_empty() && besides.is_empty(), "{}: {lacking:#?}, besides {besides:#?}", file.display());
            assert_eq!(expected.len(), told.len(), "{}", file.display());
        }
    }
    assert!(resets > 0);
}

/// Whether the judges see a capture without half of its frames.
fn is_doubled(file: &Path) -> bool {
    name_of(file) == "copies-behind-a-router"
}

/// The lines of an account: indentation, what is counted, how many.
fn lines(account: &str) -> Vec<(usize, &str, u64)> {
    fn line(text: &str) -> Option<(usize, &str, u64)> {
        let (what, count) = text.trim().rsplit_once(' ')?;
        Some((text.len() - text.trim_start().len(), what.trim(), count.parse().ok()?))
    }
    let from = account.find("\npackets").unwrap();
    account[from..].lines().filter_map(line).collect()
}

#[test]
fn the_account_of_every_capture_closes_down_to_the_last_packet() {
    let binary = agent::binary().unwrap();
    for file in corpus().keys().chain(elsewhere().into_iter().flatten().map(|(file, _)| file)) {
        let account = account(&binary, file).unwrap();
        let lines = lines(&account);
        let mut sums = 0;
        for (k, (indent, what, count)) in lines.iter().enumerate() {
            let below = lines[k + 1..].iter().take_while(|line| line.0 > *indent);
            let parts: Vec<u64> = below.filter(|line| line.0 == indent + 2).map(|line| line.2).collect();
            if !parts.is_empty() {
                sums += 1;
                assert_eq!(parts.iter().sum::<u64>(), *count, "{}: {what}\n{account}", file.display());
            }
        }
        assert_eq!(sums, 4, "packets, segments, received in vain, received with news\n{account}");
        let readable = corpus::readable(file).unwrap().filter(|_| !is_doubled(file));
        let readable = readable.as_ref().map_or(file.as_path(), |readable| readable.path());
        let packets = capture(Command::new("capinfos").args(["-c", "-M", "-T", "-r"]).arg(readable)).unwrap();
        assert!(packets.ends_with(&format!("\t{}", lines[0].2)), "{packets} and {:?}", lines[0]);
    }
}

/// What the judges say when samples of a capture are tampered with: (wrong, found).
fn tampered(name: &str, tamper: impl FnOnce(&mut Vec<Sample>)) -> (usize, usize) {
    let (file, court) = court(name);
    let mut samples = samples(&agent::binary().unwrap(), file).unwrap();
    tamper(&mut samples);
    let judged = court.judge(&samples);
    (judged.wrong, judged.found)
}

#[test]
fn the_oracle_catches_every_kind_of_lie() {
    for name in ["clean", "loss-sack-timestamps", "loss-plain", "super-segments", "loss-microseconds", "mirror-port"] {
        let (wrong, found) = tampered(name, |_| {});
        assert_eq!(wrong, 0, "{name}");
        let middle = |samples: &[Sample]| samples.len() / 2;

        let (wrong, _) = tampered(name, |samples| samples.iter_mut().for_each(|sample| sample.rtt_ns += 1_000_000));
        assert!(wrong > found, "{name}: all samples a millisecond longer, {wrong} wrong");
        for shift in [1_000_000, -1_000_000, 10_000, -10_000] {
            let (wrong, _) = tampered(name, |samples| {
                let at = middle(samples);
                samples[at].rtt_ns = samples[at].rtt_ns.wrapping_add_signed(shift);
            });
            assert!(wrong > 0, "{name}: one sample changed by {shift} ns");
        }
        let (wrong, fewer) = tampered(name, |samples| samples.truncate(samples.len() / 2));
        assert!(wrong == 0 && fewer < found, "{name}: half of the samples dropped");
        let (wrong, _) = tampered(name, |samples| {
            let again = samples[middle(samples)].clone();
            samples.push(again);
        });
        assert_eq!(wrong, 1, "{name}: a sample twice");
        let (wrong, _) = tampered(name, |samples| {
            let mut invented = samples[middle(samples)].clone();
            invented.ack = invented.ack.wrapping_add(1);
            samples.push(invented);
        });
        assert_eq!(wrong, 1, "{name}: an acknowledgement that nobody sent");
        let (wrong, _) = tampered(name, |samples| {
            let mut invented = samples[middle(samples)].clone();
            invented.time_ns += 500_000_000;
            samples.push(invented);
        });
        assert_eq!(wrong, 1, "{name}: an acknowledgement at another time");
    }
}

/// What tshark calls round-trip times and the frames contradict.
#[test]
fn the_oracle_refutes_what_the_frames_contradict() {
    for (name, least) in [("loss-sack", 5), ("loss-sack-timestamps", 5), ("capture-drops", 5)] {
        let (_, court) = court(name);
        let judged = court.judge(&court.pairs_of_tshark());
        assert!(judged.refuted >= least, "{name}: {} refuted, {:#?}", judged.refuted, judged.details);
    }
    for name in ["clean", "clean-no-timestamps", "super-segments", "delayed-acks"] {
        let (_, court) = court(name);
        let judged = court.judge(&court.pairs_of_tshark());
        assert_eq!(judged.refuted, 0, "{name}: {:#?}", judged.details);
    }
}

#[test]
fn a_single_missing_sample_of_the_corpus_is_noticed() {
    let (_, found) = tampered("clean", |_| {});
    for dropped in [0, 1, 100] {
        assert_eq!(tampered("clean", |samples| drop(samples.remove(dropped))), (0, found - 1));
    }
}

#[test]
fn what_tshark_calls_the_time_of_a_retransmission_or_behind_a_hole_is_wrong_to_the_oracle() {
    for name in ["loss-sack", "loss-plain", "loss-sack-timestamps", "loss-microseconds"] {
        let (_, court) = court(name);
        // All that tshark reports, and none of ours.
        let judged = court.judge(&court.pairs_of_tshark());
        assert_eq!(judged.found, judged.trusted, "{name}");
        let Judged { wrong, refuted, doubtful, .. } = judged;
        assert!(wrong + refuted >= doubtful.min(5), "{name}: {wrong} wrong, {refuted} refuted, {doubtful} doubtful");
    }
}
