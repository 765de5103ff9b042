//! The engine on what passes this host now, through a packet socket (packet(7)). Needs root or CAP_NET_RAW.
//!
//! `cargo run --example live`, under `sudo`; it ends with Ctrl-C.

#![allow(missing_docs, unreachable_pub, reason = "a test runs it as a module")]

mod packet;

use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use etherparse::LaxSlicedPacket;
use go_metro_rtt::{Bits, Engine, EngineConfig, FlowKey, Nanos, Outcome, Sample, Segment, Side};
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket};

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock(), |_| true)
}

/// Prints samples until `goes_on` is false of one.
pub fn run(out: &mut impl Write, mut goes_on: impl FnMut(&Sample) -> bool) -> io::Result<()> {
    // Without link headers, whatever the interfaces are.
    let socket = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::empty(), SockProtocol::EthAll)?;
    // What is sent when this begins may be a retransmission: it is timed only where timestamps show which one it is.
    let settles_after = std::time::Duration::from_secs(1);
    let mut engine = Engine::new(EngineConfig { settles_after, ..EngineConfig::default() });
    let (begin, mut buffer, mut expired_at) = (Instant::now(), vec![0; 1 << 16], 0);
    loop {
        let (len, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?;
        let time_ns = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if time_ns - expired_at > 1_000_000_000 {
            engine.expire(Nanos(time_ns));
            expired_at = time_ns;
        }
        let Some(from) = from else { continue };
        let packet = LaxSlicedPacket::from_ip(&buffer[..len]).ok();
        let Some(packet) = packet.as_ref().and_then(packet::read) else { continue };
        // PACKET_OUTGOING of include/uapi/linux/if_packet.h.
        let sent = from.pkttype() == 4;
        let (local, remote) = if sent { (packet.from, packet.to) } else { (packet.to, packet.from) };
        let mut header = packet.header;
        header.time_ns = time_ns;
        header.bits.0 |= if sent { Bits::EGRESS } else { 0 };
        let flow = FlowKey { local, remote, ifindex: from.ifindex() as u32, side: Side::Remote };
        if let Outcome::Sample(sample) = engine.record(&Segment { flow, header }) {
            let (local, remote) = (sample.flow.local, sample.flow.remote);
            writeln!(out, "{local} to {remote}: {:.3} ms", sample.rtt.as_millis_f64())?;
            if !goes_on(&sample) {
                return Ok(());
            }
        }
    }
}
