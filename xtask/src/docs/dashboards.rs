//! Dashboards draw every number of the daemon's own: one that no panel draws yet gets a panel at the end, to be moved
//! where it belongs.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::metrics::Metric;

/// The end of both files: the last panel's, the list's, the document's.
const TAIL: &str = "\n    }\n  ]\n}\n";
/// Panels of a row, each a third of it.
const PER_ROW: usize = 3;

/// Grafana's dashboard with all that Prometheus is shown.
pub(super) fn grafana(text: &str, metrics: &[Metric]) -> Result<String> {
    let document: Value = serde_json::from_str(text)?;
    let panels: Vec<&Value> = document["panels"].as_array().context("no panels")?.iter().collect();
    let bottom = bottom(panels.iter().map(|panel| &panel["gridPos"]), "h");
    extended(text, &panels, metrics, |metric, id, at| {
        let name = metric.prometheus.as_deref()?;
        if text.contains(&format!("{name}{{")) {
            return None;
        }
        let counts = metric.prometheus_type == "counter";
        let expression = match counts {
            true => format!("sum by (instance) (rate({name}{{instance=~\"$instance\"}}[$__rate_interval]))"),
            false => format!("sum by (instance) ({name}{{instance=~\"$instance\"}})"),
        };
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        Some(json!({
            "id": id,
            "type": "timeseries",
            "title": if counts { format!("{}, per second", metric.help) } else { metric.help.clone() },
            "datasource": source,
            "gridPos": {"x": at % PER_ROW * 8, "y": bottom + at / PER_ROW * 8, "w": 8, "h": 8},
            "fieldConfig": {"defaults": {"unit": "short"}, "overrides": []},
            "targets": [{"refId": "A", "datasource": source, "expr": expression, "legendFormat": "{{instance}}"}],
        }))
    })
}

/// Datadog's dashboard with all that DogStatsD is sent.
pub(super) fn datadog(text: &str, metrics: &[Metric]) -> Result<String> {
    let document: Value = serde_json::from_str(text)?;
    let groups = document["widgets"].as_array().context("no widgets")?;
    let inner = groups.iter().filter_map(|group| group["definition"]["widgets"].as_array()).flatten();
    let bottom = bottom(groups.iter().map(|group| &group["layout"]), "height");
    extended(text, &groups.iter().chain(inner).collect::<Vec<_>>(), metrics, |metric, id, at| {
        let name = metric.dogstatsd.as_deref()?;
        if text.contains(&format!(":{name}{{")) {
            return None;
        }
        let end = if metric.datadog_type == "count" { ".as_count()" } else { "" };
        Some(json!({
            "id": id,
            "definition": {
                "title": metric.help,
                "type": "timeseries",
                "show_legend": true,
                "requests": [{
                    "response_format": "timeseries",
                    "queries": [{
                        "data_source": "metrics",
                        "name": "q1",
                        "query": format!("sum:{name}{{$host}} by {{host}}{end}"),
                    }],
                    "formulas": [{"formula": "q1"}],
                    "display_type": "line",
                }],
            },
            "layout": {"x": at % PER_ROW * 4, "y": bottom + at / PER_ROW * 3, "width": 4, "height": 3},
        }))
    })
}

/// The first free line below what is there.
fn bottom<'a>(places: impl Iterator<Item = &'a Value>, height: &str) -> usize {
    let end = |place: &Value| place["y"].as_u64().unwrap_or(0) + place[height].as_u64().unwrap_or(0);
    places.map(end).max().unwrap_or(0) as usize
}

/// A dashboard with a panel more for each metric that `panel` makes one of, given a free id and a place. What is there
/// stays as it is, down to the order of keys.
fn extended(
    text: &str,
    panels: &[&Value],
    metrics: &[Metric],
    panel: impl Fn(&Metric, u64, usize) -> Option<Value>,
) -> Result<String> {
    let last = panels.iter().filter_map(|panel| panel["id"].as_u64()).max().unwrap_or(0);
    let mut made = Vec::new();
    for metric in metrics.iter().filter(|metric| !metric.is_of_pair) {
        made.extend(panel(metric, last + 1 + made.len() as u64, made.len()));
    }
    let mut text = text.strip_suffix(TAIL).context("the file ends in another way")?.to_owned();
    for panel in made {
        let indented = serde_json::to_string_pretty(&panel)?.replace('\n', "\n    ");
        let inner = indented.strip_suffix("\n    }").context("a panel without fields")?;
        text += &format!("\n    }},\n    {inner}");
    }
    Ok(text + TAIL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "{\n  \"panels\": [\n    {\n      \"id\": 7,\n      \"z\": 0\n    }\n  ]\n}\n";

    fn counter(name: &str) -> Metric {
        serde_json::from_value(json!({
            "is_of_pair": false, "dogstatsd": format!("go_metro.{name}"), "is_distribution": false,
            "prometheus": format!("go_metro_{name}_total"), "prometheus_type": "counter", "otlp": null,
            "otlp_type": "sum", "otlp_unit": "{packet}", "otlp_attributes": [], "status": null,
            "datadog_type": "count", "unit": "packet", "is_bad": false, "help": "Packets", "key": "", "labels": [],
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_drawn_gets_a_panel_once_and_the_rest_stays() {
        let metrics = [counter("a"), counter("b")];
        let text = grafana(EMPTY, &metrics).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let ids: Vec<u64> = document["panels"].as_array().unwrap().iter().filter_map(|p| p["id"].as_u64()).collect();
        assert_eq!(ids, [7, 8, 9]);
        assert!(text.starts_with(EMPTY.strip_suffix(TAIL).unwrap()), "{text}");
        assert_eq!(grafana(&text, &metrics).unwrap(), text);

        let empty = EMPTY.replace("panels", "widgets");
        let text = datadog(&empty, &metrics).unwrap();
        assert!(text.contains("sum:go_metro.b{$host} by {host}.as_count()"), "{text}");
        assert_eq!(datadog(&text, &metrics).unwrap(), text);
    }
}
