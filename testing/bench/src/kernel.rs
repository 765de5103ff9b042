//! The classifier in the kernel: what a run costs on each path, above one of a program that does nothing.
//!
//! Nanoseconds are the kernel's own account of its programs (`bpf_stats`), which includes its two looks at the clock;
//! the empty program's figure is thus the price of looking. [`test_run`] hands one packet to a program many times over
//! (`BPF_PROG_TEST_RUN`): everything is in the cache. [`live`] sends packets through a veth pair's hooks.

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
    let parts = parts::table(args.rounds, &pair)?;
    let [paths, connections] = live::tables(&pair, args.rounds, args.peer.as_deref())?;
    let departure = departure::table(&pair)?;
    let [thinning, cached] = [thinning::table(args.rounds)?, test_run::table(args.rounds)?];
    Ok(vec![
        parts,
        cached,
        thinning,
        paths,
        driver::table(&pair, args.rounds)?,
        connections,
        departure,
        instructions::table()?,
    ])
}
