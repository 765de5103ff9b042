//! Histograms of several daemons put together by a real Prometheus, which has them pushed (OTLP) and scrapes them
//! (native histograms); and counters beside what the daemons say of themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testing_lab::agent::{Agent, Finished, binary, samples, status};
use testing_lab::prometheus::{OTLP, Prometheus};
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};

use super::support::SOON;

/// Largest distance of two bounds at scale 7, 2^(1/128), as a share: what a value from the right bucket is off at most.
const WIDTH: f64 = 0.0055;

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

    fn data_samples(&self) -> usize {
        samples(&self.agent.output()).unwrap().iter().filter(|sample| sample.is_data()).count()
    }
}

/// The sample of the nearest rank, in seconds.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64 * (1.0 - 1e-12)).ceil().max(1.0);
    sorted[rank as usize - 1]
}

/// Waits until an expression has this value.
fn wait_for(prometheus: &Prometheus<'_>, expression: &str, expected: f64) {
    let deadline = Instant::now() + SOON;
    loop {
        let value = prometheus.value(expression, Duration::ZERO);
        if value.as_ref().is_ok_and(|value| (value - expected).abs() < 1e-9 * expected.abs().max(1.0)) {
            return;
        }
        assert!(Instant::now() < deadline, "{expression} is {value:?}, not {expected}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Holds quantiles of a histogram of all daemons to those of all samples.
fn assert_quantiles(prometheus: &Prometheus<'_>, histogram: &str, sorted: &[f64]) {
    for q in [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99] {
        let found = prometheus.value(&format!("histogram_quantile({q}, sum({histogram}))"), SOON).unwrap();
        let expected = quantile(sorted, q);
        let error = found / expected - 1.0;
        println!("{histogram} {q}: {found:.6} s, of the samples {expected:.6} s, {:+.3} %", error * 100.0);
        assert!(error.abs() <= WIDTH, "{histogram} {q}: {found}, not {expected}");
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
    let (v4, v6) = (lab.b.v4.to_string(), lab.b.v6.to_string());
    let daemons = [(&v4, 9464), (&v6, 9465)].map(|(target, port)| Daemon::start(&lab, folder.path(), target, port));

    // One hears mostly of a short way, the other mostly of a long one, and neither of them knows the middle.
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

    // What is scraped, once it has every sample.
    const SCRAPED: &str = "go_metro_tcp_rtt_seconds";
    const PUSHED: &str = "system_network_tcp_rtt_seconds";
    let deadline = Instant::now() + 2 * SOON;
    let count = loop {
        let printed: usize = daemons.iter().map(Daemon::data_samples).sum();
        let scraped = prometheus.value(&format!("histogram_count(sum({SCRAPED}))"), Duration::ZERO);
        let pushed = prometheus.value(&format!("histogram_count(sum({PUSHED}))"), Duration::ZERO);
        if [&scraped, &pushed].iter().all(|count| count.as_ref().is_ok_and(|count| *count == printed as f64)) {
            break printed;
        }
        assert!(Instant::now() < deadline, "{printed} samples, {scraped:?} scraped, {pushed:?} pushed");
        thread::sleep(Duration::from_millis(300));
    };
    assert!(count >= 1900, "{count} samples of 1950 rounds");
    let printed = daemons.iter().flat_map(|daemon| samples(&daemon.agent.output()).unwrap());
    let mut all: Vec<f64> = printed.filter(|s| s.is_data()).map(|s| s.rtt().as_secs_f64()).collect();
    all.sort_by(f64::total_cmp);
    assert_quantiles(&prometheus, SCRAPED, &all);
    // Classic buckets are there beside them, as coarse as they are documented.
    let classic = format!("histogram_quantile(0.5, sum by (le) ({SCRAPED}_bucket))");
    let classic = prometheus.value(&classic, SOON).unwrap();
    assert!((classic / quantile(&all, 0.5) - 1.0).abs() <= 0.1, "{classic}");

    // Counters are what the daemons say of themselves.
    let said: f64 =
        daemons.iter().map(|daemon| status(&daemon.socket).unwrap()["samples"]["data"].as_f64().unwrap()).sum();
    for daemons in ["instance=~\"127.0.0.1:.*\"", "instance!~\"127.0.0.1:.*\""] {
        wait_for(&prometheus, &format!("sum(go_metro_samples_total{{kind=\"data\", {daemons}}})"), said);
    }

    // The last report is posted on the way out, and what was pushed stays.
    let finished = daemons.map(|daemon| daemon.agent.stop().unwrap());
    assert!(finished.iter().all(|finished| finished.status.code() == Some(0)), "{finished:?}");
    let mut all: Vec<f64> = finished
        .iter()
        .flat_map(|finished| finished.samples().unwrap())
        .filter(|sample| sample.is_data())
        .map(|sample| sample.rtt().as_secs_f64())
        .collect();
    all.sort_by(f64::total_cmp);
    wait_for(&prometheus, &format!("histogram_count(sum({PUSHED}))"), all.len() as f64);
    assert_quantiles(&prometheus, PUSHED, &all);
    assert_eq!(json_total(&finished, &["data", "count"]), all.len() as f64);
    for (metric, keys) in [
        ("system_network_tcp_segments_total", &["peer", "segments"][..]),
        ("system_network_tcp_io_bytes_total", &["peer", "bytes"]),
        ("system_network_tcp_connection_closes_total", &["peer", "closes"]),
        (
            "system_network_tcp_connection_attempts_total{network_tcp_connection_result=\"established\", \
             network_tcp_handshake_role=\"client\"}",
            &["peer", "connects", "established", "client"],
        ),
    ] {
        let total = json_total(&finished, keys);
        assert!(total > 0.0, "{keys:?}");
        wait_for(&prometheus, &format!("sum({metric})"), total);
    }

    // Who was measured, and who says so.
    let series = prometheus.instant(&format!("histogram_count({PUSHED})")).unwrap();
    let label = |name: &str| {
        let mut values: Vec<&str> = series.iter().map(|series| series["metric"][name].as_str().unwrap()).collect();
        values.sort_unstable();
        values
    };
    let mut remotes = [&*v4, &*v6];
    remotes.sort_unstable();
    assert_eq!(label("network_peer_address"), remotes);
    assert_eq!(label("network_interface_name"), ["eth0"; 2]);
    assert_eq!(
        (label("network_transport"), label("team"), label("job")),
        (vec!["tcp"; 2], vec!["edge"; 2], vec!["go-metro"; 2])
    );
    assert_ne!(label("instance")[0], label("instance")[1], "each daemon is an instance of its own");
    let about = prometheus.instant("target_info{job=\"go-metro\"}").unwrap();
    assert_eq!(about.len(), 2, "{about:?}");
    assert!(about.iter().all(|target| target["metric"]["k8s_pod_name"] == "go-metro-x"), "{about:?}");
    assert!(about.iter().all(|target| !target["metric"]["host_name"].is_null()), "{about:?}");
}
