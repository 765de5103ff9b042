//! One packet, many times over, with everything in the cache.

use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use aya::programs::SchedClassifier;
use aya::{TestRun as _, TestRunOptions};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::frames::{Way, paths};
use super::program::{Account, Classifier, Lab, RING_BYTES, Thinning, run};
use crate::{Table, rounds};

/// Runs of a case in a round; as many records are to fit into the ring.
const REPEAT: u32 = 50_000;
/// What a test run says the interface is: loopback.
const LOOPBACK: u32 = 1;

pub(super) fn table(number: usize) -> Result<Table> {
    // A record over IPv6 takes twice the room, and with half of the ring full flows are sampled.
    let mut classifier = Classifier::load(&[LOOPBACK], 4 * RING_BYTES)?;
    // Never drained: what a record costs that is lost.
    let mut full = Classifier::load_with(&[LOOPBACK], 4096, Thinning::Off)?;
    let mut lab = Lab::load(&[])?;
    let paths = paths();
    let emitted = paths.iter().position(|path| path.emits).unwrap_or_default();
    let measured = rounds(number, paths.len() + 2, |case| match case.checked_sub(1) {
        None => run(lab.empty()?, &paths[0].bytes, REPEAT),
        Some(at) if at == paths.len() => run(full.program(Way::Out)?, &paths[emitted].bytes, REPEAT),
        Some(at) => {
            let path = &paths[at];
            let cost = run(classifier.program(path.way)?, &path.bytes, REPEAT)?;
            let expected = if path.emits { u64::from(REPEAT) } else { 0 };
            ensure!(classifier.drain() == expected, "{} is not what was measured", path.name);
            Ok(cost)
        }
    })?;
    ensure!(full.counters()?.lost > 0, "the ring was never full");
    let mut table =
        Table::new("kernel-test-run", &["path", "ns a run", "above an empty program", "times an empty program"]);
    let names =
        ["an empty program"].into_iter().chain(paths.iter().map(|path| path.name)).chain(["lost: the ring is full"]);
    for (name, case) in names.zip(&measured) {
        let row = [case.value(), case.above(), case.ratio()].map(|spread| format!("{spread:.1}"));
        table.row([name.to_owned()].into_iter().chain(row));
    }
    table.note(format!(
        "Median (quartiles) of {number} rounds of {REPEAT} runs each, by `bpf_stats`, through `BPF_PROG_TEST_RUN`."
    ));
    Ok(table)
}

/// What names the table of [`producers`].
pub(super) const PRODUCERS: &str = "kernel-producers";

/// Processors that make records at the same time, each into its own ring: what that costs each.
pub(super) fn producers(number: usize) -> Result<Table> {
    const ROWS: [&str; 2] = ["an empty program", "an emitted record: data out"];
    let mut classifier = Classifier::load(&[LOOPBACK], 4 * RING_BYTES)?;
    let mut lab = Lab::load(&[])?;
    let paths = paths();
    let path = paths.iter().find(|path| path.emits && path.way == Way::Out).context("no path")?;
    // A flow for each.
    let frames = [1, 2].map(|high| {
        let mut frame = path.bytes.clone();
        frame[SOURCE_PORT] = high;
        frame
    });
    // Program and number of producers.
    let cases = [(0, 1), (0, 2), (1, 1), (1, 2)];
    let measured = rounds(number, cases.len(), |case| {
        let (row, producers) = cases[case];
        if row == 0 {
            return together(lab.empty()?, &frames[..producers]);
        }
        let cost = together(classifier.program(Way::Out)?, &frames[..producers])?;
        ensure!(classifier.drain() == u64::from(REPEAT) * producers as u64, "not every run left a record");
        Ok(cost)
    })?;
    let mut table = Table::new(PRODUCERS, &["program", "one processor, ns", "two, ns each", "times"]);
    for (row, name) in ROWS.iter().enumerate() {
        let [one, two] = [2 * row, 2 * row + 1].map(|case| measured[case].value());
        table.row([
            (*name).to_owned(),
            format!("{one:.1}"),
            format!("{two:.1}"),
            format!("{:.2}", two.median / one.median),
        ]);
    }
    table.note(format!(
        "Median (quartiles) of {number} rounds of {REPEAT} runs on each processor at the same time, by `bpf_stats`, \
         through `BPF_PROG_TEST_RUN`; each has a flow of its own."
    ));
    Ok(table)
}

/// High byte of the source port in a frame of IPv4 without options.
const SOURCE_PORT: usize = 34;

/// Runs each frame through the program on a processor of its own, all at the same time; nanoseconds a run.
fn together(program: &SchedClassifier, frames: &[Vec<u8>]) -> Result<f64> {
    let before = Account::of(program)?;
    let start = Barrier::new(frames.len());
    let run = |cpu: usize, frame: &[u8]| -> Result<()> {
        let mut own = CpuSet::new();
        own.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &own)?;
        start.wait();
        program.test_run(TestRunOptions { data_in: Some(frame), repeat: REPEAT, ..TestRunOptions::new() })?;
        Ok(())
    };
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> =
            frames.iter().enumerate().map(|(cpu, frame)| scope.spawn(move || run(cpu, frame))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    Account::of(program)?.since(before)
}
