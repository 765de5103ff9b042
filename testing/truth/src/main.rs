//! `cargo xtask corpus`, `oracle` and `soak`.

use testing_support::tasks::{self, CORPUS, ORACLE, SOAK};
use testing_truth::{corpus, oracle, soak};

#[derive(clap::Subcommand)]
enum Task {
    #[command(about = CORPUS.about)]
    Corpus(corpus::Args),
    #[command(about = ORACLE.about)]
    Oracle(oracle::Args),
    #[command(about = SOAK.about)]
    Soak(soak::Args),
}

fn main() -> std::process::ExitCode {
    tasks::main(|task| match task {
        Task::Corpus(args) => corpus::main(&args),
        Task::Oracle(args) => oracle::main(&args),
        Task::Soak(args) => soak::main(&args),
    })
}
