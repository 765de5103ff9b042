//! `cargo xtask soak`: does it stay up? The agent in the lab for as long as is asked, with connections that come and go
//! and faults at random moments; in the end its memory, its descriptors and its accounts.

mod churn;
mod faults;
mod plot;
mod watch;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use testing_lab::agent::Agent;
use testing_lab::{Impairment, Lab, Link, Over, Way};
use testing_support::workspace::root;
use testing_support::{daemon, setup};
use watch::{Watch, last_health};

/// Where the churn goes, and the round trip to each.
const FAR: [(u8, Duration); 6] = [
    (10, Duration::from_micros(400)),
    (11, Duration::from_millis(2)),
    (12, Duration::from_millis(8)),
    (13, Duration::from_millis(20)),
    (14, Duration::from_millis(50)),
    (15, Duration::from_millis(120)),
];
/// An interface that comes and goes, beside the one with the traffic.
const EXTRA: &str = "soak0";
/// The port of the configuration's Prometheus page.
const PROMETHEUS: u16 = 9464;
/// The configuration: few flows, so that they make room for each other all the time.
const CONFIG: &str = "\
init_config:
  backend: ebpf
  report_interval: 2
  reverse_dns: true
  prometheus_listen: 127.0.0.1:9464
  statsd_ip: 127.0.0.1
  statsd_port: 8125
  idle_ttl: 20
  exp_ttl: 5
  max_flows: 1000
instances:
  - interface: eth0
    ips: [10.77.0.0/24]
  - interface: soak0
    ips: [10.77.0.0/24]
  - interface: crowd*
    ips: [10.77.0.0/24]
";

/// Arguments of `soak`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Where the draws of faults and connections start
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run this build of go-metro instead of making one for release
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Keep the plot in docs/soak.svg instead of target/soak.svg
    #[arg(long)]
    record: bool,
}

/// Runs it and prints the verdict.
///
/// # Errors
///
/// The lab cannot be built; the agent ended, grew, kept descriptors, or its accounts do not close.
pub fn main(args: &Args) -> Result<()> {
    setup::for_lab()?;
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None => daemon::release_binary()?,
    };
    let time = Duration::try_from_secs_f64(args.minutes * 60.0).context("--minutes")?;
    let lab = lab(args.seed)?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let config = directory.path().join("conf.yaml");
    std::fs::write(&config, CONFIG)?;
    // `ip netns exec` binds the namespace's resolv.conf over the system's.
    let etc = Path::new("/etc/netns").join(lab.a.namespace.name());
    std::fs::create_dir_all(&etc)?;
    std::fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    let _etc = Removed(etc);
    let mut command = Command::new("ip");
    command.args(["netns", "exec", lab.a.namespace.name()]).arg(binary);
    command.args(["run", "--output", "statsd,json,prometheus", "--status-socket", "off", "--config"]).arg(&config);
    let mut agent = Agent::spawn_command(&mut command)?;
    agent.ready()?;

    let start = Instant::now();
    let stop = AtomicBool::new(false);
    let mut watch = Watch::new(&agent, start);
    let (happened, connections) = thread::scope(|scope| {
        let churn = scope.spawn(|| churn::run(&lab, args.seed, &stop));
        let faults = scope.spawn(|| faults::run(&lab, &agent, &config, args.seed, start, &stop));
        let over = Over(&stop);
        while start.elapsed() < time && watch.look().is_ok() {
            thread::sleep(Duration::from_secs(1));
        }
        drop(over);
        (faults.join(), churn.join())
    });
    let happened = happened.map_err(|_| anyhow::anyhow!("the faults panicked"))??;
    let connections = connections.map_err(|_| anyhow::anyhow!("the churn panicked"))??;
    // Quiet now: what was on its way is counted, and two more reports tell.
    thread::sleep(Duration::from_secs(6));
    watch.look().context("the agent did not live to the end")?;

    let svg =
        if args.record { root().join("docs/soak.svg") } else { testing_support::workspace::target().join("soak.svg") };
    std::fs::write(&svg, plot::svg(&watch.points, &happened))?;
    println!("{} connections in {:.1} minutes, {} faults:", connections, args.minutes, happened.len());
    for fault in faults::Fault::ALL {
        println!("  {:3} x {}", happened.iter().filter(|(_, other)| *other == fault).count(), fault.name());
    }
    let verdict = judge(&watch, &agent);
    // Descriptors and memory were looked at; it has to end well, too.
    let finished = agent.stop()?;
    println!("plot: {}", shown(&svg));
    verdict?;
    ensure!(finished.status.success(), "it ended with {}", finished.status);
    println!("verdict: it stayed up, flat, and its accounts close");
    Ok(())
}

/// A folder that goes with it.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn lab(seed: u64) -> Result<Lab> {
    let lab = Lab::new(Link::Veth)?;
    for (last, _) in FAR {
        lab.b.add_address([10, 77, 0, last].into())?;
    }
    impair(&lab, 0.002, seed);
    faults::make_extra(&lab)?;
    Ok(lab)
}

/// The path's delays, with so much loss and reordering.
fn impair(lab: &Lab, share: f64, seed: u64) {
    let delay_of: Vec<_> = FAR.iter().map(|(last, rtt)| ([10, 77, 0, *last].into(), *rtt / 2)).collect();
    for way in Way::BOTH {
        let faults = Impairment { loss: share, reorder: share, duplicate: share / 5.0, seed, ..Impairment::default() };
        lab.path().impair(way, Impairment { delay_of: delay_of.clone(), ..faults });
    }
}

/// Everything that must hold; each line is printed, whether it does or not.
fn judge(watch: &Watch, agent: &Agent) -> Result<()> {
    let mut failed = Vec::new();
    let mut check = |what: String, holds: bool| {
        println!("{} {what}", if holds { "ok  " } else { "FAIL" });
        failed.extend((!holds).then_some(what));
    };
    let [early, late] = watch.memory();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    check(
        format!("memory: {:.1} MiB in the second fifth of the time, {:.1} in the last", mib(early), mib(late)),
        late <= early + early / 20 + (1 << 20),
    );
    let [early, late] = watch.descriptors();
    check(format!("descriptors: {early} in the second fifth of the time, {late} in the last"), late <= early);
    let health = last_health(agent).context("no report of its health")?;
    let number = |name: &str| health[name].as_u64().unwrap_or_default();
    let sum =
        |name: &str| health[name].as_object().map_or(0, |map| map.values().filter_map(serde_json::Value::as_u64).sum());
    let (sent, samples, rejected, quiet) = (number("sent"), number("samples"), sum("rejected"), sum("quiet"));
    let (records, lost, segments) = (number("records"), number("lost"), number("segments"));
    check(
        format!("{records} records = {sent} sent + {samples} samples + {rejected} rejected + {quiet} quiet"),
        records == sent + samples + rejected + quiet,
    );
    let (repeats, thinned) = (number("repeats"), number("thinned"));
    check(
        format!(
            "{segments} segments = {records} records + {repeats} repeats and {thinned} thinned, left in the kernel + \
             {lost} lost"
        ),
        segments == records + repeats + thinned + lost,
    );
    check(format!("{samples} samples, {} flows evicted", number("flows_evicted")), samples > 1000);
    check(format!("{} flows, {} of 1000 at most", number("flows"), watch.most_flows()), watch.most_flows() <= 1000);
    let log = agent.log();
    let panics = log.iter().filter(|line| line.contains("panic")).count();
    check(format!("{} lines of log, {panics} panics", log.len()), panics == 0);
    if !failed.is_empty() {
        bail!("it does not hold: {}", failed.join("; "));
    }
    Ok(())
}

/// Tells the agent to read its file.
fn reload(agent: &Agent) -> Result<()> {
    agent.signal(Signal::SIGHUP)
}
