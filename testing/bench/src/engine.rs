//! The engine alone: what a record costs with few and with many flows, against a look-up in a plain hash map.
//!
//! `go-metro-rtt/benches/engine.rs` has the records and the cases; here they are run by turns.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};

use super::plot::{Plot, Point};
use super::{Args, Table, rounds};
use testing_support::setup;
use testing_support::workspace::{cargo, root, run};

/// As the program and as the table has them.
pub(super) const LOADS: [(&str, &str); 3] =
    [("request-response", "request/response"), ("bulk", "bulk"), ("syn-flood", "SYN flood")];
const FLOWS: [u32; 4] = [1, 1_000, 100_000, 1_000_000];
/// For the plot.
const SCALE: [u32; 13] = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];
/// Where it goes.
const PLOT: &str = "docs/engine-scaling.svg";
/// What is asked of the program, the baseline first.
const CASES: [&str; 5] = ["look-up", "batched", "summarised", "one-by-one", "two-shards"];
/// The same for what else an engine can do with each record, compared with an engine that does neither.
const HEALTH: [&str; 3] = ["batched", "counted", "everything"];

pub(super) fn tables(args: &Args) -> Result<Vec<Table>> {
    setup::for_build()?;
    run(cargo().args(["build", "--release", "--quiet", "--package", "go-metro-rtt", "--example", "bench-engine"]))?;
    let program = testing_support::workspace::target().join("release/examples/bench-engine");
    let mut tables = Vec::new();
    if args.wants("engine") {
        tables.push(speed(&program, args)?);
    }
    if args.wants("engine-health") {
        tables.push(health(&program, args)?);
    }
    Ok(tables)
}

/// What a record costs, and what bounds that.
fn speed(program: &Path, args: &Args) -> Result<Table> {
    let head = [
        "load",
        "flows",
        "M records/s",
        "ns a record",
        "times a look-up",
        "with summaries, ns",
        "one by one, ns",
        "two engines, M records/s",
        "bytes a flow",
    ];
    let mut table = Table::new("engine", &head);
    for (load, name) in LOADS {
        for flows in FLOWS {
            let mut server = Server::start(program, &[load, &flows.to_string()])?;
            let measured = rounds(args.rounds.min(9), CASES.len(), |case| server.ask(CASES[case]))?;
            let batched = measured[1].value();
            table.row([
                name.to_owned(),
                flows.to_string(),
                format!("{:.1}", 1e3 / batched.median),
                format!("{batched:.1}"),
                format!("{:.2}", measured[1].ratio()),
                format!("{:.1}", measured[2].value()),
                format!("{:.1}", measured[3].value()),
                if flows > 1 { format!("{:.1}", 1e3 / measured[4].value().median) } else { "-".to_owned() },
                if flows >= 1000 { server.bytes_per_flow.to_string() } else { "-".to_owned() },
            ]);
        }
    }
    table.note(format!(
        "Processor time of one core (two engines: wall-clock time of two cores, each engine with half of the flows), \
         median (quartiles) of {} rounds. Records as they lie in the ring, each \
         flow's answer up to 5 ms after its request. Resident bytes, all in.",
        args.rounds.min(9)
    ));
    let plot = scaling_law(program, args.rounds.min(5))?;
    if args.write {
        std::fs::write(root().join(PLOT), plot.svg()).with_context(|| format!("cannot write {PLOT}"))?;
    }
    Ok(table)
}

/// What the health of connections and their response times add to a record.
fn health(program: &Path, args: &Args) -> Result<Table> {
    let head = ["load", "flows", "ns a record", "with health, ns", "times", "and responses, ns", "times"];
    let mut table = Table::new("engine-health", &head);
    for (load, name) in LOADS {
        for flows in FLOWS {
            let mut server = Server::start(program, &[load, &flows.to_string()])?;
            let measured = rounds(args.rounds, HEALTH.len(), |case| server.ask(HEALTH[case]))?;
            table.row([
                name.to_owned(),
                flows.to_string(),
                format!("{:.1}", measured[0].value()),
                format!("{:.1}", measured[1].value()),
                format!("{:.2}", measured[1].ratio()),
                format!("{:.1}", measured[2].value()),
                format!("{:.2}", measured[2].ratio()),
            ]);
        }
    }
    table.note(format!(
        "As above, {} rounds. The ratios are of the same round, to the engine that counts no health and times no \
         responses.",
        args.rounds
    ));
    Ok(table)
}

/// What a record costs as flows grow.
fn scaling_law(program: &Path, times: usize) -> Result<Plot> {
    let names = ["look-up in a hash map", "engine, in batches", "engine, with summaries", "engine, one by one"];
    let mut curves: Vec<(String, Vec<Point>)> = names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
    for flows in SCALE {
        let mut server = Server::start(program, &[LOADS[0].0, &flows.to_string()])?;
        let measured = rounds(times, names.len(), |case| server.ask(CASES[case]))?;
        for ((_, points), measured) in curves.iter_mut().zip(&measured) {
            points.push(Point { x: f64::from(flows), y: measured.value() });
        }
    }
    Ok(Plot {
        title: "What a record costs in user space, requests and answers".to_owned(),
        x: "flows".to_owned(),
        y: "ns a record".to_owned(),
        curves,
    })
}

/// The running program.
pub(super) struct Server {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    bytes_per_flow: u64,
}

impl Server {
    pub(super) fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let questions = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut server = Self { child, questions, answers, bytes_per_flow: 0 };
        server.bytes_per_flow = server.answer()?;
        Ok(server)
    }

    /// What a record costs in this case, this time, in nanoseconds.
    pub(super) fn ask(&mut self, case: &str) -> Result<f64> {
        writeln!(self.questions, "{case}")?;
        self.answer()
    }

    fn answer<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim().parse().with_context(|| format!("the program answered {line:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
