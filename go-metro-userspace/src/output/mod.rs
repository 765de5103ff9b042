//! Reports: what was measured in one interval, on its way out.
//!
//! The way of one summary: the engine's [`Interval`](go_metro_rtt::Interval) holds summaries by address; [`naming`]
//! turns them into [`NamedPair`]s, with the tags that users graph, and merges those that end up with the same name; a
//! [`Report`] of them goes to each [`Sink`].

pub mod csv;
pub mod dogstatsd;
pub mod fit;
pub mod json;
pub mod naming;
pub mod number;
pub mod plot;
pub mod printer;
pub mod prometheus;
pub mod table;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use go_metro_rtt::{Figure, PairSummary, Rtt, Side, Stats};

use crate::metrics::Health;
use crate::metrics::pair::KernelRtt;

pub use dogstatsd::DogStatsd;
pub use dogstatsd::{Destination, look_up};
pub use json::Json;
pub use printer::Printer;
pub use prometheus::Prometheus;
pub use table::Table;

/// One interval's results.
#[derive(Clone, Debug)]
pub struct Report {
    /// When the interval ended.
    pub at: SystemTime,
    /// How long it was.
    pub interval: Duration,
    /// The source in use: `ebpf` or `pcap`.
    pub backend: &'static str,
    /// The host pairs that measured something.
    pub pairs: Vec<NamedPair>,
    /// How the agent itself is doing.
    pub health: Health,
}

/// A host pair under the names that tags use.
#[derive(Clone, Debug)]
pub struct NamedPair {
    /// Local address.
    pub src: String,
    /// Remote host name where known, else address.
    pub dst: String,
    /// The remote addresses that go by that name.
    pub remotes: Vec<IpAddr>,
    /// Interface.
    pub iface: String,
    /// To which end the round trips went, where both were asked for or the local one.
    pub side: Option<Side>,
    /// The instance's tags, after the global ones.
    pub tags: Arc<[String]>,
    /// What was measured.
    pub summary: PairSummary,
    /// What the kernel itself says of this host's sockets between the two, where that was asked for.
    pub kernel: Option<KernelRtt>,
}

/// Where reports go.
pub enum Sink {
    /// DogStatsD, over UDP or a Unix socket.
    DogStatsd(Box<DogStatsd>),
    /// JSON lines or a table on standard output.
    Printed(Printer),
    /// Metrics for scrapers.
    Prometheus(Prometheus),
}

impl Sink {
    /// Hands a report over. It never waits: each sink has a thread, a queue and a count of what was lost.
    pub fn report(&mut self, report: &Arc<Report>) {
        match self {
            Self::DogStatsd(sink) => sink.report(report),
            Self::Printed(printer) => printer.report(report),
            Self::Prometheus(sink) => sink.report(report),
        }
    }

    /// What could not be sent or printed.
    pub fn send_errors(&self) -> u64 {
        match self {
            Self::DogStatsd(sink) => sink.send_errors(),
            Self::Printed(printer) => printer.errors(),
            Self::Prometheus(_) => 0,
        }
    }

    /// Why the last attempt failed, if it did.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::DogStatsd(sink) => sink.problem(),
            Self::Printed(printer) => printer.problem(),
            Self::Prometheus(_) => None,
        }
    }

    /// Whether it will never take a report again: its reader closed the pipe.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Printed(printer) if printer.is_closed())
    }

    /// Sends what is still queued, within this time.
    pub fn finish(self, limit: Duration) {
        match self {
            Self::DogStatsd(sink) => sink.finish(limit),
            Self::Printed(printer) => printer.finish(limit),
            Self::Prometheus(_) => {}
        }
    }
}

/// The columns of a table of pairs, in milliseconds: last, what is called the average, least, median, p95, p99,
/// largest; and jitter, which a single sample has none of.
pub(crate) fn columns(stats: &Stats, average: f64) -> [Option<Figure>; 8] {
    let [last, average, min, p50, p95, p99, max] = figures(stats, average).map(Some);
    [last, average, min, p50, p95, p99, max, stats.jitter_ms().map(Figure::exact)]
}

/// The same without jitter: what every series has.
pub(crate) fn figures(stats: &Stats, average: f64) -> [Figure; 7] {
    let [p50, p95, p99] = stats.quantiles([0.5, 0.95, 0.99]);
    let exact = |rtt: Rtt| Figure::exact(rtt.as_millis_f64());
    let (last, min, max) = (exact(stats.last()), exact(stats.min()), exact(stats.max()));
    [last, Figure::exact(average), min, p50, p95, p99, max]
}

#[cfg(test)]
pub(crate) mod examples {
    //! What the tests of several sinks report.

    use go_metro_rtt::{Addr, Class, Endpoint, FlowKey, Kind, Nanos, Sample, SeqNum, Summaries, SummaryLimits};

    use super::*;

    /// The summary of these RTTs, in microseconds.
    pub(crate) fn summary(data_us: &[u64], connect_us: &[u64]) -> PairSummary {
        let ns = |us: &[u64]| us.iter().map(|us| us * 1000).collect::<Vec<_>>();
        summary_of(&ns(data_us), &ns(connect_us))
    }

    /// The summary of these RTTs of data, in nanoseconds.
    pub(crate) fn summary_ns(data: &[u64]) -> PairSummary {
        summary_of(data, &[])
    }

    fn summary_of(data: &[u64], connect: &[u64]) -> PairSummary {
        let mut summaries = Summaries::new(SummaryLimits::default());
        let end = |last| Endpoint { addr: Addr::v4([10, 0, 0, last]), port: 80 };
        let flow = FlowKey { local: end(1), remote: end(2), ifindex: 1, side: Side::Remote };
        let series = [(Kind::Data, data), (Kind::Connect, connect)];
        for (kind, rtt) in series.iter().flat_map(|(kind, all)| all.iter().map(move |ns| (*kind, Rtt(*ns)))) {
            let sample =
                Sample { flow, acked_at: Nanos(1), ack: SeqNum(1), rtt, kind, class: Class::Exact, delayed: false };
            summaries.add(&sample);
        }
        summaries.take().pairs.remove(0).1
    }

    /// A pair with these RTTs.
    pub(crate) fn pair(dst: &str, data_us: &[u64], connect_us: &[u64]) -> NamedPair {
        NamedPair {
            src: "10.42.31.222".to_owned(),
            dst: dst.to_owned(),
            remotes: dst.parse().into_iter().collect(),
            iface: "va".to_owned(),
            side: None,
            tags: Arc::from(["env:test".to_owned()]),
            summary: summary(data_us, connect_us),
            kernel: None,
        }
    }

    /// Holds a screen to the one that was looked at. `GO_METRO_BLESS=1` writes it, to be looked at before it is
    /// committed.
    pub(crate) fn is_as_before(place: &str, name: &str, screen: &str) {
        let path = format!("{}/src/{place}/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("GO_METRO_BLESS").is_some() {
            std::fs::write(&path, screen).unwrap();
        }
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(screen == before, "{name} is now:\n{screen}\nand was:\n{before}");
    }

    /// A report of these pairs.
    pub(crate) fn report(pairs: Vec<NamedPair>) -> Report {
        Report {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            interval: Duration::from_secs(30),
            backend: "ebpf",
            pairs,
            health: Health::default(),
        }
    }
}
