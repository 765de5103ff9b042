//! Interfaces whose packets' type tells a segment's direction: all but loopback devices.
//!
//! Addresses do not: on a host that forwards, a bridge or a container's link neither may be this host's, and a
//! neighbour writes what it likes. libpcap's device `any` tells the type, in the cooked header (LINKTYPE_LINUX_SLL2),
//! with the interface that a packet passed. So one handle serves all such interfaces: in one order, whichever interface
//! a packet passes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};

use go_metro_common::segment::Sides;
use go_metro_rtt::{Direction, Segment};
use ipnet::IpNet;

use super::filter::Wish;
use super::hand_on;
use super::tap::{Due, Rest, Tap};
use crate::capture::decode::LinkType;
use crate::capture::interfaces::ANY;
use crate::capture::segmentation::Segmentation;
use crate::capture::{CaptureError, SourceCounters, SourceSettings};
use crate::targets::TargetSet;

/// Most interfaces that the kernel's part of the work tells apart; beyond that their packets are told apart here.
const MOST_PORTS_IN_FILTER: usize = 64;

/// One interface.
#[derive(PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) host_end: bool,
    pub(super) nets: Vec<IpNet>,
    targets: TargetSet,
}

impl Port {
    pub(super) fn new(name: String, host_end: bool, nets: Vec<IpNet>) -> Self {
        let targets = TargetSet::new(nets.iter().copied(), []);
        Self { name, host_end, nets, targets }
    }
}

/// The handle, and what to watch where.
pub(super) struct Cooked {
    tap: Tap,
    sides: Sides,
    extra: Option<String>,
    ports: BTreeMap<u32, Port>,
    /// What to watch on all interfaces, if `any` is one of those that were asked for.
    everywhere: Option<Port>,
    /// Interfaces that nobody named and whose directions are reversed.
    host_ends: BTreeSet<u32>,
}

impl Cooked {
    pub(super) fn open(settings: &SourceSettings) -> Result<Self, CaptureError> {
        let SourceSettings { snaplen, ring_bytes, sides, .. } = *settings;
        let extra = settings.filter.as_deref();
        let mut tap = Tap::open(ANY, snaplen, ring_bytes)?;
        // Nothing, until ports are added.
        tap.filter(&Wish { nets: &[], extra, ports: &[] })?;
        let (ports, host_ends) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { tap, sides, extra: extra.map(str::to_owned), ports, everywhere: None, host_ends })
    }

    /// Whether the handle tells which interface a packet passed.
    pub(super) fn tells_interface(&self) -> bool {
        self.tap.link_type() == LinkType::Sll2
    }

    /// The interfaces, `any` as index 0.
    pub(super) fn ports(&self) -> impl Iterator<Item = (u32, &Port)> {
        self.everywhere.iter().map(|port| (0, port)).chain(self.ports.iter().map(|(index, port)| (*index, port)))
    }

    /// Watches these from now on; index 0 is all interfaces.
    ///
    /// # Errors
    ///
    /// When libpcap refuses the filter; what was watched stays.
    pub(super) fn watch(&mut self, mut ports: BTreeMap<u32, Port>) -> Result<(), CaptureError> {
        let everywhere = ports.remove(&0);
        if ports == self.ports && everywhere == self.everywhere {
            return Ok(());
        }
        let nets: BTreeSet<IpNet> =
            everywhere.iter().chain(ports.values()).flat_map(|port| port.nets.iter().copied()).collect();
        let nets: Vec<IpNet> = nets.into_iter().collect();
        let indices: Vec<u32> = ports.keys().copied().collect();
        let all = everywhere.is_some() || indices.len() > MOST_PORTS_IN_FILTER;
        self.tap.filter(&Wish {
            nets: &nets,
            extra: self.extra.as_deref(),
            ports: if all { &[] } else { &indices },
        })?;
        (self.ports, self.everywhere) = (ports, everywhere);
        Ok(())
    }

    /// Which interfaces have their directions reversed, should nobody have named them.
    pub(super) fn turn(&mut self, host_ends: BTreeSet<u32>) {
        self.host_ends = host_ends;
    }

    /// The open handle.
    pub(super) fn tap(&mut self) -> &mut Tap {
        &mut self.tap
    }

    /// Reads what is there and due, a batch at most.
    pub(super) fn read(
        &mut self,
        due: Due<'_>,
        segmentation: &mut Segmentation,
        counters: &mut SourceCounters,
        sink: &mut impl FnMut(&Segment),
    ) -> Rest {
        let Self { tap, sides, ports, everywhere, host_ends, .. } = self;
        tap.read_batch(due, counters, |decoded, time, counters| {
            decoded.header.payload = segmentation.payload(decoded, decoded.ifindex);
            let ifindex = decoded.ifindex.unwrap_or(0);
            let port = ports.get(&ifindex);
            let turned = port.map_or_else(|| host_ends.contains(&ifindex), |port| port.host_end);
            let direction = decoded.direction.map(|direction| if turned { opposite(direction) } else { direction });
            if let (Some(direction), Some(port)) = (direction, port.or(everywhere.as_ref())) {
                let seen = decoded.seen_from(direction, *sides, time, ifindex);
                hand_on(seen, &port.targets, *sides, counters, sink);
            }
        })
    }
}

impl AsFd for Cooked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Egress => Direction::Ingress,
        Direction::Ingress => Direction::Egress,
    }
}
