//! The TCP header and its options (RFC 9293 section 3.1).

use bytes::Buf;
use go_metro_common::counters::Unparsable;
use go_metro_common::headers::option::{END, NOP, SACK, SACK_PERMITTED, TIMESTAMPS};
use go_metro_common::headers::tcp::HEADER_LEN;
use go_metro_common::segment::{Bits, Payload, SegmentHeader, TcpFlags};

use super::Skip;

/// A TCP header.
pub(super) struct Tcp {
    pub(super) source: u16,
    pub(super) destination: u16,
    /// Its numbers and options; nothing else of the record is filled in.
    pub(super) header: SegmentHeader,
    pub(super) checksum: u16,
    pub(super) bad_option: bool,
    /// Options that may have been SACK blocks are cut off by a short capture.
    pub(super) cut_options: bool,
    /// Bytes of options.
    pub(super) options_len: u8,
    /// The maximum segment size that it announces.
    pub(super) mss: Option<u16>,
    /// All options were captured.
    pub(super) is_whole: bool,
}

/// The kind of the option that announces the maximum segment size (RFC 9293 section 3.2).
const MSS: u8 = 2;

/// The shortest SACK option with a block (RFC 2018 section 3).
const SACK_WITH_A_BLOCK: usize = 10;

/// Parses the segment that `bytes` begin with and that is `len` long on the wire.
pub(super) fn parse(bytes: &[u8], len: u32) -> Result<Tcp, Skip> {
    if len < HEADER_LEN {
        return Err(Skip::Unparsable(Unparsable::Truncated));
    }
    let mut fixed = bytes.get(..HEADER_LEN as usize).ok_or(Skip::Unparsable(Unparsable::Truncated))?;
    let source = fixed.try_get_u16()?;
    let destination = fixed.try_get_u16()?;
    let seq = fixed.try_get_u32()?;
    let ack = fixed.try_get_u32()?;
    let header_len = u32::from(fixed.try_get_u8()? >> 4) * 4;
    let flags = TcpFlags(fixed.try_get_u8()?);
    let window = fixed.try_get_u16()?;
    let checksum = fixed.try_get_u16()?;
    if header_len < HEADER_LEN || header_len > len {
        return Err(Skip::Unparsable(Unparsable::TcpHeader));
    }
    let mut header =
        SegmentHeader { seq, ack, window, flags, payload: Payload::new(len - header_len), ..SegmentHeader::default() };
    // A short capture may have cut options off: what is there is read, and what is cut is no fault of the sender's.
    let captured = bytes.len().min(header_len as usize);
    let cut = captured < header_len as usize;
    let mut mss = None;
    let sound = options(&bytes[HEADER_LEN as usize..captured], &mut header, &mut mss);
    // Options that were read to their end leave so many bytes for one that was not.
    let rest = header_len as usize - captured;
    let cut_options = cut && (!sound || rest >= SACK_WITH_A_BLOCK);
    let bad_option = !sound && !cut;
    let options_len = (header_len - HEADER_LEN) as u8;
    Ok(Tcp { source, destination, header, checksum, bad_option, cut_options, options_len, mss, is_whole: !cut })
}

/// Reads options into the record; whether all of them were well-formed.
fn options(mut list: &[u8], header: &mut SegmentHeader, mss: &mut Option<u16>) -> bool {
    loop {
        match list {
            [] | [END, ..] => return true,
            [NOP, rest @ ..] => list = rest,
            [kind, len, ..] if *len >= 2 && usize::from(*len) <= list.len() => {
                let (option, rest) = list.split_at(usize::from(*len));
                one_option(*kind, &option[2..], header, mss);
                list = rest;
            }
            _ => return false,
        }
    }
}

fn one_option(kind: u8, mut data: &[u8], header: &mut SegmentHeader, mss: &mut Option<u16>) {
    match (kind, data.len()) {
        // RFC 7323 section 3.2.
        (TIMESTAMPS, 8) => {
            header.bits.0 |= Bits::TIMESTAMPS;
            header.tsval = data.get_u32();
            header.tsecr = data.get_u32();
        }
        // 0 announces nothing.
        (MSS, 2) => *mss = Some(data.get_u16()).filter(|mss| *mss > 0),
        // RFC 2018 section 2.
        (SACK_PERMITTED, 0) => header.bits.0 |= Bits::SACK_PERMITTED,
        // RFC 2018 section 3: one to four blocks.
        (SACK, 8 | 16 | 24 | 32) => {
            for (index, mut block) in data.chunks_exact(8).enumerate() {
                let begins = block.get_u32();
                let is_above = (begins.wrapping_sub(header.ack) as i32) > 0;
                header.bits.0 |= match (is_above, index) {
                    (true, _) => Bits::SACK_ABOVE,
                    // RFC 2883 section 4.
                    (false, 0) => Bits::DSACK,
                    (false, _) => 0,
                };
            }
        }
        _ => {}
    }
}
