//! Who is connected to a server: so many at once, and of one peer so many, so that none keeps the others out. What
//! makes room is what is missed least: a connection without a request, then one between two requests, which browsers
//! open again without anybody noticing, and only then one that follows events.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::logging::OnceInAWhile;

/// Connections at once, to each server.
const CONNECTIONS: usize = 64;
/// Connections at once of one peer: an IPv4 address, or an IPv6 prefix of 64 bits, which one host can have all of.
const OF_PEER: usize = 16;
/// How long a connection may take to make its first request before it counts as one that makes none. Browsers open
/// several at once, and the first must not make room for the next before its request is read.
const GRACE: Duration = Duration::from_secs(1);
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
    since: Instant,
    doing: Doing,
    task: AbortHandle,
}

/// What a connection is being used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing was requested yet.
    Nothing,
    /// An answer is being made.
    Asking,
    /// The last request was answered, though not all of the answer may have been read.
    Answered,
    /// An answer goes on until one of both ends hangs up, such as events.
    Following,
}

impl Place {
    /// Of a peer's connections, those with the lowest rank make room first, and of these the oldest.
    fn rank(&self, now: Instant) -> u8 {
        match self.doing {
            Doing::Nothing if now.duration_since(self.since) >= GRACE => 0,
            Doing::Answered => 1,
            Doing::Nothing => 2,
            Doing::Asking => 3,
            Doing::Following => 4,
        }
    }
}

impl Crowd {
    /// A connection's task has this place.
    pub(super) fn enter(&self, id: u64, of: Option<IpAddr>, task: AbortHandle) {
        self.lock().push(Place { id, of, since: Instant::now(), doing: Doing::Nothing, task });
    }

    /// A connection is used for this from now on.
    pub(super) fn turn(&self, id: u64, doing: Doing) {
        self.lock().iter_mut().filter(|place| place.id == id).for_each(|place| place.doing = doing);
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

    /// Whether a connection is to be closed after its answer: there are many, in all or of its peer.
    pub(super) fn is_crowded(&self, id: u64) -> bool {
        let places = self.lock();
        let of = places.iter().find(|place| place.id == id).and_then(|place| place.of);
        places.len() > CONNECTIONS / 2
            || of.is_some() && places.iter().filter(|place| place.of == of).count() > OF_PEER / 2
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
        let now = Instant::now();
        if let Some(peer) = crowds_out
            && let Some((least, _)) =
                places.iter().enumerate().filter(|(_, place)| place.of == peer).min_by_key(|(_, place)| place.rank(now))
        {
            places.remove(least).task.abort();
            CLOSED.fetch_add(1, Ordering::Relaxed);
            if self.said.lock().unwrap_or_else(PoisonError::into_inner).may_say() {
                let whose = peer.map_or_else(|| "on the status socket".to_owned(), |peer| format!("from {peer}"));
                tracing::warn!("too many connections at once {whose}; closing idle ones, then the oldest");
            }
        }
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::task::JoinHandle;

    use super::*;

    const PEER: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

    /// A connection that does this.
    fn connect(crowd: &Crowd, of: Option<IpAddr>, doing: Doing) -> JoinHandle<()> {
        let id = crowd.make_room(of);
        let task = tokio::spawn(std::future::pending());
        crowd.enter(id, of, task.abort_handle());
        crowd.turn(id, doing);
        task
    }

    /// The time for a first request passes.
    fn pass(crowd: &Crowd) {
        crowd.lock().iter_mut().for_each(|place| place.since -= GRACE);
    }

    /// Which of them were closed.
    async fn closed(connections: &[JoinHandle<()>]) -> Vec<usize> {
        tokio::task::yield_now().await;
        connections.iter().enumerate().filter(|(_, task)| task.is_finished()).map(|(at, _)| at).collect()
    }

    #[tokio::test]
    async fn what_follows_events_makes_room_last_and_then_the_oldest() {
        let crowd = Crowd::default();
        let first = [Doing::Following, Doing::Asking, Doing::Nothing, Doing::Answered, Doing::Nothing];
        let mut connections: Vec<_> = first.into_iter().map(|doing| connect(&crowd, PEER, doing)).collect();
        pass(&crowd);
        let more = (first.len()..OF_PEER).map(|_| connect(&crowd, PEER, Doing::Following));
        connections.extend(more.collect::<Vec<_>>());
        assert_eq!(closed(&connections).await, [0; 0]);
        // Others are asked for nothing.
        let other = connect(&crowd, Some(Ipv4Addr::new(10, 0, 0, 1).into()), Doing::Nothing);
        let mut expected = Vec::new();
        for next in [2, 4, 3, 1, 0, 5] {
            connections.push(connect(&crowd, PEER, Doing::Following));
            expected.push(next);
            expected.sort_unstable();
            assert_eq!(closed(&connections).await, expected);
        }
        assert!(!other.is_finished());
    }

    #[tokio::test]
    async fn connections_that_ask_nothing_close_no_stream_and_none_that_is_about_to_ask() {
        let crowd = Crowd::default();
        let streams: Vec<_> = (0..10).map(|_| connect(&crowd, PEER, Doing::Following)).collect();
        let idle: Vec<_> = (0..20).map(|_| connect(&crowd, PEER, Doing::Nothing)).collect();
        assert_eq!((closed(&streams).await, closed(&idle).await.len()), (vec![], 14));
        pass(&crowd);
        // Browsers open several at once.
        let opened: Vec<_> = (0..6).map(|_| connect(&crowd, PEER, Doing::Nothing)).collect();
        assert_eq!((closed(&streams).await, closed(&opened).await), (vec![], vec![]));
        assert_eq!(closed(&idle).await.len(), 20);
    }

    #[tokio::test]
    async fn one_peer_with_many_has_its_connections_closed_after_each_answer() {
        let crowd = Crowd::default();
        let held: Vec<_> = (0..OF_PEER / 2).map(|_| connect(&crowd, PEER, Doing::Answered)).collect();
        assert!(!crowd.is_crowded(0));
        let other = connect(&crowd, Some(Ipv4Addr::new(10, 0, 0, 1).into()), Doing::Answered);
        assert!(!crowd.is_crowded(0));
        let more = connect(&crowd, PEER, Doing::Answered);
        assert!(crowd.is_crowded(0) && !crowd.is_crowded(OF_PEER as u64 / 2));
        assert!(held.iter().chain([&other, &more]).all(|task| !task.is_finished()));
    }
}
