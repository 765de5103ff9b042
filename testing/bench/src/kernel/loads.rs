//! Real connections between two hosts.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;

use testing_lab::Pair;
use testing_lab::traffic::{self, Rounds, Server, Service};

/// How long an upload lasts.
const UPLOAD: Duration = Duration::from_millis(150);
/// Connections of the load with many.
const CONNECTIONS: usize = 200;

const FEW: Rounds = Rounds { count: 2000, request: 100, response: 200, pause: Duration::ZERO };
const MANY: Rounds = Rounds { count: 10, ..FEW };
const DOWNLOAD: Rounds = Rounds { count: 4, response: 16 << 20, ..FEW };

/// Runs a load once.
type Run<'a> = Box<dyn FnMut() -> Result<()> + 'a>;

/// Connections from host a to host b, open and ready.
pub(super) struct Loads {
    one: TcpStream,
    many: Vec<TcpStream>,
    up: TcpStream,
    down: TcpStream,
    _servers: [Server; 3],
}

impl Loads {
    pub(super) fn new(pair: &Pair) -> Result<Self> {
        let sink = Server::v4(&pair.b, Service::Sink)?;
        let small = Server::v4(&pair.b, FEW.service())?;
        let large = Server::v4(&pair.b, DOWNLOAD.service())?;
        let connect = |server: &Server| traffic::connect(&pair.a, server.address());
        Ok(Self {
            one: connect(&small)?,
            many: (0..CONNECTIONS).map(|_| connect(&small)).collect::<Result<_>>()?,
            up: connect(&sink)?,
            down: connect(&large)?,
            _servers: [sink, small, large],
        })
    }

    /// The first load.
    pub(super) fn request_response(&mut self) -> Result<()> {
        FEW.drive(&mut self.one).map(drop)
    }

    /// Each load: its name, and what runs it for a fraction of a second.
    pub(super) fn each(&mut self) -> [(&'static str, Run<'_>); 4] {
        let Self { one, many, up, down, .. } = self;
        [
            ("request/response", Box::new(|| FEW.drive(one).map(drop))),
            (
                "the same over 200 connections",
                Box::new(|| many.iter_mut().try_for_each(|stream| MANY.drive(stream).map(drop))),
            ),
            ("upload", Box::new(|| traffic::bulk(up, UPLOAD).map(drop))),
            ("download", Box::new(|| DOWNLOAD.drive(down).map(drop))),
        ]
    }
}
