//! Namespaces joined by the kernel alone, for what does not pass the lab's forwarder: super-segments beyond 64 KiB, and
//! a router that fragments.

use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::sockets::set;
use super::stage::Pair;
use testing_lab::tcpdump::Tcpdump;
use testing_lab::{INTERFACE, Namespace, big_tcp};

/// Bytes of a super-segment at most (BIG TCP): about three times what was possible before.
const BIG: u32 = 185_000;

fn namespaces<const N: usize>(roles: [&str; N]) -> Result<[Namespace; N]> {
    let made = roles.into_iter().map(Namespace::of_this_process).collect::<Result<Vec<_>>>()?;
    made.try_into().ok().context("as many as asked for")
}

/// Joins `near`'s device to a new device of `far`.
fn join(near: &Namespace, device: &str, far: &Namespace, other: &str) -> Result<()> {
    near.ip(&format!(
        "link set lo up\nlink add name {device} type veth peer name {other} netns {}\nlink set {device} up",
        far.name()
    ))?;
    far.ip(&format!("link set lo up\nlink set {other} up"))
}

/// A connection between two namespaces.
fn pair(from: &Namespace, at: &Namespace, to: std::net::IpAddr) -> Result<Pair> {
    let listener = at.enter(|| TcpListener::bind((to, 0)))?;
    let client = from.enter(|| std::net::TcpStream::connect(listener.local_addr()?))?;
    client.set_nodelay(true)?;
    Pair::accepted(client, &listener)
}

fn record(at: &Namespace, into: &Path, play: impl FnOnce() -> Result<()>) -> Result<()> {
    let capture = Tcpdump::start_with(at, INTERFACE, &["-s", "160"], into)?;
    play()?;
    thread::sleep(Duration::from_millis(300));
    capture.stop()
}

/// A transfer in super-segments of more than 64 KiB, captured at the sender.
pub(super) fn big_tcp(into: &Path, v6: bool) -> Result<()> {
    let [a, b] = namespaces(["a", "b"])?;
    join(&a, INTERFACE, &b, INTERFACE)?;
    for (namespace, last) in [(&a, 1), (&b, 2)] {
        namespace.enter(|| big_tcp::allow(INTERFACE, BIG))?;
        namespace.ip(&format!(
            "address add 10.78.0.{last}/24 dev {INTERFACE}\naddress add fd78::{last}/64 dev {INTERFACE} nodad"
        ))?;
        // A window that lets them out.
        namespace.sysctl("net/ipv4/tcp_rmem", "4096 4000000 16000000")?;
        namespace.sysctl("net/ipv4/tcp_wmem", "4096 4000000 16000000")?;
    }
    let to = if v6 { "fd78::2".parse()? } else { "10.78.0.2".parse()? };
    record(&a, into, || {
        let mut pair = pair(&a, &b, to)?;
        pair.rounds(20)?;
        pair.upload(16 << 20)?;
        pair.rounds(5)?;
        pair.close()
    })
}

/// A router cuts what is too long for its next link, because the sender does not forbid it; captured at the receiver.
pub(super) fn fragments(into: &Path) -> Result<()> {
    const IP_MTU_DISCOVER: libc::c_int = 10;
    const IP_PMTUDISC_DONT: libc::c_int = 0;
    let [a, router, b] = namespaces(["a", "r", "b"])?;
    join(&router, "to-a", &a, INTERFACE)?;
    join(&router, "to-b", &b, INTERFACE)?;
    router.sysctl("net/ipv4/ip_forward", "1")?;
    router.ip("address add 10.78.0.254/24 dev to-a\naddress add 10.78.1.254/24 dev to-b\nlink set to-b mtu 700")?;
    for (namespace, net, last) in [(&a, 0, 1), (&b, 1, 2)] {
        namespace
            .ip(&format!("address add 10.78.{net}.{last}/24 dev {INTERFACE}\nroute add default via 10.78.{net}.254"))?;
    }
    record(&b, into, || {
        let mut pair = pair(&a, &b, "10.78.1.2".parse()?)?;
        set(&pair.client, libc::IPPROTO_IP, IP_MTU_DISCOVER, &IP_PMTUDISC_DONT.to_ne_bytes())?;
        pair.rounds(20)?;
        pair.upload(60_000)?;
        pair.download(20_000)?;
        pair.rounds(20)?;
        pair.close()
    })
}
