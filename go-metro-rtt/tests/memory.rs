//! Memory is bounded by configuration: measured by what the kernel says this process has.

#![allow(clippy::unwrap_used)]

use go_metro_common::segment::{Bits, Payload, SegmentHeader, SegmentV4, TcpFlags};
use go_metro_rtt::{Batch, Engine, EngineConfig, Outcome, Segment};

const FLOWS: u32 = 1_000_000;
const MIB: u64 = 1 << 20;

/// A segment that this host sends on the flow of this number.
fn sent(flow: u32, time_ns: u64, flags: u8, seq: u32, payload_len: u32) -> Segment {
    let [a, b, c, d] = flow.to_be_bytes();
    let header = SegmentHeader {
        time_ns,
        seq,
        payload: Payload::new(payload_len),
        local_port: 443,
        remote_port: 40_000,
        flags: TcpFlags(flags),
        bits: Bits(Bits::EGRESS),
        window: 500,
        ..SegmentHeader::default()
    };
    Segment::from(&SegmentV4 { header, local: [10, 0, 0, 1], remote: [100 + a, b, c, d] })
}

/// Resident memory (proc_pid_statm(5)).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_million_flows_take_less_than_300_mib_however_they_come_and_whatever_they_send() {
    let before = resident();
    let mut engine = Engine::new(EngineConfig { max_flows: FLOWS, ..EngineConfig::default() });
    let mut batch = Batch::new();
    let mut sink = |_: &Segment, outcome| assert_eq!(outcome, Outcome::Sent);
    let mut at = 1_000_000_000;
    let mut send = |engine: &mut Engine, flows: std::ops::Range<u32>, flags: u8, seq: u32, len: u32| {
        for flow in flows {
            at += 100;
            batch.push(&sent(flow, at, flags, seq, len), engine, &mut sink);
        }
        batch.flush(engine, &mut sink);
        resident().saturating_sub(before)
    };
    let full = send(&mut engine, 0..FLOWS, TcpFlags::SYN | TcpFlags::ACK, 0, 0);
    assert_eq!(engine.flows(), FLOWS as usize);
    assert!(full > 100 * MIB, "{full} bytes: too little to have been measured");
    assert!(full / u64::from(FLOWS) <= 200, "{} bytes a flow", full / u64::from(FLOWS));

    // A SYN flood: as many again, none of them ever heard of before.
    let flooded = send(&mut engine, FLOWS..2 * FLOWS, TcpFlags::SYN | TcpFlags::ACK, 0, 0);
    assert_eq!((engine.flows(), engine.counters().flows_evicted), (FLOWS as usize, u64::from(FLOWS)));
    assert!(flooded <= full + MIB, "{full} bytes, {flooded} after as many flows again");

    // Each has more outstanding than there is room for.
    let mut busy = 0;
    for segment in 0..3 {
        busy = send(&mut engine, FLOWS..2 * FLOWS, TcpFlags::ACK, 1 + segment * 1000, 1000);
    }
    assert!(engine.counters().pool_full > 0, "the pool is exhausted");
    assert!(busy / u64::from(FLOWS) <= 256, "{} bytes a flow", busy / u64::from(FLOWS));
    assert!(busy <= 300 * MIB, "{busy} bytes");
    println!("{full} bytes with a segment each, {flooded} after a flood, {busy} with all nodes in use");
}
