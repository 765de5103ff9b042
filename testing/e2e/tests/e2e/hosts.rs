//! What hosts add to the network's time, and how it is told from it: acknowledgements that a receiver keeps back, and
//! the kernel's own round-trip time of this host's sockets.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testing_lab::agent::{Agent, Finished, Sample};
use testing_lab::statsd::{Listener, Metric};
use testing_lab::traffic::{DELAYED_ACK, Rounds, Server, Service, connect};
use testing_lab::{HostDelay, INTERFACE, Lab, Link, TcpInfo};

use super::support::{Backend, Late, SOON, in_time, timely};

/// A configuration that watches host b's addresses on host a's interface, with these keys besides.
fn config(lab: &Lab, init: &str, instance: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("conf.yaml");
    let text = format!(
        "init_config:\n  report_interval: 60\n  reverse_dns: false\n{init}instances:\n  - interface: {INTERFACE}\n    \
         ips: [{}, \"{}\"]\n{instance}",
        lab.b.v4, lab.b.v6
    );
    fs::write(&path, text).unwrap();
    (directory, path)
}

/// The line of JSON of the pair with host b's IPv4 address, of the last report.
fn pair(lab: &Lab, finished: &Finished) -> Value {
    let (src, dst) = (lab.a.v4.to_string(), lab.b.v4.to_string());
    let mut lines = finished.stdout.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.rfind(|line| line["src"] == *src && line["dst"] == *dst).expect("the pair is reported")
}

#[test]
fn acknowledgements_that_a_receiver_keeps_back_are_marked_counted_and_left_out_on_request() {
    in_time("delayed acknowledgements", try_delayed_acknowledgements);
}

fn try_delayed_acknowledgements() -> Result<(), Late> {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    let start = |port: u16, wish: &str| {
        let server = Listener::udp(&lab.a, port).unwrap();
        let init = format!("  statsd_port: {port}\n  delayed_acks: {wish}\n");
        let (directory, path) = config(&lab, &init, "");
        let args = ["run", "-c", path.to_str().unwrap(), "--output", "statsd,json", "--samples"];
        (Agent::start(&lab.a, args).unwrap(), server, directory)
    };
    let agents = [start(8125, "keep"), start(8126, "drop")];

    // It says something at once, so its acknowledgements are.
    let rounds = Rounds { count: 20, ..Rounds::default() };
    let prompt = Server::v4(&lab.b, rounds.service()).unwrap();
    // It stays open: a FIN may wait for the server's own.
    let mut open = connect(&lab.a, prompt.address()).unwrap();
    rounds.drive(&mut open).unwrap();
    // It answers what is complete, so the kernel keeps back the acknowledgement of a half for 40 ms, in the hope of an
    // answer to send with it.
    let late = Server::v4(&lab.b, Service::Respond { request: 200, response: 100 }).unwrap();
    let mut stream = connect(&lab.a, late.address()).unwrap();
    let whole = Rounds { request: 200, response: 100, count: 20, ..Rounds::default() };
    // The kernel acknowledges the first at once, whatever they are.
    whole.drive(&mut stream).unwrap();
    for _ in 0..60 {
        stream.write_all(&[b'x'; 100]).unwrap();
        thread::sleep(DELAYED_ACK);
        // The other half is answered at once: round trips go from the shortest to the timer's and back.
        stream.write_all(&[b'x'; 100]).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
    }
    for (wish, (agent, server, _directory)) in ["keep", "drop"].into_iter().zip(agents) {
        let finished = agent.stop().unwrap();
        // It closes the report.
        assert!(server.wait_for("go_metro.memory", SOON), "{wish}: no report");
        let (delayed, prompt): (Vec<_>, Vec<_>) =
            finished.samples().unwrap().into_iter().filter(Sample::is_data).partition(|sample| sample.delayed);
        let longest = prompt.iter().map(Sample::rtt).max().unwrap();
        println!("{wish}: {} delayed, {} not, those at most {longest:?}", delayed.len(), prompt.len());
        // Not the first eight, by which the timer shows; and what a busy machine acknowledges later than its timer says
        // speaks against one.
        timely(!delayed.is_empty(), || format!("{wish}: none is marked"))?;
        assert!(delayed.iter().all(|sample| sample.remote == late.address()), "{wish}");
        assert!(delayed.iter().all(|sample| sample.rtt() >= Duration::from_millis(40)), "{wish}");
        let metrics = server.metrics().unwrap();
        let named = |name: &str| metrics.iter().filter(|metric| metric.name == name).collect::<Vec<&Metric>>();
        let sum = |name: &str| named(name).iter().map(|metric| metric.values[0]).sum::<f64>();
        assert_eq!(sum("go_metro.samples.delayed"), delayed.len() as f64, "{wish}");
        let all = named("system.net.tcp.rtt.dist").iter().map(|metric| metric.values.len()).sum::<usize>();
        let max = sum("system.net.tcp.rtt.max");
        if wish == "keep" {
            assert_eq!(all, prompt.len() + delayed.len());
            assert!(max >= 40.0, "{max} ms");
        } else {
            assert_eq!(all, prompt.len());
            assert!((max - longest.as_secs_f64() * 1e3).abs() < 0.001, "{max} ms, the longest was {longest:?}");
        }
    }
    Ok(())
}

#[test]
fn the_kernels_round_trip_times_of_a_pairs_sockets_are_reported_as_it_tells_them() {
    for (output, flag) in [("json", &["--kernel-rtt"][..]), ("statsd", &["--kernel-rtt"]), ("json", &[])] {
        let lab = Lab::new(Link::Veth).unwrap();
        lab.path().set_rtt(Duration::from_millis(20));
        let server = Listener::udp(&lab.a, 8125).unwrap();
        let (_directory, path) = config(&lab, "", "");
        let args = ["run", "-c", path.to_str().unwrap(), "--output", output];
        let agent = Agent::start(&lab.a, args.iter().chain(flag)).unwrap();
        let rounds = Rounds { count: 20, ..Rounds::default() };
        let service = Server::v4(&lab.b, rounds.service()).unwrap();
        // Two sockets of one pair, which stay open and silent until the report.
        let sockets: Vec<TcpStream> = (0..2)
            .map(|_| {
                let mut stream = connect(&lab.a, service.address()).unwrap();
                rounds.drive(&mut stream).unwrap();
                stream
            })
            .collect();
        thread::sleep(Duration::from_millis(200));
        let finished = agent.stop().unwrap();
        let told: Vec<TcpInfo> = sockets.iter().map(|socket| TcpInfo::of(socket).unwrap()).collect();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let mean = told.iter().map(|info| ms(info.rtt)).sum::<f64>() / told.len() as f64;
        let least = told.iter().map(|info| ms(info.min_rtt)).fold(f64::MAX, f64::min);
        let (srtt, min) = match (output, flag) {
            (_, []) => {
                assert!(pair(&lab, &finished).get("kernel").is_none(), "reported though nobody asked");
                continue;
            }
            ("json", _) => {
                let kernel = pair(&lab, &finished)["kernel"].clone();
                assert_eq!(kernel["sockets"], 2);
                (kernel["srtt_ms"].as_f64().unwrap(), kernel["min_ms"].as_f64().unwrap())
            }
            _ => {
                assert!(server.wait_for("go_metro.memory", SOON));
                let metrics = server.metrics().unwrap();
                let tags = [format!("src:{}", lab.a.v4), format!("dst:{}", lab.b.v4), format!("iface:{INTERFACE}")];
                let one = |name: &str| {
                    let found: Vec<&Metric> = metrics.iter().filter(|metric| metric.name == name).collect();
                    assert_eq!(found.len(), 1, "{name}: {found:?}");
                    assert_eq!((found[0].kind.as_str(), &*found[0].tags), ("g", &tags[..]), "{name}");
                    found[0].values[0]
                };
                (one("system.net.tcp.rtt.kernel"), one("system.net.tcp.rtt.kernel.min"))
            }
        };
        println!("{output}: {srtt} ms and {min} ms; the sockets themselves say {mean} and {least}");
        assert!((srtt - mean).abs() < 0.001 && (min - least).abs() < 0.001, "{output}: {srtt} ms, {min} ms");
        assert!((20.0..40.0).contains(&min), "{min} ms");
    }
}

#[test]
fn delay_inside_the_host_is_in_the_kernels_time_and_not_in_ours() {
    for backend in Backend::BOTH {
        in_time(backend.name(), || try_delay_inside(backend));
    }
}

fn try_delay_inside(backend: Backend) -> Result<(), Late> {
    let (network, host) = (Duration::from_millis(10), Duration::from_millis(25));
    let lab = Lab::new(Link::Veth).unwrap();
    let inside = HostDelay::new(&lab).unwrap();
    lab.path().set_rtt(network);
    inside.path().set_rtt(host);
    let init = format!("  backend: {}\n  kernel_rtt: true\n", backend.name());
    // The interface leads out, though it looks like one that leads to a container: a pair's end without an address.
    let (_directory, path) = config(&lab, &init, "    host_end: false\n");
    let agent = Agent::start(&lab.a, ["run", "-c", path.to_str().unwrap(), "--output", "json"]).unwrap();
    let rounds = Rounds { count: 20, ..Rounds::default() };
    let service = Server::v4(&lab.b, rounds.service()).unwrap();
    let mut stream = connect(&lab.a, service.address()).unwrap();
    rounds.drive(&mut stream).unwrap();
    thread::sleep(Duration::from_millis(300));
    let pair = pair(&lab, &agent.stop().unwrap());
    let ms = |value: &Value| value.as_f64().unwrap();
    let (wire, kernel) = (&pair["data"], &pair["kernel"]);
    println!("{backend:?}: on the wire {} ms, at least {}; kernel {kernel}", wire["avg_ms"], wire["min_ms"]);
    assert!(ms(&wire["min_ms"]) >= 10.0 - 0.02 && ms(&kernel["min_ms"]) >= 35.0, "{backend:?}: {wire}, {kernel}");
    timely(ms(&wire["min_ms"]) < 15.0 && ms(&wire["p50_ms"]) < 20.0, || wire.to_string())?;
    timely(ms(&kernel["srtt_ms"]) < 60.0, || kernel.to_string())
}
