//! Where results go: the configured outputs, and the sinks and servers made of them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::DaemonError;
use super::server::{self, Asks, Server};
use crate::config::{Config, SidesWanted};
use crate::output::dogstatsd::{DogStatsdOptions, origin};
use crate::output::printer::{Page, Printer};
use crate::output::table::{Columns, Style};
use crate::output::{Destination, DogStatsd, Json, Prometheus, Report, Sink, Table};
use crate::status::document::OutputStatus;
use crate::terminal::{self, Spelling, shared_stdout};

/// Where results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// DogStatsD.
    Statsd,
    /// A page that Prometheus scrapes.
    Prometheus,
    /// JSON lines on standard output.
    Json,
    /// A table redrawn in place.
    LiveTable,
    /// A table that grows.
    PlainTable,
}

/// An output cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for Prometheus: {source}; set `prometheus_listen` or --prometheus-listen to another \
     address"
)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

fn bind(config: &Config) -> Result<TcpListener, ListenError> {
    let address = config.prometheus_address();
    TcpListener::bind(address).map_err(|source| ListenError { address, source })
}

/// The outputs of a running daemon.
pub(super) struct Outputs {
    each: Vec<(Output, Sink)>,
    /// Where Prometheus scrapes, as long as this lives.
    scraped: Option<(SocketAddr, Server)>,
    /// A reader closed its pipe.
    closed: Arc<Notify>,
}

impl Outputs {
    /// Makes the sinks; those of a file's report are asked nothing.
    pub(super) fn open(wanted: &[Output], config: &Config, asks: Option<&Asks>) -> Result<Self, DaemonError> {
        let mut outputs = Self { each: Vec::new(), scraped: None, closed: Arc::default() };
        for output in wanted {
            let sink = match (output, asks) {
                (Output::Prometheus, Some(asks)) => outputs.listen(bind(config)?, config, asks)?,
                // A file is read before anybody could scrape.
                (Output::Prometheus, None) => continue,
                (output, _) => outputs.sink(*output, config)?,
            };
            outputs.each.push((*output, sink));
        }
        Ok(outputs)
    }

    fn sink(&self, output: Output, config: &Config) -> io::Result<Sink> {
        let page = match output {
            Output::Statsd => return Ok(statsd(config)),
            Output::Prometheus => {
                return Ok(Sink::Prometheus(Prometheus::new(config.max_pairs, config.prometheus_buckets.into())));
            }
            Output::Json => Page::Json(Json::new(Box::new(shared_stdout(Spelling::Json)))),
            Output::PlainTable => {
                Page::Table(Table::new(shared_stdout(Spelling::Text), columns(config), || Style::Plain))
            }
            Output::LiveTable => Page::Table(Table::new(terminal::screen(), columns(config), || {
                let size = terminal_size::terminal_size();
                let (width, height) = size.map_or((120, 40), |(w, h)| (usize::from(w.0), usize::from(h.0)));
                Style::Live { width, height }
            })),
        };
        Ok(Sink::Printed(Printer::start(page, self.closed.clone())?))
    }

    fn listen(&mut self, listener: TcpListener, config: &Config, asks: &Asks) -> Result<Sink, ListenError> {
        let address = config.prometheus_address();
        let failed = |source| ListenError { address, source };
        if cfg!(not(feature = "prometheus")) {
            return Err(failed(io::Error::other("this go-metro was built without cargo's feature `prometheus`")));
        }
        let prometheus = Prometheus::new(config.max_pairs, config.prometheus_buckets.into());
        let address = listener.local_addr().map_err(failed)?;
        let server = server::tcp(listener, prometheus.exposition(), asks).map_err(failed)?;
        tracing::info!("Prometheus: http://{address}/metrics");
        self.scraped = Some((address, server));
        Ok(Sink::Prometheus(prometheus))
    }

    /// The port that [`Self::follow`] will need and that may be taken, if there is one.
    pub(super) fn reserve(&self, old: &Config, new: &Config) -> Result<Option<TcpListener>, ListenError> {
        let is_scraped = self.each.iter().any(|(output, _)| *output == Output::Prometheus);
        let moves = is_scraped && new.prometheus_address() != old.prometheus_address();
        moves.then(|| bind(new)).transpose()
    }

    /// Goes over to another configuration, with what [`Self::reserve`] gave; what it leaves as it was goes on.
    pub(super) fn follow(&mut self, old: &Config, new: &Config, asks: &Asks, reserved: Option<TcpListener>) {
        if let Some(listener) = reserved
            && let Some(place) = self.each.iter().position(|(output, _)| *output == Output::Prometheus)
        {
            match self.listen(listener, new, asks) {
                Ok(sink) => self.each[place].1 = sink,
                Err(error) => tracing::error!("{error}"),
            }
        }
        let of_statsd = |config: &Config| {
            (config.statsd.clone(), config.tags.clone(), config.metrics.clone(), config.dns_refresh_interval)
        };
        let differs = of_statsd(new) != of_statsd(old);
        if differs {
            for (_, place) in self.each.iter_mut().filter(|(output, _)| *output == Output::Statsd) {
                // Its thread sends what it has, and ends.
                *place = statsd(new);
            }
        }
        for (_, sink) in &mut self.each {
            match sink {
                Sink::Printed(printer) => printer.show(columns(new)),
                Sink::Prometheus(prometheus) => prometheus.show(new.prometheus_buckets.into()),
                Sink::DogStatsd(_) => {}
            }
        }
    }

    /// Hands a report to each.
    pub(super) fn report(&mut self, report: &Arc<Report>) {
        self.each.iter_mut().for_each(|(_, sink)| sink.report(report));
    }

    /// Starts what could not be started before for want of a thread.
    pub(super) fn retry(&mut self) {
        for (_, sink) in &mut self.each {
            if let Sink::DogStatsd(sink) = sink {
                sink.retry();
            }
        }
    }

    /// Sends what is still queued, within this time.
    pub(super) fn finish(self, limit: Duration) {
        let deadline = std::time::Instant::now() + limit;
        for (_, sink) in self.each {
            sink.finish(deadline.saturating_duration_since(std::time::Instant::now()));
        }
    }

    /// Waits until every output is a pipe whose reader closed it: there is nobody left to measure for.
    pub(super) async fn all_closed(&self) {
        while self.each.is_empty() || !self.each.iter().all(|(_, sink)| sink.is_closed()) {
            self.closed.notified().await;
        }
    }

    /// Outputs whose last report did not get out, and why.
    pub(super) fn problems(&self, config: &Config) -> impl Iterator<Item = String> {
        let failing = self.each.iter().zip(self.status(config));
        failing.filter_map(|((_, sink), its)| Some(format!("{} {}: {}", its.kind, its.destination, sink.problem()?)))
    }

    /// The port at which Prometheus scrapes.
    pub(super) fn server(&self) -> Option<&Server> {
        self.scraped.as_ref().map(|(_, server)| server)
    }

    /// What could not be sent.
    pub(super) fn send_errors(&self) -> u64 {
        self.each.iter().map(|(_, sink)| sink.send_errors()).sum()
    }

    /// What they are, for the status.
    pub(super) fn status(&self, config: &Config) -> Vec<OutputStatus> {
        let each = self.each.iter().map(|(output, sink)| {
            let (kind, destination) = match output {
                Output::Statsd => ("statsd", Destination::from(config).to_string()),
                Output::Prometheus => {
                    let address = self.scraped.as_ref().map(|(address, _)| *address);
                    ("prometheus", format!("http://{}/metrics", address.unwrap_or_else(|| config.prometheus_address())))
                }
                Output::Json => ("json", "stdout".to_owned()),
                Output::LiveTable | Output::PlainTable => ("table", "stdout".to_owned()),
            };
            OutputStatus { kind: kind.to_owned(), destination, errors: sink.send_errors() }
        });
        each.collect()
    }
}

fn statsd(config: &Config) -> Sink {
    let destination = Destination::from(config);
    tracing::info!("reporting to {destination} every {} s", config.report_interval.as_secs_f64());
    let origin = origin::fields(&|name| std::env::var(name).ok());
    let refresh = config.dns_refresh_interval;
    let (tags, metrics) = (config.tags.clone(), config.metrics.clone());
    let options = DogStatsdOptions { destination, tags, metrics, origin, refresh };
    Sink::DogStatsd(Box::new(DogStatsd::new(&options)))
}

/// The columns that the configuration asks for.
fn columns(config: &Config) -> Columns {
    Columns { side: config.sides != SidesWanted::Remote, kernel: config.kernel_rtt }
}
