//! The daemon's binary, built with everything that it needs.

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace::{cargo, run, target};
use crate::{build_ebpf, setup};

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
