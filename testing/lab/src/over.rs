//! The end of what threads do meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

/// Raises a flag when dropped, on a panic too: threads of a scope that run until then would otherwise be waited for,
/// for ever.
#[derive(Debug)]
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_panic_ends_what_runs_meanwhile() {
        let over = AtomicBool::new(false);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(1));
                    }
                });
                let _over = Over(&over);
                std::panic::resume_unwind(Box::new("as a broken pipe does"));
            });
        }));
        assert!(caught.is_err());
    }
}
