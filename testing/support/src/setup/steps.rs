//! What a task needs, step by step: find out what is missing, announce it, ask, install it.

use std::fmt;
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Result, bail};

use super::packages::{self, Need, Plan};
use super::python::{self, Tools};
use super::subcommands::Subcommand;
use super::unpacked::Unpacked;
use super::{Outcome, consent, linker, node, rust_src, say, static_libs};

/// One thing to have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Packages(Need),
    StaticLibs,
    Components,
    RustSrc,
    MuslTargets,
    Linker,
    Unpacked(&'static Unpacked),
    Python(Tools),
    /// What drives a browser.
    Browser,
    Cargo(&'static Subcommand),
}

impl Step {
    /// What would be installed, and where to; `None` where it is there.
    fn missing(self) -> Result<Option<String>> {
        match self {
            Self::Packages(need) => {
                let missing = packages::missing(need);
                Ok((!missing.is_empty()).then(|| missing.join(" ")))
            }
            Self::StaticLibs => Ok(static_libs::missing()),
            Self::Components => Ok(rust_src::missing_components()),
            Self::RustSrc => rust_src::missing(),
            Self::MuslTargets => rust_src::missing_targets(),
            Self::Linker => linker::missing(),
            Self::Unpacked(package) => Ok(package.missing()),
            Self::Python(tools) => Ok(python::missing(tools)),
            Self::Browser => Ok(node::missing()),
            Self::Cargo(subcommand) => Ok(subcommand.missing()),
        }
    }

    /// Why what is missing cannot be installed here, and what to do.
    fn obstacle(self) -> Option<&'static str> {
        matches!(self, Self::Components | Self::MuslTargets).then(rust_src::without_rustup).flatten()
    }

    fn ensure(self) -> Result<Outcome> {
        match self {
            Self::Packages(need) => packages::ensure(need),
            Self::StaticLibs => static_libs::ensure(),
            Self::Components => rust_src::ensure_components(),
            Self::RustSrc => rust_src::ensure().map(|(_, outcome)| outcome),
            Self::MuslTargets => rust_src::ensure_targets(),
            Self::Linker => linker::ensure(),
            Self::Unpacked(package) => package.ensure(),
            Self::Python(tools) => python::ensure(tools),
            Self::Browser => node::ensure(),
            Self::Cargo(subcommand) => subcommand.ensure(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Packages(_) => "Debian packages",
            Self::StaticLibs => "static libraries",
            Self::Components => "rustfmt, clippy",
            Self::RustSrc => "rust-src",
            Self::MuslTargets => "musl targets",
            Self::Linker => "bpf-linker",
            Self::Unpacked(package) => package.name,
            Self::Python(_) => "Python packages",
            Self::Browser => "npm packages",
            Self::Cargo(subcommand) => subcommand.name,
        })
    }
}

/// In place of what packages bring along, where apt cannot say yet.
const LISTS_FIRST: &str = "and what they depend on, which is shown once apt's lists were read (apt-get update)";

/// What works without rustfmt and clippy.
const WITH_A_FILTER: &str = "; `cargo xtask test FILTER`, `demo` and `run` go without";

/// Install what is missing of `steps`, after saying what and asking. Prints nothing where all is there.
///
/// # Errors
///
/// The user declines, or something cannot be installed; the error says what to run by hand.
pub(super) fn prepare(steps: &[Step]) -> Result<()> {
    // Before anything is installed that would be of no use.
    for step in steps {
        if let (Some(_), Some(remedy)) = (step.missing()?, step.obstacle()) {
            bail!("{step}: {remedy}{}", if *step == Step::Components { WITH_A_FILTER } else { "" });
        }
    }
    let wanted = announce(steps)?;
    let install = |step: Step| {
        let outcome = step.ensure()?;
        // A package of one step may have brought what another one wants.
        if !matches!(outcome, Outcome::Present(_)) {
            say(&step.to_string(), &outcome);
        }
        Ok(())
    };
    // One is compiled while the others are downloaded.
    let (compiled, others): (Vec<Step>, Vec<Step>) = wanted.into_iter().partition(|step| matches!(step, Step::Linker));
    thread::scope(|scope| {
        let compiled: Vec<_> = compiled.into_iter().map(|step| scope.spawn(move || install(step))).collect();
        others.into_iter().try_for_each(install)?;
        compiled.into_iter().try_for_each(|step| step.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// As [`prepare`], going on past a step that fails and reporting each; how many failed.
pub(super) fn all(steps: &[Step]) -> Result<usize> {
    announce(steps)?;
    let mut failed = 0;
    for step in steps {
        match step.ensure() {
            Ok(outcome) => say(&step.to_string(), &outcome),
            Err(error) => {
                failed += 1;
                eprintln!("{step:<16} FAILED     {error:#}");
            }
        }
    }
    Ok(failed)
}

/// The steps that lack something, once the user knows and agrees.
fn announce(steps: &[Step]) -> Result<Vec<Step>> {
    let mut wanted = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    let (mut groups, mut lines) = (Vec::new(), Vec::new());
    let mut lists_first = false;
    for step in steps {
        let Some(what) = step.missing()? else { continue };
        wanted.push(*step);
        match step {
            Step::Packages(need) => {
                groups.push(format!("  {:<16} {}: {what}", "Debian packages", need.purpose()));
                names.extend(packages::missing(*need));
            }
            _ => lines.push(format!("  {step:<16} {what}")),
        }
    }
    if !names.is_empty() {
        names.sort_unstable();
        names.dedup();
        match packages::plan(&names)? {
            Plan::Known(others) => groups.extend(others.map(|others| wrapped(&others))),
            Plan::ListsFirst => {
                lists_first = true;
                groups.push(wrapped(LISTS_FIRST));
            }
        }
        lines.splice(0..0, groups);
    }
    if !lines.is_empty() {
        eprintln!("To be installed (no service is started or enabled):");
        lines.iter().for_each(|line| eprintln!("{line}"));
        consent::ask()?;
    }
    if lists_first && let Some(others) = packages::plan_with_new_lists(&names)? {
        eprintln!("{}", wrapped(&others));
        consent::ask()?;
    }
    Ok(wanted)
}

/// Many words on lines below each other, aligned with what other steps say.
fn wrapped(words: &str) -> String {
    let mut lines = vec![String::new()];
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < WIDTH => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| format!("  {:<16} {line}", "")).collect::<Vec<_>>().join("\n")
}

/// Columns of a wrapped line, beside its indent.
const WIDTH: usize = 80;

/// A step in the list. What stands in its way is shown there and does not end the list.
fn state(step: Step, missing: Result<Option<String>>) -> String {
    match (step, missing) {
        (_, Err(error)) => format!("missing    {error:#}"),
        (Step::Packages(need), Ok(None)) => format!("ok         {}", packages::names(need).join(" ")),
        (_, Ok(None)) => "ok".to_owned(),
        (step, Ok(Some(what))) => match step.obstacle() {
            Some(remedy) => format!("missing    {what}: {remedy}"),
            None => format!("to install {what}"),
        },
    }
}

/// Print what each task needs and what of it is missing.
pub(super) fn list(tasks: &[(&str, &[Step])]) {
    for (task, steps) in tasks {
        println!("{task}");
        for step in *steps {
            println!("  {step:<16} {}", state(*step, step.missing()));
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::{Step, WIDTH, state, wrapped};

    #[test]
    fn many_packages_are_listed_on_lines_that_fit() {
        let names: Vec<String> = (0..300).map(|number| format!("package-{number}")).collect();
        let text = wrapped(&names.join(" "));
        assert!(text.lines().count() > 10 && text.lines().all(|line| line.len() <= WIDTH + 19), "{text}");
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), names);
    }

    #[test]
    fn what_stands_in_the_way_of_a_step_is_part_of_the_list() {
        let obstacle = anyhow!("no bpf-linker is known for its LLVM 23").context("rustc 1.99.0");
        let line = state(Step::Linker, Err(obstacle));
        assert_eq!(line, "missing    rustc 1.99.0: no bpf-linker is known for its LLVM 23");
        assert_eq!(state(Step::Linker, Ok(None)), "ok");
    }
}
