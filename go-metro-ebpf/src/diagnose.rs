//! Diagnostics: what an unparsable packet was, at log level `debug`.
//!
//! The log level is a read-only global, so below `debug` the verifier removes the message: nothing is left to be done.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::programs::{TcContext, XdpContext};
use aya_log_ebpf::debug;

use crate::parse::packet::Context;

/// Logs an unparsable packet.
#[inline(always)]
pub(crate) fn diagnose(context: Context, cause: u32) {
    match context {
        Context::Skb(skb) => at_tc(skb, cause),
        Context::Xdp(xdp) => at_xdp(xdp, cause),
    }
}

/// A function of its own, because the message's code is large and the entry points share it.
#[cold]
#[inline(never)]
fn at_tc(skb: *mut __sk_buff, cause: u32) {
    let ctx = TcContext::new(skb);
    // SAFETY: the context is valid for as long as the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    debug!(&ctx, "unparsable packet of {} bytes on interface {}: cause {}", len, ifindex, cause);
}

/// As above; the verifier wants one for each kind of context.
#[cold]
#[inline(never)]
fn at_xdp(xdp: *mut xdp_md, cause: u32) {
    let ctx = XdpContext::new(xdp);
    // SAFETY: the context is valid for as long as the program runs.
    let ifindex = unsafe { (*xdp).ingress_ifindex };
    debug!(&ctx, "unparsable packet on interface {}: cause {}", ifindex, cause);
}
