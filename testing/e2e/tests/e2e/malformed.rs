//! What nobody sane would send: counted, never fatal.

use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use serde_json::Value;
use testing_lab::agent::{Agent, Sample, samples};
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Host, INTERFACE, Lab, Link};

use super::support::{Backend, SOON, sampling, some_rounds, watching};

/// Sends frames as they are.
struct RawSocket(OwnedFd);

impl RawSocket {
    fn on(host: &Host) -> Self {
        host.enter(|| {
            // SAFETY: a system call without pointers.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            // SAFETY: the descriptor is new and nobody else's.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: all zeros is a valid value of this plain struct.
            let mut address: libc::sockaddr_ll = unsafe { zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = if_nametoindex(INTERFACE).unwrap().cast_signed();
            // SAFETY: pointer and length describe `address`.
            let bound = unsafe {
                let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
            };
            assert!(bound >= 0, "{}", std::io::Error::last_os_error());
            Self(socket)
        })
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: pointer and length describe `frame`. What the kernel refuses to send is no loss.
        unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    }
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    // Broadcast, so that the receiver's stack takes it for its own.
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 9]);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(((20 + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A TCP header with ACK set, and these options as they are.
fn tcp(data_offset: u8, options: &[u8]) -> Vec<u8> {
    let mut header = vec![0x1b, 0x58, 0x9c, 0x40, 0, 0, 0, 1, 0, 0, 0, 1, data_offset << 4, 0x10, 1, 0, 0, 0, 0, 0];
    header.extend(options);
    header
}

/// Frames that are wrong in one way each, from `from` to `to`.
fn wrong(from: Ipv4Addr, to: Ipv4Addr) -> Vec<Vec<u8>> {
    let good = ipv4(from, to, &tcp(5, &[]));
    let changed = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        ethernet(0x0800, &packet)
    };
    let with_options = |options: &[u8]| {
        let words = 5 + options.len().div_ceil(4) as u8;
        let mut padded = options.to_vec();
        padded.resize(usize::from(words - 5) * 4, 0);
        ethernet(0x0800, &ipv4(from, to, &tcp(words, &padded)))
    };
    let mut v6 = vec![0x60, 0, 0, 0, 0, 160, 0, 64];
    v6.extend([0; 32]);
    let mut frames = vec![
        ethernet(0x0800, &[]),
        ethernet(0x86dd, &[]),
        changed(0, 0x55),
        changed(0, 0x44),
        changed(0, 0x4f),
        changed(3, 10),
        changed(2, 0xff),
        changed(32, 0x40),
        changed(32, 0xf0),
        // Timestamps of length 2: what crashed the original.
        with_options(&[8, 2, 1, 1]),
        with_options(&[8, 0, 1, 1]),
        with_options(&[8, 10, 1, 1]),
        with_options(&[2, 255, 1, 1]),
        with_options(&[5, 9, 0, 0, 0, 1, 0, 0, 0]),
        with_options(&[1; 40]),
        with_options(&[8]),
        // A chain of extension headers without end, and one that claims more than there is.
        ethernet(0x86dd, &[v6.clone(), [0, 0, 1, 4, 0, 0, 0, 0].repeat(20)].concat()),
        ethernet(0x86dd, &[v6.clone(), vec![60, 255, 1, 4, 0, 0, 0, 0]].concat()),
        ethernet(0x86dd, &v6[..20]),
        // More tags than anybody needs, and a tag with nothing behind it.
        ethernet(0x88a8, &[[0, 1, 0x81, 0].repeat(6), vec![0, 1, 8, 0], good.clone()].concat()),
        ethernet(0x8100, &[0, 1]),
    ];
    frames.extend((0..good.len()).map(|length| ethernet(0x0800, &good[..length])));
    frames
}

#[test]
fn malformed_packets_of_every_kind_are_counted_and_survived() {
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        let mut args = watching(&lab, backend);
        args.extend(["--output", "json", "--samples", "--interval", "1"].map(str::to_owned));
        let agent = Agent::start(&lab.a, args).unwrap();
        some_rounds(&lab, 3);
        let mut random = fastrand::Rng::with_seed(5);
        for (host, from, to) in [(&lab.b, lab.b.v4, lab.a.v4), (&lab.a, lab.a.v4, lab.b.v4)] {
            let socket = RawSocket::on(host);
            let frames = wrong(from, to);
            for frame in &frames {
                socket.send(frame);
            }
            for _ in 0..5000 {
                let mut frame = frames[random.usize(..frames.len())].clone();
                frame.extend((0..random.usize(..80)).map(|_| random.u8(..)));
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(14..frame.len().max(15));
                    if let Some(byte) = frame.get_mut(at) {
                        *byte = random.u8(..);
                    }
                }
                socket.send(&frame);
            }
        }
        let before = samples(&agent.output()).unwrap().len();
        some_rounds(&lab, 20);
        let sampled = |lines: &[String]| samples(lines).unwrap().iter().filter(|s| s.is_data()).count() >= before + 20;
        assert!(agent.wait_for_output(SOON, sampled), "{backend:?}: no samples after the malformed packets");
        let finished = agent.stop().unwrap();
        assert_eq!(finished.status.code(), Some(0), "{backend:?}");
        let longest = finished.samples().unwrap().iter().map(Sample::rtt).max().unwrap();
        assert!(longest < Duration::from_secs(10), "{backend:?}: a sample of {longest:?}");

        let health = finished.stdout.iter().rev().find(|line| line.contains("\"health\"")).unwrap();
        let health: Value = serde_json::from_str(health).unwrap();
        let unparsable = &health["health"]["unparsable"];
        println!("{backend:?}: {unparsable}");
        // libpcap's filter lets only what looks like TCP of a target reach us; the classifier sees all.
        let expected: &[&str] = match backend {
            Backend::Ebpf => &["truncated", "ip_header", "tcp_header", "tcp_option", "too_deep"],
            Backend::Pcap => &["tcp_header", "tcp_option"],
        };
        for cause in expected {
            assert!(unparsable[cause].as_u64().unwrap() > 0, "{backend:?}: nothing counted as {cause}: {unparsable}");
        }
    }
}

/// Frames that a stranger forges from `from` to `to`: each is well-formed on the wire, and a lie.
fn forged(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16), random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let mut segment = |flags: u8, options: &[u8]| {
        let mut header = tcp(5 + options.len() as u8 / 4, options);
        header[0..2].copy_from_slice(&ports.0.to_be_bytes());
        header[2..4].copy_from_slice(&ports.1.to_be_bytes());
        header[4..8].copy_from_slice(&random.u32(..).to_be_bytes());
        header[8..12].copy_from_slice(&random.u32(..).to_be_bytes());
        header[13] = flags;
        header
    };
    let whole = |segment: &[u8]| ethernet(0x0800, &ipv4(from, to, segment));
    let timestamps = [1, 1, 8, 10, 0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0];
    let block = [1, 1, 5, 10, 0x7f, 0, 0, 0, 0x7f, 0, 1, 0];
    let mut frames = vec![
        // Resets, an optimistic acknowledgement, SYNs, timestamps and blocks out of the blue.
        whole(&segment(0x04, &[])),
        whole(&segment(0x14, &[])),
        whole(&segment(0x10, &[])),
        whole(&segment(0x02, &[2, 4, 5, 0xb4])),
        whole(&segment(0x10, &timestamps)),
        whole(&segment(0x10, &block)),
    ];
    // Fragments that overlap: the second would write over the TCP header of the first.
    let data = segment(0x10, &[]);
    let fragment = |offset: u16, more: bool, payload: &[u8]| {
        let mut packet = ipv4(from, to, payload);
        packet[6..8].copy_from_slice(&((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
        ethernet(0x0800, &packet)
    };
    frames.extend([
        fragment(0, true, &[&data[..], &[0; 12]].concat()),
        fragment(8, false, &[&data[8..], &[0; 12]].concat()),
        fragment(0, true, &data[..8]),
    ]);
    // Eight tags, and an extension header that leads to itself for as long as there is room.
    frames.push(ethernet(0x88a8, &[[0, 1, 0x81, 0].repeat(7), vec![0, 1, 8, 0], ipv4(from, to, &data)].concat()));
    let mut v6 = vec![0x60, 0, 0, 0, 1, 0, 0, 64];
    v6.extend([0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    v6.extend([0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frames.push(ethernet(0x86dd, &[v6, [0, 0, 1, 4, 0, 0, 0, 0].repeat(32)].concat()));
    frames
}

#[test]
fn a_clean_flow_is_measured_unharmed_while_others_are_forged() {
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        let rtt = Duration::from_millis(5);
        lab.path().set_rtt(rtt);
        let agent = sampling(&lab, backend);
        let rounds = Rounds { count: 200, pause: Duration::from_millis(2), ..Rounds::default() };
        let server = Server::v4(&lab.b, rounds.service()).unwrap();
        let mut stream = connect(&lab.a, server.address()).unwrap();
        let own = (server.address().port(), stream.local_addr().unwrap().port());
        let done = AtomicBool::new(false);
        let (exchange, sent) = thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                let (socket, mut random) = (RawSocket::on(&lab.b), fastrand::Rng::with_seed(9));
                let (mut sent, mut round) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    // Connections of the same hosts, and now and then the very one: its numbers are guessed.
                    round += 1;
                    let other = (own.0, random.u16(1024..));
                    for ports in [other, other, if round % 15 == 0 { own } else { other }] {
                        for frame in forged(lab.b.v4, lab.a.v4, ports, &mut random) {
                            socket.send(&frame);
                            sent += 1;
                        }
                    }
                    thread::sleep(Duration::from_millis(4));
                }
                sent
            });
            let exchange = rounds.drive(&mut stream);
            done.store(true, Ordering::Relaxed);
            (exchange.unwrap(), attacker.join().unwrap())
        });
        let finished = agent.stop().unwrap();
        assert_eq!(finished.status.code(), Some(0), "{backend:?}");
        let all = finished.samples().unwrap();
        let (of_flow, strange): (Vec<&Sample>, Vec<&Sample>) =
            all.iter().partition(|sample| sample.local == exchange.local && sample.remote == exchange.remote);
        println!("{backend:?}: {sent} forged frames, {} samples", of_flow.len());
        assert!(sent > 1000, "{backend:?}: {sent} forged frames");
        // The host answers what is forged with resets, which are no segments to be timed.
        assert!(strange.is_empty(), "{backend:?}: {strange:?}");
        // A forged reset costs the segment that is outstanding; nothing makes a sample that is not the path's.
        assert!(of_flow.len() >= 100, "{backend:?}: {} samples of 200 rounds", of_flow.len());
        for sample in of_flow {
            assert!(sample.rtt() + Duration::from_micros(20) >= rtt, "{backend:?}: shorter than the path: {sample:?}");
        }
    }
}
