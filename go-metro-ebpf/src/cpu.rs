//! This CPU's counters and working memory.

use core::ptr;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use go_metro_common::counters::{PerCpu, Unparsable};

use crate::maps::CPUS;

/// This CPU's value. Taken once a packet.
#[inline(always)]
pub(crate) fn this() -> Option<&'static mut PerCpu> {
    // SAFETY: a helper without arguments.
    let cpu = CPUS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)?;
    // SAFETY: a per-CPU value that only this program uses, with bottom halves off: there is no other reference.
    Some(unsafe { &mut *cpu })
}

/// Counts an unparsable packet.
#[inline(always)]
pub(crate) fn count(cpu: &mut PerCpu, cause: Unparsable) {
    // `get_mut`: an index would bring a panic, which the verifier has no use for.
    if let Some(counter) = cpu.counters.unparsable.get_mut(cause as usize) {
        *counter += 1;
    }
}

/// The same number, of which neither the compiler nor the verifier knows anything any more.
///
/// The compiler then keeps a check that it would have found needless, and the verifier does not follow the rest of the
/// program once for each way that led here.
#[inline(always)]
pub(crate) fn forget(cpu: &mut PerCpu, number: u32) -> u32 {
    let memory = &raw mut cpu.position;
    // SAFETY: a field of this CPU's own value.
    unsafe {
        ptr::write_volatile(memory, number);
        ptr::read_volatile(memory)
    }
}
