//! The file system of a test machine, in memory: busybox, iproute2, the agent, this program, and a kernel's modules.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::package::Kernel;
use testing_support::apt::{self, Apt};
use testing_support::workspace::{capture, which};
use xtask::dist::binary;

/// From the machine that builds it, with their libraries.
const TOOLS: [&str; 3] = ["ip", "tc", "setpriv"];

const DIRECTORIES: [&str; 9] = ["bin", "usr/bin", "usr/lib", "proc", "sys", "dev", "run", "tmp", "etc"];

/// What is tested.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The agent's binary.
    pub agent: PathBuf,
    /// The program with the tests, this one.
    pub tests: PathBuf,
    /// The classifier's object, for its verdict and size alone; the agent has its own copy inside.
    pub object: PathBuf,
}

/// The part that is the same for every kernel: a cpio archive.
pub(super) fn common(programs: &Programs) -> Result<Vec<u8>> {
    let tree = tempfile::tempdir()?;
    let root = tree.path();
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory))?;
    }
    let mut libraries = BTreeSet::new();
    let mut add = |from: &Path, to: &str| -> Result<()> {
        libraries.extend(libraries_of(from)?);
        copy(from, &root.join(to))
    };
    let find = |tool: &str| which(tool).with_context(|| format!("no {tool}; run `cargo xtask setup`"));
    add(&find("busybox")?, "bin/busybox")?;
    for tool in TOOLS {
        add(&find(tool)?, &format!("usr/bin/{tool}"))?;
    }
    for (from, name) in [(&programs.agent, "go-metro"), (&programs.tests, "tests")] {
        let place = root.join("usr/bin").join(name);
        libraries.extend(libraries_of(from)?);
        // Debug information is most of them, and would have to fit into the machine's memory.
        capture(Command::new("strip").arg("-o").arg(&place).arg(from))?;
    }
    copy(&programs.object, &root.join("usr/lib/go-metro.o"))?;
    for library in libraries {
        copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
    }
    init(root)?;
    archive(root)
}

/// The same for a machine of another architecture: tools and their libraries from Debian's packages.
///
/// # Errors
///
/// The mirror does not have a package, or one is not as expected.
pub(super) fn common_of_arm64(programs: &Programs) -> Result<Vec<u8>> {
    let packages = tempfile::tempdir()?;
    let apt = Apt::of("arm64")?;
    let mirror = apt::mirror();
    apt.read_suite(&mirror, mirror.suites.first().map_or("stable", String::as_str))?;
    // Beside the tools only libraries: nothing of this is installed.
    let brings = ["busybox-static", "iproute2", "util-linux"];
    for package in apt.with_dependencies(&brings)? {
        if brings.contains(&package.as_str()) || package.starts_with("lib") || package == "zlib1g" {
            apt.unpack(&package, packages.path())?;
        }
    }
    let tree = tempfile::tempdir()?;
    let root = tree.path();
    for directory in DIRECTORIES.into_iter().chain(["lib", "usr/lib/aarch64-linux-gnu"]) {
        fs::create_dir_all(root.join(directory))?;
    }
    for (tool, place) in TOOLS.into_iter().map(|tool| (tool, "usr/bin")).chain([("busybox", "bin")]) {
        let places = ["bin", "sbin", "usr/bin", "usr/sbin"].map(|place| packages.path().join(place).join(tool));
        let file = places.iter().find(|file| file.exists()).with_context(|| format!("no package brings {tool}"))?;
        copy(file, &root.join(place).join(tool))?;
    }
    for directory in ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu"] {
        let Ok(entries) = packages.path().join(directory).read_dir() else { continue };
        for entry in entries {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            if path.is_file() && name.to_string_lossy().contains(".so") {
                copy(&path, &root.join("usr/lib/aarch64-linux-gnu").join(&name))?;
            }
        }
    }
    let loader = "ld-linux-aarch64.so.1";
    copy(&root.join("usr/lib/aarch64-linux-gnu").join(loader), &root.join("lib").join(loader))?;
    for (from, name) in [(&programs.agent, "go-metro"), (&programs.tests, "tests")] {
        binary::without_symbols(from, &root.join("usr/bin").join(name))?;
    }
    copy(&programs.object, &root.join("usr/lib/go-metro.o"))?;
    init(root)?;
    archive(root)
}

fn init(root: &Path) -> Result<()> {
    let init = root.join("init");
    fs::write(&init, include_str!("init.sh"))?;
    Ok(fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?)
}

/// The part that a kernel brings. The kernel unpacks archives one after the other.
pub(super) fn modules(kernel: &Kernel) -> Result<Vec<u8>> {
    let tree = tempfile::tempdir()?;
    let place = tree.path().join("modules");
    fs::create_dir(&place)?;
    for entry in fs::read_dir(&kernel.modules)? {
        let entry = entry?;
        fs::copy(entry.path(), place.join(entry.file_name()))?;
    }
    archive(tree.path())
}

/// The libraries that a program is linked with, and its loader; none for one that is linked statically.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    let words = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(words).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The tree at `root` as the kernel wants it.
fn archive(root: &Path) -> Result<Vec<u8>> {
    let names = capture(Command::new("busybox").args(["find", "."]).current_dir(root))?;
    let errors = tempfile::tempfile()?;
    let mut child = Command::new("busybox")
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(File::try_clone(&errors)?))
        .spawn()
        .context("cannot run busybox")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(names.as_bytes())?;
        stdin.write_all(b"\n")?;
    }
    let mut bytes = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut bytes)?;
    }
    if !child.wait()?.success() {
        bail!("`busybox cpio` failed");
    }
    Ok(bytes)
}
