//! Another program on the hook ends the chain before the classifier, or somebody detaches it.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;
use testing_lab::Lab;
use testing_lab::agent::Agent;
use testing_lab::programs::{Hook, Position, Program, attached};

use super::streams::Daemon;
use super::support::{Conf, SOON, USUAL, lab, rounds, start, statsd, wait, wait_until, while_talking};

fn position(lab: &Lab, hook: Hook, ours: &str) -> Option<usize> {
    attached(&lab.a, hook).unwrap().iter().position(|name| name == ours)
}

#[test]
fn a_program_that_ends_the_chain_before_ours_hides_nothing_for_long() {
    for (hook, ours) in [(Hook::Egress, "gometro_out_eth"), (Hook::Ingress, "gometro_in_eth")] {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::new();
        let socket = conf.folder().join("status.sock").display().to_string();
        conf.write(&["backend: ebpf", &format!("status_socket: {socket}")], USUAL);
        let before =
            (hook == Hook::Egress).then(|| Program::attach(&lab.a, "lab_accept", hook, Position::First).unwrap());
        let mut agent = Agent::start(&lab.a, conf.args()).unwrap();
        let (_after, longest) = while_talking(&lab, || {
            // On the way in ours is the first, until another comes.
            let after =
                (hook == Hook::Ingress).then(|| Program::attach(&lab.a, "lab_accept", hook, Position::First).unwrap());
            assert_eq!(position(&lab, hook, ours), Some(1), "{hook:?}: behind the other");
            agent.wait_for_log("ends the chain; moved the classifier to its head", SOON).unwrap();
            wait(&format!("{hook:?}: the head of the chain"), SOON, || position(&lab, hook, ours) == Some(0));
            drop(server.take());
            wait_until(&server, "samples", |heard| heard.rtts().len() > 20);
            after
        });
        let heard = wait_until(&server, "true samples", |heard| heard.rtts().len() > 20);
        heard.assert_true_rtts(longest, &format!("{hook:?}"));
        let said = agent.log().iter().filter(|line| line.contains("moved the classifier to its head")).count();
        assert_eq!(said, 1, "{hook:?}: said once");
        let status = testing_lab::agent::status(socket.as_ref()).unwrap();
        let how = status["interfaces"][0]["hook"].as_str().unwrap();
        assert_eq!(how, if hook == Hook::Egress { "tcx, first on egress" } else { "tcx" });
        assert_eq!(status["problems"], serde_json::json!([]), "{hook:?}");
        drop(before);
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{hook:?}");
    }
}

/// The numbers of a process's links of this type, oldest first.
fn links(pid: Pid, kind: &str) -> Vec<u64> {
    // bpf_link_show_fdinfo(), kernel/bpf/syscall.c: `link_type:` and `link_id:` of each descriptor.
    let texts = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = texts.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let kind = format!("link_type:\t{kind}");
    let ours = texts.filter(|text| text.lines().any(|line| line == kind));
    let id = |text: String| text.lines().find_map(|line| line.strip_prefix("link_id:\t")?.parse().ok());
    let mut links: Vec<u64> = ours.filter_map(id).collect();
    links.sort_unstable();
    links
}

fn detach(lab: &Lab, link: u64) {
    let program = testing_support::setup::bpftool().expect("bpftool");
    let mut bpftool = lab.a.namespace.command(program);
    assert!(bpftool.args(["link", "detach", "id", &link.to_string()]).status().unwrap().success());
}

#[test]
fn a_classifier_that_somebody_detaches_or_hides_on_both_hooks_comes_back() {
    let (lab, conf) = (lab(), Conf::usual(&["backend: ebpf"]));
    let server = statsd(&lab);
    let daemon = Daemon::start(&lab, &conf, &[], Stdio::null(), Stdio::null());
    daemon.wait("it captures", |status| status["interfaces"][0]["attached"] == true);
    let longest = rounds(&lab, 10);
    wait_until(&server, "before", |heard| heard.rtts().len() >= 10).assert_true_rtts(longest, "before");
    let all = links(daemon.pid(), "tcx");
    assert_eq!(all.len(), 2, "a link on each hook: {all:?}");
    // One hook, then both, twice.
    for which in [0..1, 0..2, 0..2] {
        let now = links(daemon.pid(), "tcx");
        let newest = &now[now.len() - 2..];
        newest[which].iter().for_each(|link| detach(&lab, *link));
        drop(server.take());
        while_talking(&lab, || wait_until(&server, "it sees again", |heard| heard.rtts().len() > 20));
    }
    // Programs that end the chain on both hooks, beside a connection that is there already.
    let hidden = while_talking(&lab, || {
        wait_until(&server, "samples", |heard| heard.rtts().len() > 20);
        let hide = |hook| Program::attach(&lab.a, "lab_accept", hook, Position::First).unwrap();
        let both = [hide(Hook::Egress), hide(Hook::Ingress)];
        thread::sleep(Duration::from_secs(1));
        drop(server.take());
        wait_until(&server, "it moved to the head of both", |heard| heard.rtts().len() > 20);
        both
    });
    let status = daemon.wait("all is well", |status| status["state"] == "ok");
    assert_eq!(status["interfaces"][0]["hook"], "tcx, first on egress", "{status}");
    drop(hidden);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_program_in_the_driver_that_somebody_detaches_comes_back() {
    let (lab, conf) = (lab(), Conf::new());
    conf.write(&["backend: ebpf", "ingress_hook: xdp", &conf.status_line()], USUAL);
    let server = statsd(&lab);
    let mut agent = start(&lab, &conf);
    let pid = agent.pid();
    let hook = || conf.status()["interfaces"][0]["hook"].clone();
    wait("it captures in the driver", SOON, || hook() == "xdp and tcx");
    let in_driver = || links(pid, "xdp").last().copied();
    for time in ["once", "twice"] {
        let id = in_driver().expect("a link in the driver");
        detach(&lab, id);
        drop(server.take());
        let (heard, longest) =
            while_talking(&lab, || wait_until(&server, "it sees again", |heard| heard.rtts().len() > 20));
        heard.assert_true_rtts(longest, time);
        assert!(in_driver().is_some_and(|now| now != id), "{time}: another link");
        wait("all is well", SOON, || conf.problems().is_empty());
        assert_eq!(hook(), "xdp and tcx", "{time}");
    }
    agent.wait_for_log("the XDP program was detached; attached it again", SOON).unwrap();
    let said = agent.log().iter().filter(|line| line.contains("the XDP program was detached")).count();
    assert_eq!(said, 2, "each time once");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}
