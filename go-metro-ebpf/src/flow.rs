//! What a flow is known by, and its hash.

use go_metro_common::flow::{FlowId, mapped};
use go_metro_common::hash::mix;

use crate::ip::Addresses;
use crate::maps::SEED;

/// All that names a flow, of local and remote end.
#[inline(always)]
pub(crate) fn id(ends: &Addresses, (local_port, remote_port): (u16, u16), ifindex: u32) -> FlowId {
    let (local, remote) = match *ends {
        Addresses::V4(local, remote) => (mapped(local), mapped(remote)),
        Addresses::V6(local, remote) => ([local.0, local.1], [remote.0, remote.1]),
    };
    FlowId { local, remote, local_port, remote_port, ifindex }
}

/// A hash of all that names a flow, the same in both directions. Who does not know the seed cannot choose two flows that share one
/// (`go_metro_common::hash`).
#[derive(Clone, Copy)]
pub(crate) struct FlowHash(u64);

impl FlowHash {
    /// Of local and remote end, and the interface.
    #[inline(always)]
    pub(crate) fn new(ends: &Addresses, (local_port, remote_port): (u16, u16), ifindex: u32) -> Self {
        let ports = u64::from(local_port) << 48 | u64::from(remote_port) << 32 | u64::from(ifindex);
        let hash = Self(SEED.load()).with(ports);
        match *ends {
            Addresses::V4(local, remote) => hash.with(u64::from(local) << 32 | u64::from(remote)),
            Addresses::V6(local, remote) => hash.with(local.0).with(local.1).with(remote.0).with(remote.1),
        }
    }

    /// With another word. Different words make different hashes: each step can be undone.
    #[inline(always)]
    pub(crate) fn with(self, word: u64) -> Self {
        Self(mix(self.0, word))
    }

    /// What does not say where the flow's place in an array is.
    #[inline(always)]
    pub(crate) fn rest(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// All of it.
    #[inline(always)]
    pub(crate) fn word(self) -> u64 {
        self.0
    }
}
