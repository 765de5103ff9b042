//! The classifier: parse, filter, emit, and nothing else.
//!
//! A module uses only those before it:
//!
//! - [`maps`]: maps and read-only globals
//! - [`cpu`]: this CPU's counters and working memory
//! - [`parse`]: from bytes to headers; most packets leave here
//! - [`slots`]: this CPU's mapped ring, where it has one
//! - [`segment`]: the headers seen from the local end; whether the remote end is a target
//! - [`clock`]: when a segment passes
//! - [`keep`]: whether it leaves the kernel: per-flow sampling, pressure of the ring, repeated acknowledgements
//! - [`part`]: the two programs of an entry point
//! - [`emit`]: its record
//! - [`diagnose`]: a message for each unparsable packet, at log level `debug`
//! - [`classify`]: all of that in order
//!
//! The verdict is the same for all packets: `TCX_NEXT`, which is `TC_ACT_UNSPEC`, so that whatever else is on the hook
//! still runs; `XDP_PASS` in a driver.
//!
//! There are four entry points at TC's hooks, with a second program each ([`part`]), and two in drivers (XDP), so that
//! direction, link and context are constants in each.
//!
//! # Verifiers
//!
//! Written for those of Linux 5.10 and later: no variable-offset access to the stack, bounded loops, no kfuncs, and
//! built for BPF v2, whose registers are spilled whole (before 5.16 a narrower spill is forgotten). What newer kernels
//! alone have (`tstamp_type`) is behind a read-only global, which the verifier knows and prunes by.
#![no_std]
#![no_main]
// The attribute that makes an entry point drops its documentation.
#![allow(missing_docs)]
#![allow(clippy::needless_pass_by_value, reason = "entry points take what the attribute hands them")]

mod classify;
mod clock;
mod cpu;
mod diagnose;
mod emit;
mod keep;
mod maps;
mod parse;
mod part;
mod segment;
mod slots;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use go_metro_common::segment::Direction;

use classify::{classify, classify_usual};
use parse::link::Link;
use parse::packet::Context;

/// The two programs of an entry point at TC's hooks.
macro_rules! entry_point {
    ($(#[$doc:meta])* $entry:literal: $usual:ident, $full:ident, $direction:ident, $link:ident) => {
        $(#[$doc])*
        #[classifier]
        fn $usual(ctx: TcContext) -> i32 {
            let context = Context::Skb(ctx.skb.skb);
            if keep::is_sampling() || !classify_usual(context, Direction::$direction, Link::$link) {
                part::hand_over(&ctx, $entry);
            }
            TC_ACT_UNSPEC
        }

        /// The same, for any packet.
        #[classifier]
        fn $full(ctx: TcContext) -> i32 {
            classify(Context::Skb(ctx.skb.skb), Direction::$direction, Link::$link);
            TC_ACT_UNSPEC
        }
    };
}

entry_point! {
    /// Ingress of a device with an Ethernet header.
    0: gometro_in_eth, gometro_full_ie, Ingress, Ethernet
}
entry_point! {
    /// Egress of a device with an Ethernet header.
    1: gometro_out_eth, gometro_full_oe, Egress, Ethernet
}
entry_point! {
    /// Ingress of a device without a link header.
    2: gometro_in_ip, gometro_full_ii, Ingress, Ip
}
entry_point! {
    /// Egress of a device without a link header.
    3: gometro_out_ip, gometro_full_oi, Egress, Ip
}

/// Ingress of a device with an Ethernet header, in its driver: before segments are merged. Needs Linux 5.18.
#[xdp(frags)]
fn gometro_in_xdp(ctx: XdpContext) -> u32 {
    classify(Context::Xdp(ctx.ctx), Direction::Ingress, Link::Ethernet);
    XDP_PASS
}

/// The same of a device on which comes in what the local end sends.
#[xdp(frags)]
fn gometro_out_xdp(ctx: XdpContext) -> u32 {
    classify(Context::Xdp(ctx.ctx), Direction::Egress, Link::Ethernet);
    XDP_PASS
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
