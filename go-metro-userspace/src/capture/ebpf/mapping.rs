//! Memory that the classifier writes and this process reads: arrays of the kernel's, mapped (`BPF_F_MMAPABLE`).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use go_metro_common::counters::{PerCpu, RingState};
use go_metro_common::segment::{Bits, SegmentHeader};
use go_metro_common::slot::{Mark, Slot, slots_of};

/// A part of an array, mapped for reading and writing until this is dropped.
struct Mapping {
    start: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: memory that belongs to no thread; what may be shared is reached by atomics alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, offset: usize, bytes: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel puts it.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, map.as_raw_fd(), offset) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Self { start, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped, to which nothing leads any more.
        unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
    }
}

/// What the classifier keeps for each processor, mapped.
pub(super) struct CpuValues {
    mapping: Mapping,
    count: usize,
}

impl CpuValues {
    /// Of an array of `count` [`PerCpu`]s.
    ///
    /// # Errors
    ///
    /// The kernel does not let it be mapped.
    pub(super) fn map(array: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        // To the end of the last page: the kernel takes any length up to that.
        Ok(Self { mapping: Mapping::new(array, 0, count * size_of::<PerCpu>())?, count })
    }

    fn value(&self, cpu: usize) -> *mut PerCpu {
        assert!(cpu < self.count);
        // SAFETY: within the mapping, which is aligned to a page.
        unsafe { self.mapping.start.cast::<PerCpu>().as_ptr().add(cpu) }
    }

    /// Where the processor's records end; all before are complete.
    pub(super) fn head(&self, cpu: usize) -> u64 {
        // SAFETY: an aligned word of the mapping, which the classifier writes whole.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.value(cpu)).head) }.load(Ordering::Acquire)
    }

    /// Bits of [`go_metro_common::counters::RingState`].
    pub(super) fn state(&self, cpu: usize) -> u32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.value(cpu)).state) }.load(Ordering::Acquire)
    }

    /// Records that found no room in the processor's ring.
    pub(super) fn lost(&self, cpu: usize) -> u64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.value(cpu)).counters.lost) }.load(Ordering::Acquire)
    }

    /// Says of which families every address is a target, as bits of [`go_metro_common::counters::Everything`].
    pub(super) fn set_everything(&self, families: u32) {
        for cpu in 0..self.count {
            // SAFETY: as above; the classifier only reads it.
            unsafe { AtomicU32::from_ptr(&raw mut (*self.value(cpu)).everything) }.store(families, Ordering::Release);
        }
    }

    /// Gives the slots before this position back to the processor.
    pub(super) fn set_tail(&self, cpu: usize, position: u64) {
        // SAFETY: as above; nobody else writes it.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.value(cpu)).tail.0) }.store(position, Ordering::Release);
    }
}

/// A processor's ring, mapped.
pub(super) struct Slots {
    mapping: Mapping,
    mask: u64,
}

impl Slots {
    /// Of an array of slots: from `base` on, `mask + 1` of them. Both are whole pages.
    ///
    /// # Errors
    ///
    /// The kernel does not let them be mapped.
    pub(super) fn map(array: BorrowedFd<'_>, base: u32, mask: u32) -> io::Result<Self> {
        let (base, count) = (base as usize, mask as usize + 1);
        let mapping = Mapping::new(array, base * size_of::<Slot>(), count * size_of::<Slot>())?;
        Ok(Self { mapping, mask: mask.into() })
    }

    #[inline]
    fn slot(&self, position: u64) -> *mut Slot {
        // SAFETY: within the mapping.
        unsafe { self.mapping.start.cast::<Slot>().as_ptr().add((position & self.mask) as usize) }
    }

    /// The slot at a position, which is one of those that are the reader's.
    #[inline]
    pub(super) fn at(&self, position: u64) -> &Slot {
        // SAFETY: aligned, of integers alone; the classifier does not write it as long as the tail is not past it.
        unsafe { &*self.slot(position) }
    }
}

impl Slots {
    /// Has the processor fetch the slot at a position, whosever it is, without waiting for it.
    #[inline]
    pub(super) fn fetch(&self, position: u64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint; what it is given is within the mapping.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.slot(position).cast());
        }
        // Elsewhere the kernel's ring buffer is read.
        #[cfg(not(target_arch = "x86_64"))]
        let _ = position;
    }

    /// The second half of a record over IPv6: what the slot at a position begins with.
    #[inline]
    pub(super) fn second_half(&self, position: u64) -> [u8; 16] {
        // SAFETY: as above; bytes of any value.
        unsafe { *ptr::from_ref(self.at(position)).cast() }
    }
}

/// What the classifier does with these arrays, for tests and benches.
pub(super) struct Producer {
    cpus: CpuValues,
    slots: Vec<Slots>,
}

impl Producer {
    pub(super) fn new(cpus: BorrowedFd<'_>, slots: BorrowedFd<'_>, places: &[super::merge::Place]) -> io::Result<Self> {
        let slots = places.iter().map(|place| Slots::map(slots, place.base, place.mask)).collect::<io::Result<_>>()?;
        Ok(Self { cpus: CpuValues::map(cpus, places.len())?, slots })
    }

    /// Puts a record into a processor's ring; whether there was room.
    pub(super) fn emit(&self, cpu: usize, header: SegmentHeader, mark: u64) -> bool {
        let (slots, value) = (&self.slots[cpu], self.cpus.value(cpu));
        // SAFETY: within the mapping; the other end is this thread.
        let value = unsafe { &mut *value };
        let after = value.head + slots_of(header.bits.any(Bits::IPV6));
        if after - value.tail.0 > slots.mask + 1 {
            value.state |= RingState::AFTER_LOSS;
            value.counters.lost += 1;
            return false;
        }
        let lossy = if value.state & RingState::AFTER_LOSS != 0 { Mark::AFTER_LOSS } else { 0 };
        let slot = Slot { header, mark: mark | lossy, addresses: [0; 16] };
        // SAFETY: as above.
        unsafe { *slots.slot(value.head) = slot };
        value.state = 0;
        // SAFETY: as above: this is the one that writes it.
        unsafe { AtomicU64::from_ptr(&raw mut value.head) }.store(after, Ordering::Release);
        true
    }
}
