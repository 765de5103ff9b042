//! What a daemon costs while there is nothing to measure.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::unistd::Pid;
use testing_lab::agent::Agent;
use testing_lab::threads::threads;
use testing_lab::{INTERFACE, Lab, Link};
use testing_support::{build_ebpf, setup};

use super::{Args, Spread, Table};

/// Until what a start leaves to be done is done.
const SETTLED: Duration = Duration::from_secs(4);
/// How long it is watched.
const TIME: Duration = Duration::from_secs(10);

/// How often the threads of a process were woken so far, and the seconds that they have worked.
fn cost(pid: Pid) -> Result<(f64, f64)> {
    threads(pid)?.iter().try_fold((0.0, 0.0), |(wakes, seconds), thread| {
        Ok((wakes + thread.wakes()? as f64, seconds + thread.worked()?.as_secs_f64()))
    })
}

/// Resident memory in mebibytes (proc_pid_status(5)): all of it, and what belongs to the process alone.
fn resident(pid: Pid) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mebibytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
        Ok::<f64, anyhow::Error>(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    };
    Ok((mebibytes("VmRSS:")?, mebibytes("RssAnon:")?))
}

pub(super) fn tables(args: &Args) -> Result<Vec<Table>> {
    setup::for_lab()?;
    build_ebpf::ensure()?;
    let binary = testing_support::daemon::release_binary()?;
    let head = ["backend", "wakes a second", "of a processor", "resident memory", "of that its own"];
    let mut table = Table::new("idle", &head);
    let times = args.rounds.min(3);
    for backend in ["ebpf", "pcap"] {
        let lab = Lab::new(Link::Veth)?;
        let (mut wakes, mut cpu, mut all, mut own) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..times {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("conf.yaml");
            let socket = folder.path().join("status.sock");
            let text = format!(
                "init_config: {{backend: {backend}, status_socket: {}}}\n\
                 instances:\n  - {{interface: {INTERFACE}, ips: [\"0.0.0.0/0\", \"::/0\"]}}\n",
                socket.display()
            );
            fs::write(&file, text)?;
            let mut command = lab.a.namespace.command(&binary);
            command.arg("run").arg("-c").arg(&file);
            let mut agent = Agent::spawn_command(&mut command)?;
            agent.ready()?;
            thread::sleep(SETTLED);
            let pid = agent.pid();
            let (before, began) = (cost(pid)?, Instant::now());
            thread::sleep(TIME);
            let (after, seconds) = (cost(pid)?, began.elapsed().as_secs_f64());
            wakes.push((after.0 - before.0) / seconds);
            cpu.push((after.1 - before.1) / seconds * 100.0);
            let (rss, anonymous) = resident(pid)?;
            all.push(rss);
            own.push(anonymous);
            agent.stop()?;
        }
        table.row([
            backend.to_owned(),
            format!("{:.1}", Spread::of(wakes)),
            format!("{:.3} %", Spread::of(cpu)),
            format!("{:.1} MiB", Spread::of(all)),
            format!("{:.1} MiB", Spread::of(own)),
        ]);
    }
    table.note(format!(
        "Median (quartiles) of {times} runs of the release build for {} s each, {} s after their start, with the \
         configuration's defaults, all addresses as targets, and no traffic. Wakes: how often a thread gave its \
         processor up by itself. What is not its own is the program's file and what it shares with the kernel.",
        TIME.as_secs(),
        SETTLED.as_secs(),
    ));
    Ok(vec![table])
}
