//! `cargo xtask bench [PART...]`: what it costs, each figure against a baseline of the same run.
//!
//! A part is a file in this folder that gives [`Table`]s. What it measures it measures in [`rounds`]: each round runs
//! the baseline and every case once, in an order that turns, so that whatever slows the machine for a while slows all
//! of them. What is said of a case is the median over the rounds, with quartiles. `--write` puts the tables into
//! `docs/performance.md`, between the markers that bear their names.
//!
//! Order of modules: `baseline`, `files`, `kernel`, `many`, `workers` → `ends`, `engine`, `idle`, `live` → `args`,
//! `page`, `plot` → `table` → `measure`.

mod args;
mod baseline;
mod ends;
mod engine;
mod files;
mod idle;
mod kernel;
mod live;
mod many;
mod measure;
mod page;
mod plot;
mod table;
mod workers;

use anyhow::{Context as _, Result, ensure};
use testing_support::tasks::{self, BENCH};

use args::{Args, Part};
use ends::End;
use measure::{Measured, Spread, rounds};
use table::Table;

#[derive(clap::Subcommand)]
enum Task {
    #[command(about = BENCH.about)]
    Bench(Args),
    /// One end of a benchmark's connections
    #[command(hide = true)]
    End(End),
}

fn main() -> std::process::ExitCode {
    tasks::main(|task| match task {
        Task::Bench(args) => bench(&args),
        Task::End(end) => end.main(),
    })
}

fn tables_of(part: Part, args: &Args) -> Result<Vec<Table>> {
    match (part, &args.baseline) {
        (Part::Kernel, _) => kernel::tables(args),
        (Part::Engine, None) => engine::tables(args),
        (Part::Engine, Some(commit)) => Ok(vec![baseline::table(args, commit)?]),
        (Part::Files, _) => files::tables(args),
        (Part::Live, _) => live::tables(args),
        (Part::Idle, _) => idle::tables(args),
        (Part::Workers, _) => workers::tables(args),
        (Part::Many, _) => many::tables(args),
        (Part::Limit, _) => kernel::limit::tables(args),
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
        for table in tables_of(*part, args).with_context(|| format!("{part:?}"))? {
            if args.wants(table.name()) {
                println!("{table}");
                tables.push(table);
            }
        }
    }
    ensure!(!tables.is_empty(), "these parts have no table of the name {}", args.only.join(", "));
    if args.write { page::write(&tables) } else { Ok(()) }
}
