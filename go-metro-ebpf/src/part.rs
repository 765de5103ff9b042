//! The two programs of an entry point: one for the usual packet, and the full one.
//!
//! The one on the hook has only what a usual packet of a flow that is not sampled needs, so that little code and few
//! cache lines are touched. Whatever else comes goes on in the full one (`bpf_tail_call`), before anything of it was
//! counted; and so does every packet from the moment on that a full ring asks for sampling, on all interfaces at once.
//! Where user space wants one program for everything, the full one is on the hook.

use aya_ebpf::programs::TcContext;

use crate::maps::FULL;

/// Goes on in the entry point's full program; does not return.
#[inline(always)]
pub(crate) fn hand_over(ctx: &TcContext, entry: u32) {
    // SAFETY: nothing was begun that would have to be ended.
    unsafe { FULL.tail_call(ctx, entry) };
}
