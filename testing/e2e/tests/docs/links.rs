//! Links of the dashboards, from what is wrong with a pair to what to look at next: where they lead is there, and what
//! they take along is known.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::support::{declared, json, strings};

const GRAFANA: &str = "packaging/grafana/dashboard.json";
const DATADOG: &str = "packaging/datadog/assets/dashboards/go_metro.json";

/// Every object in a document that has this key.
fn with_key<'a>(document: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    match document {
        Value::Object(fields) => {
            found.extend(fields.contains_key(key).then_some(document));
            fields.values().for_each(|value| found.extend(with_key(value, key)));
        }
        Value::Array(values) => values.iter().for_each(|value| found.extend(with_key(value, key))),
        _ => {}
    }
    found
}

/// What stands between these two, wherever it does.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| Some(rest.split_once(end)?.0)).collect()
}

/// Labels that an expression's series have in the end: those of its outermost `by`, which comes first.
fn labels(expression: &str) -> BTreeSet<&str> {
    between(expression, " by (", ")").first().map(|all| all.split(", ").collect()).unwrap_or_default()
}

/// The variables that a text of Grafana's uses.
fn variables(text: &str) -> BTreeSet<String> {
    let names = text.split('$').skip(1).map(|rest| {
        let name = rest.trim_start_matches('{');
        name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    });
    // Those are Grafana's own.
    names.filter(|name| !name.starts_with("__")).collect()
}

/// What is wrong with a link of a panel of Grafana's.
fn faults(url: &str, panel: &Value, panels: &BTreeMap<u64, &Value>, dashboard: &Value) -> Vec<String> {
    let defined: BTreeSet<String> = strings(&dashboard["templating"], &["name"]).into_iter().collect();
    let expressions = |panel: &Value| strings(&panel["targets"], &["expr"]);
    let own = expressions(panel);
    let columns: BTreeMap<String, String> = with_key(panel, "renameByName")
        .iter()
        .flat_map(|organize| organize["renameByName"].as_object().unwrap())
        .map(|(field, column)| (column.as_str().unwrap().to_owned(), field.clone()))
        .collect();
    let has_label = |label: &str| own.iter().all(|expression| labels(expression).contains(label));
    let mut faults: Vec<String> =
        variables(url).into_iter().filter(|name| !defined.contains(name)).map(|name| format!("no ${name}")).collect();
    for label in between(url, "${__field.labels.", "}").into_iter().filter(|label| !has_label(label)) {
        faults.push(format!("its series have no {label}"));
    }
    for column in between(url, "${__data.fields[\"", "\"]}") {
        match columns.get(column) {
            Some(field) if own.iter().any(|expression| labels(expression).contains(field.as_str())) => {}
            _ => faults.push(format!("it has no column {column}")),
        }
    }
    let Some((path, query)) = url.split_once('?') else { return vec!["it keeps nothing".to_owned()] };
    if path != format!("/d/{}", dashboard["uid"].as_str().unwrap()) {
        faults.push(format!("no dashboard {path}"));
    }
    let parts: Vec<&str> = query.split('&').collect();
    let target = parts.iter().find_map(|part| part.strip_prefix("viewPanel="));
    let target = target.map(|id| id.parse().ok().and_then(|id: u64| panels.get(&id)));
    if target == Some(None) {
        faults.push("no such panel".to_owned());
    }
    for name in parts.iter().filter_map(|part| part.strip_prefix("var-")?.split_once('=')).map(|(name, _)| name) {
        if !defined.contains(name) {
            faults.push(format!("no variable {name}"));
        }
        // A panel that does not go by it would show all.
        if let Some(Some(panel)) = target
            && !expressions(panel).iter().all(|expression| expression.contains(&format!("\"${name}\"")))
        {
            faults.push(format!("it leads to a panel that does not go by ${name}"));
        }
    }
    faults
}

#[test]
fn every_link_of_grafanas_dashboard_leads_to_a_panel_that_shows_what_was_chosen() {
    let dashboard = json(GRAFANA);
    let all = dashboard["panels"].as_array().unwrap();
    let panels: BTreeMap<u64, &Value> =
        all.iter().filter(|panel| panel["type"] != "row").map(|panel| (panel["id"].as_u64().unwrap(), panel)).collect();
    let ids: BTreeSet<u64> = all.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "two panels have the same number");
    let defined: BTreeSet<String> = strings(&dashboard["templating"], &["name"]).into_iter().collect();
    for text in strings(&dashboard["panels"], &["expr", "title"]) {
        let used = variables(&text);
        assert!(used.is_subset(&defined), "{text} uses {used:?}, and there is {defined:?}");
    }

    let (mut problems, mut count) = (Vec::new(), 0);
    for panel in panels.values() {
        for url in strings(panel, &["url"]) {
            count += 1;
            let faults = faults(&url, panel, &panels, &dashboard);
            problems.extend(faults.iter().map(|fault| format!("{}: {fault}: {url}", panel["title"])));
        }
        // A column whose name is another in the end has no link.
        let columns: BTreeSet<String> =
            with_key(panel, "renameByName").iter().flat_map(|o| strings_of(&o["renameByName"])).collect();
        for matcher in with_key(panel, "matcher").iter().map(|over| &over["matcher"]) {
            let column = matcher["options"].as_str().unwrap();
            if !columns.contains(column) {
                problems.push(format!("{}: no column {column}", panel["title"]));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(count > 20, "{count}");

    // It would tell.
    let panel = panels.values().find(|panel| panel["title"] == "Worst pairs, most queueing first").unwrap();
    let good = strings(panel, &["url"]).into_iter().find(|url| url.contains("viewPanel=")).unwrap();
    for (part, other) in [
        ("/d/go-metro-rtt", "/d/other"),
        ("viewPanel=", "viewPanel=9999"),
        ("var-dst", "var-peer"),
        ("[\"Peer\"]", "[\"Far\"]"),
        ("${datasource:", "${source:"),
    ] {
        let broken = good.replace(part, other);
        assert!(broken != good && !faults(&broken, panel, &panels, &dashboard).is_empty(), "{broken}");
    }
}

/// The values of an object, as text.
fn strings_of(object: &Value) -> Vec<String> {
    object.as_object().unwrap().values().map(|value| value.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_link_of_datadogs_dashboard_leads_to_a_metric_by_tags_that_its_widget_has() {
    let metrics: BTreeSet<String> = declared().into_iter().filter_map(|metric| metric.dogstatsd).collect();
    let dashboard = json(DATADOG);
    let mut count = 0;
    for widget in with_key(&dashboard, "custom_links") {
        let queries = strings(widget, &["query"]);
        let by: BTreeSet<&str> =
            queries.iter().flat_map(|query| between(query, " by {", "}")).flat_map(|keys| keys.split(',')).collect();
        for link in strings(&widget["custom_links"], &["link"]) {
            count += 1;
            let (path, query) = link.split_once('?').unwrap();
            assert_eq!(path, "/metric/explorer", "{link}");
            let parts: BTreeMap<&str, &str> = query.split('&').filter_map(|part| part.split_once('=')).collect();
            assert!(metrics.contains(parts["exp_metric"]), "{link}");
            for scope in parts["exp_scope"].split(',') {
                let (key, value) = scope.split_once(':').unwrap();
                assert_eq!(value, format!("{{{{{key}.value}}}}"), "{link}");
                assert!(by.contains(key), "{}: its rows have no {key}: {link}", widget["title"]);
            }
        }
    }
    assert!(count > 15, "{count}");
    // A variable that is used is there, and one that is there is used.
    let defined: BTreeSet<String> = strings(&dashboard["template_variables"], &["name"]).into_iter().collect();
    let used: BTreeSet<String> =
        strings(&dashboard["widgets"], &["query", "q"]).iter().flat_map(|query| variables(query)).collect();
    assert_eq!(used, defined);
}
