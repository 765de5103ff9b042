//! The eBPF source on real hooks with real TCP: loopback, tun, tap and veth, each in a network namespace that ends with
//! the test's thread. Needs root; without it the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod frames;

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use go_metro::capture::ebpf::{Classifier, EbpfSource, HookKind, probe};
use go_metro::capture::error::CaptureError;
use go_metro::capture::{InterfaceEvent, SourceSettings, WatchList};
use go_metro::config::{IngressHook, Thinning};
use go_metro_common::segment::{Sides, TcpFlags};
use go_metro_rtt::{Direction, Engine, EngineConfig, Outcome, Segment};
use nix::sched::{CloneFlags, unshare};

/// Runs a test in a thread with a network namespace of its own, whose loopback device is up.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped: a network namespace: {error}");
            return;
        }
        if let Err(error @ CaptureError::MissingCapability { .. }) = Classifier::load(0, Sides::REMOTE) {
            eprintln!("skipped: {error}");
            return;
        }
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs ip(8) in this thread's namespace.
fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}

fn watch(entries: &[(&str, &str)]) -> WatchList {
    let mut list = WatchList::new();
    for (interface, net) in entries {
        list.entry((*interface).to_owned()).or_default().push(net.parse().unwrap());
    }
    list
}

fn open(entries: &[(&str, &str)]) -> Result<EbpfSource, CaptureError> {
    EbpfSource::open(&settings(entries, 1 << 20))
}

/// What the ends of a veth pair here are is said, not guessed: some have no address.
fn settings(entries: &[(&str, &str)], ring_bytes: u32) -> SourceSettings {
    let host_ends = entries.iter().map(|(name, _)| ((*name).to_owned(), false)).collect();
    SourceSettings {
        watch: watch(entries),
        ring_bytes,
        snaplen: 0,
        filter: None,
        sides: Sides::REMOTE,
        ingress: IngressHook::Tc,
        thinning: Thinning::OFF,
        host_ends,
        responses: false,
    }
}

/// What arrives within `span`.
fn collect(source: &mut EbpfSource, span: Duration) -> Vec<Segment> {
    let end = Instant::now() + span;
    let mut segments = Vec::new();
    while Instant::now() < end {
        source.poll(Duration::from_millis(10), &mut |segment| segments.push(*segment)).unwrap();
    }
    segments
}

/// One connection that sends `request` bytes and gets `answer` bytes back.
fn exchange(server: SocketAddr, request: usize, answer: usize) {
    let listener = TcpListener::bind(server).unwrap();
    let port = listener.local_addr().unwrap();
    // A thread that inherits the namespace of this one.
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; request];
        stream.read_exact(&mut buffer).unwrap();
        stream.write_all(&vec![1; answer]).unwrap();
    });
    let mut stream = TcpStream::connect(port).unwrap();
    stream.write_all(&vec![2; request]).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), answer);
    serving.join().unwrap();
}

/// Sequence space that the segments of one direction and flow cover, from the first to the last.
fn covered<'a>(segments: impl Iterator<Item = &'a Segment> + Clone) -> u32 {
    let first = segments.clone().next().unwrap().start();
    segments.fold(first, |end, segment| end.max(segment.end())).0.wrapping_sub(first.0)
}

#[test]
fn a_connection_over_loopback_is_seen_from_both_hooks_with_every_byte() {
    for address in ["127.0.0.1", "::1"] {
        let address: IpAddr = address.parse().unwrap();
        in_namespace(move || {
            let prefix = if address.is_ipv4() { "127.0.0.0/8" } else { "::1/128" };
            let mut source = open(&[("lo", prefix)]).unwrap();
            exchange(SocketAddr::new(address, 4000), 300_000, 100);
            let segments = collect(&mut source, Duration::from_millis(200));

            let to_server = |segment: &&Segment| segment.flow.remote.port == 4000;
            let sent = segments.iter().filter(to_server).filter(|segment| segment.direction() == Direction::Egress);
            assert!(sent.clone().next().unwrap().has(TcpFlags::SYN));
            assert_eq!(covered(sent.clone()), 300_000 + 2, "SYN, data, FIN");
            assert!(sent.clone().any(|segment| segment.len() > 20_000), "super-segments");
            for segment in sent.clone() {
                assert!(segment.tsval().is_some(), "{segment:?}");
            }

            let acks = segments.iter().filter(to_server).filter(|segment| segment.direction() == Direction::Ingress);
            assert_eq!(
                acks.clone().next_back().unwrap().ack(),
                Some(sent.clone().next_back().unwrap().end()),
                "all of it is acknowledged"
            );

            let counters = source.counters().unwrap();
            assert_eq!((counters.packets.lost, counters.packets.unparsable), (0, [0; 5]));
            assert_eq!(
                (counters.packets.records, counters.packets.matched - counters.packets.repeats),
                (segments.len() as u64, segments.len() as u64)
            );
            assert!(
                counters.packets.repeats > 0,
                "the server receives segment after segment with the same acknowledgement"
            );
        });
    }
}

#[test]
fn record_times_are_monotonic_time_and_convert_to_wall_time() {
    in_namespace(|| {
        let mut source = open(&[("lo", "127.0.0.0/8")]).unwrap();
        let wall = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
        let before = wall();
        exchange("127.0.0.1:4001".parse().unwrap(), 1, 1);
        let after = wall();
        let segments = collect(&mut source, Duration::from_millis(100));
        assert!(!segments.is_empty());
        for segment in segments {
            let at = segment.time().0 as i64 + source.epoch_offset_ns();
            assert!((before - 1_000_000..=after + 5_000_000_000).contains(&at), "{before} <= {at} <= {after}");
        }
    });
}

#[test]
fn targets_change_without_detaching() {
    in_namespace(|| {
        let mut source = open(&[("lo", "127.0.0.9/32")]).unwrap();
        exchange("127.0.0.1:4002".parse().unwrap(), 10, 10);
        assert!(collect(&mut source, Duration::from_millis(50)).is_empty());
        source.set_targets(&watch(&[("lo", "127.0.0.1/32")])).unwrap();
        exchange("127.0.0.1:4003".parse().unwrap(), 10, 10);
        assert!(!collect(&mut source, Duration::from_millis(50)).is_empty());
        assert!(source.maintain().is_empty(), "nothing happened to the interface");
    });
}

#[test]
fn an_interface_that_goes_is_waited_for_and_attached_to_again() {
    in_namespace(|| {
        ip("link add left type veth peer name right");
        let mut source = open(&[("lo", "127.0.0.0/8"), ("left", "10.0.0.0/8"), ("later", "10.0.0.0/8")]).unwrap();
        let index = |source: &EbpfSource, name| {
            source.interfaces().into_iter().find(|(n, _)| n == name).map(|(_, index)| index)
        };
        let first = index(&source, "left").unwrap();
        assert_eq!(index(&source, "later"), None);

        ip("link del left");
        assert_eq!(source.maintain(), [InterfaceEvent::Lost { name: "left".into(), ifindex: first }]);
        assert!(source.maintain().is_empty());

        ip("link add left type veth peer name later");
        let events = source.maintain();
        assert_eq!(events.len(), 2, "{events:?}");
        let second = index(&source, "left").unwrap();
        assert_ne!(first, second);
        assert!(events.contains(&InterfaceEvent::Attached { name: "left".into(), ifindex: second }));

        ip("link set left up");
        ip("link set later up");
        ip("addr add 10.0.0.1/24 dev left");
        ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev left");
        std::thread::spawn(|| TcpStream::connect_timeout(&"10.0.0.2:1".parse().unwrap(), Duration::from_millis(50)))
            .join()
            .unwrap()
            .unwrap_err();
        let segments = collect(&mut source, Duration::from_millis(50));
        assert!(segments.iter().any(|segment| segment.flow.ifindex == second && segment.has(TcpFlags::SYN)));
    });
}

#[test]
fn an_interface_that_does_not_exist_is_an_error_only_if_no_other_does() {
    in_namespace(|| {
        let error = open(&[("nowhere0", "10.0.0.0/8"), ("nowhere1", "10.0.0.0/8")]).err().unwrap();
        assert!(matches!(&error, CaptureError::NoInterface { names } if names == "nowhere0, nowhere1"), "{error}");
    });
}

/// A tun or tap device of this thread's namespace, as its user-space end.
fn tun(name: &str, flags: i32) -> File {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: plain bytes; all zeros is an empty request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (flags | libc::IFF_NO_PI) as i16;
    // SAFETY: the request is a valid `ifreq`.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    ip(&format!("link set {name} up"));
    file
}

#[test]
fn a_device_without_link_header_is_read_from_its_ip_header() {
    in_namespace(|| {
        let mut device = tun("tun0", libc::IFF_TUN);
        ip("addr add 10.9.0.1/24 dev tun0");
        let mut source = open(&[("tun0", "10.9.0.0/24")]).unwrap();
        let (local, remote) = (Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2));
        let mut tcp = frames::ack().with_flags(TcpFlags::SYN);
        tcp.ack = 0;
        let mut bytes = tcp.bytes();
        checksum_tcp(local, remote, &mut bytes);
        let mut packet = frames::ipv4(remote, local, &[], &bytes);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        device.write_all(&packet).unwrap();

        let segments = collect(&mut source, Duration::from_millis(100));
        assert_eq!(segments.len(), 2, "a SYN, and the RST that it gets: {segments:?}");
        assert_eq!((segments[0].direction(), segments[0].header.seq), (Direction::Ingress, tcp.seq));
        assert_eq!(segments[0].flow.remote.to_string(), "10.9.0.2:40000");
        assert_eq!(segments[1].direction(), Direction::Egress);
        assert!(segments[1].has(TcpFlags::RST) && segments[1].flow == segments[0].flow);
    });
}

#[test]
fn headers_outside_the_linear_part_are_read_all_the_same() {
    in_namespace(|| {
        let mut device = tun("tap0", libc::IFF_TAP | libc::IFF_VNET_HDR);
        let mut source = open(&[("tap0", "0.0.0.0/0"), ("tap0", "::/0")]).unwrap();
        // A virtio-net header that says 14 bytes of headers: of a packet larger than a page, no more is then linear.
        let virtio = [0, 0, 14, 0, 0, 0, 0, 0, 0, 0];
        let options: &[&[u8]] = &[&frames::sack(&[(0xffff_0000, 0xffff_1000)]), &frames::timestamps(7, 9), &[1, 1]];
        let usual: &[&[u8]] = &[&[1, 1], &frames::timestamps(7, 9)];
        let (local4, remote4) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        for (window, options) in [(1, options), (2, usual)] {
            // Another window, or the second would only repeat the first.
            let tcp = frames::Tcp { window, ..frames::data() }
                .with_payload(9000)
                .with_options(options)
                .with_ack(0xffff_0000 - 1);
            let v4 = frames::ipv4(remote4, local4, &[1; 8], &tcp.bytes());
            let inner = frames::extension(frames::TCP, 16, &tcp.bytes());
            let v6 = frames::ipv6("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap(), frames::DESTINATION, &inner);
            for (ethertype, packet) in [(frames::ETH_P_IP, v4), (frames::ETH_P_IPV6, v6)] {
                let frame = frames::ethernet(&[], ethertype, &packet);
                device.write_all(&[&virtio[..], &frame].concat()).unwrap();
                let segments: Vec<_> = collect(&mut source, Duration::from_millis(50))
                    .into_iter()
                    .filter(|s| s.header.seq == tcp.seq)
                    .collect();
                assert_eq!(segments.len(), 1, "{ethertype:#06x}");
                assert_eq!((segments[0].len(), segments[0].tsval(), segments[0].tsecr()), (9000, Some(7), Some(9)));
            }
        }
        assert_eq!(source.counters().unwrap().packets.unparsable, [0; 5]);
    });
}

/// The lab's programs, if they were built.
fn lab() -> Option<Ebpf> {
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/go-metro-lab.o");
    if !object.exists() {
        eprintln!("skipped: {} is missing: run `cargo xtask build-ebpf`", object.display());
        return None;
    }
    Some(EbpfLoader::new().btf(None).load_file(object).unwrap())
}

fn attach_lab(lab: &mut Ebpf, program: &str, interface: &str, hook: TcAttachType, options: TcAttachOptions) {
    let program: &mut SchedClassifier = lab.program_mut(program).unwrap().try_into().unwrap();
    program.load().unwrap();
    program.attach_with_options(interface, hook, options).unwrap();
}

#[test]
fn other_programs_on_the_hooks_still_run() {
    let Some(mut lab) = lab() else { return };
    in_namespace(move || {
        attach_lab(&mut lab, "lab_count", "lo", TcAttachType::Ingress, TcAttachOptions::TcxOrder(LinkOrder::default()));
        let source = open(&[("lo", "127.0.0.0/8")]).unwrap();
        exchange("127.0.0.1:4004".parse().unwrap(), 10, 10);
        let counts: aya::maps::PerCpuArray<_, u64> = lab.map("LAB_COUNT").unwrap().try_into().unwrap();
        let counted: u64 = counts.get(&0, 0).unwrap().iter().sum();
        assert!(counted >= 6, "{counted} packets");
        assert_eq!(source.counters().unwrap().packets.seen, 2 * counted, "both hooks of one device");
    });
}

/// The flags of XDP programs on a device, as ip(8) lists them: `xdp` is native, `xdpgeneric` is not.
fn xdp_mode(device: &str) -> Option<&'static str> {
    let output = Command::new("ip").args(["link", "show", "dev", device]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    ["xdpgeneric", "xdp"].into_iter().find(|mode| text.split_whitespace().any(|word| word == *mode))
}

#[test]
fn a_driver_with_native_xdp_yields_the_same_round_trips() {
    in_namespace(|| {
        // The other end is another host, or the stack would talk to itself over loopback.
        let other = Command::new("unshare").args(["--net", "sleep", "30"]).spawn().unwrap();
        let mut other = Killed(other);
        let pid = other.0.id();
        let inside = |arguments: &str| {
            let arguments = format!("--target {pid} --net {arguments}");
            assert!(Command::new("nsenter").args(arguments.split(' ')).status().unwrap().success(), "{arguments}");
        };
        // Until `unshare` has done its work, the namespace is still this one.
        let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        while namespace(pid) == own {
            std::thread::sleep(Duration::from_millis(5));
        }
        ip(&format!("link add left type veth peer name right netns {pid}"));
        for command in ["addr add 10.0.0.1/24 dev left", "link set left up"] {
            ip(command);
        }
        for command in ["ip addr add 10.0.0.2/24 dev right", "ip link set right up"] {
            inside(command);
        }
        let settings = SourceSettings { ingress: IngressHook::Xdp, ..settings(&[("left", "10.0.0.2/32")], 1 << 20) };
        let mut source = EbpfSource::open(&settings).unwrap();
        assert_eq!(xdp_mode("left"), Some("xdp"));

        let mut engine = Engine::new(EngineConfig::default());
        let target = File::open(format!("/proc/{pid}/ns/net")).unwrap();
        let (ready, listening) = std::sync::mpsc::channel();
        let serving = std::thread::spawn(move || {
            nix::sched::setns(target, CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind("10.0.0.2:4010").unwrap();
            ready.send(()).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 100];
            for _ in 0..100 {
                stream.read_exact(&mut request).unwrap();
                stream.write_all(&[1; 200]).unwrap();
            }
        });
        listening.recv().unwrap();
        let mut stream = TcpStream::connect("10.0.0.2:4010").unwrap();
        let mut answer = [0; 200];
        for _ in 0..100 {
            stream.write_all(&[2; 100]).unwrap();
            stream.read_exact(&mut answer).unwrap();
        }
        serving.join().unwrap();
        let segments = collect(&mut source, Duration::from_millis(200));
        let samples = segments.iter().filter(|s| matches!(engine.record(s), Outcome::Sample(_))).count();
        assert!(
            (100..=103).contains(&samples),
            "{samples} samples of a hundred rounds, a handshake and perhaps a close"
        );
        let received = segments.iter().filter(|s| s.direction() == Direction::Ingress).count();
        assert!(received >= 100, "{received}");
        drop(source);
        assert_eq!(xdp_mode("left"), None, "nothing is left behind");
        other.0.kill().unwrap();
    });
}

/// A process that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn where_the_driver_has_no_native_xdp_the_tc_hook_is_used() {
    in_namespace(|| {
        let settings = SourceSettings { ingress: IngressHook::Xdp, ..settings(&[("lo", "127.0.0.0/8")], 1 << 20) };
        let mut source = EbpfSource::open(&settings).unwrap();
        assert_eq!(xdp_mode("lo"), None);
        exchange("127.0.0.1:4011".parse().unwrap(), 10, 10);
        let segments = collect(&mut source, Duration::from_millis(50));
        assert!(segments.iter().any(|s| s.direction() == Direction::Ingress));
    });
}

/// Filters on a device's hook, as tc(8) lists them.
fn filters(device: &str, hook: &str) -> Vec<String> {
    let output = Command::new("tc").args(["filter", "show", "dev", device, hook]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[1] == "direct-action").map(|pair| pair[0].to_owned()).collect()
}

#[test]
fn a_filter_that_a_killed_predecessor_left_is_replaced_and_no_other() {
    let Some(mut lab) = lab() else { return };
    in_namespace(move || {
        let settings = settings(&[("lo", "127.0.0.0/8")], 0);
        let predecessor = EbpfSource::open_on(&settings, HookKind::Clsact).unwrap();
        attach_lab(&mut lab, "lab_count", "lo", TcAttachType::Ingress, TcAttachOptions::Netlink(NlOptions::default()));
        let count = |name: &str, hook| filters("lo", hook).iter().filter(|filter| filter.starts_with(name)).count();
        let counts =
            || (count("gometro_in_eth", "ingress"), count("gometro_out_eth", "egress"), count("lab", "ingress"));
        assert_eq!(counts(), (1, 1, 1));

        // As if killed: nothing is detached.
        std::mem::forget(predecessor);
        let mut source = EbpfSource::open_on(&settings, HookKind::Clsact).unwrap();
        assert_eq!(counts(), (1, 1, 1), "{:?}", filters("lo", "ingress"));

        exchange("127.0.0.1:4009".parse().unwrap(), 10, 10);
        assert!(!collect(&mut source, Duration::from_millis(50)).is_empty());
        let counts_of_lab: aya::maps::PerCpuArray<_, u64> = lab.map("LAB_COUNT").unwrap().try_into().unwrap();
        let counted: u64 = counts_of_lab.get(&0, 0).unwrap().iter().sum();
        assert_eq!(source.counters().unwrap().packets.seen, 2 * counted, "the verdict lets the other filter run");

        drop(source);
        assert_eq!(counts(), (0, 0, 1), "what is left is not ours");
    });
}

#[test]
fn departure_that_pacing_puts_off_is_when_the_segment_leaves() {
    let Some(mut lab) = lab() else { return };
    in_namespace(move || {
        attach_lab(&mut lab, "lab_tstamp", "lo", TcAttachType::Egress, TcAttachOptions::TcxOrder(LinkOrder::first()));
        let mut source = open(&[("lo", "127.0.0.0/8")]).unwrap();
        exchange("127.0.0.1:4005".parse().unwrap(), 10, 10);
        let segments = collect(&mut source, Duration::from_millis(100));
        let mut compared = 0;
        for sent in segments.iter().filter(|s| s.direction() == Direction::Egress) {
            let same = |s: &&Segment| {
                s.direction() == Direction::Ingress
                    && (s.flow.local, s.flow.remote) == (sent.flow.remote, sent.flow.local)
                    && (s.header.seq, s.header.flags, s.header.ack)
                        == (sent.header.seq, sent.header.flags, sent.header.ack)
            };
            // Loopback has no queue that would wait, so it arrives long before it is said to leave.
            let Some(received) = segments.iter().find(same) else { continue };
            let ahead = sent.time().since(received.time()).unwrap().0;
            assert!((15_000_000..=20_000_000).contains(&ahead), "{ahead} ns");
            compared += 1;
        }
        assert!(compared >= 4);
    });
}

#[test]
fn tags_in_band_and_in_metadata_are_seen_through() {
    let Some(mut lab) = lab() else { return };
    in_namespace(move || {
        // The lab's programs tag at egress, before the classifier: the outer tag is in the metadata, the inner one in
        // band.
        for (port, push) in [(4006, "lab_vlan_push"), (4007, "lab_qinq_push")] {
            ip("link add left type veth peer name right");
            // One stack cannot talk to itself through a veth pair; its frames can be looked at, though.
            ip("link set left up");
            ip("link set right up");
            ip("addr add 10.0.0.1/24 dev left");
            ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev left");
            attach_lab(&mut lab, push, "left", TcAttachType::Egress, TcAttachOptions::TcxOrder(LinkOrder::first()));
            let mut source = open(&[("left", "10.0.0.2/32"), ("right", "10.0.0.1/32")]).unwrap();
            let server = SocketAddr::from(([10, 0, 0, 2], port));
            TcpStream::connect_timeout(&server, Duration::from_millis(50)).unwrap_err();
            let segments = collect(&mut source, Duration::from_millis(50));
            let sent = segments.iter().find(|s| s.direction() == Direction::Egress).unwrap();
            let received = segments.iter().find(|s| s.direction() == Direction::Ingress).unwrap();
            assert_eq!(sent.header.seq, received.header.seq, "{push}");
            assert_eq!((sent.flow.local, sent.flow.remote), (received.flow.remote, received.flow.local));
            assert_eq!(source.counters().unwrap().packets.unparsable, [0; 5]);
            drop(source);
            let program: &mut SchedClassifier = lab.program_mut(push).unwrap().try_into().unwrap();
            program.unload().unwrap();
            ip("link del left");
        }
    });
}

#[test]
fn probing_says_that_what_runs_here_can_run() {
    for feature in probe() {
        println!("{feature:?}");
        if feature.required && !feature.available {
            assert!(feature.detail.contains("setcap"), "without privilege, but with them: {feature:?}");
        }
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !sum as u16
}

fn checksum_tcp(local: Ipv4Addr, remote: Ipv4Addr, tcp: &mut [u8]) {
    let pseudo = [&local.octets()[..], &remote.octets(), &[0, 6], &(tcp.len() as u16).to_be_bytes(), tcp].concat();
    let sum = checksum(&pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}
