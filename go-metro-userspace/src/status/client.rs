//! Asking a running daemon over its Unix socket: HTTP/1.0, so that the end of the answer is the end of the stream.

use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::{Gid, Uid};

use super::record::RecordOrder;
use super::{Live, Status, document};
use crate::privileges::{group_name, user_name};

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
    /// Somebody listens who may not be asked by this user.
    #[error("permission denied at {socket}: {whose}; run it with sudo, or as one who may")]
    Refused {
        /// The socket.
        socket: String,
        /// Who may ask.
        whose: String,
    },
    /// What was asked for is not there.
    #[error("{what}")]
    Nothing {
        /// What.
        what: String,
    },
    /// Somebody listens, and says what is in the way.
    #[error("the daemon at {socket} answers: {what}")]
    Answered {
        /// The socket.
        socket: String,
        /// What it says.
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
    Ok(Some(credentials(socket)?.pid()).filter(|pid| *pid > 0))
}

/// The user of that process.
///
/// # Errors
///
/// As [`process`].
pub(crate) fn user(socket: &Path) -> Result<Uid, AskError> {
    credentials(socket).map(|peer| Uid::from_raw(peer.uid()))
}

fn credentials(socket: &Path) -> Result<UnixCredentials, AskError> {
    let stream = connect(socket)?;
    nix::sys::socket::getsockopt(&stream, sockopt::PeerCredentials).map_err(|error| silent(socket, &error))
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

/// A recording, part by part as it goes on: a pcapng file that ends with its interfaces' statistics if nothing is
/// missing. Until it has something, this waits.
///
/// # Errors
///
/// As [`status_text`]; or why there is none.
pub(crate) fn record(
    (socket, stream): (&Path, &mut UnixStream),
    order: &RecordOrder,
) -> Result<impl Read + use<>, AskError> {
    let patience = order.time + WHOLE;
    let path = format!("{}?{}", super::RECORD_PATH, order.to_query());
    let (first, mut answer) = send(stream, &path, patience).map_err(|error| silent(socket, &error))?;
    match code(&first) {
        Some("200") => {
            answer.set_limit(u64::MAX);
            Ok(Patient { answer, patience })
        }
        Some("404") => Err(match refusal(socket, &first, answer) {
            AskError::Answered { what, .. } if what.starts_with("/v1/status") => {
                silent(socket, &"it is of a release that does not record; use the same release of both")
            }
            AskError::Answered { what, .. } => AskError::Nothing { what },
            other => other,
        }),
        _ => Err(refusal(socket, &first, answer)),
    }
}

/// Has the daemon end the recording of this name, with what has passed.
///
/// # Errors
///
/// As [`status_text`]; or it makes none of this name.
pub(crate) fn end_recording(socket: &Path, id: u64) -> Result<(), AskError> {
    ask(socket, &format!("{}?id={id}", super::END_RECORDING_PATH)).map(drop)
}

/// What comes of an answer, each part of which may take its time.
struct Patient {
    answer: Answer,
    patience: Duration,
}

impl Read for Patient {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // The reader may have waited in between, for its disk or its pipe.
        self.answer.get_mut().get_mut().until = Instant::now() + self.patience;
        self.answer.read(into)
    }
}

/// Who may ask at a socket, where that can be seen.
fn whose(socket: &Path) -> String {
    let Ok(there) = std::fs::metadata(socket) else {
        return "this user may not enter a folder above it".to_owned();
    };
    let may = |bits: u32| there.mode() & bits == bits;
    let user = (may(0o600) && there.uid() != 0).then(|| format!("user {}", user_name(Uid::from_raw(there.uid()))));
    let group = may(0o060).then(|| format!("members of group {}", group_name(Gid::from_raw(there.gid()))));
    let all: Vec<String> = [Some("root".to_owned()), user, group].into_iter().flatten().collect();
    format!("{} may ask there", all.join(" and "))
}

fn silent(socket: &Path, what: &dyn std::fmt::Display) -> AskError {
    AskError::Silent { socket: socket.display().to_string(), what: what.to_string() }
}

/// The code of an answer that begins with this line.
fn code(first: &str) -> Option<&str> {
    first.strip_prefix("HTTP/")?.split(' ').nth(1)
}

/// Why an answer is not what was asked for, in the daemon's own words.
fn refusal(socket: &Path, first: &str, mut answer: Answer) -> AskError {
    if first.is_empty() {
        return silent(socket, &"it closed the connection");
    }
    if code(first).is_none() {
        return silent(socket, &"what it says is no HTTP");
    }
    answer.set_limit(LONGEST_HEAD);
    let mut words = Vec::new();
    // What has come of them says something too.
    let _ = answer.read_to_end(&mut words);
    let words = String::from_utf8_lossy(&words);
    let what = words.lines().find(|line| !line.trim().is_empty()).unwrap_or(first).trim().to_owned();
    AskError::Answered { socket: socket.display().to_string(), what }
}

/// Connects, which waits where too many others wait for a daemon that is stopped (unix(7)).
///
/// # Errors
///
/// Nobody listens, or may not be asked.
pub(crate) fn connect(socket: &Path) -> Result<UnixStream, AskError> {
    connect_within(socket, PATIENCE).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => {
            AskError::Refused { socket: socket.display().to_string(), whose: whose(socket) }
        }
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
    if code(&first) == Some("200") { Ok(answer) } else { Err(refusal(socket, &first, answer)) }
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What is said of a daemon that answers so to whatever is asked.
    fn told(answer: &'static str, ask: fn(&Path) -> Result<(), AskError>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = server.accept().unwrap();
                let mut request = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while request.read_line(&mut line).unwrap() > 2 {
                    line.clear();
                }
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let error = ask(&path).unwrap_err().to_string();
            error.replace(&path.display().to_string(), "SOCKET")
        })
    }

    fn asked_status(socket: &Path) -> Result<(), AskError> {
        status_text(socket).map(drop)
    }

    fn watched(socket: &Path) -> Result<(), AskError> {
        watch(socket).map(drop)
    }

    fn ended(socket: &Path) -> Result<(), AskError> {
        end_recording(socket, 7)
    }

    fn recorded(socket: &Path) -> Result<(), AskError> {
        let pairs = vec![("192.0.2.1".parse().unwrap(), None)];
        let order = RecordOrder::new(pairs, Duration::from_secs(1)).unwrap();
        record((socket, &mut connect(socket)?), &order).map(drop)
    }

    #[test]
    fn who_may_ask_at_a_socket_is_told_by_its_owner_and_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _server = UnixListener::bind(&path).unwrap();
        let there = std::fs::metadata(&path).unwrap();
        let user = user_name(Uid::from_raw(there.uid()));
        let user = if there.uid() == 0 { String::new() } else { format!(" and user {user}") };
        let group = group_name(Gid::from_raw(there.gid()));
        for (mode, who) in [
            (0o660, format!("root{user} and members of group {group} may ask there")),
            (0o600, format!("root{user} may ask there")),
            (0o060, format!("root and members of group {group} may ask there")),
            (0o000, "root may ask there".to_owned()),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(whose(&path), who);
        }
        let refused = AskError::Refused { socket: "/s".to_owned(), whose: "root may ask there".to_owned() };
        let said = "permission denied at /s: root may ask there; run it with sudo, or as one who may";
        assert_eq!(refused.to_string(), said);
    }

    #[test]
    fn a_daemon_that_refuses_is_quoted_whatever_it_was_asked() {
        for ask in [asked_status, watched, ended, recorded] {
            let busy = "HTTP/1.0 503 Service Unavailable\r\ncontent-length: 25\r\n\r\nin the middle of it\nmore\n";
            assert_eq!(told(busy, ask), "the daemon at SOCKET answers: in the middle of it");
            let bare = "HTTP/1.0 503 Service Unavailable\r\n\r\n";
            assert_eq!(told(bare, ask), "the daemon at SOCKET answers: HTTP/1.0 503 Service Unavailable");
            assert_eq!(told("", ask), "the daemon at SOCKET does not answer: it closed the connection");
            assert_eq!(told("220 ready\r\n", ask), "the daemon at SOCKET does not answer: what it says is no HTTP");
        }
        let nothing = "HTTP/1.0 404 Not Found\r\n\r\nno segment passed\n";
        assert_eq!(told(nothing, recorded), "no segment passed");
        let older = told("HTTP/1.0 404 Not Found\r\n\r\n/v1/status, /healthz\n", recorded);
        assert!(older.contains("use the same release of both"), "{older}");
    }
}
