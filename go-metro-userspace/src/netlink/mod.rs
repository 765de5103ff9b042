//! Questions to the kernel over netlink(7).
//!
//! Unlike /sys it answers for the network namespace that this thread is in, whatever is mounted.

pub mod deletions;
pub mod links;
pub mod monitor;
pub mod namespaces;
pub mod outages;
pub mod routes;
pub mod sockets;

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// Asks for all objects of a kind and hands each to `sink`.
///
/// # Errors
///
/// The kernel's refusal, or an answer that cannot be read.
fn dump<T>(protocol: isize, question: T, sink: &mut impl FnMut(T)) -> io::Result<()>
where
    T: NetlinkSerializable + NetlinkDeserializable,
    NetlinkPayload<T>: From<T>,
{
    let socket = open(protocol)?;
    send(&socket, question, NLM_F_REQUEST | NLM_F_DUMP)?;
    loop {
        // As long as the datagram is, whatever that is.
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<T>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::InnerMessage(object) => sink(object),
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
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
