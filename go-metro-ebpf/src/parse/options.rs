//! TCP options: timestamps, SACK-permitted, SACK.
//!
//! Nearly every segment of a connection with timestamps carries them in one layout, NOP NOP TS (RFC 7323 appendix A),
//! which is read in one go. Everything else is copied to per-CPU memory and walked.

use core::ptr;

use go_metro_common::counters::{OPTIONS_LEN, PerCpu, Unparsable};
use go_metro_common::headers::option::{END, NOP, SACK, SACK_PERMITTED, TIMESTAMPS};
use go_metro_common::segment::Bits;

use super::packet::{Header, Packet};
use super::tcp::Tcp;
use crate::cpu::{count, forget};

/// The longest list: a data offset of 15 words, less the header.
const LEN_MAX: u32 = 40;
/// Bytes of a SACK block (RFC 2018 section 3).
const BLOCK: usize = 8;
/// Blocks that fit into the longest list.
const BLOCKS_MAX: usize = 4;

/// The usual layout: NOP, NOP, kind 8, length 10.
const USUAL: u32 = 0x0101_080a;
pub(super) const USUAL_LEN: u32 = 12;

/// What tells the verifier how far a position may be, and how long a list.
const POSITION_MASK: u32 = 63;
const LEN_MASK: u32 = 63;

// The furthest read: kind and length, then the left edges of all blocks.
const _: () = assert!(OPTIONS_LEN >= POSITION_MASK as usize + 2 + BLOCK * BLOCKS_MAX);

/// NOP, NOP and a timestamps option, in network order.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Usual {
    head: u32,
    tsval: u32,
    tsecr: u32,
}

// SAFETY: integers only.
unsafe impl Header for Usual {}

impl Usual {
    /// What it says, if it is what it seems.
    #[inline(always)]
    pub(super) fn read(self) -> Option<Options> {
        let Self { head, tsval, tsecr } = self;
        let (tsval, tsecr) = (u32::from_be(tsval), u32::from_be(tsecr));
        (u32::from_be(head) == USUAL).then_some(Options { bits: Bits::TIMESTAMPS, tsval, tsecr })
    }
}

/// What the options say; integers in host byte order.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// Those of [`Bits`] that come from options.
    pub bits: u8,
    pub tsval: u32,
    pub tsecr: u32,
}

/// Reads the options of a segment. A malformed list is counted, and yields what came before the fault.
#[inline(always)]
pub(crate) fn read(packet: Packet, cpu: &mut PerCpu, tcp: &Tcp) -> Options {
    if tcp.options_len == 0 {
        return Options::default();
    }
    if tcp.options_len == USUAL_LEN
        && let Some(usual) = packet.read::<Usual>(tcp.options)
        && let Some(options) = usual.read()
    {
        return options;
    }
    walk(packet, cpu, tcp)
}

#[inline(always)]
fn walk(packet: Packet, cpu: &mut PerCpu, tcp: &Tcp) -> Options {
    let mut found = Options::default();
    let list = cpu.options.as_mut_ptr();

    // 1 to 40 already, as the caller knows; the verifier does not: older ones do not learn from `!= 0` that a number is
    // at least 1, and the compiler would drop what it finds needless.
    let len = (forget(cpu, tcp.options_len - 1) & LEN_MASK) + 1;
    // SAFETY: `list` has room for `LEN_MASK` + 1 bytes.
    if !unsafe { packet.copy(tcp.options, list, len) } {
        count(cpu, Unparsable::Truncated);
        return found;
    }

    let position = &raw mut cpu.position;
    // SAFETY: here and for each volatile access below: a field of this CPU's own value.
    unsafe { ptr::write_volatile(position, 0) };
    for _ in 0..LEN_MAX {
        // Read twice: the verifier follows the number that is compared through every turn of the loop, so the one that
        // addresses memory is another to it, and bounded by the mask, which changes nothing.
        // SAFETY: as above.
        let (at, index) = unsafe { (ptr::read_volatile(position), ptr::read_volatile(position) & POSITION_MASK) };
        if at >= len {
            return found;
        }
        let option = Bytes(list.wrapping_add(index as usize));
        let kind = option.u8(0);
        if kind == END {
            return found;
        }
        let step = if kind == NOP { 1 } else { u32::from(option.u8(1)) };
        if kind != NOP && (step < 2 || at + step > len) {
            break;
        }
        match (kind, step) {
            (TIMESTAMPS, 10) => {
                found.bits |= Bits::TIMESTAMPS;
                found.tsval = option.u32(2);
                found.tsecr = option.u32(6);
            }
            (SACK_PERMITTED, 2) => found.bits |= Bits::SACK_PERMITTED,
            (SACK, 10 | 18 | 26 | 34) => found.bits |= blocks(option, step, tcp.ack),
            _ => {}
        }
        // SAFETY: as above.
        unsafe { ptr::write_volatile(position, at + step) };
    }
    // Either the fault above, or 40 turns of one NOP each, which end at `len`.
    // SAFETY: as above.
    if unsafe { ptr::read_volatile(position) } < len {
        count(cpu, Unparsable::TcpOption);
    }
    found
}

/// What SACK blocks say: a first one that begins at or below the acknowledgement number means data received
/// twice (RFC 2883 section 4); any that begins above it, a hole.
///
/// Without a branch, as each would double the paths that the verifier follows.
#[inline(always)]
fn blocks(option: Bytes, len: u32, ack: u32) -> u8 {
    let mut above = 0;
    let mut first = 0;
    for block in 0..BLOCKS_MAX {
        let begins = 2 + block * BLOCK;
        let distance = option.u32(begins).wrapping_sub(ack);
        // The top bit: whether the distance, as a signed number, is above 0; and whether the block is within the
        // option.
        let is_above = (distance.wrapping_neg() & !distance) >> 31;
        let is_there = (begins as u32).wrapping_sub(len) >> 31;
        above |= is_above & is_there;
        if block == 0 {
            first = is_above;
        }
    }
    (above as u8 * Bits::SACK_ABOVE) | ((first ^ 1) as u8 * Bits::DSACK)
}

/// A place in [`PerCpu::options`].
#[derive(Clone, Copy)]
struct Bytes(*const u8);

impl Bytes {
    #[inline(always)]
    fn u8(self, at: usize) -> u8 {
        // SAFETY: no option begins past 63, and `at` is within one; the assertion on `OPTIONS_LEN` covers the sum.
        unsafe { *self.0.wrapping_add(at) }
    }

    #[inline(always)]
    fn u32(self, at: usize) -> u32 {
        // SAFETY: as above; four bytes take any value.
        u32::from_be(unsafe { ptr::read_unaligned(self.0.wrapping_add(at).cast()) })
    }
}
