//! The second judge: tcptrace's non-ambiguous samples, and its counts of what was sent again.
//!
//! Its graphs of RTT samples (`-R`) have one point each: the time of the acknowledgement in microseconds, and the RTT
//! in whole milliseconds, cut off.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::trace::Flow;
use testing_support::workspace::{capture, output};

/// How long it may take, in seconds.
const PATIENCE: &str = "20";

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// The direction that was acknowledged.
    pub(super) flow: Flow,
    pub(super) acked_at_us: u64,
    pub(super) rtt_ms: u64,
}

/// What it counts of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) packets: u64,
    /// Payload, what was sent again included.
    pub(super) bytes: u64,
    /// Packets with something that was captured before: payload, SYN or FIN.
    pub(super) again: u64,
}

/// What it counts of each direction; none where it cannot read the capture.
pub(super) fn totals(file: &Path) -> Result<Option<HashMap<Flow, Totals>>> {
    let done = asked(file, "-l")?;
    Ok(done.map(|(_, said)| listed(&String::from_utf8_lossy(&said))))
}

/// The counts of its long list: `host a:`, `host b:`, then two columns, of a to b and of b to a.
fn listed(text: &str) -> HashMap<Flow, Totals> {
    let mut all: HashMap<Flow, Totals> = HashMap::new();
    let mut ends = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(end) = line.strip_prefix("host ").and_then(|rest| rest.split_once(':')) {
            // Every connection has two.
            ends.truncate(if ends.len() == 2 { 0 } else { ends.len() });
            ends.extend(address(end.1.trim()));
            continue;
        }
        let [a, b] = ends[..] else { continue };
        for (name, count) in [
            ("total packets:", (|of: &mut Totals| &mut of.packets) as fn(&mut Totals) -> &mut u64),
            ("actual data bytes:", |of| &mut of.bytes),
            ("rexmt data pkts:", |of| &mut of.again),
        ] {
            let columns: Vec<&str> = line.split(name).map(str::trim).collect();
            if let ["", forth, back] = columns[..] {
                for (flow, number) in [((a, b), forth), ((b, a), back)] {
                    *count(all.entry(flow).or_default()) += number.parse::<u64>().unwrap_or_default();
                }
            }
        }
    }
    all
}

/// `10.0.0.1:5000`, as it writes an address of either family.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port.parse().ok()?))
}

/// Has it read a capture: where it wrote its files, and what it printed. None where it cannot read it (link types that
/// it does not know, headers that it does not get past).
fn asked(file: &Path, how: &str) -> Result<Option<(TempDir, Vec<u8>)>> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    // It knows neither pcapng nor nanoseconds nor gzip.
    let plain = directory.path().join("plain.pcap");
    let mut convert = Command::new("editcap");
    if capture(convert.args(["-F", "pcap"]).arg(file).arg(&plain)).is_err() {
        return Ok(None);
    }
    // An Authentication Header makes it loop for ever.
    let mut command = Command::new("timeout");
    // Without the file's own directory in the way: it writes where it stands.
    let done = output(command.args([PATIENCE, "tcptrace", "-n", how, "plain.pcap"]).current_dir(directory.path()))?;
    Ok(done.status.success().then_some((directory, done.stdout)))
}

/// Its samples; None where it cannot read the capture.
pub(super) fn points(file: &Path) -> Result<Option<Vec<Point>>> {
    let Some((directory, _)) = asked(file, "-R")? else { return Ok(None) };
    let mut points = Vec::new();
    for entry in directory.path().read_dir()? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with("_rtt.xpl") {
            let text = std::fs::read(&path)?;
            points.extend(graph(&String::from_utf8_lossy(&text)));
        }
    }
    Ok(Some(points))
}

/// The points of one graph, whose second line after `title` names the direction.
fn graph(text: &str) -> Vec<Point> {
    let mut lines = text.lines();
    let title = lines.find(|line| *line == "title").and_then(|_| lines.next()).unwrap_or_default();
    let Some(flow) = flow(title) else { return Vec::new() };
    let point = |line: &str| {
        let (time, rtt) = line.strip_prefix("dot ")?.split_once(' ')?;
        let (seconds, fraction) = time.split_once('.')?;
        let acked_at_us = seconds.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?;
        Some(Point { flow, acked_at_us, rtt_ms: rtt.trim().parse().ok()? })
    };
    lines.filter_map(point).collect()
}

/// `10.0.0.1:5000_==>_10.0.0.2:80 (rtt samples)`.
fn flow(title: &str) -> Option<Flow> {
    let (from, to) = title.split_once(' ')?.0.split_once("_==>_")?;
    Some((address(from)?, address(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_both_directions_of_each_connection() {
        let text = "TCP connection 1:\n\thost a:        10.0.0.1:5000\n\thost b:        fd77::0002:80\n\
                    \tcomplete conn: yes\n   a->b:\t\t\t      b->a:\n\
                    \x20    total packets:            73           total packets:            39\n\
                    \x20    actual data bytes:     10000           actual data bytes:         0\n\
                    \x20    rexmt data pkts:           2           rexmt data pkts:           0\n\
                    \x20    rexmt data bytes:          9           rexmt data bytes:          9\n";
        let (a, b) = ("10.0.0.1:5000".parse().unwrap(), "[fd77::2]:80".parse().unwrap());
        let both = [
            ((a, b), Totals { packets: 73, bytes: 10_000, again: 2 }),
            ((b, a), Totals { packets: 39, bytes: 0, again: 0 }),
        ];
        assert_eq!(listed(text), both.into());
        // Other connections of the same ends add up.
        assert_eq!(listed(&[text, text].concat())[&(a, b)].packets, 146);
    }

    #[test]
    fn a_graph_has_a_point_for_each_sample() {
        let text = "timeval signed\ntitle\n10.42.31.222:54523_==>_[x]:22 (rtt samples)\n";
        assert!(graph(text).is_empty(), "an address that is none");
        let text = "timeval signed\ntitle\n10.42.31.222:54523_==>_fd77::2:22 (rtt samples)\nxlabel\ntime\nred\n\
                    dot 1454455868.759660 10\nltext 1454455868.765250 8 red\nrtt\n";
        let flow = ("10.42.31.222:54523".parse().unwrap(), "[fd77::2]:22".parse().unwrap());
        assert_eq!(graph(text), [Point { flow, acked_at_us: 1_454_455_868_759_660, rtt_ms: 10 }]);
    }
}
