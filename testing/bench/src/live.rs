//! The whole agent beside real traffic: what it leaves of throughput and latency, what it costs, and what it loses.
//!
//! Host a runs the agent, or none; the loads of [`loads`] go between host a and host b over a bare veth pair, so both
//! hosts, the agent and the load share this machine's processors.

mod loads;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::loads::Load;
use super::{Args, Spread, Table, rounds};
use testing_lab::agent::Agent;
use testing_lab::{INTERFACE, Pair};
use testing_support::{build_ebpf, setup};

/// How long a load runs.
const TIME: Duration = Duration::from_millis(1000);
/// What watches, if anything; none first, as the baseline.
const WATCHERS: [Option<&str>; 3] = [None, Some("ebpf"), Some("pcap")];

/// What one run showed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Units of work a second.
    done: f64,
    /// 50th and 99th percentile of the answers' times, in microseconds, where there are answers.
    latency: Option<(f64, f64)>,
    /// Processor time of the whole machine a second.
    machine: f64,
    /// The agent's part of it.
    agent: f64,
    /// Records that reached the engine, a second.
    records: f64,
    /// Share of the records (libpcap: of the packets) that were lost.
    lost: f64,
}

pub(super) fn tables(args: &Args) -> Result<Vec<Table>> {
    setup::for_test()?;
    setup::for_lab()?;
    build_ebpf::ensure()?;
    let binary = testing_support::daemon::release_binary()?;
    let head = [
        "load",
        "agent",
        "done a second",
        "of that without",
        "p50, p99 in µs",
        "CPU for it",
        "agent's CPU",
        "records a second",
        "lost",
    ];
    let mut table = Table::new("live", &head);
    let pair = Pair::new()?;
    for mut load in Load::all(&pair)? {
        let mut seen: [Vec<Seen>; WATCHERS.len()] = Default::default();
        let measured = rounds(args.rounds.min(3), WATCHERS.len(), |case| {
            let this = run(&pair, &mut load, &binary, WATCHERS[case])?;
            seen[case].push(this);
            Ok(this.done)
        })?;
        // Without what warmed up.
        let of = |case: usize, what: fn(&Seen) -> f64| Spread::of(seen[case].iter().skip(1).map(what)).median;
        let cost = |case: usize| of(case, |seen| seen.machine / seen.done);
        for (case, watcher) in WATCHERS.iter().enumerate() {
            let percentile = |what: fn((f64, f64)) -> f64| {
                let values: Option<Vec<f64>> = seen[case].iter().skip(1).map(|seen| seen.latency.map(what)).collect();
                values.map_or("-".to_owned(), |values| format!("{:.0}", Spread::of(values).median))
            };
            let watched = |text: String| if watcher.is_some() { text } else { "-".to_owned() };
            table.row([
                load.name().to_owned(),
                watcher.unwrap_or("none").to_owned(),
                load.shown(of(case, |seen| seen.done)),
                format!("{:.2}", measured[case].ratio()),
                format!("{}, {}", percentile(|latency| latency.0), percentile(|latency| latency.1)),
                format!("× {:.2}", cost(case) / cost(0)),
                watched(format!("{:.0} %", of(case, |seen| seen.agent) * 100.0)),
                watched(format!("{:.0} k", of(case, |seen| seen.records) / 1e3)),
                watched(format!("{:.3} %", of(case, |seen| seen.lost) * 100.0)),
            ]);
        }
    }
    table.note(format!(
        "Median (quartiles) of {} rounds of {} ms each. CPU for it: processor time of the whole machine for a unit of \
         work, against that without agent. Both \
         hosts, the load and the agent share two processors; where the load alone takes both, what the agent takes is \
         missing from the load.",
        args.rounds.min(3),
        TIME.as_millis(),
    ));
    Ok(vec![table])
}

/// Runs a load once, watched or not.
fn run(pair: &Pair, load: &mut Load<'_>, binary: &std::path::Path, backend: Option<&str>) -> Result<Seen> {
    let agent = match backend {
        None => None,
        Some(backend) => {
            let arguments = ["run", "--interface", INTERFACE, "--backend", backend, "--output", "json"];
            let mut agent = Agent::spawn_command(pair.a.namespace.command(binary).args(arguments))?;
            agent.ready()?;
            Some(agent)
        }
    };
    let cpu_of_agent = || agent.as_ref().map_or(Ok(0.0), |agent| process_seconds(agent.pid().as_raw()));
    let (machine, own, start) = (machine_seconds()?, cpu_of_agent()?, Instant::now());
    let (done, latency) = load.run(TIME)?;
    let elapsed = start.elapsed().as_secs_f64();
    let (machine, own) = (machine_seconds()? - machine, cpu_of_agent()? - own);
    let mut seen =
        Seen { done: done / elapsed, latency, machine: machine / elapsed, agent: own / elapsed, ..Seen::default() };
    if let Some(agent) = agent {
        let finished = agent.stop()?;
        let health =
            finished.stdout.iter().rev().find(|line| line.contains("\"health\"")).context("no account at the end")?;
        let health: serde_json::Value = serde_json::from_str(health)?;
        let count = |name: &str| health["health"][name].as_f64().with_context(|| format!("no {name} in {health}"));
        let (records, lost) = (count("records")?, count("lost")?);
        let offered = if backend == Some("pcap") { count("packets")? } else { records };
        seen.records = records / elapsed;
        seen.lost = lost / (offered + lost).max(1.0);
    }
    Ok(seen)
}

/// What all processors have worked so far, in seconds (proc_stat(5): all but idle and waiting).
fn machine_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|number| number.parse().ok()).collect();
    let idle = ticks.iter().skip(3).take(2).sum::<f64>();
    // Guest time is in user time already.
    Ok((ticks.iter().take(8).sum::<f64>() - idle) / ticks_per_second())
}

/// What a process has worked so far, in seconds (proc_pid_stat(5), fields 14 and 15).
pub(super) fn process_seconds(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|number| number.parse::<f64>().ok()).sum::<f64>();
    Ok(ticks / ticks_per_second())
}

fn ticks_per_second() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.map_or(100.0, |ticks| ticks as f64)
}
