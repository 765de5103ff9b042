//! From bytes to headers.
//!
//! [`packet`] reads bytes, [`link`] finds the network header, [`ip`] the addresses and where TCP begins, [`tcp`] reads
//! its header. [`options`] are read later, of those segments alone that are wanted. [`quick`] does all of that in one
//! go for the usual packet.

pub(crate) mod ip;
pub(crate) mod link;
pub(crate) mod options;
pub(crate) mod packet;
pub(crate) mod quick;
pub(crate) mod tcp;

use go_metro_common::counters::{PerCpu, Unparsable};

use crate::cpu::forget;
use ip::Addresses;
use link::Link;
use packet::Packet;
use tcp::Tcp;

/// TCP begins no later than behind a link header, an IPv6 header and 8 extension headers of 2048 bytes: the mask
/// changes nothing, but bounds the offset for the verifier.
const OFFSET_MASK: u32 = 0x7fff;

/// Why a packet yields no record.
#[derive(Clone, Copy)]
pub(crate) enum Skip {
    /// Another protocol, not a target, or it says nothing about round-trip time.
    NotOurs,
    /// A fragment of a TCP segment, other than the first.
    Fragment,
    /// It is a tunnel's, which is not looked into.
    Encapsulated,
    /// It is malformed.
    Unparsable(Unparsable),
}

/// The headers of a TCP segment.
#[derive(Clone, Copy)]
pub(crate) struct Headers {
    pub addresses: Addresses,
    pub tcp: Tcp,
}

/// Reads them.
#[inline(always)]
pub(crate) fn headers(packet: Packet, cpu: &mut PerCpu, link: Link) -> Result<Headers, Skip> {
    let network = link::network(packet, link)?;
    let ip = ip::parse(packet, cpu, network)?;
    let tcp = tcp::parse(packet, forget(cpu, ip.payload) & OFFSET_MASK, ip.end)?;
    Ok(Headers { addresses: ip.addresses, tcp })
}
