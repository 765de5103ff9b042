//! Complaints that may come with every report, and are logged now and then.

use std::time::{Duration, Instant};

/// When a complaint was last made, and how often it may be.
#[derive(Debug)]
pub(crate) struct OnceInAWhile {
    every: Duration,
    last: Option<Instant>,
}

impl OnceInAWhile {
    /// A complaint that was not made yet, and is made no more often than this.
    pub(crate) const fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Whether to complain now, which counts as done.
    pub(crate) fn may_say(&mut self) -> bool {
        let may = self.last.is_none_or(|at| at.elapsed() >= self.every);
        if may {
            self.last = Some(Instant::now());
        }
        may
    }
}

impl Default for OnceInAWhile {
    /// Once a minute.
    fn default() -> Self {
        Self::new(Duration::from_secs(60))
    }
}
