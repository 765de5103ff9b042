//! A DogStatsD server that keeps what it hears, and a parser that lets nothing pass that the protocol does not know.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::Host;

/// A datagram and when it came.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// When.
    pub at: Instant,
    /// What, byte for byte.
    pub bytes: Vec<u8>,
}

/// Listens until dropped.
#[derive(Debug)]
pub struct Listener {
    datagrams: Arc<Mutex<Vec<Datagram>>>,
    stop: Arc<AtomicBool>,
    /// How often nothing had come within a [`TICK`].
    idle: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// How long one wait for a datagram is, at most.
const TICK: Duration = Duration::from_millis(20);

impl Listener {
    /// Listens on a UDP port of a host's loopback.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn udp(host: &Host, port: u16) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let socket = host.enter(|| UdpSocket::bind(address)).with_context(|| format!("cannot listen on {address}"))?;
        socket.set_read_timeout(Some(TICK))?;
        Self::start(move |buffer| socket.recv(buffer))
    }

    /// Listens on a Unix datagram socket.
    ///
    /// # Errors
    ///
    /// The path is taken.
    pub fn unix(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        socket.set_read_timeout(Some(TICK))?;
        Self::start(move |buffer| socket.recv(buffer))
    }

    fn start(mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize> + Send + 'static) -> Result<Self> {
        let datagrams = Arc::<Mutex<Vec<Datagram>>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let idle = Arc::<AtomicU64>::default();
        let thread = {
            let (datagrams, stop, idle) = (Arc::clone(&datagrams), Arc::clone(&stop), Arc::clone(&idle));
            thread::Builder::new().name("statsd".to_owned()).spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(length) = receive(&mut buffer) {
                        let datagram = Datagram { at: Instant::now(), bytes: buffer[..length].to_vec() };
                        datagrams.lock().unwrap_or_else(PoisonError::into_inner).push(datagram);
                    } else {
                        idle.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })?
        };
        Ok(Self { datagrams, stop, idle, thread: Some(thread) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Datagram>> {
        self.datagrams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came so far.
    #[must_use]
    pub fn datagrams(&self) -> Vec<Datagram> {
        self.lock().clone()
    }

    /// Waits until everything that was sent before has been read.
    pub fn drain(&self) {
        let before = self.idle.load(Ordering::Relaxed);
        // One that began before this may have ended before the last datagram.
        while self.idle.load(Ordering::Relaxed) < before + 2 {
            thread::sleep(TICK);
        }
    }

    /// Takes what came so far away.
    #[must_use]
    pub fn take(&self) -> Vec<Datagram> {
        std::mem::take(&mut *self.lock())
    }

    /// The metrics of all datagrams so far, in order.
    ///
    /// # Errors
    ///
    /// A datagram that no DogStatsD server would accept in full.
    pub fn metrics(&self) -> Result<Vec<Metric>> {
        let datagrams = self.datagrams();
        let parsed: Result<Vec<_>> = datagrams.iter().map(|datagram| parse(&datagram.bytes)).collect();
        Ok(parsed?.concat())
    }

    /// Waits until a metric of this name has come; false if none does within `limit`.
    #[must_use]
    pub fn wait_for(&self, name: &str, limit: Duration) -> bool {
        let start = Instant::now();
        let prefix = format!("{name}:");
        while start.elapsed() < limit {
            let heard = self.lock().iter().any(|datagram| {
                datagram.bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(prefix.as_bytes()))
            });
            if heard {
                return true;
            }
            thread::sleep(TICK);
        }
        false
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One line of a datagram.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its values: more than one where they were packed.
    pub values: Vec<f64>,
    /// `g`, `c`, `d`, `h`, `ms` or `s`.
    pub kind: String,
    /// Sampling rate, where given.
    pub rate: Option<f64>,
    /// Tags, in order.
    pub tags: Vec<String>,
}

impl Metric {
    /// The value of the tag `key`, where there is one.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix(':'))
    }
}

/// Parses a datagram: lines of `name:value[:value...]|type[|@rate][|#tag,...]`, and the fields that tell of the sender:
/// `|c:`, `|e:`, `|card:`.
///
/// # Errors
///
/// Anything else, naming the line.
pub fn parse(datagram: &[u8]) -> Result<Vec<Metric>> {
    let text = std::str::from_utf8(datagram).context("a datagram that is not UTF-8")?;
    // A trailing newline is allowed, an empty line is not.
    text.strip_suffix('\n')
        .unwrap_or(text)
        .split('\n')
        .map(|line| parse_line(line).with_context(|| format!("in the line {line:?}")))
        .collect()
}

fn parse_line(line: &str) -> Result<Metric> {
    let mut fields = line.split('|');
    let mut parts = fields.next().unwrap_or_default().split(':');
    let name = parts.next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
    ensure!(name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_name), "bad name {name:?}");
    let values: Vec<f64> =
        parts.map(|value| value.parse().with_context(|| format!("bad value {value:?}"))).collect::<Result<_>>()?;
    ensure!(!values.is_empty(), "no value");
    ensure!(values.iter().all(|value| value.is_finite()), "a value that is no number");
    let kind = fields.next().context("no type")?;
    ensure!(["g", "c", "d", "h", "ms", "s"].contains(&kind), "unknown type {kind:?}");
    let mut metric = Metric { name: name.to_owned(), values, kind: kind.to_owned(), rate: None, tags: Vec::new() };
    for field in fields {
        if let Some(rate) = field.strip_prefix('@') {
            let rate: f64 = rate.parse()?;
            ensure!(rate > 0.0 && rate <= 1.0, "bad rate {rate}");
            metric.rate = Some(rate);
        } else if let Some(tags) = field.strip_prefix('#') {
            ensure!(metric.tags.is_empty(), "tags twice");
            metric.tags = tags.split(',').map(str::to_owned).collect();
            ensure!(metric.tags.iter().all(|tag| !tag.is_empty() && !tag.contains(char::is_whitespace)), "bad tag");
        } else if !["c:", "e:", "card:"].iter().any(|key| field.starts_with(key)) {
            bail!("unknown field {field:?}");
        }
    }
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documented_line_is_understood() {
        let metrics = parse(
            b"system.net.tcp.rtt.avg:21.385726|g|#src:10.42.31.222,dst:::1,env:test,iface:va\na.b:1:2.5|d|@0.5\n",
        )
        .unwrap();
        assert_eq!(metrics[0].values, [21.385_726]);
        assert_eq!(metrics[0].tag("dst"), Some("::1"));
        assert_eq!(metrics[0].tags.len(), 4);
        assert_eq!((metrics[1].values.clone(), metrics[1].rate), (vec![1.0, 2.5], Some(0.5)));
    }

    #[test]
    fn what_a_server_would_drop_is_an_error() {
        for bad in [
            "a:1|g\n\nb:1|g",
            "a|g",
            "a:x|g",
            "a:1|q",
            "a:1",
            "a:1|g|#a,,b",
            "a:1|g|#a b",
            "a:1|g|?",
            "a b:1|g",
            "a:1|g|@2",
            "",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
