//! `go-metro top`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use super::run::{BackendArg, adhoc};
use super::{Failure, environment};
use crate::agent::{AgentOptions, Overrides};
use crate::config::{self, SidesWanted};
use crate::logging;
use crate::status::client::{self, AskError};
use crate::top::{self, From};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Interface to capture on, even if a daemon runs [default: what the daemon sees, else the default route's]; may be repeated
    #[arg(short, long, value_name = "NAME", add = super::shell::interfaces())]
    interface: Vec<String>,
    /// Remote address, prefix or host name to watch [default: everything]; may be repeated
    #[arg(short, long, value_name = "TARGET")]
    target: Vec<String>,
    /// Where segments come from
    #[arg(long, value_enum)]
    backend: Option<BackendArg>,
    /// Which round trips to measure
    #[arg(long, value_enum)]
    sides: Option<SidesWanted>,
    /// The daemon's Unix socket
    #[arg(short, long, value_name = "PATH", default_value = config::STATUS_SOCKET)]
    socket: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            &"top draws on a terminal, and standard output is none; `run --output table` prints lines",
        ));
    }
    let from = match daemon(args)? {
        Some(socket) => From::Daemon(socket),
        None => From::Own(Box::new(own(args)?)),
    };
    top::run(from).map_err(|error| Failure::running(&error))
}

/// The daemon to follow, if one answers and nothing else was asked for.
fn daemon(args: &Args) -> Result<Option<PathBuf>, Failure> {
    let wants_own =
        !(args.interface.is_empty() && args.target.is_empty()) || args.backend.is_some() || args.sides.is_some();
    if wants_own {
        return Ok(None);
    }
    match client::status(&args.socket) {
        Ok(_) => Ok(Some(args.socket.clone())),
        Err(AskError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(Failure::running(&error)),
    }
}

fn own(args: &Args) -> Result<AgentOptions, Failure> {
    let overrides = Overrides {
        backend: args.backend.map(Into::into),
        sides: args.sides,
        status_socket: Some(None),
        report_interval: Some(Duration::from_secs(1)),
        ..Overrides::default()
    };
    let (config, _) = adhoc(&args.interface, &args.target, &environment)?;
    let config = overrides.apply(config);
    logging::init_off_screen(&config.log);
    let outputs = Vec::new();
    Ok(AgentOptions { config, config_path: None, overrides, outputs, samples: false, watcher: None, duration: None })
}
