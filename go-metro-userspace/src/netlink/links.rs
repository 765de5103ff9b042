//! The interfaces that there are, and what kind of link each is (rtnetlink(7)).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLA_HEADER_SIZE, NetlinkBuffer, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::dump_raw;

/// `struct ifinfomsg` of include/uapi/linux/rtnetlink.h: family (1 byte), padding (1), type (2), index (4), flags (4),
/// change mask (4).
const HEADER: usize = 16;

/// `IF_OPER_*` of include/uapi/linux/if.h, in their order.
const STATES: [&str; 7] = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its name. Bytes that are not UTF-8 are escaped (`\xff`), and nothing can then be attached by this name.
    pub name: String,
    /// Its alternative names (`ip link property add dev NAME altname OTHER`), which are longer and mean the same
    /// interface.
    pub alt_names: Vec<String>,
    /// Whether the name is UTF-8.
    pub has_text_name: bool,
    /// Its index.
    pub ifindex: u32,
    /// Whether it is a loopback device.
    pub is_loopback: bool,
    /// The longest packet that it carries, in bytes; 0 if the kernel does not say.
    pub mtu: u32,
    /// Whether it was set up; a link that is not carries nothing.
    pub is_up: bool,
    /// Its operational state, as `/sys/class/net/NAME/operstate` has it; loopback and tunnels do not say more than
    /// `unknown`.
    pub state: &'static str,
    /// Whether it has an address that others could talk to.
    pub has_address: bool,
    /// Whether it is a port of a bridge, bond or another device above it.
    pub is_port: bool,
    /// The network namespace in which the link's other end is, by the number that this one has for it; none if it is
    /// this one.
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
    /// All its names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.alt_names).map(String::as_str)
    }

    /// Whether it is called this.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.names().any(|its| its == name)
    }

    /// Whether it is this host's end of another machine's link, so that what comes in was sent by that machine: a
    /// container's veth, a virtual machine's tap.
    ///
    /// Told by what such ends have in common: they are an end of a pair whose other end is in another network
    /// namespace, or a tap in a bridge; and they have no address that others could talk to, as the machine has that. A
    /// container's own end has its address. What is no end of this kind (a bridge itself, bond, VLAN, macvlan, ipvlan,
    /// macvtap, a network card) never is one.
    pub(crate) fn is_host_end(&self) -> bool {
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
/// Of each only the attributes that count are read: an alias or a property that others set to whatever they like hides
/// no interface.
///
/// # Errors
///
/// The kernel does not answer.
pub(crate) fn links() -> io::Result<Vec<Link>> {
    let addressed = names_with_address()?;
    let mut links = Vec::new();
    dump_raw(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(LinkMessage::default()), &mut |message| {
        let message = NetlinkBuffer::new(message);
        if message.message_type() == libc::RTM_NEWLINK {
            links.extend(link(message.payload(), &addressed));
        }
    })?;
    links.sort_by_key(|link: &Link| link.ifindex);
    Ok(links)
}

/// The address family and the index of the interface that a message is about.
pub(super) fn subject(payload: &[u8]) -> Option<(u8, u32)> {
    Some((*payload.first()?, u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?)))
}

fn link(payload: &[u8], addressed: &BTreeSet<String>) -> Option<Link> {
    let (_, ifindex) = subject(payload)?;
    let flags = u32::from_ne_bytes(*payload.get(8..)?.first_chunk()?);
    let is = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
    let mut link = Link {
        name: String::new(),
        alt_names: Vec::new(),
        has_text_name: true,
        ifindex,
        is_loopback: is(libc::IFF_LOOPBACK),
        mtu: 0,
        is_up: is(libc::IFF_UP),
        state: STATES[0],
        has_address: false,
        is_port: false,
        peer_namespace: None,
        kind: Kind::Other,
    };
    for (attribute, value) in attributes(payload.get(HEADER..)?) {
        match attribute {
            libc::IFLA_IFNAME => (link.name, link.has_text_name) = name(value),
            libc::IFLA_OPERSTATE => {
                link.state = value.first().and_then(|state| STATES.get(usize::from(*state))).unwrap_or(&STATES[0]);
            }
            libc::IFLA_MTU => link.mtu = value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)),
            libc::IFLA_MASTER => link.is_port = value.iter().any(|byte| *byte != 0),
            libc::IFLA_LINK_NETNSID => {
                link.peer_namespace = value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
            }
            libc::IFLA_LINKINFO => link.kind = kind(value),
            libc::IFLA_PROP_LIST => {
                let names = attributes(value).filter(|(property, _)| *property == libc::IFLA_ALT_IFNAME);
                link.alt_names.extend(names.map(|(_, value)| name(value).0));
            }
            _ => {}
        }
    }
    link.has_address = addressed.contains(&link.name);
    (!link.name.is_empty()).then_some(link)
}

/// A link's kind, from its `IFLA_LINKINFO`.
fn kind(info: &[u8]) -> Kind {
    let text = attributes(info).find(|(attribute, _)| *attribute == libc::IFLA_INFO_KIND).map(|(_, value)| value);
    match text.map(without_nul) {
        Some(b"veth" | b"netkit") => Kind::End,
        Some(b"tun") => Kind::Program,
        _ => Kind::Other,
    }
}

/// Attributes and their values, up to one that does not fit.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

/// A name as text, and whether it is UTF-8. The kernel takes any bytes but white space, `/` and `:`.
fn name(value: &[u8]) -> (String, bool) {
    let bytes = without_nul(value);
    match str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), true),
        Err(_) => (bytes.escape_ascii().to_string(), false),
    }
}

fn without_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Names of the interfaces that have an address others could talk to.
fn names_with_address() -> io::Result<BTreeSet<String>> {
    let all = nix::ifaddrs::getifaddrs()?;
    let global = all.filter(|entry| entry.address.as_ref().and_then(crate::targets::socket_ip).is_some_and(is_global));
    // The C library gives an IPv4 address's label, which is the interface's name or begins with it: `eth0:1`.
    Ok(global.filter_map(|entry| Some(entry.interface_name.split(':').next()?.to_owned())).collect())
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

    /// In a network namespace of its own, if there can be one.
    fn inside(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: no network namespace without root");
                return;
            }
            test();
        });
        thread.join().unwrap();
    }

    fn ip(arguments: &[&[u8]]) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        let arguments = arguments.iter().map(|argument| std::ffi::OsStr::from_bytes(argument));
        Command::new("ip").args(arguments).status().unwrap().success()
    }

    #[test]
    fn an_alias_or_name_that_is_not_utf8_hides_no_interface() {
        inside(|| {
            assert!(ip(&[b"link", b"add", b"good0", b"type", b"veth", b"peer", b"name", b"bad\xff0"]));
            assert!(ip(&[b"link", b"set", b"good0", b"alias", b"caf\xe9"]));
            let all = links().unwrap();
            let names: BTreeSet<(&str, bool)> = all.iter().map(|link| (&*link.name, link.has_text_name)).collect();
            assert_eq!(names, BTreeSet::from([("lo", true), ("good0", true), ("bad\\xff0", false)]));
            assert!(all.iter().all(|link| link.name == "lo" || link.kind == Kind::End), "{all:?}");
        });
    }

    #[test]
    fn alternative_names_are_names() {
        inside(|| {
            assert!(ip(&[b"link", b"add", b"eth7", b"type", b"veth", b"peer", b"name", b"eth8"]));
            let long = "n".repeat(127);
            for altname in ["wan7", &long] {
                assert!(ip(&[b"link", b"property", b"add", b"dev", b"eth7", b"altname", altname.as_bytes()]));
            }
            let all = links().unwrap();
            let eth7 = all.iter().find(|link| link.name == "eth7").unwrap();
            assert_eq!(BTreeSet::from_iter(eth7.names()), BTreeSet::from(["eth7", "wan7", &*long]));
            assert!(eth7.is_called("wan7") && !eth7.is_called("eth8"));
            assert_eq!(eth7.mtu, 1500);
        });
    }

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
