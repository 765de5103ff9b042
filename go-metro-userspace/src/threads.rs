//! Threads: each has a name and a stack of a size that the environment does not choose (`RUST_MIN_STACK`). Signals
//! that ask the program to end are for the first thread, or for one that waits for them. Where there can be no more
//! threads (`pids.max`, `RLIMIT_NPROC`), nothing ends: who needs one does without, tries again, and `status` names it
//! until then.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle, Scope};

use crate::signals::Held;

/// What Rust's own threads have by default.
const STACK: usize = 2 << 20;

/// Names of threads that could not be started.
static MISSING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Starts a thread. A failure is remembered under its name until one of that name starts.
///
/// # Errors
///
/// There can be no more threads; the error says so.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let started = {
        let _held = Held::endings();
        builder(name).spawn(work)
    };
    let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    match started {
        Ok(thread) => {
            missing.remove(name);
            Ok(thread)
        }
        Err(error) => {
            missing.insert(name.to_owned());
            Err(io::Error::new(error.kind(), format!("no thread can be started ({name}): {error}; {HINT}")))
        }
    }
}

fn builder(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(STACK)
}

/// What to do where there are no threads.
const HINT: &str = "raise pids.max (TasksMax= of the unit) or `ulimit -u`";

/// As [`spawn`], with something for the thread to work on, which is given back if there is no thread.
///
/// # Errors
///
/// As [`spawn`].
pub(crate) fn spawn_with<S: Send + 'static>(
    name: &str,
    state: S,
    work: impl FnOnce(S) + Send + 'static,
) -> Result<(), (io::Error, S)> {
    handed(state, |take| spawn(name, move || take.recv().map(work)).map(drop))
}

/// As [`spawn_with`], for work that ends with `scope`.
///
/// # Errors
///
/// As [`spawn`].
pub(crate) fn spawn_within<'scope, S: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    state: S,
    work: impl FnOnce(S) + Send + 'scope,
) -> Result<(), (io::Error, S)> {
    handed(state, |take| {
        let _held = Held::endings();
        builder(name).spawn_scoped(scope, move || take.recv().map(work)).map(drop)
    })
}

/// Hands something to a thread that waits for it, or gives it back where there is none.
fn handed<S>(state: S, start: impl FnOnce(Receiver<S>) -> io::Result<()>) -> Result<(), (io::Error, S)> {
    let (give, take) = sync_channel(1);
    match start(take) {
        Ok(()) => {
            let _ = give.send(state);
            Ok(())
        }
        Err(error) => Err((error, state)),
    }
}

/// Forgets that there was no thread of this name: others do its work.
pub(crate) fn forgo(name: &str) {
    MISSING.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
}

/// Looks whether there can be threads again, if there could not; who waits for one notes that again if not.
pub(crate) fn look_again() {
    let is_missing = || !MISSING.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    if is_missing() && spawn("probe", || ()).is_ok() {
        MISSING.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Which threads are missing, for people; nothing if none is.
pub(crate) fn problem() -> Option<String> {
    let missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    let names: Vec<&str> = missing.iter().map(String::as_str).filter(|name| *name != "probe").collect();
    (!missing.is_empty()).then(|| format!("no thread can be started ({}): {HINT}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{SigSet, Signal};

    use super::*;

    #[test]
    fn a_thread_takes_no_signal_that_asks_to_end_and_the_one_that_starts_it_still_does() {
        let holds = || SigSet::thread_get_mask().unwrap().contains(Signal::SIGINT);
        assert!(spawn("quiet", holds).unwrap().join().unwrap());
        let (said, heard) = sync_channel(1);
        std::thread::scope(|scope| spawn_within(scope, "quiet", said, |said| said.send(holds()).unwrap()).unwrap());
        assert_eq!((heard.recv(), holds()), (Ok(true), false));
    }

    #[test]
    fn a_thread_gets_what_it_works_on_and_a_missing_one_is_named_until_it_starts() {
        let (said, heard) = sync_channel(1);
        spawn_with("works", 7, move |number| said.send(number + 1).unwrap()).unwrap();
        assert_eq!(heard.recv(), Ok(8));
        MISSING.lock().unwrap().insert("attach-test".to_owned());
        assert!(problem().unwrap().starts_with("no thread can be started (attach-test"));
        spawn("attach-test", || ()).unwrap().join().unwrap();
        assert_eq!(problem(), None);
    }
}
