//! How well the departure time that the stack writes into a packet agrees with the clock at the egress hook.

use anyhow::{Context as _, Result};
use aya::maps::PerCpuArray;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use super::loads::Loads;
use crate::Table;
use testing_lab::{INTERFACE, Pair};
use testing_support::workspace::lab_object;

/// Nanoseconds of a bucket of `lab_departure`.
const STEP: f64 = 100.0;

pub(super) fn table(pair: &Pair) -> Result<Table> {
    let mut ebpf = EbpfLoader::new().btf(None).load_file(lab_object()).context("the lab's object does not load")?;
    let program: &mut SchedClassifier = ebpf.program_mut("lab_departure").context("no lab_departure")?.try_into()?;
    program.load()?;
    pair.a.enter(|| {
        program.attach_with_options(INTERFACE, TcAttachType::Egress, TcAttachOptions::TcxOrder(LinkOrder::last()))
    })?;
    let mut loads = Loads::new(pair)?;
    let head = ["load", "segments", "with a departure time", "behind the clock: median µs", "99 %", "99.9 %"];
    let mut table = Table::new("kernel-departure", &head);
    let mut before = counts(&ebpf)?;
    for (name, mut run) in loads.each() {
        run()?;
        let after = counts(&ebpf)?;
        let counts: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        before = after;
        let (behind, rest) = counts.split_at(counts.len() - 2);
        let (set, all) = (behind.iter().sum::<u64>(), counts.iter().sum::<u64>());
        let at = |share: f64| {
            let mut left = (set as f64 * share) as u64;
            let bucket = behind.iter().position(|count| {
                let here = *count > left;
                left = left.saturating_sub(*count);
                here
            });
            format!("{:.1}", (bucket.unwrap_or(behind.len()) as f64 + 0.5) * STEP / 1000.0)
        };
        let with = (set + rest[0]) as f64 * 100.0 / all.max(1) as f64;
        table.row([name.to_owned(), all.to_string(), format!("{with:.1} %"), at(0.5), at(0.99), at(0.999)]);
    }
    Ok(table)
}

/// How many packets were in each bucket so far.
fn counts(ebpf: &Ebpf) -> Result<Vec<u64>> {
    let map = PerCpuArray::<_, u64>::try_from(ebpf.map("LAB_DEPARTURE").context("no LAB_DEPARTURE")?)?;
    (0..map.len()).map(|index| Ok(map.get(&index, 0)?.iter().sum())).collect()
}
