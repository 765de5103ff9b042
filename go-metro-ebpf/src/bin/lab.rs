//! Programs that the lab and the benches put on the hooks beside the classifier. Never shipped.
//!
//! All let the packet go on to the next program.
#![no_std]
#![no_main]
// The attribute that makes an entry point drops its documentation.
#![allow(missing_docs)]
#![allow(clippy::needless_pass_by_value, reason = "entry points take what the attribute hands them")]

use core::ptr;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::bindings::{BPF_RB_NO_WAKEUP, TC_ACT_OK, TC_ACT_UNSPEC};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_set_tstamp, bpf_skb_vlan_pop, bpf_skb_vlan_push};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, LpmTrie, PerCpuArray, RingBuf};
use aya_ebpf::programs::{TcContext, XdpContext};
use go_metro_common::target::TargetV4;

/// What `lab_count` counted, per CPU: a `u64`.
#[map]
static LAB_COUNT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Buckets of `lab_departure`: of [`LAB_DEPARTURE_STEP`] each, the third last for all beyond; then what is ahead of the
/// clock, and what has no such time.
const LAB_DEPARTURES: u32 = 4096;
/// Width of a bucket in nanoseconds.
const LAB_DEPARTURE_STEP: u64 = 100;

/// Of `lab_departure`.
#[map]
static LAB_DEPARTURE: PerCpuArray<u64> = PerCpuArray::with_max_entries(LAB_DEPARTURES, 0);

/// Of `lab_ring`.
#[map]
static LAB_RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Of `lab_trie`.
#[map]
static LAB_TRIE: LpmTrie<TargetV4, u8> = LpmTrie::with_max_entries(16, 0);

/// Of `lab_array`.
#[map]
static LAB_ARRAY: Array<u64> = Array::with_max_entries(16, 0);

/// VLAN id that is pushed and popped.
const VLAN: u16 = 42;
/// VLAN id of the outer tag of QinQ.
const OUTER_VLAN: u16 = 43;
// include/uapi/linux/if_ether.h, in network order.
const ETH_P_8021Q: u16 = 0x8100_u16.to_be();
const ETH_P_8021AD: u16 = 0x88a8_u16.to_be();

/// How far ahead `lab_tstamp` puts a packet's departure.
const DEPARTURE_NS: u64 = 20_000_000;
/// `BPF_SKB_TSTAMP_DELIVERY_MONO` of include/uapi/linux/bpf.h.
const DELIVERY_MONOTONIC: u8 = 1;

/// Does nothing: what the hook itself costs.
#[classifier]
fn lab_empty(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// The same in a driver.
#[xdp(frags)]
fn lab_empty_xdp(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// How far a packet's departure time, as the stack wrote it, is behind the clock at the hook. Needs Linux 5.18.
#[classifier]
fn lab_departure(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is the program's own; volatile, so that each field is read at its own offset and size.
    let (len, departure, clock) = unsafe {
        (
            ptr::read_volatile(&raw const (*skb).len),
            ptr::read_volatile(&raw const (*skb).tstamp),
            ptr::read_volatile(&raw const (*skb).tstamp_type),
        )
    };
    // Pure acknowledgements are none of the classifier's business.
    if len <= 66 {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let index = if departure == 0 || clock != DELIVERY_MONOTONIC {
        LAB_DEPARTURES - 1
    } else if departure > now {
        LAB_DEPARTURES - 2
    } else {
        let steps = (now - departure) / LAB_DEPARTURE_STEP;
        if steps < u64::from(LAB_DEPARTURES - 3) { steps as u32 } else { LAB_DEPARTURES - 3 }
    };
    if let Some(count) = LAB_DEPARTURE.get_ptr_mut(index) {
        // SAFETY: this CPU's own value.
        unsafe { *count += 1 };
    }
    TC_ACT_UNSPEC
}

/// Reads the clock: what that costs.
#[classifier]
fn lab_clock(_ctx: TcContext) -> i32 {
    // SAFETY: a helper without arguments. Its result is kept from being optimised away.
    if unsafe { bpf_ktime_get_ns() } == 1 { 0 } else { TC_ACT_UNSPEC }
}

/// Takes room in a ring and gives it back filled, without waking anybody: what that costs.
#[classifier]
fn lab_ring(_ctx: TcContext) -> i32 {
    if let Some(mut entry) = LAB_RING.reserve::<[u64; 6]>(0) {
        entry.write([1; 6]);
        entry.submit(BPF_RB_NO_WAKEUP.into());
    }
    TC_ACT_UNSPEC
}

/// Asks a trie.
#[classifier]
fn lab_trie(ctx: TcContext) -> i32 {
    // SAFETY: the context is the program's own.
    let [ifindex, len] = unsafe { [(*ctx.skb.skb).ifindex, (*ctx.skb.skb).len] };
    // Numbers that the compiler does not know: it would merge the stores into one that is not aligned, which the
    // verifier refuses.
    let key = Key::new(64, TargetV4 { ifindex, addr: len.to_ne_bytes() });
    if LAB_TRIE.get(&key).is_some_and(|value| *value == 7) { 0 } else { TC_ACT_UNSPEC }
}

/// Looks into an array.
#[classifier]
fn lab_array(_ctx: TcContext) -> i32 {
    if LAB_ARRAY.get(5).is_some_and(|value| *value == 7) { 0 } else { TC_ACT_UNSPEC }
}

/// Counts packets.
#[classifier]
fn lab_count(_ctx: TcContext) -> i32 {
    if let Some(count) = LAB_COUNT.get_ptr_mut(0) {
        // SAFETY: this CPU's own value.
        unsafe { *count += 1 };
    }
    TC_ACT_UNSPEC
}

/// Ends the chain, as those of some networks of containers do.
#[classifier]
fn lab_accept(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

/// Tags packets with VLAN 42.
#[classifier]
fn lab_vlan_push(ctx: TcContext) -> i32 {
    // SAFETY: the context is the program's own; a packet that cannot be tagged goes on without.
    unsafe { bpf_skb_vlan_push(ctx.skb.skb, ETH_P_8021Q, VLAN) };
    TC_ACT_UNSPEC
}

/// Takes a tag off.
#[classifier]
fn lab_vlan_pop(ctx: TcContext) -> i32 {
    // SAFETY: as above.
    unsafe { bpf_skb_vlan_pop(ctx.skb.skb) };
    TC_ACT_UNSPEC
}

/// Tags packets twice (802.1ad): VLAN 42 within VLAN 43. The inner tag is then in band.
#[classifier]
fn lab_qinq_push(ctx: TcContext) -> i32 {
    // SAFETY: as above.
    unsafe {
        bpf_skb_vlan_push(ctx.skb.skb, ETH_P_8021Q, VLAN);
        bpf_skb_vlan_push(ctx.skb.skb, ETH_P_8021AD, OUTER_VLAN);
    }
    TC_ACT_UNSPEC
}

/// Takes two tags off.
#[classifier]
fn lab_qinq_pop(ctx: TcContext) -> i32 {
    // SAFETY: as above.
    unsafe {
        bpf_skb_vlan_pop(ctx.skb.skb);
        bpf_skb_vlan_pop(ctx.skb.skb);
    }
    TC_ACT_UNSPEC
}

/// Puts the packet's departure off by 20 ms, as pacing would. Needs Linux 5.18.
#[classifier]
fn lab_tstamp(ctx: TcContext) -> i32 {
    // SAFETY: as above.
    unsafe { bpf_skb_set_tstamp(ctx.skb.skb, bpf_ktime_get_ns() + DEPARTURE_NS, DELIVERY_MONOTONIC.into()) };
    TC_ACT_UNSPEC
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
