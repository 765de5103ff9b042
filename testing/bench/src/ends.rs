//! The two ends of TCP connections as processes of their own, which work between the packets as ordinary programs do.
//!
//! A classifier that runs in a tight loop finds its code, its maps and the kernel's helpers in the first-level caches.
//! On a host that does anything else it does not. So client and server are processes here, each of which walks through
//! a working set of data and of code ([`work`]) between one message and the next, and sends at a given rate.

mod client;
mod server;
mod work;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use testing_lab::{Host, Pair};

pub(crate) use work::working_set;

/// Runs an end: what the processes are started with.
#[derive(clap::Args, Debug)]
pub(crate) struct End {
    /// Where the server listens; the client's servers are in its commands
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// The processor it stays on
    #[arg(long)]
    cpu: usize,
}

impl End {
    /// Works until its standard input closes.
    pub(crate) fn main(&self) -> Result<()> {
        let mut cpus = CpuSet::new();
        cpus.set(self.cpu)?;
        sched_setaffinity(Pid::from_raw(0), &cpus)?;
        // Timers otherwise expire up to 50 µs late (prctl(2)), a quarter of the time between two packets at 10 k/s.
        nix::sys::prctl::set_timerslack(1)?;
        testing_lab::before_others();
        match self.listen {
            Some(address) => server::main(address),
            None => client::main(),
        }
    }
}

/// Which processors client and server are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Place {
    /// Each on its own, where there are two. A hook runs on the processor of the process that sends.
    Apart,
    /// Both on one.
    Together,
}

impl Place {
    fn cpus(self) -> [usize; 2] {
        let several = thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
        [0, usize::from(self == Self::Apart && several)]
    }
}

/// What goes over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// A request of 100 bytes, a response of 200.
    RequestResponse,
    /// Chunks of 64 KiB from client to server.
    Upload,
    /// Chunks of 64 KiB from server to client.
    Download,
}

/// How long and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) exchange: Exchange,
    /// Messages (requests, or chunks) a second; `None` for as many as go.
    pub(crate) rate: Option<u32>,
    /// The working set of each end in KiB: half data, half code.
    pub(crate) kib: u32,
    pub(crate) time: Duration,
}

/// Bytes of a chunk: two super-segments.
const CHUNK: u32 = 64 << 10;

/// Chunks that a client asks for at a time.
const CHUNKS: u32 = 16;

impl Load {
    /// What the client asks for in each request.
    fn asked(self) -> Asked {
        let (request, response, count) = match self.exchange {
            Exchange::RequestResponse => (100, 200, 1),
            Exchange::Upload => (CHUNK, 0, 0),
            Exchange::Download => (100, CHUNK, CHUNKS),
        };
        let pause_ns = self.rate.map_or(0, |rate| 1_000_000_000 / rate.max(1));
        Asked { request, response, count, pause_ns, kib: self.kib }
    }
}

/// What a client asks of the server: the head of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    /// Bytes of the request, with this.
    request: u32,
    /// Bytes of each response.
    response: u32,
    /// Responses.
    count: u32,
    /// Nanoseconds from one response to the next.
    pause_ns: u32,
    /// The server's working set.
    kib: u32,
}

impl Asked {
    /// Numbers in it.
    const WORDS: usize = 5;
    /// Bytes of it.
    const BYTES: usize = 4 * Self::WORDS;

    fn words(self) -> [u32; Self::WORDS] {
        [self.request, self.response, self.count, self.pause_ns, self.kib]
    }

    fn from_words([request, response, count, pause_ns, kib]: [u32; Self::WORDS]) -> Self {
        Self { request, response, count, pause_ns, kib }
    }

    /// As words of a command.
    fn line(self) -> String {
        self.words().map(|word| word.to_string()).join(" ")
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let words = self.words();
        std::array::from_fn(|at| words[at / 4].to_le_bytes()[at % 4])
    }

    fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks();
        Self::from_words(std::array::from_fn(|at| u32::from_le_bytes(words[at])))
    }

    /// How long to wait from one message to the next.
    fn pace(self) -> Pace {
        Pace { next: Instant::now(), pause: Duration::from_nanos(self.pause_ns.into()) }
    }
}

/// When the next message is due.
struct Pace {
    next: Instant,
    pause: Duration,
}

impl Pace {
    /// Sleeps until the next message is due; what was missed is not made up for.
    fn wait(&mut self) {
        self.next += self.pause;
        let now = Instant::now();
        match self.next.checked_duration_since(now) {
            Some(rest) => thread::sleep(rest),
            None => self.next = now,
        }
    }
}

/// A process at one end.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start an end")?;
        let (input, output) = (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input, "{line}")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("an end of the connections is gone");
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client says when it has done what it was asked for.
const DONE: &str = "done";

/// A client on host a and a server on host b.
pub(crate) struct Ends {
    client: Process,
    _server: Process,
    port: u16,
}

impl Ends {
    /// Starts both on these processors.
    pub(crate) fn start(pair: &Pair, place: Place) -> Result<Self> {
        let program = std::env::current_exe()?;
        let cpus = place.cpus();
        let command = |host: &Host, cpu: usize| {
            let mut command = host.namespace.command(&program);
            command.arg("end").arg(format!("--cpu={cpu}"));
            command
        };
        let mut server = Process::start(command(&pair.b, cpus[1]).args(["--listen", "[::]:0"]))?;
        let port = server.answer()?.parse().context("the server names no port")?;
        Ok(Self { client: Process::start(&mut command(&pair.a, cpus[0]))?, _server: server, port })
    }

    /// Has the client open connections to the server's address; their numbers follow those opened before.
    pub(crate) fn connect(&mut self, address: impl Into<IpAddr>, count: usize) -> Result<()> {
        let address = SocketAddr::new(address.into(), self.port);
        let answer = self.client.ask(&format!("connect {address} {count}"))?;
        if answer == DONE { Ok(()) } else { bail!("{address}: {answer}") }
    }

    /// Runs a load over connections in turn.
    pub(crate) fn run(&mut self, connections: Range<usize>, load: Load) -> Result<()> {
        let Range { start, end } = connections;
        let answer =
            self.client.ask(&format!("run {start} {end} {} {}", load.time.as_micros(), load.asked().line()))?;
        if answer == DONE { Ok(()) } else { bail!("{answer}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asks_for_arrives_as_it_was() {
        let load = Load { exchange: Exchange::Download, rate: Some(500), kib: 384, time: Duration::ZERO };
        let asked = load.asked();
        assert_eq!(asked, Asked { request: 100, response: CHUNK, count: CHUNKS, pause_ns: 2_000_000, kib: 384 });
        assert_eq!(Asked::from_bytes(asked.to_bytes()), asked);
    }
}
