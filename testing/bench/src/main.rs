//! `cargo xtask bench [PART...]`: what it costs, each figure against a baseline of the same run.
//!
//! A part is a file in this folder that gives [`Table`]s. What it measures it measures in [`rounds`]: each round runs
//! the baseline and every case once, in an order that turns, so that whatever slows the machine for a while slows all
//! of them. What is said of a case is the median over the rounds, with quartiles. `--write` puts the tables into
//! `docs/performance.md`, between the markers that bear their names.

mod baseline;
mod engine;
mod files;
mod kernel;
mod live;
mod measure;
mod page;
mod plot;
mod table;
mod workers;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use testing_support::tasks::{self, BENCH};

use measure::{Measured, Spread, rounds};
use table::Table;

#[derive(clap::Subcommand)]
enum Task {
    #[command(about = BENCH.about)]
    Bench(Args),
}

fn main() -> Result<()> {
    tasks::main(|Task::Bench(args)| bench(&args))
}

/// Arguments of `bench`.
#[derive(clap::Args, Debug)]
struct Args {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Rounds; each runs the baseline and every case once
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Put the tables into docs/performance.md
    #[arg(long)]
    write: bool,
    /// A commit whose engine is measured beside this one
    #[arg(long, value_name = "COMMIT")]
    baseline: Option<String>,
    /// An object file with another tool's TC classifiers, to measure beside ours
    #[arg(long, value_name = "OBJECT")]
    peer: Option<PathBuf>,
}

/// A part: its name on the command line.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The classifier in the kernel, path by path
    Kernel,
    /// The engine, with few and with many flows
    Engine,
    /// Capture files
    Files,
    /// The agent beside real traffic
    Live,
    /// One thread that measures, or two
    Workers,
    /// Records a second until the first is left out or lost
    Limit,
}

impl Part {
    fn tables(self, args: &Args) -> Result<Vec<Table>> {
        match self {
            Self::Kernel => kernel::tables(args),
            Self::Engine => engine::tables(args),
            Self::Files => files::tables(args),
            Self::Live => live::tables(args),
            Self::Workers => workers::tables(args),
            Self::Limit => kernel::limit::tables(args),
        }
    }
}

/// Measures, prints the tables, and puts them into the page if asked.
///
/// # Errors
///
/// A part cannot run, or the page has no marker for a table.
fn bench(args: &Args) -> Result<()> {
    use clap::ValueEnum as _;
    let parts = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    println!("{}\n", page::machine());
    let mut tables = Vec::new();
    for part in parts {
        for table in part.tables(args).with_context(|| format!("{part:?}"))? {
            println!("{table}");
            tables.push(table);
        }
    }
    if args.write { page::write(&tables) } else { Ok(()) }
}
