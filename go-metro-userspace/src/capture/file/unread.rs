//! What could not be measured of a file, and why.

use std::collections::HashMap;

use go_metro_common::counters::Unparsable;
use go_metro_common::segment::Sides;
use go_metro_rtt::{EngineCounters, Quiet};

use crate::capture::decode::{Carried, Packet, carried};
use crate::capture::{SourceCounters, Unread};

/// Link types that are told apart; the frames of others are counted together.
const LINK_TYPES_MAX: usize = 8;

/// Link types that are not known, each with its number of frames.
#[derive(Default)]
pub(super) struct LinkTypes(Vec<(u32, u64)>);

impl LinkTypes {
    pub(super) fn count(&mut self, number: u32) {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == number) {
            *count += 1;
        } else if self.0.len() < LINK_TYPES_MAX {
            self.0.push((number, 1));
        }
    }
}

/// Frames that could not be measured, for whatever reason.
pub(super) fn total(counters: &SourceCounters) -> u64 {
    let unparsable = Unparsable::REFUSED.iter().map(|cause| counters.packets.unparsable[*cause as usize]);
    counters.unread.iter().copied().chain(unparsable).chain([counters.packets.fragments]).sum()
}

/// `12 of 300 frames could not be measured: 10 of link type 163 (IEEE802_11_RADIO_AVS), 2 truncated`; None if all
/// could.
pub(super) fn line(counters: &SourceCounters, link_types: &LinkTypes) -> Option<String> {
    let total = total(counters);
    if total == 0 {
        return None;
    }
    let mut reasons = Vec::new();
    for reason in Unread::ALL {
        let count = counters.unread[reason as usize];
        if count == 0 {
            continue;
        }
        let what = match reason {
            Unread::LinkType => {
                reasons.extend(link_types.0.iter().map(|(number, count)| format!("{count} of {}", named(*number))));
                let named: u64 = link_types.0.iter().map(|(_, count)| count).sum();
                if count > named {
                    reasons.push(format!("{} of other link types that are not read", count - named));
                }
                continue;
            }
            Unread::Interface => "of an interface that the file does not describe",
            Unread::NoTime => "without a time (Simple Packet Blocks)",
            Unread::Encrypted => "encrypted at the link layer",
            Unread::Damaged => "with a wrong frame check sequence",
            Unread::Esp => "encrypted (ESP)",
            Unread::MacSec => "encrypted (MACsec)",
            Unread::Dtls => "in a tunnel over DTLS",
            Unread::Ppp => "in PPP that is compressed, encrypted or split over several links",
            Unread::L2tpV3 => "in L2TPv3",
            Unread::IpComp => "compressed (IPComp)",
            Unread::Capwap => "in CAPWAP",
            Unread::Trill => "in TRILL or FabricPath",
            Unread::CiscoMetaData => "in Cisco MetaData",
            Unread::Batman => "in B.A.T.M.A.N.",
            Unread::Gre => "in GRE with routing or of an unknown version",
            Unread::Payload => "in a tunnel, behind a protocol that is not read",
        };
        reasons.push(format!("{count} {what}"));
    }
    for cause in Unparsable::REFUSED {
        let what = match cause {
            Unparsable::Truncated => "cut off inside a header",
            Unparsable::IpHeader => "with a malformed IP header",
            Unparsable::TcpHeader => "with a malformed TCP header",
            Unparsable::TcpOption => continue,
            Unparsable::TooDeep => "with too many headers before TCP",
        };
        match counters.packets.unparsable[cause as usize] {
            0 => {}
            count => reasons.push(format!("{count} {what}")),
        }
    }
    if counters.packets.fragments > 0 {
        reasons.push(format!("{} later fragments of a segment", counters.packets.fragments));
    }
    Some(format!("{total} of {} frames could not be measured: {}", counters.packets.seen, reasons.join(", ")))
}

/// What frames carry that carry no TCP.
#[derive(Default)]
pub(super) struct Others(HashMap<Carried, u64>);

impl Others {
    /// Most kinds that are told apart.
    const MOST: usize = 4096;

    pub(super) fn note(&mut self, packet: Packet<'_>) {
        let Some(carried) = carried(packet) else { return };
        if self.0.len() < Self::MOST || self.0.contains_key(&carried) {
            *self.0.entry(carried).or_default() += 1;
        }
    }

    /// What most frames are, if hardly any is TCP.
    pub(super) fn line(&self, counters: &SourceCounters) -> Option<String> {
        /// One in so many is more than hardly any.
        const HARDLY_ANY: u64 = 100;
        let (seen, passed_over) = (counters.packets.seen, counters.passed_over);
        let others: u64 = self.0.values().sum();
        let tcp = counters.packets.matched + counters.copies + counters.mixed + passed_over.saturating_sub(others);
        let (most, count) = self.0.iter().max_by_key(|(carried, count)| (**count, **carried))?;
        // What could not be read has a line of its own.
        if tcp * HARDLY_ANY > seen || total(counters) + counters.packets.encapsulated >= others {
            return None;
        }
        let found =
            if tcp == 0 { "no TCP was found".to_owned() } else { format!("only {tcp} segments of TCP were found") };
        Some(format!("{found} in {seen} frames; {count} are {most}"))
    }
}

/// That connections were there and none was seen in both directions, by what the engine has counted of these sides;
/// `only_syns`: nobody has sent anything else.
pub(super) fn one_way(sides: Sides, engine: &EngineCounters, only_syns: bool) -> Option<String> {
    let answered = engine.quiet_total() - engine.quiet[Quiet::NothingSent as usize];
    if engine.flows_begun == 0 || engine.samples_total() + engine.rejected_total() + answered > 0 {
        return None;
    }
    let flows = if sides == Sides::BOTH { engine.flows_begun.div_ceil(2) } else { engine.flows_begun };
    if only_syns {
        return Some(format!(
            "there are only SYNs, of {flows} connections: none was answered, or the answers took another path; \
             --health counts those that were not answered within 30 s"
        ));
    }
    Some(format!(
        "none of {flows} flows was seen in both directions, so there is no round trip to measure: the capture has one \
         direction of each (a mirror port or tap for one, asymmetric routes, one member of a bond). Capture both, or \
         merge two captures with mergecap"
    ))
}

/// A link type by its number, with libpcap's name if it has one and is compiled in.
fn named(number: u32) -> String {
    #[cfg(feature = "pcap")]
    if let Ok(libpcaps) = i32::try_from(number)
        && let Ok(libpcaps) = ::pcap::Linktype(libpcaps).get_name()
    {
        return format!("link type {number} ({libpcaps})");
    }
    format!("link type {number}")
}
