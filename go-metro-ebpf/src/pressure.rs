//! Whether the ring runs full, and what becomes of flows then.
//!
//! Seen from here, not from the daemon: a ring runs full when the daemon does not get to run, and then it cannot say so. Above the
//! watermark one step is taken after the other, down to one sample of a flow in a second; below half of it they are taken back, one
//! in each second. Who sends little is not thinned at any step.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use go_metro_common::counters::PerCpu;
use go_metro_common::pressure::{CALM_NS, LOOK_MASK, NEVER, Pressure, REMEMBER_NS, STEP_NS, STEPS};

use crate::maps::{PRESSURE, WATERMARK};
use crate::ring::Ring;

/// What holds for the flows of a ring.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    /// Nanoseconds between two samples of a flow; 0 if every sample is taken.
    pub every_ns: u64,
    /// Whether there may be flows that were thinned, and of which not everything is told yet.
    pub lately: bool,
}

/// What holds now. Looks at the ring every few segments.
#[inline(always)]
pub(crate) fn now(cpu: &PerCpu, ring: Ring) -> Now {
    if WATERMARK.load() == NEVER {
        return Now { every_ns: 0, lately: false };
    }
    let Some(shared) = PRESSURE.get_ptr_mut(ring.shard()) else { return Now { every_ns: 0, lately: false } };
    // SAFETY: the map's own memory, shared with other CPUs; any values do.
    let shared = unsafe { &mut *shared };
    if cpu.counters.matched & LOOK_MASK == 0 {
        look(shared, ring);
    }
    Now { every_ns: shared.every_ns, lately: shared.busy_ns != 0 }
}

#[inline(always)]
fn look(shared: &mut Pressure, ring: Ring) {
    let (fill, high) = (ring.fill(), WATERMARK.load());
    if fill <= high && shared.busy_ns == 0 {
        return;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
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
