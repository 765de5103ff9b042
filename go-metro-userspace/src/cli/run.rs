//! `go-metro run`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::{Failure, environment, places};
use crate::agent::{self, AgentOptions, Output, Overrides};
use crate::config::{Backend, Config};
use crate::logging;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Configuration file [default: /etc/go-metro/conf.yaml, then the original's places]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface to watch, instead of a configuration file; may be repeated
    #[arg(short, long, value_name = "NAME", conflicts_with = "config")]
    interface: Vec<String>,
    /// Remote address, prefix or host name to watch [default: everything]; may be repeated
    #[arg(short, long, value_name = "TARGET", requires = "interface")]
    target: Vec<String>,
    /// Where segments come from
    #[arg(long, value_enum)]
    backend: Option<BackendArg>,
    /// Where results go; several with commas [default: statsd with a file, else table]
    #[arg(short, long, value_enum, value_delimiter = ',')]
    output: Vec<OutputArg>,
    /// With `json`: a line for every sample too
    #[arg(long)]
    samples: bool,
    /// Seconds between reports [default: the file's, else 30 for statsd and 1 for table and json]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    interval: Option<Duration>,
    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Capture filter in libpcap's language, in addition to the targets; needs libpcap
    #[arg(short, long, value_name = "FILTER")]
    filter: Option<String>,
    /// Log to this file instead of the configured place
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum BackendArg {
    /// eBPF where it can be had, else libpcap
    Auto,
    /// eBPF or nothing
    Ebpf,
    /// libpcap or nothing
    Pcap,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputArg {
    /// DogStatsD, as the configuration says
    Statsd,
    /// JSON lines on standard output
    Json,
    /// A table on standard output: live on a terminal
    Table,
}

impl From<BackendArg> for Backend {
    fn from(arg: BackendArg) -> Self {
        match arg {
            BackendArg::Auto => Self::Auto,
            BackendArg::Ebpf => Self::Ebpf,
            BackendArg::Pcap => Self::Pcap,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (config, config_path) = configuration(args)?;
    let outputs = outputs(args, config_path.is_some());
    if args.samples && !outputs.iter().any(|output| matches!(output, Output::Json)) {
        return Err(Failure::usage(&"--samples needs --output json"));
    }
    let watched = outputs.iter().any(|output| *output != Output::Statsd);
    let overrides = Overrides {
        backend: args.backend.map(Backend::from),
        filter: args.filter.clone(),
        log_file: args.log_file.clone(),
        report_interval: args.interval.or((watched && config_path.is_none()).then_some(Duration::from_secs(1))),
    };
    let config = overrides.apply(config);
    logging::init(&config.log);
    if let Some(path) = &config_path {
        tracing::info!("configuration: {}", path.display());
    }
    let options =
        AgentOptions { config, config_path, overrides, outputs, samples: args.samples, duration: args.duration };
    agent::run(options).map_err(|error| Failure::running(&error))
}

/// The configuration, and its file if there is one.
fn configuration(args: &Args) -> Result<(Config, Option<PathBuf>), Failure> {
    if !args.interface.is_empty() {
        let config = Config::from_cli(&args.interface, &args.target, &environment);
        return config.map(|config| (config, None)).map_err(|error| Failure::usage(&error));
    }
    let Some(path) = args.config.clone().or_else(places::find) else {
        let what = format!("{}; name one with --config, or an interface with --interface", places::none_found());
        return Err(Failure::usage(&what));
    };
    let config = Config::load(&path, &environment).map_err(|error| Failure::usage(&error))?;
    Ok((config, Some(path)))
}

fn outputs(args: &Args, has_file: bool) -> Vec<Output> {
    let asked = match (args.output.as_slice(), has_file) {
        ([], true) => &[OutputArg::Statsd][..],
        ([], false) if args.samples => &[OutputArg::Json],
        ([], false) => &[OutputArg::Table],
        (asked, _) => asked,
    };
    let outputs = asked.iter().map(|output| match output {
        OutputArg::Statsd => Output::Statsd,
        OutputArg::Json => Output::Json,
        OutputArg::Table if std::io::stdout().is_terminal() => Output::LiveTable,
        OutputArg::Table => Output::PlainTable,
    });
    outputs.collect()
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    let whole = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if whole.is_zero() { Err("must be more than 0".to_owned()) } else { Ok(whole) }
}
