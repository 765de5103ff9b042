//! This processor's mapped ring: plain stores, no lock, and nobody woken but by a ring that fills.
//!
//! One producer at a time: a program at TC's hooks runs with bottom halves off, one in a driver in its poll (NAPI), and
//! what sends from a hard interrupt passes no hook (net/core/netpoll.c, `netpoll_start_xmit`). Where another got in
//! between all the same, as `BPF_PROG_TEST_RUN` of old kernels lets one, the inner one sees that the ring is busy and
//! counts its record as lost. Under `PREEMPT_RT` two may take turns, which no flag could tell: user space does not
//! choose these rings there.

use core::ptr::{self, read_volatile, write_volatile};

use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use go_metro_common::counters::{PerCpu, RingState};
use go_metro_common::segment::SegmentHeader;
use go_metro_common::slot::{Mark, Slot, slots_of};

use crate::maps::{MAPPED, RECORDS, SLOTS};

/// Whether each processor has one. A constant to the verifier, which drops what is not used.
#[inline(always)]
pub(crate) fn are_used() -> bool {
    MAPPED.load() != 0
}

/// A record that is being written.
pub(crate) struct Writing {
    head: u64,
    after: u64,
}

/// How full the ring is, in 256ths: what the producer last knew is the most that it may be, and only where that is more
/// than `enough` is the reader's line fetched.
#[inline(always)]
pub(crate) fn share(cpu: &mut PerCpu, enough: u64) -> u64 {
    let share = |cpu: &PerCpu| (cpu.head.wrapping_sub(cpu.known_tail) * 256).checked_div(size(cpu)).unwrap_or(0);
    if share(cpu) > enough {
        look_at_tail(cpu);
    }
    share(cpu)
}

/// Slots of the ring.
#[inline(always)]
fn size(cpu: &PerCpu) -> u64 {
    u64::from(cpu.mask) + 1
}

/// Looks how far the reader is.
#[inline(always)]
fn look_at_tail(cpu: &mut PerCpu) {
    // SAFETY: a field of this CPU's own value, which user space writes whole.
    cpu.known_tail = unsafe { read_volatile(&raw const cpu.tail.0) };
}

/// Takes the slots for a record, if they are free; counts it as lost otherwise.
#[inline(always)]
pub(crate) fn reserve(cpu: &mut PerCpu, is_v6: bool) -> Option<Writing> {
    let after = cpu.head + slots_of(is_v6);
    if after.wrapping_sub(cpu.known_tail) > size(cpu) {
        look_at_tail(cpu);
        if after.wrapping_sub(cpu.known_tail) > size(cpu) {
            lose(cpu);
            return None;
        }
    }
    // SAFETY: here and below: a field of this CPU's own value. Volatile, as something may run in between.
    unsafe {
        if read_volatile(&raw const cpu.state) & RingState::BUSY != 0 {
            lose(cpu);
            return None;
        }
        write_volatile(&raw mut cpu.state, cpu.state | RingState::BUSY);
    }
    Some(Writing { head: cpu.head, after })
}

#[inline(always)]
fn lose(cpu: &mut PerCpu) {
    // In this order: the reader asks for the count first.
    // SAFETY: fields of this CPU's own value.
    unsafe {
        write_volatile(&raw mut cpu.state, cpu.state | RingState::AFTER_LOSS);
        write_volatile(&raw mut cpu.counters.lost, cpu.counters.lost + 1);
    }
}

/// The slot of a position of this CPU's ring.
#[inline(always)]
fn slot(cpu: &PerCpu, position: u64) -> Option<*mut Slot> {
    SLOTS.get_ptr_mut(cpu.base.wrapping_add(position as u32 & cpu.mask))
}

impl Writing {
    /// Writes all but the addresses; where those go, if there is a ring.
    ///
    /// Volatile, field by field: so the compiler keeps all stores, and before that of `head`.
    #[inline(always)]
    pub(crate) fn header(&self, cpu: &PerCpu, header: &SegmentHeader, mark: u64) -> Option<*mut [u64; 2]> {
        let slot = slot(cpu, self.head)?;
        let lossy = if cpu.state & RingState::AFTER_LOSS != 0 { Mark::AFTER_LOSS } else { 0 };
        macro_rules! store {
            ($($field:ident)*) => {
                // SAFETY: the slot is the producer's until `head` says otherwise.
                $(unsafe { write_volatile(&raw mut (*slot).header.$field, header.$field) };)*
            };
        }
        store!(time_ns seq ack tsval tsecr payload ifindex local_port remote_port window flags bits);
        // SAFETY: as above.
        unsafe {
            write_volatile(&raw mut (*slot).mark, mark | lossy);
            Some((&raw mut (*slot).addresses).cast())
        }
    }

    /// Where the second half of a record goes.
    #[inline(always)]
    pub(crate) fn second(&self, cpu: &PerCpu) -> Option<*mut [u64; 2]> {
        slot(cpu, self.head + 1).map(<*mut Slot>::cast)
    }

    /// Hands the record to the reader, and wakes it where a quarter of the ring has been filled since the last time.
    #[inline(always)]
    pub(crate) fn publish(self, cpu: &mut PerCpu) {
        // SAFETY: fields of this CPU's own value.
        unsafe {
            write_volatile(&raw mut cpu.head, self.after);
            write_volatile(&raw mut cpu.state, 0);
        }
        let quarter = u64::from(cpu.mask >> 2);
        if (self.head ^ self.after) & !quarter != 0 {
            wake();
        }
    }

    /// Takes it back.
    #[inline(always)]
    pub(crate) fn give_up(self, cpu: &mut PerCpu) {
        // SAFETY: as above.
        unsafe { write_volatile(&raw mut cpu.state, cpu.state & !RingState::BUSY) };
        lose(cpu);
    }
}

/// Stores two words.
///
/// # Safety
///
/// As for a write to the pointer.
#[inline(always)]
pub(crate) unsafe fn store(to: *mut [u64; 2], words: [u64; 2]) {
    // SAFETY: the caller's.
    unsafe {
        write_volatile(ptr::addr_of_mut!((*to)[0]), words[0]);
        write_volatile(ptr::addr_of_mut!((*to)[1]), words[1]);
    }
}

/// Wakes the reader, through a ring buffer that nothing is ever put into.
#[cold]
#[inline(never)]
fn wake() {
    if let Some(mut entry) = RECORDS.reserve::<u64>(0) {
        entry.write(0);
        entry.discard(BPF_RB_FORCE_WAKEUP.into());
    }
}
