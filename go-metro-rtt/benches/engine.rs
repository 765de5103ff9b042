//! What a record costs in the engine; `cargo xtask bench engine` runs it.
//!
//! `bench-engine LOAD FLOWS` makes ready and prints the resident bytes a flow takes. Then each line on standard input
//! names a case, and the answer is what a record cost in it this time, in nanoseconds.

use std::hint::black_box;
use std::io::BufRead as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use go_metro_common::segment::{Bits, Payload, SegmentHeader, SegmentV4, TcpFlags};
use go_metro_rtt::{
    Batch, Engine, EngineConfig, FlowKey, HealthLimits, Outcome, Segment, Summaries, SummaryLimits, shard_of,
};
use nix::time::{ClockId, clock_gettime};

/// Records each time, at least.
const RECORDS: usize = 1 << 20;
/// Engines that share the flows, one for each processor of the machine that this was written on.
const SHARDS: u32 = 2;
/// Nanoseconds from one record to the next, on the records' clock: ten million a second.
const STEP_NS: u64 = 100;
/// Payload of a request and of a bulk segment.
const LEN: u32 = 1448;

/// Records that are handed out over and over: each pass moves time, sequence and acknowledgement numbers on.
struct Load {
    records: Vec<SegmentV4>,
    seq_per_pass: u32,
    ns_per_pass: u64,
    /// Each pass has flows of its own.
    new_flows: bool,
    /// Flows that the engine has room for, so that it can record all that they have outstanding.
    max_flows: u32,
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
            let answer = received(flow(asked), round(asked).wrapping_add(1).wrapping_mul(LEN), 200, TcpFlags::ACK);
            let index = records.len() as i64;
            records.push(echoing(answer, index - 2 * asked));
        }
        Self::new(records, flows, rounds as u32 * LEN)
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
                // Of the first of the two.
                let turns = i64::from(outstanding / 2) * flows as i64;
                records.push(echoing(received(*flow, ack, 0, TcpFlags::ACK), 2 + 3 * turns));
            }
        }
        // Beside each flow's own place for an outstanding segment, which may be free while others are not, an engine
        // has three for each two flows that it may have. At its turn a flow needs two more.
        let common = outstanding as usize * flows + 2;
        Self::new(records, flows.max(common.div_ceil(3) * 2), 2 * rounds as u32 * LEN)
    }

    /// Each flow is a SYN and its SYN-ACK, never seen again.
    fn syn_flood(flows: usize) -> Self {
        let count = flows.max(1 << 16);
        let records = (0..count as u32)
            .flat_map(|flow| [received(flow, 0, 0, TcpFlags::SYN), sent_len(flow, 0, 0, TcpFlags::SYN | TcpFlags::ACK)])
            .collect();
        Self { new_flows: true, ..Self::new(records, flows, 0) }
    }

    fn new(mut records: Vec<SegmentV4>, max_flows: usize, seq_per_pass: u32) -> Self {
        for (index, record) in records.iter_mut().enumerate() {
            record.header.time_ns = 1_000_000_000 + index as u64 * STEP_NS;
            record.header.tsval = (record.header.time_ns / 1_000_000) as u32;
        }
        for index in 0..records.len() {
            let header = &records[index].header;
            let sent = (header.tsecr != 0).then(|| index as i64 - i64::from(header.tsecr));
            let sent = sent.map(|sent| records[sent.rem_euclid(records.len() as i64) as usize].header.tsval);
            records[index].header.tsecr = sent.unwrap_or_default();
        }
        let ns_per_pass = records.len() as u64 * STEP_NS;
        let max_flows = max_flows.max(1024) as u32;
        Self { records, seq_per_pass, ns_per_pass, new_flows: false, max_flows, pass: 0 }
    }

    /// Its records by the engine that they belong to.
    fn split(&self, shards: u32) -> Vec<Self> {
        let of = |shard: u32| {
            let records =
                self.records.iter().filter(|r| shard_of(&Segment::from(*r).flow, 0, shards) == shard).copied();
            Self { records: records.collect(), pass: 0, ..*self }
        };
        (0..shards).map(of).collect()
    }

    /// An engine that has room for it.
    fn engine(&self) -> Engine {
        Engine::new(EngineConfig { max_flows: self.max_flows, ..EngineConfig::default() })
    }

    /// Hands out whole passes, at least `count` records; how many there were.
    fn run(&mut self, count: usize, sink: &mut impl FnMut(&Segment)) -> usize {
        let mut done = 0;
        while done < count {
            let later = u64::from(self.pass) * self.ns_per_pass;
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
    (record.header.seq, record.header.payload) = (seq, Payload::new(payload_len));
    record
}

fn received(flow: u32, ack: u32, payload_len: u32, flags: u8) -> SegmentV4 {
    let mut record = record(flow, flags, 0);
    (record.header.ack, record.header.payload) = (ack, Payload::new(payload_len));
    record
}

/// How the flow of a record begins, before its first data, which have the sequence numbers from 0.
fn handshake(of: &SegmentV4) -> [SegmentV4; 2] {
    let flags = [TcpFlags::SYN, TcpFlags::SYN | TcpFlags::ACK];
    let bits = [Bits::EGRESS, 0].map(|bits| bits | Bits::TIMESTAMPS);
    [0, 1].map(|at| {
        let SegmentHeader { ifindex, local_port, remote_port, window, .. } = of.header;
        let header = SegmentHeader {
            time_ns: 1_000_000 * (1 + at as u64),
            seq: u32::MAX,
            flags: TcpFlags(flags[at]),
            bits: Bits(bits[at]),
            ifindex,
            local_port,
            remote_port,
            window,
            ..SegmentHeader::default()
        };
        SegmentV4 { header, ..*of }
    })
}

/// With the TSval of the record that came so many before, once [`Load::new`] has given it one.
fn echoing(mut record: SegmentV4, before: i64) -> SegmentV4 {
    record.header.tsecr = before as u32;
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

/// Nanoseconds of processor time a record: what other programs take is not counted.
fn timed(load: &mut Load, mut sink: impl FnMut(&Segment)) -> f64 {
    let start = processor_time();
    let count = load.run(RECORDS, &mut sink);
    (processor_time() - start).as_secs_f64() * 1e9 / count as f64
}

/// What this thread has had so far.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the clock of this thread").into()
}

/// The cases, each with the same records.
struct Cases {
    load: Load,
    engine: Engine,
    batch: Batch,
    summaries: Summaries,
    /// The same for the baseline, so that its flows go on where they were.
    same: Load,
    map: hashbrown::HashMap<FlowKey, u64, foldhash::fast::RandomState>,
    map_max: usize,
    /// The same once more, for two engines on two processors.
    shards: Vec<Shard>,
    /// And for one that counts the health of connections too.
    counting: Option<Shard>,
    /// And for one that times responses as well.
    everything: Option<Shard>,
}

struct Shard {
    load: Load,
    engine: Engine,
    batch: Batch,
}

impl Shard {
    /// Whose engine counts the health of connections.
    fn counting(load: Load) -> Self {
        let mut engine = load.engine();
        engine.count_health(Some(HealthLimits {
            max_pairs: 2000,
            connect_timeout: Duration::from_secs(30),
            side: go_metro_rtt::Side::Remote,
        }));
        Self { load, engine, batch: Batch::new() }
    }

    /// Opens the connections of the load, in the order in which they send, as without handshakes they begin: so their
    /// places in memory are alike.
    fn open(&mut self) {
        if self.load.new_flows {
            return;
        }
        let mut opened = hashbrown::HashSet::<_, foldhash::fast::RandomState>::default();
        for record in self.load.records.iter().filter(|record| record.header.bits.any(Bits::EGRESS)) {
            if opened.insert(Segment::from(record).flow) {
                for record in handshake(record) {
                    self.engine.record(&Segment::from(&record));
                }
            }
        }
    }

    /// Nanoseconds of processor time a record.
    fn timed(&mut self) -> f64 {
        let start = processor_time();
        let count = self.run(RECORDS);
        (processor_time() - start).as_secs_f64() * 1e9 / count as f64
    }

    fn run(&mut self, count: usize) -> usize {
        let Self { load, engine, batch } = self;
        load.run(count, &mut |segment| {
            batch.push(segment, engine, &mut |_, outcome| {
                black_box(outcome);
            });
        })
    }
}

impl Cases {
    fn new(make: fn(usize) -> Load, flows: usize) -> Self {
        let load = make(flows);
        let map_max = flows.max(1024);
        Self {
            engine: load.engine(),
            load,
            batch: Batch::new(),
            summaries: Summaries::new(SummaryLimits::default()),
            same: make(flows),
            map: hashbrown::HashMap::with_capacity_and_hasher(map_max, foldhash::fast::RandomState::default()),
            map_max,
            shards: Vec::new(),
            counting: None,
            everything: None,
        }
    }

    /// As [`Cases::batched`], with the health of connections counted. An interval has more records than this.
    fn counted(&mut self, make: fn(usize) -> Load, flows: usize) -> f64 {
        self.counting.get_or_insert_with(|| Shard::counting(make(flows))).timed()
    }

    /// The same with responses timed, of connections whose handshakes were seen.
    fn everything(&mut self, make: fn(usize) -> Load, flows: usize) -> f64 {
        let opened = || {
            let mut shard = Shard::counting(make(flows));
            shard.engine.time_responses(true);
            shard.open();
            shard
        };
        self.everything.get_or_insert_with(opened).timed()
    }

    /// Two engines, each with half of the flows and a thread of its own.
    fn two_shards(&mut self) -> f64 {
        if self.shards.is_empty() {
            let shard = |load: Load| Shard { engine: load.engine(), load, batch: Batch::new() };
            self.shards =
                self.load.split(SHARDS).into_iter().filter(|load| !load.records.is_empty()).map(shard).collect();
        }
        let each = RECORDS / SHARDS as usize;
        let start = Instant::now();
        let count: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = self.shards.iter_mut().map(|shard| scope.spawn(|| shard.run(each))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
        });
        start.elapsed().as_secs_f64() * 1e9 / count as f64
    }

    /// The baseline: a look-up in a plain hash map and a store, the least that any passive measurement must do.
    fn look_up(&mut self) -> f64 {
        let Self { same, map, map_max, .. } = self;
        timed(same, |segment| {
            if map.len() >= *map_max && !map.contains_key(&segment.flow) {
                map.clear();
            }
            *map.entry(segment.flow).or_default() = segment.time().0;
        })
    }

    fn one_by_one(&mut self) -> f64 {
        let Self { load, engine, .. } = self;
        timed(load, |segment| {
            black_box(engine.record(segment));
        })
    }

    fn batched(&mut self) -> f64 {
        let Self { load, engine, batch, .. } = self;
        timed(load, |segment| {
            batch.push(segment, engine, &mut |_, outcome| {
                black_box(outcome);
            });
        })
    }

    fn summarised(&mut self) -> f64 {
        let Self { load, engine, batch, summaries, .. } = self;
        let mut sink = |_: &Segment, outcome| {
            if let Outcome::Sample(sample) = outcome {
                summaries.add(&sample);
            }
        };
        timed(load, |segment| batch.push(segment, engine, &mut sink))
    }

    /// Whether every engine has recorded all that was sent: one that has no room for its load does less, and rejects
    /// what acknowledges the rest.
    fn hold_their_loads(&self) -> bool {
        let shards = self.shards.iter().chain(&self.counting).chain(&self.everything);
        let mut counters = shards.map(|shard| shard.engine.counters()).chain([self.engine.counters()]);
        counters.all(|counters| counters.pool_full == 0 && counters.thinned == 0)
    }
}

/// Resident memory of this process (proc_pid_statm(5)).
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let load: Option<fn(usize) -> Load> = match arguments.first().map(String::as_str) {
        Some("request-response") => Some(Load::request_response),
        Some("bulk") => Some(Load::bulk),
        Some("syn-flood") => Some(Load::syn_flood),
        _ => None,
    };
    let flows = arguments.get(1).and_then(|flows| flows.parse().ok()).filter(|flows| *flows > 0);
    let (Some(load), Some(flows)) = (load, flows) else {
        eprintln!("usage: bench-engine request-response|bulk|syn-flood FLOWS");
        return ExitCode::from(2);
    };
    let mut cases = Cases::new(load, flows);
    let before = resident_bytes();
    cases.batched();
    println!("{}", resident_bytes().saturating_sub(before) / cases.engine.flows().max(1) as u64);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let nanoseconds = match line.as_str() {
            "look-up" => cases.look_up(),
            "one-by-one" => cases.one_by_one(),
            "two-shards" => cases.two_shards(),
            "batched" => cases.batched(),
            "summarised" => cases.summarised(),
            "counted" => cases.counted(load, flows),
            "everything" => cases.everything(load, flows),
            "interval" => {
                black_box(cases.summaries.take());
                0.0
            }
            _ => return ExitCode::from(2),
        };
        if !cases.hold_their_loads() {
            eprintln!("an engine has no room for this load");
            return ExitCode::FAILURE;
        }
        println!("{nanoseconds}");
    }
    ExitCode::SUCCESS
}
