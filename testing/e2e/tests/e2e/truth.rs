//! A thousand flows over near and far paths that lose, reorder and duplicate: every sample against what the path itself
//! knows.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use testing_lab::agent::{Agent, Sample};
use testing_lab::traffic::{Server, Service};
use testing_lab::{Host, Impairment, Lab, Link, Offload, TcpInfo, Way};
use testing_truth::oracle::live::{Live, Proof};

use super::court::Verdicts;
use super::support::{Backend, Late, in_time};

/// Round trips that the path imposes, one for each far address.
const PATHS: [Duration; 8] = [
    Duration::from_micros(200),
    Duration::from_micros(600),
    Duration::from_millis(2),
    Duration::from_millis(6),
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(150),
    Duration::from_millis(300),
];
const FLOWS: usize = 1000;
const TRAFFIC: Duration = Duration::from_secs(12);
/// One request is a segment, another a flight of them, in which loss leaves holes.
const REQUESTS: [usize; 4] = [100, 100, 4_000, 20_000];
const RESPONSE: usize = 200;
/// `tcp_timestamps` and `tcp_sack` of a quarter of the flows each.
const KINDS: [[&str; 2]; 4] = [["1", "1"], ["0", "1"], ["1", "0"], ["0", "0"]];
/// Share of samples that may be longer than the path because of what no near end can know.
const UNTOLD: f64 = 0.003;

fn far(path: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 10 + path as u8)
}

/// What a flow's driver saw.
struct Driven {
    local: SocketAddr,
    remote: SocketAddr,
    kernel: TcpInfo,
}

/// Rounds on one connection until the time is over, and what the kernel says of it at the end.
fn drive(to: SocketAddr, request: usize, pause: Duration, until: Instant) -> Option<Driven> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10)).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let (local, remote) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
    let (asked, mut answered) = (vec![b'q'; request], [0; RESPONSE]);
    while Instant::now() < until && stream.write_all(&asked).is_ok() && stream.read_exact(&mut answered).is_ok() {
        thread::sleep(pause);
    }
    Some(Driven { local, remote, kernel: TcpInfo::of(&stream).ok()? })
}

/// All flows at once, from host a: each far address, request size and kind of connection alike.
fn drive_all(a: &Host, servers: &[Server], until: Instant) -> Vec<Driven> {
    a.enter(|| {
        thread::scope(|scope| {
            let mut drivers = Vec::new();
            for [timestamps, sack] in KINDS {
                std::fs::write("/proc/sys/net/ipv4/tcp_timestamps", timestamps).unwrap();
                std::fs::write("/proc/sys/net/ipv4/tcp_sack", sack).unwrap();
                for k in 0..FLOWS / KINDS.len() {
                    let which = k / PATHS.len() % REQUESTS.len();
                    let to = (far(k % PATHS.len()), servers[which].address().port()).into();
                    let large = if REQUESTS[which] > 100 { 400 } else { 0 };
                    let pause = Duration::from_millis(150 + 37 * (k % 11) as u64 + large);
                    let driver = thread::Builder::new().stack_size(128 << 10);
                    let run = move || drive(to, REQUESTS[which], pause, until);
                    drivers.push(driver.spawn_scoped(scope, run).unwrap());
                }
                // The next kind begins when these have sent their SYN.
                thread::sleep(Duration::from_millis(250));
            }
            drivers.into_iter().filter_map(|driver| driver.join().unwrap()).collect()
        })
    })
}

fn lossy_lab() -> Lab {
    let lab = Lab::with_offload(Link::Veth, Offload::Off).unwrap();
    let delay_of: Vec<_> = (0..PATHS.len()).map(|k| (IpAddr::from(far(k)), PATHS[k] / 2)).collect();
    for (way, seed) in Way::BOTH.into_iter().zip(7..) {
        let faults = Impairment { loss: 0.01, reorder: 0.01, duplicate: 0.002, seed, ..Impairment::default() };
        lab.path().impair(way, Impairment { delay_of: delay_of.clone(), ..faults });
    }
    (0..PATHS.len()).for_each(|path| lab.b.add_address(far(path)).unwrap());
    // Tail loss probes, as on other machines: the lab has them off where it wants a path without faults.
    lab.a.namespace.sysctl("net/ipv4/tcp_early_retrans", "3").unwrap();
    lab
}

/// In microseconds, at these shares of the way up.
pub(super) fn quantiles<const N: usize>(mut values: Vec<Duration>, shares: [f64; N]) -> [f64; N] {
    values.sort_unstable();
    let last = values.len().saturating_sub(1) as f64;
    shares.map(|share| values.get((last * share).round() as usize).map_or(0.0, |value| value.as_secs_f64() * 1e6))
}

pub(super) fn error((sample, proof): &(&Sample, Proof)) -> Duration {
    Duration::from_nanos(sample.rtt_ns.abs_diff(proof.truth_ns))
}

fn path_of(sample: &Sample) -> usize {
    (0..PATHS.len()).find(|path| IpAddr::from(far(*path)) == sample.remote.ip()).unwrap()
}

/// The least of each flow's samples, beside the kernel's of the same socket.
fn apart_from_the_kernel(driven: &[Driven], samples: &[Sample]) -> Vec<Duration> {
    let mut least: BTreeMap<(SocketAddr, SocketAddr), Duration> = BTreeMap::new();
    for sample in samples {
        let least = least.entry((sample.local, sample.remote)).or_insert(Duration::MAX);
        *least = sample.rtt().min(*least);
    }
    driven
        .iter()
        .filter_map(|flow| Some(least.get(&(flow.local, flow.remote))?.abs_diff(flow.kernel.min_rtt)))
        .collect()
}

fn try_a_thousand_flows() -> Result<(), Late> {
    let lab = lossy_lab();
    let serve = |request: &usize| {
        let service = Service::Respond { request: *request, response: RESPONSE };
        Server::start(&lab.b, ([0, 0, 0, 0], 0).into(), service).unwrap()
    };
    let servers: Vec<Server> = REQUESTS.iter().map(serve).collect();
    let args = ["run", "--interface", "eth0", "--backend", Backend::Ebpf.name(), "--target", "10.77.0.0/24"];
    let json = ["--output", "json", "--samples", "--interval", "1"];
    let agent = Agent::start(&lab.a, args.into_iter().chain(json)).unwrap();
    lab.path().record();
    let driven = drive_all(&lab.a, &servers, Instant::now() + TRAFFIC);
    // What is on its way arrives, and another report is due.
    thread::sleep(Duration::from_millis(1200));
    let finished = agent.stop().unwrap();
    let passages = lab.path().passages();
    assert_eq!(finished.status.code(), Some(0));
    let samples = finished.samples().unwrap();
    let health = finished.stdout.iter().rev().find(|line| line.contains("\"health\"")).unwrap();
    for nothing in ["\"lost\":0", "\"dropped_samples\":0"] {
        assert!(health.contains(nothing), "{health}");
    }

    let live = Live::new(&passages);
    let verdicts = Verdicts::of(&live, &samples);
    let (proofs, untold) = (&verdicts.proofs, verdicts.untold());
    let acks: usize = driven.iter().map(|flow| live.acknowledgements(flow.local, flow.remote)).sum();
    println!(
        "{} flows, {} frames, {acks} acknowledgements of something new, {} samples, {} wrong, untold: {untold:?}",
        driven.len(),
        passages.len(),
        samples.len(),
        verdicts.wrong.len()
    );
    println!("   path ms  samples  least ms | error in us: p50     p99     max");
    for (path, rtt) in PATHS.iter().enumerate() {
        let of = || proofs.iter().filter(|(sample, _)| path_of(sample) == path);
        let least = of().map(|(sample, _)| sample.rtt()).min().unwrap_or_default();
        let [middle, most, max] = quantiles(of().map(error).collect(), [0.5, 0.99, 1.0]);
        let (ms, least) = (rtt.as_secs_f64() * 1e3, least.as_secs_f64() * 1e3);
        println!("{ms:10.1} {:8} {least:9.3} | {middle:17.1} {most:7.1} {max:7.1}", of().count());
    }
    let [middle, most, max] = quantiles(proofs.iter().map(error).collect(), [0.5, 0.99, 1.0]);
    println!("       all {:8}           | {middle:17.1} {most:7.1} {max:7.1}", proofs.len());
    let apart = quantiles(apart_from_the_kernel(&driven, &samples), [0.5, 0.99, 1.0]);
    println!(
        "least of a flow, from the kernel's min RTT of its socket, in us: p50 {:.1}, p99 {:.1}, max {:.1}",
        apart[0], apart[1], apart[2]
    );

    verdicts.assert_true(|sample| PATHS[path_of(sample)]);
    let count: usize = untold.values().sum();
    assert!(count as f64 <= samples.len() as f64 * UNTOLD, "{count} of {} cannot be known", samples.len());
    assert!(samples.len() * 100 >= acks * 90, "{} samples of {acks} acknowledgements", samples.len());
    // What a path of 300 ms and a lossy start need more than ten seconds for is not driven.
    if driven.len() < FLOWS * 99 / 100 {
        return Err(format!("{} flows", driven.len()));
    }
    if most > 1000.0 || apart[1] > 1000.0 {
        return Err(format!("one in a hundred is {most} us off, {} us from the kernel's", apart[1]));
    }
    Ok(())
}

#[test]
fn of_a_thousand_flows_over_lossy_paths_every_sample_is_true() {
    in_time("a thousand flows", try_a_thousand_flows);
}
