//! A filter of system calls (seccomp(2)): what is not listed here fails with EPERM, and the message of the caller
//! says so.
//!
//! A list of what is allowed, not of what is forbidden: it is complete by the end-to-end tests, which all run under it,
//! and in which a call that is missing ends the process.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use super::Sandbox;

/// Files, by name and by descriptor: configuration, log, /proc, name service.
const FILES: &[libc::c_long] = &[
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Sockets: statsd, scrapers, status, name service, netlink, packets, the service manager.
const SOCKETS: &[libc::c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
];

/// The families of sockets: Unix, IPv4, IPv6, netlink, and packets for libpcap.
const FAMILIES: [libc::c_int; 5] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// Commands of ioctl(2): what libraries ask of descriptors, what is asked of terminals and of interfaces. None of them
/// puts input into a terminal (`TIOCSTI`, `TIOCLINUX`) or changes a device; but `SIOCETHTOOL`, by which libpcap asks
/// for time stamps, can with CAP_NET_ADMIN.
const IOCTLS: &[libc::Ioctl] = &[
    libc::FIOCLEX,
    libc::FIONBIO,
    libc::FIONREAD,
    libc::TCGETS,
    libc::TCSETS,
    libc::TCSETSF,
    libc::TCSETSW,
    libc::TIOCGPGRP,
    libc::TIOCGWINSZ,
    libc::SIOCGIFADDR as libc::Ioctl,
    libc::SIOCGIFCONF as libc::Ioctl,
    libc::SIOCGIFFLAGS as libc::Ioctl,
    libc::SIOCGIFHWADDR as libc::Ioctl,
    libc::SIOCGIFINDEX as libc::Ioctl,
    libc::SIOCGIFMTU as libc::Ioctl,
    libc::SIOCGIFNAME as libc::Ioctl,
    libc::SIOCGIFNETMASK as libc::Ioctl,
    SIOCETHTOOL,
    SIOCGIWNAME,
    TCGETS2,
    TCSETS2,
    TCSETSW2,
    TCSETSF2,
];
/// include/uapi/linux/sockios.h, include/uapi/linux/wireless.h and include/uapi/asm-generic/ioctls.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const SIOCGIWNAME: libc::Ioctl = 0x8b01;
const TCGETS2: libc::Ioctl = 0x802c_542a_u32 as libc::Ioctl;
const TCSETS2: libc::Ioctl = 0x402c_542b;
const TCSETSW2: libc::Ioctl = 0x402c_542c;
const TCSETSF2: libc::Ioctl = 0x402c_542d;

/// Waiting and time.
const WAITING: &[libc::c_long] = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_restart_syscall,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
];

/// Memory, threads, signals, and what a process asks of itself.
const PROCESS: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Its way to signal a thread, of which the kernel takes the number alone.
#[cfg(target_env = "musl")]
const MUSL: &[libc::c_long] = &[libc::SYS_tkill];
/// glibc names the process too.
#[cfg(not(target_env = "musl"))]
const MUSL: &[libc::c_long] = &[];

/// The classifier: maps, programs, links.
const EBPF: &[libc::c_long] = &[libc::SYS_bpf];

/// What a thread has and a process of its own has not.
const THREAD: u64 = libc::CLONE_THREAD as u64;
/// Namespaces of its own, in which a thread would have all capabilities.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Older names of the same calls, which only this architecture has and its libraries still use.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_getdents,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_select,
    libc::SYS_setrlimit,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
/// renameat(2), by which glibc renames here (include/uapi/asm-generic/unistd.h).
#[cfg(target_arch = "aarch64")]
const OLDER: &[libc::c_long] = &[38];
/// Newer architectures have none.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLDER: &[libc::c_long] = &[];

/// Filters the system calls of all threads, by which of them are wanted. With `kill` one that is not allowed ends the
/// process.
///
/// # Errors
///
/// The kernel or the architecture has no such filters.
pub(super) fn restrict(sandbox: &Sandbox<'_>, kill: bool) -> io::Result<()> {
    let refuse = if kill { SeccompAction::KillProcess } else { SeccompAction::Errno(libc::EPERM.cast_unsigned()) };
    let programs = [without_clone3(), allowed(sandbox, refuse)];
    for program in programs {
        apply_filter_all_threads(&program.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    Ok(())
}

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

fn compiled(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()
}

/// A filter cannot look at the flags of clone3(2), which are in memory; told that there is none, libraries use
/// clone(2).
fn without_clone3() -> Result<BpfProgram, seccompiler::BackendError> {
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    compiled(Rules::from([(libc::SYS_clone3, Vec::new())]), SeccompAction::Allow, absent)
}

fn allowed(sandbox: &Sandbox<'_>, refuse: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
    let ebpf = if sandbox.may_use_bpf { EBPF } else { &[] };
    let sockets = if sandbox.may_use_sockets { SOCKETS } else { &[] };
    let whatever = [FILES, sockets, WAITING, PROCESS, MUSL, ebpf, OLDER].into_iter().flatten();
    let mut rules: Rules = whatever.map(|number| (*number, Vec::new())).collect();
    if sandbox.may_use_sockets {
        let families = FAMILIES.iter().map(|family| argument_is(0, SeccompCmpOp::Eq, family.cast_unsigned().into()));
        rules.insert(libc::SYS_socket, families.collect::<Result<_, _>>()?);
    }
    // The kernel takes the lower half alone.
    let ioctls = IOCTLS.iter().map(|command| argument_is(1, SeccompCmpOp::Eq, u64::from(*command as u32)));
    rules.insert(libc::SYS_ioctl, ioctls.collect::<Result<_, _>>()?);
    // What a tracer puts in the place of a call that it answers itself; there is no such call.
    rules.insert(u32::MAX.into(), Vec::new());
    // The other filter answers.
    rules.insert(libc::SYS_clone3, Vec::new());
    rules.insert(libc::SYS_clone, vec![argument_is(0, SeccompCmpOp::MaskedEq(THREAD | NAMESPACES), THREAD)?]);
    // Signals to its own threads.
    rules.insert(libc::SYS_tgkill, vec![argument_is(0, SeccompCmpOp::Eq, std::process::id().into())?]);
    compiled(rules, refuse, SeccompAction::Allow)
}

/// The argument of this number, from 0 and of 32 bits, compares so.
fn argument_is(number: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(number, SeccompCmpArgLen::Dword, how, value)?])
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

    use super::*;

    /// In a child, as a filter is for all threads, and for good; what the test says there is the test's.
    fn in_child(name: &str, test: impl FnOnce()) {
        const VARIABLE: &str = "GO_METRO_TEST_RESTRICTED";
        if std::env::var_os(VARIABLE).is_some() {
            test();
            return;
        }
        let name = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
        let arguments = ["--exact", &name, "--nocapture", "--test-threads=1"];
        let run = Command::new(std::env::current_exe().unwrap()).args(arguments).env(VARIABLE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&run.stderr));
    }

    const SANDBOX: Sandbox<'_> =
        Sandbox { wanted: true, writable: &[], readable: None, may_use_bpf: false, may_use_sockets: true };

    fn true_is_run() -> io::Result<Child> {
        Command::new("/bin/true").spawn()
    }

    #[test]
    fn what_is_listed_works_and_what_is_not_fails_in_all_threads() {
        in_child("what_is_listed_works_and_what_is_not_fails_in_all_threads", || {
            true_is_run().unwrap().wait().unwrap();
            let (go, wait) = std::sync::mpsc::channel();
            let elder = std::thread::spawn(move || {
                wait.recv().unwrap();
                nix::unistd::setsid()
            });
            nix::sys::prctl::set_no_new_privs().unwrap();
            restrict(&Sandbox { may_use_bpf: true, ..SANDBOX }, false).unwrap();
            std::fs::read("/proc/self/status").unwrap();
            assert_eq!(true_is_run().unwrap_err().raw_os_error(), Some(libc::EPERM));
            go.send(()).unwrap();
            assert_eq!(elder.join().unwrap(), Err(Errno::EPERM), "a thread that was there before");
            assert_eq!(std::thread::spawn(nix::unistd::setsid).join().unwrap(), Err(Errno::EPERM), "one after it");
        });
    }

    #[test]
    fn no_process_namespace_or_other_kind_of_socket_can_be_made() {
        in_child("no_process_namespace_or_other_kind_of_socket_can_be_made", || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            restrict(&SANDBOX, false).unwrap();
            // SAFETY: it fails; a child would end at once.
            match unsafe { nix::unistd::fork() } {
                Err(error) => assert_eq!(error, Errno::EPERM),
                Ok(nix::unistd::ForkResult::Child) => std::process::abort(),
                Ok(nix::unistd::ForkResult::Parent { .. }) => panic!("there is a child"),
            }
            assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM));
            let made = |family| socket(family, SockType::Stream, SockFlag::empty(), None).map(drop);
            assert_eq!(made(AddressFamily::Vsock), Err(Errno::EPERM));
            for family in [AddressFamily::Unix, AddressFamily::Inet, AddressFamily::Inet6] {
                assert_eq!(made(family), Ok(()));
            }
            let parent = nix::unistd::getppid();
            assert_eq!(nix::sys::signal::kill(parent, None), Err(Errno::EPERM));
            // SAFETY: numbers only.
            assert_eq!(unsafe { libc::syscall(libc::SYS_bpf, 0, 0, 0) }, -1);
            assert_eq!(Errno::last(), Errno::EPERM);
        });
    }

    #[test]
    fn no_mode_is_changed_nothing_typed_into_a_terminal_and_a_reader_has_no_socket() {
        in_child("no_mode_is_changed_nothing_typed_into_a_terminal_and_a_reader_has_no_socket", || {
            use std::os::fd::AsRawFd as _;
            use std::os::unix::fs::PermissionsExt as _;

            let file = tempfile::NamedTempFile::new().unwrap();
            let terminal = nix::pty::openpty(None, None).unwrap();
            let command = |command: libc::Ioctl| {
                let mut byte = [b'x'; 64];
                // SAFETY: whatever command it is, it is given more memory than it takes.
                Errno::result(unsafe { libc::ioctl(terminal.slave.as_raw_fd(), command, &raw mut byte) })
            };
            nix::sys::prctl::set_no_new_privs().unwrap();
            restrict(&Sandbox { may_use_sockets: false, ..SANDBOX }, false).unwrap();
            let mode = std::fs::Permissions::from_mode(0o4755);
            assert_eq!(file.as_file().set_permissions(mode.clone()).unwrap_err().raw_os_error(), Some(libc::EPERM));
            assert_eq!(std::fs::set_permissions(file.path(), mode).unwrap_err().raw_os_error(), Some(libc::EPERM));
            // fchmodat2(2), which libc does not name yet.
            // SAFETY: numbers, and a path that ends in a NUL.
            assert_eq!(unsafe { libc::syscall(452, libc::AT_FDCWD, c"/tmp".as_ptr(), 0o777, 0) }, -1);
            assert_eq!(Errno::last(), Errno::EPERM);
            assert!(command(libc::TIOCGWINSZ).is_ok() && command(libc::TCGETS).is_ok());
            for refused in [libc::TIOCSTI, libc::TIOCSETD, libc::TIOCSCTTY, 0x541c, 0x1269] {
                assert_eq!(command(refused), Err(Errno::EPERM), "{refused:#x}");
            }
            for family in [AddressFamily::Unix, AddressFamily::Inet, AddressFamily::Netlink] {
                assert_eq!(socket(family, SockType::Datagram, SockFlag::empty(), None).map(drop), Err(Errno::EPERM));
            }
        });
    }
}
