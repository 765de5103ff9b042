//! bpf-linker, which turns the classifier's LLVM bitcode into an object with BTF.

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use super::rust_src::rustc_version;
use crate::workspace::{capture, cargo, run, shown, which};
use std::process::Command;

/// The bpf-linker that reads the bitcode of the LLVM in rustc: bitcode is not stable between major versions, and
/// bpf-linker loads the very LLVM that rustc ships. Rust 1.95 has LLVM 22; extend this when the toolchain moves.
const LINKER_OF_LLVM: [(&str, &str); 1] = [("22", "0.10.3")];

/// What would be installed, unless a compatible one is there.
pub(super) fn missing() -> Result<Option<String>> {
    let (_, wanted) = wanted()?;
    let is_there = installed().is_some_and(|found| is_compatible(&found, wanted));
    Ok((!is_there).then(|| format!("{wanted}, by cargo install, in cargo's bin directory (half a minute)")))
}

/// The LLVM of rustc, and the bpf-linker for it.
fn wanted() -> Result<(String, &'static str)> {
    let llvm = rustc_version("LLVM version")?;
    let major = llvm.split('.').next().unwrap_or_default();
    let Some((_, wanted)) = LINKER_OF_LLVM.iter().find(|(llvm, _)| *llvm == major) else {
        let known = LINKER_OF_LLVM.map(|(llvm, linker)| format!("{llvm} (bpf-linker {linker})")).join(", ");
        bail!(
            "no bpf-linker is known for rustc's LLVM {llvm}, only for LLVM {known}; use that toolchain, or extend \
             LINKER_OF_LLVM in testing/support/src/setup/linker.rs"
        );
    };
    Ok((llvm, wanted))
}

/// Installs bpf-linker unless a compatible one is there.
pub(super) fn ensure() -> Result<Outcome> {
    let (llvm, wanted) = wanted()?;
    if let Some(found) = installed()
        && is_compatible(&found, wanted)
    {
        return Ok(Outcome::Present(format!("{found}, for rustc's LLVM {llvm}")));
    }
    let mut install = cargo();
    // Its work is LLVM's, which is compiled already: without optimisation it links as fast, and is here in half the
    // time.
    install.args(["install", "bpf-linker", "--version", wanted, "--locked", "--debug"]);
    eprintln!("installing bpf-linker {wanted} (half a minute)");
    run(&mut install).with_context(|| format!("run by hand: {}", shown(&install)))?;
    match installed() {
        Some(found) if is_compatible(&found, wanted) => Ok(Outcome::Installed(found)),
        Some(found) => bail!("bpf-linker {found} comes first on PATH, {wanted} is needed; remove the former"),
        None => bail!("bpf-linker is installed but not on PATH; run by hand: export PATH=\"$HOME/.cargo/bin:$PATH\""),
    }
}

fn installed() -> Option<String> {
    let path = which("bpf-linker")?;
    let said = capture(Command::new(path).arg("--version")).ok()?;
    said.split_whitespace().nth(1).map(str::to_owned)
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
    use super::is_compatible;

    #[test]
    fn a_newer_patch_of_the_same_minor_is_compatible_and_nothing_else_is() {
        assert!(is_compatible("0.10.3", "0.10.3"));
        assert!(is_compatible("0.10.12", "0.10.3"));
        assert!(!is_compatible("0.10.2", "0.10.3"));
        assert!(!is_compatible("0.11.0", "0.10.3"));
        assert!(!is_compatible("0.9.15", "0.10.3"));
        assert!(!is_compatible("", "0.10.3"));
    }
}
