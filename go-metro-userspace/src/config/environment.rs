//! The environment of Datadog's own clients and of the service manager, honoured where the file is silent.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::values::{one_host, server_host, socket_path};
use super::{Environment, Origin, Statsd};

/// The DogStatsD server: the file's host and port, else `DD_DOGSTATSD_URL`, else `DD_AGENT_HOST` and `DD_DOGSTATSD_PORT`, else the
/// default. And who named the host, or else the port.
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
    let (port, origin_of_port) = match (port, set(env, "DD_DOGSTATSD_PORT")) {
        (Some(port), _) => (port, Origin::File),
        (None, Some(text)) => (parse_port("DD_DOGSTATSD_PORT", &text)?, Origin::Environment("DD_DOGSTATSD_PORT")),
        (None, None) => (default_port, Origin::Default),
    };
    let (host, origin) = match (host, set(env, "DD_AGENT_HOST")) {
        (Some(host), _) => (host, Origin::File),
        (None, Some(text)) => (parse_host("DD_AGENT_HOST", &text)?, Origin::Environment("DD_AGENT_HOST")),
        (None, None) => (default_host.to_owned(), origin_of_port),
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
        "unix" | "unixgram" if rest.starts_with('/') => {
            socket_path(rest).map(Statsd::Unix).map_err(|what| format!("DD_DOGSTATSD_URL: the path {what}"))
        }
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
    let host = server_host(text).ok_or_else(|| format!("`{text}` is neither an address nor a host name"));
    host.and_then(one_host).map_err(|what| format!("{variable}: {what}"))
}

fn parse_port(variable: &str, text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{variable}: `{text}` is no port; use 1 to 65535"))
}

/// What a configuration takes from the environment.
const VARIABLES: [&str; 9] = [
    "DD_DOGSTATSD_URL",
    "DD_AGENT_HOST",
    "DD_DOGSTATSD_PORT",
    "DD_ENV",
    "DD_SERVICE",
    "DD_VERSION",
    "DD_ENTITY_ID",
    "DD_EXTERNAL_ENV",
    "LOGS_DIRECTORY",
];

/// A line for each of these variables that is not UTF-8, and therefore as good as absent.
pub fn not_utf8(env: impl Fn(&str) -> Option<OsString>) -> Vec<String> {
    let wrong = VARIABLES.into_iter().filter(|name| env(name).is_some_and(|value| value.to_str().is_none()));
    wrong.map(|name| format!("the environment's {name} is not UTF-8 and is not used; set it to plain text")).collect()
}

/// A variable that is there and not empty.
fn set(env: Environment<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}
