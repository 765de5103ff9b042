//! `cargo xtask setup`: from a bare machine with rustup's stable toolchain to one where everything builds and tests.
//!
//! Each step says in one line what it found or did. Every other task asks here for what it needs ([`for_ebpf`],
//! [`for_build`], [`for_lab`]); where all is there that costs a few milliseconds and says nothing.

mod facilities;
mod linker;
mod packages;
mod python;
mod rust_src;
mod static_libs;
mod subcommands;

use std::fmt::Display;
use std::path::PathBuf;

use anyhow::{Result, bail};

use packages::Need;
use python::Tools;
pub use rust_src::Toolchain;

/// Arguments of `setup`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Fetch rust-src from the distribution into this directory and leave the toolchain alone
    #[arg(long, hide = true, value_name = "DIR")]
    rust_src_into: Option<PathBuf>,
}

/// Does all steps, going on past one that fails.
///
/// # Errors
///
/// A step failed; what to run by hand has been said.
pub fn main(args: &Args) -> Result<()> {
    if let Some(directory) = &args.rust_src_into {
        return rust_src::fetch_into(directory);
    }
    type Step = fn() -> Result<Outcome>;
    let steps: [(&str, Step); 13] = [
        ("build tools", || packages::ensure(Need::Build)),
        ("static libraries", static_libs::ensure),
        ("test tools", || packages::ensure(Need::Test)),
        ("rustfmt, clippy", rust_src::ensure_components),
        ("rust-src", || rust_src::ensure().map(|(_, outcome)| outcome)),
        ("bpf-linker", linker::ensure),
        ("dashboard checkers", || python::ensure(Tools::Dashboards)),
        ("cargo-fuzz", || subcommands::FUZZ.ensure()),
        ("packaging", || packages::ensure(Need::Packages)),
        ("packaging tools", || python::ensure(Tools::Packages)),
        ("deployment", || packages::ensure(Need::Deployment)),
        ("manifest tools", || python::ensure(Tools::Manifests)),
        ("kernel", facilities::report),
    ];
    let mut failed = 0;
    for (name, step) in steps {
        match step() {
            Ok(outcome) => say(name, &outcome),
            Err(error) => {
                failed += 1;
                eprintln!("{name:<16} FAILED     {error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} steps failed; run what they name, then `cargo xtask setup` again");
    }
    Ok(())
}

/// What the classifier's build needs.
///
/// # Errors
///
/// Something is missing and cannot be installed; the error says what to run by hand.
pub fn for_ebpf() -> Result<Toolchain> {
    quiet("build tools", packages::ensure(Need::Build)?);
    let (toolchain, outcome) = rust_src::ensure()?;
    quiet("rust-src", outcome);
    quiet("bpf-linker", linker::ensure()?);
    Ok(toolchain)
}

/// What the daemon's build needs, apart from the classifier.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_build() -> Result<()> {
    quiet("build tools", packages::ensure(Need::Build)?);
    quiet("static libraries", static_libs::ensure()?);
    Ok(())
}

/// What comparing with other tools needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_oracle() -> Result<()> {
    quiet("test tools", packages::ensure(Need::Test)?);
    Ok(())
}

/// What checking dashboards needs; the directory of its programs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_dashboards() -> Result<PathBuf> {
    for_oracle()?;
    quiet("dashboard checkers", python::ensure(Tools::Dashboards)?);
    Ok(python::programs(Tools::Dashboards))
}

/// What fuzzing needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_fuzz() -> Result<()> {
    quiet("test tools", packages::ensure(Need::Test)?);
    quiet("cargo-fuzz", subcommands::FUZZ.ensure()?);
    Ok(())
}

/// What checking dependencies needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_deny() -> Result<()> {
    quiet("cargo-deny", subcommands::DENY.ensure()?);
    quiet("cargo-audit", subcommands::AUDIT.ensure()?);
    Ok(())
}

/// The target that this machine's compiler builds for.
///
/// # Errors
///
/// rustc does not say.
pub fn host_triple() -> Result<String> {
    rust_src::rustc_version("host")
}

/// What tests in the lab need: root, namespaces, tools.
///
/// # Errors
///
/// As [`for_ebpf`]; or the kernel cannot do it.
pub fn for_lab() -> Result<()> {
    for_oracle()?;
    facilities::require()
}

/// What booting other kernels needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_kernels() -> Result<()> {
    for_build()?;
    for_oracle()?;
    quiet("kernel tools", packages::ensure(Need::Kernels)?);
    Ok(())
}

/// What making packages needs, apart from the daemon's build: nfpm's path.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_packages() -> Result<PathBuf> {
    quiet("packaging", packages::ensure(Need::Packages)?);
    quiet("packaging tools", python::ensure(Tools::Packages)?);
    Ok(python::programs(Tools::Packages).join("nfpm"))
}

/// What making and checking manifests needs: the path of a program, `helm`, `hadolint`, `kubernetes-validate`, or their
/// `python3`.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_manifests(program: &str) -> Result<PathBuf> {
    quiet("packaging", packages::ensure(Need::Packages)?);
    quiet("manifest tools", python::ensure(Tools::Manifests)?);
    Ok(python::programs(Tools::Manifests).join(program))
}

/// What installing packages and running images in tests needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_deployment() -> Result<()> {
    quiet("deployment", packages::ensure(Need::Deployment)?);
    for_packages()?;
    for_manifests("helm").map(drop)
}

/// What all checks and tests need, apart from the classifier's build.
///
/// # Errors
///
/// As [`for_lab`].
pub fn for_test() -> Result<()> {
    for_build()?;
    quiet("rustfmt, clippy", rust_src::ensure_components()?);
    for_dashboards()?;
    for_deployment()?;
    for_lab()
}

/// What a step came to.
enum Outcome {
    /// All was there; what was found.
    Present(String),
    /// What was installed.
    Installed(String),
    /// Not needed, or not to be had and not essential; why.
    Skipped(String),
}

fn say(name: &str, outcome: &Outcome) {
    let line = |state: &str, what: &dyn Display| eprintln!("{name:<16} {state:<10} {what}");
    match outcome {
        Outcome::Present(what) => line("ok", what),
        Outcome::Installed(what) => line("installed", what),
        Outcome::Skipped(why) => line("skipped", why),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "reads as the end of the step")]
fn quiet(name: &str, outcome: Outcome) {
    if !matches!(outcome, Outcome::Present(_)) {
        say(name, &outcome);
    }
}
