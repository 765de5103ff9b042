//! The engine on segments made by hand: what is timed, and what is not.
//!
//! `cargo run --example segments`

#![allow(missing_docs, unreachable_pub, reason = "a test runs it as a module")]

use std::io::{self, Write};

use go_metro_rtt::{
    Addr, Bits, Endpoint, Engine, EngineConfig, FlowKey, Outcome, Payload, Segment, SegmentHeader, Side, TcpFlags,
};

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

/// Milliseconds, whether we sent it, sequence number, payload, acknowledgement number, and what happens.
type Step = (u64, bool, u32, u32, u32, &'static str);

const STEPS: [Step; 8] = [
    (0, true, 1000, 100, 0, "a request"),
    (50, false, 0, 0, 1100, "its acknowledgement"),
    (60, true, 1100, 100, 0, "a segment"),
    (61, true, 1200, 100, 0, "and another"),
    (112, false, 0, 0, 1300, "one acknowledgement of both"),
    (120, true, 1300, 100, 0, "a segment that is lost"),
    (320, true, 1300, 100, 0, "and sent again"),
    (371, false, 0, 0, 1400, "an acknowledgement of either"),
];

pub fn run(out: &mut impl Write) -> io::Result<()> {
    let flow = FlowKey {
        local: Endpoint { addr: Addr::v4([192, 0, 2, 1]), port: 40000 },
        remote: Endpoint { addr: Addr::v4([192, 0, 2, 2]), port: 443 },
        ifindex: 1,
        side: Side::Remote,
    };
    let mut engine = Engine::new(EngineConfig::default());
    for (ms, sent, seq, payload_len, ack, what) in STEPS {
        let header = SegmentHeader {
            time_ns: ms * 1_000_000,
            seq,
            ack,
            payload: Payload::new(payload_len),
            window: 500,
            flags: TcpFlags(TcpFlags::ACK),
            bits: Bits(if sent { Bits::EGRESS } else { 0 }),
            ..SegmentHeader::default()
        };
        let result = match engine.record(&Segment { flow, header }) {
            Outcome::Sent => "sent".to_owned(),
            Outcome::Resent(again) => format!("sent again: {}", again.cause.name()),
            Outcome::Sample(sample) => format!("{} ms", sample.rtt.as_millis_f64()),
            Outcome::Rejected(reason) => format!("no sample: {}", reason.name()),
            Outcome::Quiet(reason) => format!("nothing to time: {}", reason.name()),
            Outcome::Response(response) => format!("responded after {} ms", response.took.as_millis_f64()),
        };
        writeln!(out, "{ms:3} ms  {result:24}  {what}")?;
    }
    Ok(())
}
