//! The port at which browsers find the page: opened, moved and closed as the configuration has it. While it is open,
//! the page receives each second's figures, as every other watcher does.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::server::{self, Asks, Server};
use crate::config::{Config, listening, local_url};
use crate::status::Live;
use crate::web::Site;

/// No browser can come there. What to do about it depends on what named the address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for browsers: {source}")]
pub(crate) struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Sends each second's figures to the page.
pub(super) type Seconds = mpsc::Sender<Arc<Live>>;

/// The page, if it is served.
#[derive(Default)]
pub(super) struct Web(Option<Open>);

struct Open {
    site: Arc<Site>,
    /// None only while another address is tried, or if the old one was lost over that.
    port: Option<Port>,
    /// The address before another was tried.
    before: Option<SocketAddr>,
}

/// Where browsers find it.
pub(super) struct Port {
    /// As it is configured; port 0 is one that the kernel chooses.
    configured: SocketAddr,
    address: SocketAddr,
    /// Serves for as long as it is there.
    _server: Server,
}

/// What another configuration makes of it, done as far as it may fail.
pub(super) enum Next {
    /// It is served as before, or not.
    Same,
    /// It is served no more.
    Off,
    /// It is served from now on.
    On(Box<(Web, Seconds)>),
    /// It is served elsewhere.
    Moved(Box<Port>),
}

impl Port {
    fn open(configured: SocketAddr, site: &Arc<Site>, asks: &Asks) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address: configured, source };
        let listener = TcpListener::bind(configured).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let server = server::browsers(listener, site.clone(), asks).map_err(failed)?;
        tracing::info!("web page: {}", listening(address, "/"));
        Ok(Self { configured, address, _server: server })
    }
}

impl Web {
    /// Listens for browsers, and the sender of its figures.
    ///
    /// # Errors
    ///
    /// The address is taken, or not this host's; or this build has no page.
    pub(super) fn open(address: SocketAddr, keeps: Duration, asks: &Asks) -> Result<(Self, Seconds), ListenError> {
        let (site, seconds) = Site::start(keeps).map_err(|source| ListenError { address, source })?;
        let port = Port::open(address, &site, asks).inspect_err(|_| site.close())?;
        Ok((Self(Some(Open { site, port: Some(port), before: None })), seconds))
    }

    /// Where it is, if it is served.
    pub(super) fn url(&self) -> Option<String> {
        let port = self.0.as_ref()?.port.as_ref()?;
        Some(local_url(port.address, "/"))
    }

    /// What is in the way of browsers.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let is_lost = self.0.as_ref().is_some_and(|open| open.port.is_none());
        is_lost.then_some("web page: another program took the port while another address was tried; reload once more")
    }

    /// Opens what another configuration wants, so that [`Self::follow`] cannot fail. If that is not possible, the page
    /// is served where it was.
    pub(super) fn prepare(&mut self, config: &Config, asks: &Asks) -> Result<Next, ListenError> {
        let Some(wanted) = config.web_listen else { return Ok(Next::Off) };
        let Some(open) = &mut self.0 else {
            return Self::open(wanted, config.web_history, asks).map(|opened| Next::On(Box::new(opened)));
        };
        if open.port.as_ref().is_some_and(|port| port.configured == wanted) {
            return Ok(Next::Same);
        }
        let moved = Port::open(wanted, &open.site, asks).or_else(|error| {
            let is_own = |port: &Port| port.address.port() == wanted.port();
            if error.source.kind() != io::ErrorKind::AddrInUse || !open.port.as_ref().is_some_and(is_own) {
                return Err(error);
            }
            // What is in the way may be this port itself: all addresses of the host include each.
            open.before = open.port.take().map(|port| port.configured);
            Port::open(wanted, &open.site, asks).inspect_err(|_| open.go_back(asks))
        });
        moved.map(|port| Next::Moved(Box::new(port)))
    }

    /// Does what was prepared; the sender of its figures, if the page was not served before.
    pub(super) fn follow(&mut self, next: Next, config: &Config) -> Option<Seconds> {
        let mut seconds = None;
        match next {
            Next::Same => {}
            Next::Off => self.0.take().into_iter().for_each(|open| open.site.close()),
            Next::On(opened) => {
                let (web, told) = *opened;
                *self = web;
                seconds = Some(told);
            }
            Next::Moved(port) => {
                if let Some(open) = &mut self.0 {
                    open.port = Some(*port);
                    open.before = None;
                }
            }
        }
        self.0.iter().for_each(|open| open.site.keep(config.web_history));
        seconds
    }
}

impl Open {
    fn go_back(&mut self, asks: &Asks) {
        if let Some(address) = self.before.take() {
            let port = Port::open(address, &self.site, asks);
            self.port = port.inspect_err(|error| tracing::warn!("{error}")).ok();
        }
    }
}
