//! Questions to the kernel over netlink(7).
//!
//! Unlike /sys it answers for the network namespace that this thread is in, whatever is mounted.

mod changes;
pub(crate) mod deletions;
pub(crate) mod links;
pub(crate) mod monitor;
pub(crate) mod namespaces;
pub(crate) mod outages;
pub(crate) mod qdiscs;
pub(crate) mod routes;
pub(crate) mod sockets;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// Hands each datagram that came since the last call to `each`; nothing in place of one that is longer than `buffer`,
/// and of those that were more than the kernel keeps.
fn receive(socket: &Socket, buffer: &mut [u8], mut each: impl FnMut(Option<&[u8]>)) {
    loop {
        match socket.recv(&mut &mut *buffer, libc::MSG_TRUNC) {
            Ok(len) => each(buffer.get(..len)),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => each(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                tracing::debug!(%error, "cannot receive what the kernel says over netlink");
                return;
            }
        }
    }
}

/// Asks for all objects of a kind and hands each to `sink`. One that cannot be read is skipped; the others are not
/// affected.
///
/// # Errors
///
/// The kernel's refusal.
fn dump<T>(protocol: isize, question: T, sink: &mut impl FnMut(T)) -> io::Result<()>
where
    T: NetlinkSerializable + NetlinkDeserializable,
    NetlinkPayload<T>: From<T>,
{
    dump_raw(protocol, question, &mut |bytes| match NetlinkMessage::<T>::deserialize(bytes) {
        Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(object), .. }) => sink(object),
        Ok(_) => {}
        Err(error) => skipped(&error),
    })
}

/// As [`dump`], but hands out messages as the kernel sent them, header included.
fn dump_raw<T>(protocol: isize, question: T, sink: &mut impl FnMut(&[u8])) -> io::Result<()>
where
    T: NetlinkSerializable,
    NetlinkPayload<T>: From<T>,
{
    let socket = open(protocol)?;
    send(&socket, question, NLM_F_REQUEST | NLM_F_DUMP)?;
    loop {
        // As long as the datagram is, whatever that is.
        let (datagram, _) = socket.recv_from_full()?;
        for message in messages(&datagram) {
            match NetlinkBuffer::new(message).message_type() {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(refusal(message)),
                _ => sink(message),
            }
        }
    }
}

/// The messages in a datagram, header included. What does not begin with a whole message ends it.
fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = NetlinkBuffer::new_checked(rest).ok()?.length() as usize;
        let message = rest.get(..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// What an error message says (`struct nlmsgerr` of include/uapi/linux/netlink.h: a negative error number first).
fn refusal(message: &[u8]) -> io::Error {
    let number = NetlinkBuffer::new(message).payload().first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    io::Error::from_raw_os_error(number.saturating_neg())
}

/// Warns of a message that cannot be read: once in a process's life, since the same one comes with every look.
fn skipped(error: &dyn std::fmt::Display) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if WARNED.swap(true, Ordering::Relaxed) {
        tracing::debug!(%error, "skipped a netlink message");
    } else {
        tracing::warn!(%error, "skipped a netlink message that cannot be read");
    }
}

/// A socket for questions.
fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends a question.
fn send<T>(socket: &Socket, question: T, flags: u16) -> io::Result<()>
where
    T: NetlinkSerializable,
    NetlinkPayload<T>: From<T>,
{
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(question));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}
