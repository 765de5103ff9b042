//! What the classifier asks of the kernel, each thing in a program of its own: the bounds of what can be reached.

use anyhow::{Result, ensure};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, TcAttachType};

use super::frames::paths;
use super::program::{Account, Lab, PARTS, run};
use crate::{Measured, Table, rounds};
use testing_lab::port::Port;
use testing_lab::{INTERFACE, Pair};

/// Runs in a round.
const RUNS: u32 = 10_000;

/// In a test run, and on a veth's hook, all in one chain.
pub(super) fn table(number: usize, pair: &Pair) -> Result<Table> {
    let mut lab = pair.a.enter(|| -> Result<Lab> { Lab::load(&[1, nix::net::if_::if_nametoindex(INTERFACE)?]) })?;
    let packet = paths().swap_remove(0).bytes;
    let cached = rounds(number, PARTS.len() + 1, |case| {
        lab.drain();
        match case.checked_sub(1) {
            None => run(lab.empty()?, &packet, RUNS),
            Some(part) => run(lab.program(PARTS[part].0)?, &packet, RUNS),
        }
    })?;

    let mut out = pair.a.enter(|| -> Result<Port> {
        let options = || TcAttachOptions::TcxOrder(LinkOrder::last());
        lab.empty()?.attach_with_options(INTERFACE, TcAttachType::Egress, options())?;
        for (name, _) in PARTS {
            lab.program(name)?.attach_with_options(INTERFACE, TcAttachType::Egress, options())?;
        }
        Port::sender(INTERFACE)
    })?;
    let frame = [&[0; 10][..], &packet].concat();
    let mut live = vec![Measured::default(); PARTS.len()];
    for _ in 0..number {
        let before = accounts(&mut lab)?;
        for _ in 0..RUNS {
            ensure!(out.send(&frame), "cannot send: {}", std::io::Error::last_os_error());
        }
        let costs: Vec<f64> = accounts(&mut lab)?
            .into_iter()
            .zip(before)
            .map(|(after, before)| after.since(before))
            .collect::<Result<_>>()?;
        live.iter_mut().zip(&costs[1..]).for_each(|(part, cost)| part.push(*cost, costs[0]));
        lab.drain();
    }

    let mut table =
        Table::new("kernel-parts", &["what is asked of the kernel", "ns, in the cache", "ns, on a veth's hook"]);
    for ((_, what), (cached, live)) in PARTS.iter().zip(cached[1..].iter().zip(&live)) {
        table.row([(*what).to_owned(), format!("{:.1}", cached.above()), format!("{:.1}", live.above())]);
    }
    table.note(format!(
        "Above an empty program; median (quartiles) of {number} rounds of {RUNS} runs each, by `bpf_stats`."
    ));
    Ok(table)
}

fn accounts(lab: &mut Lab) -> Result<Vec<Account>> {
    let mut accounts = vec![Account::of(lab.empty()?)?];
    for (name, _) in PARTS {
        accounts.push(Account::of(lab.program(name)?)?);
    }
    Ok(accounts)
}
