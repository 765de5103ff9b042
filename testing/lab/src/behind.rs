//! A third host, behind host a: what host a then forwards has a path of its own on either side.
//!
//! ```text
//! host c                       middle                     host a                 (the lab's path)   host b
//! 10.77.0.9 eth0 ──── to-c ─ forwarder ─ to-a ──── lan0 ─ bridge br0 ─ eth0 ─────────────────────── 10.77.0.2
//! 10.78.0.2 eth0 ──── to-c ─ forwarder ─ to-a ──── lan0 ─ router ───── eth0 ─────────────────────── 10.77.0.2
//! ```
//!
//! `lan0` is a veth end in host a without an address of its own where there is a bridge: what a container's host has.
//!
//! [`HostDelay`] puts such a path inside host a instead: between its sockets and its interface.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::network::configure;
use super::port::Port;
use super::{Forwarder, Host, INTERFACE, Lab, Namespace, Offload, ethtool, namespace};

/// Host a's interface towards the host behind it.
pub const INSIDE: &str = "lan0";

/// A host behind host a, and the path to it.
#[derive(Debug)]
pub struct Behind {
    // First, so that it stops before its namespaces go.
    path: Forwarder,
    /// Where its processes and sockets live.
    pub host: Host,
    // Held for its removal.
    _middle: Namespace,
}

impl Behind {
    /// A host on the same network as host b: host a is a bridge between the two.
    ///
    /// # Errors
    ///
    /// As [`Lab::new`].
    pub fn bridge(lab: &Lab) -> Result<Self> {
        let behind = Self::new(lab, Ipv4Addr::new(10, 77, 0, 9), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 9))?;
        let Host { namespace, v4, v6 } = &lab.a;
        namespace.ip(&format!(
            "link add br0 type bridge\n\
             link set {INTERFACE} master br0\n\
             link set {INSIDE} master br0\n\
             address flush dev {INTERFACE}\n\
             address add {v4}/24 dev br0\n\
             address add {v6}/64 dev br0 nodad\n\
             link set br0 up"
        ))?;
        Ok(behind)
    }

    /// A host on a network of its own: host a is the router between it and host b.
    ///
    /// # Errors
    ///
    /// As [`Lab::new`].
    pub fn router(lab: &Lab) -> Result<Self> {
        let behind = Self::new(lab, Ipv4Addr::new(10, 78, 0, 2), Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2))?;
        let Lab { a, b, .. } = lab;
        a.namespace.ip(&format!("address add 10.78.0.1/24 dev {INSIDE}\naddress add fd78::1/64 dev {INSIDE} nodad"))?;
        a.namespace.sysctl("net/ipv4/ip_forward", "1")?;
        a.namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        behind.host.namespace.ip("route add default via 10.78.0.1\nroute add default via fd78::1")?;
        b.namespace.ip(&format!("route add 10.78.0.0/24 via {}\nroute add fd78::/64 via {}", a.v4, a.v6))?;
        Ok(behind)
    }

    fn new(lab: &Lab, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<Self> {
        let number = namespace::next_number();
        let host = Host { namespace: Namespace::new(number, "c")?, v4, v6 };
        let (middle, path) = join(number, [("to-c", INTERFACE, &host.namespace), ("to-a", INSIDE, &lab.a.namespace)])?;
        configure(&host, Offload::On)?;
        lab.a.namespace.ip(&format!("link set {INSIDE} up"))?;
        host.namespace.keep_order(INTERFACE, 1)?;
        Ok(Self { path, host, _middle: middle })
    }

    /// The path between it and host a, to set its delay and faults; host a is its far end.
    #[must_use]
    pub fn path(&self) -> &Forwarder {
        &self.path
    }
}

/// What delays segments inside host a: they pass it between the sockets and the interface, each way.
#[derive(Debug)]
pub struct HostDelay {
    path: Forwarder,
    _middle: Namespace,
}

impl HostDelay {
    /// Host a's addresses move to an interface whose frames reach the old one only through the delay.
    ///
    /// # Errors
    ///
    /// As [`Lab::new`].
    pub fn new(lab: &Lab) -> Result<Self> {
        let Host { namespace, v4, v6 } = &lab.a;
        let number = namespace::next_number();
        let (middle, path) = join(number, [("to-s", "stack0", namespace), ("to-w", "wire0", namespace)])?;
        namespace.ip(&format!(
            "link add br0 type bridge\n\
             link set {INTERFACE} master br0\n\
             link set wire0 master br0\n\
             address flush dev {INTERFACE}\n\
             link set br0 up\n\
             link set wire0 up\n\
             address add {v4}/24 dev stack0\n\
             address add {v6}/64 dev stack0 nodad\n\
             link set stack0 up"
        ))?;
        Ok(Self { path, _middle: middle })
    }

    /// To set how long segments take.
    #[must_use]
    pub fn path(&self) -> &Forwarder {
        &self.path
    }
}

/// Two interfaces joined by a path: the name of the path's end, that of the interface, and where it is to be.
fn join(number: u32, ends: [(&str, &str, &Namespace); 2]) -> Result<(Namespace, Forwarder)> {
    let middle = Namespace::new(number, "n")?;
    middle.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    for (cpu, (end, device, at)) in [1, 0].into_iter().zip(ends) {
        middle.ip(&format!(
            "link add name {end} type veth peer name {device} netns {}\nlink set dev {end} up",
            at.name()
        ))?;
        middle.keep_order(end, cpu)?;
        // They receive as from a network card.
        middle.enter(|| ethtool::tso_off(end))?;
        at.enter(|| ethtool::gro_on(device))?;
    }
    let [near, far] = ends.map(|(end, ..)| end);
    let ports = middle.enter(|| Ok::<_, anyhow::Error>([Port::packet(near)?, Port::packet(far)?]))?;
    Ok((middle, Forwarder::start(ports)?))
}
