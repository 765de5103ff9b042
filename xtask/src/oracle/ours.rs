//! The accused: `go-metro read --samples`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::lab::agent::Sample;
use crate::workspace::capture;

/// Its samples of both directions.
pub(super) fn samples(binary: &Path, file: &Path) -> Result<Vec<Sample>> {
    let text = capture(Command::new(binary).arg("read").arg(file).arg("--samples"))?;
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("not a sample: {line}"))).collect()
}
