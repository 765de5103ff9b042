//! Leaving hooks without waiting for it.
//!
//! The kernel detaches a program when the last descriptor of its link is closed, and waits a grace period of RCU for
//! each (`tcx_entry_sync` of include/net/tcx.h): 14 ms on a quiet machine, 20 s for a thousand interfaces, during which
//! a process that ends does not end. So the last descriptors are left on their way through a socket that nobody can
//! reach any more. The kernel collects that (unix(7), net/unix/garbage.c), since Linux 6.9 on a thread of its own,
//! which then waits in our stead.

use std::fs;
use std::io::{IoSlice, Result};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair};

/// Most descriptors in a message: `SCM_MAX_FD` of include/net/scm.h is 253.
const BATCH: usize = 250;

/// Holds every link that this process has; once it is dropped, and no descriptor of a link is left here, the kernel
/// lets go of them.
pub(super) struct Held {
    _ends: (OwnedFd, OwnedFd),
}

/// Takes hold of all links of this process.
///
/// # Errors
///
/// There is no socket to be had, or the links cannot be sent.
pub(super) fn hold_links() -> Result<Held> {
    let ends = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let (near, far) = &ends;
    let mut all = links()?;
    // In its own queue, so that nobody can read it once it is closed here.
    all.insert(0, far.as_raw_fd());
    for some in all.chunks(BATCH) {
        let rights = [ControlMessage::ScmRights(some)];
        sendmsg::<UnixAddr>(near.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::MSG_DONTWAIT, None)?;
    }
    Ok(Held { _ends: ends })
}

/// The descriptors that are links of BPF programs.
fn links() -> Result<Vec<RawFd>> {
    let is_link = |path: &std::path::Path| fs::read_link(path).is_ok_and(|to| to.as_os_str() == "anon_inode:bpf_link");
    let entries = fs::read_dir("/proc/self/fd")?.flatten();
    let found = entries.filter(|entry| is_link(&entry.path()));
    Ok(found.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}
