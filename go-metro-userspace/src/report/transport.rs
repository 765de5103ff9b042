//! Datagrams to a DogStatsD server: a socket that outlives the server's absences.
//!
//! It is the innermost of cadence's sinks: cadence formats, queues and buffers, this sends. Nothing here returns an error
//! to the buffer above it, which would keep what it could not send and grow; a datagram that cannot be sent is counted and dropped.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cadence::MetricSink;
use cadence::ext::MultiLineWriter;

/// Largest UDP payload that crosses an Ethernet in one piece with room for tunnels; what official clients use.
const UDP_BYTES: usize = 1432;
/// Largest datagram that the Agent's Unix socket takes by default (`dogstatsd_buffer_size`).
const UNIX_BYTES: usize = 8192;
/// How long a slow server may hold up the sending thread for one datagram.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);
/// A host name is looked up again when sending fails, but not more often than this.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// A failing server is mentioned in the log not more often than this.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Where the DogStatsD server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// UDP.
    Udp {
        /// Address or name.
        host: String,
        /// Port.
        port: u16,
    },
    /// Unix datagram socket.
    Unix(PathBuf),
}

impl Destination {
    /// Largest datagram to send there, in bytes.
    pub fn datagram_bytes(&self) -> usize {
        match self {
            Self::Udp { .. } => UDP_BYTES,
            Self::Unix(_) => UNIX_BYTES,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp { host, port } if host.contains(':') => write!(f, "udp://[{host}]:{port}"),
            Self::Udp { host, port } => write!(f, "udp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// What became of what was to be sent, since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Flush marks that came through the queue.
    pub(super) flushes: AtomicU64,
    /// Datagrams sent.
    pub(super) datagrams: AtomicU64,
    /// Datagrams that could not be sent.
    pub(super) errors: AtomicU64,
}

/// cadence's buffer over the socket. An empty line is a flush mark, so that a flush keeps its place in the queue.
pub(super) struct Transport {
    buffer: Mutex<MultiLineWriter<Socket>>,
    /// Fields at the end of every line.
    origin: String,
    tally: Arc<Tally>,
}

impl Transport {
    pub(super) fn new(destination: Destination, origin: String, tally: Arc<Tally>) -> Self {
        let bytes = destination.datagram_bytes();
        let socket = Socket { destination, open: None, opened_at: None, complained_at: None, tally: tally.clone() };
        Self { buffer: Mutex::new(MultiLineWriter::new(socket, bytes)), origin, tally }
    }
}

impl MetricSink for Transport {
    fn emit(&self, line: &str) -> io::Result<usize> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.is_empty() {
            return buffer.write(&[line, &self.origin].concat().into_bytes());
        }
        let flushed = buffer.flush();
        self.tally.flushes.fetch_add(1, Ordering::Release);
        flushed.map(|()| 0)
    }

    fn flush(&self) -> io::Result<()> {
        self.emit("").map(|_| ())
    }
}

enum Open {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// Opened at the first datagram, and again after a failure.
struct Socket {
    destination: Destination,
    open: Option<Open>,
    opened_at: Option<Instant>,
    complained_at: Option<Instant>,
    tally: Arc<Tally>,
}

impl Socket {
    fn open(&mut self) -> io::Result<&Open> {
        if self.open.is_none() {
            if self.opened_at.is_some_and(|at| at.elapsed() < RESOLVE_EVERY) && self.is_name() {
                return Err(io::Error::new(ErrorKind::NotConnected, "waiting before the name is looked up again"));
            }
            self.opened_at = Some(Instant::now());
            self.open = Some(match &self.destination {
                Destination::Udp { host, port } => Open::Udp(connect(host, *port)?),
                Destination::Unix(path) => {
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(path)?;
                    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
                    Open::Unix(socket)
                }
            });
        }
        self.open.as_ref().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn is_name(&self) -> bool {
        matches!(&self.destination, Destination::Udp { host, .. } if host.parse::<std::net::IpAddr>().is_err())
    }

    fn send_once(&mut self, datagram: &[u8]) -> io::Result<()> {
        match self.open()? {
            Open::Udp(socket) => socket.send(datagram),
            Open::Unix(socket) => socket.send(datagram),
        }
        .map(|_| ())
    }

    /// Sends a datagram. A refusal may be the answer to the one before (UDP), or tell that the socket file was
    /// replaced (Unix), so it is tried once more.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let refused = match self.send_once(datagram) {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => error,
            Err(error) => {
                let slow = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                self.open = self.open.take().filter(|_| slow);
                return Err(error);
            }
            sent => return sent,
        };
        if matches!(self.destination, Destination::Unix(_)) {
            self.open = None;
        } else {
            // What was refused was the datagram before this one.
            self.count_error(&refused);
        }
        self.send_once(datagram)
    }

    fn count_error(&mut self, error: &io::Error) {
        self.tally.errors.fetch_add(1, Ordering::Relaxed);
        if self.complained_at.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained_at = Some(Instant::now());
            tracing::warn!(
                "cannot send to {}: {error}; measuring goes on, and reports are sent once it listens",
                self.destination
            );
        }
    }
}

impl Write for Socket {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        match self.send(datagram) {
            Ok(()) => {
                self.tally.datagrams.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => self.count_error(&error),
        }
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket connected to the first address of `host` that can be: connected, because only then a refusal is heard of.
fn connect(host: &str, port: u16) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => {
                socket.set_write_timeout(Some(SEND_TIMEOUT))?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
