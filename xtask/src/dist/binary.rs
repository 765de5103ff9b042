//! The binary that is shipped: stripped, and needing only what every Linux with glibc has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use testing_support::setup::host_triple;
use testing_support::workspace::capture;

/// Shared libraries that it may need: the C library with its loader, and the compiler's own.
const ALLOWED: [&str; 4] = ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux"];

/// Copies a build without its debug information; the oldest glibc that it runs with, such as `2.34`.
///
/// # Errors
///
/// It needs another library, which may be missing elsewhere.
pub fn strip(built: &Path, to: &Path) -> Result<String> {
    fs::copy(built, to).with_context(|| format!("cannot copy {}", built.display()))?;
    capture(Command::new("strip").arg(to))?;
    let needed = needed(to)?;
    if let Some(library) = needed.iter().find(|name| !ALLOWED.iter().any(|allowed| name.starts_with(allowed))) {
        bail!("{} needs {library}, which may be missing elsewhere; `cargo xtask setup` says why", built.display());
    }
    oldest_glibc(to)
}

/// Copies a program for any architecture without its symbols and debug information.
///
/// # Errors
///
/// rustc has no `rust-objcopy`, or that cannot read the program.
pub fn without_symbols(from: &Path, to: &Path) -> Result<()> {
    // This machine's strip knows this machine's programs alone. rustc's needs rustc's own libraries.
    let sysroot = PathBuf::from(capture(Command::new("rustc").args(["--print", "sysroot"]))?);
    let objcopy = sysroot.join("lib/rustlib").join(host_triple()?).join("bin/rust-objcopy");
    let mut command = Command::new(objcopy);
    command.env("LD_LIBRARY_PATH", sysroot.join("lib")).arg("--strip-all").arg(from).arg(to);
    capture(&mut command).map(drop)
}

/// The shared libraries that a binary names.
///
/// # Errors
///
/// `readelf` cannot read it.
pub fn needed(binary: &Path) -> Result<Vec<String>> {
    let dynamic = capture(Command::new("readelf").args(["--wide", "--dynamic"]).arg(binary))?;
    let names = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    Ok(names.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect())
}

/// The newest version of glibc's symbols that a binary uses.
fn oldest_glibc(binary: &Path) -> Result<String> {
    let versions = capture(Command::new("readelf").args(["--wide", "--version-info"]).arg(binary))?;
    newest_glibc(&versions).context("it uses no symbol of glibc")
}

fn newest_glibc(versions: &str) -> Option<String> {
    let versions = versions.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_")).filter_map(|version| {
        let (major, minor) = version.split_once('.')?;
        // `2.2.5`: its patch level does not matter.
        Some((major.parse::<u32>().ok()?, minor.split('.').next()?.parse::<u32>().ok()?))
    });
    versions.max().map(|(major, minor)| format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_says_which_glibc_is_the_oldest() {
        let readelf = "  0x0010:   Name: GLIBC_2.4  Flags: none  Version: 12\n  \
                       0x0020:   Name: GLIBC_2.34  Flags: none\n\
                       0x0030:   Name: GLIBC_2.2.5  Flags: none  Version: 4\n  Name: GCC_3.0";
        assert_eq!(newest_glibc(readelf).as_deref(), Some("2.34"));
        assert_eq!(newest_glibc("Name: GCC_3.0"), None);
    }
}
