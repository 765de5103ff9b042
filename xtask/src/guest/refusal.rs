//! Kernels and configurations that refuse eBPF, made for one process out of one that does not.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Has bpf(2) fail with this error in `command`: ENOSYS as in a kernel without CONFIG_BPF_SYSCALL, EPERM as under a
/// container's system call filter.
pub(super) fn bpf_fails(command: &mut Command, error: i32) {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // The number of the system call is the first word of `struct seccomp_data`.
    let filter = [
        statement(load, 0),
        libc::sock_filter { code: equal, jt: 0, jf: 1, k: libc::SYS_bpf as u32 },
        statement(give, libc::SECCOMP_RET_ERRNO | error.cast_unsigned()),
        statement(give, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: system calls only, which are async-signal-safe; the filter is owned by the closure.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}
