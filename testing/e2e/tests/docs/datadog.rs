//! The files for Datadog: dashboard, monitors, list of metrics, manifest; against what an agent really sends, and
//! against Datadog's tools.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use testing_lab::agent::run_once;
use testing_lab::statsd::{Listener, Metric};
use testing_lab::{Impairment, Lab, Link, Way};
use xtask::docs::{ddev, integration};

use super::support::{
    Declared, SOON, assert_same, close_and_reset, declared, file, fill_window, json, strings, talk_until, text,
    use_ecn, validated, with_everything,
};

const DASHBOARD: &str = "packaging/datadog/assets/dashboards/go_metro.json";
const MONITORS: [&str; 7] = [
    "rtt_above_normal",
    "loss_above_normal",
    "connects_refused",
    "connects_unanswered",
    "records_lost",
    "not_everything_seen",
    "no_reports",
];
/// Tags that come where a key of the configuration asks for them, which a test of its own holds against what is sent
/// (`e2e::processes`).
const OF_PROCESSES: [&str; 2] = ["unit", "container_id"];

/// A row of metadata.csv.
#[derive(serde::Deserialize)]
struct Row {
    metric_name: String,
    metric_type: String,
    unit_name: String,
    description: String,
    sample_tags: String,
}

fn metadata() -> Vec<Row> {
    let text = text("packaging/datadog/metadata.csv");
    csv::Reader::from_reader(text.as_bytes()).deserialize().collect::<Result<_, _>>().unwrap()
}

/// Everything that an agent sends, with every part of it turned on, over a path of 25 ms.
fn sent() -> Vec<Metric> {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(25));
    // So that something is sent again, and some of it needlessly.
    let delay = Impairment::delay(Duration::from_micros(12_500));
    lab.path().impair(Way::AToB, Impairment { loss: 0.02, duplicate: 0.02, mark: 0.1, ..delay });
    use_ecn(&lab);
    let server = Listener::udp(&lab.a, 8125).unwrap();
    let (agent, _folder) = with_everything(&lab, "sides: both, group_by: {port: service}");
    let wanted = declared().into_iter().filter_map(|metric| metric.dogstatsd);
    let wanted: Vec<String> = wanted.filter(|name| name.starts_with("system.")).collect();
    let start = Instant::now();
    talk_until(&lab, || {
        assert!(start.elapsed() < 2 * SOON, "not everything comes");
        close_and_reset(&lab);
        if !server.wait_for("system.net.tcp.peer.zero_window", Duration::from_millis(1)) {
            fill_window(&lab);
        }
        wanted.iter().all(|name| server.wait_for(name, Duration::from_millis(1)))
    });
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    server.metrics().unwrap()
}

/// A metric in a query, how it is aggregated over series, the keys that it is grouped by, and whether it is read as a
/// count.
#[derive(Debug)]
struct Query {
    metric: String,
    aggregator: String,
    by: Vec<String>,
    as_count: bool,
}

/// The metrics of a query: `p95:name{scope} by {keys}.as_count()`.
fn queries(text: &str) -> Vec<Query> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('{') {
        let head: String =
            text[..at].chars().rev().take_while(|c| c.is_ascii_alphanumeric() || ".:_".contains(*c)).collect();
        let head: String = head.chars().rev().collect();
        let Some((aggregator, metric)) = head.rsplit_once(':') else { continue };
        let rest = text[at..].split_once('}').map_or("", |(_, rest)| rest);
        let by = rest.strip_prefix(" by {").and_then(|rest| rest.split_once('}')).map_or("", |(by, _)| by);
        let tail = rest.strip_prefix(" by {").and_then(|rest| rest.split_once('}')).map_or(rest, |(_, tail)| tail);
        found.push(Query {
            metric: metric.to_owned(),
            aggregator: aggregator.rsplit(':').next().unwrap_or_default().to_owned(),
            by: by.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect(),
            as_count: tail.starts_with(".as_count()"),
        });
    }
    found
}

#[test]
fn queries_are_understood() {
    let found = queries("sum(last_15m):sum:go_metro.lost{*} by {host}.as_count() > 1000");
    assert_eq!(
        format!("{found:?}"),
        r#"[Query { metric: "go_metro.lost", aggregator: "sum", by: ["host"], as_count: true }]"#
    );
}

/// The two ways on which a name could be missed: one that is sent and not documented, and one that is documented and
/// not sent.
#[test]
fn every_metric_that_an_agent_sends_is_listed_and_drawn_and_no_other_with_its_type_unit_and_tags() {
    let sent = sent();
    let mut types = BTreeMap::<&str, BTreeSet<&str>>::new();
    let mut tags = BTreeMap::<&str, BTreeSet<String>>::new();
    for metric in &sent {
        types.entry(&metric.name).or_default().insert(&metric.kind);
        let keys = metric.tags.iter().filter_map(|tag| tag.split_once(':')).map(|(key, _)| key.to_owned());
        tags.entry(&metric.name).or_default().extend(keys);
    }
    let names: BTreeSet<String> = types.keys().map(|name| (*name).to_owned()).collect();

    let declared = declared();
    let sendable = declared.iter().filter_map(|metric| Some((metric.dogstatsd.clone()?, metric)));
    let sendable: BTreeMap<String, &Declared> = sendable.collect();
    assert_same("what an agent sends", &names, "the declarations", &sendable.keys().cloned().collect());
    for (name, metric) in &sendable {
        let kind = if metric.is_distribution { "d" } else { &metric.datadog_type[..1] };
        assert_eq!(types[name.as_str()], BTreeSet::from([kind]), "{name}");
    }

    let rows = metadata();
    let listed: BTreeSet<String> = rows.iter().map(|row| row.metric_name.clone()).collect();
    assert_same("what an agent sends", &names, "metadata.csv", &listed);
    for row in &rows {
        let name = row.metric_name.as_str();
        let expected = match types[name].iter().copied().collect::<Vec<_>>()[..] {
            ["g"] => "gauge",
            ["c"] => "count",
            // Datadog's list of types has no distribution.
            ["d"] if row.description.starts_with("Distribution: ") => "gauge",
            ref kinds => panic!("{name} is sent as {kinds:?}, and described as {:?}", row.description),
        };
        assert_eq!(row.metric_type, expected, "{name}");
        let values = || {
            sent.iter()
                .filter(|metric| metric.name == name && metric.tag("side") != Some("local"))
                .flat_map(|m| &m.values)
        };
        let may_be_less = [".jitter", ".queueing", ".host", ".response", ".zero_window"];
        let fits = |value: &f64| match (row.unit_name.as_str(), may_be_less.iter().any(|end| name.ends_with(end))) {
            // The path takes 25 ms, of which jitter is a small part; what is lost takes longer.
            ("millisecond", false) => (24.0..1000.0).contains(value),
            ("millisecond", true) => (0.0..1500.0).contains(value),
            ("byte", _) => *value > if name == "go_metro.memory" { 1e6 } else { 0.0 },
            ("device", _) => *value == 1.0,
            _ => value.fract() == 0.0 && *value >= 0.0,
        };
        assert!(values().all(fits), "{name} in {}: {:?}", row.unit_name, values().collect::<Vec<_>>());
        for key in row.sample_tags.split(',').filter(|key| !key.is_empty()) {
            assert!(tags[name].contains(key), "{name} has no tag {key}");
        }
    }

    let dashboard = json(DASHBOARD);
    let drawn: Vec<Query> = strings(&dashboard, &["query", "q"]).iter().flat_map(|text| queries(text)).collect();
    let shown: BTreeSet<String> = drawn.iter().map(|query| query.metric.clone()).collect();
    assert_same("what an agent sends", &names, "the dashboard", &shown);
    let watched = MONITORS.iter().flat_map(|name| {
        let monitor = json(&format!("packaging/datadog/assets/monitors/{name}.json"));
        queries(monitor["definition"]["query"].as_str().unwrap())
    });
    for query in drawn.into_iter().chain(watched) {
        let kind = types.get(query.metric.as_str()).unwrap_or_else(|| panic!("nobody sends {query:?}"));
        assert_eq!(query.as_count, kind.contains("c"), "{query:?} of {kind:?}");
        assert_eq!(
            query.aggregator.starts_with('p') || query.metric.ends_with(".dist"),
            kind.contains("d"),
            "{query:?}"
        );
        // `host` is the Agent's.
        let known = |key: &String| {
            key == "host" || OF_PROCESSES.contains(&key.as_str()) || tags[query.metric.as_str()].contains(key)
        };
        assert!(query.by.iter().all(known), "{query:?}: its tags are {:?}", tags[query.metric.as_str()]);
    }
    for variable in strings(&dashboard["template_variables"], &["prefix"]) {
        assert!(variable == "host" || tags["system.net.tcp.rtt"].contains(&variable), "no tag {variable}");
    }
}

#[test]
fn datadogs_own_client_knows_all_of_the_dashboard_and_the_monitors() {
    validated("datadog-dashboard", &file(DASHBOARD)).unwrap();
    let files = fs::read_dir(file("packaging/datadog/assets/monitors")).unwrap().count();
    assert_eq!(files, MONITORS.len());
    for name in MONITORS {
        validated("datadog-monitor", &file(&format!("packaging/datadog/assets/monitors/{name}.json"))).unwrap();
    }
    // It would tell.
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.json");
    fs::write(&broken, text(DASHBOARD).replace("\"toplist\"", "\"toplest\"")).unwrap();
    assert!(validated("datadog-dashboard", &broken).unwrap_err().contains("toplest"));
}

#[test]
fn datadogs_own_tool_accepts_the_files_as_an_integration() {
    let repository = integration().unwrap();
    for what in ["dashboards", "service-checks", "config"] {
        ddev(&repository, &[what, "go_metro"]).unwrap();
    }
    // The manifest has room for one prefix, the catalogue's; the daemon's own metrics have another.
    let complaints = || -> Vec<String> {
        let said = format!("{:#}", ddev(&repository, &["metadata", "go_metro"]).unwrap_err());
        said.lines().map(str::trim).filter(|line| line.starts_with("go_metro:")).map(str::to_owned).collect()
    };
    let usual = complaints();
    assert!(usual.len() == 1 && usual[0].starts_with("go_metro: `go_metro` appears "), "{usual:?}");
    // It would tell.
    for (file, what, good, bad) in [
        ("metadata.csv", "metadata", "millisecond", "miliseconds"),
        ("datadog_checks/go_metro/data/conf.yaml.example", "config", "# statsd_port: 8125", "# statsd_port: 8126"),
    ] {
        let path = repository.path().join("go_metro").join(file);
        let broken = fs::read_to_string(&path).unwrap().replace(good, bad);
        fs::write(&path, broken).unwrap();
        if what == "metadata" {
            assert!(complaints().len() > 1, "{what} says nothing of {bad}");
        } else {
            assert!(ddev(&repository, &[what, "go_metro"]).is_err(), "{what} says nothing of {bad}");
        }
    }
}

#[test]
fn the_integrations_example_is_a_configuration() {
    let example = file("packaging/datadog/datadog_checks/go_metro/data/conf.yaml.example");
    let checked = run_once(["check".as_ref(), "-c".as_ref(), example.as_os_str()]).unwrap();
    assert!(checked.stdout[0].starts_with("ok    configuration: "), "{checked:?}");
}

/// It is the integration that Datadog's catalogue has had since the original.
#[test]
fn the_manifest_has_the_identity_of_the_integration_in_the_catalogue() {
    let manifest = json("packaging/datadog/manifest.json");
    let integration = &manifest["assets"]["integration"];
    for (field, expected) in [
        (&manifest["manifest_version"], "2.0.0"),
        (&manifest["app_uuid"], "77c9906a-9579-4014-95c3-42b4536dc17d"),
        (&manifest["app_id"], "go-metro"),
        (&manifest["tile"]["title"], "Go-Metro"),
        (&integration["id"], "go-metro"),
        (&integration["source_type_name"], "Go-Metro"),
        (&integration["metrics"]["prefix"], "system."),
        (&integration["metrics"]["check"][0], "system.net.tcp.rtt"),
        (&integration["configuration"]["spec"], "assets/configuration/spec.yaml"),
    ] {
        assert_eq!(field, expected);
    }
    assert_eq!(integration["events"]["creates_events"], false);
    assert_eq!(json("packaging/datadog/assets/service_checks.json"), Value::Array(Vec::new()));
}

#[test]
fn the_manifest_names_files_that_are_there_and_metrics_that_are_listed() {
    let manifest = json("packaging/datadog/manifest.json");
    let assets = &manifest["assets"];
    let paths =
        [&assets["dashboards"], &assets["monitors"]].into_iter().flat_map(|group| group.as_object().unwrap().values());
    let paths = paths
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .chain(strings(&assets["integration"], &["metadata_path", "spec"]));
    let tile = ["overview", "configuration", "support", "changelog"]
        .map(|key| manifest["tile"][key].as_str().unwrap().to_owned());
    for path in paths.chain(tile) {
        let (path, heading) = path.split_once('#').unwrap_or((&path, ""));
        let text = text(&format!("packaging/datadog/{path}"));
        assert!(heading.is_empty() || text.contains(&format!("\n## {heading}\n")), "{path} has no {heading}");
    }
    let listed: Vec<String> = metadata().into_iter().map(|row| row.metric_name).collect();
    for metric in assets["integration"]["metrics"]["check"].as_array().unwrap() {
        assert!(listed.iter().any(|name| name == metric), "{metric} is not in metadata.csv");
    }
}
