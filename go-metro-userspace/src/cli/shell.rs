//! `go-metro completions`, `go-metro man`: made from the command line's own definition.
//!
//! A completion script only asks the program what may follow, so that it knows every verb, file and interface and never
//! becomes stale.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCandidates, CompletionCandidate, Shell};
use clap_mangen::Man;

use super::{Cli, Failure};
use crate::terminal::{self, Spelling};

/// The variable by which a shell's script asks.
const VARIABLE: &str = "_GO_METRO_COMPLETE";

#[derive(clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell to complete for; its manual says where the script goes
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub(super) struct ManArgs {
    /// Folder for the pages, such as /usr/local/share/man/man1; created if it does not exist
    pub(super) folder: PathBuf,
}

/// Answers a shell's script and ends the process, if that is who asks.
pub(super) fn answer_shell() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    let shell = args.shell.to_string();
    let shells = Shells::builtins();
    let completer =
        shells.completer(&shell).ok_or_else(|| Failure::usage(&format!("no completion script exists for {shell}")))?;
    completer
        .write_registration(VARIABLE, "go-metro", "go-metro", "go-metro", &mut script)
        .map_err(|error| Failure::running(&error))?;
    terminal::print(&String::from_utf8_lossy(&script), Spelling::Text).map_err(|error| Failure::output(&error))
}

/// What `--interface` may be followed by: the interfaces that are there, and the words that mean several.
pub(super) fn interfaces() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let there = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let mut names: Vec<String> = there.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        // The shell shows them.
        names.retain(|name| terminal::is_printable(name));
        names.sort();
        let words = [
            ("default", "those of the default routes"),
            ("all", "all but loopback"),
            ("any", "libpcap's device for all"),
        ];
        let words = words.map(|(word, help)| CompletionCandidate::new(word).help(Some(help.into())));
        names.into_iter().map(CompletionCandidate::new).chain(words).collect()
    })
}

pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    let write = || {
        std::fs::create_dir_all(&args.folder)?;
        // A page does not change with every commit.
        let mut command = Cli::command().version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
        command.build();
        pages(&command, &args.folder)
    };
    write().map_err(|error| Failure::running(&format!("{}: {error}", args.folder.display())))
}

/// Writes the page of a command and those of its verbs.
fn pages(command: &clap::Command, folder: &Path) -> io::Result<()> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set()).try_for_each(|verb| pages(verb, folder))?;
    let page = Man::new(command.clone()).manual("go-metro");
    let mut text = Vec::new();
    page.render(&mut text)?;
    std::fs::write(folder.join(page.get_filename()), keep_lines(&String::from_utf8_lossy(&text)))
}

/// Keeps the lines of the examples as they are, where the page's maker would fill them into paragraphs.
fn keep_lines(page: &str) -> String {
    let Some((head, tail)) = page.split_once("\n.SH EXTRA\n") else { return page.to_owned() };
    let (examples, rest) =
        tail.split_once("\n.SH ").map_or((tail, String::new()), |(examples, rest)| (examples, format!(".SH {rest}")));
    format!("{head}\n.SH EXAMPLES\n.nf\n{}\n.fi\n{rest}", examples.trim_start_matches("Examples:\n"))
}
