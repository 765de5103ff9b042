//! Sockets that are more than `std` can make: bound before they connect, with options of IP, with a sequence number of
//! choice.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use testing_lab::Host;

/// Sets an option that `socket2` does not know.
pub(super) fn set(socket: &impl AsRawFd, level: libc::c_int, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), value.len() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A socket on `host` bound to `local`, whose port may be in use by a connection that is ending.
pub(super) fn bound(host: &Host, local: SocketAddr) -> Result<Socket> {
    let socket = host.enter(|| Socket::new(Domain::for_address(local), Type::STREAM, None))?;
    socket.set_reuse_address(true)?;
    socket.bind(&local.into()).with_context(|| format!("cannot bind to {local}"))?;
    Ok(socket)
}

/// Connects it.
pub(super) fn connected(socket: Socket, to: SocketAddr) -> Result<TcpStream> {
    socket.connect_timeout(&to.into(), Duration::from_secs(10)).with_context(|| format!("cannot connect to {to}"))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// Ends a connection with RST, whatever is on its way.
pub(super) fn abort(stream: TcpStream) -> Result<()> {
    Socket::from(stream).set_linger(Some(Duration::ZERO)).context("cannot set SO_LINGER")
}

// include/uapi/linux/tcp.h
const TCP_REPAIR: libc::c_int = 19;
const TCP_REPAIR_QUEUE: libc::c_int = 20;
const TCP_QUEUE_SEQ: libc::c_int = 21;
const TCP_SEND_QUEUE: u32 = 2;

/// Has an unconnected socket choose `isn` as its initial sequence number.
pub(super) fn begin_at(socket: &Socket, isn: u32) -> Result<()> {
    let steps = [(TCP_REPAIR, 1), (TCP_REPAIR_QUEUE, TCP_SEND_QUEUE), (TCP_QUEUE_SEQ, isn), (TCP_REPAIR, 0)];
    for (option, value) in steps {
        set(socket, libc::IPPROTO_TCP, option, &value.to_ne_bytes())
            .with_context(|| format!("the kernel refuses option {option} of TCP (CONFIG_CHECKPOINT_RESTORE)"))?;
    }
    Ok(())
}
