//! Whatever segments come, in whatever order: the engine does not panic, stays within its bounds, accounts for each,
//! and every sample is the time since a segment that really left with the acknowledged byte in it.
#![no_main]

use std::time::Duration;

use go_metro_rtt::{Addr, Direction, Endpoint, Engine, EngineConfig, FlowKey, Kind, Nanos, Outcome, Segment, Side};
use go_metro_common::segment::{Bits, Payload, SegmentHeader, TcpFlags};
use libfuzzer_sys::fuzz_target;

const IDLE: Duration = Duration::from_secs(20);
const MAX_FLOWS: u32 = 3;
const OUTSTANDING: u16 = 6;
/// Bytes that make one segment.
const STEP: usize = 10;

/// Where the numbers of a conversation stand, so that arbitrary steps are near what a real one would do.
#[derive(Default)]
struct Conversation {
    at: u64,
    next: [u32; 4],
    ticks: [u32; 4],
}

impl Conversation {
    fn segment(&mut self, step: &[u8]) -> Segment {
        let half = |at: usize| u16::from_le_bytes([step[at], step[at + 1]]);
        let which = usize::from(step[0] & 3);
        let bits = Bits(step[1] & !Bits::IPV6);
        // Time mostly goes on a little, sometimes a lot, and sometimes back.
        let wait = u64::from(step[2] & 0x3f) << (step[2] >> 6 << 3) << 8;
        self.at = if step[0] & 0x80 == 0 { self.at.wrapping_add(wait) } else { self.at.saturating_sub(wait) };
        let near = |number: u32, offset: u16| match offset {
            // Far off.
            0x8000..=0x80ff => number.wrapping_add(u32::from(offset) << 24),
            _ => number.wrapping_add_signed(i32::from(offset.cast_signed())),
        };
        let mut header = SegmentHeader {
            time_ns: self.at,
            payload: Payload::new(if step[0] & 0x40 == 0 { u32::from(step[3]) } else { u32::from(step[3]) << 12 }),
            window: u16::from(step[8] & 1),
            flags: TcpFlags(step[9]),
            bits,
            ..SegmentHeader::default()
        };
        if bits.any(Bits::EGRESS) {
            self.ticks[which] = self.ticks[which].wrapping_add(u32::from(step[8] >> 6));
            header.seq = near(self.next[which], half(4));
            header.tsval = self.ticks[which];
            let end = header.seq.wrapping_add(header.payload.len()).wrapping_add(header.flags.sequence_space());
            self.next[which] = end;
        } else {
            header.ack = near(self.next[which], half(6));
            header.seq = u32::from(half(4) & 3);
            header.tsecr = self.ticks[which].wrapping_sub(u32::from(step[8] >> 6));
        }
        let end = |last, port| Endpoint { addr: Addr::v4([10, 0, 0, last]), port };
        let flow = FlowKey { local: end(1, which as u16), remote: end(2, 80), ifindex: 1, side: Side::Remote };
        Segment { flow, header }
    }
}

/// Whether `sent` carries the byte before `ack`.
fn carries(sent: &Segment, ack: u32) -> bool {
    let behind = ack.wrapping_sub(sent.header.seq);
    behind > 0 && behind <= sent.len()
}

fuzz_target!(|data: &[u8]| {
    let config = EngineConfig {
        idle_ttl: IDLE,
        exp_ttl: IDLE / 4,
        max_flows: MAX_FLOWS,
        outstanding_per_flow: OUTSTANDING,
        peers_complete: true,
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(config);
    let mut conversation = Conversation { at: 1 << 40, ..Conversation::default() };
    let (mut sent, mut total) = (Vec::<Segment>::new(), 0);
    for step in data.chunks_exact(STEP).take(2000) {
        let segment = conversation.segment(step);
        let outcome = engine.record(&segment);
        total += 1;
        assert!(engine.flows() <= MAX_FLOWS as usize);
        match (outcome, segment.direction()) {
            (Outcome::Sent, Direction::Egress) => sent.push(segment),
            (Outcome::Sample(sample), Direction::Ingress) => {
                assert!(!segment.has(TcpFlags::RST) && segment.has(TcpFlags::ACK));
                assert!(sample.rtt.0 > 0 && Duration::from(sample.rtt) <= IDLE, "{sample:?}");
                assert_eq!(
                    (sample.flow, sample.ack.0, sample.acked_at),
                    (segment.flow, segment.header.ack, segment.time())
                );
                let left = segment.header.time_ns - sample.rtt.0;
                let is_it = |sent: &&Segment| {
                    sent.flow == segment.flow && sent.header.time_ns == left && carries(sent, segment.header.ack)
                };
                let cause = sent.iter().find(is_it).unwrap_or_else(|| panic!("nothing left then: {sample:?}"));
                assert!(
                    sample.kind == Kind::Data || sent.iter().filter(is_it).any(|sent| sent.has(TcpFlags::SYN)),
                    "{cause:?}"
                );
            }
            (Outcome::Rejected(_) | Outcome::Quiet(_), Direction::Ingress) => {}
            (outcome, direction) => panic!("{outcome:?} of a segment that went {direction:?}"),
        }
        if step[8] & 0x3e == 0x3e {
            engine.expire(Nanos(conversation.at));
        }
        if step[8] & 0x3e == 0x3c {
            engine.interrupt(1);
        }
    }
    let counters = *engine.counters();
    assert_eq!(counters.sent + counters.quiet_total() + counters.samples_total() + counters.rejected_total(), total);
    assert_eq!(counters.samples_total(), counters.classes.iter().sum::<u64>());

    // Nothing leaks: once all flows are over, there is as much room as in the beginning.
    engine.expire(Nanos(u64::MAX));
    assert_eq!(engine.flows(), 0);
    for k in 0..u32::from(OUTSTANDING) {
        let ended = conversation.segment(&[0, Bits::EGRESS, 0, 1, 0, 0, 0, 0, 0, TcpFlags::ACK]);
        let header = SegmentHeader { time_ns: u64::MAX - 100, seq: k, ..ended.header };
        engine.record(&Segment { header, ..ended });
    }
    assert_eq!(engine.counters().pool_full, counters.pool_full, "nodes are lost");
});
