//! `cargo xtask build-ebpf`: the classifier's object and its stamp, where the daemon's build script looks for them.

mod stats;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::ebpf_stamp::source_hash;
use crate::paths;
use crate::setup::{self, Toolchain};
use crate::workspace::{cargo, lab_object, object, root, run};

/// Little-endian BPF: what every machine that we ship to has.
const TARGET: &str = "bpfel-unknown-none";

/// Names that target's linker, for which rustc would look on `PATH` alone.
const LINKER_VARIABLE: &str = "CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER";

/// How the kernel program is compiled, beside what cargo's profile says.
const FLAGS: [&str; 4] = [
    // BTF is made from debug information, `core`'s too: with less of it the kernel refuses the BTF of `memcpy` and its
    // kin.
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    // Packet headers are not aligned; the verifier allows wide loads from a packet where the CPU does.
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
    // Registers are spilled whole: verifiers before Linux 5.16 forget what is spilled in part, as v3 does.
    "-Ctarget-cpu=v2",
];

/// Arguments of `build-ebpf`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// Build without optimisation; most verifiers refuse the result
    #[arg(long)]
    debug: bool,
    /// Print the object's size, its programs with their instruction counts, and its maps
    #[arg(long)]
    stats: bool,
    /// Build even when the object is newer than its source
    #[arg(long)]
    force: bool,
}

/// Builds the objects, unless they are current.
///
/// # Errors
///
/// Something that is missing cannot be installed, or the build fails.
pub fn main(args: &Args) -> Result<()> {
    if args.force || args.debug || !is_current()? {
        let toolchain = setup::for_ebpf()?;
        build(toolchain, if args.debug { Profile::Dev } else { Profile::Release })?;
    } else {
        eprintln!("classifier: current ({})", object().display());
    }
    if args.stats {
        stats::print(&object())?;
    }
    Ok(())
}

/// Builds the objects if they are missing or older than their source.
///
/// # Errors
///
/// As [`main`].
pub fn ensure() -> Result<()> {
    if is_current()? { Ok(()) } else { build(setup::for_ebpf()?, Profile::Release) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    Dev,
    Release,
}

fn stamp() -> std::path::PathBuf {
    object().with_extension("stamp")
}

fn is_current() -> Result<bool> {
    let source = source_hash(&root()).context("cannot read the classifier's source")?;
    let built = fs::read_to_string(stamp()).unwrap_or_default();
    Ok(built.trim() == source && object().exists() && lab_object().exists())
}

fn build(toolchain: Toolchain, profile: Profile) -> Result<()> {
    // Taken first: a source that changes during the build then makes the object older, not newer.
    let source = source_hash(&root()).context("cannot read the classifier's source")?;
    eprintln!("classifier: building with {toolchain}");
    let mut command = cargo_for(toolchain, "build")?;
    if profile == Profile::Release {
        command.arg("--release");
    }
    run(&mut command)?;

    let built = root().join("target/ebpf-build").join(TARGET).join(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    });
    fs::create_dir_all(object().parent().unwrap_or(Path::new(".")))?;
    // Without a stamp nobody takes a half-replaced pair for current.
    let _ = fs::remove_file(stamp());
    place(&built.join("go-metro"), &object())?;
    place(&built.join("go-metro-lab"), &lab_object())?;
    let stamped = stamp().with_extension("stamp.new");
    fs::write(&stamped, &source)?;
    fs::rename(&stamped, stamp())?;
    eprintln!("classifier: built {} ({} bytes)", object().display(), object().metadata()?.len());
    Ok(())
}

/// Copies and renames, so that a reader sees the old file or the new one.
fn place(from: &Path, to: &Path) -> Result<()> {
    let beside = to.with_extension("o.new");
    fs::copy(from, &beside).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::rename(&beside, to)?;
    Ok(())
}

/// `cargo <verb>` for the classifier's crate and target, in a target directory of its own: a build for another target
/// with other flags would otherwise throw away the workspace's. The object names none of this machine's directories,
/// for it is shipped.
///
/// # Errors
///
/// There is no rustc of that toolchain, or no linker.
pub fn cargo_for(toolchain: Toolchain, verb: &str) -> Result<Command> {
    let (mut command, mut rustc) = (cargo(), Command::new("rustc"));
    match toolchain {
        // `-Z build-std` is the one unstable thing needed, and `core` of this very compiler is what it builds.
        Toolchain::Stable => {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        Toolchain::Nightly => {
            command = Command::new("cargo");
            command.arg("+nightly").current_dir(root());
            rustc.arg("+nightly");
            // Inherited from the cargo that runs this task; they name the stable toolchain.
            for command in [&mut command, &mut rustc] {
                command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
            }
        }
    }
    command
        .args([verb, "--package", "go-metro-ebpf", "-Zbuild-std=core", "--target", TARGET])
        .args(["--target-dir", "target/ebpf-build"])
        .env(LINKER_VARIABLE, setup::linker()?)
        .env("CARGO_ENCODED_RUSTFLAGS", paths::remapped(&mut rustc, &FLAGS)?);
    Ok(command)
}
