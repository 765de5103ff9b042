//! The rings of any number of processors without a classifier, for `cargo xtask bench many`.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use go_metro_common::counters::PerCpu;
use go_metro_common::segment::SegmentHeader;
use go_metro_common::slot::Slot;
use go_metro_rtt::Segment;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

use super::mapping::{CpuValues, Producer};
use super::merge::Merge;
use super::places;

/// What all processors write.
pub struct Producers(Producer);

/// What reads it.
pub struct Rings(Merge);

/// The rings of so many processors that are all there, of these many bytes together, and what fills them.
///
/// # Errors
///
/// There is no memory for them.
pub fn rings(processors: usize, bytes: u32) -> io::Result<(Producers, Rings)> {
    let places = places::shared_out(bytes, processors, &(0..processors).collect::<Vec<_>>());
    let cpus = memory(processors * size_of::<PerCpu>())?;
    let slots = memory(places::slots(&places) as usize * size_of::<Slot>())?;
    let producer = Producer::new(cpus.as_fd(), slots.as_fd(), &places)?;
    let values = Arc::new(CpuValues::map(cpus.as_fd(), processors)?);
    Ok((Producers(producer), Rings(Merge::new(values, slots, &places)?)))
}

fn memory(bytes: usize) -> io::Result<OwnedFd> {
    let file = memfd_create("rings", MFdFlags::MFD_CLOEXEC)?;
    ftruncate(&file, bytes as i64)?;
    Ok(file)
}

impl Producers {
    /// Puts a record into a processor's ring; whether there was room.
    pub fn emit(&self, processor: usize, header: SegmentHeader) -> bool {
        self.0.emit(processor, header, 0)
    }
}

impl Rings {
    /// Hands all that is in there to `sink`, the oldest first.
    pub fn read(&mut self, sink: &mut impl FnMut(&Segment)) {
        while {
            self.0.continuity();
            self.0.drain(None, usize::MAX, sink).has_more
        } {}
    }
}
