//! The command line: arguments to a call, one file a verb.

mod check;
mod config;
mod discover;
mod groups;
mod legacy;
mod metrics;
mod places;
mod read;
mod record;
mod reload;
mod run;
mod shell;
mod status;
#[cfg(feature = "top")]
mod top;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{logging, privileges, signals, terminal};

/// It did not work at run time.
const FAILURE: u8 = 1;
/// The arguments or the configuration are wrong; clap's own code too.
const USAGE: u8 = 2;

/// At most 76 columns, so that no terminal folds them.
const EXAMPLES: &str = "\
Examples:
  Watch a full screen: what the daemon sees, or the default interface
      go-metro top
  Print every TCP peer of the default interface, as a live table
      go-metro run
  Watch one interface, and only peers in 10.0.0.0/8
      go-metro run --interface eth0 --target 10.0.0.0/8
  Run as a daemon that reports to the Datadog Agent
      go-metro run --config /etc/go-metro/conf.yaml
  Measure a capture file, from one end
      go-metro read capture.pcap --local 10.0.0.5
  Record what the daemon sees of a host for ten seconds
      go-metro record --pair 10.0.0.2 --for 10s
  Show the status of the running daemon
      go-metro status
  Write a commented configuration file from a few answers
      go-metro config init
  Find out what is missing, and how to fix it
      go-metro check

Exit status: 0 done, 1 failed while running, 2 wrong arguments or
configuration.";

/// The package's version, and the commit where the build knew it.
const VERSION: &str = env!("GO_METRO_VERSION");

#[derive(Parser)]
#[command(
    name = "go-metro",
    version = VERSION,
    about = "Passive round-trip times of TCP connections",
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measure live traffic and report it
    Run(run::Args),
    /// Watch round trips on a full screen, from the running daemon or a capture of its own
    #[cfg(feature = "top")]
    Top(top::Args),
    /// Measure a capture file
    Read(read::Args),
    /// Record what the running daemon sees of some hosts, for Wireshark and for `read`
    Record(record::Args),
    /// Show the status of the running daemon; exit status 0 if it is well, 1 if degraded, 2 if it does not run or
    /// refuses access
    Status(status::Args),
    /// Make the running daemon reload its configuration; exit status 1 if it refuses the file, 3 if it was signalled
    /// but cannot be asked for the outcome
    Reload(reload::Args),
    /// Report what would keep go-metro from running, and how to fix it
    Check(check::Args),
    /// Write a configuration file, or print its schema
    Config(config::Args),
    /// Print every metric with its names, unit and meaning as JSON, for what is made from them
    #[command(hide = true)]
    Metrics,
    /// Print a completion script for a shell
    Completions(shell::CompletionsArgs),
    /// Write the manual pages into a folder
    Man(shell::ManArgs),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    signals::settle();
    if let Some(why) = signals::stack_is_too_small() {
        return ended(&Failure::running(&why));
    }
    shell::answer_shell();
    let arguments: Vec<OsString> = legacy::translate(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return shown(&error),
    };
    if let Err(why) = privileges::check_environment() {
        return ended(&Failure::usage(&why));
    }
    let done = match cli.verb {
        Verb::Run(args) => run::run(&args),
        #[cfg(feature = "top")]
        Verb::Top(args) => top::run(&args),
        Verb::Read(args) => read::run(&args),
        Verb::Record(args) => record::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Config(args) => config::run(&args),
        Verb::Metrics => metrics::run(),
        Verb::Completions(args) => shell::completions(&args),
        Verb::Man(args) => shell::man(&args),
    };
    logging::finish();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ended(&failure),
    }
}

/// Says why a verb failed; its exit status.
fn ended(failure: &Failure) -> ExitCode {
    if !failure.message.is_empty() {
        terminal::complain(&format!("go-metro: {}\n", failure.message));
    }
    ExitCode::from(failure.code)
}

/// Prints what clap has to say: help and version on standard output, a usage error on standard error.
fn shown(error: &clap::Error) -> ExitCode {
    let text = error.render();
    let (plain, coloured) = (text.to_string(), text.ansi().to_string());
    if error.use_stderr() {
        // An argument may be a file's name.
        terminal::complain_coloured(&plain, &coloured);
        return ExitCode::from(USAGE);
    }
    match terminal::print_coloured(&plain, &coloured) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ended(&Failure::output(&error)),
    }
}

/// Why a verb failed, for people, and the exit status.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The arguments or the configuration are wrong.
    fn usage(error: &dyn std::fmt::Display) -> Self {
        Self { code: USAGE, message: error.to_string() }
    }

    /// It did not work at run time.
    fn running(error: &dyn std::fmt::Display) -> Self {
        Self { code: FAILURE, message: error.to_string() }
    }

    /// Standard output cannot be written. A reader that closed its pipe has seen enough, which is no failure.
    fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self { code: 0, message: String::new() }
        } else {
            Self::running(&format!("cannot write to standard output: {error}"))
        }
    }
}

/// The process's environment, for settings that the file leaves open.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_version_names_the_commit_that_was_built() {
        let said = Cli::command().render_version();
        assert!(said.starts_with(concat!("go-metro ", env!("CARGO_PKG_VERSION"))), "{said}");
        let git = |words: &[&str]| {
            let output = std::process::Command::new("git").current_dir(env!("CARGO_MANIFEST_DIR")).args(words).output();
            let output = output.ok().filter(|output| output.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        if option_env!("GO_METRO_COMMIT").is_some() || git(&["ls-files", "--error-unmatch", "build.rs"]).is_none() {
            println!("built without the repository: {said}");
            return;
        }
        assert!(said.contains(&format!("({})", &git(&["rev-parse", "HEAD"]).unwrap()[..12])), "{said}");
    }

    #[test]
    fn help_on_an_ordinary_terminal_and_the_manual_page_have_the_examples_line_by_line() {
        let help = Cli::command().term_width(80).render_long_help().to_string();
        let folder = tempfile::tempdir().unwrap();
        shell::man(&shell::ManArgs { folder: folder.path().to_owned() }).unwrap();
        let page = std::fs::read_to_string(folder.path().join("go-metro.1")).unwrap();
        assert!(page.contains(".SH EXAMPLES\n.nf\n"), "{page}");
        for line in EXAMPLES.lines().filter(|line| !line.is_empty()) {
            assert!(help.lines().any(|shown| shown == line), "{line}: {help}");
            let roff = line.replace('-', "\\-").replace('\'', "\\*(Aq");
            assert!(line == "Examples:" || page.lines().any(|shown| shown == roff), "{line}: {page}");
        }
    }
}
