//! `cargo xtask run -- ARGS`: the daemon, with everything built that it needs.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::workspace::{cargo, root, run, shown};
use crate::{build_ebpf, setup};

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
    eprintln!("this is the demo's build, without optimisation; for less load, first: cargo build --release");
    debug_binary()
}

/// Builds the classifier and the release binary where they are not current.
///
/// # Errors
///
/// A build fails.
pub fn release_binary() -> Result<PathBuf> {
    setup::for_run()?;
    build_ebpf::ensure()?;
    build("release", &["--release"])
}

/// Builds the classifier and the binary as tests have it where they are not current.
///
/// # Errors
///
/// A build fails.
pub fn debug_binary() -> Result<PathBuf> {
    setup::for_run()?;
    build_ebpf::ensure()?;
    build("debug", &[])
}

/// Builds the binary; the first time, which takes minutes, with cargo's progress.
fn build(profile: &str, options: &[&str]) -> Result<PathBuf> {
    let binary = target().join(profile).join("go-metro");
    let mut command = cargo();
    command.args(["build", "--package", "go-metro-userspace", "--bin", "go-metro"]).args(options);
    if binary.exists() {
        command.arg("--quiet");
    } else {
        eprintln!("building go-metro, for the first time: a few minutes on two processors");
    }
    run(&mut command)?;
    Ok(binary)
}

/// Cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |directory| root().join(directory))
}
