//! Kernels other than this machine's: the oldest that has a ring buffer in Debian, and the first of Debian's with TCX.
//! All of them: `cargo xtask kernels`.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use testing_kernels::{Programs, boot};
use testing_lab::agent::binary;

/// Boots a kernel and tests every way to measure on it.
fn everything_works_on(series: &str) {
    testing_support::setup::for_kernels().unwrap();
    let tests = Path::new(env!("CARGO_BIN_EXE_testing-kernels")).to_owned();
    let programs = Programs { agent: binary().unwrap(), tests, object: testing_support::workspace::object() };
    let Some(outcome) = boot(series, &programs).unwrap() else {
        println!("skipped: the mirror has no kernel {series}");
        return;
    };
    outcome.print();
    let failures = outcome.failures(series).unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn linux_5_10_takes_the_classifier_by_clsact_and_tells_departure_times_by_plausibility() {
    everything_works_on("5.10");
}

#[test]
fn linux_6_12_takes_the_classifier_by_tcx_and_knows_departure_times() {
    everything_works_on("6.12");
}
