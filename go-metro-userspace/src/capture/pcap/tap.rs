//! An open libpcap handle: opened, filtered, read packet by packet.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use go_metro_rtt::Nanos;
use pcap::{Active, Capture, Linktype, Precision};

use super::filter::{self, Wish};
use super::gaps::Loss;
use crate::capture::clock::Clocks;
use crate::capture::decode::{Decoded, LinkType, Origin, Packet, decode_counted};
use crate::capture::interfaces::ANY;
use crate::capture::{CaptureError, SourceCounters};

/// How long the kernel may gather packets before it hands them over: what saves wake-ups, and no time stamp depends on
/// it.
pub(super) const GATHER: Duration = Duration::from_millis(100);
/// The smallest buffer: two of the kernel's blocks (`MAXIMUM_SNAPLEN` of pcap-linux.c), one to fill and one to read.
const LEAST_BUFFER_BYTES: u32 = 512 << 10;
/// `LINKTYPE_LINUX_SLL2`: cooked capture that names the interface.
const SLL2: Linktype = Linktype(276);

/// Most packets read before the kernel is asked again what it dropped meanwhile.
pub(super) const BATCH: usize = 128;

/// What reading left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// There may be more.
    More,
    /// Nothing for now.
    Nothing,
    /// The device went away.
    Gone,
}

/// Which packets are handed on: none that another source does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due<'a> {
    /// From the wall clock that stamps packets to the records' time.
    pub(super) clocks: &'a Clocks,
    /// The first moment, on the wall clock that stamps packets, in nanoseconds since the epoch.
    pub(super) from_ns: i64,
    /// The first moment that is too late.
    pub(super) until_ns: i64,
}

/// What the headers of a segment take: a cooked link layer (20), two VLAN tags (8), IPv6 (40), TCP with all options
/// (60). With less, SACK blocks may be cut off, and with them the sight of a hole.
const LEAST_SNAPLEN: u32 = 128;

/// What comes of reading.
enum Read<'a> {
    /// A packet and its time, on the wall clock in nanoseconds.
    Packet(Packet<'a>, i64),
    /// There is no more for now.
    Nothing,
    /// The device went away.
    Gone,
}

/// An open handle.
pub(super) struct Tap {
    name: String,
    capture: Capture<Active>,
    link_type: LinkType,
    /// Drops at the last look, as libpcap counts in 32 bits.
    dropped: u32,
    looked_at: Nanos,
    /// Something was read since, so that the kernel found room again.
    was_read: bool,
    /// Time may have passed since.
    has_waited: bool,
}

impl Tap {
    /// Opens a device. It hands on what comes until it is told what to hand on.
    pub(super) fn open(name: &str, snaplen: u32, buffer_bytes: u32) -> Result<Self, CaptureError> {
        let failed = |error: pcap::Error| CaptureError::Libpcap { name: name.to_owned(), reason: reason(&error) };
        let inactive = Capture::from_device(name)
            .map_err(failed)?
            .promisc(false)
            .snaplen(i32::try_from(snaplen.max(LEAST_SNAPLEN)).unwrap_or(i32::MAX))
            .timeout(GATHER.as_millis() as i32)
            .buffer_size(i32::try_from(buffer_bytes.max(LEAST_BUFFER_BYTES)).unwrap_or(i32::MAX))
            .precision(Precision::Nano);
        let mut capture = inactive.open().map_err(failed)?.setnonblock().map_err(failed)?;
        if name == ANY {
            // Older libpcap has only version 1, which does not name the interface.
            let _ = capture.set_datalink(SLL2);
        }
        let number = capture.get_datalink().0;
        let link_type = LinkType::from_number(number).ok_or_else(|| CaptureError::Libpcap {
            name: name.to_owned(),
            reason: format!("link type {number} is not supported; name the device below or above it"),
        })?;
        Ok(Self {
            name: name.to_owned(),
            capture,
            link_type,
            dropped: 0,
            looked_at: Nanos(0),
            was_read: false,
            has_waited: true,
        })
    }

    /// What its packets begin with.
    pub(super) fn link_type(&self) -> LinkType {
        self.link_type
    }

    /// Hands on only what is wished for from now on, or somewhat more.
    pub(super) fn filter(&mut self, wish: &Wish<'_>) -> Result<(), CaptureError> {
        if let Some(extra) = wish.extra {
            self.capture
                .compile(extra, true)
                .map_err(|error| CaptureError::Filter { filter: extra.to_owned(), reason: reason(&error) })?;
        }
        filter::apply(&mut self.capture, wish)
            .map_err(|error| CaptureError::Libpcap { name: self.name.clone(), reason: reason(&error) })
    }

    /// Decodes what is there and due, a batch at most, and hands on each packet that could be, with its time; to be
    /// followed by [`Self::look`].
    pub(super) fn read_batch(
        &mut self,
        due: Due<'_>,
        counters: &mut SourceCounters,
        mut each: impl FnMut(&mut Decoded, Nanos, &mut SourceCounters),
    ) -> Rest {
        let offset_ns = due.clocks.epoch_offset_ns();
        for _ in 0..BATCH {
            self.was_read = true;
            let (packet, wall_ns) = match self.read() {
                Read::Packet(packet, wall_ns) => (packet, wall_ns),
                Read::Nothing => return Rest::Nothing,
                Read::Gone => return Rest::Gone,
            };
            if !(due.from_ns..due.until_ns).contains(&wall_ns) {
                continue;
            }
            let time = Nanos(u64::try_from(wall_ns - offset_ns).unwrap_or(0));
            if let Some(mut decoded) = decode_counted(packet, counters) {
                let before = counters.packets.records;
                each(&mut decoded, time, counters);
                counters.count_packet(before);
            }
        }
        Rest::More
    }

    /// The next packet.
    fn read(&mut self) -> Read<'_> {
        match self.capture.next_packet() {
            Ok(packet) => {
                let stamp = packet.header.ts;
                // With nanosecond precision the field for microseconds holds nanoseconds.
                let wall_ns = stamp.tv_sec * 1_000_000_000 + stamp.tv_usec;
                let wire_len = packet.header.len;
                Read::Packet(
                    Packet { bytes: packet.data, wire_len, link_type: self.link_type, origin: Origin::Live },
                    wall_ns,
                )
            }
            Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => Read::Nothing,
            Err(error) => {
                tracing::debug!(interface = self.name, "libpcap: {}", reason(&error));
                Read::Gone
            }
        }
    }

    /// Time passes before more is read.
    pub(super) fn note_wait(&mut self) {
        self.has_waited = true;
    }

    /// What the kernel dropped while it was waited for packets.
    pub(super) fn look_after_wait(&mut self, clocks: &Clocks) -> Option<Loss> {
        self.has_waited.then(|| self.look(clocks)).flatten()
    }

    /// What the kernel dropped since the last look.
    pub(super) fn look(&mut self, clocks: &Clocks) -> Option<Loss> {
        let looked_at = std::mem::replace(&mut self.looked_at, clocks.now());
        self.has_waited = false;
        let read_since = std::mem::take(&mut self.was_read).then_some(looked_at);
        let stats = self.capture.stats().ok()?;
        let now = stats.dropped.wrapping_add(stats.if_dropped);
        let count = now.wrapping_sub(std::mem::replace(&mut self.dropped, now));
        (count != 0).then(|| Loss::new(u64::from(count), read_since, clocks.now()))
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: libpcap keeps the descriptor open as long as the capture, which this borrow cannot outlive.
        unsafe { BorrowedFd::borrow_raw(self.capture.as_raw_fd()) }
    }
}

/// Whether libpcap understands a filter, which takes no right to capture.
///
/// # Errors
///
/// It does not.
pub fn check_filter(filter: &str) -> Result<(), CaptureError> {
    let failed = |error: pcap::Error| CaptureError::Filter { filter: filter.to_owned(), reason: reason(&error) };
    Capture::dead(Linktype::ETHERNET).and_then(|dead| dead.compile(filter, true)).map(drop).map_err(failed)
}

/// libpcap's words without the crate's prefix.
fn reason(error: &pcap::Error) -> String {
    error.to_string().trim_start_matches("libpcap error: ").to_owned()
}
