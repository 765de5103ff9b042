//! The first judge: tshark's `tcp.analysis.ack_rtt`, and every field that a proof needs.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::trace::{Frame, Said};
use testing_support::workspace::capture;

const FIELDS: [&str; 32] = [
    "frame.number",
    "frame.time_epoch",
    "frame.protocols",
    "ip.id",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.len",
    "tcp.flags.syn",
    "tcp.flags.fin",
    "tcp.flags.reset",
    "tcp.flags.ack",
    "tcp.ack_raw",
    "tcp.options.timestamp.tsval",
    "tcp.options.timestamp.tsecr",
    "tcp.hdr_len",
    "tcp.options.mss_val",
    "tcp.options.sack_perm",
    "tcp.options.sack_re",
    "tcp.analysis.duplicate_ack_num",
    "tcp.analysis.acks_frame",
    "tcp.analysis.ack_rtt",
    "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.keep_alive",
    "tcp.analysis.zero_window_probe",
];

/// What it takes a segment for, by field; the first of them where there are several.
const SAID: [(&str, Said); 6] = [
    ("tcp.analysis.retransmission", Said::Again),
    ("tcp.analysis.fast_retransmission", Said::Again),
    ("tcp.analysis.spurious_retransmission", Said::Again),
    ("tcp.analysis.out_of_order", Said::OutOfOrder),
    ("tcp.analysis.keep_alive", Said::Probe),
    ("tcp.analysis.zero_window_probe", Said::Probe),
];

/// Every TCP segment of a capture.
pub(super) fn frames(file: &Path) -> Result<Vec<Frame>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file);
    // Fragments stay what they are: time is that of the one with the header.
    for preference in ["tcp.relative_sequence_numbers:FALSE", "ip.defragment:FALSE", "ipv6.defragment:FALSE"] {
        command.args(["-o", preference]);
    }
    command.args(["-Y", "tcp", "-T", "fields", "-E", "separator=|", "-E", "occurrence=a", "-E", "aggregator=,"]);
    command.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    let text = capture(&mut command)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let frames = lines.map(|line| frame(line).with_context(|| format!("tshark printed {line:?}")));
    frames.filter_map(Result::transpose).collect()
}

/// The headers around the outermost TCP header of a frame, from tshark's list of protocols.
struct Layers {
    /// Which occurrence of addresses is of the packet that carries it, and whether they are IPv6's.
    address: usize,
    is_v6: bool,
    /// How many TCP headers there are: segments may carry packets that carry segments.
    segments: usize,
}

impl Layers {
    /// None if the outermost TCP header is not of a segment that travels: an ICMP error quotes it.
    fn of(protocols: &str) -> Option<Self> {
        let names: Vec<&str> = protocols.split(':').collect();
        let outer = &names[..names.iter().position(|name| *name == "tcp")?];
        let is_v6 = *outer.iter().rfind(|name| matches!(**name, "ip" | "ipv6"))? == "ipv6";
        let family = if is_v6 { "ipv6" } else { "ip" };
        let is_quoted = outer.iter().any(|name| matches!(*name, "icmp" | "icmpv6"));
        let address = outer.iter().filter(|name| **name == family).count() - 1;
        let segments = names.iter().filter(|name| **name == "tcp").count();
        (!is_quoted).then_some(Self { address, is_v6, segments })
    }
}

/// None if it carries no segment of its own.
fn frame(line: &str) -> Result<Option<Frame>> {
    let fields: Vec<&str> = line.split('|').collect();
    ensure!(fields.len() == FIELDS.len(), "{} fields", fields.len());
    let all = |name: &str| fields[FIELDS.iter().position(|field| *field == name).unwrap_or_default()].split(',');
    let Some(layers) = Layers::of(fields[2]) else { return Ok(None) };
    let first = |name: &str| all(name).next().filter(|text| !text.is_empty());
    let number = |name: &str| first(name).map(str::parse::<u64>).transpose().with_context(|| name.to_owned());
    let word = |name: &str| number(name).map(|value| value.map(|value| value as u32));
    let set = |name: &str| matches!(first(name), Some("1" | "True"));
    // What not every segment has may be that of a segment within this one.
    let is_own = |name: &str| layers.segments == 1 || all(name).count() == layers.segments;
    let optional = |name: &str| if is_own(name) { word(name) } else { Ok(None) };
    let end = |v4: &str, v6: &str, port: &str| -> Result<SocketAddr> {
        let address = all(if layers.is_v6 { v6 } else { v4 }).nth(layers.address).filter(|text| !text.is_empty());
        let address: IpAddr = address.context("no address")?.parse()?;
        Ok(SocketAddr::new(address, first(port).context("no port")?.parse()?))
    };
    let ip_id = all("ip.id").nth(layers.address).filter(|_| !layers.is_v6).and_then(|id| id.strip_prefix("0x"));
    let ip_id = ip_id.map(|id| u16::from_str_radix(id, 16)).transpose()?;
    let acknowledged = word("tcp.ack_raw")?.filter(|_| set("tcp.flags.ack"));
    let above =
        |edge: &str| edge.parse::<u32>().is_ok_and(|edge| (edge.wrapping_sub(acknowledged.unwrap_or(edge)) as i32) > 0);
    let (syn, fin) = (set("tcp.flags.syn"), set("tcp.flags.fin"));
    let flags = &FIELDS[FIELDS.iter().position(|field| *field == "tcp.analysis.retransmission").unwrap_or_default()..];
    // Less than no time is as good as none: two clocks.
    let rtt = first("tcp.analysis.ack_rtt").map(|text| if text.starts_with('-') { "0" } else { text });
    let pair = number("tcp.analysis.acks_frame")?.zip(rtt.map(nanoseconds).transpose()?);
    Ok(Some(Frame {
        number: number("frame.number")?.context("no number")?,
        flow: (end("ip.src", "ipv6.src", "tcp.srcport")?, end("ip.dst", "ipv6.dst", "tcp.dstport")?),
        time_ns: nanoseconds(first("frame.time_epoch").context("no time")?)?,
        seq: word("tcp.seq_raw")?.context("no sequence number")?,
        payload: word("tcp.len")?.unwrap_or_default(),
        len: word("tcp.len")?.unwrap_or_default().wrapping_add(u32::from(syn)).wrapping_add(u32::from(fin)),
        ack: acknowledged,
        reset: set("tcp.flags.reset"),
        syn,
        tsval: optional("tcp.options.timestamp.tsval")?,
        tsecr: optional("tcp.options.timestamp.tsecr")?,
        options: word("tcp.hdr_len")?.unwrap_or_default().saturating_sub(20),
        mss: word("tcp.options.mss_val")?,
        sack_permitted: first("tcp.options.sack_perm").is_some(),
        hole: layers.segments == 1 && all("tcp.options.sack_re").any(above),
        // RFC 2883 section 4: the first block, at or below the acknowledgement number.
        dsack: layers.segments == 1 && first("tcp.options.sack_re").is_some_and(|edge| !above(edge)),
        ip_id,
        duplicate: word("tcp.analysis.duplicate_ack_num")?.unwrap_or_default(),
        flagged: flags.iter().any(|flag| first(flag).is_some()),
        said: SAID.iter().find(|(flag, _)| first(flag).is_some()).map(|(_, said)| *said),
        pair: pair.filter(|_| is_own("tcp.analysis.acks_frame")),
    }))
}

/// `seconds.nanoseconds`, exactly.
fn nanoseconds(text: &str) -> Result<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    Ok(seconds.parse::<u64>()? * 1_000_000_000 + format!("{fraction:0<9}")[..9].parse::<u64>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tshark prints for a segment with these protocols and addresses.
    fn printed(protocols: &str, [v4, v6]: [(&str, &str); 2], ports: (&str, &str), pair: &str) -> String {
        let value = |field: &&str| match *field {
            "frame.number" => "7",
            "frame.time_epoch" => "1.5",
            "frame.protocols" => protocols,
            "ip.src" => v4.0,
            "ip.dst" => v4.1,
            "ipv6.src" => v6.0,
            "ipv6.dst" => v6.1,
            "tcp.srcport" => ports.0,
            "tcp.dstport" => ports.1,
            "tcp.seq_raw" | "tcp.ack_raw" => "100",
            "tcp.flags.ack" => "1",
            "tcp.analysis.acks_frame" => pair,
            "tcp.analysis.ack_rtt" if !pair.is_empty() => "0.1",
            _ => "",
        };
        FIELDS.iter().map(value).collect::<Vec<_>>().join("|")
    }

    fn ends(line: &str) -> Option<(String, String)> {
        frame(line).unwrap().map(|Frame { flow: (from, to), .. }| (from.to_string(), to.to_string()))
    }

    #[test]
    fn a_segment_has_the_addresses_of_the_packet_that_carries_it() {
        let none = ("", "");
        let plain = printed("eth:ethertype:ip:tcp", [("10.0.0.1", "10.0.0.2"), none], ("5", "80"), "");
        let expected = Some(("10.0.0.1:5".to_owned(), "10.0.0.2:80".to_owned()));
        assert_eq!(ends(&plain), expected);
        // A tunnel: the segment's own addresses are those within.
        let both = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")];
        assert_eq!(ends(&printed("eth:ethertype:ipv6:ip:tcp", both, ("5", "80"), "")), expected);
        let within = Some(("[fd00::1]:5".to_owned(), "[fd00::2]:80".to_owned()));
        assert_eq!(ends(&printed("eth:ethertype:ip:ipv6:tcp", both, ("5", "80"), "")), within);
        let nested = [("192.0.2.1,10.0.0.1", "192.0.2.2,10.0.0.2"), none];
        assert_eq!(
            ends(&printed("eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:tcp", nested, ("5", "80"), "")),
            expected
        );
        // A segment that carries a packet with a segment: the outermost.
        let carried = [("10.0.0.1,192.0.2.1", "10.0.0.2,192.0.2.2"), none];
        assert_eq!(ends(&printed("eth:ethertype:ip:tcp:ppp:ip:tcp", carried, ("5,9", "80,9"), "")), expected);
    }

    #[test]
    fn a_pair_of_a_carried_segment_is_not_one_of_the_carrier() {
        let carried = [("10.0.0.1,192.0.2.1", "10.0.0.2,192.0.2.2"), ("", "")];
        let pair = |protocols, pair| frame(&printed(protocols, carried, ("5,9", "80,9"), pair)).unwrap().unwrap().pair;
        assert_eq!(pair("eth:ethertype:ip:tcp:ppp:ip:tcp", "3"), None);
        assert_eq!(pair("eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:tcp", "3"), Some((3, 100_000_000)));
    }

    #[test]
    fn what_an_icmp_error_quotes_is_no_segment() {
        let quoted = [("192.0.2.9,10.0.0.1", "10.0.0.1,10.0.0.2"), ("", "")];
        assert_eq!(ends(&printed("eth:ethertype:ip:icmp:ip:tcp", quoted, ("5", "80"), "")), None);
    }
}
