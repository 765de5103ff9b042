//! The ways to capture, each measured against netem's delay.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use aya::programs::loaded_programs;
use aya::util::KernelVersion;
use caps::Capability;
use nix::sys::resource::{Resource, setrlimit};

use super::network::{Network, tc};
use super::{Path, refusal};
use testing_lab::agent::{Agent, Finished, Sample, binary, samples};
use testing_lab::programs::{Hook, attached};
use testing_lab::threads::threads;
use testing_lab::traffic::{Rounds, Server};
use testing_lab::{Host, INTERFACE};

/// netem's delay, one way; there is no other.
const RTT: Duration = Duration::from_millis(20);
/// How far the median may be from it, and any one sample.
const MEDIAN_NS: i64 = 300_000;
const LARGEST_NS: i64 = 3_000_000;
/// Requests over each address family.
const ROUNDS: Rounds = Rounds { count: 20, request: 100, response: 200, pause: Duration::from_millis(2) };
/// How long output may take that is due at once.
const SOON: Duration = Duration::from_secs(10);
/// What a service may lock by default: 64 KiB.
const LOCKED: u64 = 64 << 10;
/// Names of the classifier's programs begin so.
const OURS: &str = "gometro_";

pub(super) type Test = fn() -> Result<Path>;

/// What is tried, by name.
pub(super) const ALL: [(&str, Test); 12] = [
    ("eBPF", ebpf),
    ("eBPF, both sides, debug", ebpf_in_full),
    ("eBPF, three workers", ebpf_by_three),
    ("eBPF after SIGKILL", killed),
    ("libpcap", libpcap),
    ("eBPF as a user", ebpf_as_a_user),
    ("libpcap as a user", libpcap_as_a_user),
    ("auto without CAP_PERFMON", without_cap_perfmon),
    ("auto, little memory locked", with_little_locked_memory),
    ("auto without CAP_BPF", without_cap_bpf),
    ("auto without bpf(2)", without_bpf),
    ("auto without ring buffer", without_ring_buffer),
];

fn ebpf() -> Result<Path> {
    let network = Network::new(RTT)?;
    let agent = start(&network.a, &["--backend", "auto"])?;
    let there = on_the_hooks(&network.a)?;
    ensure!(there == 2, "{there} programs on the hooks, not 2");
    let path = measure(&network, agent)?;
    ensure!(path.hook == expected_hook(), "attached by {}, not {}", path.hook, expected_hook());
    nothing_left(&network.a)?;
    Ok(path)
}

fn ebpf_in_full() -> Result<Path> {
    let network = Network::new(RTT)?;
    let mut command = command(&network.a, &["--backend", "ebpf", "--sides", "both"])?;
    let agent = Agent::spawn_command(command.env("GO_METRO_LOG", "debug"))?;
    let path = measure(&network, ready(agent)?)?;
    nothing_left(&network.a)?;
    Ok(path)
}

/// Flows shared out to three threads.
fn ebpf_by_three() -> Result<Path> {
    let network = Network::new(RTT)?;
    let folder = tempfile::tempdir()?;
    let conf = folder.path().join("conf.yaml");
    let text = "init_config: {backend: ebpf, workers: 3, status_socket: off}\n\
                instances: [{interface: eth0, ips: [10.77.0.2, 'fd77::2']}]\n";
    std::fs::write(&conf, text)?;
    let mut command = network.a.namespace.command(binary()?);
    command.arg("run").arg("-c").arg(&conf).args(["--output", "json", "--samples"]);
    let path = measure(&network, ready(Agent::spawn_command(&mut command)?)?)?;
    nothing_left(&network.a)?;
    Ok(path)
}

fn killed() -> Result<Path> {
    let network = Network::new(RTT)?;
    start(&network.a, &["--backend", "ebpf"])?.kill()?;
    // The kernel tidies up in its own time.
    thread::sleep(Duration::from_millis(500));
    let left = on_the_hooks(&network.a)?;
    let expected = if expected_hook() == "tcx" { 0 } else { 2 };
    ensure!(left == expected, "{left} programs are left on the hooks, not {expected}");
    let agent = start(&network.a, &["--backend", "ebpf"])?;
    let there = on_the_hooks(&network.a)?;
    ensure!(there == 2, "{there} programs on the hooks after the next start, not 2");
    let path = measure(&network, agent)?;
    nothing_left(&network.a)?;
    Ok(Path { note: if left == 0 { "nothing was left" } else { "what was left is replaced" }.to_owned(), ..path })
}

fn libpcap() -> Result<Path> {
    let network = Network::new(RTT)?;
    let agent = start(&network.a, &["--backend", "pcap"])?;
    measure(&network, agent)
}

/// An ordinary user with three capabilities measures, and goes on to when the interface has been another, with what it
/// has kept.
fn ebpf_as_a_user() -> Result<Path> {
    let network = Network::new(RTT)?;
    let agent =
        ready(Agent::spawn_command(&mut as_a_user(&network.a, "+bpf,+net_admin,+perfmon", &["--backend", "ebpf"])?)?)?;
    let note = kept(&agent)?;
    network.rejoin(RTT)?;
    let captures = |log: &[String]| log.iter().filter(|line| line.contains("capturing on")).count();
    let deadline = Instant::now() + SOON;
    while captures(&agent.log()) < 2 {
        ensure!(Instant::now() < deadline, "it does not return to its interface:\n{}", agent.log().join("\n"));
        thread::sleep(Duration::from_millis(50));
    }
    let path = measure(&network, agent)?;
    ensure!(path.hook == expected_hook(), "attached by {}, not {}", path.hook, expected_hook());
    nothing_left(&network.a)?;
    Ok(Path { note, ..path })
}

fn libpcap_as_a_user() -> Result<Path> {
    let network = Network::new(RTT)?;
    let agent = ready(Agent::spawn_command(&mut as_a_user(&network.a, "+net_raw", &["--backend", "pcap"])?)?)?;
    let note = kept(&agent)?;
    Ok(Path { note, ..measure(&network, agent)? })
}

/// The verifier lets no program without it compute a place in a packet.
fn without_cap_perfmon() -> Result<Path> {
    let network = Network::new(RTT)?;
    let agent = Agent::spawn_command(&mut as_a_user(&network.a, "+bpf,+net_admin,+net_raw", &[])?)?;
    falls_back(&network, agent, "without CAP_PERFMON")
}

/// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK, which a user cannot raise.
fn with_little_locked_memory() -> Result<Path> {
    let network = Network::new(RTT)?;
    let mut command = as_a_user(&network.a, "+bpf,+net_admin,+perfmon,+net_raw", &[])?;
    // SAFETY: one system call.
    unsafe {
        command.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_MEMLOCK, LOCKED, LOCKED)?));
    }
    let agent = Agent::spawn_command(&mut command)?;
    if kernel_is_at_least(5, 11) {
        let path = measure(&network, ready(agent)?)?;
        ensure!(path.hook == expected_hook(), "measured by {}", path.hook);
        return Ok(path);
    }
    falls_back(&network, agent, "RLIMIT_MEMLOCK")
}

/// The agent on host a, for a user with exactly these capabilities.
fn as_a_user(a: &Host, capabilities: &str, more: &[&str]) -> Result<Command> {
    let only = format!("-all,{capabilities}");
    let mut command = a.namespace.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.args(["--inh-caps", &only, "--ambient-caps", &only, "--bounding-set", &only]);
    command.arg(binary()?).args(arguments(more));
    Ok(command)
}

/// What some thread of the agent may still do, in words.
fn kept(agent: &Agent) -> Result<String> {
    let mut permitted = 0;
    for thread in threads(agent.pid())? {
        permitted |= thread.number("CapPrm", 16)?;
        let is_confined = thread.number("NoNewPrivs", 10)? == 1 && thread.number("Seccomp", 10)? == 2;
        ensure!(is_confined, "the agent is not confined");
    }
    let asked = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_PERFMON, Capability::CAP_BPF];
    let kept = asked.into_iter().filter(|capability| permitted & capability.bitmask() != 0);
    Ok(format!("keeps {}", kept.map(|capability| capability.to_string()).collect::<Vec<_>>().join(", ")))
}

/// As root, which lacks CAP_BPF and what stands for it, as in a container.
fn without_cap_bpf() -> Result<Path> {
    let network = Network::new(RTT)?;
    let mut command = network.a.namespace.command("setpriv");
    command.args(["--bounding-set", "-bpf,-sys_admin,-perfmon"]).arg(binary()?).args(arguments(&[]));
    falls_back(&network, Agent::spawn_command(&mut command)?, "setcap")
}

fn without_bpf() -> Result<Path> {
    let network = Network::new(RTT)?;
    let mut command = command(&network.a, &[])?;
    refusal::bpf_fails(&mut command, libc::ENOSYS);
    falls_back(&network, Agent::spawn_command(&mut command)?, "bpf(2)")
}

fn without_ring_buffer() -> Result<Path> {
    let network = Network::new(RTT)?;
    let agent = refusal::without_ring_buffer(&mut command(&network.a, &[])?)?;
    falls_back(&network, agent, "ring buffer")
}

/// `auto` says in one line why it takes libpcap, with a word of the reason, and measures the same.
fn falls_back(network: &Network, agent: Agent, reason: &str) -> Result<Path> {
    let agent = ready(agent)?;
    let why: Vec<String> = agent.log().into_iter().filter(|line| line.contains("instead of eBPF")).collect();
    ensure!(why.len() == 1, "{} lines say why it is libpcap: {why:?}", why.len());
    ensure!(why[0].contains(reason), "the reason says nothing of {reason}: {}", why[0]);
    let path = measure(network, agent)?;
    ensure!(path.hook == "libpcap", "measured by {}", path.hook);
    let note = why[0].split_once("instead of eBPF: ").map_or("", |(_, why)| why);
    Ok(Path { note: note.to_owned(), ..path })
}

/// The agent's arguments on host a.
fn arguments(more: &[&str]) -> Vec<String> {
    ["run", "--interface", INTERFACE, "--target", "10.77.0.2", "--target", "fd77::2", "--output", "json", "--samples"]
        .iter()
        .chain(more)
        .map(|word| (*word).to_owned())
        .collect()
}

fn command(a: &Host, more: &[&str]) -> Result<Command> {
    let mut command = a.namespace.command(binary()?);
    command.args(arguments(more));
    Ok(command)
}

fn ready(mut agent: Agent) -> Result<Agent> {
    agent.ready()?;
    Ok(agent)
}

pub(super) fn start(a: &Host, more: &[&str]) -> Result<Agent> {
    ready(Agent::spawn_command(&mut command(a, more)?)?)
}

/// Drives requests over both address families, stops the agent, and holds its samples against the delay.
fn measure(network: &Network, agent: Agent) -> Result<Path> {
    let log = agent.log();
    for server in [Server::v4(&network.b, ROUNDS.service())?, Server::v6(&network.b, ROUNDS.service())?] {
        ROUNDS.run(&network.a, server.address())?;
    }
    let wanted = 2 * ROUNDS.count;
    // Where both sides are measured, the local end's round trips have another truth.
    let data = |lines: &[String]| -> Result<Vec<Sample>> {
        Ok(samples(lines)?.into_iter().filter(|sample| sample.is_data() && !sample.is_local()).collect())
    };
    let enough = agent.wait_for_output(SOON, |lines| data(lines).is_ok_and(|data| data.len() >= wanted));
    let Finished { status, stdout, stderr } = agent.stop()?;
    ensure!(status.code() == Some(0), "the agent ended with {status}:\n{}", stderr.join("\n"));
    ensure!(!stderr.iter().any(|line| line.contains("cannot read the counters")), "{}", stderr.join("\n"));
    let samples = data(&stdout)?;
    ensure!(enough, "{} samples, not {wanted}; the agent's log:\n{}", samples.len(), stderr.join("\n"));
    let mut errors: Vec<i64> =
        samples.iter().map(|sample| sample.rtt_ns.cast_signed() - RTT.as_nanos() as i64).collect();
    errors.sort_unstable_by_key(|error| error.abs());
    let (median, largest) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    if median.abs() > MEDIAN_NS || largest.abs() > LARGEST_NS {
        bail!("half of {} samples are more than {median} ns from {RTT:?}, one {largest} ns", errors.len());
    }
    Ok(Path {
        hook: hook_of(&log).to_owned(),
        samples: samples.len(),
        errors_ns: Some((median, largest)),
        ..Path::default()
    })
}

/// How the agent captures, by its own word.
pub(super) fn hook_of(log: &[String]) -> &'static str {
    let says = |word: &str| log.iter().any(|line| line.contains("classifier attached") && line.contains(word));
    match (says("tcx"), says("clsact")) {
        (true, _) => "tcx",
        (_, true) => "clsact",
        _ => "libpcap",
    }
}

fn expected_hook() -> &'static str {
    if kernel_is_at_least(6, 6) { "tcx" } else { "clsact" }
}

fn kernel_is_at_least(major: u8, minor: u8) -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(major, minor, 0))
}

/// How many of our programs are on both hooks of host a, whichever way they are attached.
fn on_the_hooks(a: &Host) -> Result<usize> {
    let mut count = 0;
    for (hook, name) in [(Hook::Ingress, "ingress"), (Hook::Egress, "egress")] {
        // An older kernel has no TCX to be asked about; one that never had a filter has no qdisc.
        let by_tcx = attached(a, hook).unwrap_or_default().iter().filter(|name| name.starts_with(OURS)).count();
        let filters = tc(a, &format!("filter show dev {INTERFACE} {name}")).unwrap_or_default();
        count += by_tcx + filters.lines().filter(|line| line.contains(OURS)).count();
    }
    Ok(count)
}

/// After a clean end nothing is on the hooks, and none of our programs in the kernel.
fn nothing_left(a: &Host) -> Result<()> {
    let left = on_the_hooks(a)?;
    ensure!(left == 0, "{left} programs are left on the hooks");
    // Programs go once the last reference does, which is the kernel's work for later.
    thread::sleep(Duration::from_millis(200));
    let loaded = loaded_programs()
        .filter_map(|program| Some(program.ok()?.name_as_str()?.to_owned()))
        .filter(|name| name.starts_with(OURS))
        .collect::<Vec<_>>();
    ensure!(loaded.is_empty(), "still loaded: {loaded:?}");
    Ok(())
}
