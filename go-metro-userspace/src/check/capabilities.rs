//! What this process may do (capabilities(7)), and which source that is enough for.

use super::{Finding, Status, finding};
use crate::config::Backend;
use crate::privileges;

/// Number (include/uapi/linux/capability.h), name, whether eBPF or else libpcap needs it, and what for.
const CAPABILITIES: [(u32, &str, Needs, &str); 4] = [
    (39, "CAP_BPF", Needs::Ebpf, "loading the classifier needs it"),
    (12, "CAP_NET_ADMIN", Needs::Ebpf, "attaching the classifier needs it"),
    (38, "CAP_PERFMON", Needs::Ebpf, "the verifier requires it of a program that reads packets in place"),
    (13, "CAP_NET_RAW", Needs::Pcap, "libpcap needs it"),
];
/// Stands for CAP_BPF and CAP_PERFMON (kernel/capability.c, `perfmon_capable`, `bpf_capable`).
const CAP_SYS_ADMIN: u32 = 21;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Ebpf,
    Pcap,
}

/// The effective set of this process (capget(2)).
pub(super) fn effective() -> u64 {
    let effective = caps::read(None, caps::CapSet::Effective).unwrap_or_default();
    effective.iter().fold(0, |all, capability| all | capability.bitmask())
}

/// Whether libpcap can capture with these capabilities, as far as it is built in.
pub(super) fn allow_pcap(effective: u64) -> bool {
    let has = |number: u32| effective & (1 << number) != 0;
    cfg!(feature = "pcap") && CAPABILITIES.iter().all(|(number, _, needs, _)| *needs != Needs::Pcap || has(*number))
}

/// A line for each capability. One fails that the wanted backend cannot do without.
pub(super) fn findings(effective: u64, backend: Backend) -> Vec<Finding> {
    let bit = |number: u32| effective & (1 << number) != 0;
    let has = |number: u32| bit(number) || (matches!(number, 38 | 39) && bit(CAP_SYS_ADMIN));
    let enough = |needs: Needs| CAPABILITIES.iter().filter(|(_, _, of, _)| *of == needs).all(|(n, ..)| has(*n));
    let (ebpf, pcap) = (enough(Needs::Ebpf), enough(Needs::Pcap));
    let mut lines: Vec<Finding> = CAPABILITIES
        .iter()
        .map(|(number, name, needs, why)| {
            let status = match (has(*number), needs, backend) {
                (true, ..) | (_, Needs::Ebpf, Backend::Pcap) | (_, Needs::Pcap, Backend::Ebpf) => Status::Ok,
                (false, Needs::Ebpf, Backend::Ebpf) | (false, Needs::Pcap, Backend::Pcap) => Status::Fail,
                (false, _, Backend::Auto) => Status::Warn,
            };
            match (has(*number), status) {
                (true, _) => finding(status, name, "present", None),
                (false, Status::Ok) => finding(status, name, "missing, and not needed with this `backend`", None),
                (false, _) => finding(status, name, format!("missing; {why}"), Some(fix(backend))),
            }
        })
        .collect();
    if backend == Backend::Auto && !ebpf && !pcap {
        lines.push(finding(Status::Fail, "privileges", "neither eBPF nor libpcap can capture", Some(fix(backend))));
    }
    lines
}

fn fix(backend: Backend) -> String {
    let needed = match backend {
        Backend::Auto => "cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon",
        Backend::Ebpf => "cap_bpf,cap_net_admin,cap_perfmon",
        Backend::Pcap => "cap_net_raw",
    };
    privileges::remedy(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(numbers: &[u32], backend: Backend) -> Vec<(String, Status)> {
        let effective = numbers.iter().fold(0, |set, number| set | 1 << number);
        findings(effective, backend).into_iter().map(|line| (line.subject, line.status)).collect()
    }

    fn failed(numbers: &[u32], backend: Backend) -> Vec<String> {
        let failed = statuses(numbers, backend).into_iter().filter(|(_, status)| *status == Status::Fail);
        failed.map(|(subject, _)| subject).collect()
    }

    #[test]
    fn either_source_is_enough_unless_one_is_forced() {
        let (ebpf, pcap) = ([39, 12, 38], [13]);
        assert!(failed(&ebpf, Backend::Auto).is_empty() && failed(&pcap, Backend::Auto).is_empty());
        assert!(failed(&ebpf, Backend::Ebpf).is_empty() && failed(&pcap, Backend::Pcap).is_empty());
        assert_eq!(failed(&ebpf, Backend::Pcap), ["CAP_NET_RAW"]);
        assert_eq!(failed(&pcap, Backend::Ebpf), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    }

    #[test]
    fn half_of_what_ebpf_needs_and_nothing_for_libpcap_is_a_failure() {
        assert_eq!(failed(&[39, 38], Backend::Auto), ["privileges"]);
        assert_eq!(failed(&[], Backend::Auto), ["privileges"]);
    }

    #[test]
    fn the_old_administrator_stands_for_the_new_capabilities() {
        assert!(failed(&[CAP_SYS_ADMIN, 12], Backend::Ebpf).is_empty());
    }

    #[test]
    fn the_remedy_is_a_command() {
        for (backend, needed) in [
            (Backend::Ebpf, "cap_bpf,cap_net_admin,cap_perfmon"),
            (Backend::Pcap, "cap_net_raw"),
            (Backend::Auto, "cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon"),
        ] {
            let fixes: Vec<String> = findings(0, backend).into_iter().filter_map(|line| line.fix).collect();
            let expected = format!("run as root, or: setcap {needed}+ep /");
            assert!(!fixes.is_empty() && fixes.iter().all(|fix| fix.starts_with(&expected)), "{fixes:?}");
        }
    }
}
