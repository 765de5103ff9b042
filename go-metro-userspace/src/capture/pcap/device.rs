//! One interface under libpcap whose packets' type is not known: a loopback device, or any where libpcap is too old to
//! tell.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use go_metro_common::segment::Sides;
use go_metro_rtt::{Direction, Segment};
use ipnet::IpNet;

use super::filter::Wish;
use super::hand_on;
use super::tap::{Due, Rest, Tap};
use crate::capture::decode::Decoded;
use crate::capture::interfaces::Wanted;
use crate::capture::segmentation::Segmentation;
use crate::capture::{CaptureError, SourceCounters, SourceSettings};
use crate::targets::{TargetSet, addresses_of_interface};

/// Which way a packet went, on this device.
enum Orientation {
    /// Each packet is seen once though both ends are here.
    Loopback,
    /// What is sent from one of these addresses is egress.
    Addresses(BTreeSet<IpAddr>),
}

/// An open device.
pub(super) struct Device {
    name: String,
    ifindex: u32,
    tap: Tap,
    orientation: Orientation,
    targets: TargetSet,
    sides: Sides,
}

impl Device {
    pub(super) fn open(wanted: &Wanted, settings: &SourceSettings) -> Result<Self, CaptureError> {
        let name = wanted.name.clone();
        let mut tap = Tap::open(&name, settings.snaplen, settings.ring_bytes)?;
        tap.filter(&Wish { nets: &wanted.nets, extra: settings.filter.as_deref(), ports: &[] })?;
        let orientation = if wanted.is_loopback {
            Orientation::Loopback
        } else {
            Orientation::Addresses(addresses_of_interface(&name))
        };
        let targets = TargetSet::new(wanted.nets.iter().copied(), []);
        Ok(Self { name, ifindex: wanted.ifindex, tap, orientation, targets, sides: settings.sides })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Watches other targets from now on.
    pub(super) fn watch(&mut self, nets: &[IpNet], extra: Option<&str>) -> Result<(), CaptureError> {
        let targets = TargetSet::new(nets.iter().copied(), []);
        if targets != self.targets {
            self.tap.filter(&Wish { nets, extra, ports: &[] })?;
            self.targets = targets;
        }
        Ok(())
    }

    /// Notes the interface's addresses, which may have changed.
    pub(super) fn refresh_addresses(&mut self) {
        if let Orientation::Addresses(addresses) = &mut self.orientation {
            *addresses = addresses_of_interface(&self.name);
        }
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
        let Self { tap, orientation, targets, ifindex, sides, .. } = self;
        tap.read_batch(due, counters, |decoded, time, counters| {
            decoded.header.payload = segmentation.payload(decoded, Some(*ifindex));
            for direction in orientation.of(decoded).into_iter().flatten() {
                let seen = decoded.seen_from(direction, *sides, time, *ifindex);
                hand_on(seen, targets, *sides, counters, sink);
            }
        })
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}

impl Orientation {
    /// The ends that see a segment here.
    fn of(&self, decoded: &Decoded) -> [Option<Direction>; 2] {
        match self {
            Self::Loopback => [Some(Direction::Egress), Some(Direction::Ingress)],
            Self::Addresses(local) => [
                local.contains(&decoded.source.addr.ip()).then_some(Direction::Egress),
                local.contains(&decoded.destination.addr.ip()).then_some(Direction::Ingress),
            ],
        }
    }
}
