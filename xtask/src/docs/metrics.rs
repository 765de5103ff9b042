//! What lists metrics, made from `go-metro metrics`: Datadog's `metadata.csv` and the tables of the documentation.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use testing_support::workspace::{capture, root};

/// Where the tables stand, each between a marker with this name and [`END`].
const PAGES: [&str; 4] = ["docs/overview.md", "docs/outputs.md", "docs/otlp.md", "docs/status.md"];
/// The end of a table.
const END: &str = "<!-- end -->";

/// A metric, as go-metro-userspace/src/metrics/listing.rs has it.
#[derive(Deserialize)]
pub(super) struct Metric {
    pub(super) is_of_pair: bool,
    pub(super) dogstatsd: Option<String>,
    is_distribution: bool,
    pub(super) prometheus: Option<String>,
    pub(super) prometheus_type: String,
    otlp: Option<String>,
    otlp_type: String,
    otlp_unit: String,
    otlp_attributes: Vec<String>,
    status: Option<String>,
    pub(super) datadog_type: String,
    unit: String,
    is_bad: bool,
    pub(super) help: String,
    key: String,
    labels: Vec<String>,
}

/// Every metric.
pub(super) fn all(binary: &Path) -> Result<Vec<Metric>> {
    Ok(serde_json::from_str(&capture(Command::new(binary).arg("metrics"))?)?)
}

/// The files that list them.
pub(super) fn made(metrics: &[Metric]) -> Result<Vec<(&'static str, String)>> {
    let mut files = vec![("packaging/datadog/metadata.csv", metadata(metrics)?)];
    for path in PAGES {
        let page = fs::read_to_string(root().join(path))?;
        files.push((path, with_tables(&page, metrics).with_context(|| path.to_owned())?));
    }
    Ok(files)
}

/// A page with its tables made again.
fn with_tables(page: &str, metrics: &[Metric]) -> Result<String> {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("<!-- metrics of ") {
        let (marker, after) = after.split_once(" -->\n").context("a marker without an end")?;
        let (_, after) = after.split_once(END).with_context(|| format!("no `{END}` after `{marker}`"))?;
        let of = marker.split(',').next().unwrap_or_default();
        let rows = match of {
            "DogStatsD" => dogstatsd(metrics),
            "Prometheus" => prometheus(metrics),
            "OTLP" => otlp(metrics),
            "status" => status(metrics),
            other => anyhow::bail!("unknown list of metrics `{other}`"),
        };
        write!(text, "{before}<!-- metrics of {marker} -->\n{rows}{END}")?;
        rest = after;
    }
    Ok(text + rest)
}

impl Metric {
    /// What it means, and by what it is told apart.
    fn explained(&self) -> String {
        let values = if self.labels.len() == 2 { format!(": {}", self.labels.join(", ")) } else { String::new() };
        let by = if self.key.is_empty() { String::new() } else { format!(", by `{}`{values}", self.key) };
        format!("{}{by}", self.help)
    }
}

fn metadata(metrics: &[Metric]) -> Result<String> {
    let mut rows: Vec<[String; 11]> = Vec::new();
    for (name, metric) in metrics.iter().filter_map(|metric| Some((metric.dogstatsd.as_ref()?, metric))) {
        let explained = metric.explained();
        let description = match explained.split_at_checked(1).filter(|_| metric.is_distribution) {
            Some((first, rest)) => format!("Distribution: {}{rest}.", first.to_lowercase()),
            None => format!("{explained}."),
        };
        let short = name.trim_start_matches("go_metro.").trim_start_matches("system.net.");
        let curated = if metric.unit == "byte" { "memory" } else { "" };
        let pair = metric.is_of_pair.then_some("src,dst,iface");
        let keys = Some(metric.key.replace(' ', "")).filter(|key| !key.is_empty());
        let tags = pair.map(str::to_owned).into_iter().chain(keys).collect::<Vec<_>>().join(",");
        let orientation = if metric.is_bad { "-1" } else { "0" };
        let short = short.replace(['.', '_'], " ");
        let (kind, unit) = (&*metric.datadog_type, &*metric.unit);
        let row = [name, kind, "30", unit, "", &description, orientation, "go-metro", &short, curated, &tags];
        rows.push(row.map(str::to_owned));
    }
    rows.sort();
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record([
        "metric_name",
        "metric_type",
        "interval",
        "unit_name",
        "per_unit_name",
        "description",
        "orientation",
        "integration",
        "short_name",
        "curated_metric",
        "sample_tags",
    ])?;
    for row in rows {
        csv.write_record(row)?;
    }
    Ok(String::from_utf8(csv.into_inner()?)?)
}

fn dogstatsd(metrics: &[Metric]) -> String {
    let mut table = "\n| metric | type | unit | |\n|---|---|---|---|\n".to_owned();
    for (name, metric) in metrics.iter().filter_map(|metric| Some((metric.dogstatsd.as_ref()?, metric))) {
        let kind = if metric.is_distribution { "distribution" } else { &metric.datadog_type };
        let _ = writeln!(table, "| `{name}` | {kind} | {} | {} |", metric.unit, metric.explained());
    }
    table + "\n"
}

fn prometheus(metrics: &[Metric]) -> String {
    let mut table = "\n| metric | type | labels | |\n|---|---|---|---|\n".to_owned();
    for (name, metric) in metrics.iter().filter_map(|metric| Some((metric.prometheus.as_ref()?, metric))) {
        let keys = metric.key.split(", ").filter(|key| !key.is_empty()).map(|key| format!("`{key}`"));
        let keys: Vec<String> = metric.is_of_pair.then(|| "the pair's".to_owned()).into_iter().chain(keys).collect();
        let _ = writeln!(table, "| `{name}` | {} | {} | {} |", metric.prometheus_type, keys.join(", "), metric.help);
    }
    table + "\n"
}

fn otlp(metrics: &[Metric]) -> String {
    let mut table = "\n| metric | type | unit | attributes | |\n|---|---|---|---|---|\n".to_owned();
    for (name, metric) in metrics.iter().filter_map(|metric| Some((metric.otlp.as_ref()?, metric))) {
        let own = metric.otlp_attributes.iter().map(|key| format!("`{key}`"));
        let all: Vec<String> = metric.is_of_pair.then(|| "the pair's".to_owned()).into_iter().chain(own).collect();
        let Metric { otlp_type, otlp_unit, help, .. } = metric;
        let _ = writeln!(table, "| `{name}` | {otlp_type} | `{otlp_unit}` | {} | {help} |", all.join(", "));
    }
    table + "\n"
}

fn status(metrics: &[Metric]) -> String {
    let mut table = "\n| field | |\n|---|---|\n".to_owned();
    for (place, metric) in metrics.iter().filter_map(|metric| Some((metric.status.as_ref()?, metric))) {
        let place = match place.contains('.') {
            true => format!("`{place}`"),
            false => {
                let each: Vec<String> = metric.labels.iter().map(|label| format!("`{place}.{label}`")).collect();
                each.join(", ")
            }
        };
        let _ = writeln!(table, "| {place} | {} |", metric.explained());
    }
    table + "\n"
}
