//! What interfaces are called: aliases and names that are not text, alternative names, and several instances that mean
//! the same one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use testing_lab::agent::Agent;
use testing_lab::{Host, Lab};

use super::support::{Backend, Conf, Heard, SOON, backend, lab, rounds, start, statsd, wait, wait_until};

/// `ip` in a host's namespace, with arguments that need not be text.
fn ip(host: &Host, arguments: &[&[u8]]) {
    let mut command = Command::new("ip");
    command.args(["-n", host.namespace.name()]).args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Talks, and fails unless there are samples.
fn measured(lab: &Lab, server: &testing_lab::statsd::Listener, what: &str) -> Heard {
    drop(server.take());
    let longest = rounds(lab, 10);
    let heard = wait_until(server, what, |heard| heard.rtts().len() >= 10);
    heard.assert_true_rtts(longest, what);
    heard
}

#[test]
fn an_alias_that_is_not_utf8_blinds_nothing_and_a_name_that_is_not_is_said() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        // Before the start, on the interface that is measured and on one that comes first.
        ip(&lab.a, &[b"link", b"set", b"lo", b"alias", b"\xff\xfe"]);
        ip(&lab.a, &[b"link", b"set", b"eth0", b"alias", b"caf\xe9"]);
        let conf = Conf::new();
        let init = ["outputs: [statsd]", &backend(which), &conf.status_line()];
        conf.write(&init, "  - interface: all\n    ips: [10.77.0.0/24]\n");
        let mut agent = start(&lab, &conf);
        measured(&lab, &server, "with aliases");
        wait("no problem with aliases", SOON, || conf.problems().is_empty());
        // While it runs, on one that comes later.
        ip(&lab.a, &[b"link", b"add", b"late0", b"type", b"veth", b"peer", b"name", b"late1"]);
        ip(&lab.a, &[b"link", b"set", b"late0", b"alias", b"\xe9"]);
        lab.a.namespace.ip("link set late0 up\nlink set late1 up").unwrap();
        agent.wait_for_log("capturing on late0", SOON).unwrap();
        // A name is what attaching goes by: this one is not measured, and it is said which and why.
        ip(&lab.a, &[b"link", b"add", b"odd\xff", b"type", b"veth", b"peer", b"name", b"odd1"]);
        ip(&lab.a, &[b"link", b"set", b"odd\xff", b"up"]);
        let said = r"cannot capture on odd\xff: the name of interface odd\xff (index";
        wait("a problem", SOON, || conf.problems().contains(said));
        measured(&lab, &server, "beside a name that is not text");
        thread::sleep(Duration::from_millis(500));
        let warned = agent.log().iter().filter(|line| line.contains("WARN") && line.contains("is not UTF-8")).count();
        assert_eq!(warned, 1, "{which:?}: {:?}", agent.log());
        ip(&lab.a, &[b"link", b"delete", b"odd1"]);
        wait("all is well", SOON, || conf.problems().is_empty());
        ip(&lab.a, &[b"link", b"delete", b"late0"]);
        agent.wait_for_log("late0 is gone", SOON).unwrap();
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}

#[test]
fn an_alternative_name_means_the_interface_and_two_names_mean_it_once() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let long = format!("uplink-{}", "x".repeat(100));
        for name in ["wan0", &long] {
            lab.a.namespace.ip(&format!("link property add dev eth0 altname {name}")).unwrap();
        }
        let conf = Conf::new();
        let init = [&*backend(which), &conf.status_line()];
        for (instances, tag) in [
            ("  - interface: wan0\n    ips: [10.77.0.0/24]\n    tags: [by:alt]\n", "alt"),
            ("  - interface: wan*\n    ips: [10.77.0.0/24]\n    tags: [by:pattern]\n", "pattern"),
            (&*format!("  - interface: {long}\n    ips: [10.77.0.0/24]\n    tags: [by:long]\n"), "long"),
            // Two names of one interface, and each with a target of its own.
            (
                "  - interface: wan0\n    ips: [10.77.0.0/24]\n    tags: [by:alt]\n  - interface: eth0\n    \
                 ips: [192.0.2.1]\n",
                "alt",
            ),
        ] {
            conf.write(&init, instances);
            let checked = Agent::spawn(&lab.a, ["check", "-c", conf.path().to_str().unwrap()]).unwrap();
            let checked = checked.finish().unwrap();
            let failed = checked.stdout.iter().filter(|line| line.starts_with("FAIL")).count();
            assert_eq!(failed, 0, "{which:?}, {instances}: {:#?}", checked.stdout);
            let agent = start(&lab, &conf);
            let heard = measured(&lab, &server, instances);
            let pairs = heard.0.iter().filter(|metric| metric.name == "system.net.tcp.rtt.dist");
            for metric in pairs {
                assert_eq!(
                    (metric.tag("iface"), metric.tag("by")),
                    (Some("eth0"), Some(tag)),
                    "{which:?}, {instances}"
                );
            }
            let status = conf.status();
            assert_eq!(status["state"], "ok", "{which:?}, {instances}: {status:#}");
            assert_eq!(status["backend"]["name"], which.name(), "{instances}");
            assert_eq!(status["interfaces"].as_array().unwrap().len(), 1, "{which:?}, {instances}: {status:#}");
            let finished = agent.stop().unwrap();
            assert_eq!(finished.status.code(), Some(0), "{which:?}, {instances}");
            assert!(!finished.stderr.join("\n").contains("WARN"), "{which:?}: {:#?}", finished.stderr);
        }
    }
}

#[test]
fn instances_that_overlap_count_each_sample_once_under_the_tags_of_the_closest() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::new();
        let instance = |interface: &str, tag: &str| {
            format!("  - interface: {interface}\n    ips: [10.77.0.0/24]\n    tags: [by:{tag}]\n")
        };
        for (instances, closest) in [
            ([("all", "all"), ("eth*", "pattern"), ("eth0", "name")].as_slice(), "name"),
            (&[("all", "all"), ("eth*", "pattern"), ("e*", "later")], "pattern"),
            (&[("eth0", "first"), ("eth0", "second")], "first"),
        ] {
            conf.write(
                &[&backend(which)],
                &instances.iter().map(|(name, tag)| instance(name, tag)).collect::<String>(),
            );
            let agent = start(&lab, &conf);
            drop(server.take());
            rounds(&lab, 20);
            wait_until(&server, "samples", |heard| heard.rtts().len() >= 15);
            assert_eq!(agent.stop().unwrap().status.code(), Some(0));
            let heard = Heard::by(&server);
            // 20 rounds, and the FIN; on a busy machine some are sent again, and then not timed.
            assert!((15..=21).contains(&heard.rtts().len()), "{which:?}, {instances:?}: {}", heard.rtts().len());
            for metric in heard.0.iter().filter(|metric| metric.name.starts_with("system.net.tcp")) {
                assert_eq!(metric.tag("by"), Some(closest), "{which:?}, {instances:?}: {metric:?}");
            }
        }
    }
}

#[test]
fn of_a_pattern_an_interface_may_go_without_a_warning_or_a_loss() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::new();
        let init = [&*backend(which), &conf.status_line()];
        conf.write(
            &init,
            "  - interface: '*'\n    ips: [10.77.0.0/24]\n  - interface: keep*\n    ips: [10.88.0.0/24]\n",
        );
        let mut agent = start(&lab, &conf);
        for container in 0..5 {
            lab.a
                .namespace
                .ip(&format!("link add keep{container} type veth peer name p\nlink set keep{container} up"))
                .unwrap();
            agent.wait_for_log(&format!("capturing on keep{container}"), SOON).unwrap();
            lab.a.namespace.ip(&format!("link delete keep{container}")).unwrap();
            agent.wait_for_log(&format!("interface keep{container} is gone"), SOON).unwrap();
        }
        measured(&lab, &server, "the interface that stayed");
        let heard = Heard::by(&server);
        assert_eq!(heard.count("go_metro.interfaces.lost"), 0, "{which:?}");
        let status = conf.status();
        assert_eq!((&status["state"], &status["happened"]["interfaces_lost"]), (&"ok".into(), &0.into()), "{status:#}");
        let finished = agent.stop().unwrap();
        let warned = finished.stderr.iter().filter(|line| line.contains("WARN")).count();
        assert_eq!(warned, 0, "{which:?}: {:#?}", finished.stderr);
    }
}
