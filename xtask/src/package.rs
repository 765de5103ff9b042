//! `cargo xtask package`: the crates as they would be uploaded, and an installation from nothing but them.
//!
//! [`features`] builds each optional part alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::dist::{links, version};
use testing_support::setup;
use testing_support::workspace::target;
use testing_support::workspace::{capture, cargo, cargo_home, object, root, run};

/// What is published, in the order of uploading.
const CRATES: [&str; 4] = ["go-metro-common", "go-metro-rtt", "go-metro-userspace", "go-metro"];
/// What can be left out of the daemon.
const FEATURES: [&str; 5] = ["otlp", "pcap", "prometheus", "top", "web"];

/// Arguments of `package`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Make the packages, but do not install from them
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
    testing_support::build_ebpf::ensure()?;
    fs::copy(object(), root().join("go-metro-userspace/classifier.o"))?;
    let page = links::outward(&fs::read_to_string(root().join("README.md"))?, "README.md", |_| false);
    for folder in ["go-metro-userspace", "packaging/crate"] {
        fs::write(root().join(folder).join("README.md"), &page)?;
    }
    let mut package = cargo();
    // Untracked are only the classifier and the page. What is packaged is built below, with less around it than
    // `--verify` has.
    package.args(["package", "--quiet", "--allow-dirty", "--no-verify"]);
    for name in CRATES {
        package.args(["--package", name]);
    }
    run(&mut package)?;
    let packages = target().join("package");
    for name in CRATES {
        let file = packages.join(format!("{name}-{}.crate", version()));
        println!("{:8} bytes  {}", file.metadata()?.len(), file.display());
        ensure_complete(name, &file)?;
    }
    if args.no_install { Ok(()) } else { install(&packages) }
}

/// What a page of the registry shows must lead somewhere, and a licence must be there.
fn ensure_complete(name: &str, package: &Path) -> Result<()> {
    let read = |file: &str| {
        let file = format!("{name}-{}/{file}", version());
        capture(Command::new("tar").arg("-xzOf").arg(package).arg(file))
    };
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let there = fs::read_to_string(root().join(licence))?;
        ensure!(read(licence)?.trim() == there.trim(), "{name} has no {licence}");
    }
    if ["go-metro", "go-metro-userspace"].contains(&name) {
        let page = read("README.md")?;
        ensure!(!page.contains("](docs/"), "{name}: README.md links to files that are not in the package");
    }
    Ok(())
}

/// Makes a root of the system's files, a toolchain and the packages, and runs a command in it: no home, nothing in
/// `/usr/local`, and of the toolchain no source of the standard library.
const IN_ROOT: &str = r#"
root=$1 toolchain=$2 work=$3 target=$4
shift 4
mount -t tmpfs -o mode=755 none "$root"
for directory in bin etc lib lib32 lib64 libx32 sbin usr; do
    if [ -L "/$directory" ]; then cp -P "/$directory" "$root"
    elif [ -d "/$directory" ]; then mkdir "$root/$directory"; mount --bind "/$directory" "$root/$directory"
    fi
done
mount -t tmpfs none "$root/usr/local"
mkdir -p "$root/toolchain" "$root/work" "$root/target" "$root/dev" "$root/proc"
mkdir -m 1777 "$root/tmp"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount --bind "$toolchain" "$root/toolchain"
mount --bind "$work" "$root/work"
mount --bind "$target" "$root/target"
sources=$root/toolchain/lib/rustlib/src
[ ! -d "$sources" ] || mount -t tmpfs none "$sources"
exec chroot "$root" "$@"
"#;

/// What cargo tells the tasks that it runs, and what `.cargo/config.toml` sets.
const INHERITED: [&str; 6] =
    ["CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "LIBPCAP_LIBDIR", "RUSTC_BOOTSTRAP", "RUSTUP_TOOLCHAIN"];

/// Fails where what `cargo install` is not to need is there, then runs it.
const INSTALL: &str = r#"
for program in bpf-linker rustup; do
    if command -v "$program"; then echo "$program is in the root" >&2; exit 1; fi
done
if [ -e /toolchain/lib/rustlib/src/rust ]; then echo "rust-src is in the root" >&2; exit 1; fi
cd /work
exec cargo install "$@"
"#;

/// `cargo install` from the unpacked packages, in a root where there is neither bpf-linker nor rust-src nor another
/// toolchain.
fn install(packages: &Path) -> Result<()> {
    if !setup::is_root() {
        println!("skipped: installing from the packages needs root; run\n{}", setup::as_root("package"));
        return Ok(());
    }
    let work = tempfile::tempdir()?;
    let mut arguments = vec!["--locked".to_owned(), "--debug".to_owned()];
    for name in CRATES {
        let name = format!("{name}-{}", version());
        let file = packages.join(format!("{name}.crate"));
        capture(Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(work.path()))?;
    }
    for name in &CRATES[..CRATES.len() - 1] {
        arguments.push("--config".to_owned());
        arguments.push(format!("patch.crates-io.{name}.path=\"/work/{name}-{}\"", version()));
    }
    arguments.extend(["--path".to_owned(), format!("/work/go-metro-{}", version())]);
    arguments.extend(["--root", "/work/root", "--target-dir", "/target"].map(str::to_owned));

    // Where the registry is, if that has been configured.
    let home = work.path().join("home/.cargo");
    fs::create_dir_all(&home)?;
    let configuration = cargo_home()?.join("config.toml");
    if configuration.exists() {
        fs::copy(configuration, home.join("config.toml"))?;
    }
    let sysroot = capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let place = tempfile::tempdir()?;
    let cache = target().join("install");
    fs::create_dir_all(&cache)?;
    let in_root = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", IN_ROOT, "sh"]);
        command.arg(place.path()).arg(&sysroot).arg(work.path()).arg(&cache).args(arguments);
        command.env("HOME", "/work/home").env("PATH", "/toolchain/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        INHERITED.iter().fold(&mut command, |command, name| command.env_remove(name));
        command
    };
    run(in_root(&["/bin/sh", "-ec", INSTALL, "sh"]).args(&arguments))?;

    let installed = "/work/root/bin/go-metro";
    let said = capture(&mut in_root(&[installed, "--version"]))?;
    // With the commit, which the package has if it was made in a repository.
    let plain = format!("go-metro {}", version());
    ensure!(said == plain || said.starts_with(&format!("{plain} (")), "the installed program says {said}");
    fs::copy(root().join("corpus/clean.pcap.gz"), work.path().join("clean.pcap.gz"))?;
    let said = capture(&mut in_root(&[installed, "read", "/work/clean.pcap.gz"]))?;
    ensure!(said.contains("538 packets"), "the installed program says {said}");
    println!("installed from the packages alone: {said}");
    Ok(())
}

/// Arguments of `features`.
#[derive(clap::Args, Debug)]
pub struct FeaturesArgs {}

/// Looks at the daemon with none of the optional parts and with each alone, by clippy, whose warnings fail.
///
/// # Errors
///
/// It does not build.
pub fn features(_args: &FeaturesArgs) -> Result<()> {
    setup::for_features()?;
    testing_support::build_ebpf::ensure()?;
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
