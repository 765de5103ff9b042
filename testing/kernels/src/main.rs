//! `cargo xtask kernels`, and what runs inside the machines that it boots.

use testing_kernels::guest;
use testing_support::tasks::{self, KERNELS};

#[derive(clap::Subcommand)]
enum Task {
    /// In a machine that `kernels` boots: its tests
    #[command(hide = true)]
    Guest(guest::Args),
    #[command(about = KERNELS.about)]
    Kernels(testing_kernels::Args),
}

fn main() -> std::process::ExitCode {
    tasks::main(|task| match task {
        Task::Guest(args) => guest::main(&args),
        Task::Kernels(args) => testing_kernels::main(&args),
    })
}
