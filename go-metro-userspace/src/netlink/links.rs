//! The interfaces that there are, and what kind of link each is (rtnetlink(7)).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::dump;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Whether it is a loopback device.
    pub is_loopback: bool,
    /// Whether it was set up; a link that is not carries nothing.
    pub is_up: bool,
    /// Whether it has an address that others could talk to.
    pub has_address: bool,
    /// Whether it is a port of a bridge, bond or another device above it.
    pub is_port: bool,
    /// The network namespace in which the link's other end is, by the number that this one has for it; none if it is this one.
    pub peer_namespace: Option<i32>,
    kind: Kind,
}

/// What counts of a link's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One end of a pair of virtual devices: veth or netkit.
    End,
    /// A device whose other end is a program: tun or tap.
    Program,
    /// All others.
    Other,
}

impl Link {
    /// Whether it is this host's end of another machine's link, so that what comes in was sent by that machine: a container's veth, a
    /// virtual machine's tap.
    ///
    /// Told by what such ends have in common: they are an end of a pair whose other end is in another network namespace, or a tap in a
    /// bridge; and they have no address that others could talk to, as the machine has that. A container's own end has its address. What is
    /// no end of this kind (a bridge itself, bond, VLAN, macvlan, ipvlan, macvtap, a network card) never is one.
    pub fn is_host_end(&self) -> bool {
        let is_end = match self.kind {
            Kind::End => self.peer_namespace.is_some(),
            Kind::Program => self.is_port,
            Kind::Other => false,
        };
        is_end && !self.has_address
    }
}

/// All interfaces of this network namespace, by index.
///
/// # Errors
///
/// The kernel does not answer.
pub fn links() -> io::Result<Vec<Link>> {
    let addressed = names_with_address()?;
    let mut links = Vec::new();
    dump(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(LinkMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewLink(message) = answer {
            links.extend(link(&message, &addressed));
        }
    })?;
    links.sort_by_key(|link| link.ifindex);
    Ok(links)
}

fn link(message: &LinkMessage, addressed: &BTreeSet<String>) -> Option<Link> {
    let mut link = Link {
        name: String::new(),
        ifindex: message.header.index,
        is_loopback: message.header.flags.contains(LinkFlags::Loopback),
        is_up: message.header.flags.contains(LinkFlags::Up),
        has_address: false,
        is_port: false,
        peer_namespace: None,
        kind: Kind::Other,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Controller(above) => link.is_port = *above != 0,
            LinkAttribute::LinkNetNsId(id) => link.peer_namespace = Some(*id),
            LinkAttribute::LinkInfo(infos) => {
                let kind =
                    infos.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None });
                link.kind = match kind {
                    Some(InfoKind::Veth | InfoKind::Netkit) => Kind::End,
                    Some(InfoKind::Tun) => Kind::Program,
                    _ => Kind::Other,
                };
            }
            _ => {}
        }
    }
    link.has_address = addressed.contains(&link.name);
    (!link.name.is_empty()).then_some(link)
}

/// Names of the interfaces that have an address others could talk to.
fn names_with_address() -> io::Result<BTreeSet<String>> {
    let all = nix::ifaddrs::getifaddrs()?;
    let global = all.filter(|entry| entry.address.as_ref().and_then(crate::targets::socket_ip).is_some_and(is_global));
    Ok(global.map(|entry| entry.interface_name).collect())
}

/// Link-local addresses are everywhere.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn loopback_is_there_with_its_index_and_address() {
        let links = links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!(lo.ifindex, nix::net::if_::if_nametoindex("lo").unwrap());
        assert!(lo.is_loopback && !lo.is_port && !lo.is_host_end(), "{lo:?}");
    }

    /// Every kind of device that this kernel can make, on a host with a container: which of them lead to the container.
    #[test]
    fn only_ends_of_pairs_and_bridged_taps_without_an_address_lead_to_another_machine() {
        let host = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: no network namespace without root");
                return;
            }
            let ip = |arguments: &str| Command::new("ip").args(arguments.split(' ')).status().unwrap().success();
            // The container: a namespace held by a process.
            let mut container = Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap();
            let mine = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            let its = format!("/proc/{}/ns/net", container.id());
            while std::fs::read_link(&its).is_ok_and(|name| name == mine) {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let pid = container.id();
            for (name, inside) in [("bridged", "eth0"), ("routed", "eth1"), ("gateway", "eth2"), ("uplink", "eth3")] {
                assert!(ip(&format!("link add {name} type veth peer name {inside} netns {pid}")));
            }
            assert!(ip("link add docker0 type bridge") && ip("address add 172.17.0.1/16 dev docker0"));
            assert!(ip("link set bridged master docker0"));
            // As some routers of containers have it: the same link-local gateway on each.
            assert!(ip("address add 169.254.1.1/32 dev routed"));
            assert!(ip("address add 10.0.0.1/24 dev gateway") && ip("address add 2001:db8::1/64 dev uplink nodad"));
            // Both ends here: neither leads to another machine.
            assert!(ip("link add here type veth peer name there"));
            let taps = ip("tuntap add dev tap0 mode tap") && ip("tuntap add dev tap1 mode tap");
            assert!(!taps || ip("link set tap0 master docker0"));
            // What a kernel lacks of these is no matter.
            for kind in [
                "bond0 type bond",
                "team0 type team",
                "dummy0 type dummy",
                "link gateway name vlan0 type vlan id 5",
                "link gateway name mac0 type macvlan",
                "link uplink name ipv0 type ipvlan",
            ] {
                let mut command = Command::new("ip");
                command.args(["link", "add"]).args(kind.split(' ')).stderr(std::process::Stdio::null());
                command.status().unwrap();
            }
            let all = links().unwrap();
            let ends: Vec<&str> = all.iter().filter(|link| link.is_host_end()).map(|link| &*link.name).collect();
            println!("of {:?} these are ends: {ends:?}", all.iter().map(|link| &*link.name).collect::<Vec<_>>());
            let expected: &[&str] = if taps { &["bridged", "routed", "tap0"] } else { &["bridged", "routed"] };
            assert_eq!(BTreeSet::from_iter(ends), BTreeSet::from_iter(expected.iter().copied()));
            container.kill().unwrap();
            container.wait().unwrap();
        });
        host.join().unwrap();
    }
}
