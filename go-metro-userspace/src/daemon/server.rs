//! The daemon's ears: HTTP on a Unix socket for those who ask how it is, and on a port for those who scrape it.
//!
//! Requests are answered on the daemon's runtime, off the packet path. What only the daemon's loop knows it is asked
//! for ([`Ask`]); one that does not answer in time is reported as such instead of being waited for.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::stat::{Mode, umask};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use tokio_util::net::Listener;

use super::waiting::beside;
use crate::logging::OnceInAWhile;
use crate::output::prometheus::page::{Format, Inflated, Page, PageError, accepts_gzip};
use crate::output::{Exposition, Served};
use crate::status::document::State;
use crate::status::{LIVE_PATH, Live, STATUS_PATH, Status};

/// Longest wait for the daemon's loop.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for a request to be complete.
const REQUEST: Duration = Duration::from_secs(10);
/// Mode of the status socket: its owner and group may ask.
const SOCKET_MODE: u32 = 0o660;
/// Connections at once, to each server.
const CONNECTIONS: usize = 64;
/// Connections at once of one peer: an IPv4 address, or an IPv6 prefix of 64 bits, which one host can have all of.
const OF_PEER: usize = 16;
/// Most bytes of requests, and of an answer that is not read, that are kept for a connection.
const BUFFER: usize = 64 << 10;
/// How long a connection to a port lives at most, however slowly its peer reads.
const LIFETIME: Duration = Duration::from_secs(30);
/// For how long it is said that connections were cut off.
const LATELY: Duration = Duration::from_secs(60);
/// Seconds that a slow watcher may be behind.
pub(super) const LIVE_BACKLOG: usize = 4;

/// What is asked of the daemon's loop.
pub(super) enum Ask {
    /// The status document.
    Status(oneshot::Sender<Box<Status>>),
    /// To be told each second.
    Live(mpsc::Sender<Arc<Live>>),
}

/// The way to the daemon's loop.
pub(super) type Asks = mpsc::Sender<Ask>;

/// A listening socket; closed when dropped, and a Unix socket's file removed.
pub(super) struct Server {
    task: JoinHandle<()>,
    crowd: Arc<Crowd>,
    exposition: Option<Arc<Exposition>>,
    file: Option<(PathBuf, u64)>,
}

impl Server {
    /// That connections were cut off lately to make room for others, and whose.
    fn crowded(&self) -> Option<String> {
        let cut_off = self.crowd.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, whose) = cut_off.as_ref().filter(|(at, _)| at.elapsed() < LATELY)?;
        Some(format!("too many connections at once of {whose}: the oldest are cut off"))
    }

    /// Why scrapers get no page, if that is so.
    fn no_page(&self) -> Option<String> {
        Some(self.exposition.as_ref()?.problem()?.to_string())
    }

    /// Whether a Unix socket's file is gone, or another one is in its place.
    pub(super) fn is_gone(&self) -> bool {
        let is_there = |(path, inode): &(PathBuf, u64)| std::fs::metadata(path).is_ok_and(|meta| meta.ino() == *inode);
        self.file.as_ref().is_some_and(|file| !is_there(file))
    }
}

impl Served for Server {
    fn problems(&self) -> Vec<String> {
        [self.crowded(), self.no_page()].into_iter().flatten().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
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
        "cannot make the status socket {}: {source}; set `status_socket` to another path, or to `off`",
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
    let site = Arc::new(Site {
        asks: asks.clone(),
        exposition: None,
        pages: tokio::sync::Mutex::default(),
        crowd: Arc::default(),
    });
    let crowd = site.crowd.clone();
    let task = tokio::spawn(accept(listener, site, |_| None));
    Ok(Server { task, crowd, exposition: None, file: Some((path.to_owned(), inode)) })
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
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let shown = Some(exposition.clone());
    let site = Arc::new(Site {
        asks: asks.clone(),
        exposition: Some(exposition),
        pages: tokio::sync::Mutex::default(),
        crowd: Arc::default(),
    });
    let crowd = site.crowd.clone();
    let task = tokio::spawn(accept(listener, site, |address| Some(peer(address.ip()))));
    Ok(Server { task, crowd, exposition: shown, file: None })
}

/// Converses with all who connect. When there are too many, the oldest connection of the client that has most makes
/// room: who asks and does not read cannot keep others out.
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
                converse(stream, site).await;
                leaves.lock().retain(|place| place.id != id);
            });
            crowd.lock().push(Place { id, of, task: task.abort_handle() });
        } else {
            // Out of descriptors, most likely: not again at once.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What counts as one peer.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Who is connected, oldest first.
#[derive(Default)]
struct Crowd {
    places: Mutex<Vec<Place>>,
    next: AtomicU64,
    /// That somebody was cut off.
    said: Mutex<OnceInAWhile>,
    /// When somebody was last cut off to make room, and who.
    cut_off: Mutex<Option<(Instant, String)>>,
}

struct Place {
    id: u64,
    /// None where all have the same rights.
    of: Option<IpAddr>,
    task: AbortHandle,
}

impl Crowd {
    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether connections are to be closed after their answer.
    fn is_crowded(&self) -> bool {
        self.lock().len() > CONNECTIONS / 2
    }

    /// Makes room for one more of this peer; the number of its place.
    fn make_room(&self, of: Option<IpAddr>) -> u64 {
        let mut places = self.lock();
        let held = |peer: Option<IpAddr>| places.iter().filter(|place| place.of == peer).count();
        let crowds_out = if of.is_some() && held(of) >= OF_PEER {
            Some(of)
        } else if places.len() >= CONNECTIONS {
            places.iter().map(|place| place.of).max_by_key(|peer| held(*peer))
        } else {
            None
        };
        if let Some(peer) = crowds_out
            && let Some(oldest) = places.iter().position(|place| place.of == peer)
        {
            places.remove(oldest).task.abort();
            let who = peer.map_or_else(|| "the status socket".to_owned(), |peer| peer.to_string());
            *self.cut_off.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), who.clone()));
            if self.said.lock().unwrap_or_else(PoisonError::into_inner).may_say() {
                tracing::warn!("too many connections at once of {who}: the oldest are cut off");
            }
        }
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// What a server has to say.
struct Site {
    asks: Asks,
    /// On a port: metrics, and nothing that tells about the host. On the Unix socket: the rest.
    exposition: Option<Arc<Exposition>>,
    /// Held by who writes a page.
    pages: tokio::sync::Mutex<()>,
    crowd: Arc<Crowd>,
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, site: Arc<Site>) {
    let answer = service_fn(|request| {
        let site = site.clone();
        async move {
            let mut answer = site.answer(&request).await;
            if site.crowd.is_crowded() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let may_last = site.exposition.is_none();
    let mut http = http1::Builder::new();
    http.max_buf_size(BUFFER);
    let connection =
        http.timer(TokioTimer::new()).header_read_timeout(REQUEST).serve_connection(TokioIo::new(stream), answer);
    // Who hangs up, or talks nonsense, has its own log. Watchers of the socket stay.
    if may_last {
        let _ = connection.await;
    } else {
        let _ = timeout(LIFETIME, connection).await;
    }
}

impl Site {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Answer> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match (request.uri().path(), &self.exposition) {
            ("/metrics", Some(exposition)) => {
                let header =
                    |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
                let format = Format::accepted(header(ACCEPT));
                match self.page(exposition, format).await {
                    Ok(page) => metrics(&page, format, accepts_gzip(header(ACCEPT_ENCODING))),
                    Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
                }
            }
            ("/healthz", _) => match self.status().await {
                Some(status) => {
                    let problems: String = status.problems.iter().map(|problem| format!("{problem}\n")).collect();
                    let state = if status.state == State::Ok { "ok\n" } else { "degraded\n" };
                    text(StatusCode::OK, &format!("{state}{problems}"))
                }
                None => unavailable(),
            },
            (STATUS_PATH, None) => match self.status().await {
                Some(status) => {
                    let document = serde_json::to_string(&*status).unwrap_or_default() + "\n";
                    typed(StatusCode::OK, "application/json", document)
                }
                None => unavailable(),
            },
            (LIVE_PATH, None) => {
                let (sender, receiver) = mpsc::channel(LIVE_BACKLOG);
                if self.asks.send(Ask::Live(sender)).await.is_err() {
                    return unavailable();
                }
                Response::new(Answer::Live(receiver))
            }
            (_, Some(_)) => text(StatusCode::NOT_FOUND, "/metrics for Prometheus, /healthz for probes\n"),
            (_, None) => text(StatusCode::NOT_FOUND, "/v1/status, /v1/live, /healthz\n"),
        }
    }

    /// The page of metrics, which takes a while to write: one is written at a time, on a thread of its own if there can
    /// be one.
    async fn page(&self, exposition: &Arc<Exposition>, format: Format) -> Result<Arc<Page>, PageError> {
        let _turn = self.pages.lock().await;
        let of = exposition.clone();
        beside("metrics", move || of.page(format)).await.unwrap_or_else(|_| exposition.page(format))
    }

    /// The status, unless the daemon's loop or its capture thread hangs.
    async fn status(&self) -> Option<Box<Status>> {
        let (reply, answer) = oneshot::channel();
        timeout(PATIENCE, async {
            self.asks.send(Ask::Status(reply)).await.ok()?;
            answer.await.ok()
        })
        .await
        .ok()?
    }
}

fn unavailable() -> Response<Answer> {
    text(StatusCode::SERVICE_UNAVAILABLE, "the capture thread does not answer\n")
}

/// A page, compressed for those that take it so.
fn metrics(page: &Arc<Page>, format: Format, gzip: bool) -> Response<Answer> {
    let mut response = typed(StatusCode::OK, format.content_type(), if gzip { page.gzip() } else { Bytes::new() });
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    } else {
        *response.body_mut() = Answer::Inflated(page.text());
    }
    response
}

fn text(status: StatusCode, text: &str) -> Response<Answer> {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A body.
enum Answer {
    /// All at once.
    Whole(Option<Bytes>),
    /// A page of metrics as text.
    Inflated(Inflated),
    /// A line a second.
    Live(mpsc::Receiver<Arc<Live>>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            // What cannot be inflated ends early, and its length tells the scraper.
            Self::Inflated(page) => {
                let piece = page.next_piece().unwrap_or_default();
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Live(receiver) => receiver.poll_recv(context).map(|live| {
                let line = serde_json::to_string(&*live?).unwrap_or_default() + "\n";
                Some(Ok(Frame::data(line.into())))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Inflated(page) => page.left() == 0,
            Self::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Inflated(page) => SizeHint::with_exact(page.left()),
            Self::Live(_) => SizeHint::default(),
        }
    }
}
