//! The output for scrapers: [`exposition`] holds what is shown, [`page`] is how it is sent.

#[cfg_attr(not(feature = "prometheus"), path = "without.rs")]
pub mod exposition;
pub mod page;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::{Report, Served, Sink, Surroundings};
use crate::config::Config;

pub use exposition::{Exposition, Prometheus};

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
    address: SocketAddr,
    server: Box<dyn Served>,
}

impl Endpoint {
    /// Listens at the configured address.
    ///
    /// # Errors
    ///
    /// It is taken, or not this host's; or this build has no page.
    pub fn open(config: &Config, around: &Surroundings<'_>) -> Result<Self, ListenError> {
        let address = config.prometheus_address();
        let failed = |source| ListenError { address, source };
        if cfg!(not(feature = "prometheus")) {
            return Err(failed(io::Error::other("this go-metro was built without cargo's feature `prometheus`")));
        }
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let prometheus = Prometheus::new(config.max_pairs, config.prometheus_buckets.into());
        let server = (around.serve)(listener, prometheus.exposition()).map_err(failed)?;
        tracing::info!("Prometheus: http://{address}/metrics");
        Ok(Self { prometheus, address, server })
    }
}

impl Sink for Endpoint {
    fn destination(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    fn report(&mut self, report: &Arc<Report>) {
        self.prometheus.report(report);
    }

    fn problems(&self) -> Vec<String> {
        self.server.problems()
    }

    fn must_reopen(&self, old: &Config, new: &Config) -> bool {
        old.prometheus_address() != new.prometheus_address()
    }

    fn follow(&mut self, config: &Config) {
        self.prometheus.follow(config.max_pairs, config.prometheus_buckets.into());
    }
}
