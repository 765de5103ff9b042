//! Where packets to everywhere leave this host (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::dump;
use crate::targets::addresses_of_interface;

/// The interface of the default route, IPv4's before IPv6's, the one of the lowest metric; none where there is no such route.
///
/// # Errors
///
/// The kernel does not answer.
pub fn default_interface() -> io::Result<Option<String>> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut found: Vec<(u32, u32)> = Vec::new();
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        dump(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(question), &mut |answer| {
            if let RouteNetlinkMessage::NewRoute(route) = answer
                && route.header.address_family == family
                && route.header.destination_prefix_length == 0
                && route.header.table == RouteHeader::RT_TABLE_MAIN
            {
                found.extend(ways(&route));
            }
        })?;
        let best = found.into_iter().min().and_then(|(_, index)| nix::net::if_::if_indextoname(index).ok());
        if let Some(name) = best.and_then(|name| name.into_string().ok()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Metric and interface index of each way that a route takes.
fn ways(route: &RouteMessage) -> Vec<(u32, u32)> {
    let metric =
        route.attributes.iter().find_map(|a| if let RouteAttribute::Priority(p) = a { Some(*p) } else { None });
    let metric = metric.unwrap_or(0);
    let each = route.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![(metric, *index)],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| (metric, hop.interface_index)).collect(),
        _ => Vec::new(),
    });
    each.collect()
}

/// The interfaces, but for loopback, that have an address others could talk to; sorted.
pub fn addressed_interfaces() -> Vec<String> {
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
