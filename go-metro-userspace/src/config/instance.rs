//! One of `instances`: an interface, and what to watch on it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::section::Section;
use super::selector::Selector;
use super::values::{AutoOr, HostName, Network, Span, Text, YesNo, host_name, network, with_port};
use ipnet::IpNet;

/// Pseudo-interface of an instance that reads a capture file.
pub(super) const FILE: &str = "file";

/// Sampling: on for a while, off for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// How long segments are looked at.
    pub on: Duration,
    /// How long they are not.
    pub off: Duration,
}

/// What to watch on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The interface, as a [`Selector`] parses it: a name, a pattern, `default` or `all`; `any` is libpcap's device of all, `file` goes
    /// with `pcap`.
    pub interface: String,
    /// Capture file to read instead.
    pub pcap: Option<PathBuf>,
    /// Whether the interface is this host's end of a container's or virtual machine's link; none to find out.
    pub host_end: Option<bool>,
    /// Sampling windows, if wanted.
    pub sampling: Option<Sampling>,
    /// Remote addresses and prefixes.
    pub ips: Vec<IpNet>,
    /// Remote host names.
    pub hosts: Vec<String>,
    /// Tags of this instance's metrics.
    pub tags: Vec<String>,
}

impl Instance {
    /// Reads one; none if something is wrong with it, which is noted.
    pub(super) fn read(mut section: Section<'_, '_, '_>) -> Option<Self> {
        let interface = interface(&mut section);
        let pcap: Option<PathBuf> = section.take("pcap");
        let instance = Self {
            interface: interface.clone().unwrap_or_default(),
            // The original took an empty one for none.
            pcap: pcap.filter(|path| !path.as_os_str().is_empty()),
            host_end: section.take("host_end").and_then(|AutoOr(host_end)| host_end),
            sampling: sampling(&mut section),
            ips: section.take_list("ips").into_iter().map(|Network(net)| net).collect(),
            hosts: section.take_list("hosts").into_iter().map(|HostName(name)| name).collect(),
            tags: section.take_list("tags").into_iter().map(|Text(tag)| tag).collect(),
        };
        // A slip in a key is named by itself.
        if !section.has("interface") && !section.is_meant("interface") {
            section.fault("`interface` is missing; name one that `ip link` lists");
        }
        if let Some(Err(hopeless)) = interface.as_deref().map(Selector::parse) {
            section.fault_in("interface", &hopeless.to_string());
        }
        let is_missing = ["ips", "hosts"].map(|key| is_empty_list(&mut section, key) && !section.is_meant(key));
        if is_missing == [true, true] {
            section
                .fault("neither `ips` nor `hosts` names a target; `ips: [\"0.0.0.0/0\", \"::/0\"]` means everything");
        }
        if interface.is_some_and(|interface| (interface == FILE) != instance.pcap.is_some()) {
            section.fault("`interface: file` and `pcap: PATH` go together; one of them is missing");
        }
        section.finish().then_some(instance)
    }

    /// What it reports of what: two instances that are alike in this are a slip.
    pub(super) fn essence(&self) -> impl Eq + std::hash::Hash + use<> {
        fn set<T: Ord + Clone>(list: &[T]) -> BTreeSet<T> {
            list.iter().cloned().collect()
        }
        (self.interface.clone(), self.pcap.clone(), set(&self.ips), set(&self.hosts), set(&self.tags))
    }

    /// An instance from the command line; no target means everything.
    pub(super) fn of(interface: &str, targets: &[String]) -> Result<Self, String> {
        Selector::parse(interface).map_err(|hopeless| format!("--interface: {hopeless}"))?;
        let mut instance = Self {
            interface: interface.to_owned(),
            pcap: None,
            host_end: None,
            sampling: None,
            ips: Vec::new(),
            hosts: Vec::new(),
            tags: Vec::new(),
        };
        for target in targets {
            match (network(target), host_name(target)) {
                (Some(net), _) => instance.ips.push(net),
                (None, Some(name)) => instance.hosts.push(name),
                _ if with_port(target).is_some() => {
                    let (host, port) = with_port(target).unwrap_or_default();
                    return Err(format!("--target {target}: has a port; write --target {host} --port {port}"));
                }
                _ => {
                    return Err(format!(
                        "--target {target}: neither an address, a prefix such as 10.0.0.0/8, nor a host name"
                    ));
                }
            }
        }
        if targets.is_empty() {
            instance.ips.extend(["0.0.0.0/0", "::/0"].iter().filter_map(|net| network(net)));
        }
        Ok(instance)
    }
}

/// The interface. A list is a slip that its users' next tool takes.
fn interface(section: &mut Section<'_, '_, '_>) -> Option<String> {
    if section.value("interface").is_some_and(serde_yaml::Value::is_sequence) {
        section.fault_in("interface", "takes one interface or a pattern such as `eth*`; write an instance for each");
        return None;
    }
    section.take("interface").map(|Text(name)| name)
}

/// Whether nothing is listed, right or wrong.
fn is_empty_list(section: &mut Section<'_, '_, '_>, key: &'static str) -> bool {
    section.value(key).is_none_or(|value| value.as_sequence().is_some_and(Vec::is_empty))
}

/// The sampling window, if it is switched on. Only then do its times matter, as in the original.
fn sampling(section: &mut Section<'_, '_, '_>) -> Option<Sampling> {
    let is_on = section.take("sample").is_some_and(|YesNo(yes)| yes);
    let [on, off] = ["sample_duration", "sample_interval"].map(|key| {
        let span = section.take(key).map(|Span(time)| time);
        if is_on && span.is_some_and(|time| time.is_zero()) {
            section.fault_in(key, "`0` is no time; use seconds above 0");
        }
        span
    });
    if is_on && !(section.has("sample_duration") && section.has("sample_interval")) {
        let what = "`sample: true` needs `sample_duration` (seconds on) and `sample_interval` (seconds off)";
        section.fault_at("sample", what);
    }
    is_on.then(|| on.zip(off)).flatten().map(|(on, off)| Sampling { on, off })
}
