//! Truth: every sample of `go-metro read` against tshark's `tcp.analysis.ack_rtt`, one by one.
//!
//! tshark times retransmissions from the original and filled holes in full, so a pair of its is trusted only if neither the frame it
//! acknowledges, nor any frame of that direction with a lower sequence number sent between that frame and the acknowledgement, is
//! flagged as retransmission, out of order or keep-alive; and a reset acknowledges nothing.
//!
//! The captures are those of `GO_METRO_CAPTURES`, or of `shared/captures` beside the repository. Without them there is nothing to
//! compare, and the test says so.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use go_metro::capture::file::FileFilter;
use go_metro::read::{self, ReadOptions};

/// Time stamps and tshark's printed RTT are in microseconds in most captures.
const TOLERANCE_NS: u64 = 1_000;

/// A flow's two ends: the sender of what is acknowledged, and the acknowledger.
type Flow = (String, String);
/// What names a sample: flow, acknowledgement number, time of the acknowledgement.
type Key = (Flow, u32, u64);

struct Frame {
    flow: Flow,
    time_ns: u64,
    seq: u32,
    ack: u32,
    flagged: bool,
    reset: bool,
    acks_frame: Option<u64>,
    rtt_ns: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Result {
    trusted: usize,
    found: usize,
    wrong: Vec<String>,
    missing: Vec<u64>,
}

#[test]
fn every_trusted_pair_is_found_and_none_is_wrong() {
    let Some(folder) = captures() else {
        println!("no captures: set GO_METRO_CAPTURES to a folder of them");
        return;
    };
    let known = HashMap::from([("scp", 167), ("tcp", 8), ("browsing-snap80", 5318), ("short-sack", 8)]);
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_none_or(|extension| extension != "pcap") {
            continue;
        }
        let result = compare(&path);
        println!("{name}: {} of {} trusted pairs, {} wrong", result.found, result.trusted, result.wrong.len());
        assert_eq!(result.wrong, Vec::<String>::new(), "{name}");
        assert!(result.found * 1000 >= result.trusted * 999, "{name} misses frames {:?}", result.missing);
        if let Some(expected) = known.get(name.as_str()) {
            assert_eq!(result.trusted, *expected, "tshark's trusted pairs of {name}");
        }
        compared += 1;
    }
    assert!(compared > 0, "the folder has no captures");
}

fn captures() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    Some(std::env::var_os("GO_METRO_CAPTURES").map_or_else(beside, PathBuf::from)).filter(|path| path.is_dir())
}

fn compare(path: &Path) -> Result {
    let frames = tshark(path);
    let ours = ours(path);
    let mut by_flow: HashMap<&Flow, Vec<u64>> = HashMap::new();
    for (number, frame) in &frames {
        by_flow.entry(&frame.flow).or_default().push(*number);
    }
    let mut result = Result { trusted: 0, found: 0, wrong: Vec::new(), missing: Vec::new() };
    for (number, frame) in &frames {
        let (Some(acked), Some(rtt_ns)) = (frame.acks_frame, frame.rtt_ns) else { continue };
        // The flow that was acknowledged is the other direction of this one.
        let flow = (frame.flow.1.clone(), frame.flow.0.clone());
        let between = by_flow[&flow].iter().filter(|k| **k >= acked && **k < *number);
        let doubtful = |k: &u64| frames[k].flagged && (frames[k].seq.wrapping_sub(frame.ack) as i32) < 0;
        if frame.reset || between.into_iter().any(doubtful) {
            continue;
        }
        result.trusted += 1;
        match ours.get(&(flow, frame.ack, frame.time_ns)) {
            None => result.missing.push(*number),
            Some(sample) if sample.abs_diff(rtt_ns) <= TOLERANCE_NS => result.found += 1,
            Some(sample) => result.wrong.push(format!("frame {number}: {sample} ns, tshark {rtt_ns} ns")),
        }
    }
    result
}

/// Our samples' RTTs.
fn ours(path: &Path) -> HashMap<Key, u64> {
    let options = ReadOptions { file: path.to_owned(), filter: FileFilter::default(), samples: true, explain: false };
    let mut out = Vec::new();
    read::run(&options, &mut out).unwrap();
    let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let samples = lines.map(|line| {
        let sample: serde_json::Value = serde_json::from_slice(line).unwrap();
        let text = |field: &str| sample[field].as_str().unwrap().to_owned();
        let ack = u32::try_from(sample["ack"].as_u64().unwrap()).unwrap();
        let key = ((text("local"), text("remote")), ack, sample["time_ns"].as_u64().unwrap());
        (key, sample["rtt_ns"].as_u64().unwrap())
    });
    samples.collect()
}

/// tshark's view, by frame number.
fn tshark(path: &Path) -> BTreeMap<u64, Frame> {
    let fields = [
        "frame.number",
        "frame.time_epoch",
        "ip.src",
        "ip.dst",
        "ipv6.src",
        "ipv6.dst",
        "tcp.srcport",
        "tcp.dstport",
        "tcp.seq_raw",
        "tcp.ack_raw",
        "tcp.flags.reset",
        "tcp.analysis.acks_frame",
        "tcp.analysis.ack_rtt",
        "tcp.analysis.retransmission",
        "tcp.analysis.fast_retransmission",
        "tcp.analysis.spurious_retransmission",
        "tcp.analysis.out_of_order",
        "tcp.analysis.keep_alive",
    ];
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args(["-Y", "tcp", "-T", "fields", "-E", "separator=|", "-E", "occurrence=f"]);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.output().expect("tshark runs; `cargo xtask setup` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(frame).collect()
}

fn frame(line: &str) -> (u64, Frame) {
    let field: Vec<&str> = line.split('|').collect();
    let end = |v4: usize, v6: usize, port: usize| {
        if field[v4].is_empty() {
            format!("[{}]:{}", field[v6], field[port])
        } else {
            format!("{}:{}", field[v4], field[port])
        }
    };
    let frame = Frame {
        flow: (end(2, 4, 6), end(3, 5, 7)),
        time_ns: nanoseconds(field[1]),
        seq: field[8].parse().unwrap(),
        ack: field[9].parse().unwrap_or(0),
        flagged: field[13..].iter().any(|flag| !flag.is_empty()),
        reset: field[10] == "1" || field[10] == "True",
        acks_frame: field[11].parse().ok(),
        rtt_ns: (!field[12].is_empty()).then(|| nanoseconds(field[12])),
    };
    (field[0].parse().unwrap(), frame)
}

/// `seconds.nanoseconds`, exactly.
fn nanoseconds(text: &str) -> u64 {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    seconds.parse::<u64>().unwrap() * 1_000_000_000 + format!("{fraction:0<9}")[..9].parse::<u64>().unwrap()
}
