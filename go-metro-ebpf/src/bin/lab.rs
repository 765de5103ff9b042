//! Lab programs.
#![no_std]
#![no_main]
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

#[classifier]
fn lab_empty(_ctx: TcContext) -> i32 {
    -1
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
