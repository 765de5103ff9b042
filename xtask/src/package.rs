//! `cargo xtask package`: the crates as they would be uploaded, and an installation from nothing but them.
//!
//! [`features`] builds each optional part alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::dist::version;
use crate::run::target;
use crate::setup;
use crate::workspace::{capture, cargo, object, root, run};

/// What is published, in the order of uploading.
const CRATES: [&str; 3] = ["go-metro-common", "go-metro-userspace", "go-metro"];
/// What can be left out of the daemon.
const FEATURES: [&str; 3] = ["pcap", "prometheus", "top"];

/// Arguments of `package`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Make the packages and do not install from them
    #[arg(long)]
    no_install: bool,
}

/// Packages the crates, with the classifier's object in the daemon's, and installs the daemon from them.
///
/// # Errors
///
/// A crate cannot be packaged, or what was packaged does not build or run.
pub fn main(args: &Args) -> Result<()> {
    setup::for_run()?;
    crate::build_ebpf::ensure()?;
    fs::copy(object(), root().join("go-metro-userspace/classifier.o"))?;
    fs::copy(root().join("conf.yaml.example"), root().join("go-metro-userspace/conf.yaml.example"))?;
    let mut package = cargo();
    // Untracked is only the classifier. What is packaged is built below, with less around it than `--verify` has.
    package.args(["package", "--quiet", "--allow-dirty", "--no-verify"]);
    for name in CRATES {
        package.args(["--package", name]);
    }
    run(&mut package)?;
    let packages = target().join("package");
    for name in CRATES {
        let file = packages.join(format!("{name}-{}.crate", version()));
        println!("{:8} bytes  {}", file.metadata()?.len(), file.display());
    }
    if args.no_install { Ok(()) } else { install(&packages) }
}

/// `cargo install` from the unpacked packages, where there is neither bpf-linker nor rust-src.
fn install(packages: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let mut arguments = vec!["install".to_owned(), "--locked".to_owned(), "--debug".to_owned()];
    for name in CRATES {
        let name = format!("{name}-{}", version());
        let file = packages.join(format!("{name}.crate"));
        capture(Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(work.path()))?;
    }
    for name in &CRATES[..2] {
        let place = work.path().join(format!("{name}-{}", version()));
        arguments.push("--config".to_owned());
        arguments.push(format!("patch.crates-io.{name}.path=\"{}\"", place.display()));
    }
    let program = work.path().join(format!("go-metro-{}", version()));
    let sysroot = capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    // The toolchain's own programs and the system's alone are on the path; its rust-src is covered where that may be done.
    let script = "mount -t tmpfs none \"$1/lib/rustlib/src\" 2>/dev/null || true; shift; exec \"$@\"";
    let mut command = Command::new(if setup::is_root() { "unshare" } else { "env" });
    if setup::is_root() {
        command.args(["--mount", "--propagation", "private"]);
    }
    command.args(["sh", "-c", script, "sh", &sysroot, &format!("{sysroot}/bin/cargo")]).args(&arguments);
    command.arg("--path").arg(&program).arg("--root").arg(work.path().join("root"));
    command.arg("--target-dir").arg(target().join("install")).current_dir(work.path());
    command
        .env("PATH", format!("{sysroot}/bin:/usr/bin:/bin"))
        .env("LIBPCAP_LIBDIR", root().join("target/static-libs"));
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_BOOTSTRAP"] {
        command.env_remove(name);
    }
    run(&mut command)?;
    let installed = work.path().join("root/bin/go-metro");
    let said = capture(Command::new(&installed).arg("--version"))?;
    // With the commit, which the package has if it was made in a repository.
    let plain = format!("go-metro {}", version());
    ensure!(said == plain || said.starts_with(&format!("{plain} (")), "the installed program says {said}");
    let capture_file = root().join("corpus/clean.pcap.gz");
    let said = capture(Command::new(&installed).arg("read").arg(capture_file))?;
    ensure!(said.contains("538 packets"), "the installed program says {said}");
    println!("installed from the packages alone: {said}");
    Ok(())
}

/// Arguments of `features`.
#[derive(clap::Args, Debug)]
pub struct FeaturesArgs {}

/// Builds the daemon with none of the optional parts and with each alone, and has the compiler's warnings fail.
///
/// # Errors
///
/// It does not build.
pub fn features(_args: &FeaturesArgs) -> Result<()> {
    setup::for_run()?;
    crate::build_ebpf::ensure()?;
    for features in [""].iter().chain(&FEATURES) {
        println!("features: {}", if features.is_empty() { "none" } else { features });
        let mut command = cargo();
        command.args([
            "clippy",
            "--quiet",
            "--package",
            "go-metro-userspace",
            "--no-default-features",
            "--features",
            features,
        ]);
        run(command.args(["--", "-Dwarnings"]))?;
    }
    Ok(())
}
