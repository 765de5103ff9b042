//! Too much of everything: records, flows, packets; too few file descriptors and processors. Bounded, counted, and
//! true.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testing_lab::Lab;
use testing_lab::flood::{self, syn_flood};
use testing_lab::traffic::connect;

use super::support::{
    Backend, Conf, Finally, Heard, RTT, SOON, USUAL, backend, lab, rounds, start, statsd, wait, wait_until,
    while_talking,
};

/// Instances of eth0 and of an interface that a flood can leave by: what comes out of its other end is for nobody.
fn with_flood(lab: &Lab) -> String {
    lab.a
        .namespace
        .ip("link add flood0 type veth peer name sink0\naddress add 10.66.0.1/24 dev flood0\n\
                        link set sink0 up\nlink set flood0 up")
        .unwrap();
    format!("{USUAL}  - interface: flood0\n    ips: [{}]\n", flood::NET)
}

#[test]
fn a_million_outbound_syns_cost_bounded_memory_and_real_flows_are_measured_meanwhile() {
    const FLOWS: u32 = 1_000_000;
    const MAX_FLOWS: u64 = 65_536;
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    conf.write(&[&format!("max_flows: {MAX_FLOWS}"), "max_pairs: 100"], &with_flood(&lab));
    let agent = start(&lab, &conf);
    rounds(&lab, 1);
    let before = wait_until(&server, "memory at first", |heard| heard.gauge("go_metro.memory").is_some());
    let before = before.gauge("go_metro.memory").unwrap();
    let (sent, longest) = while_talking(&lab, || {
        thread::sleep(Duration::from_millis(200));
        let chunks = (0..FLOWS).step_by(20_000);
        let sent = chunks.map(|first| {
            let sent = syn_flood(&lab.a, "flood0", first..first + 20_000).unwrap();
            // An engine that was built for debugging keeps up with so many.
            thread::sleep(Duration::from_millis(40));
            sent
        });
        sent.sum::<u64>()
    });
    assert_eq!(sent, u64::from(FLOWS), "the interface took all");
    let evicted = |heard: &Heard| heard.count("go_metro.flows.evicted") + heard.count("go_metro.lost");
    let heard = wait_until(&server, "the flood in the accounts", |heard| {
        evicted(heard) >= u64::from(FLOWS) - MAX_FLOWS && heard.gauge("go_metro.flows").is_some()
    });
    let (memory, flows) = (heard.gauge("go_metro.memory").unwrap(), heard.gauge("go_metro.flows").unwrap());
    println!(
        "{:.1} MB before, {:.1} MB after; {flows} flows, {} evicted, {} lost",
        before / 1e6,
        memory / 1e6,
        heard.count("go_metro.flows.evicted"),
        heard.count("go_metro.lost")
    );
    assert!(flows <= MAX_FLOWS as f64, "{flows} flows");
    assert!(memory - before < 60e6, "from {before} to {memory} bytes");
    // Every SYN was seen, and is a flow, an eviction or a loss that was counted.
    assert!(evicted(&heard) + flows as u64 >= u64::from(FLOWS), "{} of {FLOWS}", evicted(&heard));
    heard.assert_true_rtts(longest, "beside the flood");
    assert!(heard.rtts().len() >= 30, "only {} samples of the real flow", heard.rtts().len());
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_full_buffer_loses_records_which_are_counted_and_makes_no_false_sample() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::new();
        conf.write(&[&backend(which), "ring_size: 64KiB", &conf.status_line()], &with_flood(&lab));
        let mut agent = start(&lab, &conf);
        rounds(&lab, 5);
        wait_until(&server, "a report", |heard| !heard.rtts().is_empty());
        // One who reads nothing for a while, and more than any buffer holds.
        let (_, longest) = while_talking(&lab, || {
            agent.freeze().unwrap();
            thread::sleep(Duration::from_millis(200));
            syn_flood(&lab.a, "flood0", 0..150_000).unwrap();
            thread::sleep(Duration::from_millis(200));
            agent.signal(Signal::SIGCONT).unwrap();
            thread::sleep(Duration::from_millis(800));
        });
        let heard = wait_until(&server, "the loss", |heard| heard.count("go_metro.lost") > 0);
        heard.assert_true_rtts(longest, &format!("{which:?}, meanwhile"));
        agent.wait_for_log("records lost lately", SOON).unwrap();
        let log = agent.log();
        let said: Vec<&String> = log.iter().filter(|line| line.contains("records lost lately")).collect();
        assert!(said.len() == 1 && said[0].contains("WARN"), "{which:?}: {said:?}");
        assert!(said[0].contains("ring_size"), "what helps: {said:?}");
        assert_eq!(said[0].contains("filter"), which == Backend::Pcap, "what helps: {said:?}");
        drop(server.take());
        // Flows may still be left out for a while, and on a busy machine many segments are sent again.
        let mut longest = Duration::ZERO;
        wait("samples after it", SOON, || {
            longest = longest.max(rounds(&lab, 20));
            Heard::by(&server).rtts().len() >= 20
        });
        Heard::by(&server).assert_true_rtts(longest, &format!("{which:?}, afterwards"));
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}

#[test]
fn an_acknowledgement_lost_to_a_full_buffer_is_not_replaced_by_a_later_one() {
    /// Long enough that the buffer is full before what was sent is acknowledged.
    const PATH: Duration = Duration::from_millis(400);
    /// From there to the next segment that acknowledges the same.
    const LATER: Duration = Duration::from_secs(3);
    for which in Backend::BOTH {
        let lab = lab();
        lab.path().set_rtt(PATH);
        let server = statsd(&lab);
        let conf = Conf::new();
        conf.write(&[&backend(which), "ring_size: 64KiB"], &with_flood(&lab));
        let agent = start(&lab, &conf);
        let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0))).unwrap();
        let mut near = connect(&lab.a, listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.write_all(&[0; 100]).unwrap();
        wait_until(&server, "a report", |heard| !heard.rtts().is_empty());
        agent.freeze().unwrap();
        let sent_at = Instant::now();
        near.write_all(&[0; 100]).unwrap();
        syn_flood(&lab.a, "flood0", 0..150_000).unwrap();
        thread::sleep(LATER.saturating_sub(sent_at.elapsed()));
        agent.signal(Signal::SIGCONT).unwrap();
        wait_until(&server, "the loss", |heard| heard.count("go_metro.lost") > 0);
        drop(server.take());
        // A FIN acknowledges what the lost segment did, three seconds later.
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
        lab.path().set_rtt(RTT);
        // On a busy machine some are lost among what waits, or sent again, and then not timed.
        wait("samples after it", SOON, || {
            rounds(&lab, 5);
            Heard::by(&server).rtts().len() >= 5
        });
        Heard::by(&server).assert_true_rtts(LATER / 2, &format!("{which:?}"));
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}

/// Sets a running process's limit of open files.
fn limit_files(pid: nix::unistd::Pid, files: u64) {
    let limit = libc::rlimit { rlim_cur: files, rlim_max: 4096 };
    // SAFETY: the limit is valid for reads, and no old one is asked for.
    let done = unsafe { libc::prlimit(pid.as_raw(), libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(done, 0);
}

#[test]
fn without_file_descriptors_it_measures_on_and_recovers_when_there_are_some() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::new();
        let log = conf.folder().join("go-metro.log");
        let init = [
            backend(which),
            "dns_refresh_interval: 1".to_owned(),
            "log_to_file: true".to_owned(),
            format!("log_file: {}", log.display()),
        ];
        let init: Vec<&str> = init.iter().map(String::as_str).collect();
        conf.write(&init, "  - interface: eth0\n    ips: [10.77.0.0/24]\n    hosts: [localhost]\n");
        let agent = testing_lab::agent::Agent::spawn(&lab.a, conf.args()).unwrap();
        wait_until(&server, "a report", |heard| heard.gauge("go_metro.interfaces") == Some(1.0));
        limit_files(agent.pid(), 3);
        // Without a descriptor, names cannot be looked up, the log not be reopened, interfaces not be queried.
        fs::remove_file(&log).unwrap();
        drop(server.take());
        let (_, longest) = while_talking(&lab, || thread::sleep(Duration::from_millis(2500)));
        let heard = wait_until(&server, "samples", |heard| heard.rtts().len() >= 50);
        heard.assert_true_rtts(longest, &format!("{which:?}, without descriptors"));
        assert_eq!(heard.count("go_metro.interfaces.lost"), 0, "{which:?}: it takes its interface for gone");
        assert!(heard.count("go_metro.dns_failures") > 0, "{which:?}: a failure that is counted");
        limit_files(agent.pid(), 1024);
        drop(server.take());
        agent.signal(Signal::SIGHUP).unwrap();
        wait_until(&server, "a reload", |heard| heard.count("go_metro.reloads") == 1);
        wait(&format!("{which:?}: the log is there again"), SOON, || log.exists());
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}

#[test]
fn with_too_few_file_descriptors_to_start_it_says_so() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    let shell = "ulimit -n 6; exec \"$0\" \"$@\"";
    let mut command = lab.a.namespace.command("sh");
    command.args(["-c", shell]).arg(testing_lab::agent::binary().unwrap()).args(conf.args());
    let finished = testing_lab::agent::Agent::spawn_command(&mut command).unwrap().finish().unwrap();
    assert_eq!(finished.status.code(), Some(1), "{:?}", finished.stderr);
    let said = finished.stderr.join("\n");
    assert!(said.contains("Too many open files"), "{said}");
    assert!(said.contains("go-metro: "), "{said}");
}

#[test]
fn a_processor_that_goes_and_returns_costs_nothing() {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";
    if fs::write(SWITCH, "1").is_err() {
        println!("skipped: this machine's processors cannot be taken offline");
        return;
    }
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let agent = start(&lab, &Conf::usual(&[&backend(which)]));
        rounds(&lab, 10);
        // Should this process be killed meanwhile.
        let rescue = format!("sleep 15; echo 1 > {SWITCH}");
        let mut rescue = std::process::Command::new("sh").args(["-c", &rescue]).spawn().unwrap();
        let back = Finally(|| fs::write(SWITCH, "1").unwrap());
        fs::write(SWITCH, "0").unwrap();
        assert_eq!(fs::read_to_string(SWITCH).unwrap().trim(), "0");
        let mut longest = rounds(&lab, 30);
        drop(back);
        longest = longest.max(rounds(&lab, 30));
        let _ = rescue.kill();
        let _ = rescue.wait();
        let heard = wait_until(&server, "samples of all rounds", |heard| heard.rtts().len() >= 50);
        heard.assert_true_rtts(longest + Duration::from_secs(5), &format!("{which:?}"));
        assert_eq!(heard.count("go_metro.lost"), 0, "{which:?}");
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}
