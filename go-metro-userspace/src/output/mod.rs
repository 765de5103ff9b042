//! Outputs: what was measured in one interval, on its way out.
//!
//! The way of one summary: the engine's [`Interval`](go_metro_rtt::Interval) holds summaries by address; [`naming`]
//! turns them into [`NamedPair`]s, with the tags that users graph, and merges those that end up with the same name; a
//! [`Report`] of them goes to each [`Sink`], which [`open`] made of the configuration. Each output is a folder; [`csv`]
//! and [`plot`] are for capture files alone.

pub mod csv;
pub mod dogstatsd;
pub mod fit;
pub mod json;
pub mod naming;
pub mod number;
#[cfg_attr(not(feature = "otlp"), path = "otlp/without.rs")]
pub mod otlp;
pub mod plot;
pub mod printer;
pub mod prometheus;
pub mod sample;
pub mod table;
pub mod totals;

use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use go_metro_rtt::{Figure, PairSummary, Rtt, Side, Stats};
use tokio::sync::Notify;

use crate::config::{Config, Output};
use crate::metrics::Health;
use crate::metrics::pair::KernelRtt;

pub use dogstatsd::DogStatsd;
pub use json::Json;
pub use printer::{Print, Printer};
pub use prometheus::{Exposition, Prometheus};
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
    /// Remote host name where known, else address; or the name of a group of hosts.
    pub dst: String,
    /// The remote addresses that go by that name; none of a group.
    pub remotes: Vec<IpAddr>,
    /// Interface.
    pub iface: String,
    /// To which end the round trips went, where both were asked for or the local one.
    pub side: Option<Side>,
    /// Whose connections these are on this host, for people: a unit or a container; empty where that is not told.
    pub process: String,
    /// The port of the service, where connections are told apart by it; it is among the tags.
    pub port: Option<u16>,
    /// The instance's tags, after the global ones, those of a group, and then those of the process.
    pub tags: Arc<[String]>,
    /// What was measured.
    pub summary: PairSummary,
    /// What the kernel itself says of this host's sockets between the two, where that was asked for.
    pub kernel: Option<KernelRtt>,
    /// The lowest round trip of the last ten minutes, where that was asked for.
    pub base: Option<Rtt>,
}

/// An open output, which is handed each report until it is finished.
///
/// A sink never waits: each has a thread or a page, and counts what it could not deliver. Sinks do not affect one
/// another.
pub trait Sink: Send {
    /// Address, path or `stdout`.
    fn destination(&self) -> String;
    /// Hands a report over.
    fn report(&mut self, report: &Arc<Report>);
    /// What could not be sent or printed.
    fn errors(&self) -> u64 {
        0
    }
    /// What is in its way now.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether it will never take a report again: its reader closed the pipe.
    fn is_closed(&self) -> bool {
        false
    }
    /// Starts what could not be started before for want of a thread.
    fn retry(&mut self) {}
    /// Whether it must be opened again for another configuration; else it follows that.
    fn must_reopen(&self, _old: &Config, _new: &Config) -> bool {
        false
    }
    /// Does what may fail of following a configuration for which it need not be opened again.
    ///
    /// # Errors
    ///
    /// It cannot be followed, and all is as it was.
    fn prepare(&mut self, _config: &Config, _around: &Surroundings<'_>) -> Result<(), OpenError> {
        Ok(())
    }
    /// Follows a configuration that it is prepared for.
    fn follow(&mut self, _config: &Config) {}
    /// Sends what is still queued, within this time.
    fn finish(self: Box<Self>, _limit: Duration) {}
}

/// What outputs need of the agent.
pub struct Surroundings<'a> {
    /// To be notified when a reader has closed its pipe.
    pub closed: &'a Arc<Notify>,
    /// When the agent's counters began.
    pub started: SystemTime,
    /// Serves a page to those who connect.
    pub serve: &'a dyn Fn(TcpListener, Arc<Exposition>) -> io::Result<Box<dyn Served>>,
}

/// A page that is served for as long as this lives.
pub trait Served: Send {
    /// What is in the way of scrapers.
    fn problem(&self) -> Option<String>;
}

/// An output cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The port is taken, or the address is not this host's.
    #[error(transparent)]
    Listen(#[from] prometheus::ListenError),
    /// A file cannot be made or written.
    #[error("cannot write to {}: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What is in the way.
        source: io::Error,
    },
    /// There can be no more threads.
    #[error("cannot start: {0}")]
    Thread(io::Error),
    /// Nothing can be sent by OTLP.
    #[error("cannot send over OTLP: {0}")]
    Otlp(String),
}

/// The files that an output makes or writes: the daemon confines itself to their folders, and those of its log and
/// socket, before it opens anything.
pub fn files(output: Output, _config: &Config) -> Vec<PathBuf> {
    match output {
        Output::Statsd | Output::Prometheus | Output::Otlp | Output::Json | Output::Table => Vec::new(),
    }
}

/// Opens an output as it is configured.
///
/// # Errors
///
/// It cannot be opened; a server that is away is no error.
pub fn open(output: Output, config: &Config, around: &Surroundings<'_>) -> Result<Box<dyn Sink>, OpenError> {
    let printed = |page: Box<dyn Print>| Printer::start(page, around.closed.clone()).map_err(OpenError::Thread);
    Ok(match output {
        Output::Statsd => Box::new(DogStatsd::open(config)),
        Output::Prometheus => Box::new(prometheus::Endpoint::open(config, around)?),
        Output::Otlp => Box::new(otlp::Exporter::open(config, around)?),
        Output::Json => Box::new(printed(Box::new(Json::open()))?),
        Output::Table => Box::new(printed(Box::new(Table::open(config)))?),
    })
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

    use go_metro_rtt::{
        Addr, By, Cause, Class, Connect, Endpoint, FlowKey, Kind, Label, Nanos, PeerHealth, Place, Response, Role,
        Sample, SeqNum, Summaries, SummaryLimits,
    };

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
            let (acked_at, ack, class) = (Nanos(1), SeqNum(1), Class::Exact);
            let (label, place) = (Label::NONE, Place::default());
            summaries.add(&Sample { flow, acked_at, ack, rtt, kind, class, delayed: false, label, place });
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
            process: String::new(),
            port: None,
            tags: Arc::from(["env:test".to_owned()]),
            summary: summary(data_us, connect_us),
            kernel: None,
            base: None,
        }
    }

    /// A pair of whose connections something was counted, and its base.
    pub(crate) fn counted(dst: &str, data_us: &[u64]) -> NamedPair {
        let mut pair = NamedPair { summary: PairSummary::default(), ..pair(dst, &[1], &[]) };
        if !data_us.is_empty() {
            pair.summary = summary(data_us, &[]);
        }
        let mut health = PeerHealth { segments: 800, bytes: 1_000_000, spurious: 1, closes: 3, ..Default::default() };
        health.retransmits[Cause::Fast as usize] = 5;
        health.retransmits[Cause::TailProbe as usize] = 2;
        health.connects[Role::Client as usize][Connect::Established as usize] = 4;
        health.connects[Role::Client as usize][Connect::Refused as usize] = 2;
        health.resets[By::Remote as usize] = 1;
        (health.zero_window_ns, health.echoes) = (250_000_000, 4);
        pair.summary.health = Some(Box::new(health));
        pair.base = Some(Rtt(18_000_000));
        pair
    }

    /// A pair whose other end took so long for its responses, in microseconds.
    pub(crate) fn responding(dst: &str, data_us: &[u64], responses_us: &[u64]) -> NamedPair {
        let mut pair = pair(dst, data_us, &[]);
        let end = Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 80 };
        let flow = FlowKey { local: end, remote: end, ifindex: 1, side: Side::Remote };
        for took in responses_us.iter().map(|us| Rtt(us * 1000)) {
            let response = Response { flow, at: Nanos(1), took, label: Label::NONE, place: Place::default() };
            pair.summary.add_response(&response, &SummaryLimits::default());
        }
        pair
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
