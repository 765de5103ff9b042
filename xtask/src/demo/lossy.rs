//! What was sent again on a path that loses frames, by cause, beside the kernel's own counters (nstat(8)).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use testing_lab::agent::{Agent, BINARY_VARIABLE};
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{INTERFACE, Impairment, Lab, Link, Over, Way};
use testing_support::workspace::capture;

/// The path: there and back, and the share of frames that each way loses.
const RTT: Duration = Duration::from_millis(20);
const LOSS: f64 = 0.02;
/// Bytes of a request: one segment, whose loss only a timer notices, and many.
const REQUESTS: [usize; 3] = [1_000, 20_000, 200_000];
/// Connections of each.
const EACH: usize = 4;
/// How often the counts are shown, and how many times.
const INTERVAL: Duration = Duration::from_secs(2);
const SCREENS: u32 = 3;

/// Longest until what the path has lost is sent again: a timer that has run out before waits for twice its time.
const SETTLES: Duration = Duration::from_secs(2);

/// What go-metro calls a cause, and the kernel's counters that make it: those that are added, and those that are not
/// in it (docs/health.md).
const CAUSES: [(&str, &[&str], &[&str]); 4] = [
    ("timeout", &["TcpExtTCPTimeouts", "TcpExtTCPSlowStartRetrans"], &["TcpExtTCPSynRetrans"]),
    ("fast", &["TcpExtTCPFastRetrans"], &[]),
    ("tail_probe", &["TcpRetransSegs"], &["TcpExtTCPTimeouts", "TcpExtTCPSlowStartRetrans", "TcpExtTCPFastRetrans"]),
    ("syn", &["TcpExtTCPSynRetrans"], &[]),
];
/// All causes together.
const ALL: &str = "TcpRetransSegs";

/// Builds a lab, loses frames and shows what is counted; the lab is gone when this returns.
pub(super) fn show(binary: &Path, stop: &AtomicBool) -> Result<()> {
    let lab = Lab::new(Link::Veth)?;
    // Tail loss probes, as on other machines: the lab has them off.
    lab.a.namespace.sysctl("net/ipv4/tcp_early_retrans", "3")?;
    for way in Way::BOTH {
        let seed = u64::from(way == Way::BToA);
        lab.path().impair(way, Impairment { loss: LOSS, seed, ..Impairment::delay(RTT / 2) });
    }
    let mut command = lab.a.namespace.command(binary);
    let (interval, target) = (INTERVAL.as_secs().to_string(), lab.b.v4.to_string());
    command.args(["run", "--interface", INTERFACE, "--target", &target, "--health", "--output", "json"]);
    command.args(["--status-socket", "off", "--no-names", "--interval", &interval]);
    command.env_remove(BINARY_VARIABLE);
    let mut agent = Agent::spawn_command(&mut command)?;
    agent.ready()?;
    let before = nstat(&lab)?;
    println!("The same two hosts, {} ms apart, on a path that loses {} % each way:", RTT.as_millis(), LOSS * 100.0);
    println!("what go-metro reports as retransmitted, and why, next to the kernel's counters (nstat).\n");
    let over = AtomicBool::new(false);
    let shown: Result<()> = thread::scope(|scope| {
        for request in REQUESTS {
            for _ in 0..EACH {
                let (lab, over) = (&lab, &over);
                scope.spawn(move || ask(lab, request, over));
            }
        }
        let _over = Over(&over);
        for screen in 1..=SCREENS {
            let due = Instant::now() + INTERVAL;
            while Instant::now() < due {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(50));
            }
            println!("── after {} s ──", u64::from(screen) * INTERVAL.as_secs());
            print(&agent.output(), &before, &nstat(&lab)?);
        }
        Ok(())
    });
    // What is still under way arrives, at the latest when its timer runs out.
    Way::BOTH.into_iter().for_each(|way| lab.path().impair(way, Impairment::delay(RTT / 2)));
    thread::sleep(SETTLES);
    let after = nstat(&lab)?;
    let finished = agent.stop()?;
    shown?;
    if !stop.load(Ordering::Relaxed) {
        println!("── at the end, when nothing is in flight ──");
        print(&finished.stdout, &before, &after);
    }
    Ok(())
}

/// Asks with requests of this size until it is over. What goes wrong it prints: there is then no traffic to show.
fn ask(lab: &Lab, request: usize, over: &AtomicBool) {
    let rounds = Rounds { count: 1, request, pause: RTT, ..Rounds::default() };
    let asked = Server::v4(&lab.b, rounds.service()).and_then(|server| {
        let mut stream = connect(&lab.a, server.address())?;
        while !over.load(Ordering::Relaxed) {
            rounds.drive(&mut stream)?;
        }
        Ok(())
    });
    if let Err(error) = asked {
        eprintln!("no traffic with requests of {request} bytes: {error:#}");
    }
}

/// The kernel's counters of the namespace that go-metro watches.
fn nstat(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let names = CAUSES.iter().flat_map(|(_, more, less)| more.iter().chain(*less)).chain([&ALL]);
    // Absolute ones, those of 0 too, and no file with what they were.
    let said = capture(lab.a.namespace.command("nstat").args(["-a", "-s", "-z"]).args(names))?;
    Ok(counters(&said))
}

/// A name and a number a line, behind which is a rate.
fn counters(said: &str) -> BTreeMap<String, u64> {
    let counter = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    said.lines().filter_map(counter).collect()
}

/// What go-metro's lines count of this cause.
fn count(lines: &[String], cause: &str) -> u64 {
    let pairs = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    pairs.filter_map(|pair| pair["peer"]["retransmits"][cause].as_u64()).sum()
}

fn print(lines: &[String], before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) {
    let grown = |name: &&str| after.get(*name).unwrap_or(&0).saturating_sub(*before.get(*name).unwrap_or(&0));
    println!("{:<12} {:>8} {:>8}", "retransmits", "go-metro", "nstat");
    let mut all = 0;
    for (cause, more, less) in CAUSES {
        let ours = count(lines, cause);
        all += ours;
        let theirs = more.iter().map(grown).sum::<u64>().saturating_sub(less.iter().map(grown).sum());
        let less: String = less.iter().map(|name| format!(" - {name}")).collect();
        println!("{:<12} {ours:>8} {theirs:>8}   {}{less}", cause.replace('_', " "), more.join(" + "));
    }
    let unknown = count(lines, "unknown");
    println!("{:<12} {unknown:>8} {:>8}", "unknown", "");
    println!("{:<12} {:>8} {:>8}   {ALL}\n", "all", all + unknown, grown(&ALL));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_causes_added_up() {
        let said = "#kernel\nTcpRetransSegs                  12                 0.0\nTcpExtTCPFastRetrans 7 0.0\n";
        assert_eq!(counters(said), [("TcpExtTCPFastRetrans".to_owned(), 7), (ALL.to_owned(), 12)].into());
        let lines = ["{\"peer\":{\"retransmits\":{\"fast\":3}}}", "{\"health\":{}}", "no JSON"].map(str::to_owned);
        assert_eq!((count(&[lines.clone(), lines].concat(), "fast"), count(&[], "fast")), (6, 0));
    }
}
