//! The live libpcap source: for kernels and privileges that eBPF asks too much of.
//!
//! [`device`] is one interface, [`filter`] what the kernel sorts out beforehand; [`PcapSource`] here keeps the devices in step with
//! what is to be watched and which interfaces exist.

mod device;
mod filter;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock::Clocks;
use super::{CaptureError, InterfaceEvent, Jump, SourceCounters, SourceSettings, WatchList};
use crate::rtt::Segment;
use device::{Device, Health};

/// Segment records from libpcap.
pub struct PcapSource {
    devices: Vec<Device>,
    settings: SourceSettings,
    counters: SourceCounters,
    /// What is to be reported by the next [`PcapSource::maintain`].
    events: Vec<InterfaceEvent>,
    clocks: Clocks,
    jump: Option<Jump>,
}

impl PcapSource {
    /// Opens every interface that exists; the others are waited for.
    ///
    /// # Errors
    ///
    /// No such interface at all, a capability that is missing, a filter that libpcap does not understand.
    pub fn open(settings: &SourceSettings) -> Result<Self, CaptureError> {
        let mut source = Self {
            devices: Vec::new(),
            settings: settings.clone(),
            counters: SourceCounters::default(),
            events: Vec::new(),
            clocks: Clocks::new(),
            jump: None,
        };
        for (name, index) in source.wanted() {
            match index {
                Some(index) => source.attach(&name, index)?,
                None => tracing::warn!(interface = name, "no such interface yet; waiting for it"),
            }
        }
        if source.devices.is_empty() {
            let names = settings.watch.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(CaptureError::NoInterface { names });
        }
        Ok(source)
    }

    /// Waits at most `timeout` for packets and hands the segments in them to `sink`.
    ///
    /// # Errors
    ///
    /// poll(2) itself fails.
    pub fn poll(&mut self, timeout: Duration, sink: &mut impl FnMut(&Segment)) -> Result<(), CaptureError> {
        let mut waiting: Vec<PollFd<'_>> =
            self.devices.iter().map(|device| PollFd::new(device.as_fd(), PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(CaptureError::System { call: "poll", source: io::Error::from(error) }),
        }
        if let Some(jump) = self.clocks.look() {
            self.jump = Some(jump);
            // Among what waits are stamps from before and after it.
            let records = self.counters.records;
            self.read(&mut |_| {});
            let waited = std::mem::replace(&mut self.counters.records, records) - records;
            self.counters.lost += waited;
            return Ok(());
        }
        self.read(sink);
        Ok(())
    }

    /// Hands out what is there.
    fn read(&mut self, sink: &mut impl FnMut(&Segment)) {
        let offset_ns = self.clocks.epoch_offset_ns();
        let Self { devices, counters, events, .. } = self;
        devices.retain_mut(|device| match device.read(offset_ns, counters, sink) {
            Health::Well => true,
            Health::Gone => {
                counters.lost += device.take_dropped();
                events.push(InterfaceEvent::Lost { name: device.name().to_owned(), ifindex: device.ifindex() });
                false
            }
        });
    }

    /// What happened to the clocks since the last call.
    pub fn take_jump(&mut self) -> Option<Jump> {
        self.jump.take()
    }

    /// What was counted since the source was opened.
    ///
    /// # Errors
    ///
    /// None; the eBPF source has some.
    pub fn counters(&mut self) -> Result<SourceCounters, CaptureError> {
        self.counters.lost += self.devices.iter_mut().map(Device::take_dropped).sum::<u64>();
        Ok(self.counters)
    }

    /// Watches other targets from now on.
    ///
    /// # Errors
    ///
    /// When libpcap refuses the filter; what was watched on that interface stays.
    pub fn set_targets(&mut self, watch: &WatchList) -> Result<(), CaptureError> {
        self.devices.retain(|device| watch.contains_key(device.name()));
        for device in &mut self.devices {
            let nets = watch.get(device.name()).map(Vec::as_slice).unwrap_or_default();
            if self.settings.watch.get(device.name()).map(Vec::as_slice) != Some(nets) {
                device.watch(nets, self.settings.filter.as_deref())?;
            }
        }
        // Interfaces that are new are opened by the next `maintain`.
        self.settings.watch.clone_from(watch);
        Ok(())
    }

    /// Looks after interfaces: opens those that came, forgets those that went. To be called about once a second.
    pub fn maintain(&mut self) -> Vec<InterfaceEvent> {
        let now: BTreeMap<String, u32> =
            self.wanted().into_iter().filter_map(|(name, index)| Some((name, index?))).collect();
        let events = &mut self.events;
        self.devices.retain_mut(|device| {
            let stays = now.get(device.name()) == Some(&device.ifindex());
            if stays {
                device.refresh_addresses();
            } else {
                events.push(InterfaceEvent::Lost { name: device.name().to_owned(), ifindex: device.ifindex() });
            }
            stays
        });
        for (name, index) in now {
            if self.devices.iter().any(|device| device.name() == name) {
                continue;
            }
            match self.attach(&name, index) {
                Ok(()) => self.events.push(InterfaceEvent::Attached { name, ifindex: index }),
                // It may be down or half made; the next call sees.
                Err(error) => tracing::debug!(interface = name, %error, "cannot open; will try again"),
            }
        }
        std::mem::take(&mut self.events)
    }

    /// What to add to a record's time for nanoseconds since the epoch.
    pub fn epoch_offset_ns(&self) -> i64 {
        self.clocks.epoch_offset_ns()
    }

    /// The interfaces that capture runs on, with their indices.
    pub fn interfaces(&self) -> impl Iterator<Item = (&str, u32)> {
        self.devices.iter().map(|device| (device.name(), device.ifindex()))
    }

    /// The wanted interfaces and their indices now; `any` always exists, under none.
    fn wanted(&self) -> Vec<(String, Option<u32>)> {
        let index = |name: &str| if name == "any" { Some(0) } else { nix::net::if_::if_nametoindex(name).ok() };
        self.settings.watch.keys().map(|name| (name.clone(), index(name))).collect()
    }

    fn attach(&mut self, name: &str, ifindex: u32) -> Result<(), CaptureError> {
        let nets = self.settings.watch.get(name).map(Vec::as_slice).unwrap_or_default();
        let SourceSettings { snaplen, filter, sides, .. } = &self.settings;
        let device = Device::open(name, ifindex, nets, *snaplen, filter.as_deref(), *sides)?;
        self.devices.push(device);
        Ok(())
    }
}
