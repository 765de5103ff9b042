//! What kind of link an interface is (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::dump;
use crate::targets::addresses_of_interface;

/// Whether an interface is this host's end of another machine's link, so that what comes in was sent by that machine: a container's veth, a
/// virtual machine's tap.
///
/// Told by what such ends have in common: they are a veth or, in a bridge, a tap; and they have no address that others could
/// talk to, as the machine has that.
///
/// # Errors
///
/// The kernel does not answer.
pub fn is_host_end(name: &str) -> io::Result<bool> {
    let mut found = None;
    dump(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(LinkMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewLink(link) = answer
            && link.attributes.iter().any(|a| matches!(a, LinkAttribute::IfName(its) if its == name))
        {
            found = Some(link);
        }
    })?;
    let Some(link) = found else { return Ok(false) };
    let in_bridge = link.attributes.iter().any(|a| matches!(a, LinkAttribute::Controller(_)));
    let end_of_a_pair = match kind(&link) {
        Some(InfoKind::Veth) => true,
        Some(InfoKind::Tun) => in_bridge,
        _ => false,
    };
    Ok(end_of_a_pair && !addresses_of_interface(name).iter().any(is_global))
}

fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    let infos =
        link.attributes.iter().find_map(|a| if let LinkAttribute::LinkInfo(infos) = a { Some(infos) } else { None })?;
    infos.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None })
}

/// Link-local addresses are everywhere.
fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}
