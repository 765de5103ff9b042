//! The engine on a capture file: the pcap format of `tcpdump -w`, with Ethernet frames.
//!
//! `cargo run --example file -- examples/request.pcap`

#![allow(missing_docs, unreachable_pub, reason = "a test runs it as a module")]

mod packet;

use std::io::{self, Error, Write};
use std::{env, fs};

use etherparse::LaxSlicedPacket;
use go_metro_rtt::{Bits, Engine, EngineConfig, FlowKey, Outcome, Segment, Side, Sides};

fn main() -> io::Result<()> {
    let path = env::args().nth(1).ok_or_else(|| Error::other("usage: file FILE.pcap"))?;
    run(&fs::read(path)?, &mut io::stdout().lock())
}

/// Prints the samples of both directions of every connection.
pub fn run(file: &[u8], out: &mut impl Write) -> io::Result<()> {
    // Everything that passed is in a file: then a jump in the sequence numbers says that something was not captured.
    let mut engine = Engine::new(EngineConfig { peers_complete: true, ..EngineConfig::default() });
    for (time_ns, frame) in frames(file).ok_or_else(|| Error::other("not a pcap file of Ethernet frames"))? {
        let Some(packet) = LaxSlicedPacket::from_ethernet(frame).ok().as_ref().and_then(packet::read) else { continue };
        // A file does not say which end was near. The lower one is the local end, and both sides are measured.
        let sent = packet.from < packet.to;
        let (local, remote) = if sent { (packet.from, packet.to) } else { (packet.to, packet.from) };
        let mut header = packet.header;
        header.time_ns = time_ns;
        header.bits.0 |= if sent { Bits::EGRESS } else { 0 };
        let segment = Segment { flow: FlowKey { local, remote, ifindex: 0, side: Side::Remote }, header };
        let mut result = Ok(());
        segment.for_each_side(Sides::BOTH, &mut |segment| {
            if let Outcome::Sample(sample) = engine.record(segment) {
                let (near, far) = match sample.flow.side {
                    Side::Remote => (sample.flow.local, sample.flow.remote),
                    Side::Local => (sample.flow.remote, sample.flow.local),
                };
                let (kind, class) = (sample.kind.name(), sample.class.name());
                let line = format!("{near} to {far}: {:.3} ms, {kind}, {class}", sample.rtt.as_millis_f64());
                result = writeln!(out, "{line}");
            }
        });
        result?;
    }
    let counters = engine.counters();
    writeln!(out, "{} samples, {} rejected", counters.samples_total(), counters.rejected_total())
}

/// Time in nanoseconds and bytes of each frame (pcap-savefile(5)), of a file written by a machine like this one.
fn frames(file: &[u8]) -> Option<impl Iterator<Item = (u64, &[u8])>> {
    let word = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let unit_ns = match word(file, 0)? {
        0xa1b2_c3d4 => 1000,
        0xa1b2_3c4d => 1,
        _ => return None,
    };
    let is_ethernet = word(file, 20)? == 1;
    let mut rest = file.get(24..).filter(|_| is_ethernet)?;
    Some(std::iter::from_fn(move || {
        let time_ns = u64::from(word(rest, 0)?) * 1_000_000_000 + u64::from(word(rest, 4)?) * unit_ns;
        let end = 16 + word(rest, 8)? as usize;
        let frame = rest.get(16..end)?;
        rest = &rest[end..];
        Some((time_ns, frame))
    }))
}
