//! What this process gives up, so that whoever takes it over by a hostile packet, answer or file gets little.
//!
//! Before any thread starts ([`confine`]): no program that it runs gains rights (`no_new_privs`), system calls that it has no use for fail
//! ([`syscalls`]), and files can be written in few folders only ([`files`]). Once the source is open ([`keep`]): all capabilities but those
//! that capturing goes on to need. Threads that look names up never have any ([`give_up_all`]).
//!
//! Each is a second line of defence: a kernel without it is a word in the log at level debug, never a failure.

mod files;
mod syscalls;

use std::path::PathBuf;

use aya::util::KernelVersion;
use caps::{CapSet, Capability, CapsHashSet};
use tracing::debug;

/// In the environment, and not empty: nothing is given up. For tracers and debuggers.
const UNCONFINED: &str = "GO_METRO_UNCONFINED";

/// What root keeps: the way to files of other users (the log, the configuration and the server's socket are opened anew by name), and
/// low ports to be scraped at.
const ROOTS: [Capability; 2] = [Capability::CAP_DAC_OVERRIDE, Capability::CAP_NET_BIND_SERVICE];

/// What goes on to be needed once a source is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// To attach to interfaces that come, and to change targets.
    Ebpf,
    /// To open interfaces that come.
    Libpcap,
}

impl Needs {
    /// The capabilities.
    fn capabilities(self, kernel: Option<KernelVersion>) -> &'static [Capability] {
        // Any use of bpf(2), a map's too, wanted CAP_BPF until commit c8644cd0efe7 of Linux 5.19.
        let bpf_for_maps = kernel.is_none_or(|version| version < KernelVersion::new(5, 19, 0));
        match self {
            Self::Ebpf if bpf_for_maps => &[Capability::CAP_NET_ADMIN, Capability::CAP_BPF],
            Self::Ebpf => &[Capability::CAP_NET_ADMIN],
            Self::Libpcap => &[Capability::CAP_NET_RAW],
        }
    }
}

/// Gives up, for this thread and all that it starts, what is not needed from the start on. Files can be written below these
/// folders only.
pub fn confine(writable: &[PathBuf]) {
    if is_unconfined() {
        return;
    }
    if let Err(error) = nix::sys::prctl::set_no_new_privs() {
        debug!(%error, "no_new_privs cannot be set");
    }
    match files::restrict(writable) {
        Ok(how) => debug!("Landlock: {how}"),
        Err(error) => debug!(%error, "no Landlock"),
    }
    // Last, as it forbids what comes before.
    match syscalls::restrict() {
        Ok(()) => debug!("system calls are filtered"),
        Err(error) => debug!(%error, "system calls are not filtered"),
    }
}

/// Gives up, for this thread and all that it starts from now on, every capability that `needs` does not have, for good.
pub fn keep(needs: Needs) {
    retain(needs.capabilities(KernelVersion::current().ok()));
}

/// Gives up every capability that this thread has.
pub fn give_up_all() {
    retain(&[]);
}

/// Those of these capabilities that this thread lacks. CAP_SYS_ADMIN stands for two of them (include/linux/capability.h, `bpf_capable` and
/// `perfmon_capable`).
#[must_use]
pub fn lacking(wanted: &[Capability]) -> Vec<Capability> {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    let stands_for = |capability: &Capability| {
        matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON)
            && effective.contains(&Capability::CAP_SYS_ADMIN)
    };
    wanted.iter().filter(|capability| !effective.contains(capability) && !stands_for(capability)).copied().collect()
}

fn retain(needed: &[Capability]) {
    if is_unconfined() {
        return;
    }
    let Ok(permitted) = caps::read(None, CapSet::Permitted) else { return };
    let stays = |capability: &Capability| needed.contains(capability) || ROOTS.contains(capability);
    let kept: CapsHashSet = permitted.into_iter().filter(stays).collect();
    // What is ambient must be inheritable, what is effective permitted.
    let given_up = caps::clear(None, CapSet::Ambient)
        .and_then(|()| caps::set(None, CapSet::Effective, &kept))
        .and_then(|()| caps::set(None, CapSet::Permitted, &kept))
        .and_then(|()| caps::clear(None, CapSet::Inheritable));
    match given_up {
        Ok(()) => debug!("capabilities kept: {}", names(&kept)),
        Err(error) => debug!(%error, "capabilities cannot be given up"),
    }
}

fn names(capabilities: &CapsHashSet) -> String {
    let mut names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn is_unconfined() -> bool {
    std::env::var_os(UNCONFINED).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cap_bpf_is_kept_only_where_maps_need_it() {
        let kept = |minor| Needs::Ebpf.capabilities(Some(KernelVersion::new(5, minor, 0)));
        assert!(kept(18).contains(&Capability::CAP_BPF));
        assert!(!kept(19).contains(&Capability::CAP_BPF));
        assert!(Needs::Ebpf.capabilities(None).contains(&Capability::CAP_BPF));
    }

    #[test]
    fn a_thread_that_gives_up_all_has_none_and_the_others_keep_theirs() {
        let effective = || caps::read(None, CapSet::Effective).unwrap();
        let before = effective();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                give_up_all();
                let left = effective();
                assert!(left.iter().all(|capability| ROOTS.contains(capability)), "{left:?}");
            });
        });
        assert_eq!(effective(), before);
    }
}
