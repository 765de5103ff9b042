//! Static binaries: musl and libpcap inside, compiled and linked by zig for either architecture.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::binary;
use testing_support::apt::{self, Apt};
use testing_support::setup::{self, STATIC_TARGETS};
use testing_support::workspace::{capture, cargo, root, run};
use testing_support::{build_ebpf, paths};

/// What of libpcap is left out: it would need libraries, or is for devices that carry no TCP.
const WITHOUT: [&str; 8] = [
    "--disable-shared",
    "--without-libnl",
    "--disable-dbus",
    "--disable-usb",
    "--disable-bluetooth",
    "--disable-rdma",
    "--without-dag",
    "--without-snf",
];

/// A static binary and the architecture that it is for, as the kernel calls it.
pub(super) struct Static {
    pub(super) architecture: &'static str,
    pub(super) binary: PathBuf,
}

/// How a binary is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// For tests.
    Debug,
    /// To be shipped, once it is stripped: zig's linker leaves symbols in, whatever cargo asks of it.
    Release,
}

/// Builds the daemon for each architecture.
pub(super) fn all() -> Result<Vec<Static>> {
    STATIC_TARGETS
        .into_iter()
        .map(|target| Ok(Static { architecture: architecture(target), binary: daemon(target, Profile::Release)? }))
        .collect()
}

/// The first part of a target's name.
fn architecture(target: &'static str) -> &'static str {
    target.split('-').next().unwrap_or(target)
}

/// Builds the daemon for a target of [`STATIC_TARGETS`].
///
/// # Errors
///
/// Something that is missing cannot be installed, a build fails, or the binary is not static.
pub fn daemon(target: &str, profile: Profile) -> Result<PathBuf> {
    build_ebpf::ensure()?;
    program(target, profile, "go-metro-userspace", "go-metro")
}

/// Builds a program of this workspace for a target of [`STATIC_TARGETS`].
///
/// # Errors
///
/// As [`daemon`].
pub fn program(target: &str, profile: Profile, package: &str, name: &str) -> Result<PathBuf> {
    let tools = setup::for_static()?;
    let library = libpcap(target, &tools)?;
    let mut path = OsString::from(&tools);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = cargo();
    command.args(["zigbuild", "--target", target, "--package", package, "--bin", name]);
    let directory = match profile {
        Profile::Debug => "debug",
        Profile::Release => {
            command.arg("--release");
            command.env("CARGO_ENCODED_RUSTFLAGS", paths::remapped(&mut Command::new("rustc"), &[])?);
            "release"
        }
    };
    let built = testing_support::workspace::target().join(target).join(directory).join(name);
    if built.exists() {
        command.arg("--quiet");
    }
    // The version is told, for the library cannot be asked: it may be for another machine.
    run(command.env("PATH", path).env("LIBPCAP_LIBDIR", &library).env("LIBPCAP_VER", "1.10.0"))?;
    let needed = binary::needed(&built)?;
    ensure!(needed.is_empty(), "{} needs {needed:?}", built.display());
    Ok(built)
}

/// Builds libpcap from Debian's source package; the directory of its archive.
fn libpcap(target: &str, tools: &Path) -> Result<PathBuf> {
    let place = root().join("target/static-libs").join(target);
    if place.join("libpcap.a").exists() {
        return Ok(place);
    }
    eprintln!("building libpcap for {target}");
    let apt = Apt::new()?;
    let mirror = apt::mirror();
    let work = tempfile::tempdir()?;
    let source = work.path().join("libpcap");
    let suite = mirror.suites.first().map_or("stable", String::as_str);
    apt.read_sources(&mirror, suite)?;
    apt.unpack_source("libpcap", &source)?;
    let python = tools.join("python3");
    for (name, what) in [
        ("cc", format!("cc -target {}", target.replace("-unknown", ""))),
        ("ar", "ar".to_owned()),
        ("ranlib", "ranlib".to_owned()),
    ] {
        // Its path has no blank in it, and neither has that of the directory: configure could not do with one.
        let file = work.path().join(name);
        fs::write(&file, format!("#!/bin/sh\nexec '{}' -m ziglang {what} \"$@\"\n", python.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    let at = |name: &str| work.path().join(name);
    let mut configure = Command::new("./configure");
    configure.args([&format!("--host={}", target.replace("-unknown", "")), "--with-pcap=linux"]).args(WITHOUT);
    configure.env("CC", at("cc")).env("AR", at("ar")).env("RANLIB", at("ranlib")).env("CFLAGS", "-O2 -fPIC");
    capture(configure.current_dir(&source))?;
    capture(Command::new("make").arg("libpcap.a").current_dir(&source))?;
    fs::create_dir_all(&place)?;
    // Renamed into place: what is there is whole.
    fs::copy(source.join("libpcap.a"), place.join("libpcap.new"))?;
    fs::rename(place.join("libpcap.new"), place.join("libpcap.a"))?;
    Ok(place)
}
