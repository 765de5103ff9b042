//! What the classifier leaves in the kernel, against an engine that is told everything, whatever the order of segments.
//! Of acknowledgements that repeat the last nothing is missing, echoes of congestion and beginnings of responses among
//! it; with thinning there are fewer samples, and no other.
//! Needs root; without it the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod frames;
#[path = "../../go-metro-rtt/tests/support/property.rs"]
mod property;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use frames::cases::{self, Hook};
use frames::kernel::{LOOPBACK, run};
use frames::{ETH_P_IP, ETH_P_IPV6, ethernet, ipv4, ipv6, sack, timestamps};
use go_metro::capture::CaptureError;
use go_metro::capture::ebpf::{Classifier, ClassifierSettings, Repeats};
use go_metro::config::{PerFlow, Thinning, Watermark};
use go_metro_common::hash::mix;
use go_metro_common::pressure::Pressure;
use go_metro_common::segment::{Sides, TcpFlags};
use go_metro_rtt::{Engine, EngineConfig, HealthLimits, Outcome, Quiet, Rejection, Sample, Segment};
use nix::time::{ClockId, clock_gettime};
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

    /// Of connections from this port and the next.
    fn frame(&self, port: u16) -> Vec<u8> {
        let base = 0xffff_ff00_u32;
        let port = port + u16::from(self.other_connection);
        let tcp = frames::Tcp {
            source: if self.hook.is_egress() { port } else { 443 },
            destination: if self.hook.is_egress() { 443 } else { port },
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
        4 => Just(TcpFlags::ACK | TcpFlags::ECE),
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
    let window = || prop_oneof![16 => Just(1000_u16), 4 => Just(1001), 1 => Just(0)];
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
    port: u16,
}

impl Side {
    fn new(settings: ClassifierSettings) -> Option<Self> {
        match Classifier::load_with(settings) {
            Ok(mut classifier) => {
                classifier.tries.set(&cases::targets().into_iter().map(|net| (LOOPBACK, net)).collect()).unwrap();
                Some(Self { classifier, engine: engine(), port: 10_000 })
            }
            Err(error @ CaptureError::MissingCapability { .. }) => {
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn step(&mut self, number: u64, step: &Step) -> Vec<Outcome> {
        self.frame(number, step.hook, &step.frame(self.port))
    }

    fn frame(&mut self, number: u64, hook: Hook, frame: &[u8]) -> Vec<Outcome> {
        let (segments, _, counters) = run(&mut self.classifier, hook, frame);
        assert_eq!(
            counters.packets.matched,
            u64::from(counters.packets.records > 0) + counters.packets.repeats + counters.packets.thinned,
            "all is accounted for"
        );
        let at = |segment: &Segment| {
            let mut segment = *segment;
            segment.header.time_ns = 1_000_000 * (1 + number);
            segment
        };
        let mut outcomes = Vec::new();
        for segment in &segments {
            outcomes.push(self.engine.record(&at(segment)));
            outcomes.extend(self.engine.take_response(segment).map(Outcome::Response));
        }
        outcomes
    }

    /// How many acknowledgements have echoed congestion since it was last asked.
    fn echoes(&mut self) -> u64 {
        let mut echoes = 0;
        self.engine.take_health(|_, health| echoes += health.echoes);
        echoes
    }

    /// Goes on with other connections.
    fn restart(&mut self) {
        self.engine = engine();
        self.port += 2;
    }
}

/// An engine that counts and times whatever it can.
fn engine() -> Engine {
    let mut engine = Engine::new(EngineConfig::default());
    engine.count_health(Some(HealthLimits {
        max_pairs: 8,
        connect_timeout: Duration::from_secs(3600),
        side: go_metro_rtt::Side::Remote,
    }));
    engine.time_responses(true);
    engine
}

#[test]
fn what_is_left_in_the_kernel_makes_no_difference_to_the_engine() {
    for sides in [Sides::REMOTE, Sides::LOCAL, Sides::BOTH] {
        // No refresh within the test.
        let left = Repeats::Left(Duration::from_secs(3600));
        let settings = ClassifierSettings { sides, responses: true, ..ClassifierSettings::default() };
        let (few, full) = (
            ClassifierSettings { repeats: left, ..settings },
            ClassifierSettings { repeats: Repeats::Emitted, ..settings },
        );
        let (Some(some), Some(all)) = (Side::new(few), Side::new(full)) else {
            return;
        };
        let both = RefCell::new((some, all));
        let (left_out, samples, echoes) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let config = property::cases(240);
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
                            // A number beyond all that was sent is rejected each time that it is said; said once is
                            // enough.
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
                let (few, full) = (some.echoes(), all.echoes());
                prop_assert_eq!(few, full, "echoes of congestion");
                echoes.set(echoes.get() + full);
                Ok(())
            })
            .unwrap();
        let (left_out, samples) = (left_out.get(), samples.get());
        println!("{sides:?}: {left_out} left out, {samples} samples, {} echoes", echoes.get());
        assert!(samples > 50, "{samples} samples");
        assert!(echoes.get() > 50, "{} echoes", echoes.get());
        assert_eq!(left_out > 100, sides != Sides::BOTH, "{sides:?}: {left_out} segments were left in the kernel");
    }
}

#[test]
fn a_flow_that_only_downloads_is_heard_of_now_and_then() {
    let repeats = Repeats::Left(Duration::from_millis(100));
    let Some(mut side) = Side::new(ClassifierSettings { repeats, ..ClassifierSettings::default() }) else { return };
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

#[test]
fn where_responses_are_timed_they_begin_outside_the_kernel_even_if_they_repeat_an_acknowledgement() {
    use Hook::{EgressEthernet as Sent, IngressEthernet as Received};
    const ACK: u8 = TcpFlags::ACK;
    const PSH: u8 = TcpFlags::ACK | TcpFlags::PSH;
    let step = |(hook, seq, ack, len, flags): (Hook, u32, u32, u32, u8)| Step {
        hook,
        seq,
        ack,
        len,
        window: 1000,
        flags,
        other_connection: false,
        options: Vec::new(),
    };
    // Sequence numbers are multiples of 100, but a SYN takes one.
    let open = [(Sent, 0, 0, 0, TcpFlags::SYN), (Received, 0, 0, 0, TcpFlags::SYN | ACK)];
    // A request, an acknowledgement alone, the response in three segments; twice.
    let exchange = |at: u32| {
        let (seq, ack) = (at, at * 3);
        let response = [0, 1, 2].map(|part| (Received, ack + part, seq + 1, 1, PSH));
        [vec![(Sent, seq, ack, 1, PSH), (Received, ack, seq + 1, 0, ACK)], response.to_vec()].concat()
    };
    let steps: Vec<Step> = open.into_iter().chain(exchange(0)).chain(exchange(1)).map(step).collect();
    let mut records = Vec::new();
    for responses in [false, true] {
        let repeats = Repeats::Left(Duration::from_secs(3600));
        let Some(mut side) = Side::new(ClassifierSettings { repeats, responses, ..ClassifierSettings::default() })
        else {
            return;
        };
        let each: Vec<usize> = (0..).zip(&steps).map(|(number, step)| side.step(number, step).len().min(1)).collect();
        records.push(each);
    }
    // One record more for each response that comes behind an acknowledgement.
    assert_eq!(records[0], [1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0]);
    assert_eq!(records[1], [1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0]);
}

#[test]
fn a_thinned_flow_has_fewer_samples_and_no_other() {
    for sides in [Sides::REMOTE, Sides::LOCAL] {
        let full = ClassifierSettings { sides, repeats: Repeats::Emitted, ..ClassifierSettings::default() };
        let thinned = ClassifierSettings { thinning: Thinning { per_flow: PerFlow::Rtt, ..Thinning::OFF }, ..full };
        let (Some(some), Some(all)) = (Side::new(thinned), Side::new(full)) else { return };
        let both = RefCell::new((some, all));
        let (fewer, samples) = (Cell::new(0), Cell::new(0));
        let config = property::cases(600);
        TestRunner::new(config)
            .run(&steps(), |steps| {
                let (some, all) = &mut *both.borrow_mut();
                some.restart();
                all.restart();
                for (number, step) in (0..).zip(&steps) {
                    let step = &if sides == Sides::LOCAL { step.turned() } else { step.clone() };
                    let (few, full) = (some.step(number, step), all.step(number, step));
                    let (few, full) = (sample(few), sample(full));
                    samples.set(samples.get() + u32::from(full.is_some()));
                    fewer.set(fewer.get() + u32::from(few.is_some()));
                    prop_assert!(few.is_none() || few == full, "step {}: {:?}, not {:?}", number, few, full);
                }
                Ok(())
            })
            .unwrap();
        println!("{sides:?}: {} of {} samples", fewer.get(), samples.get());
        assert!(fewer.get() > 15 && fewer.get() < samples.get(), "{} of {} samples", fewer.get(), samples.get());
    }
}

#[test]
fn what_once_gave_a_thinned_flow_a_sample_of_its_own() {
    use Hook::{EgressEthernet as Sent, IngressEthernet as Received};
    const ACK: u8 = TcpFlags::ACK;
    const SYN: u8 = TcpFlags::SYN;
    const RST: u8 = TcpFlags::RST | TcpFlags::ACK;
    let step = |(hook, number, len, flags): (Hook, u32, u32, u8)| {
        let (seq, ack) = if hook.is_egress() { (number, 0) } else { (0, number) };
        Step { hook, seq, ack, len, window: 1000, flags, other_connection: false, options: Vec::new() }
    };
    // The peer opens, and acknowledges what is sent only then.
    let reused = [
        (Sent, 2, 1, ACK),
        (Received, 4, 0, SYN),
        (Received, 4, 0, ACK),
        (Sent, 2, 2, SYN | ACK),
        (Received, 4, 0, ACK),
    ];
    // After a reset something is sent again.
    let reset = [(Sent, 2, 1, SYN), (Sent, 2, 0, RST), (Sent, 3, 2, ACK), (Sent, 5, 1, RST), (Received, 3, 0, ACK)];
    // After a reset the peer takes back what it said ahead.
    let ahead =
        [(Sent, 2, 2, SYN), (Received, 3, 0, ACK), (Received, 5, 0, ACK), (Sent, 3, 0, RST), (Received, 4, 0, ACK)];
    // It misses something between what it said ahead and what takes that back.
    let missing = [
        (Sent, 2, 1, ACK),
        (Received, 3, 0, ACK),
        (Received, 5, 0, ACK),
        (Sent, 3, 1, ACK),
        (Received, 3, 0, ACK),
        (Received, 4, 0, ACK),
        (Sent, 4, 1, ACK),
        (Received, 5, 0, ACK),
    ];
    let mut cases: Vec<Vec<Step>> =
        [&reused[..], &reset, &ahead, &missing].iter().map(|case| case.iter().copied().map(step).collect()).collect();
    let base = 0xffff_ff00_u32;
    cases[3][4].options = [vec![1, 1], sack(&[(base.wrapping_add(400), base.wrapping_add(450))])].concat();
    for sides in [Sides::REMOTE, Sides::LOCAL] {
        let full = ClassifierSettings { sides, repeats: Repeats::Emitted, ..ClassifierSettings::default() };
        let thinned = ClassifierSettings { thinning: Thinning { per_flow: PerFlow::Rtt, ..Thinning::OFF }, ..full };
        let (Some(mut some), Some(mut all)) = (Side::new(thinned), Side::new(full)) else { return };
        for (case, steps) in cases.iter().enumerate() {
            some.restart();
            all.restart();
            for (number, step) in (0..).zip(steps) {
                let step = &if sides == Sides::LOCAL { step.turned() } else { step.clone() };
                let (few, full) = (sample(some.step(number, step)), sample(all.step(number, step)));
                assert!(few.is_none() || few == full, "{sides:?}, {case}, step {number}: {few:?}, not {full:?}");
            }
        }
    }
}

/// The sample, but for what is not known of a thinned flow: whether others were outstanding.
fn sample(outcomes: Vec<Outcome>) -> Option<Sample> {
    outcomes.into_iter().find_map(|outcome| match outcome {
        Outcome::Sample(sample) => Some(Sample { delayed: false, ..sample }),
        _ => None,
    })
}

/// The ring is full, or has room again.
fn set_pressure(side: &mut Side, every_ns: u64) {
    let now_ns = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_nanos() as u64;
    side.classifier.set_pressure(Pressure { every_ns, stepped_ns: now_ns, busy_ns: now_ns }).unwrap();
}

#[test]
fn flows_that_are_thinned_now_and_then_have_fewer_samples_and_no_other() {
    for (sides, repeats) in [
        (Sides::REMOTE, Repeats::Emitted),
        (Sides::REMOTE, Repeats::Left(Duration::from_secs(3600))),
        (Sides::LOCAL, Repeats::Left(Duration::from_secs(3600))),
    ] {
        let full = ClassifierSettings {
            sides,
            repeats: Repeats::Emitted,
            thinning: Thinning::OFF,
            ..ClassifierSettings::default()
        };
        // What fills a page of ring does not count here, only what is said below.
        let thinning = Thinning { per_flow: PerFlow::Off, watermark: Watermark(Some(99)) };
        let (Some(some), Some(all)) = (Side::new(ClassifierSettings { thinning, repeats, ..full }), Side::new(full))
        else {
            return;
        };
        let both = RefCell::new((some, all));
        let (fewer, samples, thinned) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let config = property::cases(300);
        // Before which steps the ring is full: runs of some length, so that flows get to return.
        let full_or_not = prop::collection::vec((any::<bool>(), 1..12_usize), 1..20);
        TestRunner::new(config)
            .run(&(steps(), full_or_not), |(steps, runs)| {
                let (some, all) = &mut *both.borrow_mut();
                some.restart();
                all.restart();
                let mut pressed = runs.iter().flat_map(|(pressed, steps)| std::iter::repeat_n(*pressed, *steps));
                for (number, step) in (0..).zip(&steps) {
                    // Each step's pick is due: a nanosecond between two.
                    set_pressure(some, u64::from(pressed.next().unwrap_or(false)));
                    let step = &if sides == Sides::LOCAL { step.turned() } else { step.clone() };
                    let (few, full) = (some.step(number, step), all.step(number, step));
                    thinned.set(thinned.get() + u32::from(few.is_empty() && !full.is_empty()));
                    let (few, full) = (sample(few), sample(full));
                    samples.set(samples.get() + u32::from(full.is_some()));
                    fewer.set(fewer.get() + u32::from(few.is_some()));
                    prop_assert!(few.is_none() || few == full, "step {}: {:?}, not {:?}", number, few, full);
                }
                Ok(())
            })
            .unwrap();
        println!(
            "{sides:?}, {repeats:?}: {} of {} samples, {} segments left out",
            fewer.get(),
            samples.get(),
            thinned.get()
        );
        assert!(thinned.get() > 1000, "{} segments were left out", thinned.get());
        assert!(
            fewer.get() > samples.get() / 4 && fewer.get() < samples.get(),
            "{} of {} samples",
            fewer.get(),
            samples.get()
        );
    }
}

#[test]
fn a_thinned_flow_is_timed_once_in_the_configured_time() {
    let per_flow = PerFlow::Every(Duration::from_millis(200));
    let thinning = Thinning { per_flow, ..Thinning::OFF };
    let Some(mut side) = Side::new(ClassifierSettings { thinning, ..ClassifierSettings::default() }) else { return };
    let round = |side: &mut Side, number: u32| {
        let sent = Step {
            hook: Hook::EgressEthernet,
            seq: number,
            ack: 0,
            len: 1,
            window: 1000,
            flags: TcpFlags::ACK,
            other_connection: false,
            options: Vec::new(),
        };
        let acknowledged = Step { hook: Hook::IngressEthernet, ack: number + 1, len: 0, ..sent.clone() };
        side.step(u64::from(number) * 2, &sent);
        let outcomes = side.step(u64::from(number) * 2 + 1, &acknowledged);
        outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Sample(_))).count()
    };
    // Of the first segment it is not known whether it was sent before.
    let first: Vec<usize> = (0..10).map(|number| round(&mut side, number)).collect();
    assert_eq!(first, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!([round(&mut side, 10), round(&mut side, 11)], [1, 0]);
}

/// A connection of either family, by what the classifier hashes.
#[derive(Clone, Copy, Debug)]
struct Ends {
    local: IpAddr,
    remote: IpAddr,
    port: u16,
}

impl Ends {
    const REMOTE_PORT: u16 = 443;

    /// One segment, with this much payload.
    fn frame(&self, hook: Hook, seq: u32, ack: u32, payload: usize) -> Vec<u8> {
        let egress = hook.is_egress();
        let (source, destination) =
            if egress { (self.port, Self::REMOTE_PORT) } else { (Self::REMOTE_PORT, self.port) };
        let tcp = frames::Tcp { source, destination, seq, ack, flags: TcpFlags::ACK, payload, ..frames::ack() }.bytes();
        let (from, to) = if egress { (self.local, self.remote) } else { (self.remote, self.local) };
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet(&[], ETH_P_IP, &ipv4(from, to, &[], &tcp)),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet(&[], ETH_P_IPV6, &ipv6(from, to, frames::TCP, &tcp)),
            _ => panic!("{self:?}"),
        }
    }

    /// The words that are hashed, in their order (`go-metro-ebpf/src/flow.rs`).
    fn words(&self) -> Vec<u64> {
        let mut words = vec![u64::from(self.port) << 48 | u64::from(Self::REMOTE_PORT) << 32 | u64::from(LOOPBACK)];
        match (self.local, self.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let [local, remote] = [local, remote].map(|address| u64::from(u32::from_ne_bytes(address.octets())));
                words.push(local << 32 | remote);
            }
            (local, remote) => {
                for address in [local, remote] {
                    let IpAddr::V6(address) = address else { panic!("{self:?}") };
                    words.extend(address.octets().chunks(8).map(|half| u64::from_ne_bytes(half.try_into().unwrap())));
                }
            }
        }
        words
    }

    /// A connection with other numbers and the same hash.
    fn twin(&self, seed: u64) -> Self {
        let state = |words: &[u64]| words.iter().fold(seed, |state, word| mix(state, *word));
        let (mine, mut words) = (self.words(), Self { port: self.port + 1, ..*self }.words());
        let last = words.len() - 1;
        // A step is of the state and the word, one XOR the other.
        words[last] = mine[last] ^ state(&mine[..last]) ^ state(&words[..last]);
        assert_eq!(state(&mine), state(&words), "the classifier hashes otherwise");
        let word = words[last];
        let (local, remote) = match self.local {
            IpAddr::V4(_) => {
                let address = |half: u64| IpAddr::from((half as u32).to_ne_bytes());
                (address(word >> 32), address(word))
            }
            IpAddr::V6(_) => {
                let IpAddr::V6(remote) = self.remote else { panic!("{self:?}") };
                let mut octets = remote.octets();
                octets[8..].copy_from_slice(&word.to_ne_bytes());
                (self.local, IpAddr::from(octets))
            }
        };
        Self { local, remote, port: self.port + 1 }
    }
}

#[test]
fn two_flows_of_one_hash_are_thinned_each_by_itself() {
    let thinning = Thinning { per_flow: PerFlow::Rtt, ..Thinning::OFF };
    let Some(mut side) = Side::new(ClassifierSettings { thinning, ..ClassifierSettings::default() }) else { return };
    let everywhere = ["0.0.0.0/0", "::/0"].map(|net| (LOOPBACK, net.parse().unwrap()));
    side.classifier.tries.set(&everywhere.into_iter().collect()).unwrap();
    let addresses: [(IpAddr, IpAddr); 2] =
        [(cases::LOCAL4.into(), cases::REMOTE4.into()), (cases::LOCAL6.into(), cases::REMOTE6.into())];
    for (local, remote) in addresses {
        for port in (20_000..20_200).step_by(2) {
            let first = Ends { local, remote, port };
            let twins = [first, first.twin(side.classifier.seed())];
            let mut samples = [0; 2];
            for round in 0..10_u32 {
                // Both send before either hears, and their numbers are far apart.
                for hook in [Hook::EgressEthernet, Hook::IngressEthernet] {
                    for (number, ends) in (0_u32..).zip(&twins) {
                        let start = number * 2_000_000_000 + round * 100;
                        let frame = match hook.is_egress() {
                            true => ends.frame(hook, start, 1, 100),
                            false => ends.frame(hook, 1, start + 100, 0),
                        };
                        let outcomes = side.frame(u64::from(round) * 2 + u64::from(!hook.is_egress()), hook, &frame);
                        let taken = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Sample(_))).count();
                        samples[number as usize] += taken;
                    }
                }
            }
            // Of the first segment it is not known whether it was sent before.
            assert_eq!(samples, [9, 9], "{twins:?}");
        }
    }
}
