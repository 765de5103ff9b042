//! The daemon's ears: HTTP on a Unix socket for those who ask how it is, and on ports for those who scrape it and for
//! browsers.
//!
//! Requests are answered on the daemon's runtime, off the packet path ([`site`], and [`web`] for browsers). What only
//! the daemon's loop knows it is asked for ([`Ask`]); one that does not answer in time is reported as such instead of
//! being waited for. Who may be connected at once, [`crowd`] decides, for how long, [`pace`], and by which names
//! clients may have come, [`host`].

#[cfg(test)]
mod asking;
mod crowd;
mod host;
mod pace;
mod site;
mod web;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{Shutdown, setsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::net::Listener;

use super::recorder::Reply;
use crate::output::{Exposition, Served};
use crate::status::record::RecordOrder;
use crate::status::{Live, Status};
use crate::web as page;
pub(super) use crowd::closed;
use crowd::{Crowd, peer};
use host::OwnNames;
use site::{Site, converse};

/// Mode of the status socket: its owner and group may ask.
const SOCKET_MODE: u32 = 0o660;
/// Bytes that wait in the kernel for a browser, which doubles it for its own needs (socket(7)).
const SEND_BUFFER: usize = 128 << 10;
/// Seconds that a slow watcher may be behind.
pub(super) const LIVE_BACKLOG: usize = 4;

/// What is asked of the daemon's loop.
pub(super) enum Ask {
    /// The status document.
    Status(oneshot::Sender<Box<Status>>),
    /// To be told each second.
    Live(mpsc::Sender<Arc<Live>>),
    /// A recording of what passes from now on.
    Record(RecordOrder, Reply),
    /// The end of the recording of this name; whether there is one.
    EndRecording(u64, oneshot::Sender<bool>),
}

/// The way to the daemon's loop.
pub(super) type Asks = mpsc::Sender<Ask>;

/// A listening socket; closed when dropped, and a Unix socket's file removed.
pub(super) struct Server {
    task: JoinHandle<()>,
    crowd: Arc<Crowd>,
    exposition: Option<Arc<Exposition>>,
    file: Option<(PathBuf, u64)>,
    port: Option<std::net::TcpListener>,
    /// Whether those who are connected are cut off when it ends: what they follow would not.
    cuts_off: bool,
}

impl Server {
    /// Whether a Unix socket's file is gone, or another one is in its place.
    pub(super) fn is_gone(&self) -> bool {
        let is_there = |(path, inode): &(PathBuf, u64)| std::fs::metadata(path).is_ok_and(|meta| meta.ino() == *inode);
        self.file.as_ref().is_some_and(|file| !is_there(file))
    }
}

impl Served for Server {
    fn problem(&self) -> Option<String> {
        Some(self.exposition.as_ref()?.problem()?.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if self.cuts_off {
            self.crowd.cut_off_all();
        }
        // The task may go on for a moment; the address is free at once.
        if let Some(port) = &self.port {
            let _ = nix::sys::socket::shutdown(port.as_raw_fd(), Shutdown::Both);
        }
        if let Some((path, inode)) = &self.file
            && std::fs::metadata(path).is_ok_and(|meta| meta.ino() == *inode)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Why there is no status socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// Another daemon answers there.
    #[error("another go-metro answers at {}", .0.display())]
    Taken(PathBuf),
    /// It cannot be made.
    #[error(
        "cannot create the status socket {}: {source}; set `status_socket` to another path, or to `off`",
        path.display()
    )]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Answers at a Unix socket. One that a dead daemon left is replaced, a living one's is not.
pub(super) async fn unix(path: &Path, asks: &Asks) -> Result<Server, SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    let listener = match bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_socket = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
            match UnixStream::connect(path).await {
                Ok(_) => return Err(SocketError::Taken(path.to_owned())),
                Err(dead) if is_socket && dead.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).and_then(|()| bind(path)).map_err(failed)?
                }
                Err(_) => return Err(failed(error)),
            }
        }
        bound => bound.map_err(failed)?,
    };
    let inode = std::fs::metadata(path).map_err(failed)?.ino();
    let site = Arc::new(Site::new(asks));
    let crowd = site.crowd.clone();
    let task = tokio::spawn(accept(listener, site, |_| None));
    let file = Some((path.to_owned(), inode));
    Ok(Server { task, crowd, exposition: None, file, port: None, cuts_off: false })
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        std::fs::create_dir_all(folder)?;
    }
    // It has its mode from the start on: nobody else can connect before it is changed, and nothing need be allowed to
    // change modes. What other threads make meanwhile has a mode of its own that this takes nothing from.
    let before = umask(Mode::from_bits_truncate(!SOCKET_MODE & 0o777));
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

/// Answers scrapers.
pub(super) fn tcp(listener: std::net::TcpListener, exposition: Arc<Exposition>, asks: &Asks) -> io::Result<Server> {
    let names = OwnNames::for_scrapers(listener.local_addr()?);
    at_port(listener, Site { exposition: Some(exposition), names, ..Site::new(asks) })
}

/// Answers browsers. What waits in the kernel for one that does not read is bounded, so that it is soon noticed.
pub(super) fn browsers(listener: std::net::TcpListener, page: Arc<page::Site>, asks: &Asks) -> io::Result<Server> {
    // Sockets that are accepted have it too (socket(7)).
    setsockopt(&listener, sockopt::SndBuf, &SEND_BUFFER)?;
    at_port(listener, Site { web: Some(page), names: Some(OwnNames::of_this_host()), ..Site::new(asks) })
}

fn at_port(listener: std::net::TcpListener, site: Site) -> io::Result<Server> {
    listener.set_nonblocking(true)?;
    let port = Some(listener.try_clone()?);
    let listener = TcpListener::from_std(listener)?;
    let (crowd, exposition, cuts_off) = (site.crowd.clone(), site.exposition.clone(), site.web.is_some());
    let task = tokio::spawn(accept(listener, Arc::new(site), |address| Some(peer(address.ip()))));
    Ok(Server { task, crowd, exposition, file: None, port, cuts_off })
}

/// Converses with all who connect. When there are too many, a connection of the client that has most makes room
/// ([`crowd`]): who asks and does not read cannot keep others out.
async fn accept<L>(mut listener: L, site: Arc<Site>, peer: fn(&L::Addr) -> Option<IpAddr>)
where
    L: Listener<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>,
{
    loop {
        if let Ok((stream, address)) = listener.accept().await {
            let (site, crowd) = (site.clone(), site.crowd.clone());
            let of = peer(&address);
            let id = crowd.make_room(of);
            let leaves = crowd.clone();
            let task = tokio::spawn(async move {
                converse(stream, site, id).await;
                leaves.leave(id);
            });
            crowd.enter(id, of, task.abort_handle());
        } else {
            // Out of descriptors, most likely: not again at once.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
