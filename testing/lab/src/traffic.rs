//! Real TCP between the hosts: a server on one, drivers on the other.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::tcp_info::TcpInfo;
use super::{Host, Lab};
use std::os::fd::AsFd as _;

/// What a server does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Answers every `request` bytes with `response` bytes.
    Respond {
        /// Bytes of a request.
        request: usize,
        /// Bytes of a response.
        response: usize,
    },
    /// Reads and forgets.
    Sink,
}

/// Longer than a kernel that waits for nothing else keeps an acknowledgement back: `TCP_DELACK_MIN` of
/// include/net/tcp.h, 40 ms.
pub const DELAYED_ACK: Duration = Duration::from_millis(60);

/// A TCP server on a host; stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` of `host`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The address cannot be had.
    pub fn start(host: &Host, address: SocketAddr, service: Service) -> Result<Self> {
        let listener =
            host.enter(|| TcpListener::bind(address)).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let thread = {
            let (stop, connections) = (Arc::clone(&stop), Arc::clone(&connections));
            thread::Builder::new()
                .name("server".to_owned())
                .spawn(move || accept(&listener, service, &stop, &connections))?
        };
        Ok(Self { address, stop, connections, thread: Some(thread) })
    }

    /// A server on the host's IPv4 address and a free port.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn v4(host: &Host, service: Service) -> Result<Self> {
        Self::start(host, SocketAddr::new(host.v4.into(), 0), service)
    }

    /// A server on the host's IPv6 address and a free port.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn v6(host: &Host, service: Service) -> Result<Self> {
        Self::start(host, SocketAddr::new(host.v6.into(), 0), service)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, service: Service, stop: &AtomicBool, connections: &Mutex<Vec<TcpStream>>) {
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, 50_u16);
        let Ok((stream, _)) = listener.accept() else { continue };
        let _ = stream.set_nonblocking(false);
        if let Ok(clone) = stream.try_clone() {
            connections.lock().unwrap_or_else(PoisonError::into_inner).push(clone);
        }
        // Ends with its connection, which the client closes, or else the server's drop.
        let _ = thread::Builder::new().name("service".to_owned()).spawn(move || serve(stream, service));
    }
}

fn serve(mut stream: TcpStream, service: Service) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match service {
        Service::Respond { request, response } => {
            super::priority::before_others();
            let mut buffer = vec![0; request];
            let answer = vec![b'r'; response];
            loop {
                stream.read_exact(&mut buffer)?;
                stream.write_all(&answer)?;
            }
        }
        Service::Sink => {
            let mut buffer = vec![0; 1 << 20];
            while stream.read(&mut buffer)? > 0 {}
            Ok(())
        }
    }
}

/// Lets a connection end with a RST once it is closed (socket(7), `SO_LINGER`).
///
/// # Errors
///
/// It is no socket any more.
pub fn end_with_reset(stream: &TcpStream) -> Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    Ok(setsockopt(stream, sockopt::Linger, &linger)?)
}

/// Connects from `host`, from its address `from` where given.
///
/// # Errors
///
/// The connection fails, or does not come about within ten seconds.
pub fn connect(host: &Host, to: SocketAddr) -> Result<TcpStream> {
    let stream = host
        .enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)))
        .with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// Requests that wait for their responses.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// How many.
    pub count: usize,
    /// Bytes of a request.
    pub request: usize,
    /// Bytes of a response.
    pub response: usize,
    /// Pause after each.
    pub pause: Duration,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { count: 100, request: 100, response: 200, pause: Duration::ZERO }
    }
}

impl Rounds {
    /// The service that answers them.
    #[must_use]
    pub fn service(self) -> Service {
        Service::Respond { request: self.request, response: self.response }
    }

    /// Drives them over `stream`.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub fn drive(self, stream: &mut TcpStream) -> Result<Exchange> {
        let request = vec![b'q'; self.request];
        let mut response = vec![0; self.response];
        let mut times = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let start = Instant::now();
            stream.write_all(&request)?;
            stream.read_exact(&mut response)?;
            times.push(start.elapsed());
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
        Ok(Exchange {
            local: stream.local_addr()?,
            remote: stream.peer_addr()?,
            times,
            info: vec![TcpInfo::of(stream)?],
        })
    }

    /// Connects from `host` and drives them.
    ///
    /// # Errors
    ///
    /// As [`connect`] and [`Rounds::drive`].
    pub fn run(self, host: &Host, to: SocketAddr) -> Result<Exchange> {
        self.drive(&mut connect(host, to)?)
    }
}

/// Writes over `stream` as fast as it takes it, for `time`.
///
/// # Errors
///
/// The connection breaks.
pub fn bulk(stream: &mut TcpStream, time: Duration) -> Result<(u64, Exchange)> {
    let data = vec![b'x'; 256 << 10];
    let start = Instant::now();
    let mut sent = 0;
    let mut info = Vec::new();
    let mut next = Duration::ZERO;
    while start.elapsed() < time {
        sent += stream.write(&data)? as u64;
        if start.elapsed() >= next {
            info.push(TcpInfo::of(stream)?);
            next += Duration::from_millis(20);
        }
    }
    info.push(TcpInfo::of(stream)?);
    Ok((sent, Exchange { local: stream.local_addr()?, remote: stream.peer_addr()?, times: Vec::new(), info }))
}

/// What a driver saw.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Its own end.
    pub local: SocketAddr,
    /// The server's.
    pub remote: SocketAddr,
    /// What each round took, as the application sees it.
    pub times: Vec<Duration>,
    /// What the kernel says of the connection, as it went; the last one at its end.
    pub info: Vec<TcpInfo>,
}

impl Exchange {
    /// The kernel's last word on the connection.
    #[must_use]
    pub fn last(&self) -> TcpInfo {
        self.info.last().copied().unwrap_or_default()
    }
}

/// A socket address of the same family as `host`'s address `like`, with a free port.
#[must_use]
pub fn any_port(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), 0)
}

/// Host a asks `address` on host b, `pause` between one answer and the next question, until told to stop. What goes
/// wrong it prints: there is then no traffic to show.
pub fn talk(lab: &Lab, address: IpAddr, pause: Duration, stop: &AtomicBool) {
    let rounds = Rounds { count: 1, pause, ..Rounds::default() };
    let talked = Server::start(&lab.b, (address, 0).into(), rounds.service()).and_then(|server| {
        let mut stream = connect(&lab.a, server.address())?;
        while !stop.load(Ordering::Relaxed) {
            rounds.drive(&mut stream)?;
        }
        Ok(())
    });
    if let Err(error) = talked {
        eprintln!("no traffic with {address}: {error:#}");
    }
}
