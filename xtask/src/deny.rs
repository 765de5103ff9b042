//! `cargo xtask deny`: what may be in the tree of dependencies, by `deny.toml`.
//!
//! By hand, since the tools take minutes to install on a bare machine. Licences, sources and duplicates need nothing
//! but the lock file, and unused dependencies ([`unused`], which `cargo xtask test` looks for too) the sources;
//! advisories need RustSec's database, which is fetched, and where that cannot be reached the task says so, checks the
//! rest, and with `CI=true` fails. Two tools look for advisories: cargo-deny in the graph of what is built, cargo-audit
//! in the lock files, the fuzz targets' too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use testing_support::setup;
use testing_support::workspace::{capture, cargo, output, root, run};

/// Where cargo-deny looks for the database.
const DATABASE: &str = "https://github.com/RustSec/advisory-db";
/// What either tool says when it cannot be had.
const UNREACHABLE: [&str; 2] = ["failed to fetch advisory database", "couldn't fetch advisory database"];
const LOCK_FILES: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];

/// What of the task can be said on the command line.
#[derive(clap::Args)]
pub struct Args {
    /// A clone of RustSec's advisory-db, if it cannot be fetched from here
    #[arg(long, value_name = "DIR")]
    db: Option<PathBuf>,
}

/// Checks all that can be checked.
///
/// # Errors
///
/// Something is in the tree that may not be; a tool cannot be installed; the database that was named is none; with
/// `CI=true`, it cannot be fetched.
pub fn main(args: &Args) -> Result<()> {
    setup::for_deny()?;
    unused()?;
    run(cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]))?;
    let copy = args.db.as_deref().map(Copy::of).transpose()?;
    let mut reached = advisories(&mut deny(copy.as_ref()))?;
    for lock_file in LOCK_FILES {
        reached &= advisories(&mut audit(copy.as_ref(), lock_file))?;
    }
    if !reached {
        println!(
            "advisories NOT checked: RustSec's database cannot be fetched from here; clone {DATABASE} where that is \
             possible, and name the copy with --db"
        );
        // There a check that is left out is one that nobody misses.
        if setup::is_ci() {
            bail!("advisories were not checked, and CI=true");
        }
        return Ok(());
    }
    match copy {
        Some(copy) => println!("advisories: none, by the database of {}", copy.date),
        None => println!("advisories: none, by today's database"),
    }
    Ok(())
}

/// Has cargo-machete look for dependencies that no source uses. A crate may call its library otherwise: it asks cargo.
///
/// # Errors
///
/// There are some.
pub fn unused() -> Result<()> {
    run(cargo().args(["machete", "--with-metadata"]))
}

/// A copy of the database, and cargo-deny's configuration that has it fetched from there.
struct Copy {
    folder: PathBuf,
    /// Of its last commit.
    date: String,
    temporary: TempDir,
}

impl Copy {
    fn of(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| format!("no such folder: {}", folder.display()))?;
        let date = capture(Command::new("git").arg("-C").arg(&folder).args(["show", "-s", "--format=%cs", "HEAD"]))?;
        let temporary = tempfile::tempdir()?;
        let rules = fs::read_to_string(root().join("deny.toml"))?;
        let heading = "[advisories]";
        let there = format!("{heading}\ndb-path = {:?}", temporary.path().join("databases"));
        fs::write(temporary.path().join("deny.toml"), rules.replace(heading, &there))?;
        Ok(Self { folder, date, temporary })
    }
}

fn deny(copy: Option<&Copy>) -> Command {
    let mut command = cargo();
    command.arg("deny");
    if let Some(copy) = copy {
        command.arg("--config").arg(copy.temporary.path().join("deny.toml"));
        // It takes addresses on the network only; git knows better (git-config(1), `url.<base>.insteadOf`).
        command.env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", format!("url.file://{}.insteadOf", copy.folder.display()));
        command.env("GIT_CONFIG_VALUE_0", DATABASE);
    }
    command.args(["--all-features", "check", "advisories"]);
    command
}

fn audit(copy: Option<&Copy>, lock_file: &str) -> Command {
    let mut command = cargo();
    // Unmaintained and unsound crates are warnings to it.
    command.args(["audit", "--deny", "warnings", "--file", lock_file]);
    if let Some(copy) = copy {
        command.arg("--no-fetch").arg("--db").arg(&copy.folder);
    }
    command
}

/// Whether the database was there.
fn advisories(command: &mut Command) -> Result<bool> {
    let done = output(command)?;
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    eprint!("{said}");
    if done.status.success() {
        return Ok(true);
    }
    if UNREACHABLE.iter().any(|words| said.contains(words)) {
        return Ok(false);
    }
    bail!("there are advisories: fix each, or give a reason in deny.toml and in .cargo/audit.toml");
}
