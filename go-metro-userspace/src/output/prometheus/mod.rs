//! The output for scrapers: [`exposition`] holds what is shown and writes it as text, `protobuf` as protocol buffers;
//! [`page`] is how it is sent.

#[cfg_attr(not(feature = "prometheus"), path = "without.rs")]
pub mod exposition;
pub mod page;
#[cfg(feature = "prometheus")]
mod protobuf;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::{OpenError, Report, Served, Sink, Surroundings};
use crate::config::{Config, MetricName, listening, local_url};

pub use exposition::{Exposition, Prometheus};

/// Where scrapers ask.
const PATH: &str = "/metrics";

/// Nobody can scrape there.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for Prometheus: {source}; set `prometheus_listen` or --prometheus-listen to another \
     address"
)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// A page, and the port at which it is scraped.
pub struct Endpoint {
    prometheus: Prometheus,
    port: Port,
}

/// Where it is scraped.
struct Port {
    /// As it is configured; port 0 is one that the kernel chooses.
    configured: SocketAddr,
    address: SocketAddr,
    /// None only while another address is tried, or if the old one was lost over that.
    server: Option<Box<dyn Served>>,
}

impl Endpoint {
    /// Listens at the configured address.
    ///
    /// # Errors
    ///
    /// It is taken, or not this host's; or this build has no page.
    pub fn open(config: &Config, around: &Surroundings<'_>) -> Result<Self, ListenError> {
        let address = config.prometheus_address();
        if cfg!(not(feature = "prometheus")) {
            let source = io::Error::other("this go-metro was built without cargo's feature `prometheus`");
            return Err(ListenError { address, source });
        }
        let prometheus = Prometheus::new(config.max_pairs, config.prometheus_buckets.into());
        let port = Port::open(address, prometheus.exposition(), around)?;
        Ok(Self { prometheus, port })
    }
}

impl Port {
    fn open(configured: SocketAddr, page: Arc<Exposition>, around: &Surroundings<'_>) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address: configured, source };
        let listener = TcpListener::bind(configured).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let server = (around.serve)(listener, page).map_err(failed)?;
        tracing::info!("Prometheus: {}", listening(address, PATH));
        Ok(Self { configured, address, server: Some(server) })
    }
}

impl Sink for Endpoint {
    fn destination(&self) -> String {
        local_url(self.port.address, PATH)
    }

    fn report(&mut self, report: &Arc<Report>) {
        self.prometheus.report(report);
    }

    fn problems(&self) -> Vec<String> {
        match &self.port.server {
            Some(server) => server.problem().into_iter().collect(),
            None => vec!["another program took the port while another address was tried; reload once more".to_owned()],
        }
    }

    /// Moves to another address. What was counted so far goes on there.
    fn prepare(&mut self, config: &Config, around: &Surroundings<'_>) -> Result<(), OpenError> {
        let wanted = config.prometheus_address();
        if wanted == self.port.configured && self.port.server.is_some() {
            return Ok(());
        }
        let open = |address| Port::open(address, self.prometheus.exposition(), around);
        let moved = open(wanted).or_else(|error| {
            if error.source.kind() != io::ErrorKind::AddrInUse || wanted.port() != self.port.address.port() {
                return Err(error);
            }
            // What is in the way may be this port itself: all addresses of the host include each.
            self.port.server = None;
            open(wanted).inspect_err(|_| self.port.server = open(self.port.address).ok().and_then(|port| port.server))
        });
        self.port = moved?;
        Ok(())
    }

    fn follow(&mut self, config: &Config) {
        self.prometheus.follow(config.max_pairs, config.prometheus_buckets.into());
        if !config.wants(MetricName::Health) {
            self.prometheus.forget_health();
        }
    }
}
