//! Arguments of the command line that are read as the file's keys are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::init::{PROMETHEUS_PORT, SHORTEST_MS, WEB_PORT};
use super::kinds::{Listen, OrOff, SocketPath, Time, argument};

/// A time: seconds, or a number and its unit.
///
/// # Errors
///
/// The text is not a time, or is 0.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    argument::<Time<0>>(text)
}

/// A time between reports.
///
/// # Errors
///
/// As [`parse_time`]; and a time that is too short.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    argument::<Time<SHORTEST_MS>>(text)
}

/// An address and a port at which Prometheus scrapes.
///
/// # Errors
///
/// The text is not an address with a port; the error says what to write.
pub fn parse_prometheus_listen(text: &str) -> Result<SocketAddr, String> {
    argument::<Listen<PROMETHEUS_PORT>>(text)
}

/// An address and a port of the page for browsers.
///
/// # Errors
///
/// As [`parse_prometheus_listen`].
pub fn parse_web_address(text: &str) -> Result<SocketAddr, String> {
    argument::<Listen<WEB_PORT>>(text)
}

/// The same, or none for `off`.
///
/// # Errors
///
/// As [`parse_prometheus_listen`].
pub fn parse_web_listen(text: &str) -> Result<Option<SocketAddr>, String> {
    argument::<OrOff<Listen<WEB_PORT>>>(text)
}

/// The absolute path of a socket; none for `off`.
///
/// # Errors
///
/// The text is neither an absolute path nor `off`.
pub fn parse_status_socket(text: &str) -> Result<Option<PathBuf>, String> {
    argument::<OrOff<SocketPath>>(text)
}
