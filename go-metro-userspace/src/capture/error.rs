//! What can go wrong in a source, each with what to do about it.

use std::io;
use std::path::PathBuf;

use crate::privileges::remedy;

impl CaptureError {
    /// Whether missing privileges are the cause.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::MissingCapability { .. } | Self::LockedMemory { .. } | Self::Libpcap { .. })
    }
}

/// Why a source cannot be opened, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The process lacks a capability.
    #[error("not permitted to {action}: {lacking}; {}", remedy("cap_bpf,cap_net_admin,cap_perfmon"))]
    MissingCapability {
        /// What was refused.
        action: String,
        /// What is missing, or that nothing is.
        lacking: String,
    },
    /// The process may not lock enough memory, which kernels before 5.11 charge maps and programs to.
    #[error(
        "not permitted to {action}: this kernel charges it to RLIMIT_MEMLOCK, which is {limit} bytes; \
         raise it (ulimit -l unlimited, or LimitMEMLOCK=infinity in the service's unit)"
    )]
    LockedMemory {
        /// What was refused.
        action: String,
        /// The limit.
        limit: u64,
    },
    /// libpcap is not compiled in.
    #[error("this go-metro was built without libpcap (cargo feature `pcap`): use `backend: ebpf`, or another build")]
    WithoutLibpcap,
    /// The kernel cannot do it at all.
    #[error("the kernel has no {feature} ({needs}): use a newer kernel, or `backend: pcap`")]
    Unsupported {
        /// What is missing.
        feature: &'static str,
        /// Which kernels have it.
        needs: &'static str,
    },
    /// The kernel's verifier did not accept the classifier.
    #[error(
        "the kernel's verifier rejects the classifier ({program}): {source}; `backend: pcap` works without it. \
         Please report this with the kernel's version and the end of the verifier's log:\n{log_tail}"
    )]
    Rejected {
        /// Entry point.
        program: String,
        /// What the kernel returned.
        source: io::Error,
        /// The end of the verifier's log.
        log_tail: String,
    },
    /// The classifier's object or a map could not be loaded for another reason.
    #[error("cannot load the classifier: {0}")]
    Load(String),
    /// None of the interfaces exists.
    #[error("no such interface: {names}; `ip link` lists those that exist")]
    NoInterface {
        /// The names, joined.
        names: String,
    },
    /// The interface's link layer is one that the classifier cannot read.
    #[error(
        "interface {name} has link type {link_type}, which the classifier does not support: \
         use `backend: pcap`, or name the device below or above it"
    )]
    UnknownLink {
        /// Name of the interface.
        name: String,
        /// ARPHRD_* of include/uapi/linux/if_arp.h.
        link_type: u16,
    },
    /// The interface's name is not text, and attaching goes by names.
    #[error("the name of interface {name} (index {ifindex}) is not UTF-8: rename it")]
    NameIsNoText {
        /// Its name, escaped.
        name: String,
        /// Its index.
        ifindex: u32,
    },
    /// The classifier could not be attached to an interface.
    #[error("cannot attach the classifier to {hook} of {name}: {reason}")]
    Attach {
        /// Name of the interface.
        name: String,
        /// `ingress` or `egress`.
        hook: &'static str,
        /// What the kernel returned.
        reason: String,
    },
    /// More targets than the tries hold.
    #[error(
        "{wanted} targets are more than the classifier's limit of {limit} per address family: configure prefixes \
         instead of addresses"
    )]
    TooManyTargets {
        /// Prefixes times interfaces, of one family.
        wanted: usize,
        /// What the trie holds.
        limit: u32,
    },
    /// A map of the loaded classifier could not be read or written.
    #[error("cannot access the classifier's map {map}: {reason}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel returned.
        reason: String,
    },
    /// libpcap could not open or filter an interface.
    #[error("libpcap on {name}: {reason}; {}", remedy("cap_net_raw"))]
    Libpcap {
        /// Name of the interface.
        name: String,
        /// libpcap's words.
        reason: String,
    },
    /// libpcap's device `any` does not name the interface of a packet.
    #[error(
        "libpcap is older than 1.10 and cannot tell sent from received packets on {name}, the host's end of a \
         container's or virtual machine's link: use a newer libpcap or `backend: ebpf`, or set `host_end: false` if it \
         is not one"
    )]
    OldLibpcap {
        /// Name of the interface.
        name: String,
    },
    /// libpcap does not understand the configured filter.
    #[error("filter `{filter}`: {reason}; see pcap-filter(7)")]
    Filter {
        /// The filter.
        filter: String,
        /// libpcap's words.
        reason: String,
    },
    /// A capture file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system returned.
        source: io::Error,
    },
    /// A compressed file breaks before anything comes out.
    #[error("{}: {reason} before anything can be decompressed, so nothing can be read", path.display())]
    NothingComesOut {
        /// The file.
        path: PathBuf,
        /// How it breaks.
        reason: String,
    },
    /// A file is not what it should be.
    #[error("{} is not a capture file: {reason}", path.display())]
    NoCapture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// eBPF was forced, but only libpcap can do what the settings ask for.
    #[error("{reason}: use `backend: pcap`, or `auto`")]
    NeedsLibpcap {
        /// What the settings ask for.
        reason: String,
    },
    /// The kernel's list of processors, of which each has a share of the classifier's maps, cannot be read.
    #[error("cannot count the processors in /sys/devices/system/cpu: {0}; mount it: mount -t sysfs sysfs /sys")]
    NoSysfs(io::Error),
    /// A system call failed that has no reason to.
    #[error("{call} failed: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// What it returned.
        source: io::Error,
    },
}
