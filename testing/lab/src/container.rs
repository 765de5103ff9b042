//! Containers on host a, as a runtime makes them: a namespace with a process in it, a veth pair, a bridge, a control
//! group.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{self, Child, Stdio};

use anyhow::{Context as _, Result};

use super::{Host, INTERFACE, Lab, Namespace, namespace};

/// The bridge that joins host a's containers, and its address there.
const BRIDGE: &str = "pods0";
/// Host a's address on it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);

/// Makes the bridge that containers need.
///
/// # Errors
///
/// `ip` refuses it.
pub fn bridge(lab: &Lab) -> Result<()> {
    lab.a
        .namespace
        .ip(&format!("link add {BRIDGE} type bridge\naddress add {GATEWAY}/24 dev {BRIDGE}\nlink set {BRIDGE} up"))
}

/// A container; gone when dropped.
#[derive(Debug)]
pub struct Container {
    /// Where its processes and sockets live.
    pub host: Host,
    process: Child,
    group: Option<PathBuf>,
}

impl Container {
    /// Starts one whose link is `link` on host a and whose address ends in `last`. `group` is the path of its control
    /// group below the root, where there is to be one.
    ///
    /// # Errors
    ///
    /// No root, no namespaces; the command that failed.
    pub fn start(lab: &Lab, link: &str, last: u8, group: Option<&str>) -> Result<Self> {
        let namespace = Namespace::new(namespace::next_number(), "k")?;
        let process = namespace.command("sleep").arg("600").stdin(Stdio::null()).spawn()?;
        let group = group.map(|path| join_group(path, process.id())).transpose()?.flatten();
        let v4 = Ipv4Addr::new(10, 79, 0, last);
        let name = namespace.name();
        lab.a.namespace.ip(&format!(
            "link add {link} type veth peer name {INTERFACE} netns {name}\nlink set {link} master {BRIDGE}\nlink set \
             {link} up"
        ))?;
        namespace.ip(&format!("link set lo up\naddress add {v4}/24 dev {INTERFACE}\nlink set {INTERFACE} up"))?;
        let host = Host { namespace, v4, v6: Ipv6Addr::UNSPECIFIED };
        Ok(Self { host, process, group })
    }

    /// Whether its process could be put into the control group that was asked for.
    #[must_use]
    pub fn has_group(&self) -> bool {
        self.group.is_some()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // From the innermost up, as long as they are empty and ours.
        let mut group = self.group.take();
        while let Some(path) = group.filter(|path| path.to_string_lossy().contains(&own_prefix())) {
            let _ = fs::remove_dir(&path);
            group = path.parent().map(PathBuf::from);
        }
    }
}

/// Puts a process into a control group of version 2; none where the machine has no such hierarchy to write to.
fn join_group(path: &str, pid: u32) -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("no /proc")?;
    let of = |line: &str| {
        let mut fields = line.split(' ');
        let (point, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    };
    let Some(root) = mounts.lines().find_map(of) else { return Ok(None) };
    let group = root.join(own_prefix()).join(path);
    let joined = fs::create_dir_all(&group).and_then(|()| fs::write(group.join("cgroup.procs"), pid.to_string()));
    Ok(joined.is_ok().then_some(group))
}

/// Groups of one process's labs are apart from others'.
fn own_prefix() -> String {
    format!("gm-{}", process::id())
}
