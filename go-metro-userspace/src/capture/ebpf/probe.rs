//! What this kernel, and this process in it, can do.

use std::path::Path;

use aya::maps::MapType;
use aya::programs::{SchedClassifier, TcAttachType};
use aya::sys::is_map_supported;
use go_metro_common::segment::Sides;

use super::classifier::{Classifier, is_refusal, kernel_is_at_least, missing_capability, with_sources};
use super::places;

/// One thing that the eBPF source needs or uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// Whether the source cannot do without it.
    pub required: bool,
    /// What is wrong and what to do, or what it is used for.
    pub detail: String,
}

/// Tries what the eBPF source needs, without attaching anything. The last entry, a complete load, is what counts.
pub fn probe() -> Vec<Feature> {
    let mut found = features();
    found.push(classifier());
    found
}

/// As [`probe`], but for the load, which takes the verifier a while.
pub fn features() -> Vec<Feature> {
    vec![bpf_syscall(), ring_buffer(), mapped_rings(), tcx(), btf(), tstamp_type()]
}

fn bpf_syscall() -> Feature {
    let (available, detail) = match is_map_supported(MapType::Array) {
        Ok(true) => (true, "allowed".to_owned()),
        Ok(false) => (false, "the kernel refuses even the simplest map; is CONFIG_BPF_SYSCALL set?".to_owned()),
        Err(error) if is_refusal(&error) => (false, missing_capability("use bpf(2)").to_string()),
        Err(error) => (false, with_sources(&error)),
    };
    Feature { name: "bpf(2)", available, required: true, detail }
}

fn ring_buffer() -> Feature {
    let (available, detail) = match is_map_supported(MapType::RingBuf) {
        Ok(true) => (true, "available".to_owned()),
        Ok(false) => (false, "needs Linux 5.8 or later; `backend: pcap` works without it".to_owned()),
        Err(error) if is_refusal(&error) => (false, missing_capability("create a ring buffer").to_string()),
        Err(error) => (false, with_sources(&error)),
    };
    Feature { name: "ring buffer", available, required: true, detail }
}

fn mapped_rings() -> Feature {
    let (available, detail) = match places::obstacle() {
        None => (true, "available: one ring per processor, without a lock".to_owned()),
        Some(reason) => (false, format!("{reason}; the kernel's ring buffer is used instead")),
    };
    Feature { name: "mapped rings", available, required: false, detail }
}

fn tcx() -> Feature {
    let (available, detail) = match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => (true, "available: nothing is left behind, however the process ends".to_owned()),
        // The query itself is allowed; looking at somebody else's program is not.
        Err(error) if is_refusal(&error) && kernel_is_at_least(6, 6) => (true, "the kernel is new enough".to_owned()),
        Err(_) => (false, "needs Linux 6.6 or later; clsact and a filter are used instead".to_owned()),
    };
    Feature { name: "TCX", available, required: false, detail }
}

fn btf() -> Feature {
    let available = Path::new("/sys/kernel/btf/vmlinux").exists();
    let detail = if available { "available" } else { "not available, and not needed; tools show less of the program" };
    Feature { name: "BTF", available, required: false, detail: detail.to_owned() }
}

fn tstamp_type() -> Feature {
    let available = kernel_is_at_least(5, 18);
    let detail = if available {
        "available: departure times set by pacing are recognised reliably"
    } else {
        "needs Linux 5.18 or later; departure times set by pacing are recognised by plausibility"
    };
    Feature { name: "tstamp_type", available, required: false, detail: detail.to_owned() }
}

fn classifier() -> Feature {
    let (available, detail) = match Classifier::load(0, Sides::REMOTE) {
        Ok(_) => (true, "the verifier accepts it".to_owned()),
        Err(error) => (false, error.to_string()),
    };
    Feature { name: "classifier", available, required: true, detail }
}
