//! A crowd of interfaces at once, as on a host whose containers all start: capture goes on beside, and so does the
//! rest.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testing_lab::Lab;
use testing_lab::agent::{Agent, binary};
use testing_lab::late::{Late, in_time, timely};

use super::support::{Backend, Conf, SOON, USUAL, backend, lab, start, statsd, wait_until, while_talking};

/// What capture and status may take meanwhile, for which a command of its own is started, and a stop.
/// A second where nothing else runs; the faults took 5.7 s and more there.
const AT_ONCE: Duration = Duration::from_secs(5);
/// On a busy machine the kernel may need longer than that to take so many programs off: how many times as long as for a
/// daemon that was killed a stop may take besides.
const OF_KILLED: u32 = 2;

fn crowd(lab: &Lab, pairs: usize) -> String {
    let make: String = (0..pairs).map(|k| format!("link add many{k} type veth peer name much{k}\n")).collect();
    let set_up: String = (0..pairs).map(|k| format!("link set many{k} up\nlink set much{k} up\n")).collect();
    lab.a.namespace.ip(&(make + &set_up)).unwrap();
    format!("{USUAL}  - interface: \"m*\"\n    ips: [10.99.0.0/16]\n")
}

/// What the agent says of itself, and how long it takes.
fn status(lab: &Lab, socket: &str) -> (serde_json::Value, Duration) {
    let began = Instant::now();
    let mut command = lab.a.namespace.command(binary().unwrap());
    let output = command.args(["status", "--json", "--socket", socket]).output().unwrap();
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_slice(&output.stdout).unwrap(), began.elapsed())
}

fn attached(status: &serde_json::Value) -> usize {
    status["interfaces"].as_array().unwrap().iter().filter(|interface| interface["attached"] == true).count()
}

#[test]
fn capture_status_and_a_stop_do_not_wait_for_a_crowd_of_interfaces() {
    try_a_crowd(100);
}

#[test]
#[ignore = "some minutes, most of them the kernel's to make and delete so many interfaces"]
fn nor_for_eight_hundred() {
    try_a_crowd(403);
}

/// With so many pairs of interfaces.
fn try_a_crowd(pairs: usize) {
    for which in Backend::BOTH {
        in_time("a crowd of interfaces", || try_with(which, pairs));
    }
}

fn try_with(which: Backend, pairs: usize) -> Result<(), Late> {
    let lab = lab();
    let server = statsd(&lab);
    let instances = crowd(&lab, pairs);
    let conf = Conf::new();
    let socket = conf.folder().join("status.sock").display().to_string();
    let init = [backend(which), format!("status_socket: {socket}")];
    let init: Vec<&str> = init.iter().map(String::as_str).collect();
    conf.write(&init, USUAL);
    let agent = start(&lab, &conf);
    // While it runs.
    let ((longest, last), _) = while_talking(&lab, || {
        wait_until(&server, "samples", |heard| !heard.rtts().is_empty());
        conf.write(&init, &instances);
        agent.signal(Signal::SIGHUP).unwrap();
        let (mut longest, mut last) = (Duration::ZERO, 0);
        let deadline = Instant::now() + 12 * SOON;
        while last <= 2 * pairs && Instant::now() < deadline {
            let (status, took) = status(&lab, &socket);
            (longest, last) = (longest.max(took), attached(&status));
            drop(server.take());
            let began = Instant::now();
            wait_until(&server, "samples meanwhile", |heard| !heard.rtts().is_empty());
            longest = longest.max(began.elapsed());
        }
        (longest, last)
    });
    println!("{which:?}: {last} interfaces; status and reports took {longest:?} at most");
    assert_eq!(last, 2 * pairs + 1, "{which:?}");
    timely(longest < AT_ONCE, || format!("{which:?}: {longest:?}"))?;
    stops(agent, &format!("{which:?}, with all attached"), || {
        let agent = start(&lab, &conf);
        let deadline = Instant::now() + 12 * SOON;
        while attached(&status(&lab, &socket).0) <= 2 * pairs && Instant::now() < deadline {}
        agent
    });
    // From the start, and stopped at several moments of it.
    for moment in [200, 700, 1500, 2500] {
        let begun = || {
            let agent = Agent::spawn(&lab.a, conf.args()).unwrap();
            thread::sleep(Duration::from_millis(moment));
            agent
        };
        stops(begun(), &format!("{which:?}, after {moment} ms"), begun);
    }
    Ok(())
}

/// `alike` starts another that is as far.
fn stops(agent: Agent, what: &str, alike: impl FnOnce() -> Agent) {
    let began = Instant::now();
    let finished = agent.stop().unwrap();
    let took = began.elapsed();
    println!("{what}: stopped in {took:?}");
    assert_eq!(finished.status.code(), Some(0), "{what}: {:?}", finished.stderr);
    if took >= AT_ONCE {
        let agent = alike();
        let began = Instant::now();
        agent.kill().unwrap();
        let killed = began.elapsed();
        assert!(took < AT_ONCE + OF_KILLED * killed, "{what}: {took:?}, and one that was killed {killed:?}");
    }
}
