//! Clocks: the wall clock is set, a process is stopped and goes on, a time namespace shows another monotonic clock.
//!
//! The machine's own clock is not set: libfaketime sets it for the agent alone, between the agent and its C library.
//! The kernel's own stamps stay, as the classifier's do when the clock is set. A suspended host is a unit test
//! (`capture/clock.rs`).

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use testing_lab::Lab;
use testing_lab::agent::{Agent, binary, samples};

use super::support::{
    Backend, Conf, RTT, SOON, USUAL, backend, lab, rounds, start, statsd, wait, wait_until, while_counting,
    while_talking,
};

/// Where Debian has it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// How far clocks are set, in seconds: an hour, or less on a machine that has not been up for two. What libpcap stamps
/// is not set with them, and would otherwise be of before the start of its monotonic clock.
fn far() -> i64 {
    let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    (up.tv_sec() / 2).min(3600)
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// Starts an agent on samples whose wall clock is set by what is returned, to so many seconds ahead of the machine's.
fn start_with_clock(lab: &Lab, conf: &Conf) -> Option<(Agent, impl Fn(i64))> {
    if !Path::new(FAKETIME).exists() {
        println!("skipped: there is no {FAKETIME}; `cargo xtask setup` installs it where the distribution has it");
        return None;
    }
    let (clock, new) = (conf.folder().join("clock"), conf.folder().join("clock.new"));
    let mut command = lab.a.namespace.command(binary().unwrap());
    command.args(conf.args()).args(["--output", "json", "--samples"]);
    command.env("LD_PRELOAD", FAKETIME).env("FAKETIME_TIMESTAMP_FILE", &clock);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
    let set = move |seconds: i64| {
        // Renamed into place, so that it is never read half written.
        fs::write(&new, format!("{seconds:+}s\n")).unwrap();
        fs::rename(&new, &clock).unwrap();
    };
    set(0);
    let mut agent = Agent::spawn_command(&mut command).unwrap();
    agent.ready().unwrap();
    Some((agent, set))
}

#[test]
fn a_wall_clock_that_is_set_makes_no_false_sample_and_times_follow_it() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        // Two threads measure, and the jump is reported once.
        let conf = Conf::new();
        conf.write(&[&backend(which), "workers: 2", &conf.status_line()], USUAL);
        let Some((agent, set)) = start_with_clock(&lab, &conf) else { return };
        let (mut jumps, far) = (0, far());
        for ahead in [0, far, -far, 0] {
            set(ahead);
            if ahead != 0 || jumps > 0 {
                jumps += 1;
                wait_until(&server, "a jump that is counted", |heard| heard.count("go_metro.clock_jumps") == jumps);
            }
            let from = agent.output().len();
            let mut longest = Duration::ZERO;
            let found = || {
                samples(&agent.output()[from..])
                    .unwrap()
                    .into_iter()
                    .filter(testing_lab::agent::Sample::is_data)
                    .collect::<Vec<_>>()
            };
            // On a busy machine many are sent again, and then not timed.
            wait("samples", SOON, || {
                longest = longest.max(rounds(&lab, 20));
                found().len() >= 10
            });
            for sample in found() {
                let what = format!("{which:?}, {ahead} s ahead: {sample:?}");
                assert!((RTT..=longest + Duration::from_millis(5)).contains(&sample.rtt()), "{what}");
                // libpcap's times are the kernel's, whose clock was not set.
                let ahead = if which == Backend::Ebpf { ahead } else { 0 };
                let off = sample.time_ns as i64 - (now_ns() + ahead * 1_000_000_000);
                assert!(off.abs() < 10_000_000_000, "{what}: off by {off} ns");
            }
        }
        // The clock was far ahead, and far behind, since the warnings; reports come each 0.3 s.
        for ahead in [-far, far] {
            set(ahead);
            let status = conf.status();
            let ages = status["errors"].as_array().unwrap().iter().chain([&status["last_report"]]);
            let ages: Vec<f64> = ages.map(|one| one["age_s"].as_f64().unwrap()).collect();
            assert!(
                ages.len() > 2 && ages.iter().all(|age| (0.0..far as f64 / 2.0).contains(age)),
                "{which:?}: {ages:?}"
            );
        }
        set(0);
        thread::sleep(Duration::from_secs(1));
        // A step while segments are on their way.
        drop(server.take());
        let (_, longest) = while_talking(&lab, || {
            for ahead in [1, 0, 2, -1] {
                thread::sleep(Duration::from_millis(300));
                set(ahead);
            }
            thread::sleep(Duration::from_millis(500));
        });
        let heard = wait_until(&server, "four more", |heard| {
            heard.count("go_metro.clock_jumps") == 4 && !heard.rtts().is_empty()
        });
        heard.assert_true_rtts(longest + Duration::from_millis(5), &format!("{which:?}, set meanwhile"));
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}

#[test]
fn capture_that_was_opened_again_goes_on_after_the_clock_is_set_back() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    let write = |snaplen| conf.write(&["backend: pcap", snaplen, &conf.status_line()], USUAL);
    write("snaplen: 200");
    let Some((mut agent, set)) = start_with_clock(&lab, &conf) else { return };
    let jumped = |times| wait_until(&server, "a jump", |heard| heard.count("go_metro.clock_jumps") == times);
    set(far());
    jumped(1);
    // What the new handle hands on begins at a time of the clock as it is now.
    write("snaplen: 300");
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration reloaded", SOON).unwrap();
    set(0);
    jumped(2);
    let from = agent.output().len();
    wait("samples", SOON, || {
        rounds(&lab, 20);
        samples(&agent.output()[from..]).unwrap().len() >= 10
    });
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn an_agent_that_was_stopped_for_a_while_tells_the_truth_about_it() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let agent = start(&lab, &Conf::usual(&[&backend(which)]));
        let (_, longest, rounds) = while_counting(&lab, || {
            thread::sleep(Duration::from_millis(300));
            // As a frozen container is.
            agent.freeze().unwrap();
            thread::sleep(Duration::from_secs(2));
            agent.signal(Signal::SIGCONT).unwrap();
            thread::sleep(Duration::from_millis(800));
        });
        println!("{which:?}: {rounds} rounds");
        let heard = wait_until(&server, "samples of the whole time", |heard| 2 * heard.rtts().len() >= rounds);
        heard.assert_true_rtts(longest, &format!("{which:?}"));
        assert_eq!((heard.count("go_metro.lost"), heard.count("go_metro.clock_jumps")), (0, 0), "{which:?}");
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}

#[test]
fn a_time_namespace_does_not_end_flows_or_shift_samples() {
    for which in Backend::BOTH {
        let lab = lab();
        let conf = Conf::usual(&[&backend(which)]);
        let server = statsd(&lab);
        let mut command = lab.a.namespace.command("unshare");
        command.args(["--time", "--monotonic", "1000000", "--boottime", "1000000"]).arg(binary().unwrap());
        command.args(conf.args()).args(["--output", "json", "--samples"]);
        let mut agent = Agent::spawn_command(&mut command).unwrap();
        agent.ready().unwrap();
        let (_, longest, rounds) = while_counting(&lab, || thread::sleep(Duration::from_secs(2)));
        wait("samples", SOON, || 2 * samples(&agent.output()).unwrap().len() >= rounds);
        for sample in samples(&agent.output()).unwrap() {
            assert!((RTT..=longest + Duration::from_millis(60)).contains(&sample.rtt()), "{which:?}: {sample:?}");
            assert!((sample.time_ns as i64 - now_ns()).abs() < 10_000_000_000, "{which:?}: {sample:?}");
        }
        // One connection is one flow.
        let heard = wait_until(&server, "a report", |heard| heard.count("go_metro.samples") > 0);
        assert_eq!(heard.0.iter().filter(|m| m.name == "system.net.tcp.rtt.connect").count(), 1, "{which:?}");
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}
