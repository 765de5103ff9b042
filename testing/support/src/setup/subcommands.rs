//! Programs that cargo finds by their name, installed from the registry at their first use.

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use crate::workspace::{cargo, run, shown, which};

/// A subcommand of cargo, in the version that was tried; a newer one that is there already does as well.
#[derive(PartialEq, Eq)]
pub(super) struct Subcommand {
    pub(super) name: &'static str,
    version: &'static str,
    /// How long it takes to install, for who waits.
    takes: &'static str,
}

/// Builds fuzz targets with coverage instrumentation. libFuzzer itself comes with the targets' own dependencies.
pub(super) const FUZZ: Subcommand = Subcommand { name: "cargo-fuzz", version: "0.13.2", takes: "half a minute" };
/// Checks licences, sources, duplicates and advisories of all dependencies.
pub(super) const DENY: Subcommand = Subcommand { name: "cargo-deny", version: "0.20.2", takes: "two minutes" };
/// Writes a bill of materials.
pub(super) const CYCLONEDX: Subcommand = Subcommand { name: "cargo-cyclonedx", version: "0.5.9", takes: "two minutes" };
/// Names dependencies that no source uses.
pub(super) const MACHETE: Subcommand = Subcommand { name: "cargo-machete", version: "0.9.2", takes: "two minutes" };
/// Looks for advisories in lock files.
pub(super) const AUDIT: Subcommand = Subcommand { name: "cargo-audit", version: "0.22.2", takes: "five minutes" };

impl Subcommand {
    /// What would be installed, unless it is there.
    pub(super) fn missing(&self) -> Option<String> {
        let Self { name, version, takes } = self;
        which(name).is_none().then(|| format!("{version}, by cargo install, in cargo's bin directory ({takes})"))
    }

    /// Installs it unless it is there.
    pub(super) fn ensure(&self) -> Result<Outcome> {
        let Self { name, version, takes } = self;
        if let Some(path) = which(name) {
            return Ok(Outcome::Present(path.display().to_string()));
        }
        let mut install = cargo();
        install.args(["install", name, "--version", version, "--locked"]);
        eprintln!("installing {name} {version} ({takes})");
        run(&mut install).with_context(|| format!("run by hand: {}", shown(&install)))?;
        if which(name).is_none() {
            bail!("{name} is installed, but not found; add the directory that cargo named to PATH");
        }
        Ok(Outcome::Installed((*version).to_owned()))
    }
}
