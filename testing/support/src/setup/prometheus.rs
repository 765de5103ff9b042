//! Prometheus and promtool for the tests, unpacked below `target/tools`: Debian's package also enables and starts a
//! service.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::Outcome;
use crate::apt::{self, Apt};
use crate::workspace::target;
use crate::workspace::which;

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

fn directory() -> PathBuf {
    target().join("tools/prometheus")
}

/// Where the programs are, unless the system has them.
#[must_use]
pub fn programs() -> PathBuf {
    directory().join("usr/bin")
}

fn is_there() -> bool {
    PROGRAMS.iter().all(|program| programs().join(program).exists() || which(program).is_some())
}

pub(super) fn missing() -> Option<String> {
    (!is_there()).then(|| format!("prometheus and promtool, of Debian's package, in {}", directory().display()))
}

/// Download and unpack them, unless they are there.
pub(super) fn ensure() -> Result<Outcome> {
    if is_there() {
        return Ok(Outcome::Present(PROGRAMS.join(", ")));
    }
    let apt = Apt::new()?;
    let mirror = apt::mirror();
    let beside = directory().with_extension("new");
    let _ = fs::remove_dir_all(&beside);
    fs::create_dir_all(&beside)?;
    for suite in &mirror.suites {
        if apt.read_suite(&mirror, suite).is_ok() && apt.unpack("prometheus", &beside).is_ok() {
            // The last step, so that what exists is whole.
            let _ = fs::remove_dir_all(directory());
            fs::rename(&beside, directory())?;
            return Ok(Outcome::Installed(directory().display().to_string()));
        }
    }
    bail!("{} has no package prometheus in {}", mirror.uri, mirror.suites.join(", "))
}
