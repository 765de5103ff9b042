//! `go-metro top`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use go_metro_rtt::parse_ports;

use super::groups::{self, GroupArgs};
use super::run::{adhoc, ports};
use super::{Failure, environment};
use crate::config::{self, Backend, SidesWanted, key};
#[cfg(feature = "web")]
use crate::daemon::{DaemonError, FollowError, show_followed};
use crate::daemon::{DaemonOptions, Overrides};
use crate::logging;
use crate::signals::Held;
use crate::status::client::{self, AskError};
use crate::terminal::{self, Spelling};
use crate::top::{self, Columns, From};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Interface to capture on, even if a daemon runs [default: what the daemon sees, else the default route's]; may be
    /// repeated
    #[arg(short, long, value_name = "NAME", add = super::shell::interfaces())]
    interface: Vec<String>,
    /// Remote address, prefix or host name to watch [default: everything]; may be repeated
    #[arg(short, long, value_name = "TARGET")]
    target: Vec<String>,
    #[arg(long, value_enum, help = key::backend.summary())]
    backend: Option<Backend>,
    #[arg(long, value_enum, help = key::sides.summary())]
    sides: Option<SidesWanted>,
    /// Show addresses; do not look up the names of peers
    #[arg(short = 'n', long)]
    no_names: bool,
    /// Show the health of connections, such as retransmissions and failures, instead of round-trip times; the key m
    /// switches
    #[arg(long)]
    health: bool,
    /// Measure only connections with this port, or range of ports, at either end, in a capture of its own; separate
    /// several with commas
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = parse_ports)]
    port: Vec<(u16, u16)>,
    #[command(flatten)]
    groups: GroupArgs,
    #[arg(short, long, value_name = "PATH", help = socket_help())]
    socket: Option<PathBuf>,
    /// Show it in a browser instead: serve the page at this address until Ctrl-C [default: where the daemon serves it,
    /// else 127.0.0.1:9465]
    #[cfg(feature = "web")]
    #[arg(
        long,
        value_name = "ADDR:PORT",
        num_args = 0..=1,
        value_parser = config::parse_web_address,
        conflicts_with = "health"
    )]
    web: Option<Option<SocketAddr>>,
}

fn socket_help() -> String {
    format!("The Unix socket of the daemon to follow [default: {}, if one answers there]", config::STATUS_SOCKET)
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    #[cfg(feature = "web")]
    if let Some(address) = args.web {
        return in_browser(args, address);
    }
    if !terminal::is_stdout() {
        return Err(Failure::usage(
            &"top needs a terminal, and standard output is not one; use `run --output table` to print lines",
        ));
    }
    if terminal::is_dumb() {
        return Err(Failure::usage(
            &"top needs escape sequences, which this terminal does not support (TERM=dumb); use `run --output table` \
              to print lines",
        ));
    }
    let from = match daemon(args)? {
        Some(socket) => From::Daemon(socket),
        None => From::Own(Box::new(own(args, None)?)),
    };
    let columns = if args.health { Columns::Health } else { Columns::Times };
    top::run(from, args.no_names, columns).map_err(|error| Failure::running(&error))
}

/// The daemon to follow, if one answers and nothing else was asked for.
fn daemon(args: &Args) -> Result<Option<PathBuf>, Failure> {
    let wants_own = !(args.interface.is_empty() && args.target.is_empty() && args.port.is_empty())
        || args.backend.is_some()
        || args.sides.is_some()
        || !args.groups.is_empty();
    if wants_own {
        return match &args.socket {
            Some(_) => Err(Failure::usage(
                &"--socket follows a daemon, which captures what its configuration says; leave out --socket, or the \
                  options that choose what to capture",
            )),
            None => Ok(None),
        };
    }
    let socket = args.socket.clone().unwrap_or_else(|| config::STATUS_SOCKET.into());
    match client::status(&socket) {
        Ok(_) => Ok(Some(socket)),
        Err(AskError::NotRunning { .. }) if args.socket.is_none() => Ok(None),
        Err(error @ AskError::NotRunning { .. }) => {
            Err(Failure::running(&format!("{error}; leave --socket out to capture here, without a daemon")))
        }
        Err(error) => Err(Failure::running(&error)),
    }
}

/// Serves the page: a daemon's, or that of a capture of its own. A daemon that serves it itself is only named, unless
/// an address was asked for where it does not.
#[cfg(feature = "web")]
fn in_browser(args: &Args, asked: Option<SocketAddr>) -> Result<(), Failure> {
    let address = asked.unwrap_or(config::WEB_ADDRESS);
    let Some(socket) = daemon(args)? else {
        // Who reads the first line may stop it at once.
        let held = Held::new();
        return crate::daemon::run(own(args, Some(address))?, held).map_err(|error| match &error {
            DaemonError::Web(listen) => Failure::running(&elsewhere(listen)),
            _ => Failure::running(&error),
        });
    };
    let say = |url: &str| {
        let line = format!("the page of the daemon at {}: {url}\n", socket.display());
        terminal::print(&line, Spelling::Text).map_err(|error| Failure::output(&error))
    };
    let served = client::status(&socket).ok().and_then(|status| status.web);
    if let Some(url) = served.as_ref().filter(|url| asked.is_none_or(|asked| is_at(asked, url))) {
        return say(url);
    }
    let shown = |url: &str| {
        // A reader of the line that is gone is no reason to end.
        drop(say(url));
        if let Some(doubt) = config::web_doubt(address) {
            terminal::complain(&format!("go-metro: {}; {}\n", doubt.what, doubt.fix));
        }
    };
    show_followed(&socket, address, shown).map_err(|error| match (&error, served) {
        // The daemon may be in the way itself, at all addresses.
        (FollowError::Listen(listen), Some(url)) => {
            Failure::running(&format!("{}. The daemon itself serves the page at {url}", elsewhere(listen)))
        }
        (FollowError::Listen(listen), None) => Failure::running(&elsewhere(listen)),
        _ => Failure::running(&error),
    })
}

/// Why the page cannot be served, and which option names another address.
#[cfg(feature = "web")]
fn elsewhere(error: &dyn std::fmt::Display) -> String {
    format!("{error}; set --web to another address, as in --web=127.0.0.1:9466")
}

/// Whether a page at this URL is what somebody asks for who names this address; all addresses are more than one.
#[cfg(feature = "web")]
fn is_at(asked: SocketAddr, url: &str) -> bool {
    config::local_url(asked, "/") == url && !asked.ip().to_canonical().is_unspecified()
}

/// A capture of its own, for the screen, or for browsers at an address.
fn own(args: &Args, web_listen: Option<SocketAddr>) -> Result<DaemonOptions, Failure> {
    let overrides = Overrides {
        backend: args.backend,
        sides: args.sides,
        ports: ports(&args.port)?,
        without_names: args.no_names,
        web_listen: web_listen.map(Some),
        group_by: groups::wanted(&args.groups)?,
        // Among the health, which a key shows at any time.
        responses: true,
        status_socket: Some(None),
        outputs: Some(Vec::new()),
        report_interval: Some(Duration::from_secs(1)),
        ..Overrides::default()
    };
    let (mut config, _) = adhoc(&args.interface, &args.target, &environment)?;
    // Nothing is reported elsewhere, whatever the environment says of outputs.
    config.outputs.clear();
    let config = overrides.apply(config);
    if web_listen.is_some() {
        logging::init(&config);
        logging::doubts(&config, None);
    } else {
        logging::init_off_screen(&config);
    }
    Ok(DaemonOptions { config, config_path: None, overrides, samples: false, watcher: None, duration: None })
}

#[cfg(test)]
#[cfg(feature = "web")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn an_address_for_browsers_that_was_named_is_known_from_one_that_was_not() {
        let web = |line: &str| Command::try_parse_from(["top"].into_iter().chain(line.split_whitespace()));
        assert_eq!(web("").unwrap().args.web, None);
        assert_eq!(web("--web").unwrap().args.web, Some(None));
        for line in ["--web=[::1]:80", "--web [::1]:80", "--web [::1]:80 --no-names", "--no-names --web [::1]:80"] {
            assert_eq!(web(line).unwrap().args.web, Some(Some("[::1]:80".parse().unwrap())), "{line}");
        }
        assert_eq!(web("--web --no-names").unwrap().args.web, Some(None));
        let refused = web("--web=9465").err().unwrap().to_string();
        assert!(refused.contains("write 127.0.0.1:9465 for programs on this host"), "{refused}");
        let refused = web("--web=localhost").err().unwrap().to_string();
        assert!(refused.contains("with a port such as 127.0.0.1:9465"), "{refused}");
    }

    #[test]
    fn a_daemon_serves_what_is_asked_for_only_at_that_very_address() {
        let is_at = |asked: &str| is_at(asked.parse().unwrap(), "http://127.0.0.1:9465/");
        assert!(is_at("127.0.0.1:9465"));
        for other in ["127.0.0.1:9466", "0.0.0.0:9465", "[::1]:9465", "192.0.2.7:9465"] {
            assert!(!is_at(other), "{other}");
        }
    }
}
