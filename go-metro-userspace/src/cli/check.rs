//! `go-metro check`.

use std::path::PathBuf;

use super::{Failure, environment, places};
use crate::check::{self, CheckOptions};
use crate::terminal::{self, Spelling};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Configuration file [default: /etc/go-metro/conf.yaml, then the original go-metro's paths]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The same as `--config`
    #[arg(value_name = "FILE", conflicts_with_all = ["config", "interface"])]
    file: Option<PathBuf>,
    /// Interface to check, instead of a configuration file; may be repeated
    #[arg(short, long, value_name = "NAME", conflicts_with = "config", add = super::shell::interfaces())]
    interface: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    // What `run` would read is what is checked.
    let config = args.config.clone().or_else(|| args.file.clone());
    let asked = config.is_some() || !args.interface.is_empty();
    let (found, others) = if asked { (None, Vec::new()) } else { places::find() };
    let options = CheckOptions {
        passed_over: found.as_ref().and_then(|found| places::passed_over(found, &others)),
        config: config.or(found),
        interfaces: args.interface.clone(),
    };
    let mut findings = Vec::new();
    let fine = check::run(&options, &environment, &mut findings);
    let printed = terminal::print(&String::from_utf8_lossy(&findings), Spelling::Text);
    match printed {
        // A reader that closed its pipe has the exit status all the same.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::output(&error)),
        _ if fine => Ok(()),
        _ => Err(Failure { code: super::FAILURE, message: String::new() }),
    }
}
