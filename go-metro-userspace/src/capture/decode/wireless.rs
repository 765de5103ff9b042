//! IEEE 802.11: the headers that captures put before a frame, and the frame's own.

use bytes::Buf;
use go_metro_common::counters::Unparsable;

use super::link::{LinkType, Rest, Version, by_first_bits, of_ethernet, of_llc};
use super::{Packet, Skip};
use crate::capture::Unread;

// Radiotap's fields and flags (radiotap.org).
const TSFT: u32 = 1 << 0;
const FLAGS: u32 = 1 << 1;
const MORE: u32 = 1 << 31;
const PADDED: u8 = 0x20;
const BAD_FCS: u8 = 0x40;

/// What a radiotap header says of the frame behind it: its flags.
fn behind_radiotap(rest: &mut Rest<'_>) -> Result<u8, Skip> {
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
    Ok(flags)
}

/// What a PPI header (CACE's Per-Packet Information) says comes behind it.
fn behind_ppi(rest: &mut Rest<'_>) -> Result<LinkType, Skip> {
    let header = rest.bytes;
    // Version, flags, length.
    rest.skip(2)?;
    let len = usize::from(rest.bytes.try_get_u16_le()?);
    let number = rest.bytes.try_get_u32_le()?;
    rest.bytes = header.get(len..).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    Ok(LinkType::of(number))
}

/// A radiotap header, and the frame behind it.
pub(super) fn of_radiotap(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    let flags = behind_radiotap(rest)?;
    of_frame(rest, flags)
}

/// A PPI header, and what it says comes behind it.
pub(super) fn of_ppi(rest: &mut Rest<'_>) -> Result<Version, Skip> {
    match behind_ppi(rest)? {
        LinkType::Wireless => of_frame(rest, 0),
        LinkType::Radiotap => of_radiotap(rest),
        LinkType::Ethernet => of_ethernet(rest),
        LinkType::Raw => by_first_bits(rest.bytes),
        _ => Err(Skip::Unread(Unread::LinkType)),
    }
}

/// A frame (IEEE 802.11-2020 section 9.2) of which radiotap has these flags; of an A-MSDU the first MSDU.
pub(super) fn of_frame(rest: &mut Rest<'_>, flags: u8) -> Result<Version, Skip> {
    let Header { aggregated, mesh } = behind_header(rest, flags)?;
    if aggregated {
        // Addresses, length.
        rest.skip(14)?;
    }
    if mesh {
        skip_mesh_control(rest)?;
    }
    of_llc(rest)
}

/// What a frame's header says of its body.
#[derive(Clone, Copy)]
struct Header {
    /// It is an A-MSDU (section 9.3.2.2).
    aggregated: bool,
    /// Mesh Control (section 9.2.4.8.3) comes before each MSDU.
    mesh: bool,
}

/// Goes behind the header of a data frame.
fn behind_header(rest: &mut Rest<'_>, flags: u8) -> Result<Header, Skip> {
    const FROM_DS: u16 = 0x0200;
    const TO_AND_FROM_DS: u16 = 0x0300;
    const PROTECTED: u16 = 0x4000;
    const ORDER: u16 = 0x8000;
    const AMSDU: u16 = 0x0080;
    const MESH_CONTROL: u16 = 0x0100;
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
    let mut qos = 0;
    if subtype & 8 != 0 {
        qos = rest.bytes.try_get_u16_le()?;
        len += 2;
        if control & ORDER != 0 {
            rest.skip(4)?;
            len += 4;
        }
    }
    if flags & PADDED != 0 {
        rest.skip(usize::next_multiple_of(len, 4) - len)?;
    }
    let aggregated = qos & AMSDU != 0;
    // Outside of a mesh the bit belongs to a number, and LLC begins here: no Mesh Control begins as that does.
    let first = rest.bytes.get(if aggregated { 14 } else { 0 });
    let mesh = control & FROM_DS != 0 && qos & MESH_CONTROL != 0 && first.is_some_and(|first| *first < 3);
    Ok(Header { aggregated, mesh })
}

/// Flags, of which two say how many addresses follow, time to live, sequence number.
fn skip_mesh_control(rest: &mut Rest<'_>) -> Result<(), Skip> {
    let addresses = usize::from(rest.byte()? & 3);
    rest.skip(5 + addresses * 6)
}

/// The packets of a frame: it alone, but for an A-MSDU, whose MSDUs these are.
pub(in crate::capture) struct Msdus<'a> {
    /// The frame; of an A-MSDU what is left of it.
    rest: Option<Packet<'a>>,
    /// Whether Mesh Control comes before each; None for a frame that is no A-MSDU.
    mesh: Option<bool>,
}

impl<'a> Msdus<'a> {
    /// Those of a frame.
    #[inline]
    pub(in crate::capture) fn of(packet: Packet<'a>) -> Self {
        let is_wireless = matches!(packet.link_type, LinkType::Wireless | LinkType::Radiotap | LinkType::Ppi);
        let aggregate = if is_wireless { aggregate(packet) } else { None };
        match aggregate {
            Some((rest, mesh)) => Self { rest: Some(rest), mesh: Some(mesh) },
            None => Self { rest: Some(packet), mesh: None },
        }
    }
}

/// The body of a frame if it is an A-MSDU, and whether it is of a mesh.
#[cold]
fn aggregate(packet: Packet<'_>) -> Option<(Packet<'_>, bool)> {
    let mut rest = Rest::new(packet.bytes, packet.origin);
    let mut link_type = packet.link_type;
    if link_type == LinkType::Ppi {
        link_type = behind_ppi(&mut rest).ok()?;
    }
    let flags = match link_type {
        LinkType::Wireless => 0,
        LinkType::Radiotap => behind_radiotap(&mut rest).ok()?,
        _ => return None,
    };
    let Header { aggregated, mesh } = behind_header(&mut rest, flags).ok()?;
    let before = (packet.bytes.len() - rest.bytes.len()) as u32;
    let wire_len = packet.wire_len.saturating_sub(before);
    aggregated.then_some((Packet { bytes: rest.bytes, wire_len, link_type: LinkType::Llc, ..packet }, mesh))
}

impl<'a> Iterator for Msdus<'a> {
    type Item = Packet<'a>;

    #[inline]
    fn next(&mut self) -> Option<Packet<'a>> {
        let packet = self.rest.take()?;
        let Some(mesh) = self.mesh else { return Some(packet) };
        // Addresses, length; each but the last is padded to 32 bits. Behind the last may be a frame check sequence.
        let Some((header, body)) = packet.bytes.split_first_chunk::<14>() else {
            // So much of it was not captured.
            let cut = packet.wire_len > packet.bytes.len() as u32 && packet.wire_len >= 14;
            return cut.then_some(Packet { bytes: &[], ..packet });
        };
        let len = u32::from(u16::from_be_bytes([header[12], header[13]]));
        let next = (14 + len).next_multiple_of(4);
        let left = packet.wire_len.saturating_sub(next);
        if left >= 14 {
            let bytes = packet.bytes.get(next as usize..).unwrap_or_default();
            self.rest = Some(Packet { bytes, wire_len: left, ..packet });
        }
        let mut rest = Rest::new(body.get(..len as usize).unwrap_or(body), packet.origin);
        let captured = rest.bytes.len();
        if mesh && skip_mesh_control(&mut rest).is_err() {
            rest.bytes = &[];
        }
        let wire_len = len.saturating_sub((captured - rest.bytes.len()) as u32);
        Some(Packet { bytes: rest.bytes, wire_len, ..packet })
    }
}
