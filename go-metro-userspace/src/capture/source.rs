//! A live source, whichever it is: the choice between eBPF and libpcap.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ebpf::EbpfSource;
use super::pcap::PcapSource;
use super::{CaptureError, InterfaceEvent, SourceCounters, SourceSettings, WatchList};
use crate::config::Backend;
use crate::rtt::{Nanos, Segment};

/// An open live source.
pub enum Source {
    /// The classifier in the kernel.
    Ebpf(Box<EbpfSource>),
    /// libpcap.
    Pcap(Box<PcapSource>),
}

impl Source {
    /// Opens the source that `backend` asks for.
    ///
    /// # Errors
    ///
    /// The forced source's error; with [`Backend::Auto`] libpcap's, after eBPF failed too.
    pub fn open(backend: Backend, settings: &SourceSettings) -> Result<Self, CaptureError> {
        let ebpf = || Ok(Self::Ebpf(Box::new(EbpfSource::open(settings)?)));
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
                tracing::warn!("using libpcap instead of eBPF: {}", reason.replace('\n', " "));
                pcap()
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

    /// Waits at most `timeout` for segments and hands each that is there to `sink`.
    ///
    /// # Errors
    ///
    /// Only what no waiting can mend: the source must be opened again.
    pub fn poll(&mut self, timeout: Duration, sink: &mut impl FnMut(&Segment)) -> Result<(), CaptureError> {
        match self {
            Self::Ebpf(source) => source.poll(timeout, sink),
            Self::Pcap(source) => source.poll(timeout, sink),
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
            Self::Ebpf(source) => source.interfaces().map(owned).collect(),
            Self::Pcap(source) => source.interfaces().map(owned).collect(),
        }
    }

    /// Looks after the interfaces; to be called about once a second.
    pub fn maintain(&mut self) -> Vec<InterfaceEvent> {
        match self {
            Self::Ebpf(source) => source.maintain(),
            Self::Pcap(source) => source.maintain(),
        }
    }

    /// What to add to a record's time to get nanoseconds since the epoch.
    pub fn epoch_offset_ns(&self) -> i64 {
        match self {
            Self::Ebpf(_) => super::ebpf::epoch_offset_ns(),
            Self::Pcap(source) => source.epoch_offset_ns(),
        }
    }

    /// Now, on the clock of the records.
    pub fn now(&self) -> Nanos {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch_ns = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        Nanos(epoch_ns.saturating_add_signed(self.epoch_offset_ns().saturating_neg()))
    }
}

/// Why only libpcap can do what the settings ask for.
fn needs_libpcap(settings: &SourceSettings) -> Option<String> {
    if settings.filter.is_some() {
        return Some("a capture filter is configured".to_owned());
    }
    settings.watch.contains_key("any").then(|| "the interface `any` exists only for libpcap".to_owned())
}
