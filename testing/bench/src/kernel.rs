//! The classifier in the kernel: what a run costs on each path, above one of a program that does nothing.
//!
//! Nanoseconds are the kernel's own account of its programs (`bpf_stats`), which includes its two looks at the clock;
//! the empty program's figure is thus the price of looking. [`test_run`] hands one packet to a program many times over
//! (`BPF_PROG_TEST_RUN`): everything is in the cache. [`live`] sends packets through a veth pair's hooks.

mod chain;
mod cold;
mod departure;
mod driver;
mod frames;
mod instructions;
pub(super) mod limit;
mod live;
mod loads;
mod parts;
mod program;
mod test_run;
mod thinning;

use anyhow::Result;

use super::{Args, Table};
use testing_support::{build_ebpf, setup};

pub(super) fn tables(args: &Args) -> Result<Vec<Table>> {
    setup::for_lab()?;
    build_ebpf::ensure()?;
    let _stats = aya::sys::enable_stats(aya::sys::Stats::RunTime)?;
    let pair = live::pair()?;
    let rounds = args.rounds;
    let each: [(&str, &dyn Fn() -> Result<Table>); 12] = [
        (cold::LOADS, &|| cold::loads(&pair, args)),
        (cold::SETTINGS, &|| cold::settings(&pair, rounds)),
        (cold::SIZES, &|| cold::sizes(&pair, rounds)),
        ("kernel-parts", &|| parts::table(rounds, &pair)),
        ("kernel-live", &|| live::by_path(&pair, rounds)),
        ("kernel-connections", &|| live::by_connection(&pair, rounds, args.peer.as_deref())),
        ("kernel-departure", &|| departure::table(&pair)),
        ("kernel-thinning", &|| thinning::table(rounds)),
        ("kernel-test-run", &|| test_run::table(rounds)),
        (test_run::PRODUCERS, &|| test_run::producers(rounds)),
        ("kernel-xdp", &|| driver::table(&pair, rounds)),
        ("kernel-instructions", &instructions::table),
    ];
    each.into_iter().filter(|(name, _)| args.wants(name)).map(|(_, table)| table()).collect()
}
