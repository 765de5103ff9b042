//! A queueing discipline behind the classifier.

use std::time::Duration;

use testing_lab::agent::{Agent, Sample};
use testing_lab::traffic::{Server, Service, bulk, connect};
use testing_lab::{Lab, Link};

use super::support::{Backend, Late, SOON, in_time, wait_for_samples};

const RTT: Duration = Duration::from_millis(10);

fn median(samples: &[Sample]) -> Duration {
    let mut rtts: Vec<Duration> = samples.iter().map(Sample::rtt).collect();
    rtts.sort();
    rtts[rtts.len() / 2]
}

#[test]
fn a_queue_behind_the_classifier_is_shown_warned_of_once_and_left_out_by_libpcap() {
    in_time("a queue", try_a_queue);
}

fn try_a_queue() -> Result<(), Late> {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(RTT);
    let shaped = "qdisc add dev eth0 root tbf rate 50mbit burst 20kb latency 100ms";
    let added = lab.a.namespace.command("tc").args(shaped.split(' ')).status().unwrap();
    if !added.success() {
        println!("skipped: this kernel has no tbf");
        return Ok(());
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("status.sock").display().to_string();
    let medians = Backend::BOTH.map(|backend| {
        let target = lab.b.v4.to_string();
        let words =
            ["run", "--interface", "eth0", "--target", &target, "--output", "json", "--samples", "--interval", "1"];
        let more = ["--backend", backend.name(), "--status-socket", &socket];
        let mut agent = Agent::start(&lab.a, words.into_iter().chain(more)).unwrap();
        let server = Server::v4(&lab.b, Service::Sink).unwrap();
        let mut stream = connect(&lab.a, server.address()).unwrap();
        bulk(&mut stream, Duration::from_secs(3)).unwrap();
        let samples = wait_for_samples(&agent, 50, Sample::is_data);
        if backend == Backend::Ebpf {
            agent.wait_for_log("this host's own queue", SOON).unwrap();
        }
        let status = testing_lab::agent::status(socket.as_ref()).unwrap();
        assert_eq!(status["interfaces"][0]["qdisc"], "tbf", "{backend:?}");
        let finished = agent.stop().unwrap();
        let said = finished.stderr.iter().filter(|line| line.contains("this host's own queue")).count();
        assert_eq!(said, usize::from(backend == Backend::Ebpf), "{backend:?}");
        median(&samples)
    });
    println!("median with eBPF, before the queue, and with libpcap, behind it: {medians:?}");
    // How much more depends on how full the sender keeps the queue.
    if medians[0] <= medians[1] + Duration::from_millis(1) || medians[1] >= RTT + Duration::from_millis(3) {
        return Err(format!("{medians:?}"));
    }
    Ok(())
}
