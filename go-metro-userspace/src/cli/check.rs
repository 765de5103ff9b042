//! `go-metro check`.

use std::path::PathBuf;

use super::{Failure, environment};
use crate::check::{self, CheckOptions};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface, instead of a configuration file; may be repeated
    #[arg(short, long, value_name = "NAME", conflicts_with = "config")]
    interface: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let options = CheckOptions { config: args.config.clone(), interfaces: args.interface.clone() };
    if check::run(&options, &environment, &mut std::io::stdout().lock()) {
        Ok(())
    } else {
        Err(Failure { code: super::FAILURE, message: String::new() })
    }
}
