//! What a server answers: the status document, the live view and the page of metrics; and for how long.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::crowd::{Crowd, Doing};
use super::host::OwnNames;
use super::pace::{Pace, limited};
use super::{Ask, Asks, LIVE_BACKLOG, web};
use crate::daemon::waiting::beside;
use crate::output::Exposition;
use crate::output::prometheus::page::{Format, Inflated, Page, PageError, accepts_gzip};
use crate::status::document::State;
use crate::status::record::{RECORDING_TYPE, RecordError, RecordOrder};
use crate::status::{END_RECORDING_PATH, LIVE_PATH, Live, RECORD_PATH, STATUS_PATH, Status};

/// Longest wait for the daemon's loop.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for a request to be complete.
const REQUEST: Duration = Duration::from_secs(10);
/// Most bytes of requests, and of an answer that is not read, that are kept for a connection.
const BUFFER: usize = 64 << 10;

/// What a server has to say.
pub(super) struct Site {
    pub(super) asks: Asks,
    /// On a port: metrics, and nothing that tells about the host. On the Unix socket: the rest.
    pub(super) exposition: Option<Arc<Exposition>>,
    /// On a port for browsers: the page, and the documents that it asks for.
    pub(super) web: Option<Arc<crate::web::Site>>,
    /// By which names clients may come; none for any.
    pub(super) names: Option<OwnNames>,
    /// Held by who writes a page.
    pub(super) pages: tokio::sync::Mutex<()>,
    pub(super) crowd: Arc<Crowd>,
}

/// Answers a connection, which has this place in the crowd.
pub(super) async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, site: Arc<Site>, place: u64) {
    let pace = Arc::new(Pace::default());
    let answer = service_fn(|request| {
        let (site, pace) = (site.clone(), pace.clone());
        async move {
            site.crowd.turn(place, Doing::Asking);
            let mut answer = match &site.web {
                Some(page) => web::answer(&site, page, &request, &pace).await,
                None => site.answer(&request).await,
            };
            site.crowd.turn(place, if answer.body().goes_on() { Doing::Following } else { Doing::Answered });
            if site.crowd.is_crowded(place) {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let may_last = site.exposition.is_none() && site.web.is_none();
    let mut http = http1::Builder::new();
    http.max_buf_size(BUFFER);
    let connection =
        http.timer(TokioTimer::new()).header_read_timeout(REQUEST).serve_connection(TokioIo::new(stream), answer);
    // Who hangs up, or talks nonsense, has its own log. Watchers of the socket stay.
    if may_last {
        let _ = connection.await;
    } else {
        limited(connection, &pace).await;
    }
}

impl Site {
    /// With what is asked of the daemon's loop, and nothing else to show.
    pub(super) fn new(asks: &Asks) -> Self {
        let asks = asks.clone();
        let (pages, crowd) = (tokio::sync::Mutex::default(), Arc::default());
        Self { asks, exposition: None, web: None, names: None, pages, crowd }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Answer> {
        if let Some(refused) = refused(request.method()).or_else(|| self.misdirected(request)) {
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
            (RECORD_PATH, None) => self.recording(request.uri().query().unwrap_or_default()).await,
            (END_RECORDING_PATH, None) => self.end_recording(request.uri().query().unwrap_or_default()).await,
            (_, Some(_)) => text(StatusCode::NOT_FOUND, "/metrics for Prometheus, /healthz for probes\n"),
            (_, None) => text(StatusCode::NOT_FOUND, "/v1/status, /v1/live, /v1/record, /healthz\n"),
        }
    }

    /// The answer to a client that came by a name that is not this host's, where that matters.
    pub(super) fn misdirected(&self, request: &Request<Incoming>) -> Option<Response<Answer>> {
        let (status, why) = self.names.as_ref()?.refuse(request)?;
        Some(text(status, why))
    }

    /// A recording by hand, as it goes on.
    async fn recording(&self, query: &str) -> Response<Answer> {
        let order = match RecordOrder::from_query(query) {
            Ok(order) => order,
            Err(what) => return text(StatusCode::BAD_REQUEST, &format!("{what}\n")),
        };
        let (reply, answer) = oneshot::channel();
        if self.asks.send(Ask::Record(order, reply)).await.is_err() {
            return unavailable();
        }
        match answer.await {
            Ok(Ok(parts)) => {
                let mut response = typed(StatusCode::OK, RECORDING_TYPE, Bytes::new());
                *response.body_mut() = Answer::Recording(parts);
                response
            }
            Ok(Err(RecordError::Nothing(what))) => text(StatusCode::NOT_FOUND, &format!("{what}\n")),
            Ok(Err(RecordError::Busy(what))) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{what}\n")),
            Err(_) => unavailable(),
        }
    }

    /// Ends a recording by hand, which has what passed until then.
    async fn end_recording(&self, query: &str) -> Response<Answer> {
        let Some(id) = query.strip_prefix("id=").and_then(|id| id.parse().ok()) else {
            return text(
                StatusCode::BAD_REQUEST,
                "expected id=NUMBER, the number that the recording was requested with\n",
            );
        };
        let (reply, answer) = oneshot::channel();
        if self.asks.send(Ask::EndRecording(id, reply)).await.is_err() {
            return unavailable();
        }
        match answer.await {
            Ok(true) => text(StatusCode::OK, "the recording is ending\n"),
            Ok(false) => text(StatusCode::NOT_FOUND, "no recording is running under this number\n"),
            Err(_) => unavailable(),
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
    pub(super) async fn status(&self) -> Option<Box<Status>> {
        let (reply, answer) = oneshot::channel();
        timeout(PATIENCE, async {
            self.asks.send(Ask::Status(reply)).await.ok()?;
            answer.await.ok()
        })
        .await
        .ok()?
    }
}

/// The answer to who wants more than to look.
pub(super) fn refused(method: &Method) -> Option<Response<Answer>> {
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(refused)
}

pub(super) fn unavailable() -> Response<Answer> {
    text(StatusCode::SERVICE_UNAVAILABLE, "the capture thread does not answer\n")
}

/// A page, compressed for those that take it so.
fn metrics(page: &Arc<Page>, format: Format, gzip: bool) -> Response<Answer> {
    let mut response = typed(StatusCode::OK, format.content_type(), if gzip { page.gzip() } else { Bytes::new() });
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    } else {
        *response.body_mut() = Answer::Inflated(Box::new(page.plain()));
    }
    response
}

pub(super) fn text(status: StatusCode, text: &str) -> Response<Answer> {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

pub(super) fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A body.
pub(super) enum Answer {
    /// All at once.
    Whole(Option<Bytes>),
    /// A page of metrics that is not compressed.
    Inflated(Box<Inflated>),
    /// A line a second.
    Live(mpsc::Receiver<Arc<Live>>),
    /// A recording, part by part.
    Recording(mpsc::Receiver<Bytes>),
    /// Events for a browser, each of which has the connection last longer.
    Events(mpsc::Receiver<Bytes>, Arc<Pace>),
}

impl Answer {
    /// Whether it goes on until one of both ends hangs up.
    fn goes_on(&self) -> bool {
        match self {
            Self::Whole(_) | Self::Inflated(_) => false,
            Self::Live(_) | Self::Recording(_) | Self::Events(..) => true,
        }
    }
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
            Self::Recording(parts) => parts.poll_recv(context).map(|part| Some(Ok(Frame::data(part?)))),
            Self::Events(receiver, pace) => receiver.poll_recv(context).map(|event| {
                pace.taken();
                Some(Ok(Frame::data(event?)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Inflated(page) => page.left() == 0,
            Self::Live(_) | Self::Recording(_) | Self::Events(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Inflated(page) => SizeHint::with_exact(page.left()),
            Self::Live(_) | Self::Recording(_) | Self::Events(..) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "prometheus")]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::super::asking::{asked, exchange, get};
    use crate::output::prometheus::Prometheus;

    #[tokio::test]
    async fn metrics_are_served_under_names_of_this_host_alone_on_loopback_and_under_any_elsewhere() {
        let statuses = |address: Ipv4Addr| async move {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let page = Prometheus::new(10, go_metro_rtt::Buckets::Coarse).exposition();
            let _server = super::super::tcp(listener, page, &tokio::sync::mpsc::channel(1).0).unwrap();
            asked(move || {
                let of = |request: String| exchange((Ipv4Addr::LOCALHOST, port).into(), &request).0;
                [
                    get("/metrics", "Host: localhost:9464\r\n"),
                    get("/metrics", "Host: 127.0.0.1\r\n"),
                    get("/metrics", "Host: metrics.monitoring.svc:9464\r\n"),
                    get("/healthz", "Host: evil.example\r\n"),
                    // What is no browser.
                    "GET /metrics HTTP/1.0\r\n\r\n".to_owned(),
                ]
                .map(|request| of(request).split(' ').nth(1).unwrap().to_owned())
            })
            .await
        };
        assert_eq!(statuses(Ipv4Addr::LOCALHOST).await, ["200", "200", "421", "421", "200"]);
        // The daemon's loop, which knows its health, is not there.
        assert_eq!(statuses(Ipv4Addr::UNSPECIFIED).await, ["200", "200", "200", "503", "200"]);
    }
}
