//! `cargo xtask run -- ARGS`: the daemon, with everything built that it needs.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use testing_support::daemon::{debug_binary, release_binary};
use testing_support::workspace::{shown, target};

/// Arguments of `run`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Arguments of go-metro, after `--`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<std::ffi::OsString>,
}

/// Builds what is missing and becomes the daemon, so that signals and the exit code are its own.
///
/// # Errors
///
/// A build fails, or the binary cannot be started.
pub fn main(args: &Args) -> Result<()> {
    let binary = first_binary()?;
    let mut agent = Command::new(binary);
    agent.args(&args.args);
    let error = agent.exec();
    Err(error).with_context(|| format!("cannot run `{}`", shown(&agent)))
}

/// The release binary; where only the demo's is built, that, because another takes minutes.
fn first_binary() -> Result<PathBuf> {
    let built = |profile: &str| target().join(profile).join("go-metro").exists();
    if built("release") || !built("debug") {
        return release_binary();
    }
    eprintln!(
        "this is the demo's build, without optimisation; for less load, first: cargo build --release \
               --package go-metro-userspace"
    );
    debug_binary()
}
