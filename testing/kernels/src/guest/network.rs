//! Two hosts in one kernel, joined by a veth pair; what the far one sends is delayed by netem.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use testing_lab::{Host, INTERFACE, Namespace};

/// Number of the only lab here.
const NUMBER: u32 = 0;

/// Host a, where the agent runs, and host b.
pub(super) struct Network {
    pub(super) a: Host,
    pub(super) b: Host,
}

impl Network {
    /// Makes both hosts, with this round-trip time between them.
    ///
    /// # Errors
    ///
    /// The kernel lacks veth or netem.
    pub(super) fn new(rtt: Duration) -> Result<Self> {
        let host = |letter, last: u16| -> Result<Host> {
            let v4 = Ipv4Addr::from([10, 77, 0, last.to_be_bytes()[1]]);
            let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last);
            Ok(Host { namespace: Namespace::new(NUMBER, letter)?, v4, v6 })
        };
        let network = Self { a: host("a", 1)?, b: host("b", 2)? };
        network.join(rtt)?;
        Ok(network)
    }

    /// Takes the pair away and puts a new one in its place.
    ///
    /// # Errors
    ///
    /// As [`Network::new`].
    pub(super) fn rejoin(&self, rtt: Duration) -> Result<()> {
        self.a.namespace.ip(&format!("link delete {INTERFACE}"))?;
        self.join(rtt)
    }

    fn join(&self, rtt: Duration) -> Result<()> {
        self.a.namespace.ip(&format!(
            "link add name {INTERFACE} type veth peer name {INTERFACE} netns {}",
            self.b.namespace.name()
        ))?;
        for host in [&self.a, &self.b] {
            host.namespace.ip(&format!(
                "link set lo up\n\
                 address add {}/24 dev {INTERFACE}\n\
                 address add {}/64 dev {INTERFACE} nodad\n\
                 link set {INTERFACE} up",
                host.v4, host.v6
            ))?;
        }
        let delay = format!("qdisc add dev {INTERFACE} root netem delay {}us limit 10000", rtt.as_micros());
        tc(&self.b, &delay).map(drop)
    }
}

/// Runs `tc` on a host; what it prints.
///
/// # Errors
///
/// What `tc` says.
pub(super) fn tc(host: &Host, words: &str) -> Result<String> {
    let output = Command::new("tc").args(["-n", host.namespace.name()]).args(words.split(' ')).output()?;
    if !output.status.success() {
        bail!("`tc {words}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
