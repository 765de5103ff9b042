//! The two programs of an entry point: one for the usual packet, and the full one.
//!
//! The one on the hook has only what a usual packet of a flow that is not sampled needs, so that little code and few
//! cache lines are touched. Whatever else comes goes on in the full one (`bpf_tail_call`), before anything of it was
//! counted; and so does every packet from the moment on that a full ring asks for sampling, on all interfaces at once.

use aya_ebpf::programs::TcContext;

use crate::keep;
use crate::maps::{FULL, SPLIT};

/// Whether there are two. A constant to the verifier, which drops what is not used.
#[inline(always)]
pub(crate) fn are_two() -> bool {
    SPLIT.load() != 0
}

/// Whether the full one is to handle every packet now.
#[inline(always)]
pub(crate) fn is_full_now() -> bool {
    keep::is_sampling()
}

/// Goes on in the entry point's full program; does not return.
#[inline(always)]
pub(crate) fn hand_over(ctx: &TcContext, entry: u32) {
    // SAFETY: nothing was begun that would have to be ended.
    unsafe { FULL.tail_call(ctx, entry) };
}
