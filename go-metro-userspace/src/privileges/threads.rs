//! What the threads of this process may do, as the kernel tells it (proc_pid_status(5)), whatever was meant to be given
//! up.

use std::fs;

use caps::Capability;

/// What at least one thread may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Capabilities that some thread has, by number.
    pub capabilities: Vec<Capability>,
    /// Whether no thread can gain any by running a program.
    pub no_new_privs: bool,
    /// Whether the system calls of all threads are filtered.
    pub seccomp: bool,
}

/// Of all threads together; none where /proc does not tell.
#[must_use]
pub(crate) fn of_all_threads() -> Option<Rights> {
    let tasks = fs::read_dir("/proc/self/task").ok()?.flatten();
    // One that has ended meanwhile does nothing any more.
    let statuses: Vec<String> = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).collect();
    Some(of(&statuses))
}

/// What cannot be told where /proc is not there.
#[must_use]
pub(crate) fn without_proc() -> Option<&'static str> {
    (!fs::exists("/proc/self/status").unwrap_or(false)).then_some(
        "/proc is not mounted, so privileges of threads, memory, containers, and interfaces on which nothing is seen \
         are unknown",
    )
}

fn of(statuses: &[String]) -> Rights {
    let field = |status: &str, name: &str| {
        status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
    };
    let all_have = |name: &str, value: &str| {
        !statuses.is_empty() && statuses.iter().all(|status| field(status, name).is_some_and(|is| is == value))
    };
    let permitted = statuses
        .iter()
        .filter_map(|status| u64::from_str_radix(&field(status, "CapPrm")?, 16).ok())
        .fold(0, |all, one| all | one);
    let mut capabilities: Vec<Capability> =
        caps::all().into_iter().filter(|capability| permitted & capability.bitmask() != 0).collect();
    capabilities.sort_by_key(Capability::index);
    // SECCOMP_MODE_FILTER.
    Rights { capabilities, no_new_privs: all_have("NoNewPrivs", "1"), seccomp: all_have("Seccomp", "2") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_may_do_more_is_enough_for_the_process() {
        let thread = |permitted: u64, confined: bool| {
            format!(
                "Name:\tx\nCapPrm:\t{permitted:016x}\nNoNewPrivs:\t{}\nSeccomp:\t{}\n",
                u8::from(confined),
                if confined { 2 } else { 0 }
            )
        };
        let good = of(&[thread(0, true), thread(1 << 12, true)]);
        let expected = Rights { capabilities: vec![Capability::CAP_NET_ADMIN], no_new_privs: true, seccomp: true };
        assert_eq!(good, expected);
        let bad = of(&[thread(1 << 12, true), thread(1 << 39, false)]);
        assert_eq!(bad.capabilities, [Capability::CAP_NET_ADMIN, Capability::CAP_BPF]);
        assert!(!bad.no_new_privs && !bad.seccomp);
        assert_eq!(of(&[]), Rights::default());
    }
}
