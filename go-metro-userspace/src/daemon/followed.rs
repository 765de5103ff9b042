//! The page for browsers of another process's daemon, which is followed at its status socket: what the daemon's own
//! loop is asked when it serves the page itself, it is asked there.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::ASKS;
use super::server::Ask;
use super::signals::{Asked, Signals};
use super::web::{ListenError, Seconds, Web};
use crate::config::WEB_HISTORY;
use crate::privileges::{self, Needs, Sandbox};
use crate::status::Status;
use crate::status::client::{self, AskError};
use crate::threads;

/// Why the page cannot be shown, or not any longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// There is no daemon to follow.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// No browser can come.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// It ended, or does not tell any more.
    #[error("{0}")]
    Ended(String),
    /// A signal handler, thread or runtime is missing.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Serves the page of the daemon at this socket until a signal comes or the daemon ends. `say` is called with where the
/// page is.
///
/// # Errors
///
/// It cannot start, or the daemon ends.
pub(crate) fn show_followed(socket: &Path, address: SocketAddr, say: impl FnOnce(&str)) -> Result<(), FollowError> {
    privileges::confine(Sandbox {
        wanted: true,
        writable: &[],
        readable: None,
        may_use_bpf: false,
        may_use_sockets: true,
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().on_thread_start(privileges::give_up_all).build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let (asks, mut asked) = mpsc::channel(ASKS);
        let (web, seconds) = Web::open(address, WEB_HISTORY, &asks)?;
        // The way to the socket may need some.
        privileges::keep(Needs::Files);
        let mut ended = follow(socket, seconds)?;
        say(&web.url().unwrap_or_default());
        loop {
            tokio::select! {
                signal = signals.next() => if let Asked::Stop(_) = signal {
                    return Ok(());
                },
                Some(ask) = asked.recv() => if let Ask::Status(reply) = ask {
                    answer(socket.to_owned(), reply);
                },
                end = &mut ended => return Err(end.unwrap_or_else(|_| FollowError::Ended("nobody follows".to_owned()))),
            }
        }
    })
}

/// Asks the daemon for its status; without an answer the server says that there is none.
fn answer(socket: PathBuf, reply: oneshot::Sender<Box<Status>>) {
    let work = move || {
        if let Ok(status) = client::status(&socket) {
            // The browser may be gone.
            let _ = reply.send(Box::new(status));
        }
    };
    let _ = threads::spawn("status", work);
}

/// Tells the page the daemon's seconds, on a thread; why that ended.
fn follow(socket: &Path, seconds: Seconds) -> Result<oneshot::Receiver<FollowError>, FollowError> {
    let told = client::watch(socket)?;
    let (reply, ended) = oneshot::channel();
    let work = move || {
        privileges::give_up_all();
        for live in told {
            let sent = match live {
                Ok(live) => seconds.blocking_send(Arc::new(live)),
                Err(error) => {
                    let why = format!("lost the connection to the daemon: {error}");
                    let _ = reply.send(FollowError::Ended(why));
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
        let _ = reply.send(FollowError::Ended("the daemon has ended".to_owned()));
    };
    threads::spawn("follow", work)?;
    Ok(ended)
}
