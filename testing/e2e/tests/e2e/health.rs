//! The health of connections against the kernel's own counters of the namespace that they begin in: retransmissions by
//! cause, how connections open and end; and the base and the queue of a path, windows that are closed, congestion that
//! is echoed and the other end's own time, against what passed over the wire.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testing_lab::agent::run_once;
use testing_lab::passage::Passage;
use testing_lab::tcpdump::Tcpdump;
use testing_lab::traffic::{Rounds, Server, connect, end_with_reset};
use testing_lab::{INTERFACE, Impairment, Lab, Queue, Way};

use super::support::{Backend, Late, in_time, timely};
use super::wire::{RTT, agent_with, connections_for, connections_to, impair, lab, while_driving};

const HEALTH: &str = "metrics: [default, health, base]";
const TRAFFIC: Duration = Duration::from_secs(3);

/// What the kernel has counted in the first host's namespace (proc_net(5), Documentation/networking/snmp_counter.rst).
fn kernel(lab: &Lab) -> BTreeMap<String, i64> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let text = lab.a.enter(|| read("snmp") + &read("netstat"));
    let lines: Vec<&str> = text.lines().collect();
    let both = lines.chunks(2).flat_map(|pair| pair[0].split_whitespace().zip(pair[1].split_whitespace()).skip(1));
    both.map(|(name, value)| (name.to_owned(), value.parse().unwrap_or_default())).collect()
}

/// A number of all intervals of a pair together, by its place below `peer`.
fn sum(lines: &[String], place: &str) -> i64 {
    let pairs = lines.iter().filter(|line| line.contains("\"peer\""));
    let pairs = pairs.map(|line| serde_json::from_str::<Value>(line).unwrap());
    pairs.map(|pair| pair.pointer(&format!("/peer/{place}")).and_then(Value::as_i64).unwrap_or(0)).sum()
}

fn is_complete(lines: &[String]) -> bool {
    !lines.iter().any(|line| line.contains("\"incomplete\":true"))
}

const CAUSES: [&str; 5] = ["syn", "timeout", "fast", "tail_probe", "unknown"];

#[test]
fn retransmissions_and_their_causes_are_those_that_the_kernel_counts() {
    let path = |loss, seed| Impairment { loss, jitter: RTT / 20, seed, ..Impairment::delay(RTT / 2) };
    let mixed = |seed| Impairment { reorder: 0.01, duplicate: 0.01, ..path(0.01, seed) };
    // Once D-SACKs come, a sender waits for up to a round trip for what may have been overtaken.
    let worse = |seed| Impairment { reorder: 0.02, duplicate: 0.02, ..path(0.03, seed) };
    let bursts = |seed| Impairment { burst: 0.7, ..path(0.005, seed) };
    let paths = [
        ("no faults", Family::V4, path(0.0, 1)),
        ("1 % lost", Family::V4, path(0.01, 2)),
        ("5 % lost", Family::V4, path(0.05, 3)),
        ("bursts of loss", Family::V4, bursts(4)),
        ("lost, reordered and doubled", Family::V4, mixed(5)),
        ("more lost, reordered and doubled", Family::V4, worse(9)),
        ("IPv6, 2 % lost", Family::V6, path(0.02, 6)),
        ("IPv6, bursts of loss", Family::V6, bursts(7)),
        ("IPv6, lost, reordered and doubled", Family::V6, mixed(8)),
    ];
    let [mut all, mut right] = [0, 0];
    for (name, family, path) in paths {
        in_time(name, || {
            let (retransmitted, agree) = compare(name, family, &path)?;
            all += retransmitted;
            right += agree;
            Ok(())
        });
    }
    println!("{right} of {all} causes are the kernel's");
    // 98.0 to 99.5 of a hundred in ten runs: what a busy machine delays looks like another cause.
    assert!(all > 500 && right * 100 >= all * 97, "{right} of {all} causes are the kernel's");
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// Retransmissions over a path, and how many of them have the cause that the kernel counts.
fn compare(name: &str, family: Family, path: &Impairment) -> Result<(i64, i64), Late> {
    let lab = lab();
    let agent = agent_with(&lab, Backend::Ebpf, HEALTH);
    let before = kernel(&lab);
    let (_servers, streams) = of_all_sizes(&lab, family);
    impair(&lab, path.clone(), Impairment { seed: path.seed + 100, loss: path.loss / 2.0, ..path.clone() });
    while_driving(streams, || thread::sleep(TRAFFIC));
    let after = kernel(&lab);
    let finished = agent.stop().unwrap();
    // What is sent again while it ends, as FINs are where the path is slow, may be counted or not.
    let in_the_end = kernel(&lab)["RetransSegs"] - after["RetransSegs"];
    let lines = &finished.stdout;
    timely(is_complete(lines), || format!("{name}: records were lost"))?;
    let grown = |name: &str| after[name] - before[name];
    let [syn, fast] = ["TCPSynRetrans", "TCPFastRetrans"].map(grown);
    let timeout = grown("TCPTimeouts") - syn + grown("TCPSlowStartRetrans");
    let total = grown("RetransSegs");
    let theirs = [syn, timeout, fast, total - syn - timeout - fast, 0];
    let ours = CAUSES.map(|cause| sum(lines, &format!("retransmits/{cause}")));
    let wrong: i64 = ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).max(0)).sum();
    let spurious = sum(lines, "spurious_retransmits");
    println!("{name}: {CAUSES:?}: {ours:?}, the kernel: {theirs:?}");
    println!("  spurious {spurious}; the kernel: D-SACKs {}", grown("TCPDSACKRecv") + grown("TCPDSACKOfoRecv"));
    println!("  counted by the kernel and not sent: {}", grown("TCPRetransFail"));
    let passages = lab.path().passages();
    let sent = sent(&passages);
    println!("  needless on the path: {}", needless(&passages));
    let mut next: HashMap<Vec<u8>, u32> = HashMap::new();
    let is_again = |(_, tcp): &&(u64, Tcp)| {
        let nxt = next.entry(tcp.ends.clone()).or_insert(tcp.seq);
        let is_again = (tcp.seq.wrapping_sub(*nxt) as i32) < 0;
        let end = tcp.seq.wrapping_add(tcp.space() as u32);
        *nxt = if (end.wrapping_sub(*nxt) as i32) > 0 { end } else { *nxt };
        is_again
    };
    println!("  sent again on the wire: {}", sent.iter().filter(is_again).count());
    let more = ours.iter().sum::<i64>() - total;
    let what = || format!("{name}: {more} more retransmissions than the kernel's {total}, {in_the_end} while it ended");
    // One in some ten thousand is missed, and it is not known yet which.
    timely((0..=in_the_end).contains(&more), what)?;
    assert!(more.abs() <= in_the_end + 1 + total / 1000, "{}", what());
    let segments = (sum(lines, "segments"), sum(lines, "bytes"));
    let wire = segments_and_bytes(&sent);
    println!("  segments and bytes {segments:?}, on the wire {wire:?}");
    assert_eq!(segments, wire, "{name}: segments and bytes");
    let [connected, opened] = [sum(lines, "connects/established/client"), grown("ActiveOpens")];
    assert_eq!(connected, opened, "{name}: connections");
    Ok((total, total - wrong))
}

/// Connections of every kind for requests from less than a segment to many round trips.
fn of_all_sizes(lab: &Lab, family: Family) -> (Vec<Server>, Vec<(TcpStream, Rounds)>) {
    let requests = [500, 2_896, 20_000, 60_000, 400_000];
    let rounds = requests.map(|request| Rounds { count: 1, request, pause: RTT * 2, ..Rounds::default() });
    let to = match family {
        Family::V4 => lab.b.v4.into(),
        Family::V6 => lab.b.v6.into(),
    };
    connections_to(lab, to, &rounds)
}

/// The first host's segments with payload or FIN that the path was handed, cut as they go over the wire, with when.
fn sent(passages: &[Passage]) -> Vec<(u64, Tcp)> {
    let out = passages.iter().filter(|passage| passage.way == Way::AToB);
    let out = out.filter_map(|passage| Some((passage.left_ns, tcp(passage)?)));
    let mut sent: Vec<(u64, Tcp)> = out.filter(|(_, tcp)| tcp.space() > 0).collect();
    // A frame that is doubled has two ways, and left once.
    sent.sort_unstable();
    sent.dedup();
    sent
}

fn segments_and_bytes(sent: &[(u64, Tcp)]) -> (i64, i64) {
    (sent.len() as i64, sent.iter().map(|(_, tcp)| tcp.len as i64).sum())
}

#[test]
fn with_libpcap_and_in_a_capture_a_super_segment_is_as_many_segments_as_on_the_wire() {
    // With the last one, the MTU alone would give too few.
    for (name, family, mss) in
        [("IPv4", Family::V4, None), ("IPv6", Family::V6, None), ("MSS", Family::V4, Some(1_000))]
    {
        in_time(name, || {
            let lab = lab();
            if let Some(mss) = mss {
                let host = &lab.b;
                let route = format!("route replace 10.77.0.0/24 dev {INTERFACE} src {} advmss {mss}", host.v4);
                host.namespace.ip(&route).unwrap();
            }
            // Room for what waits while a busy machine does something else.
            let settings = format!("{HEALTH}, ring_size: 64MiB");
            let agents = Backend::BOTH.map(|backend| agent_with(&lab, backend, &settings));
            let captured = Captured::start(&lab);
            let (_servers, streams) = of_all_sizes(&lab, family);
            // It has only the MTU to go by.
            let late = agent_with(&lab, Backend::Pcap, &settings);
            let lossy = |seed| Impairment { loss: 0.02, seed, ..Impairment::delay(RTT / 2) };
            impair(&lab, lossy(21), lossy(22));
            while_driving(streams, || thread::sleep(TRAFFIC));
            let [ebpf, pcap] = agents.map(|agent| agent.stop().unwrap().stdout);
            let (late, read) = (late.stop().unwrap().stdout, captured.read(&lab));
            let (segments, bytes) = segments_and_bytes(&sent(&lab.path().passages()));
            println!("{name}: on the wire {segments} segments of {bytes} bytes");
            for (of, lines) in [("eBPF", ebpf), ("libpcap", pcap), ("a capture", read), ("libpcap, late", late)] {
                let again: i64 = CAUSES.iter().map(|cause| sum(&lines, &format!("retransmits/{cause}"))).sum();
                let ours = (sum(&lines, "segments"), sum(&lines, "bytes"));
                println!("  {of}: {ours:?}, {again} sent again");
                timely(is_complete(&lines) && ours.1 == bytes, || format!("{name}, {of}: records were lost"))?;
                if of != "libpcap, late" || mss.is_none() {
                    assert_eq!(ours.0, segments, "{name}, {of}");
                }
            }
            Ok(())
        });
    }
}

/// How many data frames of the first host's arrived although another with their first byte had arrived before they left
/// again.
fn needless(passages: &[Passage]) -> usize {
    let mut arrived: HashMap<(Vec<u8>, u32), (u64, u64)> = HashMap::new();
    let mut count = 0;
    for passage in passages.iter().filter(|passage| passage.way == Way::AToB) {
        let Some(tcp) = tcp(passage).filter(|tcp| tcp.space() > 0) else { continue };
        let Some(at) = passage.arrived_ns else { continue };
        let key = (tcp.ends, tcp.seq);
        match arrived.get(&key) {
            Some((left, first)) if *left != passage.left_ns => count += usize::from(*first < at),
            Some(_) => {}
            None => drop(arrived.insert(key, (passage.left_ns, at))),
        }
    }
    count
}

#[test]
fn connections_are_established_refused_reset_closed_and_given_up() {
    for backend in Backend::BOTH {
        let lab = Lab::new(testing_lab::Link::Veth).unwrap();
        lab.path().set_rtt(RTT);
        let before = kernel(&lab);
        let agent = agent_with(&lab, backend, "metrics: [default, health], connect_timeout: 2");
        let server = Server::v4(&lab.b, Rounds::default().service()).unwrap();
        // Three are used and closed, two are reset from here.
        for _ in 0..3 {
            Rounds { count: 3, ..Rounds::default() }.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
        }
        for _ in 0..2 {
            let mut stream = connect(&lab.a, server.address()).unwrap();
            Rounds { count: 1, ..Rounds::default() }.drive(&mut stream).unwrap();
            reset(&stream);
        }
        // One that the other end has reset, and one that comes from there.
        let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0))).unwrap();
        let near = connect(&lab.a, listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        reset(&far);
        drop((far, listener));
        let listener = lab.a.enter(|| TcpListener::bind((lab.a.v4, 0))).unwrap();
        let mut far = connect(&lab.b, listener.local_addr().unwrap()).unwrap();
        let (mut here, _) = listener.accept().unwrap();
        here.write_all(b"hello").unwrap();
        far.read_exact(&mut [0; 5]).unwrap();
        far.shutdown(Shutdown::Both).unwrap();
        drop((here, far));
        // Nobody listens at these, here and there.
        let unused = |host: &testing_lab::Host| {
            let listener = host.enter(|| TcpListener::bind((host.v4, 0))).unwrap();
            listener.local_addr().unwrap()
        };
        for _ in 0..4 {
            connect(&lab.a, unused(&lab.b)).unwrap_err();
        }
        connect(&lab.b, unused(&lab.a)).unwrap_err();
        // The path ends, once all that was closed is closed at both ends.
        let address = server.address();
        drop(server);
        thread::sleep(10 * RTT);
        lab.path().impair(Way::AToB, Impairment { loss: 1.0, ..Impairment::delay(RTT / 2) });
        lab.a.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(3))).unwrap_err();
        thread::sleep(Duration::from_millis(2500));
        drop(near);
        let lines = agent.stop().unwrap().stdout;
        let counts = |places: &[&str]| places.iter().map(|place| sum(&lines, place)).collect::<Vec<_>>();
        let client = ["established", "refused", "timeout", "reset"].map(|result| format!("connects/{result}/client"));
        let client = counts(&client.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(client, [6, 4, 1, 0], "{backend:?}");
        assert_eq!(counts(&["connects/established/server", "connects/refused/server"]), [1, 1], "{backend:?}");
        assert_eq!(counts(&["resets/local", "resets/remote"]), [2, 1], "{backend:?}");
        let repeated = kernel(&lab)["TCPSynRetrans"] - before["TCPSynRetrans"];
        assert!(repeated > 0, "the SYN was repeated");
        assert_eq!(counts(&["closes", "retransmits/syn"]), [4, repeated], "{backend:?}: closed in order, and repeated");
    }
}

/// Closes a connection with a RST.
fn reset(stream: &TcpStream) {
    end_with_reset(stream).unwrap();
    // What keeps it open elsewhere is of this process.
    stream.shutdown(Shutdown::Read).ok();
}

#[test]
fn a_queue_shows_above_the_base_of_its_path() {
    in_time("queue", || {
        let lab = lab();
        let agent = agent_with(&lab, Backend::Ebpf, HEALTH);
        let rounds = Rounds { count: 20, ..Rounds::default() };
        let server = Server::v4(&lab.b, rounds.service()).unwrap();
        let alone = rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
        // Two transfers without end keep it as full as it gets: 40 ms.
        let deep = Duration::from_millis(40);
        let queue = Some(Queue::of(20_000_000, deep));
        impair(&lab, Impairment { queue, ..Impairment::delay(RTT / 2) }, Impairment::delay(RTT / 2));
        let bulk = Rounds { count: 1, request: 4 << 20, response: 0, ..Rounds::default() };
        let (_servers, streams) = connections_for(&lab, &[bulk]);
        while_driving(streams, || thread::sleep(TRAFFIC));
        let lines = agent.stop().unwrap().stdout;
        let pairs = lines.iter().filter(|line| line.contains("\"base_ms\""));
        let pairs: Vec<Value> = pairs.map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |pair: &Value, place: &str| pair.pointer(place).and_then(Value::as_f64).unwrap_or(0.0);
        let fullest = pairs.iter().max_by(|a, b| of(a, "/queueing_ms").total_cmp(&of(b, "/queueing_ms"))).unwrap();
        let [base, queueing, p50] = ["/base_ms", "/queueing_ms", "/data/p50_ms"].map(|place| of(fullest, place));
        println!("base {base} ms, queueing {queueing} ms of {p50} ms; alone {:?}", alone.times.iter().min());
        let near = |value: f64, expected: f64| (value - expected).abs() <= expected * 0.05;
        assert!((base + queueing - p50).abs() < 0.01, "{base} and {queueing} are not {p50}");
        timely(near(base, RTT.as_secs_f64() * 1e3), || format!("base {base} ms"))?;
        // What each frame waited, of those whose acknowledgements came within that interval.
        let end = fullest["time_ns"].as_u64().unwrap();
        let interval = end - (of(fullest, "/interval_s") * 1e9) as u64..end;
        let (one_way, passages) = ((RTT / 2).as_nanos() as u64, lab.path().passages());
        let sent = passages.iter().filter(|passage| passage.way == Way::AToB);
        let sent = sent.filter(|passage| tcp(passage).is_some_and(|tcp| tcp.len > 0));
        let arrived = sent.filter_map(|passage| Some((passage.left_ns, passage.arrived_ns?)));
        let acknowledged = arrived.filter(|(_, arrived)| interval.contains(&(arrived + one_way)));
        let waited = median(acknowledged.map(|(left, arrived)| (arrived - left - one_way) as f64 / 1e6).collect());
        println!("frames waited for {waited} ms");
        timely(queueing > 10.0 && near(queueing, waited), || {
            format!("queueing {queueing} ms, while frames waited for {waited} ms")
        })
    });
}

/// TCP of a frame in Ethernet over IP without options.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tcp {
    /// Addresses and ports, as the frame has them.
    ends: Vec<u8>,
    /// This host's port.
    port: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    /// Bytes of payload.
    len: usize,
}

impl Tcp {
    /// Sequence numbers that it takes, but for a SYN's.
    fn space(&self) -> usize {
        self.len + usize::from(self.flags & FIN)
    }
}

fn tcp(passage: &Passage) -> Option<Tcp> {
    let head = &passage.head;
    let half = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
    let (addresses, tcp, end) = match (half(12), head[20], head[23]) {
        (0x800, _, 6) => (26..34, 34, 14 + usize::from(half(16))),
        (0x86dd, 6, _) => (22..54, 54, 54 + usize::from(half(18))),
        _ => return None,
    };
    Some(Tcp {
        ends: [&head[addresses], &head[tcp..tcp + 4]].concat(),
        port: half(if passage.way == Way::AToB { tcp } else { tcp + 2 }),
        seq: word(tcp + 4),
        ack: word(tcp + 8),
        flags: head[tcp + 13],
        window: half(tcp + 14),
        len: end - tcp - usize::from(head[tcp + 12] >> 4) * 4,
    })
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ECE: u8 = 0x40;

/// What came to the first host, in its order, with when.
fn arrived(passages: &[Passage]) -> Vec<(u64, Tcp)> {
    let back = passages.iter().filter(|passage| passage.way == Way::BToA);
    let mut all: Vec<(u64, Tcp)> = back.filter_map(|passage| Some((passage.arrived_ns?, tcp(passage)?))).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

/// A capture of all that passes the first host, and what `read` makes of it: its lines.
struct Captured {
    tcpdump: Tcpdump,
    folder: tempfile::TempDir,
}

impl Captured {
    fn start(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { tcpdump: Tcpdump::start(&lab.a, &folder.path().join("all.pcap")).unwrap(), folder }
    }

    fn read(self, lab: &Lab) -> Vec<String> {
        self.tcpdump.stop().unwrap();
        let (file, [v4, v6]) = (self.folder.path().join("all.pcap"), [lab.a.v4.to_string(), lab.a.v6.to_string()]);
        if let Some(kept) = std::env::var_os("GO_METRO_KEEP") {
            std::fs::copy(&file, kept).unwrap();
        }
        let finished =
            run_once(["read", file.to_str().unwrap(), "--local", &v4, "--local", &v6, "--health", "--json"]).unwrap();
        assert!(finished.status.success(), "{:?}", finished.stderr);
        finished.stdout
    }
}

/// For how long windows were zero on the wire, in milliseconds.
fn closed_ms(passages: &[Passage]) -> f64 {
    let mut since: HashMap<u16, u64> = HashMap::new();
    let mut ns = 0;
    for (at, tcp) in arrived(passages).into_iter().filter(|(_, tcp)| tcp.flags & (SYN | FIN | RST) == 0) {
        if tcp.window == 0 {
            since.entry(tcp.port).or_insert(at);
        } else {
            ns += since.remove(&tcp.port).map_or(0, |since| at - since);
        }
    }
    ns as f64 / 1e6
}

#[test]
fn a_window_that_is_zero_counts_for_as_long_as_the_wire_has_it_so() {
    const PAUSES: [u64; 4] = [30, 250, 700, 1_500];
    for backend in Backend::BOTH {
        in_time("zero window", || {
            let lab = lab();
            let agent = agent_with(&lab, backend, "metrics: [default, health]");
            let captured = Captured::start(&lab);
            let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0))).unwrap();
            let address = listener.local_addr().unwrap();
            // A reader that stops reading now and then, for longer each time, and twice as much is sent as it has room
            // for.
            let reader = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut buffer = vec![0; 1 << 20];
                for pause in PAUSES {
                    thread::sleep(Duration::from_millis(pause));
                    let until = Instant::now() + 5 * RTT;
                    while Instant::now() < until && stream.read(&mut buffer).unwrap() > 0 {}
                }
                while stream.read(&mut buffer).unwrap() > 0 {}
            });
            let mut near = connect(&lab.a, address).unwrap();
            let writer = thread::spawn(move || {
                let end = Instant::now() + Duration::from_secs(4);
                while Instant::now() < end {
                    near.write_all(&[0; 1 << 16]).unwrap();
                }
            });
            writer.join().unwrap();
            reader.join().unwrap();
            let lines = agent.stop().unwrap().stdout;
            let (ours, wire) = (sum(&lines, "zero_window_ms") as f64, closed_ms(&lab.path().passages()));
            let read = sum(&captured.read(&lab), "zero_window_ms") as f64;
            println!("{backend:?}: {ours} ms of zero window, {read} in a capture, {wire:.1} on the wire");
            timely(is_complete(&lines), || "records were lost".to_owned())?;
            timely(wire > 1_000.0, || format!("{backend:?}: only {wire} ms on the wire"))?;
            let is_near = |ms: f64| (ms - wire).abs() <= wire * 0.02 + 5.0;
            timely(is_near(ours) && is_near(read), || {
                format!("{backend:?}: {ours} and {read} ms, {wire} on the wire")
            })?;
            let each = lines
                .iter()
                .filter(|line| line.contains("\"peer\""))
                .map(|line| sum(std::slice::from_ref(line), "zero_window_ms"));
            let most = each.max().unwrap_or(0);
            timely(most <= 1_200, || format!("{backend:?}: {most} ms of one connection in a second"))
        });
    }
}

#[test]
fn acknowledgements_that_echo_congestion_are_all_counted() {
    for backend in Backend::BOTH {
        in_time("echoes", || {
            let lab = lab();
            for host in [&lab.a, &lab.b] {
                host.namespace.sysctl("net/ipv4/tcp_ecn", "1").unwrap();
            }
            let agent = agent_with(&lab, backend, "metrics: [default, health]");
            let marked = Impairment { mark: 0.02, seed: 9, ..Impairment::delay(RTT / 2) };
            let captured = Captured::start(&lab);
            // Both ways, so that some come with payload, of which one repeats the acknowledgement of another.
            impair(&lab, marked.clone(), Impairment { seed: 10, ..marked });
            let rounds = [(60_000, 200), (3_000, 60_000)];
            let rounds = rounds.map(|(request, response)| Rounds { count: 1, request, response, ..Rounds::default() });
            let (_servers, streams) = connections_for(&lab, &rounds);
            while_driving(streams, || thread::sleep(TRAFFIC));
            let lines = agent.stop().unwrap().stdout;
            let came = arrived(&lab.path().passages());
            let wire =
                came.iter().filter(|(_, tcp)| tcp.flags & ECE != 0 && tcp.flags & (SYN | RST) == 0).count() as i64;
            let (ours, marked) = (sum(&lines, "ece"), lab.path().counters(Way::AToB).marked);
            let read = sum(&captured.read(&lab), "ece");
            println!("{backend:?}: {ours} of {wire} echoes of {marked} marks; {read} in a capture");
            timely(is_complete(&lines), || "records were lost".to_owned())?;
            assert!(wire > 500 && marked > 100, "{backend:?}: {wire} echoes on the wire, {marked} marks");
            assert_eq!([ours, read], [wire; 2], "{backend:?}");
            Ok(())
        });
    }
}

/// From each request's arrival to the departure of the first of its response, in milliseconds, as the path saw it.
fn served_ms(passages: &[Passage], to: SocketAddr) -> Vec<f64> {
    let mut asked: HashMap<u16, (u64, u32)> = HashMap::new();
    let mut all = Vec::new();
    let mut ordered: Vec<&Passage> = passages.iter().collect();
    // At the second host.
    let at =
        |passage: &Passage| if passage.way == Way::AToB { passage.arrived_ns.unwrap_or(0) } else { passage.left_ns };
    ordered.sort_by_key(|passage| at(passage));
    for passage in ordered {
        let Some(tcp) = tcp(passage).filter(|tcp| tcp.len > 0) else { continue };
        let port = u16::from_be_bytes([passage.head[34], passage.head[35]]);
        if passage.way == Way::AToB {
            asked.insert(tcp.port, (at(passage), tcp.seq.wrapping_add(tcp.len as u32)));
        } else if port == to.port()
            && let Some((came, end)) = asked.remove(&tcp.port)
            && tcp.ack == end
        {
            all.push((at(passage) - came) as f64 / 1e6);
        }
    }
    all
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn responses_take_as_long_as_the_server_takes_with_their_acknowledgement_or_behind_it() {
    // Longer than an acknowledgement is kept back, too: then it comes alone, and the response repeats it.
    for (backend, delay) in [(Backend::Ebpf, 20), (Backend::Ebpf, 60), (Backend::Pcap, 60)] {
        in_time("responses", || {
            let lab = lab();
            let agent = agent_with(&lab, backend, "metrics: [default, response], kernel_rtt: true");
            let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0))).unwrap();
            let address = listener.local_addr().unwrap();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_nodelay(true).unwrap();
                let mut request = [0; 100];
                while stream.read_exact(&mut request).is_ok() {
                    thread::sleep(Duration::from_millis(delay));
                    stream.write_all(&[1; 3_000]).unwrap();
                }
            });
            let rounds = Rounds { count: 40, request: 100, response: 3_000, pause: RTT / 2 };
            let mut near = connect(&lab.a, address).unwrap();
            rounds.drive(&mut near).unwrap();
            drop(near);
            server.join().unwrap();
            let lines = agent.stop().unwrap().stdout;
            let wire = served_ms(&lab.path().passages(), address);
            let pairs = lines.iter().filter(|line| line.contains("\"response\""));
            let pairs: Vec<Value> = pairs.map(|line| serde_json::from_str(line).unwrap()).collect();
            let of = |pair: &Value, place: &str| pair.pointer(place).and_then(Value::as_f64).unwrap_or(f64::NAN);
            let count: f64 = pairs.iter().map(|pair| of(pair, "/response/count")).sum();
            let ours = median(pairs.iter().map(|pair| of(pair, "/response/p50_ms")).collect());
            let theirs = median(wire.clone());
            let hosts: Vec<f64> = pairs.iter().map(|pair| of(pair, "/kernel/host_ms")).collect();
            println!(
                "{backend:?}: {count} responses of {ours} ms; on the wire {} of {theirs}; host {hosts:?}",
                wire.len()
            );
            // What a busy machine has sent again is not reported; more never is.
            let (found, all) = (count as usize, rounds.count);
            assert!(found <= all && wire.len() == all, "{backend:?}: {found} of {} on the wire", wire.len());
            timely(found >= all, || format!("{backend:?}, {delay} ms: {found} of {all} responses"))?;
            assert!(hosts.iter().any(|ms| *ms >= 0.0), "the kernel was asked");
            timely((ours - theirs).abs() <= 0.5, || format!("{backend:?}: {ours} ms, and {theirs} on the wire"))
        });
    }
}
