//! A capture through the engine, and what is to be said of it: for `read`, and for instances with `interface: file`.

use std::collections::HashSet;
use std::time::Duration;

use go_metro_rtt::{
    Addr, Batch, Engine, EngineConfig, EngineCounters, Grouping, HealthLimits, Nanos, Outcome, PeerHealth, Ports,
    Rejection, Sample, Segment, Summaries,
};
use ipnet::IpNet;

use super::file::{FileFilter, FileSource, Told};

/// How often, in the capture's time, flows are expired.
const EXPIRE_EVERY_NS: u64 = 1_000_000_000;

/// What is wanted of a capture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Which flows.
    pub filter: &'a FileFilter,
    /// Only connections with these ports.
    pub ports: Ports,
    /// How remote hosts are grouped, if they are.
    pub grouping: Option<&'a Grouping>,
    /// What says so.
    pub called: Called,
}

/// What the parts of [`Wanted`] are called where they were written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called {
    /// Hosts whose segments are timed.
    pub local: &'static str,
    /// Remote hosts.
    pub targets: &'static str,
    /// Ports.
    pub ports: &'static str,
}

impl Called {
    /// On the command line of `read`.
    pub(crate) const OPTIONS: Self = Self { local: "--local", targets: "--target", ports: "--port" };
    /// In a configuration, which names no local hosts.
    pub(crate) const KEYS: Self = Self { local: "", targets: "`ips`, `hosts`", ports: "`ports`" };
}

/// Reads a capture to its end, with up to this many threads, and hands each segment and what became of it to `sink`.
/// A capture has every segment, from its beginning; a recording has what a meter had, and says what more that knew.
/// `responses`: the other end's are timed.
pub(crate) fn measure(
    source: &mut FileSource,
    wanted: Wanted<'_>,
    threads: usize,
    (config, health, responses): (EngineConfig, Option<HealthLimits>, bool),
    sink: &mut impl FnMut(&Segment, Outcome),
) -> Engine {
    let config = EngineConfig { peers_complete: true, settles_after: Duration::ZERO, ..config };
    let (mut engine, mut batch) = (Engine::new(config), Batch::of(wanted.ports));
    engine.count_health(health);
    engine.time_responses(responses);
    engine.group(wanted.grouping.cloned());
    let mut expire_at = Nanos(0);
    source.for_each_told(threads, wanted.filter, &mut |told| {
        let segment = match told {
            Told::Segment(segment) | Told::Untold(segment) | Told::Flipped(segment) => segment,
            Told::ClockSet | Told::Turn(_) | Told::Interrupted(_) | Told::Gap(_) => {
                batch.flush(&mut engine, sink);
                match told {
                    Told::Turn(section) => {
                        engine.set_config(section.map_or(config, |section| section.engine(config.max_flows)));
                        engine.drop_flows();
                        expire_at = Nanos(0);
                    }
                    Told::Interrupted(flow) => engine.interrupt_flow(&flow),
                    Told::Gap(flow) => engine.note_gap_of(&flow),
                    _ => engine.note_gap(),
                }
                return;
            }
        };
        if segment.time() >= expire_at {
            batch.flush(&mut engine, sink);
            engine.expire(segment.time());
            expire_at = Nanos(segment.time().0.saturating_add(EXPIRE_EVERY_NS));
        }
        match told {
            // Rare: each by itself.
            Told::Untold(_) => {
                batch.flush(&mut engine, sink);
                engine.set_doubtful(true);
                batch.push(segment, &mut engine, sink);
                batch.flush(&mut engine, sink);
                engine.set_doubtful(false);
            }
            Told::Flipped(_) => {
                batch.flush(&mut engine, sink);
                let mut flip = |segment: &Segment, outcome| sink(segment, flipped(outcome));
                batch.push(segment, &mut engine, &mut flip);
                batch.flush(&mut engine, &mut flip);
            }
            _ => batch.push(segment, &mut engine, sink),
        }
    });
    batch.flush(&mut engine, sink);
    // Attempts to connect whose time was over by then.
    engine.expire(source.last());
    engine
}

/// Adds what was counted of connections in a capture. An attempt to connect whose time was not over when the capture
/// ended is in none of the counts, as nobody knows what became of it: its pair has a row, and there is a line that says
/// so.
pub(crate) fn take_health(engine: &mut Engine, timeout: Duration, summaries: &mut Summaries) -> Option<String> {
    engine.take_health(|pair, health| summaries.add_health(pair, health));
    let (mut attempts, mut hosts) = (0_u64, HashSet::<Addr>::new());
    engine.awaiting_answers(|flow, pair| {
        attempts += 1;
        hosts.insert(flow.remote.addr);
        summaries.add_health(Some(pair), &PeerHealth::default());
    });
    (attempts > 0).then(|| {
        let number = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        format!(
            "{} to connect to {} had no answer when the capture ended, less than {} s later; such count neither as \
             established nor as failed",
            number(attempts, "attempt"),
            number(hosts.len() as u64, "host"),
            timeout.as_secs_f64()
        )
    })
}

/// The same, of a delayed acknowledgement if it was not, and the other way round.
fn flipped(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Sample(sample) => Outcome::Sample(Sample { delayed: !sample.delayed, ..sample }),
        other => other,
    }
}

/// What was not measured of the capture, and why, a line each; [`coarse_clock`] is apart.
pub(crate) fn remarks(source: &FileSource, wanted: Wanted<'_>, engine: &EngineCounters) -> Vec<String> {
    let broken = source.broken().map(|broken| format!("{broken}; everything before that was used"));
    let absent = absent(wanted.filter, wanted.called, source).or_else(|| other_ports(wanted.called, engine));
    let one_way = source.one_way(wanted.filter.sides, engine);
    let resent = resent(engine);
    broken
        .into_iter()
        .chain(source.unread())
        .chain(source.without_tcp())
        .chain(absent)
        .chain(one_way)
        .chain(source.warnings())
        .chain(resent)
        .collect()
}

/// That most of what was acknowledged was seen to be sent more than once, which no path does.
fn resent(engine: &EngineCounters) -> Option<String> {
    /// Fewer may be chance.
    const LEAST: u64 = 10;
    let resent = engine.rejected[Rejection::Retransmitted as usize];
    let all = engine.samples_total() + engine.rejected_total();
    (resent >= LEAST && resent * 2 > all).then(|| {
        format!(
            "{resent} of {all} round trips cannot be measured because their segments are in the capture twice: a path \
             loses less, but captures of two places that were merged look so; measure each capture by itself"
        )
    })
}

/// That no segment is of the ports that were named.
fn other_ports(called: Called, engine: &EngineCounters) -> Option<String> {
    (engine.other_ports > 0 && engine.flows_begun == 0).then(|| {
        format!("no TCP segment is of the ports that {} names; leave it out to see what there is", called.ports)
    })
}

/// That no segment is of the hosts that were named, and whose are.
fn absent(filter: &FileFilter, called: Called, source: &FileSource) -> Option<String> {
    /// Most hosts to name.
    const NAMED: usize = 8;
    let listed = |list: &mut dyn Iterator<Item = String>| list.collect::<Vec<_>>().join(", ");
    let net = |net: &IpNet| {
        if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
    };
    for (nets, name) in [(&filter.local, called.local), (&filter.targets, called.targets)] {
        let others = if nets.is_empty() { Vec::new() } else { source.instead_of(nets) };
        if !others.is_empty() {
            let wanted = listed(&mut nets.iter().map(net));
            let named = listed(&mut others.iter().take(NAMED).map(ToString::to_string));
            let more = others.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Some(format!(
                "no TCP segment is from or to {wanted} ({name}); there are segments of {named}{more}"
            ));
        }
    }
    (!filter.local.is_empty() && !filter.targets.is_empty() && source.has_only_others()).then(|| {
        let [local, targets] = [&filter.local, &filter.targets].map(|nets| listed(&mut nets.iter().map(net)));
        format!("no connection is between {local} ({}) and {targets} ({})", called.local, called.targets)
    })
}

/// How many round trips the capture's clock is too coarse for, if it is for any.
pub(crate) fn coarse_clock(source: &FileSource, counters: &EngineCounters) -> Option<String> {
    let left_out = counters.rejected[Rejection::NotPositive as usize];
    let all = left_out + counters.samples_total();
    (left_out > 0).then(|| {
        let Some(tick) = source.tick() else {
            return format!("all frames have one time: {left_out} of {all} round trips cannot be measured");
        };
        let tick = format!("{tick:?}");
        let (number, unit) = tick.split_at(tick.find(|c: char| c.is_alphabetic()).unwrap_or(tick.len()));
        let set = if source.clock_was_set_back() { ", or begin before the clock was set back" } else { "" };
        format!("clock of {number} {unit}: {left_out} of {all} round trips are shorter than a tick{set}")
    })
}

#[cfg(test)]
mod recordings;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use go_metro_common::segment::{Bits, SegmentHeader, TcpFlags};
    use go_metro_rtt::{Endpoint, FlowKey, Side, SummaryLimits};

    use super::*;

    #[test]
    fn what_was_not_answered_when_a_capture_ended_has_a_row_and_is_said() {
        let timeout = Duration::from_secs(30);
        let said = |attempts: &[(u8, u16)]| {
            let mut engine = Engine::new(EngineConfig { max_flows: 8, ..EngineConfig::DEFAULT });
            let health = HealthLimits { max_pairs: 8, connect_timeout: timeout, side: Side::Remote };
            engine.count_health(Some(health));
            for (host, port) in attempts {
                let [local, remote] = [1, *host].map(|host| Endpoint { addr: Addr::v4([10, 0, 0, host]), port: *port });
                let flow = FlowKey { local, remote, ifindex: 0, side: Side::Remote };
                let (flags, bits) = (TcpFlags(TcpFlags::SYN), Bits(Bits::EGRESS));
                engine.record(&Segment { flow, header: SegmentHeader { flags, bits, ..Default::default() } });
            }
            let mut summaries = Summaries::new(SummaryLimits::DEFAULT);
            let line = take_health(&mut engine, timeout, &mut summaries);
            let rows = summaries.take().pairs.into_iter().map(|(pair, row)| (pair.remote, row.health));
            let mut rows: Vec<_> = rows.map(|(remote, health)| (remote.to_string(), *health.unwrap())).collect();
            rows.sort_by(|(a, _), (b, _)| a.cmp(b));
            (line, rows)
        };
        let (line, rows) = said(&[(2, 80), (2, 81), (3, 80)]);
        assert_eq!(
            line.unwrap(),
            "3 attempts to connect to 2 hosts had no answer when the capture ended, less than 30 s later; such count \
             neither as established nor as failed"
        );
        assert_eq!(rows, ["10.0.0.2", "10.0.0.3"].map(|remote| (remote.to_owned(), PeerHealth::default())));
        assert!(said(&[(2, 80)]).0.unwrap().starts_with("1 attempt to connect to 1 host had no answer"));
        assert_eq!(said(&[]), (None, Vec::new()));
    }

    #[test]
    fn a_local_host_that_is_not_in_the_capture_is_answered_with_those_that_are() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/delayed-acks.pcap.gz"));
        let said = |local: &[&str]| {
            let local = local.iter().map(|net| net.parse().unwrap()).collect();
            let filter = FileFilter { local, ..FileFilter::default() };
            let mut source = FileSource::open(path).unwrap();
            source.for_each(&filter, &mut |_| ());
            absent(&filter, Called::OPTIONS, &source)
        };
        assert_eq!(
            said(&["10.0.0.9/32", "fd00::/8"]).unwrap(),
            "no TCP segment is from or to 10.0.0.9, fd00::/8 (--local); there are segments of 10.77.0.1, 10.77.0.2"
        );
        assert_eq!((said(&["10.77.0.1/32"]), said(&[])), (None, None));
    }

    #[test]
    fn a_target_or_port_that_is_not_in_the_capture_is_said() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/delayed-acks.pcap.gz"));
        let said = |local: &[&str], targets: &[&str], ports: Ports| {
            let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
            let filter = FileFilter { local: nets(local), targets: nets(targets), ..FileFilter::default() };
            let mut source = FileSource::open(path).unwrap();
            let wanted = Wanted { filter: &filter, ports, grouping: None, called: Called::OPTIONS };
            let engine =
                measure(&mut source, wanted, 1, (EngineConfig::DEFAULT, None, false), &mut |_: &Segment, _| ());
            absent(&filter, Called::OPTIONS, &source).or_else(|| other_ports(Called::OPTIONS, engine.counters()))
        };
        assert_eq!(
            said(&[], &["10.0.0.9/32"], Ports::ALL).unwrap(),
            "no TCP segment is from or to 10.0.0.9 (--target); there are segments of 10.77.0.1, 10.77.0.2"
        );
        assert_eq!(
            said(&["10.77.0.1/32"], &["10.77.0.1/32"], Ports::ALL).unwrap(),
            "no connection is between 10.77.0.1 (--local) and 10.77.0.1 (--target)"
        );
        assert_eq!(said(&["10.77.0.1/32"], &["10.77.0.2/32"], Ports::ALL), None);
        assert!(said(&[], &[], Ports::new(&[(1, 1)]).unwrap()).unwrap().contains("--port"));
    }
}
