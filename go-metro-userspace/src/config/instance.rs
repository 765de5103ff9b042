//! One of `instances`: an interface, and what to watch on it.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::values::{HostName, Network, Seconds, YesNo, host_name, network};

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
    /// Name of the interface; `any` for all (libpcap only), `file` with `pcap`.
    pub interface: String,
    /// Capture file to read instead.
    pub pcap: Option<PathBuf>,
    /// Sampling windows, if wanted.
    pub sampling: Option<Sampling>,
    /// Remote addresses and prefixes.
    pub ips: Vec<IpNet>,
    /// Remote host names.
    pub hosts: Vec<String>,
    /// Tags of this instance's metrics.
    pub tags: Vec<String>,
}

/// An instance as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    interface: String,
    pcap: Option<PathBuf>,
    sample: Option<YesNo>,
    sample_duration: Option<Seconds>,
    sample_interval: Option<Seconds>,
    ips: Option<Vec<Network>>,
    hosts: Option<Vec<HostName>>,
    tags: Option<Vec<String>>,
}

impl TryFrom<Raw> for Instance {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let ips: Vec<IpNet> = raw.ips.unwrap_or_default().into_iter().map(|Network(net)| net).collect();
        let hosts: Vec<String> = raw.hosts.unwrap_or_default().into_iter().map(|HostName(name)| name).collect();
        if raw.interface.trim().is_empty() {
            return Err("`interface` is empty; name one that `ip link` lists".to_owned());
        }
        if ips.is_empty() && hosts.is_empty() {
            return Err("neither `ips` nor `hosts` names a target; `ips: [\"0.0.0.0/0\", \"::/0\"]` means everything"
                .to_owned());
        }
        if (raw.interface == FILE) != raw.pcap.is_some() {
            return Err("`interface: file` and `pcap: PATH` go together; one of them is missing".to_owned());
        }
        let sampling = match (raw.sample.is_some_and(|YesNo(yes)| yes), raw.sample_duration, raw.sample_interval) {
            (true, Some(Seconds(on)), Some(Seconds(off))) => Some(Sampling { on, off }),
            (true, ..) => {
                let what = "`sample: true` needs `sample_duration` (seconds on) and `sample_interval` (seconds off)";
                return Err(what.to_owned());
            }
            (false, ..) => None,
        };
        let tags = raw.tags.unwrap_or_default();
        Ok(Self { interface: raw.interface, pcap: raw.pcap, sampling, ips, hosts, tags })
    }
}

impl Instance {
    /// An instance from the command line; no target means everything.
    pub(super) fn of(interface: &str, targets: &[String]) -> Result<Self, String> {
        let mut instance = Self {
            interface: interface.to_owned(),
            pcap: None,
            sampling: None,
            ips: Vec::new(),
            hosts: Vec::new(),
            tags: Vec::new(),
        };
        for target in targets {
            match (network(target), host_name(target)) {
                (Some(net), _) => instance.ips.push(net),
                // A slip in an address would otherwise be looked up for ever.
                (None, Some(name)) if !target.chars().all(|c| c.is_ascii_digit() || c == '.') => {
                    instance.hosts.push(name);
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
