//! One interface under libpcap: opened, filtered, read, and told apart into egress and ingress.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use go_metro_common::segment::Sides;
use ipnet::IpNet;
use pcap::{Active, Capture, Linktype, Precision};

use super::filter;
use crate::capture::decode::{Decoded, LinkType, Packet, decode_counted};
use crate::capture::{CaptureError, SourceCounters};
use crate::rtt::{Direction, Nanos, Segment};
use crate::targets::TargetSet;

/// Most packets read in one go, so that one busy interface does not starve the others.
const BATCH: usize = 4096;
/// How long the kernel may gather packets before it hands them over: what saves wake-ups, and no time stamp depends on it.
const GATHER_MS: i32 = 100;
/// The kernel's buffer: some 30,000 packets of 256 bytes.
const BUFFER_BYTES: i32 = 8 << 20;
/// The device that is all devices.
const ANY: &str = "any";
/// `LINKTYPE_LINUX_SLL2`: cooked capture that names the interface.
const SLL2: Linktype = Linktype(276);

/// Which way a packet went, on this device.
enum Orientation {
    /// The link layer tells.
    Cooked,
    /// Each packet is seen once though both ends are here.
    Loopback,
    /// What is sent from one of these addresses is egress.
    Addresses(BTreeSet<IpAddr>),
}

/// What became of a device.
pub(super) enum Health {
    Well,
    Gone,
}

/// An open device.
pub(super) struct Device {
    name: String,
    ifindex: u32,
    capture: Capture<Active>,
    link_type: LinkType,
    orientation: Orientation,
    targets: TargetSet,
    sides: Sides,
    /// Drops at the last look, as libpcap counts in 32 bits.
    dropped: u32,
}

impl Device {
    pub(super) fn open(
        name: &str,
        ifindex: u32,
        nets: &[IpNet],
        snaplen: u32,
        extra: Option<&str>,
        sides: Sides,
    ) -> Result<Self, CaptureError> {
        let failed = |error: pcap::Error| CaptureError::Libpcap { name: name.to_owned(), reason: reason(&error) };
        let inactive = Capture::from_device(name)
            .map_err(failed)?
            .promisc(false)
            .snaplen(i32::try_from(snaplen).unwrap_or(i32::MAX))
            .timeout(GATHER_MS)
            .buffer_size(BUFFER_BYTES)
            .precision(Precision::Nano);
        let mut capture = inactive.open().map_err(failed)?.setnonblock().map_err(failed)?;
        if name == ANY {
            // Older libpcap has only version 1, which does not name the interface.
            let _ = capture.set_datalink(SLL2);
        }
        if let Some(extra) = extra {
            capture
                .compile(extra, true)
                .map_err(|error| CaptureError::Filter { filter: extra.to_owned(), reason: reason(&error) })?;
        }
        filter::apply(&mut capture, nets, extra).map_err(failed)?;
        let number = capture.get_datalink().0;
        let link_type = LinkType::from_number(number).ok_or_else(|| CaptureError::Libpcap {
            name: name.to_owned(),
            reason: format!("link type {number} is not known; name the device beneath or above it"),
        })?;
        let orientation = match link_type {
            LinkType::Sll | LinkType::Sll2 => Orientation::Cooked,
            _ if is_loopback(name) => Orientation::Loopback,
            _ => Orientation::Addresses(addresses_of(name)),
        };
        let targets = TargetSet::new(nets.iter().copied(), []);
        Ok(Self { name: name.to_owned(), ifindex, capture, link_type, orientation, targets, sides, dropped: 0 })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Watches other targets from now on.
    pub(super) fn watch(&mut self, nets: &[IpNet], extra: Option<&str>) -> Result<(), CaptureError> {
        let failed = |error: pcap::Error| CaptureError::Libpcap { name: self.name.clone(), reason: reason(&error) };
        filter::apply(&mut self.capture, nets, extra).map_err(failed)?;
        self.targets = TargetSet::new(nets.iter().copied(), []);
        Ok(())
    }

    /// Notes the interface's addresses, which may have changed.
    pub(super) fn refresh_addresses(&mut self) {
        if let Orientation::Addresses(addresses) = &mut self.orientation {
            *addresses = addresses_of(&self.name);
        }
    }

    /// Packets that the kernel dropped since the last look.
    pub(super) fn take_dropped(&mut self) -> u64 {
        let Ok(stats) = self.capture.stats() else { return 0 };
        let now = stats.dropped.wrapping_add(stats.if_dropped);
        u64::from(now.wrapping_sub(std::mem::replace(&mut self.dropped, now)))
    }

    /// Reads what is there, a batch at most. Packets come with wall-clock time, which is `offset_ns` ahead of the monotonic clock.
    pub(super) fn read(
        &mut self,
        offset_ns: i64,
        counters: &mut SourceCounters,
        sink: &mut impl FnMut(&Segment),
    ) -> Health {
        let Self { capture, link_type, orientation, targets, ifindex, sides, .. } = self;
        for _ in 0..BATCH {
            let packet = match capture.next_packet() {
                Ok(packet) => packet,
                Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => return Health::Well,
                Err(error) => {
                    tracing::debug!(interface = self.name, "libpcap: {}", reason(&error));
                    return Health::Gone;
                }
            };
            let stamp = packet.header.ts;
            // With nanosecond precision the field for microseconds holds nanoseconds.
            let wall_ns = stamp.tv_sec * 1_000_000_000 + stamp.tv_usec;
            let time = Nanos(u64::try_from(wall_ns - offset_ns).unwrap_or(0));
            let packet = Packet { bytes: packet.data, wire_len: packet.header.len, link_type: *link_type };
            let Some(decoded) = decode_counted(packet, counters) else { continue };
            let ifindex = decoded.ifindex.unwrap_or(*ifindex);
            let before = counters.records;
            for direction in orientation.of(&decoded).into_iter().flatten() {
                let Some(segment) = decoded.seen_from(direction, *sides, time, ifindex) else { continue };
                if targets.matches(segment.flow.remote.addr.ip()) {
                    segment.for_each_side(*sides, &mut |segment| {
                        counters.records += 1;
                        sink(segment);
                    });
                }
            }
            counters.count_packet(before);
        }
        Health::Well
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: libpcap keeps the descriptor open as long as the capture, which this borrow cannot outlive.
        unsafe { BorrowedFd::borrow_raw(self.capture.as_raw_fd()) }
    }
}

impl Orientation {
    /// The ends that see a segment here.
    fn of(&self, decoded: &Decoded) -> [Option<Direction>; 2] {
        match self {
            Self::Cooked => [decoded.direction, None],
            Self::Loopback => [Some(Direction::Egress), Some(Direction::Ingress)],
            Self::Addresses(local) => [
                local.contains(&decoded.source.addr.ip()).then_some(Direction::Egress),
                local.contains(&decoded.destination.addr.ip()).then_some(Direction::Ingress),
            ],
        }
    }
}

fn is_loopback(name: &str) -> bool {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
    flags & libc::IFF_LOOPBACK as u32 != 0
}

fn addresses_of(name: &str) -> BTreeSet<IpAddr> {
    crate::targets::addresses_of_interface(name)
}

/// libpcap's words without the crate's prefix.
fn reason(error: &pcap::Error) -> String {
    error.to_string().trim_start_matches("libpcap error: ").to_owned()
}
