//! The source of `core`, of exactly the compiler's version: the BPF target has no prebuilt one.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use crate::workspace::{capture, output, which};

#[path = "debian.rs"]
mod debian;

/// The toolchain that builds the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The stable toolchain, allowed the one unstable option that is needed.
    Stable,
    /// A nightly that the user has, with its rust-src.
    Nightly,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stable => "the stable toolchain and its rust-src",
            Self::Nightly => "the nightly toolchain",
        })
    }
}

/// Finds a toolchain with rust-src, or gives the stable one its.
pub(super) fn ensure() -> Result<(Toolchain, Outcome)> {
    let sysroot = PathBuf::from(capture(Command::new("rustc").args(["--print", "sysroot"]))?);
    let library = library_of(&sysroot);
    let release = rustc_version("release")?;
    if has_core(&library) {
        return Ok((Toolchain::Stable, Outcome::Present(format!("{release}, {}", library.display()))));
    }
    let component = component("rust-src");
    if has_core(&library) {
        return Ok((Toolchain::Stable, Outcome::Installed(format!("{release}, rustup component"))));
    }
    if let Some(nightly) = nightly() {
        return Ok((Toolchain::Nightly, Outcome::Present(format!("of the nightly toolchain, {}", nightly.display()))));
    }
    let why = component.err().map(|error| format!("{error:#}")).unwrap_or_default();
    match debian::fetch(&release, &library) {
        Ok(version) => Ok((Toolchain::Stable, Outcome::Installed(format!("{release}, Debian package {version}")))),
        Err(error) => bail!(
            "cannot get the source of core for rustc {release} ({why}; {error:#})\nrun by hand: rustup component \
             add rust-src"
        ),
    }
}

/// Where the source of core would come from and go to; `None` where a toolchain has it.
pub(super) fn missing() -> Result<Option<String>> {
    let library = library_of(Path::new(&capture(Command::new("rustc").args(["--print", "sysroot"]))?));
    if has_core(&library) {
        return Ok(None);
    }
    Ok(Some(format!("of this rustc, by rustup or from Debian's package, in {}", library.display())))
}

/// The components that a minimal toolchain lacks, if any.
pub(super) fn missing_components() -> Option<String> {
    let names = lacking_components();
    (!names.is_empty()).then(|| format!("{}, by rustup", names.join(", ")))
}

/// What of rustfmt and clippy is not there.
#[must_use]
pub fn lacking_components() -> Vec<&'static str> {
    lacking().map(|(_, component)| component).collect()
}

/// Where what rustup installs is missing and rustup is not there: what to do.
pub(super) fn without_rustup() -> Option<&'static str> {
    which("rustup").is_none().then_some(RUSTUP)
}

const RUSTUP: &str = "only rustup installs that, and rustup is missing: install Rust through https://rustup.rs";

/// For the tests of the way through Debian's package: leaves the toolchain alone.
pub(super) fn fetch_into(directory: &Path) -> Result<()> {
    let version = debian::fetch(&rustc_version("release")?, directory)?;
    eprintln!("rust-src {version} in {}", directory.display());
    Ok(())
}

/// The programs of rustfmt and clippy that are not there, with their components.
fn lacking() -> impl Iterator<Item = (&'static str, &'static str)> {
    [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")].into_iter().filter(|(program, _)| {
        let there = which(program).is_some_and(|path| {
            // rustup puts a stand-in on the path, which fails where the component is missing.
            output(Command::new(path).arg("--version")).is_ok_and(|output| output.status.success())
        });
        !there
    })
}

/// rustfmt and clippy, which a minimal toolchain lacks.
pub(super) fn ensure_components() -> Result<Outcome> {
    let wanted = lacking_components();
    for name in &wanted {
        component(name)?;
    }
    if let Some((_, name)) = lacking().next() {
        bail!("{name} is missing; run by hand: rustup component add {name}");
    }
    Ok(if wanted.is_empty() { Outcome::Present("both".to_owned()) } else { Outcome::Installed(wanted.join(", ")) })
}

/// What static binaries are built for.
pub const STATIC_TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

/// The targets whose standard library the toolchain lacks.
fn lacking_targets() -> Result<Vec<&'static str>> {
    let sysroot = PathBuf::from(capture(Command::new("rustc").args(["--print", "sysroot"]))?);
    let is_there = |target: &&str| sysroot.join("lib/rustlib").join(target).join("lib").is_dir();
    Ok(STATIC_TARGETS.into_iter().filter(|target| !is_there(target)).collect())
}

/// The targets that would be installed, if any.
pub(super) fn missing_targets() -> Result<Option<String>> {
    let lacking = lacking_targets()?;
    Ok((!lacking.is_empty()).then(|| format!("{}, by rustup", lacking.join(", "))))
}

/// The standard library for static binaries.
pub(super) fn ensure_targets() -> Result<Outcome> {
    let lacking = lacking_targets()?;
    if lacking.is_empty() {
        return Ok(Outcome::Present(STATIC_TARGETS.join(", ")));
    }
    if let Some(remedy) = without_rustup() {
        bail!("{}: {remedy}", lacking.join(", "));
    }
    capture(Command::new("rustup").args(["target", "add"]).args(&lacking).env("RUST_BACKTRACE", "0"))?;
    Ok(Outcome::Installed(lacking.join(", ")))
}

/// A field of `rustc --version --verbose`, such as `release` or `LLVM version`.
pub(super) fn rustc_version(field: &str) -> Result<String> {
    let verbose = capture(Command::new("rustc").args(["--version", "--verbose"]))?;
    let value = verbose.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
    value.map(str::to_owned).with_context(|| format!("`rustc -vV` does not say its {field}"))
}

fn library_of(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust/library")
}

/// cargo resolves `-Z build-std` by the lock file, so that a tree without one is as good as none.
fn has_core(library: &Path) -> bool {
    library.join("core/src/lib.rs").exists() && library.join("Cargo.lock").exists()
}

fn component(name: &str) -> Result<()> {
    if which("rustup").is_none() {
        bail!("{name}: {RUSTUP}");
    }
    let output = output(Command::new("rustup").args(["component", "add", name]).env("RUST_BACKTRACE", "0"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find(|line| line.contains("error") || line.contains("could not"));
        bail!("`rustup component add {name}` failed: {}", line.or(said.lines().last()).unwrap_or_default().trim());
    }
    Ok(())
}

/// The library of a nightly toolchain that has rust-src.
fn nightly() -> Option<PathBuf> {
    let mut rustc = Command::new("rustc");
    rustc.args(["+nightly", "--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN");
    let library = library_of(Path::new(&capture(&mut rustc).ok()?));
    has_core(&library).then_some(library)
}

/// Puts the tree at `from` where `to` is to be, as one step that either happened or did not.
fn place(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("no parent directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let beside = parent.join(format!(".library.{}", std::process::id()));
    capture(Command::new("cp").arg("-a").arg(from).arg(&beside))?;
    // What is there is no library (`has_core`), or this would not have been called.
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot replace {}", to.display()))?;
    }
    fs::rename(&beside, to).with_context(|| format!("cannot create {}", to.display()))
}
