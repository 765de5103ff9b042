//! `go-metro completions`, `go-metro man`: made from the command line's own definition.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Failure};
use crate::terminal;

#[derive(clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell; its manual says where the script goes
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub(super) struct ManArgs {
    /// Folder for the pages, such as /usr/local/share/man/man1; made if it is not there
    folder: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "go-metro", &mut script);
    terminal::print(&String::from_utf8_lossy(&script)).map_err(|error| Failure::output(&error))
}

pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    let write = || {
        std::fs::create_dir_all(&args.folder)?;
        clap_mangen::generate_to(Cli::command(), &args.folder)
    };
    write().map_err(|error| Failure::running(&format!("{}: {error}", args.folder.display())))
}
