//! `cargo xtask test`: format, lints and all tests; what is quick to fail comes first. Continuous integration runs it,
//! and beside it what CONTRIBUTING.md names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use testing_support::workspace::{CAPTURES_VARIABLE, capture, cargo, run, shown, which};
use testing_support::{build_ebpf, setup};

use crate::{deny, fuzz, package};

mod failures;
mod order;

use failures::Failures;
use order::Order;

/// The end-to-end program whose tests share the packages that the first of them makes: it is run as a whole.
const SHARES_ITS_PACKAGES: &str = "deploy";

/// How many modules of those programs run at once, each with one test at a time. They wait more than they compute; more
/// of them would measure each other.
const LANES: usize = 3;

/// Arguments of `test`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run only tests whose names contain this
    filter: Option<String>,
}

/// Sets up what is missing, checks form and lints, and runs all tests; the last line printed is their total.
///
/// # Errors
///
/// A check or a test fails.
pub fn main(args: &Args) -> Result<()> {
    heading("set-up");
    let filter = args.filter.as_deref();
    // A few tests shall not wait for what all of them need.
    if filter.is_some() {
        setup::for_run()?;
    } else {
        setup::for_test()?;
    }
    let toolchain = setup::for_ebpf()?;
    build_ebpf::ensure()?;
    let lacking = setup::lacking_components();
    if lacking.is_empty() {
        check_form(toolchain)?;
    } else {
        heading("format, lints");
        println!(
            "skipped: missing {}; `cargo xtask test` without a filter says how to get them",
            lacking.join(" and ")
        );
    }

    // The same packages for each command: a narrower choice would compile dependencies again, with fewer features.
    heading("unit and property tests");
    let mut totals = Totals::default();
    let mut tests = cargo();
    tests.args(["test", "--quiet", "--no-fail-fast"]);
    if which("rustdoc").is_none() {
        println!("skipped: the examples in doc comments need rustdoc");
        tests.args(["--lib", "--bins", "--tests"]);
    }
    totals.run(tests.arg("--").args(filter), None)?;

    if filter.is_none() {
        heading("fuzzing, briefly");
        let (passed, failed) = fuzz::short()?;
        totals.passed += passed;
        totals.failed += failed.len() as u64;
        failed.into_iter().for_each(|(target, said)| totals.failures.add(format!("fuzz target {target}"), &said));
    }

    heading("end-to-end tests");
    let mut programs = if setup::is_root() || filter.is_some() { Module::all(filter)? } else { Vec::new() };
    if setup::is_root() {
        if filter.is_some() && !programs.is_empty() {
            setup::for_end_to_end(&programs.iter().map(|module| module.program).collect::<Vec<_>>())?;
        }
        totals.run_end_to_end(&mut programs, filter.is_none())?;
    } else if filter.is_none() || !programs.is_empty() {
        let mut names = programs.iter().map(|module| module.program).collect::<Vec<_>>();
        names.dedup();
        let names = if filter.is_none() { setup::end_to_end().collect() } else { names };
        println!("skipped: {} need root, for network namespaces and eBPF; run", names.join(", "));
        println!("{}", setup::as_root(&filter.map_or("test".to_owned(), |filter| format!("test {filter}"))));
        totals.ignored += names.len() as u64;
    }

    if totals.passed + totals.failed + totals.ignored == 0 {
        match filter {
            Some(filter) => bail!("no test's name contains {filter:?}"),
            None => bail!("no test ran"),
        }
    }
    totals.print_slowest();
    totals.failures.print();
    println!("\n{}; took {}", if totals.failed == 0 { "all is well" } else { "FAILED" }, minutes(elapsed()));
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.ignored);
    if totals.failed > 0 {
        // The total is the last word; an error would have one after it.
        std::process::exit(1);
    }
    Ok(())
}

/// Format and lints, of the classifier's crate too.
fn check_form(toolchain: setup::Toolchain) -> Result<()> {
    heading("format");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    heading("lints");
    run(cargo().args(["clippy", "--quiet", "--all-targets", "--", "-Dwarnings"]))?;
    // `--all-targets` leaves out what a plain `cargo test` leaves out.
    run(cargo().args(["clippy", "--quiet"]).args(end_to_end()).args(["--", "-Dwarnings"]))?;
    // In release, as the object is built: what its dependencies need is then compiled already.
    run(build_ebpf::cargo_for(toolchain, "clippy")?.args(["--quiet", "--release", "--", "-Dwarnings"]))?;
    // `cargo xtask deny` installs it, and continuous integration runs that.
    if which("cargo-machete").is_some() {
        heading("unused dependencies");
        deny::unused()?;
    }
    heading("each optional part alone");
    package::features(&package::FeaturesArgs {})
}

/// cargo's options that choose the end-to-end programs.
fn end_to_end() -> impl Iterator<Item = &'static str> {
    setup::end_to_end().flat_map(|program| ["--test", program])
}

/// The path on which the tests find the programs that set-up has unpacked for them; what the system has comes first.
fn with_tools() -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([setup::prometheus_programs()]);
    std::env::join_paths(directories).context("a directory cannot be on PATH")
}

/// Says which stage begins, and when, counted from the run's start.
fn heading(what: &str) {
    println!("\n=== {what} (after {})", minutes(elapsed()));
}

/// How long the run has taken, from the first call.
fn elapsed() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

/// Outcomes over several test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// End-to-end tests with the time that each took.
    times: Vec<(Duration, String)>,
    /// What failed, and why.
    failures: Failures,
}

/// How many of the slowest tests the report names.
const SLOWEST: usize = 10;

impl Totals {
    /// Runs the modules of the end-to-end programs side by side and counts; an error of one lets the others end first.
    fn run_end_to_end(&mut self, modules: &mut [Module], are_all: bool) -> Result<()> {
        let path = with_tools()?;
        let order = Order::last();
        order.sort(modules, |module| &module.name);
        let order = Mutex::new(order);
        let waiting = Mutex::new(modules.iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let lane = || {
            let mut totals = Self::default();
            while let Some(module) = next() {
                let mut tests = module.command();
                tests
                    .env(
                        testing_lab::agent::BINARY_VARIABLE,
                        testing_support::workspace::target().join("debug/go-metro"),
                    )
                    .env("PATH", &path);
                let began = Instant::now();
                totals.run(&mut tests, Some(module.program))?;
                order.lock().unwrap_or_else(PoisonError::into_inner).note(&module.name, began.elapsed());
            }
            Ok(totals)
        };
        let ended: Vec<Result<Self>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a lane panicked"))))
                .collect()
        });
        if are_all {
            order.into_inner().unwrap_or_else(PoisonError::into_inner).keep();
        }
        ended.into_iter().try_for_each(|totals| totals.map(|totals| self.add(totals)))
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.times.extend(other.times);
        self.failures.extend(other.failures);
    }

    /// Runs `cargo test`, shows what it prints, each line after the name of the `program` if one is given, and counts.
    fn run(&mut self, command: &mut Command, program: Option<&str>) -> Result<()> {
        let failed_before = self.failed;
        let mut since = Instant::now();
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{}`", shown(command)))?;
        for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')) {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            match program {
                Some(program) => println!("{program:<8}{line}"),
                None => println!("{line}"),
            }
            self.count(&line);
            self.failures.read(&line);
            // One at a time, so that a test has taken as long as the line about it.
            if let Some(name) = finished(&line) {
                self.times.push((since.elapsed(), name.to_owned()));
            }
            since = Instant::now();
        }
        self.failed += self.failures.end();
        let status = child.wait()?;
        // A failure that no test accounts for, such as the build's.
        if !status.success() && self.failed == failed_before {
            bail!("`{}` failed ({status})", shown(command));
        }
        Ok(())
    }

    /// Names the tests that took longest.
    fn print_slowest(&mut self) {
        self.times.sort_unstable_by(|a, b| b.cmp(a));
        if !self.times.is_empty() {
            println!("\nslowest tests:");
        }
        for (time, name) in self.times.iter().take(SLOWEST) {
            println!("{:7.1} s  {name}", time.as_secs_f64());
        }
    }

    /// Adds a summary of the test runner, `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn count(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// The tests of one module of a program, which run one after the other.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    program: &'static str,
    /// The program's name, and the module's if it is not run as a whole.
    name: String,
    tests: Vec<String>,
}

impl Module {
    /// The modules of all programs, which are built.
    fn all(filter: Option<&str>) -> Result<Vec<Self>> {
        run(cargo().args(["test", "--quiet", "--no-run"]).args(end_to_end()))?;
        let mut modules = Vec::new();
        for program in setup::end_to_end() {
            modules.extend(Self::all_of(program, filter)?);
        }
        Ok(modules)
    }

    /// The modules of a program, in the order of their names; of tests whose names contain the filter.
    fn all_of(program: &'static str, filter: Option<&str>) -> Result<Vec<Self>> {
        let list = ["test", "--quiet", "--test", program, "--", "--list", "--format", "terse"];
        let listed = capture(cargo().args(list).args(filter))?;
        Ok(Self::listed(program, &listed))
    }

    /// Reads the test runner's list, `module::name: test` a line.
    fn listed(program: &'static str, list: &str) -> Vec<Self> {
        let mut modules = BTreeMap::<&str, Vec<String>>::new();
        for test in list.lines().filter_map(|line| line.strip_suffix(": test")) {
            let module = test.split_once("::").filter(|_| program != SHARES_ITS_PACKAGES);
            let module = module.map_or("", |(module, _)| module);
            modules.entry(module).or_default().push(test.to_owned());
        }
        let name = |module: &str| if module.is_empty() { program.to_owned() } else { format!("{program}::{module}") };
        modules.into_iter().map(|(module, tests)| Self { program, name: name(module), tests }).collect()
    }

    /// What runs them.
    fn command(&self) -> Command {
        let mut command = cargo();
        command.args(["test", "--no-fail-fast", "--test", self.program, "--", "--test-threads=1", "--exact"]);
        command.args(&self.tests);
        if std::env::var_os(CAPTURES_VARIABLE).is_some() {
            command.arg("--include-ignored");
        }
        command
    }
}

/// The test that a line of the runner reports as finished: `test NAME ... ok`.
fn finished(line: &str) -> Option<&str> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    (outcome == "ok" || outcome == "FAILED").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_the_test_runner_add_up() {
        let mut totals = Totals::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            totals.count(line);
        }
        assert_eq!(totals, Totals { passed: 8, failed: 2, ignored: 1, ..Totals::default() });
    }

    #[test]
    fn tests_are_run_by_their_modules() {
        let list = "b::one: test\nalone: test\na::two: test\nb::deep::three: test\nsome::bench: benchmark\n";
        let modules = Module::listed("e2e", list);
        let tests: Vec<_> = modules.iter().map(|module| module.tests.join(" ")).collect();
        assert_eq!(tests, ["alone", "a::two", "b::one b::deep::three"]);
        assert_eq!(Module::listed(SHARES_ITS_PACKAGES, list).len(), 1);
    }

    #[test]
    fn a_finished_test_is_told_from_other_lines() {
        assert_eq!(finished("test bare::runs ... ok"), Some("bare::runs"));
        assert_eq!(finished("test bare::runs ... FAILED"), Some("bare::runs"));
        assert_eq!(finished("test bare::runs ... ignored, set X"), None);
        assert_eq!(finished("test result: ok. 3 passed; 0 failed"), None);
    }
}
