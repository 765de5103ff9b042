//! What `cargo xtask bench` is asked for.

use std::path::PathBuf;

/// Arguments of `bench`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    pub(crate) parts: Vec<Part>,
    /// Rounds; each runs the baseline and every case once
    #[arg(long, default_value_t = 15)]
    pub(crate) rounds: usize,
    /// Only this table, by the name in docs/performance.md's marker, as `kernel-cold`; repeatable
    #[arg(long, value_name = "TABLE")]
    pub(crate) only: Vec<String>,
    /// Put the tables into docs/performance.md
    #[arg(long)]
    pub(crate) write: bool,
    /// A commit whose engine is measured beside this one
    #[arg(long, value_name = "COMMIT")]
    pub(crate) baseline: Option<String>,
    /// An object file with another tool's TC classifiers, to measure beside ours
    #[arg(long, value_name = "OBJECT")]
    pub(crate) peer: Option<PathBuf>,
    /// The object file of another build of the classifier (another tree's target/ebpf/go-metro.o), which table
    /// kernel-cold holds against this tree's; repeatable
    #[arg(long, value_name = "OBJECT")]
    pub(crate) classifier: Vec<PathBuf>,
    /// Only loads of table kernel-cold whose names contain this, as `VLAN`
    #[arg(long, value_name = "TEXT", conflicts_with = "write")]
    pub(crate) load: Option<String>,
}

impl Args {
    /// Whether a table is asked for.
    pub(crate) fn wants(&self, table: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == table)
    }
}

/// A part: its name on the command line.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The classifier in the kernel, path by path
    Kernel,
    /// The engine, with few and with many flows
    Engine,
    /// Capture files
    Files,
    /// The agent beside real traffic
    Live,
    /// The agent without traffic
    Idle,
    /// One thread that measures, or two
    Workers,
    /// The rings of more processors than there are
    Many,
    /// Records a second until the first is left out or lost
    Limit,
}
