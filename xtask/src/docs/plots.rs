//! Drawings of captures of the corpus, as `go-metro read --plot` makes them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use testing_support::workspace::{capture, root};

/// Where each drawing goes, and the capture that it is of.
const PLOTS: [(&str, &str); 2] =
    [("docs/story-slow-plot.svg", "spurious-timeout"), ("docs/story-lossy-plot.svg", "loss-sack-timestamps")];
/// The end that the captures were made at.
const LOCAL: &str = "10.77.0.1";

/// Each file's path in the repository, and its text.
pub(super) fn all(binary: &Path) -> Result<Vec<(&'static str, String)>> {
    let folder = tempfile::tempdir()?;
    let draw = |(path, name): (&'static str, &str)| {
        let drawing = folder.path().join("plot.svg");
        let mut command = Command::new(binary);
        command.arg("read").arg(root().join(format!("corpus/{name}.pcap.gz"))).args(["--local", LOCAL, "--plot"]);
        capture(command.arg(&drawing))?;
        let text = std::fs::read_to_string(&drawing).with_context(|| format!("no drawing of {name}"))?;
        Ok((path, text))
    };
    PLOTS.into_iter().map(draw).collect()
}
