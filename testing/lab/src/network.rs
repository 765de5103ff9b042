//! Two hosts and the path between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};

use super::ethtool;
use super::forwarder::Forwarder;
use super::namespace::{self, Namespace};
use super::port::Port;

/// The interface of each host.
pub const INTERFACE: &str = "eth0";

/// What joins the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ethernet: a veth pair on each side.
    Veth,
    /// No link header: a TUN device on each side.
    Tun,
}

/// Whether hosts hand down super-segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// TCP segmentation and checksums are left to the device, as usual.
    On,
    /// One segment a frame: what the forwarder loses or reorders is then one segment, as on a wire.
    Off,
}

/// One end of the path.
#[derive(Debug)]
pub struct Host {
    /// Where its processes and sockets live.
    pub namespace: Namespace,
    /// Its first IPv4 address.
    pub v4: Ipv4Addr,
    /// Its first IPv6 address.
    pub v6: Ipv6Addr,
}

impl Host {
    /// The namespace of lab `number`'s host, and the addresses that it is to have.
    pub(super) fn new(number: u32, letter: &str, last: u8) -> Result<Self> {
        let v4 = Ipv4Addr::from([10, 77, 0, last]);
        let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last.into());
        Ok(Self { namespace: Namespace::new(number, letter)?, v4, v6 })
    }

    /// The address of the same family as `of`.
    #[must_use]
    pub fn address_like(&self, of: IpAddr) -> IpAddr {
        if of.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }

    /// Adds an IPv4 address to its interface.
    ///
    /// # Errors
    ///
    /// `ip` refuses it.
    pub fn add_address(&self, address: Ipv4Addr) -> Result<()> {
        self.namespace.ip(&format!("address add {address}/24 dev {INTERFACE}"))
    }

    /// Runs `inside` on a thread in this host's namespace. Sockets made there stay there.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        self.namespace.enter(inside)
    }
}

/// Two hosts and the path between them.
#[derive(Debug)]
pub struct Lab {
    // First, so that it stops before its namespaces go.
    path: Forwarder,
    /// Where the agent usually runs.
    pub a: Host,
    /// The far end.
    pub b: Host,
    // Held for its removal.
    _middle: Option<Namespace>,
}

impl Lab {
    /// Builds a lab without delay or faults.
    ///
    /// # Errors
    ///
    /// No root, no namespaces, no TUN; the command that failed.
    pub fn new(link: Link) -> Result<Self> {
        Self::with_offload(link, Offload::On)
    }

    /// Builds a lab whose hosts hand down super-segments, or not.
    ///
    /// # Errors
    ///
    /// As [`Lab::new`].
    pub fn with_offload(link: Link, offload: Offload) -> Result<Self> {
        namespace::sweep();
        let number = namespace::next_number();
        let (a, b) = (Host::new(number, "a", 1)?, Host::new(number, "b", 2)?);
        let (middle, ports) = match link {
            Link::Veth => {
                let middle = Namespace::new(number, "m")?;
                // A middle that speaks for itself (router solicitations, multicast reports) would be heard by the
                // hosts.
                middle.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
                for (end, host) in [("to-a", &a), ("to-b", &b)] {
                    middle.ip(&format!(
                        "link add name {end} type veth peer name {INTERFACE} netns {}\nlink set dev {end} up",
                        host.namespace.name()
                    ))?;
                }
                let ports = middle.enter(|| Ok::<_, anyhow::Error>([Port::packet("to-a")?, Port::packet("to-b")?]))?;
                (Some(middle), ports)
            }
            Link::Tun => {
                let ports = [
                    a.enter(|| Port::tun(INTERFACE)).context("host a")?,
                    b.enter(|| Port::tun(INTERFACE)).context("host b")?,
                ];
                (None, ports)
            }
        };
        for host in [&a, &b] {
            configure(host, offload)?;
        }
        if let Some(middle) = &middle {
            middle.keep_order("to-a", 0)?;
            middle.keep_order("to-b", 1)?;
            b.namespace.keep_order(INTERFACE, 1)?;
            // Host a receives as from a network card: single segments, merged and stamped when they are processed. A
            // veth end otherwise stamps a frame and queues it, and what captures by that stamp is milliseconds ahead of
            // the hooks.
            middle.enter(|| ethtool::tso_off("to-a"))?;
            a.enter(|| ethtool::gro_on(INTERFACE))?;
        }
        Ok(Self { path: Forwarder::start(ports)?, a, b, _middle: middle })
    }

    /// The path, to set its delay and faults.
    #[must_use]
    pub fn path(&self) -> &Forwarder {
        &self.path
    }
}

pub(super) fn configure(host: &Host, offload: Offload) -> Result<()> {
    // What a former connection learned must not shape the next.
    host.namespace.sysctl("net/ipv4/tcp_no_metrics_save", "1")?;
    // A tail loss probe is sent a few milliseconds after an acknowledgement fails to come. Here that is the forwarder's
    // processor being busy elsewhere, and a path without faults would seem to have one.
    host.namespace.sysctl("net/ipv4/tcp_early_retrans", "0")?;
    if offload == Offload::Off {
        host.namespace.ip(&format!("link set dev {INTERFACE} gso_max_segs 1"))?;
    }
    host.namespace.ip(&format!(
        "link set lo up\n\
         address add {}/24 dev {INTERFACE}\n\
         address add {}/64 dev {INTERFACE} nodad\n\
         link set {INTERFACE} up",
        host.v4, host.v6
    ))
}
