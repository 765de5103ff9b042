//! What the scenarios have in common: a lab, a capture, a connection whose two ends are at hand.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use testing_lab::tcpdump::Tcpdump;
use testing_lab::traffic::connect;
use testing_lab::{Host, INTERFACE, Impairment, Lab, Link, Offload, Order, Way};

/// The path's delay each way.
pub(super) const DELAY: Duration = Duration::from_millis(10);

/// Payload of a full segment with timestamps.
pub(super) const FULL: usize = 1448;

/// A lab of single segments whose path takes twice [`DELAY`].
pub(super) fn lab() -> Result<Lab> {
    let lab = Lab::with_offload(Link::Veth, Offload::Off)?;
    lab.path().set_rtt(2 * DELAY);
    // Addresses are resolved before, or the first handshake has a round trip more.
    let _ = connect(&lab.a, (lab.b.v4, 1).into());
    let _ = connect(&lab.a, (lab.b.v6, 1).into());
    Ok(lab)
}

/// Sets a kernel parameter on both hosts.
pub(super) fn both(lab: &Lab, key: &str, value: &str) -> Result<()> {
    [&lab.a, &lab.b].into_iter().try_for_each(|host| host.namespace.sysctl(key, value))
}

/// Gives the path orders for one direction, beside the usual delay.
pub(super) fn order(lab: &Lab, way: Way, orders: Vec<Order>) {
    lab.path().impair(way, Impairment { orders, ..Impairment::delay(DELAY) });
}

/// Captures headers on `interface` of `host` while `play` plays.
pub(super) fn record_on(
    host: &Host,
    interface: &str,
    args: &[&str],
    into: &Path,
    play: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let args = [&["-s", "160"], args].concat();
    let capture = Tcpdump::start_with(&host.namespace, interface, &args, into)?;
    play()?;
    // The last acknowledgements.
    thread::sleep(Duration::from_millis(300));
    capture.stop()
}

/// Captures TCP at host a.
pub(super) fn record(lab: &Lab, into: &Path, play: impl FnOnce() -> Result<()>) -> Result<()> {
    record_on(&lab.a, INTERFACE, &["tcp"], into, play)
}

/// A connection, with both its ends.
pub(super) struct Pair {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
}

impl Pair {
    /// From host a to host b.
    pub(super) fn open(lab: &Lab, to: impl Into<IpAddr>) -> Result<Self> {
        Self::between(&lab.a, &lab.b, to.into())
    }

    /// From one host to an address of another, or of itself.
    pub(super) fn between(from: &Host, at: &Host, to: IpAddr) -> Result<Self> {
        let listener = at.enter(|| TcpListener::bind((to, 0)))?;
        let client = connect(from, listener.local_addr()?)?;
        Self::accepted(client, &listener)
    }

    /// With the other end from a listener.
    pub(super) fn accepted(client: TcpStream, listener: &TcpListener) -> Result<Self> {
        let (server, _) = listener.accept()?;
        server.set_nodelay(true)?;
        server.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { client, server })
    }

    /// Requests and their responses.
    pub(super) fn rounds(&mut self, count: usize) -> Result<()> {
        let mut buffer = [0; 200];
        for _ in 0..count {
            self.client.write_all(&[0; 100])?;
            self.server.read_exact(&mut buffer[..100])?;
            self.server.write_all(&[0; 200])?;
            self.client.read_exact(&mut buffer)?;
        }
        Ok(())
    }

    /// Bytes from the client to the server.
    pub(super) fn upload(&mut self, bytes: usize) -> Result<()> {
        transfer(&mut self.client, &mut self.server, bytes)
    }

    /// Bytes from the server to the client.
    pub(super) fn download(&mut self, bytes: usize) -> Result<()> {
        transfer(&mut self.server, &mut self.client, bytes)
    }

    /// Closes it from the client, in order.
    pub(super) fn close(mut self) -> Result<()> {
        self.client.shutdown(Shutdown::Write)?;
        self.server.read_to_end(&mut Vec::new())?;
        drop(self.server);
        self.client.read_to_end(&mut Vec::new())?;
        Ok(())
    }
}

fn transfer(from: &mut TcpStream, to: &mut TcpStream, bytes: usize) -> Result<()> {
    thread::scope(|scope| {
        let sender = scope.spawn(move || from.write_all(&vec![0; bytes]));
        to.read_exact(&mut vec![0; bytes])?;
        sender.join().ok().context("the sender panicked")??;
        Ok(())
    })
}

/// What most scenarios talk: rounds, both directions at length, an orderly end.
pub(super) fn talk(lab: &Lab, to: impl Into<IpAddr>, bytes: usize) -> Result<()> {
    let mut pair = Pair::open(lab, to)?;
    pair.rounds(20)?;
    pair.upload(bytes)?;
    pair.download(bytes)?;
    pair.rounds(5)?;
    pair.close()
}

/// A port of an address.
pub(super) fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}
