//! Whose connections are told apart (`process_tags`): processes in control groups that are named as systemd and a
//! container runtime name them, as clients and as servers, over the lab's path.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use testing_lab::agent::{Agent, Finished, status};
use testing_lab::control_groups::{CONTAINER_ID, Groups, POD_UID};
use testing_lab::soon::wait;
use testing_lab::statsd::{Listener, Metric};
use testing_lab::traffic::{Rounds, Server, Service, connect};
use testing_lab::{Host, Lab, Link};

use super::support::{Backend, Late, SOON, in_time, timely};

/// Bytes of a request and of a response.
const SIZE: usize = 100;
/// Tell a child what to do, and in which group.
const DOES: &str = "GO_METRO_TEST_DOES";
const GROUP: &str = "GO_METRO_TEST_GROUP";

/// A process in a group and on a host: this test program, called once more. Ends when dropped.
struct Process(Child);

impl Process {
    fn start(host: &Host, group: &Path, does: &str) -> Self {
        let name = format!("{}::what_a_process_in_a_group_does", module_path!().split_once("::").unwrap().1);
        let program = std::env::current_exe().unwrap();
        let child = host.enter(|| {
            let arguments = ["--exact", &name, "--nocapture", "--test-threads=1"];
            let mut command = Command::new(program);
            command.args(arguments).env(DOES, does).env(GROUP, group).stdin(Stdio::piped());
            command.stdout(Stdio::null()).spawn().unwrap()
        });
        Self(child)
    }

    fn ends(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `connect ADDRESS CONNECTIONS ROUNDS PAUSE_MS`: so many, one after the other, each with so many rounds and as many
/// pauses. `listen ADDRESS`: answers those who connect until its standard input ends.
#[test]
fn what_a_process_in_a_group_does() {
    let Ok(does) = std::env::var(DOES) else { return };
    let group = PathBuf::from(std::env::var_os(GROUP).unwrap());
    fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    let words: Vec<&str> = does.split(' ').collect();
    let address: SocketAddr = words[1].parse().unwrap();
    if words[0] == "listen" {
        let listener = TcpListener::bind(address).unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut request = [0; SIZE];
                    while stream.read_exact(&mut request).and_then(|()| stream.write_all(&request)).is_ok() {}
                });
            }
        });
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let [connections, rounds, pause] = [2, 3, 4].map(|at: usize| words[at].parse::<u64>().unwrap());
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        for _ in 0..rounds {
            stream.write_all(&[b'x'; SIZE]).unwrap();
            stream.read_exact(&mut [0; SIZE]).unwrap();
            thread::sleep(Duration::from_millis(pause));
        }
    }
}

/// An agent on host a with these keys, and its configuration file.
fn agent(lab: &Lab, backend: Backend, keys: &str) -> (Agent, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("conf.yaml");
    let text = format!(
        "init_config: {{backend: {}, reverse_dns: false, status_socket: {}/socket, report_interval: 0.5, {keys}}}\n\
         instances: [{{interface: eth0, ips: [{}], tags: ['role:web']}}]\n",
        backend.name(),
        folder.path().display(),
        lab.b.v4
    );
    fs::write(&config, text).unwrap();
    (Agent::start(&lab.a, ["run", "-c", config.to_str().unwrap()]).unwrap(), folder)
}

fn service() -> Service {
    Service::Respond { request: SIZE, response: SIZE }
}

/// The lines of pairs, and the last of health.
fn lines(finished: &Finished) -> (Vec<Value>, Value) {
    let all = finished.stdout.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (pairs, own): (Vec<Value>, Vec<Value>) = all.partition(|line| line.get("src").is_some());
    (pairs, own.last().unwrap()["health"].clone())
}

/// Samples of data and handshakes in all intervals, of rows with this tag.
fn counted(pairs: &[Value], tag: &str) -> [u64; 2] {
    let has = |pair: &&Value| pair["tags"].as_array().unwrap().iter().any(|its| its == tag);
    let rows: Vec<&Value> = pairs.iter().filter(has).collect();
    ["data", "connect"].map(|series| rows.iter().map(|row| row[series]["count"].as_u64().unwrap_or(0)).sum())
}

/// Samples of a series in all rows and intervals.
fn sum(pairs: &[Value], series: &str) -> u64 {
    pairs.iter().map(|row| row[series]["count"].as_u64().unwrap_or(0)).sum()
}

fn page(lab: &Lab) -> String {
    lab.a.enter(|| {
        let mut text = String::new();
        let mut stream = TcpStream::connect("127.0.0.1:9464").unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

#[test]
fn connections_are_told_apart_by_unit_and_container_in_every_output() {
    for (backend, workers) in [(Backend::Ebpf, 1), (Backend::Ebpf, 3), (Backend::Pcap, 1)] {
        in_time(&format!("{} by {workers}", backend.name()), || try_every_output(backend, workers));
    }
}

fn try_every_output(backend: Backend, workers: u32) -> Result<(), Late> {
    const ROUNDS: u64 = 20;
    let (lab, mut groups) = (Lab::new(Link::Veth).unwrap(), Groups::new().unwrap());
    lab.path().set_rtt(Duration::from_millis(5));
    let statsd = Listener::udp(&lab.a, 8125).unwrap();
    let keys = format!(
        "process_tags: container, outputs: [statsd, json, prometheus], prometheus_listen: '127.0.0.1:9464', metrics: \
         [default, health], workers: {workers}"
    );
    let (agent, _folder) = agent(&lab, backend, &keys);
    let far = Server::v4(&lab.b, service()).unwrap();
    let near = SocketAddr::new(lab.a.v4.into(), 4321);
    let database = Process::start(&lab.a, &groups.unit("db.service").unwrap(), &format!("listen {near}"));
    let client = format!("connect {} 1 {ROUNDS} 60", far.address());
    let clients = [groups.unit("web.service").unwrap(), groups.container().unwrap()]
        .map(|group| Process::start(&lab.a, &group, &client));
    // Its end here was accepted by a process of the unit.
    let rounds = Rounds { request: SIZE, response: SIZE, count: 10, ..Rounds::default() };
    let mut inbound = None;
    wait("the server listens", SOON, || {
        inbound = connect(&lab.b, near).ok();
        inbound.is_some()
    });
    // It stays open until it was looked up.
    let mut inbound = inbound.unwrap();
    rounds.drive(&mut inbound).unwrap();
    clients.into_iter().for_each(Process::ends);
    let families = [
        "unit=\"web.service\"",
        "unit=\"db.service\"",
        &format!("container_id=\"{CONTAINER_ID}\",pod_uid=\"{POD_UID}\""),
    ];
    wait("Prometheus has them", SOON, || {
        let shown = page(&lab);
        families.iter().all(|labels| shown.contains(labels))
    });
    drop((inbound, database));
    let finished = agent.stop().unwrap();
    assert_eq!(finished.status.code(), Some(0), "{:#?}", finished.stderr);
    let (pairs, health) = lines(&finished);
    println!("{}: {}", backend.name(), health["process_lookups"]);

    let (container, pod) = (format!("container_id:{CONTAINER_ID}"), format!("pod_uid:{POD_UID}"));
    // None is lost on the way to its row.
    let all: u64 = ["data", "connect"].iter().map(|series| sum(&pairs, series)).sum();
    assert_eq!(all, health["samples"].as_u64().unwrap(), "{health}");
    timely(counted(&pairs, "unit:unknown") == [0, 0], || format!("unknown: {pairs:#?}"))?;
    for tag in ["unit:web.service", &container] {
        let [data, connects] = counted(&pairs, tag);
        // A FIN may be a sample too.
        let is_all = (ROUNDS..=ROUNDS + 1).contains(&data) && connects == 1;
        timely(is_all, || format!("{tag}: {data}, {connects}; {health}"))?;
    }
    assert_eq!(counted(&pairs, &container), counted(&pairs, &pod));
    let [answers, accepted] = counted(&pairs, "unit:db.service");
    timely((10..=11).contains(&answers) && accepted == 1, || format!("{answers}, {accepted}; {health}"))?;
    // Attempts before the server listened are of nobody.
    let named = pairs.iter().filter(|pair| pair["dst"] != "other");
    let untagged: Vec<&Value> = named.filter(|pair| pair["tags"].as_array().unwrap().len() < 2).collect();
    assert!(untagged.is_empty(), "{untagged:#?}");
    assert_eq!(health["process_lookups"], serde_json::json!({"found": 3, "forwarded": 0, "unknown": 0}));
    // Counts of connections are split by process as well.
    let established = |tag: &str| -> u64 {
        let has = |pair: &&Value| pair["tags"].as_array().unwrap().iter().any(|its| its == tag);
        let rows = pairs.iter().filter(has);
        rows.flat_map(|row| ["client", "server"].map(|role| row["peer"]["connects"]["established"][role].as_u64()))
            .flatten()
            .sum()
    };
    assert_eq!(["unit:web.service", &container, "unit:db.service"].map(established), [1; 3]);

    assert!(statsd.wait_for("go_metro.memory", SOON));
    let metrics = statsd.metrics().unwrap();
    let dist = |tags: &[&str]| -> usize {
        let tags: Vec<String> = [&format!("src:{}", lab.a.v4), &format!("dst:{}", lab.b.v4), "role:web"]
            .into_iter()
            .chain(tags.iter().copied())
            .chain(["iface:eth0"])
            .map(str::to_owned)
            .collect();
        let has = |metric: &&Metric| metric.name == "system.net.tcp.rtt.dist" && metric.tags == tags;
        metrics.iter().filter(has).map(|metric| metric.values.len()).sum()
    };
    let sent = [dist(&["unit:web.service"]), dist(&[&container, &pod]), dist(&["unit:db.service"])];
    let all = [counted(&pairs, "unit:web.service")[0], counted(&pairs, &container)[0], answers];
    assert_eq!(sent.map(|count| count as u64), all);
    Ok(())
}

#[test]
fn connections_that_are_over_before_they_are_looked_up_are_unknown_and_counted() {
    const CONNECTIONS: u64 = 20;
    in_time("connections that are over", || {
        let (lab, mut groups) = (Lab::new(Link::Veth).unwrap(), Groups::new().unwrap());
        let (agent, folder) = agent(&lab, Backend::Ebpf, "process_tags: unit, outputs: [json]");
        // One that closes what its clients have closed.
        let far = SocketAddr::new(lab.b.v4.into(), 4321);
        let _server = Process::start(&lab.b, &groups.unit("far.service").unwrap(), &format!("listen {far}"));
        wait("the server listens", SOON, || lab.b.enter(|| TcpStream::connect(far).is_ok()));
        let (batch, web) = (groups.unit("batch.service").unwrap(), groups.unit("web.service").unwrap());
        agent.freeze().unwrap();
        Process::start(&lab.a, &batch, &format!("connect {far} {CONNECTIONS} 1 0")).ends();
        agent.signal(Signal::SIGCONT).unwrap();
        // It is there until it has been looked up, however long that takes.
        let client = Process::start(&lab.a, &web, &format!("connect {far} 1 10000 50"));
        wait("all are looked up", SOON, || {
            let status = status(&folder.path().join("socket")).unwrap();
            status["processes"]["unknown"] == CONNECTIONS && status["processes"]["found"] == 1
        });
        let finished = agent.stop().unwrap();
        drop(client);
        let (pairs, health) = lines(&finished);
        let counts = serde_json::json!({"found": 1, "forwarded": 0, "unknown": CONNECTIONS});
        assert_eq!(health["process_lookups"], counts);
        assert_eq!(counted(&pairs, "unit:batch.service"), [0, 0]);
        // A SYN that a busy machine makes wait too long is sent again, and not timed.
        let [unknown, known] = ["unit:unknown", "unit:web.service"].map(|tag| counted(&pairs, tag)[1]);
        assert!(unknown <= CONNECTIONS && known <= 1, "{unknown} and {known}");
        timely((unknown, known) == (CONNECTIONS, 1), || format!("{unknown} and {known} handshakes are timed"))
    });
}

#[test]
fn most_connections_that_last_a_tenth_of_a_second_are_known() {
    const CONNECTIONS: u64 = 30;
    in_time("a tenth of a second", || {
        let (lab, mut groups) = (Lab::new(Link::Veth).unwrap(), Groups::new().unwrap());
        let (agent, _folder) = agent(&lab, Backend::Ebpf, "process_tags: unit, outputs: [json]");
        let far = Server::v4(&lab.b, service()).unwrap();
        let group = groups.unit("batch.service").unwrap();
        Process::start(&lab.a, &group, &format!("connect {} {CONNECTIONS} 1 100", far.address())).ends();
        let (pairs, health) = lines(&agent.stop().unwrap());
        let (known, unknown) = (counted(&pairs, "unit:batch.service")[1], counted(&pairs, "unit:unknown")[1]);
        println!("{known} known, {unknown} unknown; {}", health["process_lookups"]);
        assert_eq!(known + unknown, CONNECTIONS);
        timely(known * 100 >= CONNECTIONS * 95, || format!("{known} of {CONNECTIONS} are known"))
    });
}

#[test]
fn a_reload_begins_to_tell_connections_apart_that_are_there_and_ends_it() {
    let (lab, mut groups) = (Lab::new(Link::Veth).unwrap(), Groups::new().unwrap());
    let (agent, folder) = agent(&lab, Backend::Ebpf, "process_tags: off, outputs: [json]");
    let far = Server::v4(&lab.b, service()).unwrap();
    let group = groups.unit("web.service").unwrap();
    let _client = Process::start(&lab.a, &group, &format!("connect {} 1 1000 50", far.address()));
    let config = folder.path().join("conf.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let waits_for = |since: usize, tags: &[&str]| {
        let has_tags = |line: &String| serde_json::from_str::<Value>(line).unwrap()["tags"] == serde_json::json!(tags);
        let has_row = |lines: &[String]| lines.iter().skip(since).any(has_tags);
        assert!(agent.wait_for_output(SOON, has_row), "{tags:?}: {:#?}", agent.output());
    };
    waits_for(0, &["role:web"]);
    for (wanted, tags) in [("unit", &["role:web", "unit:web.service"][..]), ("off", &["role:web"])] {
        let since = agent.output().len();
        fs::write(&config, text.replace("process_tags: off", &format!("process_tags: {wanted}"))).unwrap();
        agent.signal(Signal::SIGHUP).unwrap();
        waits_for(since, tags);
    }
    let finished = agent.stop().unwrap();
    assert!(!finished.stdout.iter().any(|line| line.contains("unit:unknown")), "{:#?}", finished.stdout);
}
