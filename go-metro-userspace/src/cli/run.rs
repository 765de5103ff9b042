//! `go-metro run`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use go_metro_rtt::{Ports, parse_ports};

use super::groups::{self, GroupArgs};
use super::{Failure, discover, environment, places};
use crate::config::{
    self, Backend, Config, Environment, Output, SidesWanted, key, parse_prometheus_listen, parse_web_listen,
};
use crate::daemon::{self, DaemonOptions, Overrides};
use crate::logging;
use crate::signals::Held;
use crate::status::{beside, client};
use crate::terminal;
#[cfg(feature = "top")]
use crate::top;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Configuration file [default: /etc/go-metro/conf.yaml, then the original go-metro's paths]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface to watch, instead of a configuration file [default without a file: the default route's]; may be
    /// repeated
    #[arg(
        short,
        long,
        aliases = ["iface", "device"],
        value_name = "NAME",
        conflicts_with = "config",
        add = super::shell::interfaces()
    )]
    interface: Vec<String>,
    /// Remote address, prefix or host name to watch [default: everything]; may be repeated
    #[arg(short, long, value_name = "TARGET", conflicts_with = "config")]
    target: Vec<String>,
    #[arg(long, value_enum, help = key::backend.help())]
    backend: Option<Backend>,
    /// Where results go; separate several with commas [default: statsd with a file, else table]
    #[arg(short, long, value_enum, value_delimiter = ',')]
    output: Vec<Output>,
    /// The same as `--output json`
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Show addresses; do not look up the names of peers
    #[arg(short = 'n', long)]
    no_names: bool,
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = parse_ports, help = ports_help())]
    port: Vec<(u16, u16)>,
    /// With `json`: also print a line for every sample
    #[arg(long)]
    samples: bool,
    #[arg(long, value_name = "TIME", value_parser = config::parse_interval, help = interval_help())]
    interval: Option<Duration>,
    /// Stop after this time: seconds, or a number with a unit such as 10s, 5m or 1h
    #[arg(long, value_name = "TIME", value_parser = config::parse_time)]
    duration: Option<Duration>,
    #[arg(long, value_enum, help = key::sides.help())]
    sides: Option<SidesWanted>,
    #[arg(long, help = key::kernel_rtt.summary())]
    kernel_rtt: bool,
    /// Also report the health of connections, such as retransmissions and failures, as `metrics: [default, health]`
    /// does
    #[arg(long)]
    health: bool,
    /// Also report how long the other end takes to respond, as `metrics: [default, response]` does; with --kernel-rtt
    /// also what this host adds
    #[arg(long)]
    response: bool,
    #[command(flatten)]
    groups: GroupArgs,
    #[arg(short, long, value_name = "FILTER", help = key::filter.summary())]
    filter: Option<String>,
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_prometheus_listen, help = prometheus_help())]
    prometheus_listen: Option<SocketAddr>,
    #[arg(long, value_name = "ADDR:PORT|off", value_parser = parse_web_listen, help = key::web_listen.summary())]
    web_listen: Option<WebListen>,
    #[arg(long, value_name = "PATH|off", value_parser = config::parse_status_socket, help = key::status_socket.help())]
    status_socket: Option<StatusSocket>,
    /// Log to this file instead of where the configuration says
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

/// A path, or none for `off`; clap takes a bare `Option` for one that may be absent.
type StatusSocket = Option<PathBuf>;
/// The same of an address.
type WebListen = Option<SocketAddr>;

fn ports_help() -> String {
    format!("{}; separate several with commas", key::ports.summary())
}

/// What people watch is reported so often where no file says otherwise.
const WATCHED_INTERVAL: Duration = Duration::from_secs(1);

fn interval_help() -> String {
    let (usual, watched) = (key::report_interval.shown(), WATCHED_INTERVAL.as_secs());
    let summary = key::report_interval.summary();
    let seconds = Output::listed(Output::is_watched, "and");
    let others = Output::listed(|output| !output.is_watched(), "and");
    format!("{summary} [default: from the file, else {usual} for {others} and {watched} for {seconds}]")
}

fn prometheus_help() -> String {
    let address = key::prometheus_listen.shown();
    let address = address.as_str().unwrap_or_default();
    format!("{} [default with `-o prometheus`: from the file, else {address}]", key::prometheus_listen.summary())
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (config, config_path, found) = configuration(args)?;
    let asked = asked_outputs(args, config_path.is_some());
    let left = left_to_the_daemon(args, asked.as_deref(), &config);
    let unrecorded = left.as_ref().filter(|_| config.record.makes_files()).map(|why| {
        let folder = config.record.folder.display();
        format!("`record` is left to the daemon, and this run writes no recordings of outliers to {folder}: {why}")
    });
    let mut overrides = Overrides {
        backend: args.backend,
        filter: args.filter.clone(),
        sides: args.sides,
        kernel_rtt: args.kernel_rtt,
        health: args.health,
        responses: args.response,
        prometheus_listen: args.prometheus_listen,
        web_listen: args.web_listen,
        status_socket: args.status_socket.clone(),
        log_file: args.log_file.clone(),
        ports: ports(&args.port)?,
        without_names: args.no_names,
        outputs: asked,
        report_interval: args.interval,
        group_by: groups::wanted(&args.groups)?,
        without_recordings: left.is_some(),
    };
    let outputs = overrides.outputs_of(&config);
    if outputs.iter().enumerate().any(|(index, output)| outputs[..index].contains(output)) {
        return Err(Failure::usage(&"--output names an output twice; each report would be sent twice"));
    }
    let is_on_stdout = |output: Output| output.is_on_stdout() && outputs.contains(&output);
    if outputs.iter().filter(|output| is_on_stdout(**output)).count() > 1 {
        return Err(Failure::usage(&format!(
            "--output: {} would be mixed on standard output; choose one, and run `go-metro top` or `go-metro status` \
             in another terminal",
            Output::listed(is_on_stdout, "and")
        )));
    }
    if args.samples && !outputs.iter().any(|output| output.takes_samples()) {
        return Err(Failure::usage(&format!(
            "--samples needs --output {}",
            Output::listed(Output::takes_samples, "or")
        )));
    }
    if outputs.iter().any(|output| output.is_watched()) && config_path.is_none() {
        overrides.report_interval.get_or_insert(WATCHED_INTERVAL);
    }
    let config = overrides.apply(config);
    if let Some(socket) = outputs.iter().any(|output| output.is_added_up()).then(|| beside::reporter(&config)).flatten()
    {
        #[cfg(feature = "top")]
        if args.is_bare() && terminal::is_screen() {
            // Its results are being reported: who only looks needs no second capture.
            let columns = if args.health { top::Columns::Health } else { top::Columns::Times };
            return top::run(top::From::Daemon(socket), args.no_names, columns)
                .map_err(|error| Failure::running(&error));
        }
        return Err(twice(&socket));
    }
    // Who reads the first line may take it for a daemon that stops when asked.
    let held = Held::new();
    logging::init(&config);
    if let Some(path) = &config_path {
        tracing::info!("configuration: {}", path.display());
    }
    if let Some(found) = found {
        tracing::info!("{found}");
    }
    config::not_utf8(|name| std::env::var_os(name)).iter().for_each(|wrong| tracing::warn!("{wrong}"));
    logging::doubts(&config, None);
    if let Some(unrecorded) = unrecorded {
        tracing::warn!("{unrecorded}");
    }
    if let (None, Some(path)) = (&args.config, &config_path)
        && let Some(passed_over) = places::passed_over(path, &places::find().1)
    {
        tracing::warn!("{passed_over}");
    }
    let options =
        DaemonOptions { config, config_path, overrides, samples: args.samples, watcher: None, duration: args.duration };
    daemon::run(options, held).map_err(|error| Failure::running(&error))
}

/// The configuration, its file if there is one, and a line on what was found out because no option set it.
fn configuration(args: &Args) -> Result<(Config, Option<PathBuf>, Option<String>), Failure> {
    let named = !args.interface.is_empty() || !args.target.is_empty();
    if let Some(path) = args.config.clone().or_else(|| if named { None } else { places::find().0 }) {
        let config = Config::load(&path, &environment).map_err(|error| Failure::usage(&error))?;
        return Ok((config, Some(path), None));
    }
    let (config, found) = adhoc(&args.interface, &args.target, &environment)?;
    let found = found.map(|found| if named { found } else { format!("{}; {found}", places::none_found()) });
    Ok((config, None, found))
}

/// A configuration without a file; and what was found out where no interface was named.
pub(super) fn adhoc(
    interfaces: &[String],
    targets: &[String],
    environment: Environment<'_>,
) -> Result<(Config, Option<String>), Failure> {
    let config = |interfaces: &[String]| {
        Config::from_cli(interfaces, targets, environment).map_err(|error| Failure::usage(&error))
    };
    if !interfaces.is_empty() {
        return Ok((config(interfaces)?, None));
    }
    let (interface, why) = discover::interface().map_err(|why| {
        Failure::usage(&format!("{why}; name an interface with --interface, or a configuration file with --config"))
    })?;
    let peers = if targets.is_empty() { "every TCP peer".to_owned() } else { targets.join(", ") };
    let found = format!("watching {peers} on {interface}, {why}");
    Ok((config(&[interface])?, Some(found)))
}

/// Where results go as the command line asks, or for people where there is no file that says it.
fn asked_outputs(args: &Args, has_file: bool) -> Option<Vec<Output>> {
    match args.output.as_slice() {
        _ if args.json => Some(vec![Output::Json]),
        [] if has_file => None,
        [] if args.samples => Some(vec![Output::Json]),
        [] => Some(vec![Output::Table]),
        asked => Some(asked.to_vec()),
    }
}

/// Why outliers are not recorded, and what to do about it, if this is a run for a moment or beside the daemon: files of
/// two in one folder would make room for each other.
fn left_to_the_daemon(args: &Args, asked: Option<&[Output]>, config: &Config) -> Option<String> {
    if args.duration.is_some() {
        return Some("it ends after --duration; to record, leave that out".to_owned());
    }
    if asked.is_some_and(|outputs| outputs.iter().all(|output| output.is_on_stdout())) {
        let what = "its results go to standard output alone; to record, let `outputs` of the file say where they go";
        return Some(what.to_owned());
    }
    let socket = config.status_socket.as_ref().filter(|socket| client::process(socket).is_ok())?;
    Some(format!(
        "a daemon answers at {}; to record here too, use a file with `status_socket` and `record.folder` of its own",
        socket.display()
    ))
}

/// The ports of the command line; none if it names none.
pub(super) fn ports(ranges: &[(u16, u16)]) -> Result<Option<Ports>, Failure> {
    let ports = Ports::new(ranges)
        .ok_or_else(|| Failure::usage(&format!("--port takes at most {} ports or ranges", Ports::MOST)))?;
    Ok(Some(ports).filter(|ports| !ports.is_empty()))
}

/// Why a second daemon does not start.
fn twice(socket: &Path) -> Failure {
    Failure::running(&format!(
        "a daemon at {} already reports to the same DogStatsD server, so what both see would count twice. To watch it, \
         run `go-metro top`; to see a table here, add `-o table`; to run a second daemon on purpose, give it its own \
         `--status-socket`, or `off`",
        socket.display()
    ))
}

impl Args {
    /// Whether nothing was asked for.
    fn is_bare(&self) -> bool {
        let names_nothing = self.config.is_none() && self.interface.is_empty() && self.target.is_empty();
        let wants_no_port = self.prometheus_listen.is_none() && self.web_listen.is_none();
        let wants_no_output = self.output.is_empty() && !self.json && !self.samples && wants_no_port;
        let is_as_configured = self.backend.is_none()
            && self.sides.is_none()
            && self.filter.is_none()
            && self.port.is_empty()
            && self.groups.is_empty();
        let takes_its_time = self.interval.is_none() && self.duration.is_none();
        names_nothing && wants_no_output && is_as_configured && takes_its_time && self.log_file.is_none()
    }
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
        let file = Config::from_cli(&["eth0".to_owned()], &[], &|_| None).unwrap();
        let of = |line: &str, has_file: bool| {
            let args = parsed(line).unwrap();
            let outputs = asked_outputs(&args, has_file);
            let prometheus_listen = args.prometheus_listen;
            Overrides { outputs, prometheus_listen, ..Overrides::default() }.outputs_of(&file)
        };
        // Tests have a pipe for standard output, or a terminal.
        assert_eq!(of("-i eth0", false), [Output::Table]);
        assert_eq!(of("-c a", true), [Output::Statsd]);
        assert_eq!(of("-i eth0 --samples", false), [Output::Json]);
        assert_eq!(of("-i eth0 -o statsd,json", false), [Output::Statsd, Output::Json]);
        assert_eq!(of("-i eth0 -o statsd -o json", false), [Output::Statsd, Output::Json]);
        assert_eq!(of("-c a --prometheus-listen [::1]:9464", true), [Output::Statsd, Output::Prometheus]);
    }

    #[test]
    fn recordings_are_left_to_the_daemon_by_a_run_for_a_moment_for_who_looks_or_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let text = format!(
            "init_config: {{status_socket: {}}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n",
            socket.display()
        );
        let file = Config::parse(&text, Path::new("c"), &|_| None).unwrap();
        let why = |line: &str| {
            let args = parsed(line).unwrap();
            left_to_the_daemon(&args, asked_outputs(&args, true).as_deref(), &file).unwrap_or_default()
        };
        for daemon in ["-c a", "-c a -o statsd", "-c a -o statsd,json", "-c a --samples", "-c a --status-socket off"] {
            assert_eq!(why(daemon), "", "{daemon}");
        }
        for watched in ["-c a -o table", "-c a --json", "-c a -o json --samples"] {
            assert!(why(watched).contains("standard output alone"), "{watched}");
        }
        assert!(why("-c a -o statsd --duration 5").contains("leave that out"));
        let _daemon = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for beside in ["-c a", "-c a --status-socket off"] {
            assert!(why(beside).contains(&format!("a daemon answers at {}", socket.display())), "{beside}");
        }
    }

    #[test]
    fn times_have_units_and_ports_ranges() {
        let args = parsed("-i eth0 --interval 500ms --duration 5m --port 443,8000-8010 -n --json").unwrap();
        assert_eq!((args.interval, args.duration), (Some(Duration::from_millis(500)), Some(Duration::from_secs(300))));
        assert_eq!(args.port, [(443, 443), (8000, 8010)]);
        assert_eq!(asked_outputs(&args, false), Some(vec![Output::Json]));
        assert!(parsed("").unwrap().is_bare() && !args.is_bare());
    }

    #[test]
    fn the_page_can_be_moved_and_turned_off() {
        let web = |line: &str| parsed(line).unwrap().web_listen;
        assert_eq!((web("-c a"), web("-c a --web-listen off")), (None, Some(None)));
        assert_eq!(web("-c a --web-listen [::1]:80"), Some(Some("[::1]:80".parse().unwrap())));
    }

    #[test]
    fn repeated_interfaces_and_targets_make_a_configuration() {
        let args = parsed("-i eth0 -i eth1 -t 10.0.0.0/8 -t db.example").unwrap();
        let Ok((config, None, None)) = configuration(&args) else { panic!("a configuration without a file") };
        assert_eq!(config.instances.len(), 2);
        assert_eq!(config.instances[1].hosts, ["db.example"]);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, what) in [
            ("-c a -i eth0", "cannot be used with"),
            ("-c a -t 10.0.0.1", "cannot be used with"),
            ("-i eth0 --interval 0", "0 s is too short; the smallest is 0.1 s"),
            ("-i eth0 --interval 20ms", "0.02 s is too short; the smallest is 0.1 s"),
            ("-i eth0 --duration soon", "expected seconds, or a time such as 500ms, 10s, 5m, 1h or 1d, found `soon`"),
            ("-i eth0 --port http", "`http` is neither a port such as 443 nor a range such as 8000-8010"),
            ("-i eth0 --json -o table", "cannot be used with"),
            ("-i eth0 --web-listen 9465", "`9465` has no address; write 127.0.0.1:9465 for programs on this host"),
            ("-i eth0 --web-listen localhost", "`localhost` is not an address with a port such as 127.0.0.1:9465"),
            ("-i eth0 --web-listen never", "`never` is not an address with a port such as 127.0.0.1:9465"),
            (
                "-i eth0 --prometheus-listen localhost",
                "`localhost` is not an address with a port such as 127.0.0.1:9464",
            ),
            (
                "-i eth0 --prometheus-listen :9464",
                "`:9464` has no address; write 127.0.0.1:9464 for programs on this host",
            ),
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
