//! Both hooks of a veth end, with an empty program and one or more others behind it in one chain: all see the same
//! packets.

use anyhow::{Result, ensure};
use aya::programs::tc::{SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};

use super::frames::Way;
use super::program::{Account, Classifier, Lab, Peer};
use testing_lab::{Host, INTERFACE};

/// What is measured beside the empty program.
pub(super) enum Contender {
    /// A classifier of ours, from this tree or from another.
    Ours(Box<Classifier>),
    Peer(Peer),
}

impl Contender {
    fn program(&mut self, way: Way) -> Result<&mut SchedClassifier> {
        match self {
            Self::Ours(classifier) => classifier.program(way),
            Self::Peer(peer) => peer.program(way),
        }
    }
}

/// An empty program for each hook, the contenders, and what of them is attached.
pub(super) struct Chain<'a> {
    host: &'a Host,
    lab: [Lab; 2],
    pub(super) contenders: Vec<Contender>,
    /// Numbers of the contenders, in the chain's order, with each one's links.
    attached: Vec<(usize, [SchedClassifierLinkId; 2])>,
}

/// Nanoseconds a run on one hook: of the empty program, and of each contender that was attached.
pub(super) struct Costs {
    pub(super) empty: f64,
    pub(super) contenders: Vec<Option<f64>>,
    /// Packets.
    pub(super) runs: u64,
}

const WAYS: [Way; 2] = [Way::Out, Way::In];

impl<'a> Chain<'a> {
    /// With the empty programs attached alone.
    pub(super) fn new(host: &'a Host, contenders: Vec<Contender>) -> Result<Self> {
        let mut lab = [Lab::load(&[])?, Lab::load(&[])?];
        for way in WAYS {
            attach(host, lab[way as usize].empty()?, way)?;
        }
        Ok(Self { host, lab, contenders, attached: Vec::new() })
    }

    /// Leaves these contenders attached, in this order, behind the empty program.
    pub(super) fn attach(&mut self, order: &[usize]) -> Result<()> {
        if self.attached.iter().map(|(number, _)| *number).eq(order.iter().copied()) {
            return Ok(());
        }
        for (number, links) in self.attached.drain(..) {
            for (way, link) in WAYS.into_iter().zip(links) {
                self.contenders[number].program(way)?.detach(link)?;
            }
        }
        for number in order {
            let contender = &mut self.contenders[*number];
            let [out, inward] = WAYS.map(|way| attach(self.host, contender.program(way)?, way));
            self.attached.push((*number, [out?, inward?]));
        }
        Ok(())
    }

    /// The first classifier of ours.
    pub(super) fn ours(&mut self) -> Option<&mut Classifier> {
        self.contenders.iter_mut().find_map(|contender| match contender {
            Contender::Ours(classifier) => Some(&mut **classifier),
            Contender::Peer(_) => None,
        })
    }

    /// Empties the rings of our classifiers, none of which may have been full.
    pub(super) fn drained(&mut self) -> Result<()> {
        for contender in &mut self.contenders {
            if let Contender::Ours(classifier) = contender {
                classifier.drain();
                ensure!(classifier.counters()?.lost == 0, "the ring is too small for this measurement");
            }
        }
        Ok(())
    }

    fn accounts(&mut self, way: Way) -> Result<(Account, Vec<Account>)> {
        let contenders = self.contenders.iter_mut().map(|contender| Account::of(contender.program(way)?));
        Ok((Account::of(self.lab[way as usize].empty()?)?, contenders.collect::<Result<_>>()?))
    }

    /// What each run cost on these hooks while `traffic` flowed.
    pub(super) fn measure(&mut self, ways: &[Way], traffic: impl FnOnce() -> Result<()>) -> Result<Vec<Costs>> {
        let before: Vec<_> = ways.iter().map(|way| self.accounts(*way)).collect::<Result<_>>()?;
        traffic()?;
        let mut costs = Vec::new();
        for (way, (empty_before, before)) in ways.iter().zip(before) {
            let (empty, after) = self.accounts(*way)?;
            let mut contenders = vec![None; after.len()];
            for (number, _) in &self.attached {
                contenders[*number] = Some(after[*number].since(before[*number])?);
            }
            costs.push(Costs { empty: empty.since(empty_before)?, contenders, runs: empty.runs_since(empty_before) });
        }
        Ok(costs)
    }
}

fn attach(host: &Host, program: &mut SchedClassifier, way: Way) -> Result<SchedClassifierLinkId> {
    let hook = if way == Way::Out { TcAttachType::Egress } else { TcAttachType::Ingress };
    let options = TcAttachOptions::TcxOrder(LinkOrder::last());
    Ok(host.enter(|| program.attach_with_options(INTERFACE, hook, options))?)
}
