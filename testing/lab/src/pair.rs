//! Two hosts and nothing between them: for what is to go as fast as the machine lets it.

use anyhow::Result;

use super::network::configure;
use super::{Host, INTERFACE, Offload, namespace};

/// Two hosts joined by a veth pair, each with the other's end as its [`INTERFACE`].
#[derive(Debug)]
pub struct Pair {
    /// 10.77.0.1 and fd77::1.
    pub a: Host,
    /// 10.77.0.2 and fd77::2.
    pub b: Host,
}

impl Pair {
    /// Joins two hosts.
    ///
    /// # Errors
    ///
    /// No root, no namespaces; the command that failed.
    pub fn new() -> Result<Self> {
        namespace::sweep();
        let number = namespace::next_number();
        let pair = Self { a: Host::new(number, "a", 1)?, b: Host::new(number, "b", 2)? };
        pair.a.namespace.ip(&format!(
            "link add name {INTERFACE} type veth peer name {INTERFACE} netns {}",
            pair.b.namespace.name()
        ))?;
        for host in [&pair.a, &pair.b] {
            configure(host, Offload::On)?;
        }
        Ok(pair)
    }
}
