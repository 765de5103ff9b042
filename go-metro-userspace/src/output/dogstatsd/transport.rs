//! Datagrams to a DogStatsD server: a thread that paces them and a socket that outlives the server's absences.
//!
//! cadence formats the lines, [`Packer`] fills datagrams with them, and [`Sender`] hands those of a report to the
//! thread. Over UDP they are spread over time: nothing tells a sender that a receiver's buffer is full. A datagram that
//! cannot be sent is counted and dropped.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cadence::MetricSink;

use crate::config::Statsd;
use crate::logging::OnceInAWhile;
use crate::privileges::{self, Needs};
use crate::targets::resolver;
use crate::threads;

/// Largest UDP payload that crosses an Ethernet in one piece with room for tunnels; what official clients use.
const UDP_BYTES: usize = 1432;
/// Largest datagram that the Agent's Unix socket takes by default (`dogstatsd_buffer_size`).
const UNIX_BYTES: usize = 8192;
/// How long a slow server may hold up the sending thread for one datagram.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);
/// A host name is looked up again when sending fails, but not more often than this.
const RESOLVE_EVERY: Duration = Duration::from_secs(3);
/// Longest wait for the first answer before datagrams are dropped.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Most time between two datagrams of a report. With it a receiver's default buffer of 212,992 bytes
/// (`net.core.rmem_default`), about 90 datagrams, covers almost half a second in which the receiver does something
/// else.
const MOST_GAP: Duration = Duration::from_millis(5);
/// Reports that wait while an earlier one is being sent.
const QUEUE_REPORTS: usize = 4;

/// Largest datagram to send to a server, in bytes.
pub fn datagram_bytes(server: &Statsd) -> usize {
    match server {
        Statsd::Udp { .. } => UDP_BYTES,
        Statsd::Unix(_) => UNIX_BYTES,
    }
}

/// What became of what was to be sent, since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Datagrams sent.
    pub(super) datagrams: AtomicU64,
    /// Datagrams and lines that could not be sent.
    pub(super) errors: AtomicU64,
    /// Why the last datagram could not be sent, if it could not.
    problem: Mutex<Option<String>>,
}

impl Tally {
    /// Why the last datagram could not be sent, if it could not.
    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }
}

/// Fills datagrams with whole lines.
#[derive(Debug)]
pub(super) struct Packer {
    datagrams: Vec<Vec<u8>>,
    open: Vec<u8>,
    /// Most bytes in one.
    bytes: usize,
    /// Fields at the end of every line.
    origin: String,
    /// The longest line that did not fit, and how many there were.
    too_long: (usize, u64),
}

impl Packer {
    pub(super) fn new(bytes: usize, origin: String) -> Self {
        Self { datagrams: Vec::new(), open: Vec::new(), bytes, origin, too_long: (0, 0) }
    }

    fn add(&mut self, line: &str) {
        let bytes = line.len() + self.origin.len() + 1;
        if bytes > self.bytes {
            self.too_long = (self.too_long.0.max(bytes), self.too_long.1 + 1);
            return;
        }
        if self.open.len() + bytes > self.bytes {
            self.datagrams.push(std::mem::take(&mut self.open));
        }
        [line, &self.origin, "\n"].iter().for_each(|part| self.open.extend_from_slice(part.as_bytes()));
    }

    /// The datagrams so far.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        if !self.open.is_empty() {
            self.datagrams.push(std::mem::take(&mut self.open));
        }
        std::mem::take(&mut self.datagrams)
    }

    /// Length of the longest line that was too long for a datagram and how many were, since this was last asked.
    pub(super) fn take_too_long(&mut self) -> (usize, u64) {
        std::mem::take(&mut self.too_long)
    }
}

/// A packer that cadence's client writes to.
#[derive(Clone, Debug)]
pub(super) struct Lines(pub(super) Arc<Mutex<Packer>>);

impl Lines {
    pub(super) fn lock(&self) -> MutexGuard<'_, Packer> {
        lock(&self.0)
    }
}

impl MetricSink for Lines {
    fn emit(&self, line: &str) -> io::Result<usize> {
        self.lock().add(line);
        Ok(line.len())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One report's datagrams, and over how long they may be spread.
struct Batch {
    datagrams: Vec<Vec<u8>>,
    spread: Duration,
}

/// What the thread shares with its owner.
#[derive(Debug, Default)]
struct Progress {
    /// Datagrams handed over and not yet sent or dropped.
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: usize,
    /// When everything is to be out, once the agent stops.
    until: Option<Instant>,
}

impl Progress {
    /// Waits until a datagram is due: at `due`, or earlier if the rest must be out sooner.
    fn wait(&self, due: Instant) {
        let mut waiting = lock(&self.waiting);
        loop {
            let now = Instant::now();
            let due = match waiting.until {
                Some(until) => {
                    let share =
                        until.saturating_duration_since(now) / u32::try_from(waiting.datagrams.max(1)).unwrap_or(1);
                    due.min(now + share)
                }
                None => due,
            };
            let left = due.saturating_duration_since(now);
            if left.is_zero() {
                return;
            }
            let before = waiting.until;
            waiting = self.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
            if before.is_some() {
                return;
            }
        }
    }

    fn done(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.datagrams = waiting.datagrams.saturating_sub(1);
        if waiting.datagrams == 0 {
            self.changed.notify_all();
        }
    }
}

/// The way to the thread that sends. Dropped, it leaves the thread to send what it has.
#[derive(Debug)]
pub(super) struct Sender {
    queue: SyncSender<Batch>,
    /// What the thread works on, as long as there is no thread.
    unstarted: Option<(Receiver<Batch>, Socket)>,
    progress: Arc<Progress>,
    tally: Arc<Tally>,
}

impl Sender {
    /// Starts the thread. `refresh`: how often a name is looked up again.
    pub(super) fn start(destination: Statsd, refresh: Duration, tally: Arc<Tally>) -> Self {
        let (queue, batches) = sync_channel(QUEUE_REPORTS);
        let progress = Arc::<Progress>::default();
        let socket = Socket::new(destination, refresh, tally.clone());
        let mut sender = Self { queue, unstarted: Some((batches, socket)), progress, tally };
        if let Err(error) = sender.run() {
            tracing::error!("cannot send reports to DogStatsD yet: {error}");
        }
        sender
    }

    /// Starts the thread, if that was not possible before.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let Some(state) = self.unstarted.take() else { return Ok(()) };
        let progress = self.progress.clone();
        let started = threads::spawn_with("statsd", state, move |(batches, socket)| send(&batches, socket, &progress));
        started.map_err(|(error, state)| {
            self.unstarted = Some(state);
            error
        })
    }

    /// Hands over a report's datagrams; dropped and counted if too many reports wait already.
    pub(super) fn send(&self, datagrams: Vec<Vec<u8>>, spread: Duration) {
        let count = datagrams.len();
        lock(&self.progress.waiting).datagrams += count;
        if self.queue.try_send(Batch { datagrams, spread }).is_err() {
            lock(&self.progress.waiting).datagrams -= count;
            self.tally.errors.fetch_add(count as u64, Ordering::Relaxed);
            let why = match self.unstarted {
                Some(_) => "no thread sends the reports",
                None => "the server takes datagrams more slowly than they are made",
            };
            *lock(&self.tally.problem) = Some(why.to_owned());
        }
    }

    /// Waits until all is sent, which is then paced over `limit` at most; whether it is.
    pub(super) fn finish(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut waiting = lock(&self.progress.waiting);
        // The last datagram has to leave before the end, not at it.
        waiting.until = Some(until - limit / 8);
        self.progress.changed.notify_all();
        while waiting.datagrams > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            waiting = self.progress.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Sends what comes, until nobody can send more.
fn send(batches: &Receiver<Batch>, mut socket: Socket, progress: &Progress) {
    match &socket.destination {
        // Names are looked up from here.
        Statsd::Udp { .. } => privileges::give_up_all(),
        // A socket file may be another user's.
        Statsd::Unix(_) => privileges::keep(Needs::Files),
    }
    for Batch { datagrams, spread } in batches {
        let gap = match &socket.destination {
            Statsd::Udp { .. } => MOST_GAP.min(spread / u32::try_from(datagrams.len().max(1)).unwrap_or(u32::MAX)),
            // Its sender waits while the buffer is full.
            Statsd::Unix(_) => Duration::ZERO,
        };
        socket.leave_replaced();
        let mut due = Instant::now();
        for datagram in datagrams {
            progress.wait(due);
            socket.deliver(&datagram);
            progress.done();
            // What a busy machine delayed is caught up at twice the pace, never in a burst.
            due = (due + gap).max(Instant::now() + gap / 2);
        }
    }
    tracing::debug!(datagrams = socket.tally.datagrams.load(Ordering::Relaxed), "DogStatsD sink closed");
}

#[derive(Debug)]
enum Open {
    Udp(UdpSocket),
    /// With the file that it is connected to.
    Unix(UnixDatagram, FileId),
}

/// A file, whatever its names are: device and inode.
type FileId = (u64, u64);

/// What a path leads to, through symbolic links.
fn file_id(path: &Path) -> io::Result<FileId> {
    let file = std::fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Opened at the first datagram, and again after a failure.
#[derive(Debug)]
struct Socket {
    destination: Statsd,
    open: Option<Open>,
    resolver: Option<Resolver>,
    complained: OnceInAWhile,
    tally: Arc<Tally>,
}

impl Socket {
    fn new(destination: Statsd, refresh: Duration, tally: Arc<Tally>) -> Self {
        let resolver = match &destination {
            Statsd::Udp { host, port } if host.parse::<IpAddr>().is_err() => {
                Some(Resolver { name: host.clone(), port: *port, refresh, asked_at: None, pending: None })
            }
            _ => None,
        };
        Self { destination, open: None, resolver, complained: OnceInAWhile::default(), tally }
    }

    fn open(&mut self) -> io::Result<&Open> {
        if self.open.is_none() {
            self.open = Some(match &self.destination {
                Statsd::Udp { host, port } => match (&mut self.resolver, host.parse::<IpAddr>()) {
                    (None, Ok(address)) => Open::Udp(connect(&[SocketAddr::new(address, *port)])?),
                    (Some(resolver), _) => Open::Udp(connect(&resolver.first()?)?),
                    (None, Err(_)) => return Err(ErrorKind::InvalidInput.into()),
                },
                Statsd::Unix(path) => {
                    // Before it connects: what takes the path's place in between is found by the next look.
                    let file = file_id(path)?;
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(path)?;
                    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
                    Open::Unix(socket, file)
                }
            });
        }
        self.open.as_ref().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// Follows a name to another address.
    fn follow(&mut self) {
        let Some(resolver) = &mut self.resolver else { return };
        if self.open.is_some() && resolver.asked_at.is_some_and(|at| at.elapsed() >= resolver.refresh) {
            resolver.ask();
        }
        let Some(answer) = resolver.answer() else { return };
        let now = match &self.open {
            Some(Open::Udp(socket)) => socket.peer_addr().ok(),
            _ => None,
        };
        match answer {
            Ok(addresses) if now.is_some_and(|now| addresses.contains(&now)) => {}
            Ok(addresses) => match connect(&addresses) {
                Ok(socket) => {
                    if let (Some(before), Ok(now)) = (now, socket.peer_addr()) {
                        tracing::info!("{} moved from {} to {}", self.destination, before.ip(), now.ip());
                    }
                    self.open = Some(Open::Udp(socket));
                }
                Err(error) => self.complain(&error),
            },
            // What is known goes on to be used.
            Err(error) => self.complain(&error),
        }
    }

    /// Leaves a Unix socket that is no longer what its path leads to, which a server that still holds it does not show;
    /// whether it did.
    fn leave_replaced(&mut self) -> bool {
        let (Some(Open::Unix(_, connected)), Statsd::Unix(path)) = (&self.open, &self.destination) else {
            return false;
        };
        let is_replaced = file_id(path).ok() != Some(*connected);
        if is_replaced {
            tracing::info!("{} was replaced or removed; connecting again", self.destination);
            self.open = None;
        }
        is_replaced
    }

    fn send_once(&mut self, datagram: &[u8]) -> io::Result<()> {
        match self.open()? {
            Open::Udp(socket) => socket.send(datagram),
            Open::Unix(socket, _) => socket.send(datagram),
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
                if slow && self.leave_replaced() {
                    return self.send_once(datagram);
                }
                self.open = self.open.take().filter(|_| slow);
                return Err(error);
            }
            sent => return sent,
        };
        if matches!(self.destination, Statsd::Unix(_)) {
            self.open = None;
        } else {
            // What was refused was the datagram before this one. The name may have another address by now.
            self.count_error(&refused);
            self.resolver.iter_mut().for_each(Resolver::ask_soon);
        }
        self.send_once(datagram)
    }

    fn deliver(&mut self, datagram: &[u8]) {
        self.follow();
        let refused = self.tally.errors.load(Ordering::Relaxed);
        match self.send(datagram) {
            Ok(()) => {
                self.tally.datagrams.fetch_add(1, Ordering::Relaxed);
                if self.tally.errors.load(Ordering::Relaxed) == refused {
                    *lock(&self.tally.problem) = None;
                }
            }
            Err(error) => {
                self.count_error(&error);
                self.resolver.iter_mut().for_each(Resolver::ask_soon);
            }
        }
    }

    fn count_error(&mut self, error: &io::Error) {
        self.tally.errors.fetch_add(1, Ordering::Relaxed);
        self.complain(error);
    }

    fn complain(&mut self, error: &io::Error) {
        *lock(&self.tally.problem) = Some(error.to_string());
        if self.complained.may_say() {
            tracing::warn!("cannot send to {}: {error}; trying again with each report", self.destination);
        }
    }
}

/// Looks the server's name up, each time on a thread that ends with the answer: what is sent meanwhile goes to the
/// address known so far.
#[derive(Debug)]
struct Resolver {
    name: String,
    port: u16,
    refresh: Duration,
    asked_at: Option<Instant>,
    pending: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
}

impl Resolver {
    fn ask(&mut self) {
        if self.pending.is_some() {
            return;
        }
        self.asked_at = Some(Instant::now());
        self.pending = resolver::server(&self.name, self.port).ok();
    }

    /// Asks now, unless it has just done so.
    fn ask_soon(&mut self) {
        if self.asked_at.is_none_or(|at| at.elapsed() >= RESOLVE_EVERY) {
            self.ask();
        }
    }

    /// An answer that has come.
    fn answer(&mut self) -> Option<io::Result<Vec<SocketAddr>>> {
        let answer = match self.pending.as_ref()?.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => None,
        };
        self.pending = None;
        answer
    }

    /// The first addresses, which are waited for a while.
    fn first(&mut self) -> io::Result<Vec<SocketAddr>> {
        let asked = self.asked_at;
        self.ask_soon();
        let Some(pending) = &self.pending else {
            return Err(io::Error::new(ErrorKind::NotConnected, "waiting before the name is looked up again"));
        };
        let patience = if asked.is_none() { FIRST_ANSWER } else { Duration::ZERO };
        let answer = pending.recv_timeout(patience);
        let Ok(answer) = answer else {
            return Err(io::Error::new(ErrorKind::NotConnected, format!("no address for {} yet", self.name)));
        };
        self.pending = None;
        answer
    }
}

/// A socket connected to the first of these addresses that can be: connected, because only then a refusal is heard of.
fn connect(addresses: &[SocketAddr]) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses {
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
