//! The tests inside a machine that `cargo xtask kernels` boots. Their results leave it as JSON, a line each.

mod network;
mod pacing;
mod paths;
mod refusal;
mod verifier;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use serde::{Deserialize, Serialize};

/// Arguments of `guest`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The classifier's object
    #[arg(long)]
    object: PathBuf,
}

/// What a machine tells.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Message {
    /// The verifier accepts a program.
    Verified {
        /// Its name.
        program: String,
        /// How many instructions it followed.
        instructions: u64,
    },
    /// A way to measure was tried.
    Path(Path),
    /// All was tried.
    Done,
}

/// What became of one way to measure.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Path {
    /// What was tried.
    pub name: String,
    /// What went wrong.
    pub failure: Option<String>,
    /// `tcx`, `clsact` or `libpcap`.
    pub hook: String,
    /// How many samples there were.
    pub samples: usize,
    /// Median and largest distance of a sample from the truth, in nanoseconds.
    pub errors_ns: Option<(i64, i64)>,
    /// What else is to be said.
    pub note: String,
}

/// Tries everything, and says what came of it.
///
/// # Errors
///
/// What prevents any test at all.
pub fn main(args: &Args) -> Result<()> {
    let object = std::fs::read(&args.object).with_context(|| format!("cannot read {}", args.object.display()))?;
    // Kernels before 5.11 charge maps to it, and its usual value is too low for what is loaded here at once.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    // What the agent runs with, and what lets the least be left out.
    let usual = verifier::Settings { sides: 1, log_level: 3, per_flow: u64::MAX };
    let most = verifier::Settings { sides: 3, log_level: 4, per_flow: u64::MAX };
    let thinned = verifier::Settings { sides: 1, log_level: 4, per_flow: 100_000_000 };
    let verified = verifier::instructions(&object, usual).and_then(|counts| {
        verifier::instructions(&object, most).context("with `sides: both` and log level debug")?;
        verifier::instructions(&object, thinned).context("with `sampling: {per_flow: 100ms}` and log level debug")?;
        Ok(counts)
    });
    match verified {
        Ok(counts) => {
            for (program, instructions) in counts {
                say(&Message::Verified { program, instructions })?;
            }
        }
        Err(error) => {
            let name = "verifier".to_owned();
            say(&Message::Path(Path { name, failure: Some(format!("{error:#}")), ..Path::default() }))?;
        }
    }
    for (name, test) in paths::ALL.into_iter().chain(pacing::ALL) {
        let path = test().unwrap_or_else(|error| Path { failure: Some(format!("{error:#}")), ..Path::default() });
        say(&Message::Path(Path { name: name.to_owned(), ..path }))?;
    }
    say(&Message::Done)
}

fn say(message: &Message) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(std::io::stdout().write_all(&line)?)
}
