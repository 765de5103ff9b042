//! The command line that all tasks share, and those tasks that are programs of their own: what builds the daemon does
//! not wait until benchmarks are compiled.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::{FromArgMatches, Parser, Subcommand};

use crate::workspace::{cargo, run, shown, target};
use crate::{pipe, setup};

/// go-metro's own tasks
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 120)]
struct Cli<T: FromArgMatches + Subcommand> {
    /// Install what a task needs without asking
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    task: T,
}

/// Reads the task from the command line and does it.
///
/// Its error is printed without a backtrace, whatever `RUST_BACKTRACE` says: it tells what to do about this machine. A
/// panic has one.
pub fn main<T: FromArgMatches + Subcommand>(work: impl FnOnce(T) -> Result<()>) -> ExitCode {
    let done = pipe::end_quietly(|| {
        let cli = Cli::<T>::parse_from(arguments());
        if cli.yes {
            setup::assume_yes();
        }
        work(cli.task)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line, with `help TASK` as `TASK --help`: another program may know the task's options.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    if arguments.len() == 3 && arguments[1] == "help" {
        arguments.remove(1);
        arguments.push("--help".into());
    }
    arguments
}

/// A task that is a program of its own, in a crate beside.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// The crate, and its program.
    package: &'static str,
    /// What `--help` says of it.
    pub about: &'static str,
}

/// Benchmarks.
pub const BENCH: Elsewhere =
    Elsewhere { package: "testing-bench", about: "Measure what it costs, against baselines of the same run" };
/// The captures that are in the repository.
pub const CORPUS: Elsewhere =
    Elsewhere { package: "testing-truth", about: "Regenerate the captures of corpus/ from real TCP in the lab" };
/// Other kernels.
pub const KERNELS: Elsewhere = Elsewhere {
    package: "testing-kernels",
    about: "Boot Debian's kernels, from 5.10 to the newest, and measure on each in every way that it supports",
};
/// Judging samples.
pub const ORACLE: Elsewhere =
    Elsewhere { package: "testing-truth", about: "Compare every sample with tshark's and tcptrace's, one by one" };
/// Running for long.
pub const SOAK: Elsewhere = Elsewhere {
    package: "testing-truth",
    about: "Run for long, with connections that come and go and faults at random, and judge memory, descriptors and \
            accounts",
};

impl Elsewhere {
    /// Builds the program and becomes it, with the command line of this process.
    ///
    /// # Errors
    ///
    /// The build fails, or the program cannot be started.
    pub fn main(self) -> Result<()> {
        let program = target().join("debug").join(self.package);
        let mut build = cargo();
        build.args(["build", "--package", self.package, "--bin", self.package]);
        // The first time, dependencies are compiled, and that is to be seen.
        if program.exists() {
            build.arg("--quiet");
        }
        run(&mut build)?;
        let mut command = Command::new(program);
        let error = command.args(arguments().into_iter().skip(1)).exec();
        Err(error).with_context(|| format!("cannot run `{}`", shown(&command)))
    }
}

/// Arguments of a task that is a program of its own, which reads them.
#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Unread {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<OsString>,
}
