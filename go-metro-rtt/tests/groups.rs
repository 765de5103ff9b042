//! Groups of remote hosts: which pair a flow's samples and counts go to.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use go_metro_common::segment::{Bits, Payload, SegmentHeader, TcpFlags};
use go_metro_rtt::{
    Addr, Connect, Endpoint, Engine, EngineConfig, FlowKey, Group, Grouping, HealthLimits, Nanos, Outcome, PairKey,
    Place, Sample, Segment, Side, Summaries, SummaryLimits,
};

const HEALTH: HealthLimits =
    HealthLimits { max_pairs: 100, connect_timeout: Duration::from_secs(10), side: Side::Remote };

/// A connection between 10.0.0.1 and a remote host.
#[derive(Clone, Copy)]
struct Connection {
    remote: u32,
    local_port: u16,
    remote_port: u16,
    side: Side,
}

/// A client's connection to port 443 of this host.
fn to(remote: u32) -> Connection {
    Connection { remote, local_port: 40_000, remote_port: 443, side: Side::Remote }
}

impl Connection {
    fn segment(self, time_ms: u64, from_timed: bool, flags: u8, seq: u32, ack: u32, len: u32) -> Segment {
        let local = Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: self.local_port };
        let remote = Endpoint { addr: Addr::v4(self.remote.to_be_bytes()), port: self.remote_port };
        let bits = Bits(if from_timed { Bits::EGRESS } else { 0 });
        let payload = Payload::new(len);
        let time_ns = 1_000_000_000 + time_ms * 1_000_000;
        let header = SegmentHeader {
            time_ns,
            seq,
            ack,
            payload,
            flags: TcpFlags(flags),
            bits,
            window: 500,
            ..Default::default()
        };
        Segment { flow: FlowKey { local, remote, ifindex: 2, side: self.side }, header }
    }

    /// The byte of this number that the end that is timed sends, and its acknowledgement: the sample.
    fn round_trip(self, engine: &mut Engine, byte: u32) -> Sample {
        let (seq, at_ms) = (1001 + byte, 10 + u64::from(byte) * 10);
        engine.record(&self.segment(at_ms, true, TcpFlags::ACK, seq, 0, 1));
        match engine.record(&self.segment(at_ms + 5, false, TcpFlags::ACK, 0, seq + 1, 0)) {
            Outcome::Sample(sample) => sample,
            other => panic!("no sample: {other:?}"),
        }
    }
}

/// The engine's grouping: hosts of 10/8 by the second byte, the others each for itself; and how often it was asked.
fn by_second_byte(asked: &Arc<AtomicU64>, by_port: bool) -> Grouping {
    let asked = asked.clone();
    let group_of = move |remote: Addr| {
        asked.fetch_add(1, Ordering::Relaxed);
        let [first, second, ..] = (remote.bits() as u32).to_be_bytes();
        if first == 10 { (Group::numbered(second.into()), 3) } else { (Group::HOST, 3) }
    };
    Grouping { group_of: Arc::new(group_of), by_port }
}

fn engine(grouping: Grouping) -> Engine {
    let mut engine = Engine::new(EngineConfig::default());
    engine.count_health(Some(HEALTH));
    engine.group(Some(grouping));
    engine
}

#[test]
fn a_hundred_thousand_hosts_in_ten_groups_are_ten_pairs_and_each_flow_is_looked_up_once() {
    let asked = Arc::default();
    let mut engine = engine(by_second_byte(&asked, false));
    let mut summaries = Summaries::new(SummaryLimits { max_pairs: 10, ..SummaryLimits::default() });
    for host in 0..100_000_u32 {
        let connection = to(0x0a00_0000 | (host % 10) << 16 | (host / 10));
        for round in 0..3 {
            summaries.add(&connection.round_trip(&mut engine, round));
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 100_000);
    let mut counted = Vec::new();
    engine.take_health(|pair, health| counted.push((pair.unwrap(), health.segments)));
    let interval = summaries.take();
    assert_eq!((interval.pairs.len(), interval.folded_samples, interval.other.is_none()), (10, 0, true));
    assert!(interval.pairs.iter().all(|(_, pair)| pair.count() == 30_000));
    // What is counted of connections is of the same pairs, and came from the same look-ups.
    assert_eq!((counted.len(), asked.load(Ordering::Relaxed)), (10, 100_000));
    for (pair, segments) in counted {
        assert!(segments == 30_000 && interval.pairs.iter().any(|(key, _)| *key == pair), "{pair:?}: {segments}");
    }
}

#[test]
fn nothing_is_grouped_unless_that_is_asked_for() {
    let mut engine = Engine::new(EngineConfig::default());
    let sample = to(0x0a01_0101).round_trip(&mut engine, 0);
    assert_eq!(sample.place, Place::default());
    assert_eq!(PairKey::of(&sample.flow, sample.place, sample.label), PairKey::from(&sample.flow));
}

#[test]
fn a_host_of_no_group_is_a_pair_of_its_own() {
    let mut engine = engine(by_second_byte(&Arc::default(), false));
    let sample = to(0xc000_0201).round_trip(&mut engine, 0);
    assert_eq!(sample.place, Place::default(), "whatever its class");
    let place = to(0x0a07_0101).round_trip(&mut engine, 0).place;
    assert_eq!(place, Place { group: Group::numbered(7), class: 3, port: 0 });
}

/// Where the samples of a connection go that begins with these flags of the end that is timed.
fn port_of(connection: Connection, first: u8) -> u16 {
    let mut engine = engine(by_second_byte(&Arc::default(), true));
    if first != 0 {
        engine.record(&connection.segment(0, true, first, 1000, 0, 0));
        engine.record(&connection.segment(1, false, TcpFlags::ACK, 0, 1001, 0));
    }
    connection.round_trip(&mut engine, 0).place.port
}

#[test]
fn the_port_of_the_service_is_that_of_the_end_that_did_not_begin() {
    // A service on a high port, of a client on a low one.
    let odd = Connection { remote: 0x0a01_0101, local_port: 700, remote_port: 50_000, side: Side::Remote };
    let (syn, answer) = (TcpFlags::SYN, TcpFlags::SYN | TcpFlags::ACK);
    assert_eq!(port_of(odd, syn), 50_000, "this end sent the SYN");
    assert_eq!(port_of(odd, answer), 700, "this end answered one");
    assert_eq!(port_of(odd, 0), 700, "nobody knows: the lower one");
    // Of the way to the local end it is the remote one that is timed.
    let back = Connection { side: Side::Local, ..odd };
    assert_eq!(port_of(back, syn), 700);
    assert_eq!(port_of(back, answer), 50_000);
    assert_eq!(port_of(back, 0), 700);
}

#[test]
fn the_next_connection_on_the_same_ports_may_begin_at_the_other_end() {
    let mut engine = engine(by_second_byte(&Arc::default(), true));
    let odd = Connection { remote: 0x0a01_0101, local_port: 700, remote_port: 50_000, side: Side::Remote };
    assert_eq!(odd.round_trip(&mut engine, 0).place.port, 700);
    engine.record(&odd.segment(100, true, TcpFlags::SYN, 5000, 0, 0));
    let Outcome::Sample(sample) = engine.record(&odd.segment(105, false, TcpFlags::ACK, 0, 5001, 0)) else {
        panic!("no sample of the handshake")
    };
    assert_eq!(sample.place.port, 50_000);
}

#[test]
fn a_refused_connection_is_counted_of_its_group_and_port() {
    let mut engine = engine(by_second_byte(&Arc::default(), true));
    let served = Connection { remote: 0x0a01_0101, local_port: 8080, remote_port: 50_000, side: Side::Remote };
    served.round_trip(&mut engine, 0);
    // Another host of the group asks for the same port and is answered with a reset.
    let refused = Connection { remote: 0x0a01_0202, local_port: 8080, remote_port: 1024, side: Side::Remote };
    engine.record(&refused.segment(1, true, TcpFlags::RST | TcpFlags::ACK, 0, 1001, 0));
    let mut counted = Vec::new();
    engine
        .take_health(|pair, health| counted.push((pair.unwrap().place.port, health.connects_total(Connect::Refused))));
    assert_eq!(counted, [(8080, 1)]);
}

#[test]
fn another_grouping_holds_for_flows_that_are_there_and_for_counts_that_were_not_taken() {
    let asked = Arc::default();
    let mut engine = engine(by_second_byte(&Arc::default(), false));
    let connection = to(0x0a01_0101);
    assert_eq!(connection.round_trip(&mut engine, 0).place.group, Group::numbered(1));
    engine.take_health(|_, _| {});
    engine.group(Some(Grouping { group_of: Arc::new(|_| (Group::prefix(96 + 24), 0)), by_port: true }));
    let sample = connection.round_trip(&mut engine, 1);
    assert_eq!(sample.place, Place { group: Group::prefix(96 + 24), class: 0, port: 443 });
    assert_eq!(PairKey::of(&sample.flow, sample.place, sample.label).remote, Addr::v4([10, 1, 1, 0]));
    let mut counted = Vec::new();
    engine.take_health(|pair, _| counted.push(pair.unwrap().place));
    assert_eq!(counted, [sample.place]);
    // And once more, asked for once.
    engine.group(Some(by_second_byte(&asked, false)));
    for round in 0..3 {
        let sample = connection.round_trip(&mut engine, 2 + round);
        assert_eq!(sample.place, Place { group: Group::numbered(1), class: 3, port: 0 });
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "when a count was noted, and for good");
    engine.group(None);
    assert_eq!(connection.round_trip(&mut engine, 5).place, Place::default());
}

#[test]
fn flows_that_begin_anew_are_grouped_as_before() {
    let mut engine = engine(by_second_byte(&Arc::default(), false));
    let connection = to(0x0a01_0101);
    connection.round_trip(&mut engine, 0);
    engine.set_config(EngineConfig { max_flows: 4, ..EngineConfig::default() });
    assert_eq!(connection.round_trip(&mut engine, 1).place.group, Group::numbered(1));
    engine.expire(Nanos(u64::MAX / 2));
    assert_eq!(engine.flows(), 0);
    assert_eq!(connection.round_trip(&mut engine, 2).place.group, Group::numbered(1));
}
