//! IEEE 802.11: the headers that captures put before a frame, and the frame's own.

use bytes::Buf;
use go_metro_common::counters::Unparsable;

use super::Skip;
use super::link::{LinkType, Rest, Version, by_first_bits, of_ethernet, of_llc};
use crate::capture::Unread;

// Radiotap's fields and flags (radiotap.org).
const TSFT: u32 = 1 << 0;
const FLAGS: u32 = 1 << 1;
const MORE: u32 = 1 << 31;
const PADDED: u8 = 0x20;
const BAD_FCS: u8 = 0x40;

/// A radiotap header, and the frame behind it.
pub(super) fn of_radiotap(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    let header = rest.bytes;
    // Version, padding, length.
    rest.skip(2)?;
    let len = usize::from(rest.bytes.try_get_u16_le()?);
    let present = rest.bytes.try_get_u32_le()?;
    let mut word = present;
    while word & MORE != 0 {
        word = rest.bytes.try_get_u32_le()?;
    }
    let mut at = header.len() - rest.bytes.len();
    if present & TSFT != 0 {
        at = at.next_multiple_of(8) + 8;
    }
    let flags = if present & FLAGS != 0 { header.get(at).copied().unwrap_or_default() } else { 0 };
    rest.bytes = header.get(len..).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    of_frame(rest, flags)
}

/// A PPI header (CACE's Per-Packet Information), and what it says comes behind it.
pub(super) fn of_ppi(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    let header = rest.bytes;
    // Version, flags, length.
    rest.skip(2)?;
    let len = usize::from(rest.bytes.try_get_u16_le()?);
    let number = rest.bytes.try_get_u32_le()?;
    rest.bytes = header.get(len..).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    match LinkType::of(number) {
        LinkType::Wireless => of_frame(rest, 0),
        LinkType::Radiotap => of_radiotap(rest),
        LinkType::Ethernet => of_ethernet(rest),
        LinkType::Raw => by_first_bits(rest.bytes),
        _ => Err(Skip::Unread(Unread::LinkType)),
    }
}

/// A frame (IEEE 802.11-2020 section 9.2) of which radiotap has these flags.
pub(super) fn of_frame(rest: &mut Rest<'_>, flags: u8) -> Result<Version, Skip> {
    const TO_AND_FROM_DS: u16 = 0x0300;
    const PROTECTED: u16 = 0x4000;
    const ORDER: u16 = 0x8000;
    const AMSDU: u16 = 0x0080;
    let control = rest.bytes.try_get_u16_le()?;
    let (kind, subtype) = (control >> 2 & 3, control >> 4 & 0xf);
    // Data, and of that not those without any.
    if kind != 2 || subtype & 4 != 0 {
        return Err(Skip::NotTcp);
    }
    if flags & BAD_FCS != 0 {
        return Err(Skip::Unread(Unread::Damaged));
    }
    if control & PROTECTED != 0 {
        return Err(Skip::Unread(Unread::Encrypted));
    }
    // Duration, three addresses, sequence control.
    rest.skip(22)?;
    let mut len = 24;
    if control & TO_AND_FROM_DS == TO_AND_FROM_DS {
        rest.skip(6)?;
        len += 6;
    }
    let mut aggregated = false;
    if subtype & 8 != 0 {
        aggregated = rest.bytes.try_get_u16_le()? & AMSDU != 0;
        len += 2;
        if control & ORDER != 0 {
            rest.skip(4)?;
            len += 4;
        }
    }
    if flags & PADDED != 0 {
        rest.skip(usize::next_multiple_of(len, 4) - len)?;
    }
    if aggregated {
        // The first of several: addresses, length.
        rest.skip(14)?;
    }
    of_llc(rest)
}
