//! The thread that reads the rings of many processors, without those: what a record costs it.
//!
//! `go-metro-userspace/benches/many.rs` has the rings and the cases; here they are run by turns.

use anyhow::Result;
use testing_support::setup;
use testing_support::workspace::{cargo, run};

use super::engine::Server;
use super::{Args, Table, rounds};

const PROCESSORS: [u32; 5] = [1, 4, 16, 64, 256];
/// What is asked of the program, the baseline first.
const CASES: [&str; 5] = ["read", "measured", "handed-over", "recorded", "recorded-far"];

pub(super) fn tables(args: &Args) -> Result<Vec<Table>> {
    setup::for_build()?;
    let build = ["build", "--release", "--quiet", "--package", "go-metro-userspace", "--example", "bench-many"];
    run(cargo().args(build))?;
    let program = testing_support::workspace::target().join("release/examples/bench-many");
    let head = [
        "processors",
        "merged, ns a record",
        "merged and measured, ns",
        "M records/s",
        "merged and handed over, ns",
        "M records/s",
        "measured with a recorder, ns",
        "times without",
        "with `times_base`, times without",
    ];
    let mut table = Table::new("many", &head);
    let number = args.rounds.min(9);
    for processors in PROCESSORS {
        let mut server = Server::start(&program, &[&processors.to_string()])?;
        let measured = rounds(number, CASES.len(), |case| server.ask(CASES[case]))?;
        let [merged, alone, handed] = [0, 1, 2].map(|case| measured[case].value());
        table.row([
            processors.to_string(),
            format!("{merged:.1}"),
            format!("{alone:.1}"),
            format!("{:.1}", 1e3 / alone.median),
            format!("{handed:.1}"),
            format!("{:.1}", 1e3 / handed.median),
            format!("{:.1}", measured[3].value()),
            format!("{:.2}", measured[3].over(&measured[1])),
            format!("{:.2}", measured[4].over(&measured[1])),
        ]);
    }
    table.note(format!(
        "Processor time of the reading thread, median (quartiles) of {number} rounds; 50,000 records at a time, which \
         is 5 ms of ten million a second, requests and answers of 100,000 flows, spread over the processors by flow. \
         The rings are filled by a thread on another processor. Measured: engine and summaries on the same thread; \
         handed over: to four others, which it never waits for in this figure. With a recorder: as measured, and with \
         64 MiB for records, on the same thread; `times_base` looks up the pair of each sample, here one."
    ));
    Ok(vec![table])
}
