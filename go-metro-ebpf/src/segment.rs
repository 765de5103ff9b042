//! A TCP segment, seen from the local end. Here source and destination become local and remote, and nowhere else.

use aya_ebpf::maps::lpm_trie::Key;
use go_metro_common::counters::{Everything, PerCpu};
use go_metro_common::flow::{FlowId, mapped};
use go_metro_common::hash::FlowHash;
use go_metro_common::segment::{Direction, Sides, TcpFlags, is_relevant};
use go_metro_common::target::{IFINDEX_BITS, TargetV4, TargetV6};

use crate::maps::{SEED, SIDES, TARGETS_V4, TARGETS_V6};
use crate::parse::Headers;
use crate::parse::ip::{Addresses, Wide};
use crate::parse::options::Options;
use crate::parse::tcp::Tcp;

/// Local and remote address, in network order.
#[derive(Clone, Copy)]
pub(crate) enum Ends {
    V4 { local: u32, remote: u32 },
    V6 { local: Wide, remote: Wide },
}

/// What names a segment's flow, and which way the segment goes.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    pub ends: Ends,
    pub local_port: u16,
    pub remote_port: u16,
    pub ifindex: u32,
    pub direction: Direction,
}

impl Flow {
    /// Of a segment that passes an interface in a direction.
    #[inline(always)]
    pub(crate) fn of(headers: &Headers, direction: Direction, ifindex: u32) -> Self {
        let Headers { addresses, tcp } = headers;
        let (local_port, remote_port) = match direction {
            Direction::Egress => (tcp.source, tcp.destination),
            Direction::Ingress => (tcp.destination, tcp.source),
        };
        let ends = match (direction, *addresses) {
            (Direction::Egress, Addresses::V4 { source, destination }) => {
                Ends::V4 { local: source, remote: destination }
            }
            (Direction::Ingress, Addresses::V4 { source, destination }) => {
                Ends::V4 { local: destination, remote: source }
            }
            (Direction::Egress, Addresses::V6 { source, destination }) => {
                Ends::V6 { local: source, remote: destination }
            }
            (Direction::Ingress, Addresses::V6 { source, destination }) => {
                Ends::V6 { local: destination, remote: source }
            }
        };
        Self { ends, local_port, remote_port, ifindex, direction }
    }

    /// Whether the remote address is a target on this interface.
    #[inline(always)]
    pub(crate) fn is_target(&self, cpu: &PerCpu) -> bool {
        let ifindex = self.ifindex;
        match self.ends {
            Ends::V4 { .. } if cpu.everything & Everything::V4 != 0 => true,
            Ends::V6 { .. } if cpu.everything & Everything::V6 != 0 => true,
            Ends::V4 { remote, .. } => {
                let key = Key::new(IFINDEX_BITS + 32, TargetV4 { ifindex, addr: remote.to_ne_bytes() });
                TARGETS_V4.get(&key).is_some()
            }
            Ends::V6 { remote, .. } => {
                let key = Key::new(IFINDEX_BITS + 128, TargetV6 { ifindex, addr: remote.octets() });
                TARGETS_V6.get(&key).is_some()
            }
        }
    }

    /// All that names the flow, as a map's key.
    #[inline(always)]
    pub(crate) fn id(&self) -> FlowId {
        match self.ends {
            Ends::V4 { local, remote } => self.id_of(mapped(local), mapped(remote)),
            Ends::V6 { local, remote } => self.id_of([local.0, local.1], [remote.0, remote.1]),
        }
    }

    /// The hash of that. Of each family by itself, so that the compiler knows which words of an address are constant.
    #[inline(always)]
    fn hash(&self) -> FlowHash {
        let seed = SEED.load();
        match self.ends {
            Ends::V4 { local, remote } => self.id_of(mapped(local), mapped(remote)).hash(seed),
            Ends::V6 { local, remote } => self.id_of([local.0, local.1], [remote.0, remote.1]).hash(seed),
        }
    }

    #[inline(always)]
    fn id_of(&self, local: [u64; 2], remote: [u64; 2]) -> FlowId {
        FlowId { local, remote, local_port: self.local_port, remote_port: self.remote_port, ifindex: self.ifindex }
    }
}

/// A segment of a target. Integers are in host byte order.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub flow: Flow,
    pub tcp: Tcp,
    pub options: Options,
    pub hash: FlowHash,
}

impl Segment {
    /// Of a flow, with its options.
    #[inline(always)]
    pub(crate) fn new(flow: Flow, tcp: Tcp, options: Options) -> Self {
        Self { flow, tcp, options, hash: flow.hash() }
    }

    /// Whether it is of those that are timed, where one side is measured; else it is of those that acknowledge.
    #[inline(always)]
    pub(crate) fn is_timed(&self) -> bool {
        match self.flow.direction {
            Direction::Egress => SIDES.load() == Sides::REMOTE.0,
            Direction::Ingress => SIDES.load() != Sides::REMOTE.0,
        }
    }

    /// Sequence number after its last.
    #[inline(always)]
    pub(crate) fn end(&self) -> u32 {
        self.tcp.seq.wrapping_add(self.tcp.payload_len).wrapping_add(self.tcp.flags.sequence_space())
    }

    /// Whether any of these flags is set.
    #[inline(always)]
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.tcp.flags.any(flags)
    }
}

/// Whether a segment with such a header says anything about the round-trip times that are measured.
#[inline(always)]
pub(crate) fn is_wanted(direction: Direction, flags: TcpFlags, payload_len: u32) -> bool {
    is_relevant(Sides(SIDES.load()), direction, flags, payload_len)
}
