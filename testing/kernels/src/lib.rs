//! `cargo xtask kernels`: real kernels of Debian, from 5.10 to the newest, each booted in a machine of its own
//! ([`machine`]), where the agent measures in every way that the kernel knows ([`crate::guest`]).
//!
//! Order of modules: `initramfs` → `package` → `budget`, `guest`, `machine`.

mod budget;
pub mod guest;
mod initramfs;
mod machine;
mod package;

use anyhow::{Context as _, Result, bail};

pub use initramfs::Programs;

use machine::{Architecture, Said};

use crate::guest::{Message, Path};
use testing_support::workspace::{cargo, object, run};
use testing_support::{build_ebpf, setup};
use xtask::dist::musl::{self, Profile};

/// What is tried where nothing else is asked for.
const ALL: [&str; 5] = ["5.10", "6.1", "6.12", package::NEWEST, "6.1-arm64"];

/// This crate, and its program.
const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// Ends the name of a series for the other architecture.
const ARM64: &str = "-arm64";

/// Arguments of `kernels`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Series such as 6.1 or 6.1-arm64, or `newest` [default: 5.10 6.1 6.12 newest 6.1-arm64]
    versions: Vec<String>,
    /// Write down how many instructions the verifiers follow, as what tests hold later ones against
    #[arg(long)]
    record: bool,
}

/// Builds what is missing, boots each kernel and prints a line for each way to measure.
///
/// # Errors
///
/// Something cannot be had or built, or a kernel fails a test.
pub fn main(args: &Args) -> Result<()> {
    setup::for_kernels()?;
    build_ebpf::ensure()?;
    let versions: Vec<&str> =
        if args.versions.is_empty() { ALL.to_vec() } else { args.versions.iter().map(String::as_str).collect() };
    let mut failed = 0;
    for version in versions {
        let outcome = match version.strip_suffix(ARM64) {
            None => boot(version, &Programs::of_this_machine()?)?,
            Some(_) => boot(version, &Programs::of_arm64()?)?,
        };
        let Some(outcome) = outcome else {
            println!("\nLinux {version}: skipped, as the mirror has no such kernel");
            continue;
        };
        outcome.print();
        if args.record {
            budget::record(version, &outcome.instructions)?;
        }
        failed += outcome.failures(version)?.len();
    }
    if failed > 0 {
        bail!("{failed} tests failed");
    }
    Ok(())
}

impl Programs {
    fn of_this_machine() -> Result<Self> {
        run(cargo().args(["build", "--quiet", "--package", "go-metro-userspace", "--bin", "go-metro"]))?;
        Ok(Self {
            agent: testing_support::workspace::target().join("debug/go-metro"),
            tests: std::env::current_exe().context("where is this program?")?,
            object: object(),
        })
    }

    /// Static ones, built here for arm64; the agent as it is shipped.
    ///
    /// # Errors
    ///
    /// A build fails.
    pub fn of_arm64() -> Result<Self> {
        const TARGET: &str = "aarch64-unknown-linux-musl";
        setup::for_arm64()?;
        Ok(Self {
            // What is shipped, for once: nothing else here runs it on a kernel of its own architecture.
            agent: musl::daemon(TARGET, Profile::Release)?,
            tests: musl::program(TARGET, Profile::Debug, PROGRAM, PROGRAM)?,
            object: object(),
        })
    }
}

/// What became of one kernel.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Its release.
    pub release: String,
    /// Programs and how many instructions the verifier followed.
    pub instructions: Vec<(String, u64)>,
    /// Each way to measure.
    pub paths: Vec<Path>,
    /// What the console said, where the tests did not come to their end.
    pub broke_off: Option<String>,
}

/// Boots the kernel of a series and tests on it; `None` where the mirror has none.
///
/// # Errors
///
/// Something cannot be had, or the machine does not run.
pub fn boot(version: &str, programs: &Programs) -> Result<Option<Outcome>> {
    let (series, architecture) = match version.strip_suffix(ARM64) {
        None => (version, Architecture::Amd64),
        Some(series) => (series, Architecture::Arm64),
    };
    let Some(kernel) = package::find(series, architecture)? else { return Ok(None) };
    let mut initramfs = match architecture {
        Architecture::Amd64 => initramfs::common(programs)?,
        Architecture::Arm64 => initramfs::common_of_arm64(programs)?,
    };
    initramfs.extend(initramfs::modules(&kernel)?);
    let Said { results, console } = machine::run(architecture, &kernel.image, &initramfs)?;
    let mut outcome = Outcome { release: kernel.release, ..Outcome::default() };
    let mut done = false;
    for line in results.lines() {
        match serde_json::from_str(line).with_context(|| format!("no result: {line}"))? {
            Message::Verified { program, instructions } => outcome.instructions.push((program, instructions)),
            Message::Path(path) => outcome.paths.push(path),
            Message::Done => done = true,
        }
    }
    outcome.broke_off = (!done).then(|| machine::tail(&console));
    Ok(Some(outcome))
}

impl Outcome {
    /// Prints a line for each way to measure, and one for the verifier.
    pub fn print(&self) {
        println!("\nLinux {}", self.release);
        let counts: Vec<String> =
            self.instructions.iter().map(|(program, instructions)| format!("{program} {instructions}")).collect();
        println!("  {:<26} {}", "verifier, instructions", counts.join(", "));
        for path in &self.paths {
            let Path { name, failure, hook, samples, errors_ns, note } = path;
            match (failure, errors_ns) {
                (Some(failure), _) => println!("  {name:<26} FAILED   {failure}"),
                (None, errors) => {
                    let (median, largest) = errors.unwrap_or_default();
                    let us = |ns: i64| ns as f64 / 1e3;
                    println!(
                        "  {name:<26} ok  {hook:<8} {samples:>4} samples, off by {:>7.1} µs (median), {:>7.1} µs \
                         (most)  {note}",
                        us(median),
                        us(largest)
                    );
                }
            }
        }
        if let Some(console) = &self.broke_off {
            println!("  the tests broke off; the console's last lines:\n{console}");
        }
    }

    /// What is wrong, a line each.
    ///
    /// # Errors
    ///
    /// What later counts are held against cannot be read.
    pub fn failures(&self, version: &str) -> Result<Vec<String>> {
        let mut failures: Vec<String> =
            self.paths.iter().filter_map(|path| Some(format!("{}: {}", path.name, path.failure.as_ref()?))).collect();
        failures.extend(self.broke_off.iter().map(|console| format!("the tests broke off:\n{console}")));
        failures.extend(budget::overruns(version, &self.instructions)?);
        Ok(failures)
    }
}
