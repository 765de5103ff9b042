//! One of `instances`: an interface, and what to watch on it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::declaration::{Section as _, settings};
use super::host::{EVERYTHING, host_name, network, with_port};
use super::kinds::{
    AutoOr, HostName, Interface, List, NO_TIME, Network, Optional, PathOrNothing, Span, Text, YesNo, argument,
};
use super::section::Reader;

/// Pseudo-interface of an instance that reads a capture file.
const FILE: &str = "file";

/// Sampling: on for a while, off for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// How long segments are looked at.
    pub on: Duration,
    /// How long they are not.
    pub off: Duration,
}

settings! {
    /// What to watch on one interface.
    pub struct Instance {
        /// Interfaces to watch, now and as they come and go: a name; a pattern (eth*, veth*, cali*; also ? and
        /// `[abc]`); `default`, those of the default routes; `all`, all but loopback; or `any`, libpcap's device for
        /// all. Alternative names (`ip link property`) work too. If an interface belongs to several instances, each
        /// sample counts once, with the tags of the instance that has its name, else `default`, else a pattern, else
        /// `all`; among equals, of the first.
        pub interface: Interface = String::new(),
            example "eth0",
            elsewhere ["iface", "device", "dev", "nic"],
            on_reload Apply;

        /// Remote addresses and prefixes, IPv4 and IPv6. ["0.0.0.0/0", "::/0"] means everything.
        pub ips: List<Network> = Vec::new(),
            example ["10.0.0.0/8", "2001:db8::/32"],
            elsewhere ["targets", "target", "addresses", "address"],
            on_reload Apply;

        /// Names of remote hosts, looked up in the background and refreshed; the name becomes the `dst:` tag.
        pub hosts: List<HostName> = Vec::new(), example ["db.example.org"], elsewhere ["names"], on_reload Apply;

        /// Tags to add to this instance's metrics. On a container's link, `container_id:` or `pod_uid:` is added too.
        pub tags: List<Text> = Vec::new(), example ["env:prod"], on_reload Apply;

        /// Whether this interface is the host's end of a link to a container or virtual machine, where incoming
        /// segments come from the local end. auto: true for a veth or netkit whose other end is in another network
        /// namespace, or a tap in a bridge, if it has no address of its own; never for a bridge, bond, VLAN, macvlan,
        /// ipvlan or network card. Set `false` for a container's own veth whose address is on a bridge inside the
        /// container, and `true` for a bridge such as docker0 to make its containers the local ends.
        pub host_end: AutoOr = None, on_reload ReopenFlows;

        /// Measure in windows: on for sample_duration, off for sample_interval, and so on.
        sample: YesNo = false, on_reload Apply;

        /// With `sample`: how long a window lasts.
        sample_duration: Optional<Span> = None, example 10, on_reload Apply;

        /// With `sample`: the pause between two windows.
        sample_interval: Optional<Span> = None, example 50, on_reload Apply;

        /// With `interface: file`: the capture file to read instead of an interface; it is reported once.
        pub pcap: PathOrNothing = None, example "/tmp/capture.pcap", on_reload Apply;
    }
    derived {
        /// Sampling windows, if wanted.
        pub sampling: Option<Sampling> = None;
    }
}

impl Instance {
    /// Checks keys that depend on each other.
    fn check(&mut self, reader: &mut Reader<'_, '_>) {
        self.sampling = self.windows(reader);
        // A slip in a key is named by itself.
        if !reader.has("interface") && !reader.is_meant("interface") {
            reader.fault("`interface` is missing; name one that `ip link` lists");
        }
        let is_missing = ["ips", "hosts"].map(|key| {
            let is_empty = reader.value(key).is_none_or(|list| list.as_sequence().is_some_and(Vec::is_empty));
            is_empty && !reader.is_meant(key)
        });
        if is_missing == [true, true] {
            reader.fault("neither `ips` nor `hosts` names a target; `ips: [\"0.0.0.0/0\", \"::/0\"]` means everything");
        }
        if !self.interface.is_empty() && (self.interface == FILE) != self.pcap.is_some() {
            reader.fault("`interface: file` and `pcap: PATH` go together; one of them is missing");
        }
    }

    /// The sampling window, if it is switched on. Only then do its times matter, as in the original.
    fn windows(&self, reader: &mut Reader<'_, '_>) -> Option<Sampling> {
        if !self.sample {
            return None;
        }
        let times = [("sample_duration", self.sample_duration), ("sample_interval", self.sample_interval)];
        for (key, _) in times.iter().filter(|(_, time)| time.is_some_and(|time| time.is_zero())) {
            reader.fault_in(key, NO_TIME);
        }
        if !times.iter().all(|(key, _)| reader.has(key)) {
            let what = "`sample: true` needs `sample_duration` (seconds on) and `sample_interval` (seconds off)";
            reader.fault_at("sample", what);
        }
        Some(Sampling { on: self.sample_duration?, off: self.sample_interval? })
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
        let interface = argument::<Interface>(interface).map_err(|what| format!("--interface: {what}"))?;
        let mut instance = Self { interface, ..Self::defaults() };
        for target in targets {
            match (network(target), host_name(target), with_port(target)) {
                (Some(net), ..) => instance.ips.push(net),
                (None, Some(name), _) => instance.hosts.push(name),
                (None, None, Some(Ok((host, port)))) => {
                    return Err(format!("--target {target}: has a port; write --target {host} --port {port}"));
                }
                (None, None, Some(Err(what))) => return Err(format!("--target: {what}")),
                (None, None, None) => {
                    return Err(format!(
                        "--target {target}: neither an address, a prefix such as 10.0.0.0/8, nor a host name"
                    ));
                }
            }
        }
        if targets.is_empty() {
            instance.ips.extend(EVERYTHING.iter().filter_map(|net| network(net)));
        }
        Ok(instance)
    }
}
