//! Interfaces that were deleted, as the kernel tells it (rtnetlink(7), `RTM_DELLINK`).
//!
//! One that was recreated at once may have the index of the one before, and nothing else shows that what hung on that
//! is gone.

use std::collections::BTreeSet;
use std::io;

use super::changes::Changes;

/// What was deleted since the last look.
#[derive(Debug, Default)]
pub(crate) struct Deleted {
    indices: BTreeSet<u32>,
    /// The kernel had more to tell than it could: any may be among them.
    overrun: bool,
}

impl Deleted {
    /// Whether the interface of this index may have been deleted.
    pub(crate) fn may_have(&self, ifindex: u32) -> bool {
        self.overrun || self.indices.contains(&ifindex)
    }
}

/// Listens from its making on.
pub(crate) struct Deletions(Changes);

impl Deletions {
    /// Listens in this thread's network namespace.
    ///
    /// # Errors
    ///
    /// The kernel has no socket for it.
    pub(crate) fn open() -> io::Result<Self> {
        Changes::open().map(Self)
    }

    /// What was deleted since the last call.
    pub(crate) fn take(&self) -> Deleted {
        let mut indices = BTreeSet::new();
        let overrun = self.0.take(|change| {
            if change.kind == libc::RTM_DELLINK {
                indices.insert(change.ifindex);
            }
        });
        Deleted { indices, overrun }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn an_interface_that_is_recreated_under_its_index_was_deleted_all_the_same() {
        let inside = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: no network namespace without root");
                return;
            }
            let ip = |words: &str| assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success());
            ip("link add a0 index 70 type veth peer name b0 index 71");
            let deletions = Deletions::open().unwrap();
            assert!(!deletions.take().may_have(70));
            ip("link delete a0");
            ip("link add a0 index 70 type veth peer name b0 index 71");
            let deleted = deletions.take();
            assert!(deleted.may_have(70) && deleted.may_have(71) && !deleted.may_have(1));
            assert!(!deletions.take().may_have(70), "told once");
        });
        inside.join().unwrap();
    }
}
