//! Asking a running daemon over its Unix socket: HTTP/1.0, so that the end of the answer is the end of the stream.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Live, Status, document};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest document that is believed.
const LONGEST: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
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
pub fn status_text(socket: &Path) -> Result<String, AskError> {
    let mut answer = ask(socket, super::STATUS_PATH)?.take(LONGEST);
    let mut text = String::new();
    answer.read_to_string(&mut text).map_err(|error| silent(socket, &error))?;
    Ok(text)
}

/// The status document.
///
/// # Errors
///
/// As [`status_text`]; or it is of a version that this program does not know.
pub fn status(socket: &Path) -> Result<Status, AskError> {
    parse(&status_text(socket)?).map_err(|error| silent(socket, &error))
}

/// A document that was fetched before.
///
/// # Errors
///
/// It is none, or of a version that this program does not know.
pub fn parse(text: &str) -> Result<Status, String> {
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

/// The process that listens at the socket, by the number that it has in this process's own namespace; none if it has none there.
///
/// The kernel notes it when the socket is made to listen (`SO_PEERCRED`, unix(7)); the document's own number is of the daemon's namespace.
///
/// # Errors
///
/// Nobody listens, or may not be asked.
pub fn process(socket: &Path) -> Result<Option<i32>, AskError> {
    let stream = connect(socket)?;
    let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
    let peer = peer.map_err(|error| silent(socket, &error))?;
    Ok(Some(peer.pid()).filter(|pid| *pid > 0))
}

/// Seconds as they pass, until the daemon ends.
///
/// # Errors
///
/// As [`status_text`].
pub fn watch(socket: &Path) -> Result<impl Iterator<Item = io::Result<Live>> + use<>, AskError> {
    let lines = ask(socket, super::LIVE_PATH)?.lines();
    Ok(lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::other)))
}

fn silent(socket: &Path, what: &dyn std::fmt::Display) -> AskError {
    AskError::Silent { socket: socket.display().to_string(), what: what.to_string() }
}

fn connect(socket: &Path) -> Result<UnixStream, AskError> {
    UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => AskError::Refused { socket: socket.display().to_string() },
        _ => AskError::NotRunning { socket: socket.display().to_string(), source },
    })
}

/// Sends a request and reads the answer's head; what is left is the body.
fn ask(socket: &Path, path: &str) -> Result<BufReader<UnixStream>, AskError> {
    let mut stream = connect(socket)?;
    let head = |stream: &mut UnixStream| -> io::Result<(String, BufReader<UnixStream>)> {
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: go-metro\r\n\r\n")?;
        let mut answer = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        answer.read_line(&mut first)?;
        let mut line = String::new();
        while answer.read_line(&mut line)? > 2 {
            line.clear();
        }
        Ok((first, answer))
    };
    let (first, answer) = head(&mut stream).map_err(|error| silent(socket, &error))?;
    if first.split(' ').nth(1) == Some("200") { Ok(answer) } else { Err(silent(socket, &first.trim())) }
}
