//! `cargo xtask fuzz`: bytes from outside, whatever they are, against what must hold of each parser and of the engine.
//!
//! The targets are a crate of their own in `fuzz/`, as cargo-fuzz wants it, each named after what it proves.
//! `fuzz/seeds` has inputs to start from; what a run finds on its way is kept in `fuzz/corpus`, and what breaks
//! something in `fuzz/artifacts`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use testing_support::workspace::{cargo, root, run, shown};
use testing_support::{build_ebpf, setup};

/// How long each target runs within `cargo xtask test`, all at the same time.
const SHORT: Duration = Duration::from_secs(15);

/// Arguments of `fuzz`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run only this target [default: all, one after another]
    target: Option<String>,
    /// How long each target runs, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Also look for misuse of memory: `address`, for code that is not ours (slower)
    #[arg(long, default_value = "none")]
    sanitizer: String,
}

/// Runs targets for as long as was asked.
///
/// # Errors
///
/// There is no such target; the build fails; a target found something.
pub fn main(args: &Args) -> Result<()> {
    let all = targets()?;
    let wanted: Vec<&String> = all.iter().filter(|target| args.target.as_ref().is_none_or(|t| t == *target)).collect();
    ensure!(!wanted.is_empty(), "no such target; the targets are {}", all.join(", "));
    build(&args.sanitizer)?;
    let mut failed = Vec::new();
    for target in wanted {
        println!("\n--- {target}");
        let status = start(target, Duration::from_secs(args.seconds), Stdio::inherit())?.wait()?;
        failed.extend((!status.success()).then_some(target.as_str()));
    }
    if !failed.is_empty() {
        bail!("failed: {}; the inputs are in fuzz/artifacts", failed.join(", "));
    }
    Ok(())
}

/// The short run: all targets at once. How many held, and what each of the others printed.
///
/// # Errors
///
/// The build fails.
pub fn short() -> Result<(u64, Vec<(String, String)>)> {
    build("none")?;
    let targets = targets()?;
    let started = targets.iter().map(|target| start(target, SHORT, Stdio::piped()));
    let running: Vec<Child> = started.collect::<Result<_>>()?;
    let (mut passed, mut failed) = (0, Vec::new());
    for (target, child) in targets.iter().zip(running) {
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            passed += 1;
            println!(
                "{target} ... ok ({})",
                said.lines().rev().find(|line| line.starts_with("Done")).unwrap_or_default()
            );
        } else {
            println!("{target} ... FAILED; the input is in fuzz/artifacts\n{said}");
            failed.push((target.clone(), said.into_owned()));
        }
    }
    Ok((passed, failed))
}

/// The names of all targets.
fn targets() -> Result<Vec<String>> {
    let directory = root().join("fuzz/fuzz_targets");
    let entries = directory.read_dir().with_context(|| format!("cannot read {}", directory.display()))?;
    let stem = |path: PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
    let mut targets: Vec<String> = entries.filter_map(|entry| stem(entry.ok()?.path())).collect();
    targets.sort();
    Ok(targets)
}

/// Builds all targets, with the stable toolchain: coverage needs no unstable option, a sanitizer needs one.
fn build(sanitizer: &str) -> Result<()> {
    setup::for_fuzz()?;
    build_ebpf::ensure()?;
    let mut build = cargo();
    // More units than one are built sooner, and run as fast within the measure of a fuzz target.
    build.args(["fuzz", "build", "--sanitizer", sanitizer, "--codegen-units", "16"]);
    if sanitizer != "none" {
        build.env("RUSTC_BOOTSTRAP", "1");
    }
    run(&mut build)
}

/// Starts a target that was built.
fn start(target: &str, time: Duration, stderr: Stdio) -> Result<Child> {
    let fuzz = root().join("fuzz");
    let (corpus, artifacts) = (fuzz.join("corpus").join(target), fuzz.join("artifacts").join(target));
    for directory in [&corpus, &artifacts] {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let host = setup::host_triple()?;
    let mut command = Command::new(fuzz.join("target").join(host).join("release").join(target));
    command
        .args([&corpus, &fuzz.join("seeds").join(target)])
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        // A parser that takes longer than this for one input is as good as hung.
        .args(["-timeout=10", "-print_final_stats=0", "-verbosity=1"])
        .current_dir(&fuzz)
        .stderr(stderr);
    command.spawn().with_context(|| format!("cannot run `{}`", shown(&command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_declared_and_has_seeds() {
        let fuzz = root().join("fuzz");
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        let targets = targets().unwrap();
        assert!(targets.len() >= 5, "{targets:?}");
        for target in targets {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not in fuzz/Cargo.toml");
            assert!(fuzz.join("seeds").join(&target).read_dir().unwrap().next().is_some(), "{target} has no seeds");
        }
    }
}
