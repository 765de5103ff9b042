//! A sender that holds itself back: `fq` lets a segment wait for the departure time that TCP gave it, behind the
//! classifier's hook and before libpcap's tap. That wait is no part of the round trip.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Path;
use super::network::{Network, tc};
use super::paths::{self, Test};
use testing_lab::INTERFACE;
use testing_lab::agent::Sample;
use testing_lab::traffic::{Server, Service, bulk, connect};

/// 10 Mbit/s: a super-segment of two segments then waits two milliseconds.
const BYTES_PER_SECOND: u32 = 1_250_000;
/// netem's delay on the way back, which `fq` knows nothing of.
const RTT: Duration = Duration::from_millis(20);
const TIME: Duration = Duration::from_secs(2);
/// Fewer samples prove nothing.
const LEAST: usize = 200;
/// How far apart the two sources' samples of the same acknowledgement may be: half of them, and nineteen of twenty.
const MEDIAN_NS: i64 = 200_000;
const MOST_NS: i64 = 500_000;
/// How far the least sample may be from the least round-trip time that TCP itself saw.
const LEAST_RTT_NS: i64 = 500_000;

/// What is tried, by name.
pub(super) const ALL: [(&str, Test); 1] = [("eBPF under fq, paced", paced)];

fn paced() -> Result<Path> {
    let network = Network::new(RTT)?;
    tc(&network.a, &format!("qdisc add dev {INTERFACE} root fq"))?;
    let agents = [paths::start(&network.a, &["--backend", "ebpf"])?, paths::start(&network.a, &["--backend", "pcap"])?];
    let hook = paths::hook_of(&agents[0].log());

    let server = Server::v4(&network.b, Service::Sink)?;
    let mut stream = connect(&network.a, server.address())?;
    pace(&stream).context("SO_MAX_PACING_RATE")?;
    let (sent, exchange) = bulk(&mut stream, TIME)?;
    let rate = sent as f64 / TIME.as_secs_f64() / f64::from(BYTES_PER_SECOND);
    ensure!((0.7..1.5).contains(&rate), "the sender was not paced: {sent} bytes in {TIME:?}");

    let mut found = Vec::new();
    for agent in agents {
        let enough = agent.wait_for_output(Duration::from_secs(10), |lines| lines.len() >= LEAST);
        let finished = agent.stop()?;
        ensure!(enough && finished.status.code() == Some(0), "{}:\n{}", finished.status, finished.stderr.join("\n"));
        found.push(keyed(finished.samples()?));
    }
    let (ebpf, pcap) = (&found[0], &found[1]);
    let mut apart: Vec<i64> =
        ebpf.iter().filter_map(|(key, rtt)| Some(rtt.cast_signed() - pcap.get(key)?.cast_signed())).collect();
    ensure!(apart.len() >= LEAST, "{} samples that both sources have", apart.len());
    apart.sort_unstable_by_key(|ns| ns.abs());
    let (median, most) = (apart[apart.len() / 2], apart[apart.len() * 19 / 20]);

    let least = ebpf.values().min().copied().unwrap_or_default();
    let kernel = exchange.last().min_rtt;
    let path = Path {
        hook: hook.to_owned(),
        samples: apart.len(),
        errors_ns: Some((median, most)),
        note: format!("against libpcap; least {}, tcp_info's {}", millis(least), millis(kernel.as_nanos() as u64)),
        ..Path::default()
    };
    ensure!(
        median.abs() <= MEDIAN_NS && most.abs() <= MOST_NS,
        "half of the samples are more than {median} ns from libpcap's, one in twenty more than {most} ns; {}",
        path.note
    );
    ensure!((least as i64 - kernel.as_nanos() as i64).abs() <= LEAST_RTT_NS, "{}", path.note);
    Ok(path)
}

/// Samples of data by what they are samples of.
fn keyed(samples: Vec<Sample>) -> BTreeMap<(SocketAddr, SocketAddr, u32), u64> {
    samples
        .into_iter()
        .filter(Sample::is_data)
        .map(|sample| ((sample.local, sample.remote, sample.ack), sample.rtt_ns))
        .collect()
}

/// SO_MAX_PACING_RATE (socket(7)).
fn pace(stream: &TcpStream) -> io::Result<()> {
    let rate = BYTES_PER_SECOND;
    // What has been handed to the kernel does not stop when the test does.
    let buffer: libc::c_int = 128 << 10;
    for (option, value, size) in [
        (libc::SO_MAX_PACING_RATE, (&raw const rate).cast::<libc::c_void>(), size_of_val(&rate)),
        (libc::SO_SNDBUF, (&raw const buffer).cast(), size_of_val(&buffer)),
    ] {
        // SAFETY: pointer and size describe a value that outlives the call.
        let result =
            unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, option, value, size as libc::socklen_t) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn millis(ns: u64) -> String {
    format!("{:.3} ms", Duration::from_nanos(ns).as_secs_f64() * 1e3)
}
