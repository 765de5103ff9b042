//! Histograms of two daemons put together by servers that others wrote: pushed to VictoriaMetrics (OTLP), scraped by
//! Prometheus (native histograms); and counters beside what the daemons say of themselves.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testing_lab::agent::{Agent, Finished, Sample, binary, samples, status};
use testing_lab::prometheus::Prometheus;
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::victoria::{OTLP, VictoriaMetrics};
use testing_lab::{Lab, Link};

use super::support::SOON;

/// Largest distance of two bounds at scale 7, 2^(1/128), as a share: what a value from the right bucket is off at most.
const WIDTH: f64 = 0.0055;
/// VictoriaMetrics has bounds in four digits.
const FOUR_DIGITS: f64 = 0.0005;

const SCRAPED: &str = "go_metro_tcp_rtt_seconds";
const PUSHED: &str = "system_network_tcp_rtt_seconds";

/// A daemon that reports what it measures with one address of host b in three ways.
struct Daemon {
    agent: Agent,
    socket: PathBuf,
}

impl Daemon {
    fn start(lab: &Lab, folder: &Path, target: &str, port: u16) -> Self {
        let (file, socket) = (folder.join(format!("{port}.yaml")), folder.join(format!("{port}.sock")));
        let text = format!(
            "init_config: {{report_interval: 1, metrics: [default, health], reverse_dns: false, tags: ['team:edge'], \
             status_socket: {}, otlp_endpoint: '{OTLP}', prometheus_listen: '127.0.0.1:{port}'}}\ninstances: \
             [{{interface: eth0, ips: ['{target}']}}]\n",
            socket.display()
        );
        fs::write(&file, text).unwrap();
        let mut command = lab.a.namespace.command(binary().unwrap());
        command.args(["run", "--samples", "--output", "otlp,prometheus,json", "-c"]).arg(&file);
        command.env("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=n1,k8s.pod.name=go-metro-x");
        let mut agent = Agent::spawn_command(&mut command).unwrap();
        agent.ready().unwrap();
        Self { agent, socket }
    }
}

/// The round trips of data, in seconds, the shortest first.
fn sorted(samples: impl IntoIterator<Item = Sample>) -> Vec<f64> {
    let data = samples.into_iter().filter(Sample::is_data);
    let mut all: Vec<f64> = data.map(|sample| sample.rtt().as_secs_f64()).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// Waits until an expression has this value.
fn wait_for<E: Debug>(value: impl Fn(&str) -> Result<f64, E>, expression: &str, expected: f64) {
    let deadline = Instant::now() + 2 * SOON;
    loop {
        let value = value(expression);
        if value.as_ref().is_ok_and(|value| (value - expected).abs() < 1e-9 * expected.abs().max(1.0)) {
            return;
        }
        assert!(Instant::now() < deadline, "{expression} is {value:?}, not {expected}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Holds quantiles of all daemons' histograms to those of all samples: those of the nearest rank.
fn assert_quantiles<E: Debug>(what: &str, sorted: &[f64], error: f64, quantile: impl Fn(f64) -> Result<f64, E>) {
    for q in [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99] {
        let found = quantile(q).unwrap();
        let rank = (q * sorted.len() as f64 * (1.0 - 1e-12)).ceil().max(1.0);
        let expected = sorted[rank as usize - 1];
        let off = found / expected - 1.0;
        println!("{what} {q}: {found:.6} s, of the samples {expected:.6} s, {:+.3} %", off * 100.0);
        assert!(off.abs() <= error, "{what} {q}: {found}, not {expected}");
    }
}

/// What JSON lines of pairs have below these keys, added up.
fn json_total(finished: &[Finished], keys: &[&str]) -> f64 {
    let lines = finished.iter().flat_map(|finished| &finished.stdout);
    let values = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of = |value: Value| keys.iter().fold(value, |value, key| value[*key].clone()).as_f64();
    values.filter_map(of).sum()
}

#[test]
fn quantiles_over_two_daemons_are_those_of_their_samples_put_together_pushed_and_scraped() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::with_native_histograms(&lab.a, folder.path(), &[9464, 9465]).unwrap();
    let scraped = |expression: &str| prometheus.value(expression, Duration::ZERO);
    let victoria = VictoriaMetrics::start(&lab.a, folder.path()).unwrap();
    let pushed = |expression: &str| victoria.value(expression);
    let (v4, v6) = (lab.b.v4.to_string(), lab.b.v6.to_string());
    let daemons = [(&v4, 9464), (&v6, 9465)].map(|(target, port)| Daemon::start(&lab, folder.path(), target, port));

    // One hears mostly of a short way, the other mostly of a long one.
    let rounds = |count: usize| Rounds { count, ..Rounds::default() };
    let services = [Server::v4(&lab.b, rounds(1).service()).unwrap(), Server::v6(&lab.b, rounds(1).service()).unwrap()];
    for (rtt_ms, counts) in [(1, [1500, 10]), (6, [200, 60]), (25, [20, 120]), (70, [0, 40])] {
        lab.path().set_rtt(Duration::from_millis(rtt_ms));
        thread::scope(|scope| {
            for (service, count) in services.iter().zip(counts).filter(|(_, count)| *count > 0) {
                let lab = &lab;
                scope.spawn(move || rounds(count).drive(&mut connect(&lab.a, service.address()).unwrap()).unwrap());
            }
        });
    }

    // Once both servers have every sample that was printed.
    let printed = || sorted(daemons.iter().flat_map(|daemon| samples(&daemon.agent.output()).unwrap()));
    let counts = [format!("histogram_count(sum({SCRAPED}))"), format!("sum({PUSHED}_count)")];
    let deadline = Instant::now() + 2 * SOON;
    let all = loop {
        let all = printed();
        let found = [scraped(&counts[0]), pushed(&counts[1])];
        if found.iter().all(|count| count.as_ref().is_ok_and(|count| *count == all.len() as f64)) {
            break all;
        }
        assert!(Instant::now() < deadline, "{} samples; scraped and pushed: {found:?}", all.len());
        thread::sleep(Duration::from_millis(300));
    };
    assert!(all.len() >= 1900, "{} samples of 1950 rounds", all.len());
    let of = |q: f64| format!("histogram_quantile({q}, sum({SCRAPED}))");
    assert_quantiles("scraped", &all, WIDTH, |q| scraped(&of(q)));

    // Counters are what the daemons say of themselves.
    let said = |daemon: &Daemon| status(&daemon.socket).unwrap()["samples"]["data"].as_f64().unwrap();
    let said: f64 = daemons.iter().map(said).sum();
    wait_for(scraped, "sum(go_metro_samples_total{kind=\"data\"})", said);
    wait_for(pushed, "sum(go_metro_samples_total{kind=\"data\"})", said);

    // The last report is posted on the way out.
    let finished = daemons.map(|daemon| daemon.agent.stop().unwrap());
    assert!(finished.iter().all(|finished| finished.status.code() == Some(0)), "{finished:?}");
    let all = sorted(finished.iter().flat_map(|finished| finished.samples().unwrap()));
    wait_for(pushed, &counts[1], all.len() as f64);
    let of = |q: f64| format!("histogram_quantile({q}, sum({PUSHED}_bucket) by (vmrange))");
    assert_quantiles("pushed", &all, WIDTH + FOUR_DIGITS, |q| pushed(&of(q)));
    let sum: f64 = all.iter().sum();
    assert!((pushed(&format!("sum({PUSHED}_sum)")).unwrap() / sum - 1.0).abs() < 1e-6);
    assert_eq!(json_total(&finished, &["data", "count"]), all.len() as f64);
    for (metric, keys) in [
        ("system_network_tcp_segments_total", &["peer", "segments"][..]),
        ("system_network_tcp_io_bytes_total", &["peer", "bytes"]),
        (
            "system_network_tcp_connection_attempts_total{network_tcp_connection_result=\"established\", \
             network_tcp_handshake_role=\"client\"}",
            &["peer", "connects", "established", "client"],
        ),
    ] {
        let total = json_total(&finished, keys);
        assert!(total > 0.0, "{keys:?}");
        wait_for(pushed, &format!("sum({metric})"), total);
    }

    // Who was measured, and who says so.
    let series = victoria.instant(&format!("{PUSHED}_count")).unwrap();
    let label = |name: &str| {
        let values = series.iter().map(|series| series["metric"][name].as_str().unwrap_or_default());
        let mut values: Vec<&str> = values.collect();
        values.sort_unstable();
        values
    };
    let mut remotes = [&*v4, &*v6];
    remotes.sort_unstable();
    assert_eq!(label("network_peer_address"), remotes);
    for (name, value) in [
        ("network_interface_name", "eth0"),
        ("network_transport", "tcp"),
        ("team", "edge"),
        ("service_name", "go-metro"),
        ("k8s_node_name", "n1"),
        ("k8s_pod_name", "go-metro-x"),
    ] {
        assert_eq!(label(name), [value; 2], "{name}");
    }
    assert!(!label("host_name")[0].is_empty() && !label("network_local_address")[0].is_empty(), "{series:?}");
    let [one, other] = label("service_instance_id")[..] else { panic!("{series:?}") };
    assert_ne!(one, other, "each daemon is an instance of its own");
}
