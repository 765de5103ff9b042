//! The limit of open files: raised as far as this process may, and enough to start with.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a daemon with a few interfaces holds open, and as much again for look-ups.
const LEAST: u64 = 64;

/// Raises the soft limit to the hard one: every interface takes descriptors, and a host of containers has many.
///
/// # Errors
///
/// The hard limit is too low to start: the runtime would panic where an error can still be reported.
pub(super) fn raise_limit() -> io::Result<()> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    enough(if raised { hard } else { soft })
}

fn enough(limit: u64) -> io::Result<()> {
    if limit >= LEAST {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "Too many open files: the limit is {limit}, and at least {LEAST} are needed; raise it with \
         `ulimit -Hn {LEAST}` or LimitNOFILE= in the unit"
    )))
}
