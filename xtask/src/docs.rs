//! `cargo xtask docs`: the pages and files that say what the program says, made from it again.
//!
//! What says something of a configuration key comes from the program's declarations (`go-metro config reference`,
//! `schema`), what lists metrics from `go-metro metrics`, drawings from captures of the corpus. A test fails when what
//! is committed differs.

mod dashboards;
mod keys;
mod manual;
mod metrics;
mod plots;
mod reference;
mod sequence;
mod spec;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use testing_lab::agent::BINARY_VARIABLE;
use testing_support::workspace::{capture, root};
use testing_support::{daemon, setup};

/// Arguments of `docs`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// The schema of the Helm chart's values.
const VALUES_SCHEMA: &str = "packaging/helm/go-metro/values.schema.json";
/// The dashboards.
const GRAFANA: &str = "packaging/grafana/dashboard.json";
const DATADOG: &str = "packaging/datadog/assets/dashboards/go_metro.json";
/// The integration's directory.
const INTEGRATION: &str = "packaging/datadog";
/// Where an integration has its example.
const EXAMPLE: &str = "datadog_checks/go_metro/data/conf.yaml.example";

/// Writes them.
///
/// # Errors
///
/// Something cannot be built, made or written.
pub fn main(_args: &Args) -> Result<()> {
    let named = std::env::var_os(BINARY_VARIABLE).map(PathBuf::from);
    let binary = named.map_or_else(daemon::debug_binary, Ok)?;
    setup::for_dashboards()?;
    for (path, text) in made(&binary)? {
        let path = root().join(path);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    // Datadog's own tool writes an integration's example from its specification.
    let repository = integration()?;
    ddev(&repository, &["config", "go_metro", "--sync"])?;
    let example = root().join(INTEGRATION).join(EXAMPLE);
    fs::create_dir_all(example.parent().context("no folder")?)?;
    fs::copy(repository.path().join("go_metro").join(EXAMPLE), &example)?;
    println!("{}", example.display());
    Ok(())
}

/// Every file that is made from the program alone: its path in the repository, and its text.
///
/// # Errors
///
/// The program, tshark or a capture is not there.
pub fn made(binary: &std::path::Path) -> Result<Vec<(&'static str, String)>> {
    let config = |verb| capture(Command::new(binary).args(["config", verb]));
    let reference = keys::Reference::parse(&config("reference")?)?;
    let mut files = vec![
        (VALUES_SCHEMA, chart_schema(&config("schema")?)?),
        ("docs/configuration.md", reference::page(&reference)),
        ("packaging/man/go-metro-conf.5", manual::page(&reference)),
        ("docs/how-it-measures.svg", sequence::drawing(binary)?),
        ("packaging/datadog/assets/configuration/spec.yaml", spec::yaml(&reference)?),
        ("conf.yaml.example", reference.example),
    ];
    files.extend(plots::all(binary)?);
    let declared = metrics::all(binary)?;
    files.extend(metrics::made(&declared)?);
    let read = |path: &str| fs::read_to_string(root().join(path));
    files.push((GRAFANA, dashboards::grafana(&read(GRAFANA)?, &declared)?));
    files.push((DATADOG, dashboards::datadog(&read(DATADOG)?, &declared)?));
    Ok(files)
}

/// The schema of the chart's values, with the program's own for `config`.
fn chart_schema(program: &str) -> Result<String> {
    let mut values: Value = serde_json::from_str(&fs::read_to_string(root().join(VALUES_SCHEMA))?)?;
    let mut config: Value = serde_json::from_str(program)?;
    // One document has one dialect: the chart's, which the oldest Helm knows too. The keywords in use are the same.
    config.as_object_mut().context("the schema is not an object")?.remove("$schema");
    values["properties"]["config"] = config;
    Ok(serde_json::to_string_pretty(&values)? + "\n")
}

/// The integration's files, laid out as a repository of integrations.
///
/// # Errors
///
/// It cannot be laid out, or git is not there.
pub fn integration() -> Result<tempfile::TempDir> {
    let repository = tempfile::Builder::new().prefix("integrations-extras-").tempdir()?;
    let script = format!(
        "cp -r '{}' go_metro; git init -q .; mkdir .ddev; echo 'repo = \"extras\"' > .ddev/config.toml
         mkdir -p go_metro/datadog_checks/go_metro/data; echo \"__version__ = '0.1.0'\" > \
         go_metro/datadog_checks/go_metro/__about__.py
         printf '[project]\\nname = \"go_metro\"\\n' > go_metro/pyproject.toml
         git -c user.email=docs@example.com -c user.name=docs commit -q --allow-empty -m files",
        root().join(INTEGRATION).display()
    );
    capture(Command::new("sh").args(["-ec", &script]).current_dir(&repository))?;
    Ok(repository)
}

/// Has Datadog's tool for integrations validate something of such a repository; what it says.
///
/// # Errors
///
/// It refuses it; the error has what it says.
pub fn ddev(repository: &tempfile::TempDir, what: &[&str]) -> Result<String> {
    let program = setup::for_dashboards()?.join("ddev");
    let mut command = Command::new(program);
    command.args(["--here", "validate"]).args(what).current_dir(repository);
    // It keeps settings, and says on standard output what is wrong.
    command.env("HOME", repository.path()).env("XDG_CONFIG_HOME", repository.path());
    let said = testing_support::workspace::output(&mut command)?;
    let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    anyhow::ensure!(said.status.success(), "ddev validate {}: {text}", what.join(" "));
    Ok(text)
}
