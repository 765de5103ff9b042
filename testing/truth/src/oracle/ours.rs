//! The accused: `go-metro read`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::trace::Advance;
use testing_lab::agent::Sample;
use testing_support::workspace::capture;

/// Its samples of both directions.
///
/// # Errors
///
/// It fails, or prints what is no sample.
pub fn samples(binary: &Path, file: &Path) -> Result<Vec<Sample>> {
    let text = capture(Command::new(binary).arg("read").arg(file).arg("--samples"))?;
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("not a sample: {line}"))).collect()
}

/// What became of an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A sample.
    Sample,
    /// It is of something new, and gave no sample for this reason.
    Rejected(String),
    /// It proves nothing, for this reason.
    NothingToTime(String),
}

/// What became of every acknowledgement of something new, sample or not, and of those of resets.
///
/// # Errors
///
/// As [`samples`].
pub fn outcomes(binary: &Path, file: &Path) -> Result<Vec<(Advance, Outcome)>> {
    let text = capture(Command::new(binary).arg("read").arg(file).arg("--explain=all"))?;
    let lines = text.lines().filter(|line| !line.is_empty());
    let of = |told: Told| {
        let advance = Advance { flow: (told.local, told.remote), ack: told.ack, time_ns: told.time_ns };
        let reason = told.rejected.map(Outcome::Rejected).or(told.nothing_to_time.map(Outcome::NothingToTime));
        (advance, reason.unwrap_or(Outcome::Sample))
    };
    lines.map(|line| serde_json::from_str(line).map(of).with_context(|| format!("not an outcome: {line}"))).collect()
}

/// The account that it gives of a capture.
///
/// # Errors
///
/// It fails.
pub fn account(binary: &Path, file: &Path) -> Result<String> {
    // What would be trimmed is the indentation of the first line, and that has none.
    capture(Command::new(binary).arg("read").arg(file).arg("--explain"))
}

/// What a line says, sample or not.
#[derive(serde::Deserialize)]
struct Told {
    time_ns: u64,
    local: std::net::SocketAddr,
    remote: std::net::SocketAddr,
    ack: u32,
    rejected: Option<String>,
    nothing_to_time: Option<String>,
}
