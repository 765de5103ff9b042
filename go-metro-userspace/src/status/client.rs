//! Asking a running daemon over its Unix socket: HTTP/1.0, so that the end of the answer is the end of the stream.

use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::record::RecordOrder;
use super::{Live, Status, document};

/// Longest wait for the next part of an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest time of a whole answer, or of a line of what is watched: somebody else may sit at the socket, and drip.
const WHOLE: Duration = Duration::from_secs(8);
/// Longest head of an answer that is believed.
const LONGEST_HEAD: u64 = 64 << 10;
/// Longest document that is believed.
const LONGEST: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens.
    #[error("no daemon answers at {socket}: {source}")]
    NotRunning {
        /// The socket.
        socket: String,
        /// What connecting failed with.
        source: io::Error,
    },
    /// Somebody listens who may not be asked.
    #[error("not permitted to ask at {socket}: run as root or in the group that owns it")]
    Refused {
        /// The socket.
        socket: String,
    },
    /// What was asked for is not there.
    #[error("{what}")]
    Nothing {
        /// What.
        what: String,
    },
    /// Somebody listens but does not answer well.
    #[error("the daemon at {socket} does not answer: {what}")]
    Silent {
        /// The socket.
        socket: String,
        /// What is wrong.
        what: String,
    },
}

/// The raw status document.
///
/// # Errors
///
/// Nobody answers, or not with a document.
pub(crate) fn status_text(socket: &Path) -> Result<String, AskError> {
    let mut answer = ask(socket, super::STATUS_PATH)?;
    answer.set_limit(LONGEST);
    let mut text = String::new();
    answer.read_to_string(&mut text).map_err(|error| silent(socket, &error))?;
    Ok(text)
}

/// The status document.
///
/// # Errors
///
/// As [`status_text`]; or it is of a version that this program does not know.
pub(crate) fn status(socket: &Path) -> Result<Status, AskError> {
    parse(&status_text(socket)?).map_err(|error| silent(socket, &error))
}

/// A document that was fetched before.
///
/// # Errors
///
/// It is none, or of a version that this program does not know.
pub(crate) fn parse(text: &str) -> Result<Status, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if version != document::VERSION {
        let ours = document::VERSION;
        return Err(format!(
            "its document has version {version}, this program knows {ours}; use the same release of both"
        ));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// The process that listens at the socket, by the number that it has in this process's own namespace; none if it has
/// none there.
///
/// The kernel notes it when the socket is made to listen (`SO_PEERCRED`, unix(7)); the document's own number is of the
/// daemon's namespace.
///
/// # Errors
///
/// Nobody listens, or may not be asked.
pub(crate) fn process(socket: &Path) -> Result<Option<i32>, AskError> {
    let stream = connect(socket)?;
    let peer = nix::sys::socket::getsockopt(&stream, sockopt::PeerCredentials);
    let peer = peer.map_err(|error| silent(socket, &error))?;
    Ok(Some(peer.pid()).filter(|pid| *pid > 0))
}

/// Seconds as they pass, until the daemon ends.
///
/// # Errors
///
/// As [`status_text`].
pub(crate) fn watch(socket: &Path) -> Result<impl Iterator<Item = io::Result<Live>> + use<>, AskError> {
    let mut answer = ask(socket, super::LIVE_PATH)?;
    Ok(std::iter::from_fn(move || {
        answer.set_limit(LONGEST);
        answer.get_mut().get_mut().until = Instant::now() + WHOLE;
        let mut line = String::new();
        match answer.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).map_err(io::Error::other)),
            Err(error) => Some(Err(error)),
        }
    }))
}

/// A recording, which comes once it is over: a pcapng file.
///
/// # Errors
///
/// As [`status_text`]; or why there is none.
pub(crate) fn record(socket: &Path, order: &RecordOrder) -> Result<Vec<u8>, AskError> {
    let patience = order.time + WHOLE;
    let mut stream = connect(socket)?;
    let path = format!("{}?{}", super::RECORD_PATH, order.to_query());
    let (first, mut answer) = send(&mut stream, &path, patience).map_err(|error| silent(socket, &error))?;
    answer.set_limit(LONGEST);
    let mut file = Vec::new();
    answer.read_to_end(&mut file).map_err(|error| silent(socket, &error))?;
    match first.split(' ').nth(1) {
        Some("200") => Ok(file),
        Some("404") if !file.starts_with(b"/v1/status") => {
            Err(AskError::Nothing { what: String::from_utf8_lossy(&file).trim().to_owned() })
        }
        Some("404") => Err(silent(socket, &"it is of a release that does not record; use the same release of both")),
        _ => Err(silent(socket, &String::from_utf8_lossy(&file).trim())),
    }
}

fn silent(socket: &Path, what: &dyn std::fmt::Display) -> AskError {
    AskError::Silent { socket: socket.display().to_string(), what: what.to_string() }
}

/// Connects, which waits where too many others wait for a daemon that is stopped (unix(7)).
fn connect(socket: &Path) -> Result<UnixStream, AskError> {
    connect_within(socket, PATIENCE).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => AskError::Refused { socket: socket.display().to_string() },
        io::ErrorKind::WouldBlock => silent(socket, &"too many others wait for it"),
        _ => AskError::NotRunning { socket: socket.display().to_string(), source },
    })
}

fn connect_within(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let seconds = TimeVal::seconds(i64::try_from(patience.as_secs()).unwrap_or(i64::MAX));
    nix::sys::socket::setsockopt(&socket, sockopt::SendTimeout, &seconds)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// What comes from a socket until a moment.
struct Timed {
    stream: UnixStream,
    until: Instant,
    /// Longest wait for the next part.
    patience: Duration,
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its answer takes too long"));
        }
        self.stream.set_read_timeout(Some(left.min(self.patience)))?;
        self.stream.read(into).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it said nothing for {} seconds", self.patience.as_secs()),
            ),
            _ => error,
        })
    }
}

type Answer = Take<BufReader<Timed>>;

/// Sends a request and reads the answer's head; what is left is the body.
fn ask(socket: &Path, path: &str) -> Result<Answer, AskError> {
    let mut stream = connect(socket)?;
    let (first, answer) = send(&mut stream, path, PATIENCE).map_err(|error| silent(socket, &error))?;
    if first.split(' ').nth(1) == Some("200") { Ok(answer) } else { Err(silent(socket, &first.trim())) }
}

/// Sends a request, and waits as long as this for what comes next; the answer's first line, and what follows its head.
fn send(stream: &mut UnixStream, path: &str, patience: Duration) -> io::Result<(String, Answer)> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: go-metro\r\n\r\n")?;
    let timed = Timed { stream: stream.try_clone()?, until: Instant::now() + WHOLE.max(patience), patience };
    let mut answer = BufReader::new(timed).take(LONGEST_HEAD);
    let mut first = String::new();
    answer.read_line(&mut first)?;
    let mut line = String::new();
    while answer.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok((first, answer))
}
