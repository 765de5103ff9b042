//! What thinning costs, and what it saves: the same packets with it and without.

use anyhow::{Result, ensure};

use super::frames::{Way, paths};
use super::program::{Classifier, Lab, RING_BYTES, Thinning, run};
use crate::{Table, rounds};

/// Runs of a case in a round; as many records are to fit into half of the ring.
const REPEAT: u32 = 30_000;
/// What a test run says the interface is: loopback.
const LOOPBACK: u32 = 1;
/// Long enough for all runs of a round to be of one pick, in nanoseconds.
const LONG_NS: u64 = 3_600_000_000_000;

/// How a case is measured.
const CASES: [(&str, Way, Thinning, Option<u64>, bool); 8] = [
    ("`watermark: off`, data out", Way::Out, Thinning::Off, None, true),
    ("`watermark: off`, ACK in", Way::In, Thinning::Off, None, true),
    ("the default, data out", Way::Out, Thinning::Watermark, None, true),
    ("the default, ACK in", Way::In, Thinning::Watermark, None, true),
    ("left out while the ring runs full, data out", Way::Out, Thinning::Watermark, Some(LONG_NS), false),
    ("left out while the ring runs full, ACK in", Way::In, Thinning::Watermark, Some(LONG_NS), false),
    ("left out with `per_flow`, data out", Way::Out, Thinning::PerFlow(LONG_NS), None, false),
    ("left out with `per_flow`, ACK in", Way::In, Thinning::PerFlow(LONG_NS), None, false),
];

pub(super) fn table(number: usize) -> Result<Table> {
    let loaded = |thinning| Classifier::load_with(&[LOOPBACK], RING_BYTES, thinning);
    let mut classifiers: Vec<Classifier> = CASES.iter().map(|case| loaded(case.2)).collect::<Result<_>>()?;
    let mut lab = Lab::load(&[])?;
    let paths = paths();
    let of = |way| paths.iter().filter(|path| path.emits).find(move |path| path.way == way);
    let (Some(out), Some(inward)) = (of(Way::Out), of(Way::In)) else { anyhow::bail!("no path that emits") };
    // What comes in is of the same flow: its ports are the other way round, behind headers of 14 and 20 bytes.
    let mut answer = inward.bytes.clone();
    answer[34..38].rotate_left(2);
    let packet = |way| if way == Way::Out { &out.bytes } else { &answer };
    let measured = rounds(number, CASES.len() + 1, |case| {
        let Some(at) = case.checked_sub(1) else { return run(lab.empty()?, &out.bytes, REPEAT) };
        let (name, way, _, pressed, emits) = CASES[at];
        let classifier = &mut classifiers[at];
        if let Some(every_ns) = pressed {
            classifier.press(every_ns)?;
        }
        // The flow is known.
        run(classifier.program(Way::Out)?, &out.bytes, 1)?;
        classifier.drain();
        let cost = run(classifier.program(way)?, packet(way), REPEAT)?;
        let records = classifier.drain();
        ensure!((records == u64::from(REPEAT)) == emits && (records == 0) != emits, "{name}: {records} records");
        Ok(cost)
    })?;
    let mut table =
        Table::new("kernel-thinning", &["a segment", "ns a run", "above an empty program", "times an empty program"]);
    let names = ["an empty program"].into_iter().chain(CASES.iter().map(|case| case.0));
    for (name, case) in names.zip(&measured) {
        let row = [case.value(), case.above(), case.ratio()].map(|spread| format!("{spread:.1}"));
        table.row([name.to_owned()].into_iter().chain(row));
    }
    table.note(format!(
        "Median (quartiles) of {number} rounds of {REPEAT} runs each, by `bpf_stats`, through `BPF_PROG_TEST_RUN`. All \
         but those left out leave a record."
    ));
    Ok(table)
}
