//! What the daemon's loop waits for, each of which may not be there.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::{privileges, threads};

/// Ticks whose first comes after `period`; late ones are skipped.
pub(super) fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Runs what blocks on a thread of its own, without capabilities.
pub(super) async fn beside<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (reply, answer) = oneshot::channel();
    threads::spawn(name, move || {
        privileges::give_up_all();
        // Nobody waits for it any more, perhaps.
        let _ = reply.send(work());
    })?;
    answer.await.map_err(io::Error::other)
}

/// What was asked for, `None` if it will not come; never if nothing was.
pub(super) async fn answer<T>(asked: &mut Option<oneshot::Receiver<T>>) -> Option<T> {
    match asked {
        Some(asked) => asked.await.ok(),
        None => std::future::pending().await,
    }
}

/// The next tick; never if there are none.
pub(super) async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever if there is no such time.
pub(super) async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
