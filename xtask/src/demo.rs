//! `cargo xtask demo`: go-metro at work, on real TCP in a lab of its own, beside the kernel's own word on the same
//! sockets: round-trip times first, then what was sent again on a path that loses frames ([`lossy`]).

mod lossy;

use std::io::IsTerminal as _;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use testing_lab::agent::{Agent, BINARY_VARIABLE};
use testing_lab::statsd::Listener;
use testing_lab::traffic::talk;
use testing_lab::{INTERFACE, Impairment, Lab, Link, Over, Way};
use testing_support::workspace::{PACKAGE_VARIABLE, capture, root, which};
use testing_support::{daemon, setup};

/// The far hosts: address and round-trip time.
const REMOTES: [(Ipv4Addr, Duration); 3] = [
    (Ipv4Addr::new(10, 77, 0, 2), Duration::from_millis(5)),
    (Ipv4Addr::new(10, 77, 0, 3), Duration::from_millis(25)),
    (Ipv4Addr::new(10, 77, 0, 4), Duration::from_millis(80)),
];
/// How often what was measured is shown.
const INTERVAL: Duration = Duration::from_secs(2);
/// How many times.
const SCREENS: u32 = 6;
/// Between the requests of a connection.
const PAUSE: Duration = Duration::from_millis(20);

/// The exit status of what SIGINT ended, as shells have it.
const INTERRUPTED: i32 = 130;

/// Arguments of `demo`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Sets up and builds what is missing, and shows go-metro at work; cleans up whatever happens.
///
/// # Errors
///
/// Something cannot be set up, or the agent does not start.
pub fn main(_args: &Args) -> Result<()> {
    // Before minutes of building.
    if !setup::is_root() && which("sudo").is_none() {
        bail!("the demo creates network namespaces, which needs root, and sudo is missing; run it as root");
    }
    let named = std::env::var_os(BINARY_VARIABLE).map(PathBuf::from);
    let binary = match named {
        Some(binary) => binary,
        None => {
            setup::for_demo()?;
            if setup::is_root() {
                setup::require_facilities()?;
            }
            daemon::debug_binary()?
        }
    };
    become_root(&binary)?;
    setup::require_facilities()?;
    let stop = stop_on_signals()?;
    let shown = show(&binary, &stop);
    // What fails when the user ends the demo, such as a command that was interrupted with it, is no failure.
    if stop.load(Ordering::Relaxed) {
        std::process::exit(INTERRUPTED);
    }
    shown?;
    let shown = lossy::show(&binary, &stop);
    if stop.load(Ordering::Relaxed) {
        std::process::exit(INTERRUPTED);
    }
    shown?;
    println!("That was a lab. On this machine, to see the peers of a real interface:\n");
    println!("    cargo xtask run -- run --interface {}\n", default_interface().unwrap_or_else(|| "eth0".to_owned()));
    println!("and `cargo xtask run -- check` says whether anything is missing.");
    Ok(())
}

/// Builds the lab and shows its screens; the lab is gone when this returns.
fn show(binary: &Path, stop: &AtomicBool) -> Result<()> {
    let lab = Lab::new(Link::Veth)?;
    for (address, _) in &REMOTES[1..] {
        lab.b.add_address(*address)?;
    }
    let delay_of: Vec<_> = REMOTES.iter().map(|(address, rtt)| ((*address).into(), *rtt / 2)).collect();
    for way in Way::BOTH {
        lab.path().impair(way, Impairment { delay_of: delay_of.clone(), ..Impairment::default() });
    }
    let server = Listener::udp(&lab.a, 8125)?;
    let mut command = lab.a.namespace.command(binary);
    command.args(["run", "--interface", INTERFACE, "--target", "10.77.0.0/24", "--output", "table,statsd"]);
    // A socket would leave its directory behind.
    command.args(["--status-socket", "off", "--interval", &INTERVAL.as_secs().to_string()]);
    command.env_remove(BINARY_VARIABLE);
    let mut agent = Agent::spawn_command(&mut command)?;
    agent.ready()?;
    let source = if agent.log().iter().any(|line| line.contains("backend: ebpf")) {
        "the classifier in the kernel (eBPF)".to_owned()
    } else {
        let why = agent.log().into_iter().find(|line| line.contains("instead of eBPF")).unwrap_or_default();
        format!("libpcap, because eBPF is not available here: {why}")
    };

    println!("Two network namespaces, three far hosts 5, 25 and 80 ms away, real TCP between them.");
    println!("go-metro watches {INTERFACE} with {source}.\n");
    let over = AtomicBool::new(false);
    let shown = thread::scope(|scope| {
        for (address, _) in REMOTES {
            let (lab, over) = (&lab, &over);
            scope.spawn(move || talk(lab, address.into(), PAUSE, over));
        }
        let _over = Over(&over);
        screens(&lab, &agent, &server, stop)
    });
    agent.stop()?;
    shown
}

/// Shows, once an interval, what go-metro, the kernel and the DogStatsD server say.
fn screens(lab: &Lab, agent: &Agent, server: &Listener, stop: &AtomicBool) -> Result<()> {
    let live = std::io::stdout().is_terminal();
    let mut printed = 0;
    for screen in 1..=SCREENS {
        // The agent's own clock ticks: its report is waited for, and shown whole.
        let due = Instant::now() + 2 * INTERVAL;
        while agent.output().len() <= printed && Instant::now() < due {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(Duration::from_millis(100));
        let lines = agent.output();
        let new = table(&lines[printed..]);
        printed = lines.len();
        if live {
            print!("\x1b[H\x1b[2J");
        }
        println!("── after {} s ─ go-metro ──", u64::from(screen) * INTERVAL.as_secs());
        new.iter().for_each(|line| println!("{line}"));
        println!("\n── the kernel's own round-trip time of the same sockets (ss -ti) ──");
        kernel(lab)?.iter().for_each(|line| println!("{line}"));
        let datagrams = server.take();
        let bytes: usize = datagrams.iter().map(|datagram| datagram.bytes.len()).sum();
        println!("\n── DogStatsD: {} datagrams, {bytes} bytes; of them ──", datagrams.len());
        for datagram in &datagrams {
            let text = String::from_utf8_lossy(&datagram.bytes).into_owned();
            let gauges =
                text.lines().filter(|line| line.starts_with("system.net.tcp.rtt.avg:") || line.contains("rtt.dist:"));
            gauges.for_each(|line| println!("{}", cut(line, 110)));
        }
        println!();
    }
    Ok(())
}

/// A report without the blank line and the time that it begins with: the heading says when.
fn table(report: &[String]) -> &[String] {
    let time = report.iter().position(|line| !line.is_empty());
    time.map_or(&[], |time| &report[time + 1..])
}

/// One line a connection: peer, smoothed RTT and deviation, minimum.
fn kernel(lab: &Lab) -> Result<Vec<String>> {
    let said = capture(lab.a.namespace.command("ss").args(["-tinH", "state", "established"]))?;
    let mut lines = Vec::new();
    let mut peer = None;
    for line in said.lines() {
        if line.starts_with(char::is_whitespace) {
            let value = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or("?");
            if let Some(peer) = peer.take() {
                lines.push(format!("{peer:<22} rtt {:>16} ms   minrtt {:>8} ms", value("rtt:"), value("minrtt:")));
            }
        } else {
            peer = line.split_whitespace().nth(3).map(str::to_owned);
        }
    }
    lines.sort();
    Ok(lines)
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        line.to_owned()
    } else {
        line.chars().take(width - 1).collect::<String>() + "…"
    }
}

/// A flag that SIGINT and SIGTERM raise, so that the lab is taken down in order.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    ctrlc::set_handler(move || raised.store(true, Ordering::Relaxed))?;
    Ok(stop)
}

/// Namespaces and eBPF need root: goes on as root through sudo with what was built, or says so.
fn become_root(binary: &Path) -> Result<()> {
    if setup::is_root() {
        return Ok(());
    }
    eprintln!("the lab's network namespaces and eBPF need root; running what was built through sudo");
    if which("sudo").is_none() {
        bail!("the demo creates network namespaces, which needs root; run it as root");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let error = Command::new("sudo")
        .args(["env", &format!("PATH={path}"), &format!("{BINARY_VARIABLE}={}", binary.display())])
        .arg(format!("{PACKAGE_VARIABLE}={}", root().join("xtask").display()))
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(error).context("cannot run sudo")
}

/// The interface of the default route.
fn default_interface() -> Option<String> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let default = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    default.into_iter().find(|fields| fields.get(1) == Some(&"00000000")).map(|fields| fields[0].to_owned())
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn every_report_is_shown_from_its_header_on() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(table(&lines("2026-01-02T03:04:05Z\nsrc dst\na b")), ["src dst", "a b"]);
        assert_eq!(table(&lines("\n2026-01-02T03:04:07Z\nsrc dst\na b")), ["src dst", "a b"]);
        assert!(table(&[]).is_empty() && table(&lines("\n")).is_empty());
    }
}
