//! Kernels and configurations that refuse eBPF, made for one process out of one that does not.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};

use testing_lab::agent::Agent;

/// `BPF_MAP_CREATE` and `BPF_MAP_TYPE_RINGBUF` of include/uapi/linux/bpf.h.
const MAP_CREATE: u64 = 0;
const RING_BUFFER: u32 = 27;
/// The number under which a process keeps the other end of its filter for us to fetch.
const LISTENER: libc::c_int = 200;

nix::ioctl_readwrite!(next_call, b'!', 0, libc::seccomp_notif);
nix::ioctl_readwrite!(answer_call, b'!', 1, libc::seccomp_notif_resp);

/// Has bpf(2) fail with this error in `command`: ENOSYS as in a kernel without CONFIG_BPF_SYSCALL, EPERM as under a
/// container's system call filter.
pub(super) fn bpf_fails(command: &mut Command, error: i32) {
    let filter = for_bpf(libc::SECCOMP_RET_ERRNO | error.cast_unsigned());
    // SAFETY: system calls only, which are async-signal-safe.
    unsafe { command.pre_exec(move || install(&filter, 0).map(drop)) };
}

/// Starts `command` on a kernel that has bpf(2) and no ring buffer, as before 5.8: the map type is unknown to it
/// (EINVAL).
///
/// # Errors
///
/// The command cannot be run, or its calls cannot be watched.
pub(super) fn without_ring_buffer(command: &mut Command) -> Result<Agent> {
    let filter = for_bpf(libc::SECCOMP_RET_USER_NOTIF);
    // SAFETY: system calls only, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            let listener = install(&filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
            // A copy that outlives exec.
            if libc::dup2(listener, LISTENER) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    let agent = Agent::spawn_command(command)?;
    let listener = fetch(agent.pid().as_raw(), LISTENER).context("cannot watch the agent's calls")?;
    // Ends with the process.
    thread::spawn(move || while decide(&listener).is_ok() {});
    Ok(agent)
}

/// A filter that gives bpf(2) this verdict, and lets everything else pass.
fn for_bpf(verdict: u32) -> [libc::sock_filter; 4] {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // The number of the system call is the first word of `struct seccomp_data`.
    [
        statement(load, 0),
        libc::sock_filter { code: equal, jt: 0, jf: 1, k: libc::SYS_bpf as u32 },
        statement(give, verdict),
        statement(give, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Installs a filter in this process; what seccomp(2) returns.
fn install(filter: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<libc::c_int> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program describes the slice, which the kernel copies.
    let result = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        } else {
            -1
        }
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

/// A copy of another process's descriptor (pidfd_getfd(2)).
fn fetch(pid: libc::pid_t, number: libc::c_int) -> io::Result<OwnedFd> {
    let owned = |result: libc::c_long| {
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(result as libc::c_int) })
    };
    // SAFETY: numbers only.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// Takes one call of bpf(2): one that makes a ring buffer fails, any other goes on.
fn decide(listener: &OwnedFd) -> io::Result<()> {
    // SAFETY: integers only, of which any may be zero.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: both describe what the kernel reads and writes (seccomp_unotify(2)).
    unsafe { next_call(listener.as_raw_fd(), &raw mut call) }?;
    let is_ring = call.data.args[0] == MAP_CREATE && {
        // The first word of the attributes is the type of the map.
        let mut word = [0; 4];
        File::open(format!("/proc/{}/mem", call.pid))?.read_exact_at(&mut word, call.data.args[1])?;
        u32::from_ne_bytes(word) == RING_BUFFER
    };
    let (error, flags) = if is_ring { (-libc::EINVAL, 0) } else { (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32) };
    let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
    // SAFETY: as above.
    unsafe { answer_call(listener.as_raw_fd(), &raw mut answer) }?;
    Ok(())
}
