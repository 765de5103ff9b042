//! Captures with frames missing, one for each way in which the frames that are left refute a round trip: taken by a
//! rule out of a complete capture of the corpus, which says what is true of every sample of the rest.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::file::{Capture, Frame};
use super::{Refutes, Scenario, Truth, packed_file, unpacked};
use testing_support::workspace::capture;

/// A clock of milliseconds.
const TICK_US: u64 = 1_000;
/// How far the clock of the far end's tap is behind: more than any round trip of `loss-microseconds`.
const BEHIND_US: u64 = 50_000;
/// What is left out then: handshakes and ends, the far end's data, and what the near end sends without.
const FAR_DATA_NEAR_ACKS: &str = "tcp.flags.syn == 1 || tcp.flags.fin == 1 || tcp.len > 0 && (ip.src == 10.77.0.2 || \
                                  ipv6.src == fd77::2) \
    || tcp.len == 0 && (ip.src == 10.77.0.1 || ipv6.src == fd77::1)";
/// After how long a copy is seen behind a router, and with how many frames of others between.
const LATER_US: u64 = 400;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "missing-below",
        shows: "clean-no-timestamps without one in seven of the frames with data of its transfers: bytes below a \
                segment were never seen sent",
        must: &[("tcp.analysis.lost_segment", 10)],
        trusted: 60,
        truth: Truth::LeftOf {
            complete: "clean-no-timestamps",
            refutes: Refutes::Left("bytes below it were never seen sent"),
        },
        make: |into| without(into, "clean-no-timestamps", "tcp.len > 1000 && frame.number % 7 == 3"),
    },
    Scenario {
        name: "missing-acked",
        shows: "spurious-timeout without the first transmissions of what was sent again: acknowledged before it is \
                seen sent",
        must: &[("tcp.analysis.ack_lost_segment", 1)],
        trusted: 10,
        truth: Truth::LeftOf {
            complete: "spurious-timeout",
            refutes: Refutes::Left("that number was acknowledged before"),
        },
        make: |into| without_first_transmissions(into, "spurious-timeout"),
    },
    Scenario {
        name: "missing-duplicates",
        shows: "loss-sack with but the first of duplicate acknowledgements: those that advance carry a SACK block \
                above themselves",
        must: &[("tcp.options.sack_le", 5)],
        trusted: 60,
        truth: Truth::LeftOf {
            complete: "loss-sack",
            refutes: Refutes::Left("the acknowledgement itself carries a SACK block above"),
        },
        make: |into| without(into, "loss-sack", "tcp.analysis.duplicate_ack_num > 1"),
    },
    Scenario {
        name: "missing-retransmissions",
        shows: "loss-timestamps without retransmissions: TSecr is newer than the TSval of what was seen",
        must: &[("tcp.analysis.lost_segment || tcp.len > 0", 50)],
        trusted: 60,
        truth: Truth::LeftOf {
            complete: "loss-timestamps",
            refutes: Refutes::Left("TSecr is newer than the segment's TSval"),
        },
        make: |into| without(into, "loss-timestamps", "tcp.analysis.retransmission || tcp.analysis.out_of_order"),
    },
    Scenario {
        name: "missing-first-acks",
        shows: "loss-plain without some of the segments that were the first to acknowledge another: what follows \
                repeats that",
        must: &[("tcp.analysis.retransmission", 3)],
        trusted: 60,
        truth: Truth::LeftOf {
            complete: "loss-plain",
            refutes: Refutes::Complete("that number was acknowledged before"),
        },
        make: |into| without(into, "loss-plain", "tcp.len > 0 && tcp.analysis.acks_frame && frame.number % 40 == 2"),
    },
    Scenario {
        name: "starts-with-retransmission",
        shows: "loss-microseconds from the first retransmission on: it is the first segment seen, and its first \
                transmission is acknowledged",
        must: &[("tcp.len > 0", 20)],
        trusted: 5,
        truth: Truth::LeftOf {
            complete: "loss-microseconds",
            refutes: Refutes::First("retransmitted, and no timestamp tells"),
        },
        make: |into| from_first(into, "loss-microseconds", "tcp.analysis.retransmission"),
    },
    Scenario {
        name: "coarse-clock",
        shows: "loss-microseconds by a clock of a millisecond: most round trips come out as no time",
        must: &[("tcp.len > 0", 100)],
        trusted: 0,
        truth: Truth::ByClockOf { exact: "loss-microseconds", tick_us: TICK_US },
        make: |into| {
            unpacked("loss-microseconds")?.write(into)?;
            timed(into, |time, _| time - time % TICK_US)
        },
    },
    Scenario {
        name: "clock-behind",
        shows: "loss-microseconds by two clocks, of what one end sends the data, of what the other sends the \
                acknowledgements, 50 ms before that",
        must: &[("tcp.len > 0", 50), ("tcp.len == 0", 50)],
        trusted: 0,
        truth: Truth::NoSample,
        make: |into| {
            without(into, "loss-microseconds", FAR_DATA_NEAR_ACKS)?;
            timed(into, |time, is_outbound| if is_outbound { time } else { time - BEHIND_US })
        },
    },
    Scenario {
        name: "copies-behind-a-router",
        shows: "clean with every frame once more behind a router 400 us later, other frames between",
        must: &[("ip.ttl == 63", 100)],
        trusted: 200,
        truth: Truth::SameAs("clean"),
        make: |into| routed(into, "clean"),
    },
];

/// What tshark prints of the frames of a capture that match `filter`: a line each, of these fields.
fn frames_that(scenario: &str, filter: &str, fields: &[&str]) -> Result<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(packed_file(scenario)).args(["-Y", filter, "-T", "fields"]);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    Ok(capture(&mut tshark)?.lines().map(str::to_owned).collect())
}

fn numbers_of(scenario: &str, filter: &str) -> Result<HashSet<usize>> {
    let lines = frames_that(scenario, filter, &["frame.number"])?;
    lines.iter().map(|line| line.trim().parse().with_context(|| line.clone())).collect()
}

/// Keeps the frames of the capture whose numbers, from 1 on, are to be kept.
fn keep(into: &Path, scenario: &str, is_kept: impl Fn(usize) -> bool) -> Result<()> {
    let mut capture = unpacked(scenario)?;
    let mut number = 0;
    let before = capture.frames.len();
    capture.frames.retain(|_| {
        number += 1;
        is_kept(number)
    });
    ensure!(capture.frames.len() < before, "nothing of {scenario} is left out");
    capture.write(into)
}

/// Without the frames that match a display filter.
fn without(into: &Path, scenario: &str, filter: &str) -> Result<()> {
    let dropped = numbers_of(scenario, filter)?;
    keep(into, scenario, |number| !dropped.contains(&number))
}

/// From the first frame on that matches a display filter.
fn from_first(into: &Path, scenario: &str, filter: &str) -> Result<()> {
    let first = numbers_of(scenario, filter)?.into_iter().min().context("no frame matches")?;
    keep(into, scenario, |number| number >= first)
}

/// Without the first transmissions of what is sent more than once.
fn without_first_transmissions(into: &Path, scenario: &str) -> Result<()> {
    let fields = ["tcp.stream", "tcp.srcport", "tcp.seq_raw", "frame.number"];
    let again: HashSet<String> =
        frames_that(scenario, "tcp.analysis.retransmission", &fields[..3])?.into_iter().collect();
    let first = frames_that(scenario, "tcp.len > 0 && !tcp.analysis.retransmission", &fields)?;
    let first = first.iter().filter_map(|line| line.rsplit_once('\t'));
    let dropped = first.filter(|(sent, _)| again.contains(*sent)).map(|(_, number)| Ok(number.parse()?));
    let dropped: HashSet<usize> = dropped.collect::<Result<_>>()?;
    keep(into, scenario, |number| !dropped.contains(&number))
}

/// Whether each frame goes where the first goes.
fn outbound(capture: &Capture) -> Vec<bool> {
    capture.frames.iter().map(|frame| frame.bytes[..12] == capture.frames[0].bytes[..12]).collect()
}

/// By another clock, in the order of its times.
fn timed(into: &Path, clock: fn(u64, bool) -> u64) -> Result<()> {
    let mut capture = Capture::read(into)?;
    let outbound = outbound(&capture);
    for (frame, is_outbound) in capture.frames.iter_mut().zip(outbound) {
        frame.time_us = clock(frame.time_us, is_outbound);
    }
    capture.frames.sort_by_key(|frame| frame.time_us);
    capture.write(into)
}

/// Each frame once more, as it leaves a router.
fn routed(into: &Path, scenario: &str) -> Result<()> {
    let mut capture = unpacked(scenario)?;
    let copy = |frame: &Frame| {
        let mut copy = Frame { time_us: frame.time_us + LATER_US, ..frame.clone() };
        copy.bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9]);
        if copy.bytes[12..14] == [8, 0] {
            copy.bytes[14 + 8] -= 1;
            // RFC 1624: one less in the upper byte is one more in its complement's.
            let sum = u32::from(u16::from_be_bytes([copy.bytes[24], copy.bytes[25]])) + 0x100;
            let sum = (sum + (sum >> 16)) as u16;
            copy.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            copy.bytes[14 + 7] -= 1;
        }
        copy
    };
    let copies: Vec<Frame> = capture.frames.iter().map(copy).collect();
    capture.frames.extend(copies);
    capture.frames.sort_by_key(|frame| frame.time_us);
    capture.write(into)
}
