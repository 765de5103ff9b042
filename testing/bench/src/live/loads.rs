//! What goes between the two hosts while the agent watches.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{net::TcpStream, thread};

use anyhow::{Context as _, Result};

use testing_lab::port::Port;
use testing_lab::traffic::{self, Rounds, Server};
use testing_lab::{INTERFACE, Over, Pair};
use testing_support::workspace::capture;

/// Connections of the request/response load.
const CONNECTIONS: usize = 16;
/// A round: one request, one answer.
const ROUNDS: Rounds = Rounds { count: 100, request: 100, response: 200, pause: Duration::ZERO };
/// Flows of the flood.
const FLOWS: u32 = 4096;
/// Segments between two looks at the clock.
const BURST: u32 = 64;

/// One load.
pub(super) enum Load<'a> {
    /// iperf3 from host a to host b.
    Bulk(&'a Pair, std::process::Child),
    /// Sixteen connections, each with one request at a time.
    Rounds(Vec<TcpStream>, #[allow(dead_code, reason = "serves while it is held")] Server),
    /// Acknowledgements to host a, each of another flow than the one before and each of something new, as fast as one
    /// thread sends them.
    Flood(Port),
}

impl<'a> Load<'a> {
    pub(super) fn all(pair: &'a Pair) -> Result<[Self; 3]> {
        let server = pair.b.namespace.command("iperf3").args(["-s"]).stdout(Stdio::null()).spawn();
        let small = Server::v4(&pair.b, ROUNDS.service())?;
        let connect = |_| traffic::connect(&pair.a, small.address());
        Ok([
            Self::Bulk(pair, server.context("cannot run iperf3")?),
            Self::Rounds((0..CONNECTIONS).map(connect).collect::<Result<_>>()?, small),
            Self::Flood(pair.b.enter(|| Port::sender(INTERFACE))?),
        ])
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Bulk(..) => "iperf3",
            Self::Rounds(..) => "request/response",
            Self::Flood(_) => "flood of acknowledgements",
        }
    }

    /// So many units a second.
    pub(super) fn shown(&self, done: f64) -> String {
        match self {
            Self::Bulk(..) => format!("{:.1} Gbit", done / 1e9),
            Self::Rounds(..) => format!("{:.1} k rounds", done / 1e3),
            Self::Flood(_) => format!("{:.0} k segments", done / 1e3),
        }
    }

    /// Runs for about so long: units of work, and the 50th and 99th percentile of the rounds' times in microseconds.
    pub(super) fn run(&mut self, time: Duration) -> Result<(f64, Option<(f64, f64)>)> {
        match self {
            Self::Bulk(pair, _) => Ok((bulk(pair, time)?, None)),
            Self::Rounds(streams, _) => answers(streams, time),
            Self::Flood(port) => Ok((flood(port, time), None)),
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if let Self::Bulk(_, server) = self {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Bits that arrived.
fn bulk(pair: &Pair, time: Duration) -> Result<f64> {
    let seconds = time.as_secs().max(1).to_string();
    let mut client = pair.a.namespace.command("iperf3");
    client.args(["-c", &pair.b.v4.to_string(), "-t", &seconds, "-J"]);
    let said: serde_json::Value = serde_json::from_str(&capture(&mut client)?)?;
    let bytes = said["end"]["sum_received"]["bytes"].as_f64();
    Ok(bytes.with_context(|| format!("iperf3 said {said}"))? * 8.0)
}

/// Rounds, with their times.
fn answers(streams: &mut [TcpStream], time: Duration) -> Result<(f64, Option<(f64, f64)>)> {
    let over = AtomicBool::new(false);
    let mut times = thread::scope(|scope| {
        let drivers: Vec<_> = streams
            .iter_mut()
            .map(|stream| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        times.extend(ROUNDS.drive(stream)?.times);
                    }
                    Ok::<_, anyhow::Error>(times)
                })
            })
            .collect();
        let ended = Over(&over);
        thread::sleep(time);
        drop(ended);
        drivers
            .into_iter()
            .map(|driver| driver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>>>()
    })?
    .concat();
    times.sort_unstable();
    let percentile = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |t| t.as_secs_f64() * 1e6);
    Ok((times.len() as f64, Some((percentile(50), percentile(99)))))
}

/// Segments that were taken.
fn flood(port: &mut Port, time: Duration) -> f64 {
    let (start, mut number, mut sent) = (Instant::now(), 0_u32, 0.0);
    let mut frame = acknowledgement();
    while start.elapsed() < time {
        for _ in 0..BURST {
            number = number.wrapping_add(1);
            let source_port = (1024 + number % FLOWS) as u16;
            frame[FRAME + 34..FRAME + 36].copy_from_slice(&source_port.to_be_bytes());
            frame[FRAME + 42..FRAME + 46].copy_from_slice(&(number / FLOWS).to_be_bytes());
            sent += f64::from(u8::from(port.send(&frame)));
        }
    }
    sent
}

/// Where the frame begins, behind `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h): nothing to be offloaded.
const FRAME: usize = 10;

/// An ACK from host b to host a, to an Ethernet address that nobody has: the hooks see it, and the stack then drops it
/// unanswered.
fn acknowledgement() -> Vec<u8> {
    let mut frame = vec![0; FRAME];
    frame.extend([2, 0, 0, 0, 0, 99, 2, 0, 0, 0, 0, 2, 8, 0]);
    frame.extend([0x45, 0, 0, 52, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 2, 10, 77, 0, 1]);
    frame.extend([0, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x80, 0x10, 1, 245, 0, 0, 0, 0]);
    frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1]);
    frame
}
