//! The environment of Datadog's own clients and of the service manager, honoured where the file is silent.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use super::declaration::Section as _;
use super::host::split_port;
use super::kinds::{server_host, socket_path};
use super::{Config, Environment, Origin, Statsd};

/// The DogStatsD server: the file's host and port, else `DD_DOGSTATSD_URL`, else `DD_AGENT_HOST` and
/// `DD_DOGSTATSD_PORT`, else the default. And what named the host, or else the port.
pub(super) fn statsd(
    file: (Option<&str>, Option<u16>),
    (default_host, default_port): (&str, u16),
    env: Environment<'_>,
) -> Result<(Statsd, Origin), String> {
    if file == (None, None)
        && let Some(url) = set(env, "DD_DOGSTATSD_URL")
    {
        return Ok((from_url(&url, default_port)?, Origin::Environment("DD_DOGSTATSD_URL")));
    }
    let (port, origin_of_port) = match (file.1, set(env, "DD_DOGSTATSD_PORT")) {
        (Some(port), _) => (port, Origin::File),
        (None, Some(text)) => (parse_port("DD_DOGSTATSD_PORT", &text)?, Origin::Environment("DD_DOGSTATSD_PORT")),
        (None, None) => (default_port, Origin::Default),
    };
    let (host, origin) = match (file.0, set(env, "DD_AGENT_HOST")) {
        (Some(host), _) => (host.to_owned(), Origin::File),
        (None, Some(text)) => (parse_host("DD_AGENT_HOST", &text)?, Origin::Environment("DD_AGENT_HOST")),
        (None, None) => (default_host.to_owned(), origin_of_port),
    };
    Ok((Statsd::Udp { host, port }, origin))
}

/// The log's file in the folder that the service manager has made for the service (`LogsDirectory=`, systemd.exec(5)),
/// if it has.
pub(super) fn log_file(env: Environment<'_>) -> Option<PathBuf> {
    folder(env, "LOGS_DIRECTORY").map(|folder| folder.join("go-metro.log"))
}

/// The folder for what outlives the process that the service manager has made for the service (`StateDirectory=`,
/// systemd.exec(5)), if it has.
pub(super) fn state_folder(env: Environment<'_>) -> Option<PathBuf> {
    folder(env, "STATE_DIRECTORY")
}

/// The first of the folders that a variable names; several are separated by colons.
fn folder(env: Environment<'_>, variable: &str) -> Option<PathBuf> {
    let folders = set(env, variable)?;
    folders.split(':').next().map(PathBuf::from)
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
            let (host, port) = split_port(rest);
            let port = port.map_or(Ok(default_port), |port| parse_port("DD_DOGSTATSD_URL", port))?;
            Ok(Statsd::Udp { host: parse_host("DD_DOGSTATSD_URL", host)?, port })
        }
        _ => Err(format!("DD_DOGSTATSD_URL is `{url}`; use udp://HOST:PORT, unix:///PATH or unixgram:///PATH")),
    }
}

fn parse_host(variable: &str, text: &str) -> Result<String, String> {
    server_host(text).map_err(|what| format!("{variable}: {what}"))
}

fn parse_port(variable: &str, text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{variable}: `{text}` is not a port; use 1 to 65535"))
}

/// Of Datadog's origin detection; the output reads it.
const EXTERNAL: &str = "DD_EXTERNAL_ENV";

/// A line for each variable of the configuration that is not UTF-8, and therefore counts as absent.
pub fn not_utf8(env: impl Fn(&str) -> Option<OsString>) -> Vec<String> {
    let declared = Config::KEYS.iter().flat_map(|key| key.environment.iter().copied());
    let variables: BTreeSet<&str> = declared.chain([EXTERNAL]).collect();
    let wrong = variables.into_iter().filter(|name| env(name).is_some_and(|value| value.to_str().is_none()));
    wrong.map(|name| format!("environment variable {name} is not UTF-8 and is ignored; set it to plain text")).collect()
}

/// A variable that is there and not empty.
fn set(env: Environment<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_variables_that_are_read_are_those_that_keys_declare_and_explain() {
        let asked = RefCell::new(BTreeSet::new());
        let read = |silent: &[&str]| {
            let env = |name: &str| {
                asked.borrow_mut().insert(name.to_owned());
                (!silent.contains(&name)).then(|| "udp://localhost".to_owned())
            };
            drop(Config::from_cli(&["lo".to_owned()], &[], &env));
        };
        read(&[]);
        read(&["DD_DOGSTATSD_URL", "DD_DOGSTATSD_PORT", "DD_AGENT_HOST"]);
        let keys = Config::KEYS.iter().flat_map(|key| [key].into_iter().chain(key.within));
        let declared = keys.flat_map(|key| key.environment.iter().map(|name| (*name).to_owned()));
        assert_eq!(asked.into_inner(), declared.collect());
        for key in Config::KEYS {
            for name in key.environment.iter().filter(|name| name.starts_with("DD_")) {
                assert!(key.text().contains(name), "{}: {name}", key.name);
            }
        }
    }
}
