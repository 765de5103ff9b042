//! The agent among others: targets that change, neighbours on the hook, death and another start.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testing_lab::agent::{Agent, Sample, samples};
use testing_lab::programs::{Hook, Position, Program, attached};
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};

use super::support::{Backend, Late, SOON, in_time, sampling, some_rounds, timely, wait_for_samples};

/// The programs that the kernel has on both hooks of host a.
fn on_the_hooks(lab: &Lab) -> Vec<String> {
    [Hook::Ingress, Hook::Egress].into_iter().flat_map(|hook| attached(&lab.a, hook).unwrap()).collect()
}

/// Samples of a connection's data to `to`, which has just had a round.
fn of_a_round(lab: &Lab, to: SocketAddr) -> impl Fn(&Sample) -> bool {
    let mut stream = connect(&lab.a, to).unwrap();
    let exchange = Rounds { count: 1, ..Rounds::default() }.drive(&mut stream).unwrap();
    move |sample| sample.is_data() && sample.local == exchange.local
}

/// Talks to `to` until that is measured.
fn until_measured(lab: &Lab, agent: &Agent, to: SocketAddr) {
    let deadline = Instant::now() + SOON;
    loop {
        let of = of_a_round(lab, to);
        if agent.wait_for_output(Duration::from_millis(300), |lines| samples(lines).unwrap().iter().any(&of)) {
            return;
        }
        assert!(Instant::now() < deadline, "{to} is not measured");
    }
}

/// Talks to `to` until that is measured no longer: what follows it, with `marker`, is.
fn until_not_measured(lab: &Lab, agent: &Agent, to: SocketAddr, marker: SocketAddr) {
    let deadline = Instant::now() + SOON;
    loop {
        let (of, of_marker) = (of_a_round(lab, to), of_a_round(lab, marker));
        assert!(!wait_for_samples(agent, 1, of_marker).is_empty(), "{marker} is not measured");
        if !samples(&agent.output()).unwrap().iter().any(of) {
            return;
        }
        assert!(Instant::now() < deadline, "{to} is still measured");
    }
}

#[test]
fn targets_change_at_run_time_without_losing_a_flow() {
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        lab.path().set_rtt(Duration::from_millis(5));
        let other = [10, 77, 0, 3];
        lab.b.add_address(other.into()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("conf.yaml");
        let write = |ips: &str| {
            let text = format!(
                "init_config:\n  backend: {}\n  reverse_dns: false\ninstances:\n  - interface: eth0\n    \
                 ips: [{ips}]\n",
                backend.name()
            );
            fs::write(&config, text).unwrap();
        };
        write("10.77.0.2");
        let path = config.to_str().unwrap();
        let mut agent = Agent::start(&lab.a, ["run", "-c", path, "--output", "json", "--samples"]).unwrap();

        let rounds = Rounds { count: 10, ..Rounds::default() };
        let server = Server::start(&lab.b, ([0, 0, 0, 0], 7000).into(), rounds.service()).unwrap();
        let mut kept = connect(&lab.a, (lab.b.v4, server.address().port()).into()).unwrap();
        let mut added = connect(&lab.a, (other, server.address().port()).into()).unwrap();
        rounds.drive(&mut kept).unwrap();
        rounds.drive(&mut added).unwrap();
        let before = wait_for_samples(&agent, 10, Sample::is_data);
        assert_eq!(before.len(), 10, "{backend:?}");
        assert!(before.iter().all(|sample| sample.remote.ip() == lab.b.v4), "{backend:?}");

        // A file that does not parse changes nothing.
        write("10.77.0.");
        agent.signal(Signal::SIGHUP).unwrap();
        agent.wait_for_log("configuration unchanged", SOON).unwrap();
        // Each fault is a line of its own.
        write("10.77.0.300, 10.77.0.400");
        agent.signal(Signal::SIGHUP).unwrap();
        agent.wait_for_log("configuration unchanged: 2 faults, listed above", SOON).unwrap();
        for (index, ip) in ["10.77.0.300", "10.77.0.400"].into_iter().enumerate() {
            let fault = format!(":6: instances[0].ips[{index}]: `{ip}` is neither an address");
            let lines: Vec<String> = agent.log().into_iter().filter(|line| line.contains(&fault)).collect();
            assert!(lines.len() == 1 && lines[0].contains("SIGHUP: "), "{lines:?}");
        }

        write("10.77.0.2, 10.77.0.3");
        agent.signal(Signal::SIGHUP).unwrap();
        agent.wait_for_log("configuration reloaded", SOON).unwrap();
        // The threads that capture hear of it a little later.
        let (lost, came) = (SocketAddr::from((lab.b.v4, 7000)), SocketAddr::from((other, 7000)));
        until_measured(&lab, &agent, came);
        let count = |stream: &TcpStream| {
            let local = stream.local_addr().unwrap();
            move |sample: &Sample| sample.is_data() && sample.local == local
        };
        rounds.drive(&mut kept).unwrap();
        rounds.drive(&mut added).unwrap();
        assert_eq!(wait_for_samples(&agent, 10, count(&added)).len(), 10, "{backend:?}");
        assert_eq!(wait_for_samples(&agent, 20, count(&kept)).len(), 20, "{backend:?}");

        write("10.77.0.3");
        agent.signal(Signal::SIGHUP).unwrap();
        until_not_measured(&lab, &agent, lost, came);
        rounds.drive(&mut kept).unwrap();
        rounds.drive(&mut added).unwrap();
        assert_eq!(wait_for_samples(&agent, 20, count(&added)).len(), 20, "{backend:?}");
        assert_eq!(wait_for_samples(&agent, 20, count(&kept)).len(), 20, "{backend:?}");
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    }
}

#[test]
fn other_programs_on_the_hooks_run_before_during_and_after() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(2));
    let hooks = [Hook::Ingress, Hook::Egress];
    let count_on = |hook, position| Program::attach(&lab.a, "lab_count", hook, position).unwrap();
    let there_before = hooks.map(|hook| count_on(hook, Position::First));
    let agent = sampling(&lab, Backend::Ebpf);
    let came_last = hooks.map(|hook| count_on(hook, Position::Last));
    let came_first = hooks.map(|hook| count_on(hook, Position::First));
    let all: Vec<&Program> = there_before.iter().chain(&came_last).chain(&came_first).collect();
    let counts = || all.iter().map(|program| program.count().unwrap()).collect::<Vec<_>>();
    let rise = |from: &[u64]| counts().iter().zip(from).map(|(now, then)| now - then).collect::<Vec<_>>();

    let start = counts();
    some_rounds(&lab, 20);
    assert_eq!(wait_for_samples(&agent, 20, Sample::is_data).len().min(20), 20);
    let with_agent = rise(&start);
    assert!(with_agent.iter().all(|count| *count >= 20), "{with_agent:?}");
    // Programs of one hook see the same packets, whichever side of the classifier they are on.
    for hook in 0..2 {
        let of_hook: Vec<u64> = with_agent.iter().skip(hook).step_by(2).copied().collect();
        assert!(of_hook.iter().all(|count| count.abs_diff(of_hook[0]) <= 2), "{of_hook:?}");
    }

    agent.kill().unwrap();
    let start = counts();
    some_rounds(&lab, 20);
    let without_agent = rise(&start);
    assert!(without_agent.iter().all(|count| *count >= 20), "{without_agent:?}");
    assert_eq!(on_the_hooks(&lab), ["lab_count"; 6]);
}

#[test]
fn a_killed_agent_leaves_nothing_that_disturbs_the_next() {
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        lab.path().set_rtt(Duration::from_millis(5));
        for _ in 0..2 {
            let agent = sampling(&lab, backend);
            some_rounds(&lab, 5);
            assert!(wait_for_samples(&agent, 5, Sample::is_data).len() >= 5, "{backend:?}");
            if backend == Backend::Ebpf {
                assert_eq!(on_the_hooks(&lab), ["gometro_in_eth", "gometro_out_eth"]);
            }
            agent.kill().unwrap();
            assert_eq!(on_the_hooks(&lab), Vec::<String>::new());
        }
        let agent = sampling(&lab, backend);
        let exchange = some_rounds(&lab, 20);
        let finished = {
            assert!(wait_for_samples(&agent, 20, Sample::is_data).len() >= 20, "{backend:?}");
            agent.stop().unwrap()
        };
        assert_eq!(finished.status.code(), Some(0), "{backend:?}");
        // Once each: nobody else is still on the hook.
        let mut acks: Vec<u32> =
            finished.samples().unwrap().iter().filter(|s| s.local == exchange.local).map(|s| s.ack).collect();
        let all = acks.len();
        acks.sort_unstable();
        acks.dedup();
        assert_eq!(acks.len(), all, "{backend:?}");
    }
}

#[test]
fn an_interface_that_goes_and_returns_is_watched_again() {
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        let a = &lab.a.namespace;
        a.ip("link add extra0 type veth peer name extra1\nlink set extra0 up").unwrap();
        let args = [
            "run",
            "--interface",
            "extra0",
            "--interface",
            "eth0",
            "--target",
            "10.77.0.2",
            "--output",
            "json",
            "--samples",
        ];
        let mut agent = Agent::spawn(&lab.a, args.into_iter().chain(["--backend", backend.name()])).unwrap();
        agent.wait_for_log("capturing on extra0", SOON).unwrap();
        a.ip("link delete extra0").unwrap();
        agent.wait_for_log("extra0 went away", SOON).unwrap();
        some_rounds(&lab, 5);
        assert!(wait_for_samples(&agent, 5, Sample::is_data).len() >= 5, "{backend:?}: the other interface");
        a.ip("link add extra0 type veth peer name extra1\nlink set extra0 up").unwrap();
        let deadline = Instant::now() + SOON;
        let returns = || agent.log().iter().filter(|line| line.contains("capturing on extra0")).count();
        while returns() < 2 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(returns(), 2, "{backend:?}: {:?}", agent.log());
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{backend:?}");
    }
}

#[test]
fn sampling_windows_open_and_close() {
    for backend in Backend::BOTH {
        in_time(backend.name(), || try_sampling_windows(backend));
    }
}

fn try_sampling_windows(backend: Backend) -> Result<(), Late> {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("conf.yaml");
    let text = format!(
        "init_config:\n  backend: {}\n  workers: 2\ninstances:\n  - interface: eth0\n    ips: [{}]\n    \
             sample: true\n    sample_duration: 1\n    sample_interval: 2\n",
        backend.name(),
        lab.b.v4
    );
    fs::write(&config, text).unwrap();
    let agent = Agent::start(&lab.a, ["run", "-c", config.to_str().unwrap(), "--output", "json", "--samples"]).unwrap();
    let rounds = Rounds { count: 650, pause: Duration::from_millis(5), ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    rounds.run(&lab.a, server.address()).unwrap();
    let finished = agent.stop().unwrap();
    let found = samples(&finished.stdout).unwrap();
    let mut windows: Vec<(u64, u64)> = Vec::new();
    for sample in &found {
        match windows.last_mut() {
            Some(window) if sample.time_ns - window.1 < 500_000_000 => window.1 = sample.time_ns,
            _ => windows.push((sample.time_ns, sample.time_ns)),
        }
    }
    println!("{backend:?}: {} samples in {} windows", found.len(), windows.len());
    timely(windows.len() >= 2, || format!("{windows:?}"))?;
    for (start, end) in &windows {
        timely(end - start < 1_400_000_000, || format!("a window of {} ns", end - start))?;
    }
    for pair in windows.windows(2) {
        let gap = pair[1].0 - pair[0].1;
        timely((1_500_000_000..2_600_000_000).contains(&gap), || format!("a gap of {gap} ns"))?;
    }
    // None is of a segment sent in one window and acknowledged in another.
    timely(found.iter().all(|sample| sample.rtt() < Duration::from_millis(500)), || "a long sample".to_owned())
}
