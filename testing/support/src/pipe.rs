//! A reader of the output that goes away: `cargo xtask demo | head`.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::process;

/// The exit status of what SIGPIPE ended, as shells have it.
const BROKEN_PIPE: i32 = 141;

/// Does the work; where nobody reads on, everything it made is dropped as on any other panic, and the process ends
/// without a word.
pub fn end_quietly<T>(work: impl FnOnce() -> T) -> T {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_broken_pipe(panic.payload()) {
            usual(panic);
        }
    }));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        if is_broken_pipe(&*payload) {
            process::exit(BROKEN_PIPE);
        }
        panic::resume_unwind(payload)
    })
}

/// Whether this is what `println!` says of it; it has no other way to report an error.
fn is_broken_pipe(payload: &(dyn Any + Send)) -> bool {
    let said = payload.downcast_ref::<String>();
    said.is_some_and(|said| said.starts_with("failed printing to std") && said.contains("Broken pipe"))
}
