//! Word from the kernel that interfaces, their addresses or routes have changed.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Multicast groups of include/uapi/linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, and the default routes'
/// RTMGRP_IPV4_ROUTE and RTMGRP_IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x100 | 0x40 | 0x400;

/// Hears of changes in the network namespace of the thread that opened it.
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// The kernel refuses the socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Whether anything changed since the last call. What it was is not told apart: whoever cares looks anew.
    pub fn has_changed(&self) -> bool {
        let mut changed = false;
        // What does not fit is cut off; that something came is all that counts.
        let mut buffer = [0; 1];
        loop {
            match self.socket.recv(&mut &mut buffer[..], libc::MSG_TRUNC) {
                Ok(_) => changed = true,
                // More came than the kernel keeps.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn an_interface_that_comes_or_gets_an_address_is_a_change_and_silence_is_none() {
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
                "route add 10.9.0.0/16 dev a0",
                "link delete a0",
            ] {
                ip(change);
                assert!(monitor.has_changed(), "{change}");
                assert!(!monitor.has_changed(), "twice: {change}");
            }
        });
        namespace.join().unwrap();
    }
}
