//! What the classifier costs where the caches are cold: connections between two processes that work between the
//! packets ([`crate::ends`]).
//!
//! Each program is behind the empty one in the chain, alone, and all take turns within a round. In one chain they would
//! see the same packets, and the second would find the packet's headers and the kernel's helpers in the cache: the same
//! build costs a tenth to a third less there.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::chain::{Chain, Contender, Costs};
use super::frames::Way;
use super::live::interface;
use super::loads::Loads;
use super::program::{Classifier, Peer, RING_BYTES, Targets, Thinning};
use crate::ends::{Ends, Exchange, Load, Place, working_set};
use crate::{Args, Measured, Spread, Table};
use testing_lab::Pair;
use testing_lab::programs::{self, Hook, Position};
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
const EACH_KIB: [u32; 8] = [0, 96, KIB, 2 * KIB, 4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB];
/// How long each load runs before all are measured.
const WARM_UP: Duration = Duration::from_millis(30);
/// Packets a second, both ways together; `None` for as many as go.
const RATES: [Option<u32>; 3] = [Some(1_000), Some(10_000), None];
/// Connections of the load with many.
const CONNECTIONS: usize = 200;

/// A load.
#[derive(Clone)]
struct Case {
    name: &'static str,
    place: Place,
    /// Numbers of its connections.
    connections: Range<usize>,
    exchange: Exchange,
    /// Packets that a message takes: two for a chunk, or one for a request; what answers it; and an acknowledgement of
    /// the answer where no request soon follows.
    packets: u32,
    way: Passage,
}

/// How packets pass the host's interface.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passage {
    Plain,
    /// With a tag that the device keeps outside the packet, as network cards do.
    Vlan,
    /// The classifier is in the driver, and so is the empty program.
    Driver,
}

const ROUNDS: Case = Case {
    name: "request/response",
    place: Place::Apart,
    connections: 0..1,
    exchange: Exchange::RequestResponse,
    packets: 2,
    way: Passage::Plain,
};
const TOGETHER: Case = Case { name: "the same, on one processor", place: Place::Together, ..ROUNDS };
const CASES: [Case; 8] = [
    ROUNDS,
    TOGETHER,
    Case { name: "the same over 200 connections", connections: 0..CONNECTIONS, packets: 3, ..ROUNDS },
    Case { name: "the same, IPv6", connections: CONNECTIONS..CONNECTIONS + 1, ..ROUNDS },
    Case { name: "the same, VLAN", way: Passage::Vlan, ..ROUNDS },
    Case { name: "the same, in the driver (XDP)", way: Passage::Driver, ..ROUNDS },
    Case { name: "upload", exchange: Exchange::Upload, packets: 3, ..ROUNDS },
    Case { name: "download", exchange: Exchange::Download, packets: 3, ..ROUNDS },
];

/// Runs once: packets go.
enum Traffic {
    /// Between two processes.
    Processes(Case, Load),
    /// Between threads of this process that do nothing else: what the tables of tight loops have.
    Threads,
}

impl Traffic {
    fn of(case: Case, rate: Option<u32>, kib: u32) -> Self {
        // At least a hundred packets a way, and some dozens with the largest working sets.
        let millis = if rate.is_some_and(|rate| rate < 10_000) { 200 } else { 80 };
        let time = Duration::from_millis(millis) * (kib / KIB).clamp(1, 8);
        let load = Load { exchange: case.exchange, rate: rate.map(|rate| rate / case.packets), kib, time };
        Self::Processes(case, load)
    }

    fn passage(&self) -> Passage {
        if let Self::Processes(case, _) = self { case.way } else { Passage::Plain }
    }

    /// What tags the packets where they are to have a tag: both ways, so that host a's hooks see them tagged.
    fn tags(&self, pair: &Pair) -> Result<Vec<programs::Program>> {
        if self.passage() != Passage::Vlan {
            return Ok(Vec::new());
        }
        let [push, pop] = ["lab_vlan_push", "lab_vlan_pop"];
        let each = [
            (&pair.b, pop, Hook::Ingress, Position::First),
            (&pair.a, pop, Hook::Ingress, Position::Last),
            (&pair.a, push, Hook::Egress, Position::First),
            (&pair.b, push, Hook::Egress, Position::Last),
        ];
        each.into_iter()
            .map(|(host, name, hook, position)| programs::Program::attach(host, name, hook, position))
            .collect()
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
    fn push(&mut self, cost: f64, empty: f64, packets: f64) {
        self.measured.push(cost, empty);
        self.above.push(cost - empty);
        self.packets.push(packets);
    }

    fn above(&self) -> String {
        format!("{:.0}", self.measured.above())
    }

    /// How many times the other's cost this is, each above its empty program, round by round.
    fn times(&self, other: &Self) -> String {
        format!("{:.2}", Spread::of(self.above.iter().zip(&other.above).map(|(this, other)| this / other)))
    }

    /// Packets a second, and what the empty program took.
    fn about(&self) -> [String; 2] {
        let packets = Spread::of(self.packets.iter().copied()).median;
        let packets = if packets < 500.0 { format!("{packets:.0}") } else { format!("{:.1} k", packets / 1e3) };
        [packets, format!("{:.0}", self.measured.baseline())]
    }
}

/// A program to measure.
enum Program {
    Ours(PathBuf, Thinning, Targets),
    Peer(PathBuf),
}

impl Program {
    /// This tree's classifier.
    fn this(thinning: Thinning, targets: Targets) -> Self {
        Self::Ours(object(), thinning, targets)
    }

    fn load(&self, pair: &Pair) -> Result<Contender> {
        Ok(match self {
            Self::Ours(file, thinning, targets) => {
                let interfaces = [interface(pair)?];
                Contender::Ours(Box::new(Classifier::load_from(file, &interfaces, RING_BYTES, *thinning, *targets)?))
            }
            Self::Peer(file) => Contender::Peer(Peer::load(file)?),
        })
    }
}

/// Costs by traffic, program and hook; in the driver there is one hook.
fn measure(pair: &Pair, programs: &[Program], traffic: &[Traffic], rounds: usize) -> Result<Vec<Vec<[Cost; 2]>>> {
    let mut seen = vec![vec![<[Cost; 2]>::default(); programs.len()]; traffic.len()];
    for round in 0..rounds {
        let mut bench = Bench::new(pair, programs, round)?;
        for traffic in traffic {
            bench.warm_up(traffic)?;
        }
        for (traffic, seen) in traffic.iter().zip(&mut seen) {
            let _tags = traffic.tags(pair)?;
            for turn in 0..programs.len() {
                let program = (turn + round) % programs.len();
                let costs = bench.run(traffic, program)?;
                bench.chain.drain(program)?;
                // Where one way is measured, as many go the other.
                let both = 2.0 / costs.len() as f64;
                let packets = costs.iter().map(|(_, costs)| costs.packets).sum::<f64>() * both;
                for (way, costs) in costs {
                    if let Some(cost) = costs.contenders[program] {
                        seen[program][way as usize].push(cost, costs.empty, packets);
                    }
                }
            }
        }
    }
    Ok(seen)
}

/// Traffic, and the programs beside it. Where code and data lie in memory makes a difference of some 50 ns, which stays
/// as long as they are loaded: so each round has a bench of its own.
struct Bench<'a> {
    chain: Chain<'a>,
    ends: [Ends; 2],
    threads: Loads,
}

impl<'a> Bench<'a> {
    fn new(pair: &'a Pair, programs: &[Program], round: usize) -> Result<Self> {
        let turn = round % programs.len();
        let in_turn = programs[turn..].iter().chain(&programs[..turn]);
        let mut contenders: Vec<Contender> = in_turn.map(|program| program.load(pair)).collect::<Result<_>>()?;
        contenders.rotate_right(turn);
        let mut ends = [Ends::start(pair, Place::Apart)?, Ends::start(pair, Place::Together)?];
        for ends in &mut ends {
            ends.connect(pair.b.v4, CONNECTIONS)?;
            ends.connect(pair.b.v6, 1)?;
        }
        Ok(Self { chain: Chain::new(&pair.a, contenders)?, ends, threads: Loads::new(pair)? })
    }

    /// Shows the programs all flows.
    fn warm_up(&mut self, traffic: &Traffic) -> Result<()> {
        let Traffic::Processes(case, load) = traffic else { return self.threads.request_response() };
        if load.rate.is_some() || case.way != Passage::Plain {
            return Ok(());
        }
        let order: Vec<usize> = (0..self.chain.contenders.len()).collect();
        self.chain.attach(&order)?;
        self.ends[case.place as usize].run(case.connections.clone(), Load { time: WARM_UP, ..*load })
    }

    /// Runs traffic beside one program.
    fn run(&mut self, traffic: &Traffic, program: usize) -> Result<Vec<(Way, Costs)>> {
        let Self { chain, ends, threads } = self;
        let mut go = || match traffic {
            Traffic::Processes(case, load) => ends[case.place as usize].run(case.connections.clone(), *load),
            Traffic::Threads => threads.request_response(),
        };
        if traffic.passage() == Passage::Driver {
            let costs = chain.measure_in_driver(program, go)?;
            return Ok(costs.map(|costs| (Way::In, costs)).into_iter().collect());
        }
        chain.attach(&[program])?;
        let ways = [Way::Out, Way::In];
        Ok(ways.into_iter().zip(chain.measure(&ways, &mut go)?).collect())
    }
}

/// Each load at each rate; beside another tool's programs, and other builds of ours.
pub(super) fn loads(pair: &Pair, args: &Args) -> Result<Table> {
    let mut contenders = vec![Program::this(Thinning::Watermark, Targets::Prefix)];
    let mut head = vec!["load".to_owned(), "packets a second".into(), "empty ns".into(), "ours above empty".into()];
    if let Some(peer) = &args.peer {
        contenders.push(Program::Peer(peer.clone()));
        head.extend(["peer above empty", "ours of peer's"].map(str::to_owned));
    }
    for file in &args.classifier {
        contenders.push(Program::Ours(file.clone(), Thinning::Watermark, Targets::Prefix));
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        head.extend([format!("{name} above empty"), format!("{name} of ours")]);
    }
    let wanted = |case: &Case| args.load.as_ref().is_none_or(|load| case.name.contains(load.as_str()));
    let cases = || CASES.into_iter().filter(wanted).flat_map(|case| RATES.map(|rate| (case.clone(), rate)));
    let traffic: Vec<Traffic> = cases().map(|(case, rate)| Traffic::of(case, rate, KIB)).collect();
    let measured = measure(pair, &contenders, &traffic, args.rounds)?;
    let mut table = Table::new(LOADS, &head.iter().map(String::as_str).collect::<Vec<_>>());
    for ((case, rate), programs) in cases().zip(&measured) {
        for (hook, way) in ["egress", "ingress"].into_iter().enumerate() {
            let ours = &programs[0][hook];
            if ours.above.is_empty() {
                continue;
            }
            let [packets, empty] = ours.about();
            let packets = if rate.is_none() { format!("full: {packets}") } else { packets };
            let mut cells = vec![format!("{}, {way}", case.name), packets, empty, ours.above()];
            for (number, program) in programs.iter().enumerate().skip(1) {
                let other = &program[hook];
                let is_peer = args.peer.is_some() && number == 1;
                cells.extend(match (other.above.is_empty(), is_peer) {
                    (true, _) => ["-".to_owned(), "-".to_owned()],
                    (false, true) => [other.above(), ours.times(other)],
                    (false, false) => [other.above(), other.times(ours)],
                });
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
    let programs = settings.map(|(_, thinning, targets)| Program::this(thinning, targets));
    let traffic = RATES.map(|rate| Traffic::of(ROUNDS, rate, KIB));
    let measured = measure(pair, &programs, &traffic, rounds)?;
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
    let programs = [Program::this(Thinning::Watermark, Targets::Prefix)];
    let traffic: Vec<Traffic> = std::iter::once(Traffic::Threads)
        .chain(EACH_KIB.into_iter().flat_map(|kib| [TOGETHER, ROUNDS].map(|case| Traffic::of(case, None, kib))))
        .collect();
    let measured = measure(pair, &programs, &traffic, rounds)?;
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
