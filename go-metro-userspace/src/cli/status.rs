//! `go-metro status`.

use std::path::PathBuf;

use super::Failure;
use crate::config;
use crate::status::document::State;
use crate::status::{client, show};
use crate::terminal::{self, Spelling};

/// It runs, but something is in its way.
const DEGRADED: u8 = 1;
/// It does not run, does not answer, or not to this user; the message says which.
const NOT_RUNNING: u8 = 2;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The daemon's Unix socket, `status_socket` of its configuration
    #[arg(short, long, value_name = "PATH", default_value = config::STATUS_SOCKET)]
    socket: PathBuf,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// The same as `--output json`: the document as the daemon sends it, described in docs/status.md
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// For a health check: print nothing, and exit with 0 if this is true
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "json")]
    probe: Option<Probe>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people
    #[default]
    Table,
    /// The document as the daemon sends it
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Probe {
    /// The daemon answers, degraded or not
    Alive,
    /// It captures, even if results cannot be sent
    Ready,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let silent = |error: &dyn std::fmt::Display| Failure { code: NOT_RUNNING, message: error.to_string() };
    let text = client::status_text(&args.socket).map_err(|error| silent(&error))?;
    let status = client::parse(&text).map_err(|error| silent(&error))?;
    match args.probe {
        Some(Probe::Ready) if !status.is_capturing() => {
            return Err(Failure { code: DEGRADED, message: "not capturing on any interface yet".to_owned() });
        }
        Some(Probe::Alive | Probe::Ready) => return Ok(()),
        None => {}
    }
    let printed = if args.json || args.output == Form::Json {
        terminal::print(&text, Spelling::Json)
    } else {
        terminal::print(&show::page(&status), Spelling::Text)
    };
    match printed {
        // A reader that closed its pipe has the exit status all the same.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(Failure::output(&error)),
        _ => {}
    }
    match status.state {
        State::Ok => Ok(()),
        State::Degraded => Err(Failure { code: DEGRADED, message: String::new() }),
    }
}
