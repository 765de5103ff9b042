//! Where packets to everywhere leave this host (rtnetlink(7)).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::dump;
use crate::targets::addresses_of_interface;

/// Indices of the interfaces of the default routes: for IPv4 and for IPv6 of the one with the lowest metric, all its
/// next hops.
///
/// # Errors
///
/// The kernel does not answer.
pub(crate) fn default_interfaces() -> io::Result<BTreeSet<u32>> {
    Ok(of_families()?.into_iter().flatten().collect())
}

/// The interface of the default route, IPv4's before IPv6's, the one of the lowest metric; none where there is no such
/// route.
///
/// # Errors
///
/// The kernel does not answer.
pub(crate) fn default_interface() -> io::Result<Option<String>> {
    let first = of_families()?.into_iter().flatten().next();
    let name = first.and_then(|index| nix::net::if_::if_indextoname(index).ok());
    Ok(name.and_then(|name| name.into_string().ok()))
}

/// The interfaces of IPv4's and of IPv6's best default route.
fn of_families() -> io::Result<[BTreeSet<u32>; 2]> {
    let mut best: [(u32, BTreeSet<u32>); 2] = [(u32::MAX, BTreeSet::new()), (u32::MAX, BTreeSet::new())];
    dump(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(RouteMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewRoute(route) = answer
            && is_default(&route.header)
        {
            let (metric, interfaces) = &mut best[usize::from(route.header.address_family == AddressFamily::Inet6)];
            let its = metric_of(&route);
            if its < *metric {
                (*metric, *interfaces) = (its, BTreeSet::new());
            }
            if its == *metric {
                interfaces.extend(interfaces_of(&route));
            }
        }
    })?;
    Ok(best.map(|(_, interfaces)| interfaces))
}

/// Of the main table, and not one that refuses, as kernels without IPv6 connectivity have.
fn is_default(header: &RouteHeader) -> bool {
    header.destination_prefix_length == 0
        && header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
}

fn metric_of(route: &RouteMessage) -> u32 {
    let metric =
        route.attributes.iter().find_map(|a| if let RouteAttribute::Priority(m) = a { Some(*m) } else { None });
    metric.unwrap_or(0)
}

fn interfaces_of(route: &RouteMessage) -> BTreeSet<u32> {
    let mut interfaces = BTreeSet::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => {
                interfaces.insert(*index);
            }
            RouteAttribute::MultiPath(hops) => interfaces.extend(hops.iter().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    interfaces
}

/// The interfaces, but for loopback, that have an address others could talk to; sorted.
pub(crate) fn addressed_interfaces() -> Vec<String> {
    let Ok(interfaces) = nix::net::if_::if_nameindex() else { return Vec::new() };
    let names = interfaces.iter().filter_map(|interface| interface.name().to_str().ok().map(str::to_owned));
    let talks = |name: &String| {
        addresses_of_interface(name).iter().any(|address| match address {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
    };
    let mut found: Vec<String> = names.filter(talks).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::net::if_::if_nametoindex;
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric_counts_with_all_its_next_hops() {
        let namespace = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: no network namespace without root");
                return;
            }
            let ip =
                |arguments: &str| assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
            let default = |names: &[&str]| {
                let expected: BTreeSet<u32> = names.iter().map(|name| if_nametoindex(*name).unwrap()).collect();
                assert_eq!(default_interfaces().unwrap(), expected, "{names:?}");
            };
            for (number, name) in ["a0", "b0", "c0"].iter().enumerate() {
                ip(&format!("link add {name} type veth peer name {name}p"));
                ip(&format!("link set {name}p up"));
                ip(&format!("link set {name} up"));
                ip(&format!("address add 10.{number}.0.1/24 dev {name}"));
            }
            default(&[]);
            ip("route add default via 10.0.0.2 metric 200");
            default(&["a0"]);
            ip("route add default via 10.1.0.2 metric 100");
            default(&["b0"]);
            ip("-6 address add fd00::1/64 dev c0 nodad");
            ip("-6 route add default via fd00::2");
            default(&["b0", "c0"]);
            ip("-6 route delete default");
            ip("route add default metric 50 nexthop via 10.0.0.2 nexthop via 10.2.0.2");
            default(&["a0", "c0"]);
            // Neither another table nor a route that refuses.
            ip("route flush exact default");
            ip("route add unreachable default");
            ip("route add default via 10.1.0.2 table 7");
            default(&[]);
        });
        namespace.join().unwrap();
    }
}
