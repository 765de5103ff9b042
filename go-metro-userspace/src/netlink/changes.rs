//! What the kernel says of each link that changes or goes (rtnetlink(7), `RTM_NEWLINK`, `RTM_DELLINK`), where
//! [`super::monitor`] only says that something has changed.

use std::io;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{links, messages};

/// `RTNLGRP_LINK` of include/uapi/linux/rtnetlink.h.
const LINKS: u32 = 1;
/// Bytes of a datagram: what is longer counts as lost. The kernel asks for two pages at most, with the longest of names
/// and statistics.
const LONGEST: usize = 16 << 10;

/// Listens from its making on.
pub(super) struct Changes(Socket);

/// One link, in one message.
pub(super) struct Change<'a> {
    /// Which message.
    pub(super) kind: u16,
    pub(super) ifindex: u32,
    /// `struct ifinfomsg` and the attributes behind it.
    pub(super) payload: &'a [u8],
}

impl Changes {
    /// Listens in this thread's network namespace.
    ///
    /// # Errors
    ///
    /// The kernel has no socket for it.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(LINKS)?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Hands what came since the last call to `each`; whether the kernel had more to say than it could.
    pub(super) fn take(&self, mut each: impl FnMut(Change<'_>)) -> bool {
        let mut lost = false;
        super::receive(&self.0, &mut [0; LONGEST], |datagram| match datagram {
            Some(datagram) => changes(datagram, &mut each),
            None => lost = true,
        });
        lost
    }
}

/// Hands each link that the datagram says something of to `each`. What is cut short is passed over.
pub(super) fn changes(datagram: &[u8], each: &mut impl FnMut(Change<'_>)) {
    for message in messages(datagram).map(NetlinkBuffer::new) {
        let (kind, payload) = (message.message_type(), message.payload());
        if let Some((family, ifindex)) = links::subject(payload)
            // A bridge says the same of its ports, in its own family.
            && i32::from(family) == libc::AF_UNSPEC
        {
            each(Change { kind, ifindex, payload });
        }
    }
}
