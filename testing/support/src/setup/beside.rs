//! Emulators that are unpacked below `target/tools`, because installing them would remove a package: qemu's parts break
//! each other across versions, and a machine may have some of them from another release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::packages::{Change, simulated};
use crate::workspace::{capture, target, which};

/// Where a package is unpacked.
fn directory(package: &str) -> PathBuf {
    target().join("tools").join(package)
}

/// The directories of Debian's libraries below `tree`.
fn libraries(tree: &Path) -> Vec<PathBuf> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["usr/lib", "lib"].map(|directory| tree.join(directory).join(&triplet)).into()
}

/// Where `program` of `package` was unpacked.
fn unpacked(package: &str, program: &str) -> Option<PathBuf> {
    Some(directory(package).join("usr/bin").join(program)).filter(|path| path.exists())
}

/// Whether there is an emulator: the system's own, or an unpacked one.
pub(super) fn is_there(package: &str, program: &str) -> bool {
    which(program).is_some() || unpacked(package, program).is_some()
}

/// What to run as `program` of `package`. An emulator finds its firmware from where it is itself.
#[must_use]
pub fn emulator(package: &str, program: &str) -> Command {
    match (which(program), unpacked(package, program)) {
        (None, Some(path)) => {
            let mut command = Command::new(path);
            let paths = std::env::join_paths(libraries(&directory(package)));
            command.envs(paths.ok().map(|paths| ("LD_LIBRARY_PATH", paths)));
            command
        }
        _ => Command::new(program),
    }
}

/// Download a package with what it depends on and the system lacks, of apt's own lists, and unpack it. No root is
/// needed, and the system's packages stay as they are.
///
/// # Errors
///
/// A download fails, or there is no space.
pub(super) fn unpack(package: &str) -> Result<()> {
    let names = simulated(&[package])?;
    let names =
        super::packages::planned(&names).filter_map(|(change, name)| (change == Change::Install).then_some(name));
    let new = directory(package).with_extension("new");
    let _ = fs::remove_dir_all(&new);
    fs::create_dir_all(&new)?;
    let debs = tempfile::tempdir_in(target())?;
    capture(Command::new("apt-get").arg("download").args(names).current_dir(&debs))?;
    for entry in fs::read_dir(&debs)? {
        capture(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(&new))?;
    }
    // The last step, so that what exists is whole.
    let _ = fs::remove_dir_all(directory(package));
    fs::rename(&new, directory(package)).with_context(|| format!("cannot unpack {package}"))
}
