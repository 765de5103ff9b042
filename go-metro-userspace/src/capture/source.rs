//! A live source, whichever it is: the choice between eBPF and libpcap.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use go_metro_rtt::{Nanos, Segment};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

use super::clock::Clocks;
use super::ebpf::EbpfSource;
use super::pcap::PcapSource;
use super::{
    Attached, CaptureError, Continuity, InterfaceEvent, Jump, SourceCounters, SourceSettings, WatchList, Way,
    interfaces,
};
use crate::config::Backend;
use crate::inbox::Bell;

/// Longer than a packet that one classifier has seen takes into its ring.
const IN_FLIGHT: Duration = Duration::from_millis(50);
/// Longer than it takes until all handles stamp packets alike.
const STAMPED: Duration = Duration::from_millis(20);
/// Longer than the kernel gathers packets for libpcap before it hands them over.
const BUFFERED: Duration = Duration::from_millis(230);

/// How one source takes over from another.
pub struct Handover {
    /// Until then both are to be read, and what they had sorted by time.
    pub until: Instant,
    /// Whether every packet is seen by one of both.
    pub is_seamless: bool,
    _stamps: Option<CommonStamps>,
}

/// While this lives, the kernel stamps a packet once (net/core/dev.c, `netstamp_needed_key`), not once for each handle
/// that it is copied to: then one handle has what is stamped before a moment, and another the rest.
struct CommonStamps {
    _socket: OwnedFd,
}

impl CommonStamps {
    fn new() -> Option<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).ok()?;
        Some(Self { _socket: socket })
    }
}

/// An open live source.
pub enum Source {
    /// The classifier in the kernel.
    Ebpf(Box<EbpfSource>),
    /// libpcap.
    Pcap(Box<PcapSource>),
}

/// When a source is opened.
#[derive(Clone, Copy)]
enum Moment {
    Start,
    Reload,
}

impl Source {
    /// Opens the source that `backend` asks for, and attaches it to what it can be attached to in a short time;
    /// [`Self::maintain`] does the rest.
    ///
    /// # Errors
    ///
    /// The forced source's error; with [`Backend::Auto`] libpcap's, after eBPF failed too.
    pub fn open(backend: Backend, settings: &SourceSettings) -> Result<Self, CaptureError> {
        Self::open_by(backend, settings, Moment::Start, EbpfSource::open_in_short)
    }

    /// As [`Self::open`], for [`Self::take_over`]: a classifier is attached to nothing before.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn prepare(backend: Backend, settings: &SourceSettings) -> Result<Self, CaptureError> {
        Self::open_by(backend, settings, Moment::Reload, EbpfSource::prepare)
    }

    fn open_by(
        backend: Backend,
        settings: &SourceSettings,
        at: Moment,
        open: impl Fn(&SourceSettings) -> Result<EbpfSource, CaptureError>,
    ) -> Result<Self, CaptureError> {
        let ebpf = || Ok(Self::Ebpf(Box::new(open(settings)?)));
        let pcap = || Ok(Self::Pcap(Box::new(PcapSource::open(settings)?)));
        match backend {
            Backend::Pcap => pcap(),
            Backend::Ebpf => match needs_libpcap(settings) {
                Some(reason) => Err(CaptureError::NeedsLibpcap { reason }),
                None => ebpf(),
            },
            Backend::Auto => {
                let reason = match needs_libpcap(settings) {
                    Some(reason) => reason,
                    None => match ebpf() {
                        Ok(source) => return Ok(source),
                        // libpcap would not find it either.
                        Err(error @ CaptureError::NoInterface { .. }) => return Err(error),
                        Err(error) => error.to_string(),
                    },
                };
                let reason = reason.replace('\n', " ");
                let say = || tracing::warn!("using libpcap instead of eBPF: {reason}");
                let mut source = match at {
                    Moment::Start => {
                        say();
                        pcap()?
                    }
                    // A daemon that has given up its privileges may have neither, and says so itself.
                    Moment::Reload => pcap().inspect(|_| say())?,
                };
                if let Self::Pcap(source) = &mut source {
                    source.fallback = Some(reason);
                }
                Ok(source)
            }
        }
    }

    /// The source's name, as configuration and messages have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ebpf(_) => "ebpf",
            Self::Pcap(_) => "pcap",
        }
    }

    /// Whether every segment of the peers arrives, which the engine needs to know
    /// ([`EngineConfig::peers_complete`](go_metro_rtt::EngineConfig)).
    pub fn peers_complete(&self) -> bool {
        matches!(self, Self::Pcap(_))
    }

    /// Why it is libpcap although eBPF was wanted, if so.
    pub fn fallback(&self) -> Option<&str> {
        match self {
            Self::Ebpf(_) => None,
            Self::Pcap(source) => source.fallback.as_deref(),
        }
    }

    /// Waits at most `timeout` for segments, or until `also` is readable.
    ///
    /// # Errors
    ///
    /// Only what no waiting can mend: the source must be opened again.
    pub fn wait(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<(), CaptureError> {
        match self {
            Self::Ebpf(source) => source.wait(timeout, also),
            Self::Pcap(source) => source.wait(timeout, also),
        }
    }

    /// Hands each segment that has come to `sink`.
    pub fn read(&mut self, sink: &mut impl FnMut(&Segment)) {
        match self {
            Self::Ebpf(source) => source.read(sink),
            Self::Pcap(source) => source.read(sink),
        }
    }

    /// From now on, hands on segments at once, without waiting for older ones, as no more arrive.
    pub fn hold_nothing_back(&mut self) {
        if let Self::Ebpf(source) = self {
            source.hold_nothing_back();
        }
    }

    /// How long the kernel may keep what has come before the source can read it.
    pub fn gathers(&self) -> Duration {
        match self {
            Self::Ebpf(_) => Duration::ZERO,
            Self::Pcap(source) => source.gathers(),
        }
    }

    /// What the source counted since it was opened.
    ///
    /// # Errors
    ///
    /// When the kernel does not let its counters be read.
    pub fn counters(&mut self) -> Result<SourceCounters, CaptureError> {
        match self {
            Self::Ebpf(source) => source.counters(),
            Self::Pcap(source) => source.counters(),
        }
    }

    /// What is known of the segments that the next [`Self::read`] hands on; to be asked before each.
    pub fn continuity(&mut self) -> Continuity {
        match self {
            Self::Ebpf(source) => source.continuity(),
            Self::Pcap(source) => source.continuity(),
        }
    }

    /// Whether the last [`Self::read`] ended before all was handed on that had come.
    pub fn has_more(&self) -> bool {
        match self {
            Self::Ebpf(source) => source.has_more(),
            Self::Pcap(source) => source.has_more(),
        }
    }

    /// Whether segments may be missing near those that come next, as of now.
    pub fn is_gap_near(&mut self) -> bool {
        match self {
            Self::Ebpf(source) => source.is_gap_near(),
            Self::Pcap(source) => source.is_gap_near(),
        }
    }

    /// Watches these addresses from now on, without a gap for those that were watched before.
    ///
    /// # Errors
    ///
    /// When the kernel refuses an update; what was watched before stays.
    pub fn set_targets(&mut self, watch: &WatchList) -> Result<(), CaptureError> {
        match self {
            Self::Ebpf(source) => source.set_targets(watch),
            Self::Pcap(source) => source.set_targets(watch),
        }
    }

    /// The interfaces that capture runs on, with their indices.
    pub fn interfaces(&self) -> Vec<(String, u32)> {
        let owned = |(name, ifindex): (&str, u32)| (name.to_owned(), ifindex);
        match self {
            Self::Ebpf(source) => source.interfaces(),
            Self::Pcap(source) => source.interfaces().map(owned).collect(),
        }
    }

    /// The interfaces that capture runs on, and how.
    pub fn attached(&self) -> Vec<Attached> {
        match self {
            Self::Ebpf(source) => source.attached(),
            Self::Pcap(source) => source.attached(),
        }
    }

    /// Interfaces that exist and are not captured on though they should be, and why.
    pub fn trouble(&self) -> Vec<(String, String)> {
        match self {
            Self::Ebpf(source) => source.trouble(),
            Self::Pcap(source) => source.trouble(),
        }
    }

    /// Has a thread beside look after interfaces where that takes long, which rings this bell when [`Self::maintain`]
    /// has something to say. To be called on the thread that reads.
    pub(crate) fn go_beside(&mut self, bell: &Bell) {
        if let Self::Ebpf(source) = self {
            source.go_beside(bell.clone());
        }
    }

    /// Whether a separate thread attaches to interfaces: [`Self::maintain`] then costs next to nothing, and should be
    /// called often.
    pub fn is_beside(&self) -> bool {
        matches!(self, Self::Ebpf(source) if source.is_beside())
    }

    /// Whether the separate thread that attaches could not be started yet; [`Self::maintain`] tries again.
    pub fn wants_thread(&self) -> bool {
        matches!(self, Self::Ebpf(source) if source.wants_thread())
    }

    /// Moves to the head of the hook that sees `way` on this interface, as a program before ours may end the chain.
    pub fn move_to_head(&mut self, ifindex: u32, way: Way) -> Vec<InterfaceEvent> {
        match self {
            Self::Ebpf(source) => source.move_to_head(ifindex, way),
            Self::Pcap(_) => Vec::new(),
        }
    }

    /// Takes over from `before`, which must be read until [`Handover::until`].
    pub fn take_over(&mut self, before: &mut Self) -> Handover {
        // It was opened a while ago. A clock that was set since, which the older one may have noticed, is noticed once.
        *self.clocks() = *before.clocks();
        match (self, before) {
            (Self::Ebpf(now), Self::Ebpf(before)) => {
                now.take_over(before);
                Handover { until: Instant::now() + IN_FLIGHT, is_seamless: true, _stamps: None }
            }
            (Self::Pcap(now), Self::Pcap(before)) => {
                let stamps = CommonStamps::new();
                now.begin_after(STAMPED, before);
                Handover { until: Instant::now() + STAMPED + BUFFERED, is_seamless: true, _stamps: stamps }
            }
            (_, before) => {
                // One kind for another: what passes between them is not seen, rather than seen twice.
                before.detach(Instant::now() + IN_FLIGHT);
                Handover { until: Instant::now(), is_seamless: false, _stamps: None }
            }
        }
    }

    fn clocks(&mut self) -> &mut Clocks {
        match self {
            Self::Ebpf(source) => source.clocks(),
            Self::Pcap(source) => source.clocks(),
        }
    }

    /// Attaches to interfaces that have appeared, and forgets those that are gone. Call it when the kernel reports a
    /// change, and periodically.
    pub fn maintain(&mut self) -> Vec<InterfaceEvent> {
        match self {
            Self::Ebpf(source) => source.maintain(),
            Self::Pcap(source) => source.maintain(),
        }
    }

    /// Detaches from the hooks, as far as there is time until the deadline; segments that have arrived can still be
    /// read. The remaining hooks are detached when this is dropped.
    pub fn detach(&mut self, deadline: Instant) {
        match self {
            Self::Ebpf(source) => source.detach(deadline),
            Self::Pcap(_) => {}
        }
    }

    /// Whether the stamps of records before and after this jump can still be compared.
    pub fn stamps_survive(&self, jump: Jump) -> bool {
        matches!((self, jump), (Self::Ebpf(_), Jump::Set(_)))
    }

    /// What happened to the clocks since the last call. After a jump that stamps do not survive, [`Self::read`] has
    /// thrown away what waited in the buffer, and what is outstanding must not be compared with what comes.
    pub fn take_jump(&mut self) -> Option<Jump> {
        match self {
            Self::Ebpf(source) => source.take_jump(),
            Self::Pcap(source) => source.take_jump(),
        }
    }

    /// What to add to a record's time to get nanoseconds since the epoch, as of the last poll: the wall clock may be
    /// set at any time.
    pub fn epoch_offset_ns(&self) -> i64 {
        match self {
            Self::Ebpf(source) => source.epoch_offset_ns(),
            Self::Pcap(source) => source.epoch_offset_ns(),
        }
    }

    /// Now, on the clock of the records.
    pub fn now(&self) -> Nanos {
        match self {
            Self::Ebpf(source) => source.now(),
            Self::Pcap(source) => source.now(),
        }
    }
}

/// Why only libpcap can do what the settings ask for.
fn needs_libpcap(settings: &SourceSettings) -> Option<String> {
    if settings.filter.is_some() {
        return Some("a capture filter is configured".to_owned());
    }
    settings.watch.contains_key(interfaces::ANY).then(|| "the interface `any` exists only for libpcap".to_owned())
}
