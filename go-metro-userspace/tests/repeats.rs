//! Acknowledgements that the classifier leaves in the kernel because they repeat the last: the engine makes of all other records exactly
//! what it makes of them when nothing is left out, whatever the order of segments. Needs root; without it the test says so and passes.

#![allow(clippy::unwrap_used)]

mod frames;

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::time::Duration;

use frames::cases::{self, Hook};
use frames::kernel::{LOOPBACK, run};
use frames::{ETH_P_IP, ethernet, ipv4, sack, timestamps};
use go_metro::capture::CaptureError;
use go_metro::capture::ebpf::{Classifier, ClassifierSettings, Repeats};
use go_metro::rtt::{Engine, EngineConfig, Outcome, Quiet, Rejection, Segment};
use go_metro_common::segment::{Sides, TcpFlags};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// One segment of one of two connections. All numbers are few, so that they meet.
#[derive(Clone, Debug)]
struct Step {
    hook: Hook,
    /// In multiples of 100, as all sequence numbers here.
    seq: u32,
    ack: u32,
    len: u32,
    window: u16,
    flags: u8,
    other_connection: bool,
    options: Vec<u8>,
}

impl Step {
    /// The same, the other way.
    fn turned(&self) -> Self {
        let hook = if self.hook.is_egress() { Hook::IngressEthernet } else { Hook::EgressEthernet };
        Self { hook, ..self.clone() }
    }

    fn frame(&self) -> Vec<u8> {
        let base = 0xffff_ff00_u32;
        let tcp = frames::Tcp {
            source: if self.hook.is_egress() { 40_000 + u16::from(self.other_connection) } else { 443 },
            destination: if self.hook.is_egress() { 443 } else { 40_000 + u16::from(self.other_connection) },
            seq: base.wrapping_add(self.seq * 100),
            ack: base.wrapping_add(self.ack * 100),
            flags: self.flags,
            window: self.window,
            payload: self.len as usize * 100,
            ..frames::ack()
        };
        let (local, remote): (Ipv4Addr, Ipv4Addr) = (cases::LOCAL4, cases::REMOTE4);
        let tcp = tcp.with_options(&[&self.options]).bytes();
        let (source, destination) = if self.hook.is_egress() { (local, remote) } else { (remote, local) };
        ethernet(&[], ETH_P_IP, &ipv4(source, destination, &[], &tcp))
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let flags = prop_oneof![
        60 => Just(TcpFlags::ACK),
        2 => Just(TcpFlags::ACK | TcpFlags::FIN),
        1 => Just(TcpFlags::SYN),
        1 => Just(TcpFlags::ACK | TcpFlags::SYN),
        1 => Just(TcpFlags::ACK | TcpFlags::RST),
        1 => Just(TcpFlags::PSH),
    ];
    let options = || {
        prop_oneof![
            12 => Just(Vec::new()),
            12 => Just([vec![1, 1], timestamps(1, 1)].concat()),
            1 => Just([vec![1, 1], sack(&[(0xffff_ff00 + 200, 0xffff_ff00 + 250)])].concat()),
            1 => Just([vec![1, 1], sack(&[(0xffff_0000, 0xffff_0100)])].concat()),
        ]
    };
    let hook = prop_oneof![2 => Just(Hook::EgressEthernet), 5 => Just(Hook::IngressEthernet)];
    let window = || prop_oneof![4 => Just(1000_u16), 1 => Just(1001)];
    let other = prop_oneof![4 => Just(false), 1 => Just(true)];
    let step = (hook, 0..5_u32, 0..5_u32, 0..3_u32, window(), flags, other, options()).prop_map(
        |(hook, seq, ack, len, window, flags, other_connection, options)| Step {
            hook,
            seq,
            ack,
            len,
            window,
            flags,
            other_connection,
            options,
        },
    );
    let repeats = prop::collection::vec((0..2_u32, window(), options()), 0..6);
    // Some inbound ones come again with or without data, as in a download or after a loss.
    prop::collection::vec((step, repeats), 1..40).prop_map(|steps| {
        // Most of what is sent is new, and most acknowledgements are of what was sent lately.
        let mut next = 3;
        let repeated = |(mut step, mut repeats): (Step, Vec<(u32, u16, Vec<u8>)>)| {
            if step.hook.is_egress() {
                step.seq = if step.seq > 1 { next } else { next - 1 - step.seq };
                next = next.max(step.seq + step.len);
                repeats.clear();
            } else {
                step.ack = next + 1 - step.ack.min(next);
            }
            let again = step.clone();
            let again =
                move |(len, window, options)| Step { len, window, options, flags: TcpFlags::ACK, ..again.clone() };
            std::iter::once(step).chain(repeats.into_iter().map(again))
        };
        steps.into_iter().flat_map(repeated).collect()
    })
}

/// The classifier, and an engine behind it whose clock is the number of the step.
struct Side {
    classifier: Classifier,
    engine: Engine,
}

impl Side {
    fn new(sides: Sides, repeats: Repeats) -> Option<Self> {
        match Classifier::load_with(ClassifierSettings { sides, repeats, ..ClassifierSettings::default() }) {
            Ok(mut classifier) => {
                classifier.tries.set(&cases::targets().into_iter().map(|net| (LOOPBACK, net)).collect()).unwrap();
                Some(Self { classifier, engine: Engine::new(EngineConfig::default()) })
            }
            Err(error @ CaptureError::MissingCapability { .. }) => {
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn step(&mut self, number: u64, step: &Step) -> Vec<Outcome> {
        let (segments, _, counters) = run(&mut self.classifier, step.hook, &step.frame());
        assert_eq!(counters.matched, u64::from(counters.records > 0) + counters.repeats, "all is accounted for");
        let at = |segment: &Segment| {
            let mut segment = *segment;
            segment.header.time_ns = 1_000_000 * (1 + number);
            segment
        };
        segments.iter().map(|segment| self.engine.record(&at(segment))).collect()
    }

    /// Forgets the connections, so that the next sequence begins anew.
    fn restart(&mut self) {
        self.engine = Engine::new(EngineConfig::default());
        let syn = |hook, other_connection| Step {
            hook,
            seq: 9,
            ack: 9,
            len: 0,
            window: 0,
            flags: TcpFlags::SYN,
            other_connection,
            options: Vec::new(),
        };
        for other_connection in [false, true] {
            for hook in [Hook::EgressEthernet, Hook::IngressEthernet] {
                run(&mut self.classifier, hook, &syn(hook, other_connection).frame());
            }
        }
        self.engine = Engine::new(EngineConfig::default());
    }
}

#[test]
fn what_is_left_in_the_kernel_makes_no_difference_to_the_engine() {
    for sides in [Sides::REMOTE, Sides::LOCAL, Sides::BOTH] {
        // No refresh within the test.
        let left = Repeats::Left(Duration::from_secs(3600));
        let (Some(some), Some(all)) = (Side::new(sides, left), Side::new(sides, Repeats::Emitted)) else {
            return;
        };
        let both = RefCell::new((some, all));
        let (left_out, samples) = (Cell::new(0), Cell::new(0));
        let config = ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() };
        TestRunner::new(config)
            .run(&steps(), |steps| {
                let (some, all) = &mut *both.borrow_mut();
                some.restart();
                all.restart();
                for (number, step) in (0..).zip(&steps) {
                    let step = &if sides == Sides::LOCAL { step.turned() } else { step.clone() };
                    let (few, full) = (some.step(number, step), all.step(number, step));
                    let found = full.iter().filter(|outcome| matches!(outcome, Outcome::Sample(_))).count();
                    samples.set(samples.get() + found);
                    if few.is_empty() && !full.is_empty() {
                        left_out.set(left_out.get() + 1);
                        prop_assert!(step.len > 0 && step.flags == TcpFlags::ACK, "step {} says more", number);
                        for outcome in full {
                            // A number beyond all that was sent is rejected each time that it is said; said once is enough.
                            let nothing = matches!(
                                outcome,
                                Outcome::Quiet(Quiet::Duplicate | Quiet::Old | Quiet::NothingSent)
                                    | Outcome::Rejected(Rejection::NeverSent)
                            );
                            prop_assert!(nothing, "step {}: {:?} was left out", number, outcome);
                        }
                    } else {
                        prop_assert_eq!(few, full, "step {}", number);
                    }
                }
                Ok(())
            })
            .unwrap();
        let (left_out, samples) = (left_out.get(), samples.get());
        println!("{sides:?}: {left_out} left out, {samples} samples");
        assert!(samples > 100, "{samples} samples");
        assert_eq!(left_out > 100, sides != Sides::BOTH, "{sides:?}: {left_out} segments were left in the kernel");
    }
}

#[test]
fn a_flow_that_only_downloads_is_heard_of_now_and_then() {
    let Some(mut side) = Side::new(Sides::REMOTE, Repeats::Left(Duration::from_millis(100))) else { return };
    let step = Step {
        hook: Hook::IngressEthernet,
        seq: 0,
        ack: 1,
        len: 1,
        window: 1000,
        flags: TcpFlags::ACK,
        other_connection: false,
        options: Vec::new(),
    };
    let mut records = |number| side.step(number, &step).len();
    assert_eq!([records(0), records(1), records(2)], [1, 0, 0]);
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!([records(3), records(4)], [1, 0]);
}
