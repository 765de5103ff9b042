//! Debian packages: only what is missing, by what it would bring, and without starting or enabling a service.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Outcome, beside};
use crate::workspace::{capture, output, quoted, shown, target, which};

/// What a package is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Compiling and linking.
    Build,
    /// Network namespaces, for the demo and the tests.
    Lab,
    /// End-to-end tests.
    Test,
    /// Other tools that measure, to compare with.
    Compare,
    /// Tests of shells' completions.
    Screens,
    /// Tests of what a browser shows: the page, and the plot.
    Browser,
    /// Fuzzing.
    Fuzz,
    /// Booting other kernels.
    Kernels,
    /// Booting kernels of arm64.
    Arm64,
    /// Tools that come as Python packages.
    Python,
    /// Building libpcap for static binaries, and running those of the other architecture.
    Cross,
    /// Checking and installing packages, building and running images.
    Deployment,
}

impl Need {
    /// What it is for, in a word or two.
    pub(super) fn purpose(self) -> &'static str {
        match self {
            Self::Build => "to build",
            Self::Lab => "network namespaces",
            Self::Test => "end-to-end tests",
            Self::Compare => "to compare with",
            Self::Screens => "shells",
            Self::Browser => "a browser",
            Self::Fuzz => "fuzzing",
            Self::Kernels => "other kernels",
            Self::Arm64 => "kernels of arm64",
            Self::Python => "Python",
            Self::Cross => "static binaries",
            Self::Deployment => "packages, images",
        }
    }
}

impl Need {
    /// Whether a package may be passed over where this system has none of that name: only single tests use it.
    fn is_for_tests_alone(self) -> bool {
        matches!(self, Self::Test | Self::Compare | Self::Screens | Self::Deployment)
    }
}

/// How to tell that what a package is used for is there, from a package or not.
enum Sign {
    /// A program on the path.
    Program(&'static str),
    /// Any of these programs.
    OneOf(&'static [&'static str]),
    /// As that, or unpacked below `target` ([`beside`]).
    Emulator(&'static str),
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

/// The names of Chromium and its kin; any of them does.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The browser that tests look at pages with.
#[must_use]
pub fn browser() -> Option<PathBuf> {
    BROWSERS.into_iter().find_map(which)
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
    Package { need: Need::Lab, name: "iproute2", sign: Sign::Program("ip") },
    // libFuzzer is C++.
    Package { need: Need::Fuzz, name: "g++", sign: Sign::Program("c++") },
    Package { need: Need::Test, name: "iputils-ping", sign: Sign::Program("ping") },
    Package { need: Need::Test, name: "tcpdump", sign: Sign::Program("tcpdump") },
    Package { need: Need::Test, name: "tshark", sign: Sign::Program("tshark") },
    Package { need: Need::Compare, name: "tcptrace", sign: Sign::Program("tcptrace") },
    Package { need: Need::Compare, name: "iperf3", sign: Sign::Program("iperf3") },
    Package { need: Need::Test, name: "curl", sign: Sign::Program("curl") },
    Package { need: Need::Test, name: "jq", sign: Sign::Program("jq") },
    Package { need: Need::Test, name: "tmux", sign: Sign::Program("tmux") },
    Package { need: Need::Screens, name: "zsh", sign: Sign::Program("zsh") },
    Package { need: Need::Screens, name: "fish", sign: Sign::Program("fish") },
    Package { need: Need::Test, name: "strace", sign: Sign::Program("strace") },
    Package { need: Need::Test, name: "faketime", sign: Sign::Program("faketime") },
    Package { need: Need::Browser, name: "chromium", sign: Sign::OneOf(&BROWSERS) },
    Package { need: Need::Browser, name: "nodejs", sign: Sign::Program("node") },
    Package { need: Need::Browser, name: "npm", sign: Sign::Program("npm") },
    Package { need: Need::Kernels, name: "qemu-system-x86", sign: Sign::Emulator("qemu-system-x86_64") },
    Package { need: Need::Arm64, name: "qemu-system-arm", sign: Sign::Emulator("qemu-system-aarch64") },
    // Any busybox does: its libraries go with it.
    Package { need: Need::Kernels, name: "busybox-static", sign: Sign::Program("busybox") },
    Package { need: Need::Python, name: "python3-venv", sign: Sign::PythonModule("ensurepip") },
    Package { need: Need::Cross, name: "bison", sign: Sign::Program("bison") },
    Package { need: Need::Cross, name: "flex", sign: Sign::Program("flex") },
    Package { need: Need::Cross, name: "make", sign: Sign::Program("make") },
    // Without the handlers that qemu-user-static registers with the kernel.
    Package { need: Need::Cross, name: "qemu-user", sign: Sign::Program("qemu-aarch64") },
    Package { need: Need::Deployment, name: "systemd-sysv", sign: Sign::File(&["/lib/systemd/systemd"]) },
    Package { need: Need::Deployment, name: "lintian", sign: Sign::Program("lintian") },
    Package { need: Need::Deployment, name: "rpm", sign: Sign::Program("rpm") },
    Package { need: Need::Test, name: "libcap2-bin", sign: Sign::Program("setcap") },
    Package { need: Need::Deployment, name: "podman", sign: Sign::Program("podman") },
    Package { need: Need::Deployment, name: "crun", sign: Sign::Program("crun") },
];

impl Package {
    fn is_there(&self) -> bool {
        match self.sign {
            Sign::Program(program) => which(program).is_some(),
            Sign::OneOf(programs) => programs.iter().any(|program| which(program).is_some()),
            Sign::Emulator(program) => beside::is_there(self.name, program),
            Sign::File(files) => files.iter().any(|file| Path::new(file).exists()),
            Sign::PythonModule(module) => output(Command::new("python3").args(["-c", &format!("import {module}")]))
                .is_ok_and(|o| o.status.success()),
        }
    }
}

/// What of `need` is not there and is to be installed.
pub(super) fn missing(need: Need) -> Vec<&'static str> {
    divided_by_candidates(need).0
}

/// What of `need` is not there and cannot be installed, though it only has tests fail that use it: no package of that
/// name is in apt's lists.
pub(super) fn unavailable(need: Need) -> Vec<&'static str> {
    divided_by_candidates(need).1
}

/// What of `need` is not there: what to install, and what to pass over.
fn divided_by_candidates(need: Need) -> (Vec<&'static str>, Vec<&'static str>) {
    let wanted = PACKAGES.iter().filter(|package| package.need == need && !package.is_there());
    let names: Vec<_> = wanted.map(|package| package.name).collect();
    // The question takes a while, and there is seldom one.
    if names.is_empty() || !need.is_for_tests_alone() || !lists_are_read() {
        return (names, Vec::new());
    }
    let policy = capture(Command::new("apt-cache").arg("policy").args(&names).env("LC_ALL", "C"));
    let policy = policy.unwrap_or_default();
    names.into_iter().partition(|name| has_candidate(&policy, name))
}

/// Whether apt has lists of packages: images come without.
fn lists_are_read() -> bool {
    let entries = fs::read_dir("/var/lib/apt/lists").into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

/// Whether `apt-cache policy` names a version of `name` that could be installed. A virtual package has none, and of one
/// that it does not know it says nothing.
fn has_candidate(policy: &str, name: &str) -> bool {
    let mut lines = policy.lines().skip_while(|line| line.strip_suffix(':') != Some(name)).skip(1);
    let candidate = lines.find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
}

/// Everything of `need`.
pub(super) fn names(need: Need) -> Vec<&'static str> {
    PACKAGES.iter().filter(|package| package.need == need).map(|package| package.name).collect()
}

/// What comes of installing packages.
pub(super) enum Plan {
    /// What it brings along, if anything.
    Known(Option<String>),
    /// apt cannot say: its lists are missing (images ship without) or old.
    ListsFirst,
}

/// What installing `names` would bring along.
///
/// # Errors
///
/// This is no Debian system, this user cannot install, or a package would be removed; the error says what to run by
/// hand.
pub(super) fn plan(names: &[&str]) -> Result<Plan> {
    if which("apt-get").is_none() {
        bail!("missing, by their Debian names: {}; install them with this system's package manager", names.join(" "));
    }
    if let Err(error) = privileged("apt-get") {
        bail!("{error:#}; as root, run the following, then this task again: {}", by_hand(names));
    }
    match simulated(names) {
        Ok(text) => plan_of(names, &text).map(Plan::Known),
        Err(_) => Ok(Plan::ListsFirst),
    }
}

/// What a simulation of installing `names` says; what would remove something by itself and can be unpacked, is.
fn plan_of(names: &[&str], simulation: &str) -> Result<Option<String>> {
    let (install, unpacked) = divided(names, simulation)?;
    if unpacked.is_empty() {
        return changes(names, simulation);
    }
    let others = changes(&install, &simulated(&install)?)?;
    let text = format!("of these, unpacked in target/tools and not installed: {}", unpacked.join(" "));
    Ok(Some(others.map(|others| format!("{others}; {text}")).unwrap_or(text)))
}

/// Which of `names` to install, and which to unpack because apt would remove a package for them ([`beside`]), by a
/// simulation of installing them all.
fn divided<'a>(names: &[&'a str], simulation: &str) -> Result<(Vec<&'a str>, Vec<&'a str>)> {
    let removes = |simulation: &str| planned(simulation).any(|(change, _)| change == Change::Remove);
    let (mut install, mut unpack) = (Vec::new(), Vec::new());
    let may_remove = removes(simulation);
    for name in names {
        let is_emulator = || PACKAGES.iter().any(|p| p.name == *name && matches!(p.sign, Sign::Emulator(_)));
        let is_refused = may_remove && is_emulator() && removes(&simulated(&[name])?);
        if is_refused { &mut unpack } else { &mut install }.push(*name);
    }
    Ok((install, unpack))
}

/// As [`plan`], of all that is missing of `needs`, after apt has read its lists.
///
/// # Errors
///
/// As [`plan`]; or apt does not know a package.
pub(super) fn plan_with_new_lists(needs: &[Need]) -> Result<Option<String>> {
    eprintln!("reading apt's package lists (apt-get update)");
    quietly(privileged("apt-get")?.arg("update"))?;
    // Only now is it known what apt has.
    let mut names: Vec<&str> = needs.iter().flat_map(|need| missing(*need)).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(None);
    }
    let text = simulated(&names).with_context(|| format!("run by hand as root: {}", by_hand(&names)))?;
    plan_of(&names, &text)
}

/// What apt would do if it were to install `names`.
pub(super) fn simulated(names: &[&str]) -> Result<String> {
    let mut simulation = Command::new("apt-get");
    capture(simulation.args(["install", "--simulate", "--no-install-recommends"]).args(names))
}

/// What happens to a package.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Install,
    Upgrade,
    Remove,
}

/// Each change that a simulation names, and its package.
pub(super) fn planned(simulation: &str) -> impl Iterator<Item = (Change, &str)> {
    simulation.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        match (words.next()?, words.next()?, words.next()) {
            // The version that is there is in brackets, before the one that would be.
            ("Inst", name, Some(version)) if version.starts_with('[') => Some((Change::Upgrade, name)),
            ("Inst", name, _) => Some((Change::Install, name)),
            ("Remv", name, _) => Some((Change::Remove, name)),
            _ => None,
        }
    })
}

/// What a simulation installs, upgrades and removes beside the packages asked for. It is refused where it removes
/// something: that is for the machine's owner to decide.
fn changes(names: &[&str], simulation: &str) -> Result<Option<String>> {
    let (mut new, mut upgraded, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (change, name) in planned(simulation) {
        match change {
            Change::Install if names.contains(&name) => {}
            Change::Install => new.push(name),
            Change::Upgrade => upgraded.push(name),
            Change::Remove => removed.push(name),
        }
    }
    if !removed.is_empty() {
        bail!(
            "apt would remove {} for {}, so nothing is installed; decide by hand, as root: {}",
            removed.join(" "),
            names.join(" "),
            by_hand(names)
        );
    }
    let mut parts = Vec::new();
    if !new.is_empty() {
        parts.push(format!("and {} that they depend on: {}", new.len(), new.join(" ")));
    }
    if !upgraded.is_empty() {
        parts.push(format!("upgrading {}: {}", upgraded.len(), upgraded.join(" ")));
    }
    Ok((!parts.is_empty()).then(|| parts.join("; ")))
}

/// What root would type, which starts no service either: the stand-ins stay where they are.
fn by_hand(names: &[&str]) -> String {
    let _ = write_stand_ins(&stand_ins());
    let option = without_services(&stand_ins());
    let names = names.join(" ");
    format!("apt-get update && apt-get --option {} install --no-install-recommends {names}", quoted(option.as_ref()))
}

/// Install what is missing for `need`.
pub(super) fn ensure(need: Need) -> Result<Outcome> {
    let (missing, unavailable) = divided_by_candidates(need);
    let passed_over = || format!("{}: apt has no package of that name", unavailable.join(" "));
    if missing.is_empty() {
        return Ok(if unavailable.is_empty() {
            Outcome::Present(names(need).join(" "))
        } else {
            Outcome::Skipped(passed_over())
        });
    }
    let (install, unpack) = divided(&missing, &simulated(&missing).unwrap_or_default())?;
    for package in &unpack {
        eprintln!("downloading and unpacking {package}");
        beside::unpack(package)?;
    }
    if !install.is_empty() {
        install_packages(&install)?;
    }
    let is_wanted = |package: &&Package| package.need == need && !unavailable.contains(&package.name);
    if let Some(package) = PACKAGES.iter().filter(is_wanted).find(|package| !package.is_there()) {
        bail!(
            "{} was installed, but what it provides is not found; run by hand as root: {}",
            package.name,
            by_hand(&[package.name])
        );
    }
    let installed = missing.join(" ");
    Ok(Outcome::Installed(if unavailable.is_empty() {
        installed
    } else {
        format!("{installed}; without {}", passed_over())
    }))
}

/// Installs packages, without starting a service or removing anything.
fn install_packages(names: &[&str]) -> Result<()> {
    write_stand_ins(&stand_ins())?;
    ensure_in_place(&stand_ins())?;
    let mut install = privileged("apt-get")?;
    install
        .args(["--option", &without_services(&stand_ins()), "install", "--yes", "--no-install-recommends"])
        // The plan had none; it may be another one once the lists were read again.
        .arg("--no-remove")
        .args(names);
    eprintln!("installing {}", names.join(" "));
    // The lists were read when this was announced, if they had to be; they may still be too old for the mirror.
    if quietly(&mut install).is_err() {
        let mut update = privileged("apt-get")?;
        if let Err(error) = quietly(update.arg("update")).and_then(|()| quietly(&mut install)) {
            bail!("{error:#}\nrun by hand as root: {}", by_hand(names));
        }
    }
    Ok(())
}

/// What Debian's maintainer scripts call to enable and start services (init-system-helpers, systemd).
const SERVICE_PROGRAMS: [&str; 5] =
    ["deb-systemd-helper", "deb-systemd-invoke", "invoke-rc.d", "systemctl", "update-rc.d"];

/// It says what it is when it is asked by [`ASK_STAND_IN`].
const STAND_IN: &str = "#!/bin/sh\n[ \"$1\" != --stand-in ] || echo stand-in\nexit 0\n";
/// Fails unless each program is found in the directory `$0`, and runs.
const ASK_STAND_IN: &str = "for program; do [ \"$(command -v \"$program\")\" = \"$0/$program\" ] && \
                            [ \"$(\"$program\" --stand-in)\" = stand-in ] || exit 1; done";

/// Where set-up's stand-ins are: in a directory that stays, so that what is run by hand finds them, and below the one
/// in which cargo runs what it builds, for /tmp may be mounted `noexec`.
fn stand_ins() -> PathBuf {
    target().join("tools/no-services")
}

/// Have root run the stand-ins, found as dpkg's scripts find them.
///
/// # Errors
///
/// Another program is run, or none: packages would start and enable their services.
fn ensure_in_place(stand_ins: &Path) -> Result<()> {
    let mut ask = privileged("env")?;
    ask.arg(format!("PATH={}", path_with(stand_ins)))
        .args(["sh", "-c", ASK_STAND_IN])
        .arg(stand_ins)
        .args(SERVICE_PROGRAMS);
    if !output(&mut ask)?.status.success() {
        bail!(
            "root cannot run programs in {} (mounted noexec?), so packages would start their services and nothing is \
             installed; set CARGO_TARGET_DIR to a directory where it can",
            stand_ins.display()
        );
    }
    Ok(())
}

/// Write stand-ins that do nothing, to be first on the path of dpkg's scripts ([`without_services`]).
///
/// # Errors
///
/// The directory cannot be written.
pub fn write_stand_ins(directory: &Path) -> Result<()> {
    let executable = || fs::Permissions::from_mode(0o755);
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, executable())?;
    for program in SERVICE_PROGRAMS {
        let file = directory.join(program);
        let is_there = fs::read_to_string(&file).is_ok_and(|text| text == STAND_IN)
            && file.metadata()?.permissions().mode() & 0o111 == 0o111;
        if !is_there {
            // Renamed into place: another task may be installing with it.
            let new = directory.join(format!("{program}.{}", std::process::id()));
            fs::write(&new, STAND_IN)?;
            fs::set_permissions(&new, executable())?;
            fs::rename(&new, &file)?;
        }
    }
    Ok(())
}

/// apt's option by which packages are installed without enabling or starting a service, with stand-ins in `directory`.
#[must_use]
pub fn without_services(directory: &Path) -> String {
    format!("DPkg::Path={}", path_with(directory))
}

/// The path of dpkg's scripts, with a directory first.
fn path_with(directory: &Path) -> String {
    format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", directory.display())
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
        bail!("not root, and no sudo");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_what_comes_with_what_was_asked_for() {
        let simulation = "Reading package lists...\nInst libdbus (1.0 Debian:12 [amd64])\n\
                          Inst libpcap-dev (1.10 Debian:12 [amd64])\nConf libdbus (1.0 Debian:12 [amd64])\n";
        let text = changes(&["libpcap-dev"], simulation).unwrap();
        assert_eq!(text.as_deref(), Some("and 1 that they depend on: libdbus"));
        assert_eq!(changes(&["libdbus", "libpcap-dev"], simulation).unwrap(), None);
    }

    #[test]
    fn a_virtual_package_and_an_unknown_one_have_no_candidate() {
        let policy = "jq:\n  Installed: (none)\n  Candidate: 1.7\n  Version table:\n     1.7 500\n\
                      bpftool:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        assert!(has_candidate(policy, "jq"));
        assert!(!has_candidate(policy, "bpftool") && !has_candidate(policy, "chromium"));
    }

    #[test]
    fn a_plan_names_upgrades_and_is_refused_where_it_removes() {
        let upgrade = "Inst libc6 [2.36-9] (2.36-10 Debian:12 [amd64])\nInst libc6-dev (2.36-10 Debian:12 [amd64])\n";
        assert_eq!(changes(&["libc6-dev"], upgrade).unwrap().as_deref(), Some("upgrading 1: libc6"));
        let removal = "Remv busybox [1.35]\nInst busybox-static (1:1.35 Debian:12 [amd64])\n";
        let said = changes(&["busybox-static"], removal).unwrap_err().to_string();
        assert!(said.starts_with("apt would remove busybox for busybox-static, so nothing is installed"), "{said}");
        assert!(said.contains("DPkg::Path="), "by hand, services are kept from starting too: {said}");
    }

    #[test]
    fn stand_ins_that_do_not_run_are_refused() {
        let place = tempfile::tempdir_in(target()).unwrap();
        let stand_ins = place.path().join("with a blank");
        write_stand_ins(&stand_ins).unwrap();
        let ask = |directory: &Path| {
            let path = path_with(directory);
            let mut sh = Command::new("sh");
            output(sh.args(["-c", ASK_STAND_IN]).arg(directory).args(SERVICE_PROGRAMS).env("PATH", path))
                .unwrap()
                .status
        };
        assert!(ask(&stand_ins).success());
        // As where it is mounted noexec.
        for program in SERVICE_PROGRAMS {
            fs::set_permissions(stand_ins.join(program), fs::Permissions::from_mode(0o644)).unwrap();
        }
        assert!(!ask(&stand_ins).success());
        write_stand_ins(&stand_ins).unwrap();
        assert!(ask(&stand_ins).success());
    }
}
