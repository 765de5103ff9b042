//! Both hooks of a veth end, with an empty program and one or more others behind it in one chain: all see the same
//! packets.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use aya::programs::tc::{SchedClassifierLinkId, TcAttachOptions};
use aya::programs::xdp::XdpMode;
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
    /// Packets a second.
    pub(super) packets: f64,
}

const WAYS: [Way; 2] = [Way::Out, Way::In];

impl<'a> Chain<'a> {
    /// With the empty programs attached alone.
    pub(super) fn new(host: &'a Host, contenders: Vec<Contender>) -> Result<Self> {
        let mut lab = [Lab::load(&[])?, Lab::load(&[])?];
        for way in WAYS {
            attach(host, lab[way as usize].empty()?, way, LinkOrder::first())?;
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
        // Each goes right behind the empty program; what others have attached at the end stays there.
        for number in order.iter().rev() {
            let contender = &mut self.contenders[*number];
            let links = WAYS.map(|way| -> Result<_> {
                let order = LinkOrder::after_program(&*self.lab[way as usize].empty()?)?;
                attach(self.host, contender.program(way)?, way, order)
            });
            let [out, inward] = links;
            self.attached.insert(0, (*number, [out?, inward?]));
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

    /// The same in the driver: while the empty program is there, and while a contender is. `None` where the contender
    /// has none for drivers.
    pub(super) fn measure_in_driver(
        &mut self,
        number: usize,
        mut traffic: impl FnMut() -> Result<()>,
    ) -> Result<Option<Costs>> {
        if matches!(self.contenders[number], Contender::Peer(_)) {
            return Ok(None);
        }
        self.attach(&[])?;
        let (empty, _) = self.driven(None, &mut traffic)?;
        let (cost, packets) = self.driven(Some(number), &mut traffic)?;
        let mut contenders = vec![None; self.contenders.len()];
        contenders[number] = Some(cost);
        Ok(Some(Costs { empty, contenders, packets }))
    }

    /// Nanoseconds a run of a program in the driver, of the empty one without a number; and packets a second.
    fn driven(&mut self, number: Option<usize>, traffic: &mut impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
        let program = match number.map(|number| &mut self.contenders[number]) {
            None => self.lab[Way::In as usize].empty_xdp()?,
            Some(Contender::Ours(classifier)) => classifier.xdp()?,
            Some(Contender::Peer(_)) => bail!("it has no program for drivers"),
        };
        let before = Account::told_by(&program.info()?);
        let link = self.host.enter(|| program.attach(INTERFACE, XdpMode::Driver))?;
        let start = Instant::now();
        traffic()?;
        let elapsed = start.elapsed().as_secs_f64();
        program.detach(link)?;
        let after = Account::told_by(&program.info()?);
        Ok((after.since(before)?, after.runs_since(before) as f64 / elapsed))
    }

    /// Empties a contender's ring, if it is a classifier of ours: it has left records, and the ring was never full.
    pub(super) fn drain(&mut self, number: usize) -> Result<()> {
        if let Contender::Ours(classifier) = &mut self.contenders[number] {
            ensure!(classifier.drain() > 0, "the classifier has left no record");
            ensure!(classifier.counters()?.lost == 0, "the ring is too small for this measurement");
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
        let start = Instant::now();
        traffic()?;
        let elapsed = start.elapsed().as_secs_f64();
        let mut costs = Vec::new();
        for (way, (empty_before, before)) in ways.iter().zip(before) {
            let (empty, after) = self.accounts(*way)?;
            let mut contenders = vec![None; after.len()];
            for (number, _) in &self.attached {
                contenders[*number] = Some(after[*number].since(before[*number])?);
            }
            costs.push(Costs {
                empty: empty.since(empty_before)?,
                contenders,
                packets: empty.runs_since(empty_before) as f64 / elapsed,
            });
        }
        Ok(costs)
    }
}

fn attach(host: &Host, program: &mut SchedClassifier, way: Way, order: LinkOrder) -> Result<SchedClassifierLinkId> {
    let hook = if way == Way::Out { TcAttachType::Egress } else { TcAttachType::Ingress };
    Ok(host.enter(|| program.attach_with_options(INTERFACE, hook, TcAttachOptions::TcxOrder(order)))?)
}
