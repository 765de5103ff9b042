//! What nobody sane would send: counted, never fatal.

use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use serde_json::Value;
use xtask::lab::agent::{Agent, Sample, samples};
use xtask::lab::{Host, INTERFACE, Lab, Link};

use super::support::{Backend, SOON, some_rounds, watching};

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
        assert!(longest < Duration::from_secs(2), "{backend:?}: a sample of {longest:?}");

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
