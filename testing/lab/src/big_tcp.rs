//! Super-segments beyond 64 KiB (BIG TCP), which a device must be told to let pass.
//!
//! By netlink and not by `ip link`, whose versions before 6.3 know of IPv6 alone.

use std::io;

use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use nix::sys::socket::{bind, recv, sendto, socket};
use std::os::fd::AsRawFd as _;

// include/uapi/linux/rtnetlink.h, netlink.h
const RTM_SETLINK: u16 = 19;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
// include/uapi/linux/if_link.h
const IFLA_GSO_MAX_SIZE: u16 = 41;
const IFLA_GRO_MAX_SIZE: u16 = 58;
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
const IFLA_GRO_IPV4_MAX_SIZE: u16 = 64;

/// Lets super-segments of up to `bytes` pass `device` of the current namespace, of either family.
pub fn allow(device: &str, bytes: u32) -> Result<()> {
    let index = nix::net::if_::if_nametoindex(device).with_context(|| format!("no interface {device}"))?;
    let attributes = [IFLA_GSO_MAX_SIZE, IFLA_GRO_MAX_SIZE, IFLA_GSO_IPV4_MAX_SIZE, IFLA_GRO_IPV4_MAX_SIZE];
    let attributes: Vec<u8> = attributes
        .iter()
        .flat_map(|kind| [&8_u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &bytes.to_ne_bytes()].concat())
        .collect();
    // struct ifinfomsg: family, padding, type, index, flags, change.
    let body = [&[0; 4][..], &index.to_ne_bytes(), &[0; 8], &attributes].concat();
    let len = (16 + body.len()) as u32;
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    let head =
        [&len.to_ne_bytes()[..], &RTM_SETLINK.to_ne_bytes(), &flags.to_ne_bytes(), &1_u32.to_ne_bytes(), &[0; 4]];
    let message = [head.concat(), body].concat();
    let kernel = NetlinkAddr::new(0, 0);
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    bind(netlink.as_raw_fd(), &kernel)?;
    sendto(netlink.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let len = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // A header and a negated errno, 0 for done.
    let code = answer[..len].get(16..20).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if u16::from_ne_bytes([answer[4], answer[5]]) == NLMSG_ERROR && code != 0 {
        let error = io::Error::from_raw_os_error(-code);
        return Err(error).with_context(|| format!("{device} does not take super-segments of {bytes} bytes"));
    }
    Ok(())
}
