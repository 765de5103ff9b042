//! The packet path does not allocate: counted by the allocator itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use go_metro_common::segment::{Bits, Payload, SegmentHeader, SegmentV4, TcpFlags};
use go_metro_rtt::{Batch, Engine, EngineConfig, Group, Grouping, Outcome, Segment, Summaries, SummaryLimits};

/// The system's allocator, counting.
struct Counting;

thread_local! {
    /// Of this thread: the test's harness has others.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FLOWS: u32 = 1000;
const LEN: u32 = 1000;

fn segment(flow: u32, time_ns: u64, flags: u8, bits: u8, seq: u32, ack: u32) -> Segment {
    let flags = TcpFlags(flags);
    let payload_len = if bits & Bits::EGRESS != 0 && !flags.any(TcpFlags::SYN) { LEN } else { 0 };
    let header = SegmentHeader {
        time_ns,
        seq,
        ack,
        payload: Payload::new(payload_len),
        local_port: 1024 + flow as u16,
        remote_port: 443,
        flags,
        bits: Bits(bits),
        window: 500,
        ..SegmentHeader::default()
    };
    Segment::from(&SegmentV4 { header, local: [10, 0, 0, 1], remote: [10, 0, (flow / 250) as u8, (flow % 250) as u8] })
}

/// A round: each flow sends two segments, one of them again, and is acknowledged; some close and open again.
fn round(round: u32, sink: &mut impl FnMut(&Segment)) {
    for flow in 0..FLOWS {
        let at = 1_000_000_000 + u64::from(round) * 2_000_000_000 + u64::from(flow) * 1_000_000;
        let seq = round * 2 * LEN;
        if flow % 7 == round % 7 {
            sink(&segment(flow, at, TcpFlags::FIN | TcpFlags::ACK, Bits::EGRESS, seq, 0));
            sink(&segment(flow, at, TcpFlags::RST, 0, 0, 0));
            sink(&segment(flow, at, TcpFlags::SYN, Bits::EGRESS, seq.wrapping_sub(1), 0));
        }
        sink(&segment(flow, at, TcpFlags::ACK, Bits::EGRESS, seq, 0));
        sink(&segment(flow, at + 1000, TcpFlags::ACK, Bits::EGRESS, seq + LEN, 0));
        if flow % 5 == 0 {
            sink(&segment(flow, at + 200_000_000, TcpFlags::ACK, Bits::EGRESS, seq, 0));
        }
        sink(&segment(flow, at + 300_000_000 + u64::from(round % 10) * 1_000_000, TcpFlags::ACK, 0, 0, seq + 2 * LEN));
    }
}

#[test]
fn no_record_costs_an_allocation_once_its_pair_and_the_range_of_its_times_are_known() {
    for grouping in [None, Some(Grouping { group_of: Arc::new(|_| (Group::numbered(1), 0)), by_port: true })] {
        costs_nothing(grouping);
    }
}

fn costs_nothing(grouping: Option<Grouping>) {
    let config = EngineConfig { max_flows: FLOWS / 2, ..EngineConfig::default() };
    let mut engine = Engine::new(config);
    engine.group(grouping);
    let mut batch = Batch::new();
    let mut summaries = Summaries::new(SummaryLimits { kept_samples: 16, ..SummaryLimits::default() });
    let (mut records, mut samples) = (0_u64, 0_u64);
    let mut run = |rounds: std::ops::Range<u32>| {
        let before = ALLOCATIONS.get();
        for number in rounds {
            let mut sink = |_: &Segment, outcome| {
                if let Outcome::Sample(sample) = outcome {
                    samples += 1;
                    summaries.add(&sample);
                }
            };
            round(number, &mut |segment| {
                records += 1;
                batch.push(segment, &mut engine, &mut sink);
            });
            batch.flush(&mut engine, &mut sink);
            engine.expire(go_metro_rtt::Nanos(u64::from(number) * 2_000_000_000));
        }
        ALLOCATIONS.get() - before
    };
    assert!(run(0..40) > 0, "the allocator counts");
    assert_eq!(run(40..240), 0);
    assert!(records > 600_000 && samples > 100_000, "{records} records, {samples} samples");
    let counters = engine.counters();
    assert!(counters.retransmissions > 10_000 && counters.flows_evicted > 10_000, "{counters:?}");
}
