//! Packet traces as text: a line a segment, an arrow for its direction, the expected outcome beside it.
//!
//! ```text
//! 0    > S 1000 sackperm            a SYN leaves at 0 ms
//! 50   < SA 7000 ack 1001           => connect exact 50
//! 60   > 1001+100 ts 6              payload 1001..1101, TSval 6
//! 111  < ack 1101 ecr 6             => data exact 51
//! ```
//!
//! Time is in milliseconds. After the arrow: control bits (any of `S`, `F`, `R`, `A`, `P`, and `E` for ECE), sequence
//! number, `+` payload length, and `/` into how many segments it is cut; then `ack N`, `win N`, `ts TSVAL`, `ecr
//! TSECR`, `sackperm`, `sack` (a block above the acknowledgement number), `dsack`, `port N` (local port, default
//! 40000). Behind `=>`: `data|connect exact|partial|timestamp RTT [delayed]`, or `rejected REASON`. A line without `=>`
//! must yield no sample and no rejection. `#` starts a comment.
//!
//! The same is said of both sides by [`play_sides`]: there a line may have two outcomes, `remote` or `local` before
//! each, with `,` between.

use go_metro_common::segment::{Bits, Payload, SegmentHeader, Sides, TcpFlags};
use go_metro_rtt::{Addr, Endpoint, Engine, EngineConfig, FlowKey, Outcome, Segment, Side};

/// One line of a trace.
pub struct Line {
    pub segment: Segment,
    pub expected: Option<String>,
    pub text: String,
}

/// Plays a trace against a fresh engine and panics at the first line whose outcome differs.
pub fn play(trace: &str) {
    play_with(EngineConfig::default(), trace);
}

/// As [`play`], with other bounds; hands back the engine.
pub fn play_with(config: EngineConfig, trace: &str) -> Engine {
    let mut engine = Engine::new(config);
    for line in trace.lines().filter_map(parse) {
        let outcome = describe(&engine.record(&line.segment));
        assert_eq!(outcome, line.expected, "at `{}`", line.text);
    }
    engine
}

/// Plays a trace for these sides, as an interface in the middle sees it, and panics at the first line whose outcomes
/// differ.
pub fn play_sides(sides: Sides, trace: &str) -> Engine {
    let mut engine = Engine::new(EngineConfig::default());
    for line in trace.lines().filter_map(parse) {
        let mut outcomes = Vec::new();
        line.segment.for_each_side(sides, &mut |segment| {
            let outcome = describe(&engine.record(segment));
            outcomes.extend(outcome.map(|outcome| format!("{} {outcome}", segment.flow.side.name())));
        });
        let outcomes = (!outcomes.is_empty()).then(|| outcomes.join(", "));
        assert_eq!(outcomes, line.expected, "at `{}`", line.text);
    }
    engine
}

/// The outcome in the words of a trace; `None` for what is neither sample nor rejection.
pub fn describe(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Sample(s) => {
            let ms = s.rtt.as_millis_f64();
            let delayed = if s.delayed { " delayed" } else { "" };
            Some(format!("{} {} {ms}{delayed}", s.kind.name(), s.class.name()))
        }
        Outcome::Rejected(reason) => Some(format!("rejected {}", reason.name())),
        Outcome::Sent | Outcome::Resent(_) | Outcome::Quiet(_) | Outcome::Response(_) => None,
    }
}

/// Parses one line; `None` for blank ones.
pub fn parse(line: &str) -> Option<Line> {
    let text = line.split('#').next().unwrap_or_default().trim();
    if text.is_empty() {
        return None;
    }
    let (left, expected) = match text.split_once("=>") {
        Some((left, right)) => (left, Some(right.split_whitespace().collect::<Vec<_>>().join(" "))),
        None => (text, None),
    };
    let mut words = left.split_whitespace();
    let ms: f64 = words.next().and_then(|w| w.parse().ok()).unwrap_or_else(|| panic!("no time in `{text}`"));
    let mut header = SegmentHeader { time_ns: (ms * 1e6).round() as u64, window: 500, ..Default::default() };
    match words.next() {
        Some(">") => header.bits.0 |= Bits::EGRESS,
        Some("<") => {}
        _ => panic!("no arrow in `{text}`"),
    }
    let mut local_port = 40000;
    while let Some(word) = words.next() {
        let mut number = |what: &str| -> u32 {
            words.next().and_then(|w| w.parse().ok()).unwrap_or_else(|| panic!("no number after {what} in `{text}`"))
        };
        match word {
            "ack" => {
                header.flags.0 |= TcpFlags::ACK;
                header.ack = number(word);
            }
            "win" => header.window = number(word) as u16,
            "ts" => {
                header.bits.0 |= Bits::TIMESTAMPS;
                header.tsval = number(word);
            }
            "ecr" => {
                header.bits.0 |= Bits::TIMESTAMPS;
                header.tsecr = number(word);
            }
            "port" => local_port = number(word) as u16,
            "sackperm" => header.bits.0 |= Bits::SACK_PERMITTED,
            "sack" => header.bits.0 |= Bits::SACK_ABOVE,
            "dsack" => header.bits.0 |= Bits::DSACK,
            word if word.starts_with(|c: char| c.is_ascii_digit()) => {
                let (seq, len) = word.split_once('+').unwrap_or((word, "0"));
                header.seq = seq.parse().unwrap_or_else(|_| panic!("bad sequence number in `{text}`"));
                let (len, segments) = len.split_once('/').unwrap_or((len, "1"));
                let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("bad length in `{text}`"));
                header.payload = Payload::in_segments(number(len), number(segments));
            }
            word => {
                for letter in word.chars() {
                    header.flags.0 |= match letter {
                        'S' => TcpFlags::SYN,
                        'F' => TcpFlags::FIN,
                        'R' => TcpFlags::RST,
                        'A' => TcpFlags::ACK,
                        'P' => TcpFlags::PSH,
                        'E' => TcpFlags::ECE,
                        _ => panic!("unknown word `{word}` in `{text}`"),
                    };
                }
            }
        }
    }
    let flow = FlowKey {
        local: Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: local_port },
        remote: Endpoint { addr: Addr::v4([10, 0, 0, 2]), port: 80 },
        ifindex: 1,
        side: Side::Remote,
    };
    Some(Line { segment: Segment { flow, header }, expected, text: text.to_owned() })
}
