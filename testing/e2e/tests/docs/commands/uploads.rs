//! Where the pages' commands send dashboards, in place of Datadog's and Grafana's own servers, which cannot be had
//! here: it takes what they document, with the keys that they want, and only the very file.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;
use testing_lab::Host;

use super::super::support::json;

/// What a user has set.
pub(super) const ENVIRONMENT: [(&str, &str); 4] = [
    ("DD_API", "http://127.0.0.1:3000"),
    ("DD_API_KEY", "an-api-key"),
    ("DD_APP_KEY", "an-application-key"),
    ("GRAFANA", "http://admin:secret@127.0.0.1:3000"),
];

/// Listens on port 3000 of a host's loopback for as long as the test lasts.
pub(super) fn listen(host: &Host) {
    let listener = host.enter(|| TcpListener::bind(("127.0.0.1", 3000)).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is its own affair.
            let _ = answer(stream);
        }
    });
}

fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let head = head.to_ascii_lowercase();
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default();
    if head.contains("expect: 100-continue") {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_right = match head.split(' ').nth(1) {
        Some("/api/v1/dashboard") => {
            let has_keys = header("dd-api-key") == "an-api-key" && header("dd-application-key") == "an-application-key";
            has_keys && body == json("packaging/datadog/assets/dashboards/go_metro.json")
        }
        Some("/api/dashboards/db") => {
            let is_known = header("authorization").starts_with("basic ");
            is_known && body["overwrite"] == true && body["dashboard"] == json("packaging/grafana/dashboard.json")
        }
        _ => false,
    };
    let status = if head.starts_with("post ") && is_right { "200 OK" } else { "400 Bad Request" };
    write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
