//! bpf-linker, which turns the classifier's LLVM bitcode into an object with BTF.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use super::rust_src::rustc_version;
use crate::workspace::{capture, cargo, every, run, shown};

/// The bpf-linker that reads the bitcode of the LLVM in rustc: bitcode is not stable between major versions, and
/// bpf-linker loads the very LLVM that rustc ships. Rust 1.95 has LLVM 22; extend this when the toolchain moves.
const LINKER_OF_LLVM: [(&str, &str); 1] = [("22", "0.10.3")];

/// The Rust that is known to work: the oldest that the workspace allows, which continuous integration uses too. It is
/// not pinned in a `rust-toolchain.toml`: rustup would download this very release where another one with the same LLVM,
/// or a distribution's, does as well.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// What would be installed, unless a compatible one is there.
pub(super) fn missing() -> Result<Option<String>> {
    let (_, wanted) = wanted()?;
    let text = format!("{wanted}, by cargo install, in cargo's bin directory (half a minute)");
    Ok(installed(wanted).is_none().then_some(text))
}

/// The LLVM of rustc, and the bpf-linker for it.
fn wanted() -> Result<(String, &'static str)> {
    let llvm = rustc_version("LLVM version")?;
    let linker =
        linker_for(&llvm).with_context(|| format!("rustc {}", rustc_version("release").unwrap_or_default()))?;
    Ok((llvm, linker))
}

fn linker_for(llvm: &str) -> Result<&'static str> {
    let major = llvm.split('.').next().unwrap_or_default();
    let Some((_, linker)) = LINKER_OF_LLVM.iter().find(|(llvm, _)| *llvm == major) else {
        let known = LINKER_OF_LLVM.map(|(llvm, linker)| format!("{llvm} (bpf-linker {linker})")).join(", ");
        bail!(
            "no bpf-linker is known for its LLVM {llvm}, only for LLVM {known}; use Rust {RUST}: rustup toolchain \
             install {RUST} && cargo +{RUST} xtask ... (or extend LINKER_OF_LLVM in \
             testing/support/src/setup/linker.rs)"
        );
    };
    Ok(linker)
}

/// Installs bpf-linker unless a compatible one is there.
pub(super) fn ensure() -> Result<Outcome> {
    let (llvm, wanted) = wanted()?;
    if installed(wanted).is_some() {
        return Ok(Outcome::Present(format!("{wanted} or newer, for rustc's LLVM {llvm}")));
    }
    let mut install = cargo();
    // Its work is LLVM's, which is compiled already: without optimisation it links as fast, and is here in half the
    // time.
    install.args(["install", "bpf-linker", "--version", wanted, "--locked", "--debug"]);
    eprintln!("installing bpf-linker {wanted} (half a minute)");
    run(&mut install).with_context(|| format!("run by hand: {}", shown(&install)))?;
    match installed(wanted) {
        Some(path) => Ok(Outcome::Installed(path.display().to_string())),
        None => bail!("bpf-linker {wanted} is installed, but not found; add the directory that cargo named to PATH"),
    }
}

/// The linker for rustc's LLVM, wherever it is found: an older one may come first on `PATH`.
///
/// # Errors
///
/// There is none, or none is known for this rustc.
pub(super) fn path() -> Result<PathBuf> {
    let (_, wanted) = wanted()?;
    installed(wanted).with_context(|| format!("bpf-linker {wanted} is not installed"))
}

fn installed(wanted: &str) -> Option<PathBuf> {
    every("bpf-linker").find(|path| {
        let said = capture(Command::new(path).arg("--version")).unwrap_or_default();
        said.split_whitespace().nth(1).is_some_and(|found| is_compatible(found, wanted))
    })
}

/// The same minor version, and no older patch: in 0.x the minor carries the breaking changes, the LLVM among them.
fn is_compatible(found: &str, wanted: &str) -> bool {
    let parts = |version: &str| -> Option<(u32, u32, u32)> {
        let mut numbers = version.splitn(3, '.').map(|part| part.parse().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??))
    };
    match (parts(found), parts(wanted)) {
        (Some((major, minor, patch)), Some((wanted_major, wanted_minor, wanted_patch))) => {
            (major, minor) == (wanted_major, wanted_minor) && patch >= wanted_patch
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{RUST, is_compatible, linker_for};

    #[test]
    fn a_newer_patch_of_the_same_minor_is_compatible_and_nothing_else_is() {
        assert!(is_compatible("0.10.3", "0.10.3"));
        assert!(is_compatible("0.10.12", "0.10.3"));
        assert!(!is_compatible("0.10.2", "0.10.3"));
        assert!(!is_compatible("0.11.0", "0.10.3"));
        assert!(!is_compatible("0.9.15", "0.10.3"));
        assert!(!is_compatible("", "0.10.3"));
    }

    #[test]
    fn for_a_newer_rust_the_error_names_one_that_works() {
        assert_eq!(linker_for("22.1.2").unwrap(), "0.10.3");
        let said = linker_for("23.0.1").unwrap_err().to_string();
        assert!(said.contains("LLVM 23.0.1") && said.contains(&format!("cargo +{RUST} xtask")), "{said}");
    }
}
