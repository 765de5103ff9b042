//! The classifier in the kernel, asked with `BPF_PROG_TEST_RUN`.

use aya::programs::ProgramError;
use aya::{TestRun, TestRunOptions, TestRunResult};
use go_metro::capture::SourceCounters;
use go_metro::capture::ebpf::{Classifier, ClassifierSettings, Repeats};
use go_metro::capture::error::CaptureError;
use go_metro::config::{IngressHook, Thinning};
use go_metro_common::names;
use go_metro_common::segment::Sides;
use go_metro_rtt::Segment;

use super::cases::{self, Hook};

/// What the classifier's programs return: TCX_NEXT, which is TC_ACT_UNSPEC.
pub const NEXT: u32 = u32::MAX;
/// The interface that a test run pretends: the loopback device.
pub const LOOPBACK: u32 = 1;

/// A classifier for the cases' targets and these sides; `None` where the kernel does not let this process have one.
pub fn classifier(sides: Sides) -> Option<Classifier> {
    // Each packet is asked for by itself, whatever came before.
    match Classifier::load_with(ClassifierSettings {
        ring_bytes: 1 << 20,
        sides,
        repeats: Repeats::Emitted,
        ingress: IngressHook::Xdp,
        thinning: Thinning::OFF,
        ..ClassifierSettings::default()
    }) {
        Ok(mut classifier) => {
            classifier.tries.set(&cases::targets().into_iter().map(|net| (LOOPBACK, net)).collect()).unwrap();
            Some(classifier)
        }
        Err(error @ CaptureError::MissingCapability { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub fn program(hook: Hook) -> &'static str {
    match hook {
        Hook::EgressEthernet => names::EGRESS_ETHERNET,
        Hook::IngressEthernet => names::INGRESS_ETHERNET,
        Hook::EgressIp => names::EGRESS_IP,
        Hook::IngressIp => names::INGRESS_IP,
    }
}

/// Runs a packet; its records, the verdict, and what was counted.
pub fn run(classifier: &mut Classifier, hook: Hook, bytes: &[u8]) -> (Vec<Segment>, u32, SourceCounters) {
    let tested = |classifier: &mut Classifier, options: TestRunOptions<'_>| {
        classifier.program(program(hook)).unwrap().test_run(options)
    };
    run_with(classifier, hook, bytes, tested)
}

/// As [`run`], in the driver of a device with an Ethernet header.
pub fn run_xdp(classifier: &mut Classifier, hook: Hook, bytes: &[u8]) -> (Vec<Segment>, u32, SourceCounters) {
    let name = if hook.is_egress() { names::EGRESS_XDP } else { names::INGRESS_XDP };
    let tested =
        |classifier: &mut Classifier, options: TestRunOptions<'_>| classifier.xdp(name).unwrap().test_run(options);
    run_with(classifier, hook, bytes, tested)
}

fn run_with(
    classifier: &mut Classifier,
    hook: Hook,
    bytes: &[u8],
    tested: impl FnOnce(&mut Classifier, TestRunOptions<'_>) -> Result<TestRunResult, ProgramError>,
) -> (Vec<Segment>, u32, SourceCounters) {
    let before = classifier.counters().unwrap();
    let mut after_run = vec![0; bytes.len()];
    let options = TestRunOptions { data_in: Some(bytes), data_out: Some(&mut after_run), ..TestRunOptions::new() };
    let result = tested(classifier, options);
    let result = result.unwrap_or_else(|error| panic!("{hook:?}, {} bytes: {error:?}", bytes.len()));
    assert_eq!(after_run, bytes, "the packet is untouched");
    let mut segments = Vec::new();
    classifier.drain(&mut |segment| segments.push(*segment));
    let after = classifier.counters().unwrap();
    (segments, result.return_value, after.since(&before))
}
