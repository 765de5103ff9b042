//! Whether the ring runs full, and how much flows are sampled then.
//!
//! Decided here, not by the daemon: a ring runs full when the daemon does not get to run, and then it cannot act. Above
//! the watermark one step is taken after the other, down to one sample of a flow in a second; below half of it they are
//! taken back, one in each second. A flow that sends little is not sampled at any step.

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use go_metro_common::counters::PerCpu;
use go_metro_common::pressure::{CALM_NS, LOOK_MASK, NEVER, Pressure as Shared, REMEMBER_NS, STEP_NS, STEPS};

use crate::clock;
use crate::maps::{PRESSURE, RECORDS, WATERMARK};
use crate::slots;

/// What holds for all flows.
#[derive(Clone, Copy)]
pub(crate) struct Pressure {
    /// Nanoseconds between two samples of a flow; 0 if every sample is taken.
    pub every_ns: u64,
    /// Whether there may be flows that were sampled, and of which not everything is emitted yet.
    pub lately: bool,
}

/// What holds now. Looks at the ring every few segments.
#[inline(always)]
pub(super) fn now(cpu: &mut PerCpu) -> Pressure {
    if WATERMARK.load() == NEVER {
        return Pressure { every_ns: 0, lately: false };
    }
    let Some(shared) = PRESSURE.get_ptr_mut(0) else { return Pressure { every_ns: 0, lately: false } };
    // SAFETY: the map's own memory, shared with other CPUs; any values do.
    let shared = unsafe { &mut *shared };
    if cpu.counters.matched & LOOK_MASK == 0 {
        look(shared, fill(cpu));
    }
    Pressure { every_ns: shared.every_ns, lately: shared.busy_ns != 0 }
}

/// Whether there is, or was lately.
#[inline(always)]
pub(super) fn is_known() -> bool {
    // SAFETY: the map's own memory, shared with other CPUs; any value does.
    PRESSURE.get_ptr(0).is_some_and(|shared| unsafe { (*shared).busy_ns } != 0)
}

/// Looks at the ring every few segments, while there is none.
#[inline(always)]
pub(super) fn watch(cpu: &mut PerCpu) {
    if WATERMARK.load() != NEVER && cpu.counters.matched & LOOK_MASK == 0 {
        begin(cpu);
    }
}

/// Begins with the first step if the ring is too full. Apart from the usual path.
#[cold]
#[inline(never)]
fn begin(cpu: &mut PerCpu) {
    if slots::share(cpu, WATERMARK.load() / 2) <= WATERMARK.load() {
        return;
    }
    if let Some(shared) = PRESSURE.get_ptr_mut(0) {
        let now = clock::now();
        // SAFETY: as in `now`.
        unsafe { *shared = Shared { every_ns: STEPS[0], stepped_ns: now, busy_ns: now } };
    }
}

/// How full the ring is, in the unit of [`WATERMARK`].
#[inline(always)]
fn fill(cpu: &mut PerCpu) -> u64 {
    if slots::are_used() {
        slots::share(cpu, WATERMARK.load() / 2)
    } else {
        RECORDS.query(u64::from(BPF_RB_AVAIL_DATA))
    }
}

#[inline(always)]
fn look(shared: &mut Shared, fill: u64) {
    let high = WATERMARK.load();
    if fill <= high && shared.busy_ns == 0 {
        return;
    }
    let now = clock::now();
    let every = shared.every_ns;
    if fill > high {
        shared.busy_ns = now;
        if every < STEPS[2] && now.wrapping_sub(shared.stepped_ns) >= STEP_NS {
            shared.every_ns = if every == 0 {
                STEPS[0]
            } else if every == STEPS[0] {
                STEPS[1]
            } else {
                STEPS[2]
            };
            shared.stepped_ns = now;
        }
    } else if every != 0 && fill > high / 2 {
        shared.busy_ns = now;
    } else if every != 0 && now.wrapping_sub(shared.busy_ns) > CALM_NS {
        shared.busy_ns = now;
        shared.every_ns = if every > STEPS[1] {
            STEPS[1]
        } else if every > STEPS[0] {
            STEPS[0]
        } else {
            0
        };
    } else if every == 0 && now.wrapping_sub(shared.busy_ns) > REMEMBER_NS {
        shared.busy_ns = 0;
    }
}
