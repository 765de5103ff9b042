//! How many records a second the daemon takes with its default configuration, until the first is left out or lost.
//!
//! The daemon's own classifier is run on packets through `BPF_PROG_TEST_RUN`, so many in each millisecond: no network
//! stack stands between, which on this many processors would be busy long before. All else is the daemon as it is:
//! ring, capture thread, engine, summaries.

use std::borrow::Cow;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, loaded_programs};
use aya::{TestRun as _, TestRunOptions};
use go_metro_common::names;

use super::frames::{REMOTE4, Way, paths};
use crate::live::process_seconds;
use crate::{Args, Spread, Table};
use testing_lab::Pair;
use testing_lab::agent::Agent;
use testing_support::{build_ebpf, setup};

/// How long a rate is kept.
const TIME: Duration = Duration::from_secs(2);
/// Records are offered in portions, one in each such time.
const PORTION: Duration = Duration::from_millis(1);
/// Thousands of records a second, and how many processors run the classifier.
const RATES: [(u32, usize); 8] = [(100, 1), (250, 1), (500, 1), (1000, 1), (2000, 1), (4000, 1), (4000, 2), (8000, 2)];

/// What became of the records.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Segments a second at the classifier.
    offered: f64,
    /// Records a second at the engine.
    records: f64,
    /// The daemon's processor time a second.
    cpu: f64,
    /// Shares of the segments.
    thinned: f64,
    lost: f64,
}

pub(crate) fn tables(args: &Args) -> Result<Vec<Table>> {
    setup::for_lab()?;
    build_ebpf::ensure()?;
    let binary = testing_support::daemon::release_binary()?;
    let pair = Pair::new()?;
    let head = [
        "wanted a second",
        "processors",
        "offered a second",
        "records a second",
        "of those offered",
        "daemon's CPU",
        "thinned",
        "lost",
    ];
    let mut table = Table::new("limit", &head);
    let rounds = args.rounds.min(5);
    for (thousands, producers) in RATES {
        let seen: Vec<Seen> =
            (0..rounds).map(|_| offer(&pair, &binary, thousands * 1000, producers)).collect::<Result<_>>()?;
        let of = |what: fn(&Seen) -> f64| Spread::of(seen.iter().map(what));
        let share = |what: fn(&Seen) -> f64| {
            let worst = seen.iter().map(what).fold(0.0, f64::max);
            format!("{:.2} % (at most {:.2} %)", of(what).median * 100.0, worst * 100.0)
        };
        table.row([
            format!("{thousands} k"),
            producers.to_string(),
            format!("{:.0} k", of(|seen| seen.offered / 1e3)),
            format!("{:.0} k", of(|seen| seen.records / 1e3)),
            format!("{:.3}", of(|seen| seen.records / seen.offered)),
            format!("{:.0} %", of(|seen| seen.cpu * 100.0).median),
            share(|seen| seen.thinned),
            share(|seen| seen.lost),
        ]);
    }
    table.note(format!(
        "Median (quartiles) of {rounds} rounds of {} s each, half of the segments sent, half received, all of one \
         flow. The processors that run the classifier are those \
         that the daemon runs on too.",
        TIME.as_secs()
    ));
    Ok(vec![table])
}

/// Offers segments at a rate to a daemon of its own.
fn offer(pair: &Pair, binary: &std::path::Path, rate: u32, producers: usize) -> Result<Seen> {
    let target = REMOTE4.to_string();
    let arguments = ["run", "--interface", "lo", "--backend", "ebpf", "--target", &target, "--output", "json"];
    let mut agent = Agent::spawn_command(pair.a.namespace.command(binary).args(arguments))?;
    agent.ready()?;
    let pid = agent.pid().as_raw();
    let (cpu, start) = (process_seconds(pid)?, Instant::now());
    thread::scope(|scope| -> Result<()> {
        let each = rate / producers as u32;
        let threads: Vec<_> = (0..producers).map(|_| scope.spawn(move || produce(each))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a producer panicked")))
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = process_seconds(pid)? - cpu;
    let finished = agent.stop()?;
    let health =
        finished.stdout.iter().rev().find(|line| line.contains("\"health\"")).context("no account at the end")?;
    let health: serde_json::Value = serde_json::from_str(health)?;
    let count = |name: &str| health["health"][name].as_f64().with_context(|| format!("no {name} in {health}"));
    let segments = count("segments")?;
    Ok(Seen {
        offered: segments / elapsed,
        records: count("records")? / elapsed,
        cpu: cpu / elapsed,
        thinned: count("thinned")? / segments.max(1.0),
        lost: count("lost")? / segments.max(1.0),
    })
}

/// Runs the newest classifier on segments at a rate, which it may not reach.
fn produce(rate: u32) -> Result<()> {
    let newest = |name: &'static str| -> Result<SchedClassifier> {
        let named = loaded_programs().filter_map(Result::ok).filter(|info| info.name_as_str() == Some(name));
        let info = named.max_by_key(aya::programs::ProgramInfo::id).with_context(|| format!("no program {name}"))?;
        Ok(SchedClassifier::from_program_info(info, Cow::Borrowed(name))?)
    };
    let programs = [(Way::Out, newest(names::EGRESS_ETHERNET)?), (Way::In, newest(names::INGRESS_ETHERNET)?)];
    let paths = paths();
    let packet = |way| paths.iter().find(|path| path.emits && path.way == way).map(|path| path.bytes.as_slice());
    let portion = (f64::from(rate) * PORTION.as_secs_f64() / 2.0) as u32;
    let start = Instant::now();
    let mut next = start;
    while start.elapsed() < TIME {
        for (way, program) in &programs {
            program.test_run(TestRunOptions {
                data_in: packet(*way),
                repeat: portion.max(1),
                ..TestRunOptions::new()
            })?;
        }
        next += PORTION;
        // Behind the time, the rest of this portion's is not slept; what was missed long ago is not made up for.
        match next.checked_duration_since(Instant::now()) {
            Some(rest) => thread::sleep(rest),
            None => next = next.max(Instant::now().checked_sub(10 * PORTION).unwrap_or(next)),
        }
    }
    Ok(())
}
