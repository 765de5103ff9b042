//! In place of the libpcap source, in a build without the feature `pcap`: it cannot be opened.

use std::convert::Infallible;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use go_metro_rtt::{Nanos, Segment};

use super::clock::Clocks;
use super::{Attached, CaptureError, Continuity, InterfaceEvent, Jump, SourceCounters, SourceSettings, WatchList};

/// A source that does not exist.
pub struct PcapSource {
    never: Infallible,
    pub(super) fallback: Option<String>,
}

#[expect(missing_docs, reason = "as the libpcap source has them")]
impl PcapSource {
    pub fn open(_: &SourceSettings) -> Result<Self, CaptureError> {
        Err(CaptureError::WithoutLibpcap)
    }

    pub fn wait(&mut self, _: Duration, _: Option<BorrowedFd<'_>>) -> Result<(), CaptureError> {
        match self.never {}
    }

    pub fn read(&mut self, _: &mut impl FnMut(&Segment)) {
        match self.never {}
    }

    pub fn gathers(&self) -> Duration {
        match self.never {}
    }

    pub fn continuity(&mut self) -> Continuity {
        match self.never {}
    }

    pub fn has_more(&self) -> bool {
        match self.never {}
    }

    pub fn is_gap_near(&mut self) -> bool {
        match self.never {}
    }

    pub(in crate::capture) fn clocks(&mut self) -> &mut Clocks {
        match self.never {}
    }

    pub fn take_jump(&mut self) -> Option<Jump> {
        match self.never {}
    }

    pub fn counters(&mut self) -> Result<SourceCounters, CaptureError> {
        match self.never {}
    }

    pub fn set_targets(&mut self, _: &WatchList) -> Result<(), CaptureError> {
        match self.never {}
    }

    pub fn begin_after(&mut self, _: Duration, _: &mut Self) {
        match self.never {}
    }

    pub fn trouble(&self) -> Vec<(String, String)> {
        match self.never {}
    }

    pub fn maintain(&mut self) -> Vec<InterfaceEvent> {
        match self.never {}
    }

    pub fn epoch_offset_ns(&self) -> i64 {
        match self.never {}
    }

    pub fn now(&self) -> Nanos {
        match self.never {}
    }

    pub fn interfaces(&self) -> std::iter::Empty<(&str, u32)> {
        match self.never {}
    }

    pub fn attached(&self) -> Vec<Attached> {
        match self.never {}
    }
}

/// Refuses every filter: only libpcap understands one.
///
/// # Errors
///
/// Always.
pub fn check_filter(_: &str) -> Result<(), CaptureError> {
    Err(CaptureError::WithoutLibpcap)
}
