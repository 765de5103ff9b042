//! What a record costs the thread that reads the rings of many processors; `cargo xtask bench many` runs it.
//!
//! `bench-many PROCESSORS` makes ready and prints how many records there are at a time. Then each line on standard
//! input names a case, and the answer is what a record cost that thread this time, in nanoseconds of its processor.
//!
//! The rings are filled by a thread on another processor, so that their lines come from there, as they do where each is
//! written by its own.

use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use go_metro::simulated::{Daemon, Producers, Rings, rings};
use go_metro_common::segment::{Bits, Payload, SegmentHeader, TcpFlags};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Flows of all processors together. Each is handled by one processor.
const FLOWS: u32 = 100_000;
/// Requests at a time, and as many acknowledgements of those before: what comes in 5 ms of ten million a second.
const AT_A_TIME: u32 = 25_000;
const STEP_NS: u64 = 100;
/// How often the rings are filled and read each time.
const TIMES: u32 = 20;
/// The default of `ring_size`.
const RING_BYTES: u32 = 8 << 20;
/// What docs/recorder.md has as `memory` and `times_base`.
const MEMORY: usize = 64 << 20;
const TIMES_BASE: u32 = 10;
/// Payload of a request.
const LEN: u32 = 1448;

/// Fills the rings, over and over.
struct Traffic {
    producers: Producers,
    processors: usize,
    /// Requests so far.
    sent: u32,
    now_ns: u64,
}

impl Traffic {
    fn emit(&mut self, request: u32, is_sent: bool) {
        let (flow, round) = (request % FLOWS, request / FLOWS);
        let (seq, ack) = if is_sent { (round.wrapping_mul(LEN), 1) } else { (1, round.wrapping_mul(LEN) + LEN) };
        self.now_ns += STEP_NS;
        let header = SegmentHeader {
            time_ns: self.now_ns,
            seq,
            ack,
            payload: Payload::new(if is_sent { LEN } else { 0 }),
            ifindex: 2,
            local_port: flow as u16,
            remote_port: 443 + (flow >> 16) as u16,
            window: 1000,
            flags: TcpFlags(TcpFlags::ACK),
            bits: Bits(if is_sent { Bits::EGRESS } else { 0 }),
            ..Default::default()
        };
        // As a network card spreads flows: without an order.
        let processor = flow.wrapping_mul(0x9e37_79b9) as usize % self.processors;
        assert!(self.producers.emit(processor, header), "a ring is full");
    }

    fn fill(&mut self) {
        for _ in 0..AT_A_TIME {
            self.emit(self.sent, true);
            if let Some(asked) = self.sent.checked_sub(AT_A_TIME) {
                self.emit(asked, false);
            }
            self.sent += 1;
        }
    }
}

/// Fills the rings when it is asked, on the second processor of those that there are.
fn fill_on_demand(mut traffic: Traffic, there: CpuSet) -> (SyncSender<()>, Receiver<()>) {
    let ((ask, asked), (done, wait)) = (sync_channel::<()>(1), sync_channel(1));
    std::thread::spawn(move || {
        pin(&there, 1);
        while asked.recv().is_ok() {
            traffic.fill();
            if done.send(()).is_err() {
                return;
            }
        }
    });
    (ask, wait)
}

/// Stays on one of these processors, if there are so many.
fn pin(there: &CpuSet, number: usize) {
    let chosen = (0..CpuSet::count()).filter(|cpu| there.is_set(*cpu).unwrap_or(false)).nth(number);
    let mut set = CpuSet::new();
    if chosen.is_some_and(|cpu| set.set(cpu).is_ok()) {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// What this thread has taken of a processor.
fn taken() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

struct Cases {
    rings: Rings,
    fill: (SyncSender<()>, Receiver<()>),
    one: Daemon,
    several: Daemon,
    /// As `one`, and each keeps records; the second looks for what is far above the lowest, too.
    recording: [Daemon; 2],
}

impl Cases {
    /// Nanoseconds a record.
    fn run(&mut self, case: impl Fn(&mut Self)) -> f64 {
        let mut time = Duration::ZERO;
        for _ in 0..TIMES {
            let _ = self.fill.0.send(());
            let _ = self.fill.1.recv();
            let before = taken();
            case(self);
            time += taken() - before;
            self.several.settle();
        }
        time.as_nanos() as f64 / f64::from(2 * AT_A_TIME * TIMES)
    }

    fn read(&mut self) {
        self.rings.read(&mut |segment| {
            std::hint::black_box(segment);
        });
    }
}

fn main() -> ExitCode {
    let processors = std::env::args().nth(1).and_then(|number| number.parse().ok()).filter(|number| *number > 0);
    let Some(processors) = processors else {
        eprintln!("usage: bench-many PROCESSORS");
        return ExitCode::from(2);
    };
    let daemons = || -> std::io::Result<_> {
        let recording = [Daemon::recording(MEMORY, None)?, Daemon::recording(MEMORY, Some(TIMES_BASE))?];
        Ok((Daemon::new(1)?, Daemon::new(4)?, recording))
    };
    let made = rings(processors, RING_BYTES).and_then(|made| Ok((made, daemons()?)));
    let ((producers, rings), (one, several, recording)) = match made {
        Ok(made) => made,
        Err(error) => {
            eprintln!("bench-many: {error}");
            return ExitCode::FAILURE;
        }
    };
    let there = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    pin(&there, 0);
    let traffic = Traffic { producers, processors, sent: 0, now_ns: 1_000_000_000 };
    let mut cases = Cases { rings, fill: fill_on_demand(traffic, there), one, several, recording };
    // Once, so that all is mapped and all flows are known.
    cases.run(|cases| cases.one.read(&mut cases.rings));
    println!("{}", 2 * AT_A_TIME);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let nanoseconds = match line.as_str() {
            "read" => cases.run(Cases::read),
            "measured" => cases.run(|cases| cases.one.read(&mut cases.rings)),
            "recorded" => cases.run(|cases| cases.recording[0].read(&mut cases.rings)),
            "recorded-far" => cases.run(|cases| cases.recording[1].read(&mut cases.rings)),
            "handed-over" => cases.run(|cases| cases.several.read(&mut cases.rings)),
            _ => return ExitCode::from(2),
        };
        println!("{nanoseconds}");
    }
    ExitCode::SUCCESS
}
