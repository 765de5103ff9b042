//! `cargo xtask setup`: from a bare machine with rustup's stable toolchain to one where everything builds and tests.
//!
//! Every task asks here for what it needs ([`for_run`], [`for_demo`], [`for_test`]); where all is there, that costs a
//! few milliseconds and prints nothing. Where something is missing, it is listed before it is installed
//! ([`steps::prepare`]), and on a terminal the user is asked ([`consent`]). No service is started or enabled, and apt's
//! configuration is left alone.

mod beside;
mod consent;
mod facilities;
mod linker;
mod node;
mod packages;
mod python;
mod rust_src;
mod static_libs;
mod steps;
mod subcommands;
mod unpacked;

use std::fmt::Display;
use std::path::PathBuf;

use anyhow::{Result, bail};

pub use beside::emulator;
pub use consent::assume_yes;
pub use facilities::{as_root, is_root};
pub use node::browser_tools;
use packages::Need;
pub use packages::{without_services, write_stand_ins};
use python::Tools;
pub use rust_src::{STATIC_TARGETS, Toolchain, lacking_components};
use steps::{Step, prepare};
use unpacked::{BUSYBOX, OTLP_RECEIVER, PROMETHEUS};
pub use unpacked::{otlp_receiver, prometheus_programs, static_busybox};

/// Arguments of `setup`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Show what each task needs and would install, and install nothing
    #[arg(long)]
    list: bool,
    /// Fetch rust-src from the distribution into this directory and leave the toolchain alone
    #[arg(long, hide = true, value_name = "DIR")]
    rust_src_into: Option<PathBuf>,
}

/// The classifier's build.
const EBPF: &[Step] = &[Step::Packages(Need::Build), Step::RustSrc, Step::Linker];
/// The daemon's build, apart from the classifier.
const BUILD: &[Step] = &[Step::Packages(Need::Build), Step::StaticLibs];
/// Building everything and running it.
const RUN: &[Step] = &[Step::Packages(Need::Build), Step::StaticLibs, Step::RustSrc, Step::Linker];
/// [`RUN`], and namespaces.
const DEMO: &[Step] =
    &[Step::Packages(Need::Build), Step::Packages(Need::Lab), Step::StaticLibs, Step::RustSrc, Step::Linker];
const ORACLE: &[Step] = &[Step::Packages(Need::Lab), Step::Packages(Need::Test), Step::Packages(Need::Compare)];
const DASHBOARDS: &[Step] = &[Step::Packages(Need::Python), Step::Python(Tools::Dashboards)];
/// A browser, and what drives it.
const BROWSER: &[Step] = &[Step::Packages(Need::Lab), Step::Packages(Need::Browser), Step::Browser];
const FUZZ: &[Step] = &[Step::Packages(Need::Fuzz), Step::Cargo(&subcommands::FUZZ)];
const DENY: &[Step] =
    &[Step::Cargo(&subcommands::DENY), Step::Cargo(&subcommands::MACHETE), Step::Cargo(&subcommands::AUDIT)];
const KERNELS: &[Step] =
    &[Step::Packages(Need::Build), Step::Packages(Need::Lab), Step::Packages(Need::Kernels), Step::StaticLibs];
/// Beside that, for a machine of another architecture.
const ARM64: &[Step] = &[Step::Packages(Need::Arm64)];
const PACKAGES: &[Step] = &[Step::Packages(Need::Python), Step::Python(Tools::Packages)];
const MANIFESTS: &[Step] = &[Step::Packages(Need::Python), Step::Python(Tools::Manifests)];
const DIST: &[Step] = &[
    Step::Packages(Need::Build),
    Step::Packages(Need::Python),
    Step::StaticLibs,
    Step::RustSrc,
    Step::Linker,
    Step::Python(Tools::Packages),
    Step::Python(Tools::Manifests),
];
/// Static binaries: a cross compiler, and what libpcap's own build needs.
const STATIC: &[Step] =
    &[Step::Packages(Need::Python), Step::Packages(Need::Cross), Step::Python(Tools::Cross), Step::MuslTargets];
const SBOM: &[Step] = &[Step::Cargo(&subcommands::CYCLONEDX)];
/// What `test` needs where it may not make namespaces.
const UNIT: &[Step] = &[
    Step::Packages(Need::Build),
    Step::Packages(Need::Fuzz),
    Step::StaticLibs,
    Step::Components,
    Step::RustSrc,
    Step::Linker,
    Step::Cargo(&subcommands::FUZZ),
];
const TEST: &[Step] = &[
    Step::Packages(Need::Build),
    Step::Packages(Need::Lab),
    Step::Packages(Need::Test),
    Step::Packages(Need::Compare),
    Step::Packages(Need::Screens),
    Step::Packages(Need::Browser),
    Step::Packages(Need::Fuzz),
    Step::Packages(Need::Kernels),
    Step::Packages(Need::Python),
    Step::Packages(Need::Deployment),
    Step::StaticLibs,
    Step::Components,
    Step::RustSrc,
    Step::Linker,
    Step::Unpacked(&PROMETHEUS),
    Step::Unpacked(&OTLP_RECEIVER),
    Step::Unpacked(&BUSYBOX),
    Step::Python(Tools::Dashboards),
    Step::Python(Tools::Packages),
    Step::Python(Tools::Manifests),
    Step::Browser,
    Step::Cargo(&subcommands::FUZZ),
];

/// The programs that need root, namespaces, other tools or a built agent, and what their tests need beside the build.
/// Those with the longest tests first: one that began last would be waited for by itself.
const END_TO_END: [(&str, &[Step]); 7] = [
    ("kernels", KERNELS),
    (
        "docs",
        &[
            Step::Packages(Need::Lab),
            Step::Packages(Need::Test),
            Step::Packages(Need::Compare),
            Step::Packages(Need::Python),
            Step::Unpacked(&PROMETHEUS),
            Step::Python(Tools::Dashboards),
        ],
    ),
    (
        "deploy",
        &[
            Step::Packages(Need::Lab),
            Step::Packages(Need::Test),
            Step::Packages(Need::Kernels),
            Step::Packages(Need::Python),
            Step::Packages(Need::Deployment),
            Step::Unpacked(&BUSYBOX),
            Step::Python(Tools::Packages),
            Step::Python(Tools::Manifests),
        ],
    ),
    ("oracle", ORACLE),
    ("faults", &[Step::Packages(Need::Lab), Step::Packages(Need::Test)]),
    (
        "e2e",
        &[
            Step::Packages(Need::Lab),
            Step::Packages(Need::Test),
            Step::Packages(Need::Screens),
            Step::Packages(Need::Browser),
            Step::Unpacked(&PROMETHEUS),
            Step::Unpacked(&OTLP_RECEIVER),
            Step::Browser,
        ],
    ),
    ("lab", &[Step::Packages(Need::Lab), Step::Packages(Need::Test)]),
];

/// The end-to-end programs, in the order in which they begin.
pub fn end_to_end() -> impl Iterator<Item = &'static str> {
    END_TO_END.into_iter().map(|(program, _)| program)
}

/// Tasks and what they need, for `--list`.
const TASKS: [(&str, &[Step]); 13] = [
    ("run", RUN),
    ("demo", DEMO),
    ("dist", DIST),
    ("dist --static, beside that", STATIC),
    ("dist --static, its bill of materials", SBOM),
    ("test", TEST),
    ("test, as an ordinary user", UNIT),
    ("test FILTER, before the tools of the end-to-end programs that it chooses from", RUN),
    ("oracle", ORACLE),
    ("kernels", KERNELS),
    ("kernels, of arm64, beside that", ARM64),
    ("fuzz", FUZZ),
    ("deny", DENY),
];

/// Does all steps of `test`, or lists what each task needs.
///
/// # Errors
///
/// A step failed; the error names what to run by hand.
pub fn main(args: &Args) -> Result<()> {
    if let Some(directory) = &args.rust_src_into {
        return rust_src::fetch_into(directory);
    }
    if args.list {
        steps::list(&TASKS);
        let named = END_TO_END.map(|(program, steps)| (format!("test FILTER, where it is in {program}"), steps));
        steps::list(&named.each_ref().map(|(name, steps)| (name.as_str(), *steps)));
        return Ok(());
    }
    let failed = steps::all(TEST)?;
    say("kernel", &facilities::report());
    if failed > 0 {
        bail!("{failed} steps failed; run what they name, then `cargo xtask setup` again");
    }
    Ok(())
}

/// Install what the classifier's build needs.
///
/// # Errors
///
/// Something is missing and cannot be installed; the error says what to run by hand.
pub fn for_ebpf() -> Result<Toolchain> {
    prepare(EBPF)?;
    rust_src::ensure().map(|(toolchain, _)| toolchain)
}

/// Install what the daemon's build needs, apart from the classifier.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_build() -> Result<()> {
    prepare(BUILD)
}

/// Install what building and running needs, the classifier included.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_run() -> Result<()> {
    prepare(RUN)
}

/// Install what the demo needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_demo() -> Result<()> {
    prepare(DEMO)
}

/// Check that the kernel and this user's rights allow network namespaces.
///
/// # Errors
///
/// They do not; the error says what is missing.
pub fn require_facilities() -> Result<()> {
    facilities::require()
}

/// Install what comparing with other tools needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_oracle() -> Result<()> {
    prepare(ORACLE)
}

/// Install what checking dashboards needs; the directory of its programs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_dashboards() -> Result<PathBuf> {
    prepare(DASHBOARDS)?;
    Ok(python::programs(Tools::Dashboards))
}

/// Install what showing the page in a browser needs, beside the lab.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_browser() -> Result<()> {
    prepare(BROWSER)
}

/// Install what fuzzing needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_fuzz() -> Result<()> {
    prepare(FUZZ)
}

/// Install what checking dependencies needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_deny() -> Result<()> {
    prepare(DENY)
}

/// The bpf-linker for this machine's compiler, on `PATH` or not.
///
/// # Errors
///
/// It is not installed, or none is known for this compiler.
pub fn linker() -> Result<PathBuf> {
    linker::path()
}

/// The target that this machine's compiler builds for.
///
/// # Errors
///
/// rustc does not say.
pub fn host_triple() -> Result<String> {
    rust_src::rustc_version("host")
}

/// Install what tests in the lab need, and check for root and namespaces.
///
/// # Errors
///
/// As [`for_ebpf`]; or the kernel cannot do it.
pub fn for_lab() -> Result<()> {
    for_oracle()?;
    facilities::require()
}

/// Install what booting other kernels needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_kernels() -> Result<()> {
    prepare(KERNELS)
}

/// Install what booting a kernel of arm64 needs, apart from the static binaries' build.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_arm64() -> Result<()> {
    prepare(ARM64)
}

/// Install what making packages needs, apart from the daemon's build; nfpm's path.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_packages() -> Result<PathBuf> {
    prepare(PACKAGES)?;
    Ok(python::programs(Tools::Packages).join("nfpm"))
}

/// Install what making and checking manifests needs: the path of a program, `helm`, `hadolint`, `kubernetes-validate`,
/// or their `python3`.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_manifests(program: &str) -> Result<PathBuf> {
    prepare(MANIFESTS)?;
    Ok(python::programs(Tools::Manifests).join(program))
}

/// Install what `dist` needs, in one go.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_dist() -> Result<()> {
    prepare(DIST)
}

/// Install what building static binaries needs; the directory of cargo-zigbuild and zig's python3.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_static() -> Result<PathBuf> {
    prepare(STATIC)?;
    Ok(python::programs(Tools::Cross))
}

/// Install what writing a bill of materials needs.
///
/// # Errors
///
/// As [`for_ebpf`].
pub fn for_sbom() -> Result<()> {
    prepare(SBOM)
}

/// Install what all checks and tests need; as an ordinary user, what those need that run without root.
///
/// # Errors
///
/// As [`for_lab`].
pub fn for_test() -> Result<()> {
    if !is_root() {
        return prepare(UNIT);
    }
    prepare(TEST)?;
    facilities::require()
}

/// Install what tests of these end-to-end programs need.
///
/// # Errors
///
/// As [`for_lab`].
pub fn for_end_to_end(programs: &[&str]) -> Result<()> {
    let mut steps = Vec::new();
    for step in END_TO_END.iter().filter(|(program, _)| programs.contains(program)).flat_map(|(_, steps)| *steps) {
        if !steps.contains(step) {
            steps.push(*step);
        }
    }
    prepare(&steps)?;
    facilities::require()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_run_has_what_each_of_its_programs_needs() {
        for (program, steps) in END_TO_END {
            assert!(steps.iter().all(|step| TEST.contains(step)), "{program}");
        }
        assert!(UNIT.iter().all(|step| TEST.contains(step)));
    }
}
