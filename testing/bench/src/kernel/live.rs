//! Tight loops on both hooks of a veth end.

use std::path::Path as File;

use anyhow::{Context as _, Result, ensure};

use super::chain::{self, Chain, Contender};
use super::frames::{self, Path, Way, paths};
use super::loads::Loads;
use super::program::{Classifier, Peer, RING_BYTES};
use crate::{Measured, Spread, Table};
use testing_lab::port::Port;
use testing_lab::{INTERFACE, Pair};

/// Packets of a path in a round.
const PACKETS: usize = 10_000;
/// `struct virtio_net_hdr` of include/uapi/linux/virtio_net.h, which goes before each frame: nothing to be offloaded.
const PLAIN: [u8; 10] = [0; 10];
/// The same, and 14 bytes of headers: no more need be linear.
const LINK_HEADER_ONLY: [u8; 10] = [0, 0, 14, 0, 0, 0, 0, 0, 0, 0];

/// Two hosts whose link takes the largest packets.
pub(super) fn pair() -> Result<Pair> {
    let pair = Pair::new()?;
    for host in [&pair.a, &pair.b] {
        host.namespace.ip(&format!("link set dev {INTERFACE} mtu 65535"))?;
    }
    Ok(pair)
}

/// The classifier and perhaps another tool's, on host a.
fn attached<'a>(pair: &'a Pair, peer: Option<&File>) -> Result<Chain<'a>> {
    let ifindex = interface(pair)?;
    let mut contenders = vec![Contender::Ours(Box::new(Classifier::load(&[ifindex], RING_BYTES)?))];
    contenders.extend(peer.map(Peer::load).transpose()?.map(Contender::Peer));
    let order: Vec<usize> = (0..contenders.len()).collect();
    let mut chain = Chain::new(&pair.a, contenders)?;
    chain.attach(&order)?;
    Ok(chain)
}

/// The number of host a's interface.
pub(super) fn interface(pair: &Pair) -> Result<u32> {
    Ok(pair.a.enter(|| nix::net::if_::if_nametoindex(INTERFACE))?)
}

/// Packets made by hand, path by path.
pub(super) fn by_path(pair: &Pair, rounds: usize) -> Result<Table> {
    let mut chain = attached(pair, None)?;
    let mut out = pair.a.enter(|| Port::sender(INTERFACE))?;
    let mut inward = pair.b.enter(|| Port::sender(INTERFACE))?;
    let cases: Vec<(Path, [u8; 10])> = paths()
        .into_iter()
        .map(|path| (path, PLAIN))
        .chain(std::iter::once((frames::not_linear(), LINK_HEADER_ONLY)))
        .collect();
    let mut measured = vec![Measured::default(); cases.len()];
    for round in 0..=rounds {
        for turn in 0..cases.len() {
            let at = (turn + round) % cases.len();
            let (path, header) = &cases[at];
            let frame = [&header[..], &path.bytes].concat();
            let port = if path.way == Way::Out { &mut out } else { &mut inward };
            let costs = chain.measure(&[path.way], || {
                for _ in 0..PACKETS {
                    ensure!(port.send(&frame), "cannot send: {}", std::io::Error::last_os_error());
                }
                Ok(())
            })?;
            let records = ours(&mut chain)?.drain();
            ensure!((records > 0) == path.emits, "{} is not what was measured: {records} records", path.name);
            if let [chain::Costs { empty, contenders, .. }] = &costs[..]
                && let [Some(ours)] = contenders[..]
                && round > 0
            {
                measured[at].push(ours, *empty);
            }
        }
    }
    let mut table = Table::new(
        "kernel-live",
        &["path, on a veth's hook", "ns a run", "above an empty program", "times an empty program"],
    );
    for ((path, _), case) in cases.iter().zip(&measured) {
        let row = [case.value(), case.above(), case.ratio()].map(|spread| format!("{spread:.1}"));
        table.row([path.name.to_owned()].into_iter().chain(row));
    }
    table.note(format!(
        "Median (quartiles) of {rounds} rounds of {PACKETS} packets each, by `bpf_stats`; the empty program is in the \
         same chain."
    ));
    Ok(table)
}

fn ours<'a>(chain: &'a mut Chain<'_>) -> Result<&'a mut Classifier> {
    chain.ours().context("no classifier of ours is attached")
}

/// Real connections.
pub(super) fn by_connection(pair: &Pair, rounds: usize, peer: Option<&File>) -> Result<Table> {
    let mut chain = attached(pair, peer)?;
    let mut loads = Loads::new(pair)?;
    let names = loads.each().map(|(name, _)| name);
    let ways = [Way::Out, Way::In];
    let mut measured = names.map(|_| [(); 2].map(|()| Costs::default()));
    for round in 0..=rounds {
        for ((_, run), measured) in loads.each().into_iter().zip(&mut measured) {
            ours(&mut chain)?.drain();
            let seen = ours(&mut chain)?.counters()?;
            let costs = chain.measure(&ways, run)?;
            let counted = ours(&mut chain)?.counters()?;
            ensure!(counted.lost == 0, "the ring is too small for this measurement");
            let records = (counted.records - seen.records) as f64 / (counted.seen - seen.seen) as f64;
            if round > 0 {
                measured.iter_mut().zip(costs).for_each(|(hook, costs)| hook.push(&costs, records));
            }
        }
    }
    let mut head = vec!["load, hook", "records a packet", "empty ns", "ours ns", "ours above empty"];
    if peer.is_some() {
        head.extend(["peer ns", "peer above empty", "ours of peer's"]);
    }
    let mut table = Table::new("kernel-connections", &head);
    for (name, hooks) in names.iter().zip(&measured) {
        for (hook, way) in hooks.iter().zip(["egress", "ingress"]) {
            table.row([format!("{name}, {way}")].into_iter().chain(hook.cells()));
        }
    }
    table.note(format!(
        "Median (quartiles) of {rounds} rounds, by `bpf_stats`; all programs are in one chain and see the same \
         packets. Records are of \
         both hooks together."
    ));
    Ok(table)
}

/// What the programs on one hook cost, and how many records the classifier leaves.
#[derive(Clone, Default)]
struct Costs {
    ours: Measured,
    peer: Measured,
    of_peers: Vec<f64>,
    empty: Vec<f64>,
    records: Vec<f64>,
}

impl Costs {
    fn push(&mut self, costs: &chain::Costs, records: f64) {
        let empty = costs.empty;
        let [Some(ours), ref peer @ ..] = costs.contenders[..] else { return };
        self.empty.push(empty);
        self.ours.push(ours, empty);
        self.records.push(records);
        if let Some(Some(peer)) = peer.first().copied() {
            self.peer.push(peer, empty);
            self.of_peers.push((ours - empty) / (peer - empty));
        }
    }

    fn cells(&self) -> Vec<String> {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        let mut cells = vec![format!("{:.2}", spread(&self.records).median), format!("{:.0}", spread(&self.empty))];
        cells.extend([self.ours.value(), self.ours.above()].map(|spread| format!("{spread:.0}")));
        if !self.of_peers.is_empty() {
            cells.extend([self.peer.value(), self.peer.above()].map(|spread| format!("{spread:.0}")));
            cells.push(format!("{:.2}", spread(&self.of_peers)));
        }
        cells
    }
}
