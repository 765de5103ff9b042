//! Waiting for what is due at once.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what is due at once. It bounds a failure; a busy machine may need much of it.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits until a condition holds that nothing announces.
///
/// # Panics
///
/// It does not hold within `limit`.
pub fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
