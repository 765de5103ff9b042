//! The classifier in the kernel, run on packets made by hand (`BPF_PROG_TEST_RUN`): the kernel's own parser is asked,
//! not a model of it. Needs root; without it the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod frames;

use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use aya::{TestRun, TestRunOptions};
use frames::cases::{self, Case, Hook, Outcome, Record};
use frames::kernel::{LOOPBACK, NEXT, classifier, run, run_xdp};
use go_metro::capture::SourceCounters;
use go_metro::capture::ebpf::{Classifier, ClassifierSettings, Rings};
use go_metro::config::Thinning;
use go_metro_common::counters::Unparsable;
use go_metro_common::names;
use go_metro_common::segment::{Bits, Sides};
use go_metro_rtt::{Addr, Direction, Nanos, Segment};

/// What the kernel made of a case, in the terms of the table.
fn outcome(segments: &[Segment], counters: &SourceCounters) -> Outcome {
    let record = segments.first().map(|segment| Record {
        local_port: segment.flow.local.port,
        remote_port: segment.flow.remote.port,
        seq: segment.header.seq,
        ack: segment.header.ack,
        flags: segment.header.flags.0,
        window: segment.header.window,
        payload_len: segment.header.payload.len(),
        timestamps: segment.tsval().zip(segment.tsecr()),
        option_bits: segment.header.bits.0 & !(Bits::EGRESS | Bits::IPV6 | Bits::TIMESTAMPS),
    });
    let unparsable = Unparsable::ALL.into_iter().find(|cause| counters.packets.unparsable[*cause as usize] > 0);
    Outcome { record, unparsable, fragment: counters.packets.fragments > 0 }
}

#[test]
fn each_packet_becomes_what_the_table_says() {
    let Some(mut classifier) = classifier(Sides::REMOTE) else { return };
    let mut wrong = Vec::new();
    for Case { name, hook, bytes, outcome: expected } in cases::all() {
        let (segments, verdict, counters) = run(&mut classifier, hook, &bytes);
        assert_eq!(verdict, NEXT, "{name}: the verdict");
        assert_eq!(counters.packets.seen, 1, "{name}: seen");
        assert_eq!(segments.len() as u64, counters.packets.matched, "{name}: every match is emitted");
        let actual = outcome(&segments, &counters);
        if actual != expected {
            wrong.push(format!("{name}:\n  expected {expected:?}\n  actual   {actual:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn addresses_direction_and_interface_are_those_of_the_local_end() {
    let Some(mut classifier) = classifier(Sides::REMOTE) else { return };
    let tcp = frames::data().bytes();
    let v4 = frames::ethernet(&[], frames::ETH_P_IP, &frames::ipv4(cases::LOCAL4, cases::REMOTE4, &[], &tcp));
    let v6 = frames::ethernet(&[], frames::ETH_P_IPV6, &frames::ipv6(cases::REMOTE6, cases::LOCAL6, frames::TCP, &tcp));

    let sent = run(&mut classifier, Hook::EgressEthernet, &v4).0[0];
    assert_eq!(sent.direction(), Direction::Egress);
    assert_eq!(sent.flow.local.addr, Addr::v4(cases::LOCAL4.octets()));
    assert_eq!(sent.flow.remote.addr, Addr::v4(cases::REMOTE4.octets()));
    assert_eq!(sent.flow.ifindex, LOOPBACK);

    let received = run(&mut classifier, Hook::IngressEthernet, &v6).0[0];
    assert_eq!(received.direction(), Direction::Ingress);
    assert_eq!(received.flow.local.addr, Addr::v6(cases::LOCAL6.octets()));
    assert_eq!(received.flow.remote.addr, Addr::v6(cases::REMOTE6.octets()));
    assert!(received.header.bits.any(Bits::IPV6));
    assert!(received.time().0 >= sent.time().0, "time does not run backwards");
}

#[test]
fn targets_change_at_run_time_and_apply_to_their_interface_only() {
    let Some(mut classifier) = classifier(Sides::REMOTE) else { return };
    let tcp = frames::data().bytes();
    let frame = |remote| frames::ethernet(&[], frames::ETH_P_IP, &frames::ipv4(cases::LOCAL4, remote, &[], &tcp));
    let seen = |classifier: &mut Classifier, remote| run(classifier, Hook::EgressEthernet, &frame(remote)).0.len();
    let set = |classifier: &mut Classifier, nets: &[(u32, &str)]| {
        classifier.tries.set(&nets.iter().map(|(ifindex, net)| (*ifindex, net.parse().unwrap())).collect()).unwrap();
    };

    set(&mut classifier, &[(LOOPBACK, "192.0.3.7/32")]);
    assert_eq!((seen(&mut classifier, cases::REMOTE4), seen(&mut classifier, cases::STRANGER4)), (0, 1));
    set(&mut classifier, &[(LOOPBACK, "192.0.2.0/23")]);
    assert_eq!((seen(&mut classifier, cases::REMOTE4), seen(&mut classifier, cases::STRANGER4)), (1, 1));
    set(&mut classifier, &[(LOOPBACK + 1, "192.0.2.0/23")]);
    assert_eq!((seen(&mut classifier, cases::REMOTE4), seen(&mut classifier, cases::STRANGER4)), (0, 0));
    set(&mut classifier, &[(LOOPBACK, "0.0.0.0/0")]);
    assert_eq!((seen(&mut classifier, cases::REMOTE4), seen(&mut classifier, cases::STRANGER4)), (1, 1));
    set(&mut classifier, &[]);
    assert_eq!((seen(&mut classifier, cases::REMOTE4), seen(&mut classifier, cases::STRANGER4)), (0, 0));
}

#[test]
fn where_everything_is_a_target_nothing_is_looked_up() {
    let Some(mut classifier) = classifier(Sides::REMOTE) else { return };
    let tcp = frames::data().bytes();
    let v4 = frames::ethernet(&[], frames::ETH_P_IP, &frames::ipv4(cases::LOCAL4, cases::REMOTE4, &[], &tcp));
    let packet = frames::ipv6(cases::LOCAL6, cases::REMOTE6, frames::TCP, &tcp);
    let v6 = frames::ethernet(&[], frames::ETH_P_IPV6, &packet);
    let mut seen = |nets: &[(u32, &str)], shorten: bool| {
        classifier.tries.set(&nets.iter().map(|(ifindex, net)| (*ifindex, net.parse().unwrap())).collect()).unwrap();
        if shorten {
            classifier.tries.shorten();
        }
        [&v4, &v6].map(|frame| run(&mut classifier, Hook::EgressEthernet, frame).0.len())
    };
    let (here, other) = (LOOPBACK, LOOPBACK + 1);
    // On another interface, so that a look-up finds nothing: what is seen was not looked up.
    assert_eq!(seen(&[(other, "0.0.0.0/0")], true), [1, 0]);
    assert_eq!(seen(&[(other, "::/0")], true), [0, 1]);
    assert_eq!(seen(&[(other, "0.0.0.0/0"), (other, "::/0")], true), [1, 1]);
    // A change of the targets ends it, even without a call of `shorten`.
    assert_eq!(seen(&[(other, "0.0.0.0/0"), (other, "10.0.0.0/8")], false), [1, 0]);
    assert_eq!(seen(&[(other, "0.0.0.0/0"), (here, "10.0.0.0/8")], false), [0, 0]);
    assert_eq!(seen(&[(other, "0.0.0.0/0"), (here, "10.0.0.0/8")], true), [0, 0]);
    assert_eq!(seen(&[(other, "0.0.0.0/0"), (here, "0.0.0.0/0")], true), [1, 0]);
    assert_eq!(seen(&[], true), [0, 0]);
}

#[test]
fn a_full_ring_is_counted_and_drains() {
    for rings in [Rings::Best, Rings::Kernel] {
        full_ring_is_counted_and_drains(rings);
    }
}

fn full_ring_is_counted_and_drains(rings: Rings) {
    let Some(_) = classifier(Sides::REMOTE) else { return };
    // One that is thinned would not run full.
    let settings =
        ClassifierSettings { ring_bytes: 0, thinning: Thinning::OFF, rings, ..ClassifierSettings::default() };
    let mut classifier = Classifier::load_with(settings).unwrap();
    classifier.tries.set(&cases::targets().into_iter().map(|net| (LOOPBACK, net)).collect()).unwrap();
    let tcp = frames::data().bytes();
    let frame = frames::ethernet(&[], frames::ETH_P_IP, &frames::ipv4(cases::LOCAL4, cases::REMOTE4, &[], &tcp));
    let options = TestRunOptions { data_in: Some(&frame), repeat: 1000, ..TestRunOptions::new() };
    let result = classifier.program(names::EGRESS_ETHERNET).unwrap().test_run(options).unwrap();
    assert_eq!(result.return_value, NEXT);
    let drained = classifier.drain(&mut |_| {});
    let counters = classifier.counters().unwrap();
    assert_eq!((counters.packets.seen, counters.packets.matched), (1000, 1000));
    // A page of each processor that it ran on: 64 slots, or 48 bytes and a header of 8 each, less what the kernel keeps
    // free.
    assert!((60..=2 * 73).contains(&drained), "{drained} records in a page");
    assert_eq!(counters.packets.lost + drained as u64, 1000);
    assert_eq!(run(&mut classifier, Hook::EgressEthernet, &frame).0.len(), 1, "there is room again");
}

#[test]
fn a_record_that_a_processor_was_held_up_with_is_late_and_counted() {
    let Some(_) = classifier(Sides::REMOTE) else { return };
    // Some tenths of a millisecond; the verifier follows every turn.
    let settings = ClassifierSettings { ring_bytes: 1 << 20, hold_up: 10_000, ..ClassifierSettings::default() };
    let mut classifier = Classifier::load_with(settings).unwrap();
    classifier.tries.set(&cases::targets().into_iter().map(|net| (LOOPBACK, net)).collect()).unwrap();
    let [sent, received] = [Hook::EgressEthernet, Hook::IngressEthernet].map(|hook| of_connection(1, hook));
    let info = classifier.program(names::EGRESS_ETHERNET).unwrap().info().unwrap();
    let egress = SchedClassifier::from_program_info(info, names::EGRESS_ETHERNET.into()).unwrap();
    let (mut newest, mut late) = (Nanos(0), 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    // Until some were received and came out while one that was sent before was held up.
    while late < 3 && Instant::now() < deadline {
        std::thread::scope(|scope| {
            let held = scope.spawn(|| {
                let options = TestRunOptions { data_in: Some(&sent), ..TestRunOptions::new() };
                egress.test_run(options).unwrap();
            });
            let mut is_over = false;
            while !is_over {
                is_over = held.is_finished();
                for record in run(&mut classifier, Hook::IngressEthernet, &received).0 {
                    late += u64::from(record.time() < newest);
                    newest = newest.max(record.time());
                }
            }
        });
        assert_eq!(classifier.counters().unwrap().late, late);
    }
    assert!(late > 0 || std::thread::available_parallelism().unwrap().get() == 1, "none was ever held up");
    let counters = classifier.counters().unwrap().packets;
    assert_eq!((counters.lost, counters.records), (0, counters.matched));
}

/// A frame of a connection that differs from others in its local port, as it is sent or received.
fn of_connection(number: u16, hook: Hook) -> Vec<u8> {
    let local = 1024 + number;
    let ((source, destination), tcp) = match hook.is_egress() {
        true => ((cases::LOCAL4, cases::REMOTE4), frames::Tcp { source: local, destination: 443, ..frames::data() }),
        false => ((cases::REMOTE4, cases::LOCAL4), frames::Tcp { source: 443, destination: local, ..frames::ack() }),
    };
    frames::ethernet(&[], frames::ETH_P_IP, &frames::ipv4(source, destination, &[], &tcp.bytes()))
}

#[test]
fn what_the_verifier_makes_of_it_stays_small() {
    let Some(mut classifier) = classifier(Sides::REMOTE) else { return };
    for name in [names::INGRESS_ETHERNET, names::EGRESS_ETHERNET, names::INGRESS_IP, names::EGRESS_IP] {
        let info = classifier.program(name).unwrap().info().unwrap();
        let instructions = info.size_translated().unwrap_or(0) / 8;
        let verified = info.verified_instruction_count().unwrap_or(0);
        println!("{name}: {instructions} instructions, {verified} verified");
        assert!(instructions < 2000 && verified < 100_000, "{name}: {instructions} instructions, {verified} verified");
    }
}

/// XDP_PASS of include/uapi/linux/bpf.h.
const PASS: u32 = 2;

#[test]
fn in_a_driver_the_same_bytes_become_the_same_record() {
    let Some(mut classifier) = classifier(Sides::REMOTE) else { return };
    if let Err(error) = classifier.xdp(names::INGRESS_XDP) {
        assert!(!kernel_has_xdp_frags(), "{error}");
        eprintln!("skipped: {error}");
        return;
    }
    let cases: Vec<Case> =
        cases::all().into_iter().filter(|c| matches!(c.hook, Hook::EgressEthernet | Hook::IngressEthernet)).collect();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut records = 0;
    for number in 0..4000 {
        let Case { name, hook, bytes, .. } = &cases[number % cases.len()];
        let mut bytes = bytes.clone();
        // Once as they are, then damaged.
        for _ in 0..if number < cases.len() { 0 } else { 1 + next(3) } {
            let place = next(bytes.len().min(90));
            bytes[place] ^= 1 << next(8);
        }
        // A driver's program sees one tag more than one at TC's hook does.
        if (0..3).all(|tag| matches!(bytes.get(12 + 4 * tag..14 + 4 * tag), Some([0x81, 0] | [0x88, 0xa8] | [0x91, 0])))
        {
            continue;
        }
        let timeless = |mut segments: Vec<Segment>| {
            segments.iter_mut().for_each(|segment| segment.header.time_ns = 0);
            segments
        };
        let (at_tc, verdict, counted_at_tc) = run(&mut classifier, *hook, &bytes);
        assert_eq!(verdict, NEXT);
        let (in_driver, verdict, counted_in_driver) = run_xdp(&mut classifier, *hook, &bytes);
        assert_eq!(verdict, PASS, "{name}: the verdict");
        assert_eq!(timeless(in_driver), timeless(at_tc.clone()), "{name}: {bytes:02x?}");
        assert_eq!(counted_in_driver, counted_at_tc, "{name}: {bytes:02x?}");
        records += at_tc.len();
    }
    assert!(records > 1000, "{records} records");
}

fn kernel_has_xdp_frags() -> bool {
    aya::util::KernelVersion::current().is_ok_and(|version| version >= aya::util::KernelVersion::new(5, 18, 0))
}
