//! A daemon that reports already what this one would report too.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::client;
use crate::config::{Config, split_port};
use crate::targets::resolver;

/// Longest wait for a name server before two names count as two servers.
const PATIENCE: Duration = Duration::from_secs(1);

/// The status socket of a daemon that lives, sees what this process would see, and reports to the DogStatsD server of
/// the configuration.
pub(crate) fn reporter(config: &Config) -> Option<PathBuf> {
    let socket = config.status_socket.as_ref()?;
    // One that does not answer, or not to us, is no reason to stay away.
    let living = client::status(socket).ok()?;
    if client::process(socket).ok().flatten().is_some_and(is_elsewhere) {
        return None;
    }
    let ours = config.statsd.to_string();
    let mut theirs = living.outputs.iter().filter(|output| output.kind == "statsd");
    theirs.any(|output| is_same(&ours, &output.destination)).then(|| socket.clone())
}

/// Whether a process is in another network namespace, where it sees other traffic.
fn is_elsewhere(pid: i32) -> bool {
    let namespace = |of: &str| std::fs::metadata(format!("/proc/{of}/ns/net")).map(|link| link.ino());
    matches!((namespace("self"), namespace(&pid.to_string())), (Ok(ours), Ok(theirs)) if ours != theirs)
}

/// Whether two destinations are one server, however it is written: `localhost`, `127.1` and `::ffff:127.0.0.1` are
/// `127.0.0.1`.
fn is_same(ours: &str, theirs: &str) -> bool {
    let (Some(one), Some(other)) = (ours.strip_prefix("udp://"), theirs.strip_prefix("udp://")) else {
        return ours == theirs;
    };
    one == other || !addresses(one).is_disjoint(&addresses(other))
}

/// The addresses of `HOST:PORT`; none if there is none soon. All of loopback is one: a server there listens on any of
/// them.
fn addresses(server: &str) -> BTreeSet<SocketAddr> {
    let (host, port) = split_port(server);
    let Some(answer) = port.and_then(|port| port.parse().ok()).and_then(|port| resolver::server(host, port).ok())
    else {
        return BTreeSet::new();
    };
    let canonical = |address: SocketAddr| match address.ip().to_canonical() {
        ip if ip.is_loopback() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        ip => SocketAddr::new(ip, address.port()),
    };
    answer.recv_timeout(PATIENCE).into_iter().flatten().flatten().map(canonical).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_the_same_however_it_is_written() {
        let local = "udp://127.0.0.1:8125";
        for same in ["udp://127.0.0.1:8125", "udp://localhost:8125", "udp://127.1:8125", "udp://[::ffff:7f00:1]:8125"] {
            assert!(is_same(same, local), "{same}");
        }
        for other in ["udp://127.0.0.1:8126", "udp://192.0.2.1:8125", "unix:///run/dsd.sock", "udp://no.invalid:8125"] {
            assert!(!is_same(other, local), "{other}");
        }
        assert!(is_same("unix:///run/dsd.sock", "unix:///run/dsd.sock"));
    }
}
