//! The kernel's own round-trip times of this host's sockets, asked for once a report and never on the capture thread.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use go_metro_rtt::{Grouping, Interval, PairKey};

use super::waiting::beside;
use crate::metrics::pair::KernelRtt;
use crate::netlink::sockets;
use crate::output::naming::{KernelTimes, anywhere, pairs_of_socket};

/// A socket counts if it was in use this much before the interval too: the question comes a little after its end.
const SLACK: Duration = Duration::from_secs(1);

/// Longest wait for the kernel; a report does without what comes later.
const PATIENCE: Duration = Duration::from_secs(1);

/// The times of the sockets that make this interval's pairs and were in use in it; none if the kernel does not answer,
/// which is said once.
pub(super) async fn times(interval: &Interval, span: Duration, grouping: Option<Grouping>) -> KernelTimes {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let wanted: HashSet<PairKey> = interval.pairs.iter().map(|(key, _)| anywhere(key)).collect();
    if wanted.is_empty() {
        return KernelTimes::new();
    }
    // A host may have a hundred thousand sockets.
    let asked = beside("sockets", move || ask(&wanted, span.saturating_add(SLACK), grouping.as_ref()));
    let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| io::ErrorKind::TimedOut.into());
    answer.and_then(|asked| asked?).unwrap_or_else(|error| {
        if !WARNED.swap(true, Ordering::Relaxed) {
            tracing::warn!("no kernel RTT: cannot list the kernel's sockets (sock_diag(7)): {error}");
        }
        KernelTimes::new()
    })
}

fn ask(wanted: &HashSet<PairKey>, span: Duration, grouping: Option<&Grouping>) -> io::Result<KernelTimes> {
    let mut times = KernelTimes::new();
    sockets::connections(&mut |socket| {
        if socket.idle > span {
            return;
        }
        for pair in pairs_of_socket(socket.local, socket.remote, grouping).filter(|pair| wanted.contains(pair)) {
            let its = KernelRtt::of(socket.srtt, socket.min);
            times.entry(pair).and_modify(|all| all.merge(&its)).or_insert(its);
        }
    })?;
    Ok(times)
}
