//! What comes in, seen in the driver (XDP) and at TC's hook: two classifiers on one veth end, which see the same
//! packets.

use anyhow::{Result, ensure};
use aya::programs::tc::TcAttachOptions;
use aya::programs::xdp::XdpMode;
use aya::programs::{LinkOrder, TcAttachType};

use super::frames::{Path, Way, paths};
use super::program::{Account, Classifier, Lab, RING_BYTES};
use crate::{Measured, Table};
use testing_lab::port::Port;
use testing_lab::{INTERFACE, Pair};

/// Packets of a path in a round.
const PACKETS: usize = 10_000;
/// `struct virtio_net_hdr`: nothing to be offloaded.
const PLAIN: [u8; 10] = [0; 10];

pub(super) fn table(pair: &Pair, number: usize) -> Result<Table> {
    let (mut tc, mut driver, mut lab) = pair.a.enter(|| -> Result<_> {
        let ifindex = nix::net::if_::if_nametoindex(INTERFACE)?;
        let load = || Classifier::load(&[ifindex], RING_BYTES);
        let (mut tc, mut driver, mut lab) = (load()?, load()?, Lab::load(&[])?);
        let options = || TcAttachOptions::TcxOrder(LinkOrder::last());
        lab.empty()?.attach_with_options(INTERFACE, TcAttachType::Ingress, options())?;
        tc.program(Way::In)?.attach_with_options(INTERFACE, TcAttachType::Ingress, options())?;
        driver.xdp()?.attach(INTERFACE, XdpMode::Driver)?;
        Ok((tc, driver, lab))
    })?;
    let mut inward = pair.b.enter(|| Port::sender(INTERFACE))?;
    // The others differ from these in nothing that depends on the hook.
    let paths: Vec<Path> =
        paths().into_iter().filter(|path| path.way == Way::In || (!path.emits && !path.name.contains("ACK"))).collect();
    let mut measured = vec![[Measured::default(), Measured::default()]; paths.len()];
    for round in 0..=number {
        for turn in 0..paths.len() {
            let at = (turn + round) % paths.len();
            let frame = [&PLAIN[..], &paths[at].bytes].concat();
            let mut accounts = || -> Result<[Account; 3]> {
                let xdp = Account::told_by(&driver.xdp()?.info()?);
                Ok([Account::of(lab.empty()?)?, Account::of(tc.program(Way::In)?)?, xdp])
            };
            let before = accounts()?;
            for _ in 0..PACKETS {
                ensure!(inward.send(&frame), "cannot send: {}", std::io::Error::last_os_error());
            }
            let after = accounts()?;
            let cost = |program: usize| after[program].since(before[program]);
            let (empty, costs) = (cost(0)?, [cost(1)?, cost(2)?]);
            let records = [tc.drain(), driver.drain()];
            let emits = paths[at].emits;
            // A connection that was closed lately may say something too.
            ensure!(
                records.map(|records| records > PACKETS as u64 / 2) == [emits; 2],
                "{}: {records:?} records",
                paths[at].name
            );
            if round > 0 {
                measured[at].iter_mut().zip(costs).for_each(|(measured, cost)| measured.push(cost, empty));
            }
        }
    }
    let head =
        ["path, inbound on a veth", "TC: ns a run", "TC: above an empty program", "XDP: ns a run", "XDP: above it"];
    let mut table = Table::new("kernel-xdp", &head);
    for (path, [tc, xdp]) in paths.iter().zip(&measured) {
        let cells = [tc.value(), tc.above(), xdp.value(), xdp.above()].map(|spread| format!("{spread:.1}"));
        table.row([path.name.to_owned()].into_iter().chain(cells));
    }
    table.note(format!(
        "Median (quartiles) of {number} rounds of {PACKETS} packets each, by `bpf_stats`; both classifiers and the \
         empty program, which is at TC's hook, see \
         the same packets, the driver's first, which waits for the packet to come into the cache. What XDP saves \
         besides is not in these figures: packets that other programs drop or redirect there."
    ));
    Ok(table)
}
