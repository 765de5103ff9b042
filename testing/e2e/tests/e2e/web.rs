//! The page for browsers, and the data that it draws: over real HTTP, and in a real browser.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testing_lab::agent::Agent;
use testing_lab::browser;
use testing_lab::soon::wait;
use testing_lab::traffic::{Rounds, Server, connect, end_with_reset, talk};
use testing_lab::{Impairment, Lab, Link, Over, Way};
use testing_support::workspace::target;

use super::support::SOON;

const ADDRESS: &str = "127.0.0.1:9465";
const PORT: u16 = 9465;

fn curl(lab: &Lab, words: &[&str]) -> String {
    let mut command = lab.a.namespace.command("curl");
    let output = command.args(["--silent", "--max-time", "30"]).args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn document(lab: &Lab, path: &str) -> Value {
    let text = curl(lab, &[&format!("http://{ADDRESS}{path}")]);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
}

/// A configuration with a page, and these lines more; it watches host b.
fn configured(folder: &Path, more: &str) -> PathBuf {
    let conf = folder.join("conf.yaml");
    let socket = folder.join("go-metro.sock");
    let text = format!(
        "init_config:\n  status_socket: {}\n  reverse_dns: false\n  web_listen: {ADDRESS}\n{more}instances:\n  \
         - interface: eth0\n    ips: [10.77.0.0/16]\n",
        socket.display()
    );
    fs::write(&conf, text).unwrap();
    conf
}

fn start(lab: &Lab, conf: &Path) -> Agent {
    Agent::start(&lab.a, ["run", "-c", conf.to_str().unwrap()]).unwrap()
}

fn status(folder: &Path) -> Value {
    testing_lab::agent::status(&folder.join("go-metro.sock")).unwrap()
}

/// The row of a pair.
fn row(pairs: &Value, remote: &str) -> Value {
    let rows = pairs["pairs"].as_array().unwrap();
    rows.iter().find(|row| row["dst"] == remote).cloned().unwrap_or_default()
}

fn rounds(lab: &Lab, count: usize) {
    let rounds = Rounds { count, ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
}

/// What grows without any connection: ARP goes on.
const ARP: [&str; 2] = ["seen", "passed_over"];

/// Counters of a status document, which do not change while there is no traffic.
fn counters(status: &Value) -> Value {
    let part = |name: &str| status[name].clone();
    let mut counters = json!({"samples": part("samples"), "packets": part("packets"), "drops": part("drops")});
    counters["packets"].as_object_mut().unwrap().retain(|name, _| !ARP.contains(&name.as_str()));
    counters["flows"] = json!([status["flows"]["begun"], status["flows"]["max"]]);
    counters["interfaces"] = status["interfaces"].clone();
    counters["targets"] = status["targets"][0]["prefixes"].clone();
    counters["connections"] = status["connections"]["total"].clone();
    counters
}

#[test]
fn what_the_page_is_told_is_what_status_and_reports_say() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(20));
    let folder = tempfile::tempdir().unwrap();
    // One report, at the end.
    let conf =
        configured(folder.path(), "  outputs: [json]\n  report_interval: 1h\n  metrics: [default, health, base]\n");
    let agent = start(&lab, &conf);
    let remote = lab.b.v4.to_string();
    let follows = curl_events(&lab);
    rounds(&lab, 60);
    assert!(connect(&lab.a, (lab.b.v4, 9).into()).is_err());
    let shown = || row(&document(&lab, "/api/v1/pairs?seconds=900"), &remote);
    let is_complete = |row: &Value| {
        row["data"]["count"].as_u64() >= Some(60)
            && row["peer"]["closes"].as_u64() >= Some(1)
            && row["peer"]["connects"]["refused"] == 1
    };
    wait("all of it is shown", SOON, || is_complete(&shown()));
    thread::sleep(Duration::from_secs(2));

    let (told, shown) = (document(&lab, "/api/v1/status"), shown());
    assert_eq!(counters(&told), counters(&status(folder.path())));
    assert_eq!((&told["version"], &told["web"]), (&1.into(), &format!("http://{ADDRESS}/").into()));
    let history = document(&lab, &format!("/api/v1/history?pair={}&seconds=900", shown["id"]));
    let sum = |column: &Value| column.as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(history["sums"], shown);
    let seconds = &history["seconds"];
    // Of a second with data, handshakes are not drawn.
    assert!(sum(&seconds["count"]) >= shown["data"]["count"].as_u64().unwrap(), "{history:#}");
    assert_eq!(sum(&seconds["failed"]), 1, "{history:#}");
    let bars = history["distribution"]["data"].as_array().unwrap();
    assert_eq!(bars.iter().map(|bar| bar[2].as_u64().unwrap()).sum::<u64>(), shown["data"]["count"].as_u64().unwrap());

    let events = ended(follows);
    let seconds: Vec<Value> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let numbers: Vec<u64> = seconds.iter().map(|second| second["second"].as_u64().unwrap()).collect();
    assert!(numbers.len() >= 3 && numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let of_pair = seconds.iter().flat_map(|second| second["pairs"].as_array().unwrap());
    let count: u64 = of_pair.filter(|had| had["id"] == shown["id"]).filter_map(|had| had["count"].as_u64()).sum();
    assert!(count >= 60, "{count} samples in the events");

    let finished = agent.stop().unwrap();
    assert_eq!(finished.status.code(), Some(0), "{:?}", finished.stderr);
    let mut lines = finished.stdout.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let report = lines.rfind(|line| line["dst"] == remote.as_str()).unwrap();
    for (kind, name) in [
        ("data", "count"),
        ("data", "last_ms"),
        ("data", "min_ms"),
        ("data", "max_ms"),
        ("connect", "count"),
        ("connect", "min_ms"),
        ("peer", "segments"),
        ("peer", "bytes"),
        ("peer", "closes"),
        ("peer", "retransmits"),
    ] {
        assert_eq!(shown[kind][name], report[kind][name], "{kind} {name}: {shown:#} {report:#}");
    }
    assert_eq!(shown["base_ms"], report["base_ms"]);
    // Of a histogram, not of each sample.
    for name in ["avg_ms", "p50_ms", "p95_ms", "p99_ms"] {
        let [told, exact] = [&shown, &report].map(|of| of["data"][name].as_f64().unwrap());
        assert!((told / exact - 1.0).abs() < 0.011, "{name}: {told} for {exact}");
    }
}

/// Follows the events for some seconds.
fn curl_events(lab: &Lab) -> Child {
    let mut command = lab.a.namespace.command("curl");
    command.args(["--silent", "--no-buffer", "--max-time", "8", &format!("http://{ADDRESS}/api/v1/events")]);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> String {
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn it_only_reads_answers_under_its_own_names_alone_and_compresses() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let conf = configured(folder.path(), "");
    let agent = start(&lab, &conf);
    let code = |words: &[&str]| {
        let page = folder.path().join("answer");
        let words = [&["--write-out", "%{http_code} %{size_download}", "--output", page.to_str().unwrap()], words];
        curl(&lab, &words.concat())
    };
    let url = format!("http://{ADDRESS}/");
    let api = format!("http://{ADDRESS}/api/v1/status");
    let events = format!("http://{ADDRESS}/api/v1/events");
    for (words, status) in [
        (vec![&*url], "200"),
        (vec![&*api], "200"),
        (vec![&*url, "--header", "Host: localhost:1"], "200"),
        (vec![&*url, "--header", "Host: rebound.example:9465"], "421"),
        (vec![&*api, "--header", "Host: rebound.example"], "421"),
        (vec![&*api, "--header", "Sec-Fetch-Site: cross-site"], "403"),
        (vec![&*api, "--header", "Origin: http://127.0.0.1:9465"], "200"),
        (vec![&*api, "--header", "Origin: http://elsewhere.example"], "403"),
        (vec![&*events, "--header", "Origin: http://elsewhere.example"], "403"),
        (vec![&*api, "--request", "POST"], "405"),
        (vec![&*api, "--request", "DELETE"], "405"),
        (vec![&*url, "--head"], "200"),
    ] {
        let said = code(&words);
        assert!(said.starts_with(status), "{words:?}: {said}");
    }
    let size = |said: String| said.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    let script = format!("http://{ADDRESS}/table.js");
    let (plain, compressed) = (size(code(&[&script])), size(code(&[&script, "--header", "Accept-Encoding: gzip"])));
    assert!(compressed * 2 < plain, "{compressed} of {plain} bytes");
    let head = curl(&lab, &["--include", &url]).to_lowercase();
    assert!(head.contains("content-security-policy: default-src 'none'") && !head.contains("set-cookie"), "{head}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_reload_opens_moves_and_closes_it_and_cuts_off_who_follows() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let conf = configured(folder.path(), "");
    let served = fs::read_to_string(&conf).unwrap();
    let line = format!("  web_listen: {ADDRESS}\n");
    fs::write(&conf, served.replace(&line, "")).unwrap();
    let agent = start(&lab, &conf);
    let reach = |address: Ipv4Addr, port: u16| lab.a.enter(|| TcpStream::connect((address, port))).is_ok();
    let reload = |text: &str, refused: u64| {
        let before = status(folder.path())["happened"].clone();
        fs::write(&conf, text).unwrap();
        agent.signal(Signal::SIGHUP).unwrap();
        wait("it is read again", SOON, || {
            let now = status(folder.path())["happened"].clone();
            let more = |name: &str| now[name].as_u64().unwrap() - before[name].as_u64().unwrap();
            (more("reloads"), more("reloads_refused")) == (1 - refused, refused)
        });
    };
    assert!(status(folder.path()).get("web").is_none() && !reach(Ipv4Addr::LOCALHOST, PORT));
    reload(&served, 0);
    assert!(reach(Ipv4Addr::LOCALHOST, PORT));
    rounds(&lab, 20);
    let has_pair = || document(&lab, "/api/v1/pairs")["pairs"].as_array().unwrap().len() == 1;
    wait("the pair is shown", SOON, has_pair);

    // To all addresses, which the port itself is in the way of; what was kept goes on.
    let follows = curl_events(&lab);
    thread::sleep(Duration::from_millis(500));
    reload(&served.replace(ADDRESS, "0.0.0.0:9465"), 0);
    assert!(reach(lab.a.v4, PORT) && reach(Ipv4Addr::LOCALHOST, PORT) && has_pair());
    // What is said of it can be opened.
    assert_eq!(status(folder.path())["web"], format!("http://{ADDRESS}/"));
    let said = format!("web page: http://{ADDRESS}/, and at every other address of this host");
    assert!(agent.log().iter().any(|line| line.contains(&said)), "{:?}", agent.log());
    assert!(agent.log().iter().any(|line| line.contains("without a password")), "{:?}", agent.log());
    // It ended with the old port, and not with its time.
    assert!(ended(follows).matches("event: second").count() < 6);
    // To a port that another program has: all stays as it was.
    let taken = lab.a.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    reload(&served.replace(ADDRESS, &taken.local_addr().unwrap().to_string()), 1);
    assert!(reach(lab.a.v4, PORT) && has_pair());
    reload(&served, 0);
    assert!(!reach(lab.a.v4, PORT) && has_pair());
    reload(&served.replace(&line, ""), 0);
    assert!(!reach(Ipv4Addr::LOCALHOST, PORT) && status(folder.path()).get("web").is_none());
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));

    // At the start it is an error.
    fs::write(&conf, served.replace(ADDRESS, &taken.local_addr().unwrap().to_string())).unwrap();
    let finished = Agent::spawn(&lab.a, ["run", "-c", conf.to_str().unwrap()]).unwrap().finish().unwrap();
    let said = finished.stderr.join("\n");
    assert!(finished.status.code() == Some(1) && said.contains("set `web_listen`"), "{said}");
}

#[test]
fn top_serves_it_from_a_capture_of_its_own_and_for_a_daemon_that_does_not() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(5));
    let remote = lab.b.v4.to_string();
    let shows = || row(&document(&lab, "/api/v1/pairs"), &remote)["data"]["count"].as_u64() >= Some(30);
    let mut own = Agent::spawn(&lab.a, ["top", "--interface", "eth0", "--web"]).unwrap();
    own.wait_for_log(&format!("web page: http://{ADDRESS}/"), SOON).unwrap();
    own.ready().unwrap();
    // Advice names what this command has.
    let refused = Agent::spawn(&lab.a, ["top", "--interface", "eth0", "--web", ADDRESS]).unwrap().finish().unwrap();
    let why = refused.stderr.concat();
    assert!(refused.status.code() == Some(1) && why.contains("set --web to") && !why.contains("web-listen"), "{why}");
    rounds(&lab, 30);
    wait("its own capture", SOON, shows);
    assert_eq!(own.stop().unwrap().status.code(), Some(0));

    // A daemon that serves it already says where.
    let folder = tempfile::tempdir().unwrap();
    let conf = configured(folder.path(), "  outputs: [json]\n  report_interval: 1h\n");
    let served = fs::read_to_string(&conf).unwrap();
    let daemon = start(&lab, &conf);
    let socket = folder.path().join("go-metro.sock");
    let words = ["top", "--web", "--socket", socket.to_str().unwrap()];
    let said = Agent::spawn(&lab.a, words).unwrap().finish().unwrap();
    assert!(said.status.success() && said.stdout.concat().contains(&format!("http://{ADDRESS}/")), "{said:?}");
    // Where another address is named, the page is there too; where that is the daemon's, it is said.
    let at = |address: &str| {
        Agent::spawn(&lab.a, ["top", &format!("--web={address}"), "--socket", socket.to_str().unwrap()]).unwrap()
    };
    let said = at(ADDRESS).finish().unwrap();
    assert!(said.status.success() && said.stdout.concat().contains(&format!("http://{ADDRESS}/")), "{said:?}");
    let other = at("127.0.0.1:9466");
    assert!(other.wait_for_output(SOON, |lines| lines.iter().any(|line| line.contains("http://127.0.0.1:9466/"))));
    assert!(curl(&lab, &["http://127.0.0.1:9466/api/v1/status"]).contains("\"version\""));
    let other = other.stop().unwrap();
    assert_eq!((other.status.code(), other.stderr), (Some(0), Vec::new()));
    // One that everybody reaches is warned of, as the daemon does.
    let mut open = at("0.0.0.0:9466");
    open.wait_for_log("is served at 0.0.0.0:9466, not a loopback address", SOON).unwrap();
    assert!(open.stop().unwrap().stderr.concat().contains("without a password"));
    let said = at("0.0.0.0:9465").finish().unwrap();
    let why = said.stderr.concat();
    assert!(said.status.code() == Some(1) && why.contains(&format!("serves the page at http://{ADDRESS}/")), "{why}");
    // A second run with the daemon's file leaves the page to it.
    let beside = |more: &[&str]| {
        let words = ["run", "-c", conf.to_str().unwrap(), "--output", "table", "--status-socket", "off"];
        Agent::spawn(&lab.a, words.iter().chain(more)).unwrap()
    };
    let refused = beside(&[]).finish().unwrap();
    let why = refused.stderr.concat();
    assert!(refused.status.code() == Some(1) && why.contains("--web-listen to another address or to off"), "{why}");
    let mut second = beside(&["--web-listen", "off"]);
    second.ready().unwrap();
    assert_eq!(second.stop().unwrap().status.code(), Some(0));
    // One that does not is followed.
    fs::write(&conf, served.replace(&format!("  web_listen: {ADDRESS}\n"), "")).unwrap();
    daemon.signal(Signal::SIGHUP).unwrap();
    wait("it serves it no more", SOON, || status(folder.path()).get("web").is_none());
    let mut follower = Agent::spawn(&lab.a, words).unwrap();
    assert!(follower.wait_for_output(SOON, |lines| lines.iter().any(|line| line.contains(ADDRESS))));
    rounds(&lab, 30);
    wait("a daemon's", SOON, shows);
    let pid = daemon.pid().as_raw();
    assert_eq!(document(&lab, "/api/v1/status")["program"]["pid"], pid, "the daemon's own document");
    // Who follows waits for the next one, and goes on with what there is.
    assert_eq!(daemon.stop().unwrap().status.code(), Some(0));
    follower.wait_for_log("the daemon has ended; waiting for a daemon at", SOON).unwrap();
    let count = || row(&document(&lab, "/api/v1/pairs?seconds=900"), &remote)["data"]["count"].as_u64().unwrap();
    let before = count();
    let daemon = start(&lab, &conf);
    follower.wait_for_log("following the daemon again", SOON).unwrap();
    rounds(&lab, 30);
    wait("the next daemon's", SOON, || count() >= before + 30);
    assert_eq!(document(&lab, "/api/v1/status")["program"]["pid"], daemon.pid().as_raw(), "its own document");
    let said = follower.stop().unwrap();
    assert_eq!((said.status.code(), said.stderr.len()), (Some(0), 2), "{said:?}");
    assert_eq!(daemon.stop().unwrap().status.code(), Some(0));
}

/// What a browser saw of one thing.
fn step(found: &Value, name: &str) -> Value {
    steps(found, name).first().unwrap_or_else(|| panic!("{name}: {found:#}")).clone()
}

/// What it saw each time.
fn steps(found: &Value, name: &str) -> Vec<Value> {
    let steps = found["steps"].as_array().unwrap().iter();
    steps.filter(|step| step["name"] == name).map(|step| step["what"].clone()).collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// No error, nothing that is in anybody's way, nothing wider than the screen, nothing from elsewhere.
fn nothing_is_wrong(found: &Value) {
    assert_eq!(found["trouble"], json!([]), "{found:#}");
    assert_eq!(found["violations"], json!([]), "{:#}", found["violations"]);
    assert_eq!(found["overflow"], json!([]), "wider than the screen");
    let requests = found["requests"].as_array().unwrap();
    let own = format!("http://{ADDRESS}/");
    assert!(requests.len() > 10 && requests.iter().all(|url| url.as_str().unwrap().starts_with(&own)), "{requests:?}");
}

/// A name of a group that would do harm as markup.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";

/// The pictures stay in `target/pictures/web`, to be looked at.
#[test]
fn in_a_browser_rows_appear_can_be_sorted_and_chosen_and_nothing_is_in_anybodys_way() {
    let lab = Lab::new(Link::Veth).unwrap();
    let far = |last: u8| Ipv4Addr::new(10, 77, 0, last);
    for last in 3..=6 {
        lab.b.add_address(far(last)).unwrap();
    }
    let delays = [(2, 1_u64), (3, 12), (4, 28), (5, 84), (6, 40)];
    let impaired = |loss: f64| {
        let delay_of = delays.map(|(last, rtt)| (far(last).into(), Duration::from_micros(rtt * 500)));
        Impairment { delay_of: delay_of.into(), loss, seed: 7, ..Impairment::default() }
    };
    Way::BOTH.into_iter().for_each(|way| lab.path().impair(way, impaired(0.0)));
    let folder = tempfile::tempdir().unwrap();
    // No flow is forgotten between the page's last look and the status that it is compared with.
    let conf = configured(
        folder.path(),
        &format!(
            "  outputs: [json]\n  report_interval: 2\n  metrics: [default, health, base]\n  exp_ttl: 10m\n  \
             group_by: {{names: {{'{HOSTILE}': [10.77.0.6/32]}}}}\n"
        ),
    );
    let agent = start(&lab, &conf);
    let stop = AtomicBool::new(false);
    let remote = far(3).to_string();
    let found = thread::scope(|scope| {
        let _over = Over(&stop);
        for (last, _) in delays {
            let (lab, stop) = (&lab, &stop);
            scope.spawn(move || talk(lab, far(last).into(), Duration::from_millis(20), stop));
        }
        let shown = || document(&lab, "/api/v1/pairs")["pairs"].as_array().unwrap().len();
        wait("all pairs are shown", SOON, || shown() == delays.len());
        // Something to mark: a lossy while, a connection that is reset and one that is refused.
        lab.path().impair(Way::AToB, impaired(0.1));
        thread::sleep(Duration::from_secs(4));
        lab.path().impair(Way::AToB, impaired(0.0));
        let server = Server::start(&lab.b, (far(3), 0).into(), Rounds::default().service()).unwrap();
        let mut stream = connect(&lab.a, server.address()).unwrap();
        Rounds { count: 2, ..Rounds::default() }.drive(&mut stream).unwrap();
        end_with_reset(&stream).unwrap();
        drop(stream);
        assert!(connect(&lab.a, SocketAddr::from((far(3), 9))).is_err());
        let is_marked = || {
            let peer = row(&document(&lab, "/api/v1/pairs?seconds=300"), &remote)["peer"].clone();
            let again = peer["retransmits"].as_object().map_or(0, |all| all.values().filter_map(Value::as_u64).sum());
            again > 0 && peer["resets"]["local"].as_u64() >= Some(1) && peer["connects"]["refused"] == 1
        };
        wait("retransmissions, a reset and a refusal are counted", SOON, is_marked);
        let asked = json!({
            "url": format!("http://{ADDRESS}/#span=300"),
            "rows": delays.len(),
            "remote": remote,
            "use": true,
            "whole": true,
            "widths": [360, 1440, 2560],
        });
        // The traffic ends before the daemon's numbers are read.
        let (host, pictures) = (&lab.a, target().join("pictures/web"));
        let last = pictures.join("dark-2560-whole.png");
        let _ = fs::remove_file(&last);
        let looked = scope.spawn(move || browser::look(host, asked, &pictures));
        while !looked.is_finished() {
            thread::sleep(Duration::from_secs(1));
            if last.exists() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        looked.join().unwrap().unwrap()
    });
    nothing_is_wrong(&found);
    let step = |name: &str| step(&found, name);
    let rows = texts(&step("rows"));
    assert!(rows.len() == delays.len() && rows.contains(&remote) && rows.contains(&HOSTILE.to_owned()), "{rows:?}");
    assert_eq!(step("elements in names"), 0, "a name is text");
    for (name, way) in [("p50 once", "descending"), ("p50 twice", "ascending")] {
        let sorted = step(name);
        assert_eq!(sorted["way"], way);
        let mut values: Vec<f64> = texts(&sorted["cells"]).iter().map(|cell| cell.parse().unwrap()).collect();
        if way == "descending" {
            values.reverse();
        }
        assert!(values.len() == delays.len() && values.is_sorted(), "{sorted}");
        // Each path's delay is below its median, and they are far apart.
        for (value, least) in values.iter().zip([1.0, 12.0, 28.0, 40.0, 84.0]) {
            assert!(*value >= least, "{sorted}");
        }
    }
    assert_eq!(step("filtered"), format!("1 of {}", delays.len()));
    let groups = texts(&step("groups"));
    assert!(groups.iter().any(|group| group.starts_with("10.77.0.0/24 · 4 pairs")), "{groups:?}");
    assert_eq!((step("focus"), step("title")), ("BUTTON".into(), remote.as_str().into()));
    let arrow = step("arrow");
    assert_eq!(arrow["named"], arrow["focused"], "from the row that was clicked to the next one");
    assert_eq!(step("tabs"), json!(vec![delays.len(); 8]));
    let linked = step("linked");
    assert_eq!((&linked["title"], &linked["sorted"]), (&remote.as_str().into(), &"ascending".into()));
    let seconds = step("seconds");
    assert!(seconds["first"] != seconds["last"] && seconds["said"] == seconds["last"], "{seconds}");
    let marks = step("marks");
    assert!(marks["resent"].as_u64() >= Some(1) && marks["reset"].as_u64() >= Some(2), "{marks}");
    assert_eq!((step("log scale"), step("paused")), ("log".into(), "true".into()));
    let connections = step("connections");
    assert!(texts(&connections["failed"]).iter().any(|cell| cell == "2"), "{connections}");
    assert!(connections["facts"].as_str().unwrap().contains("connects, refused1"), "{connections}");

    // What it shows of the daemon is what `status --json` says.
    let told = status(folder.path());
    let health = found["health"].as_object().unwrap();
    let mut compared = 0;
    for (field, shown) in health {
        let place = field.split('.').fold(&told, |value, name| &value[name]);
        let exact = match place {
            Value::Object(causes) => causes.values().filter_map(Value::as_u64).sum::<u64>(),
            place => match place.as_u64() {
                Some(count) => count,
                None => continue,
            },
        };
        compared += 1;
        let shown: u64 = shown.as_str().unwrap().replace(',', "").parse().unwrap();
        let since = if field.strip_prefix("packets.").is_some_and(|name| ARP.contains(&name)) { 10 } else { 0 };
        assert!((shown..=shown + since).contains(&exact), "{field}: {shown}, {told:#}");
    }
    assert!(compared > 35 && health.contains_key("connections.total.segments"), "{health:?}");
    assert_eq!((&health["state"], &health["backend.name"]), (&"ok".into(), &"ebpf (wanted: auto)".into()));
    assert_eq!(counters(&found["status"]), counters(&told));
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

/// Names of groups: with all that may be in one, and as long as they may be.
const ODD: &str = "~tilde~  \"quotes\" 'and' <b>&amp; #5 50% + \u{fc}";
const LONG: &str = "database-primary-000017.payments.production.eu-central-1.internal.example.org";
/// A browser's time zone: without daylight saving time, behind UTC, and by no whole hours.
const ZONE: &str = "Pacific/Marquesas";
const ZONE_S: u64 = 34_200;

#[test]
fn in_a_browser_no_name_is_cut_off_at_its_end_or_breaks_a_link_and_what_is_not_listed_is_said() {
    let lab = Lab::new(Link::Veth).unwrap();
    let far = |last: u8| Ipv4Addr::new(10, 77, 0, last);
    for last in 3..=5 {
        lab.b.add_address(far(last)).unwrap();
    }
    let long_v6 = |last: u8| format!("fd77:1234:5678:9abc:1234:5678:9abc:def{last}");
    for (host, last) in [(&lab.a, 1), (&lab.b, 2)] {
        host.namespace.ip(&format!("address add {}/64 dev eth0 nodad", long_v6(last))).unwrap();
    }
    let remotes: [IpAddr; 5] =
        [far(2).into(), far(3).into(), far(4).into(), far(5).into(), long_v6(2).parse().unwrap()];
    let longest = "x".repeat(196);
    let names = [ODD.to_owned(), LONG.to_owned(), longest.clone()];
    let groups = json!({ODD: ["10.77.0.3/32"], LONG: ["10.77.0.4/32"], &*longest: ["10.77.0.5/32"]});
    let folder = tempfile::tempdir().unwrap();
    let conf = configured(
        folder.path(),
        &format!(
            "  outputs: [json]\n  report_interval: 2\n  sides: both\n  group_by: {{names: {groups}, port: service}}\n"
        ),
    );
    let text = fs::read_to_string(&conf).unwrap();
    let targets = "ips: [10.77.0.0/16]\n";
    assert!(text.contains(targets));
    let more = "ips: [10.77.0.0/16, 'fd77::/16']\n";
    fs::write(&conf, text.replace(targets, more)).unwrap();
    let agent = start(&lab, &conf);
    let stop = AtomicBool::new(false);
    let refusing = format!("{}:9", far(2));
    let odd = ["~", "~~", "a~b~c", "%7E", "%257e~", "50% off", "a&b=c#d+e f", "\"<'>`\\", " at both ends ", ODD];
    // From a phone's to a wide screen's, the page's own limits on either side.
    let tried =
        [360, 400, 440, 480, 560, 600, 640, 720, 800, 900, 1024, 1100, 1150, 1280, 1366, 1440, 1680, 1920, 2560];
    // What there is only with trouble, or with other settings.
    let pair = json!({"src": "10.0.0.1", "dst": "db:5432", "iface": "eth0"});
    let with = |more: Value| {
        let parts = [&pair, &more].map(|part| part.as_object().unwrap().clone());
        Value::Object(parts.into_iter().flatten().collect())
    };
    let counts = json!({"segments": 800, "retransmits": {"syn": 2, "fast": 5, "timeout": 0}, "zero_window_ms": 3});
    let daemon = json!({
        "processes": {"found": 12, "forwarded": 0, "unknown": 1},
        "recorder": {"written": 1, "failed": 0, "skipped": 3, "empty": 0, "records": 1234},
        "connections": {
            "total": counts,
            "peers": [with(json!({"process": "web.service", "side": "remote", "counts": counts}))],
        },
        "responses": [with(json!({"count": 3, "p50_ms": 4.0, "p95_ms": 9.0}))],
    });
    let found = thread::scope(|scope| {
        let _over = Over(&stop);
        let asked = json!({
            "url": format!("http://{ADDRESS}/#span=300&sort=dst"),
            "rows": 2 * remotes.len(),
            "refusing": refusing,
            "refused": "3 failures",
            "names": true,
            "odd": odd,
            "tried": tried,
            "zone": ZONE,
            "daemon": daemon,
            "whole": true,
            "widths": [360, 1440, 2560],
        });
        let (host, pictures) = (&lab.a, target().join("pictures/web-names"));
        let _ = fs::remove_dir_all(&pictures);
        let [empty, gone] = ["empty.png", "gone.png"].map(|name| pictures.join(name));
        let looked = scope.spawn(move || browser::look(host, asked, &pictures));
        // What the browser found is said where it did not come so far.
        let waits = |what: &str, path: &Path| wait(what, 3 * SOON, || path.exists() || looked.is_finished());
        waits("the page shows that nothing has come", &empty);
        agent.freeze().unwrap();
        waits("the page shows that nobody answers", &gone);
        agent.signal(Signal::SIGCONT).unwrap();
        for remote in remotes {
            let (lab, stop) = (&lab, &stop);
            scope.spawn(move || talk(lab, remote, Duration::from_millis(20), stop));
        }
        for _ in 0..3 {
            assert!(connect(&lab.a, SocketAddr::from((far(2), 9))).is_err());
        }
        looked.join().unwrap().unwrap()
    });
    nothing_is_wrong(&found);
    let step = |name: &str| step(&found, name);
    let empty = step("empty");
    let is_so_far = |said: &str| said.starts_with("Nothing in the last ") && !said.contains("5 min");
    assert!(is_so_far(empty.as_str().unwrap()), "five minutes were asked for, and some seconds are over: {empty}");
    assert_eq!(
        step("gone"),
        json!({"state": "no answer", "packets": "–", "daemon": "no answer; below is what it said last"})
    );

    // A name is there to its last character, its port, and as text.
    let rows = texts(&step("rows"));
    let expected = names.iter().cloned().chain([far(2).to_string(), format!("[{}]", long_v6(2))]);
    for name in expected {
        let is_name = |row: &&String| {
            row.rsplit_once(':').is_some_and(|(shown, port)| shown == name && port.parse::<u16>().is_ok())
        };
        assert_eq!(rows.iter().filter(is_name).count(), 2, "{name}: {rows:?}");
    }
    assert_eq!(step("elements in names"), 0);
    let others = step("others");
    assert_eq!(others["said"], "1 pair has connections but no round trips, 3 failures: show Connections");
    assert_eq!(others["notice"], "No pair with round trips passes the filter.");
    assert_eq!((&others["columns"], &others["isLeft"]), (&"connections".into(), &false.into()));
    assert_eq!((&others["first"], &others["failed"]), (&refusing.into(), &"3".into()), "{others}");
    assert_eq!(others["focused"], "Table of pairs");
    assert!(others["announced"].as_str().unwrap().contains("without round trips come first"), "{others}");
    let nothing = json!({"course": "No round trips in this span", "distribution": "No samples in this span"});
    assert_eq!((step("refusing"), step("back")), (nothing, "times".into()));
    assert_eq!(step("left out"), "10; 1,234 less active pairs left out");

    let daemon = step("daemon");
    assert_eq!(daemon["Processes"], json!(["forwarded0", "found12", "unknown1"]));
    assert_eq!(daemon["Recorder"], json!(["empty0", "failed0", "records1,234", "skipped3", "written1"]));
    let totals = json!(["retransmits7", "– fast5", "– syn2", "segments800", "zero window ms3"]);
    assert_eq!(daemon["Connections"], totals);
    let peer = "10.0.0.1 (web.service) to db:5432 (remote) on eth0: 7 retransmits (5 fast, 2 syn), 800 segments, \
                3 ms zero window";
    assert_eq!(daemon["Peers"], json!([peer]));
    assert_eq!(daemon["Responses"], json!(["10.0.0.1 to db:5432 on eth0: 3, median 4.000 ms, p95 9.000 ms"]));

    let links = steps(&found, "link");
    assert_eq!(links.len(), remotes.len(), "{links:#?}");
    for link in &links {
        let dst = link["dst"].as_str().unwrap();
        // Browsers make one space of two in a title.
        let title = format!("{dst} – go-metro").replace("  ", " ");
        let there = json!({"shown": dst, "title": title, "chosen": dst});
        assert_eq!((&link["now"], &link["old"]), (&there, &there));
        assert!(link["title"].as_str().unwrap().contains(dst), "{link}");
    }
    assert_eq!(step("no pair"), json!({"title": "go-metro", "isShown": false}));
    let gone = step("gone pair");
    assert!(gone["said"].as_str().unwrap().starts_with("no such pair in the last "), "{gone}");
    assert_eq!((&gone["keys"], &gone["title"]), (&json!(["pair"]), &"gone.example".into()));

    let widths = steps(&found, "width");
    assert_eq!(widths.len(), 4 * tried.len());
    for width in &widths {
        assert_eq!(width["all"], json!([]), "{width}");
    }
    let covered = steps(&found, "covered");
    assert_eq!(covered.len(), tried.len());
    for at in &covered {
        assert_eq!((&at["by"], &at["daemonBy"]), (&0.into(), &0.into()), "{at}");
    }
    let crowded = widths.iter().find(|at| at["width"] == 1440 && at["isOpen"] == true).unwrap();
    assert!(crowded["shortened"].as_u64() >= Some(2), "{crowded}");
    let small = step("small");
    assert!(small["focused"] == "pair" && small["top"].as_f64().unwrap() < 200.0, "{small}");

    let zone = step("zone");
    assert!(zone["zone"].as_str().unwrap().ends_with("time of day in UTC−09:30, Pacific/Marquesas"), "{zone}");
    let shown = zone["said"].as_str().unwrap().split(' ').next().unwrap();
    let seconds = shown.split(':').fold(0, |sum, part| sum * 60 + part.parse::<u64>().unwrap());
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    // The page was left since.
    assert!((now - ZONE_S + 86_400 - seconds) % 86_400 < 600, "{shown}, {now}");

    let functions = step("functions");
    assert_eq!(functions["kept"], json!(odd));
    assert_eq!(functions["counted"], json!(["0 samples", "1 sample", "2 samples"]));
    assert_eq!(functions["listed"], json!(["eth0", "a, b, c and 2 more"]));
    let networks = json!(["192.0.2.0/24", "2001:db8::/32", "192.0.2.0/24", "2001:db8:1::/48", "b.example"]);
    assert_eq!(functions["networks"], networks);
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}
