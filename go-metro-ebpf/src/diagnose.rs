//! Diagnostics: what an unparsable packet was, for those who ask.
//!
//! The log level is a read-only global, so below `debug` the verifier removes the message: nothing is left to be done.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::debug;

/// Logs an unparsable packet. A function of its own, because the message's code is large and the entry points share it.
#[cold]
#[inline(never)]
pub(crate) fn diagnose(skb: *mut __sk_buff, cause: u32) {
    let ctx = TcContext::new(skb);
    // SAFETY: the context is valid for as long as the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    debug!(&ctx, "unparsable packet of {} bytes on interface {}: cause {}", len, ifindex, cause);
}
