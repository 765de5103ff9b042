//! What a record costs in the engine: `cargo run --release --example bench-engine -- [LOAD [FLOWS]]`.
//!
//! Each case runs in rounds, the engine and a baseline by turns over the same records: one look-up of the flow's key in a plain hash
//! map and one store, which is the least that any passive measurement must do. One JSON object a case on standard output; times
//! are per record, in nanoseconds, one figure a round.

use std::hint::black_box;
use std::time::Instant;

use go_metro::rtt::{Batch, Engine, EngineConfig, FlowKey, Outcome, Segment, Summaries, SummaryLimits};
use go_metro_common::segment::{Bits, SegmentHeader, SegmentV4, TcpFlags};

/// Rounds of each case.
const ROUNDS: usize = 7;
/// Records a round, at least.
const RECORDS: usize = 4 << 20;
/// Nanoseconds from one record to the next, on the records' clock: ten million a second.
const STEP_NS: u64 = 100;
/// Payload of a request and of a bulk segment.
const LEN: u32 = 1448;

/// Records that are handed out over and over: each pass moves time, sequence and acknowledgement numbers on.
struct Load {
    records: Vec<SegmentV4>,
    seq_per_pass: u32,
    /// Each pass has flows of its own.
    new_flows: bool,
    pass: u32,
}

impl Load {
    fn request_response(flows: usize) -> Self {
        let order = shuffled(flows);
        let rounds = ((1 << 16) / flows).max(1);
        // The answer comes 5 ms later, or before the flow's next request.
        let lag = (flows / 2).min(25_000) as i64;
        let mut records = Vec::with_capacity(2 * rounds * flows);
        for k in 0..(rounds * flows) as i64 {
            let flow = |k: i64| order[k.rem_euclid(flows as i64) as usize];
            let round = |k: i64| k.div_euclid(flows as i64) as u32;
            records.push(sent(flow(k), round(k).wrapping_mul(LEN), TcpFlags::ACK | TcpFlags::PSH));
            let asked = k - lag;
            records.push(received(flow(asked), round(asked).wrapping_add(1).wrapping_mul(LEN), 200, TcpFlags::ACK));
        }
        Self::new(records, rounds as u32 * LEN)
    }

    /// Two segments and an acknowledgement of two earlier ones at each turn of a flow.
    fn bulk(flows: usize) -> Self {
        let outstanding = match flows {
            0..10_000 => 32,
            10_000..500_000 => 8,
            _ => 2,
        };
        let order = shuffled(flows);
        let rounds = ((1 << 16) / flows).max(1);
        let mut records = Vec::with_capacity(3 * rounds * flows);
        for round in 0..rounds as u32 {
            for flow in &order {
                records.push(sent(*flow, 2 * round * LEN, TcpFlags::ACK));
                records.push(sent(*flow, (2 * round + 1) * LEN, TcpFlags::ACK));
                let ack = (2 * round + 2).wrapping_sub(outstanding).wrapping_mul(LEN);
                records.push(received(*flow, ack, 0, TcpFlags::ACK));
            }
        }
        Self::new(records, 2 * rounds as u32 * LEN)
    }

    /// Each flow is a SYN and its SYN-ACK, never seen again.
    fn syn_flood(flows: usize) -> Self {
        let count = flows.max(1 << 16);
        let records = (0..count as u32)
            .flat_map(|flow| [received(flow, 0, 0, TcpFlags::SYN), sent_len(flow, 0, 0, TcpFlags::SYN | TcpFlags::ACK)])
            .collect();
        Self { new_flows: true, ..Self::new(records, 0) }
    }

    fn new(mut records: Vec<SegmentV4>, seq_per_pass: u32) -> Self {
        for (index, record) in records.iter_mut().enumerate() {
            record.header.time_ns = 1_000_000_000 + index as u64 * STEP_NS;
            record.header.tsval = (record.header.time_ns / 1_000_000) as u32;
        }
        Self { records, seq_per_pass, new_flows: false, pass: 0 }
    }

    /// Hands out whole passes, at least `count` records; how many there were.
    fn run(&mut self, count: usize, sink: &mut impl FnMut(&Segment)) -> usize {
        let mut done = 0;
        while done < count {
            let later = u64::from(self.pass) * self.records.len() as u64 * STEP_NS;
            let further = self.pass.wrapping_mul(self.seq_per_pass);
            for record in &self.records {
                let mut record = *record;
                record.header.time_ns += later;
                record.header.seq = record.header.seq.wrapping_add(further);
                record.header.ack = record.header.ack.wrapping_add(further);
                if self.new_flows {
                    record.remote[0] = self.pass as u8;
                }
                sink(&Segment::from(&record));
            }
            self.pass += 1;
            done += self.records.len();
        }
        done
    }
}

fn sent(flow: u32, seq: u32, flags: u8) -> SegmentV4 {
    sent_len(flow, seq, LEN, flags)
}

fn sent_len(flow: u32, seq: u32, payload_len: u32, flags: u8) -> SegmentV4 {
    let mut record = record(flow, flags, Bits::EGRESS);
    (record.header.seq, record.header.payload_len) = (seq, payload_len);
    record
}

fn received(flow: u32, ack: u32, payload_len: u32, flags: u8) -> SegmentV4 {
    let mut record = record(flow, flags, 0);
    (record.header.ack, record.header.payload_len) = (ack, payload_len);
    record
}

fn record(flow: u32, flags: u8, bits: u8) -> SegmentV4 {
    let [_, b, c, d] = flow.to_be_bytes();
    let header = SegmentHeader {
        ifindex: 2,
        local_port: 443,
        remote_port: 1024 + (flow % 50_000) as u16,
        window: 500,
        flags: TcpFlags(flags),
        bits: Bits(bits | Bits::TIMESTAMPS),
        ..SegmentHeader::default()
    };
    SegmentV4 { header, local: [10, 0, 0, 1], remote: [100, b, c, d] }
}

/// 0 to `count`, in an order that no cache foresees (Fisher and Yates, with a linear congruential generator).
fn shuffled(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut random = 88_172_645_463_325_252_u64;
    for last in (1..count).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, ((random >> 33) as usize) % (last + 1));
    }
    order
}

/// Nanoseconds a record.
fn timed(load: &mut Load, mut sink: impl FnMut(&Segment)) -> f64 {
    let start = Instant::now();
    let count = load.run(RECORDS, &mut sink);
    start.elapsed().as_secs_f64() * 1e9 / count as f64
}

fn case(name: &str, flows: usize, make: impl Fn(usize) -> Load) {
    let config = EngineConfig { max_flows: flows.max(1024) as u32, ..EngineConfig::default() };
    let (mut load, mut same) = (make(flows), make(flows));
    let before = resident_bytes();
    let mut engine = Engine::new(config);
    load.run(flows * 2, &mut |segment| {
        black_box(engine.record(segment));
    });
    let bytes = resident_bytes().saturating_sub(before) as f64 / engine.flows() as f64;

    let mut map: hashbrown::HashMap<FlowKey, u64, foldhash::fast::RandomState> = hashbrown::HashMap::default();
    let baseline = |map: &mut hashbrown::HashMap<FlowKey, u64, _>, segment: &Segment| {
        if map.len() >= 2 * flows.max(1024) {
            map.clear();
        }
        *map.entry(segment.flow).or_default() = segment.time().0;
    };
    same.run(flows * 2, &mut |segment| baseline(&mut map, segment));

    let mut summaries = Summaries::new(SummaryLimits::default());
    let (mut ours, mut theirs, mut summed) = (Vec::new(), Vec::new(), Vec::new());
    let before = engine.counters().samples_total();
    for _ in 0..ROUNDS {
        theirs.push(timed(&mut same, |segment| baseline(&mut map, segment)));
        ours.push(timed(&mut load, |segment| {
            black_box(engine.record(segment));
        }));
    }
    let samples = engine.counters().samples_total() - before;
    let mut batched = Vec::new();
    let mut batch = Batch::new();
    for _ in 0..ROUNDS {
        batched.push(timed(&mut load, |segment| {
            batch.push(segment, &mut engine, &mut |_, outcome| {
                black_box(outcome);
            });
        }));
    }
    let mut sum = |_: &Segment, outcome| {
        if let Outcome::Sample(sample) = outcome {
            summaries.add(&sample);
        }
    };
    for _ in 0..ROUNDS {
        summed.push(timed(&mut load, |segment| {
            batch.push(segment, &mut engine, &mut sum);
        }));
    }
    println!(
        "{}",
        serde_json::json!({
            "load": name, "flows": flows, "samples": samples, "bytes_per_flow": bytes.round(), "pool_full": engine.counters().pool_full,
            "engine_ns": ours, "batched_ns": batched, "with_summaries_ns": summed, "baseline_ns": theirs,
        })
    );
}

/// Resident memory of this process (proc_pid_statm(5)).
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (load, flows) = (arguments.next(), arguments.next().and_then(|flows| flows.parse::<usize>().ok()));
    let loads: [(&str, fn(usize) -> Load); 3] =
        [("request_response", Load::request_response), ("bulk", Load::bulk), ("syn_flood", Load::syn_flood)];
    for (name, make) in loads {
        if load.as_deref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        for count in [1, 1_000, 100_000, 1_000_000] {
            if flows.is_none_or(|wanted| wanted == count) {
                case(name, count, make);
            }
        }
    }
}
