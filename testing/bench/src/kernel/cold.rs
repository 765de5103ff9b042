//! What the classifier costs where the caches are cold: connections between two processes that work between the
//! packets ([`crate::ends`]).
//!
//! Each program is behind the empty one in the chain, alone, and all take turns within a round. In one chain they would
//! see the same packets, and the second would find the packet's headers and the kernel's helpers in the cache: the same
//! build costs a tenth to a third less there.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::chain::{Chain, Contender};
use super::frames::Way;
use super::live::interface;
use super::loads::Loads;
use super::program::{Classifier, Peer, RING_BYTES, Targets, Thinning};
use crate::ends::{Ends, Exchange, Load, Place, working_set};
use crate::{Args, Measured, Spread, Table};
use testing_lab::Pair;
use testing_support::workspace::object;

/// The first table.
pub(super) const LOADS: &str = "kernel-cold";
/// What its figures depend on.
pub(super) const SETTINGS: &str = "kernel-cold-settings";
/// The same.
pub(super) const SIZES: &str = "kernel-cold-sizes";

/// The working set of each end, in KiB.
const KIB: u32 = 384;
/// Working sets of the table of sizes.
const EACH_KIB: [u32; 11] = [0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];
/// Packets a second, both ways together; `None` for as many as go.
const RATES: [Option<u32>; 3] = [Some(1_000), Some(10_000), None];
/// Connections of the load with many.
const CONNECTIONS: usize = 200;

/// A load, where its ends are, the numbers of its connections, what goes over them, and packets that a message takes:
/// itself, its answer (if only an acknowledgement), and the last acknowledgement where no request soon follows.
type Case = (&'static str, Place, Range<usize>, Exchange, u32);

const CASES: [Case; 6] = [
    ("request/response", Place::Apart, 0..1, Exchange::RequestResponse, 2),
    ("the same, on one processor", Place::Together, 0..1, Exchange::RequestResponse, 2),
    ("the same over 200 connections", Place::Apart, 0..CONNECTIONS, Exchange::RequestResponse, 3),
    ("the same, IPv6", Place::Apart, CONNECTIONS..CONNECTIONS + 1, Exchange::RequestResponse, 2),
    ("upload", Place::Apart, 0..1, Exchange::Upload, 2),
    ("download", Place::Apart, 0..1, Exchange::Download, 2),
];

/// Runs once: packets go.
enum Traffic {
    /// Between two processes.
    Processes(Place, Range<usize>, Load),
    /// Between threads of this process that do nothing else: what the tables of tight loops have.
    Threads,
}

impl Traffic {
    fn of((_, place, connections, exchange, packets): Case, rate: Option<u32>, kib: u32) -> Self {
        // A few hundred packets at least.
        let time = Duration::from_millis(if rate.is_some_and(|rate| rate < 10_000) { 300 } else { 120 });
        Self::Processes(place, connections, Load { exchange, rate: rate.map(|rate| rate / packets), kib, time })
    }
}

/// What a program cost on one hook.
#[derive(Clone, Default)]
struct Cost {
    measured: Measured,
    above: Vec<f64>,
    packets: Vec<f64>,
}

impl Cost {
    fn above(&self) -> String {
        format!("{:.0}", self.measured.above())
    }

    /// How many times the other's cost this is, each above its empty program, round by round.
    fn times(&self, other: &Self) -> String {
        format!("{:.2}", Spread::of(self.above.iter().zip(&other.above).map(|(this, other)| this / other)))
    }

    /// Packets a second, and what the empty program took.
    fn about(&self) -> [String; 2] {
        [packets_a_second(&self.packets), format!("{:.0}", self.measured.baseline())]
    }
}

fn packets_a_second(packets: &[f64]) -> String {
    format!("{:.1} k", Spread::of(packets.iter().copied()).median / 1e3)
}

/// Traffic, and the programs beside it.
struct Bench<'a> {
    chain: Chain<'a>,
    ends: [Ends; 2],
    threads: Loads,
}

impl<'a> Bench<'a> {
    fn new(pair: &'a Pair, contenders: Vec<Contender>) -> Result<Self> {
        let mut ends = [Ends::start(pair, Place::Apart)?, Ends::start(pair, Place::Together)?];
        for ends in &mut ends {
            ends.connect(pair.b.v4, CONNECTIONS)?;
            ends.connect(pair.b.v6, 1)?;
        }
        Ok(Self { chain: Chain::new(&pair.a, contenders)?, ends, threads: Loads::new(pair)? })
    }

    /// Costs by traffic, program and hook.
    fn measure(&mut self, traffic: &[Traffic], rounds: usize) -> Result<Vec<Vec<[Cost; 2]>>> {
        let programs = self.chain.contenders.len();
        let mut seen = vec![vec![<[Cost; 2]>::default(); programs]; traffic.len()];
        for round in 0..=rounds {
            for (traffic, seen) in traffic.iter().zip(&mut seen) {
                for turn in 0..programs {
                    let program = (turn + round) % programs;
                    self.chain.attach(&[program])?;
                    let start = Instant::now();
                    let costs = self.chain.measure(&[Way::Out, Way::In], || match traffic {
                        Traffic::Processes(place, connections, load) => {
                            self.ends[*place as usize].run(connections.clone(), *load)
                        }
                        Traffic::Threads => self.threads.request_response(),
                    })?;
                    let elapsed = start.elapsed().as_secs_f64();
                    self.chain.drained()?;
                    let packets = costs.iter().map(|costs| costs.runs as f64).sum::<f64>() / elapsed;
                    for (hook, costs) in seen[program].iter_mut().zip(&costs) {
                        if let (Some(cost), true) = (costs.contenders[program], round > 0) {
                            hook.measured.push(cost, costs.empty);
                            hook.above.push(cost - costs.empty);
                            hook.packets.push(packets);
                        }
                    }
                }
            }
        }
        Ok(seen)
    }
}

fn ours(pair: &Pair, file: &Path, thinning: Thinning, targets: Targets) -> Result<Contender> {
    Ok(Contender::Ours(Box::new(Classifier::load_from(file, &[interface(pair)?], RING_BYTES, thinning, targets)?)))
}

/// Each load at each rate; beside another tool's programs, and other builds of ours.
pub(super) fn loads(pair: &Pair, args: &Args) -> Result<Table> {
    let mut contenders = vec![ours(pair, &object(), Thinning::Watermark, Targets::Prefix)?];
    let mut head = vec!["load".to_owned(), "packets a second".into(), "empty ns".into(), "ours above empty".into()];
    if let Some(peer) = &args.peer {
        contenders.push(Contender::Peer(Peer::load(peer)?));
        head.extend(["peer above empty", "ours of peer's"].map(str::to_owned));
    }
    for file in &args.classifier {
        contenders.push(ours(pair, file, Thinning::Watermark, Targets::Prefix)?);
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        head.extend([format!("{name} above empty"), format!("{name} of ours")]);
    }
    let cases = || CASES.into_iter().flat_map(|case| RATES.map(|rate| (case.clone(), rate)));
    let traffic: Vec<Traffic> = cases().map(|(case, rate)| Traffic::of(case, rate, KIB)).collect();
    let measured = Bench::new(pair, contenders)?.measure(&traffic, args.rounds)?;
    let mut table = Table::new(LOADS, &head.iter().map(String::as_str).collect::<Vec<_>>());
    for (((name, ..), rate), programs) in cases().zip(&measured) {
        for (hook, way) in ["egress", "ingress"].into_iter().enumerate() {
            let ours = &programs[0][hook];
            let [packets, empty] = ours.about();
            let packets = if rate.is_none() { format!("full: {packets}") } else { packets };
            let mut cells = vec![format!("{name}, {way}"), packets, empty, ours.above()];
            for (number, program) in programs.iter().enumerate().skip(1) {
                let other = &program[hook];
                let is_peer = args.peer.is_some() && number == 1;
                cells.extend([other.above(), if is_peer { ours.times(other) } else { other.times(ours) }]);
            }
            table.row(cells);
        }
    }
    let [data, code] = working_set(KIB);
    table.note(format!(
        "Median (quartiles) of {} rounds, by `bpf_stats`. Client and server are processes, each on a processor of its \
         own unless the load says otherwise; each walks through {data} KiB of data and {code} KiB of code between two \
         messages. Each program is alone behind an empty one, and all take turns within a round.",
        args.rounds
    ));
    Ok(table)
}

/// Requests and responses with other settings.
pub(super) fn settings(pair: &Pair, rounds: usize) -> Result<Table> {
    let settings = [
        ("one prefix", Thinning::Watermark, Targets::Prefix),
        ("one prefix, `watermark: off`", Thinning::Off, Targets::Prefix),
        ("everything", Thinning::Watermark, Targets::Everything),
        ("everything, `watermark: off`", Thinning::Off, Targets::Everything),
    ];
    let contenders = settings.iter().map(|(_, thinning, targets)| ours(pair, &object(), *thinning, *targets));
    let mut bench = Bench::new(pair, contenders.collect::<Result<_>>()?)?;
    let traffic = RATES.map(|rate| Traffic::of(CASES[0].clone(), rate, KIB));
    let measured = bench.measure(&traffic, rounds)?;
    let head = ["packets a second", "targets", "egress, above empty", "of the first", "ingress, above empty", "of it"];
    let mut table = Table::new(SETTINGS, &head);
    for (rate, programs) in RATES.iter().zip(&measured) {
        for ((name, ..), [out, inward]) in settings.iter().zip(programs) {
            let [packets, _] = out.about();
            table.row([
                if rate.is_none() { format!("full: {packets}") } else { packets },
                (*name).to_owned(),
                out.above(),
                out.times(&programs[0][0]),
                inward.above(),
                inward.times(&programs[0][1]),
            ]);
        }
    }
    table.note(format!("Request/response as in the table above; median (quartiles) of {rounds} rounds."));
    Ok(table)
}

/// Requests and responses with working sets of other sizes.
pub(super) fn sizes(pair: &Pair, rounds: usize) -> Result<Table> {
    let mut bench = Bench::new(pair, vec![ours(pair, &object(), Thinning::Watermark, Targets::Prefix)?])?;
    let [apart, together] = [0, 1].map(|case: usize| move |kib| Traffic::of(CASES[case].clone(), None, kib));
    let traffic: Vec<Traffic> = std::iter::once(Traffic::Threads)
        .chain(EACH_KIB.into_iter().flat_map(|kib| [together(kib), apart(kib)]))
        .collect();
    let measured = bench.measure(&traffic, rounds)?;
    let costs: Vec<&[Cost; 2]> = measured.iter().flatten().collect();
    let head =
        ["between two messages", "on", "packets a second", "empty ns", "egress, above empty", "ingress, above it"];
    let mut table = Table::new(SIZES, &head);
    let mut row = |name: String, place: &str, [out, inward]: &[Cost; 2]| {
        let [packets, empty] = out.about();
        table.row([name, place.to_owned(), packets, empty, out.above(), inward.above()]);
    };
    row("nothing, threads of one process".to_owned(), "any", costs[0]);
    for (kib, costs) in EACH_KIB.into_iter().zip(costs[1..].chunks_exact(2)) {
        let [data, code] = working_set(kib);
        let name = || if kib == 0 { "nothing".to_owned() } else { format!("{data} KiB of data, {code} of code") };
        row(name(), "one processor", costs[0]);
        row(name(), "two", costs[1]);
    }
    table.note(format!("Request/response, as fast as it goes; median (quartiles) of {rounds} rounds."));
    Ok(table)
}
