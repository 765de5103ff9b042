//! What a browser is answered, and under which conditions: only reading, only under a name of this host's own, and
//! with headers that let the page load nothing from elsewhere and others load nothing of it (docs/web.md).

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Request, Response, StatusCode};

use super::host::{FOREIGN, is_foreign};
use super::pace::Pace;
use super::site::{Answer, Site, refused, text, typed, unavailable};
use crate::daemon::waiting::beside;
use crate::output::prometheus::page::accepts_gzip;
use crate::web::{self, Question, Reply};

/// Each answer has these. The page is three kinds of file, all from here, and makes no markup of text (trusted types);
/// it is in nobody's frame, and its files are in nobody else's page.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
    (VARY, "Accept-Encoding"),
];

/// The answer, with what all answers have.
pub(super) async fn answer(
    site: &Site,
    page: &Arc<web::Site>,
    request: &Request<Incoming>,
    pace: &Arc<Pace>,
) -> Response<Answer> {
    let refused = refused(request.method()).or_else(|| site.misdirected(request)).or_else(|| foreign(request));
    let mut answer = match refused {
        Some(refused) => refused,
        None => found(site, page, request, pace).await,
    };
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// The answer to a page of somebody else's. A link may lead here; what is shown is for the page itself.
fn foreign(request: &Request<Incoming>) -> Option<Response<Answer>> {
    let (status, why) = FOREIGN;
    (request.uri().path().starts_with("/api/") && is_foreign(request.headers())).then(|| text(status, why))
}

async fn found(site: &Site, page: &Arc<web::Site>, request: &Request<Incoming>, pace: &Arc<Pace>) -> Response<Answer> {
    let path = request.uri().path();
    let encodings = request.headers().get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let gzip = accepts_gzip(encodings.unwrap_or_default());
    if let Some(file) = page.file(path, gzip) {
        return whole(file);
    }
    let query = request.uri().query().unwrap_or_default();
    if path.starts_with("/api/")
        && let Some(refused) = page.refuse(path, query)
    {
        return whole(refused);
    }
    match path {
        "/api/v1/status" => match site.status().await {
            Some(status) => {
                let document = serde_json::to_string(&*status).unwrap_or_default() + "\n";
                whole(Reply::json(200, document.into_bytes(), gzip))
            }
            None => unavailable(),
        },
        "/api/v1/events" => {
            let mut response = typed(StatusCode::OK, "text/event-stream", Bytes::new());
            *response.body_mut() = Answer::Events(page.follow(), pace.clone());
            response
        }
        path if path.starts_with("/api/") => {
            let question = Question { path: path.to_owned(), query: query.to_owned(), gzip };
            // One is made at a time, on a thread of its own if there can be one.
            let _turn = site.pages.lock().await;
            let (asked, of) = (question.clone(), page.clone());
            whole(beside("web", move || of.answer(&asked)).await.unwrap_or_else(|_| page.answer(&question)))
        }
        _ => text(StatusCode::NOT_FOUND, "there is no such path; / is the page, and its data is below /api/v1\n"),
    }
}

fn whole(Reply { status, content_type, body, is_gzip }: Reply) -> Response<Answer> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = typed(status, content_type, body);
    if is_gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
#[cfg(feature = "web")]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use flate2::read::GzDecoder;
    use tokio::sync::mpsc;

    use super::super::asking::{asked, exchange, get};
    use super::*;
    use crate::daemon::server::{self, Server};
    use crate::status::Live;

    /// Listens, on a runtime's thread; the daemon's loop does not answer.
    fn serve() -> (Server, SocketAddr, Arc<web::Site>, mpsc::Sender<Arc<Live>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (page, daemon) = web::Site::start(Duration::from_secs(60)).unwrap();
        let (asks, _) = mpsc::channel(1);
        (server::browsers(listener, page.clone(), &asks).unwrap(), address, page, daemon)
    }

    #[tokio::test]
    async fn the_page_is_served_under_names_of_this_host_alone_and_read_only() {
        let (_server, address, _page, _daemon) = serve();
        asked(move || {
            for (request, status) in [
                (get("/", "Host: localhost:9465\r\n"), 200),
                (get("/", "Host: 127.0.0.1\r\n"), 200),
                (get("/", "Host: [::1]:80\r\n"), 200),
                (get("/main.js", "Host: localhost\r\nSec-Fetch-Site: same-origin\r\n"), 200),
                (get("/", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n"), 200),
                (get("/api/v1", "Host: localhost\r\nSec-Fetch-Site: none\r\n"), 200),
                (get("/api/v1", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n"), 403),
                (get("/api/v1/events", "Host: localhost\r\nSec-Fetch-Site: same-site\r\n"), 403),
                (get("/", "Host: evil.example\r\n"), 421),
                (get("/api/v1/status", "Host: evil.example:9465\r\n"), 421),
                (get("http://evil.example/", "Host: localhost\r\n"), 421),
                (get("/api/v1", "Host: localhost:1\r\nOrigin: http://localhost:1\r\n"), 200),
                (get("/", "Host: 192.0.2.7\r\nOrigin: http://evil.example\r\n"), 200),
                (get("/api/v1", "Host: 192.0.2.7\r\nOrigin: http://evil.example\r\n"), 403),
                (get("/api/v1/status", "Host: 192.0.2.7\r\nOrigin: null\r\n"), 403),
                (get("/api/v1/events", "Host: 192.0.2.7\r\nOrigin: http://192.0.2.7:81\r\n"), 403),
                (get("/", ""), 400),
                (get("/", "Host: localhost\r\nHost: localhost\r\n"), 400),
                (get("/nothing", "Host: localhost\r\n"), 404),
                (get("/../main.js", "Host: localhost\r\n"), 404),
                (get("/api/v1/pairs?x", "Host: localhost\r\n"), 400),
                (get("/api/v1/status?seconds=60", "Host: localhost\r\n"), 400),
                (get("/api/v1/events?seconds=60", "Host: localhost\r\n"), 400),
                // The daemon's loop is not there.
                (get("/api/v1/status", "Host: localhost\r\n"), 503),
            ] {
                let (head, _) = exchange(address, &request);
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{head}");
                for (name, value) in HEADERS {
                    assert!(head.contains(&format!("{name}: {value}\r\n")), "{name} is missing: {request}{head}");
                }
                assert!(!head.contains("set-cookie") && !head.contains("access-control"), "{head}");
            }
            for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
                let request = get("/api/v1", "Host: localhost\r\n").replacen("GET", method, 1);
                let (head, _) = exchange(address, &request);
                assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET, HEAD\r\n"), "{head}");
            }
            let (head, body) = exchange(address, &get("/", "Host: localhost\r\n").replacen("GET", "HEAD", 1));
            assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}");
        })
        .await;
    }

    #[tokio::test]
    async fn answers_are_compressed_for_those_that_take_it() {
        let (_server, address, _page, _daemon) = serve();
        asked(move || {
            let (_, plain) = exchange(address, &get("/main.js", "Host: localhost\r\n"));
            let (head, compressed) =
                exchange(address, &get("/main.js", "Host: localhost\r\nAccept-Encoding: gzip, br\r\n"));
            assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
            let mut text = Vec::new();
            GzDecoder::new(&*compressed).read_to_end(&mut text).unwrap();
            assert!(text == plain && compressed.len() < plain.len() / 2, "{} of {}", compressed.len(), plain.len());
        })
        .await;
    }

    /// Follows the events.
    fn follow(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut head = [0; 4096];
        let length = stream.read(&mut head).unwrap();
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
        stream
    }

    /// Reads until the next second is there; all of it.
    fn next_second(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        while !text.contains("event: second\ndata: {") {
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).unwrap();
            assert!(length > 0, "{text}");
            text += &String::from_utf8_lossy(&bytes[..length]);
        }
        text
    }

    #[tokio::test]
    async fn connections_that_ask_nothing_end_nobodys_events() {
        let (_server, address, _page, daemon) = serve();
        let (mut streams, _idle) = asked(move || {
            let streams: Vec<_> = (0..8).map(|_| follow(address)).collect();
            let idle: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
            // Accepted after all of these.
            assert!(exchange(address, &get("/", "Host: localhost\r\n")).0.starts_with("HTTP/1.1 200 "));
            (streams, idle)
        })
        .await;
        daemon.send(Arc::new(Live::default())).await.unwrap();
        asked(move || streams.iter_mut().for_each(|stream| drop(next_second(stream)))).await;
    }

    #[tokio::test]
    async fn events_come_as_seconds_do_and_end_with_the_server() {
        let (server, address, page, daemon) = serve();
        let mut stream = asked(move || follow(address)).await;
        daemon.send(Arc::new(Live { backend: "ebpf".to_owned(), ..Live::default() })).await.unwrap();
        let mut stream = asked(move || {
            let text = next_second(&mut stream);
            assert!(text.contains("\"backend\":\"ebpf\""), "{text}");
            stream
        })
        .await;
        // As a reload that turns the page off does.
        drop(server);
        page.close();
        let ended = asked(move || stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())).await;
        assert!(matches!(ended, Ok(_) | Err(std::io::ErrorKind::ConnectionReset)), "{ended:?}");
    }
}
