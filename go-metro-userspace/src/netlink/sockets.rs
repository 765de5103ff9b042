//! The kernel's own measurements of this host's connections, and whose they are (sock_diag(7)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

use go_metro_rtt::{Addr, Endpoint, Rtt};
use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla as _};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::{dump, open, send};

/// The attribute with the control group of a socket, since Linux 5.9 (include/uapi/linux/inet_diag.h).
const INET_DIAG_CGROUP_ID: u16 = 21;
/// States of a socket (include/net/tcp_states.h).
const TCP_TIME_WAIT: u8 = 6;
const TCP_LISTEN: u8 = 10;
const TCP_NEW_SYN_RECV: u8 = 12;
/// How the kernel reports that one to user space.
const TCP_SYN_RECV: u8 = 3;
/// More than one answer has.
const ANSWER: usize = 16 << 10;

/// One connection, as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelSocket {
    /// This host's end.
    pub local: Endpoint,
    /// The peer's.
    pub remote: Endpoint,
    /// Smoothed RTT (RFC 6298): `tcpi_rtt` of include/uapi/linux/tcp.h.
    pub srtt: Rtt,
    /// Smallest RTT of late: `tcpi_min_rtt`; none if the kernel has measured nothing.
    pub min: Option<Rtt>,
    /// Time since an acknowledgement came last: `tcpi_last_ack_recv`.
    pub idle: Duration,
}

/// All connections that carry or carried data, of both families, in this network namespace.
///
/// # Errors
///
/// The kernel does not answer.
pub(crate) fn connections(sink: &mut impl FnMut(KernelSocket)) -> io::Result<()> {
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::ESTABLISHED
                | StateFlags::FIN_WAIT1
                | StateFlags::FIN_WAIT2
                | StateFlags::CLOSE_WAIT
                | StateFlags::CLOSING
                | StateFlags::LAST_ACK,
            socket_id,
        };
        dump(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(request), &mut |answer| {
            if let SockDiagMessage::InetResponse(answer) = answer {
                let id = &answer.header.socket_id;
                let end = |address: IpAddr, port| Endpoint { addr: Addr::from(address), port };
                let info =
                    answer.nlas.iter().find_map(|nla| if let Nla::TcpInfo(info) = nla { Some(info) } else { None });
                if let Some(info) = info.filter(|info| info.rtt > 0) {
                    sink(KernelSocket {
                        local: end(id.source_address, id.source_port),
                        remote: end(id.destination_address, id.destination_port),
                        srtt: microseconds(info.rtt),
                        idle: Duration::from_millis(info.last_ack_recv.into()),
                        min: (info.min_rtt != u32::MAX).then(|| microseconds(info.min_rtt)),
                    });
                }
            }
        })?;
    }
    Ok(())
}

/// What the kernel says of one connection. The control group of version 2 is that of the process that made the socket;
/// one that was accepted has its listener's. None where the kernel does not tell it: before Linux 5.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owned {
    /// There is a socket, of this group.
    Open(Option<u64>),
    /// It is being opened from outside: not a socket yet.
    Handshake,
    /// It was here and is over; whose it was is forgotten.
    TimeWait,
    /// There is no such connection, but a listener on its port, of this group.
    Listener(Option<u64>),
    /// There is nothing.
    Absent,
}

/// Asks the kernel for single connections of this network namespace, some five microseconds each.
pub(crate) struct Owners {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Owners {
    /// Ready to ask.
    ///
    /// # Errors
    ///
    /// There can be no such socket.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: open(NETLINK_SOCK_DIAG)?, buffer: vec![0; ANSWER] })
    }

    /// Asks for the connection with these ends on this interface.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub(crate) fn of(&mut self, local: Endpoint, remote: Endpoint, ifindex: u32) -> io::Result<Owned> {
        let (source_address, destination_address) = (local.addr.ip(), remote.addr.ip());
        let socket_id = SocketId {
            source_port: local.port,
            destination_port: remote.port,
            source_address,
            destination_address,
            interface_id: ifindex,
            // Whichever it is.
            cookie: [0xff; 8],
        };
        let family = if source_address.is_ipv4() { AF_INET } else { AF_INET6 };
        let (extensions, states) = (ExtensionFlags::empty(), StateFlags::all());
        let request = InetRequest { family, protocol: IPPROTO_TCP, extensions, states, socket_id };
        send(&self.socket, SockDiagMessage::InetRequest(request), NLM_F_REQUEST)?;
        let length = self.socket.recv(&mut &mut *self.buffer, 0)?;
        let answer =
            NetlinkMessage::<SockDiagMessage>::deserialize(&self.buffer[..length]).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(answer)) => Ok(owned(&answer)),
            NetlinkPayload::Error(refusal) if refusal.raw_code() == -libc::ENOENT => Ok(Owned::Absent),
            NetlinkPayload::Error(refusal) => Err(refusal.to_io()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Asks for the listener at this end.
    ///
    /// # Errors
    ///
    /// As [`Self::of`].
    pub(crate) fn of_listener(&mut self, local: Endpoint, ifindex: u32) -> io::Result<Owned> {
        let nobody = match local.addr.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.of(local, Endpoint { addr: Addr::from(nobody), port: 0 }, ifindex)
    }

    /// Whether the kernel tells the groups of sockets, found out with one on loopback.
    ///
    /// # Errors
    ///
    /// There can be none, or as [`Self::of`].
    pub(crate) fn tells_groups(&mut self) -> io::Result<bool> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let at = listener.local_addr()?;
        let owned = self.of_listener(Endpoint { addr: Addr::from(at.ip()), port: at.port() }, 0)?;
        Ok(matches!(owned, Owned::Listener(Some(_))))
    }
}

fn owned(answer: &InetResponse) -> Owned {
    let group = answer.nlas.iter().find_map(|nla| match nla {
        Nla::Other(nla) if nla.kind() == INET_DIAG_CGROUP_ID => {
            let mut value = [0; size_of::<u64>()];
            (nla.value_len() == value.len()).then(|| {
                nla.emit_value(&mut value);
                u64::from_ne_bytes(value)
            })
        }
        _ => None,
    });
    match answer.header.state {
        TCP_TIME_WAIT => Owned::TimeWait,
        TCP_SYN_RECV | TCP_NEW_SYN_RECV if group.is_none() => Owned::Handshake,
        TCP_LISTEN => Owned::Listener(group),
        _ => Owned::Open(group),
    }
}

fn microseconds(us: u32) -> Rtt {
    Rtt(u64::from(us) * 1000)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    /// A connection over loopback after a round trip; the kernel measures there too.
    fn measured(address: &str) -> Vec<KernelSocket> {
        let listener = TcpListener::bind(address).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"?").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let wanted: SocketAddr = client.local_addr().unwrap();
        let mut found = Vec::new();
        connections(&mut |socket| {
            if (socket.local.addr.ip(), socket.local.port) == (wanted.ip(), wanted.port()) {
                found.push(socket);
            }
        })
        .unwrap();
        found
    }

    fn end(address: SocketAddr) -> Endpoint {
        Endpoint { addr: Addr::from(address.ip()), port: address.port() }
    }

    #[test]
    fn a_connection_is_asked_for_alone_and_what_became_of_it_is_told() {
        let mut owners = Owners::open().unwrap();
        if !owners.tells_groups().unwrap() {
            println!("skipped: this kernel does not tell the control groups of sockets");
            return;
        }
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let (local, remote) = (end(client.local_addr().unwrap()), end(client.peer_addr().unwrap()));
            for (local, remote) in [(local, remote), (remote, local)] {
                assert!(matches!(owners.of(local, remote, 0).unwrap(), Owned::Open(Some(_))), "{address}");
            }
            let nobody = Endpoint { port: 9, ..remote };
            assert_eq!(owners.of(local, nobody, 0).unwrap(), Owned::Absent, "{address}");
            drop(client);
            assert!(matches!(owners.of(remote, local, 0).unwrap(), Owned::Open(Some(_))), "{address}: not closed here");
            drop(server);
            assert_eq!(owners.of(local, remote, 0).unwrap(), Owned::TimeWait, "{address}: the end that closed first");
            assert!(matches!(owners.of(remote, local, 0).unwrap(), Owned::Listener(Some(_))), "{address}");
            assert!(matches!(owners.of_listener(remote, 0).unwrap(), Owned::Listener(Some(_))), "{address}");
        }
    }

    #[test]
    fn a_connection_of_either_family_is_found_once_with_its_times() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let found = measured(address);
            let [socket] = found[..] else { panic!("{address}: {found:?}") };
            assert!(socket.srtt.0 > 0 && socket.min.unwrap() <= socket.srtt, "{socket:?}");
        }
    }
}
