//! The kernel's own measurements of this host's connections (sock_diag(7)).

use std::io;
use std::time::Duration;

use go_metro_rtt::{Addr, Endpoint, Rtt};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::dump;

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
                let end = |address: std::net::IpAddr, port| Endpoint { addr: Addr::from(address), port };
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

    #[test]
    fn a_connection_of_either_family_is_found_once_with_its_times() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let found = measured(address);
            let [socket] = found[..] else { panic!("{address}: {found:?}") };
            assert!(socket.srtt.0 > 0 && socket.min.unwrap() <= socket.srtt, "{socket:?}");
        }
    }
}
