//! One packet, many times over, with everything in the cache.

use anyhow::{Result, ensure};

use super::frames::{Way, paths};
use super::program::{Classifier, Lab, RING_BYTES, Thinning, run};
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
