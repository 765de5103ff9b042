//! The process among others: killed at any moment, twice on one interface, told a configuration that is broken.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use testing_lab::agent::Agent;
use testing_lab::late::{Late, in_time, timely};
use testing_lab::programs::{Hook, attached};

use super::support::{
    Backend, Conf, SOON, USUAL, backend, lab, rounds, start, statsd, wait, wait_until, while_talking,
};

#[test]
fn killed_at_any_moment_it_leaves_nothing_and_starts_cleanly() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    let hooked = || [Hook::Ingress, Hook::Egress].into_iter().flat_map(|hook| attached(&lab.a, hook).unwrap()).count();
    let moments = [0, 15, 40, 80, 120, 160, 200, 250, 300, 400, 600];
    let (counts, _) = while_talking(&lab, || {
        let killed_at = |moment: Option<u64>| {
            let agent = Agent::spawn(&lab.a, conf.args()).unwrap();
            match moment {
                Some(moment) => thread::sleep(Duration::from_millis(moment)),
                None => wait("both programs are attached", SOON, || hooked() == 2),
            }
            let there = hooked();
            agent.kill().unwrap();
            (moment, there, hooked())
        };
        // The last of them when it is there, however long a busy machine takes.
        moments.map(Some).into_iter().chain([None]).map(killed_at).collect::<Vec<_>>()
    });
    println!("milliseconds, programs on the hooks before and after: {counts:?}");
    assert!(counts.iter().all(|(_, _, left)| *left == 0), "{counts:?}");
    let server = statsd(&lab);
    let agent = start(&lab, &conf);
    let longest = rounds(&lab, 10);
    wait_until(&server, "samples", |heard| heard.rtts().len() >= 10).assert_true_rtts(longest, "after all that");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn two_agents_on_one_interface_measure_the_same_and_outlive_each_other() {
    for other in Backend::BOTH {
        in_time(other.name(), || try_two_agents(other));
    }
}

fn try_two_agents(other: Backend) -> Result<(), Late> {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::usual(&["tags: [agent:one]"]);
    // On purpose: it has a socket of its own.
    let two = Conf::usual(&["tags: [agent:two]", "status_socket: off", &backend(other)]);
    let (one, two) = (start(&lab, &conf), start(&lab, &two));
    let longest = rounds(&lab, 20);
    let rtts = |heard: &super::support::Heard, agent: &str| -> Vec<f64> {
        let of =
            |m: &&testing_lab::statsd::Metric| m.name == "system.net.tcp.rtt.dist" && m.tag("agent") == Some(agent);
        heard.0.iter().filter(of).flat_map(|metric| metric.values.clone()).collect()
    };
    let heard = wait_until(&server, "both", |heard| ["one", "two"].iter().all(|a| rtts(heard, a).len() >= 20));
    heard.assert_true_rtts(longest, &format!("{other:?}"));
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let medians = ["one", "two"].map(|agent| median(rtts(&heard, agent)));
    two.kill().unwrap();
    drop(server.take());
    rounds(&lab, 20);
    wait_until(&server, "the one that is left", |heard| rtts(heard, "one").len() >= 20);
    assert_eq!(one.stop().unwrap().status.code(), Some(0), "{other:?}");
    timely((medians[0] - medians[1]).abs() < 0.5, || format!("{medians:?} ms"))
}

#[test]
fn a_broken_configuration_on_sighup_keeps_the_old_one_and_says_why() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::usual(&[]);
    let mut agent = start(&lab, &conf);
    let broken = [
        ("init_config: [", "did not find expected"),
        ("init_config:\n  report_intervall: 10\n", "unknown key `report_intervall`"),
        ("instances:\n  - interface: eth0\n    ips: [10.0.0.300]\n", "`10.0.0.300` is neither"),
        ("instances:\n  - interface: eth0\n    ips: [10.77.0.1]\n", "all targets are addresses of this host"),
        (
            "init_config:\n  filter: port zero and\ninstances:\n  - interface: eth0\n    ips: [10.77.0.2]\n",
            "filter `port zero and`",
        ),
        (
            "init_config:\n  backend: pcap\ninstances:\n  - interface: nowhere0\n    ips: [10.77.0.2]\n",
            "no such interface: nowhere0",
        ),
    ];
    for (k, (text, why)) in broken.iter().enumerate() {
        conf.write_text(text);
        agent.signal(Signal::SIGHUP).unwrap();
        agent.wait_for_log(why, SOON).unwrap();
        // Each fault has a line, and the outcome one.
        let refused = agent.log().iter().filter(|line| line.contains("SIGHUP: ")).count();
        assert!(refused > k, "{text:?}: {:?}", agent.log());
        drop(server.take());
        let longest = rounds(&lab, 5);
        wait_until(&server, "samples", |heard| heard.rtts().len() >= 5).assert_true_rtts(longest, text);
    }
    std::fs::remove_file(conf.path()).unwrap();
    drop(server.take());
    agent.signal(Signal::SIGHUP).unwrap();
    wait_until(&server, "a refusal that is counted", |heard| {
        heard.0.iter().any(|m| m.name == "go_metro.reloads" && m.tag("result") == Some("refused") && m.values == [1.0])
    });
    conf.write(&[], USUAL);
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration reloaded", SOON).unwrap();
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}
