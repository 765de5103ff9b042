//! How long a connection to a port lasts.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// How long a connection to a port lives at most, however slowly its peer reads; and how long one that follows events
/// lives after the last of them that it took.
const LIFETIME: Duration = Duration::from_secs(30);

/// When a connection last took an event.
#[derive(Default)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// An event goes out. One that finds no room is not taken, so that who does not read is noticed.
    pub(super) fn taken(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of a connection, or cuts it off.
pub(super) async fn limited(connection: impl Future, pace: &Pace) {
    within(LIFETIME, connection, pace).await;
}

async fn within(lifetime: Duration, connection: impl Future, pace: &Pace) {
    let mut connection = pin!(connection);
    let mut until = Instant::now() + lifetime;
    while timeout_at(until, &mut connection).await.is_err() {
        match pace.last().map(|last| last + lifetime).filter(|later| *later > until) {
            Some(later) => until = later,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_connection_ends_in_time_unless_events_are_taken() {
        let began = Instant::now();
        within(LIFETIME, std::future::pending::<()>(), &Pace::default()).await;
        assert!(began.elapsed() >= LIFETIME);

        let (began, pace) = (Instant::now(), Pace::default());
        let follows = async {
            for _ in 0..30 {
                tokio::time::sleep(LIFETIME / 10).await;
                pace.taken();
            }
            std::future::pending::<()>().await;
        };
        within(LIFETIME, follows, &pace).await;
        assert!(began.elapsed() >= 4 * LIFETIME, "{:?}", began.elapsed());

        // One that ends by itself is not waited for.
        within(Duration::MAX / 4, async {}, &Pace::default()).await;
    }
}
