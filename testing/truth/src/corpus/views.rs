//! What a capture may be like: what it sees of a connection, its link type, its format, what IP wraps around TCP.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::direct;
use super::rewrap::{Wrapping, double, drop_some, wrap};
use super::sockets::set;
use super::stage::{DELAY, Pair, lab, order, record, record_on, talk};
use super::{Scenario, Truth};
use testing_lab::programs::{Hook, Position, Program};
use testing_lab::{INTERFACE, Impairment, Lab, Link, Order, Way, What};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one-sided",
        shows: "only what host a sends: nothing can be timed",
        must: &[("ip.src == 10.77.0.1 && tcp.len > 0", 50)],
        trusted: 0,
        truth: Truth::Judges,
        make: one_sided,
    },
    Scenario {
        name: "mid-stream",
        shows: "a capture that starts within a connection",
        must: &[("tcp.len > 0", 100)],
        trusted: 50,
        truth: Truth::Judges,
        make: mid_stream,
    },
    Scenario {
        name: "capture-drops",
        shows: "a capture that lacks one frame in ten (taken out afterwards), of a path with loss",
        must: &[("tcp.analysis.lost_segment", 5), ("tcp.analysis.ack_lost_segment", 2)],
        trusted: 60,
        truth: Truth::Judges,
        make: |into| rewritten(into, drop_some),
    },
    Scenario {
        name: "mirror-port",
        shows: "every frame twice (doubled afterwards), of a path with loss",
        must: &[("tcp.analysis.retransmission", 100)],
        trusted: 60,
        truth: Truth::Judges,
        make: |into| rewritten(into, double),
    },
    Scenario {
        name: "super-segments",
        shows: "segmentation offload: the capture has super-segments, the peer acknowledges their parts",
        must: &[("tcp.len > 10000", 20)],
        trusted: 10,
        truth: Truth::Judges,
        make: super_segments,
    },
    Scenario {
        name: "big-tcp-ipv6",
        shows: "super-segments beyond 64 KiB over IPv6, with a jumbo payload option",
        must: &[("ipv6 && frame.len > 70000", 10)],
        trusted: 20,
        truth: Truth::Judges,
        make: |into| direct::big_tcp(into, true),
    },
    Scenario {
        name: "big-tcp-ipv4",
        shows: "super-segments beyond 64 KiB over IPv4, with a total length of 0",
        must: &[("ip && frame.len > 70000", 10)],
        trusted: 20,
        truth: Truth::Judges,
        make: |into| direct::big_tcp(into, false),
    },
    Scenario {
        name: "vlan",
        shows: "an 802.1Q tag",
        must: &[("vlan && tcp.len > 0", 50)],
        trusted: 50,
        truth: Truth::Judges,
        make: |into| tagged(into, "lab_vlan_push", "lab_vlan_pop"),
    },
    Scenario {
        name: "qinq",
        shows: "two tags",
        must: &[("eth.type == 0x88a8 && vlan && tcp.len > 0", 50)],
        trusted: 50,
        truth: Truth::Judges,
        make: |into| tagged(into, "lab_qinq_push", "lab_qinq_pop"),
    },
    Scenario {
        name: "ipv6-extension-headers",
        shows: "Hop-by-Hop and Destination Options before TCP",
        must: &[("ipv6.hopopts && tcp.len > 0", 20), ("ipv6.dstopts && tcp.len > 0", 20)],
        trusted: 40,
        truth: Truth::Judges,
        make: extension_headers,
    },
    Scenario {
        name: "ipv6-fragment-header",
        shows: "atomic fragments (RFC 6946; the header put in afterwards)",
        must: &[("ipv6.fraghdr && tcp.len > 0", 20)],
        trusted: 60,
        truth: Truth::Judges,
        make: |into| rewritten(into, |file| wrap(file, Wrapping::AtomicFragments)),
    },
    Scenario {
        name: "ipv4-options",
        shows: "Router Alert and padding in every IPv4 header",
        must: &[("ip.hdr_len > 20 && tcp.len > 0", 50)],
        trusted: 40,
        truth: Truth::Judges,
        make: ipv4_options,
    },
    Scenario {
        name: "fragments",
        shows: "segments that a router fragmented, captured at their receiver",
        must: &[("ip.flags.mf == 1", 20), ("ip.frag_offset > 0", 20)],
        trusted: 40,
        truth: Truth::Judges,
        make: direct::fragments,
    },
    Scenario {
        name: "cooked-v1",
        shows: "Linux cooked capture of all devices, version 1",
        must: &[("sll && tcp.len > 0", 100)],
        trusted: 60,
        truth: Truth::Judges,
        make: |into| cooked(into, "LINUX_SLL"),
    },
    Scenario {
        name: "cooked-v2",
        shows: "Linux cooked capture of all devices, version 2",
        must: &[("sll.ifindex && tcp.len > 0", 100)],
        trusted: 60,
        truth: Truth::Judges,
        make: |into| cooked(into, "LINUX_SLL2"),
    },
    Scenario {
        name: "raw-ip",
        shows: "a TUN device: no link header",
        must: &[("raw && ip && tcp.len > 0", 50), ("raw && ipv6 && tcp.len > 0", 50)],
        trusted: 60,
        truth: Truth::Judges,
        make: raw_ip,
    },
    Scenario {
        name: "loopback",
        shows: "Linux's loopback device, round trips of some microseconds",
        must: &[("ip.src == 127.0.0.1 && tcp.len > 0", 50), ("ipv6.src == ::1 && tcp.len > 0", 50)],
        trusted: 60,
        truth: Truth::Judges,
        make: loopback,
    },
    Scenario {
        name: "null",
        shows: "BSD's loopback header, of a machine of the other byte order (put on afterwards)",
        must: &[("null.type == 2 || null.type == 28", 0), ("tcp.len > 0", 100)],
        trusted: 60,
        truth: Truth::Judges,
        make: |into| rewritten(into, |file| wrap(file, Wrapping::Null)),
    },
    Scenario {
        name: "loop",
        shows: "OpenBSD's loopback header (put on afterwards)",
        must: &[("tcp.len > 0", 100)],
        trusted: 60,
        truth: Truth::Judges,
        make: |into| rewritten(into, |file| wrap(file, Wrapping::Loop)),
    },
    Scenario {
        name: "pppoe",
        shows: "PPPoE in Ethernet (put on afterwards)",
        must: &[("pppoes && tcp.len > 0", 100)],
        trusted: 60,
        truth: Truth::Judges,
        make: |into| rewritten(into, |file| wrap(file, Wrapping::Pppoe)),
    },
    Scenario {
        name: "ppp",
        shows: "PPP in HDLC-like framing (put on afterwards)",
        must: &[("ppp && tcp.len > 0", 100)],
        trusted: 60,
        truth: Truth::Judges,
        make: |into| rewritten(into, |file| wrap(file, Wrapping::Ppp)),
    },
    Scenario {
        name: "nanoseconds",
        shows: "pcap with nanoseconds; the other captures have microseconds",
        must: &[("tcp.len > 0", 100)],
        trusted: 60,
        truth: Truth::Judges,
        make: nanoseconds,
    },
    Scenario {
        name: "pcapng-interfaces",
        shows: "pcapng with two interfaces, a network's and loopback, of different traffic",
        must: &[
            ("frame.interface_name == \"eth0\" && tcp.len > 0", 50),
            ("frame.interface_name == \"lo\" && tcp.len > 0", 20),
        ],
        trusted: 60,
        truth: Truth::Judges,
        make: two_interfaces,
    },
];

/// A path with some loss, and talk of both families over it.
fn lossy(lab: &Lab) -> Result<()> {
    for (way, seed) in [(Way::AToB, 21), (Way::BToA, 22)] {
        let orders = vec![Order::lose(What::Data, 30), Order::lose(What::Data, 60)];
        lab.path().impair(way, Impairment { orders, seed, ..Impairment::delay(DELAY) });
    }
    talk(lab, lab.b.v4, 60_000)?;
    talk(lab, lab.b.v6, 60_000)
}

fn rewritten(into: &Path, rewrite: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || lossy(&lab))?;
    rewrite(into)
}

fn one_sided(into: &Path) -> Result<()> {
    let lab = lab()?;
    record_on(&lab.a, INTERFACE, &["-Q", "out", "tcp"], into, || lossy(&lab))
}

fn mid_stream(into: &Path) -> Result<()> {
    let lab = lab()?;
    let mut pair = Pair::open(&lab, lab.b.v4)?;
    pair.rounds(20)?;
    record(&lab, into, || {
        pair.rounds(10)?;
        order(&lab, Way::AToB, vec![Order::lose(What::Data, 20)]);
        pair.upload(60_000)?;
        pair.download(60_000)?;
        pair.rounds(10)
    })
}

fn super_segments(into: &Path) -> Result<()> {
    let lab = Lab::new(Link::Veth)?;
    lab.path().set_rtt(2 * DELAY);
    lab.path().cut_super_segments();
    record(&lab, into, || talk(&lab, lab.b.v4, 2_000_000))
}

fn tagged(into: &Path, push: &str, pop: &str) -> Result<()> {
    let lab = lab()?;
    for host in [&lab.a, &lab.b] {
        // Room for the tags.
        host.namespace.ip(&format!("route replace 10.77.0.0/24 dev {INTERFACE} src {} mtu 1400", host.v4))?;
        host.namespace.sysctl(&format!("net/ipv6/conf/{INTERFACE}/mtu"), "1400")?;
    }
    let _programs = [(&lab.a, pop, Hook::Ingress), (&lab.a, push, Hook::Egress)]
        .into_iter()
        .chain([(&lab.b, pop, Hook::Ingress), (&lab.b, push, Hook::Egress)])
        .map(|(host, name, hook)| Program::attach(host, name, hook, Position::First))
        .collect::<Result<Vec<_>>>()?;
    record_on(&lab.a, INTERFACE, &[], into, || lossy(&lab))
}

/// Talks over a connection both of whose ends have an option of IP set.
fn with_option(lab: &Lab, to: std::net::IpAddr, level: libc::c_int, option: libc::c_int, value: &[u8]) -> Result<()> {
    let mut pair = Pair::open(lab, to)?;
    for end in [&pair.client, &pair.server] {
        set(end, level, option, value).with_context(|| format!("the kernel refuses option {option} of IP"))?;
    }
    pair.rounds(20)?;
    pair.upload(20_000)?;
    pair.close()
}

fn extension_headers(into: &Path) -> Result<()> {
    const IPV6_HOPOPTS: libc::c_int = 54;
    const IPV6_DSTOPTS: libc::c_int = 59;
    // PadN (RFC 8200 section 4.2) in eight bytes, and an option that is skipped by who does not know it in sixteen.
    let (short, long) = ([0, 0, 1, 4, 0, 0, 0, 0], [0, 1, 0x1e, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let lab = lab()?;
    record_on(&lab.a, INTERFACE, &[], into, || {
        with_option(&lab, lab.b.v6.into(), libc::IPPROTO_IPV6, IPV6_HOPOPTS, &short)?;
        with_option(&lab, lab.b.v6.into(), libc::IPPROTO_IPV6, IPV6_DSTOPTS, &long)
    })
}

fn ipv4_options(into: &Path) -> Result<()> {
    const IP_OPTIONS: libc::c_int = 4;
    let lab = lab()?;
    record(&lab, into, || {
        // Router Alert (RFC 2113), no operation, end of list.
        let options = [148, 4, 0, 0, 1, 1, 1, 0];
        with_option(&lab, lab.b.v4.into(), libc::IPPROTO_IP, IP_OPTIONS, &options)?;
        with_option(&lab, lab.b.v4.into(), libc::IPPROTO_IP, IP_OPTIONS, &options[..4])
    })
}

fn cooked(into: &Path, link_type: &str) -> Result<()> {
    let lab = lab()?;
    record_on(&lab.a, "any", &["-y", link_type, "tcp"], into, || lossy(&lab))
}

fn raw_ip(into: &Path) -> Result<()> {
    let lab = Lab::new(Link::Tun)?;
    record(&lab, into, || lossy(&lab))
}

fn loopback(into: &Path) -> Result<()> {
    let lab = lab()?;
    record_on(&lab.a, "lo", &["tcp"], into, || loop_talk(&lab))
}

/// Talk of host a with itself.
fn loop_talk(lab: &Lab) -> Result<()> {
    for to in ["127.0.0.1", "::1"] {
        let mut pair = Pair::between(&lab.a, &lab.a, to.parse()?)?;
        pair.rounds(30)?;
        pair.upload(100_000)?;
        pair.close()?;
    }
    Ok(())
}

fn nanoseconds(into: &Path) -> Result<()> {
    let lab = lab()?;
    record_on(&lab.a, INTERFACE, &["--time-stamp-precision=nano", "tcp"], into, || lossy(&lab))
}

fn two_interfaces(into: &Path) -> Result<()> {
    let lab = lab()?;
    let mut dumpcap = lab
        .a
        .namespace
        .command("dumpcap")
        .args(["-q", "-i", INTERFACE, "-s", "160", "-f", "tcp", "-i", "lo", "-s", "160", "-f", "tcp", "-w"])
        .arg(into)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run dumpcap")?;
    // It has written the descriptions of both interfaces when it captures.
    let start = Instant::now();
    while into.metadata().map_or(0, |file| file.len()) == 0 {
        ensure!(start.elapsed() < Duration::from_secs(5), "dumpcap does not start");
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_millis(500));
    lossy(&lab)?;
    loop_talk(&lab)?;
    thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(dumpcap.id().cast_signed()), Signal::SIGINT).map_err(io::Error::from)?;
    ensure!(dumpcap.wait()?.success(), "dumpcap failed");
    Ok(())
}
