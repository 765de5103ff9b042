//! The page for browsers of another process's daemon, which is followed at its status socket: what the daemon's own
//! loop is asked when it serves the page itself, it is asked there.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{mem, thread};

use tokio::sync::{mpsc, oneshot};

use super::ASKS;
use super::server::Ask;
use super::signals::{Asked, Signals};
use super::web::{ListenError, Seconds, Web};
use crate::config::WEB_HISTORY;
use crate::privileges::{self, Needs, Sandbox};
use crate::status::client::{self, AskError};
use crate::status::{Live, Status};
use crate::{terminal, threads};

/// How often a daemon that has ended is looked for.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the page cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// There is no daemon to follow.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// No browser can come.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// A signal handler, thread or runtime is missing.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Serves the page of the daemon at this socket until a signal comes: a daemon that ends is waited for, as it may only
/// be restarted. `say` is called with where the page is.
///
/// # Errors
///
/// It cannot start, or there is no daemon at the start.
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
        follow(socket, seconds)?;
        say(&web.url().unwrap_or_default());
        loop {
            tokio::select! {
                signal = signals.next() => if let Asked::Stop(_) = signal {
                    return Ok(());
                },
                Some(ask) = asked.recv() => if let Ask::Status(reply) = ask {
                    answer(socket.to_owned(), reply);
                },
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

/// Tells the page the seconds of the daemon at this socket, and of the next one there, on a thread.
fn follow(socket: &Path, seconds: Seconds) -> Result<(), FollowError> {
    let mut told = client::watch(socket)?;
    let socket = socket.to_owned();
    // It keeps what the way to the socket needs, for the next daemon.
    let work = move || {
        let mut is_lost = false;
        while let Some(why) = pass_on(told, &seconds, &mut is_lost) {
            if !mem::replace(&mut is_lost, true) {
                let socket = socket.display();
                terminal::complain(&format!("go-metro: {why}; waiting for a daemon at {socket}\n"));
            }
            told = loop {
                thread::sleep(AGAIN);
                if let Ok(told) = client::watch(&socket) {
                    break told;
                }
            };
        }
    };
    threads::spawn("follow", work)?;
    Ok(())
}

/// Passes on what a daemon tells, as long as it does; why it does so no more. None if the page is gone.
fn pass_on(told: impl Iterator<Item = io::Result<Live>>, seconds: &Seconds, is_lost: &mut bool) -> Option<String> {
    for live in told {
        let live = match live {
            Ok(live) => live,
            Err(error) => return Some(format!("lost the connection to the daemon: {error}")),
        };
        // One that cannot be understood does not count.
        if mem::take(is_lost) {
            terminal::complain("go-metro: following the daemon again\n");
        }
        seconds.blocking_send(Arc::new(live)).ok()?;
    }
    Some("the daemon has ended".to_owned())
}
