//! The second judge: tcptrace's non-ambiguous samples.
//!
//! Its graphs of RTT samples (`-R`) have one point each: the time of the acknowledgement in microseconds, and the RTT
//! in whole milliseconds, cut off.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

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

/// Its samples; None where it cannot read the capture (link types that it does not know, headers that it does not get
/// past).
pub(super) fn points(file: &Path) -> Result<Option<Vec<Point>>> {
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
    let done = output(command.args([PATIENCE, "tcptrace", "-n", "-R", "plain.pcap"]).current_dir(directory.path()))?;
    if !done.status.success() {
        return Ok(None);
    }
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
    let end = |text: &str| {
        let (address, port) = text.rsplit_once(':')?;
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port.parse().ok()?))
    };
    Some((end(from)?, end(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
