//! Debian packages: only what is missing, by what it would bring.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::Outcome;
use crate::workspace::{output, shown, which};

/// What a package is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Compiling and linking.
    Build,
    /// End-to-end tests and the demo.
    Test,
    /// Booting other kernels.
    Kernels,
    /// Making packages.
    Packages,
    /// Checking and installing packages, building and running images.
    Deployment,
}

/// How to tell that a package's use is there, whoever installed it.
enum Sign {
    /// A program on the path.
    Program(&'static str),
    /// One of these files.
    File(&'static [&'static str]),
    /// A module of the `python3` on the path.
    PythonModule(&'static str),
}

struct Package {
    need: Need,
    name: &'static str,
    sign: Sign,
}

const PACKAGES: &[Package] = &[
    Package { need: Need::Build, name: "gcc", sign: Sign::Program("cc") },
    Package {
        need: Need::Build,
        name: "libc6-dev",
        sign: Sign::File(&["/usr/include/stdio.h", "/usr/include/x86_64-linux-gnu/stdio.h"]),
    },
    Package {
        need: Need::Build,
        name: "libpcap-dev",
        sign: Sign::File(&["/usr/include/pcap/pcap.h", "/usr/local/include/pcap/pcap.h"]),
    },
    // libFuzzer is C++.
    Package { need: Need::Test, name: "g++", sign: Sign::Program("c++") },
    Package { need: Need::Test, name: "iproute2", sign: Sign::Program("ip") },
    Package { need: Need::Test, name: "iputils-ping", sign: Sign::Program("ping") },
    Package { need: Need::Test, name: "tcpdump", sign: Sign::Program("tcpdump") },
    Package { need: Need::Test, name: "tshark", sign: Sign::Program("tshark") },
    Package { need: Need::Test, name: "tcptrace", sign: Sign::Program("tcptrace") },
    Package { need: Need::Test, name: "iperf3", sign: Sign::Program("iperf3") },
    Package { need: Need::Test, name: "bpftool", sign: Sign::Program("bpftool") },
    Package { need: Need::Test, name: "prometheus", sign: Sign::Program("promtool") },
    Package { need: Need::Test, name: "python3-venv", sign: Sign::PythonModule("ensurepip") },
    Package { need: Need::Test, name: "curl", sign: Sign::Program("curl") },
    Package { need: Need::Test, name: "jq", sign: Sign::Program("jq") },
    Package { need: Need::Test, name: "tmux", sign: Sign::Program("tmux") },
    Package { need: Need::Test, name: "zsh", sign: Sign::Program("zsh") },
    Package { need: Need::Test, name: "fish", sign: Sign::Program("fish") },
    Package { need: Need::Test, name: "strace", sign: Sign::Program("strace") },
    Package { need: Need::Test, name: "faketime", sign: Sign::Program("faketime") },
    Package { need: Need::Kernels, name: "qemu-system-x86", sign: Sign::Program("qemu-system-x86_64") },
    Package { need: Need::Kernels, name: "busybox-static", sign: Sign::Program("busybox") },
    Package { need: Need::Packages, name: "python3-venv", sign: Sign::PythonModule("ensurepip") },
    Package { need: Need::Deployment, name: "systemd-sysv", sign: Sign::File(&["/lib/systemd/systemd"]) },
    Package { need: Need::Deployment, name: "lintian", sign: Sign::Program("lintian") },
    Package { need: Need::Deployment, name: "rpm", sign: Sign::Program("rpm") },
    Package { need: Need::Deployment, name: "libcap2-bin", sign: Sign::Program("setcap") },
    Package { need: Need::Deployment, name: "podman", sign: Sign::Program("podman") },
    Package { need: Need::Deployment, name: "crun", sign: Sign::Program("crun") },
];

impl Package {
    fn is_there(&self) -> bool {
        match self.sign {
            Sign::Program(program) => which(program).is_some(),
            Sign::File(files) => files.iter().any(|file| Path::new(file).exists()),
            Sign::PythonModule(module) => output(Command::new("python3").args(["-c", &format!("import {module}")]))
                .is_ok_and(|o| o.status.success()),
        }
    }
}

/// Installs what is missing for `need`.
pub(super) fn ensure(need: Need) -> Result<Outcome> {
    let wanted = || PACKAGES.iter().filter(move |package| package.need == need);
    let names = |packages: Vec<&Package>| packages.iter().map(|package| package.name).collect::<Vec<_>>().join(" ");
    let missing = names(wanted().filter(|package| !package.is_there()).collect());
    if missing.is_empty() {
        return Ok(Outcome::Present(names(wanted().collect())));
    }
    if which("apt-get").is_none() {
        bail!("missing, by their Debian names: {missing}; install them with this system's package manager");
    }
    let mut install = privileged("apt-get")?;
    install.args(["install", "--yes", "--no-install-recommends"]).args(missing.split(' '));
    let by_hand = format!("apt-get update && apt-get install {missing}");
    eprintln!("installing {missing}");
    // Package lists may be missing or old (images ship without); only then is the long way taken.
    if quietly(&mut install).is_err() {
        let mut update = privileged("apt-get")?;
        if let Err(error) = quietly(update.arg("update")).and_then(|()| quietly(&mut install)) {
            bail!("{error:#}\nrun by hand as root: {by_hand}");
        }
    }
    if let Some(package) = wanted().find(|package| !package.is_there()) {
        bail!("{} was installed, yet what it brings is not found; run by hand as root: {by_hand}", package.name);
    }
    Ok(Outcome::Installed(missing))
}

/// `program` as root: as it is, or through sudo.
fn privileged(program: &str) -> Result<Command> {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(program)
    } else if which("sudo").is_some() {
        let mut command = Command::new("sudo");
        command.args(["--preserve-env=DEBIAN_FRONTEND", program]);
        command
    } else {
        bail!("not root, and no sudo: as root, run `cargo xtask setup`");
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

/// Runs a command whose output matters only when it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    bail!("`{}` failed ({}): {last}", shown(command), output.status);
}
