//! Who is connected to a server: so many at once, and of one peer so many, so that none keeps the others out.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::logging::OnceInAWhile;

/// Connections at once, to each server.
const CONNECTIONS: usize = 64;
/// Connections at once of one peer: an IPv4 address, or an IPv6 prefix of 64 bits, which one host can have all of.
const OF_PEER: usize = 16;
/// Connections that were closed to make room, of all servers since the start: a reload opens new servers.
static CLOSED: AtomicU64 = AtomicU64::new(0);

/// How many connections were closed to make room for others. Every client can cause that, and nobody is kept out by it,
/// so it is a count and not a problem of the daemon's.
pub(in crate::daemon) fn closed() -> u64 {
    CLOSED.load(Ordering::Relaxed)
}

/// What counts as one peer.
pub(super) fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Who is connected, oldest first.
#[derive(Default)]
pub(super) struct Crowd {
    places: Mutex<Vec<Place>>,
    next: AtomicU64,
    /// That somebody was cut off.
    said: Mutex<OnceInAWhile>,
}

struct Place {
    id: u64,
    /// None where all have the same rights.
    of: Option<IpAddr>,
    task: AbortHandle,
}

impl Crowd {
    /// A connection's task has this place.
    pub(super) fn enter(&self, id: u64, of: Option<IpAddr>, task: AbortHandle) {
        self.lock().push(Place { id, of, task });
    }

    /// A connection is over.
    pub(super) fn leave(&self, id: u64) {
        self.lock().retain(|place| place.id != id);
    }

    /// Ends all connections.
    pub(super) fn cut_off_all(&self) {
        self.lock().drain(..).for_each(|place| place.task.abort());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether connections are to be closed after their answer.
    pub(super) fn is_crowded(&self) -> bool {
        self.lock().len() > CONNECTIONS / 2
    }

    /// Makes room for one more of this peer; the number of its place.
    pub(super) fn make_room(&self, of: Option<IpAddr>) -> u64 {
        let mut places = self.lock();
        let held = |peer: Option<IpAddr>| places.iter().filter(|place| place.of == peer).count();
        let crowds_out = if of.is_some() && held(of) >= OF_PEER {
            Some(of)
        } else if places.len() >= CONNECTIONS {
            places.iter().map(|place| place.of).max_by_key(|peer| held(*peer))
        } else {
            None
        };
        if let Some(peer) = crowds_out
            && let Some(oldest) = places.iter().position(|place| place.of == peer)
        {
            places.remove(oldest).task.abort();
            CLOSED.fetch_add(1, Ordering::Relaxed);
            if self.said.lock().unwrap_or_else(PoisonError::into_inner).may_say() {
                let whose = peer.map_or_else(|| "on the status socket".to_owned(), |peer| format!("from {peer}"));
                tracing::warn!("too many connections at once {whose}; closing the oldest");
            }
        }
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}
