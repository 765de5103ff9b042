//! Datadog's and Grafana's own checkers of dashboards, in a Python environment of their own below `target`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Outcome;
use crate::run::target;
use crate::workspace::{root, run};

/// What is installed, all of it pinned.
const REQUIREMENTS: &str = "xtask/python/requirements.txt";

/// The environment's directory.
pub(super) fn directory() -> PathBuf {
    target().join("python")
}

/// Makes the environment unless it has exactly what is pinned.
pub(super) fn ensure() -> Result<Outcome> {
    let wanted = fs::read_to_string(root().join(REQUIREMENTS)).with_context(|| format!("no {REQUIREMENTS}"))?;
    let directory = directory();
    // Written last, so that one that was cut short is made anew.
    let mark = directory.join("requirements.txt");
    if fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(Outcome::Present(directory.display().to_string()));
    }
    eprintln!("installing Datadog's and Grafana's checkers into {} (half a minute)", directory.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let mut install = Command::new(directory.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]);
    run(install.arg(root().join(REQUIREMENTS)))?;
    fs::write(mark, &wanted)?;
    Ok(Outcome::Installed(directory.display().to_string()))
}
