//! Word from the kernel that interfaces, their addresses or default routes have changed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Multicast groups of include/uapi/linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR,
/// RTMGRP_IPV4_ROUTE and RTMGRP_IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x100 | 0x40 | 0x400;

/// Of include/uapi/linux/rtnetlink.h.
const ROUTE_MESSAGES: [u16; 2] = [libc::RTM_NEWROUTE, libc::RTM_DELROUTE];
/// Byte of `struct rtmsg` (the same file) that holds the destination's prefix length.
const DESTINATION_LENGTH: usize = 1;

/// Hears of changes in the network namespace of the thread that opened it.
pub(crate) struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// The kernel refuses the socket.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Whether anything changed since the last call. What it was is not told apart: look again.
    pub(crate) fn has_changed(&self) -> bool {
        let mut changed = false;
        // What cannot be read counts as a change.
        super::receive(&self.socket, &mut [0; 512], |datagram| changed |= !datagram.is_some_and(is_of_another_route));
        changed
    }
}

impl AsFd for Monitor {
    /// Readable where [`Monitor::has_changed`] may have something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether all that changed is a route to somewhere, of which a router's table has a million, and never a quiet moment.
fn is_of_another_route(message: &[u8]) -> bool {
    NetlinkBuffer::new_checked(message).is_ok_and(|message| {
        ROUTE_MESSAGES.contains(&message.message_type())
            && message.payload().get(DESTINATION_LENGTH).is_some_and(|length| *length > 0)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn an_interface_an_address_or_a_default_route_is_a_change_and_another_route_or_silence_is_none() {
        let namespace = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: no network namespace without root");
                return;
            }
            let ip =
                |arguments: &str| assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
            let monitor = Monitor::open().unwrap();
            assert!(!monitor.has_changed());
            for change in [
                "link add a0 type veth peer name a1",
                "address add 10.0.0.1/24 dev a0",
                "link set a0 up",
                "route add default dev a0",
                "route add default dev a0 metric 7",
                "route delete default dev a0 metric 0",
                "link delete a0",
            ] {
                ip(change);
                assert!(monitor.has_changed(), "{change}");
                assert!(!monitor.has_changed(), "twice: {change}");
            }
            ip("link set lo up");
            assert!(monitor.has_changed());
            for route in ["add 10.9.0.0/16", "add 10.8.0.1/32", "delete 10.9.0.0/16"] {
                ip(&format!("route {route} dev lo"));
                assert!(!monitor.has_changed(), "{route}");
            }
        });
        namespace.join().unwrap();
    }
}
