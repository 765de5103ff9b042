//! The environment of Datadog's own clients and of the service manager, honoured where the file is silent.

use std::path::{Path, PathBuf};

use super::values::server_host;
use super::{Environment, Origin, Statsd};

/// The DogStatsD server: the file's host and port, else `DD_DOGSTATSD_URL`, else `DD_AGENT_HOST` and `DD_DOGSTATSD_PORT`, else the
/// default. And who named the host.
pub(super) fn statsd(
    host: Option<String>,
    port: Option<u16>,
    env: Environment<'_>,
    (default_host, default_port): (&str, u16),
) -> Result<(Statsd, Origin), String> {
    if host.is_none()
        && port.is_none()
        && let Some(url) = set(env, "DD_DOGSTATSD_URL")
    {
        return Ok((from_url(&url, default_port)?, Origin::Environment("DD_DOGSTATSD_URL")));
    }
    let port = match (port, set(env, "DD_DOGSTATSD_PORT")) {
        (Some(port), _) => port,
        (None, Some(text)) => parse_port("DD_DOGSTATSD_PORT", &text)?,
        (None, None) => default_port,
    };
    let (host, origin) = match (host, set(env, "DD_AGENT_HOST")) {
        (Some(host), _) => (host, Origin::File),
        (None, Some(text)) => (parse_host("DD_AGENT_HOST", &text)?, Origin::Environment("DD_AGENT_HOST")),
        (None, None) => (default_host.to_owned(), Origin::Default),
    };
    Ok((Statsd::Udp { host, port }, origin))
}

/// The log's file where the configuration names none: in the folder that the service manager has made for the service
/// (`LogsDirectory=`, systemd.exec(5)), else the original's.
pub(super) fn log_file(env: Environment<'_>, default: &str) -> PathBuf {
    // Several folders stand with colons between them.
    let folders = set(env, "LOGS_DIRECTORY");
    let folder = folders.as_deref().and_then(|folders| folders.split(':').next());
    folder.map_or_else(|| PathBuf::from(default), |folder| Path::new(folder).join("go-metro.log"))
}

/// Tags that every metric gets, with their keys.
pub(super) fn tags(env: Environment<'_>) -> Vec<(&'static str, String)> {
    let pairs = [
        ("DD_ENV", "env"),
        ("DD_SERVICE", "service"),
        ("DD_VERSION", "version"),
        ("DD_ENTITY_ID", "dd.internal.entity_id"),
    ];
    let known = pairs.iter().filter_map(|(name, key)| set(env, name).map(|value| (*key, format!("{key}:{value}"))));
    known.collect()
}

/// `udp://host[:port]`, `unix:///path` or `unixgram:///path`.
fn from_url(url: &str, default_port: u16) -> Result<Statsd, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match scheme {
        "unix" | "unixgram" if rest.starts_with('/') => Ok(Statsd::Unix(PathBuf::from(rest))),
        "udp" => {
            // An IPv6 address stands in brackets (RFC 3986 section 3.2.2).
            let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((host, port)) => (host, port.strip_prefix(':')),
                None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
            };
            let port = port.map_or(Ok(default_port), |port| parse_port("DD_DOGSTATSD_URL", port))?;
            Ok(Statsd::Udp { host: parse_host("DD_DOGSTATSD_URL", host)?, port })
        }
        _ => Err(format!("DD_DOGSTATSD_URL is `{url}`; use udp://HOST:PORT, unix:///PATH or unixgram:///PATH")),
    }
}

fn parse_host(variable: &str, text: &str) -> Result<String, String> {
    server_host(text).ok_or_else(|| format!("{variable}: `{text}` is neither an address nor a host name"))
}

fn parse_port(variable: &str, text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{variable}: `{text}` is no port; use 1 to 65535"))
}

/// A variable that is there and not empty.
fn set(env: Environment<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}
