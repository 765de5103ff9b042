//! The first judge: tshark's `tcp.analysis.ack_rtt`, and every field that a proof needs.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::trace::Frame;
use crate::workspace::capture;

const FIELDS: [&str; 28] = [
    "frame.number",
    "frame.time_epoch",
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
    lines.map(|line| frame(line).with_context(|| format!("tshark printed {line:?}"))).collect()
}

fn frame(line: &str) -> Result<Frame> {
    let fields: Vec<&str> = line.split('|').collect();
    ensure!(fields.len() == FIELDS.len(), "{} fields", fields.len());
    let first = |name: &str| {
        let place = FIELDS.iter().position(|field| *field == name).unwrap_or_default();
        Some(fields[place].split(',').next().unwrap_or_default()).filter(|text| !text.is_empty())
    };
    let number = |name: &str| first(name).map(str::parse::<u64>).transpose().with_context(|| name.to_owned());
    let word = |name: &str| number(name).map(|value| value.map(|value| value as u32));
    let set = |name: &str| matches!(first(name), Some("1" | "True"));
    let end = |v4: &str, v6: &str, port: &str| -> Result<SocketAddr> {
        let address: IpAddr = first(v4).or_else(|| first(v6)).context("no address")?.parse()?;
        Ok(SocketAddr::new(address, first(port).context("no port")?.parse()?))
    };
    let acknowledged = word("tcp.ack_raw")?.filter(|_| set("tcp.flags.ack"));
    let blocks = fields[FIELDS.iter().position(|field| *field == "tcp.options.sack_re").unwrap_or_default()];
    let above =
        |edge: &str| edge.parse::<u32>().is_ok_and(|edge| (edge.wrapping_sub(acknowledged.unwrap_or(edge)) as i32) > 0);
    let (syn, fin) = (set("tcp.flags.syn"), set("tcp.flags.fin"));
    let flags = &FIELDS[FIELDS.iter().position(|field| *field == "tcp.analysis.retransmission").unwrap_or_default()..];
    Ok(Frame {
        number: number("frame.number")?.context("no number")?,
        flow: (end("ip.src", "ipv6.src", "tcp.srcport")?, end("ip.dst", "ipv6.dst", "tcp.dstport")?),
        time_ns: nanoseconds(first("frame.time_epoch").context("no time")?)?,
        seq: word("tcp.seq_raw")?.context("no sequence number")?,
        len: word("tcp.len")?.unwrap_or_default().wrapping_add(u32::from(syn)).wrapping_add(u32::from(fin)),
        ack: acknowledged,
        reset: set("tcp.flags.reset"),
        syn,
        tsval: word("tcp.options.timestamp.tsval")?,
        tsecr: word("tcp.options.timestamp.tsecr")?,
        sack_permitted: first("tcp.options.sack_perm").is_some(),
        hole: blocks.split(',').any(above),
        duplicate: word("tcp.analysis.duplicate_ack_num")?.unwrap_or_default(),
        flagged: flags.iter().any(|flag| first(flag).is_some()),
        pair: number("tcp.analysis.acks_frame")?.zip(first("tcp.analysis.ack_rtt").map(nanoseconds).transpose()?),
    })
}

/// `seconds.nanoseconds`, exactly.
fn nanoseconds(text: &str) -> Result<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    Ok(seconds.parse::<u64>()? * 1_000_000_000 + format!("{fraction:0<9}")[..9].parse::<u64>()?)
}
