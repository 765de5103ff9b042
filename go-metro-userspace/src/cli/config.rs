//! `go-metro config init`, `go-metro config schema`.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum as _};
use serde_json::Value;

use super::{Failure, discover, places};
use crate::config::{self, Answers, MetricName, key};
use crate::terminal::{self, Spelling};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write a commented configuration file, from flags or, on a terminal, from answers
    Init(InitArgs),
    /// Print a JSON schema of the configuration file, for editors and validators
    Schema,
    /// Print what the documentation is made from
    #[command(hide = true)]
    Reference,
}

#[derive(clap::Args)]
struct InitArgs {
    /// File to write; `-` for standard output
    #[arg(default_value = places::OURS)]
    file: PathBuf,
    /// Interface to watch [default: the default route's]; may be repeated
    #[arg(short, long, value_name = "NAME", add = super::shell::interfaces())]
    interface: Vec<String>,
    /// Remote address, prefix or host name [default: everything]; may be repeated
    #[arg(short, long, value_name = "TARGET")]
    target: Vec<String>,
    /// DogStatsD server: HOST, HOST:PORT or /PATH of a Unix socket
    #[arg(long, value_name = "SERVER")]
    statsd: Option<String>,
    #[arg(
        long,
        value_name = "ADDR:PORT",
        value_parser = config::parse_prometheus_listen,
        help = key::prometheus_listen.summary()
    )]
    prometheus_listen: Option<SocketAddr>,
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_enum, help = metrics_help())]
    metrics: Vec<MetricName>,
    /// Tag to add to every metric; may be repeated
    #[arg(long, value_name = "KEY:VALUE")]
    tag: Vec<String>,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
    /// Take the defaults without asking; needed without a terminal if no flag says what to write
    #[arg(short, long)]
    yes: bool,
}

/// What is counted only where it is named.
fn families() -> Vec<String> {
    let usual = MetricName::usual();
    let others = MetricName::all().into_iter().filter(|name| !usual.contains(name));
    others.filter_map(|name| Some(name.to_possible_value()?.get_name().to_owned())).collect()
}

fn metrics_help() -> String {
    format!("Metrics to report, such as default,health; {} are off unless named", families().join(", "))
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.verb {
        Verb::Init(args) => init(args),
        Verb::Schema => printed(&config::schema()),
        Verb::Reference => printed(&config::reference()),
    }
}

fn printed(document: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|error| Failure::running(&error))?;
    terminal::print(&(text + "\n"), Spelling::Text).map_err(|error| Failure::output(&error))
}

fn init(args: &InitArgs) -> Result<(), Failure> {
    let is_stdout = args.file.as_os_str() == "-";
    if !is_stdout && args.file.exists() && !args.force {
        return Err(Failure::usage(&format!("{} already exists; use --force to overwrite it", args.file.display())));
    }
    let mut interfaces = args.interface.clone();
    if interfaces.is_empty() {
        let found = discover::interface().map(|(name, _)| name);
        interfaces.push(found.map_err(|why| Failure::usage(&format!("{why}; name one with --interface")))?);
    }
    let (mut targets, mut tags, mut statsd) = (args.target.clone(), args.tag.clone(), args.statsd.clone());
    let mut scraped = args.prometheus_listen.map(|address| address.to_string());
    let name = |metric: &MetricName| Some(metric.to_possible_value()?.get_name().to_owned());
    let mut metrics: Vec<String> = args.metrics.iter().filter_map(name).collect();
    let says_nothing = args.interface.is_empty()
        && [&targets, &tags, &metrics].iter().all(|words| words.is_empty())
        && statsd.is_none()
        && scraped.is_none();
    let asks = says_nothing && !args.yes;
    if asks && !is_stdout && !io::stdin().is_terminal() {
        return Err(Failure::usage(&format!(
            "no terminal to ask on; use --yes to write {} with the defaults, flags such as --interface to set more, or \
             `-` instead of a file to print it",
            args.file.display()
        )));
    }
    if asks && io::stdin().is_terminal() {
        let asked = |error: io::Error| Failure::running(&error);
        interfaces = words(&ask("Interfaces to watch", &interfaces.join(" ")).map_err(asked)?);
        targets = words(&ask("Remote addresses, prefixes, host names", "everything").map_err(asked)?);
        targets.retain(|target| target != "everything");
        statsd = Some(ask("DogStatsD server", "127.0.0.1:8125").map_err(asked)?);
        scraped =
            Some(ask("Address for Prometheus to scrape", "none").map_err(asked)?).filter(|answer| answer != "none");
        let question = format!("What to measure besides round-trip times: {}", families().join(", "));
        metrics = words(&ask(&question, "none").map_err(asked)?);
        metrics.retain(|metric| metric != "none");
        if !metrics.is_empty() {
            metrics.insert(0, "default".to_owned());
        }
        tags = words(&ask("Tags of every metric, such as env:prod", "none").map_err(asked)?);
        tags.retain(|tag| tag != "none");
    }
    let mut settings = statsd.as_deref().map(server).unwrap_or_default();
    settings.extend(scraped.map(|address| (key::prometheus_listen.name, address.into())));
    settings.extend((!metrics.is_empty()).then(|| (key::metrics.name, metrics.into())));
    settings.extend((!tags.is_empty()).then(|| (key::tags.name, tags.into())));
    let answers = Answers { interfaces, targets, settings };
    let text = config::write(&answers).map_err(|error| Failure::usage(&error))?;
    if is_stdout {
        return terminal::print(&text, Spelling::Text).map_err(|error| Failure::output(&error));
    }
    let write = || {
        if let Some(folder) = args.file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        OpenOptions::new().write(true).create(true).truncate(true).open(&args.file)?.write_all(text.as_bytes())
    };
    write().map_err(|error| Failure::running(&format!("{}: {error}", args.file.display())))?;
    let file = args.file.display().to_string();
    terminal::complain(&format!("wrote {file}; next: go-metro check -c {file}\n"));
    Ok(())
}

/// The settings that name a DogStatsD server.
fn server(text: &str) -> Vec<(&'static str, Value)> {
    if text.starts_with('/') {
        return vec![(key::statsd_socket.name, text.into())];
    }
    let (host, port) = config::split_port(text);
    let number = |port: &str| port.parse::<u64>().map_or_else(|_| port.into(), Value::from);
    let port = port.map(|port| (key::statsd_port.name, number(port)));
    std::iter::once((key::statsd_ip.name, host.into())).chain(port).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The answer to a question, or what it is when there is none.
fn ask(question: &str, default: &str) -> io::Result<String> {
    terminal::complain(&format!("{question} [{default}]: "));
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer)? == 0 {
        terminal::complain("\n");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer; nothing was written"));
    }
    let answer = answer.trim();
    Ok(if answer.is_empty() { default.to_owned() } else { answer.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_a_host_and_port_or_a_path() {
        let port = |port: u16| ("statsd_port", port.into());
        assert_eq!(server("agent:9125"), [("statsd_ip", "agent".into()), port(9125)]);
        assert_eq!(server("::1"), [("statsd_ip", "::1".into())]);
        assert_eq!(server("[::1]:8125"), [("statsd_ip", "::1".into()), port(8125)]);
        assert_eq!(server("/run/dsd.socket"), [("statsd_socket", "/run/dsd.socket".into())]);
    }
}
