//! `cargo xtask TASK`.

use clap::Subcommand;
use testing_support::tasks::{self, BENCH, CORPUS, KERNELS, ORACLE, SOAK, Unread};
use testing_support::{build_ebpf, setup};

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need; quick if nothing is missing
    Setup(setup::Args),
    #[command(about = BENCH.about)]
    Bench(Unread),
    /// Build the classifier's object, unless it is newer than its source
    BuildEbpf(build_ebpf::Args),
    /// Clone the committed tree as others would, and test the clones
    Clones(xtask::clones::Args),
    #[command(about = CORPUS.about)]
    Corpus(Unread),
    /// Show go-metro at work on real TCP in a lab of its own; takes less than a minute after the build
    Demo(xtask::demo::Args),
    /// Check licences, sources, duplicates, use and advisories of all dependencies
    Deny(xtask::deny::Args),
    /// Regenerate the pages and files made from the program: reference, drawings, dashboards, Datadog's specification
    Docs(xtask::docs::Args),
    /// Build what is shipped, in target/dist: binary, .deb, .rpm, the image's files, the Helm chart
    Dist(xtask::dist::Args),
    /// Fuzz parsers and engine, guided by coverage; each target for a minute, or for --seconds
    Fuzz(xtask::fuzz::Args),
    #[command(about = KERNELS.about)]
    Kernels(Unread),
    /// Write packaging/kubernetes/daemonset.yaml from the Helm chart
    Manifest,
    #[command(about = ORACLE.about)]
    Oracle(Unread),
    /// Build the daemon with none of its optional parts, and with each alone
    Features(xtask::package::FeaturesArgs),
    /// Package the crates for the registry, and install go-metro from the packages alone
    Package(xtask::package::Args),
    /// Take the README's picture: the screen of a real `go-metro top`
    Picture(xtask::picture::Args),
    /// Build what is missing and run go-metro: cargo xtask run -- --help
    Run(xtask::run::Args),
    #[command(about = SOAK.about)]
    Soak(Unread),
    /// Check format and lints, run unit and property tests, then end-to-end tests in network namespaces
    Test(xtask::test::Args),
    /// Set the version of the next release, in every file that has it
    Version(xtask::version::Args),
}

fn main() -> std::process::ExitCode {
    tasks::main(|task| match task {
        Task::Setup(args) => setup::main(&args),
        Task::Bench(_) => BENCH.main(),
        Task::BuildEbpf(args) => build_ebpf::main(&args),
        Task::Clones(args) => xtask::clones::main(&args),
        Task::Corpus(_) => CORPUS.main(),
        Task::Demo(args) => xtask::demo::main(&args),
        Task::Deny(args) => xtask::deny::main(&args),
        Task::Docs(args) => xtask::docs::main(&args),
        Task::Dist(args) => xtask::dist::main(&args),
        Task::Fuzz(args) => xtask::fuzz::main(&args),
        Task::Kernels(_) => KERNELS.main(),
        Task::Manifest => xtask::dist::chart::main(),
        Task::Oracle(_) => ORACLE.main(),
        Task::Features(args) => xtask::package::features(&args),
        Task::Package(args) => xtask::package::main(&args),
        Task::Picture(args) => xtask::picture::main(&args),
        Task::Run(args) => xtask::run::main(&args),
        Task::Soak(_) => SOAK.main(),
        Task::Test(args) => xtask::test::main(&args),
        Task::Version(args) => xtask::version::main(&args),
    })
}
