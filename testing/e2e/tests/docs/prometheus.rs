//! Grafana's dashboard and Prometheus's rules: read by Prometheus itself, with figures that an agent really exposes.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use testing_lab::prometheus::Prometheus;
use testing_lab::{Lab, Link};
use testing_support::workspace::{capture, root};

use super::support::{SOON, assert_same, declared, file, json, strings, talk_until, text, validated, with_everything};

const DASHBOARD: &str = "packaging/grafana/dashboard.json";
const RULES: &str = "packaging/prometheus/rules.yaml";

/// An expression of the dashboard as Grafana would send it: everything chosen.
fn substituted(expression: &str) -> String {
    let expression = expression.replace("$__rate_interval", "10s");
    ["$instance", "$src", "$dst", "$iface", "$port"].iter().fold(expression, |text, name| text.replace(name, ".*"))
}

/// The names of ours that an expression reads; without those that the rules record (`go_metro:...`).
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
    words.filter(|word| word.starts_with("go_metro_")).map(str::to_owned).collect()
}

/// The series that a page of metrics has, by the names that expressions use.
fn exposed(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let series = types.flat_map(|(name, kind)| match kind {
        "histogram" => ["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")).to_vec(),
        _ => vec![name.to_owned()],
    });
    series.collect()
}

#[test]
fn every_expression_of_dashboard_and_rules_gives_figures_and_every_metric_is_drawn() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(25));
    let folder = tempfile::tempdir().unwrap();
    let (agent, _conf) = with_everything(&lab, "prometheus_listen: '127.0.0.1:9464', group_by: {port: service}");
    let prometheus = Prometheus::start(&lab.a, folder.path(), 9464, Some(&file(RULES))).unwrap();

    let dashboard = json(DASHBOARD);
    let mut expressions: Vec<String> =
        strings(&dashboard["panels"], &["expr"]).iter().map(|text| substituted(text)).collect();
    assert!(expressions.len() > 30, "{expressions:?}");
    // A variable's query is `label_values(selector, label)`: the selector must have that label.
    for query in strings(&dashboard["templating"], &["query"]).iter().filter(|query| query.contains('(')) {
        let (selector, label) = query
            .strip_prefix("label_values(")
            .and_then(|q| q.strip_suffix(')'))
            .and_then(|q| q.rsplit_once(", "))
            .unwrap();
        expressions.push(substituted(&format!("count by ({label}) ({selector}) and on ({label}) {selector}")));
    }
    let page = || capture(lab.a.namespace.command("curl").args(["--silent", "http://127.0.0.1:9464/metrics"])).unwrap();
    let rules = || prometheus.api("/api/v1/rules").unwrap();

    // What the dashboard draws is all that there is.
    let start = Instant::now();
    let mut missing = expressions.clone();
    talk_until(&lab, || {
        missing.retain(|expression| prometheus.value(expression, Duration::ZERO).is_err());
        assert!(start.elapsed() < 3 * SOON, "no figures for {missing:#?}");
        missing.is_empty()
    });
    let page = page();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect();
    let declared = declared().into_iter().filter_map(|metric| {
        // The older text format has no type for it.
        let kind = metric.prometheus_type.replace("info", "gauge");
        Some(format!("{} {kind}", metric.prometheus?))
    });
    assert_same("the page of metrics", &types, "the declarations", &declared.collect());
    // Samples, sums and counts of a histogram are each for who wants them; a dashboard need not draw all three.
    let optional =
        |name: &str| name.starts_with("go_metro_tcp_") && (name.ends_with("_sum") || name.ends_with("_count"));
    let kept = |names: BTreeSet<String>| names.into_iter().filter(|name| !optional(name)).collect::<BTreeSet<_>>();
    let drawn = expressions.iter().flat_map(|expression| names(expression)).collect();
    assert_same("the page of metrics", &kept(exposed(&page)), "the dashboard", &kept(drawn));

    // Prometheus evaluates each rule, and what they read is there.
    let state = rules();
    let each: Vec<_> = state["data"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert_eq!(each.len(), text(RULES).matches(" expr:").count());
    for rule in each {
        assert_eq!(rule["health"], "ok", "{rule}");
        let query = rule["query"].as_str().unwrap();
        for name in names(query) {
            assert!(exposed(&page).contains(&name), "{name} of {query} is not exposed");
        }
        if rule["type"] == "recording" {
            let name = rule["name"].as_str().unwrap();
            prometheus.value(name, SOON).unwrap();
        }
    }

    // Prometheus notices when the agent is gone.
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    prometheus.value("ALERTS{alertname=\"GoMetroDown\"}", SOON).unwrap();
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    let said =
        capture(Command::new("promtool").args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(file(RULES)))
            .unwrap();
    let count = text(RULES).matches(" expr:").count();
    assert!(said.contains(&format!("{count} rules found")), "{said}");
    let tests = "packaging/prometheus/rules.test.yaml";
    capture(Command::new("promtool").args(["test", "rules"]).arg(file(tests))).unwrap();
    let rules = text(RULES);
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(text(tests).contains(alert), "no test of {alert}");
    }
    let known = ["slow", "lossy", "refusing", "blind", "agent"].map(|symptom| format!("symptom: {symptom}}}"));
    for line in rules.lines().filter(|line| line.contains("labels: {severity:")) {
        assert!(known.iter().any(|symptom| line.ends_with(symptom)), "{line}");
    }
    // It would tell.
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("rules.yaml"),
        rules.replace("up{job=\"go-metro\"} == 0", "up{job=\"go-metro\"} == 2"),
    )
    .unwrap();
    fs::copy(file(tests), folder.path().join("rules.test.yaml")).unwrap();
    let broken = capture(Command::new("promtool").args(["test", "rules"]).arg(folder.path().join("rules.test.yaml")));
    assert!(format!("{:#}", broken.unwrap_err()).contains("GoMetroDown"));
}

#[test]
fn grafanas_own_code_knows_all_of_the_dashboard() {
    validated("grafana", &root().join(DASHBOARD)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.json");
    fs::write(&broken, text(DASHBOARD).replace("\"reduceOptions\"", "\"reduceOption\"")).unwrap();
    assert!(validated("grafana", &broken).unwrap_err().contains("reduceOption"));
}
