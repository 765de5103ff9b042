//! One request to the receiver: what is sent, and what the answer means (OTLP 1, "OTLP/HTTP").

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{Otlp, OtlpUrl};
use crate::targets::resolver;

/// Most bytes of an answer that are read.
const ANSWER: usize = 64 << 10;
/// Most characters of an answer that are shown.
const SHOWN: usize = 200;
/// What is sent.
const PROTOBUF: &str = "application/x-protobuf";

/// The response to a request that was accepted.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Data points that were rejected.
    pub(super) rejected: u64,
    /// Why they were rejected, or a warning.
    pub(super) message: String,
}

/// Why a request was not accepted.
#[derive(Debug)]
pub(super) enum Failure {
    /// It can be tried again; not before this time has passed, if the receiver asks for that.
    Passing(String, Option<Duration>),
    /// It will not be accepted later either.
    Final(String),
}

/// Posts requests, one after the other over one connection.
pub(super) struct Transport {
    otlp: Otlp,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<hyper::Result<()>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Transport {
    /// Nothing is connected yet.
    pub(super) fn new(otlp: Otlp) -> Self {
        Self { otlp, connection: None }
    }

    /// Posts a body, within the configured time and this one.
    pub(super) async fn post(&mut self, body: &Bytes, gzip: bool, limit: Duration) -> Result<Taken, Failure> {
        let limit = limit.min(self.otlp.timeout);
        let answered = timeout(limit, self.exchange(body, gzip, limit)).await;
        let result = answered.unwrap_or_else(|_| Err(Failure::Passing(format!("no answer within {limit:?}"), None)));
        // A late response to a failed request must not be taken for the response to the next one.
        if result.is_err() {
            self.close();
        }
        result
    }

    /// Closes the connection, if there is one.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    async fn exchange(&mut self, body: &Bytes, gzip: bool, limit: Duration) -> Result<Taken, Failure> {
        if let Some(open) = self.connection.take_if(|open| !open.sender.is_closed()) {
            // A receiver may close a connection after a response: a request that it did not read is sent again.
            match self.send(open, body, gzip).await {
                Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {}
                Err(error) => return Err(unanswered(&error)),
                Ok(answer) => return outcome(answer).await,
            }
        }
        let open = connect(&self.otlp.url, limit).await.map_err(|what| Failure::Passing(what, None))?;
        let answer = self.send(open, body, gzip).await;
        outcome(answer.map_err(|error| unanswered(&error))?).await
    }

    async fn send(&mut self, mut open: Connection, body: &Bytes, gzip: bool) -> hyper::Result<Response<Incoming>> {
        open.sender.ready().await?;
        let request = self.request(body, gzip);
        let answer = open.sender.send_request(request).await;
        self.connection = Some(open);
        answer
    }

    fn request(&self, body: &Bytes, gzip: bool) -> Request<Full<Bytes>> {
        let Otlp { url, headers, .. } = &self.otlp;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = hyper::Method::POST;
        // Path and host were checked when they were read.
        *request.uri_mut() = url.path.parse().unwrap_or_default();
        let host = HeaderValue::from_str(&format!("{}:{}", url.host_in_url(), url.port));
        let fields = request.headers_mut();
        fields.extend(host.map(|host| (HOST, host)));
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("go-metro/", env!("CARGO_PKG_VERSION"))));
        if gzip {
            fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        for (name, value) in &headers.0 {
            fields.insert(name, value.clone());
        }
        request
    }
}

/// Connects to the first address that can be connected to, each within its share of the time.
async fn connect(url: &OtlpUrl, limit: Duration) -> Result<Connection, String> {
    let addresses = addresses(&url.host).await?;
    let share = limit / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut last = "the host name has no address".to_owned();
    for address in addresses {
        let address = SocketAddr::new(address, url.port);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return converse(stream).await.map_err(|error| format!("{address}: {error}")),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no connection within {share:?}"),
        }
    }
    Err(last)
}

async fn converse(stream: TcpStream) -> Result<Connection, String> {
    // A body is written at once; its end must not wait for an acknowledgement.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    Ok(Connection { sender, task: tokio::spawn(connection) })
}

/// The addresses of a host name or address. Names are looked up each time, as their addresses may change.
async fn addresses(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let answer = resolver::addresses(host).ok_or("too many host names are being looked up")?;
    let found = answer.await.map_err(|_| format!("no answer from the name server for {host}"))?;
    found.map(|addresses| addresses.into_iter().collect()).map_err(|error| format!("{host}: {error}"))
}

/// The outcome of a request, from its response.
async fn outcome(answer: Response<Incoming>) -> Result<Taken, Failure> {
    let (head, body) = answer.into_parts();
    let kind = head.headers.get(CONTENT_TYPE);
    let is_protobuf = kind.is_some_and(|kind| kind.as_bytes().starts_with(PROTOBUF.as_bytes()));
    let body = Limited::new(body, ANSWER).collect().await.map(Collected::to_bytes);
    if head.status.is_success() {
        return match body {
            Ok(body) => accepted(head.status, kind, &body),
            // The status says that it was accepted, and the rest may be too long or cut off.
            Err(_) if is_protobuf => Ok(Taken::default()),
            Err(_) => Err(no_receiver(head.status, kind)),
        };
    }
    let body = body.unwrap_or_default();
    let message = match Status::decode(&*body).ok().filter(|_| is_protobuf) {
        Some(status) => status.message,
        None => String::from_utf8_lossy(&body).into_owned(),
    };
    let message = shown(&message);
    let what = if message.is_empty() { head.status.to_string() } else { format!("{}: {message}", head.status) };
    // OTLP, "Failures": only these are retried.
    if matches!(
        head.status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    ) {
        return Err(Failure::Passing(what, retry_after(&head.headers, SystemTime::now())));
    }
    Err(Failure::Final(what))
}

/// What a response means whose status is a success. Any web server can answer with such a status: what is no response
/// of OTLP does not come from a receiver. Without a body all data points were accepted.
fn accepted(status: StatusCode, kind: Option<&HeaderValue>, body: &[u8]) -> Result<Taken, Failure> {
    let is_other = kind.is_some_and(|kind| !kind.as_bytes().starts_with(PROTOBUF.as_bytes()));
    let said = if is_other && !body.is_empty() { None } else { ExportMetricsServiceResponse::decode(body).ok() };
    let partial = said.ok_or_else(|| no_receiver(status, kind))?.partial_success.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_data_points).unwrap_or(0);
    Ok(Taken { rejected, message: shown(&partial.error_message) })
}

fn no_receiver(status: StatusCode, kind: Option<&HeaderValue>) -> Failure {
    let kind = kind.map(|kind| format!(" ({})", shown(&String::from_utf8_lossy(kind.as_bytes()))));
    let kind = kind.unwrap_or_default();
    Failure::Final(format!("{status}, but its content{kind} is not OTLP: the URL does not lead to an OTLP receiver"))
}

/// Why there is no response.
fn unanswered(error: &hyper::Error) -> Failure {
    let hint = if error.is_parse() {
        ": the server does not answer in HTTP; it may expect TLS, which go-metro does not support"
    } else {
        ""
    };
    Failure::Passing(format!("{error}{hint}"), None)
}

/// Details of a failure: `google.rpc.Status` (google/rpc/status.proto), as far as it is used.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

/// How long to wait, by a number of seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok().map(|date| date.duration_since(now).unwrap_or_default())
}

/// The start of a received text, on one line.
fn shown(text: &str) -> String {
    let line: String = text.trim().chars().take(SHOWN).collect();
    line.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_says_when_to_come_back_in_seconds_or_by_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), seconds, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_success_without_a_response_of_otlp_is_none() {
        let of = |kind: Option<&'static str>, body: &[u8]| {
            accepted(StatusCode::OK, kind.map(HeaderValue::from_static).as_ref(), body)
        };
        let whole = ExportMetricsServiceResponse { partial_success: Some(Default::default()) }.encode_to_vec();
        for (kind, body) in [
            (Some(PROTOBUF), &*whole),
            (Some("application/x-protobuf; charset=utf-8"), &whole),
            (None, &whole),
            (Some(PROTOBUF), b""),
            (Some("text/plain"), b""),
            (None, b""),
        ] {
            let taken = of(kind, body).unwrap();
            assert_eq!((taken.rejected, &*taken.message), (0, ""), "{kind:?} {body:?}");
        }
        for (kind, body, what) in [
            (Some("text/html"), &b"<html>"[..], "200 OK, but its content (text/html) is not OTLP: "),
            (Some("application/json"), &whole, "(application/json) is not OTLP"),
            (Some(PROTOBUF), b"<html>", "(application/x-protobuf) is not OTLP"),
            (None, b"ok", "200 OK, but its content is not OTLP"),
        ] {
            let Err(Failure::Final(cause)) = of(kind, body) else { panic!("{kind:?} is accepted") };
            assert!(cause.contains(what), "{cause}");
        }
    }

    #[test]
    fn what_a_receiver_writes_cannot_fill_a_log_or_break_its_lines() {
        assert_eq!(shown(" out of order\nsample\x1b[2J\n"), "out of order sample [2J");
        assert_eq!(shown(&"x".repeat(10_000)).len(), SHOWN);
    }
}
