//! Threads that stand for a network and for hosts far away: what else this machine does must not slow them.

/// Lets the calling thread run as soon as it has something to do, before all of ordinary priority (sched(7)). Where
/// that is not permitted all stays as it was, and the lab is as quick as the machine.
pub fn before_others() {
    // SAFETY: integers only, of which any may be zero; musl has more of them than glibc.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: the pointer is to a value that lives until the call returns; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}
