//! Where things are, and how commands are run: said in one line, with an error that can be pasted into a shell.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// Names the directory of captures from elsewhere that the tests judge too.
pub const CAPTURES_VARIABLE: &str = "GO_METRO_CAPTURES";

/// The workspace's directory.
#[must_use]
pub fn root() -> PathBuf {
    root_around(std::env::var_os(PACKAGE_VARIABLE).map(PathBuf::from).as_deref())
}

/// What cargo has the programs that it runs know: the directory of their package.
pub const PACKAGE_VARIABLE: &str = "CARGO_MANIFEST_DIR";

/// The workspace around the package that cargo runs, which is a copy where the clone was copied with what was compiled
/// in it. The one that this was compiled in where cargo runs another project's package, or does not run this.
fn root_around(package: Option<&Path>) -> PathBuf {
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR"));
    let has_this_crate = |directory: &&Path| directory.join("testing/support/src/workspace.rs").exists();
    let root = package.and_then(|package| package.ancestors().find(has_this_crate));
    root.or(compiled.ancestors().nth(2)).unwrap_or(Path::new("/")).to_path_buf()
}

/// Cargo's target directory, whichever way it is set.
#[must_use]
pub fn target() -> PathBuf {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    let find = || target_by(&mut cargo()).unwrap_or_else(|_| target_by_variables());
    TARGET.get_or_init(find).clone()
}

/// As cargo says, which reads its configuration as well as variables.
fn target_by(cargo: &mut Command) -> Result<PathBuf> {
    let metadata = metadata(cargo, &["--no-deps", "--offline"])?;
    let directory = metadata["target_directory"].as_str().context("cargo does not say where it builds")?;
    Ok(directory.into())
}

/// What cargo knows of the workspace, with these arguments more: the form is in cargo-metadata(1).
///
/// # Errors
///
/// Cargo fails, or says something else.
pub fn metadata(cargo: &mut Command, arguments: &[&str]) -> Result<serde_json::Value> {
    let said = capture(cargo.args(["metadata", "--quiet", "--format-version", "1"]).args(arguments))?;
    Ok(serde_json::from_str(&said)?)
}

/// Where there is no cargo, as in a test's machine.
fn target_by_variables() -> PathBuf {
    let set = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"].into_iter().find_map(std::env::var_os);
    root().join(set.unwrap_or_else(|| "target".into()))
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

/// Where `cargo install` puts programs, on `PATH` or not.
#[must_use]
pub fn cargo_programs() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CARGO_INSTALL_ROOT").or_else(|| cargo_home().ok()).map(|directory| directory.join("bin"))
}

/// A program on `PATH`, or else where cargo installs programs.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    every(program).next()
}

/// Each program of this name, the one that [`which`] finds first.
pub fn every(program: &str) -> impl Iterator<Item = PathBuf> {
    every_in(&std::env::var_os("PATH").unwrap_or_default(), cargo_programs(), program).into_iter()
}

fn every_in(path: &OsStr, cargo_programs: Option<PathBuf>, program: &str) -> Vec<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    // Plain users lack the sbin directories on Debian, yet may run what is in them.
    let extra = cargo_programs.into_iter().chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let files = std::env::split_paths(path).chain(extra).map(|directory| directory.join(program));
    let can_run = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    files.filter(can_run).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn in_a_copied_clone_the_workspace_is_the_copy() {
        let compiled = root_around(None);
        assert!(compiled.join("testing/support/src/workspace.rs").exists());
        let copy = tempfile::tempdir().unwrap();
        assert_eq!(root_around(Some(copy.path())), compiled, "another project's package");
        let package = copy.path().join("testing/support/src");
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join("workspace.rs"), "").unwrap();
        assert_eq!(root_around(Some(&copy.path().join("xtask"))), copy.path());
    }

    #[test]
    fn what_cargo_installed_is_found_off_the_path_and_comes_after_it() {
        let place = tempfile::tempdir().unwrap();
        let [on_path, installed] = ["path", "cargo/bin"].map(|name| place.path().join(name));
        let found = || every_in(on_path.as_os_str(), Some(installed.clone()), "bpf-linker");
        let program = |directory: &Path| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join("bpf-linker"), "").unwrap();
            fs::set_permissions(directory.join("bpf-linker"), fs::Permissions::from_mode(0o755)).unwrap();
            directory.join("bpf-linker")
        };
        assert!(found().is_empty());
        let second = program(&installed);
        assert_eq!(found(), std::slice::from_ref(&second));
        assert_eq!([program(&on_path), second].to_vec(), found());
    }

    #[test]
    fn the_target_directory_is_the_one_that_cargo_builds_in() {
        let without = || {
            let mut cargo = cargo();
            cargo.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR");
            cargo
        };
        assert_eq!(target_by(without().env("CARGO_TARGET_DIR", "/a b/c")).unwrap(), Path::new("/a b/c"));
        assert_eq!(target_by(without().env("CARGO_BUILD_TARGET_DIR", "built")).unwrap(), root().join("built"));
        let configured = target_by(without().args(["--config", "build.target-dir='/elsewhere'"])).unwrap();
        assert_eq!(configured, Path::new("/elsewhere"));
    }
}
