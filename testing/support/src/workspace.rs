//! Where things are, and how commands are run: said in one line, with an error that can be pasted into a shell.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// Names the directory of captures from elsewhere that the tests judge too.
pub const CAPTURES_VARIABLE: &str = "GO_METRO_CAPTURES";

/// The workspace's directory.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/")).to_path_buf()
}

/// Cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |directory| root().join(directory))
}

/// The classifier's object, which the daemon embeds.
#[must_use]
pub fn object() -> PathBuf {
    root().join("target/ebpf/go-metro.o")
}

/// The programs that the lab attaches beside the classifier.
#[must_use]
pub fn lab_object() -> PathBuf {
    root().join("target/ebpf/go-metro-lab.o")
}

/// The cargo that runs this task, or the one on the path.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Cargo's own directory: its configuration, its registry, and what it installs.
///
/// # Errors
///
/// No variable names it, or it does not exist.
pub fn cargo_home() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let home = set("CARGO_HOME").or_else(|| set("HOME").map(|home| home.join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    if !home.is_dir() {
        bail!("{} does not exist", home.display());
    }
    Ok(home)
}

/// A file on `PATH` that can be executed.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let search = std::env::var_os("PATH").unwrap_or_default();
    // Plain users lack the sbin directories on Debian, yet may run what is in them.
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&search).chain(extra).map(|directory| directory.join(program)).find(|path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

/// A word of a shell's line, in quotes where it needs them.
#[must_use]
pub fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:+,@%".contains(c)) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What one would type to run `command`.
#[must_use]
pub fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let name = name.to_string_lossy();
        // Written with a separator that no terminal shows; the flags say nothing to who runs the command by hand.
        value.filter(|_| name != "CARGO_ENCODED_RUSTFLAGS").map(|value| format!("{name}={}", quoted(value)))
    });
    variables
        .chain(std::iter::once(quoted(command.get_program())))
        .chain(command.get_args().map(quoted))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs `command` with this process's own output; it ends with the thread that runs it, should that be killed.
///
/// # Errors
///
/// It cannot be started, or fails; the error shows the command.
pub fn run(command: &mut Command) -> Result<()> {
    // SAFETY: prctl(2) is one system call, async-signal-safe, and its argument is a number.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?));
    }
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs `command` and returns what it printed, trimmed.
///
/// # Errors
///
/// It cannot be started, or fails; the error shows the command and what it said on standard error.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs `command` and returns its output and status, whatever the status.
///
/// # Errors
///
/// It cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot run `{}`", shown(command)))
}
