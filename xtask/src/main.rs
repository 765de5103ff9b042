//! `cargo xtask TASK`.

use clap::{Parser, Subcommand};

/// go-metro's own tasks
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 120)]
struct Cli {
    /// Install what a task needs without asking
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need; quick where all is there
    Setup(xtask::setup::Args),
    /// Measure what it costs, against baselines of the same run
    Bench(xtask::bench::Args),
    /// Build the classifier's object, unless it is newer than its source
    BuildEbpf(xtask::build_ebpf::Args),
    /// Clone the committed tree to where others may have it, and test there
    Clones(xtask::clones::Args),
    /// Make the captures of corpus/ again, from real TCP in the lab
    Corpus(xtask::corpus::Args),
    /// See go-metro at work on real TCP, in a lab of its own; under a minute after the build
    Demo(xtask::demo::Args),
    /// Check licences, sources, duplicates and advisories of all dependencies
    Deny(xtask::deny::Args),
    /// Make again the pages and files that say what the program says: reference, drawing, Datadog's specification
    Docs(xtask::docs::Args),
    /// Make what is shipped, in target/dist: binary, .deb, .rpm, the image's files, the Helm chart
    Dist(xtask::dist::Args),
    /// Run parsers and engine on arbitrary input, guided by coverage; each target for a minute, or --seconds
    Fuzz(xtask::fuzz::Args),
    /// In a machine that `kernels` boots: its tests
    #[command(hide = true)]
    Guest(xtask::guest::Args),
    /// Boot Debian's kernels, from 5.10 to the newest, and measure on each in every way that it knows
    Kernels(xtask::kernels::Args),
    /// Write packaging/kubernetes/daemonset.yaml from the Helm chart
    Manifest,
    /// Compare every sample with tshark's and tcptrace's, one by one
    Oracle(xtask::oracle::Args),
    /// Build the daemon with none of its optional parts, and with each alone
    Features(xtask::package::FeaturesArgs),
    /// Package the crates for the registry, and install go-metro from the packages alone
    Package(xtask::package::Args),
    /// Take the README's picture: the screen of a real `go-metro top`
    Picture(xtask::picture::Args),
    /// Build what is missing and run go-metro: cargo xtask run -- --help
    Run(xtask::run::Args),
    /// Does it stay up? Connections that come and go, faults at random, and the verdict on memory, descriptors and accounts
    Soak(xtask::soak::Args),
    /// Format, lints, unit and property tests, then end-to-end tests in network namespaces
    Test(xtask::test::Args),
    /// Set the version that is released next, in every place that has it
    Version(xtask::version::Args),
}

fn main() -> anyhow::Result<()> {
    xtask::pipe::end_quietly(work)
}

fn work() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if cli.yes {
        xtask::setup::assume_yes();
    }
    match cli.task {
        Task::Setup(args) => xtask::setup::main(&args),
        Task::Bench(args) => xtask::bench::main(&args),
        Task::BuildEbpf(args) => xtask::build_ebpf::main(&args),
        Task::Clones(args) => xtask::clones::main(&args),
        Task::Corpus(args) => xtask::corpus::main(&args),
        Task::Demo(args) => xtask::demo::main(&args),
        Task::Deny(args) => xtask::deny::main(&args),
        Task::Docs(args) => xtask::docs::main(&args),
        Task::Dist(args) => xtask::dist::main(&args),
        Task::Fuzz(args) => xtask::fuzz::main(&args),
        Task::Guest(args) => xtask::guest::main(&args),
        Task::Kernels(args) => xtask::kernels::main(&args),
        Task::Manifest => xtask::dist::chart::main(),
        Task::Oracle(args) => xtask::oracle::main(&args),
        Task::Features(args) => xtask::package::features(&args),
        Task::Package(args) => xtask::package::main(&args),
        Task::Picture(args) => xtask::picture::main(&args),
        Task::Run(args) => xtask::run::main(&args),
        Task::Soak(args) => xtask::soak::main(&args),
        Task::Test(args) => xtask::test::main(&args),
        Task::Version(args) => xtask::version::main(&args),
    }
}
