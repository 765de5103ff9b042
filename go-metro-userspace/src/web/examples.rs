//! Seconds for tests.

use std::net::Ipv4Addr;

use go_metro_rtt::PeerHealth;

use crate::output::examples::summary;
use crate::status::Live;
use crate::status::live::{LiveFlow, LivePair};

/// The beginning of the remote hosts' addresses.
const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 0);

/// A flow with this remote host, by its number below 10.1.0.0, that measured these, in microseconds.
pub(super) fn flow(remote: u32, name: &str, us: &[u64]) -> LiveFlow {
    LiveFlow {
        local: ([10, 0, 0, 1], 40_000).into(),
        remote: (Ipv4Addr::from_bits(REMOTE.to_bits() + remote), 443).into(),
        name: name.to_owned(),
        group: None,
        service: None,
        iface: "eth0".to_owned(),
        to_local: false,
        summary: summary(us, &[]),
    }
}

/// The counts of the pair of such a flow.
pub(super) fn counted(remote: u32, name: &str, health: PeerHealth) -> LivePair {
    let LiveFlow { local, remote, name, group, service, iface, to_local, .. } = flow(remote, name, &[1]);
    LivePair { local: local.ip(), remote: remote.ip(), name, group, service, iface, to_local, health }
}

/// A second with these flows.
pub(super) fn second(flows: Vec<LiveFlow>) -> Live {
    Live {
        program: "0.1.0".to_owned(),
        at_ns: 1_700_000_000_000_000_000,
        interval_s: 1.0,
        backend: "ebpf".to_owned(),
        interfaces: vec!["eth0".to_owned()],
        flows,
        ..Live::default()
    }
}
