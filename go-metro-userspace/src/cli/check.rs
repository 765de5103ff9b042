//! `go-metro check`.

use std::path::PathBuf;

use super::{Failure, environment, places};
use crate::check::{self, CheckOptions};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Configuration file [default: /etc/go-metro/conf.yaml, then the original's places]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface, instead of a configuration file; may be repeated
    #[arg(short, long, value_name = "NAME", conflicts_with = "config")]
    interface: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    // What `run` would read is what is checked.
    let found = || if args.interface.is_empty() { places::find() } else { None };
    let options = CheckOptions { config: args.config.clone().or_else(found), interfaces: args.interface.clone() };
    if check::run(&options, &environment, &mut std::io::stdout().lock()) {
        Ok(())
    } else {
        Err(Failure { code: super::FAILURE, message: String::new() })
    }
}
