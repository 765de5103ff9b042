//! `go-metro run`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::{Failure, environment, places};
use crate::agent::{self, AgentOptions, Output, Overrides};
use crate::config::{Backend, Config, SidesWanted};
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
    /// Which round trips to measure [default: the file's, else remote]
    #[arg(long, value_enum)]
    sides: Option<SidesWanted>,
    /// Report the kernel's own RTT of this host's sockets too, to tell host delay from network delay
    #[arg(long)]
    kernel_rtt: bool,
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
        sides: args.sides,
        kernel_rtt: args.kernel_rtt,
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Result<Args, String> {
        let words = std::iter::once("run").chain(line.split_whitespace());
        Command::try_parse_from(words).map(|command| command.args).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_file_people_get_a_table_and_with_one_the_server_gets_metrics() {
        let of = |line: &str, has_file| outputs(&parsed(line).unwrap(), has_file);
        // Tests have a pipe for standard output, or a terminal.
        assert!(matches!(of("-i eth0", false)[..], [Output::PlainTable | Output::LiveTable]));
        assert_eq!(of("-c a", true), [Output::Statsd]);
        assert_eq!(of("-i eth0 --samples", false), [Output::Json]);
        assert_eq!(of("-i eth0 -o statsd,json", false), [Output::Statsd, Output::Json]);
        assert_eq!(of("-i eth0 -o statsd -o json", false), [Output::Statsd, Output::Json]);
    }

    #[test]
    fn repeated_interfaces_and_targets_make_a_configuration() {
        let args = parsed("-i eth0 -i eth1 -t 10.0.0.0/8 -t db.example").unwrap();
        let Ok((config, None)) = configuration(&args) else { panic!("a configuration without a file") };
        assert_eq!(config.instances.len(), 2);
        assert_eq!(config.instances[1].hosts, ["db.example"]);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, what) in [
            ("-c a -i eth0", "cannot be used with"),
            ("-t 10.0.0.1", "--interface"),
            ("-i eth0 --interval 0", "must be more than 0"),
            ("-i eth0 --duration soon", "`soon` is not a number of seconds"),
            ("-i eth0 --backend xdp", "[possible values: auto, ebpf, pcap]"),
        ] {
            let refused = parsed(line).err().unwrap_or_else(|| panic!("{line} was taken"));
            assert!(refused.contains(what), "{line}: {refused}");
        }
    }

    #[test]
    fn a_bad_target_or_file_is_the_users_mistake() {
        for line in ["-i eth0 -t 10.0.0.300", "-c /nowhere/conf.yaml"] {
            let failure = configuration(&parsed(line).unwrap()).unwrap_err();
            assert_eq!(failure.code, super::super::USAGE, "{line}: {}", failure.message);
        }
    }
}
